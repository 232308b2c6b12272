"""Attention that is written out: two products with a softmax between them, and their gradients, become attention's native calls.

    weights = softmax(mask(q @ kᵀ * scale));  y = weights @ v

is how people write it who do not call ``scaled_dot_product_attention``. As recorded, each step stores a number for each pair of
query and key. The calls of ``attention.py`` go through them in tiles and leave out what the mask shuts, and their backward computes
the weights again. That is the same only where nobody else wants the weights or the scores, and it pays only where a
mask says which keys which query sees, or where there is no backward: five products of tiles instead of four whole ones. What is
added to the scores is no such mask: it need not shut anything.

The scale may be a product or a quotient, before the mask. The mask may be a number that takes the place of scores (``masked_fill``,
``where``), finite or not, or numbers that are added; it may repeat over batch and heads. What is dropped from the weights, or types
that round in between, stay as they are. Not recognised either: a batch of one, whose products lose that dimension, and a scale that
is data (``numbers.py`` makes it that where it follows from a size that changes).
"""
from __future__ import annotations

from collections.abc import Sequence

from rushlight.compile.attention import attend, attend_backward
from rushlight.compile.graph import Graph, Node, View
from rushlight.compile.passes.attention_pattern import Found, Mask, Operand, find
from rushlight.compile.passes.legalise import live_nodes

__all__ = ["attention_calls"]

_SHORTEST = 64  # queries and keys: below, all weights of a head lie in the first-level cache


def attention_calls(graph: Graph) -> Graph:
    """An equal graph in which attention that is written out is a native call for each direction."""
    nodes = live_nodes(graph)
    found = [f for f in find(graph, nodes) if _pays(f)]
    return _rebuilt(graph, nodes, found) if found else graph


def _pays(found: Found) -> bool:
    """Whether the calls are worth it, from sizes alone."""
    queries, keys = (o.node.shape[o.order[-2]] for o in (found.q, found.k))
    return queries >= _SHORTEST and keys >= _SHORTEST and (found.backward is None or _is_triangle(found.mask))


def _is_triangle(mask: Mask | None) -> bool:
    """Whether a mask differs from query to query and from key to key: then it is nearly always one that shuts about half."""
    if mask is None or mask.fill is None:
        return False
    view = mask.numbers
    return view.kind != "view" or all(any(row[j] for row in view.attrs[0].matrix) for j in (-1, -2))


def _rebuilt(graph: Graph, nodes: Sequence[Node], found: Sequence[Found]) -> Graph:
    out, made = Graph(), dict[Node, Node]()
    left_out = {n for f in found for n in f.inner}
    forward = {f.out.node: f for f in found}
    backward = {o.node: f for f in found if f.backward for o in f.backward.made}
    rows: dict[Node, tuple[Node, Node]] = {}  # of each result: in the calls' form, and what is kept of its rows
    for node in graph.leaves:
        out.line = node.line
        made[node] = out.leaf(node.shape, node.dtype)
    for node in nodes:
        if node in made or node in left_out:
            continue
        out.line = node.line
        if node in forward:
            f = forward[node]
            q, k, v = (_four(out, made[o.node], o.order) for o in (f.q, f.k, f.v))
            rows[node] = attend(out, q, k, v, _numbers(out, f, made), f.scale, False, fill=_fill(f), strict=True)
            made[node] = _back(out, rows[node][0], f.out)
        elif node in backward:
            f = backward[node]
            assert f.backward is not None
            q, k, v, grad = (_four(out, made[o.node], o.order) for o in (f.q, f.k, f.v, f.backward.grad))
            result, sums = rows[f.out.node]
            gradients = attend_backward(out, q, k, v, result, grad, sums, _numbers(out, f, made), f.scale, False, fill=_fill(f),
                                        strict=True)
            for value, place in zip(gradients, f.backward.made, strict=True):
                made[place.node] = _back(out, value, place)
        else:
            made[node] = out.node(node.kind, tuple(made[i] for i in node.inputs), node.attrs, node.shape, node.dtype)
    out.line = None
    out.results = [made[r] for r in graph.results]
    return out


def _fill(found: Found) -> float | None:
    return None if found.mask is None else found.mask.fill


def _numbers(g: Graph, found: Found, made: dict[Node, Node]) -> Node | None:
    """The mask as the calls want it (B, H, L, S), computed in the size that it has before it is repeated."""
    mask = found.mask
    if mask is None:
        return None
    dtype, fill = found.q.node.dtype, mask.fill
    numbers, shape = made[mask.numbers], mask.numbers.shape
    if numbers.kind == "view":
        view: View = numbers.attrs[0]
        small = tuple([n if any(row[j] for row in view.matrix) else 1 for j, n in enumerate(shape)])
        numbers = g.view(numbers.inputs[0], View(small, view.offset, view.matrix))
    if fill is not None:
        shut, other = (0.0, fill) if mask.inverted else (fill, 0.0)
        numbers = g.map(lambda e, on: e.where(on, e.const(shut, dtype), e.const(other, dtype)), numbers)
    return _four(g, g.expand(numbers, shape), tuple(range(len(shape))))


def _four(g: Graph, x: Node, order: Sequence[int]) -> Node:
    """(batch, heads, rows, columns) of a value whose dimensions are in another order, and may be three: then there is one head."""
    x = g.permute(x, order)
    if len(order) == 4:
        return x
    b, rows, columns = x.shape
    return g.view(x, View((b, 1, rows, columns), (0, 0, 0), ((1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))))


def _back(g: Graph, x: Node, place: Operand) -> Node:
    """What ``_four`` did to a value, undone."""
    if len(place.order) == 3:
        b, _, rows, columns = x.shape
        x = g.view(x, View((b, rows, columns), (0, 0, 0, 0), ((1, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1))))
    return g.permute(x, [place.order.index(d) for d in range(len(place.order))])
