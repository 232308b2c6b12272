"""What a renderer of loop nests knows at one place of the code: values, addresses, lanes, the mask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rushlight.compile.cpu import vecmath
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.values import V, literal, type_text, where
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, inputs_of, walk
from rushlight.compile.nest import Accumulate, Accumulator, Check, Compute, Load, Loop, Statement, Store

__all__ = ["Scope", "Env", "Sum", "combine", "halves", "iota", "neutral", "statements", "formulas",
           "defined", "updated", "reads_axis"]


class Env(dict):
    """Values by number, ``("index", axis)`` and ``("extent", axis)``.

    An entry may be a function that emits the value when it is needed.
    """

    def __getitem__(self, key: Any) -> V:
        value = dict.__getitem__(self, key)
        return value() if callable(value) else value


class Scope:
    """``lanes`` (0 outside vector loops) positions of ``axis``, the vector axis, are worked on at once; ``mask`` says
    which of them exist (None: all). ``at[k]`` is the address in operand k for the axes that are bound so far."""

    __slots__ = ("lanes", "axis", "mask", "env", "memo", "at")

    lanes: int
    axis: int
    mask: V | None
    env: Env
    memo: dict[Expr, V]
    at: dict[int, str]

    def __init__(self) -> None:
        self.lanes, self.axis, self.mask = 0, -1, None
        self.env, self.memo, self.at = Env(), {}, {}

    def inner(self) -> Scope:
        new = Scope.__new__(Scope)
        new.lanes, new.axis, new.mask = self.lanes, self.axis, self.mask
        new.env, new.memo, new.at = Env(self.env), dict(self.memo), dict(self.at)
        return new

    def forget(self, values: set[int]) -> None:
        """Drop what was computed from these values: they have changed."""
        if values:
            for n in [n for n in self.memo if inputs_of(n) & values]:
                del self.memo[n]


# -- walking statements ------------------------------------------------------------------------------------------------
def statements(body: Iterable[Statement]) -> Iterator[Statement]:
    """All statements, those inside loops included."""
    for s in body:
        yield s
        if isinstance(s, Loop):
            yield from statements(s.body)


def formulas(s: Statement) -> list[Expr]:
    """The expressions of one statement (not of what is inside a loop)."""
    found: list[Expr | None] = []
    if isinstance(s, Load):
        found = [s.offset, s.guard]
    elif isinstance(s, Compute):
        found = [s.expr]
    elif isinstance(s, Accumulate):
        found = [s.expr, s.position]
    elif isinstance(s, Store):
        found = [s.expr, s.offset, s.guard]
    elif isinstance(s, Check):
        found = [s.condition, s.found, s.bound]
    return [x for x in found if x is not None]


def defined(body: Iterable[Statement]) -> set[int]:
    """Numbers of the values that the statements define."""
    return {s.value for s in statements(body) if isinstance(s, (Load, Compute, Accumulator))}


def updated(body: Iterable[Statement]) -> set[int]:
    """Numbers of the accumulators that the statements change."""
    return {s.accumulator for s in statements(body) if isinstance(s, Accumulate)}


def reads_axis(expr: Expr, axis: int) -> bool:
    return any(n.fn == "index" and n.attr == axis for n in walk(expr))


# -- accumulators ------------------------------------------------------------------------------------------------------
class Sum:
    """An accumulator: a stack slot for the scalar (or the vector of its scope), and slots of lanes where a vector loop
    is reducing into it. For argmin and argmax a slot holds the extreme, and ``places`` its position."""

    __slots__ = ("dtype", "op", "lanes", "slots", "places")

    def __init__(self, f: Function, dtype: DType, op: str, lanes: int) -> None:
        self.dtype, self.op, self.lanes = dtype, op, lanes
        self.slots: dict[int, str] = {}
        self.places: dict[int, str] = {}
        self.open(f, lanes)

    @property
    def arg(self) -> bool:
        return self.op.startswith("arg")

    def open(self, f: Function, lanes: int) -> None:
        """Slots for this number of lanes, holding the neutral element."""
        start = neutral(f, self.dtype, self.op, lanes)
        self.slots[lanes] = f.slot(start.text, start.name)
        if self.arg:
            last = const_i64(f, (1 << 63) - 1, lanes)
            self.places[lanes] = f.slot(last.text, last.name)

    def read(self, f: Function, lanes: int) -> tuple[V, ...]:
        type_ = vecmath.register_type(self.dtype)
        value = V(f, f.get(self.slots[lanes], type_text(type_, lanes)), type_, lanes)
        if not self.arg:
            return (value,)
        return value, V(f, f.get(self.places[lanes], type_text("i64", lanes)), "i64", lanes)

    def write(self, f: Function, lanes: int, values: tuple[V, ...]) -> None:
        f.set(self.slots[lanes], values[0].name, values[0].text)
        if self.arg:
            f.set(self.places[lanes], values[1].name, values[1].text)

    def result(self, f: Function) -> V:
        """What a formula reads: the number (rounded to its type) or the position."""
        values = self.read(f, self.lanes)
        return values[1] if self.arg else vecmath.rounded(values[0], self.dtype)

    def close(self, f: Function) -> None:
        """Reduce the lanes in a fixed order, widest first, into the scalar."""
        open_lanes = sorted((n for n in self.slots if n != self.lanes), reverse=True)
        if not open_lanes:
            return
        total: tuple[V, ...] | None = None
        width = open_lanes[0]
        for lanes in open_lanes:
            if total is not None:
                while width > lanes:
                    total, width = self._fold(total), width // 2
                total = self.merge(total, self.read(f, lanes))
            else:
                total = self.read(f, lanes)
            del self.slots[lanes]
            self.places.pop(lanes, None)
        assert total is not None
        while width > 1:
            total, width = self._fold(total), width // 2
        scalars = tuple(V(f, f.let(f"extractelement {v!r}, i64 0"), v.type) for v in total)
        self.write(f, self.lanes, self.merge(self.read(f, self.lanes), scalars))

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


def const_i64(f: Function, value: int, lanes: int) -> V:
    return V(f, f"splat (i64 {value})" if lanes else str(value), "i64", lanes)


def halves(x: V) -> tuple[V, V]:
    half = x.lanes // 2
    out = []
    for first in (0, half):
        order = ", ".join(f"i32 {k}" for k in range(first, first + half))
        name = x.f.let(f"shufflevector {x!r}, {x.text} poison, <{half} x i32> <{order}>")
        out.append(V(x.f, name, x.type, half))
    return out[0], out[1]


def iota(f: Function, type_: str, lanes: int) -> V:
    """0, 1, 2, ..."""
    return V(f, "<" + ", ".join(f"{type_} {k}" for k in range(lanes)) + ">", type_, lanes)

