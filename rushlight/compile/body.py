"""Body: what one kernel computes, as formulas over loads, positions and reductions; loops are decided later.

The builder starts from a group's roots and pulls: each value is asked for at an index, views and pads change the index,
stored values become loads, everything else becomes part of the formula.
"""
from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

from . import dtypes as dt
from . import index as ix
from .costs import divides_integers
from .dtypes import DType
from .expr import Expr, cast, const, count, e, input_, walk
from .fuse_rules import through_pad
from .fusion import Fusion
from .graph import Node
from .group import Group
from .index import Index, Ix, bounds
from .passes.layout import reshaped_order
from .sizes import is_size

__all__ = ["Body", "Builder", "Value", "Put", "Test", "address_of", "strides_of"]

Conds = tuple[tuple[Ix, int, int], ...]  # each: low <= position < high
_DIVISIONS = ("floordiv", "truncdiv", "mod", "fmod")


@dataclass
class Value:
    """One numbered value: ``load`` (of the memory of ``node``, a graph's, or a number after ``Body.numbered``, at ``at``), ``form``
    (the int64 value of ``at``), ``acc`` (the reduction of ``expr`` with ``op``), ``running`` (that of the positions so far along
    the axis that runs in order), ``sum`` (a contraction's), or ``partial`` (a load from scratch memory)."""

    kind: str
    dtype: DType
    at: Ix = ix.ZERO
    node: Any = None
    conds: Conds = ()
    other: Any = 0
    op: str = ""
    expr: Expr | None = None
    position: Ix | None = None


@dataclass
class Put:
    """A store: ``expr`` into ``node``'s memory at ``at`` (None: into the scratch memory of split reductions)."""

    node: Any
    at: Ix
    expr: Expr
    combine: str | None = None
    guard: Expr | None = None
    distinct: bool = False


@dataclass
class Test:
    """A run-time check."""

    condition: Expr
    code: int
    found: Expr
    bound: int


@dataclass
class Body:
    extents: dict[int, int]
    kept: list[int]
    reduced: list[int]
    values: list[Value] = field(default_factory=list)
    puts: list[Put] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    dynamic: dict[int, Expr] = field(default_factory=dict)  # dynamic axis -> its position

    def number(self, value: Value) -> Expr:
        self.values.append(value)
        return input_(len(self.values) - 1, value.dtype)

    def numbered(self) -> tuple[Body, list[Node]]:
        """The same body with numbers in the place of the values that lie in memory, and these values."""
        numbers: dict[Any, Any] = {None: None}
        for node in (*(v.node for v in self.values), *(p.node for p in self.puts)):
            numbers.setdefault(node, len(numbers) - 1)
        values = [v if v.node is None else replace(v, node=numbers[v.node]) for v in self.values]
        puts = [replace(p, node=numbers[p.node]) for p in self.puts]
        body = Body(self.extents, self.kept, self.reduced, values, puts, self.tests, self.dynamic)
        return body, [node for node in numbers if node is not None]

    def key(self) -> tuple:
        """All that lowering looks at: equal for bodies that give equal loops."""
        values = [(v.kind, v.dtype, v.at, v.node, v.conds, repr(v.other), v.op, v.expr, v.position) for v in self.values]
        puts = [(p.node, p.at, p.expr, p.combine, p.guard, p.distinct) for p in self.puts]
        tests = [(t.condition, t.code, t.found, t.bound) for t in self.tests]
        return (tuple(self.extents.items()), tuple(self.kept), tuple(self.reduced), tuple(values), tuple(puts), tuple(tests),
                tuple(self.dynamic.items()))


def strides_of(fusion: Fusion, node: Node) -> tuple[int, ...]:
    """Strides, in elements, of a stored value's dimensions."""
    order = _order_of(fusion, node)
    if order is None:
        return ix.row_major(node.shape)
    steps = ix.row_major([node.shape[d] for d in order])
    out = [0] * len(order)
    for d, step in zip(order, steps):
        out[d] = step
    return tuple(out)


def _order_of(fusion: Fusion, node: Node) -> tuple[int, ...] | None:
    """The order of a stored value's dimensions: follows from that of the value whose memory it is."""
    aliases = []
    while node in fusion.alias:
        aliases.append(node)
        node = fusion.alias[node]
    order = fusion.order.get(node)
    for alias in reversed(aliases):
        if order is not None and alias.shape != node.shape:
            order = reshaped_order(order, node.shape, alias.shape)
            assert order is not None, f"{alias} is not the memory of {node}"
        node = alias
    return order


