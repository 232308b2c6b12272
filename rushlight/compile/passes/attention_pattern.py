"""Attention that is written out, recognised in a graph: which products, scale and mask it is made of, and where its backward is.

``find`` begins at the maximum that a softmax subtracts and goes up to the product of q and k and down to that with v. All that
lies between must have no other user, but for the gradients, which are recognised in the same way or not at all.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rushlight.compile.attention import MAX_HEAD
from rushlight.compile.expr import Expr
from rushlight.compile.graph import ContractSpec, Graph, Node, View, same_shape

__all__ = ["Backward", "Found", "Mask", "Operand", "find"]

_LARGE, _LARGEST = 1e30, 3.402823466385289e38  # the largest is float32's


@dataclass(frozen=True)
class Mask:
    """``numbers`` are added to the scores; or where they are true (or, ``inverted``, false) the score is ``fill``."""

    numbers: Node
    fill: float | None = None
    inverted: bool = False


class Operand(NamedTuple):
    """``node`` with its dimensions in the order ``order``: batch and heads, rows, columns."""

    node: Node
    order: tuple[int, ...]


@dataclass(frozen=True)
class Backward:
    """The gradient of the result, and the products that are the gradients of q, k and v, in the operands' order."""

    grad: Operand
    made: tuple[Operand, Operand, Operand]


@dataclass(frozen=True)
class Found:
    """``out``: the product that is the result. ``inner``: the values between, which nobody else wants."""

    q: Operand
    k: Operand
    v: Operand
    out: Operand
    scale: float
    mask: Mask | None
    inner: set[Node] = field(default_factory=set)
    backward: Backward | None = None


def find(graph: Graph, nodes: Sequence[Node]) -> list[Found]:
    """All that is found among the live nodes of a graph."""
    starts = [n for n in nodes if _is_softmax_start(n)]
    if not starts:
        return []
    users = _Users(graph, nodes)
    return [f for n in starts for f in [_forward(n, users)] if f is not None]


class _Users:
    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        self.of: dict[Node, list[Node]] = {}
        for node in nodes:
            for i in dict.fromkeys(node.inputs):
                self.of.setdefault(i, []).append(node)
        self.results = set(graph.results)

    def __call__(self, node: Node) -> list[Node]:
        """All users of a value; none if it leaves the program."""
        return [] if node in self.results else self.of.get(node, [])

    def only(self, node: Node) -> Node | None:
        users = self(node)
        return users[0] if len(users) == 1 else None

    def spread(self, reduced: Node, like: Node) -> list[Node] | None:
        """A reduction over the last dimension, and what spreads it over that again, if that is all that becomes of it."""
        column = self.only(reduced)
        wide = self.only(column) if column is not None and column.kind == "reshape" else None
        if column is None or wide is None or wide.kind != "view" or not same_shape(wide.shape, like.shape):
            return None
        rank = len(like.shape)
        straight = tuple(tuple(int(d == j and d < rank - 1) for j in range(rank)) for d in range(rank))
        view: View = wide.attrs[0]
        long = [d for d in range(rank - 1) if like.shape[d] != 1]
        fits = len(view.matrix) == rank and not any(view.offset) and all(view.matrix[d] == straight[d] for d in long)
        return [reduced, column, wide] if fits and not any(any(view.matrix[d]) for d in range(rank) if d not in long) else None


def _is_softmax_start(node: Node) -> bool:
    return (node.kind == "reduce" and node.attrs == ("max", (len(node.inputs[0].shape) - 1,)) and 2 < len(node.inputs[0].shape) < 5
            and node.dtype.name in ("float32", "float64"))


def _forward(most: Node, users: _Users) -> Found | None:
    """What the maximum of the scores belongs to."""
    scores = most.inputs[0]
    softmax = _softmax(most, scores, users)
    below = _scores(scores, users)
    if softmax is None or below is None:
        return None
    weights, inner = softmax
    product, scale, mask, steps = below
    made = _factors(product)
    results = [r for u in users(weights) if u.kind == "contract" for r in [_result(u, weights)] if r is not None]
    if made is None or len(results) != 1:
        return None
    found = Found(*made, *results[0], scale, mask, {*inner, *steps, product, weights})
    if not _has_kernel(found):
        return None
    rest = [u for u in users(weights) if u is not found.out.node]
    return _backward(found, weights, rest, users) if rest else found


