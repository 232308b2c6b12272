"""Constants that another size would change, put into memory that each program brings along.

``x / math.sqrt(x.shape[1])`` has another constant for each length, and a constant is part of a kernel. Where a graph is planned for
many sizes, such constants become leaves of their own behind all others; the numbers themselves lie beside the program's error block,
and kernels load them. The bits of results do not depend on it: a constant is rounded to its type in both ways. But passes that look
for constants (the scale of attention written by hand) must have found them before, or they would find less than for one size.

Whole numbers among the constants (the count that a mean divides by) are parameters of loops, and so they stay constants. Behind a
contraction nothing but operands can be different for each size: there they become leaves when the contraction is lowered, whether they
are sizes or plain numbers.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .dtypes import DType
from .expr import Expr, input_, substitute, walk
from .graph import Graph, Node
from .sizes import is_size

__all__ = ["EXACT", "FEW", "Numbers", "apart", "counts"]

FEW, EXACT = 16, 1 << 24  # whole numbers between these are numbers of elements: float32 has them all

Entry = tuple[Any, DType]


class Numbers:
    """The last leaves of a graph: numbers that its program brings along.

    Args:
        graph: where they are leaves.
        entries: (size, type) of those that there are.
    """

    def __init__(self, graph: Graph, entries: Sequence[Entry]) -> None:
        self.graph = graph
        self._leaves = dict(zip(entries, graph.leaves[len(graph.leaves) - len(entries):]))

    @property
    def entries(self) -> list[Entry]:
        return list(self._leaves)

    def leaf(self, x: Any, dtype: DType) -> Node:
        """The leaf, of shape (), that is this number."""
        known = self._leaves.get((x, dtype))
        if known is None:
            known = self._leaves[x, dtype] = self.graph.leaf((), dtype)
        return known


def apart(graph: Graph) -> tuple[Graph, list[Entry]]:
    """An equal graph whose last leaves are the floating-point sizes among its constants, and these: (size, type) of each."""
    if not any(_holds(node) for node in graph.nodes):
        return graph, []
    return _Apart(graph).made()


def counts(expr: Expr) -> list[Expr]:
    """The numbers of elements among a formula's constants, which another size would change: whole sizes, and whole numbers of which
    a floating formula would be another one for each. Exponents are left out, which the renderer knows."""
    exponents = {x.args[1] for x in walk(expr) if x.fn == "pow"}
    return [x for x in walk(expr) if x.fn == "const" and x not in exponents and _is_count(x)]


def _is_count(x: Expr) -> bool:
    if is_size(x.attr):
        return type(x.attr.value) is int
    return x.dtype.kind == "f" and x.dtype.itemsize >= 4 and FEW < x.attr < EXACT and not x.attr % 1


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
        self.numbers = Numbers(self.out, ())

    def made(self) -> tuple[Graph, list[Entry]]:
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
        return out, self.numbers.entries

    def _rewritten(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        if not _holds(node):
            return self.out.node(node.kind, inputs, node.attrs, node.shape, node.dtype)
        if node.kind == "const":
            return self.numbers.leaf(node.attrs[0], node.dtype)
        expr = node.attrs[0]
        # The renderer knows exponents: a square is a product.
        exponents = {x.args[1] for x in walk(expr) if x.fn == "pow"}
        more: dict[Expr, Expr] = {}
        operands = list(inputs)
        for x in walk(expr):
            if x.fn == "const" and _is_number(x.attr, x.dtype) and x not in exponents:
                more[x] = input_(len(operands), x.dtype)
                operands.append(self.out.expand(self.numbers.leaf(x.attr, x.dtype), node.shape))
        return self.out.node("pointwise", tuple(operands), (substitute((expr,), more.get)[0],), node.shape, node.dtype)
