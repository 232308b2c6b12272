"""The inner kernel of every contraction, as LLVM IR text.

    void micro(ptr tile, ptr rows, i64 height, ptr runs, i64 n_runs, i64 step, ptr b, i64 b_step, i64 columns, i64 accumulate,
               i64 shift[, ptr asked, i64 many])

computes ``tile[r, j] (+)= sum over k of A[r, k] * B[k, j]`` for ``height`` rows and one panel of columns, with all sums
in vector registers. ``tile`` has rows of ``panel`` columns, one after the other, in the accumulation type.

* A is read in place by broadcast loads: ``rows`` holds an address for each row, the reduction adds the same offset to
  all of them. ``runs`` describes the reduction: pairs (byte offset, length), each a run of ``length`` positions that are
  ``step`` bytes apart. With ``table`` it is one byte offset for each position, and ``n_runs`` their number: for
  reductions whose innermost dimension is tiny (a 3x3 window over one channel).
* With ``along`` A moves along the columns as B does: ``tile[r, j] (+)= sum over k of A[r, k, j] * B[k, j]``, by vector
  loads ``shift`` bytes from the rows' addresses: depthwise convolutions, whose channels lie along the vectors.
* B is ``b_step`` bytes from position to position: a packed panel, or B in place, where only the first ``columns``
  elements of the panel may be touched (``masked``).

* ``asked`` is a list of addresses (``contract_ask.py``): those lines are asked for, one at each position. Small tiles, which several
  positions share, ask for ``many`` of them before they begin.

There is code for a full register file of rows and for 8, 4, 2 and 1; other heights are sums of these. With few rows the
reduction is spread over several sets of accumulators, so that the multiply-adds do not wait for each other.

A tile is summed in stretches (``product_sums.py``): after so many terms in each accumulator it takes them up, and they begin again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.product_sums import STRETCH, add, clear, put_away
from rushlight.compile.dtypes import BY_NAME, DType

__all__ = ["ROW_CYCLES", "TILE_CYCLES", "Micro", "convert", "fence", "ir_type", "heights", "intrinsic_suffix", "mask", "masked_load",
           "multiply_add", "splat"]  # fmt: skip

#: Cycles for one position of a panel of two vectors, measured: of a tile, and of each of its rows.
TILE_CYCLES, ROW_CYCLES = 1.4, 1.17
#: Positions of the reduction that operands are asked for in advance, where they are read in place in long strides.
AHEAD = 24

_IR_TYPES = {
    "bool": "i8", "uint8": "i8", "int8": "i8", "int16": "i16", "uint16": "i16", "int32": "i32", "uint32": "i32",
    "int64": "i64", "uint64": "i64", "float16": "half", "bfloat16": "i16", "float32": "float", "float64": "double",
    **dict.fromkeys((d.name for d in BY_NAME.values() if d.kind == "q"), "i8"),
}  # fmt: skip


def ir_type(dtype: DType, lanes: int = 0) -> str:
    """How a value of ``dtype`` lies in memory, as an LLVM type (``lanes``: a vector). bfloat16 is handled as bits.

    Raises:
        TypeError: complex types, which have no vector form here.
    """
    name = _IR_TYPES.get(dtype.name)
    if name is None:
        raise TypeError(f"contractions of {dtype.name} are not generated: split them into real parts first")
    return f"<{lanes} x {name}>" if lanes else name


def splat(f: Function, value: str, type_: str, lanes: int) -> str:
    vector = f"<{lanes} x {type_}>"
    one = f.let(f"insertelement {vector} poison, {type_} {value}, i64 0")
    return f.let(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer")


def convert(f: Function, value: str, source: DType, target: DType, lanes: int = 0) -> str:
    """The value in another type, for the widenings that a contraction needs (and f32 to half types)."""
    if source is target:
        return value
    src, dst = ir_type(source, lanes), ir_type(target, lanes)
    if source.name == "bfloat16":
        wide, single = (f"<{lanes} x i32>", f"<{lanes} x float>") if lanes else ("i32", "float")
        shift = "splat (i32 16)" if lanes else "16"
        bits = f.let(f"shl {wide} {f.let(f'zext {src} {value} to {wide}')}, {shift}")
        value = f.let(f"bitcast {wide} {bits} to {single}")
        return value if target.name == "float32" else f.let(f"fpext {single} {value} to {dst}")
    if source.kind == "f" and target.kind == "f" and target.itemsize > source.itemsize:
        return f.let(f"fpext {src} {value} to {dst}")
    if source.kind in "biu" and target.kind in "iu":
        if source.itemsize == target.itemsize:
            return value
        if source.itemsize > target.itemsize:
            return f.let(f"trunc {src} {value} to {dst}")
        return f.let(f"{'sext' if source.is_signed else 'zext'} {src} {value} to {dst}")
    if source.kind in "biu" and target.kind == "f" and target.itemsize >= 4:
        return f.let(f"{'sitofp' if source.is_signed else 'uitofp'} {src} {value} to {dst}")
    raise TypeError(f"a contraction does not convert {source.name} to {target.name}")


def mask(f: Function, count: str, lanes: int) -> str:
    """``<lanes x i1>``: lane number < count (an i64, possibly negative, that fits 32 bits)."""
    numbers = ", ".join(f"i32 {i}" for i in range(lanes))
    wide = splat(f, f.let(f"trunc i64 {count} to i32"), "i32", lanes)
    return f.let(f"icmp sgt <{lanes} x i32> {wide}, <{numbers}>")


def heights(registers: int, vectors: int) -> tuple[int, ...]:
    """The numbers of rows that there is code for, with ``vectors`` vectors to a row.

    The full height is what both register files hold: twelve rows of two vectors leave room for B, and twelve addresses, B,
    the offset and a counter are the general registers that x86 has. Fourteen rows fill the vector registers better but
    reload addresses from the stack: a tenth slower on Intel's Golden Cove."""
    full = {1: 12, 2: 12, 4: 6, 8: 2}[vectors] if registers >= 32 else {1: 10, 2: 6, 4: 2}[vectors]
    return tuple(h for h in (full, *(h for h in (8, 4, 2, 1) if h < full)))


