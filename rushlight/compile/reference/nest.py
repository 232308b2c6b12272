"""The meaning of a LoopNest, one position at a time in plain Python: the oracle of the renderers. Slow.

Sums of floating numbers are kept in float64 and rounded when they are read.

Example::

    out = np.zeros(6, np.float32)
    error = interpret_nest(nest, [x, out], sizes=[2, 3])
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rushlight.compile import dtypes as dt
from rushlight.compile.expr import Expr, const, input_, substitute
from rushlight.compile.nest import (
    Accumulate,
    Accumulator,
    Check,
    Compute,
    Load,
    Loop,
    LoopNest,
    Statement,
    Store,
)  # fmt: skip
from rushlight.compile.reference.evaluate import evaluate

__all__ = ["interpret_nest"]

_INDEX = 1 << 20  # index(a) is evaluated as input(_INDEX + a)
_OPS = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and,
        "or": np.bitwise_or}  # fmt: skip


def interpret_nest(nest: LoopNest, memory: Sequence[np.ndarray], sizes: Sequence[int], low: int = 0,
                   high: int | None = None) -> tuple[int, int, int] | None:
    """Run the positions [low, high) of the parallel range (all of them by default).

    Args:
        memory: one 1-d array for each operand, beginning at its first element; written in place.
        sizes: the kernel's parameters after the grain: extents, chunk lengths, strides.

    Returns:
        (code, found, bound) of the first Check that failed, or None.
    """
    return _Interpreter(nest, memory, sizes).run(low, high)


class _Interpreter:
    def __init__(self, nest: LoopNest, memory: Sequence[np.ndarray], sizes: Sequence[int]) -> None:
        self.nest, self.memory = nest, memory
        rest: Iterator[int] = iter(sizes)
        self.extents, self.chunks = [], {}
        for a, axis in enumerate(nest.axes):
            self.extents.append(next(rest) if axis.extent is None else axis.extent)
            if axis.chunk_of is not None:
                self.chunks[axis.chunk_of] = (a, next(rest))
        self.strides = [[next(rest) if s is None else s for s in o.strides] for o in nest.operands]
        self.values: dict[int, Any] = {}
        self.sums: dict[int, tuple[str, Any, Any]] = {}
        self.at: dict[int, int] = {}  # axis -> position
        self.error: tuple[int, int, int] | None = None
        self.rewritten: dict[Expr, Expr] = {}

    def run(self, low: int, high: int | None) -> tuple[int, int, int] | None:
        axes = self.nest.parallel
        shape = [self.extents[a] for a in axes]
        total = int(np.prod(shape, dtype=np.int64))
        with np.errstate(all="ignore"):
            for position in range(low, total if high is None else min(high, total)):
                self.at = dict(zip(axes, map(int, np.unravel_index(position, shape)) if shape else (), strict=True))
                self.body(self.nest.body)
        return self.error

    def body(self, body: Sequence[Statement]) -> None:
        for s in body:
            getattr(self, type(s).__name__.lower())(s)

    def value(self, expr: Expr) -> Any:
        plain = self.rewritten.get(expr)
        if plain is None:
            plain, = substitute((expr,), self.plain)
            self.rewritten[expr] = plain
        values: Any = {**self.values, **{_INDEX + a: np.asarray(i, np.int64) for a, i in self.at.items()}}
        return evaluate(plain, values, ())  # a mapping from positions serves as well as a sequence

    def plain(self, n: Expr) -> Expr | None:
        if n.fn == "extent":
            return const(self.extents[n.attr], dt.int64)
        return input_(_INDEX + n.attr, dt.int64) if n.fn == "index" else None

    def place(self, operand: int, offset: Expr | None) -> int:
        place = sum(self.strides[operand][a] * i for a, i in self.at.items())
        return place if offset is None else place + int(self.value(offset))

    def load(self, s: Load) -> None:
        dtype = self.nest.operands[s.operand].dtype.numpy
        if s.guard is not None and not self.value(s.guard):
            self.values[s.value] = np.asarray(s.other).astype(dtype)
        else:
            self.values[s.value] = np.asarray(self.memory[s.operand][self.place(s.operand, s.offset)])

    def compute(self, s: Compute) -> None:
        self.values[s.value] = self.value(s.expr)

    def accumulator(self, s: Accumulator) -> None:
        kind = s.dtype.numpy
        wide = np.dtype(np.float64) if s.dtype.kind == "f" else kind
        start: Any
        if s.op in ("add", "or"):
            start = 0
        elif s.op == "mul":
            start = 1
        elif s.op == "and":
            start = -1 if s.dtype.kind in "iu" else 1
        else:
            high = s.op in ("min", "argmin")
            if s.dtype.kind == "f":
                start = np.inf if high else -np.inf
            elif s.dtype.kind == "b":
                start = high
            else:
                start = np.iinfo(kind).max if high else np.iinfo(kind).min
        self.sums[s.value] = (s.op, np.array(start).astype(wide), None)
        self.show(s.value, s.dtype)

    def show(self, k: int, dtype: dt.DType) -> None:
        op, value, place = self.sums[k]
        if op.startswith("arg"):
            self.values[k] = np.asarray((1 << 63) - 1 if place is None else place, np.int64)
        else:
            self.values[k] = value.astype(dtype.numpy)

    def accumulate(self, s: Accumulate) -> None:
        op, old, place = self.sums[s.accumulator]
        new = np.asarray(self.value(s.expr)).astype(old.dtype)
        if op.startswith("arg"):
            assert s.position is not None
            here = int(self.value(s.position))
            better = new > old if op == "argmax" else new < old
            same = new == old
            if new.dtype.kind == "f":
                better, same = better | (np.isnan(new) & ~np.isnan(old)), same | (np.isnan(new) & np.isnan(old))
            if place is None or better or (same and here < place):
                old, place = new, here
        else:
            old = np.asarray(_OPS[op](old, new)).astype(old.dtype)
        self.sums[s.accumulator] = (op, old, place)
        self.show(s.accumulator, s.expr.dtype)

    def store(self, s: Store) -> None:
        if s.guard is not None and not self.value(s.guard):
            return
        target, place = self.memory[s.operand], self.place(s.operand, s.offset)
        value = self.value(s.expr)
        target[place] = value if s.combine is None else _OPS[s.combine](target[place], value)

    def check(self, s: Check) -> None:
        if self.error is None and not self.value(s.condition):
            self.error = (s.code, int(self.value(s.found)), int(self.value(s.bound)))

    def loop(self, s: Loop) -> None:
        positions = range(self.extents[s.axis])
        chunk = self.chunks.get(s.axis)
        if chunk is not None and chunk[0] in self.at:
            start = self.at[chunk[0]] * chunk[1]
            positions = range(start, min(start + chunk[1], self.extents[s.axis]))
        for i in positions:
            self.at[s.axis] = i
            self.body(s.body)
        self.at.pop(s.axis, None)
