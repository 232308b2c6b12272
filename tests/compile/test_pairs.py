"""Contractions by pairs of bfloat16, against NumPy in float64: of bfloat16 numbers on the tile unit, with dot products, and without
either; of float32 numbers in three parts."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_contract import EINSUMS, check, execute, of_einsum, scrambled, strides_of

from rushlight.compile import dtypes as dt
from rushlight.compile.contraction import Contraction, Dim, Extra, Sum
from rushlight.compile.cpu import amx, jit, pair_plan, target
from rushlight.compile.cpu.contract import plan
from rushlight.compile.cpu.contract_step import Plan
from rushlight.compile.cpu.pair_kernel import PairDriver, PairMicro
from rushlight.compile.cpu.pair_pack import PackColumns, Squares
from rushlight.compile.cpu.pair_parts import PARTS
from rushlight.compile.cpu.pair_plan import PairPlanner
from rushlight.compile.expr import cast, e, input_
from rushlight.compile.flags import flags
from rushlight.compile.sizes import Tape, flattened, is_size

B = dt.bfloat16.numpy
HOST = target.host()
WAYS = {
    "tiles": HOST if HOST.amx else None,
    "dots": dataclasses.replace(HOST, amx=False) if HOST.bf16_dot and HOST.vector_bytes == 64 else None,
}


@pytest.fixture(params=WAYS)
def cpu(request):
    if WAYS[request.param] is None:
        pytest.skip("the processor has no such instructions")
    with target.using(WAYS[request.param]) as chosen:
        yield chosen


def by_pairs(c: Contraction) -> bool:
    return any(step.kernel[0] == PackColumns(1).key for step in plan(c).steps)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_einsums(data: st.DataObject) -> None:
    """Any transposition, gaps, reversed axes, batches, several dimensions in a role, results in three types."""
    able = [w for w in WAYS.values() if w is not None]
    if not able:
        pytest.skip("the processor has no such instructions")
    letters = data.draw(st.sampled_from(EINSUMS))
    left, right, result = letters.replace("->", ",").split(",")
    sizes = {x: data.draw(st.sampled_from([1, 8, 9, 16, 17, 31, 32, 33, 50, 65] if len(set(left + right)) < 5 else [1, 2, 5, 8, 17]),
                          label=x) for x in dict.fromkeys(left + right)}  # fmt: skip
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    arrays = []
    for names, dtype in ((left, B), (right, B), (result, data.draw(st.sampled_from([B, np.float32, np.float16])))):
        order = data.draw(st.permutations(range(len(names))))
        gap = data.draw(st.sampled_from([0, 0, 3])) if names else 0
        arrays.append(scrambled(rng, tuple(sizes[x] for x in names), dtype, list(order), gap) if names else np.zeros((), dtype))
    with target.using(data.draw(st.sampled_from(able))):
        check(letters, *arrays, seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("m, n, k", [(200, 96, 300), (64, 10, 1500), (9, 32, 9000), (300, 64, 5000), (515, 33, 20), (515, 260, 600),
                                     (1100, 40, 4100), (33, 47, 4096), (32, 16, 32), (2048, 64, 64)])  # fmt: skip
@pytest.mark.parametrize("letters", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn"])
def test_larger_matrices(letters: str, m: int, n: int, k: int, cpu: target.CPU) -> None:
    sizes = {"m": m, "n": n, "k": k}
    left, right, result = letters.replace("->", ",").split(",")
    rng = np.random.default_rng(0)
    arrays = [scrambled(rng, tuple(sizes[x] for x in names), B, [0, 1], 0) for names in (left, right, result)]
    assert by_pairs(of_einsum(letters, *arrays, dt.float32))
    check(letters, *arrays)


def test_numbers_beside_an_operand_do_not_matter(cpu: target.CPU) -> None:
    """What lies in memory beyond the last row, column or position is NaN here."""
    for letters in ("mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn"):
        left, right, _ = letters.replace("->", ",").split(",")
        sizes, arrays = {"m": 37, "n": 41, "k": 45}, []
        for names in (left, right):
            around = np.full([sizes[x] + 40 for x in names], np.nan, B)
            inside = around[tuple(slice(20, 20 + sizes[x]) for x in names)]
            inside[...] = np.random.default_rng(len(arrays)).standard_normal(inside.shape)
            arrays.append(inside)
        check(letters, *arrays, np.zeros((37, 41), np.float32))


def test_rows_do_not_touch_each_other(cpu: target.CPU) -> None:
    a, b = np.ones((40, 50), B), np.ones((50, 40), B)
    a[7, 3], b[4, 9] = np.inf, np.nan
    out = np.zeros((40, 40), np.float32)
    execute(of_einsum("mk,kn->mn", a, b, out, dt.float32), {"a": a, "b": b, "c": out})
    assert np.isnan(out[:, 9]).all() and np.isposinf(np.delete(out[7], 9)).all()
    assert (np.delete(np.delete(out, 7, 0), 9, 1) == 50).all()


def test_sums_are_kept_in_float32(cpu: target.CPU) -> None:
    """A thousand ones and a small rest: sums in bfloat16 would stop growing at 256."""
    a, b = np.ones((32, 5000), B), np.ones((5000, 32), B)
    out = np.zeros((32, 32), np.float32)
    execute(of_einsum("mk,kn->mn", a, b, out, dt.float32), {"a": a, "b": b, "c": out})
    assert (out == 5000).all()


def test_epilogue(cpu: target.CPU) -> None:
    """max(sum + bias[n] + residual[m, n], 0) to bfloat16 and the value before to a second output; at once and in chunks."""
    rng = np.random.default_rng(1)
    for m, n, k in [(37, 45, 30), (40, 40, 9000)]:
        a, b = rng.standard_normal((m, k)).astype(B), rng.standard_normal((k, n)).astype(B)
        bias, residual = rng.standard_normal(n).astype(np.float32), rng.standard_normal((n, m)).astype(B).T
        out, before = np.zeros((m, n), B), np.zeros((m, n), np.float32)
        extras = (Extra(dt.float32, (0, 1)), Extra(dt.float32, (n, 1), written=True), Extra(dt.bfloat16, (1, m)))
        total = input_(0, dt.float32) + input_(1, dt.float32) + cast(input_(2, dt.bfloat16), dt.float32)
        c = of_einsum("mk,kn->mn", a, b, out, dt.float32, extras=extras, stores=(cast(e.max(total, 0.0), dt.bfloat16), total))
        assert by_pairs(c)
        execute(c, {"a": a, "b": b, "c": out, ("extra", 0): bias, ("extra", 1): before, ("extra", 2): residual.base})
        want = a.astype(np.float64) @ b.astype(np.float64) + bias + residual.astype(np.float64)
        np.testing.assert_allclose(before, want, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(out.astype(np.float32), np.maximum(want, 0), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("n, h, ci, co, stride", [(3, 9, 16, 8, 1), (2, 12, 24, 33, 2), (2, 8, 32, 20, 1), (4, 20, 8, 16, 1)])
def test_convolution_passes(n: int, h: int, ci: int, co: int, stride: int, cpu: target.CPU) -> None:
    """3x3 on padded channels-last tensors; positions of the reduction lie in three dimensions."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((n, h, h, ci)).astype(B), rng.standard_normal((3, 3, ci, co)).astype(B)
    oh = (h - 3) // stride + 1
    y, g = np.zeros((n, oh, oh, co), np.float32), rng.standard_normal((n, oh, oh, co)).astype(B)
    wide = [v.astype(np.float32) for v in (x, w, g)]
    windows = np.lib.stride_tricks.sliding_window_view(wide[0], (3, 3), (1, 2))[:, ::stride, ::stride]  # n oh ow ci kh kw
    half, f = dt.bfloat16, dt.float32
    sx, sw, sy = strides_of(x), strides_of(w), strides_of(y)
    pixel = [(n, sx[0], sy[0]), (oh, stride * sx[1], sy[1]), (oh, stride * sx[2], sy[2])]
    tap = [(3, sx[1], sw[0]), (3, sx[2], sw[1]), (ci, sx[3], sw[2])]
    forward = Contraction((), tuple(Dim(z, a, 0, c) for z, a, c in pixel), (Dim(co, 0, 1, 1),),
                          tuple(Dim(z, a, b, 0) for z, a, b in tap), half, half, f, f)  # fmt: skip
    assert by_pairs(forward)
    execute(forward, {"a": x, "b": w, "c": y})
    np.testing.assert_allclose(y, np.einsum("nhwcij,ijco->nhwo", windows, wide[1], optimize=True), rtol=1e-3, atol=1e-3)
    gw = np.zeros(w.shape, np.float32)
    weight = Contraction((), tuple(Dim(z, a, 0, c) for z, a, c in tap), (Dim(co, 0, 1, 1),),
                         tuple(Dim(z, a, b, 0) for z, a, b in pixel), half, half, f, f)  # fmt: skip
    execute(weight, {"a": x, "b": g, "c": gw})
    np.testing.assert_allclose(gw, np.einsum("nhwcij,nhwo->ijco", windows, wide[2], optimize=True), rtol=1e-3, atol=1e-2)


