"""What vector units do while the tile unit multiplies: they finish the tile before, and take apart the rows of A that come next.

The tile unit works by itself: an instruction of 16 cycles is handed over in one. So a driver does not finish a tile when its sums are
there, but leaves it *pending*, and the inner kernel calls ``void finish(ptr pending)`` after each group of products, which does some rows
of the pending tile, and units of the block of A that is *coming* (``pair_ahead.py``), each as often as fits into the calls there
will be. Evenly: the processor looks only some hundred instructions ahead, and more of them between two groups keep the tile unit waiting.
What is left when it is needed is done then. ``pending`` is an array of numbers:

    0 next row   1 rows   2 calls   3 rows owed, as calls   4 address of the sums   5 first row in the part   6 panel   7 columns in it
    8 units of the coming block that are left   9 units   10 calls   11 units owed, as calls
    12 address of the partials of sums over rows   13 bytes of a line of them   14 what does a unit of the coming block
    15 ... the operands' tables of row addresses, then their steps along n

and behind them lie the state of the coming block, and the pending tile's sums over rows so far.
"""

from __future__ import annotations

from functools import partial

from rushlight.compile.cpu.contract_epilogue import Epilogue
from rushlight.compile.cpu.contract_sums import tally_lines
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import ir_type
from rushlight.compile.cpu.pair_ahead import Ahead

__all__ = ["Behind"]

(_NEXT, _ROWS, _CALLS, _OWED, _SUMS, _FIRST, _PANEL, _COLUMNS, _LEFT, _UNITS, _COMING_CALLS, _COMING_OWED, _PARTIALS, _LINE,
 _AHEAD, _REST) = range(16)  # fmt: skip


