"""What a backward computes from a saved value alone is stored in its place: where, with which values, and at what cost."""
from __future__ import annotations

import numpy as np
import pytest

from rushlight.compile import dtypes as dt
from rushlight.compile.build import build
from rushlight.compile.expr import Expr, walk
from rushlight.compile.flags import flags
from rushlight.compile.graph import Graph, Node
from rushlight.compile.passes.carry import carry
from rushlight.compile.passes.legalise import legalise
from rushlight.compile.reference.interpret import interpret

ACTIVATIONS = {
    "gelu": (lambda e, x: x * e.normal_cdf(x), lambda e, g, x: g * (e.normal_cdf(x) + x * e.exp(x * x * -0.5) * 0.4)),
    "silu": (lambda e, x: x * (1 / (1 + e.exp(-x))), lambda e, g, x: g * (lambda s: s * (1 + x * (1 - s)))(1 / (1 + e.exp(-x)))),
}


def perceptron(name: str, dtype: dt.DType = dt.float32, *, result: bool = False, operand: bool = True, outside: bool = False) -> Graph:
    """Two layers with an activation between them, and the gradient behind it. ``result``: the value before the activation is wanted;
    ``operand``: the activation is multiplied next; ``outside``: the gradient reads that value otherwise, too."""
    forward, backward = ACTIVATIONS[name]
    wide = dtype.compute
    g = Graph()
    x, w1, w2 = g.leaf((40, 24), dtype), g.leaf((48, 24), dtype), g.leaf((40, 48), dtype)
    before = g.map(lambda e, a: e.cast(a + 0.25, dtype), g.einsum("mk,nk->mn", x, w1, wide))
    after = g.map(lambda e, a: e.cast(forward(e, e.cast(a, wide)), dtype), before)

    def next_one(x: Node, equation: str) -> Node:
        return g.einsum(equation, x, w2) if operand else g.map(lambda e, a, b: a * b, g.reduce("add", x, (1,), True), w2)

    def gradient(e, a: Expr, b: Expr) -> Expr:
        return e.cast(backward(e, e.cast(a, wide), e.cast(b, wide)) + (b if outside else 0), dtype)

    out = next_one(after, "mn,on->mo")
    to_before = g.map(gradient, next_one(out, "mo,on->mn"), before)
    g.results = [out, g.einsum("mn,mk->nk", to_before, x), *([before] if result else [])]
    g.verify()
    return g


def carried(graph: Graph) -> list[Node]:
    made = carry(legalise(graph))
    made.verify()
    return [n for n in made.nodes if n.kind == "copy" and n.attrs[0] == "carried"]


def dear(expr: Expr) -> bool:
    return any(n.fn in ("exp", "normal_cdf", "div") for n in walk(expr))


def run(graph: Graph) -> tuple[list[np.ndarray], object]:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n.shape).astype(n.dtype.numpy) for n in graph.leaves]
    program = build(graph, {})
    outs = [np.zeros(r.shape, r.dtype.numpy) for r in graph.results]
    program.run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outs])
    for got, want in zip(outs, interpret(graph, arrays), strict=True):
        got, want = got.astype(np.float64), want.astype(np.float64)
        np.testing.assert_allclose(got, want, atol=np.abs(want).max() * (1e-5 if graph.leaves[0].dtype is dt.float32 else 2e-2))
    return outs, program


@pytest.mark.parametrize("dtype", [dt.float32, dt.float64, dt.bfloat16, dt.float16], ids=lambda d: d.name)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_of_an_activation_is_a_multiplication(name: str, dtype: dt.DType) -> None:
    graph = perceptron(name, dtype)
    (copy,) = carried(graph)
    assert copy.dtype is dtype.compute and dear(copy.inputs[0].attrs[0])
    late = [n for n in carry(legalise(graph)).nodes if n.kind == "pointwise" and len(n.inputs) == 2]
    assert late and not any(dear(n.attrs[0]) for n in late)


@pytest.mark.parametrize("dtype", [dt.float32, dt.bfloat16], ids=lambda d: d.name)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_same_values_and_no_kernel_more(name: str, dtype: dt.DType) -> None:
    made = []
    for on in (0, 1):
        with flags.using(carry=on):
            made.append(run(perceptron(name, dtype)))
    (before, plain), (after, program) = made
    for a, b in zip(before, after, strict=True):
        assert a.tobytes() == b.tobytes()
    assert len(program.instructions) == len(plain.instructions)
    if dtype is dt.float32:
        assert program.arena_bytes <= plain.arena_bytes


@pytest.mark.parametrize("how", [{"result": True}, {"operand": False}, {"outside": True}], ids=["result", "no operand", "read otherwise"])
def test_where_it_would_not_pay_nothing_changes(how: dict[str, bool]) -> None:
    """The value is stored anyway, or what shares the function is not stored at its place."""
    graph = perceptron("gelu", **how)
    assert not carried(graph)
    run(graph)
