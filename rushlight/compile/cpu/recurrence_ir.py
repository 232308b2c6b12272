"""What the kernels of recurrent loops are made of (``recurrence_loops.py``), as LLVM IR text.

All times of a layer are one instruction. At each time the states are multiplied with the packed recurrent weights, panel by panel,
by the micro-kernel of all contractions, and the formulas of the cell (``compile/recurrence.py``) are applied to the sums while
they are in the cache. Going forward the gates of some hidden units have a panel each, or lie side by side in one (``beside``): a tile is
then as wide as few rows need to be multiplied at full speed. The work is cut in one of two ways:

* by sequences, which need nothing of each other: a part is a block of them, and no thread waits for another until the last time
  is done. Each thread reads all weights at each time.
* ``by_columns``: few sequences with large weights. A part is a group of columns (hidden units) at one time, the parts of one time
  are a wave of the executor: the next begins when all states of this one are there. Each thread reads its columns of the weights.

Parameters: (table index, byte offset) of each of ``operands``, then ``FIELDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from rushlight.compile.cpu import vecmath
from rushlight.compile.cpu.contract_epilogue import EpilogueOperand, write
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import mask, masked_load
from rushlight.compile.cpu.values import V
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, canonical, inputs_of
from rushlight.compile.recurrence import CELLS, Formulas

__all__ = ["FIELDS", "MAX_ROWS", "Kernel", "Panel", "Shape", "Time", "Writer"]

MAX_ROWS = 32  # of a part: their sums are on the stack

#: steps, batch, hidden, size, gates: T, B, H, P, G H. block: sequences of a part. first, step: the first time and from one to
#: the next. shift: of the state before time t among all states (the one after it is t + 1 - shift). c_times: states that c
#: has room for (1: only the running one). micro: the micro-kernel. w_gate, w_panel, p_panel: bytes of a packed gate, of a panel of weights,
#: of a panel of the projection. products: times after which the weights are multiplied by. groups, columns: of a time, where the work is
#: cut by columns, and columns of a group.
FIELDS = ("steps", "batch", "hidden", "size", "gates", "block", "first", "step", "shift", "c_times", "micro", "w_gate", "w_panel",
          "p_panel", "products", "groups", "columns")  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Of the tiles that sums are computed in: ``heights``, of ``vectors`` of ``lanes``. ``beside``: vectors of all gates are in one."""

    lanes: int
    vectors: int
    heights: tuple[int, ...]
    beside: bool


@dataclass(frozen=True)
class Kernel:
    """``operands``: their names; what is not among them is neither read nor written."""

    cell: str
    dtype: DType
    shape: Shape
    operands: tuple[str, ...]
    by_columns: bool

    VERSION = 6

    @property
    def formulas(self) -> Formulas:
        raise NotImplementedError

    def block(self, w: Writer) -> None:
        """All times of a block of sequences."""
        raise NotImplementedError

    def wave(self, w: Writer, number: str) -> None:
        """A group of columns: wave ``number`` of one more than there are times."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        outputs = self.formulas.outputs
        return (f"{type(self).__name__.lower()} loop {self.VERSION} {self.cell} {self.dtype.name} {self.shape} "
                f"{self.by_columns} {' '.join(self.operands)} {' '.join(outputs)} {canonical(*outputs.values())}")  # fmt: skip

    def ir(self) -> str:
        module = Module()
        f = Function("void @loop(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        w = Writer(self, f)
        with f.loop("%begin", "%end") as part:
            if self.by_columns:
                w.enter_columns(f.rem(part, w["groups"]))
                self.wave(w, f.div(part, w["groups"]))
            else:
                w.enter_rows(part)
                self.block(w)
        return f.finish() + module.text()


@dataclass
class Time:
    """A time: it (``t``), the numbers of the states before and after, and how many of the part's sequences run."""

    t: str
    old: str
    new: str
    running: str