def _softmax(most: Node, scores: Node, users: _Users) -> tuple[Node, list[Node]] | None:
    """The weights, and what lies between."""
    shift = users.spread(most, scores)
    above = users.only(shift[-1]) if shift else None
    if shift is None or above is None or _pattern(above) != "sub(0,1)" or above.inputs != (scores, shift[-1]):
        return None
    if set(users(scores)) != {most, above}:
        return None
    powers = [u for u in users(above) if _pattern(u) == "exp(0)"]
    weights = [u for u in users(above) if _pattern(u) == "div(exp(0),1)"]
    if len(powers) != 1 or len(weights) != 1 or len(users(above)) != 2:
        return None
    total = users.only(powers[0])
    if total is None or total.kind != "reduce" or total.attrs != ("add", most.attrs[1]):
        return None
    sums = users.spread(total, scores)
    if sums is None or users.only(sums[-1]) is not weights[0] or weights[0].inputs != (above, sums[-1]):
        return None
    return weights[0], [*shift, above, powers[0], *sums]


def _scores(node: Node, users: _Users) -> tuple[Node, float, Mask | None, list[Node]] | None:
    """The product that scores are made from, the scale, the mask; and what lies between."""
    mask, scale, steps = None, 1.0, []
    masked = _mask(node)
    if masked is not None:
        steps.append(node)
        node, mask = masked
    while node.kind == "pointwise":
        factor = _factor(node)
        if factor is None:
            return None
        scale *= factor
        steps.append(node)
        node = node.inputs[0]
    chain = [*steps, node]
    alone = all(users.only(lower) is upper for upper, lower in zip(chain, chain[1:]))
    if node.kind != "contract" or not alone or not abs(scale) < _LARGE or node.dtype is not node.inputs[0].dtype:
        return None
    return node, scale, mask, steps


def _pattern(node: Node) -> str:
    """A short formula as text: inputs by number, constants as "#"."""
    return _text(node.attrs[0]) if node.kind == "pointwise" else ""


def _text(x: Expr, deep: int = 3) -> str:
    if x.fn == "input":
        return str(x.attr)
    if x.fn == "const":
        return "#"
    return f"{x.fn}({','.join(_text(a, deep - 1) for a in x.args)})" if deep else "..."


def _factor(node: Node) -> float | None:
    """The number that a value is multiplied with, or what dividing by a number amounts to."""
    formula = _pattern(node)
    if formula not in ("mul(0,#)", "mul(#,0)", "div(0,#)"):
        return None
    number = next(a.attr for a in node.attrs[0].args if a.fn == "const")
    if formula == "div(0,#)":
        return 1.0 / number if number else None
    return float(number)


def _mask(node: Node) -> tuple[Node, Mask] | None:
    """The scores and the mask that a value is made from."""
    formula = _pattern(node)
    if formula in ("add(0,1)", "add(1,0)"):
        for scores, numbers in (node.inputs, node.inputs[::-1]):
            if _is_made_of_a_product(scores) and _repeats(numbers):
                return scores, Mask(numbers)
        return None
    if not formula.startswith("where("):
        return None
    what, *choices = node.attrs[0].args
    if what.fn != "input":
        return None
    fills = [_number(c, node) for c in choices]
    inverted = fills[0] is None
    fill, chosen = fills[inverted], choices[not inverted]
    flag = node.inputs[what.attr]
    usable = fill is not None and (1 / _LARGE < abs(fill) < _LARGEST or fill == -math.inf)  # zero is what the others have
    if fill is None or not usable or chosen.fn != "input" or not _repeats(flag):
        return None
    return node.inputs[chosen.attr], Mask(flag, fill, inverted)


def _number(x: Expr, node: Node) -> float | None:
    """A number of a formula, also one that an input is full of."""
    if x.fn == "const":
        return float(x.attr)
    full = node.inputs[x.attr] if x.fn == "input" else None
    while full is not None and full.kind in ("view", "reshape"):
        full = full.inputs[0]
    return float(full.attrs[0]) if full is not None and full.kind == "const" else None


