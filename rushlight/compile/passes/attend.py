"""Attention that is written out: two products with a softmax between them, and their gradients, become attention's native calls.

    weights = dropout(softmax(mask(q @ kᵀ * scale)));  y = weights @ v

is how people write it who do not call ``scaled_dot_product_attention``. As recorded, each step stores a number for each pair of
query and key. The calls of ``attention.py`` go through them in tiles and leave out what the mask shuts, and their backward computes
the weights again. That is the same only where nobody else wants the weights or the scores.

The scale may be a product or a quotient, before the mask, by a number, which may be a size and is a parameter of the calls, or by data:
then q is multiplied with it. The mask may be a number that takes the place of scores (``masked_fill``, ``where``), finite or not, or
numbers that are added; it may repeat over batch and heads. Several of one kind become one. Dropout computes the same hash in the calls.
What is rounded between the steps, to bfloat16 say, is not rounded there. Not recognised: a gradient of what is added to the scores, and
masks of both kinds.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rushlight.compile.attention import attend, attend_backward
from rushlight.compile.graph import Graph, Node, View, is_one
from rushlight.compile.passes.attention_pattern import find
from rushlight.compile.passes.attention_products import Operand, long_dims
from rushlight.compile.passes.attention_steps import Found
from rushlight.compile.passes.legalise import live_nodes
from rushlight.compile.passes.simplify import reshaped
from rushlight.compile.sizes import decision

__all__ = ["attention_calls"]

_SHORTEST = 8  # queries and keys
_LONG = 128    # a head


def attention_calls(graph: Graph) -> Graph:
    """An equal graph in which attention that is written out is a native call for each direction."""
    nodes = live_nodes(graph)
    found = [f for f in find(graph, nodes) if _pays(f)]
    return _Rebuilt(graph, found).made(nodes) if found else graph


def _pays(found: Found) -> bool:
    """Whether the calls are worth it, from sizes alone: what they add is a turn of each head, what they save grows with the length.

    Rows of long heads fill the first-level cache, so that there it is a matter of memory first."""
    return _long_enough(*found.sizes)


@decision
def _long_enough(queries: int, keys: int, e: int, v: int) -> bool:
    short, head = min(queries, keys), max(e, v)
    return short >= _SHORTEST and (short * 3 >= head if head <= _LONG else short >= 2 * head)


class _Rebuilt:
    """The graph with calls in place of what was found."""

    def __init__(self, graph: Graph, found: Sequence[Found]) -> None:
        self.graph, self.out, self.values = graph, Graph(), dict[Node, Node]()
        self.left_out = {n for f in found for n in f.inner}
        self.forward = {f.out.node: f for f in found}
        self.backward = {o.node: f for f in found if f.backward for o in f.backward.made if o is not None}
        self.rows: dict[Node, tuple[Node, Node]] = {}  # of each result: in the calls' form, and what is kept of its rows

    def made(self, nodes: Sequence[Node]) -> Graph:
        out, values = self.out, self.values
        for node in self.graph.leaves:
            out.line = node.line
            values[node] = out.leaf(node.shape, node.dtype)
        for node in nodes:
            if node in values or node in self.left_out:
                continue
            out.line = node.line
            if node in self.forward:
                self._attend(self.forward[node])
            elif node in self.backward:
                self._attend_backward(self.backward[node])
            else:
                values[node] = out.node(node.kind, tuple(values[i] for i in node.inputs), node.attrs, node.shape, node.dtype)
        out.line = None
        out.results = [values[r] for r in self.graph.results]
        return out

    def _attend(self, f: Found) -> None:
        result, rows = self.rows[f.out.node] = attend(self.out, *self._operands(f), strict=True, **self._options(f))
        self.values[f.out.node] = self._back(result, f.out, f)

    def _attend_backward(self, f: Found) -> None:
        assert f.backward is not None
        q, k, v, mask = self._operands(f)
        result, rows = self.rows[f.out.node]
        grad = self._four(f.backward.grad, f)
        made = list(attend_backward(self.out, q, k, v, result, grad, rows, mask, strict=True, **self._options(f)))
        made[0] = self._scaled(made[0], f)
        for value, place in zip(made, f.backward.made, strict=True):
            if place is not None:
                self.values[place.node] = self._back(value, place, f)

    def _operands(self, f: Found) -> tuple[Node, Node, Node, Node | None]:
        q, k, v = (self._four(o, f) for o in (f.q, f.k, f.v))
        return self._scaled(q, f), k, v, self._numbers(f)

    def _options(self, f: Found) -> dict[str, Any]:
        options = {"scale": f.scale, "causal": False, "fill": f.fill}
        return options if f.drop is None else options | {"drop": f.drop.p, "seed": self.values[f.drop.seed]}

    def _scaled(self, x: Node, f: Found) -> Node:
        """With the factors that are data. They are the same for q and for its gradient."""
        g, dtype = self.out, x.dtype
        for number, divides in f.factors:
            one = g.reshape(g.cast(self.values[number], dtype.compute), (1,) * len(x.shape))
            x = g.cast(g.map(_divided if divides else _multiplied, g.cast(x, dtype.compute), one), dtype)
        return x

    def _numbers(self, f: Found) -> Node | None:
        """The masks as the calls want them, one (B, H, L, S), computed in the size that it has before it is repeated."""
        if not f.masks:
            return None
        g, dtype, fill = self.out, f.q.node.dtype.compute, f.fill

        def together(e: Any, *numbers: Any) -> Any:
            total = numbers[0]
            for more in numbers[1:]:
                total = total + more
            return total

        def shut(e: Any, *flags: Any) -> Any:
            number = e.const(0.0, dtype)
            for flag, mask in zip(flags, f.masks, strict=True):
                number = e.where(flag, *((number, e.const(fill, dtype)) if mask.inverted else (e.const(fill, dtype), number)))
            return number
        small = [self._small(m.numbers) for m in f.masks]
        numbers = g.map(together, *(g.cast(x, dtype) for x in small)) if fill is None else g.map(shut, *small)
        return _four(g, g.expand(numbers, f.masks[0].numbers.shape), f.lead)

    def _small(self, mask: Node) -> Node:
        """A mask before it is repeated, in as many dimensions."""
        value = self.values[mask]
        if value.kind != "view":
            return value
        view: View = value.attrs[0]
        small = tuple([n if any(row[j] for row in view.matrix) else 1 for j, n in enumerate(mask.shape)])
        return self.out.view(value.inputs[0], View(small, view.offset, view.matrix))

    def _four(self, x: Operand, f: Found) -> Node:
        value = self.out.permute(self.values[x.node], x.present)
        if not any(x.shared):
            return _four(self.out, value, f.lead)
        *_, rows, columns = value.shape
        b, h = (1 if one else n for one, n in zip(_shared(x, f), f.lead, strict=True))
        value = _four(self.out, value, (b, h))
        if all(_shared(o, f) == (False, True) for o in (f.k, f.v)) and x in (f.k, f.v):
            return value  # one head of keys and values for all queries
        return self.out.expand(value, (*f.lead, rows, columns))

    def _back(self, value: Node, place: Operand, f: Found) -> Node:
        """What ``_four`` did to a value, undone: the dimensions of ``place``, summed over those that it has not."""
        g = self.out
        axes = [d for d, one in enumerate(_shared(place, f)) if one and not is_one(value.shape[d])] if any(place.shared) else []
        if axes:
            value = g.cast(g.reduce("add", g.cast(value, value.dtype.compute), axes, True), value.dtype)
        shape = tuple([place.node.shape[d] for d in place.present])
        return g.permute(reshaped(g, value, shape), [place.present.index(d) for d in range(len(shape))])


def _shared(x: Operand, f: Found) -> tuple[bool, ...]:
    """Whether one batch, and one head, of an operand that has not all dimensions serves all."""
    if len(x.order) == 4:
        return x.shared[:2]
    missing = iter(x.shared)
    return tuple([not is_one(n) and next(missing) for n in f.lead])


def _multiplied(e: Any, x: Any, y: Any) -> Any:
    return x * y


def _divided(e: Any, x: Any, y: Any) -> Any:
    return x / y


def _four(g: Graph, x: Node, lead: tuple[int, int]) -> Node:
    """(batch, heads, rows, columns) of a value whose leading dimensions are these two, without those of length one, or both as one."""
    *have, rows, columns = x.shape
    long = [d for d in range(2) if not is_one(lead[d])]
    joined = len(long_dims(have)) < len(long)
    matrix, left = [], iter(long)
    for n in have:
        row = [0, 0, 0, 0]
        if not is_one(n) and joined:
            row[:2] = lead[1], 1
        elif not is_one(n):
            row[next(left)] = 1
        matrix.append(tuple(row))
    return g.view(x, View((*lead, rows, columns), (0,) * len(x.shape), (*matrix, (0, 0, 1, 0), (0, 0, 0, 1))))
