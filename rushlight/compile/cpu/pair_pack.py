"""Operands in the order in which pairs of bfloat16 are multiplied: squares of 16 rows (or columns) by 32 positions of the
reduction, a kilobyte each. The tile unit and the dot-product instruction both read them. A float32 operand becomes three squares, one
after the other, of the parts that ``pair_parts.py`` cuts its numbers into.

    void pack(ptr out, ptr rows, i64 height, ptr runs, i64 n_runs, i64 step, i64 gap, i64 group, i64 more)

reads ``height`` rows, whose addresses are in ``rows``, at the positions that ``runs`` describes: pairs (byte offset, length), positions
``step`` bytes apart. Each run begins a new square, and is filled up with zeros. ``out`` is a square (or three) for each 32 positions,
``pitch`` bytes apart, and ``gap`` bytes further on the squares of the second 16 rows; the squares of the next 32 rows are ``group`` bytes
further on. ``more`` is how many rows the table has: the next ones are asked for, as other calls will read them. In a square

* of A (``pairs_first`` false) a row is 64 bytes, its positions one after the other;
* of B (``pairs_first``) 64 bytes are two neighbouring positions of every column: the order that Intel calls VNNI.

A pair is moved as one number of 32 bits. What lies the other way round is transposed in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rushlight.compile.cpu.contract_rows import MAX_ROWS
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import ir_type, mask, masked_load, splat
from rushlight.compile.cpu.pack import turned
from rushlight.compile.cpu.pair_parts import parts_of
from rushlight.compile.dtypes import DType, bfloat16, float32

__all__ = ["DEEP", "SQUARE", "SQUARE_BYTES", "TOGETHER", "PackColumns", "Squares"]

SQUARE = 16         # rows or columns
DEEP = 32           # positions of the reduction
SQUARE_BYTES = 1024
_ROW = 64           # bytes
TOGETHER = 8        # panels of B that are packed together where their columns lie side by side: then their lines are read in order
_LINE, _PAIRS = f"<{DEEP} x i16>", f"<{SQUARE} x i32>"  # the same 64 bytes


@dataclass(frozen=True)
class Squares:
    """``along``: "k" where a row's positions are neighbours in memory, "rows" where 16 rows are, "any" else. ``parts`` of a number: 1 of
    bfloat16, 3 of float32."""

    pairs_first: bool
    along: str
    pitch: int
    parts: int = 1

    @property
    def key(self) -> str:
        return f"pairs5 {self.pairs_first} {self.along} {self.pitch} {self.parts}"

    @property
    def source(self) -> DType:
        return bfloat16 if self.parts == 1 else float32

    def ir(self) -> str:
        """Where rows lie side by side, they are read as they lie, 32 positions of all of them; else 32 rows after the others."""
        f = Function("void @pack(ptr noalias %out, ptr noalias %rows, i64 %height, ptr noalias %runs, i64 %n_runs, i64 %step, i64 %gap, "
                     "i64 %group, i64 %more)", Module())  # fmt: skip
        if self.along == "rows":
            with self._positions(f, "%out") as (out, skipped, left), self._groups(f) as (first, group):
                row = f.at(f.let(f"inttoptr i64 {f.load('%rows', first)} to ptr"), skipped, "i8")
                self._along_rows(f, f.at(out, group, "i8"), row, f.sub("%height", first), left)
            return f.finish() + f.module.text()
        body = self._along_k if self.along == "k" else self._any
        with self._groups(f) as (first, group):
            last = f.sub("%height", 1)
            for half in range(2):
                begin = f.add(first, half * SQUARE)
                with f.when(f.compare("sgt", "%height", begin)):
                    rows, coming = [], []
                    for r in range(SQUARE):  # beyond the last row: that one again
                        address = f.load("%rows", f.minimum(f.add(begin, r), last))
                        rows.append(f.let(f"inttoptr i64 {address} to ptr"))
                        coming.append(f.at("%rows", f.minimum(f.add(begin, SQUARE + r), f.sub("%more", 1))))
                    start = f.at(f.at("%out", group, "i8"), f.mul("%gap", half), "i8")
                    with self._positions(f, start) as (out, skipped, left):
                        for place in coming:
                            self.ask(f, f.at(f.let(f"inttoptr i64 {f.load(place)} to ptr"), skipped, "i8"))
                        body(f, out, [f.at(row, skipped, "i8") for row in rows], left)
        return f.finish() + f.module.text()

    def ask(self, f: Function, at: str) -> None:
        """For the lines of 32 neighbours, into the second-level cache."""
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for line in range(0, DEEP * self.source.itemsize, _ROW):
            f.do(f"call void @llvm.prefetch.p0(ptr {f.at(at, line, 'i8')}, i32 0, i32 2, i32 1)")

    @contextmanager
    def _groups(self, f: Function) -> Iterator[tuple[str, str]]:
        """Of 32 rows: the first one, and how far on the squares are."""
        with f.loop(0, "%height", 2 * SQUARE) as first:
            yield first, f.mul(f.div(first, 2 * SQUARE), "%group")

    @contextmanager
    def _positions(self, f: Function, start: str) -> Iterator[tuple[str, str, str]]:
        """32 at a time: where their square is, how far on in memory they are, and how many are left of the run."""
        out = f.slot("ptr")
        f.set(out, start, "ptr")
        with f.loop(0, "%n_runs") as run:
            pair = f.mul(run, 2)
            offset, length = f.load("%runs", pair), f.load("%runs", f.add(pair, 1))
            with f.loop(0, length, DEEP) as k:
                here, left = f.get(out, "ptr"), f.sub(length, k)
                yield here, f.add(offset, f.mul(k, "%step")), left
                f.set(out, f.at(here, self.pitch, "i8"), "ptr")

    def _line(self, f: Function, at: str, lanes_on: str) -> list[str]:
        """The parts of 32 neighbours in memory, zero where the mask is off."""
        if self.parts == 1:
            return [masked_load(f, at, bfloat16, DEEP, lanes_on)]
        halves = []
        for half in range(2):
            order = ", ".join(f"i32 {half * SQUARE + i}" for i in range(SQUARE))
            on = f.let(f"shufflevector <{DEEP} x i1> {lanes_on}, <{DEEP} x i1> poison, <{SQUARE} x i32> <{order}>")
            halves.append(masked_load(f, f.at(at, half * SQUARE * 4, "i8"), float32, SQUARE, on))
        return parts_of(f, *halves)

    def _along_k(self, f: Function, out: str, rows: list[str], left: str) -> None:
        lanes_on = mask(f, left, DEEP)
        for r, row in enumerate(rows):
            self.line(f, f.at(out, _ROW * r, "i8"), row, lanes_on)
        if self.pairs_first:
            self._turn(f, out)

    def line(self, f: Function, out: str, at: str, lanes_on: str) -> None:
        """32 positions of a row, into the squares of all parts."""
        for part, line in enumerate(self._line(f, at, lanes_on)):
            f.do(f"store {_LINE} {line}, ptr {f.at(out, part * SQUARE_BYTES, 'i8')}, align 4")

    def _along_rows(self, f: Function, out: str, row: str, height: str, left: str) -> None:
        """Both squares at once: 32 rows side by side are a line of memory for each position, or two."""
        lanes_on = mask(f, height, DEEP)
        halves = [out, f.at(out, "%gap", "i8")]
        for p in range(DEEP // 2):
            self.pair(f, halves, row, "%step", str(p), lanes_on, left)
        if not self.pairs_first:
            for to in halves:
                self._turn(f, to)

    def pair(self, f: Function, halves: list[str], row: str, step: str, p: str, lanes_on: str, left: str) -> None:
        """Two neighbouring positions of 32 rows side by side, the ``p``-th two of a square; the next square's are asked for."""
        both = []
        for odd in range(2):
            k = f.add(f.mul(p, 2), odd)
            self.ask(f, f.at(row, f.mul(step, f.add(k, DEEP)), "i8"))
            on = f.let(f"select i1 {f.compare('sgt', left, k)}, <{DEEP} x i1> {lanes_on}, <{DEEP} x i1> zeroinitializer")
            both.append(self._line(f, f.at(row, f.mul(step, k), "i8"), on))
        for part, (first, second) in enumerate(zip(*both, strict=True)):
            for half, to in enumerate(halves):
                order = ", ".join(f"i32 {half * SQUARE + i // 2 + DEEP * (i % 2)}" for i in range(DEEP))
                pairs = f.let(f"shufflevector {_LINE} {first}, {_LINE} {second}, <{DEEP} x i32> <{order}>")
                place = f.add(f.mul(p, _ROW), part * SQUARE_BYTES)
                f.do(f"store {_LINE} {pairs}, ptr {f.at(to, place, 'i8')}, align 4")

    def _any(self, f: Function, out: str, rows: list[str], left: str) -> None:
        scalar, item = ir_type(self.source), self.source.itemsize
        for r, row in enumerate(rows):
            with f.loop(0, str(DEEP)) as k:
                value = f.slot(scalar, "0" if self.parts == 1 else "0.0")
                with f.when(f.compare("slt", k, left)):
                    f.set(value, f.let(f"load {scalar}, ptr {f.at(row, f.mul(k, '%step'), 'i8')}, align {item}"), scalar)
                if self.pairs_first:
                    odd = f.let(f"and i64 {k}, 1")
                    at = f.add(f.mul(f.div(k, 2), _ROW), f.add(f.mul(odd, 2), 4 * r))
                else:
                    at = f.add(f.mul(k, 2), _ROW * r)
                for part, number in enumerate(self._scalar_parts(f, f.get(value, scalar))):
                    f.do(f"store i16 {number}, ptr {f.at(f.at(out, part * SQUARE_BYTES, 'i8'), at, 'i8')}, align 2")

    def _scalar_parts(self, f: Function, value: str) -> list[str]:
        if self.parts == 1:
            return [value]
        vector = splat(f, value, "float", SQUARE)
        return [f.let(f"extractelement <{DEEP} x i16> {part}, i64 0") for part in parts_of(f, vector, vector)]

    def _turn(self, f: Function, out: str) -> None:
        """Transposes the squares of all parts where they are: together they are more than the registers hold."""
        for part in range(self.parts):
            self.turn(f, f.at(out, part * SQUARE_BYTES, "i8"))

    def turn(self, f: Function, square: str) -> None:
        lines = [f.at(square, _ROW * r, "i8") for r in range(SQUARE)]
        rows = [f.let(f"load {_PAIRS}, ptr {line}, align 4") for line in lines]
        for line, row in zip(lines, turned(f, rows, _PAIRS, SQUARE), strict=True):
            f.do(f"store {_PAIRS} {row}, ptr {line}, align 4")


