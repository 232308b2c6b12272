"""What a renderer of loop nests knows at one place of the code: values, addresses, lanes, the mask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.values import V
from rushlight.compile.expr import Expr, inputs_of, walk
from rushlight.compile.nest import Accumulate, Accumulator, Check, Compute, Load, Loop, Statement, Store

__all__ = ["Scope", "Env", "iota", "statements", "formulas", "defined", "updated", "reads_axis", "steady"]


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


def steady(formulas: Sequence[Expr], moving: set[int], axis: int) -> list[Expr]:
    """The largest parts of the formulas that compute something and read neither a value of ``moving`` nor the position along ``axis``."""
    moves: dict[Expr, bool] = {}
    for n in walk(*formulas):
        moves[n] = any(moves[a] for a in n.args) or (n.attr in moving if n.fn == "input" else n.fn == "index" and n.attr == axis)
    whole = [n for n in formulas if not moves[n]]
    return [n for n in (*whole, *(a for n in moves if moves[n] for a in n.args if not moves[a])) if n.args]


def iota(f: Function, type_: str, lanes: int) -> V:
    """0, 1, 2, ..."""
    return V(f, "<" + ", ".join(f"{type_} {k}" for k in range(lanes)) + ">", type_, lanes)

