"""The kernels of depthwise convolutions and of small groups, as LLVM IR text; ``depthwise.py`` plans them.

Each channel has a filter of its own, or filters for the ``each`` channels of its group (2, 4, 8): too few for a matrix
product. Channels lie along the vectors, and a vector of channels is worked on by itself. What a group's channels read of
each other is a rearrangement of the vector (``member``): lane l sees lane i of its group.

* ``Turn``: the filters as ``w[tap][member][channel]``.
* ``Forward``: rows of results. The taps stay in registers where they fit; several neighbouring results are summed at a time,
  and each input that they share is read once.
* ``Sums`` and ``Finish``: the gradient of the filters. A part walks over some rows with the sums of all taps in registers;
  the parts' sums are added in order.

The window's extents, its stride and dilation along the row are part of the code, everything else is a number at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile import dtypes as dt
from rushlight.compile.cpu.contract_epilogue import EpilogueOperand, apply, known, operand_places
from rushlight.compile.cpu.contract_sums import Item, Partial, Tally, lines, sums_key
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import mask, masked_load, multiply_add, splat
from rushlight.compile.cpu.product_sums import STRETCH, clear, put_away
from rushlight.compile.cpu.values import V
from rushlight.compile.expr import Expr, canonical

__all__ = ["Finish", "Forward", "Sums", "Turn", "widths"]


#: Results of a row that are added up before the sums of the part take them up.
TOGETHER = 256


def widths(registers: int) -> tuple[int, ...]:
    """Neighbouring results that are summed at a time."""
    return (8, 4, 2, 1) if registers >= 32 else (4, 2, 1)


def load(f: Function, at: str, lanes: int, on: str) -> str:
    """A vector of floats; ``on``: the mask, or nothing where all lanes are there."""
    return masked_load(f, at, dt.float32, lanes, on) if on else f.let(f"load <{lanes} x float>, ptr {at}, align 4")


def member(f: Function, value: str, lanes: int, each: int, i: int) -> str:
    """In every lane what lane ``i`` of its group of ``each`` holds."""
    if each == 1:
        return value
    numbers = ", ".join(f"i32 {lane // each * each + i}" for lane in range(lanes))
    vector = f"<{lanes} x float>"
    return f.let(f"shufflevector {vector} {value}, {vector} poison, <{lanes} x i32> <{numbers}>")


@dataclass(frozen=True)
class Turn:
    """Operands: B, w. A part is a tap of a member."""

    fields = ("groups", "each", "columns", "b_g", "b_o", "b_i", "b_u", "b_v", "row")
    key = "depthwise turn 2"

    def ir(self) -> str:
        f = Function("void @turn(ptr %table, ptr %params, i64 %begin, i64 %end)")
        frame = Frame(f, 2, self.fields)
        with f.loop("%begin", "%end") as part:
            i, tap = f.rem(part, frame["each"]), f.div(part, frame["each"])
            u, v = f.div(tap, frame["columns"]), f.rem(tap, frame["columns"])
            source = f.at(f.at(frame.bases[0], f.mul(u, frame["b_u"]), "i8"), f.mul(v, frame["b_v"]), "i8")
            source = f.at(source, f.mul(i, frame["b_i"]), "i8")
            target = f.at(frame.bases[1], f.mul(part, frame["row"]), "i8")
            with f.loop(0, frame["groups"]) as g, f.loop(0, frame["each"]) as o:
                at = f.at(f.at(source, f.mul(g, frame["b_g"]), "i8"), f.mul(o, frame["b_o"]), "i8")
                to = f.at(target, f.add(f.mul(g, frame["each"]), o), "float")
                f.do(f"store float {f.let(f'load float, ptr {at}, align 4')}, ptr {to}, align 4")
        return f.finish() + f.module.text()


@dataclass(frozen=True)
class Forward:
    """Operands: A, w, C, extras, the partials of ``sums`` over the results. A part is a block of rows for one vector of channels; the
    table has a line for each axis of the rows: extent, then bytes per step for each operand. ``ragged``: the last vector of channels
    is not full."""

    lanes: int
    registers: int
    fma: bool
    window: tuple[int, int]
    each: int
    stride: int
    dilation: int
    ragged: bool
    outputs: tuple[EpilogueOperand, ...]
    stores: tuple[Expr, ...]
    sums: tuple[Item, ...] = ()

    @property
    def key(self) -> str:
        outputs = ";".join(map(str, self.outputs))
        shape = f"{self.window} {self.each} {self.stride} {self.dilation} {self.ragged}"
        stores = canonical(*self.stores) + sums_key(self.sums)
        return f"depthwise forward 4 {self.lanes} {self.registers} {self.fma} {shape} [{outputs}] {stores}"

    @property
    def fields(self) -> list[str]:
        return ["channels", "vectors", "rows", "block", "wide", "dims", "a_u", "unit", "w_row",
                *(f"{d}{i}" for i in range(len(self.outputs)) for d in ("x", "c")), *(["sum_line"] if self.sums else [])]

    def ir(self) -> str:
        module = Module()
        f = Function("void @forward(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        operands, vector = 2 + len(self.outputs) + bool(self.sums), f"<{self.lanes} x float>"
        frame = Frame(f, operands, self.fields)
        high, wide = self.window
        with f.loop("%begin", "%end") as part:
            c = f.mul(f.rem(part, frame["vectors"]), self.lanes)
            on = mask(f, f.sub(frame["channels"], c), self.lanes) if self.ragged else ""
            first = f.mul(f.div(part, frame["vectors"]), frame["block"])
            count = f.minimum(f.sub(frame["rows"], first), frame["block"])
            w = f.at(frame.bases[1], c, "float")
            taps = [[[load(f, f.at(w, f.mul(frame["w_row"], (u * wide + v) * self.each + i), "i8"), self.lanes, on)
                      for i in range(self.each)] for v in range(wide)] for u in range(high)]
            start = [f.add(frame.address(0), f.mul(c, 4)), frame.address(1)]
            start += [f.add(frame.address(2 + i), f.mul(c, frame[f"c{i}"])) for i in range(len(self.outputs))]
            lanes_on = on or "splat (i1 true)"
            here = [f.let(f"inttoptr i64 {at} to ptr") for at in start[2:]]
            fixed = known(f, self._places(f, frame, here, "0"), lanes_on, self.outputs, self.lanes)
            tally = None
            if self.sums:
                start.append("0")
                at = f.at(frame.bases[-1], f.mul(f.mul(f.div(part, frame["vectors"]), lines(self.sums)), frame["sum_line"]), "i8")
                tally = Tally(f, self.sums, dt.float32, self.lanes, Partial(f.at(at, c, "float"), frame["sum_line"]), long=True)
            slots, index = frame.offsets(frame.tables, frame["dims"], first, start)
            with f.loop(0, count) as number:
                source = f.let(f"inttoptr i64 {f.get(slots[0])} to ptr")
                targets = [f.let(f"inttoptr i64 {f.get(s)} to ptr") for s in slots[2 : 2 + len(self.outputs)]]
                x = f.slot("i64", "0")
                for width in widths(self.registers):
                    with f.loop_while(x, "sle", f.sub(frame["wide"], width)) as at:
                        self._results(f, frame, width, taps, source, targets, at, on, vector, fixed, tally, number)
                        f.set(x, f.add(at, width))
                frame.advance(frame.tables, frame["dims"], index, slots)
        return f.finish() + module.text()

    def _results(
        self, f: Function, frame: Frame, width: int, taps: list[list[list[str]]], source: str, targets: list[str], x: str, on: str,
        vector: str, fixed: dict[int, V], tally: Tally | None, number: str,
    ) -> None:  # fmt: skip
        """``width`` neighbours of a row (the ``number``-th of the part), from ``x`` on."""
        sums: list[str | None] = [None] * width
        here = f.at(source, f.mul(f.mul(x, frame["unit"]), self.stride), "i8")
        for u, line in enumerate(taps):
            row = f.at(here, f.mul(frame["a_u"], u), "i8")
            reads: dict[int, list[tuple[int, list[str]]]] = {}
            for r in range(width):
                for v, tap in enumerate(line):
                    reads.setdefault(r * self.stride + v * self.dilation, []).append((r, tap))
            for position in sorted(reads):
                value = load(f, f.at(row, f.mul(frame["unit"], position), "i8"), self.lanes, on)
                for i in range(self.each):
                    seen = member(f, value, self.lanes, self.each, i)
                    for r, tap in reads[position]:
                        before = sums[r]
                        sums[r] = (f.let(f"fmul {vector} {seen}, {tap[i]}") if before is None
                                   else multiply_add(f, dt.float32, self.lanes, self.fma, seen, tap[i], before))
        memory = f.slot(f"[{width} x {vector}]", align=64)
        for r, total in enumerate(sums):
            f.do(f"store {vector} {total}, ptr {f.at(memory, r, vector)}, align 4")
        lanes_on, formulas = on or "splat (i1 true)", [expr for _, expr in self.sums]

        def values(k: str, stores: tuple[Expr, ...]) -> list[V]:
            total = V(f, f.let(f"load {vector}, ptr {f.at(memory, k, vector)}, align 4"), "float", self.lanes)
            return apply(f, total, self._places(f, frame, targets, f.add(x, k)), lanes_on, self.outputs, stores, formulas, fixed)

        before = f.add(f.mul(number, frame["wide"]), x) if tally is not None else ""
        if tally is not None:
            with f.when(f.compare("eq", f.rem(x, TOGETHER), 0)):
                tally.begin(f.compare("eq", before, 0), lambda: values("0", ()))
        with f.loop(0, str(width)) as k:
            found = values(k, self.stores)
            if tally is not None:
                tally.add(found)
        if tally is not None:
            tally.put_away()
            end = f.add(x, width)
            whole, last = f.compare("eq", f.rem(end, TOGETHER), 0), f.compare("eq", end, frame["wide"])
            with f.when(f.let(f"or i1 {whole}, {last}")):
                count = f.add(f.rem(f.sub(end, 1), TOGETHER), 1)
                start = f.sub(f.add(before, width), count)
                tally.end(f.compare("eq", start, 0), start, count)

    def _places(self, f: Function, frame: Frame, targets: list[str], x: str) -> list[str]:
        return operand_places(f, frame, targets, x, self.outputs, self.lanes)


@dataclass(frozen=True)
class Sums:
    """Operands: A, B (the gradient), scratch: ``sums[chunk][tap][member][channel]``. A part is a chunk of rows for one vector of
    channels. Taps are summed in groups that fit the registers, whole lines of the window, and in stretches (``product_sums.py``)."""

    lanes: int
    registers: int
    fma: bool
    window: tuple[int, int]
    each: int
    ragged: bool

    fields = ("channels", "vectors", "rows", "block", "wide", "dims", "a_u", "a_v", "a_x", "b_x", "row", "chunk")

    @property
    def key(self) -> str:
        return f"depthwise sums 3 {self.lanes} {self.registers} {self.fma} {self.window} {self.each} {self.ragged}"

    def ir(self) -> str:
        module = Module()
        f = Function("void @sums(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        frame = Frame(f, 3, self.fields)
        high, wide = self.window
        together = max(1, (self.registers - 4) // (wide * self.each))
        with f.loop("%begin", "%end") as part:
            number, vector = f.div(part, frame["vectors"]), f.rem(part, frame["vectors"])
            c = f.mul(vector, self.lanes)
            on = mask(f, f.sub(frame["channels"], c), self.lanes) if self.ragged else ""
            first = f.mul(number, frame["block"])
            count = f.minimum(f.sub(frame["rows"], first), frame["block"])
            target = f.at(f.at(frame.bases[2], f.mul(number, frame["chunk"]), "i8"), c, "float")
            for u in range(0, high, together):
                self._lines(f, frame, range(u, min(high, u + together)), c, on, first, count, target)
        return f.finish() + module.text()

    def _lines(self, f: Function, frame: Frame, lines: range, c: str, on: str, first: str, count: str, target: str) -> None:
        wide, vector = self.window[1], f"<{self.lanes} x float>"
        sums = [[[f.slot(vector) for _ in range(self.each)] for _ in range(wide)] for _ in lines]
        flat = [slot for line in sums for tap in line for slot in tap]
        places = [f.at(target, f.mul(frame["row"], (u * wide + v) * self.each + i), "i8")
                  for u in lines for v in range(wide) for i in range(self.each)]  # fmt: skip
        clear(f, flat, vector)
        again, terms = f.slot("i64", "0"), f.slot("i64", "0")
        start = [f.add(frame.address(0), f.mul(c, 4)), f.add(frame.address(1), f.mul(c, 4)), frame.address(2)]
        slots, index = frame.offsets(frame.tables, frame["dims"], first, start)
        columns = [f.mul(frame["a_v"], v) for v in range(wide)]
        with f.loop(0, count):
            source, gradient = (f.let(f"inttoptr i64 {f.get(s)} to ptr") for s in slots[:2])
            rows = [f.at(source, f.mul(frame["a_u"], u), "i8") for u in lines]
            with f.loop(0, frame["wide"], STRETCH) as begin:
                end = f.minimum(f.add(begin, STRETCH), frame["wide"])
                with f.loop(begin, end) as x:
                    value = load(f, f.at(gradient, f.mul(x, frame["b_x"]), "i8"), self.lanes, on)
                    along = f.mul(x, frame["a_x"])
                    for row, line in zip(rows, sums, strict=True):
                        here = f.at(row, along, "i8")
                        for column, tap in zip(columns, line, strict=True):
                            other = load(f, f.at(here, column, "i8"), self.lanes, on)
                            for i, slot in enumerate(tap):
                                seen = member(f, other, self.lanes, self.each, i)
                                f.set(slot, multiply_add(f, dt.float32, self.lanes, self.fma, value, seen, f.get(slot, vector)), vector)
                f.set(terms, f.add(f.get(terms), f.sub(end, begin)))
                with f.when(f.compare("sge", f.get(terms), STRETCH)):
                    put_away(f, flat, places, dt.float32, vector, f.compare("ne", f.get(again), 0))
                    clear(f, flat, vector)
                    f.set(again, "1")
                    f.set(terms, "0")
            frame.advance(frame.tables, frame["dims"], index, slots)
        put_away(f, flat, places, dt.float32, vector, f.compare("ne", f.get(again), 0))


@dataclass(frozen=True)
class Finish:
    """Operands: scratch, C, extras. A part is a vector of channels."""

    lanes: int
    each: int
    outputs: tuple[EpilogueOperand, ...]
    stores: tuple[Expr, ...]

    @property
    def key(self) -> str:
        outputs = ";".join(f"{o.dtype.name} {o.stride} {o.written}" for o in self.outputs)
        return f"depthwise finish 3 {self.lanes} {self.each} [{outputs}] {canonical(*self.stores)}"

    @property
    def fields(self) -> list[str]:
        steps = [f"{d}{i}" for i in range(len(self.outputs)) for d in ("y", "x", "i", "g", "o")]
        return ["channels", "chunks", "chunk", "row", "high", "wide", *steps]

    def ir(self) -> str:
        module = Module()
        f = Function("void @finish(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        frame = Frame(f, 1 + len(self.outputs), self.fields)
        vector = f"<{self.lanes} x float>"
        with f.loop("%begin", "%end") as part:
            c = f.mul(part, self.lanes)
            on = mask(f, f.sub(frame["channels"], c), self.lanes)
            with f.loop(0, frame["high"]) as u, f.loop(0, frame["wide"]) as v, f.loop(0, str(self.each)) as i:
                tap = f.add(f.mul(f.add(f.mul(u, frame["wide"]), v), self.each), i)
                here = f.at(f.at(frame.bases[0], c, "float"), f.mul(tap, frame["row"]), "i8")
                total = f.slot(vector, f.let(f"load {vector}, ptr {here}, align 4"))
                with f.loop(1, frame["chunks"]) as chunk:
                    more = f.let(f"load {vector}, ptr {f.at(here, f.mul(chunk, frame['chunk']), 'i8')}, align 4")
                    f.set(total, f.let(f"fadd {vector} {f.get(total, vector)}, {more}"), vector)
                places = []
                for k, (base, operand) in enumerate(zip(frame.bases[1:], self.outputs, strict=True)):
                    at = f.at(f.at(base, f.mul(u, frame[f"y{k}"]), "i8"), f.mul(v, frame[f"x{k}"]), "i8")
                    at = f.at(f.at(at, f.mul(i, frame[f"i{k}"]), "i8"), f.mul(f.div(c, self.each), frame[f"g{k}"]), "i8")
                    places.append(self._apart(f, at, frame[f"g{k}"], frame[f"o{k}"]) if operand.stride == "any" else at)
                apply(f, V(f, f.get(total, vector), "float", self.lanes), places, on, self.outputs, self.stores)
        return f.finish() + module.text()

    def _apart(self, f: Function, at: str, groups: str, members: str) -> str:
        """The addresses of a vector of channels whose groups and their members are any steps apart."""
        total = ""
        for step, numbers in ((groups, [n // self.each for n in range(self.lanes)]), (members, [n % self.each for n in range(self.lanes)])):
            spread = splat(f, step, "i64", self.lanes)
            part = f.let(f"mul <{self.lanes} x i64> {spread}, <{', '.join(f'i64 {n}' for n in numbers)}>")
            total = f.let(f"add <{self.lanes} x i64> {total}, {part}") if total else part
        return f.let(f"getelementptr i8, ptr {at}, <{self.lanes} x i64> {total}")
