"""Sums over the rows of a contraction's results, made while tiles are stored: a batch norm's statistics, a bias's gradient.

A part of the work adds up what it stores, tile after tile, into *partials* of its own, one line for each number::

    partials[batch][part][line][column]    "add": the sum; "deviations": how many rows, their mean, their squared distances from it

(each but the first as a number and what rounding has taken from it)

and ``Combine``, a last step, merges the parts' in order. Which rows make a part follows from sizes alone, so the bits do not
depend on the number of threads.

Deviations are taken from the mean of the rows before (of the first tile: from its first row). That is exact but for
rounding: with s the sum of a tile's h distances and q that of their squares, n rows before, the mean moves by s / (n + h) and
the squares grow by q - s² / (n + h), which is at least q n / (n + h). So nothing cancels, whatever the mean. Where that is many
deviations from zero, its own rounding counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rushlight.compile.contraction import Contraction
from rushlight.compile.cpu import vecmath
from rushlight.compile.cpu.contract_step import Operand, Step
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.microkernel import intrinsic_suffix, ir_type, mask
from rushlight.compile.cpu.values import V, const, splat, where
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, canonical

__all__ = ["Combine", "Item", "Partial", "Tally", "combined", "items_of", "lines", "sums_key", "tally_lines"]

Item = tuple[str, Expr]  # "add" or "deviations", of which formula

_LINES = {"add": 2, "deviations": 5}
_KINDS = {"add": ("sum",), "deviations": ("sum", "squares")}


def items_of(c: Contraction) -> tuple[Item, ...]:
    return tuple([(x.op, x.expr) for x in c.sums])


def lines(items: Sequence[Item]) -> int:
    """Lines of the partials."""
    return sum(_LINES[op] for op, _ in items)


def tally_lines(items: Sequence[Item]) -> int:
    """Of the memory that a tally of single rows needs."""
    return sum(len(_KINDS[op]) + (op == "deviations") for op, _ in items)


def sums_key(items: Sequence[Item]) -> str:
    """Part of a kernel's key; empty where there are no sums."""
    return f" sums 3 {[op for op, _ in items]} {canonical(*(expr for _, expr in items))}" if items else ""


@dataclass(frozen=True)
class Partial:
    """Partials of a vector of columns, as names of IR values: the address in their first line, bytes from a line to the next."""

    at: str
    line: str


