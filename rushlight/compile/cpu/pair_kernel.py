"""Products of bfloat16 pairs with float32 sums: the inner kernel on the tile unit, or with the dot-product instruction.

    void micro(ptr tile, ptr rows, i64 height, ptr runs, i64 n_runs, i64 step, ptr b, i64 b_step, i64 columns,
               i64 accumulate, i64 shift, ptr finish, ptr pending)

as in ``microkernel.py``, for operands in squares (``pair_pack.py``): ``rows[0]`` and ``rows[16]`` are the addresses of the
squares of the first and the second 16 rows, ``runs[1]`` is the number of squares to go through, ``b`` is two squares for
each of them. Computes whole squares of 16 x 16 sums, as many as ``height`` and ``columns`` (at most 32) touch; sums of
rows and columns beyond them hold anything.

A square of A times one of B is one instruction of the tile unit (AMX: 16 cycles for 8192 multiply-adds). Two rows of
squares by two columns keep eight tile registers busy: four of sums, two of A, two of B. After each group of products the tile unit has
work for a while, and ``finish`` is called, if there is one (``pair_behind.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rushlight.compile.cpu import tile_unit
from rushlight.compile.cpu.contract_block import BLOCK_BYTES
from rushlight.compile.cpu.contract_ir import A, Driver, Part, Tile
from rushlight.compile.cpu.contract_rows import MAX_ROWS
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.pair_ahead import Ahead
from rushlight.compile.cpu.pair_behind import Behind
from rushlight.compile.cpu.pair_pack import SQUARE, SQUARE_BYTES
from rushlight.compile.cpu.pair_parts import ORDER

__all__ = ["PairDriver", "PairMicro"]

_TILE_ROW = 2 * SQUARE * 4  # bytes of a row of sums
_HEIGHT = 8                 # rows at a time without tile registers


@dataclass(frozen=True)
class PairMicro:
    """``amx``: with the tile unit, else with AVX512-BF16. ``parts`` of a number: 3 of float32, on the tile unit alone."""

    amx: bool
    parts: int = 1

    @property
    def key(self) -> str:
        return f"pair micro 5 {self.amx} {self.parts}"

    def ir(self) -> str:
        module = Module()
        f = Function(
            "void @micro(ptr noalias %tile, ptr noalias %rows, i64 %height, ptr noalias %runs, i64 %n_runs, "
            "i64 %step, ptr noalias %b, i64 %b_step, i64 %columns, i64 %accumulate, i64 %shift, ptr %finish, ptr %pending)",
            module,
        )
        squares = f.load("%runs", 1)
        first = f.let(f"inttoptr i64 {f.load('%rows')} to ptr")
        if self.amx:
            self._tiles(f, first, squares)
        else:
            self._dots(f, first, squares)
        return f.finish() + module.text()

    # ------------------------------------------------------------------------------------------ the tile unit

    def _tiles(self, f: Function, first: str, squares: str) -> None:
        second = f.slot("ptr")
        f.set(second, first, "ptr")
        tall = f.compare("sgt", "%height", SQUARE)
        with f.when(tall):
            f.set(second, f.let(f"inttoptr i64 {f.load('%rows', SQUARE)} to ptr"), "ptr")
        a = [first, f.get(second, "ptr")]
        wide = f.compare("sgt", "%columns", SQUARE)
        for rows, is_tall in ((2, tall), (1, f.let(f"xor i1 {tall}, true"))):
            for columns, is_wide in ((2, wide), (1, f.let(f"xor i1 {wide}, true"))):
                with f.when(f.let(f"and i1 {is_tall}, {is_wide}")):
                    self._block(f, a[:rows], columns, squares)

    def _block(self, f: Function, a: list[str], columns: int, squares: str) -> None:
        """Tile registers: 2 r + c for the sums, 4 + r for A, 6 + c for B."""
        sums = [(r, c, f.at("%tile", r * SQUARE * _TILE_ROW + c * SQUARE * 4, "i8")) for r in range(len(a)) for c in range(columns)]
        f.module.declare("void @llvm.x86.tileloadd64(i8 immarg, ptr, i64)")
        f.module.declare("void @llvm.x86.tilestored64(i8 immarg, ptr, i64)")
        f.module.declare("void @llvm.x86.tilezero(i8 immarg)")
        f.module.declare("void @llvm.x86.tdpbf16ps(i8 immarg, i8 immarg, i8 immarg)")
        again = f.compare("ne", "%accumulate", 0)
        with f.when(again):
            for r, c, at in sums:
                f.do(f"call void @llvm.x86.tileloadd64(i8 {2 * r + c}, ptr {at}, i64 {_TILE_ROW})")
        with f.when(f.let(f"xor i1 {again}, true")):
            for r, c, _ in sums:
                f.do(f"call void @llvm.x86.tilezero(i8 {2 * r + c})")
        with f.loop(0, squares) as k:
            place = f.mul(k, self.parts * SQUARE_BYTES)
            b = f.at("%b", f.mul(place, 2), "i8")
            loaded: tuple[int, int] | tuple[None, None] = None, None
            for of_a, of_b in ORDER if self.parts > 1 else ((0, 0),):
                if of_a != loaded[0]:
                    for r, base in enumerate(a):
                        at = f.at(f.at(base, place, "i8"), of_a * SQUARE_BYTES, "i8")
                        f.do(f"call void @llvm.x86.tileloadd64(i8 {4 + r}, ptr {at}, i64 64)")
                if of_b != loaded[1]:
                    for c in range(columns):
                        at = f.at(b, (c * self.parts + of_b) * SQUARE_BYTES, "i8")
                        f.do(f"call void @llvm.x86.tileloadd64(i8 {6 + c}, ptr {at}, i64 64)")
                loaded = of_a, of_b
                for r, c, _ in sums:
                    f.do(f"call void @llvm.x86.tdpbf16ps(i8 {2 * r + c}, i8 {4 + r}, i8 {6 + c})")
                with f.when(f.let("icmp ne ptr %finish, null")):
                    f.do("call void %finish(ptr %pending)")
        for r, c, at in sums:
            f.do(f"call void @llvm.x86.tilestored64(i8 {2 * r + c}, ptr {at}, i64 {_TILE_ROW})")

    # ------------------------------------------------------------------------------------------ dot products

    def _dots(self, f: Function, first: str, squares: str) -> None:
        """Eight rows by 32 columns of sums in vector registers, one pair of positions after the other."""
        vector, pairs = f"<{SQUARE} x float>", f"<{2 * SQUARE} x bfloat>"
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        f.module.declare(f"{vector} @{name}({vector}, {pairs}, {pairs})")
        sums = [[f.slot(vector) for _ in range(2)] for _ in range(_HEIGHT)]
        again = f.compare("ne", "%accumulate", 0)
        with f.loop(0, "%height", _HEIGHT) as group:
            square = f.slot("ptr")
            f.set(square, first, "ptr")
            with f.when(f.compare("sge", group, SQUARE)):
                f.set(square, f.let(f"inttoptr i64 {f.load('%rows', SQUARE)} to ptr"), "ptr")
            a = f.at(f.get(square, "ptr"), f.mul(f.rem(group, SQUARE), 64), "i8")
            tile = f.at("%tile", f.mul(group, _TILE_ROW), "i8")
            for r in range(_HEIGHT):
                for c in range(2):
                    f.set(sums[r][c], "zeroinitializer", vector)
            with f.when(again):
                for r in range(_HEIGHT):
                    for c in range(2):
                        f.set(sums[r][c], f.let(f"load {vector}, ptr {f.at(tile, r * _TILE_ROW + c * 64, 'i8')}, align 4"), vector)
            with f.loop(0, squares) as k, f.loop(0, str(SQUARE)) as p:
                b = f.at(f.at("%b", f.mul(k, 2 * SQUARE_BYTES), "i8"), f.mul(p, 64), "i8")
                at = f.at(f.at(a, f.mul(k, SQUARE_BYTES), "i8"), f.mul(p, 4), "i8")
                columns = [f.let(f"load {pairs}, ptr {f.at(b, c * SQUARE_BYTES, 'i8')}, align 4") for c in range(2)]
                for r in range(_HEIGHT):
                    one = f.let(f"load i32, ptr {f.at(at, 64 * r, 'i8')}, align 4")
                    row = f.let(f"insertelement <{SQUARE} x i32> poison, i32 {one}, i64 0")
                    row = f.let(f"shufflevector <{SQUARE} x i32> {row}, <{SQUARE} x i32> poison, <{SQUARE} x i32> zeroinitializer")
                    row = f.let(f"bitcast <{SQUARE} x i32> {row} to {pairs}")
                    for c in range(2):
                        total = f.get(sums[r][c], vector)
                        f.set(sums[r][c], f.let(f"call {vector} @{name}({vector} {total}, {pairs} {row}, {pairs} {columns[c]})"), vector)
            for r in range(_HEIGHT):
                for c in range(2):
                    f.do(f"store {vector} {f.get(sums[r][c], vector)}, ptr {f.at(tile, r * _TILE_ROW + c * 64, 'i8')}, align 4")


@dataclass(frozen=True)
class PairDriver(Driver):
    """The loops around the inner kernel: a part's rows of A become squares on the stack, block by block, and serve every
    panel of B. ``parts``: of a number, each a square. ``ahead``: a block has the rows of a tile, and while it is used the next one is made
    ("k" or "rows", as A lies)."""

    amx: bool = False
    parts: int = 1
    ahead: str = ""

    @property
    def order(self) -> tuple[str, str]:
        """Where the panels of B are what stays in the second-level cache, neighbouring parts read the same."""
        return ("parts_m", "parts_n") if self.parts > 1 else super().order

    @property
    def key(self) -> str:
        return f"pairs14 {self.amx} {self.parts} {self.ahead} {super().key}"

    @property
    def fields(self) -> list[str]:
        return [*super().fields, *(["ahead"] if self.ahead else [])]

    def _enter(self, f: Function, frame: Frame) -> Behind | None:
        """Eight tile registers of 16 rows by 64 bytes."""
        if not self.amx or self.kind == "finish":
            return None
        tile_unit.configure(f)
        later = self.kind in ("direct", "chunked") and (self.parts > 1 or not self.sums)
        if not later and not self.ahead:
            return None
        return Behind(f, self.epilogue if later else None, frame["ahead"] if self.ahead else "", self.heights[0], self.row_bytes)

    def _leave(self, f: Function) -> None:
        """Nothing to save when the thread is interrupted later."""
        if self.amx and self.kind != "finish":
            tile_unit.release(f)

    def _body(self, f: Function, part: Part) -> None:
        if part.behind is None or not part.behind.later:
            super()._body(f, part)
            return
        first = 2 + (self.kind == "chunked")
        steps = [part.frame[f"n_stride{i}"] for i in range(len(self.outputs))]
        part.behind.begin(part.rows[first : first + len(self.outputs)], steps, part.partials, part.frame["sum_line"] if self.sums else "")
        super()._body(f, part)
        part.behind.finish()

    def _sums(self, f: Function, part: Part) -> str:
        return super()._sums(f, part) if part.behind is None else part.behind.sums()

    def _apply(self, f: Function, part: Part, outputs: list[str], tile: Tile) -> None:
        if part.behind is None or not part.behind.later:
            super()._apply(f, part, outputs, tile)
            return
        part.behind.finish()
        calls = f.mul(part.frame["depth"], self._groups)
        part.behind.leave(tile.sums, tile.first, tile.height, tile.panel, tile.columns, calls)

    @property
    def _groups(self) -> int:
        """Of products, for each square: so often is ``finish`` called."""
        return len(ORDER) if self.parts > 1 else 1

    def _more(self, part: Part) -> str:
        return ", ptr null, ptr null" if part.behind is None else f", ptr @finish, ptr {part.behind.pending}"

    @contextmanager
    def _tiles(self, f: Function, count: str) -> Iterator[tuple[str, str]]:
        with f.loop(0, count, 2 * SQUARE) as t:
            yield t, f.minimum(f.sub(count, t), 2 * SQUARE)

    @contextmanager
    def _blocks(self, f: Function, part: Part, a: A, depth: str) -> Iterator[tuple[str, str, A]]:
        if not self.ahead:
            with super()._blocks(f, part, a, depth) as block:
                yield block
            return
        behind, rows = part.behind, part.count
        memory, table, run = f.slot(f"[{BLOCK_BYTES} x i8]", align=64), f.slot(f"[{2 * SQUARE} x i64]"), f.slot("[2 x i64]")
        f.set(run, "0")
        f.set(f.at(run, 1), depth)
        tall = f.mul(depth, self.parts * SQUARE_BYTES)
        calls = f.mul(f.mul(f.sub(part.panels[1], part.panels[0]), depth), self._groups)

        which = f.slot("i64", "0")
        pack = f.let(f"inttoptr i64 {part.frame['turn']} to ptr")
        f.do(f"call void {pack}(ptr {memory}, ptr {a.rows}, i64 {f.minimum(rows, 2 * SQUARE)}, ptr {a.runs}, i64 {a.n_runs}, "
             f"i64 {a.step}, i64 {tall}, i64 {f.mul(tall, 2)}, i64 {rows})")  # fmt: skip
        with f.loop(0, rows, 2 * SQUARE) as first:
            here = f.at(memory, f.get(which), "i8")
            f.set(which, f.let(f"xor i64 {f.get(which)}, {BLOCK_BYTES // 2}"))
            following = f.add(first, 2 * SQUARE)
            with f.when(f.compare("slt", following, rows)):
                left = f.sub(rows, following)
                count = f.minimum(left, 2 * SQUARE)
                Ahead.begin(f, behind.coming, f.at(a.rows, following), count, left, f.at(memory, f.get(which), "i8"), tall, a.runs,
                            a.n_runs, a.step)  # fmt: skip
                behind.expect(Ahead.units(f, self.ahead, self.parts, count, depth), calls)
            for half in range(2):
                at = f.at(here, f.mul(tall, half), "i8")
                f.set(f.at(table, SQUARE * half), f.let(f"ptrtoint ptr {at} to i64"))
            yield first, f.minimum(f.sub(rows, first), 2 * SQUARE), A(table, run, "1", "0")
            behind.complete()

    def _turn(self, f: Function, frame: Frame, a: A, first: str, count: str, depth: str, left: str) -> A:
        """``depth`` is in squares."""
        block, rows, run = f.slot(f"[{BLOCK_BYTES} x i8]", align=64), f.slot(f"[{MAX_ROWS} x i64]"), f.slot("[2 x i64]")
        f.set(run, "0")
        f.set(f.at(run, 1), depth)
        pack = f.let(f"inttoptr i64 {frame['turn']} to ptr")
        tall = f.mul(depth, self.parts * SQUARE_BYTES)
        f.do(f"call void {pack}(ptr {block}, ptr {f.at(a.rows, first)}, i64 {count}, ptr {a.runs}, i64 {a.n_runs}, i64 {a.step}, "
             f"i64 {tall}, i64 {f.mul(tall, 2)}, i64 {left})")  # fmt: skip
        with f.loop(0, count, SQUARE) as t:
            f.set(f.at(rows, t), f.let(f"ptrtoint ptr {f.at(block, f.mul(f.div(t, SQUARE), tall), 'i8')} to i64"))
        return A(rows, run, "1", "0")
