"""Attention on bfloat16 by pairs: the kernels of ``attention_ir.py`` where the processor multiplies pairs and adds them up in float32.

Two numbers that are multiplied together with two others lie side by side, as one of 32 bits. Keys, and values against gradients,
are read where they lie: their pairs go along a head. What is summed over keys or over queries goes across rows, and ``pair_rows``
puts each number beside the one below it: values and keys once for each head, by the step "gather"; weights, queries and gradients
block by block. Scores, softmax and all sums are float32, and what is multiplied next is rounded: a weight, and the gradient of
a score.

Gradients of k and v are added up in scratch memory and rounded once, when they are copied to where they belong.
"""

from __future__ import annotations

from rushlight.compile.attention import MAX_HEAD
from rushlight.compile.cpu import half
from rushlight.compile.cpu.attention_ir import Backward, Forward
from rushlight.compile.cpu.attention_keys import ByKeys
from rushlight.compile.cpu.attention_tiles import Tiles
from rushlight.compile.cpu.attention_writer import Writer
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import intrinsic_suffix, mask, masked_load
from rushlight.compile.cpu.values import V, splat
from rushlight.compile.dtypes import bfloat16

__all__ = ["WRITERS", "PairTiles"]

_PAIR = 4  # bytes
_DOT = "llvm.x86.avx512bf16.dpbf16ps.512"


class PairTiles(Tiles):
    """Tiles of float32 sums. Where a product's left side is read, and in the rows of its right side, stand pairs."""

    @property
    def key(self) -> str:
        return f"pairs {super().key}"

    @property
    def item(self) -> int:
        return bfloat16.itemsize

    @property
    def _pairs(self) -> str:
        return f"<{2 * self.lanes} x bfloat>"

    def spread(self, f: Function, place: str) -> str:
        pair = splat(V(f, f.let(f"load i32, ptr {place}, align 2"), "i32"), self.lanes)
        return f.let(f"bitcast {pair!r} to {self._pairs}")

    def times(self, f: Function, a: str, b: str, total: str) -> str:
        vector = f"<{self.lanes} x float>"
        f.module.declare(f"{vector} @{_DOT}({vector}, {self._pairs}, {self._pairs})")
        right = f.let(f"bitcast {vector} {b} to {self._pairs}")
        return f.let(f"call {vector} @{_DOT}({vector} {total}, {self._pairs} {a}, {self._pairs} {right})")

    def scaled(self, f: Function, value: str, factor: str) -> str:
        return value  # a pair

    def put(self, f: Function, row: str, column: str, value: str, on: str | None) -> None:
        """The numbers leave as bfloat16."""
        narrow = half.narrow_bfloat(half.round_bfloat(V(f, value, "float", self.lanes)))
        at, suffix = f.at(row, f.mul(column, 2), "i8"), intrinsic_suffix(bfloat16, self.lanes)
        on = on or "splat (i1 true)"
        f.module.declare(f"void @llvm.masked.store.{suffix}.p0({narrow.text}, ptr, i32, <{self.lanes} x i1>)")
        f.do(f"call void @llvm.masked.store.{suffix}.p0({narrow!r}, ptr {at}, i32 2, <{self.lanes} x i1> {on})")

    def pair_rows(self, module: Module) -> None:
        """``target[p][c] = (source[2 p][c], source[2 p + 1][c])`` for ``columns`` numbers of ``rows`` rows; beyond the last one: zero."""
        f = Function("internal void @pair_rows(ptr noalias %target, i64 %target_row, ptr noalias %source, i64 %source_row, i64 %rows, "
                     "i64 %columns) noinline nounwind", module)  # fmt: skip
        lanes = self.lanes
        with f.loop(0, "%rows", 2) as r:
            upper = f.at("%source", f.mul(r, "%source_row"), "i8")
            target, more = f.at("%target", f.mul(f.div(r, 2), "%target_row"), "i8"), f.compare("slt", f.add(r, 1), "%rows")
            with f.loop(0, "%columns", lanes) as c:
                left, at = f.sub("%columns", c), f.at(upper, f.mul(c, 2), "i8")
                on = mask(f, left, lanes)
                below = mask(f, f.let(f"select i1 {more}, i64 {left}, i64 0"), lanes)
                first, second = (V(f, masked_load(f, place, bfloat16, lanes, which), "i16", lanes).convert("zext", "i32")
                                 for place, which in ((at, on), (f.at(at, "%source_row", "i8"), below)))  # fmt: skip
                self.store(f, f.at(target, f.mul(c, _PAIR), "i8"), (first | (second << 16)).as_float().name, on)
        module.functions.append(f.finish())


