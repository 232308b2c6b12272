"""Contractions against NumPy's einsum: every transposition, odd sizes, convolutions, epilogues, types, partitions."""

from __future__ import annotations

import ctypes
import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushlight.compile import dtypes as dt
from rushlight.compile.contraction import Contraction, Dim, Extra
from rushlight.compile.cpu import jit, target
from rushlight.compile.cpu.contract import plan
from rushlight.compile.cpu.contract_cut import LONGEST, cut, even_rows
from rushlight.compile.cpu.contract_roles import Roles
from rushlight.compile.cpu.contract_sizes import CHUNK
from rushlight.compile.expr import cast, e, input_
from rushlight.compile.flags import flags

HOST = target.host()


@pytest.fixture(autouse=True)
def vectors():
    """Not the tile unit, which ``test_pairs.py`` is about."""
    with flags.using(tiles=0):
        yield


KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def execute(c: Contraction, arrays: dict, cuts: random.Random | None = None) -> None:
    """Runs the plan of ``c`` on arrays "a", "b", "c", ("extra", i); ``cuts`` cuts and shuffles the parts."""
    made = plan(c)
    scratch = [np.full(n + 64, 0xFF, np.uint8) for n in made.scratch]
    for step in made.steps:
        address = jit.kernel(*step.kernel)
        table, pairs = [], []
        for i, (name, offset) in enumerate(step.operands):
            memory = scratch[name[1]] if name[0] == "scratch" else arrays[name]
            table.append(memory.ctypes.data)
            pairs += [i, offset]
        table_memory, params = np.array(table, np.int64), np.array(pairs + step.params, np.int64)
        ranges = [(0, step.parts)]
        if cuts is not None:
            edges = sorted({0, step.parts, *(cuts.randint(0, step.parts) for _ in range(3))})
            ranges = list(zip(edges, edges[1:]))
            cuts.shuffle(ranges)
        for begin, end in ranges:
            KERNEL(address)(table_memory.ctypes.data, params.ctypes.data, begin, end)


def of_einsum(letters: str, a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulate: dt.DType, **more) -> Contraction:
    """The contraction of ``einsum(letters)`` on arrays with any strides."""
    left, right, result = letters.replace("->", ",").split(",")
    sizes = dict(zip(left + right, a.shape + b.shape))

    def dim(x: str) -> Dim:
        def stride(names: str, array: np.ndarray) -> int:
            return array.strides[names.index(x)] // array.itemsize if x in names else 0

        return Dim(sizes[x], stride(left, a), stride(right, b), stride(result, out))

    roles: dict[str, list[Dim]] = {"batch": [], "m": [], "n": [], "k": []}
    for x in dict.fromkeys(result + left + right):
        role = "k" if x not in result else "batch" if x in left and x in right else "m" if x in left else "n"
        roles[role].append(dim(x))
    types = [dt.from_numpy(x.dtype) for x in (a, b, out)]
    return Contraction(*(tuple(roles[r]) for r in ("batch", "m", "n", "k")), *types, accumulate, **more)


def scrambled(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, order: list[int], gap: int) -> np.ndarray:
    """Random values whose memory order is a permutation of the axes, with a gap after each innermost row."""
    memory = [shape[i] for i in order]
    memory[-1] += gap
    if np.dtype(dtype).kind in "iu":
        values = rng.integers(0, 100, memory).astype(dtype)
    else:
        values = rng.standard_normal(memory).astype(dtype)
    values = values[..., : memory[-1] - gap] if gap else values
    values = values.transpose(np.argsort(order))
    return values[::-1] if order[0] % 2 and gap else values  # backwards along the first axis, now and then


TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 1e-5, "float64": 1e-13}
ACCUMULATE = {"float16": "float32", "bfloat16": "float32"}


def check(letters: str, a: np.ndarray, b: np.ndarray, out: np.ndarray, seed: int = 0) -> None:
    name = dt.from_numpy(a.dtype).name
    accumulate = dt.by_name(ACCUMULATE.get(name, name))
    out[...] = 77
    execute(of_einsum(letters, a, b, out, accumulate), {"a": a, "b": b, "c": out})
    if a.dtype.kind in "iu":
        np.testing.assert_array_equal(out, np.einsum(letters, a, b))
    else:
        want = np.einsum(letters, a.astype(np.float64), b.astype(np.float64), optimize=True)
        scale = 1 + np.einsum(letters, abs(a.astype(np.float64)), abs(b.astype(np.float64)), optimize=True)
        assert (abs(out.astype(np.float64) - want) / scale).max(initial=0) < TOLERANCE[name]
    once = out.tobytes()
    out[...] = 0
    execute(of_einsum(letters, a, b, out, accumulate), {"a": a, "b": b, "c": out}, random.Random(seed))
    assert out.tobytes() == once


