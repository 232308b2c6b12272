"""The variance of a contraction's results: a sum of squared distances from the mean, which a kernel can make in one pass.

A normalisation writes it as ``sum((x - sum(x) / n) ** 2)``, two passes over x of which the second waits for the first. Where x is
what the epilogue of a contraction computes (``fuse_tallies.py``), that becomes the reduction "deviations", which the epilogue makes
together with the sum.
"""
from __future__ import annotations

import math

from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, const, input_
from rushlight.compile.fuse_tallies import product_summed
from rushlight.compile.graph import Graph, Node
from rushlight.compile.passes.legalise import live_nodes, rebuilt

__all__ = ["moments"]


def moments(graph: Graph) -> Graph:
    """An equal graph in which variances of contractions' results are reductions of their own."""
    nodes = live_nodes(graph)
    found = {node: x for node in nodes if node.kind == "reduce" and (x := _spread(node)) is not None}
    if not found:
        return graph
    return rebuilt(graph, nodes, lambda out, node, made: None if node not in found else out.node(
        "reduce", (made[found[node]],), ("deviations", node.attrs[1]), node.shape, node.dtype))


def _spread(node: Node) -> Node | None:
    """The value whose squared distances from its mean ``node`` adds up, where a contraction's epilogue can do that."""
    op, axes = node.attrs
    squares = node.inputs[0]
    if op != "add" or squares.kind != "pointwise" or len(squares.inputs) != 2:
        return None
    x, mean = squares.inputs
    if squares.attrs[0] is not _squared(squares.dtype, 0, 1):
        x, mean = mean, x
        if squares.attrs[0] is not _squared(squares.dtype, 1, 0):
            return None
    while mean.kind in ("view", "reshape"):
        mean = mean.inputs[0]
    if mean.kind != "pointwise" or len(mean.inputs) != 1:
        return None
    total = mean.inputs[0]
    while total.kind == "reshape":
        total = total.inputs[0]
    if total.kind != "reduce" or total.inputs[0] is not x or total.attrs != node.attrs or product_summed(total) is None:
        return None
    count = math.prod(x.shape[a] for a in axes)
    formula: Expr = mean.attrs[0]
    known = formula.fn == "div" and formula.args[0].fn == "input" and formula.args[1].fn == "const"
    return x if known and formula.args[1].attr == const(count, mean.dtype).attr else None


def _squared(dtype: DType, one: int, other: int) -> Expr:
    apart = input_(one, dtype) - input_(other, dtype)
    return apart * apart
