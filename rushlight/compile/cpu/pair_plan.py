"""Planning a contraction with sums in float32 where the processor multiplies pairs of bfloat16: of bfloat16 operands, and on the tile
unit of float32 operands, whose numbers are sums of three parts (``pair_parts.py``).

Differs from ``contract.py`` in what the inner kernel reads: both operands in squares (``pair_pack.py``). B is packed by a
step of its own; A by each part, some rows at a time, on the stack of the thread that uses them, so a convolution makes no
copy of its windows in memory. A reduction longer than ``LONGEST`` goes chunk by chunk, with partial sums in scratch.
"""

from __future__ import annotations

import math
from typing import Any

from rushlight.compile.contraction import Contraction
from rushlight.compile.cpu import target
from rushlight.compile.cpu.contract import Planner, run_table
from rushlight.compile.cpu.contract_block import BLOCK_BYTES
from rushlight.compile.cpu.contract_epilogue import EpilogueOperand
from rushlight.compile.cpu.contract_roles import Axis, in_chunks
from rushlight.compile.cpu.contract_rows import MAX_ROWS, ROWS_KEY, rows_ir
from rushlight.compile.cpu.contract_step import Operand, Plan
from rushlight.compile.cpu.pair_ahead import Ahead
from rushlight.compile.cpu.pair_kernel import PairDriver, PairMicro
from rushlight.compile.cpu.pair_pack import DEEP, SQUARE, SQUARE_BYTES, TOGETHER, PackColumns, Squares
from rushlight.compile.cpu.pair_parts import ORDER, PARTS
from rushlight.compile.dtypes import bfloat16, float32
from rushlight.compile.flags import flags
from rushlight.compile.sizes import decision, entries, largest, length, numeric, smallest

__all__ = ["PairPlanner", "pair_plan", "parts_of_numbers"]

#: With fewer rows, columns or positions most of a square is empty.
FEWEST = 8
#: Positions of the reduction in one go, and at a time where there are more: a chunk of a panel of B is half of the first-level
#: cache. Two chunks are not worth the partial sums.
LONGEST, CHUNK = 1024, 512
#: Some ten microseconds of the tile unit, for each product of parts.
PART_FLOPS = 12_000_000
#: Multiply-adds a cycle of float32 on vectors and on the tile unit, as products reach them; cycles for taking a number of B apart, by a
#: step of its own (where columns lie side by side, and else), and of A, on the stack; and for waiting until B is there.
ON_VECTORS, ON_TILES = 26, 128
B_APART, B_TURNED, A_APART, JOIN = 4, 6, 1.6, 200_000
#: By how much the estimate for the tile unit has to be better: where products are small it promises too much.
SURELY = 1.2
MOST_PARTS = 16
#: The part of the second-level cache that a part's panels of B may take, if they are of float32 numbers: the rows of A that are made ready
#: meanwhile, and what is read and written, pass through it, too.
STAYING = 3 / 8
#: Squares of B that a part packs.
PACK_SQUARES = 128
TALL = 2 * SQUARE  # rows of a tile, and columns of a panel


def parts_of_numbers(c: Contraction, cpu: target.CPU) -> int:
    """How many bfloat16 numbers stand for one of the operands'; 0: the processor has no instructions for their type."""
    if c.accumulate is not float32:
        return 0
    if c.a is bfloat16 and c.b is bfloat16:
        return int(cpu.amx or cpu.bf16_dot and cpu.vector_bytes == 64)
    return PARTS if cpu.amx and cpu.bf16_dot and flags.tiles and c.a is float32 and c.b is float32 else 0