EINSUMS = ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn", "mk,kn->nm", "k,kn->n", "mk,k->m", "k,k->", "m,n->mn",
           "bmk,bkn->bmn", "bhmk,bhnk->bhmn", "bmk,kn->bmn", "mk,bkn->bmn", "abk,kcd->acbd", "mxy,xyn->mn",
           "bmhk,bnhk->bhmn", "gmk,gnk->mgn", "abc,abd->cd", "bmk,bk->bm", "bk,bk->b", "bm,bn->bmn",
           "bmk,bk->mb"]  # fmt: skip


def places(c: Contraction) -> set[tuple[int, ...]]:
    """Where an iteration reads and writes: in A, B, C and the extras."""
    out = [dataclasses.astuple(d)[1:] + tuple(x.strides[i] for x in c.extras) for i, d in enumerate((*c.batch, *c.m, *c.n))]
    out += [(*dataclasses.astuple(d)[1:], *(0,) * len(c.extras)) for d in c.k]
    extents = [d.extent for d in (*c.batch, *c.m, *c.n, *c.k)]
    return {tuple(sum(k * s for k, s in zip(at, steps)) for steps in zip(*out)) for at in np.ndindex(*extents)} if out else {()}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_merging_keeps_what_is_read_and_written_and_leaves_nothing_to_merge(data: st.DataObject) -> None:
    extents = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    order = data.draw(st.permutations(range(len(extents))))
    steps, step = [0] * len(extents), 1
    for d in reversed(order):  # dense, in some order, now and then with a gap: some neighbours compose and some do not
        steps[d] = step
        step *= extents[d] + data.draw(st.integers(0, 4)) // 4
    dims = tuple(Dim(n, s, 0, s) for n, s in zip(extents, steps))
    extra = Extra(dt.float32, (*[3 * s for s in steps], 0))
    c = Contraction((), dims, (Dim(2, 0, 1, step),), tuple(Dim(n, 100 * s, 50 * s) for n, s in zip(extents, steps)),
                    *[dt.float32] * 4, extras=(extra,))
    merged = c.merged()
    assert places(merged) == places(c)
    assert merged.merged() == merged and all(d.extent != 1 for d in (*merged.m, *merged.n, *merged.k))
    for outer, inner in zip(merged.k, merged.k[1:]):
        assert outer.a > inner.a and outer.a != inner.a * inner.extent


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_einsums(data: st.DataObject) -> None:
    letters = data.draw(st.sampled_from(EINSUMS))
    left, right, result = letters.replace("->", ",").split(",")
    sizes = {x: data.draw(st.sampled_from([0, 1, 2, 3, 5, 7, 13, 16, 17, 33, 40]) if len(set(left + right)) < 5
                          else st.integers(1, 6), label=x) for x in dict.fromkeys(left + right)}  # fmt: skip
    dtype = data.draw(st.sampled_from([dt.float32, dt.float32, dt.float64, dt.int64, dt.int32, dt.uint8, dt.int16,
                                       dt.float16, dt.bfloat16])).numpy  # fmt: skip
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    arrays = []
    for names in (left, right, result):
        order = data.draw(st.permutations(range(len(names))))
        gap = data.draw(st.sampled_from([0, 0, 3])) if names else 0
        if names:
            arrays.append(scrambled(rng, tuple(sizes[x] for x in names), dtype, list(order), gap))
        else:
            arrays.append(np.zeros((), dtype))
    check(letters, *arrays, seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("dtype", [dt.float32, dt.float64, dt.bfloat16], ids=lambda d: d.name)
@pytest.mark.parametrize("m, n, k", [(200, 96, 300), (64, 10, 1500), (9, 32, 9000), (300, 64, 5000), (1, 300, 700),
                                     (300, 1, 700), (2, 130, 64), (515, 33, 20), (515, 260, 600), (64, 130, 70)])  # fmt: skip
@pytest.mark.parametrize("letters", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn"])
def test_larger_matrices(letters: str, m: int, n: int, k: int, dtype: dt.DType) -> None:
    sizes = {"m": m, "n": n, "k": k}
    left, right, result = letters.replace("->", ",").split(",")
    rng = np.random.default_rng(0)
    arrays = [scrambled(rng, tuple(sizes[x] for x in names), dtype.numpy, [0, 1], 0) for names in (left, right, result)]
    check(letters, *arrays)


@pytest.mark.parametrize("dtype", [dt.float32, dt.float16], ids=lambda d: d.name)
@pytest.mark.parametrize("letters, shape", [("bxmyz,yzbn->bxmn", (2, 3, 40, 5, 50, 270)), ("yxmz,yzn->xmn", (2, 2, 600, 300, 300)),
                                            ("bmk,bnk->bmn", (3, 50, 200, 80))])  # fmt: skip
def test_packed_first_operand_in_several_dimensions(letters: str, shape: tuple[int, ...], dtype: dt.DType) -> None:
    left, right, result = letters.replace("->", ",").split(",")
    sizes = dict(zip(dict.fromkeys("bxmyzn" if "x" in left and "b" in left else "yxmzn" if "x" in left else "bmnk"), shape))
    rng = np.random.default_rng(5)
    order = [[*range(len(names))] for names in (left, right, result)]
    order[0] = order[0][::-1]
    arrays = [scrambled(rng, tuple(sizes[x] for x in names), dtype.numpy, o, 0)
              for names, o in zip((left, right, result), order)]  # fmt: skip
    check(letters, *arrays)


@pytest.mark.parametrize("dtype", [dt.float32, dt.float64, dt.float16], ids=lambda d: d.name)
@pytest.mark.parametrize("m, x, y, z, n", [(3, 40, 3, 2, 37), (5, 17, 2, 2, 33), (3, 300, 2, 1, 96), (2, 16, 5, 3, 64)])
def test_columns_are_turned_wherever_they_are_contiguous(m: int, x: int, y: int, z: int, n: int, dtype: dt.DType) -> None:
    """Images as columns: the channels of a pixel lie side by side, and its neighbours in the window far away."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((m, x, y, z)).astype(dtype.numpy)
    b = scrambled(rng, (x, y, z, n), dtype.numpy, [3, 1, 2, 0], 0)
    out = np.zeros((m, n), dtype.numpy)
    made = plan(of_einsum("mxyz,xyzn->mn", a, b, out, dt.by_name(ACCUMULATE.get(dtype.name, dtype.name))))
    assert [step.kernel[0].split()[-1] for step in made.steps if step.packs] == ["turn"]
    check("mxyz,xyzn->mn", a, b, out)


def test_epilogue_reads_extras_and_writes_a_second_output() -> None:
    """relu(sum + bias[n] + residual[m, n] * scale[m]) to bfloat16, and the value before relu to a further output."""
    rng = np.random.default_rng(1)
    for m, n, k in [(37, 45, 30), (20, 70, 0), (10, 40, 9000)]:
        a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
        bias, scale = rng.standard_normal(n), rng.standard_normal(m).astype(np.float32)
        residual = rng.standard_normal((n, m)).astype(np.float16).T
        out, before = np.zeros((m, n), dt.bfloat16.numpy), np.zeros((m, n), np.float32)
        extras = (Extra(dt.float64, (0, 1)), Extra(dt.float32, (n, 1), written=True), Extra(dt.float16, (1, m)),
                  Extra(dt.float32, (1, 0)))  # fmt: skip
        total = (input_(0, dt.float32) + cast(input_(1, dt.float64), dt.float32)
                 + cast(input_(2, dt.float16), dt.float32) * input_(3, dt.float32))  # fmt: skip
        stores = (cast(e.max(total, 0.0), dt.bfloat16), total)
        c = of_einsum("mk,kn->mn", a, b, out, dt.float32, extras=extras, stores=stores)
        execute(c, {"a": a, "b": b, "c": out, ("extra", 0): bias, ("extra", 1): before, ("extra", 2): residual.base,
                    ("extra", 3): scale})  # fmt: skip
        want = a.astype(np.float64) @ b + bias + residual.astype(np.float64) * scale[:, None]
        np.testing.assert_allclose(before, want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(out.astype(np.float32), np.maximum(want, 0), rtol=1e-2, atol=1e-2)


def strides_of(x: np.ndarray) -> list[int]:
    return [s // x.itemsize for s in x.strides]


@pytest.mark.parametrize("n, h, ci, co, stride", [(3, 9, 1, 5, 1), (2, 12, 3, 33, 2), (2, 8, 16, 20, 1), (40, 20, 8, 16, 1)])
def test_convolution_passes(n: int, h: int, ci: int, co: int, stride: int) -> None:
    """3x3 convolutions on padded channels-last tensors: forward and weight gradient, without im2col."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((n, h, h, ci)).astype(np.float32)
    w = rng.standard_normal((3, 3, ci, co)).astype(np.float32)
    oh = (h - 3) // stride + 1
    y, g = np.zeros((n, oh, oh, co), np.float32), rng.standard_normal((n, oh, oh, co)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::stride, ::stride]  # n oh ow ci kh kw
    f = dt.float32
    sx, sw, sy = strides_of(x), strides_of(w), strides_of(y)
    pixel = [(n, sx[0], sy[0]), (oh, stride * sx[1], sy[1]), (oh, stride * sx[2], sy[2])]
    tap = [(3, sx[1], sw[0]), (3, sx[2], sw[1]), (ci, sx[3], sw[2])]
    forward = Contraction((), tuple(Dim(z, a, 0, c) for z, a, c in pixel), (Dim(co, 0, 1, 1),),
                          tuple(Dim(z, a, b, 0) for z, a, b in tap), f, f, f, f)  # fmt: skip
    execute(forward, {"a": x, "b": w, "c": y})
    np.testing.assert_allclose(y, np.einsum("nhwcij,ijco->nhwo", windows, w, optimize=True), rtol=1e-3, atol=1e-3)
    gw = np.zeros_like(w)
    weight = Contraction((), tuple(Dim(z, a, 0, c) for z, a, c in tap), (Dim(co, 0, 1, 1),),
                         tuple(Dim(z, a, b, 0) for z, a, b in pixel), f, f, f, f)  # fmt: skip
    execute(weight, {"a": x, "b": g, "c": gw})
    np.testing.assert_allclose(gw, np.einsum("nhwcij,nhwo->ijco", windows, g, optimize=True), rtol=1e-3, atol=1e-3)


def test_depthwise() -> None:
    """Each channel with its own 3x3 filter: channels are the batch."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 7, 7, 21)).astype(np.float32), rng.standard_normal((3, 3, 21)).astype(np.float32)
    y = np.zeros((2, 5, 5, 21), np.float32)
    sx, sw, sy, f = strides_of(x), strides_of(w), strides_of(y), dt.float32
    c = Contraction((Dim(21, 1, 1, 1),), tuple(Dim(z, sx[i], 0, sy[i]) for i, z in enumerate((2, 5, 5))), (),
                    tuple(Dim(3, sx[1 + i], sw[i], 0) for i in range(2)), f, f, f, f)  # fmt: skip
    execute(c, {"a": x, "b": w, "c": y})
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    np.testing.assert_allclose(y, np.einsum("nhwcij,ijc->nhwc", windows, w), rtol=1e-4, atol=1e-5)


def test_code_for_arm() -> None:
    """The kernels compile for AArch64 and call nothing but the C library's memory functions."""
    import re

    import llvmlite.binding as llvm

    from rushlight.compile.cpu.contract_epilogue import EpilogueOperand
    from rushlight.compile.cpu.contract_ir import Driver
    from rushlight.compile.cpu.dotkernel import Dot, dot_heights
    from rushlight.compile.cpu.microkernel import Micro, heights
    from rushlight.compile.cpu.pack import Pack

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine("generic", "", opt=2, reloc="pic")
    a, f = dt.bfloat16, dt.float32
    shape = (4, 2, heights(32, 2))
    out = (EpilogueOperand(a, "unit", True),)
    for kernel in (Micro(a, f, f, *shape, False, False, True, "w"), Dot(a, a, f, 4, 2, dot_heights(32), True, "w"),
                   Pack(a, f, 4, 2, "turn"), Driver("direct", f, *shape, out, (cast(input_(0, f), a),))):  # fmt: skip
        module = llvm.parse_assembly(kernel.ir(), llvm.create_context())
        module.verify()
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        text = machine.emit_assembly(module)
        assert set(re.findall(r"\tbl\t(\S+)", text)) <= {"memset", "memcpy"}
        assert isinstance(kernel, Pack | Driver) or "fmla" in text


@pytest.mark.parametrize("level", ["avx2", "sse"])
def test_narrower_processors(level: str) -> None:
    if target.machine() != "x86_64":
        pytest.skip("levels of x86-64")
    rng = np.random.default_rng(4)
    with target.using(level):
        for dtype in (np.float32, np.float64, np.int64, dt.bfloat16.numpy):
            for letters in ("mk,kn->mn", "mk,nk->mn"):
                shapes = {"m": 17, "k": 37, "n": 29}
                left, right, out = letters.replace("->", ",").split(",")
                arrays = [scrambled(rng, tuple(shapes[x] for x in names), dtype, [0, 1], 0) for names in (left, right, out)]
                check(letters, *arrays)


def test_rows_side_by_side_are_turned_and_sizes_are_run_time_numbers() -> None:
    """``x.T @ y`` turns blocks of A, and other sizes of the same kind need no other kernel."""
    keys = []
    for m, n, k in ((300, 200, 700), (420, 264, 900)):
        a, b, out = (np.zeros(shape, np.float32) for shape in ((k, m), (k, n), (m, n)))
        made = plan(of_einsum("km,kn->mn", a, b, out, dt.float32))
        keys.append([step.kernel[0] for step in made.steps])
        main = next(step.kernel[1].__self__ for step in made.steps if "chunked" in step.kernel[0])
        assert main.block == "turned"
    assert keys[0] == keys[1]
    a, b, out = (np.zeros(shape, np.float32) for shape in ((300, 700), (700, 200), (300, 200)))
    in_place = plan(of_einsum("mk,kn->mn", a, b, out, dt.float32))
    assert not any(getattr(step.kernel[1].__self__, "block", "") for step in in_place.steps)


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="tiles are twelve rows high with vectors of 64 bytes")
@pytest.mark.parametrize("k, apart, copied", [(1024, 1024, True), (1000, 1024, True), (4608, 5120, True), (1024, 1040, False),
                                              (512, 512, False)])  # fmt: skip
def test_rows_that_share_a_place_of_the_cache_are_copied(k: int, apart: int, copied: bool) -> None:
    """Twelve rows 4096 bytes apart do not fit where eight lines do; a line more between them, and they do."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((157, apart)).astype(np.float32)[:, :k]
    b, out = rng.standard_normal((k, 300)).astype(np.float32), np.zeros((157, 300), np.float32)
    with target.using(dataclasses.replace(HOST, l1d=32 << 10, l1d_ways=8, l2=1 << 20, full_loads=2, wide_tiles=False)):
        blocks = {getattr(step.kernel[1].__self__, "block", "") for step in plan(of_einsum("mk,kn->mn", a, b, out, dt.float32)).steps}
        assert ("copied" in blocks) is copied
        check("mk,kn->mn", a, b, out)


@pytest.mark.parametrize(("columns", "scattered"), [(1024, False), (512, False), (1008, True), (256, True)])
def test_a_transposed_result_is_not_scattered_over_few_places_of_the_cache(columns: int, scattered: bool) -> None:
    """Both operands transposed: the vectors lie along rows of the result after A and B are turned, or along its columns. Where lines
    below one another share a place, as at powers of two, that is no choice; else it spares the turning."""
    cpu = dataclasses.replace(HOST, l1d=48 << 10, l1d_ways=12)
    c = Contraction((), (Dim(1024, 1, 0, columns),), (Dim(columns, 0, 1024, 1),), (Dim(1024, 1024, 1, 0),), *[dt.float32] * 4)
    assert (Roles(c, 16, 1, cpu).n.strides[2] != 4) == scattered
    a, b, out = (np.ones(shape, np.float32) for shape in ((64, columns), (columns, 64), (columns, columns)))
    execute(of_einsum("km,nk->mn", a, b, out, dt.float32), {"a": a, "b": b, "c": out})
    np.testing.assert_array_equal(out, 64)


@pytest.mark.parametrize("rows, about, parts_n", [(1000, 91, 1), (800, 67, 1), (700, 100, 5), (256, 43, 2), (12, 12, 1), (512, 47, 3),
                                                  (4097, 300, 2)])
def test_two_threads_get_about_as_many_rows(rows, about, parts_n):
    """Blocks of 72 of 800 rows would leave one thread 432 of them."""
    block = even_rows(rows, about, parts_n, (12, 8, 4, 2, 1))
    parts = [min(block, rows - first) for first in range(0, rows, block) for _ in range(parts_n)]
    half = sum(parts[:len(parts) // 2]), sum(parts[len(parts) // 2:])
    assert max(half) <= 1.06 * rows * parts_n / 2 or len(parts) < 2
    assert 0.6 * about <= block <= about + 12


@pytest.mark.parametrize("rows, columns, depth, wanted", [(200, 200, 1000, 20), (100, 100, 5000, 25), (320, 320, 3000, 32)])
def test_two_threads_get_about_as_much_of_a_weight_gradient(rows: int, columns: int, depth: int, wanted: int) -> None:
    """Four parts of 2, 2, 2 and 1 panels, or seven pieces of a reduction, would leave one thread a seventh more than the other."""
    panels, chunks = -(-columns // 32), -(-depth // CHUNK)
    sizes = rows, panels, columns, depth, 1, 32, 4
    block_m, block_n, splits = cut(wanted, *sizes, 1 << 18, LONGEST, 228, False, 2, False, False, 12, 8, 4, 2, 1)
    each = -(-chunks // splits)
    assert -(-chunks // each) == splits
    parts = [min(block_m, rows - i) * min(block_n, panels - j) * min(each * CHUNK, depth - k * CHUNK)
             for k in range(0, chunks, each) for i in range(0, rows, block_m) for j in range(0, panels, block_n)]
    threads = [0, 0]
    for part in parts:
        threads[threads.index(min(threads))] += part
    assert max(threads) <= 1.06 * rows * panels * depth / 2


@pytest.mark.parametrize(("rows", "columns"), [(1, 256), (1, 768), (8, 1024)])
def test_few_rows_are_shared_among_threads(rows: int, columns: int) -> None:
    """The time is that of reading the matrix: a quarter of a megabyte already is work for two."""
    a, b, out = (np.zeros(shape, np.float32) for shape in ((rows, 256), (columns, 256), (rows, columns)))
    (step,) = plan(of_einsum("mk,nk->mn", a, b, out, dt.float32)).steps
    assert step.parts >= 4


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="tiles are twelve rows high with vectors of 64 bytes")
@pytest.mark.parametrize("rows, columns, depth, kind", [(12, 1024, 512, "direct"), (13, 1024, 512, "chunked"), (61, 1000, 700, "chunked"),
                                                        (64, 128, 700, "direct"), (64, 1024, 256, "direct")])
def test_some_rows_read_a_large_matrix_chunk_by_chunk(rows: int, columns: int, depth: int, kind: str) -> None:
    """A panel of a matrix read in place is no more in the cache when the next tile wants it: the lines lie in few places there."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, depth), (depth, columns)))
    out = np.zeros((rows, columns), np.float32)
    with target.using(dataclasses.replace(HOST, l2=1 << 20, full_loads=2)):
        (step,) = plan(of_einsum("mk,kn->mn", a, b, out, dt.float32)).steps
        assert step.kernel[1].__self__.kind == kind
        assert step.parts >= 2
        check("mk,kn->mn", a, b, out)


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="wide tiles are for vectors of 64 bytes")
@pytest.mark.parametrize("dtype", [dt.float32, dt.bfloat16], ids=lambda d: d.name)
@pytest.mark.parametrize("m, n, k", [(29, 33, 40), (61, 64, 300), (61, 65, 300), (300, 100, 500), (157, 250, 90), (100, 1030, 2100),
                                     (768, 192, 600), (37, 300, 1576)])  # fmt: skip
