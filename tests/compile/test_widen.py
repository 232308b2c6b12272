"""A graph widened to many samples gives what it gives for each of them."""
from __future__ import annotations

import numpy as np
import pytest
from random_graphs import seeded_graph

from rushlight.compile import dtypes as dt
from rushlight.compile.complexes import Complex, Transform
from rushlight.compile.graph import Graph, HostCall
from rushlight.compile.reference.interpret import interpret
from rushlight.compile.widen import can_widen, widen

COUNT = 3


def check(graph: Graph, arrays: list[np.ndarray], many: list[bool]) -> None:
    assert can_widen(graph, many)
    wide = Graph()
    leaves = [wide.leaf((COUNT, *n.shape) if m else n.shape, n.dtype) for n, m in zip(graph.leaves, many)]
    wide.results = widen(wide, graph, leaves, many, COUNT)
    wide.verify()
    rows = [np.stack([np.roll(a, k) for k in range(COUNT)]) if m else a for a, m in zip(arrays, many)]
    got = interpret(wide, rows)
    for k in range(COUNT):
        want = interpret(graph, [r[k] if m else r for r, m in zip(rows, many)])
        for r, (a, b) in enumerate(zip(got, want, strict=True)):
            wide_type = np.complex128 if b.dtype.kind == "c" else np.float64 if b.dtype.kind not in "biu" else b.dtype
            np.testing.assert_allclose(a[k].astype(wide_type), b.astype(wide_type), rtol=1e-2 if b.dtype.itemsize == 2 else 1e-4,
                                       atol=1e-4, err_msg=f"result {r} of sample {k} of\n{graph}")


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs(seed: int) -> None:
    graph, arrays = seeded_graph(seed, 8)
    many = [n.dtype.kind in "f" and (seed + k) % 3 > 0 for k, n in enumerate(graph.leaves)]
    if can_widen(graph, many):
        check(graph, arrays, many)
    else:
        assert any(n.kind in ("host", "native") for n in graph.nodes)


def test_complex_numbers() -> None:
    g = Graph()
    x, y = g.leaf((4, 6), dt.complex64), g.leaf((6,), dt.complex64)
    spectrum = g.native(Transform("c2c", (0, 1), "backward", True, (4, 6), dt.complex64, (4, 6)), g.map(lambda e, a, b: a * b, x, y))[0]
    g.results = [g.native(Complex("abs", (4, 6), dt.float32), spectrum)[0], spectrum]
    rng = np.random.default_rng(0)
    arrays = [(rng.standard_normal(n.shape) + 1j * rng.standard_normal(n.shape)).astype(np.complex64) for n in g.leaves]
    for many in ([True, False], [False, True], [True, True]):
        check(g, arrays, many)


def test_a_library_is_not_called_for_many() -> None:
    g = Graph()
    x, y = g.leaf((4,), dt.float32), g.leaf((4,), dt.float32)
    g.results = [g.host(HostCall(np.sort, (((4,), dt.float32),), "sort"), x)[0], g.map(lambda e, a: a + 1, y)]
    assert not can_widen(g, [True, False])
    check(g, [np.arange(4, dtype=np.float32), np.ones(4, np.float32)], [False, True])