@dataclass(frozen=True)
class PackColumns:
    """The step that packs B: ``out[batch][panel][32 positions][16 columns, and 16 more][part]``, a square each.

    Operands: B, out. A part is ``together`` panels of one batch for some runs of the reduction."""

    parts: int = 1

    fields = ("parts_k", "panels", "together", "n", "n_stride", "step", "batch_dims", "panel_bytes", "pack", "triples")

    @property
    def key(self) -> str:
        return f"pack pairs 5 {self.parts}"

    def ir(self) -> str:
        """After the batch dimensions: runs as for ``pack``, then for each part of the reduction (first run, one past the
        last, first square)."""
        module = Module()
        f = Function("void @contract(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        frame = Frame(f, 2, self.fields)
        runs = f.at(frame.tables, f.mul(frame["batch_dims"], 3))
        pack = f.let(f"inttoptr i64 {frame['pack']} to ptr")
        rows = f.slot(f"[{TOGETHER * 2 * SQUARE} x i64]", align=64)
        groups = f.div(f.add(frame["panels"], f.sub(frame["together"], 1)), frame["together"])
        with f.loop("%begin", "%end") as part:
            ki, rest = f.rem(part, frame["parts_k"]), f.div(part, frame["parts_k"])
            panel, batch = f.mul(f.rem(rest, groups), frame["together"]), f.div(rest, groups)
            slots, _ = frame.offsets(frame.tables, frame["batch_dims"], batch, [frame.address(0), frame.address(1)])
            triple = f.at(f.at("%params", frame["triples"]), f.mul(ki, 3))
            run0, run1, square = (f.load(triple, i) for i in range(3))
            target = f.add(f.add(f.get(slots[1]), f.mul(panel, frame["panel_bytes"])), f.mul(square, 2 * self.parts * SQUARE_BYTES))
            first = f.mul(panel, 2 * SQUARE)
            columns = f.minimum(f.sub(frame["n"], first), f.mul(frame["together"], 2 * SQUARE))
            start = f.add(f.get(slots[0]), f.mul(first, frame["n_stride"]))
            with f.loop(0, columns) as c:
                f.set(f.at(rows, c), f.add(start, f.mul(frame["n_stride"], c)))
            out = f.let(f"inttoptr i64 {target} to ptr")
            f.do(f"call void {pack}(ptr {out}, ptr {rows}, i64 {columns}, ptr {f.at(runs, f.mul(run0, 2))}, "
                 f"i64 {f.sub(run1, run0)}, i64 {frame['step']}, i64 {self.parts * SQUARE_BYTES}, i64 {frame['panel_bytes']}, "
                 f"i64 {columns})")  # fmt: skip
        return f.finish() + module.text()


assert MAX_ROWS % (2 * SQUARE) == 0