@pytest.mark.parametrize("letters", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn"])
def test_tiles_are_wide_where_loads_are_scarce(letters: str, m: int, n: int, k: int, dtype: dt.DType) -> None:
    """Six rows of four vectors, and code for panels that use one, two or three of them."""
    sizes = {"m": m, "n": n, "k": k}
    left, right, result = letters.replace("->", ",").split(",")
    rng = np.random.default_rng(1)
    a, b, out = (scrambled(rng, tuple(sizes[x] for x in names), dtype.numpy, [0, 1], 0) for names in (left, right, result))
    for loads, wide, shape in ((2, False, (2, 12)), (2, True, (4, 6)), (1, False, (4, 6))):
        with target.using(dataclasses.replace(HOST, l2=1 << 20, full_loads=loads, wide_tiles=wide)):
            if letters == "mk,nk->mn" and m > 200:
                drivers = [step.kernel[1].__self__ for step in plan(of_einsum(letters, a, b, out, dt.float32)).steps if not step.packs]
                assert (drivers[0].vectors, drivers[0].heights[0]) == shape
            check(letters, a, b, out)


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="wide tiles are for vectors of 64 bytes")
@pytest.mark.parametrize("rows, columns, depth, packed", [(320, 256, 500, False), (320, 256, 800, True), (320, 225, 200, True),
                                                          (150, 225, 200, False), (90, 256, 800, False)])  # fmt: skip
