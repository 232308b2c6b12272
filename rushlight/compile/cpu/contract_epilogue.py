"""The epilogue of a contraction, as LLVM IR text: what becomes of finished sums, one row of a panel after the other.

Its operands are C and the extras. Those that lie along n are loaded and stored as vectors under a mask, others lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from rushlight.compile.cpu import vecmath
from rushlight.compile.cpu.contract_ask import Asked
from rushlight.compile.cpu.contract_block import LINE
from rushlight.compile.cpu.contract_sums import Item, Partial, Tally, tally_lines
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.microkernel import intrinsic_suffix, ir_type, mask, masked_load, splat
from rushlight.compile.cpu.values import V
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, canonical

__all__ = ["Epilogue", "EpilogueOperand", "apply", "gather", "known", "operand_places", "read", "scattered", "write"]

#: Characters of an epilogue that is small.
SMALL = 600


class Numbers(Protocol):
    """A kernel's parameters by name: a :class:`Frame`, or those that a function was given."""

    def __getitem__(self, name: str, /) -> str: ...


@dataclass(frozen=True)
class EpilogueOperand:
    """C or an extra, as the epilogue sees it: its stride along n is "unit", "zero" or "any"; ``fixed``: it is read, and the same in all
    rows of a part."""

    dtype: DType
    stride: str
    written: bool
    fixed: bool = False

    def __str__(self) -> str:
        return f"{self.dtype.name} {self.stride} {self.written}{' fixed' * self.fixed}"