class Tally:
    """The sums of some columns (``lanes`` of them) over the rows of one tile; what the tiles before it gave lies in ``partial``.

    ``begin``, then ``add`` for each row, then ``end``. With ``long`` tiles, ``put_away`` after every few rows, so that no lane
    adds up many terms one after the other. ``memory``: where the sums so far lie, ``tally_lines`` addresses, if rows are added by calls
    of their own.
    """

    def __init__(self, f: Function, items: Sequence[Item], dtype: DType, lanes: int, partial: Partial, long: bool = False,
                 memory: Sequence[str] = ()) -> None:  # fmt: skip
        self.f, self.items, self.dtype, self.lanes, self.partial, self.long = f, items, dtype, lanes, partial, long
        self.vector = ir_type(dtype, lanes)
        self.type = vecmath.register_type(dtype)
        places = iter(memory)

        def slot() -> str:
            return next(places) if memory else f.slot(self.vector)

        self.slots = [{name: slot() for name in _KINDS[op]} for op, _ in items]
        self.totals = [{name: slot() for name in _KINDS[op]} for op, _ in items] if long else self.slots
        self.shifts = [slot() if op == "deviations" else "" for op, _ in items]

    def begin(self, first: str, values: Callable[[], list[V]]) -> None:
        """``first`` (i1): no rows before; ``values``: the formulas for the first row."""
        f = self.f
        for slots in (*self.slots, *(self.totals if self.long else ())):
            for slot in slots.values():
                f.set(slot, "zeroinitializer", self.vector)
        if not any(self.shifts):
            return
        with f.when(first):
            for shift, value in zip(self.shifts, values(), strict=True):
                if shift:
                    f.set(shift, self._wide(value).name, self.vector)
        with f.when(f.let(f"xor i1 {first}, true")):
            for shift, (_, line) in zip(self.shifts, self._lines()):
                if shift:
                    f.set(shift, self._load(line + 1), self.vector)

    def add(self, values: Sequence[V]) -> None:
        """The formulas for one more row."""
        for slots, shift, value in zip(self.slots, self.shifts, values, strict=True):
            x = self._wide(value)
            if shift:
                x = x - self._get(shift)
                self._set(slots["squares"], self._get(slots["squares"]) + x * x)
            self._set(slots["sum"], self._get(slots["sum"]) + x)

    def put_away(self) -> None:
        for slots, totals in zip(self.slots, self.totals, strict=True):
            for name, slot in slots.items():
                self._set(totals[name], self._get(totals[name]) + self._get(slot))
                self.f.set(slot, "zeroinitializer", self.vector)

    def end(self, first: str, before: str, height: str) -> None:
        """``before``: how many rows there were before this tile of ``height`` rows."""
        f = self.f
        earlier, number = (V(f, f.let(f"sitofp i64 {n} to {self.type}"), self.type) for n in (before, f.add(before, height)))
        count, share = splat(number, self.lanes), splat(const(f, self.type, 0, 1.0) / number, self.lanes)
        fresh = V(f, first, "i1")
        for slots, shift, (op, line) in zip(self.totals, self.shifts, self._lines()):
            total, last = self._get(slots["sum"]), line
            if op == "deviations":
                rest = where(fresh, const(f, self.type, 0, 0.0), V(f, self._load(line + 2), self.type, self.lanes))
                total = total + rest * earlier
                old_mean, step = self._get(shift), total * share
                mean = old_mean + step
                self._store(line, count)
                self._store(line + 1, mean)
                self._store(line + 2, (old_mean - mean) + step)
                total, last = self._get(slots["squares"]) - total * step, line + 3
            nothing = const(f, self.type, 0, 0.0)
            old, lost = (where(fresh, nothing, V(f, self._load(last + k), self.type, self.lanes)) for k in range(2))
            both, lost = added(old, lost, total)
            self._store(last, both)
            self._store(last + 1, lost)

    # -- pieces ----------------------------------------------------------------------------------------------------
    def _lines(self) -> list[tuple[str, int]]:
        out, line = [], 0
        for op, _ in self.items:
            out.append((op, line))
            line += _LINES[op]
        return out

    def _wide(self, value: V) -> V:
        return splat(value, self.lanes)

    def _get(self, slot: str) -> V:
        return V(self.f, self.f.get(slot, self.vector), self.type, self.lanes)

    def _set(self, slot: str, value: V) -> None:
        self.f.set(slot, value.name, self.vector)

    def _place(self, line: int) -> str:
        return self.f.at(self.partial.at, self.f.mul(self.partial.line, line), "i8")

    def _load(self, line: int) -> str:
        return self.f.let(f"load {self.vector}, ptr {self._place(line)}, align {self.dtype.itemsize}")

    def _store(self, line: int, value: V) -> None:
        self.f.do(f"store {self.vector} {value.name}, ptr {self._place(line)}, align {self.dtype.itemsize}")


def added(total: V, lost: V, new: V) -> tuple[V, V]:
    """A sum, and what rounding has taken from it so far (Knuth's two-sum)."""
    both = total + new
    back = both - total
    error = (total - (both - back)) + (new - back)
    return both, where(error.isnan(), lost, lost + error)  # an infinite sum has lost nothing


