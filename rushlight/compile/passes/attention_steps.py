"""What attention that is written out is made of, step by step: values and their users, factors, masks, dropout.

Scores, weights and their gradients (..., queries, keys) go through steps that say nothing: a reshape that leaves the last two dimensions
alone (a batch of one that is dropped, heads that are counted with the batch), and a change between floating types. ``Users.same``
looks through these; formulas are compared without the latter.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rushlight.compile.expr import Expr
from rushlight.compile.graph import Graph, Node, View, is_one, same_shape
from rushlight.compile.passes.attention_products import Operand, straight
from rushlight.compile.randoms import dropout_limit, seed_of
from rushlight.compile.sizes import is_size

__all__ = ["Backward", "Drop", "Factor", "Found", "Mask", "Same", "Use", "Users", "dropped", "factor", "mask_of", "pattern", "plain",
           "product_of", "repeat", "said", "turned"]

_LARGE, _LARGEST = 1e30, 3.402823466385289e38  # the largest is float32's


@dataclass(frozen=True)
class Mask:
    """``numbers`` are added to the scores; or where they are true (or, ``inverted``, false) the score is ``fill``."""

    numbers: Node
    fill: float | None = None
    inverted: bool = False


class Drop(NamedTuple):
    """Weights that are dropped with probability ``p``, by a hash of ``seed``."""

    seed: Node
    p: float


class Factor(NamedTuple):
    """A number that is data, to multiply with or (``divides``) to divide by."""

    number: Node
    divides: bool


@dataclass(frozen=True)
class Backward:
    """The gradient of the result, and the products that are the gradients of q, k and v where somebody wants them, in the operands'
    order."""

    grad: Operand
    made: tuple[Operand | None, Operand | None, Operand | None]


@dataclass(frozen=True)
class Found:
    """``out``: the product that is the result. ``lead``: batch and heads. ``factors``: what q is multiplied with beside ``scale``.
    ``masks``: the last one first; they have one ``fill``. ``inner``: the values between, which nobody else wants."""

    q: Operand
    k: Operand
    v: Operand
    out: Operand
    lead: tuple[int, int]
    scale: float
    factors: tuple[Factor, ...]
    masks: tuple[Mask, ...]
    drop: Drop | None = None
    inner: set[Node] = field(default_factory=set)
    backward: Backward | None = None

    @property
    def fill(self) -> float | None:
        return self.masks[0].fill if self.masks else None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Queries, keys, and the two lengths of heads."""
        (queries, e), (keys, v) = ([o.node.shape[d] for d in o.order[-2:]] for o in (self.q, self.v))
        return queries, keys, e, v


class Use(NamedTuple):
    """A user, and which of some values that say the same it uses, in which order of dimensions."""

    user: Node
    of: Operand


class Same(NamedTuple):
    """Nodes that say the same, and who else uses them."""

    nodes: list[Node]
    uses: list[Use]


class Users:
    """Who uses what."""

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

    def same(self, node: Node) -> Same | None:
        """A value with all that says the same further down; None if one of these leaves the program."""
        values, found = [straight(node)], Same([], [])
        for value in values:
            found.nodes.append(value.node)
            if value.node in self.results:
                return None
            for user in self(value.node):
                more = _said_by(user, value)
                if more is None:
                    found.uses.append(Use(user, value))
                else:
                    values.append(more)
        return found

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


def said(node: Node) -> Node | None:
    """The value that a step only repeats, in other leading dimensions or another floating type."""
    if node.kind == "reshape":
        x = node.inputs[0]
        return x if min(len(x.shape), len(node.shape)) > 1 and x.shape[-2:] == node.shape[-2:] else None
    if node.kind == "pointwise" and len(node.inputs) == 1 and plain(node.attrs[0]).fn == "input" and node.dtype.kind == "f":
        return node.inputs[0]
    return None


def turned(node: Node) -> tuple[int, ...] | None:
    """Of a view that only puts dimensions in another order, or a reshape that does so with those of length one: which dimension of its
    input each of its own is."""
    if node.kind not in ("view", "reshape") or len(node.inputs[0].shape) != len(node.shape):
        return None
    shape, rank = node.inputs[0].shape, len(node.shape)
    long, ones = ([d for d in range(rank) if is_one(shape[d]) is one] for one in (False, True))
    rest = [j for j in range(rank) if is_one(node.shape[j])]
    if node.kind == "reshape":
        from_ = dict(zip([j for j in range(rank) if j not in rest], long))
    else:
        unit = [tuple(int(i == j) for i in range(rank)) for j in range(rank)]
        view: View = node.attrs[0]
        from_ = {unit.index(view.matrix[d]): d for d in long if view.matrix[d] in unit and not any(view.offset)}
    if len(ones) != len(rest) or len(from_) != len(long) or not from_.keys().isdisjoint(rest):
        return None
    from_ |= zip(rest, ones)
    return tuple([from_[j] for j in range(rank)]) if all(node.shape[j] == shape[d] for j, d in from_.items()) else None


def product_of(node: Node, users: Users) -> Operand | None:
    """The product that a value is, in the order that the value has: einsum turns what it computes."""
    if node.kind == "contract":
        return straight(node)
    order = turned(node)
    if order is None or node.inputs[0].kind != "contract" or users.only(node.inputs[0]) is not node:
        return None
    return Operand(node.inputs[0], order)


def _said_by(user: Node, value: Operand) -> Operand | None:
    """The user of a value, if it says the same: also in another order of dimensions, as einsum has operands."""
    if said(user) is value.node and (user.kind == "pointwise" or value == straight(value.node)):
        return Operand(user, value.order) if user.kind == "pointwise" else straight(user)
    order = turned(user) if user.inputs[0] is value.node else None
    return None if order is None else Operand(user, tuple([order.index(d) for d in value.order]))