def test_wide_panels_are_packed_where_they_would_wait_for_loads(rows: int, columns: int, depth: int, packed: bool) -> None:
    """800 rows of 256 numbers are more than B may have of a megabyte of cache; rows of 225 lie across lines. Few rows are not worth it."""
    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, depth), (depth, columns)))
    out = np.zeros((rows, columns), np.float32)
    with target.using(dataclasses.replace(HOST, l2=1 << 20, full_loads=2, wide_tiles=True, slow_l3=False)):
        assert any(step.packs for step in plan(of_einsum("mk,kn->mn", a, b, out, dt.float32)).steps) == packed
        check("mk,kn->mn", a, b, out)


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="wide tiles are for vectors of 64 bytes")
@pytest.mark.parametrize("rows, columns, depth, kind, vectors", [
    (100, 400, 500, "direct", 2), (130, 400, 600, "chunked", 2), (100, 250, 600, "packed", 4), (100, 1024, 300, "packed", 4),
    (550, 400, 500, "packed", 4), (100, 400, 300, "direct", 4)])  # fmt: skip
def test_some_hundred_rows_read_a_matrix_from_a_slow_cache_where_it_lies(
    rows: int, columns: int, depth: int, kind: str, vectors: int
) -> None:  # fmt: skip
    """Chunk by chunk, if it is deep. Rows of 250 numbers lie across lines, those of 1024 share one place; for 550 rows packing pays; 480 KB
    stay in the second-level cache."""
    rng = np.random.default_rng(6)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, depth), (depth, columns)))
    out = np.zeros((rows, columns), np.float32)
    caches = {"l1d": 48 << 10, "l1d_ways": 12, "l2": 1 << 20}
    with target.using(dataclasses.replace(HOST, **caches, full_loads=2, wide_tiles=True, slow_l3=True)):
        steps = plan(of_einsum("mk,kn->mn", a, b, out, dt.float32)).steps
        drivers = [step.kernel[1].__self__ for step in steps if not step.packs]
        assert ("packed" if len(drivers) < len(steps) else drivers[0].kind, drivers[0].vectors) == (kind, vectors)
        check("mk,kn->mn", a, b, out)


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="wide tiles are for vectors of 64 bytes")
@pytest.mark.parametrize("letters, m, n, k, outputs, loads, asks", [
    ("mk,nk->mn", 157, 100, 70, 1, 2, True), ("mk,kn->mn", 157, 64, 450, 2, 2, True), ("mk,kn->mn", 157, 90, 100, 1, 2, False),
    ("mk,nk->mn", 157, 100, 70, 1, 1, False), ("mk,nk->mn", 60, 100, 70, 1, 2, False), ("km,kn->mn", 157, 320, 70, 1, 2, False),
    ("mk,nk->mn", 100, 70, 450, 3, 2, True), ("mk,nk->mn", 100, 70, 90, 17, 2, False)])  # fmt: skip