def _is_made_of_a_product(node: Node) -> bool:
    while node.kind == "pointwise" and _factor(node) is not None:
        node = node.inputs[0]
    return node.kind == "contract"


def _repeats(mask: Node) -> bool:
    """Whether a mask says the same of several heads or batches: else it is as large as what shall not be stored."""
    lead = mask.shape[:-2]
    if all(n == 1 for n in lead):
        return True
    return mask.kind == "view" and any(n != 1 and not any(row[d] for row in mask.attrs[0].matrix) for d, n in enumerate(lead))


# -- products: which dimension is which ------------------------------------------------------------------------------------


def _letters(spec: ContractSpec) -> bool:
    """Whether it is a plain product: letters, each once in an operand."""
    return all(all(isinstance(x, str) for x in side) and len(set(side)) == len(side) for side in (spec.a, spec.b))


def _factors(product: Node) -> tuple[Operand, Operand] | None:
    """q (batch, queries, head) and k (batch, keys, head) of scores (batch, queries, keys)."""
    spec: ContractSpec = product.attrs[0]
    *batch, query, key = spec.out
    if not _letters(spec):
        return None
    sides = ((spec.a, product.inputs[0]), (spec.b, product.inputs[1]))
    for (q, q_node), (k, k_node) in (sides, sides[::-1]):
        head = [x for x in q if x not in spec.out]
        if len(head) == 1 and set(q) == {*batch, query, *head} and set(k) == {*batch, key, *head}:
            return Operand(q_node, _order(q, [*batch, query, *head])), Operand(k_node, _order(k, [*batch, key, *head]))
    return None


def _result(product: Node, weights: Node) -> tuple[Operand, Operand] | None:
    """v (batch, keys, head) and the result (batch, queries, head) of a product with the weights (batch, queries, keys)."""
    spec: ContractSpec = product.attrs[0]
    if product.inputs[0] is product.inputs[1] or not _letters(spec) or product.dtype is not weights.dtype:
        return None
    p, v = (spec.a, spec.b) if product.inputs[0] is weights else (spec.b, spec.a)
    value = product.inputs[1] if product.inputs[0] is weights else product.inputs[0]
    *batch, query, key = p
    head = [x for x in v if x not in p]
    if len(head) != 1 or set(v) != {*batch, key, *head} or set(spec.out) != {*batch, query, *head}:
        return None
    return Operand(value, _order(v, [*batch, key, *head])), Operand(product, _order(spec.out, [*batch, query, *head]))


def _order(have: Sequence[object], want: Sequence[object]) -> tuple[int, ...]:
    return tuple([list(have).index(x) for x in want])


def _has_kernel(found: Found) -> bool:
    heads = (found.q.node.shape[found.q.order[-1]], found.v.node.shape[found.v.order[-1]])
    return all(n <= MAX_HEAD for n in heads)


# -- the backward ------------------------------------------------------------------------------------------------------------


def _backward(found: Found, weights: Node, rest: Sequence[Node], users: _Users) -> Found | None:
    """With the gradients, if these are all that else becomes of the weights: dV = Pᵀ dO, dP = dO Vᵀ, dS = P (dP - Σ P dP),
    dQ = dS K, dK = dSᵀ Q."""
    to_v = [u for u in rest if u.kind == "contract"]
    inner = [u for u in rest if _pattern(u) in ("mul(0,1)", "mul(1,0)")]
    change = [u for u in rest if _pattern(u) == "mul(1,sub(0,2))"]
    if len(to_v) != 1 or len(inner) != 1 or len(change) != 1 or len(rest) != 3:
        return None
    steps = _softmax_gradient(weights, inner[0], change[0], users)
    grad = to_v[0].inputs[1 - to_v[0].inputs.index(weights)]
    first = change[0].inputs[0]  # dP
    if steps is None or first.kind != "contract" or grad not in first.inputs:
        return None
    like = found.out.order
    if not _is_product(first, (grad, like), (found.v.node, found.v.order), "yx,zx->yz"):
        return None
    made_v = _placed(to_v[0], (weights, tuple(range(len(weights.shape)))), (grad, like), "yz,yx->zx")
    chain = _chain(change[0], found, users)
    if made_v is None or chain is None:
        return None
    scores, between = chain
    straight = tuple(range(len(scores.shape)))
    made_q = made_k = None
    for use in users(scores):
        if use.kind != "contract":
            return None
        to_q = _placed(use, (scores, straight), (found.k.node, found.k.order), "yz,zx->yx")
        to_k = _placed(use, (scores, straight), (found.q.node, found.q.order), "yz,yx->zx")
        if to_q is not None and made_q is None:
            made_q = to_q
        elif to_k is not None and made_k is None:
            made_k = to_k
        else:
            return None
    if made_q is None or made_k is None:
        return None
    used = {*found.inner, *steps, *between, scores, first}
    return replace(found, inner=used, backward=Backward(Operand(grad, like), (made_q, made_k, made_v)))


