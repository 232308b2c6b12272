"""Winograd's convolutions: matrices, accuracy against float64, all shapes and epilogues, any number of threads."""
from __future__ import annotations

import contextlib
import ctypes
from dataclasses import replace
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushlight.compile import dtypes as dt
from rushlight.compile.build import _planned, build
from rushlight.compile.contraction import Contraction, Dim
from rushlight.compile.cpu import jit, pool, target, toomcook, winograd, winograd_grad
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.winograd_tiles import LISTED, TILE, list_tiles, share
from rushlight.compile.flags import flags
from rushlight.compile.graph import ContractSpec, Graph, Node, Window
from rushlight.compile.program import Program

F32 = dt.float32
SETTINGS = settings(max_examples=25, deadline=None, database=None)
#: For inputs and filters of deviation 1 a result has the deviation of the square root of the number of products. Its error is,
#: in units of that: as root mean square, and at most.
RMS, MOST = 1.5e-6, 1.2e-5


@pytest.mark.parametrize(("m", "r"), [(4, 3), (3, 4), (2, 5), (5, 2)])
def test_the_matrices_multiply_polynomials_exactly(m, r):
    found = toomcook.matrices(m, r)
    rng = np.random.default_rng(0)
    d = [Fraction(int(x), 8) for x in rng.integers(-99, 99, m + r - 1)]
    w = [Fraction(int(x), 8) for x in rng.integers(-99, 99, r)]

    def times(matrix, vector):
        return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]

    products = [a * b for a, b in zip(times(found.taps, w), times(found.inputs, d), strict=True)]
    assert times(found.outputs, products) == [sum(d[i + k] * w[k] for k in range(r)) for i in range(m)]


def conv(g: Graph, x: Node, w: Node, padding: int, flipped: bool = False) -> Node:
    (n, c, h, wide) = x.shape
    dims = ("c", "o", "u", "v") if flipped else ("o", "c", "u", "v")
    o = w.shape[dims.index("o")]
    if flipped:
        w = g.slice(w, (0, 0, 2, 2), w.shape, (1, 1, -1, -1))
    size = (h + 2 * padding - 2, wide + 2 * padding - 2)
    sizes = {"n": n, "c": c, "o": o, "x": size[0], "y": size[1], "u": 3, "v": 3}
    spec = ContractSpec(("n", "c", Window("x", "u", padding=padding), Window("y", "v", padding=padding)), dims, ("n", "o", "x", "y"),
                        tuple(sorted(sizes.items())))
    return g.contract(x, w, spec)


def exact(x: np.ndarray, w: np.ndarray, padding: int, flipped: bool = False) -> np.ndarray:
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    w = w.astype(np.float64)
    w = w[:, :, ::-1, ::-1].swapaxes(0, 1) if flipped else w
    h, wide = x.shape[2] - 2, x.shape[3] - 2
    return sum(np.einsum("nchw,oc->nohw", x[:, :, i:i + h, j:j + wide], w[:, :, i, j]) for i in range(3) for j in range(3))


def run(program: Program, g: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    outs = [np.full(r.shape, np.nan, np.float32) for r in g.results]
    program.run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outs])
    return outs


@pytest.fixture
def planned(monkeypatch):
    """What is planned with Winograd's algorithm."""
    seen: list = []
    inner = winograd._planned
    monkeypatch.setattr(winograd, "_planned", lambda *a: seen.append(a[1]) or inner(*a))
    _planned.cache_clear()
    return seen


@contextlib.contextmanager
def always():
    """Whatever has the form takes Winograd's algorithm."""
    before = winograd._pays, winograd_grad._pays
    winograd._pays = winograd_grad._pays = lambda *_: True
    _planned.cache_clear()
    try:
        yield
    finally:
        winograd._pays, winograd_grad._pays = before
        _planned.cache_clear()


@SETTINGS
@given(st.integers(1, 3), st.sampled_from([16, 32, 48, 64, 80, 144]), st.integers(1, 13), st.integers(1, 9), st.integers(1, 70),
       st.integers(0, 2), st.booleans(), st.booleans(), st.sampled_from(["host", "avx2", "sse"]), st.integers(0, 2**16))
