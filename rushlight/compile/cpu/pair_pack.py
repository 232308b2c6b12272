"""bfloat16 operands in the order in which pairs are multiplied: squares of 16 rows (or columns) by 32 positions of the
reduction, a kilobyte each. The tile unit and the dot-product instruction both read them.

    void pack(ptr out, ptr rows, i64 height, ptr runs, i64 n_runs, i64 step, i64 gap)

reads ``height`` (at most 32) rows, whose addresses are in ``rows``, at the positions that ``runs`` describes: pairs
(byte offset, length), positions ``step`` bytes apart. Each run begins a new square, and is filled up with zeros. ``out`` is a
square for each 32 positions, ``pitch`` bytes apart, and ``gap`` bytes further on the squares of the second 16 rows. In a
square

* of A (``pairs_first`` false) a row is 64 bytes, its positions one after the other;
* of B (``pairs_first``) 64 bytes are two neighbouring positions of every column: the order that Intel calls VNNI.

A pair is moved as one number of 32 bits. What lies the other way round is transposed in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.cpu.contract_rows import MAX_ROWS
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import mask, masked_load
from rushlight.compile.cpu.pack import turned
from rushlight.compile.dtypes import bfloat16

__all__ = ["DEEP", "SQUARE", "SQUARE_BYTES", "PackColumns", "Squares"]

SQUARE = 16         # rows or columns
DEEP = 32           # positions of the reduction
SQUARE_BYTES = 1024
_ROW = 64           # bytes
_PAIRS = f"<{SQUARE} x i32>"


@dataclass(frozen=True)
class Squares:
    """``along``: "k" where a row's positions are neighbours in memory, "rows" where 16 rows are, "any" else."""

    pairs_first: bool
    along: str
    pitch: int

    @property
    def key(self) -> str:
        return f"pairs2 {self.pairs_first} {self.along} {self.pitch}"

    def ir(self) -> str:
        module = Module()
        f = Function(
            "void @pack(ptr noalias %out, ptr noalias %rows, i64 %height, ptr noalias %runs, i64 %n_runs, i64 %step, i64 %gap)", module)
        last = f.sub("%height", 1)
        halves = 1 if self.along == "rows" else 2
        for half in range(halves):
            with f.when(f.compare("sgt", "%height", half * SQUARE)):
                rows = []
                for r in range(1 if self.along == "rows" else SQUARE):  # beyond the last row: that one again
                    address = f.load("%rows", f.minimum(str(half * SQUARE + r), last))
                    rows.append(f.let(f"inttoptr i64 {address} to ptr"))
                self._all_runs(f, rows, f.at("%out", f.mul("%gap", half), "i8"))
        return f.finish() + module.text()

    def _all_runs(self, f: Function, rows: list[str], start: str) -> None:
        body = {"k": self._along_k, "rows": self._along_rows, "any": self._any}[self.along]
        out = f.slot("ptr")
        f.set(out, start, "ptr")
        with f.loop(0, "%n_runs") as run:
            pair = f.mul(run, 2)
            offset, length = f.load("%runs", pair), f.load("%runs", f.add(pair, 1))
            whole = f.let(f"and i64 {length}, {-DEEP}")
            for begin, end, full in ((0, whole, True), (whole, length, False)):
                with f.loop(begin, end, DEEP) as k:
                    here, skipped = f.get(out, "ptr"), f.add(offset, f.mul(k, "%step"))
                    body(f, here, [f.at(row, skipped, "i8") for row in rows], f.sub(length, k), full)
                    f.set(out, f.at(here, self.pitch, "i8"), "ptr")

    def _along_k(self, f: Function, out: str, rows: list[str], left: str, full: bool) -> None:
        if full:
            loaded = [f.let(f"load {_PAIRS}, ptr {row}, align 2") for row in rows]
        else:
            lanes_on = mask(f, left, DEEP)
            loaded = [f.let(f"bitcast <{DEEP} x i16> {masked_load(f, row, bfloat16, DEEP, lanes_on)} to {_PAIRS}") for row in rows]
        self._store(f, out, turned(f, loaded, _PAIRS, SQUARE) if self.pairs_first else loaded)

    def _along_rows(self, f: Function, out: str, rows: list[str], left: str, full: bool) -> None:
        """Both squares at once: 32 rows side by side are one line of memory for each position."""
        lanes_on = mask(f, "%height", DEEP)
        vector, squares = f"<{DEEP} x i16>", ([], [])  # type: tuple[str, tuple[list[str], list[str]]]
        for p in range(DEEP // 2):
            both = []
            for k in (2 * p, 2 * p + 1):
                on = lanes_on
                if not full:
                    inside = f.compare("sgt", left, k)
                    on = f.let(f"select i1 {inside}, <{DEEP} x i1> {lanes_on}, <{DEEP} x i1> zeroinitializer")
                both.append(masked_load(f, f.at(rows[0], f.mul("%step", k), "i8"), bfloat16, DEEP, on))
            for half, pairs in enumerate(squares):
                order = ", ".join(f"i32 {half * SQUARE + i // 2 + DEEP * (i % 2)}" for i in range(DEEP))
                mixed = f.let(f"shufflevector {vector} {both[0]}, {vector} {both[1]}, <{DEEP} x i32> <{order}>")
                pairs.append(f.let(f"bitcast {vector} {mixed} to {_PAIRS}"))
                if self.pairs_first:
                    to = f.at(out, "%gap", "i8") if half else out
                    f.do(f"store {_PAIRS} {pairs[-1]}, ptr {f.at(to, _ROW * p, 'i8')}, align 4")
        if not self.pairs_first:
            self._store(f, out, turned(f, squares[0], _PAIRS, SQUARE))
            self._store(f, f.at(out, "%gap", "i8"), turned(f, squares[1], _PAIRS, SQUARE))

    def _any(self, f: Function, out: str, rows: list[str], left: str, full: bool) -> None:
        for r, row in enumerate(rows):
            with f.loop(0, str(DEEP)) as k:
                value = f.slot("i16", "0")
                with f.when(f.compare("slt", k, left)):
                    f.set(value, f.let(f"load i16, ptr {f.at(row, f.mul(k, '%step'), 'i8')}, align 2"), "i16")
                if self.pairs_first:
                    odd = f.let(f"and i64 {k}, 1")
                    at = f.add(f.mul(f.div(k, 2), _ROW), f.add(f.mul(odd, 2), 4 * r))
                else:
                    at = f.add(f.mul(k, 2), _ROW * r)
                f.do(f"store i16 {f.get(value, 'i16')}, ptr {f.at(out, at, 'i8')}, align 2")

    def _store(self, f: Function, out: str, rows: list[str]) -> None:
        for i, value in enumerate(rows):
            f.do(f"store {_PAIRS} {value}, ptr {f.at(out, _ROW * i, 'i8')}, align 4")


@dataclass(frozen=True)
class PackColumns:
    """The step that packs B: ``out[batch][panel][square of 32 positions][two squares of 16 columns]``.

    Operands: B, out. A part is a panel of one batch for some runs of the reduction."""

    fields = ("parts_k", "panels", "n", "n_stride", "step", "batch_dims", "panel_bytes", "pack", "triples")
    key = "pack pairs 2"

    def ir(self) -> str:
        """After the batch dimensions: runs as for ``pack``, then for each part of the reduction (first run, one past the
        last, first square)."""
        module = Module()
        f = Function("void @contract(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        frame = Frame(f, 2, self.fields)
        runs = f.at(frame.tables, f.mul(frame["batch_dims"], 3))
        pack = f.let(f"inttoptr i64 {frame['pack']} to ptr")
        rows = f.slot(f"[{2 * SQUARE} x i64]", align=64)
        with f.loop("%begin", "%end") as part:
            ki, rest = f.rem(part, frame["parts_k"]), f.div(part, frame["parts_k"])
            panel, batch = f.rem(rest, frame["panels"]), f.div(rest, frame["panels"])
            slots, _ = frame.offsets(frame.tables, frame["batch_dims"], batch, [frame.address(0), frame.address(1)])
            triple = f.at(f.at("%params", frame["triples"]), f.mul(ki, 3))
            run0, run1, square = (f.load(triple, i) for i in range(3))
            target = f.add(f.add(f.get(slots[1]), f.mul(panel, frame["panel_bytes"])), f.mul(square, 2 * SQUARE_BYTES))
            first = f.mul(panel, 2 * SQUARE)
            columns = f.minimum(f.sub(frame["n"], first), 2 * SQUARE)
            start = f.add(f.get(slots[0]), f.mul(first, frame["n_stride"]))
            for c in range(2 * SQUARE):
                f.set(f.at(rows, c), f.add(start, f.mul(frame["n_stride"], c)))
            out = f.let(f"inttoptr i64 {target} to ptr")
            f.do(f"call void {pack}(ptr {out}, ptr {rows}, i64 {columns}, ptr {f.at(runs, f.mul(run0, 2))}, "
                 f"i64 {f.sub(run1, run0)}, i64 {frame['step']}, i64 {SQUARE_BYTES})")  # fmt: skip
        return f.finish() + module.text()


assert MAX_ROWS % (2 * SQUARE) == 0