def test_wide_tiles_ask_for_lines_one_by_one(letters: str, m: int, n: int, k: int, outputs: int, loads: int, asks: bool) -> None:
    """Not where loads are scarce, rows few or turned, B's vectors lie across lines, or the outputs of a tile have more lines than a list
    has places. What is computed is the same."""
    rng = np.random.default_rng(5)
    sizes = {"m": m, "n": n, "k": k}
    left, right, _ = letters.replace("->", ",").split(",")
    a, b = (rng.standard_normal([sizes[x] for x in names]).astype(np.float32) for names in (left, right))
    outs = [np.zeros((m, n), np.float32) for _ in range(outputs)]
    extras = tuple(Extra(dt.float32, (n, 1), True) for _ in outs[1:])
    stores = tuple(e.mul(input_(0, dt.float32), float(i + 1)) for i in range(outputs))
    with target.using(dataclasses.replace(HOST, l2=1 << 20, full_loads=loads, wide_tiles=True)):
        c = dataclasses.replace(of_einsum(letters, a, b, outs[0], dt.float32), extras=extras, stores=stores)
        (driver,) = [step.kernel[1].__self__ for step in plan(c).steps if not step.packs]
        assert (driver.kind, driver.asks) == ("direct", asks)
        execute(c, {"a": a, "b": b, "c": outs[0]} | {("extra", i): out for i, out in enumerate(outs[1:])})
    right = np.einsum(letters, a, b, dtype=np.float64)
    for i, out in enumerate(outs):
        np.testing.assert_allclose(out, right * (i + 1), rtol=1e-4, atol=1e-3 * (i + 1))


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="wide tiles are for vectors of 64 bytes")
@pytest.mark.parametrize("columns, down", [(256, False), (1030, True)])
def test_parts_that_follow_each_other_have_the_same_panels_of_a_large_matrix(columns: int, down: bool) -> None:
    """512 rows of 1030 numbers are more than a second-level cache of a megabyte; parts are run in any order."""
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((300, 512), (columns, 512)))
    out = np.zeros((300, columns), np.float32)
    with target.using(dataclasses.replace(HOST, l2=1 << 20, full_loads=1)):
        (driver,) = [s.kernel[1].__self__ for s in plan(of_einsum("mk,nk->mn", a, b, out, dt.float32)).steps if not s.packs]
        assert driver.down == down and driver.order == (("parts_m", "parts_n") if down else ("parts_n", "parts_m"))
        check("mk,nk->mn", a, b, out)


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="wide tiles are for vectors of 64 bytes")
@pytest.mark.parametrize("columns, lifted", [(1024, True), (2000, False), (2048, True), (520, False)])
def test_panels_whose_lines_share_a_place_of_the_cache_are_copied(columns: int, lifted: bool) -> None:
    """Both operands' rows are the positions of the reduction: 4096 bytes from one to the next are one place. Not all of the last panel
    is there, and sums are kept from chunk to chunk."""
    rng = np.random.default_rng(2)
    wide = rng.standard_normal((600, columns)).astype(np.float32)
    a, b, out = rng.standard_normal((600, 100)).astype(np.float32), wide[:, :columns - 21], np.zeros((100, columns - 21), np.float32)
    with target.using(dataclasses.replace(HOST, l1d=48 << 10, l1d_ways=12, full_loads=1)):
        drivers = [step.kernel[1].__self__ for step in plan(of_einsum("km,kn->mn", a, b, out, dt.float32)).steps]
        drivers = [driver for driver in drivers if getattr(driver, "block", "") == "turned"]
        assert [driver.lifted for driver in drivers] == [lifted]
        check("km,kn->mn", a, b, out)


