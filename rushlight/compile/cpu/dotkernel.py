"""The inner kernel of contractions with few rows whose operands both lie along the reduction: dot products.

It has the form of :mod:`microkernel`, with another meaning of B's step: ``b_step`` is the distance of B's *columns*;
A and B are contiguous along the reduction, which is one run. For ``x @ weight.T`` with a handful of rows, or a matrix
times a vector, packing B would cost as much as the product; here both are read once, as they lie.

Sums are kept one for each lane, and added across lanes at the end, always in the same order. Those of a long reduction are taken
up by memory after each stretch (``product_sums.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import convert, fence, intrinsic_suffix, ir_type, mask, masked_load, multiply_add
from rushlight.compile.cpu.product_sums import STRETCH, add, clear, put_away
from rushlight.compile.dtypes import DType

__all__ = ["Dot", "dot_heights"]

#: Rows -> (columns at a time, sums of each): as many as registers hold, and at least as many as hide the multiply-add's latency.
#: A single row is as fast as memory: B is read in longer pieces, which the processor sees coming.
_WIDE = {8: (3, 1), 4: (4, 1), 2: (8, 1), 1: (4, 4)}
_NARROW = {4: (2, 1), 2: (4, 1), 1: (6, 1)}


def dot_heights(registers: int) -> tuple[int, ...]:
    """The numbers of rows that there is code for."""
    return tuple(_WIDE if registers >= 32 else _NARROW)


@dataclass(frozen=True)
class Dot:
    a: DType
    b: DType
    accumulate: DType
    lanes: int
    vectors: int
    heights: tuple[int, ...]
    fma: bool
    fence: str

    @property
    def key(self) -> str:
        return (f"dot9 {self.a.name} {self.b.name} {self.accumulate.name} {self.lanes}x{self.vectors} "
                f"{self.heights} {self.fma} {self.fence}")  # fmt: skip

    def ir(self) -> str:
        module = Module()
        f = Function(
            "void @micro(ptr noalias %tile, ptr noalias %rows, i64 %height, ptr noalias %runs, i64 %n_runs, "
            "i64 %step, ptr noalias %b, i64 %b_step, i64 %columns, i64 %accumulate, i64 %shift)",
            module,
        )
        length = f.slot("i64", "0")
        with f.when(f.compare("ne", "%n_runs", 0)):
            f.set(length, f.load("%runs", 1))
        for height in f.cases("%height", self.heights):
            self._height(f, height, f.get(length))
        return f.finish() + module.text()

    def _height(self, f: Function, height: int, length: str) -> None:
        wide, deep = (_WIDE if max(self.heights) == max(_WIDE) else _NARROW)[height]
        vector = ir_type(self.accumulate, self.lanes)
        rows = [f.let(f"inttoptr i64 {f.load('%rows', r)} to ptr") for r in range(height)]
        last = f.sub("%columns", 1)
        sums = [[[f.slot(vector) for _ in range(deep)] for _ in range(wide)] for _ in range(height)]
        flat = [slot for row in sums for column in row for slot in column]
        stretch = self.lanes * deep * STRETCH
        memory = f.slot(f"[{len(flat)} x {vector}]", align=self.lanes * self.accumulate.itemsize)
        totals = [f.at(memory, i, vector) for i in range(len(flat))]
        # Twice the same: a reduction of a few hundred terms has no time for what a long one needs at every column.
        for how in ("sle", "sgt"):
            with f.when(f.compare(how, length, stretch)), f.loop(0, "%columns", wide) as column:
                places = [f.minimum(f.add(column, c), last) for c in range(wide)]  # beyond the last column: that one again
                columns = [f.at("%b", f.mul(p, "%b_step"), "i8") for p in places]
                clear(f, flat, vector)
                if how == "sle":
                    self._stretch(f, rows, columns, sums, "0", length)
                else:
                    with f.loop(0, length, stretch) as first:
                        with f.when(f.compare("ne", first, 0)):
                            put_away(f, flat, totals, self.accumulate, vector, f.compare("ne", first, stretch))
                            clear(f, flat, vector)
                        self._stretch(f, rows, columns, sums, first, f.minimum(f.add(first, stretch), length))
                    for slot, total in zip(flat, totals, strict=True):
                        f.set(slot, add(f, self.accumulate, vector, f.get(total, vector), f.get(slot, vector)), vector)
                for r in range(height):
                    for c in range(wide):
                        at = f.at("%tile", f.add(places[c], r * self.lanes * self.vectors), ir_type(self.accumulate))
                        total = self._total(f, [f.get(slot, vector) for slot in sums[r][c]])
                        f.do(f"store {ir_type(self.accumulate)} {total}, ptr {at}")

    def _stretch(self, f: Function, rows: list[str], columns: list[str], sums: list, first: str, end: str) -> None:
        """Add the products of the positions from ``first`` to ``end`` to the sums."""
        deep = len(sums[0][0])
        left = f.sub(end, first)
        turns, whole = (f.add(first, f.sub(left, f.rem(left, each))) for each in (deep * self.lanes, self.lanes))
        with f.loop(first, turns, deep * self.lanes) as k:
            for d in range(deep):
                self._step(f, rows, columns, sums, d, f.add(k, d * self.lanes), None)
        if deep > 1:
            with f.loop(turns, whole, self.lanes) as k:
                self._step(f, rows, columns, sums, 0, k, None)
        with f.when(f.compare("slt", whole, end)):
            self._step(f, rows, columns, sums, 0, whole, mask(f, f.sub(end, whole), self.lanes))

    def _step(self, f: Function, rows: list[str], columns: list[str], sums: list, d: int, k: str, on: str | None) -> None:
        """Add the products of a vector of positions, from ``k`` on, to the sums of number ``d``. ``on``: which of them there are; None:
        all."""
        def load(base: str, dtype: DType) -> str:
            at = f.at(base, f.mul(k, dtype.itemsize), "i8")
            if on is None:
                value = f.let(f"load {ir_type(dtype, self.lanes)}, ptr {at}, align {dtype.itemsize}")
            else:
                value = masked_load(f, at, dtype, self.lanes, on)
            return convert(f, value, dtype, self.accumulate, self.lanes)

        vector = ir_type(self.accumulate, self.lanes)
        right = [load(c, self.b) for c in columns]
        for row, each in zip(rows, sums, strict=True):
            left, slots = load(row, self.a), [many[d] for many in each]
            for slot, other in zip(slots, right, strict=True):
                f.set(slot, multiply_add(f, self.accumulate, self.lanes, self.fma, left, other, f.get(slot, vector)), vector)
            if self.fence:
                fence(f, slots, vector, self.fence)

    def _total(self, f: Function, values: list[str]) -> str:
        """The sum of vectors and of their lanes: neighbours are added, then halves to halves, in an order that the processor's vectors
        decide."""
        vector = ir_type(self.accumulate, self.lanes)
        while len(values) > 1:
            values = [*[add(f, self.accumulate, vector, x, y) for x, y in zip(values[::2], values[1::2], strict=False)],
                      *values[len(values) // 2 * 2:]]
        return self._across(f, values[0])

    def _across(self, f: Function, value: str) -> str:
        name, vector = ir_type(self.accumulate), ir_type(self.accumulate, self.lanes)
        suffix = intrinsic_suffix(self.accumulate, self.lanes)
        if self.accumulate.kind == "f":
            f.module.declare(f"{name} @llvm.vector.reduce.fadd.{suffix}({name}, {vector})")
            return f.let(f"call reassoc {name} @llvm.vector.reduce.fadd.{suffix}({name} -0.0, {vector} {value})")
        f.module.declare(f"{name} @llvm.vector.reduce.add.{suffix}({vector})")
        return f.let(f"call {name} @llvm.vector.reduce.add.{suffix}({vector} {value})")
