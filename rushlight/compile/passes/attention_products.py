"""The products of attention that is written out: which dimension of an operand is batch, head, query, key or width."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rushlight.compile.graph import ContractSpec, Node, is_one

__all__ = ["Operand", "factors_of", "long_dims", "other_of", "placed", "result_of", "straight"]


class Operand(NamedTuple):
    """``node`` with its dimensions in the order ``order``: batch and heads, rows, columns. -1: it has no such dimension, one serves all."""

    node: Node
    order: tuple[int, ...]

    @property
    def present(self) -> list[int]:
        return [d for d in self.order if d >= 0]

    @property
    def shared(self) -> tuple[bool, ...]:
        """Which dimensions it has not."""
        return tuple([d < 0 for d in self.order])


def straight(node: Node) -> Operand:
    return Operand(node, tuple(range(len(node.shape))))


def long_dims(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if not is_one(n)]


def _letters(spec: ContractSpec) -> bool:
    """Whether it is a plain product: letters, each once in an operand."""
    return all(all(isinstance(x, str) for x in side) and len(set(side)) == len(side) for side in (spec.a, spec.b))


def factors_of(product: Operand) -> tuple[Operand, Operand] | None:
    """q (batch, queries, head) and k (batch, keys, head) of scores (batch, queries, keys)."""
    spec: ContractSpec = product.node.attrs[0]
    if len(spec.out) < 2 or not _letters(spec):
        return None
    *batch, query, key = (spec.out[d] for d in product.order)
    sides = ((spec.a, product.node.inputs[0]), (spec.b, product.node.inputs[1]))
    for (q, q_node), (k, k_node) in (sides, sides[::-1]):
        head = [x for x in q if x not in spec.out]
        if len(head) == 1 and {query, *head} <= set(q) <= {*batch, query, *head} and {key, *head} <= set(k) <= {*batch, key, *head}:
            return Operand(q_node, _order(q, [*batch, query, *head])), Operand(k_node, _order(k, [*batch, key, *head]))
    return None


def result_of(product: Node, weights: Operand) -> tuple[Operand, Operand] | None:
    """v (batch, keys, head) and the result (batch, queries, head) of a product with the weights (batch, queries, keys)."""
    spec: ContractSpec = product.attrs[0]
    if product.inputs[0] is product.inputs[1] or not _letters(spec) or product.dtype is not weights.node.dtype:
        return None
    first = product.inputs[0] is weights.node
    p, v = (spec.a, spec.b) if first else (spec.b, spec.a)
    *batch, query, key = (p[d] for d in weights.order)
    head = [x for x in v if x not in p]
    if len(head) != 1 or not {key, *head} <= set(v) <= {*batch, key, *head} or set(spec.out) != {*batch, query, *head}:
        return None
    return (Operand(product.inputs[int(first)], _order(v, [*batch, key, *head])),
            Operand(product, _order(spec.out, [*batch, query, *head])))


def other_of(product: Operand, v: Operand) -> Operand | None:
    """The other operand x (batch, rows, width) of a product (batch, rows, columns) with v (batch, columns, width)."""
    spec: ContractSpec = product.node.attrs[0]
    one, two = product.node.inputs
    if one is two or v.node not in (one, two) or not _letters(spec) or product.node.dtype is not one.dtype:
        return None
    letters, (other, node) = (spec.b, (spec.a, one)) if v.node is two else (spec.a, (spec.b, two))
    *batch, row, column = (spec.out[d] for d in product.order)
    *same, also, width = (letters[d] if d >= 0 else None for d in v.order)
    want = [*batch, row, width]
    if not _agree(batch, same) or also != column or width in spec.out or len(other) != len(want) or set(other) != set(want):
        return None
    return Operand(node, _order(other, want))


def _order(have: Sequence[object], want: Sequence[object]) -> tuple[int, ...]:
    return tuple([list(have).index(x) if x in have else -1 for x in want])


def _agree(batch: Sequence[object], some: Sequence[object]) -> bool:
    """Whether an operand has the batch's dimensions, or none where it serves all."""
    return all(x in (None, b) for b, x in zip(batch, some, strict=True))


def placed(product: Node, a: Operand, b: Operand, equation: str) -> Operand | None:
    """A product of these two, with the last two dimensions of each named as in ``equation``: the order of its dimensions, of which
    those of the batch may be summed over, too. ``a`` has them all."""
    spec: ContractSpec = product.attrs[0]
    if not _letters(spec) or {*product.inputs} != {a.node, b.node} or a.node is b.node or product.dtype is not a.node.dtype:
        return None
    sides = {product.inputs[0]: spec.a, product.inputs[1]: spec.b}
    left, right = ([sides[x.node][d] if d >= 0 else None for d in x.order] for x in (a, b))
    names, out = equation.split("->")
    called: dict[str, object] = {}
    for name, letter in zip(names.replace(",", ""), (*left[-2:], *right[-2:])):
        if called.setdefault(name, letter) != letter:
            return None
    want = [*left[:-2], *(called[x] for x in out)]
    different = len(set(called.values())) == len(called)
    if len(left) != len(right) or not _agree(left[:-2], right[:-2]) or not different or not set(want[-2:]) <= set(spec.out) <= set(want):
        return None
    return Operand(product, _order(spec.out, want))
