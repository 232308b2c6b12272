"""Rewrite a graph so that the kernels of the later stages suffice for it.

* What has no native form (functions without a vector version, native calls without a kernel) becomes a host node that calls the
  reference interpreter.
* A convolution's padding becomes a pad node, so that contractions never look outside their operands.
* A contraction of integers becomes products and a sum, and so does one of vectors, whose operands have no rows of their own.
* The base of a scatter or an update becomes a copy that only it uses, to be overwritten in place.
* A scatter of one element into each row, whose index a gather has checked, becomes a choice by position.
* Results become separate nodes where one value leaves twice, or a leaf leaves as it is.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rushlight.compile import dtypes as dt
from rushlight.compile.cpu.native import has_kernel
from rushlight.compile.cpu.render import supports
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, e, input_
from rushlight.compile.graph import ContractSpec, Graph, HostCall, NativeCall, Node, View, Window
from rushlight.compile.passes.layout import is_filter_gradient
from rushlight.compile.reference.interpret import evaluate_node
from rushlight.compile.sizes import largest

__all__ = ["Interpreted", "Reference", "legalise", "live_nodes", "rebuilt"]

_TURNED = 1 << 14  # elements; scattered stores of fewer cost less than another kernel
_MEMORY_ONLY = ("leaf", "reshape", "host", "native", "item", "copy")
_CONTRACTED = ("float16", "bfloat16", "float32", "float64")


def live_nodes(graph: Graph) -> list[Node]:
    """The nodes that the results need, in order."""
    needed = set(graph.results)
    out = []
    for node in reversed(graph.nodes):
        if node in needed or node.kind == "leaf":
            needed.update(node.inputs)
            out.append(node)
    return out[::-1]


def rebuilt(graph: Graph, nodes: Sequence[Node], replaced: Callable[[Graph, Node, Mapping[Node, Node]], Node | None]) -> Graph:
    """A copy of the graph's ``nodes`` (``live_nodes``), with others in the place of some: ``replaced(copy, node, made)`` makes the other
    one, ``made`` being what has been copied, or returns None for a node that stays as it is."""
    out = Graph()
    made: dict[Node, Node] = {}
    for node in graph.leaves:
        out.line = node.line
        made[node] = out.leaf(node.shape, node.dtype)
    for node in nodes:
        if node in made:
            continue
        out.line = node.line
        made[node] = replaced(out, node, made) or out.node(
            node.kind, tuple(made[i] for i in node.inputs), node.attrs, node.shape, node.dtype)
    out.line = None
    out.results = [made[r] for r in graph.results]
    return out


def legalise(graph: Graph) -> Graph:
    """An equal graph of nodes that have a native form or are ``host``; it may have nodes of kind ``copy`` (the same
    value in memory of its own, ``attrs = (number,)``)."""
    out = Graph()
    made: dict[Node, Node] = {}
    leaves: dict[int, Node] = {}
    nodes = live_nodes(graph)
    checked = {(n.inputs[1], n.inputs[0].shape[n.attrs[0]]) for n in nodes if n.kind == "gather" and n.attrs[1]}
    for node in graph.leaves:
        out.line = node.line
        leaves[node.attrs[0]] = made[node] = out.leaf(node.shape, node.dtype)
    for node in nodes:
        if node not in made:
            out.line = node.line
            made[node] = _rewrite(out, node, tuple(made[i] for i in node.inputs), checked)
    out.line = None
    taken: set[Node] = set()
    for k, node in enumerate(graph.results):
        value = made[node]
        origin = value
        while origin.kind == "reshape":
            origin = origin.inputs[0]
        if origin.kind == "leaf" or origin in taken or value in taken or _is_turned(origin):
            value = origin = _result_copy(out, value, k)
        taken.update((value, origin))
        out.results.append(value)
    return out


def _is_turned(node: Node) -> bool:
    """Whether a result is better computed in another order and then copied: the gradient of a large filter, which is
    stored along vectors of channels while the filter itself has its few positions innermost."""
    return node.kind == "contract" and node.size >= _TURNED and is_filter_gradient(node.attrs[0])


def _rewrite(g: Graph, node: Node, inputs: tuple[Node, ...], checked: set[tuple[Node, int]]) -> Node:
    kind = node.kind
    if kind not in _MEMORY_ONLY and kind != "const" and _is_foreign(node):
        return _hosted(g, node, inputs)
    if kind == "native" and not has_kernel(node.attrs[0], tuple(i.dtype for i in inputs)):
        call = node.attrs[0]
        wide = call.wide()
        if wide is not None and has_kernel(wide, tuple(_computed(i.dtype) for i in inputs)):
            operands = tuple(g.cast(i, _computed(i.dtype)) for i in inputs)
            return g.node("native", operands, (wide,), node.shape, wide.results[0][1])
        return g.node("host", inputs, (HostCall(Reference(call), call.results, f"reference {call.name}"),), node.shape, node.dtype)
    if kind == "item" and inputs[0].kind == "native":
        return g.cast(g.node(kind, inputs, node.attrs, node.shape, inputs[0].attrs[0].results[node.attrs[0]][1]), node.dtype)
    if kind == "contract":
        return _contract(g, node, *inputs)
    if kind == "scatter":
        return _scatter(g, node, inputs, checked)
    if kind == "update":
        return g.node("update", (_own_copy(g, inputs[0], node), inputs[1]), node.attrs, node.shape, node.dtype)
    return g.node(kind, inputs, node.attrs, node.shape, node.dtype)


def _computed(dtype: dt.DType) -> dt.DType:
    return dtype.compute if dtype.kind == "f" else dtype


def _is_foreign(node: Node) -> bool:
    return node.kind == "pointwise" and not supports(node.attrs[0])


def _hosted(g: Graph, node: Node, inputs: tuple[Node, ...]) -> Node:
    function = Interpreted(node.kind, node.attrs, node.shape, node.dtype)
    return g.host(HostCall(function, ((node.shape, node.dtype),), f"reference {node.kind}"), *inputs)[0]


# Functions of arrays that say what they hold, so that it can be exchanged for another size's (``compile/resize.py``).
@dataclass(frozen=True)
class Interpreted:
    """What a node computes."""

    kind: str
    attrs: tuple
    shape: tuple[int, ...]
    dtype: DType

    def __call__(self, *arrays: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            return np.array(evaluate_node(Node(self.kind, (), self.attrs, self.shape, self.dtype, 0, None), arrays))


@dataclass(frozen=True)
class Reference:
    """What a native call computes."""

    call: NativeCall

    def __call__(self, *arrays: np.ndarray) -> Any:
        return self.call.reference(*arrays)


def _own_copy(g: Graph, x: Node, user: Node) -> Node:
    return g.node("copy", (x,), ("base", user.number), x.shape, x.dtype)


def _result_copy(g: Graph, x: Node, number: int) -> Node:
    return g.node("copy", (x,), ("result", number), x.shape, x.dtype)


def _contract(g: Graph, node: Node, a: Node, b: Node) -> Node:
    spec: ContractSpec = node.attrs[0]
    sizes = dict(spec.sizes)
    a, in_a = _without_padding(g, a, spec.a, sizes)
    b, in_b = _without_padding(g, b, spec.b, sizes)
    spec = ContractSpec(in_a, in_b, spec.out, spec.sizes)
    if node.dtype.name in _CONTRACTED and all(sizes.values()) and not _is_of_vectors(spec, sizes):
        return g.node("contract", (a, b), (spec,), node.shape, node.dtype)
    summed = [c for c in sizes if c not in spec.out]
    letters = [*spec.out, *summed]
    parts = [g.cast(_spread(g, x, dims, letters, sizes), _computed(x.dtype)) for x, dims in ((a, in_a), (b, in_b))]
    if node.dtype.kind == "b":
        product, op = g.map(lambda e, x, y: x & y, *parts), "or"
    else:
        product, op = g.map(lambda e, x, y: x * y, *parts), "add"
    return g.cast(g.reduce(op, product, range(len(spec.out), len(letters))) if summed else product, node.dtype)


def _is_of_vectors(spec: ContractSpec, sizes: dict[str, int]) -> bool:
    """Dot products: of two vectors, or of many pairs of them. As tiles of a matrix product they would be one column wide."""
    if any(isinstance(d, Window) for d in (*spec.a, *spec.b)):
        return False
    return all(c in spec.a and c in spec.b or sizes[c] == 1 for c in spec.out)


def _without_padding(g: Graph, x: Node, dims: tuple, sizes: dict[str, int]) -> tuple[Node, tuple]:
    """The operand grown by zeros so that its windows stay inside, and its dimensions without padding."""
    low, high, out = [], [], []
    for d, dim in enumerate(dims):
        before = after = 0
        if isinstance(dim, Window):
            before = dim.padding
            last = (sizes[dim.output] - 1) * dim.stride + (sizes[dim.kernel] - 1) * dim.dilation - dim.padding
            after = largest(0, last + 1 - x.shape[d])  # an even length and an odd one are not two graphs
            dim = Window(dim.output, dim.kernel, dim.stride, dim.dilation, 0)
        low.append(before)
        high.append(after)
        out.append(dim)
    if min(low, default=0) < 0:  # a negative padding starts inside the operand
        starts = [max(0, -v) for v in low]
        x = g.slice(x, starts, tuple(s - v for s, v in zip(x.shape, starts)))
        low = [max(0, v) for v in low]
    return g.pad(x, low, high), tuple(out)


def _spread(g: Graph, x: Node, dims: tuple, letters: list[str], sizes: dict[str, int]) -> Node:
    matrix = []
    for dim in dims:
        row = [0] * len(letters)
        if isinstance(dim, Window):
            row[letters.index(dim.output)] += dim.stride
            row[letters.index(dim.kernel)] += dim.dilation
        else:
            row[letters.index(dim)] = 1
        matrix.append(tuple(row))
    return g.view(x, View(tuple(sizes[c] for c in letters), (0,) * len(dims), tuple(matrix)))


def _scatter(g: Graph, node: Node, inputs: tuple[Node, ...], checked: set[tuple[Node, int]]) -> Node:
    base, index, src = inputs
    axis, op = node.attrs
    others = all(i == s for d, (i, s) in enumerate(zip(index.shape, base.shape)) if d != axis)
    src = g.slice(src, (0,) * len(src.shape), index.shape) if src.shape != index.shape else src
    if index.shape[axis] == 1 and others and (node.inputs[1], base.shape[axis]) in checked and node.size:
        position = input_(1, index.dtype)
        here = e.eq(e.cast(position, dt.int64), e.index(axis))
        old, new = input_(0, base.dtype), input_(2, src.dtype)
        value = new if op is None else getattr(e, op)(old, new) if base.dtype.kind != "b" else _logical(op, old, new)
        return g.pointwise(e.where(here, value, old), base, index, src)
    return g.node("scatter", (_own_copy(g, base, node), index, src), node.attrs, node.shape, node.dtype)


def _logical(op: str, a: Expr, b: Expr) -> Expr:
    return a | b if op in ("add", "max") else a & b
