"""Floating-point constants that another size would change, put into memory that each program brings along.

``x / math.sqrt(x.shape[1])`` has another constant for each length, and a constant is part of a kernel. Where a graph is planned for
many sizes, such constants become leaves of their own behind all others; the numbers themselves lie beside the program's error block,
and kernels load them. The bits of results do not depend on it: a constant is rounded to its type in both ways. But passes that look
for constants (the scale of attention written by hand) must have found them before, or they would find less than for one size.
"""
from __future__ import annotations

from typing import Any

from .dtypes import DType
from .expr import Expr, input_, substitute, walk
from .graph import Graph, Node
from .sizes import is_size

__all__ = ["apart"]


def apart(graph: Graph) -> tuple[Graph, list[tuple[Any, DType]]]:
    """An equal graph whose last leaves are the floating-point sizes among its constants, and these: (size, type) of each."""
    if not any(_holds(node) for node in graph.nodes):
        return graph, []
    return _Apart(graph).made()


def _holds(node: Node) -> bool:
    if node.kind == "const":
        return _is_number(node.attrs[0], node.dtype)
    return node.kind == "pointwise" and any(_is_number(x.attr, x.dtype) for x in walk(node.attrs[0]) if x.fn == "const")


def _is_number(x: Any, dtype: DType) -> bool:
    """Whole numbers are counts, which are parameters of kernels anyway."""
    return is_size(x) and type(x.value) is float and dtype.kind == "f"


class _Apart:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.out = graph, Graph()
        self.numbers: dict[tuple[Any, DType], Node] = {}

    def made(self) -> tuple[Graph, list[tuple[Any, DType]]]:
        graph, out = self.graph, self.out
        made = {}
        for node in graph.leaves:
            out.line = node.line
            made[node] = out.leaf(node.shape, node.dtype)
        out.line = None
        for node in graph.nodes:
            out.line = node.line
            if node not in made:
                made[node] = self._rewritten(node, tuple(made[i] for i in node.inputs))
        out.line = None
        out.results = [made[r] for r in graph.results]
        return out, list(self.numbers)

    def _number(self, x: Any, dtype: DType) -> Node:
        known = self.numbers.get((x, dtype))
        if known is None:
            known = self.numbers[x, dtype] = self.out.leaf((), dtype)
        return known

    def _rewritten(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        if not _holds(node):
            return self.out.node(node.kind, inputs, node.attrs, node.shape, node.dtype)
        if node.kind == "const":
            return self._number(node.attrs[0], node.dtype)
        expr = node.attrs[0]
        # The renderer knows exponents: a square is a product.
        exponents = {x.args[1] for x in walk(expr) if x.fn == "pow"}
        more: dict[Expr, Expr] = {}
        operands = list(inputs)
        for x in walk(expr):
            if x.fn == "const" and _is_number(x.attr, x.dtype) and x not in exponents:
                more[x] = input_(len(operands), x.dtype)
                operands.append(self.out.expand(self._number(x.attr, x.dtype), node.shape))
        return self.out.node("pointwise", tuple(operands), (substitute((expr,), more.get)[0],), node.shape, node.dtype)
