"""The parts of attention's kernels for the tile unit (AMX), as LLVM IR: numbers taken apart into squares, and products of those.

A *square* is a register of the tile unit, 16 rows of 64 bytes: of a left operand 16 rows by 32 positions of the sum, of a right
one 16 pairs of positions by 16 columns. Positions ``i`` and ``i + 16`` of 32 are a pair, of both operands alike: so what becomes a
line of a square are two vectors as they are loaded, and nothing is shuffled. A float32 number is three bfloat16 numbers, whose
squares lie one after the other, and a product of numbers is six of parts (``pair_parts.py``). bfloat16 numbers have one part.

* ``row_lines`` and ``turned_lines`` make left operands of rows of keys or values: as they lie, or turned.
* ``row_pairs`` makes a right operand of rows of queries or gradients that are summed over, ``tile_pairs`` of a turned tile.
* ``apart`` and ``store_parts`` make operands of what is in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushlight.compile.cpu import half, tile_unit
from rushlight.compile.cpu.attention_tiles import Tiles
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import intrinsic_suffix, mask, masked_load
from rushlight.compile.cpu.pack import turned
from rushlight.compile.cpu.pair_parts import ORDER, PARTS
from rushlight.compile.cpu.values import V, intrinsic, where
from rushlight.compile.dtypes import DType, bfloat16, float32

__all__ = ["DEEP", "SIDE", "SquareTiles"]

SIDE = 16            # rows or columns of a square
DEEP = 32            # positions
_BYTES = 1024
_TOP = -65536        # the bits of a float32 that a bfloat16 has
_ROUNDED = 0x7F7F0000  # the largest bfloat16
_INFINITE = 0x7F800000


@dataclass(frozen=True)
class SquareTiles(Tiles):
    """``outside``: the type of the operands in memory."""

    outside: DType = float32

    @property
    def key(self) -> str:
        return f"squares1 {self.outside.name} {super().key}"

    @property
    def item(self) -> int:
        return self.outside.itemsize

    @property
    def parts(self) -> int:
        return 1 if self.outside is bfloat16 else PARTS

    @property
    def square(self) -> int:
        """Bytes of the squares of all parts."""
        return self.parts * _BYTES

    # ------------------------------------------------------------------------------------------ numbers taken apart

    def apart(self, f: Function, vectors: Sequence[V], together: Sequence[tuple[int, int]]) -> list[list[V]]:
        """The parts of some vectors, as pairs: for two of them, a number of the first in the lower half of each 32 bits, one of the
        second in the upper."""
        if self.parts == 1:
            rounded = [half.round_bfloat(x).bits() for x in vectors]
            return [[_pair(rounded[a], rounded[b])] for a, b in together]
        words = f"<{self.lanes} x i32>"
        size = vectors[0].bits() & 0x7FFFFFFF
        for x in vectors[1:]:
            size = intrinsic("umax", size, x.bits() & 0x7FFFFFFF)
        plain = _all(size.ult(_ROUNDED))
        slots = [[f.slot(words) for _ in range(PARTS)] for _ in together]
        for special, here in ((False, plain), (True, f.let(f"xor i1 {plain}, true"))):
            with f.when(here):
                parts = [_parts(x, special) for x in vectors]
                for into, (a, b) in zip(slots, together, strict=True):
                    for slot, low, high in zip(into, parts[a], parts[b], strict=True):
                        f.set(slot, _pair(low, high).name, words)
        return [[V(f, f.get(slot, words), "i32", self.lanes) for slot in into] for into in slots]

    def store_parts(self, f: Function, place: str, words: Sequence[V]) -> None:
        """A line of the squares of all parts."""
        for part, word in enumerate(words):
            f.do(f"store {word!r}, ptr {f.at(place, part * _BYTES, 'i8')}, align 4")

    def _stored(self, f: Function, place: str, low: str, high: str) -> None:
        vectors = [V(f, x, "float", self.lanes) for x in (low, high)]
        self.store_parts(f, place, self.apart(f, vectors, [(0, 1)])[0])

    def turn_tile(self, module: Module) -> None:
        """``turn_in`` for rows of float32, whatever the operands' type."""
        self.turn_in(module, "turn_tile")

    def tile_pairs(self, module: Module) -> None:
        self._pairs(module, "tile_pairs")

    def row_pairs(self, module: Module) -> None:
        self._pairs(module, "row_pairs")

    def _pairs(self, module: Module, name: str) -> None:
        """``target[rows / 32][columns / 16]``: squares of a right operand. ``columns`` of a tile are 16 or 32. Rows and columns beyond
        the last one are zero."""
        f = Function(f"internal void @{name}(ptr noalias %target, ptr noalias %source, i64 %source_row, i64 %rows, i64 %columns) "
                     "noinline nounwind", module)  # fmt: skip
        get = self.from_outside if name == "row_pairs" else self.from_tile
        across = f.mul(self._tiles_of(f, "%columns"), self.square)
        with f.loop(0, "%rows", DEEP) as k, f.loop(0, "%columns", SIDE) as c:
            target = f.at(f.at("%target", f.mul(f.div(k, DEEP), across), "i8"), f.mul(f.div(c, SIDE), self.square), "i8")
            source, left = f.at("%source", f.mul(k, "%source_row"), "i8"), f.sub("%rows", k)
            on = mask(f, f.sub("%columns", c), self.lanes)
            with f.loop(0, f.minimum(left, SIDE)) as i:
                rows = [f.at(source, f.mul(row, "%source_row"), "i8") for row in (i, f.add(i, SIDE))]
                below = _if(f, f.compare("sgt", left, f.add(i, SIDE)), on, self.lanes)
                low, high = get(f, rows[0], c, on), get(f, rows[1], c, below)
                self._stored(f, f.at(target, f.mul(i, tile_unit.ROW_BYTES), "i8"), low, high)
            with f.loop(f.minimum(left, SIDE), str(SIDE)) as i:
                self._zeros(f, f.at(target, f.mul(i, tile_unit.ROW_BYTES), "i8"))
        module.functions.append(f.finish())

    def row_lines(self, module: Module) -> None:
        """``target[rows / 16][columns / 32]``: squares of a left operand. Rows beyond the last one are zero, too."""
        f = Function("internal void @row_lines(ptr noalias %target, ptr noalias %source, i64 %source_row, i64 %rows, i64 %columns) "
                     "noinline nounwind", module)  # fmt: skip
        get = self.from_outside
        steps = f.div(f.add("%columns", DEEP - 1), DEEP)
        with f.loop(0, f.mul(self._tiles_of(f, "%rows"), SIDE)) as r, f.loop(0, steps) as step:
            tile, k = f.add(f.mul(f.div(r, SIDE), steps), step), f.mul(step, DEEP)
            target = f.at(f.at("%target", f.mul(tile, self.square), "i8"), f.mul(f.rem(r, SIDE), tile_unit.ROW_BYTES), "i8")
            there = f.compare("slt", r, "%rows")
            with f.when(there):
                row = f.at("%source", f.mul(r, "%source_row"), "i8")
                low, high = (get(f, row, column, mask(f, f.sub("%columns", column), self.lanes)) for column in (k, f.add(k, SIDE)))
                self._stored(f, target, low, high)
            with f.when(f.let(f"xor i1 {there}, true")):
                self._zeros(f, target)
        module.functions.append(f.finish())

    def turned_lines(self, module: Module) -> None:
        """``target[columns / 16][rows / 32]``, ``target_row`` bytes from one to the next of the former: a left operand whose rows are the
        columns of memory."""
        f = Function("internal void @turned_lines(ptr noalias %target, i64 %target_row, ptr noalias %source, i64 %source_row, "
                     "i64 %rows, i64 %columns) noinline nounwind", module)  # fmt: skip
        vector = f"<{self.lanes} x float>"
        with f.loop(0, "%columns", SIDE) as c, f.loop(0, "%rows", DEEP) as k:
            target = f.at(f.at("%target", f.mul(f.div(c, SIDE), "%target_row"), "i8"), f.mul(f.div(k, DEEP), self.square), "i8")
            on, blocks = mask(f, f.sub("%columns", c), self.lanes), []
            for first in (0, SIDE):
                rows = []
                for i in range(first, first + SIDE):
                    at = f.add(k, i)
                    row = f.at("%source", f.mul(at, "%source_row"), "i8")
                    rows.append(self.from_outside(f, row, c, _if(f, f.compare("slt", at, "%rows"), on, self.lanes)))
                blocks.append(turned(f, rows, vector, self.lanes))
            for i, (low, high) in enumerate(zip(*blocks, strict=True)):
                self._stored(f, f.at(target, i * tile_unit.ROW_BYTES, "i8"), low, high)
        module.functions.append(f.finish())

    def _tiles_of(self, f: Function, count: str) -> str:
        return f.div(f.add(count, SIDE - 1), SIDE)

    def _zeros(self, f: Function, place: str) -> None:
        for part in range(self.parts):
            f.do(f"store <{self.lanes} x i32> zeroinitializer, ptr {f.at(place, part * _BYTES, 'i8')}, align 4")

    # ------------------------------------------------------------------------------------------ memory outside

    def from_outside(self, f: Function, row: str, column: str, on: str | None) -> str:
        if self.outside is float32:
            return super().from_outside(f, row, column, on)
        at = f.at(row, f.mul(column, 2), "i8")
        bits = masked_load(f, at, bfloat16, self.lanes, on or "splat (i1 true)")
        return half.widen_bfloat(V(f, bits, "i16", self.lanes)).name

    def put(self, f: Function, row: str, column: str, value: str, on: str | None) -> None:
        if self.outside is float32:
            super().put(f, row, column, value, on)
        else:
            put_bfloat(f, row, column, V(f, value, "float", self.lanes), on)

    # ------------------------------------------------------------------------------------------ products

    def tile_product(self, module: Module) -> None:
        """``c (+)= a b``: ``rows`` by ``columns`` squares of sums, over ``k`` squares. ``a_row`` and ``a_step`` are the bytes from one
        square of a to the next along its rows and along the sum, ``b_column`` and ``b_step`` those of b."""
        f = Function("internal void @tile_product(ptr noalias %c, i64 %c_row, ptr noalias %a, i64 %a_row, i64 %a_step, ptr noalias %b, "
                     "i64 %b_column, i64 %b_step, i64 %k, i64 %rows, i64 %columns, i64 %accumulate) noinline nounwind", module)  # fmt: skip
        tile_unit.declare(module)
        with f.loop(0, "%rows", 2) as r, f.loop(0, "%columns", 2) as c:
            a = f.at("%a", f.mul(r, "%a_row"), "i8")
            b = f.at("%b", f.mul(c, "%b_column"), "i8")
            sums = f.at(f.at("%c", f.mul(f.mul(r, SIDE), "%c_row"), "i8"), f.mul(c, tile_unit.ROW_BYTES), "i8")
            tall, wide = (f.compare("sgt", f.sub(count, at), 1) for count, at in (("%rows", r), ("%columns", c)))
            for height, is_tall in ((2, tall), (1, f.let(f"xor i1 {tall}, true"))):
                for width, is_wide in ((2, wide), (1, f.let(f"xor i1 {wide}, true"))):
                    with f.when(f.let(f"and i1 {is_tall}, {is_wide}")):
                        self._block(f, height, width, sums, a, b)
        module.functions.append(f.finish())

    def _block(self, f: Function, height: int, width: int, c: str, a: str, b: str) -> None:
        """Registers: 2 r + c for the sums, 4 + r for a, 6 + c for b."""
        sums = [(2 * r + w, f.at(f.at(c, f.mul("%c_row", r * SIDE), "i8"), w * tile_unit.ROW_BYTES, "i8"))
                for r in range(height) for w in range(width)]  # fmt: skip
        again = f.compare("ne", "%accumulate", 0)
        with f.when(again):
            for register, place in sums:
                tile_unit.load(f, register, place, "%c_row")
        with f.when(f.let(f"xor i1 {again}, true")):
            for register, _ in sums:
                tile_unit.zero(f, register)
        order = ORDER if self.parts > 1 else ((0, 0),)
        with f.loop(0, "%k") as k:
            left, right = f.at(a, f.mul(k, "%a_step"), "i8"), f.at(b, f.mul(k, "%b_step"), "i8")
            loaded: tuple[int, int] | tuple[None, None] = None, None
            for of_a, of_b in order:
                if of_a != loaded[0]:
                    for r in range(height):
                        tile_unit.load(f, 4 + r, f.at(f.at(left, f.mul("%a_row", r), "i8"), of_a * _BYTES, "i8"))
                if of_b != loaded[1]:
                    for w in range(width):
                        tile_unit.load(f, 6 + w, f.at(f.at(right, f.mul("%b_column", w), "i8"), of_b * _BYTES, "i8"))
                loaded = of_a, of_b
                for r in range(height):
                    for w in range(width):
                        tile_unit.dot(f, 2 * r + w, 4 + r, 6 + w)
        for register, place in sums:
            tile_unit.store(f, register, place, "%c_row")