@dataclass(frozen=True)
class _Place:
    """How far a tile has come, as names of stack slots: the address in B; the run, or the position in the table; positions of the run that
    are done; the offset into A."""

    b: str
    run: str
    done: str
    offset: str
    asked: str = ""  # the address of the address that is asked for next, and bytes to the one after
    ask_step: str = ""


@dataclass(frozen=True)
class Micro:
    """What makes one micro-kernel different from another.

    ``b`` is the type in which B is read: the accumulation type, unless B is read in place. ``vectors`` of ``lanes``
    elements make a panel. ``masked``: the panels of which nothing beyond ``columns`` is read: "all", or "rest": those that leave
    a vector unused. ``ahead``: B steps so far that the processor does not see the next line coming. ``fence`` is the
    letter of a vector register in inline assembly: empty pieces of it hold LLVM's scheduler to the order of the text. Left
    alone it moves the broadcast loads together, runs out of registers and spills sums inside the loop: 70 to 170 GFLOP/s
    instead of 255.
    """

    a: DType
    b: DType
    accumulate: DType
    lanes: int
    vectors: int
    heights: tuple[int, ...]
    table: bool
    masked: str
    fma: bool
    fence: str
    along: bool = False
    ahead: bool = False
    asks: bool = False
    pitch: int = 0  # columns from row to row of the tile, where they are more than the vectors

    @property
    def key(self) -> str:
        heights = ",".join(map(str, self.heights))
        return (f"micro17 {self.a.name} {self.b.name} {self.accumulate.name} {self.lanes}x{self.vectors} {heights} "
                f"{self.table} {self.masked} {self.fma} {self.fence} {self.along} {self.ahead}{' asks' * self.asks}")  # fmt: skip

    @property
    def panel(self) -> int:
        return self.lanes * self.vectors

    def ir(self) -> str:
        module = Module()
        f = Function(
            "void @micro(ptr noalias %tile, ptr noalias %rows, i64 %height, ptr noalias %runs, i64 %n_runs, "
            "i64 %step, ptr noalias %b, i64 %b_step, i64 %columns, i64 %accumulate, i64 %shift"
            f"{', ptr noalias %asked, i64 %many' * self.asks})",
            module,
        )
        masks = [mask(f, f.sub("%columns", v * self.lanes), self.lanes) if self.masked or self.along else "" for v in range(self.vectors)]
        whole = replace(self, masked="") if self.masked == "rest" else self
        # The last panel is often not full: then its empty vectors would be multiplied for nothing.
        used = f.div(f.add("%columns", self.lanes - 1), self.lanes) if len(self.widths) > 1 else str(self.vectors)
        for height in f.cases("%height", self.heights):
            for vectors in f.cases(used, self.widths):
                one = whole if vectors == self.vectors else replace(self, vectors=vectors, pitch=self.panel)
                one._height(f, height, masks[:vectors])
        return f.finish() + module.text()

    @property
    def widths(self) -> tuple[int, ...]:
        """The numbers of vectors in use that there is code for."""
        return tuple(range(self.vectors, 0, -1)) if self.vectors <= 4 else (self.vectors,)

    def _height(self, f: Function, height: int, masks: list[str]) -> None:
        sets = next(n for n in (4, 2, 1) if n * height * self.vectors <= 16 or n == 1)  # a power of two, for ``_positions``
        vector = ir_type(self.accumulate, self.lanes)
        rows = [f.let(f"inttoptr i64 {f.load('%rows', r)} to ptr") for r in range(height)]
        if self.along:
            rows = [f.at(row, "%shift", "i8") for row in rows]
        sums = [[[f.slot(vector) for _ in range(self.vectors)] for _ in range(height)] for _ in range(sets)]
        size = (self.pitch or self.panel) * self.accumulate.itemsize

        places = [f.at("%tile", r * size + v * self.lanes * self.accumulate.itemsize, "i8")
                  for r in range(height) for v in range(self.vectors)]  # fmt: skip
        first, *others = ([slot for row in one for slot in row] for one in sums)
        place = _Place(*(f.slot(type_, start) for type_, start in (("ptr", "%b"), ("i64", "0"), ("i64", "0"), ("i64", "0"))))
        if self.asks and sets == 1:
            place = replace(place, asked=f.slot("ptr", "%asked"), ask_step=f.slot("i64", "8"))
            f.set(place.asked, "%asked", "ptr")
        elif self.asks:
            with f.loop(0, "%many") as i:
                self._prefetch(f, f.load("%asked", i, "ptr"), 2)
        again, more = f.slot("i64", "%accumulate"), f.slot("i64", "1")
        with f.loop_while(more, "eq", "1"):
            for one in (first, *others):
                clear(f, one, vector)
            stretch = self._table_stretch if self.table else self._runs_stretch
            stretch(f, rows, sums, place, masks)
            for one in others:
                for slot, more_of_it in zip(first, one, strict=True):
                    f.set(slot, add(f, self.accumulate, vector, f.get(slot, vector), f.get(more_of_it, vector)), vector)
            put_away(f, first, places, self.accumulate, vector, f.compare("ne", f.get(again), 0))
            f.set(again, "1")
            if place.asked:
                f.set(place.ask_step, "0")
            f.set(more, f.let(f"zext i1 {f.compare('slt', f.get(place.run), '%n_runs')} to i64"))

    def _runs_stretch(self, f: Function, rows: list[str], sums: list, place: _Place, masks: list[str]) -> None:
        """From run to run, as far as a stretch goes; it may begin and end inside of one."""
        left = f.slot("i64", f.let(f"select i1 {f.compare('sgt', '%n_runs', 0)}, i64 {STRETCH * len(sums)}, i64 0"))
        with f.loop_while(left, "sgt", "0") as most:
            run, done = f.get(place.run), f.get(place.done)
            pair = f.mul(run, 2)
            rest = f.sub(f.load("%runs", f.add(pair, 1)), done)
            count = f.minimum(rest, most)
            f.set(place.offset, f.add(f.load("%runs", pair), f.mul(done, "%step")))
            self._positions(f, rows, sums, place, masks, "0", count, lambda _: self._advance(f, place.offset))
            ends = f.compare("eq", count, rest)
            after = f.add(run, f.let(f"zext i1 {ends} to i64"))
            f.set(place.run, after)
            f.set(place.done, f.let(f"select i1 {ends}, i64 0, i64 {f.add(done, count)}"))
            f.set(left, f.let(f"select i1 {f.compare('slt', after, '%n_runs')}, i64 {f.sub(most, count)}, i64 0"))

    def _table_stretch(self, f: Function, rows: list[str], sums: list, place: _Place, masks: list[str]) -> None:
        first = f.get(place.run)
        end = f.minimum(f.add(first, STRETCH * len(sums)), "%n_runs")
        self._positions(f, rows, sums, place, masks, first, end, lambda k: f.load("%runs", k))
        f.set(place.run, end)

    def _positions(
        self, f: Function, rows: list[str], sums: list, place: _Place, masks: list[str], first: str, end: str,
        offset_of: Callable[[str], str],
    ) -> None:  # fmt: skip
        """The positions ``first`` to ``end`` of the reduction, several at a time where there are several sets of sums."""
        unroll = len(sums)
        whole = end if unroll == 1 else f.add(first, f.let(f"and i64 {f.sub(end, first)}, {-unroll}"))
        with f.loop(first, whole, unroll) as k:
            self._steps(f, rows, sums, place, masks, unroll, lambda j: offset_of(f.add(k, j)))
        if unroll > 1:
            with f.loop(whole, end) as k:
                self._steps(f, rows, sums, place, masks, 1, lambda _: offset_of(k))

    def _advance(self, f: Function, offset: str) -> str:
        """The present offset into A; moves it on by one step."""
        here = f.get(offset)
        there = f.add(here, "%step")
        if self.fence:
            # Else LLVM would give every row a moving pointer of its own, and run out of registers for them.
            there = f.let(f'call i64 asm "", "=r,0"(i64 {there})')
        f.set(offset, there)
        return here

    def _steps(
        self, f: Function, rows: list[str], sums: list, place: _Place, masks: list[str], count: int, offset_of: Callable[[int], str]
    ) -> None:
        """``count`` positions of the reduction, one after the other."""
        vector, element = ir_type(self.accumulate, self.lanes), ir_type(self.accumulate)
        here = f.get(place.b, "ptr")
        ahead = f.mul("%b_step", AHEAD) if self.ahead else ""
        for j in range(count):
            if self.fence:
                fence(f, sums[(j - 1) % len(sums)][-1], vector, self.fence)
            loaded = [self._load_b(f, here, v, masks[v]) for v in range(self.vectors)]
            if self.ahead:
                for line in range(0, self.panel * self.b.itemsize, 64):
                    self._prefetch(f, f.at(f.at(here, ahead, "i8"), line, "i8"), 3)
            if place.asked:
                at = f.get(place.asked, "ptr")
                self._prefetch(f, f.load(at, 0, "ptr"), 2)
                f.set(place.asked, f.at(at, f.get(place.ask_step), "i8"), "ptr")
            here = f.at(here, "%b_step", "i8")
            offset = offset_of(j)
            for r, (row, slots) in enumerate(zip(rows, sums[j % len(sums)], strict=True)):
                if self.fence and r:
                    fence(f, sums[j % len(sums)][r - 1], vector, self.fence)
                at = f.at(row, offset, "i8")
                if self.along:
                    values = [self._load_a(f, at, v, masks[v]) for v in range(self.vectors)]
                else:
                    value = f.let(f"load {ir_type(self.a)}, ptr {at}, align {self.a.itemsize}")
                    values = [splat(f, convert(f, value, self.a, self.accumulate), element, self.lanes)] * self.vectors
                for slot, value, other in zip(slots, values, loaded, strict=True):
                    f.set(slot, multiply_add(f, self.accumulate, self.lanes, self.fma, value, other, f.get(slot, vector)), vector)
        f.set(place.b, here, "ptr")

    def _load_a(self, f: Function, pointer: str, v: int, lanes_on: str) -> str:
        at = f.at(pointer, v * self.lanes * self.a.itemsize, "i8")
        return convert(f, masked_load(f, at, self.a, self.lanes, lanes_on), self.a, self.accumulate, self.lanes)

    def _load_b(self, f: Function, pointer: str, v: int, lanes_on: str) -> str:
        memory = ir_type(self.b, self.lanes)
        at = f.at(pointer, v * self.lanes * self.b.itemsize, "i8")
        if self.masked:
            value = masked_load(f, at, self.b, self.lanes, lanes_on)
        else:
            value = f.let(f"load {memory}, ptr {at}, align {self.b.itemsize}")
        return convert(f, value, self.b, self.accumulate, self.lanes)

    def _prefetch(self, f: Function, pointer: str, level: int) -> None:
        """Into the first-level cache (3) or the second (2)."""
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        f.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 {level}, i32 1)")


