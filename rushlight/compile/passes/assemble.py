"""Values that are put together from parts: the gradient of ``split``, ``chunk``, ``unbind`` and slices.

Each part's gradient is written into zeros, and the results are added up: as recorded, a pass over the whole for each part and
for each sum. Where the parts are disjoint and fill the whole, they are simply put side by side: as a ``concat``, or, where
native calls compute them, in one result, into which the call writes them straight away.

A sum with zero changes nothing but the sign of a zero.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rushlight.compile.expr import Expr
from rushlight.compile.graph import Graph, Node, View
from rushlight.compile.index import as_view, row_major
from rushlight.compile.passes.legalise import live_nodes
from rushlight.compile.passes.simplify import reshaped_view
from rushlight.compile.placed import Output, PlacedCall

__all__ = ["assemble"]

_MOST = 64  # parts; each is compared with each other


class Part(NamedTuple):
    """``whole[view(i)] = node[i]``; the places of a part are a box."""

    node: Node
    view: View
    low: tuple[int, ...]
    sizes: tuple[int, ...]


Parts = tuple[Part, ...]


def assemble(graph: Graph) -> Graph:
    """An equal graph in which values made of parts are concatenations, or are written by what computes the parts."""
    kept: set[Node] = set()
    while True:
        one = _Assembly(graph, kept)
        out = one.run()
        live = set(live_nodes(out))
        # A part that is wanted by itself, too, would be computed twice.
        twice = {one.source[old] for old, new in one.moved if old in live and new in live}
        if not twice:
            return out
        kept |= twice


class _Assembly:
    """One pass; ``kept``: native nodes whose results stay where they are."""

    def __init__(self, graph: Graph, kept: set[Node]) -> None:
        self.graph, self.kept = graph, kept
        self.out = Graph()
        self.parts: dict[Node, Parts] = {}  # nodes of the old graph that are zero outside these parts
        self.source: dict[Node, Node] = {}  # native nodes of the new graph: of the old one
        self.gathered: set[Node] = set()  # of the old graph: native calls write all of their parts
        self.moved: list[tuple[Node, Node]] = []  # native nodes of the new graph: with results of their own, with a common one

    def run(self) -> Graph:
        out, made = self.out, dict[Node, Node]()
        for node in self.graph.leaves:
            out.line = node.line
            made[node] = out.leaf(node.shape, node.dtype)
        for node in live_nodes(self.graph):
            if node in made:
                continue
            out.line = node.line
            found = _parts(node, self.parts, made)
            if found is not None:
                self.parts[node] = found
            whole = self.whole(node, found) if found else None
            made[node] = whole or out.node(node.kind, tuple(made[i] for i in node.inputs), node.attrs, node.shape, node.dtype)
            if node.kind == "native":
                self.source[made[node]] = node
        out.line = None
        out.results = [made[r] for r in self.graph.results]
        return out

    def whole(self, node: Node, parts: Parts) -> Node | None:
        """The parts side by side, if they are all there is."""
        if len(parts) < 2 or sum(p.node.size for p in parts) != node.size or node.size == 0:
            return None
        made = self.native(node, parts)
        if made is not None:
            self.gathered.add(node)
        elif node.inputs[0] in self.gathered:
            return None  # whole already, only to be seen in another order
        return made or _concat(self.out, node, parts)

    def native(self, node: Node, parts: Parts) -> Node | None:
        """A result of a native call that computes all the parts: the call with these outputs in one place."""
        origins = [_origin(p.node) for p in parts]
        maker = origins[0].inputs[0] if origins[0].kind == "item" else None
        if maker is None or any(o.kind != "item" or o.inputs[0] is not maker for o in origins) or self.source.get(maker) is None:
            return None
        if self.source[maker] in self.kept:
            return None
        call = maker.attrs[0]
        if not isinstance(call, PlacedCall):
            return None
        moved: dict[int, Output] = {}
        for part, item in zip(parts, origins, strict=True):
            outputs = [k for k, o in enumerate(call.outputs) if o.result == item.attrs[0]]
            placed = _placed(part, item, call.outputs[outputs[0]], node.shape) if len(outputs) == 1 else None
            if placed is None or outputs[0] in moved or not call.writes(placed):
                return None
            moved[outputs[0]] = placed
        if len(moved) < len(call.outputs):
            return None  # what else the call computes is somewhere else already
        new = call.gathered(moved, node.shape)
        (item,) = self.out.native(new, *maker.inputs)
        self.moved.append((maker, item.inputs[0]))
        return item


# -- what is made of what ----------------------------------------------------------------------------------------------


def _parts(node: Node, parts: dict[Node, Parts], made: dict[Node, Node]) -> Parts | None:
    """The parts that a value consists of, in terms of the new graph; None: it is not made of parts."""
    kind = node.kind
    if kind == "const":
        return () if node.attrs[0] == 0 else None
    if kind == "update":
        base = parts.get(node.inputs[0])
        new = None if base is None else _part(made[node.inputs[1]], node.attrs[0])
        return None if base is None or new is None else _joined(base, (new,))
    if kind == "pointwise" and len(node.inputs) == 2 and _is_sum(node.attrs[0]):
        a, b = (parts.get(i) for i in node.inputs)
        return None if a is None or b is None else _joined(a, b)
    if kind not in ("view", "reshape"):
        return None
    inner = parts.get(node.inputs[0])
    if not inner:
        return inner  # zeros stay zeros, however they are seen
    moved = []
    for part in inner:
        view = _permuted(part.view, node.attrs[0]) if kind == "view" else _regrouped(part.view, node.inputs[0].shape, node.shape)
        new = None if view is None else _part(part.node, view)
        if new is None:
            return None
        moved.append(new)
    return tuple(moved)


def _is_sum(expr: Expr) -> bool:
    """Sums of half types are made in float32 and rounded: what has only zeros added to it stays the same there, too."""
    total = expr.args[0] if expr.fn == "cast" else expr
    if total.fn != "add":
        return False
    terms = [a.args[0] if a.fn == "cast" else a for a in total.args]
    return {t.attr for t in terms if t.fn == "input" and t.dtype is expr.dtype} == {0, 1}


def _part(node: Node, view: View) -> Part | None:
    """The part, if its places are a dense box of which each place is written once."""
    driven = [0] * len(view.shape)
    sizes = []
    for row in view.matrix:
        step = 1
        for c, j in sorted((c, j) for j, c in enumerate(row) if c and view.shape[j] != 1):
            if c != step:
                return None
            driven[j] += 1
            step *= view.shape[j]
        sizes.append(step)
    if any(n != 1 for n, extent in zip(driven, view.shape) if extent != 1):
        return None
    return Part(node, view, view.offset, tuple(sizes))


def _joined(a: Parts, b: Parts) -> Parts | None:
    """Both, if nothing is in two of them."""
    if len(a) + len(b) > _MOST:
        return None
    for x in a:
        for y in b:
            if all(p < q + n and q < p + m for p, m, q, n in zip(x.low, x.sizes, y.low, y.sizes)):
                return None
    return a + b


def _permuted(inner: View, outer: View) -> View | None:
    """Where a part lies in a whole whose dimensions change places."""
    if any(outer.offset) or len(outer.shape) != len(inner.offset):
        return None
    where = []
    for j in range(len(outer.shape)):
        column = [row[j] for row in outer.matrix]
        if sorted(column) != [0] * (len(column) - 1) + [1]:
            return None
        where.append(column.index(1))
    if sorted(where) != list(range(len(where))):
        return None
    return View(inner.shape, tuple(inner.offset[d] for d in where), tuple(inner.matrix[d] for d in where))


def _regrouped(view: View, old: Sequence[int], new: Sequence[int]) -> View | None:
    """Where a part lies in a whole whose dimensions are split or merged."""
    offset, strides = _flat(view, old)
    return as_view(tuple(new), view.shape, strides, offset)


def _flat(view: View, shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Offset and strides of a view in row-major memory of ``shape``."""
    steps = row_major(shape)
    offset = sum(o * s for o, s in zip(view.offset, steps))
    return offset, tuple(sum(row[j] * s for row, s in zip(view.matrix, steps)) for j in range(len(view.shape)))