def test_the_way_is_chosen_by_the_processor_and_by_how_full_squares_are() -> None:
    def matrices(m: int, n: int, k: int, dtype: np.dtype = B) -> Contraction:
        a, b = np.zeros((m, k), dtype), np.zeros((k, n), dtype)
        return of_einsum("mk,kn->mn", a, b, np.zeros((m, n), np.float32), dt.float32)

    for way in WAYS.values():
        if way is not None:
            with target.using(way):
                assert by_pairs(matrices(64, 64, 64))
                assert not by_pairs(matrices(1, 64, 64)) and not by_pairs(matrices(64, 2, 64))
                assert not by_pairs(matrices(64, 64, 64, np.float32)) and not by_pairs(matrices(64, 64, 64, np.float16))
                # Nine positions in 32, once for each of 30: the squares would be empty for the most part.
                x, y = np.zeros((64, 30, 9), B).transpose(0, 2, 1), np.zeros((30, 40, 9), B)
                assert not by_pairs(of_einsum("mxy,yzx->mz", x, y, np.zeros((64, 40), np.float32), dt.float32))
    with target.using(dataclasses.replace(HOST, amx=False, bf16_dot=False)):
        assert not by_pairs(matrices(64, 64, 64))


def test_without_permission_there_are_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "granted", lambda: False)
    assert not target.host.__wrapped__().amx