def test_a_weight_gradient_with_many_results_is_one_step() -> None:
    """Parts that have all of the reduction apply the epilogue themselves; with few results the reduction is split, and a step adds up."""
    for (m, n, k), kinds in (((1024, 256, 2048), ["chunked"]), ((192, 192, 1576), ["chunked"]), ((96, 128, 16384), ["partial", "finish"])):
        a, b, out = (np.zeros(shape, np.float32) for shape in ((k, m), (k, n), (m, n)))
        with target.using(dataclasses.replace(HOST, l2=1 << 20)):
            steps = plan(of_einsum("km,kn->mn", a, b, out, dt.float32)).steps
        assert [step.kernel[1].__self__.kind for step in steps] == kinds


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="what is turned depends on the width of vectors")
@pytest.mark.parametrize(("m", "n", "k", "block"), [(64, 256, 4096, "turned"), (256, 64, 4096, "turned"), (64, 64, 4096, ""),
                                                    (96, 96, 2048, "")])  # fmt: skip
def test_a_long_weight_gradient_with_few_rows_and_columns_goes_in_pieces(m: int, n: int, k: int, block: str) -> None:
    """In one go, each tile would read a line from each of thousands of rows. Vectors lie along the columns that are many enough for
    turned rows."""
    rng = np.random.default_rng(3)
    a, b, out = rng.standard_normal((k, m)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32), np.zeros((m, n), np.float32)
    with target.using(dataclasses.replace(HOST, l2=2 << 20, full_loads=2)):
        first = plan(of_einsum("km,kn->mn", a, b, out, dt.float32)).steps[0].kernel[1].__self__
        assert (first.kind, first.block) == ("partial", block)
        check("km,kn->mn", a, b, out)


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="wide tiles are for vectors of 64 bytes")
@pytest.mark.parametrize(("loads", "m", "n", "vectors", "block"), [(2, 576, 128, 4, ""), (2, 576, 64, 4, ""), (2, 576, 96, 2, ""),
                                                                   (2, 200, 128, 2, "turned"), (1, 576, 128, 4, "turned")])  # fmt: skip
