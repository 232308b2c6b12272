"""Depthwise convolutions: all passes against float64, ragged channels, epilogues, smaller processors, threads."""
from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushlight.compile import dtypes as dt
from rushlight.compile.build import _planned, build
from rushlight.compile.cpu import depthwise, pool, target
from rushlight.compile.graph import ContractSpec, Graph, Node, View, Window
from rushlight.compile.program import Program, Segment

F32 = dt.float32
SETTINGS = settings(max_examples=40, deadline=None, database=None)


def windows(stride: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int]) -> tuple[Window, Window]:
    first, second = (Window(o, k, s, d, p) for o, k, s, d, p in zip("xy", "uv", stride, dilation, padding))
    return first, second


def run(program: Program, g: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    outs = [np.full(r.shape, np.nan, np.float32) for r in g.results]
    program.run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outs])
    return outs


def taps(x: np.ndarray, kernel, stride, dilation, padding, out) -> np.ndarray:
    """(kernel positions, n, c, *out): what each tap sees."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding[0], padding[0] + 9), (padding[1], padding[1] + 9)))
    return np.stack([x[:, :, u * dilation[0]:, v * dilation[1]:][:, :, ::stride[0], ::stride[1]][:, :, :out[0], :out[1]]
                     for u, v in itertools.product(*map(range, kernel))])


@pytest.fixture(autouse=True)
def afresh():
    _planned.cache_clear()
    yield
    _planned.cache_clear()


@SETTINGS
@given(st.integers(1, 3), st.sampled_from([8, 16, 20, 33, 64, 70]), st.tuples(st.integers(5, 14), st.integers(5, 20)),
       st.tuples(st.integers(1, 7), st.integers(1, 7)), st.tuples(st.integers(1, 3), st.integers(1, 3)),
       st.tuples(st.integers(1, 2), st.integers(1, 2)), st.tuples(st.integers(0, 3), st.integers(0, 3)), st.booleans(),
       st.sampled_from(["host", "avx2", "sse"]), st.integers(0, 2**16))
def test_all_passes(n, channels, size, kernel, stride, dilation, padding, as_result, cpu, seed):
    out = tuple((m + 2 * p - d * (k - 1) - 1) // s + 1 for m, p, d, k, s in zip(size, padding, dilation, kernel, stride))
    if min(out) < 1:
        return
    _planned.cache_clear()
    sizes = {"n": n, "g": channels, "x": out[0], "y": out[1], "u": kernel[0], "v": kernel[1]}
    image, window = ("n", "g", "x", "y"), ("n", "g", *windows(stride, dilation, padding))
    known = tuple(sorted(sizes.items()))
    g = Graph()
    x, w = g.leaf((n, channels, *size), F32), g.leaf((channels, *kernel), F32)
    b, dy = g.leaf((channels, 1, 1), F32), g.leaf((n, channels, *out), F32)
    doubled = g.map(lambda e, t: t * 2.0, x)
    y = g.map(lambda e, t, b: e.max(t + b, 0.0), g.contract(doubled, w, ContractSpec(window, ("g", "u", "v"), image, known)), b)
    dw = g.contract(doubled, g.map(lambda e, t: t + 0.0, dy), ContractSpec(window, image, ("g", "u", "v"), known))
    stepped = g.map(lambda e, a, b: a - 0.5 * b, w, dw)
    g.results = [y, stepped] if as_result else [g.map(lambda e, t: -t, g.reduce("add", y, (0,))), stepped]
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in g.leaves]
    with target.using(cpu) if cpu != "host" and target.machine() == "x86_64" else contextlib.nullcontext():
        got = run(build(g, {}), g, arrays)
    seen = taps(2 * arrays[0], kernel, stride, dilation, padding, out)
    flat = arrays[1].astype(np.float64).reshape(channels, -1)
    want = np.maximum(np.einsum("knchw,ck->nchw", seen, flat) + arrays[2], 0)
    gradient = np.einsum("knchw,nchw->ck", seen, arrays[3].astype(np.float64)).reshape(channels, *kernel)
    np.testing.assert_allclose(got[0], want if as_result else -want.sum(0), rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(got[1], arrays[1] - 0.5 * gradient, rtol=1e-5, atol=1e-6 * n * out[0] * out[1] + 1e-5)


@SETTINGS
@given(st.integers(1, 2), st.sampled_from([2, 4, 8]), st.sampled_from([3, 4, 5, 9]), st.tuples(st.integers(5, 9), st.integers(5, 12)),
       st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 2), st.integers(1, 3)), st.booleans(),
       st.sampled_from(["host", "avx2"]), st.integers(0, 2**16))
def test_small_groups(n, each, groups, size, kernel, stride, as_result, cpu, seed):
    out = tuple((m + 2 - k) // s + 1 for m, k, s in zip(size, kernel, stride))
    _planned.cache_clear()
    channels = groups * each
    known = tuple(sorted({"n": n, "g": groups, "c": each, "o": each, "x": out[0], "y": out[1], "u": kernel[0], "v": kernel[1]}.items()))
    window, image = ("n", "g", "c", *windows(stride, (1, 1), (0, 0))), ("n", "g", "o", "x", "y")
    g = Graph()
    x, w = g.leaf((n, channels, *size), F32), g.leaf((groups, each, each, *kernel), F32)
    b, dy = g.leaf((channels, 1, 1), F32), g.leaf((n, channels, *out), F32)

    def apart(t: Node) -> Node:  # channels as groups and members
        matrix = ((1, 0, 0, 0, 0), (0, each, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1))
        return g.view(t, View((n, groups, each, *t.shape[2:]), (0, 0, 0, 0), matrix))

    padded = apart(g.pad(g.map(lambda e, t: t * 2.0, x), (0, 0, 1, 1), (0, 0, 1, 1)))
    y = g.reshape(g.contract(padded, w, ContractSpec(window, ("g", "o", "c", "u", "v"), image, known)), (n, channels, *out))
    y = g.map(lambda e, t, b: e.max(t + b, 0.0), y, b)
    dw = g.contract(padded, apart(g.map(lambda e, t: t + 0.0, dy)), ContractSpec(window, image, ("g", "o", "c", "u", "v"), known))
    g.results = [y if as_result else g.map(lambda e, t: -t, g.reduce("add", y, (0,))), g.map(lambda e, a, b: a - 0.5 * b, w, dw)]
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in g.leaves]
    with target.using(cpu) if cpu != "host" and target.machine() == "x86_64" else contextlib.nullcontext():
        got = run(build(g, {}), g, arrays)
    seen = taps(2 * arrays[0], kernel, stride, (1, 1), (1, 1), out).reshape(-1, n, groups, each, *out)
    flat = arrays[1].astype(np.float64).reshape(groups, each, each, -1)
    want = np.maximum(np.einsum("kngcxy,gock->ngoxy", seen, flat).reshape(n, channels, *out) + arrays[2], 0)
    gradient = np.einsum("kngcxy,ngoxy->gock", seen, arrays[3].astype(np.float64).reshape(n, groups, each, *out))
    np.testing.assert_allclose(got[0], want if as_result else -want.sum(0), rtol=1e-5, atol=5e-5)
    np.testing.assert_allclose(got[1], arrays[1] - 0.5 * gradient.reshape(arrays[1].shape), rtol=1e-5, atol=1e-4)


def layer(channels: int) -> tuple[Graph, list[np.ndarray]]:
    g = Graph()
    x, w, dy = (g.leaf(s, F32) for s in ((8, channels, 24, 24), (channels, 5, 5), (8, channels, 24, 24)))
    sizes = tuple(sorted({"n": 8, "g": channels, "x": 24, "y": 24, "u": 5, "v": 5}.items()))
    image, window = ("n", "g", "x", "y"), ("n", "g", *windows((1, 1), (1, 1), (2, 2)))
    doubled: Node = g.map(lambda e, t: t * 2.0, x)
    g.results = [g.contract(doubled, w, ContractSpec(window, ("g", "u", "v"), image, sizes)),
                 g.contract(doubled, g.map(lambda e, t: t * 3.0, dy), ContractSpec(window, image, ("g", "u", "v"), sizes))]
    rng = np.random.default_rng(1)
    return g, [rng.standard_normal(leaf.shape).astype(np.float32) for leaf in g.leaves]


def test_both_passes_have_kernels_of_their_own_and_copy_nothing(monkeypatch):
    made = []
    for name in ("_forward", "_gradient"):
        inner = getattr(depthwise, name)
        monkeypatch.setattr(depthwise, name, lambda *a, name=name, inner=inner: made.append(name) or inner(*a))
    g, _ = layer(48)
    program = build(g, {})
    assert sorted(made) == ["_forward", "_gradient"]
    names = [i.name.split()[0] for s in program.steps if isinstance(s, Segment) for i in s.instructions]
    # Doubling x and its border; tripling dy; turning filters, results; sums, their end. The results lie row-major.
    assert names.count("contract") == 4 and names.count("pointwise") == 2 and names.count("part") == 2


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_no_bit(threads):
    g, arrays = layer(40)
    program = build(g, {})
    before = pool.get_num_threads()
    try:
        pool.set_num_threads(2)
        want = run(program, g, arrays)
        pool.set_num_threads(threads)
        for a, b in zip(run(program, g, arrays), want, strict=True):
            np.testing.assert_array_equal(a, b)
    finally:
        pool.set_num_threads(before)
