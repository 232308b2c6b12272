"""Sums of scatters into zeros are scatters one after the other into one place."""
from __future__ import annotations

import numpy as np
import pytest
from random_graphs import seeded_graph

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.compile import dtypes as dt
from rushlight.compile.graph import Graph, Node
from rushlight.compile.passes.accumulate import accumulate
from rushlight.compile.reference.interpret import interpret
from rushlight.tools.profiler import profile


def scattered(g: Graph, dtype: dt.DType = dt.float32, combine: str = "add", base: float = 0.0) -> Node:
    index, source = g.leaf((9, 4), dt.int64), g.leaf((9, 4), dtype)
    return g.scatter(g.const(base, dtype, (6, 4)), index, source, 0, combine)


def arrays(g: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 6, n.shape) if n.dtype is dt.int64 else rng.standard_normal(n.shape).astype(n.dtype.numpy) for n in g.leaves]


def adds(g: Graph) -> int:
    return sum(n.kind == "pointwise" for n in g.nodes)


def check(g: Graph, left: int) -> None:
    made = accumulate(g)
    made.verify()
    for a, b in zip(interpret(g, arrays(g)), interpret(made, arrays(g)), strict=True):
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-5, atol=1e-5)
    assert adds(made) == left


def plus(g: Graph, a: Node, b: Node) -> Node:
    return g.map(lambda e, x, y: x + y, a, b)


@pytest.mark.parametrize("pairs", [True, False])
def test_a_sum_of_several(pairs: bool) -> None:
    g = Graph()
    a, b, c, d = (scattered(g) for _ in range(4))
    g.results = [plus(g, plus(g, a, b), plus(g, c, d)) if pairs else plus(g, plus(g, plus(g, a, b), c), d)]
    check(g, 0)


@pytest.mark.parametrize("first", [True, False])
def test_a_scatter_and_another_value(first: bool) -> None:
    g = Graph()
    x, y = g.leaf((4, 6), dt.float32), g.reshape(scattered(g), (4, 6))
    g.results = [plus(g, x, y) if first else plus(g, y, x), x]
    check(g, 0)


@pytest.mark.parametrize("changes", [{"dtype": dt.bfloat16}, {"combine": "max"}, {"base": 1.0}])
def test_other_scatters_stay(changes: dict) -> None:
    g = Graph()
    y = scattered(g, **changes)
    g.results = [plus(g, g.leaf((6, 4), y.dtype), y)]
    check(g, 1)


def test_what_is_wanted_by_itself_stays() -> None:
    g = Graph()
    x, y = g.leaf((6, 4), dt.float32), scattered(g)
    g.results = [plus(g, x, y), g.map(lambda e, a: a * 2, y)]
    check(g, 2)
    g = Graph()
    y = scattered(g)
    g.results = [plus(g, y, y)]
    check(g, 1)
    g = Graph()
    x, y = g.leaf((6, 4), dt.float32), scattered(g)
    g.results = [plus(g, x, y), y]
    check(g, 1)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    g, values = seeded_graph(seed, 20)
    made = accumulate(g)
    made.verify()
    for a, b in zip(interpret(g, values), interpret(made, values), strict=True):
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-3, atol=1e-3)


def test_an_image_that_is_sampled_has_one_gradient() -> None:
    """Four corners are gathered for each point; their gradients meet in one place, which is filled with zeros once, and copied once to
    where the result is to lie. (Each in a place of its own, it was five passes.)"""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((3, 4, 16, 16)).astype(np.float32), requires_grad=True)
    grid = torch.tensor(rng.uniform(-1, 1, (3, 5, 5, 2)).astype(np.float32))

    def run() -> np.ndarray:
        x.grad = None
        F.grid_sample(x, grid, align_corners=True).square().sum().backward()
        return x.grad.numpy().copy()

    first = run()
    for _ in range(3):
        np.testing.assert_allclose(run(), first, rtol=1e-4, atol=1e-5)
    with profile() as p:
        run()
    whole = [row for row in p.rows if row.kernel.startswith(("pointwise 3x4x256", "pointwise 3x4x16x16"))]
    assert sum(row.calls for row in whole) <= 2