def test_any_shape(n, channels, high, wide, filters, padding, flipped, as_result, cpu, seed):
    if high + 2 * padding < 3 or wide + 2 * padding < 3:
        return
    g = Graph()
    x = g.leaf((n, channels, high, wide), F32)
    w = g.leaf((channels, filters, 3, 3) if flipped else (filters, channels, 3, 3), F32)
    b, r = g.leaf((filters, 1, 1), F32), g.leaf((n, filters, high + 2 * padding - 2, wide + 2 * padding - 2), F32)
    y = conv(g, g.map(lambda e, t: t * 2.0, x), w, padding, flipped)
    z = g.map(lambda e, a, t, s: e.max(a + t, 0.0) + s, y, b, r)
    g.results = [z, y] if as_result else [g.map(lambda e, t: -t, g.reduce("add", z, (0,)))]
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in g.leaves]
    smaller = target.using(cpu) if cpu != "host" and target.machine() == "x86_64" else contextlib.nullcontext()
    with always(), smaller:
        got = run(build(g, {}), g, arrays)
    plain = exact(2 * arrays[0], arrays[1], padding, flipped)
    whole = np.maximum(plain + arrays[2].astype(np.float64), 0) + arrays[3]
    bound = 2 * MOST * np.sqrt(9 * channels)
    if as_result:
        np.testing.assert_allclose(got[0], whole, rtol=1e-6, atol=bound)
        np.testing.assert_allclose(got[1], plain, rtol=1e-6, atol=bound)
    else:
        np.testing.assert_allclose(got[0], -whole.sum(0), rtol=1e-6, atol=bound * n)


@SETTINGS
@given(st.integers(1, 3), st.sampled_from([16, 32, 48, 64, 80, 144]), st.integers(1, 13), st.integers(1, 9),
       st.sampled_from([16, 32, 64, 112]), st.integers(0, 2), st.booleans(), st.sampled_from(["host", "avx2", "sse"]),
       st.integers(0, 2**16))
def test_any_shape_of_a_filter_gradient(n, channels, high, wide, filters, padding, as_result, cpu, seed):
    if high + 2 * padding < 3 or wide + 2 * padding < 3:
        return
    size = (high + 2 * padding - 2, wide + 2 * padding - 2)
    g = Graph()
    x, dy, w = g.leaf((n, channels, high, wide), F32), g.leaf((n, filters, *size), F32), g.leaf((filters, channels, 3, 3), F32)
    sizes = {"n": n, "c": channels, "o": filters, "x": size[0], "y": size[1], "u": 3, "v": 3}
    spec = ContractSpec(("n", "c", Window("x", "u", padding=padding), Window("y", "v", padding=padding)), ("n", "o", "x", "y"),
                        ("o", "c", "u", "v"), tuple(sorted(sizes.items())))
    dw = g.contract(g.map(lambda e, t: t * 2.0, x), g.map(lambda e, t: t + 0.0, dy), spec)
    stepped = g.map(lambda e, a, b: a - 0.5 * b, w, dw)
    g.results = [stepped] if as_result else [g.reduce("add", g.map(lambda e, t: t * 3.0, dw), (0,)), stepped]
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in g.leaves]
    smaller = target.using(cpu) if cpu != "host" and target.machine() == "x86_64" else contextlib.nullcontext()
    with always(), smaller:
        got = run(build(g, {}), g, arrays)
    wide_x = np.pad(2 * arrays[0].astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    want = np.zeros((filters, channels, 3, 3))
    for i in range(3):
        for j in range(3):
            want[:, :, i, j] = np.einsum("nchw,nohw->oc", wide_x[:, :, i:i + size[0], j:j + size[1]], arrays[1].astype(np.float64))
    bound = 2 * MOST * np.sqrt(n * size[0] * size[1]) + 1e-6
    np.testing.assert_allclose(got[-1], arrays[2] - 0.5 * want, rtol=1e-6, atol=bound)
    if not as_result:
        np.testing.assert_allclose(got[0], (3 * want).sum(0), rtol=1e-6, atol=3 * bound * filters)


@pytest.mark.skipif(target.host().vector_registers < 32, reason="wider panels need 32 registers")
@SETTINGS
@given(st.integers(1, 3), st.sampled_from([16, 48, 64, 80, 144, 192]), st.integers(3, 30), st.integers(3, 9),
       st.sampled_from([16, 48, 64, 96, 112, 144, 256]), st.booleans(), st.integers(0, 2**16))
def test_wider_panels_make_the_same_bits(n, channels, high, wide, filters, flipped, seed):
    sizes = {"n": n, "c": channels, "o": filters, "x": high, "y": wide, "u": 3, "v": 3}
    spec = ContractSpec(("n", "c", Window("x", "u", padding=1), Window("y", "v", padding=1)), ("n", "o", "x", "y"), ("o", "c", "u", "v"),
                        tuple(sorted(sizes.items())))
    g = Graph()
    x, dy = g.leaf((n, channels, high, wide), F32), g.leaf((n, filters, high, wide), F32)
    w = g.leaf((channels, filters, 3, 3) if flipped else (filters, channels, 3, 3), F32)
    twice = g.map(lambda e, t: t * 2.0, x)
    g.results = [g.map(lambda e, t: e.max(t, 0.0), conv(g, twice, w, 1, flipped)), g.contract(twice, g.map(lambda e, t: t + 0.0, dy), spec)]
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in g.leaves]
    results = []
    narrow = mock.patch.object(winograd, "panel_vectors", lambda *_: 2), mock.patch.object(winograd_grad, "panel_vectors", lambda *_: 2)
    for patches in ((), narrow):
        with contextlib.ExitStack() as stack, always():
            for patch in patches:
                stack.enter_context(patch)
            results.append(run(build(g, {}), g, arrays))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@SETTINGS