class Writer:
    """What both directions share: parameters, addresses, products, formulas. ``rows`` of a part begin at ``row0``."""

    def __init__(self, kernel: Kernel, f: Function) -> None:
        self.kernel, self.f = kernel, f
        self.item, self.lanes = kernel.dtype.itemsize, kernel.shape.lanes
        self.panel = kernel.shape.vectors * self.lanes
        self.row_bytes = self.panel * self.item  # of a tile
        self.base = {name: f.at(f.load("%table", f.load("%params", 2 * i), "ptr"), f.load("%params", 2 * i + 1), "i8")
                     for i, name in enumerate(kernel.operands)}  # fmt: skip
        self.value = {name: f.load("%params", 2 * len(kernel.operands) + i) for i, name in enumerate(FIELDS)}
        self.cell = CELLS[kernel.cell]
        tiles = 1 if kernel.shape.beside else self.cell.gates
        self.tiles = f.slot(f"[{tiles * MAX_ROWS * self.row_bytes} x i8]", align=64)
        self.runs = f.slot("[2 x i64]")

    def __getitem__(self, name: str) -> str:
        return self.value[name]

    def has(self, name: str) -> bool:
        return name in self.base

    def enter_rows(self, part: str) -> None:
        """The part is a block of sequences."""
        f = self.f
        self.part = part
        self.row0 = f.mul(part, self["block"])
        self.rows = f.minimum(f.sub(self["batch"], self.row0), self["block"])

    def enter_columns(self, group: str) -> None:
        """The part has all sequences and a group of columns."""
        f = self.f
        self.part, self.row0, self.rows = "0", "0", self["batch"]
        self.column0 = f.mul(group, self["columns"])
        self.column1 = f.minimum(f.add(self.column0, self["columns"]), self["hidden"])

    def span(self, count: str) -> tuple[str, str]:
        """(first, end) of the part's columns of rows of ``count``, which are as many as the hidden units where there are groups."""
        return (self.column0, self.column1) if self.kernel.by_columns else ("0", count)

    # -- addresses -----------------------------------------------------------------------------------------------------
    def at(self, name: str, width: str, row: str, time: str | None = None) -> str:
        """Row ``row`` of the part (at a time), in an operand whose rows have ``width`` elements."""
        f = self.f
        row = f.add(self.row0, row)
        if time is not None:
            row = f.add(f.mul(time, self["batch"]), row)
        return f.at(self.base[name], f.mul(row, f.mul(width, self.item)), "i8")

    def table(self, name: str, width: str, scratch: bool = False) -> str:
        """A table of the addresses of the part's rows (at time 0); ``scratch``: the part has a block of ``name`` to itself."""
        f = self.f
        table = f.slot(f"[{MAX_ROWS} x i64]")
        with f.loop(0, self.rows) as r:
            f.set(f.at(table, r), f.let(f"ptrtoint ptr {self.scratch(name, width, r) if scratch else self.at(name, width, r)} to i64"))
        return table

    def scratch(self, name: str, width: str, row: str) -> str:
        f = self.f
        row = f.add(f.mul(self.part, self["block"]), row)
        return f.at(self.base[name], f.mul(row, f.mul(width, self.item)), "i8")

    # -- loops ---------------------------------------------------------------------------------------------------------
    def time(self, s: str) -> Time:
        """The s-th time, in the order of the loop."""
        f = self.f
        t = f.add(self["first"], f.mul(s, self["step"]))
        running = self.rows
        if self.has("batch_sizes"):
            left = f.sub(f.load(self.base["batch_sizes"], t), self.row0)
            running = f.minimum(left, self.rows)
            running = f.let(f"select i1 {f.compare('sgt', running, 0)}, i64 {running}, i64 0")
        return Time(t, f.add(t, self["shift"]), f.sub(f.add(t, 1), self["shift"]), running)

    @contextmanager
    def vectors(self, end: str, first: str = "0") -> Iterator[tuple[str, str]]:
        """The vectors of some columns of a row: (byte offset, which lanes are inside)."""
        f = self.f
        with f.loop(first, end, self.lanes) as lane:
            yield f.mul(lane, self.item), mask(f, f.sub(end, lane), self.lanes)

    def own(self, count: str) -> AbstractContextManager[tuple[str, str]]:
        """The vectors of the part's columns of a row of ``count``."""
        first, end = self.span(count)
        return self.vectors(end, first)

    def ask(self, pointer: str, nbytes: int) -> None:
        """Ask for memory that will be read while something else is computed: other threads have written it."""
        self.f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for line in range(0, nbytes, 64):
            self.f.do(f"call void @llvm.prefetch.p0(ptr {self.f.at(pointer, line, 'i8')}, i32 0, i32 2, i32 1)")

    def ask_rows(self, name: str, width: str, time: str, count: str) -> None:
        """The same for whole rows of an operand."""
        f = self.f
        with f.loop(0, count) as r:
            row = self.at(name, width, r, time)
            with f.loop(0, f.mul(width, self.item), 64) as at:
                self.ask(f.at(row, at, "i8"), 64)

    # -- values --------------------------------------------------------------------------------------------------------
    def load(self, pointer: str, lanes_on: str) -> V:
        name = masked_load(self.f, pointer, self.kernel.dtype, self.lanes, lanes_on)
        return V(self.f, name, vecmath.register_type(self.kernel.dtype), self.lanes)

    def store(self, pointer: str, value: V, lanes_on: str) -> None:
        write(self.f, pointer, EpilogueOperand(self.kernel.dtype, "unit", True), self.lanes, lanes_on, value.name)

    def copy(self, source: str, target: str, vectors: AbstractContextManager[tuple[str, str]]) -> None:
        with vectors as (at, on):
            self.store(self.f.at(target, at, "i8"), self.load(self.f.at(source, at, "i8"), on), on)

    def clear(self, target: str, count: str, times: int = 1) -> None:
        """The part's columns of ``times`` rows of ``count`` that lie side by side."""
        f = self.f
        zero = V(f, "zeroinitializer", vecmath.register_type(self.kernel.dtype), self.lanes)
        for k in range(times):
            row = f.at(target, f.mul(count, k * self.item), "i8")
            with self.own(count) as (at, on):
                self.store(f.at(row, at, "i8"), zero, on)

    def formulas(self, load: Callable[[str], V], store: Mapping[str, Callable[[V], None]]) -> None:
        """Evaluate the cell's formulas: ``load`` gives an input by name, ``store`` takes the outputs that are wanted."""
        formulas = self.kernel.formulas
        wanted = {name: formulas.outputs[name] for name in store if name in formulas.outputs}
        env: dict[object, V] = {k: load(formulas.inputs[k]) for k in sorted(inputs_of(*wanted.values()))}
        memo: dict[Expr, V] = {}
        for name, expr in wanted.items():
            store[name](vecmath.emit(self.f, expr, env, self.lanes, memo))

    # -- products ------------------------------------------------------------------------------------------------------
    @contextmanager
    def panels(self, count: str, width: int = 0) -> Iterator[Panel]:
        """The panels of the part's columns of ``count``; ``width``: columns of a panel, where it has others besides."""
        f = self.f
        width = width or self.panel
        first, end = self.span(count)
        with f.loop(first, end, width) as column:
            yield Panel(f.div(column, width), column, f.minimum(f.sub(end, column), width), width * self.item)

    @contextmanager
    def units(self) -> Iterator[Panel]:
        """The panels of the part's hidden units, for the product with all gates."""
        with self.panels(self["hidden"], self.panel // self.cell.gates if self.kernel.shape.beside else self.panel) as panel:
            yield panel

    def gates(self, panel: Panel, rows: str, count: str, offset: str, depth: str) -> list[str]:
        """The sums of each gate for the units of a panel; as ``multiply``."""
        f = self.f
        b = f.at(self.base["w"], f.mul(panel.number, self["w_panel"]), "i8")
        if self.kernel.shape.beside:
            tile = self.multiply(str(self.panel), rows, count, offset, depth, b)
            return [f.at(tile, g * panel.nbytes, "i8") for g in range(self.cell.gates)]
        return [self.multiply(panel.columns, rows, count, offset, depth, f.at(b, f.mul(self["w_gate"], g), "i8"), g)
                for g in range(self.cell.gates)]  # fmt: skip

    def multiply(self, columns: str, rows: str, count: str, offset: str, depth: str, b: str, place: int = 0) -> str:
        """The sums of ``count`` rows (``depth`` numbers, ``offset`` bytes from the addresses in ``rows``) with ``columns`` of the packed
        panel ``b``; returns where they are, ``row_bytes`` from row to row: at a place of their own for each ``place``."""
        f = self.f
        tile = f.at(self.tiles, place * MAX_ROWS * self.row_bytes, "i8")
        micro = f.let(f"inttoptr i64 {self['micro']} to ptr")
        f.set(self.runs, offset)
        f.set(f.at(self.runs, 1), depth)
        row = f.slot("i64", "0")
        with f.loop_while(row, "slt", count) as r:
            height = self._height(f.sub(count, r))
            f.do(f"call void {micro}(ptr {f.at(tile, f.mul(r, self.row_bytes), 'i8')}, ptr {f.at(rows, r)}, i64 {height}, "
                 f"ptr {self.runs}, i64 1, i64 {self.item}, ptr {b}, i64 {self.row_bytes}, i64 {columns}, i64 0, "
                 "i64 0)")  # fmt: skip
            f.set(row, f.add(r, height))
        return tile

    def _height(self, left: str) -> str:
        """Of the next tile: the tallest, or where there is code for every height the first of equal ones, as far as possible."""
        f, heights = self.f, self.kernel.shape.heights
        most = heights[0]
        if heights == tuple(range(most, 0, -1)):
            tiles = f.div(f.add(left, most - 1), most)
            return f.div(f.add(left, f.sub(tiles, 1)), tiles)
        height = "1"
        for h in sorted(heights)[1:]:
            height = f.let(f"select i1 {f.compare('sge', left, h)}, i64 {h}, i64 {height}")
        return height


@dataclass
class Panel:
    """Columns ``column .. column + columns - 1``; ``nbytes``: of a full one, in a row of an operand."""

    number: str
    column: str
    columns: str
    nbytes: int
