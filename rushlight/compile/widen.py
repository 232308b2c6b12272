"""A graph for one sample, widened to many: each value that depends on a sample gets a leading dimension, one position for each."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from .complexes import Complex, Transform
from .expr import Expr, index, substitute
from .graph import ContractSpec, Graph, Node, View

__all__ = ["can_widen", "widen"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def can_widen(graph: Graph, many: Sequence[bool]) -> bool:
    """Whether ``widen`` knows every primitive that depends on leaves that are ``many``."""
    wide: set[Node] = {leaf for leaf, is_many in zip(graph.leaves, many, strict=True) if is_many}
    for node in graph.nodes:
        if any(i in wide for i in node.inputs):
            call = node.attrs[0] if node.kind == "native" else None
            if node.kind not in _RULES and not isinstance(call, (Complex, Transform)) and node.kind != "item":
                return False
            if node.kind == "contract" and len(node.attrs[0].sizes) >= len(_LETTERS):
                return False
            wide.add(node)
    return True


def widen(g: Graph, graph: Graph, leaves: Sequence[Node], many: Sequence[bool], count: int) -> list[Node]:
    """The results of ``graph`` for ``count`` samples at once, built in ``g``.

    Args:
        graph: for one sample; ``can_widen``.
        leaves: nodes of ``g`` in place of its leaves; of those that are ``many``, each sample's along the first dimension.

    Returns:
        The results, each with a first dimension of ``count``.
    """
    made: dict[Node, Node] = dict(zip(graph.leaves, leaves, strict=True))
    wide: set[Node] = {leaf for leaf, is_many in zip(graph.leaves, many, strict=True) if is_many}

    def whole(node: Node) -> Node:
        return made[node] if node in wide else g.expand(made[node], (count, *node.shape))

    for node in graph.nodes:
        if node in made:
            continue
        g.line = node.line
        if not any(i in wide for i in node.inputs):
            made[node] = g.node(node.kind, tuple(made[i] for i in node.inputs), node.attrs, node.shape, node.dtype)
            continue
        wide.add(node)
        if node.kind == "contract":
            made[node] = _contract(g, node, [made[i] for i in node.inputs], [i in wide for i in node.inputs], count)
        elif node.kind == "native":
            call = node.attrs[0]
            dims = {"dims": tuple(d + 1 for d in call.dims)} if isinstance(call, Transform) else {}
            call = replace(call, shape=(count, *call.shape), **dims)
            made[node] = g.node("native", tuple(whole(i) for i in node.inputs), (call,), (count, *node.shape), node.dtype)
        elif node.kind == "item":
            made[node] = g.node("item", (made[node.inputs[0]],), node.attrs, (count, *node.shape), node.dtype)
        else:
            made[node] = _RULES[node.kind](g, node, [whole(i) for i in node.inputs], (count, *node.shape))
    return [whole(r) for r in graph.results]


def _shifted(formula: Expr) -> Expr:
    return substitute((formula,), lambda n: index(n.attr + 1) if n.fn == "index" else None)[0]


def _view(view: View, count: int) -> View:
    n = len(view.shape)
    return View((count, *view.shape), (0, *view.offset), ((1, *[0] * n), *[(0, *row) for row in view.matrix]))


def _contract(g: Graph, node: Node, operands: Sequence[Node], many: Sequence[bool], count: int) -> Node:
    spec: ContractSpec = node.attrs[0]
    known = dict(spec.sizes)
    letter = next(c for c in _LETTERS if c not in known)
    a, b = ((letter, *dims) if is_many else dims for dims, is_many in zip((spec.a, spec.b), many, strict=True))
    sizes = tuple(sorted({**known, letter: count}.items()))
    return g.contract(operands[0], operands[1], ContractSpec(a, b, (letter, *spec.out), sizes), node.dtype)


def _along(g: Graph, node: Node, inputs: Sequence[Node], shape: tuple[int, ...]) -> Node:
    """Of kinds whose attributes begin with an axis."""
    axis, *rest = node.attrs
    return g.node(node.kind, tuple(inputs), (axis + 1, *rest), shape, node.dtype)


_RULES: Final[dict[str, Callable[..., Any]]] = {
    "contract": _contract,
    "pointwise": lambda g, n, x, shape: g.pointwise(_shifted(n.attrs[0]), *x, shape=shape),
    "reduce": lambda g, n, x, shape: g.node("reduce", tuple(x), (n.attrs[0], tuple(a + 1 for a in n.attrs[1])), shape, n.dtype),
    "scan": lambda g, n, x, shape: g.scan(n.attrs[0], x[0], n.attrs[1] + 1),
    "view": lambda g, n, x, shape: g.view(x[0], _view(n.attrs[0], shape[0])),
    "reshape": lambda g, n, x, shape: g.reshape(x[0], shape),
    "pad": lambda g, n, x, shape: g.node("pad", tuple(x), ((0, *n.attrs[0]), n.attrs[1]), shape, n.dtype),
    "fit": lambda g, n, x, shape: g.fit(x[0], shape, [d + 1 for d in n.attrs[0]]),
    "concat": _along, "gather": _along, "scatter": _along,
    "weave": lambda g, n, x, shape: g.weave(x, [_view(v, shape[0]) for v in n.attrs[0]], shape),
    "update": lambda g, n, x, shape: g.update(x[0], x[1], _view(n.attrs[0], shape[0])),
}