class PairPlanner(Planner):
    """``fits``: whether the contraction fills squares; else it is for the other kernels. ``parts`` of each number."""

    def __init__(self, c: Contraction, cpu: target.CPU, parts: int = 1) -> None:
        self.parts = parts
        self.rate = 8 if parts == 1 else 5
        super().__init__(c, cpu)
        self.item = c.a.itemsize
        self.square = parts * SQUARE_BYTES
        self.inner = self.k[-1] if self.k else Axis(1, (self.item, self.item))
        self.outer = self.k[:-1]
        self.all_squares = -(-self.inner.extent // DEEP) * math.prod(x.extent for x in self.outer)
        kept = c.constant and self.names["b"] == "b"
        packing = 0 if parts == 1 or kept else B_APART if self._neighbours(1, [self.n]) == "rows" else B_TURNED
        self.fits = not self.empty and not self.along and fills(self.rows, self.n.extent, self.depth, self.all_squares, parts, packing)

    def plan(self) -> Plan:
        self.vectors, self.heights, self.dots, self.panel = 2, (TALL, SQUARE), False, TALL
        self.panels = -(-self.n.extent // self.panel)
        self.flops = 2 * self.batches * self.rows * self.n.extent * self.depth
        staying = int(STAYING * self.cpu.l2) // (2 * self.square)
        self.deep = in_pieces(self.all_squares, self.panels, self.parts, staying)
        self.chunk = CHUNK if self.parts == 1 else even_chunk(self.all_squares)
        self.piece = smallest(self.inner.extent, self.chunk) if self.deep else self.inner.extent
        self.pieces_of = self.inner.extent, self.piece, math.prod(x.extent for x in self.outer)
        extent, piece, times = self.pieces_of
        self.runs = times * -(-extent // piece)
        self.squares = times * (extent // piece * -(-piece // DEEP) + -(-(extent % piece) // DEEP))
        self.chunks = chunks(*self.pieces_of, self.chunk // DEEP if self.deep else self.squares)
        self.turned = smallest(MAX_ROWS, BLOCK_BYTES // (deepest(self.chunks) * self.square) * SQUARE // TALL * TALL)
        along = self._neighbours(0, self.m)
        self.ahead = along if self.cpu.amx and self.parts > 1 and along in ("k", "rows") else ""
        b_strides = self._pack_columns()
        wanted = smallest(MOST_PARTS, largest(1, self.flops // (PART_FLOPS if self.parts == 1 else PART_FLOPS // len(ORDER))))
        most = largest(1, staying // deepest(self.chunks)) if self.parts > 1 else self.panels
        block_m, block_n, splits = cut(self.rows, self.panels, self.n.extent, self.depth, self.batches,
                                       length(self.chunks) // 4 if self.deep else 0, most, self.parts, self.cpu.l2, wanted)
        if self.deep:
            self._in_chunks(b_strides, splits, block_m, block_n)
        else:
            self._at_once(b_strides, block_m, block_n)
        self._call()
        return Plan(self.steps, self.scratch, self.flops)

    def _call(self) -> None:
        micro = PairMicro(self.cpu.amx, self.parts)
        columns = Squares(True, self._neighbours(1, [self.n]), 2 * self.square, self.parts)
        rows = Squares(False, self._neighbours(0, self.m), self.square, self.parts)
        ahead = Ahead(rows)
        self._tell({"micro": (micro.key, micro.ir, "micro"), "rows": (ROWS_KEY, rows_ir, "rows"), "turn": (rows.key, rows.ir, "pack"),
                    "pack": (columns.key, columns.ir, "pack")} | ({"ahead": (ahead.key, ahead.ir, "ahead")} if self.ahead else {}))

    def _neighbours(self, operand: int, axes: list[Axis]) -> str:
        """What lies side by side in an operand: positions of the reduction, 32 rows (or columns) from any multiple of 32
        on, or neither."""
        if self.inner.strides[operand] == self.item:
            return "k"
        if axes and axes[-1].strides[operand] == self.item and (len(axes) == 1 or axes[-1].extent % TALL == 0):
            return "rows"
        return "any"

    # ------------------------------------------------------------------------------------------------- the reduction

    def _runs_of(self, operand: int) -> list[Any]:
        """(byte offset, length) of each run: pieces of the innermost dimension, at every position of the others."""
        outer = tuple([(x.extent, x.strides[operand]) for x in self.outer])
        return entries(run_table(outer, self.inner.extent, self.inner.strides[operand], 1, self.piece))

    # ------------------------------------------------------------------------------------------------- steps

    def _pack_columns(self) -> list[int]:
        """Adds the step that packs B; returns its bytes from one to the next of each batch axis."""
        kernel = PackColumns(self.parts)
        panel_bytes = 2 * self.square * self.squares
        strides, nbytes = [0] * len(self.batch), self.panels * panel_bytes
        for i in reversed(range(len(self.batch))):
            if self.batch[i].strides[1]:
                strides[i], nbytes = nbytes, nbytes * self.batch[i].extent
        self.scratch.append(nbytes)
        moving = [(x.extent, x.strides[1], to) for x, to in zip(self.batch, strides, strict=True) if to]
        runs = self._runs_of(1)
        together = smallest(TOGETHER, self.panels) if self._neighbours(1, [self.n]) == "rows" else 1
        groups = packed_together(*self.pieces_of, together)
        tables = [number for line in moving for number in line] + runs
        values = {"parts_k": length(groups) // 3, "panels": self.panels, "together": together, "n": self.n.extent,
                  "n_stride": self.n.strides[1], "step": self.inner.strides[1], "batch_dims": len(moving), "panel_bytes": panel_bytes,
                  "pack": 0, "triples": 4 + len(kernel.fields) + 3 * len(moving) + 2 * self.runs}  # fmt: skip
        parts = length(groups) // 3 * -(-self.panels // together) * math.prod(extent for extent, _, _ in moving)
        self._step((kernel.key, kernel.ir, "contract"), [self.names["b"], ("scratch", 0)], kernel.fields, values,
                   tables + entries(groups), parts, packs=True)
        return strides

    def _values(self, block_m: int, block_n: int) -> dict[str, int]:
        return self._common(block_m, block_n) | {
            "micro": 0, "a_panel_bytes": 0, "panel_bytes": 2 * self.square * self.squares, "b_step": 2 * self.square,
            "step": self.inner.strides[0], "runs": self.runs, "turn": 0, "depth": deepest(self.chunks),
            "block_rows": self.turned, "ahead": 0}  # fmt: skip

    def _pair_driver(self, kind: str, outputs: tuple[EpilogueOperand, ...] = ()) -> PairDriver:
        finishes = kind == "finish"
        return PairDriver(kind, self.accumulate, self.lanes, self.vectors, self.heights, outputs, self.stores if outputs else (),
                          "" if finishes else "turned", self.sums if outputs else (), amx=self.cpu.amx, parts=self.parts,
                          ahead="" if finishes else self.ahead)  # fmt: skip

    def _at_once(self, b_strides: list[int], block_m: int, block_n: int) -> None:
        values = self._values(block_m, block_n)
        names: list[Operand] = [self.names["a"], ("scratch", 0), *self._results(values)]
        rest = (0,) * bool(self.sums)
        tables = self._dims(self.batch, lambda i, x: (x.strides[0], b_strides[i], *x.strides[2:], *rest))
        tables += self._dims(self.m, lambda i, x: (x.strides[0], 0, *x.strides[2:], *rest))
        self._run(self._pair_driver("direct", self._outputs()), names, values, tables + self._runs_of(0), 1)
        self._combine(values)

    def _in_chunks(self, b_strides: list[int], splits: int, block_m: int, block_n: int) -> None:
        count = length(self.chunks) // 4
        split_chunks = -(-count // splits)
        splits = -(-count // split_chunks)
        panel_bytes = (-(-self.rows // TALL) * TALL + 1) * self.panel * 4  # whole tiles are stored; and as in contract.py
        batch_bytes = self.panels * panel_bytes
        split_bytes = self.batches * batch_bytes
        self.scratch.append(splits * split_bytes)
        outputs = self._outputs() if splits == 1 else ()
        driver, runs = self._pair_driver("chunked" if splits == 1 else "partial", outputs), self._runs_of(0)
        written, end = slice(2, 2 + len(outputs)), (0,) * bool(outputs and self.sums)
        dims = 2 * driver.operands + len(driver.fields) + (1 + driver.operands) * (len(self.batch) + len(self.m))
        values = self._values(block_m, block_n) | {
            "splits": splits, "chunk": count, "split_chunks": split_chunks, "chunks": dims + 2 * self.runs,
            "split_bytes": split_bytes, "scratch_panel_bytes": panel_bytes}  # fmt: skip
        to, nbytes = [0] * len(self.batch), batch_bytes
        for i in reversed(range(len(self.batch))):
            to[i], nbytes = nbytes, nbytes * self.batch[i].extent
        tables = self._dims(self.batch, lambda i, x: (x.strides[0], b_strides[i], to[i], *x.strides[written], *end))
        tables += self._dims(self.m, lambda i, x: (x.strides[0], 0, 0, *x.strides[written], *end))
        names: list[Operand] = [self.names["a"], ("scratch", 0), ("scratch", 1), *(self._results(values) if outputs else ())]
        self._run(driver, names, values, tables + runs + entries(self.chunks), splits)
        if outputs:
            self._combine(values)
            return
        values = self._common(largest(1, smallest(MAX_ROWS, (1 << 14) // (self.panels * self.panel))), self.panels) | {
            "splits": splits, "split_bytes": split_bytes, "scratch_panel_bytes": panel_bytes}  # fmt: skip
        names = [("scratch", 1), *self._results(values)]
        rest = (0,) * bool(self.sums)
        tables = self._dims(self.batch, lambda i, x: (to[i], *x.strides[2:], *rest))
        tables += self._dims(self.m, lambda i, x: (0, *x.strides[2:], *rest))
        self._run(self._pair_driver("finish", self._outputs()), names, values, tables, 1)
        self._combine(values)


def _squares(extent: int, piece: int, times: int) -> list[int]:
    """Of each run in order: a number, and how many squares its positions fill. ``times`` so many runs as ``extent`` has pieces."""
    lengths = ([piece] * (extent // piece) + [extent % piece] * (extent % piece > 0)) * times
    return [number for i, n in enumerate(lengths) for number in (i, -(-n // DEEP))]


@numeric
def chunks(extent: int, piece: int, times: int, most: int) -> list[int]:
    """Runs of about ``most`` squares together: four numbers for each chunk, as ``in_chunks`` gives them."""
    return [number for chunk in in_chunks(_squares(extent, piece, times), most) for number in chunk]


@numeric
def packed_together(extent: int, piece: int, times: int, panels: int) -> list[int]:
    """The runs that a part packs, of so many panels: (first, one past the last, first square) each."""
    return [number for chunk in in_chunks(_squares(extent, piece, times), PACK_SQUARES // panels) for number in chunk[:3]]


@numeric
def deepest(numbers: list[int]) -> int:
    """The squares of the longest chunk."""
    return max(numbers[3::4])


@decision
def fills(rows: int, columns: int, depth: int, squares: int, parts: int, packing: int) -> bool:
    """Whether a contraction fills ``squares``, and gains where numbers are taken apart for that, with ``packing`` for each of B."""
    if min(rows, columns, depth) < FEWEST or squares * DEEP > 2 * depth + DEEP:
        return False
    return parts == 1 or 4 * squares * DEEP <= 5 * depth + DEEP and saved(rows, columns, depth, packing) > 0


def saved(rows: int, columns: int, depth: int, packing: int) -> int:
    """Cycles that the tile unit saves where float32 numbers are taken apart for it, ``packing`` for each of B."""
    on_tiles = rows * columns * depth / ON_TILES + depth * (packing * columns + A_APART * rows) + (JOIN if packing else 0)
    return int(rows * columns * depth / ON_VECTORS - SURELY * on_tiles)


@decision
def in_pieces(squares: int, panels: int, parts: int, staying: int) -> bool:
    """Whether a reduction of so many squares goes chunk by chunk."""
    if squares * DEEP > LONGEST:
        return True
    return parts > 1 and squares * DEEP > CHUNK and squares * panels > staying


@numeric
def even_chunk(squares: int) -> int:
    """Positions of a chunk, so that all are about as long."""
    pieces = -(-squares * DEEP // CHUNK)
    return -(-squares // pieces) * DEEP


@numeric
def cut(
    rows: int, panels: int, columns: int, depth: int, batches: int, chunks: int, most: int, parts: int, l2: int, wanted: int
) -> tuple[int, int, int]:
    """Rows and panels of a part, at most ``most``, and into how many pieces the reduction is split, if it has ``chunks``.

    Among the ways to cut, the one that takes the fewest cycles to move what it has to: each part packs its rows of A and reads its
    panels of B; and pieces of sums are written and added up. Of one chunk the panels stay in the second-level cache from part to part."""
    packing, sums = (0.9 + 0.3 * parts) * rows * depth, 1.5 * rows * columns
    small = 2 * parts * columns * depth <= l2 // 2
    best: tuple[tuple[int, float], int, int, int] | None = None
    for splits in sorted({max(1, -(-chunks // n)) for n in range(1, max(1, chunks) + 1)}):
        stays = small or parts > 1 and splits >= chunks
        reading = (0.06 if stays else 0.25) * parts * columns * depth
        for block_n in sorted({-(-panels // p) for p in range(1, min(panels, max(wanted, -(-panels // most))) + 1)}):
            if block_n > most:
                continue
            parts_n = -(-panels // block_n)
            parts_m = min(-(-rows // TALL), -(-wanted // (batches * splits * parts_n)))
            parts_m = max(-(-rows // MAX_ROWS), parts_m)
            even = -(-rows // parts_m)
            block_m = -(-even // TALL) * TALL if parts_m > 1 else rows
            made = min(parts_m * parts_n * batches * splits, wanted)
            cycles = parts_n * packing + parts_m * reading + (splits * sums if chunks else 0.0)
            if best is None or (-made, cycles) < best[0]:
                best = (-made, cycles), block_m, block_n, splits
    assert best is not None
    return best[1:]


def pair_plan(c: Contraction, cpu: target.CPU) -> Plan | None:
    """The plan of ``c`` if the processor multiplies its pairs and it fills squares; else None."""
    parts = parts_of_numbers(c, cpu)
    if not parts:
        return None
    planner = PairPlanner(c, cpu, parts)
    return planner.plan() if planner.fits else None