class _Pairs(Writer):
    """What both directions share. A tile that has been kept is a tile of bfloat16 rows beside it."""

    scales_late = True

    def start(self, *tiles: str) -> None:
        """After the tiles have been made."""
        rows, width = self.kernel.tile_rows, self.tiles.width
        self.define("pair_rows")
        self.narrow = {tile: self.f.slot(f"[{rows * width} x i16]", align=64) for tile in tiles}
        self.paired = self.f.slot(f"[{-(-rows // 2) * width} x i32]", align=64)

    def pairs_of(self, number: str) -> str:
        return self.f.div(self.f.add(number, 1), 2)

    def steps_of(self, rows: str) -> str:
        return self.pairs_of(rows)

    def pair_rows(self, target: str, target_row: str | int, source: str, source_row: str | int, rows: str, columns: str | int) -> None:
        self.f.do(f"call void @pair_rows(ptr {target}, i64 {target_row}, ptr {source}, i64 {source_row}, i64 {rows}, i64 {columns})")

    def turned(self, tile: str, name: str, rows: str, size: str, factor: str, **at: str) -> None:
        self.turn_in(tile, name, rows, self.pairs_of(self.frame[size]), self.one, **at)

    def scored(self, tile: str, name: str, turned: str, size: str, count: str, **at: str) -> None:
        self.by_rows(tile, self.place(name, **at), self.frame[f"{name}_s"], _PAIR, turned, self.pairs_of(self.frame[size]), count)

    def keep(self, tile: str, r: str, value: V) -> None:
        narrow = half.narrow_bfloat(half.round_bfloat(value))
        self.f.do(f"store {narrow!r}, ptr {self.f.at(self.narrow[tile], self.f.mul(r, self.row // 2), 'i8')}, align 2")

    def summed(self, total: str, name: str, tile: str, count: str, size: str, again: str, **at: str) -> None:
        f, frame = self.f, self.frame
        self.pair_rows(self.paired, self.row, self.narrow[tile], self.row // 2, count, self.tiles.width)
        name = {"k": "pairs_k"}.get(name, name)
        place = self.place(name, **at | {"s": f.div(at["s"], 2)})  # tiles begin at an even key
        self.over_rows(total, place, _PAIR, frame[f"{name}_s"], self.paired, self.pairs_of(count), frame[size], again)

    def scale(self) -> V:
        return splat(V(self.f, self.number(self.frame["scale"]), self.scalar), self.tiles.width)


class _PairForward(_Pairs, Forward):
    def tiles_made(self) -> None:
        self.start(self.scores)

    def score(self, at: str) -> V:
        return self.load(at) * self.scale()


class _PairBackward(_Pairs, Backward):
    def tiles_made(self) -> None:
        self.start(self.weights, self.changes)

    def score(self, at: str) -> V:
        return self.load(at) * self.scale()

    def near(self, buffer: str, place: str, row: str, rows: str, size: str) -> tuple[str, str]:
        pitch = self.f.mul(self.frame[size], _PAIR)
        self.pair_rows(buffer, pitch, place, row, rows, self.frame[size])
        return buffer, pitch

    def left_of(self, tile: str) -> tuple[str, int]:
        return self.narrow[tile], self.row // 2

    def inner_products(self, rows: str, here: dict[str, str]) -> None:
        f, lanes = self.f, self.tiles.lanes
        self.turned(self.to_q, "result", rows, "v_size", self.one, **here)
        vector = f"<{lanes} x float>"
        sums = [f.slot(vector, "zeroinitializer") for _ in range(2)]
        with f.loop(0, self.pairs_of(self.frame["v_size"])) as d:
            for v, slot in enumerate(sums):
                left, right = (self.tiles.load(f, f.at(self.row_of(tile, d), v * lanes * _PAIR, "i8"), None)
                               for tile in (self.to_q, self.grads))  # fmt: skip
                left = f.let(f"bitcast {vector} {left} to <{2 * lanes} x bfloat>")
                f.set(slot, self.tiles.times(f, left, right, f.get(slot, vector)), vector)
        order = ", ".join(f"i32 {i}" for i in range(2 * lanes))
        a, b = (f.get(slot, vector) for slot in sums)
        f.set(self.inner, f.let(f"shufflevector {vector} {a}, {vector} {b}, <{2 * lanes} x i32> <{order}>"), self.vector)


class _PairGather(ByKeys):
    """Keys and values, each row beside the one below it. A part begins at an even key."""

    def part(self, part: str) -> None:
        f, frame = self.f, self.frame
        self.define("pair_rows")
        b, g, head, first, last = self.place_of(part)
        for x, size in (("k", "e_size"), ("v", "v_size")):
            target, source = self.place(f"near_{x}", n=head, s=f.div(first, 2)), self.place(x, b=b, g=g, s=first)
            f.do(f"call void @pair_rows(ptr {target}, i64 {frame[f'near_{x}_s']}, ptr {source}, i64 {frame[f'{x}_s']}, "
                 f"i64 {f.sub(last, first)}, i64 {frame[size]})")  # fmt: skip


WRITERS: dict[str, type[Writer]] = {"forward": _PairForward, "backward": _PairBackward, "gather": _PairGather}

assert MAX_HEAD % 2 == 0