def fence(f: Function, slots: list[str], vector: str, letter: str) -> None:
    """An empty instruction that changes ``slots``, as far as LLVM knows, and memory: no load moves across it."""
    count = len(slots)
    values = ", ".join(f"{vector} {f.get(s, vector)}" for s in slots)
    places = ",".join([f"={letter}"] * count + [str(i) for i in range(count)])
    result = vector if count == 1 else "{ " + ", ".join([vector] * count) + " }"
    out = f.let(f'call {result} asm sideeffect "", "{places},~{{memory}}"({values})')
    for i, s in enumerate(slots):
        f.set(s, out if count == 1 else f.let(f"extractvalue {result} {out}, {i}"), vector)


def multiply_add(f: Function, dtype: DType, lanes: int, fma: bool, a: str, b: str, total: str) -> str:
    """``a * b + total``: one rounding where the processor has it."""
    vector = ir_type(dtype, lanes)
    if dtype.kind == "f" and fma:
        suffix = f"v{lanes}f{8 * dtype.itemsize}"
        f.module.declare(f"{vector} @llvm.fma.{suffix}({vector}, {vector}, {vector})")
        return f.let(f"call {vector} @llvm.fma.{suffix}({vector} {a}, {vector} {b}, {vector} {total})")
    product = f.let(f"{'fmul' if dtype.kind == 'f' else 'mul'} {vector} {a}, {b}")
    return f.let(f"{'fadd' if dtype.kind == 'f' else 'add'} {vector} {total}, {product}")


def masked_load(f: Function, pointer: str, dtype: DType, lanes: int, lanes_on: str) -> str:
    """``lanes`` elements from ``pointer`` on; zero where the mask is off, and nothing is touched there."""
    vector, suffix = ir_type(dtype, lanes), intrinsic_suffix(dtype, lanes)
    f.module.declare(f"{vector} @llvm.masked.load.{suffix}.p0(ptr, i32, <{lanes} x i1>, {vector})")
    return f.let(
        f"call {vector} @llvm.masked.load.{suffix}.p0(ptr {pointer}, i32 {dtype.itemsize}, <{lanes} x i1> {lanes_on}, "
        f"{vector} zeroinitializer)"
    )


def intrinsic_suffix(dtype: DType, lanes: int) -> str:
    element = ir_type(dtype)
    return f"v{lanes}" + {"half": "f16", "float": "f32", "double": "f64"}.get(element, element)
