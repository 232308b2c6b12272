"""Rewrites that make a graph smaller and never change a bit of a result. Each rule names the case that needs it."""
from __future__ import annotations

import math
from collections.abc import Sequence

from rushlight.compile import dtypes as dt
from rushlight.compile.graph import Graph, Node, View
from rushlight.compile.passes.legalise import live_nodes

__all__ = ["reshaped", "reshaped_view", "simplify"]


def simplify(graph: Graph) -> Graph:
    """An equal graph without dead nodes, to which the rules below do not apply."""
    out = Graph()
    made: dict[Node, Node] = {}
    for node in graph.leaves:
        out.line = node.line
        made[node] = out.leaf(node.shape, node.dtype)
    for node in live_nodes(graph):
        if node not in made:
            out.line = node.line
            made[node] = _rewrite(out, node, tuple(made[i] for i in node.inputs))
    out.line = None
    out.results = [made[r] for r in graph.results]
    return out


def _rewrite(g: Graph, node: Node, inputs: tuple[Node, ...]) -> Node:
    if node.kind == "view":
        return g.view(inputs[0], node.attrs[0])  # views of views, once what was between them is gone
    if node.kind == "reshape":
        return reshaped(g, inputs[0], node.shape)
    if node.kind == "reduce":
        return _reduce(g, node, inputs[0])
    if node.kind == "concat":
        # cat of a list of which some are empty: they would be kernels that do nothing.
        axis = node.attrs[0]
        parts = tuple(p for p in inputs if p.shape[axis])
        if len(parts) == 1:
            return parts[0]
        inputs = parts or inputs[:1]
        if not parts:
            return inputs[0]
    return g.node(node.kind, inputs, node.attrs, node.shape, node.dtype)


def reshaped(g: Graph, x: Node, shape: tuple[int, ...]) -> Node:
    """A reshape of a view that only splits dimensions (heads of a part of a projection), or merges what lies as one, is a
    view: it is read where it lies. One of a view that only moves dimensions of length 1 (heads of a single query) is one of what it
    shows."""
    while x.kind == "reshape" or x.kind == "view" and _keeps_order(x.attrs[0], x.inputs[0].shape):
        x = x.inputs[0]
    view = reshaped_view(x.attrs[0], shape) if x.kind == "view" else None
    return g.reshape(x, shape) if view is None else g.view(x.inputs[0], view)


def _keeps_order(view: View, shape: Sequence[int]) -> bool:
    """Whether a view of something of this shape shows all its elements in order."""
    seen, there = ([d for d, n in enumerate(x) if n != 1] for x in (view.shape, shape))
    if len(seen) != len(there) or any(view.offset):
        return False
    return all(view.shape[j] == shape[d] and all(row[j] == (k == d) for k, row in enumerate(view.matrix)) for j, d in zip(seen, there))


def reshaped_view(view: View, shape: Sequence[int]) -> View | None:
    """The view that shows the same elements in another shape, or None where it is not affine."""
    if math.prod(shape) == 0:
        return None
    runs: list[tuple[int, tuple[int, ...]]] = []  # neighbouring dimensions that lie as one: length, steps of the last
    for j, n in enumerate(view.shape):
        steps = tuple(row[j] for row in view.matrix)
        if n == 1:
            continue
        if runs and runs[-1][1] == tuple(s * n for s in steps):
            runs[-1] = (runs[-1][0] * n, steps)
        else:
            runs.append((n, steps))
    columns = []
    left, steps = 1, (0,) * len(view.matrix)
    for n in reversed(shape):
        if n != 1 and left == 1:
            left, steps = runs.pop()
        if left % n:
            return None
        columns.append(steps if n != 1 else (0,) * len(view.matrix))
        left //= n
        steps = tuple(s * n for s in steps)
    columns.reverse()
    return View(tuple(shape), view.offset, tuple(tuple(c[d] for c in columns) for d in range(len(view.matrix))))


def _reduce(g: Graph, node: Node, x: Node) -> Node:
    """Axes of length 1 need no loop: gradients of broadcasts sum over them all the time."""
    op, axes = node.attrs
    if op.startswith("arg"):
        return g.const(0, dt.int64, node.shape) if all(x.shape[a] == 1 for a in axes) else g.node(
            "reduce", (x,), node.attrs, node.shape, node.dtype)
    long = tuple(a for a in axes if x.shape[a] != 1)
    if len(long) == len(axes):
        return g.node("reduce", (x,), node.attrs, node.shape, node.dtype)
    return g.reshape(g.reduce(op, x, long), node.shape)