@dataclass(frozen=True)
class Epilogue:
    """Panels of ``vectors`` vectors of ``lanes`` sums; ``stores`` are expressions over input(0), the sum, and the read extras; so are
    those of ``sums``, which are added up over the rows."""

    accumulate: DType
    lanes: int
    vectors: int
    outputs: tuple[EpilogueOperand, ...]
    stores: tuple[Expr, ...]
    sums: tuple[Item, ...] = ()

    @property
    def at_once(self) -> int:
        """Columns that the epilogue works on together: two vectors, whose chains of operations then hide each other's latency,
        but one where it is large (a whole optimizer) and would run out of registers."""
        return self.lanes * (2 if self.vectors > 1 and len(canonical(*self.stores)) < SMALL else 1)

    def row(
        self, f: Function, frame: Numbers, tables: list[str], row: str, panel: str, columns: str, vector_of: Callable[[str, int], str]
    ) -> None:
        """Reads the extras, evaluates the stores and writes them, for one row of one panel."""
        start, lanes = self._starts(f, frame, tables, row, panel), self.at_once
        with f.loop(0, f.mul(frame["vectors"], self.lanes), lanes) as lane:
            lanes_on = mask(f, f.sub(columns, lane), lanes)
            total = V(f, vector_of(lane, lanes), vecmath.register_type(self.accumulate), lanes)
            apply(f, total, self._places(f, frame, start, lane), lanes_on, self.outputs, self.stores)

    def tile(
        self, f: Function, frame: Frame, tables: list[str], first: str, height: str, panel: str, columns: str,
        vector_of: Callable[[str, str, int], str], partials: str,
    ) -> None:  # fmt: skip
        """The same for some rows, from ``first`` on, where there are ``sums``: those of the part lie at ``partials``."""
        item = self.accumulate.itemsize
        formulas = [expr for _, expr in self.sums]
        fresh = f.compare("eq", first, 0)
        with f.loop(0, f.mul(frame["vectors"], self.lanes), self.at_once) as lane:
            lanes = self.at_once
            lanes_on = mask(f, f.sub(columns, lane), lanes)
            column = f.add(f.mul(panel, self.lanes * self.vectors), lane)
            partial = Partial(f.at(partials, f.mul(column, item), "i8"), frame["sum_line"])
            tally = Tally(f, self.sums, self.accumulate, lanes, partial)
            fixed = known(f, self._places(f, frame, self._starts(f, frame, tables, first, panel), lane), lanes_on, self.outputs, lanes)

            def values(
                row: str, stores: tuple[Expr, ...], lane: str = lane, lanes_on: str = lanes_on, fixed: dict[int, V] = fixed
            ) -> list[V]:
                total = V(f, vector_of(row, lane, lanes), vecmath.register_type(self.accumulate), lanes)
                places = self._places(f, frame, self._starts(f, frame, tables, row, panel), lane)
                return apply(f, total, places, lanes_on, self.outputs, stores, formulas, fixed)

            tally.begin(fresh, lambda: values(first, ()))
            with f.loop(0, height) as r:
                tally.add(values(f.add(first, r), self.stores))
            tally.end(fresh, first, height)

    def row_of_tile(
        self, f: Function, frame: Numbers, tables: list[str], rows: tuple[str, str, str], panel: str, columns: str,
        vector_of: Callable[[str, int], str], partials: str, tally: str,
    ) -> None:  # fmt: skip
        """One row of what ``tile`` does, a call for each: ``rows`` are the tile's first one, this one, counted from it, and how many there
        are. The sums so far lie at ``tally``."""
        first, row, height = rows
        item, width = self.accumulate.itemsize, self.lanes * self.vectors
        formulas = [expr for _, expr in self.sums]
        fresh = f.compare("eq", first, 0)
        start, lanes = self._starts(f, frame, tables, f.add(first, row), panel), self.at_once
        with f.loop(0, str(width), lanes) as lane:
            lanes_on = mask(f, f.sub(columns, lane), lanes)
            places = self._places(f, frame, start, lane)
            so_far = [f.at(tally, f.mul(f.add(lane, i * width), item), "i8") for i in range(tally_lines(self.sums))]
            column = f.add(f.mul(panel, width), lane)
            partial = Partial(f.at(partials, f.mul(column, item), "i8"), frame["sum_line"])
            tallied = Tally(f, self.sums, self.accumulate, lanes, partial, memory=so_far)
            total = V(f, vector_of(lane, lanes), vecmath.register_type(self.accumulate), lanes)
            with f.when(f.compare("eq", row, 0)):
                tallied.begin(fresh, lambda: apply(f, total, places, lanes_on, self.outputs, (), formulas))
            tallied.add(apply(f, total, places, lanes_on, self.outputs, self.stores, formulas))
            with f.when(f.compare("eq", f.add(row, 1), height)):
                tallied.end(fresh, first, height)

    def _starts(self, f: Function, frame: Numbers, tables: list[str], row: str, panel: str) -> list[str]:
        """The operands' addresses in a row, at the first column of a panel."""
        start = []
        for i, table in enumerate(tables):
            at = f.let(f"inttoptr i64 {f.load(table, row)} to ptr")
            start.append(f.at(at, f.mul(f.mul(panel, self.lanes * self.vectors), frame[f"n_stride{i}"]), "i8"))
        return start

    def _places(self, f: Function, frame: Numbers, start: list[str], lane: str) -> list[str]:
        """... and at some columns."""
        places = []
        for i, (at, operand) in enumerate(zip(start, self.outputs, strict=True)):
            if operand.stride == "unit":
                places.append(f.at(at, f.mul(lane, operand.dtype.itemsize), "i8"))
            elif operand.stride == "zero":
                places.append(at)
            else:
                stride = frame[f"n_stride{i}"]
                places.append(scattered(f, f.at(at, f.mul(lane, stride), "i8"), stride, 0, self.at_once))
        return places

    def prefetch(self, f: Function, frame: Frame, tables: list[str], first: str, height: str, panel: str) -> None:
        """Ask for the lines of the outputs that this tile will touch: they come into the second-level cache while the sums are
        made. Asked for to be written, or into the first level, they would hold up the sums instead."""
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for start, lines in self._stretches(f, frame, tables, first, height, panel):
            for line in range(lines):
                f.do(f"call void @llvm.prefetch.p0(ptr {f.at(start, LINE * line, 'i8')}, i32 0, i32 2, i32 1)")

    def ask(self, f: Function, frame: Frame, tables: list[str], first: str, height: str, panel: str, end: str) -> None:
        """... one after the other: writes them down at ``end`` (``contract_ask.py``)."""
        for start, lines in self._stretches(f, frame, tables, first, height, panel):
            Asked.lines(f, end, f.let(f"ptrtoint ptr {start} to i64"), lines)

    def asked_lines(self, height: int) -> int:
        """How many lines of the outputs a tile of so many rows touches."""
        return height * sum(self._lines(operand) for operand in self.outputs if operand.stride == "unit")

    def _lines(self, operand: EpilogueOperand) -> int:
        return -(-self.lanes * self.vectors * operand.dtype.itemsize // LINE)

    def _stretches(
        self, f: Function, frame: Frame, tables: list[str], first: str, height: str, panel: str
    ) -> Iterator[tuple[str, int]]:  # fmt: skip
        """``for start, lines in``: code for each row of each output that lies along n: where the panel's columns begin, and their lines."""
        with f.loop(0, height) as r:
            for i, (table, operand) in enumerate(zip(tables, self.outputs, strict=True)):
                if operand.stride == "unit":
                    at = f.let(f"inttoptr i64 {f.load(table, f.add(first, r))} to ptr")
                    start = f.mul(f.mul(panel, self.lanes * self.vectors), frame[f"n_stride{i}"])
                    yield f.at(at, start, "i8"), self._lines(operand)


def apply(
    f: Function, total: V, places: list[str], on: str, outputs: tuple[EpilogueOperand, ...], stores: Sequence[Expr],
    formulas: Sequence[Expr] = (), fixed: Mapping[int, V] = MappingProxyType({}),
) -> list[V]:  # fmt: skip
    """The epilogue of a vector of sums: reads the extras, evaluates the stores and writes them (without stores, nothing is written).
    Returns the values of further ``formulas``. ``fixed``: what is ``known`` of the extras."""
    env: dict[object, V] = {0: total}
    for i, (place, operand) in enumerate(zip(places, outputs, strict=True)):
        if not operand.written:
            env[len(env)] = fixed[i] if i in fixed else vecmath.load_form(read(f, place, operand, total.lanes, on), operand.dtype)
    written = [(p, o) for p, o in zip(places, outputs, strict=True) if o.written]
    memo: dict[Expr, V] = {}
    for (place, operand), expr in zip(written, stores, strict=bool(stores)):
        value = vecmath.store_form(vecmath.emit(f, expr, env, total.lanes, memo), operand.dtype)
        write(f, place, operand, total.lanes, on, value.name)
    return [vecmath.emit(f, expr, env, total.lanes, memo) for expr in formulas]


def known(f: Function, places: list[str], on: str, outputs: tuple[EpilogueOperand, ...], lanes: int) -> dict[int, V]:
    """The operands that are the same in all rows, read before the loop over them."""
    return {i: vecmath.load_form(read(f, place, operand, lanes, on), operand.dtype)
            for i, (place, operand) in enumerate(zip(places, outputs, strict=True)) if operand.fixed}


def scattered(f: Function, pointer: str, stride: str, first: int, lanes: int) -> str:
    """A vector of addresses ``pointer + (first + lane) * stride``."""
    numbers = ", ".join(f"i64 {first + i}" for i in range(lanes))
    steps = f.let(f"mul <{lanes} x i64> {splat(f, stride, 'i64', lanes)}, <{numbers}>")
    return f.let(f"getelementptr i8, ptr {pointer}, <{lanes} x i64> {steps}")


def operand_places(f: Function, frame: Frame, lines: Sequence[str], along: str, operands: Sequence[EpilogueOperand],
                   lanes: int) -> list[str]:
    """Where the vectors of the operands are at position ``along`` of these lines, whose steps are the frame's ``x0``, ``x1``, ...: an
    address each, or a vector of addresses."""
    places = []
    for k, (line, operand) in enumerate(zip(lines, operands, strict=True)):
        at = f.at(line, f.mul(along, frame[f"x{k}"]), "i8")
        places.append(scattered(f, at, frame[f"c{k}"], 0, lanes) if operand.stride == "any" else at)
    return places


def read(f: Function, place: str, operand: EpilogueOperand, lanes: int, lanes_on: str) -> V:
    memory = vecmath.memory_type(operand.dtype)
    if operand.stride == "zero":
        return V(f, f.let(f"load {memory}, ptr {place}, align {operand.dtype.itemsize}"), memory)
    if operand.stride == "unit":
        return V(f, masked_load(f, place, operand.dtype, lanes, lanes_on), memory, lanes)
    return V(f, gather(f, place, operand.dtype, lanes, lanes_on), memory, lanes)


def gather(f: Function, places: str, dtype: DType, lanes: int, lanes_on: str) -> str:
    vector, suffix = ir_type(dtype, lanes), intrinsic_suffix(dtype, lanes)
    f.module.declare(f"{vector} @llvm.masked.gather.{suffix}.v{lanes}p0(<{lanes} x ptr>, i32, <{lanes} x i1>, {vector})")
    return f.let(
        f"call {vector} @llvm.masked.gather.{suffix}.v{lanes}p0(<{lanes} x ptr> {places}, i32 {dtype.itemsize}, "
        f"<{lanes} x i1> {lanes_on}, {vector} zeroinitializer)"
    )


def write(f: Function, place: str, operand: EpilogueOperand, lanes: int, lanes_on: str, value: str) -> None:
    dtype = operand.dtype
    vector, suffix = ir_type(dtype, lanes), intrinsic_suffix(dtype, lanes)
    if operand.stride == "unit":
        f.module.declare(f"void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, <{lanes} x i1>)")
        f.do(f"call void @llvm.masked.store.{suffix}.p0({vector} {value}, ptr {place}, i32 {dtype.itemsize}, "
             f"<{lanes} x i1> {lanes_on})")  # fmt: skip
    else:
        if operand.stride == "zero":
            place = scattered(f, place, "0", 0, lanes)
        f.module.declare(f"void @llvm.masked.scatter.{suffix}.v{lanes}p0({vector}, <{lanes} x ptr>, i32, <{lanes} x i1>)")
        f.do(f"call void @llvm.masked.scatter.{suffix}.v{lanes}p0({vector} {value}, <{lanes} x ptr> {place}, "
             f"i32 {dtype.itemsize}, <{lanes} x i1> {lanes_on})")  # fmt: skip