# -- formulas ----------------------------------------------------------------------------------------------------------------


def plain(x: Expr) -> Expr:
    """A formula without changes of the floating type around it."""
    while x.fn == "cast" and x.dtype.kind == "f" and x.args[0].dtype.kind == "f":
        x = x.args[0]
    return x


def pattern(node: Node) -> str:
    """A short formula as text: inputs by number, constants as "#"."""
    return _text(node.attrs[0]) if node.kind == "pointwise" else ""


def _text(x: Expr, deep: int = 3) -> str:
    x = plain(x)
    if x.fn == "input":
        return str(x.attr)
    if x.fn == "const":
        return "#"
    return f"{x.fn}({','.join(_text(a, deep - 1) for a in x.args)})" if deep else "..."


def factor(node: Node) -> tuple[Node, float, Factor | None] | None:
    """A value multiplied with a number: the value, the number, or what the number is if it is data."""
    formula = plain(node.attrs[0]) if node.kind == "pointwise" else None
    if formula is None or formula.fn not in ("mul", "div"):
        return None
    one, two = map(plain, formula.args)
    for value, number in ((one, two), (two, one))[:1 if formula.fn == "div" else 2]:
        if value.fn != "input":
            continue
        x = node.inputs[value.attr]
        if number.fn == "const" and (number.attr or formula.fn == "mul"):
            return x, 1.0 / number.attr if formula.fn == "div" else number.attr, None
        data = _uniform(node.inputs[number.attr]) if number.fn == "input" else None
        if data is not None:
            return x, 1.0, Factor(data, formula.fn == "div")
    return None


def _uniform(node: Node) -> Node | None:
    """The one number that a value is full of."""
    while node.kind in ("view", "reshape") or said(node) is not None:
        node = node.inputs[0]
        if all(is_one(n) for n in node.shape):
            return node
    return None


def dropped(node: Node, x: Node) -> Drop | None:
    """What is dropped of a value x, if that is what becomes of it: ``ops/dropout.py``."""
    if pattern(node) != "where(ge(1,#),mul(0,#),#)" or node.inputs[0] is not x:
        return None
    kept, grown, zero = plain(node.attrs[0]).args
    limit, growth = kept.args[1].attr, next(a.attr for a in grown.args if a.fn == "const")
    bits = node.inputs[1]
    seed = seed_of(bits.inputs[0]) if bits.kind == "reshape" else None
    if seed is None or zero.attr != 0 or not growth > 1 or bits.inputs[0].size > 1 << 32:
        return None
    p = 1 - 1 / growth
    near = (p, math.nextafter(p, 0), math.nextafter(p, 1))
    return next((Drop(seed, q) for q in near if dropout_limit(q) == limit), None)


def mask_of(node: Node) -> tuple[Node, Mask] | None:
    """The scores and the mask that a value is made from."""
    formula = pattern(node)
    if formula in ("add(0,1)", "add(1,0)"):
        for scores, numbers in (node.inputs, node.inputs[::-1]):
            if _is_made_of_a_product(scores) and _is_small(numbers):
                return scores, Mask(numbers)
        return None
    if not formula.startswith("where("):
        return None
    what, *choices = plain(node.attrs[0]).args
    choices = [plain(c) for c in choices]
    if what.fn != "input":
        return None
    fills = [_number(c, node) for c in choices]
    inverted = fills[0] is None
    fill, chosen = fills[inverted], choices[not inverted]
    flag = node.inputs[what.attr]
    usable = fill is not None and (1 / _LARGE < abs(fill) < _LARGEST or fill == -math.inf)  # zero is what the others have
    if fill is None or not usable or chosen.fn != "input" or not _is_small(flag):
        return None
    return node.inputs[chosen.attr], Mask(flag, fill, inverted)


def _number(x: Expr, node: Node) -> float | None:
    """A number of a formula, also one that an input is full of."""
    if x.fn == "const":
        return x.attr if is_size(x.attr) else float(x.attr)
    full = node.inputs[x.attr] if x.fn == "input" else None
    while full is not None and (full.kind in ("view", "reshape") or full.kind == "pointwise" and said(full) is not None):
        full = full.inputs[0]
    if full is None or full.kind != "const":
        return None
    number = full.attrs[0]
    return number if is_size(number) else float(number)


def _is_made_of_a_product(node: Node) -> bool:
    while node.kind != "contract":
        if pattern(node) in ("add(0,1)", "add(1,0)"):
            return any(_is_made_of_a_product(x) for x in node.inputs)
        step = factor(node)
        above = node.inputs[0] if turned(node) is not None else step[0] if step is not None else said(node)
        if above is None:
            return False
        node = above
    return True


def _is_small(mask: Node) -> bool:
    """Whether a mask says the same several times, or is there anyway: else it is as large as what shall not be stored."""
    origin = mask
    while origin.kind in ("view", "reshape"):
        origin = origin.inputs[0]
    return origin.kind == "leaf" or repeat([mask])


def repeat(masks: Sequence[Node]) -> bool:
    """Whether masks of one shape, put together, say the same for several heads, batches, queries or keys."""
    shape = masks[0].shape
    if not all(same_shape(m.shape, shape) for m in masks):
        return False
    long = {d for d, n in enumerate(shape) if not is_one(n)}
    moved = {d for m in masks for d in long if m.kind != "view" or any(row[d] for row in m.attrs[0].matrix)}
    return len(long) < 3 or moved != long