def address_of(fusion: Fusion, node: Node, index: Index) -> Ix:
    """The element of the memory under a stored value that holds its element ``index``."""
    while node in fusion.window:
        index = ix.through_view(index, fusion.window[node])
        node = fusion.alias[node]
    return ix.address(index, strides_of(fusion, node))


class Builder:
    """Makes the body of a group."""

    def __init__(self, group: Group, fusion: Fusion) -> None:
        self.group, self.fusion = group, fusion
        self.body = Body(dict(group.extents), list(group.kept), list(group.reduced))
        self._known: dict[tuple, Expr] = {}
        self._loads: dict[tuple, Expr] = {}
        self._forms: dict[Ix, Expr] = {}
        if group.kind == "contract":
            assert group.anchor is not None
            self._sum = self.body.number(Value("sum", group.anchor.dtype.compute))

    def build(self) -> Body:
        """Formulas for all roots (those of reductions included)."""
        for node, index in self.group.roots.items():
            if node is self.group.anchor and self.group.kind not in ("loops", "contract"):
                continue
            self.body.puts.append(Put(node, self.at(node, index), self.pull(node, index)))
        return self.body

    def at(self, node: Node, index: Index) -> Ix:
        return address_of(self.fusion, node, index)

    def pull(self, node: Node, index: Index, conds: Conds = ()) -> Expr:
        """The formula of ``node`` at ``index``. A loop over generators: chains may be longer than Python's stack."""
        stack: list[Generator[tuple, Expr, Expr]] = [self._pull(node, index, conds)]
        value: Any = None
        while stack:
            try:
                wanted = stack[-1].send(value)
            except StopIteration as done:
                stack.pop()
                value = done.value
                continue
            known = self._known.get(wanted)
            if known is not None:
                value = known
            else:
                stack.append(self._pull(*wanted))
                value = None
        return value

    def _computed_here(self, node: Node) -> bool:
        group = self.group
        return node in group.roots or node in group.reduces or node is group.anchor and group.kind == "contract"

    def _pull(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        key = (node, index, conds)
        if node.kind == "const":
            made = const(node.attrs[0], node.dtype)
        elif self.fusion.stored(node) and not self._computed_here(node):
            made = self.load(node, self.at(node, index), conds)
        else:
            made = yield from getattr(self, "_" + node.kind)(node, index, conds)
        self._known[key] = made
        return made

    # -- primitives ----------------------------------------------------------------------------------------------
    def _pointwise(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        inputs = []
        for source in node.inputs:
            inputs.append((yield (source, index, conds)))
        expr: Expr = node.attrs[0]
        made: dict[Expr, Expr] = {}
        divides = divides_integers(expr)
        for n in walk(expr):
            if n.fn == "input":
                new = inputs[n.attr]
            elif n.fn == "index":
                new = self.form(index[n.attr])
            elif not n.args:
                new = n
            else:
                args = tuple(made[a] for a in n.args)
                if divides and n.fn in _DIVISIONS and n.dtype.kind in "iu":
                    args = (args[0], self._divisor(args[1], conds))
                new = n if args == n.args else Expr(n.fn, args, n.dtype, n.attr)
            made[n] = new
        return made[expr]

    def _divisor(self, divisor: Expr, conds: Conds) -> Expr:
        """An integer divisor that is never zero; zero is reported when the program ends."""
        if divisor.fn == "const" and divisor.attr != 0:
            return divisor
        good = e.ne(divisor, 0)
        self._check(good, conds, 2, e.cast(divisor, dt.int64), 0)
        return e.where(good, divisor, const(1, divisor.dtype))

    def _check(self, good: Expr, conds: Conds, code: int, found: Expr, bound: int) -> None:
        if conds:
            good = e.xor(self.guard(conds), const(True, dt.bool_)) | good
        self.body.tests.append(Test(good, code, found, bound))

    def _copy(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        return (yield (node.inputs[0], index, conds))

    def _view(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        return (yield (node.inputs[0], ix.through_view(index, node.attrs[0]), conds))

    def _reshape(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        source = node.inputs[0]
        return (yield (source, ix.through_reshape(index, node.shape, source.shape, self.body.extents), conds))

    def _pad(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        low, value = node.attrs
        source = node.inputs[0]
        inner = through_pad(index, low)
        own = []
        for at, size in zip(inner, source.shape):
            first, last = bounds(at, self.body.extents)
            if first < 0 or last >= size:
                own.append((at, 0, size))
        if not own:
            return (yield (source, inner, conds))
        both = (*conds, *(c for c in own if c not in conds))
        x = yield (source, inner, both)
        if x.fn == "input":
            loaded = self.body.values[x.attr]
            if loaded.kind == "load" and loaded.conds == both and _exact(value, node.dtype):
                return self.load(loaded.node, loaded.at, both, value)
        return e.where(self.guard(tuple(own)), x, const(value, node.dtype))

    def _fit(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        # Asked along all dimensions where a size may leave something over: what is left at this one changes no loop.
        own = tuple([(index[d], 0, node.inputs[0].shape[d]) for d in node.attrs[0]])
        both = (*conds, *(c for c in own if c not in conds))
        x = yield (node.inputs[0], index, both)
        if x.fn == "input":
            loaded = self.body.values[x.attr]
            if loaded.kind == "load" and loaded.conds == both:
                return self.load(loaded.node, loaded.at, both, 0)
        return e.where(self.guard(own), x, const(0, node.dtype))

    def _gather(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        x, at = node.inputs
        axis, check = node.attrs
        where = e.cast((yield (at, index, conds)), dt.int64)
        if check:
            bound = x.shape[axis]
            good = e.ge(where, 0) & e.lt(where, count(bound))
            self._check(good, conds, check, where, bound)
            if x.size == 0:
                return const(0, node.dtype)
            where = e.where(good, where, const(0, dt.int64))
        moved = -1 - len(self.body.dynamic)
        self.body.extents[moved] = max(1, x.shape[axis])
        self.body.dynamic[moved] = where
        return (yield (x, (*index[:axis], ix.axis_ix(moved), *index[axis + 1:]), conds))

    def _reduce(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        known = self._known.get((node, "acc"))
        if known is not None:
            return known
        op, axes = node.attrs
        _, inner = self.group.reduces[node]
        x = yield (node.inputs[0], inner, ())
        if op == "deviations" and self.group.kind != "contract":
            op, x = "add", self._squared_distance(node, x)
        if op.startswith("arg"):
            inside = [inner[a] for a in axes]
            place = ix.address(inside, ix.row_major([node.inputs[0].shape[a] for a in axes]))
            self.form(place)
            value = Value("acc", node.inputs[0].dtype, op=op, expr=x, position=place)
            self.body.values.append(value)
            made = input_(len(self.body.values) - 1, dt.int64)
        else:
            wide = node.dtype.compute
            made = cast(self.body.number(Value("acc", wide, op=op, expr=cast(x, wide))), node.dtype)
        self._known[node, "acc"] = made
        return made

    def _squared_distance(self, node: Node, x: Expr) -> Expr:
        """Of ``x`` from its mean over the reduced axes, which the loops add up first."""
        number = math.prod(node.inputs[0].shape[a] for a in node.attrs[1])
        mean = self.body.number(Value("acc", x.dtype, op="add", expr=x)) / e.cast(count(number), x.dtype)
        return (x - mean) * (x - mean)

    def _contract(self, node: Node, index: Index, conds: Conds) -> Generator[tuple, Expr, Expr]:
        return cast(self._sum, node.dtype)
        yield  # a generator like the others

    # -- leaves of the formulas ----------------------------------------------------------------------------------
    def load(self, node: Node, at: Ix, conds: Conds = (), other: Any = 0) -> Expr:
        key = (self.fusion.origin(node), at, conds, repr(other))
        made = self._loads.get(key)
        if made is None:
            for cond, _, _ in conds:
                self.form(cond)
            made = self.body.number(Value("load", node.dtype, at, node, conds, other))
            self._loads[key] = made
        return made

    def form(self, at: Ix) -> Expr:
        """The int64 value of a position."""
        if not at.terms:
            return const(at.offset, dt.int64)
        made = self._forms.get(at)
        if made is None:
            made = self._forms[at] = self.body.number(Value("form", dt.int64, at))
        return made

    def guard(self, conds: Conds) -> Expr:
        return guard_expr(conds, self.form, self.body.extents)


def guard_expr(conds: Conds, form: Any, extents: dict[int, int]) -> Expr:
    """A bool formula for conditions on positions. A test that some sizes need is made for all of a family: whether a stride leaves
    something over is no reason for another plan."""
    out = None
    for at, low, high in conds:
        first, last = bounds(at, extents)
        value = form(at)
        for needed, test in ((first < low, lambda v, low=low: e.ge(v, low)),
                             (is_size(last - high) or last >= high, lambda v, high=high: e.lt(v, count(high)))):
            if needed:
                out = test(value) if out is None else out & test(value)
    return const(True, dt.bool_) if out is None else out


def _exact(value: Any, dtype: DType) -> bool:
    """Whether a guarded load can give this value where nothing is read: it is held as a float, and equal ones must be the same."""
    return repr(float(value)) not in ("-0.0", "nan") and (dtype.kind in "fb" or float(value) == value and abs(value) < 2 ** 53)