def put_bfloat(f: Function, row: str, column: str, value: V, on: str | None) -> None:
    """float32 numbers leave as bfloat16."""
    narrow = half.narrow_bfloat(half.round_bfloat(value))
    at, suffix = f.at(row, f.mul(column, 2), "i8"), intrinsic_suffix(bfloat16, value.lanes)
    on = on or "splat (i1 true)"
    f.module.declare(f"void @llvm.masked.store.{suffix}.p0({narrow.text}, ptr, i32, <{value.lanes} x i1>)")
    f.do(f"call void @llvm.masked.store.{suffix}.p0({narrow!r}, ptr {at}, i32 2, <{value.lanes} x i1> {on})")


def _parts(x: V, special: bool) -> list[V]:
    """The bits of three numbers that a bfloat16 can hold, whose sum x is: rounded, the rest rounded, and the rest of that, which is short
    enough. Where ``special``, x may be a number that would be rounded to infinity, an infinity, or NaN (``pair_parts.py``)."""
    first = x
    if special:
        size, sign = x.bits() & 0x7FFFFFFF, x.bits() & -0x80000000
        finite = size.ult(_INFINITE)
        first = (where(finite, _smaller(size, _ROUNDED), 0x3F800000) | sign).as_float()
    one = (first.bits() + 0x8000) & _TOP
    rest = (where(finite, x, one.as_float()) if special else x) - one.as_float()
    two = (rest.bits() + 0x8000) & _TOP
    three = (rest - two.as_float()).bits()
    if special:
        three = where(finite, three, where(x.isnan(), x.bits() | 0x400000, x.bits()) & _TOP)
    return [one, two, three]


def _smaller(x: V, bound: int) -> V:
    return where(x.ult(bound), x, bound)


def _pair(low: V, high: V) -> V:
    """Numbers that a bfloat16 can hold, two by two."""
    return low.lshr(16) | high


def _all(x: V) -> str:
    whole = f"i{x.lanes}"
    return x.f.let(f"icmp eq {whole} {x.f.let(f'bitcast {x!r} to {whole}')}, -1")


def _if(f: Function, condition: str, on: str, lanes: int) -> str:
    return f.let(f"select i1 {condition}, <{lanes} x i1> {on}, <{lanes} x i1> zeroinitializer")