def _softmax_gradient(weights: Node, inner: Node, change: Node, users: _Users) -> list[Node] | None:
    """What lies between the gradient of the weights and that of the scores, if it is softmax's."""
    first = change.inputs[0]
    total = users.only(inner)
    if total is None or total.kind != "reduce" or total.attrs != ("add", (len(weights.shape) - 1,)):
        return None
    sums = users.spread(total, weights)
    if sums is None or users.only(sums[-1]) is not change or set(inner.inputs) != {first, weights}:
        return None
    fits = change.inputs == (first, weights, sums[-1]) and set(users(first)) == {inner, change}
    return [inner, *sums, change] if fits else None


def _chain(node: Node, found: Found, users: _Users) -> tuple[Node, list[Node]] | None:
    """The gradient of the product of q and k, from that of the softmax's input: through the mask and the scale."""
    between, scale, masked = [], 1.0, found.mask is None or found.mask.fill is None
    while True:
        above = users.only(node)
        if above is None or above.kind != "pointwise":
            break
        if not masked:
            if not _is_shut(above, node, found.mask):
                return None
            masked = True
        else:
            factor = _factor(above)
            if factor is None:
                return None
            scale *= factor
        between.append(node)
        node = above
    return (node, between) if masked and math.isclose(scale, found.scale, rel_tol=1e-6) else None


def _is_shut(node: Node, inner: Node, mask: Mask | None) -> bool:
    """Whether it is a gradient that is zero where the mask put a number."""
    if mask is None or _pattern(node) not in ("where(0,#,1)", "where(0,1,#)", "where(1,#,0)", "where(1,0,#)"):
        return False
    what, yes, no = node.attrs[0].args
    zero, kept = (no, yes) if mask.inverted else (yes, no)
    return (node.inputs[what.attr] is mask.numbers and zero.fn == "const" and zero.attr == 0 and kept.fn == "input"
            and node.inputs[kept.attr] is inner)


Side = tuple[Node, tuple[int, ...]]


def _placed(product: Node, a: Side, b: Side, equation: str) -> Operand | None:
    """A product of these two, with the last two dimensions of each named as in ``equation``: the order of its dimensions."""
    spec: ContractSpec = product.attrs[0]
    if not _letters(spec) or {*product.inputs} != {a[0], b[0]} or a[0] is b[0] or product.dtype is not a[0].dtype:
        return None
    sides = {product.inputs[0]: spec.a, product.inputs[1]: spec.b}
    left, right = ([sides[node][d] for d in order] for node, order in (a, b))
    names, out = equation.split("->")
    called: dict[str, object] = {}
    for name, letter in zip(names.replace(",", ""), (*left[-2:], *right[-2:])):
        if called.setdefault(name, letter) != letter:
            return None
    want = [*left[:-2], *(called[x] for x in out)]
    different = len(set(called.values())) == len(called)
    if left[:-2] != right[:-2] or not different or set(spec.out) != set(want) or len(spec.out) != len(want):
        return None
    return Operand(product, _order(spec.out, want))


def _is_product(product: Node, a: Side, b: Side, equation: str) -> bool:
    """... whose dimensions are in that order."""
    made = _placed(product, a, b, equation)
    return made is not None and made.order == tuple(range(len(made.order)))