@dataclass(frozen=True)
class Combine:
    """Operands: partials, then each sum's results, batch after batch. A part is a vector of columns of one batch."""

    dtype: DType
    lanes: int
    ops: tuple[str, ...]

    fields = ("pieces", "piece", "line", "columns", "vectors")

    @property
    def key(self) -> str:
        return f"contract combine 3 {self.dtype.name} {self.lanes} {self.ops}"

    def ir(self) -> str:
        f = Function("void @combine(ptr %table, ptr %params, i64 %begin, i64 %end)")
        frame = Frame(f, 1 + len(self.ops), self.fields)
        item = self.dtype.itemsize
        with f.loop("%begin", "%end") as part:
            batch, column = f.div(part, frame["vectors"]), f.mul(f.rem(part, frame["vectors"]), self.lanes)
            on = mask(f, f.sub(frame["columns"], column), self.lanes)
            source = f.at(frame.bases[0], f.mul(f.mul(batch, frame["pieces"]), frame["piece"]), "i8")
            source = f.at(source, f.mul(column, item), "i8")
            line = 0
            for op, base in zip(self.ops, frame.bases[1:], strict=True):
                at = f.at(source, f.mul(frame["line"], line), "i8")
                total = (self._deviations if op == "deviations" else self._sum)(f, frame, at)
                target = f.at(base, f.mul(f.add(f.mul(batch, frame["columns"]), column), item), "i8")
                suffix = intrinsic_suffix(self.dtype, self.lanes)
                f.module.declare(f"void @llvm.masked.store.{suffix}.p0({total.text}, ptr, i32, <{self.lanes} x i1>)")
                f.do(f"call void @llvm.masked.store.{suffix}.p0({total!r}, ptr {target}, i32 {item}, <{self.lanes} x i1> {on})")
                line += _LINES[op]
        return f.finish() + f.module.text()

    def _slot(self, f: Function) -> str:
        return f.slot(ir_type(self.dtype, self.lanes), "zeroinitializer")

    def _get(self, f: Function, slot: str) -> V:
        return V(f, f.get(slot, ir_type(self.dtype, self.lanes)), vecmath.register_type(self.dtype), self.lanes)

    def _set(self, f: Function, slot: str, value: V) -> None:
        f.set(slot, value.name, value.text)

    def _line(self, f: Function, frame: Frame, at: str, line: int) -> V:
        vector = ir_type(self.dtype, self.lanes)
        place = f.at(at, f.mul(frame["line"], line), "i8")
        return V(f, f.let(f"load {vector}, ptr {place}, align {self.dtype.itemsize}"), vecmath.register_type(self.dtype), self.lanes)

    def _sum(self, f: Function, frame: Frame, at: str) -> V:
        high, low = self._slot(f), self._slot(f)
        with f.loop(0, frame["pieces"]) as p:
            here = f.at(at, f.mul(p, frame["piece"]), "i8")
            total, lost = added(self._get(f, high), self._get(f, low), self._line(f, frame, here, 0))
            self._set(f, high, total)
            self._set(f, low, lost + self._line(f, frame, here, 1))
        return self._get(f, high) + self._get(f, low)

    def _deviations(self, f: Function, frame: Frame, at: str) -> V:
        """Chan's formula: those of two sets are both sets', and those of their means from the common one."""
        count, mean, rest, squares = (self._slot(f) for _ in range(4))
        with f.loop(0, frame["pieces"]) as p:
            here = f.at(at, f.mul(p, frame["piece"]), "i8")
            more, its_mean, its_rest, its_squares, its_lost = (self._line(f, frame, here, k) for k in range(5))
            before, old, old_rest = (self._get(f, slot) for slot in (count, mean, rest))
            both = before + more
            share, apart = more / both, (its_mean - old) + (its_rest - old_rest)
            step = old_rest + apart * share
            new = old + step
            self._set(f, count, both)
            self._set(f, mean, new)
            self._set(f, rest, (old - new) + step)
            self._set(f, squares, self._get(f, squares) + (its_squares + its_lost + apart * apart * (before * share)))
        return self._get(f, squares)


def combined(c: Contraction, lanes: int, scratch: int, batches: int, pieces: int, columns: int, line: int) -> Step:
    """The step that merges the partials in a scratch buffer, ``pieces`` for each batch, of lines of so many bytes."""
    items, vectors = items_of(c), -(-columns // lanes)
    kernel = Combine(c.accumulate, lanes, tuple([op for op, _ in items]))
    values = {"pieces": pieces, "piece": lines(items) * line, "line": line, "columns": columns, "vectors": vectors}
    operands: list[tuple[Operand, int]] = [(("scratch", scratch), 0)]
    operands += [(("extra", len(c.extras) + i), 0) for i in range(len(items))]
    return Step((kernel.key, kernel.ir, "combine"), operands, [values[x] for x in kernel.fields], batches * vectors)
