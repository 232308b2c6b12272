"""Epilogues that run behind the tile unit: while it multiplies for a tile, the vector units finish the tile before.

The tile unit works by itself: an instruction of 16 cycles is handed over in one. So a driver does not finish a tile when its sums are
there, but leaves it *pending*, and the inner kernel calls ``void finish(ptr pending)`` after each group of products, which does some of the
pending tile's rows. What is left when the next tile is there is done then. ``pending`` is an array of numbers:

    0 next row   1 rows   2 rows a call   3 address of the sums   4 first row in the part   5 panel   6 columns in it
    7 ... the operands' tables of row addresses, then their steps along n
"""

from __future__ import annotations

from functools import partial

from rushlight.compile.cpu.contract_epilogue import Epilogue
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import ir_type

__all__ = ["Behind"]

_NEXT, _ROWS, _QUOTA, _SUMS, _FIRST, _PANEL, _COLUMNS, _REST = range(8)


class Behind:
    """The pending tile of a driver's kernel, whose text is being written, and how ``epilogue`` finishes it. Tiles have ``tall`` rows of
    sums, of ``row_bytes``."""

    def __init__(self, f: Function, epilogue: Epilogue, tall: int, row_bytes: int) -> None:
        self.f, self.epilogue, self.row_bytes, self.tile_bytes = f, epilogue, row_bytes, tall * row_bytes
        self.memory, self.which = f.slot(f"[{2 * self.tile_bytes} x i8]", align=64), f.slot("i64", "0")
        self.count = len(epilogue.outputs)
        self.pending = f.slot(f"[{_REST + 2 * self.count} x i64]")

    def sums(self) -> str:
        """Memory for the next tile's: of two in turn, one is finished while the other is made."""
        f = self.f
        f.set(self.which, f.let(f"xor i64 {f.get(self.which)}, 1"))
        return f.at(self.memory, f.mul(f.get(self.which), self.tile_bytes), "i8")

    def begin(self, tables: list[str], steps: list[str]) -> None:
        """A part: nothing is pending; where its rows are, and the operands' steps along n."""
        f = self.f
        for place in (_NEXT, _ROWS, _QUOTA):
            f.set(f.at(self.pending, place), "0")
        for i, (table, step) in enumerate(zip(tables, steps, strict=True)):
            f.set(f.at(self.pending, _REST + i), f.let(f"ptrtoint ptr {table} to i64"))
            f.set(f.at(self.pending, _REST + self.count + i), step)

    def finish(self) -> None:
        """Whatever is left of the pending tile."""
        f = self.f
        with f.loop_while(f.at(self.pending, _NEXT), "slt", f.load(self.pending, _ROWS)):
            f.do(f"call void @finish(ptr {self.pending})")

    def leave(self, sums: str, first: str, height: str, panel: str, columns: str, calls: str) -> None:
        """A tile of finished sums becomes the pending one; there will be so many ``calls`` while the next one is made."""
        f = self.f
        quota = f.div(f.add(height, f.sub(calls, 1)), calls)
        for place, value in ((_NEXT, "0"), (_ROWS, height), (_QUOTA, quota), (_SUMS, f.let(f"ptrtoint ptr {sums} to i64")),
                             (_FIRST, first), (_PANEL, panel), (_COLUMNS, columns)):  # fmt: skip
            f.set(f.at(self.pending, place), value)

    def ir(self) -> str:
        """``finish``: some rows of the pending tile."""
        f = Function("internal void @finish(ptr noalias %pending)", Module())
        epilogue = self.epilogue
        numbers = [f.load("%pending", i) for i in range(_REST + 2 * self.count)]
        tables = [f.let(f"inttoptr i64 {number} to ptr") for number in numbers[_REST:_REST + self.count]]
        frame = {"vectors": str(epilogue.vectors)} | {
            f"n_stride{i}": number for i, number in enumerate(numbers[_REST + self.count:])}  # fmt: skip
        sums = f.let(f"inttoptr i64 {numbers[_SUMS]} to ptr")
        end = f.minimum(f.add(numbers[_NEXT], numbers[_QUOTA]), numbers[_ROWS])
        with f.loop(numbers[_NEXT], end) as r:
            at = f.at(sums, f.mul(r, self.row_bytes), "i8")
            epilogue.row(f, frame, tables, f.add(numbers[_FIRST], r), numbers[_PANEL], numbers[_COLUMNS], partial(self._vector, f, at))
        f.set("%pending", end)
        return f.finish() + f.module.text()

    def _vector(self, f: Function, row: str, lane: str, lanes: int) -> str:
        item = self.epilogue.accumulate.itemsize
        return f.let(f"load {ir_type(self.epilogue.accumulate, lanes)}, ptr {f.at(row, f.mul(lane, item), 'i8')}, align {item}")