def test_sizes_are_run_time_numbers(cpu: target.CPU) -> None:
    """Other sizes of the same kind need no other kernel."""
    keys = []
    for m, n, k in ((64, 96, 200), (500, 40, 333)):
        a, b, out = (np.zeros(shape, B) for shape in ((m, k), (n, k), (m, n)))
        keys.append([step.kernel[0] for step in plan(of_einsum("mk,nk->mn", a, b, out, dt.float32)).steps])
    assert keys[0] == keys[1]


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="pairs are multiplied in vectors of 64 bytes")
@pytest.mark.parametrize("letters", ["mk,nk->mn", "mk,kn->mn", "km,kn->mn"])
@pytest.mark.parametrize("dtype", [dt.float32, dt.bfloat16], ids=lambda d: d.name)
def test_plans_are_made_on_any_processor(letters: str, dtype: dt.DType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code for a tile unit can be read and checked where there is none to run it."""
    import llvmlite.binding as llvm

    monkeypatch.setattr(jit, "deliver", lambda requests, use: None)
    cpu = dataclasses.replace(HOST, amx=True, bf16_dot=True)
    sizes = {"m": 2048, "n": 256, "k": 1024}
    a, b, out = (np.zeros([sizes[x] for x in names], dtype.numpy) for names in letters.replace("->", ",").split(","))
    with flags.using(tiles=1):
        steps = plan(of_einsum(letters, a, b, out, dt.float32), cpu).steps
    kinds = [type(step.kernel[1].__self__) for step in steps]
    assert kinds[0] is PackColumns and PairDriver in kinds
    for step in steps:
        llvm.parse_assembly(step.kernel[1](), llvm.create_context()).verify()


def test_the_code_multiplies_pairs(cpu: target.CPU) -> None:
    from rushlight.compile.cpu import jit

    text = jit.assembly(PairMicro(cpu.amx).ir())
    assert ("tdpbf16ps" if cpu.amx else "vdpbf16ps") in text and "vfmadd" not in text
    driver = PairDriver("direct", dt.float32, 16, 2, (32, 16), block="turned", amx=cpu.amx)
    text = jit.assembly(driver.ir())
    assert text.count("ldtilecfg") == text.count("tilerelease") == int(cpu.amx)
    if cpu.amx:
        text = jit.assembly(PairMicro(True, PARTS).ir())
        assert text.count("tdpbf16ps") >= 6 * (4 + 2 + 2 + 1)
    for first in (False, True):
        text = jit.assembly(Squares(first, "k", 1024).ir())
        assert (("vpermt2d" in text or "vpunpck" in text or "vshuf" in text) is first)  # only B's are turned


@pytest.fixture
def apart(monkeypatch):
    """float32 numbers are taken apart whatever the sizes."""
    if not HOST.amx:
        pytest.skip("the processor has no tile unit")
    monkeypatch.setattr(pair_plan, "saved", lambda *sizes: 1)
    with target.using(HOST), flags.using(tiles=1):
        yield HOST


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_float32_einsums(apart: target.CPU, data: st.DataObject) -> None:
    letters = data.draw(st.sampled_from(EINSUMS))
    left, right, result = letters.replace("->", ",").split(",")
    sizes = {x: data.draw(st.sampled_from([8, 16, 31, 32, 33, 65, 96] if len(set(left + right)) < 5 else [2, 8, 32, 33]), label=x)
             for x in dict.fromkeys(left + right)}  # fmt: skip
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    arrays = []
    for names in (left, right, result):
        order = data.draw(st.permutations(range(len(names))))
        gap = data.draw(st.sampled_from([0, 0, 3])) if names else 0
        arrays.append(scrambled(rng, tuple(sizes[x] for x in names), np.float32, list(order), gap) if names else np.zeros((), np.float32))
    check(letters, *arrays, seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("m, n, k", [(64, 70, 1500), (300, 64, 5000), (515, 260, 600), (1100, 40, 4100), (33, 47, 4096), (32, 16, 32)])
@pytest.mark.parametrize("letters", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn"])
def test_larger_float32_matrices(letters: str, m: int, n: int, k: int, apart: target.CPU) -> None:
    sizes = {"m": m, "n": n, "k": k}
    left, right, result = letters.replace("->", ",").split(",")
    rng = np.random.default_rng(0)
    arrays = [scrambled(rng, tuple(sizes[x] for x in names), np.float32, [0, 1], 0) for names in (left, right, result)]
    assert in_parts(of_einsum(letters, *arrays, dt.float32))
    check(letters, *arrays)


@pytest.mark.parametrize("letters", ["mk,kn->mn", "km,nk->mn"])
@pytest.mark.parametrize("m, n, k", [(300, 70, 64), (100, 1100, 150), (515, 300, 600), (47, 47, 4096)])
def test_sums_over_rows_that_are_made_behind_the_tile_unit(letters: str, m: int, n: int, k: int, apart: target.CPU) -> None:
    """A bias, and of the results their sums and deviations: whatever the order of the parts, and in whatever pieces, the same bits."""
    rng = np.random.default_rng(2)
    left, right = (x[::-1] if x in ("km", "nk") else x for x in letters[:5].split(","))
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    operands = [np.ascontiguousarray(x.T) if turned else x for x, turned in ((a, letters[:2] != left), (b, letters[3:5] != right))]
    bias, results = rng.standard_normal(n).astype(np.float32), []
    total = input_(0, dt.float32) + input_(1, dt.float32)
    for cuts in (None, random.Random(1), random.Random(2)):
        out, sums, deviations = np.zeros((m, n), np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32)
        c = of_einsum(letters, *operands, out, dt.float32, extras=(Extra(dt.float32, (0, 1)),), stores=(total,),
                      sums=(Sum("add", total), Sum("deviations", total)))  # fmt: skip
        assert in_parts(c)
        arrays = {"a": operands[0], "b": operands[1], "c": out, ("extra", 0): bias, ("extra", 1): sums, ("extra", 2): deviations}
        execute(c, arrays, cuts)
        results.append((out, sums, deviations))
    want = a.astype(np.float64) @ b.astype(np.float64) + bias
    scale = np.sqrt(k)
    np.testing.assert_allclose(results[0][0], want, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(results[0][1], want.sum(0), rtol=1e-5, atol=1e-5 * scale * m)
    np.testing.assert_allclose(results[0][2], ((want - want.mean(0)) ** 2).sum(0), rtol=1e-5)
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(x, y)


def in_parts(c: Contraction) -> bool:
    return any(step.kernel[0] == PackColumns(PARTS).key for step in plan(c).steps)


def product(a: np.ndarray, b: np.ndarray, parts: bool = True) -> np.ndarray:
    out = np.zeros((a.shape[0], b.shape[1]), np.float32)
    c = of_einsum("mk,kn->mn", a, b, out, dt.float32)
    assert in_parts(c) is parts
    execute(c, {"a": a, "b": b, "c": out})
    return out


@pytest.mark.parametrize("k", [64, 512, 4096])
@pytest.mark.parametrize("exponents", [0, 30])
def test_products_in_parts_are_as_good_as_those_of_float32(k: int, exponents: int, apart: target.CPU) -> None:
    """The error is no larger than with vectors of float32; where a few products decide, which those round once, a little."""
    rng = np.random.default_rng(k + exponents)
    a, b = (np.ldexp(rng.standard_normal(s), rng.integers(-exponents, exponents + 1, s)).astype(np.float32) for s in ((96, k), (k, 80)))
    wide = a.astype(np.float64), b.astype(np.float64)
    want, magnitude = wide[0] @ wide[1], abs(wide[0]) @ abs(wide[1])
    found = [product(a, b)]
    with flags.using(tiles=0):
        found.append(product(a, b, parts=False))
    errors = [abs(x.astype(np.float64) - want) / magnitude for x in found]
    assert np.sqrt((errors[0] ** 2).mean()) < (1.25 if exponents else 1) * np.sqrt((errors[1] ** 2).mean())
    assert errors[0].max() < 1.5 * errors[1].max()


def test_what_float32_computes_exactly_parts_do(apart: target.CPU) -> None:
    rng = np.random.default_rng(3)
    x = np.ldexp(rng.standard_normal((64, 64)), rng.integers(-100, 100, (64, 64))).astype(np.float32)
    np.testing.assert_array_equal(product(np.eye(64, dtype=np.float32), x), x)
    np.testing.assert_array_equal(product(x, -np.eye(64, dtype=np.float32)), -x)
    a, b = (rng.integers(-2000, 2000, (64, 64)).astype(np.float32) for _ in range(2))
    a[:, 2:] = b[2:] = 0
    np.testing.assert_array_equal(product(a, b), a @ b)


def test_infinities_and_the_ends_of_the_range_in_parts(apart: target.CPU) -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
    b[5, ::7], a[::9, 20] = 0, 0
    a[3, 5], a[4, 6], a[7, 8], a[9, 20] = np.inf, -np.inf, np.nan, 3.4e38
    b[5, 12], b[20, 11], b[6, 13], b[30, 30], b[5, 14] = np.inf, np.inf, -np.inf, np.nan, 1e5
    a[11, 7], b[7, 17] = np.finfo(np.float32).max, -3.0
    b[20, 12:14] = b[7, 12:14] = 0.5  # the largest numbers times more than that: infinite, or not yet where a sum is fused
    with np.errstate(invalid="ignore", over="ignore"):
        want = a @ b
    out = product(a, b)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_array_equal(np.where(np.isinf(out), out, 0), np.where(np.isinf(want), want, 0))
    sure = np.isfinite(want) & (abs(a).max(1, initial=0)[:, None] < 1e30)
    np.testing.assert_allclose(out[sure], want[sure], rtol=1e-4, atol=1e-5)
    # Tiny numbers keep what lies above 2**-126, the smallest normal number.
    tiny = (a * np.float32(1e-38)).clip(-1e-37, 1e-37)
    tiny, ones = np.nan_to_num(tiny), np.ones((64, 64), np.float32)
    assert abs(product(tiny, ones) - tiny.astype(np.float64).sum(1)[:, None]).max() < 3 * 64 * 2.0**-126


def test_where_parts_are_taken() -> None:
    def matrices(m: int, n: int, k: int, constant: bool = False) -> Contraction:
        a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
        return dataclasses.replace(of_einsum("mk,kn->mn", a, b, np.zeros((m, n), np.float32), dt.float32), constant=constant)

    able = dataclasses.replace(HOST, amx=True, bf16_dot=True, vector_bytes=64, vector_registers=32)
    with pytest.MonkeyPatch.context() as patch, target.using(able):
        patch.setattr(jit, "kernels", lambda requests: [0] * len(requests))
        assert in_parts(matrices(2048, 256, 256)) and in_parts(matrices(256, 1024, 2048))
        assert in_parts(matrices(64, 256, 256, constant=True))
        assert not in_parts(matrices(64, 256, 256)) and not in_parts(matrices(2048, 16, 256)) and not in_parts(matrices(2048, 256, 8))
        with flags.using(tiles=0):
            assert not in_parts(matrices(2048, 256, 256))
        with target.using(dataclasses.replace(able, amx=False)):
            assert not in_parts(matrices(2048, 256, 256))


def flat(made: Plan) -> list:
    """All numbers of a plan, and which kernels it calls."""
    return [*made.scratch, made.flops, *(x for s in made.steps for x in (s.kernel[0], tuple(s.operands), s.parts, *flattened(s.params)))]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_plan_for_many_sizes_is_that_of_each(data: st.DataObject) -> None:
    """No kernel is made here, so the processor need not have the instructions."""
    able = dataclasses.replace(HOST, bf16_dot=True, vector_bytes=64)
    rows, columns, depth = (st.sampled_from([8, 9, 31, 64, 200, 513, 1100, 2100, 5000]) for _ in range(3))
    seen = [(data.draw(rows), data.draw(columns), data.draw(depth)) for _ in range(4)]
    times, batch, parts = (data.draw(st.sampled_from(x)) for x in ([1, 3], [1, 5], [1, PARTS]))
    dtype = dt.bfloat16 if parts == 1 else dt.float32

    def planned(m: int, n: int, k: int) -> list | None:
        c = Contraction((Dim(batch, m * k * times, n * k * times, m * n),), (Dim(m, k * times, 0, n),), (Dim(n, 0, 1, 1),),
                        (Dim(times, k, k * n), Dim(k, 1, n)), dtype, dtype, dt.float32, dt.float32)  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jit, "kernels", lambda requests: [0] * len(requests))
            made = PairPlanner(c, able, parts)
            return flat(made.plan()) if made.fits else None

    tape = Tape(seen[0])
    sizes = planned(*tape.inputs)
    wanted = [] if sizes is None else [x for x in sizes if is_size(x)]
    replay = tape.replay(wanted)
    assert not tape.rests_on
    for one in seen:
        found = replay(one)
        if found is not None:
            numbers = iter(found)
            put = None if sizes is None else [next(numbers) if is_size(x) else x for x in sizes]
            assert (None if put is None else flattened(put)) == planned(*one)
