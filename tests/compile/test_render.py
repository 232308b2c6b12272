"""Loop nests as native kernels, against the interpreter of nests: every statement, odd sizes, any cut into parts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from nests import check, native  # noqa: E402

from rushlight.compile import dtypes as dt  # noqa: E402
from rushlight.compile.cpu import jit, target  # noqa: E402
from rushlight.compile.cpu.nest_tiles import tiles_of  # noqa: E402
from rushlight.compile.cpu.render import kernel_address, kernel_for, pack_params, render  # noqa: E402
from rushlight.compile.dtypes import DType  # noqa: E402
from rushlight.compile.expr import Expr, cast, const, e, index, input_  # noqa: E402
from rushlight.compile.nest import (  # noqa: E402
    Accumulate,
    Accumulator,
    Axis,
    Check,
    Compute,
    Load,
    Loop,
    LoopNest,
    Operand,
    Store,
)  # fmt: skip

f32, f64, i64, i32, u8, b8 = dt.float32, dt.float64, dt.int64, dt.int32, dt.uint8, dt.bool_
SIZES = (0, 1, 3, 15, 16, 17, 63, 64, 65, 129, 300)
DTYPES = (f32, f64, dt.float16, dt.bfloat16, i64, i32, dt.int16, dt.int8, u8, b8)
quick = settings(max_examples=25, deadline=None)


def x(k: int, d: DType = f32) -> Expr:
    return input_(k, d)


def data(d: DType, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if d.kind == "b":
        return rng.integers(0, 2, n).astype(bool)
    if d.kind == "f":
        return (rng.standard_normal(n) * 3).astype(d.numpy)
    return rng.integers(-100 if d.kind == "i" else 0, 100, n).astype(d.numpy)


def flat(operands: list[Operand], body: tuple) -> LoopNest:
    return LoopNest((Axis(),), tuple(operands), (0,), body, True)


# -- pointwise ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("d", DTYPES, ids=lambda d: d.name)
def test_one_dimensional_pointwise(d: DType) -> None:
    value = e.where(e.lt(x(0, d), x(1, d)), e.max(x(0, d), x(1, d)), e.add(x(0, d), x(1, d)))
    nest = flat([Operand(d, (1,)), Operand(d, (1,)), Operand(d, (1,), True), Operand(b8, (1,), True)],
                (Load(0, 0), Load(1, 1), Store(2, value), Store(3, e.ge(x(0, d), x(1, d)))))
    for n in SIZES:
        check(nest, [data(d, n), data(d, n, 1), np.zeros(n, d.numpy), np.zeros(n, bool)], [n], n)


@quick
@given(rows=st.sampled_from([1, 2, 5]), cols=st.sampled_from(SIZES), swap=st.booleans(), d=st.sampled_from(DTYPES),
       strides=st.tuples(*[st.sampled_from(["one", "zero", "free", "back", "row"])] * 2), vector=st.sampled_from([0, 1]))
def test_two_dimensional_pointwise_with_any_strides(rows: int, cols: int, swap: bool, d: DType, strides: tuple[str, str],
                                                    vector: int) -> None:
    """Operand strides: contiguous, broadcast, anything (transposed, steps, backwards)."""
    shape = (cols, rows) if swap else (rows, cols)
    n = rows * cols
    operands, sizes, memory = [], [], []
    for k, kind in enumerate(strides):
        if kind == "one":
            fixed, free = (None, 1), [shape[1]]
        elif kind == "zero":
            fixed, free = (0, 1), []
        elif kind == "row":
            fixed, free = (1, 0), []
        elif kind == "free":
            fixed, free = (None, None), [2, 2 * shape[0] + 1]
        else:
            fixed, free = (None, None), [shape[1] * 3, 3]
        operands.append(Operand(d, fixed))
        memory.append(data(d, 8 * n + 8 + 8 * cols, k))
        sizes += free
    operands.append(Operand(d, (None, 1), True))
    memory.append(np.zeros(n, d.numpy))
    sizes.append(shape[1])
    value = e.where(e.ne(x(0, d), x(1, d)), x(1, d), x(0, d)) if d is b8 else x(0, d) - x(1, d)
    nest = LoopNest((Axis(), Axis()), tuple(operands), (1 - vector,),
                    (Loop(vector, (Load(0, 0), Load(1, 1), Store(2, value)), True),))
    check(nest, memory, [*shape, *sizes], shape[1 - vector])


@pytest.mark.parametrize("d", DTYPES, ids=lambda d: d.name)
def test_transposing_copies_go_through_tiles(d: DType) -> None:
    """(batch, v, u) to (batch, u, v), with a value for each u and a contiguous operand beside it."""
    operands = (Operand(d, (None, 1, None)), Operand(d, (0, 1, 0)), Operand(d, (None, None, 1)),
                Operand(d, (None, None, 1), True))
    value = e.where(e.eq(x(1, d), x(2, d)), x(0, d), x(2, d)) if d is b8 else x(0, d) - x(1, d) * x(2, d)
    nest = LoopNest((Axis(), Axis(), Axis()), operands, (0, 1), (
        Load(1, 1), Loop(2, (Load(0, 0), Load(2, 2), Store(3, value)), True)))
    if target.current().vector_bytes == 64:
        assert tiles_of(nest, target.current()) is not None
    for b, u, v in ((1, 1, 1), (2, 3, 5), (1, 16, 16), (2, 17, 33), (1, 40, 15)):
        n = b * u * v
        sizes = [b, u, v, u * v, u, u * v, v, u * v, v]
        check(nest, [data(d, n), data(d, u, 1), data(d, n, 2), np.zeros(n, d.numpy)], sizes, b * u)


@pytest.mark.parametrize("d", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("other", [0.0, 1.0])
def test_padded_transposing_copies_go_through_tiles(d: DType, other: float) -> None:
    """(batch, v, u) to (batch, u, v) with borders: what is beyond them is the same for all of v."""
    operands = (Operand(d, (None, 1, None)), Operand(d, (None, None, 1), True))

    def nest_of(batches: int, u: int, guard: Expr | None = None) -> LoopNest:
        inside = guard or e.lt(index(0), const(batches, i64)) & e.lt(index(1), const(u, i64))
        return LoopNest((Axis(), Axis(), Axis()), operands, (0, 1),
                        (Loop(2, (Load(0, 0, None, inside, other), Store(1, x(0, d))), True),))
    for b, u, v, more in ((1, 1, 1, 0), (2, 3, 5, 1), (1, 16, 16, 2), (2, 15, 33, 3), (1, 40, 15, 17)):
        wide = u + more
        nest = nest_of(b, u)
        if target.current().vector_bytes == 64:
            assert tiles_of(nest, target.current()) is not None
        sizes = [b + 1, wide, v, u * v, u, wide * v, v]
        check(nest, [data(d, b * u * v), np.zeros((b + 1) * wide * v, d.numpy)], sizes, (b + 1) * wide)
    assert tiles_of(nest_of(1, 1, e.lt(index(2), const(3, i64))), target.current()) is None


@pytest.mark.parametrize("cols", [1, 7, 8, 9, 33, 64])
@pytest.mark.parametrize("rows", [3, 8, 21])
def test_a_scan_along_lines_takes_blocks_of_them(rows: int, cols: int) -> None:
    """Sums along rows, with vectors across them: in blocks that are turned in registers, not by a gather for each position."""
    body = (Accumulator(0, f64, "add"), Loop(1, (Load(1, 0), Load(2, 1), Accumulate(0, cast(x(1) * x(2), f64)),
                                                 Store(2, cast(x(0, f64), f32) + 1))))
    operands = (Operand(f32, (None, 1)), Operand(f32, (0, 1)), Operand(f32, (None, 1), True))
    nest = LoopNest((Axis(), Axis()), operands, (0,), body, vector_parallel=True)
    assert render(nest, target.named("avx512")).count("store <8 x float>") == 8
    wide = cols + 2
    check(nest, [data(f32, rows * cols), data(f32, cols), np.zeros(rows * wide, np.float32)], [rows, cols, cols, wide], rows, 1e-5, 1e-5)


def test_three_parallel_axes_and_fixed_extents() -> None:
    operands = (Operand(f32, (None, None, None, 1)), Operand(f32, (0, 0, 1, 0)), Operand(f32, (100, 50, 10, 1), True))
    nest = LoopNest((Axis(), Axis(2), Axis(), Axis(10)), operands, (0, 1, 2),
                    (Load(1, 1), Loop(3, (Load(0, 0), Store(2, x(0) * x(1) + cast(index(2) * 10 + index(3), f32))), True)))
    # operand 0 is (5, 2, 3, 10), read with its first and third axis swapped
    check(nest, [data(f32, 300), data(f32, 5), np.zeros(300, np.float32)], [3, 5, 10, 30, 60], 30)


@pytest.mark.parametrize("extent", [1, 3, 16, 20, 64, 70, 128])
def test_a_vector_axis_of_fixed_length(extent: int) -> None:
    nest = LoopNest((Axis(), Axis(extent)), (Operand(f32, (extent, 1)), Operand(f32, (1, 0), True)), (0,),
                    (Accumulator(0, f32, "add"), Loop(1, (Load(1, 0), Accumulate(0, x(1))), True), Store(1, x(0))))
    check(nest, [data(f32, 4 * extent), np.zeros(4, np.float32)], [4], 4, 1e-5, 1e-5)


def test_a_short_vector_axis_of_fixed_length_is_written_out() -> None:
    """So what one pass over a row loads is still in registers for the next."""
    def loops(extent: int) -> int:
        nest = LoopNest((Axis(), Axis(extent)), (Operand(f32, (extent, 1)), Operand(f32, (extent, 1), True)), (0,),
                        (Accumulator(0, f32, "max"), Loop(1, (Load(1, 0), Accumulate(0, x(1))), True),
                         Loop(1, (Load(2, 0), Store(1, x(2) - x(0))), True)))
        return render(nest, target.named("avx512")).count(".body:")
    assert [loops(extent) for extent in (16, 48, 64, 100, 192, 256)] == [1] * 6
    assert loops(512) == 3


def test_mixed_widths_share_their_lanes() -> None:
    body = (Load(0, 0), Load(1, 1), Load(2, 2),
            Store(3, e.where(x(2, b8), cast(x(0, u8), f32) / 255.0, cast(x(1, i64), f32))),
            Store(4, cast(x(1, i64) * 3 + cast(x(0, u8), i64), i32)), Store(5, cast(x(1, i64), b8)))
    nest = flat([Operand(u8, (1,)), Operand(i64, (1,)), Operand(b8, (1,)), Operand(f32, (1,), True),
                 Operand(i32, (1,), True), Operand(b8, (1,), True)], body)
    for n in SIZES:
        check(nest, [data(u8, n), data(i64, n), data(b8, n), np.zeros(n, np.float32), np.zeros(n, np.int32),
                     np.zeros(n, bool)], [n], n)


def test_positions_along_the_axes() -> None:
    nest = LoopNest((Axis(), Axis()), (Operand(i64, (None, 1), True), Operand(f32, (None, 1), True)), (0,),
                    (Loop(1, (Store(0, index(0) * 1000 + index(1)), Store(1, cast(index(1), f32) * 0.5)), True),))
    check(nest, [np.zeros(3 * 37, np.int64), np.zeros(3 * 37, np.float32)], [3, 37, 37, 37], 3)


def test_no_parallel_axis_is_one_position() -> None:
    nest = LoopNest((Axis(),), (Operand(f32, (1,)), Operand(f32, (0,), True)), (),
                    (Accumulator(0, f32, "add"), Loop(0, (Load(1, 0), Accumulate(0, x(1))), True), Store(1, x(0))))
    check(nest, [data(f32, 70), np.zeros(1, np.float32)], [70], 1, 1e-5, 1e-5)


# -- reductions --------------------------------------------------------------------------------------------------------
OPS = {"add": DTYPES, "mul": (f32, f64, i64, u8), "min": DTYPES, "max": DTYPES, "and": (b8, i32), "or": (b8, u8)}
REDUCTIONS = [(op, d) for op, ds in OPS.items() for d in ds if not (op == "add" and d is b8)]


def tolerance(d: DType) -> tuple[float, float]:
    return {"float64": (1e-13, 1e-12), "float32": (1e-5, 1e-4)}.get(d.name, (2e-2, 2e-1)) if d.kind == "f" else (0, 0)


@pytest.mark.parametrize(("op", "d"), REDUCTIONS, ids=lambda v: getattr(v, "name", v))
def test_reductions_of_rows_and_columns(op: str, d: DType) -> None:
    rows = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (1, 0), True)), (0,),
                    (Accumulator(0, d, op), Loop(1, (Load(1, 0), Accumulate(0, x(1, d))), True), Store(1, x(0, d))))
    columns = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (0, 1), True)), (), (
        Loop(1, (Accumulator(0, d, op), Loop(0, (Load(1, 0), Accumulate(0, x(1, d)))), Store(1, x(0, d))), True),))
    for n in (1, 17, 65, 150):
        values = data(d, 3 * n) if op != "mul" else (data(d, 3 * n) % 3).astype(d.numpy)
        values = (values / 4).astype(d.numpy) if d.kind == "f" else values
        check(rows, [values, np.zeros(3, d.numpy)], [3, n, n], 3, *tolerance(d))
        check(columns, [values, np.zeros(n, d.numpy)], [3, n, n], 1, *tolerance(d))


@pytest.mark.parametrize("d", [f32, f64, dt.bfloat16, i64, i32, u8, b8], ids=lambda d: d.name)
@pytest.mark.parametrize("op", ["argmin", "argmax"])
def test_arg_reductions_take_the_first_extreme(op: str, d: DType) -> None:
    nest = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(i64, (1, 0), True)), (0,), (
        Accumulator(0, d, op), Loop(1, (Load(1, 0), Accumulate(0, x(1, d), index(1))), True), Store(1, x(0, i64))))
    for n in SIZES[1:]:
        values = (data(d, 4 * n, n) * 0.5).astype(d.numpy)  # with ties
        if d.kind == "f" and n > 2:
            values[n + n // 2], values[2 * n + 1], values[2 * n + 2], values[3 * n:] = np.nan, np.nan, np.nan, -np.inf
        out = check(nest, [values, np.zeros(4, np.int64)], [4, n, n], 4)[1]
        plain = values.astype(np.float64).reshape(4, n)
        np.testing.assert_array_equal(out, getattr(np, op)(plain, 1))


def test_nan_goes_through_min_and_max() -> None:
    for op in ("min", "max"):
        nest = LoopNest((Axis(), Axis()), (Operand(f32, (None, 1)), Operand(f32, (1, 0), True)), (0,),
                        (Accumulator(0, f32, op), Loop(1, (Load(1, 0), Accumulate(0, x(1))), True), Store(1, x(0))))
        for n in (5, 64, 100):
            values = data(f32, 2 * n)
            values[n - 2] = np.nan
            out = check(nest, [values, np.zeros(2, np.float32)], [2, n, n], 2)[1]
            assert np.isnan(out[0]) and not np.isnan(out[1])


def test_a_reduction_over_two_axes_keeps_its_lanes() -> None:
    body = (Accumulator(0, f32, "add"), Accumulator(1, f32, "max"),
            Loop(0, (Loop(2, (Load(2, 0), Accumulate(0, x(2) * x(2)), Accumulate(1, x(2))), True),)),
            Store(1, x(0)), Store(2, x(1)))
    operands = (Operand(f32, (None, None, 1)), Operand(f32, (0, 1, 0), True), Operand(f32, (0, 1, 0), True))
    nest = LoopNest((Axis(), Axis(), Axis()), operands, (1,), body)
    for n in (3, 33, 100):
        check(nest, [data(f32, 5 * 2 * n), np.zeros(2, np.float32), np.zeros(2, np.float32)], [5, 2, n, 2 * n, n], 2,
              1e-5, 1e-5)
    # one reduction of lanes for each sum, at the end: not one for each turn of the outer loop
    assert render(nest).count("extractelement") == 2


def test_chunks_of_a_long_row() -> None:
    """The two halves of a split reduction: sums of chunks, then the sum of the sums."""
    first = LoopNest((Axis(chunk_of=1), Axis()), (Operand(f32, (0, 1)), Operand(f32, (1, 0), True)), (0,), (
        Accumulator(0, f32, "add"), Loop(1, (Load(1, 0), Accumulate(0, x(1))), True), Store(1, x(0))))
    for n, length in ((1000, 128), (1000, 1000), (65, 64), (1, 7)):
        chunks = -(-n // length)
        check(first, [data(f32, n), np.zeros(chunks, np.float32)], [chunks, length, n], chunks, 1e-5, 1e-5)
    piece = LoopNest((Axis(chunk_of=1), Axis()), (Operand(f32, (0, 1)), Operand(f32, (0, 1), True)), (0,), (
        Loop(1, (Load(0, 0), Store(1, x(0) + cast(index(1), f32))), True),))
    check(piece, [data(f32, 300), np.zeros(300, np.float32)], [5, 64, 300], 5)


SOFTMAX = LoopNest(
    (Axis(), Axis()), (Operand(f32, (None, 1)), Operand(f32, (None, 1), True)), (0,),
    (Accumulator(0, f32, "max"), Loop(1, (Load(1, 0), Accumulate(0, x(1))), True),
     Accumulator(2, f32, "add"), Loop(1, (Load(3, 0), Accumulate(2, e.exp(x(3) - x(0)))), True),
     Loop(1, (Load(4, 0), Store(1, e.exp(x(4) - x(0)) / x(2))), True)))


@quick
@given(rows=st.integers(1, 6), cols=st.sampled_from(SIZES[1:]))
def test_softmax(rows: int, cols: int) -> None:
    out = check(SOFTMAX, [data(f32, rows * cols), np.zeros(rows * cols, np.float32)], [rows, cols, cols, cols], rows,
                1e-5, 1e-7)[1]
    np.testing.assert_allclose(out.reshape(rows, cols).sum(1), 1, rtol=1e-5)


def test_sums_are_accurate_and_the_same_for_any_parts() -> None:
    nest = LoopNest((Axis(),), (Operand(f32, (1,)), Operand(f32, (0,), True)), (),
                    (Accumulator(0, f32, "add"), Loop(0, (Load(1, 0), Accumulate(0, x(1))), True), Store(1, x(0))))
    values = np.random.default_rng(0).random(1 << 16, np.float32)
    out = np.zeros(1, np.float32)
    native(nest, [values, out], [len(values)])
    assert abs(out[0] / values.astype(np.float64).sum() - 1) < 1e-6


# -- gathers, guards, scatters, checks ---------------------------------------------------------------------------------
def test_embedding_rows_and_gathered_elements() -> None:
    n, width, table = 9, 21, 7
    where = np.random.default_rng(0).integers(0, table, n)
    rows = LoopNest((Axis(), Axis()), (Operand(i64, (1, 0)), Operand(f32, (0, 1)), Operand(f32, (None, 1), True)), (0,), (
        Load(0, 0), Loop(1, (Load(1, 1, offset=x(0, i64) * width), Store(2, x(1))), True)))
    out = check(rows, [where, data(f32, table * width), np.zeros(n * width, np.float32)], [n, width, width], n)[2]
    np.testing.assert_array_equal(out.reshape(n, width), data(f32, table * width).reshape(table, width)[where])
    for d in (f32, u8, dt.bfloat16, f64):
        picks = flat([Operand(i64, (1,)), Operand(d, (0,)), Operand(d, (1,), True)],
                     (Load(0, 0), Load(1, 1, offset=x(0, i64)), Store(2, x(1, d))))
        for m in (1, 17, 70):
            at = np.random.default_rng(m).integers(0, 50, m)
            check(picks, [at, data(d, 50), np.zeros(m, d.numpy)], [m], m)


@pytest.mark.parametrize("d", [f32, b8, dt.float16, dt.bfloat16, i32], ids=lambda d: d.name)
def test_guarded_loads_read_nothing_outside(d: DType) -> None:
    """Padding by two on both sides, as a guard on the position."""
    inside = e.ge(index(1), 2) & e.lt(index(1), 12)
    nest = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (None, 1), True)), (0,), (
        Loop(1, (Load(0, 0, offset=e.const(-2, i64), guard=inside, other=1.0), Store(1, x(0, d))), True),))
    check(nest, [data(d, 20), np.zeros(28, d.numpy)], [2, 14, 10, 14], 2)
    uniform = LoopNest((Axis(), Axis()), (Operand(d, (1, 0)), Operand(d, (None, 1), True)), (0,), (
        Load(0, 0, guard=e.lt(index(0), 2), other=1.0), Loop(1, (Store(1, x(0, d)),), True)))
    check(uniform, [data(d, 2), np.zeros(3 * 20, d.numpy)], [3, 20, 20], 3)
    late = LoopNest((Axis(), Axis()), (Operand(d, (1, 0)), Operand(d, (None, 1), True)), (0,), (
        Loop(1, (Load(0, 0, guard=e.lt(index(1), 5), other=1.0), Store(1, x(0, d))), True),))
    check(late, [data(d, 3), np.zeros(3 * 20, d.numpy)], [3, 20, 20], 3)


@pytest.mark.parametrize("combine", [None, "add", "mul", "min", "max"])
@pytest.mark.parametrize("d", [f32, i64, dt.bfloat16, u8], ids=lambda d: d.name)
def test_scattered_stores_go_in_order(combine: str | None, d: DType) -> None:
    n, bins = 90, 7
    where = np.random.default_rng(1).integers(0, bins, n)
    nest = LoopNest((Axis(),), (Operand(i64, (1,)), Operand(d, (1,)), Operand(d, (0,), True)), (), (
        Loop(0, (Load(0, 0), Load(1, 1), Store(2, x(1, d), offset=x(0, i64), combine=combine)), True),))
    values = (data(d, n) % 3).astype(d.numpy) if combine == "mul" else data(d, n)
    check(nest, [where, values, np.ones(bins, d.numpy)], [n], 1, 1e-5, 1e-5)
    serial = LoopNest(nest.axes, nest.operands, (), (Loop(0, nest.body[0].body, False),))
    check(serial, [where, values, np.ones(bins, d.numpy)], [n], 1, 1e-5, 1e-5)


def test_combining_and_guarded_stores_without_collisions() -> None:
    order = np.random.default_rng(2).permutation(70)
    spread = flat([Operand(i64, (1,)), Operand(f32, (1,)), Operand(f32, (0,), True), Operand(f32, (1,), True)], (
        Load(0, 0), Load(1, 1), Store(2, x(1), offset=x(0, i64), combine="add", distinct=True),
        Store(3, x(1), guard=e.gt(x(1), 0), combine="max")))
    check(spread, [order, data(f32, 70), data(f32, 70, 3), data(f32, 70, 4)], [70], 70)
    total = LoopNest((Axis(),), (Operand(f32, (1,)), Operand(f32, (0,), True)), (), (
        Loop(0, (Load(0, 0), Store(1, x(0), combine="add")), True),))
    check(total, [data(f32, 70), np.zeros(1, np.float32)], [70], 1, 1e-5, 1e-5)
    last = LoopNest(total.axes, total.operands, (), (Loop(0, (Load(0, 0), Store(1, x(0))), True),))
    check(last, [data(f32, 70), np.zeros(1, np.float32)], [70], 1)


def test_in_place_updates() -> None:
    nest = flat([Operand(f32, (1,)), Operand(f32, (1,)), Operand(f32, (1,), True)],
                (Load(0, 0), Load(1, 1), Store(2, x(0) - x(1) * 0.1)))
    for n in (5, 64, 200):
        w, g = data(f32, n), data(f32, n, 1)
        wanted = w - g * np.float32(0.1)
        native(nest, [w, g, w], [n])
        np.testing.assert_array_equal(w, wanted)


@pytest.mark.parametrize("vector", [True, False])
def test_a_failed_check_is_reported_once_and_reads_nothing(vector: bool) -> None:
    good = e.ge(x(0, i64), 0) & e.lt(x(0, i64), 10)
    body = (Load(0, 0), Check(good, 1, x(0, i64), e.const(10, i64)), Load(1, 1, offset=x(0, i64), guard=good),
            Store(2, x(1)))
    operands = (Operand(i64, (1,)), Operand(f32, (0,)), Operand(f32, (1,), True))
    nest = LoopNest((Axis(),), operands, (0,), body, True) if vector else LoopNest((Axis(),), operands, (0,), body)
    where = np.arange(100) % 10
    memory = [where, data(f32, 10), np.zeros(100, np.float32)]
    assert native(nest, memory, [100]) is None
    for at, bad in ((3, 10), (70, -1), (99, 12345)):
        broken = where.copy()
        broken[at] = bad
        assert native(nest, [broken, *memory[1:]], [100]) == (1, bad, 10)


def test_check_of_a_value_that_all_lanes_share() -> None:
    nest = LoopNest((Axis(), Axis()), (Operand(i64, (1, 0)), Operand(f32, (None, 1), True)), (0,), (
        Loop(1, (Load(0, 0), Check(e.ne(x(0, i64), 0), 2, index(1), x(0, i64)), Store(1, cast(x(0, i64), f32))), True),))
    assert native(nest, [np.array([1, 0, 3]), np.zeros(60, np.float32)], [3, 20, 20]) == (2, 0, 0)


# -- hoisting and reuse ------------------------------------------------------------------------------------------------
def test_values_of_outer_loops() -> None:
    """Layer norm: statistics of a row, used in a later loop; scale and shift along the columns."""
    count = cast(index(0) * 0 + 50, f32)
    body = (Accumulator(0, f32, "add"), Loop(1, (Load(1, 0), Accumulate(0, x(1))), True), Compute(2, x(0) / count),
            Accumulator(3, f32, "add"),
            Loop(1, (Load(4, 0), Compute(5, x(4) - x(2)), Accumulate(3, x(5) * x(5))), True),
            Compute(6, e.rsqrt(x(3) / count + 1e-5)),
            Loop(1, (Load(7, 0), Load(8, 1), Load(9, 2), Store(3, (x(7) - x(2)) * x(6) * x(8) + x(9))), True))
    operands = (Operand(f32, (None, 1)), Operand(f32, (0, 1)), Operand(f32, (0, 1)), Operand(f32, (None, 1), True))
    nest = LoopNest((Axis(), Axis()), operands, (0,), body)
    check(nest, [data(f32, 200), data(f32, 50, 1), data(f32, 50, 2), np.zeros(200, np.float32)], [4, 50, 50, 50], 4,
          1e-4, 1e-4)


def test_loads_that_do_not_move_are_read_before_the_loop() -> None:
    nest = LoopNest((Axis(), Axis()), (Operand(f32, (1, 0)), Operand(f32, (None, 1), True)), (0,), (
        Loop(1, (Load(0, 0), Compute(1, e.exp(x(0))), Store(1, x(1) * cast(index(1), f32))), True),))
    check(nest, [data(f32, 3), np.zeros(60, np.float32)], [3, 20, 20], 3, 1e-6)
    assert render(nest).count("call float @rl_exp_f32_0") == 1


@quick
@given(st.data())
def test_random_nests(draw: st.DataObject) -> None:
    """Random formulas over random operands in a nest with a reduction and a pointwise pass."""
    d = draw.draw(st.sampled_from([f32, f64, i32, i64]))
    rows, cols = draw.draw(st.integers(1, 4)), draw.draw(st.sampled_from(SIZES[1:]))

    def formula(depth: int, leaves: list[Expr]) -> Expr:
        if depth == 0 or draw.draw(st.booleans()):
            return draw.draw(st.sampled_from(leaves))
        name = draw.draw(st.sampled_from(["add", "sub", "mul", "min", "max", "where", "neg", "abs"]))
        if name in ("neg", "abs"):
            return getattr(e, name)(formula(depth - 1, leaves))
        a, b = formula(depth - 1, leaves), formula(depth - 1, leaves)
        return e.where(e.lt(a, b), b, a) if name == "where" else getattr(e, name)(a, b)

    leaves = [x(0, d), x(1, d), x(2, d), const(2, d), cast(index(1), d), cast(index(0), d)]
    # Sums of floating numbers depend on their order, and what follows could amplify that: only exact ones here.
    op = draw.draw(st.sampled_from(["min", "max"] if d.kind == "f" else ["add", "min", "max"]))
    inner = formula(3, leaves)
    again = formula(3, [*leaves, x(3, d)])
    loads = (Load(0, 0), Load(1, 1), Load(2, 2))
    body = (Accumulator(3, d, op), Loop(1, (*loads, Accumulate(3, inner)), True),
            Loop(1, (*loads, Store(3, again)), True))
    nest = LoopNest((Axis(), Axis()), (Operand(d, (None, 1)), Operand(d, (1, 0)), Operand(d, (0, None)),
                                       Operand(d, (None, 1), True)), (0,), body)
    memory = [data(d, rows * cols), data(d, rows, 1), data(d, 2 * cols, 2), np.zeros(rows * cols, d.numpy)]
    check(nest, memory, [rows, cols, cols, 2, cols], rows)


# -- other processors, requests, parameters ----------------------------------------------------------------------------
@pytest.mark.parametrize("level", ["avx2", "sse"])
def test_other_instruction_sets(level: str) -> None:
    if target.machine() != "x86_64":
        pytest.skip("levels of x86")
    with target.using(level):
        check(SOFTMAX, [data(f32, 3 * 45), np.zeros(3 * 45, np.float32)], [3, 45, 45, 45], 3, 1e-5, 1e-7)
        test_mixed_widths_share_their_lanes()
        test_one_dimensional_pointwise(dt.bfloat16)
        test_one_dimensional_pointwise(dt.float16)
        test_transposing_copies_go_through_tiles(f32)
        test_padded_transposing_copies_go_through_tiles(f32, 1.0)


def test_a_kernel_is_compiled_once() -> None:
    kernel_address(SOFTMAX)
    before = jit.counters.compiled, jit.counters.loaded
    again = LoopNest(SOFTMAX.axes, SOFTMAX.operands, SOFTMAX.parallel, tuple(SOFTMAX.body))
    assert kernel_for(again)[0] == kernel_for(SOFTMAX)[0]
    kernel_address(again)
    assert before == (jit.counters.compiled, jit.counters.loaded)


def test_parameters_are_packed_in_the_documented_order() -> None:
    nest = LoopNest((Axis(chunk_of=1), Axis(), Axis(8)), (Operand(f32, (0, 1, None)), Operand(f32, (1, 0, 0), True)), (0,),
                    ())
    packed = pack_params(nest, [(1, 0), (2, 64)], grain=4, extents=[10, 100], chunks=[16], strides=[7])
    assert packed == [1, 0, 2, 64, 4, 10, 16, 100, 7]
    with pytest.raises(ValueError, match="expected"):
        pack_params(nest, [(1, 0)], 4, [10, 100], [16], [7])


def test_a_vector_loop_in_a_vector_loop_is_refused() -> None:
    inner = Loop(1, (Load(0, 0), Store(1, x(0))), True)
    nest = LoopNest((Axis(), Axis()), (Operand(f32, (None, 1)), Operand(f32, (None, 1), True)), (), (Loop(0, (inner,), True),))
    with pytest.raises(ValueError, match="inside another vector loop"):
        render(nest)


def test_the_sign_of_a_double_in_half_precision():
    """A conversion of the sign alone would call a function that need not be there."""
    import rushlight
    from rushlight.record import settings

    before, settings.cold_limit = settings.cold_limit, 0
    try:
        x = rushlight.tensor([0.125], dtype=rushlight.float16)
        assert rushlight.copysign(x, rushlight.tensor(-2.0, dtype=rushlight.float64)).tolist() == [-0.125]
    finally:
        settings.cold_limit = before