def _concat(g: Graph, node: Node, parts: Parts) -> Node | None:
    cut = [d for d in range(len(node.shape)) if any(p.sizes[d] != node.shape[d] for p in parts)]
    if len(cut) != 1:
        return None
    laid = []
    for p in sorted(parts, key=lambda p: p.low[cut[0]]):
        # The part's dimensions in the order of the whole's dimensions that they move along, slow ones first.
        order = sorted(range(len(p.view.shape)), key=lambda j: next(
            ((d, -row[j]) for d, row in enumerate(p.view.matrix) if row[j]), (-1, 0)))
        laid.append(g.reshape(g.permute(p.node, order), p.sizes))
    return g.concat(laid, cut[0])


def _origin(node: Node) -> Node:
    """What a value shows all elements of, in another shape or order."""
    while node.kind == "reshape" or node.kind == "view" and node.size == node.inputs[0].size:
        node = node.inputs[0]
    return node


def _placed(part: Part, item: Node, output: Output, shape: Sequence[int]) -> Output | None:
    """Where an output of a native call has to lie so that its item is this part of a whole of ``shape``."""
    strides = _strides(part.node, item)
    if strides is None:
        return None
    offset, steps = _flat(part.view, shape)
    # One step along a dimension of the part is `there` elements of the item, and `here` elements of the whole.
    moves = [(there, n, here) for there, n, here in zip(strides, part.view.shape, steps, strict=True) if n != 1]
    placed = []
    for stride, extent in zip(output.strides, output.shape):
        rates = set()
        for there, n, here in moves if extent != 1 else ():
            if max(stride, there) < min(stride * extent, there * n):
                if stride % there and there % stride or here * stride % there:
                    return None
                rates.add(here * stride // there)
        if len(rates) > 1:
            return None
        placed.append(rates.pop() if rates else 0)
    return Output(output.shape, -1, offset, tuple(placed)) if output.offset == 0 else None


def _strides(node: Node, item: Node) -> tuple[int, ...] | None:
    """Strides of a value in the memory of the item that it shows all of, in its own order."""
    chain = []
    while node is not item:
        chain.append(node)
        node = node.inputs[0]
    view = View(item.shape, (0,), (row_major(item.shape),))
    for step in reversed(chain):
        if step.kind == "view":
            turned = step.attrs[0]
            if any(turned.offset) or any(c < 0 for row in turned.matrix for c in row):
                return None
            view = view.then(turned)
        else:
            found = reshaped_view(view, step.shape)
            if found is None:
                return None
            view = found
    reach = 1
    for stride, n in sorted((c, n) for c, n in zip(view.matrix[0], view.shape) if n != 1):
        if stride != reach:
            return None  # not all of it, once
        reach *= n
    return view.matrix[0] if reach == item.size else None