class Behind:
    """The pending tile of a driver's kernel, whose text is being written, and how ``epilogue`` finishes it, if it is to be finished later;
    and the coming block, if there is a function for its units, at address ``ahead``. Tiles have ``tall`` rows of sums, of ``row_bytes``."""

    def __init__(self, f: Function, epilogue: Epilogue | None, ahead: str, tall: int, row_bytes: int) -> None:
        self.f, self.epilogue, self.ahead, self.row_bytes, self.tile_bytes = f, epilogue, ahead, row_bytes, tall * row_bytes
        self.memory, self.which = f.slot(f"[{2 * self.tile_bytes} x i8]", align=64), f.slot("i64", "0")
        self.count = len(epilogue.outputs) if epilogue else 0
        self.numbers = _REST + 2 * self.count
        self.tally = -(-8 * (self.numbers + Ahead.STATE) // 64) * 64
        lines = tally_lines(epilogue.sums) if epilogue else 0
        self.pending = f.slot(f"[{self.tally + lines * row_bytes} x i8]", align=64)
        self._set({_NEXT: "0", _ROWS: "0", _CALLS: "1", _OWED: "0", _LEFT: "0"} | ({_AHEAD: ahead} if ahead else {}))

    @property
    def later(self) -> bool:
        return self.epilogue is not None

    @property
    def coming(self) -> str:
        """The state of the coming block."""
        return self.f.at(self.pending, self.numbers)

    def sums(self) -> str:
        """Memory for the next tile's: of two in turn, one is finished while the other is made."""
        f = self.f
        f.set(self.which, f.let(f"xor i64 {f.get(self.which)}, 1"))
        return f.at(self.memory, f.mul(f.get(self.which), self.tile_bytes), "i8")

    def begin(self, tables: list[str], steps: list[str], partials: str, line: str) -> None:
        """A part: where its rows are, the operands' steps along n, and the partials of its sums over rows, if there are any."""
        f = self.f
        for i, (table, step) in enumerate(zip(tables, steps, strict=True)):
            f.set(f.at(self.pending, _REST + i), f.let(f"ptrtoint ptr {table} to i64"))
            f.set(f.at(self.pending, _REST + self.count + i), step)
        if partials:
            f.set(f.at(self.pending, _PARTIALS), f.let(f"ptrtoint ptr {partials} to i64"))
            f.set(f.at(self.pending, _LINE), line)

    def leave(self, sums: str, first: str, height: str, panel: str, columns: str, calls: str) -> None:
        """A tile of finished sums becomes the pending one; there will be so many ``calls`` while the next one is made."""
        self._set({_NEXT: "0", _ROWS: height, _CALLS: calls, _OWED: "0", _SUMS: self.f.let(f"ptrtoint ptr {sums} to i64"),
                   _FIRST: first, _PANEL: panel, _COLUMNS: columns})  # fmt: skip

    def expect(self, units: str, calls: str) -> None:
        """A block of so many units is coming, and so many calls are left until it is needed."""
        self._set({_LEFT: units, _UNITS: units, _COMING_CALLS: calls, _COMING_OWED: "0"})

    def _set(self, values: dict[int, str]) -> None:
        for place, value in values.items():
            self.f.set(self.f.at(self.pending, place), value)

    def finish(self) -> None:
        """Whatever is left of the pending tile."""
        f = self.f
        left = f.sub(f.load(self.pending, _ROWS), f.load(self.pending, _NEXT))
        with f.when(f.compare("sgt", left, 0)):
            f.do(f"call void @some(ptr {self.pending}, i64 {left})")

    def complete(self) -> None:
        """... and of the coming block."""
        f, left = self.f, self.f.at(self.pending, _LEFT)
        with f.loop_while(left, "sgt", "0") as units:
            f.do(f"call void {f.let(f'inttoptr i64 {self.ahead} to ptr')}(ptr {self.coming})")
            f.set(left, f.sub(units, 1))

    # -- the functions ---------------------------------------------------------------------------------------------------

    def ir(self) -> str:
        """``finish``, and ``some``: rows of the pending tile, so many."""
        return self._finish() + (self._some() if self.epilogue else "")

    def _finish(self) -> str:
        f = Function("internal void @finish(ptr noalias %pending)", Module())
        if self.epilogue:
            left = f.sub(f.load("%pending", _ROWS), f.load("%pending", _NEXT))
            due = f.minimum(self._due(f, _ROWS, _CALLS, _OWED), left)
            with f.when(f.compare("sgt", due, 0)):
                f.do(f"call void @some(ptr %pending, i64 {due})")
        if self.ahead:
            left = f.load("%pending", _LEFT)
            with f.when(f.compare("sgt", left, 0)):
                due = f.minimum(self._due(f, _UNITS, _COMING_CALLS, _COMING_OWED), left)
                ahead, coming = f.let(f"inttoptr i64 {f.load('%pending', _AHEAD)} to ptr"), f.at("%pending", self.numbers)
                with f.loop(0, due):
                    f.do(f"call void {ahead}(ptr {coming})")
                f.set(f.at("%pending", _LEFT), f.sub(left, due))
        return f.finish() + f.module.text()

    def _due(self, f: Function, pieces: int, calls: int, owed: int) -> str:
        """How many pieces are due at this call: as many as there are are spread over all calls."""
        each, place, due = f.load("%pending", calls), f.at("%pending", owed), f.slot("i64", "0")
        f.set(place, f.add(f.get(place), f.load("%pending", pieces)))
        with f.loop_while(place, "sge", each) as so_far:
            f.set(place, f.sub(so_far, each))
            f.set(due, f.add(f.get(due), 1))
        return f.get(due)

    def _some(self) -> str:
        epilogue = self.epilogue
        assert epilogue is not None
        f = Function("internal void @some(ptr noalias %pending, i64 %count)", Module())
        numbers = [f.load("%pending", i) for i in range(self.numbers)]
        tables = [f.let(f"inttoptr i64 {number} to ptr") for number in numbers[_REST:_REST + self.count]]
        frame = {"vectors": str(epilogue.vectors), "sum_line": numbers[_LINE]} | {
            f"n_stride{i}": number for i, number in enumerate(numbers[_REST + self.count:])}  # fmt: skip
        begin, first, height, panel, columns = (numbers[i] for i in (_NEXT, _FIRST, _ROWS, _PANEL, _COLUMNS))
        end = f.add(begin, "%count")
        with f.loop(begin, end) as row:
            sums = f.at(f.let(f"inttoptr i64 {numbers[_SUMS]} to ptr"), f.mul(row, self.row_bytes), "i8")
            vector = partial(self._vector, f, sums)
            if epilogue.sums:
                partials, tally = f.let(f"inttoptr i64 {numbers[_PARTIALS]} to ptr"), f.at("%pending", self.tally, "i8")
                epilogue.row_of_tile(f, frame, tables, (first, row, height), panel, columns, vector, partials, tally)
            else:
                epilogue.row(f, frame, tables, f.add(first, row), panel, columns, vector)
        f.set("%pending", end)
        return f.finish() + f.module.text()

    def _vector(self, f: Function, row: str, lane: str, lanes: int) -> str:
        assert self.epilogue is not None
        item = self.epilogue.accumulate.itemsize
        return f.let(f"load {ir_type(self.epilogue.accumulate, lanes)}, ptr {f.at(row, f.mul(lane, item), 'i8')}, align {item}")
