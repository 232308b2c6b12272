"""Accumulators of a loop nest, and the stretches in which long sums are added up.

Adding n numbers one after the other makes an error that grows with n. A long sum is cut into stretches of some dozens of terms;
the total of each is added to that of the earlier ones together with what rounding takes from that very addition (Knuth's
two-sum), so that many stretches cost no more digits than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rushlight.compile.cpu import vecmath
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.nest_scope import statements, updated
from rushlight.compile.cpu.values import V, const, literal, type_text, where
from rushlight.compile.cpu.widths import lanes_of
from rushlight.compile.dtypes import DType
from rushlight.compile.nest import Accumulator, Loop, LoopNest

if TYPE_CHECKING:
    from rushlight.compile.cpu.render import _Renderer

__all__ = ["Sum", "combine", "long_sums", "stretch_turns", "stretches"]


class Sum:
    """An accumulator: a stack slot for the scalar (or the vector of its scope), and slots of lanes where a vector loop is
    reducing into it. For argmin and argmax a slot holds the extreme, and ``places`` its position.

    A ``long`` sum is added up in stretches (``nest.Loop.stretch``). ``earlier`` are slots of the fewest lanes that there are: the
    total of the earlier stretches, and what rounding took from it.
    """

    __slots__ = ("dtype", "op", "lanes", "long", "slots", "places", "earlier")

    def __init__(self, f: Function, dtype: DType, op: str, lanes: int, long: bool = False) -> None:
        self.dtype, self.op, self.lanes, self.long = dtype, op, lanes, long
        self.slots: dict[int, str] = {}
        self.places: dict[int, str] = {}
        self.earlier: tuple[str, str] = ("", "")
        self.open(f, lanes)

    @property
    def arg(self) -> bool:
        return self.op.startswith("arg")

    def open(self, f: Function, lanes: int) -> None:
        """Slots for this number of lanes, holding the neutral element."""
        start = neutral(f, self.dtype, self.op, lanes)
        self.slots[lanes] = f.slot(start.text, start.name)
        if self.arg:
            last = const(f, "i64", lanes, (1 << 63) - 1)
            self.places[lanes] = f.slot(last.text, last.name)
        if self.long and lanes == self._reduced()[-1]:
            self.earlier = f.slot(start.text, start.name), f.slot(start.text, start.name)

    def _reduced(self) -> list[int]:
        """The numbers of lanes that terms are added to, the most first."""
        return sorted((n for n in self.slots if n != self.lanes), reverse=True) or [self.lanes]

    def read(self, f: Function, lanes: int) -> tuple[V, ...]:
        """What the next term is added to; for argmin and argmax (extreme, position)."""
        value = self._get(f, self.slots[lanes], lanes)
        if not self.arg:
            return (value,)
        return value, V(f, f.get(self.places[lanes], type_text("i64", lanes)), "i64", lanes)

    def _get(self, f: Function, slot: str, lanes: int) -> V:
        type_ = vecmath.register_type(self.dtype)
        return V(f, f.get(slot, type_text(type_, lanes)), type_, lanes)

    def write(self, f: Function, lanes: int, values: tuple[V, ...]) -> None:
        f.set(self.slots[lanes], values[0].name, values[0].text)
        if self.arg:
            f.set(self.places[lanes], values[1].name, values[1].text)

    def result(self, f: Function) -> V:
        """What a formula reads: the number (rounded to its type) or the position."""
        values = self.read(f, self.lanes)
        if self.long:
            values = self._with_earlier(f, values, self.lanes)
        return values[1] if self.arg else vecmath.rounded(values[0], self.dtype)

    def put_away(self, f: Function) -> None:
        """Add the present stretch of a long sum to the earlier ones, and begin another."""
        (new,), lanes = self._narrowed(f)
        old, lost = (self._get(f, slot, lanes) for slot in self.earlier)
        high = old + new
        back = high - old
        error = (old - (high - back)) + (new - back)
        lost = where(error.isnan(), lost, lost + error)  # an infinite sum has lost nothing
        for slot, value in zip(self.earlier, (high, lost)):
            f.set(slot, value.name, value.text)
        for n in self._reduced():
            self.write(f, n, (neutral(f, self.dtype, self.op, n),))

    def close(self, f: Function) -> None:
        """Reduce the lanes into the scalar."""
        if len(self.slots) == 1:
            return
        total, width = self._narrowed(f)
        if self.long:
            total = self._with_earlier(f, total, width)
        while width > 1:
            total, width = self._fold(total), width // 2
        scalars = tuple(V(f, f.let(f"extractelement {v!r}, i64 0"), v.type) for v in total)
        for lanes in self._reduced():
            del self.slots[lanes]
            self.places.pop(lanes, None)
        if self.long:
            none = neutral(f, self.dtype, self.op, self.lanes)
            self.earlier = f.slot(none.text, none.name), f.slot(none.text, none.name)
        self.write(f, self.lanes, self.merge(self.read(f, self.lanes), scalars))

    def _with_earlier(self, f: Function, values: tuple[V, ...], lanes: int) -> tuple[V, ...]:
        high, lost = (self._get(f, slot, lanes) for slot in self.earlier)
        return (values[0] + lost + high,)

    def _narrowed(self, f: Function) -> tuple[tuple[V, ...], int]:
        """All lanes reduced to the fewest that there are, in a fixed order; and how many these are."""
        width, *rest = self._reduced()
        total = self.read(f, width)
        for lanes in rest:
            while width > lanes:
                total, width = self._fold(total), width // 2
            total = self.merge(total, self.read(f, lanes))
        return total, width

    def _fold(self, values: tuple[V, ...]) -> tuple[V, ...]:
        pairs = [halves(v) for v in values]
        return self.merge(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))

    def merge(self, a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        if not self.arg:
            return (combine(self.dtype, self.op, a[0], b[0]),)
        (x, p), (y, q) = a, b
        if self.dtype.kind in "ub":
            beyond = y.ugt(x) if self.op == "argmax" else y.ult(x)
        else:
            beyond = y.gt(x) if self.op == "argmax" else y.lt(x)
        same = y.eq(x)
        if self.dtype.kind == "f":
            beyond = beyond | (y.isnan() & ~x.isnan())
            same = same | (y.isnan() & x.isnan())
        take = beyond | (same & q.lt(p))
        return where(take, y, x), where(take, q, p)


def combine(dtype: DType, op: str, a: V, b: V) -> V:
    """a op b, for op add, mul, min, max, and, or."""
    table = vecmath._BOOL if vecmath.register_type(dtype) == "i1" else (
        vecmath._FLOAT if dtype.kind == "f" else vecmath._INTEGER)
    return table[op](dtype, a, b)


def neutral(f: Function, dtype: DType, op: str, lanes: int) -> V:
    """What combining starts from."""
    type_ = vecmath.register_type(dtype)
    value: float
    if op in ("add", "or"):
        value = 0
    elif op == "mul":
        value = 1
    elif op == "and":
        value = 1 if type_ == "i1" else -1
    else:
        greatest = op in ("min", "argmin")
        if dtype.kind == "f":
            value = float("inf") if greatest else -float("inf")
        elif dtype.kind == "b":
            value = int(greatest)
        else:
            bits = 8 * dtype.itemsize
            low, high = (0, -1) if dtype.kind == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            value = high if greatest else low
    text = literal(type_, value)
    return V(f, f"splat ({type_} {text})" if lanes else text, type_, lanes)


def halves(x: V) -> tuple[V, V]:
    half = x.lanes // 2
    out = []
    for first in (0, half):
        order = ", ".join(f"i32 {k}" for k in range(first, first + half))
        name = x.f.let(f"shufflevector {x!r}, {x.text} poison, <{half} x i32> <{order}>")
        out.append(V(x.f, name, x.type, half))
    return out[0], out[1]


# -- stretches ---------------------------------------------------------------------------------------------------------
def long_sums(nest: LoopNest) -> set[int]:
    """Numbers of the accumulators that are added up in stretches."""
    stretched = set().union(*(updated(s.body) for s in statements(nest.body) if isinstance(s, Loop) and s.stretch))
    return {s.value for s in statements(nest.body)
            if isinstance(s, Accumulator) and s.value in stretched and s.op == "add" and s.dtype.kind == "f"}


def stretch_turns(r: _Renderer) -> dict[Loop, str]:
    """How many turns of each loop make a stretch: emitted once, before all loops."""
    f, turns = r.f, {}
    for s in statements(r.nest.body):
        if isinstance(s, Loop) and s.stretch:
            terms = "1"  # of one turn, in each lane
            for x in statements(s.body):
                if isinstance(x, Loop):
                    chunk = r.chunked.get(x.axis)
                    length = r.extents[x.axis] if chunk is None else r.lengths[chunk]
                    if x.vector:
                        full, narrow = lanes_of(r.nest, x, r.cpu)
                        length = f.maximum(f.div(length, full), f.div(f.add(f.rem(length, full), narrow - 1), narrow))
                    terms = f.mul(terms, f.maximum(length, 1))
            turns[s] = str(s.stretch) if terms == "1" else f.maximum(f.div(str(s.stretch), terms), 1)
    return turns


@contextmanager
def stretches(r: _Renderer, s: Loop, low: str, high: str, step: int) -> Iterator[tuple[str, str]]:
    """``for first, last in`` the stretches of ``range(low, high, step)``. Between two of them the sums are put away; after the last
    one they go on, into the next turn of an enclosing loop or to the total."""
    if not s.stretch:
        yield low, high
        return
    f = r.f
    size = f.mul(r.turns[s], step)
    with f.loop(low, high, size) as first:
        last = f.minimum(f.add(first, size), high)
        yield first, last
        with f.when(f.compare("slt", last, high)):
            for k in sorted(updated(s.body) & r.long):
                r.sums[k].put_away(f)
