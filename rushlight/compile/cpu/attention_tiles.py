"""The parts that attention's kernels are made of, as LLVM IR: products of small tiles, and tiles that are turned.

A *tile* has a row of ``width`` numbers (two vectors, or four) for each key, or for each position in a head; the numbers of a row
belong to ``width`` queries. So what softmax does with each query's scores is done between rows, lane by lane: nothing ever
goes across a vector.

* ``product`` computes ``c[r, :] (+)= sum over k of a[r, k] * b[k, :]`` with broadcast loads of a, which is read wherever it
  lies, and vector loads of b. Scores are keys times turned queries; the result is turned values times weights; the
  gradients are products of the same form.
* ``turn_in`` and ``turn_out`` bring rows of memory into a tile's columns, and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import fence, intrinsic_suffix, ir_type, mask, masked_load, multiply_add, splat
from rushlight.compile.cpu.pack import turned
from rushlight.compile.cpu.product_sums import add
from rushlight.compile.dtypes import DType

__all__ = ["Tiles"]

#: Lines that a product asks for before each group of its rows: fewer than a first-level cache waits for at a time.
ASKED = 12


@dataclass(frozen=True)
class Tiles:
    """``lanes`` numbers in a vector; ``fence``: as in the micro-kernel of contractions. ``vectors`` of a tile's row: two, or four where the
    processor loads one full vector a cycle, which six rows of four leave time for beside their multiply-adds."""

    dtype: DType
    lanes: int
    registers: int
    fma: bool
    fence: str
    vectors: int = 2

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    @property
    def row(self) -> int:
        """Bytes of a tile's row."""
        return self.width * self.dtype.itemsize

    def heights(self, vectors: int) -> tuple[int, ...]:
        """How many rows there is code for: their sums, a row of b, and one number of a must fit."""
        if self.registers < 32:
            return (6, 4, 2, 1)
        return {3: (8, 4, 2, 1), 4: (6, 4, 2, 1)}.get(vectors, (14, 8, 4, 2, 1))

    @property
    def key(self) -> str:
        return f"{self.dtype.name} {self.lanes} {self.registers} {self.fma} {self.fence} {self.vectors}"

    # ------------------------------------------------------------------------------------------ products

    def product(self, module: Module, name: str, vectors: int) -> None:
        """Defines a product of so many vectors of the rows of b and c. "product": these are tiles. "product_part": only the first
        ``columns`` are touched, which reach into the last vector, and the rows of both may lie anywhere."""
        f = Function(f"internal void @{name}_{vectors}(ptr noalias %c, i64 %c_row, ptr noalias %a, i64 %a_row, i64 %a_step, "
                     "ptr noalias %b, i64 %b_step, i64 %k, i64 %rows, i64 %columns, i64 %accumulate, ptr %queue) "
                     "noinline nounwind", module)  # fmt: skip
        on: list[str | None] = [None] * vectors
        if name == "product_part":
            on[-1] = mask(f, f.sub("%columns", (vectors - 1) * self.lanes), self.lanes)
        row = f.slot("i64", "0")
        for height in self.heights(vectors):
            last = f.sub("%rows", height)
            if height == 14:
                # Two rows left over would wait for their own sums: 16 rows are two times 8.
                two = f.compare("eq", f.rem("%rows", height), 2)
                last = f.let(f"select i1 {two}, i64 {f.sub(last, height)}, i64 {last}")
            with f.loop_while(row, "sle", last) as r:
                f.do(f"call void @ask_some(ptr %queue, i64 {ASKED})")
                self._rows(f, height, f.at("%c", f.mul(r, "%c_row"), "i8"), f.at("%a", f.mul(r, "%a_row"), "i8"), on)
                f.set(row, f.add(r, height))
        module.functions.append(f.finish())

    def _rows(self, f: Function, height: int, c: str, a: str, on: Sequence[str | None]) -> None:
        vector, item = ir_type(self.dtype, self.lanes), self.dtype.itemsize
        sums = [[f.slot(vector) for _ in on] for _ in range(height)]
        # Rows are one stride apart, so a pointer for each four of them is enough: [p], [p + s], [p + 2 s], [p + 3 s].
        # A pointer for each row would be more than there are general registers.
        stride, triple = self._opaque(f, "%a_row"), self._opaque(f, f.mul("%a_row", 3))
        moves: list[str | int] = [0, stride, f.mul(stride, 2), triple]
        start = f.let(f"ptrtoint ptr {a} to i64")
        pointers = [f.slot("i64", self._opaque(f, f.add(start, f.mul("%a_row", r)))) for r in range(0, height, 4)]

        def place(r: int, v: int) -> str:
            return f.at(f.at(c, f.mul("%c_row", r), "i8"), v * self.lanes * item, "i8")

        for slots in sums:
            for slot in slots:
                f.set(slot, "zeroinitializer", vector)
        b = f.slot("ptr")
        f.set(b, "%b", "ptr")
        with f.loop(0, "%k"):
            here = f.get(b, "ptr")
            rows = [f.let(f"inttoptr i64 {f.get(p)} to ptr") for p in pointers]
            if self.fence:
                fence(f, sums[-1], vector, self.fence)
            right = [self.load(f, f.at(here, v * self.lanes * item, "i8"), on[v]) for v in range(len(on))]
            f.set(b, f.at(here, "%b_step", "i8"), "ptr")
            for p in pointers:
                f.set(p, self._opaque(f, f.add(f.get(p), "%a_step")))
            for r, slots in enumerate(sums):
                if self.fence and r:
                    fence(f, sums[r - 1], vector, self.fence)
                left = self.spread(f, f.at(rows[r // 4], moves[r % 4], "i8"))
                for slot, other in zip(slots, right, strict=True):
                    f.set(slot, self.times(f, left, other, f.get(slot, vector)), vector)
        with f.when(f.compare("ne", "%accumulate", 0)):  # sums of sums round less than one long sum
            for r, slots in enumerate(sums):
                for v, slot in enumerate(slots):
                    f.set(slot, f.let(f"fadd {vector} {self.load(f, place(r, v), on[v])}, {f.get(slot, vector)}"), vector)
        for r, slots in enumerate(sums):
            for v, slot in enumerate(slots):
                self.store(f, place(r, v), f.get(slot, vector), on[v])

    def spread(self, f: Function, place: str) -> str:
        """A number of a in all lanes."""
        return splat(f, f.let(f"load {ir_type(self.dtype)}, ptr {place}, align {self.dtype.itemsize}"), ir_type(self.dtype), self.lanes)

    def times(self, f: Function, a: str, b: str, total: str) -> str:
        return multiply_add(f, self.dtype, self.lanes, self.fma, a, b, total)

    def _opaque(self, f: Function, number: str) -> str:
        """A number that LLVM knows nothing about, so that it does not make others from it."""
        return f.let(f'call i64 asm "", "=r,0"(i64 {number})') if self.fence else number

    def call(self, f: Function, name: str, c: str, c_row: str | int, a: str, a_row: str | int, a_step: str | int, b: str,
             b_step: str | int, k: str, rows: str, columns: str | int, accumulate: str | int, queue: str) -> None:  # fmt: skip
        f.do(f"call void @{name}(ptr {c}, i64 {c_row}, ptr {a}, i64 {a_row}, i64 {a_step}, ptr {b}, i64 {b_step}, i64 {k}, "
             f"i64 {rows}, i64 {columns}, i64 {accumulate}, ptr {queue})")  # fmt: skip

    # ------------------------------------------------------------------------------------------ turning

    def turn_in(self, module: Module, name: str = "turn_in") -> None:
        """``tile[e][lane] = memory[lane][e] * factor`` for ``columns`` e; lanes from ``rows`` on repeat the last row. The
        tile's rows up to a whole number of vectors are written, zero beyond ``columns``."""
        f = Function(f"internal void @{name}(ptr noalias %tile, ptr noalias %memory, i64 %row, i64 %rows, i64 %columns, "
                     f"{ir_type(self.dtype)} %factor) noinline nounwind", module)  # fmt: skip
        vector, item = ir_type(self.dtype, self.lanes), self.dtype.itemsize
        factor = splat(f, "%factor", ir_type(self.dtype), self.lanes)
        last = f.sub("%rows", 1)
        with f.loop(0, "%columns", self.lanes) as e:
            on = mask(f, f.sub("%columns", e), self.lanes)
            with f.loop(0, str(self.width), self.lanes) as first:
                loaded = []
                for j in range(self.lanes):
                    at = f.at("%memory", f.mul(f.minimum(f.add(first, j), last), "%row"), "i8")
                    value = (self.from_outside if name == "turn_in" else self.from_tile)(f, at, e, on)
                    loaded.append(self.scaled(f, value, factor))
                start = f.at(f.at("%tile", f.mul(e, self.row), "i8"), f.mul(first, item), "i8")
                for j, value in enumerate(turned(f, loaded, vector, self.lanes)):
                    self.store(f, f.at(start, j * self.row, "i8"), value, None)
        module.functions.append(f.finish())

    def row_products(self, module: Module) -> None:
        """``target[lane]``: the sum of the products of ``columns`` numbers of a row of a and of b; lanes from ``rows`` on repeat the
        last row."""
        f = Function("internal void @row_products(ptr noalias %target, ptr noalias %a, i64 %a_row, ptr noalias %b, i64 %b_row, i64 %rows, "
                     "i64 %columns) noinline nounwind", module)  # fmt: skip
        vector = ir_type(self.dtype, self.lanes)
        sums, last = [f.slot(vector) for _ in range(self.lanes)], f.sub("%rows", 1)
        with f.loop(0, str(self.width), self.lanes) as first:
            rows = [f.minimum(f.add(first, j), last) for j in range(self.lanes)]
            places = [(f.at("%a", f.mul(r, "%a_row"), "i8"), f.at("%b", f.mul(r, "%b_row"), "i8")) for r in rows]
            for slot in sums:
                f.set(slot, "zeroinitializer", vector)
            with f.loop(0, "%columns", self.lanes) as e:
                on = mask(f, f.sub("%columns", e), self.lanes)
                for slot, (a, b) in zip(sums, places, strict=True):
                    x, y = (self.from_outside(f, row, e, on) for row in (a, b))
                    f.set(slot, multiply_add(f, self.dtype, self.lanes, self.fma, x, y, f.get(slot, vector)), vector)
            total = added(f, [f.get(slot, vector) for slot in sums], self.dtype, self.lanes)
            self.store(f, f.at("%target", f.mul(first, self.dtype.itemsize), "i8"), total, None)
        module.functions.append(f.finish())

    def scaled(self, f: Function, value: str, factor: str) -> str:
        return f.let(f"fmul {ir_type(self.dtype, self.lanes)} {value}, {factor}")

    def turn_out(self, module: Module) -> None:
        """``memory[lane][d] = tile[d][lane] * factors[lane]`` for the first ``rows`` lanes and ``columns`` d."""
        f = Function("internal void @turn_out(ptr noalias %memory, i64 %row, ptr noalias %tile, i64 %rows, i64 %columns, "
                     "ptr noalias %factors) noinline nounwind", module)  # fmt: skip
        vector, item = ir_type(self.dtype, self.lanes), self.dtype.itemsize
        with f.loop(0, "%columns", self.lanes) as d:
            with f.loop(0, str(self.width), self.lanes) as first:
                factor = self.load(f, f.at("%factors", f.mul(first, item), "i8"), None)
                start = f.at(f.at("%tile", f.mul(d, self.row), "i8"), f.mul(first, item), "i8")
                loaded = [f.let(f"fmul {vector} {self.load(f, f.at(start, j * self.row, 'i8'), None)}, {factor}")
                          for j in range(self.lanes)]  # fmt: skip
                for j, value in enumerate(turned(f, loaded, vector, self.lanes)):
                    lane = f.add(first, j)
                    left = f.let(f"select i1 {f.compare('slt', lane, '%rows')}, i64 {f.sub('%columns', d)}, i64 0")
                    self.put(f, f.at("%memory", f.mul(lane, "%row"), "i8"), d, value, mask(f, left, self.lanes))
        module.functions.append(f.finish())

    @property
    def item(self) -> int:
        """Bytes of a number outside."""
        return self.dtype.itemsize

    def copy_rows(self, module: Module) -> None:
        """Rows of ``columns`` numbers from one place to another, outside."""
        f = Function("internal void @copy_rows(ptr noalias %target, i64 %target_row, ptr noalias %source, i64 %source_row, i64 %rows, "
                     "i64 %columns) noinline nounwind", module)  # fmt: skip
        with f.loop(0, "%rows") as r:
            target, source = f.at("%target", f.mul(r, "%target_row"), "i8"), f.at("%source", f.mul(r, "%source_row"), "i8")
            with f.loop(0, "%columns", self.lanes) as e:
                on, at = mask(f, f.sub("%columns", e), self.lanes), f.mul(e, self.dtype.itemsize)
                self.put(f, target, e, self.load(f, f.at(source, at, "i8"), on), on)
        module.functions.append(f.finish())

    # ------------------------------------------------------------------------------------------ loads and stores

    def from_outside(self, f: Function, row: str, column: str, on: str | None) -> str:
        """Numbers of a row of memory outside, from a column on."""
        return self.from_tile(f, row, column, on)

    def from_tile(self, f: Function, row: str, column: str, on: str | None) -> str:
        return self.load(f, f.at(row, f.mul(column, self.dtype.itemsize), "i8"), on)

    def put(self, f: Function, row: str, column: str, value: str, on: str | None) -> None:
        """Numbers into a row of memory outside, from a column on."""
        self.store(f, f.at(row, f.mul(column, self.dtype.itemsize), "i8"), value, on)

    def load(self, f: Function, place: str, on: str | None) -> str:
        if on:
            return masked_load(f, place, self.dtype, self.lanes, on)
        return f.let(f"load {ir_type(self.dtype, self.lanes)}, ptr {place}, align {self.dtype.itemsize}")

    def store(self, f: Function, place: str, value: str, on: str | None) -> None:
        vector, suffix = ir_type(self.dtype, self.lanes), intrinsic_suffix(self.dtype, self.lanes)
        if on:
            f.module.declare(f"void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, <{self.lanes} x i1>)")
            f.do(f"call void @llvm.masked.store.{suffix}.p0({vector} {value}, ptr {place}, i32 {self.dtype.itemsize}, "
                 f"<{self.lanes} x i1> {on})")  # fmt: skip
        else:
            f.do(f"store {vector} {value}, ptr {place}, align {self.dtype.itemsize}")


def added(f: Function, rows: list[str], dtype: DType, lanes: int) -> str:
    """The sums of ``lanes`` vectors' numbers, as one vector: in each step half as many, with sums of twice as many numbers."""
    vector, distance = ir_type(dtype, lanes), lanes // 2
    while distance:
        out = []
        for a, b in zip(rows[:distance], rows[distance : 2 * distance], strict=True):
            pieces = []
            for part in (0, distance):
                order = ", ".join(f"i32 {(lane & ~distance) + part + (lanes if lane & distance else 0)}" for lane in range(lanes))
                pieces.append(f.let(f"shufflevector {vector} {a}, {vector} {b}, <{lanes} x i32> <{order}>"))
            out.append(add(f, dtype, vector, *pieces))
        rows, distance = out, distance // 2
    return rows[0]
