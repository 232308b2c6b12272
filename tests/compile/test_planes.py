"""Complex values are computed as two real ones, Fourier transforms as products; only what has no such form is a host function."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight as torch
from rushlight.compile import dtypes as dt
from rushlight.compile.build import build
from rushlight.compile.complexes import Complex, Transform
from rushlight.compile.graph import Graph, Node, View
from rushlight.compile.passes.planes import planes
from rushlight.compile.reference.interpret import interpret
from rushlight.tools.profiler import profile

TOLERANCE = {"complex64": 3e-6, "complex128": 1e-13}


def numbers(shape: tuple[int, ...], dtype: dt.DType, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype.numpy)


def check(g: Graph, hosts: int = 0, tolerance: float | None = None) -> None:
    """The same in parts, interpreted and compiled, with that many host functions left."""
    g.verify()
    parts = planes(g)
    parts.verify()
    assert not any(n.dtype.kind == "c" for n in parts.nodes)
    assert sum(n.kind == "host" for n in parts.nodes) == hosts, parts
    arrays = [numbers(n.shape, n.dtype, k) for k, n in enumerate(g.leaves)]
    want = interpret(g, arrays)
    as_pairs = [a.view(a.real.dtype).reshape(*a.shape, 2) if a.dtype.kind == "c" else a for a in arrays]
    interpreted = interpret(parts, as_pairs)
    outs = [np.zeros(r.shape, r.dtype.numpy) for r in g.results]
    build(g, {}).run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outs])
    for node, a, b, c in zip(g.results, want, interpreted, outs, strict=True):
        limit = tolerance or TOLERANCE[node.dtype.to_complex().name]
        scale = max(1.0, float(np.abs(a).max(initial=0)))
        np.testing.assert_allclose(b.reshape(-1).view(a.dtype).reshape(a.shape), a, rtol=limit, atol=limit * scale)
        np.testing.assert_allclose(c, a, rtol=limit, atol=limit * scale)


def hosts_of(run: Callable[[], Any]) -> list[str]:
    """Names of the host functions of a repeated run."""
    for _ in range(3):
        run()
    with profile() as p:
        run()
    return [row.kernel for row in p.rows if row.kernel.startswith("host")]


FORMULAS: dict[str, Callable[..., Any]] = {
    "arithmetic": lambda e, x, y: (x * y - x) / y + 2j * x - (-y), "reciprocal": lambda e, x, y: 1 / x + e.reciprocal(y),
    "exp": lambda e, x, y: e.exp(x * 0.5) * y, "choice": lambda e, x, y: e.where(e.eq(x, y) | e.ne(x, 1), x, y),
    "real": lambda e, x, y: e.cast(x, dt.float32), "truth": lambda e, x, y: e.cast(e.eq(x, y), dt.float32),
    "wider": lambda e, x, y: e.cast(e.cast(x, dt.complex128) * 2, dt.complex64),
    "from real": lambda e, x, y: e.cast(e.cast(x, dt.float32), dt.complex64) + y,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name: str) -> None:
    g = Graph()
    x, y = g.leaf((3, 35), dt.complex64), g.leaf((35,), dt.complex64)
    g.results = [g.map(FORMULAS[name], x, y)]
    check(g)


def test_a_formula_without_parts_is_a_host_function() -> None:
    g = Graph()
    x = g.leaf((3, 35), dt.complex64)
    root = g.map(lambda e, x: e.sqrt(x), g.map(lambda e, x: x + 1, x))
    g.results = [root, g.map(lambda e, x: x * 2, root)]
    check(g, hosts=1)


def test_division_by_large_and_small_numbers() -> None:
    g = Graph()
    x, y = g.leaf((4,), dt.complex64), g.leaf((4,), dt.complex64)
    g.results = [g.map(lambda e, x, y: x / y, x, y)]
    a = np.array([1e30 + 1e30j, 1e-30 + 1e-30j, 1, 1j], np.complex64)
    b = np.array([1e30 - 1e30j, 1e-30 - 2e-30j, 3j, 1e20], np.complex64)
    out = np.zeros(4, np.complex64)
    build(g, {}).run([a.ctypes.data, b.ctypes.data], [out.ctypes.data])
    np.testing.assert_allclose(out, (a.astype(np.complex128) / b).astype(np.complex64), rtol=1e-6)


def turned(g: Graph, x: Node) -> Node:
    return g.view(x, View((6, 4), (1, 0), ((0, 1), (1, 0))))


MOVES: dict[str, Callable[[Graph, Node], Node]] = {
    "view": turned, "reshape": lambda g, x: g.reshape(x, (3, 10)), "pad": lambda g, x: g.pad(x, (1, 0), (0, 2), 1 - 2j),
    "concat": lambda g, x: g.concat([x, g.map(lambda e, a: a * 1j, x)], 1), "sum": lambda g, x: g.reduce("add", x, (0,)),
    "running": lambda g, x: g.scan("add", x, 1),
    "update": lambda g, x: g.update(x, g.slice(x, (0, 1), (2, 3)), View((2, 3), (3, 0), ((1, 0), (0, 1)))),
    "gather": lambda g, x: g.gather(x, g.pointwise(g_index(), shape=(3, 6)), 0),
    "scatter": lambda g, x: g.scatter(x, g.pointwise(g_index(), shape=(3, 6)), x, 0, "add"),
    "product": lambda g, x: g.einsum("mk,nk->mn", x, x), "conj": lambda g, x: call(g, "conj", x), "sgn": lambda g, x: call(g, "sgn", x),
    "abs": lambda g, x: call(g, "abs", x), "pairs": lambda g, x: call(g, "view_as_real", x),
    "imaginary": lambda g, x: g.view(call(g, "view_as_real", x), View((5, 6), (0, 0, 1), ((1, 0), (0, 1), (0, 0)))),
    "joined": lambda g, x: g.native(Complex("complex", (5, 6), dt.complex64), call(g, "abs", x), call(g, "abs", x))[0],
    "with a real one": lambda g, x: g.einsum("mk,nk->mn", x, g.cast(call(g, "abs", x), dt.complex64)),
}  # fmt: skip


def g_index() -> Any:
    from rushlight.compile.expr import index
    return (index(0) * 2 + index(1)) & 3


def call(g: Graph, what: str, x: Node) -> Node:
    shape, dtype = {"abs": (x.shape, dt.float32), "view_as_real": ((*x.shape, 2), dt.float32)}.get(what, (x.shape, x.dtype))
    return g.native(Complex(what, shape, dtype), x)[0]


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("leaf", [True, False])
def test_other_primitives(name: str, leaf: bool) -> None:
    g = Graph()
    x = g.leaf((5, 6), dt.complex64)
    g.results = [MOVES[name](g, x if leaf else g.map(lambda e, a: a * a, x))]
    check(g)


def test_a_product_of_elements_is_a_host_function() -> None:
    g = Graph()
    g.results = [g.reduce("mul", g.leaf((5, 6), dt.complex64), (1,))]
    check(g, hosts=1)


LENGTHS = [1, 2, 3, 7, 16, 63, 64, 65, 97, 100, 127, 128, 243, 400, 512, 1000, 4096, 97 * 97]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["c2c", "r2c", "c2r"]), st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=2), st.booleans(),
       st.sampled_from(["backward", "ortho", "forward"]), st.booleans(), st.booleans(), st.integers(0, 5))
def test_transforms(kind: str, lengths: list[int], forward: bool, norm: str, double: bool, swapped: bool, rows: int) -> None:
    if math.prod(lengths) > 1 << 14:
        lengths = lengths[:1]
    dims = tuple(range(1, len(lengths) + 1)) if not swapped else tuple(range(len(lengths)))[::-1]
    lines = [rows if d not in dims else lengths[dims.index(d)] for d in range(len(lengths) + 1)]
    halved = [n // 2 + 1 if d == dims[-1] else n for d, n in enumerate(lines)]
    complex_, real = (dt.complex128, dt.float64) if double else (dt.complex64, dt.float32)
    g = Graph()
    x = g.leaf(tuple(halved if kind == "c2r" else lines), real if kind == "r2c" else complex_)
    shape = tuple(halved if kind == "r2c" else lines)
    dtype = real if kind == "c2r" else complex_
    transform = Transform(kind, dims, norm, forward if kind == "c2c" else kind == "r2c", shape, dtype, tuple(lengths))
    g.results = [g.native(transform, x)[0]]
    check(g, hosts=int(not rows), tolerance=1e-12 if double else 2e-5)


def test_a_length_with_a_large_prime_factor_is_left_to_the_library() -> None:
    g = Graph()
    g.results = [g.native(Transform("c2c", (0,), "backward", True, (131,), dt.complex64, (131,)), g.leaf((131,), dt.complex64))[0]]
    check(g, hosts=1, tolerance=2e-5)


def test_training_in_the_frequency_domain_calls_no_host_function() -> None:
    """Forward and backward of spectra, filters in them, and what a rotary embedding does with complex numbers."""
    x = torch.tensor(numbers((3, 2, 200), dt.float32))
    w = torch.tensor(numbers((2, 101, 2), dt.float32), requires_grad=True)
    turn = torch.polar(torch.ones(100), torch.arange(100.0))

    def step() -> None:
        w.grad = None
        y = torch.fft.irfft(torch.fft.rfft(x) * torch.view_as_complex(w), n=200)
        z = torch.view_as_real(torch.view_as_complex(y.reshape(3, 2, 100, 2)) * turn).flatten(2)
        short = torch.stft(z.flatten(0, 1), 64, 16, window=torch.hann_window(64), return_complex=True).abs()
        loss = torch.fft.rfft2(z).abs().sum() + (short + 1e-3).log().mean()
        loss.backward()
        assert w.grad is not None and loss.item() > 0

    assert hosts_of(step) == []
