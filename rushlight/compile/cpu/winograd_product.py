"""Products of Winograd's planes, as LLVM IR text.

A row of sums has as many vectors as leave room for rows enough: six rows of four vectors take 10 loads for 24 multiply-adds, where rows of
two would take 16 for 28. What a tile of sums needs has to be in the first-level cache when it is needed, so what comes next is asked for
while products are made, evenly spread over them.

Each function does all rows of one plane. How many vectors a row has changes no bit of the sums.

* ``Product``: for each chunk of channels all rows, so that the chunk of B, a third of the first-level cache, stays there.
* ``Outer``: filters by channels, over the tiles of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushlight.compile import dtypes as dt
from rushlight.compile.cpu import target
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.microkernel import fence, multiply_add, splat
from rushlight.compile.cpu.product_sums import clear, put_away
from rushlight.compile.cpu.winograd_tiles import Pace

__all__ = ["CHUNK", "VECTORS", "Outer", "Product", "panel_vectors"]

CHUNK = 64  # channels
VECTORS = 2  # of a row of sums where there are few registers


def panel_vectors(columns: int, lanes: int, cpu: target.CPU, group: int = 0) -> int:
    """Vectors of a row of sums: as many as registers allow, with no more columns that nobody wants than ``VECTORS`` have. ``group``: so
    many columns are whole panels."""
    allowed = [v for v in (4, 3, VECTORS) if group % (lanes * v) == 0] if cpu.vector_registers >= 32 else [VECTORS]
    return min(allowed, key=lambda vectors: -(-columns // (lanes * vectors)) * vectors)


@dataclass(frozen=True)
class _Rows:
    """``vectors`` of a row of sums."""

    lanes: int
    vectors: int
    registers: int
    fma: bool
    fence: str

    @property
    def rows(self) -> int:
        """Of a full tile of sums: as many as leave room for a row of B and two numbers of A."""
        return (self.registers - self.vectors - 2) // self.vectors

    @property
    def width(self) -> int:
        """Bytes of a row of sums."""
        return self.vectors * self.lanes * 4

    @property
    def shape(self) -> str:
        return f"{self.lanes} {self.vectors} {self.registers} {self.fma} {self.fence}"

    def pieces(self, f: Function, count: str) -> str:
        """How many tiles of sums have so many rows."""
        return f.div(f.add(count, self.rows - 1), self.rows)

    def tile(self, f: Function, height: int, sums: str, sums_row: int, a: str, a_row: int, a_step: int, b: str, b_step: int, depth: str,
             again: str, asked: Sequence[tuple[str, str | int]], pace: Pace) -> None:  # fmt: skip
        """A tile of ``height`` rows of sums over ``depth`` positions. ``asked``: slots with addresses that are asked for at each position,
        and how far they move on; ``pace``: so is what it walks over."""
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        vector, size = f"<{self.lanes} x float>", self.lanes * 4
        slots = [[f.slot(vector) for _ in range(self.vectors)] for _ in range(height)]
        flat = [slot for row in slots for slot in row]
        places = [f.at(sums, r * sums_row + v * size, "i8") for r in range(height) for v in range(self.vectors)]
        left, right = f.slot("ptr"), f.slot("ptr")
        f.set(left, a, "ptr")
        f.set(right, b, "ptr")
        clear(f, flat, vector)
        with f.loop(0, depth):
            here, there = f.get(left, "ptr"), f.get(right, "ptr")
            if self.fence:
                fence(f, slots[-1], vector, self.fence)
            loaded = [f.let(f"load {vector}, ptr {f.at(there, v * size, 'i8')}, align 4") for v in range(self.vectors)]
            for slot, step in asked:
                at = f.get(slot, "ptr")
                f.do(f"call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 3, i32 1)")
                f.set(slot, f.at(at, step, "i8"), "ptr")
            pace.ask(f)
            f.set(left, f.at(here, a_step, "i8"), "ptr")
            f.set(right, f.at(there, b_step, "i8"), "ptr")
            for r, row in enumerate(slots):
                if self.fence and r:
                    fence(f, slots[r - 1], vector, self.fence)
                value = splat(f, f.let(f"load float, ptr {f.at(here, r * a_row, 'i8')}, align 4"), "float", self.lanes)
                for slot, other in zip(row, loaded, strict=True):
                    f.set(slot, multiply_add(f, dt.float32, self.lanes, self.fma, value, other, f.get(slot, vector)), vector)
        put_away(f, flat, places, dt.float32, vector, again)


@dataclass(frozen=True)
class Product(_Rows):
    """``void product(ptr sums, ptr a, ptr b, i64 count, i64 channels, i64 chunk_bytes, i64 again, ptr list, i64 places)``: ``count`` rows
    of one panel; A as ``Gather`` leaves it; added to what is there if ``again``. Asks for ``places`` of a list (``winograd_tiles.py``)."""

    @property
    def key(self) -> str:
        return f"winograd product 4 {self.shape}"

    def ir(self) -> str:
        f = Function("void @product(ptr noalias %sums, ptr noalias %a, ptr noalias %b, i64 %count, i64 %channels, i64 %chunk_bytes, "
                     "i64 %again, ptr %list, i64 %places)")  # fmt: skip
        pieces = self.pieces(f, "%count")
        # Of the next chunk of B so many bytes at each position of the present one.
        steps = f.mul(pieces, CHUNK)
        pace = Pace(f, "%list", "%places", f.mul(pieces, "%channels"))
        share = f.div(f.add(steps, CHUNK * self.width - 1), steps)
        a, b, again = f.slot("ptr"), f.slot("ptr"), f.slot("i64", "%again")
        f.set(a, "%a", "ptr")
        f.set(b, "%b", "ptr")
        row, left, ask_a, ask_b = f.slot("i64"), f.slot("i64"), f.slot("ptr"), f.slot("ptr")
        with f.loop(0, "%channels", CHUNK) as first:
            depth = f.minimum(f.sub("%channels", first), CHUNK)
            rows, panel, more = f.get(a, "ptr"), f.get(b, "ptr"), f.compare("ne", f.get(again), 0)
            next_a, next_b = f.at(rows, "%chunk_bytes", "i8"), f.at(panel, f.mul(depth, self.width), "i8")
            f.set(a, next_a, "ptr")
            f.set(b, next_b, "ptr")
            f.set(ask_b, next_b, "ptr")
            f.set(row, "0")
            f.set(left, pieces)
            with f.loop_while(left, "sgt", "0") as n:
                r = f.get(row)
                height = f.div(f.add(f.sub("%count", r), f.sub(n, 1)), n)
                bytes_ = f.mul(r, CHUNK * 4)
                f.set(ask_a, f.at(next_a, bytes_, "i8"), "ptr")
                for h in f.cases(height, range(self.rows, 0, -1)):
                    self.tile(f, h, f.at("%sums", f.mul(r, self.width), "i8"), self.width, f.at(rows, bytes_, "i8"), CHUNK * 4, 4,
                              panel, self.width, depth, more, [(ask_a, 4 * h), (ask_b, share)], pace)  # fmt: skip
                f.set(row, f.add(r, height))
                f.set(left, f.sub(n, 1))
            f.set(again, "1")
        return f.finish() + f.module.text()


@dataclass(frozen=True)
class Outer(_Rows):
    """``void outer(ptr sums, ptr a, ptr b, i64 filters, i64 channels, i64 count, i64 again, i64 next_a, i64 next_b,
    ptr list, i64 places)``: over ``count`` tiles, all ``filters`` by all ``channels`` of a group; added to what is there if ``again``. Rows
    of all three are ``CHUNK`` numbers apart. ``next_a`` and ``next_b``: how many bytes behind A and B those of the next plane lie. Asks for
    ``places`` of a list (``winograd_tiles.py``)."""

    @property
    def key(self) -> str:
        return f"winograd outer 4 {self.shape}"

    def ir(self) -> str:
        f = Function("void @outer(ptr noalias %sums, ptr noalias %a, ptr noalias %b, i64 %filters, i64 %channels, i64 %count, i64 %again, "
                     "i64 %next_a, i64 %next_b, ptr %list, i64 %places)")  # fmt: skip
        size, pieces, columns = CHUNK * 4, self.pieces(f, "%filters"), self.vectors * self.lanes
        tiles = f.mul(pieces, f.div(f.add("%channels", columns - 1), columns))
        share = f.div(f.add(tiles, size - 1), tiles)
        pace, row, left = Pace(f, "%list", "%places", f.mul(tiles, "%count")), f.slot("i64"), f.slot("i64")
        ask_a, ask_b, ask_sums = f.slot("ptr"), f.slot("ptr"), f.slot("ptr")
        f.set(ask_a, f.at("%a", "%next_a", "i8"), "ptr")
        f.set(ask_b, f.at("%b", "%next_b", "i8"), "ptr")
        more = f.compare("ne", "%again", 0)
        with f.loop(0, "%channels", columns) as c:
            f.set(row, "0")
            f.set(left, pieces)
            panel, column = f.at("%b", c, "float"), f.at("%sums", c, "float")
            with f.loop_while(left, "sgt", "0") as n:
                r = f.get(row)
                height = f.div(f.add(f.sub("%filters", r), f.sub(n, 1)), n)
                sums = f.at(column, f.mul(r, size), "i8")
                tile = f.mul(height, size)
                f.set(ask_sums, f.at(sums, tile, "i8"), "ptr")
                along = f.div(f.add(tile, f.sub("%count", 1)), "%count")
                for h in f.cases(height, range(self.rows, 0, -1)):
                    self.tile(f, h, sums, size, f.at("%a", f.mul(r, 4), "i8"), 4, size, panel, size, "%count", more,
                              [(ask_a, share), (ask_b, share), (ask_sums, along)], pace)  # fmt: skip
                f.set(row, f.add(r, height))
                f.set(left, f.sub(n, 1))
        return f.finish() + f.module.text()