@given(st.integers(1, 3), st.integers(1, 11), st.integers(1, 11), st.integers(0, 1), st.integers(1, 3), st.data())
def test_listed_places_are_those_of_the_tiles(images, high, wide, border, times, data):
    down, across = -(-high // TILE), -(-wide // TILE)
    first = data.draw(st.integers(0, images * down * across - 1))
    count = data.draw(st.integers(0, images * down * across - first))
    f = Function("void @listed(ptr %places, ptr %base, ptr %shape, ptr %counts)")
    n, y, x, tiles_y, tiles_x, rows, columns, start, number, beside = (f.load("%shape", i) for i in range(10))
    end = f.slot("ptr")
    f.set(end, "%places", "ptr")
    list_tiles(f, end, "%base", (n, y, x), (tiles_y, tiles_x), (rows, columns), start, number, border, beside)
    with f.loop(0, "5") as k:
        begin, places = share(f, "%places", f.get(end, "ptr"), k, 5)
        f.do(f"store i64 {places}, ptr {f.at('%counts', k)}")
        f.do(f"store ptr {begin}, ptr {f.at('%counts', f.add(k, 5))}")
    address = jit.kernel(f"test listed {border}", lambda: f.finish() + f.module.text(), "listed")
    steps = (1 << 20, 1 << 12, LISTED * times)
    shape = np.array([*steps, down, across, high, wide, first, count, times], np.int64)
    places, counts = np.zeros(TILE * TILE * times * count + 1, np.int64), np.zeros(10, np.int64)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(address)
    call(places.ctypes.data, 0, shape.ctypes.data, counts.ctypes.data)
    want = []
    for tile in range(first, first + count):
        (image, row), column = divmod(tile // across, down), tile % across
        ys = [min(TILE * row + i, high - 1) + border for i in range(TILE)]
        xs = [min(TILE * column + j, wide - 1) + border for j in range(TILE)]
        want += [image * steps[0] + i * steps[1] + j * steps[2] + LISTED * t for t in range(times) for i in ys for j in xs]
    assert places.tolist() == [*want, 0]
    begins = [(at - places.ctypes.data) // 8 for at in counts[5:].tolist()]
    assert [*begins, len(want)] == [len(want) * k // 5 for k in range(6)]
    assert counts[:5].tolist() == np.diff([*begins, len(want)]).tolist()


def test_filters_that_one_block_uses_are_not_written_to_memory():
    side, channels, filters, wide = 16, 64, 128, 18
    images = [(side, wide * channels, side * filters), (side, channels, filters)]
    taps = [(3, wide * channels, 3 * channels * filters), (3, channels, channels * filters), (channels, 1, filters)]
    cpu, passes, kinds = target.current(), {}, {}
    tiles = winograd.panel_vectors(filters, cpu.vector_bytes // 4, cpu) * cpu.vector_bytes // 4  # as many as a panel has filters
    for n in (tiles // 16, tiles // 16 + 1):
        rows = [(n, wide * wide * channels, side * side * filters), *images]
        c = Contraction((), tuple(Dim(e, a, 0, out) for e, a, out in rows), (Dim(filters, 0, 1, 1),),
                        tuple(Dim(e, a, b, 0) for e, a, b in taps), F32, F32, F32, F32)
        plan = winograd.plan(c)
        assert plan is not None
        passes[n] = [step.kernel[0].split()[1] for step in plan.steps]
        kept = winograd.plan(replace(c, constant=True))
        assert kept is not None and [step.packs for step in kept.steps][:2] == [True, False]  # unless they are kept
        kinds[n] = [step.kernel[0].split()[1] for step in kept.steps]
    assert list(passes.values()) == [["inputs", "tiles"], ["filters", "tiles"]]
    assert list(kinds.values()) == [["filters", "inputs", "tiles"], ["filters", "tiles"]]


def layer(n: int, channels: int, side: int, filters: int) -> tuple[Graph, list[np.ndarray]]:
    g = Graph()
    x, w = g.leaf((n, channels, side, side), F32), g.leaf((filters, channels, 3, 3), F32)
    g.results = [g.map(lambda e, t: e.max(t, 0.0), conv(g, g.map(lambda e, t: t + 1.0, x), w, 1))]
    rng = np.random.default_rng(1)
    return g, [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in g.leaves]


def test_errors_are_about_those_of_a_plain_sum():
    for channels in (64, 256):
        g, arrays = layer(2, channels, 16, 64)
        want = np.maximum(exact(arrays[0] + np.float32(1), arrays[1], 1), 0)
        errors = []
        for on in (0, 1):
            with flags.using(winograd=on, tiles=0):  # a sum on the tile unit has smaller errors
                errors.append(np.sqrt(np.mean((run(build(g, {}), g, arrays)[0] - want) ** 2)))
        assert 0 < errors[1] < 3 * errors[0]
        assert errors[1] < RMS * np.sqrt(2 * 9 * channels)


def test_it_is_chosen_where_it_pays_and_only_there(planned):
    graphs = {True: layer(8, 64, 16, 64)[0], False: layer(8, 8, 16, 64)[0]}  # eight channels do not fill a vector of AVX-512
    lanes = target.current().vector_bytes // 4
    for chosen, g in graphs.items():
        planned.clear()
        build(g, {})
        assert bool(planned) == (chosen or 8 % lanes == 0)
    planned.clear()
    _planned.cache_clear()
    with flags.using(winograd=0):
        build(graphs[True], {})
    assert not planned


def test_another_batch_size_compiles_no_kernel():
    def both(n: int) -> None:
        g, _ = layer(n, 64, 12, 96)
        x, dy = g.leaf((n, 64, 12, 12), F32), g.leaf((n, 96, 12, 12), F32)
        sizes = tuple(sorted({"n": n, "c": 64, "o": 96, "x": 12, "y": 12, "u": 3, "v": 3}.items()))
        spec = ContractSpec(("n", "c", Window("x", "u", padding=1), Window("y", "v", padding=1)), ("n", "o", "x", "y"),
                            ("o", "c", "u", "v"), sizes)
        dw = g.contract(g.map(lambda e, t: t * 2.0, x), g.map(lambda e, t: t + 0.0, dy), spec)
        g.results.append(g.map(lambda e, t: -t, dw))
        build(g, {})

    with always():
        both(16)
        both(2)  # with few positions the border is filled in pieces
        for n in (11, 3):  # some blocks of tiles, one
            before = jit.counters.compiled + jit.counters.loaded
            both(n)
            assert jit.counters.compiled + jit.counters.loaded == before, n


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_the_number_of_threads_changes_no_bit(threads):
    g, arrays = layer(5, 64, 14, 96)
    program = build(g, {})
    before = pool.get_num_threads()
    try:
        pool.set_num_threads(2)
        want = run(program, g, arrays)[0]
        pool.set_num_threads(threads)
        np.testing.assert_array_equal(run(program, g, arrays)[0], want)
    finally:
        pool.set_num_threads(before)