def test_rows_side_by_side_are_read_in_place_by_wide_tiles(loads: int, m: int, n: int, vectors: int, block: str) -> None:
    """The weight gradient of a convolution with few outputs, whose positions are near each other: turning would cost more than it
    saves. Not where a panel is not filled, or few rows use it."""
    rng = np.random.default_rng(4)
    taps = m // 8
    image = rng.standard_normal((600 + 7, taps)).astype(np.float32)
    a = np.lib.stride_tricks.as_strided(image, (600, 8, taps), (taps * 4, taps * 4, 4))  # eight windows side by side
    b, out = rng.standard_normal((600, n)).astype(np.float32), np.zeros((8, taps, n), np.float32)
    with target.using(dataclasses.replace(HOST, l2=2 << 20, full_loads=loads, wide_tiles=True)):
        drivers = [step.kernel[1].__self__ for step in plan(of_einsum("ktm,kn->tmn", a, b, out, dt.float32)).steps]
        main = next(d for d in drivers if getattr(d, "kind", "") in ("partial", "chunked"))
        assert (main.vectors, main.block) == (vectors, block)
        check("ktm,kn->tmn", a, b, out)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_chunked_reductions_with_epilogues(data: st.DataObject) -> None:
    """An update of a weight in the epilogue of its gradient: batches, rests of tiles and panels, an extra that is written."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    batch = data.draw(st.sampled_from([(), (2,)]))
    m, n, k = (data.draw(st.sampled_from(sizes)) for sizes in ([24, 37, 61, 100], [130, 160, 197, 256], [300, 513, 1030]))
    a, b = (rng.standard_normal((*batch, k, x)).astype(np.float32) for x in (m, n))
    weight, scale = rng.standard_normal((*batch, m, n)).astype(np.float32), rng.standard_normal((n,)).astype(np.float32)
    out, grad = np.zeros_like(weight), np.zeros_like(weight)
    rows = tuple(s // 4 for s in weight.strides)
    total, old, factor = input_(0, dt.float32), input_(1, dt.float32), input_(2, dt.float32)
    stores = (old - total * factor, total)
    extras = (Extra(dt.float32, rows), Extra(dt.float32, (*(0 for _ in batch), 0, 1)), Extra(dt.float32, rows, True))
    letters = "bkm,bkn->bmn" if batch else "km,kn->mn"
    c = of_einsum(letters, a, b, out, dt.float32, extras=extras, stores=stores)
    arrays = {"a": a, "b": b, "c": out, ("extra", 0): weight, ("extra", 1): scale, ("extra", 2): grad}
    execute(c, arrays)
    want = np.einsum(letters, a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(grad, want, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(out, weight - want * scale, rtol=1e-4, atol=1e-3)
    before = out.tobytes(), grad.tobytes()
    execute(c, arrays, random.Random(1))
    assert (out.tobytes(), grad.tobytes()) == before
