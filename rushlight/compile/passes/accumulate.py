"""Sums of scatters: the gradient of a value that was gathered from at several places.

Each gather's gradient is scattered into zeros of its own, and the results are added up: as recorded, two passes over the whole for each of
them. Instead the first is scattered into zeros, and the others into what is there.
"""
from __future__ import annotations

from collections import Counter

from rushlight.compile.expr import e, input_
from rushlight.compile.graph import Graph, Node
from rushlight.compile.passes.legalise import live_nodes

__all__ = ["accumulate"]


def accumulate(graph: Graph) -> Graph:
    """An equal graph (but for the order of floating-point sums) in which a sum of a value and scatters into zeros, which nobody
    else wants, is scatters into the value; ``graph`` itself if it has none."""
    return _Accumulation(graph).out if any(n.kind == "scatter" for n in graph.nodes) else graph


class _Accumulation:
    def __init__(self, graph: Graph) -> None:
        nodes = live_nodes(graph)
        self.users = Counter(i for n in nodes for i in n.inputs)
        self.users.update(graph.results)
        self.out = out = Graph()
        self.made: dict[Node, Node] = {}
        self.scatters: dict[Node, list[Node]] = {}  # values that are zeros and these scatters of the old graph, and have one user
        for node in graph.leaves:
            out.line = node.line
            self.made[node] = out.leaf(node.shape, node.dtype)
        for node in nodes:
            if node not in self.made:
                out.line = node.line
                inputs = tuple(self.made[i] for i in node.inputs)
                self.made[node] = self._sum(node) or out.node(node.kind, inputs, node.attrs, node.shape, node.dtype)
                found = self._zeros_and(node) if self.users[node] == 1 else None
                if found is not None:
                    self.scatters[node] = found
        out.line = None
        out.results = [self.made[r] for r in graph.results]

    def _sum(self, node: Node) -> Node | None:
        """A sum as scatters into one of its terms."""
        for value, term in (node.inputs, node.inputs[::-1]) if _is_sum(node) else ():
            total = self.made[value]
            for scatter in self.scatters.get(term, ()) if term is not value else ():
                _, index, source = scatter.inputs
                base = self.out.reshape(total, scatter.shape)
                total = self.out.scatter(base, self.made[index], self.made[source], *scatter.attrs)
            if total is not self.made[value]:
                return self.out.reshape(total, node.shape)
        return None

    def _zeros_and(self, node: Node) -> list[Node] | None:
        if node.kind == "reshape":
            return self.scatters.get(node.inputs[0])
        if _is_sum(node):
            a, b = (self.scatters.get(i) for i in node.inputs)
            return None if a is None or b is None else a + b
        if node.kind != "scatter" or node.attrs[1] != "add" or node.dtype.itemsize < 4:
            return None  # sums of half precision are rounded when they are whole
        base = node.inputs[0]
        while base.kind in ("view", "reshape"):
            base = base.inputs[0]
        return [node] if base.kind == "const" and base.attrs[0] == 0 else None


def _is_sum(node: Node) -> bool:
    return (node.kind == "pointwise" and len(node.inputs) == 2 and node.dtype.kind == "f"
            and node.attrs[0] is e.add(input_(0, node.dtype), input_(1, node.dtype)))
