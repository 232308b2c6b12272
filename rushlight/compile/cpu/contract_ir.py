"""The kernels around the micro-kernel, as LLVM IR text: the loops over tiles, and the epilogue.

Three kinds of kernel, all of the executor's form ``void (ptr table, ptr params, i64 begin, i64 end)``:

* ``direct``: tiles of finished sums; the epilogue is applied to each tile while it is in the first-level cache.
* ``partial``: the reduction is cut into chunks; sums go to a scratch buffer, rows of one panel.
* ``finish``: adds the splits of a ``partial`` in order and applies the epilogue.

The fourth step, packing B, is in ``pack.py``.

The micro-kernel and the function that finds the rows (``contract_rows.py``) are called through addresses in the
parameters, so an epilogue of its own costs only this small loop.
``fields`` names the fixed parameters; the planner (``contract.py``) fills them in by name. After the pointer pairs and
the fixed parameters come tables: batch dimensions and m dimensions (extent, then bytes per step for each operand), then
the reduction's runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from rushlight.compile.cpu import vecmath
from rushlight.compile.cpu.contract_block import BLOCK_BYTES, LINE
from rushlight.compile.cpu.contract_rows import MAX_DIMS, MAX_ROWS
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import intrinsic_suffix, ir_type, mask, masked_load, splat
from rushlight.compile.cpu.values import V
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, canonical

__all__ = ["Driver", "EpilogueOperand", "Frame", "gather", "scattered"]


#: Characters of an epilogue that is small.
SMALL = 600


@dataclass(frozen=True)
class EpilogueOperand:
    """C or an extra, as the epilogue sees it: its stride along n is "unit", "zero" or "any"."""

    dtype: DType
    stride: str
    written: bool


class Frame:
    """What all kernels share: the parameters, addresses of the operands, odometers over dimension lists."""

    def __init__(self, f: Function, operands: int, fields: Sequence[str]) -> None:
        self.f = f
        self.operands = operands
        self.bases = []
        for i in range(operands):
            base = f.load("%table", f.load("%params", 2 * i), "ptr")
            self.bases.append(f.at(base, f.load("%params", 2 * i + 1), "i8"))
        self.value = {name: f.load("%params", 2 * operands + i) for i, name in enumerate(fields)}
        self.tables = f.at("%params", 2 * operands + len(fields))

    def __getitem__(self, name: str) -> str:
        return self.value[name]

    def offsets(self, table: str, dims: str, position: str, start: list[str]) -> tuple[list[str], str]:
        """Slots with ``start`` moved to the flattened ``position`` over a dimension table; and its index array."""
        f, width = self.f, 1 + self.operands
        index = f.slot(f"[{MAX_DIMS} x i64]")
        slots = [f.slot("i64", value) for value in start]
        rest = f.slot("i64", position)
        dim = f.slot("i64", f.sub(dims, 1))
        with f.loop_while(dim, "sge", "0") as d:
            row = f.at(table, f.mul(d, width))
            extent, left = f.load(row), f.get(rest)
            here = f.rem(left, extent)
            f.set(rest, f.div(left, extent))
            f.set(f.at(index, d), here)
            for i, slot in enumerate(slots):
                f.set(slot, f.add(f.get(slot), f.mul(here, f.load(row, 1 + i))))
            f.set(dim, f.sub(d, 1))
        return slots, index

    def advance(self, table: str, dims: str, index: str, slots: list[str]) -> None:
        """Moves ``slots`` (as ``offsets`` made them) on by one position."""
        f, width = self.f, 1 + self.operands
        dim = f.slot("i64", f.sub(dims, 1))
        with f.loop_while(dim, "sge", "0") as d:
            row = f.at(table, f.mul(d, width))
            extent = f.load(row)
            place = f.at(index, d)
            here = f.add(f.get(place), 1)
            carry = f.compare("sge", here, extent)
            back = f.let(f"select i1 {carry}, i64 {extent}, i64 0")
            f.set(place, f.sub(here, back))
            for i, slot in enumerate(slots):
                stride = f.load(row, 1 + i)
                f.set(slot, f.add(f.get(slot), f.sub(stride, f.mul(stride, back))))
            f.set(dim, f.let(f"select i1 {carry}, i64 {f.sub(d, 1)}, i64 -1"))

    def row_tables(self, table: str, first: str, count: str, bases: list[str]) -> list[str]:
        """Tables on the stack with the address of each operand at rows ``first .. first + count - 1``."""
        f = self.f
        memory = f.slot(f"[{MAX_ROWS * self.operands} x i64]", align=64)
        start = f.slot(f"[{self.operands} x i64]")
        for i, base in enumerate(bases):
            f.set(f.at(start, i), base)
        function = f.let(f"inttoptr i64 {self['rows']} to ptr")
        f.do(f"call void {function}(ptr {memory}, ptr {table}, i64 {self['m_dims']}, i64 {self.operands}, i64 {first}, "
             f"i64 {count}, ptr {start})")  # fmt: skip
        return [f.at(memory, i * MAX_ROWS) for i in range(self.operands)]

    def address(self, i: int) -> str:
        return self.f.let(f"ptrtoint ptr {self.bases[i]} to i64")


@dataclass
class Part:
    """What the body of a kernel knows about its part, as names of IR values: the operands' addresses in this batch
    (``bases``), tables of their rows, the first row and the number of rows, the range of panels, the split."""

    frame: Frame
    runs: str
    bases: list[str]
    rows: list[str]
    first: str
    count: str
    panels: tuple[str, str]
    split: str


@dataclass(frozen=True)
class A:
    """A as the micro-kernel is to read it, as names of IR values: addresses of the part's rows, the runs of the reduction,
    bytes per step."""

    rows: str
    runs: str
    n_runs: str
    step: str


@dataclass(frozen=True)
class Driver:
    """A kernel of kind "direct", "partial" or "finish" for panels of ``vectors`` vectors.

    Operands: direct: A, B, C, extras; partial: A, B, scratch; finish: scratch, C, extras. ``stores`` are the epilogue's
    expressions over input(0) and the read extras. ``block``: "" where A is read in place; "turned" or "copied": it is, ``block_rows``
    rows at a time (``contract_block.py``).
    """

    kind: str
    accumulate: DType
    lanes: int
    vectors: int
    heights: tuple[int, ...]
    outputs: tuple[EpilogueOperand, ...] = ()
    stores: tuple[Expr, ...] = ()
    block: str = ""

    @property
    def key(self) -> str:
        outputs = ";".join(f"{o.dtype.name} {o.stride} {o.written}" for o in self.outputs)
        return (f"contract16 {self.kind} {self.accumulate.name} {self.lanes}x{self.vectors} "
                f"{self.heights} [{outputs}] {canonical(*self.stores)} {self.block}")  # fmt: skip

    @property
    def operands(self) -> int:
        return {"direct": 2, "partial": 3, "finish": 1}[self.kind] + len(self.outputs)

    @property
    def fields(self) -> list[str]:
        common = ["parts_m", "parts_n", "m", "n", "block_m", "block_n", "panels", "batch_dims", "m_dims", "vectors", "rows"]
        if self.kind != "finish":
            common += ["micro", "a_panel_bytes", "panel_bytes", "b_step", "step", "runs"]
        if self.kind == "partial":
            common += ["splits", "chunk", "split_chunks", "chunks"]
        if self.block:
            common += ["turn", "depth", "block_rows"]
        if self.kind != "direct":
            common += ["split_bytes", "scratch_panel_bytes"]
        if self.kind == "finish":
            common += ["splits"]
        return common + [f"n_stride{i}" for i in range(len(self.outputs))]

    @property
    def row_bytes(self) -> int:
        """Of one row of a tile."""
        return self.lanes * self.vectors * self.accumulate.itemsize

    def ir(self) -> str:
        module = Module()
        f = Function("void @contract(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        frame = Frame(f, self.operands, self.fields)
        width = 1 + self.operands
        batch_table = frame.tables
        m_table = f.at(batch_table, f.mul(frame["batch_dims"], width))
        runs = f.at(m_table, f.mul(frame["m_dims"], width))
        self._enter(f)
        with f.loop("%begin", "%end") as part:
            ni, rest = f.rem(part, frame["parts_n"]), f.div(part, frame["parts_n"])
            mi, rest = f.rem(rest, frame["parts_m"]), f.div(rest, frame["parts_m"])
            split = "0"
            if self.kind == "partial":
                split, rest = f.rem(rest, frame["splits"]), f.div(rest, frame["splits"])
            slots, _ = frame.offsets(batch_table, frame["batch_dims"], rest, [frame.address(i) for i in range(self.operands)])
            bases = [f.get(s) for s in slots]
            first = f.mul(mi, frame["block_m"])
            count = f.minimum(f.sub(frame["m"], first), frame["block_m"])
            rows = frame.row_tables(m_table, first, count, bases)
            panel0 = f.mul(ni, frame["block_n"])
            panel1 = f.minimum(f.add(panel0, frame["block_n"]), frame["panels"])
            body = {"direct": self._direct, "partial": self._partial, "finish": self._finish}[self.kind]
            body(f, Part(frame, runs, bases, rows, first, count, (panel0, panel1), split))
        self._leave(f)
        return f.finish() + module.text()

    def _enter(self, f: Function) -> None:
        """What a kernel does before its first part."""

    def _leave(self, f: Function) -> None:
        """What it does after its last."""

    # ------------------------------------------------------------------------------------------ the three bodies

    def _direct(self, f: Function, part: Part) -> None:
        frame, outputs = part.frame, part.rows[2:]
        tile = f.slot(f"[{self.heights[0] * self.row_bytes} x i8]", align=64)
        b_base = f.let(f"inttoptr i64 {part.bases[1]} to ptr")
        a = A(part.rows[0], part.runs, frame["runs"], frame["step"])
        depth = frame["depth"] if self.block else ""
        with self._blocks(f, frame, a, part.count, depth) as (first, count, a), f.loop(*part.panels) as panel:
            b = f.at(b_base, f.mul(panel, frame["panel_bytes"]), "i8")
            columns = self._columns(f, frame, panel)
            with self._tiles(f, count) as (here, height):
                t = f.add(first, here)
                self._prefetch(f, frame, outputs, t, height, panel)
                self._micro(f, frame, tile, a, here, height, b, columns, "0", panel)
                with f.loop(0, height) as r:
                    sums = f.at(tile, f.mul(r, self.row_bytes), "i8")
                    vector_of = partial(self._tile_vector, f, sums)
                    self._epilogue(f, frame, outputs, f.add(t, r), panel, columns, vector_of)

    def _prefetch(self, f: Function, frame: Frame, tables: list[str], first: str, height: str, panel: str) -> None:
        """Ask for the lines of the outputs that this tile will touch: they come into the second-level cache while the sums are
        made. Asked for to be written, or into the first level, they would hold up the sums instead."""
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        with f.loop(0, height) as r:
            for i, (table, operand) in enumerate(zip(tables, self.outputs, strict=True)):
                if operand.stride != "unit":
                    continue
                at = f.let(f"inttoptr i64 {f.load(table, f.add(first, r))} to ptr")
                start = f.at(at, f.mul(f.mul(panel, self.lanes * self.vectors), frame[f"n_stride{i}"]), "i8")
                for line in range(0, self.lanes * self.vectors * operand.dtype.itemsize, 64):
                    f.do(f"call void @llvm.prefetch.p0(ptr {f.at(start, line, 'i8')}, i32 0, i32 2, i32 1)")

    def _partial(self, f: Function, part: Part) -> None:
        """``chunks`` at the end of the parameters: for each (first run, one past the last, first position, positions)."""
        frame = part.frame
        b_base = f.let(f"inttoptr i64 {part.bases[1]} to ptr")
        own = f.let(f"inttoptr i64 {f.add(part.bases[2], f.mul(part.split, frame['split_bytes']))} to ptr")
        chunk0 = f.mul(part.split, frame["split_chunks"])
        chunk1 = f.minimum(f.add(chunk0, frame["split_chunks"]), frame["chunk"])
        table = f.at("%params", frame["chunks"])
        with f.loop(chunk0, chunk1) as chunk:
            line = f.at(table, f.mul(chunk, 4))
            run0, run1, position, length = (f.load(line, i) for i in range(4))
            a = A(part.rows[0], f.at(part.runs, f.mul(run0, 2)), f.sub(run1, run0), frame["step"])
            skipped = f.mul(position, frame["b_step"])
            again = f.let(f"zext i1 {f.compare('sgt', chunk, chunk0)} to i64")
            with self._blocks(f, frame, a, part.count, length) as (first, count, a), f.loop(*part.panels) as panel:
                b = f.at(b_base, f.add(f.mul(panel, frame["panel_bytes"]), skipped), "i8")
                columns = self._columns(f, frame, panel)
                target = f.at(own, f.mul(panel, frame["scratch_panel_bytes"]), "i8")
                start = f.add(part.first, first)
                with self._tiles(f, count) as (t, height):
                    tile = f.at(target, f.mul(f.add(start, t), self.row_bytes), "i8")
                    self._micro(f, frame, tile, a, t, height, b, columns, again, panel)

    def _finish(self, f: Function, part: Part) -> None:
        frame, outputs = part.frame, part.rows[1:]
        own = f.let(f"inttoptr i64 {part.bases[0]} to ptr")
        with f.loop(0, part.count) as r, f.loop(*part.panels) as panel:  # along the rows of the outputs, as they lie in memory
            columns = self._columns(f, frame, panel)
            source = f.at(own, f.mul(panel, frame["scratch_panel_bytes"]), "i8")
            sums = f.at(source, f.mul(f.add(part.first, r), self.row_bytes), "i8")
            self._epilogue(f, frame, outputs, r, panel, columns, partial(self._sum_of_splits, f, frame, sums))

    # ------------------------------------------------------------------------------------------ their pieces

    def _columns(self, f: Function, frame: Frame, panel: str) -> str:
        panel_width = self.lanes * self.vectors
        return f.minimum(f.sub(frame["n"], f.mul(panel, panel_width)), panel_width)

    @contextmanager
    def _tiles(self, f: Function, count: str) -> Iterator[tuple[str, str]]:
        """Tiles of the tallest height that fits, from the first row on."""
        row = f.slot("i64", "0")
        with f.loop_while(row, "slt", count) as t:
            left = f.sub(count, t)
            height = "1"
            for h in sorted(self.heights)[1:]:
                height = f.let(f"select i1 {f.compare('sge', left, h)}, i64 {h}, i64 {height}")
            yield t, height
            f.set(row, f.add(t, height))

    @contextmanager
    def _blocks(self, f: Function, frame: Frame, a: A, rows: str, depth: str) -> Iterator[tuple[str, str, A]]:
        """The part's rows of A, block by block: (first row, rows, how to read them). One block where A is read in place."""
        if not self.block:
            yield "0", rows, a
            return
        make = self._copy if self.block == "copied" else self._turn
        done = f.slot("i64", "0")
        with f.loop_while(done, "slt", rows) as first:
            count = f.minimum(f.sub(rows, first), frame["block_rows"])
            yield first, count, make(f, frame, a, first, count, depth)
            f.set(done, f.add(first, count))

    def _copy(self, f: Function, frame: Frame, a: A, first: str, count: str, depth: str) -> A:
        """A copy of some rows for ``depth`` positions of the reduction, an odd number of cache lines apart."""
        item = self.accumulate.itemsize
        block, rows, run = f.slot(f"[{BLOCK_BYTES} x i8]", align=LINE), f.slot(f"[{MAX_ROWS} x i64]"), f.slot("[2 x i64]")
        f.set(run, "0")
        f.set(f.at(run, 1), depth)
        lines = f.div(f.add(f.mul(depth, item), LINE - 1), LINE)
        pitch = f.mul(f.let(f"or i64 {lines}, 1"), LINE)
        copy = f.let(f"inttoptr i64 {frame['turn']} to ptr")
        f.do(f"call void {copy}(ptr {block}, ptr {f.at(a.rows, first)}, i64 {count}, ptr {a.runs}, i64 {a.n_runs}, i64 {a.step}, "
             f"i64 {pitch})")  # fmt: skip
        start = f.let(f"ptrtoint ptr {block} to i64")
        with f.loop(0, count) as r:
            f.set(f.at(rows, r), f.add(start, f.mul(r, pitch)))
        return A(rows, run, "1", str(item))

    def _turn(self, f: Function, frame: Frame, a: A, first: str, count: str, depth: str) -> A:
        """A copy of some rows for ``depth`` positions of the reduction: tile after tile, each as ``out[k][row]``."""
        item = self.accumulate.itemsize
        pitch = -(-self.heights[0] // self.lanes) * self.lanes * item
        block, rows, run = f.slot(f"[{BLOCK_BYTES} x i8]", align=64), f.slot(f"[{MAX_ROWS} x i64]"), f.slot("[2 x i64]")
        f.set(run, "0")
        f.set(f.at(run, 1), depth)
        turn = f.let(f"inttoptr i64 {frame['turn']} to ptr")
        tile_bytes = f.mul(depth, pitch)
        f.do(f"call void {turn}(ptr {block}, ptr {f.at(a.rows, first)}, i64 {count}, ptr {a.runs}, i64 {a.n_runs}, i64 {a.step}, "
             f"i64 {tile_bytes})")  # fmt: skip
        start = f.slot("i64", f.let(f"ptrtoint ptr {block} to i64"))
        with self._tiles(f, count) as (t, height):
            here = f.get(start)
            with f.loop(0, height) as r:
                f.set(f.at(rows, f.add(t, r)), f.add(here, f.mul(r, item)))
            f.set(start, f.add(here, tile_bytes))
        return A(rows, run, "1", str(pitch))

    def _micro(
        self, f: Function, frame: Frame, tile: str, a: A, first: str, height: str, b: str, columns: str, again: str, panel: str
    ) -> None:
        shift = f.mul(panel, frame["a_panel_bytes"])
        micro = f.let(f"inttoptr i64 {frame['micro']} to ptr")
        f.do(
            f"call void {micro}(ptr {tile}, ptr {f.at(a.rows, first)}, i64 {height}, ptr {a.runs}, i64 {a.n_runs}, i64 {a.step}, "
            f"ptr {b}, i64 {frame['b_step']}, i64 {columns}, i64 {again}, i64 {shift})"
        )

    def _tile_vector(self, f: Function, row: str, lane: str, lanes: int) -> str:
        at = f.at(row, f.mul(lane, self.accumulate.itemsize), "i8")
        return f.let(f"load {ir_type(self.accumulate, lanes)}, ptr {at}, align {self.accumulate.itemsize}")

    def _sum_of_splits(self, f: Function, frame: Frame, row: str, lane: str, lanes: int) -> str:
        vector = ir_type(self.accumulate, lanes)
        total = f.slot(vector, self._tile_vector(f, row, lane, lanes))
        with f.loop(1, frame["splits"]) as s:
            part = self._tile_vector(f, f.at(row, f.mul(s, frame["split_bytes"]), "i8"), lane, lanes)
            add = "fadd" if self.accumulate.kind == "f" else "add"
            f.set(total, f.let(f"{add} {vector} {f.get(total, vector)}, {part}"), vector)
        return f.get(total, vector)

    @property
    def at_once(self) -> int:
        """Columns that the epilogue works on together: two vectors, whose chains of operations then hide each other's latency,
        but one where it is large (a whole optimizer) and would run out of registers."""
        return self.lanes * (2 if self.vectors > 1 and len(canonical(*self.stores)) < SMALL else 1)

    def _epilogue(
        self, f: Function, frame: Frame, tables: list[str], row: str, panel: str, columns: str, vector_of: Callable[[str, int], str]
    ) -> None:
        """Reads the extras, evaluates the stores and writes them, for one row of one panel."""
        width, lanes = self.lanes * self.vectors, self.at_once
        start = []
        for i, table in enumerate(tables):
            at = f.let(f"inttoptr i64 {f.load(table, row)} to ptr")
            start.append(f.at(at, f.mul(f.mul(panel, width), frame[f"n_stride{i}"]), "i8"))
        with f.loop(0, f.mul(frame["vectors"], self.lanes), lanes) as lane:
            lanes_on = mask(f, f.sub(columns, lane), lanes)
            places = []
            for i, (at, operand) in enumerate(zip(start, self.outputs, strict=True)):
                if operand.stride == "unit":
                    places.append(f.at(at, f.mul(lane, operand.dtype.itemsize), "i8"))
                elif operand.stride == "zero":
                    places.append(at)
                else:
                    stride = frame[f"n_stride{i}"]
                    places.append(scattered(f, f.at(at, f.mul(lane, stride), "i8"), stride, 0, lanes))
            env: dict[object, V] = {0: V(f, vector_of(lane, lanes), vecmath.register_type(self.accumulate), lanes)}
            for place, operand in zip(places, self.outputs, strict=True):
                if not operand.written:
                    env[len(env)] = vecmath.load_form(read(f, place, operand, lanes, lanes_on), operand.dtype)
            written = [(p, o) for p, o in zip(places, self.outputs, strict=True) if o.written]
            memo: dict[Expr, V] = {}
            for (place, operand), expr in zip(written, self.stores, strict=True):
                value = vecmath.store_form(vecmath.emit(f, expr, env, lanes, memo), operand.dtype)
                write(f, place, operand, lanes, lanes_on, value.name)


def scattered(f: Function, pointer: str, stride: str, first: int, lanes: int) -> str:
    """A vector of addresses ``pointer + (first + lane) * stride``."""
    numbers = ", ".join(f"i64 {first + i}" for i in range(lanes))
    steps = f.let(f"mul <{lanes} x i64> {splat(f, stride, 'i64', lanes)}, <{numbers}>")
    return f.let(f"getelementptr i8, ptr {pointer}, <{lanes} x i64> {steps}")


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
