"""Rows of A become squares while the tile unit works on the rows before.

    void ahead(ptr state)

does one unit of what ``pack`` of ``pair_pack.py`` does for the rows of a tile: as little as fits between two groups of products. Where
the reduction lies side by side a unit is 32 positions of one row, row after row, as they lie in memory; where rows lie side by side it
is two positions of all rows, and a square that is complete is transposed, another unit. ``state`` is an array of numbers, ``STATE``
of them, by names as below.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import mask
from rushlight.compile.cpu.pair_pack import DEEP, SQUARE, SQUARE_BYTES, Squares

__all__ = ["Ahead"]

_TALL = 2 * SQUARE
#: Which unit of a row or square comes next; the rows' addresses, how many they are, and how many there are in the part from them on; where
#: the squares are, and how far on those of the second 16 rows; then the way through the reduction: its runs, bytes a position, and the
#: present run, position in it and square.
_UNIT, _ROWS, _COUNT, _MORE, _OUT, _TALL_BYTES, _RUNS, _N_RUNS, _STEP, _RUN, _POSITION, _AT = range(12)


@dataclass(frozen=True)
class Ahead:
    """``squares`` of A, whose ``along`` is "k" or "rows"."""

    squares: Squares

    STATE = 12

    @property
    def key(self) -> str:
        return f"ahead 1 {self.squares.key}"

    @staticmethod
    def units(f: Function, along: str, parts: int, count: str, depth: str) -> str:
        """How many there are for ``count`` rows and ``depth`` squares."""
        halves = f.div(f.add(count, SQUARE - 1), SQUARE)
        return f.mul(depth, f.mul(halves, SQUARE) if along == "k" else f.add(f.mul(halves, parts), SQUARE))

    @staticmethod
    def begin(
        f: Function, state: str, rows: str, count: str, more: str, out: str, tall: str, runs: str, n_runs: str, step: str
    ) -> None:
        numbers = ["0", f.let(f"ptrtoint ptr {rows} to i64"), count, more, f.let(f"ptrtoint ptr {out} to i64"), tall,
                   f.let(f"ptrtoint ptr {runs} to i64"), n_runs, step, "0", "0", "0"]  # fmt: skip
        for i, number in enumerate(numbers):
            f.set(f.at(state, i), number)

    def ir(self) -> str:
        f = Function("void @ahead(ptr noalias %state)", Module())
        number = [f.load("%state", i) for i in range(self.STATE)]
        rows, out, runs = (f.let(f"inttoptr i64 {number[i]} to ptr") for i in (_ROWS, _OUT, _RUNS))
        run, position = number[_RUN], number[_POSITION]
        pair = f.mul(run, 2)
        offset, length = f.load(runs, pair), f.load(runs, f.add(pair, 1))
        skipped, left = f.add(offset, f.mul(position, number[_STEP])), f.sub(length, position)
        to = f.at(out, number[_AT], "i8")
        next_square = (self._row if self.squares.along == "k" else self._lines)(f, number, rows, to, skipped, left)
        with f.when(next_square):
            beyond = f.add(position, DEEP)
            ends = f.compare("sge", beyond, length)
            following = f.slot("i64", f.add(run, f.let(f"zext i1 {ends} to i64")))
            f.set(f.at("%state", _POSITION), f.let(f"select i1 {ends}, i64 0, i64 {beyond}"))
            f.set(f.at("%state", _AT), f.add(number[_AT], self.squares.pitch))
            with f.when(f.compare("sge", f.get(following), number[_N_RUNS])):
                f.set(following, "0")
                if self.squares.along == "k":
                    f.set(f.at("%state", _UNIT), f.add(number[_UNIT], 1))
                    f.set(f.at("%state", _AT), "0")
            f.set(f.at("%state", _RUN), f.get(following))
        return f.finish() + f.module.text()

    def _row(self, f: Function, number: list[str], rows: str, to: str, skipped: str, left: str) -> str:
        """32 positions of one row: beyond the last row, of that one again. Those of the next row are asked for."""
        row = f.load(rows, f.minimum(number[_UNIT], f.sub(number[_COUNT], 1)))
        at = f.at(f.let(f"inttoptr i64 {row} to ptr"), skipped, "i8")
        coming = f.load(rows, f.minimum(f.add(number[_UNIT], 1), f.sub(number[_MORE], 1)))
        self.squares.ask(f, f.at(f.let(f"inttoptr i64 {coming} to ptr"), skipped, "i8"))
        half, r = f.div(number[_UNIT], SQUARE), f.rem(number[_UNIT], SQUARE)
        to = f.at(to, f.add(f.mul(half, number[_TALL_BYTES]), f.mul(r, 64)), "i8")
        self.squares.line(f, to, at, mask(f, left, DEEP))
        return "true"

    def _lines(self, f: Function, number: list[str], rows: str, to: str, skipped: str, left: str) -> str:
        unit, count = number[_UNIT], number[_COUNT]
        halves = [to, f.at(to, number[_TALL_BYTES], "i8")]
        with f.when(f.compare("slt", unit, SQUARE)):
            row = f.at(f.let(f"inttoptr i64 {f.load(rows)} to ptr"), skipped, "i8")
            self.squares.pair(f, halves, row, number[_STEP], unit, mask(f, count, DEEP), left)
        with f.when(f.compare("sge", unit, SQUARE)):
            which = f.sub(unit, SQUARE)
            half, part = f.div(which, self.squares.parts), f.rem(which, self.squares.parts)
            place = f.add(f.mul(half, number[_TALL_BYTES]), f.mul(part, SQUARE_BYTES))
            self.squares.turn(f, f.at(to, place, "i8"))
        wide = f.compare("sgt", count, SQUARE)
        last = f.let(f"select i1 {wide}, i64 {SQUARE - 1 + 2 * self.squares.parts}, i64 {SQUARE - 1 + self.squares.parts}")
        done = f.compare("sge", unit, last)
        f.set(f.at("%state", _UNIT), f.let(f"select i1 {done}, i64 0, i64 {f.add(unit, 1)}"))
        return done
