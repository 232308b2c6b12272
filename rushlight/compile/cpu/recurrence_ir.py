"""The kernels of recurrent loops, as LLVM IR text: all times of a layer in one call.

A part is a block of sequences, which need nothing of each other: no thread waits for another until the last time is done.
At each time a block multiplies its states with the packed recurrent weights, panel by panel, by the micro-kernel of all
contractions, and applies the formulas of the cell (``compile/recurrence.py``) to the sums while they are in the cache.

Parameters: (table index, byte offset) of each of ``operands``, then ``FIELDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rushlight.compile.cpu import vecmath
from rushlight.compile.cpu.contract_ir import EpilogueOperand, write
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import mask, masked_load
from rushlight.compile.cpu.values import V
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, canonical, inputs_of
from rushlight.compile.recurrence import CELLS, Formulas, backward_formulas, forward_formulas

__all__ = ["FIELDS", "MAX_ROWS", "Backward", "Forward"]

MAX_ROWS = 32  # of a part: their sums are on the stack

#: steps, batch, hidden, size, gates: T, B, H, P, G H. block: sequences of a part. first, step: the first time and from one to
#: the next. shift: of the state before time t among all states (the one after it is t + 1 - shift). c_times: states that c
#: has room for (1: only the running one). micro: the micro-kernel. w_gate, w_panel, p_panel: bytes of a packed gate, of a panel of it, of
#: a panel of the projection. products: times after which the weights are multiplied by.
FIELDS = ("steps", "batch", "hidden", "size", "gates", "block", "first", "step", "shift", "c_times", "micro", "w_gate", "w_panel",
          "p_panel", "products")  # fmt: skip


@dataclass(frozen=True)
class _Kernel:
    """``operands``: their names; what is not among them is neither read nor written."""

    cell: str
    dtype: DType
    lanes: int
    heights: tuple[int, ...]
    operands: tuple[str, ...]

    VERSION = 2

    @property
    def formulas(self) -> Formulas:
        raise NotImplementedError

    def body(self, w: _Writer) -> None:
        raise NotImplementedError

    @property
    def key(self) -> str:
        outputs = self.formulas.outputs
        return (f"{type(self).__name__.lower()} loop {self.VERSION} {self.cell} {self.dtype.name} {self.lanes} {self.heights} "
                f"{' '.join(self.operands)} {' '.join(outputs)} {canonical(*outputs.values())}")  # fmt: skip

    def ir(self) -> str:
        module = Module()
        f = Function("void @loop(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        w = _Writer(self, f)
        with f.loop("%begin", "%end") as part:
            w.enter(part)
            self.body(w)
        return f.finish() + module.text()


class _Writer:
    """What both directions share: parameters, addresses, products, formulas. ``rows`` of a part begin at ``row0``."""

    def __init__(self, kernel: _Kernel, f: Function) -> None:
        self.kernel, self.f = kernel, f
        self.item, self.lanes = kernel.dtype.itemsize, kernel.lanes
        self.panel = 2 * kernel.lanes
        self.base = {name: f.at(f.load("%table", f.load("%params", 2 * i), "ptr"), f.load("%params", 2 * i + 1), "i8")
                     for i, name in enumerate(kernel.operands)}  # fmt: skip
        self.value = {name: f.load("%params", 2 * len(kernel.operands) + i) for i, name in enumerate(FIELDS)}
        self.cell = CELLS[kernel.cell]
        self.tiles = f.slot(f"[{self.cell.gates * MAX_ROWS * self.panel * self.item} x i8]", align=64)
        self.runs = f.slot("[2 x i64]")

    def __getitem__(self, name: str) -> str:
        return self.value[name]

    def has(self, name: str) -> bool:
        return name in self.base

    def enter(self, part: str) -> None:
        f = self.f
        self.part = part
        self.row0 = f.mul(part, self["block"])
        self.rows = f.minimum(f.sub(self["batch"], self.row0), self["block"])

    # -- addresses -----------------------------------------------------------------------------------------------------
    def at(self, name: str, width: str, row: str, time: str | None = None) -> str:
        """Row ``row`` of the part (at a time), in an operand whose rows have ``width`` elements."""
        f = self.f
        row = f.add(self.row0, row)
        if time is not None:
            row = f.add(f.mul(time, self["batch"]), row)
        return f.at(self.base[name], f.mul(row, f.mul(width, self.item)), "i8")

    def table(self, name: str, width: str, own: bool = False) -> str:
        """A table of the addresses of the part's rows (at time 0); ``own``: the part has a block of ``name`` to itself."""
        f = self.f
        table = f.slot(f"[{MAX_ROWS} x i64]")
        with f.loop(0, self.rows) as r:
            f.set(f.at(table, r), f.let(f"ptrtoint ptr {self.own(name, width, r) if own else self.at(name, width, r)} to i64"))
        return table

    def own(self, name: str, width: str, row: str) -> str:
        f = self.f
        row = f.add(f.mul(self.part, self["block"]), row)
        return f.at(self.base[name], f.mul(row, f.mul(width, self.item)), "i8")

    # -- loops ---------------------------------------------------------------------------------------------------------
    @contextmanager
    def times(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Each time: its place in the order of the loop, it, the numbers of the states before and after, and how many of the
        part's sequences run."""
        f = self.f
        with f.loop(0, self["steps"]) as s:
            t = f.add(self["first"], f.mul(s, self["step"]))
            old = f.add(t, self["shift"])
            new = f.sub(f.add(t, 1), self["shift"])
            running = self.rows
            if self.has("batch_sizes"):
                left = f.sub(f.load(self.base["batch_sizes"], t), self.row0)
                running = f.minimum(left, self.rows)
                running = f.let(f"select i1 {f.compare('sgt', running, 0)}, i64 {running}, i64 0")
            yield s, t, old, new, running

    @contextmanager
    def vectors(self, count: str) -> Iterator[tuple[str, str]]:
        """The vectors of a row: (byte offset, which lanes are inside)."""
        f = self.f
        with f.loop(0, count, self.lanes) as lane:
            yield f.mul(lane, self.item), mask(f, f.sub(count, lane), self.lanes)

    # -- values --------------------------------------------------------------------------------------------------------
    def load(self, pointer: str, lanes_on: str) -> V:
        name = masked_load(self.f, pointer, self.kernel.dtype, self.lanes, lanes_on)
        return V(self.f, name, vecmath.register_type(self.kernel.dtype), self.lanes)

    def store(self, pointer: str, value: V, lanes_on: str) -> None:
        write(self.f, pointer, EpilogueOperand(self.kernel.dtype, "unit", True), self.lanes, lanes_on, value.name)

    def copy(self, source: str, target: str, count: str) -> None:
        with self.vectors(count) as (at, on):
            self.store(self.f.at(target, at, "i8"), self.load(self.f.at(source, at, "i8"), on), on)

    def clear(self, target: str, count: str) -> None:
        zero = V(self.f, "zeroinitializer", vecmath.register_type(self.kernel.dtype), self.lanes)
        with self.vectors(count) as (at, on):
            self.store(self.f.at(target, at, "i8"), zero, on)

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
    def panels(self, count: str) -> Iterator[Panel]:
        """The panels of ``count`` columns."""
        f = self.f
        with f.loop(0, count, self.panel) as column:
            yield Panel(f.div(column, self.panel), column, f.minimum(f.sub(count, column), self.panel), self.panel * self.item)

    def multiply(self, panel: Panel, rows: str, count: str, offset: str, depth: str, b: str, gate: int = 0) -> str:
        """The sums of ``count`` rows (``depth`` numbers, ``offset`` bytes from the addresses in ``rows``) with the packed panel
        ``b``; returns where they are."""
        f = self.f
        tile = f.at(self.tiles, gate * MAX_ROWS * self.panel * self.item, "i8")
        micro = f.let(f"inttoptr i64 {self['micro']} to ptr")
        f.set(self.runs, offset)
        f.set(f.at(self.runs, 1), depth)
        row = f.slot("i64", "0")
        with f.loop_while(row, "slt", count) as r:
            left = f.sub(count, r)
            height = "1"
            for h in sorted(self.kernel.heights)[1:]:
                height = f.let(f"select i1 {f.compare('sge', left, h)}, i64 {h}, i64 {height}")
            f.do(f"call void {micro}(ptr {f.at(tile, f.mul(r, panel.row_bytes), 'i8')}, ptr {f.at(rows, r)}, i64 {height}, "
                 f"ptr {self.runs}, i64 1, i64 {self.item}, ptr {b}, i64 {self.panel * self.item}, i64 {panel.columns}, i64 0, "
                 "i64 0)")  # fmt: skip
            f.set(row, f.add(r, height))
        return tile


@dataclass
class Panel:
    """Columns ``column .. column + columns - 1``; ``row_bytes``: of the sums."""

    number: str
    column: str
    columns: str
    row_bytes: int


class Forward(_Kernel):
    """Operands: x, w (packed, gate by gate), bias, h0, c0, projection (packed), batch_sizes, h, c, saved, last_c, m (what is projected: a
    block for each part)."""

    @property
    def formulas(self) -> Formulas:
        return forward_formulas(self.cell, self.dtype)

    def body(self, w: _Writer) -> None:
        f = w.f
        hidden, size = w["hidden"], w["size"]
        projected = w.has("projection")
        before = f.add(w["first"], w["shift"])  # the number of the first state
        with f.loop(0, w.rows) as r:
            w.copy(w.at("h0", size, r), w.at("h", size, r, before), size)
            if w.has("c0"):
                w.copy(w.at("c0", hidden, r), w.at("c", hidden, r, self._c(w, before)), hidden)
        states = w.table("h", size)
        middle = w.table("m", hidden, own=True) if projected else ""
        with w.times() as (_, t, old, new, running):
            offset = f.mul(f.mul(old, w["batch"]), f.mul(size, w.item))
            with w.panels(hidden) as panel:
                sums = []
                for g in range(w.cell.gates):
                    b = f.at(w.base["w"], f.add(f.mul(w["w_gate"], g), f.mul(panel.number, w["w_panel"])), "i8")
                    sums.append(w.multiply(panel, states, running, offset, size, b, g))
                with f.loop(0, running) as r:
                    self._units(w, panel, sums, r, t, old, new)
            if projected:
                with w.panels(size) as panel:
                    b = f.at(w.base["projection"], f.mul(panel.number, w["p_panel"]), "i8")
                    tile = w.multiply(panel, middle, running, "0", hidden, b)
                    with f.loop(0, running) as r:
                        target = f.at(w.at("h", size, r, new), f.mul(panel.column, w.item), "i8")
                        w.copy(f.at(tile, f.mul(r, panel.row_bytes), "i8"), target, panel.columns)
            if w.has("batch_sizes"):
                with f.loop(running, w.rows) as r:
                    w.copy(w.at("h", size, r, old), w.at("h", size, r, new), size)
                    if w.has("c0"):
                        w.copy(w.at("c", hidden, r, self._c(w, old)), w.at("c", hidden, r, self._c(w, new)), hidden)
                    if w.has("saved"):
                        width = f.mul(hidden, w.cell.saved)
                        w.clear(w.at("saved", width, r, t), width)
        if w.has("last_c"):
            last = f.sub(f.add(w["first"], f.mul(f.sub(w["steps"], 1), w["step"])), f.sub(w["shift"], 1))
            with f.loop(0, w.rows) as r:
                w.copy(w.at("c", hidden, r, self._c(w, last)), w.at("last_c", hidden, r), hidden)

    def _c(self, w: _Writer, number: str) -> str:
        """The place of a cell state: number ``number``, or the only one that there is room for."""
        f = w.f
        return f.let(f"select i1 {f.compare('eq', w['c_times'], 1)}, i64 0, i64 {number}")

    def _units(self, w: _Writer, panel: Panel, sums: list[str], r: str, t: str, old: str, new: str) -> None:
        """The formulas for one sequence and the hidden units of a panel."""
        f = w.f
        hidden, size = w["hidden"], w["size"]
        start = f.mul(panel.column, w.item)
        gate_bytes = f.mul(hidden, w.item)

        def row(pointer: str, gate: int = 0) -> str:
            return f.at(pointer, f.add(start, f.mul(gate_bytes, gate)) if gate else start, "i8")

        x = w.at("x", w["gates"], r, t)
        places = {f"x{g}": row(x, g) for g in range(w.cell.gates)}
        places |= {f"z{g}": f.at(tile, f.mul(r, panel.row_bytes), "i8") for g, tile in enumerate(sums)}
        bias = {f"z{g}": row(w.base["bias"], g) for g in range(w.cell.gates)} if w.has("bias") else {}
        if not w.has("projection"):
            places["h_old"] = row(w.at("h", size, r, old))
        targets = {"h": row(w.own("m", hidden, r) if w.has("projection") else w.at("h", size, r, new))}
        if w.has("c0"):
            places["c_old"] = row(w.at("c", hidden, r, self._c(w, old)))
            targets["c"] = row(w.at("c", hidden, r, self._c(w, new)))
        if w.has("saved"):
            saved = w.at("saved", f.mul(hidden, w.cell.saved), r, t)
            targets |= {f"s{k}": row(saved, k) for k in range(w.cell.saved)}
        with w.vectors(panel.columns) as (at, on):
            def load(name: str) -> V:
                value = w.load(f.at(places[name], at, "i8"), on)
                return value + w.load(f.at(bias[name], at, "i8"), on) if name in bias else value

            def keep(name: str) -> Callable[[V], None]:
                return lambda value: w.store(f.at(targets[name], at, "i8"), value, on)

            w.formulas(load, {name: keep(name) for name in targets})


class Backward(_Kernel):
    """Operands: dout, dh, dc, w (packed), projection (packed), h, c, saved, batch_sizes; dx, dz, dh0, dc0 (also the running
    gradients), dh_all (of all outputs), m (a block for each part: the gradient behind the projection)."""

    @property
    def formulas(self) -> Formulas:
        return backward_formulas(self.cell, self.dtype)

    def body(self, w: _Writer) -> None:
        f = w.f
        hidden, size = w["hidden"], w["size"]
        projected = w.has("projection")
        with f.loop(0, w.rows) as r:
            w.copy(w.at("dh", size, r), w.at("dh0", size, r), size)
            if w.has("dc"):
                w.copy(w.at("dc", hidden, r), w.at("dc0", hidden, r), hidden)
        running_h = w.table("dh0", size) if projected else ""
        gates = w.table("dx" if w.cell.same else "dz", w["gates"])
        with w.times() as (s, t, old, new, running):
            if w.has("dout"):
                with f.loop("0" if projected else running, w.rows) as r:
                    into = w.at("dh0", size, r)
                    with w.vectors(size) as (at, on):
                        here = f.at(into, at, "i8")
                        w.store(here, w.load(here, on) + w.load(f.at(w.at("dout", size, r, t), at, "i8"), on), on)
            if projected:
                with w.panels(hidden) as panel:
                    b = f.at(w.base["projection"], f.mul(panel.number, w["p_panel"]), "i8")
                    tile = w.multiply(panel, running_h, running, "0", size, b)
                    with f.loop(0, running) as r:
                        target = f.at(w.own("m", hidden, r), f.mul(panel.column, w.item), "i8")
                        w.copy(f.at(tile, f.mul(r, panel.row_bytes), "i8"), target, panel.columns)
            if w.has("dh_all"):
                with f.loop(0, running) as r:
                    w.copy(w.at("dh0", size, r), w.at("dh_all", size, r, t), size)
            with f.loop(0, running) as r:
                self._units(w, r, t, old, new)
            if w.has("batch_sizes"):
                with f.loop(running, w.rows) as r:
                    for name in ("dx", "dz") if not w.cell.same else ("dx",):
                        w.clear(w.at(name, w["gates"], r, t), w["gates"])
                    if w.has("dh_all"):
                        w.clear(w.at("dh_all", size, r, t), size)
            with f.when(f.compare("slt", s, w["products"])):
                self._through_weights(w, gates, running, t)

    def _through_weights(self, w: _Writer, gates: str, running: str, t: str) -> None:
        """The gradient of the state before: that of the gates times the weights."""
        f = w.f
        size = w["size"]
        offset = f.mul(f.mul(t, w["batch"]), f.mul(w["gates"], w.item))
        with w.panels(size) as panel:
            b = f.at(w.base["w"], f.mul(panel.number, w["w_panel"]), "i8")
            tile = w.multiply(panel, gates, running, offset, w["gates"], b)
            with f.loop(0, running) as r:
                target = f.at(w.at("dh0", size, r), f.mul(panel.column, w.item), "i8")
                source = f.at(tile, f.mul(r, panel.row_bytes), "i8")
                with w.vectors(panel.columns) as (at, on):
                    here, value = f.at(target, at, "i8"), w.load(f.at(source, at, "i8"), on)
                    w.store(here, w.load(here, on) + value if "dh_old" in self.formulas.outputs else value, on)

    def _units(self, w: _Writer, r: str, t: str, old: str, new: str) -> None:
        """The formulas for one sequence."""
        f = w.f
        hidden, size = w["hidden"], w["size"]
        gate_bytes = f.mul(hidden, w.item)
        running_h = w.at("dh0", size, r)
        places = {"dh": w.own("m", hidden, r) if w.has("projection") else running_h}
        targets = {"dh_old": running_h}
        for name, width, count in (("saved", f.mul(hidden, w.cell.saved), w.cell.saved),):
            if w.has(name):
                start = w.at(name, width, r, t)
                places |= {f"s{k}": f.at(start, f.mul(gate_bytes, k), "i8") for k in range(count)}
        for name, width in (("h", size), ("c", hidden)):
            if w.has(name):
                places |= {name: w.at(name, width, r, new), name + "_old": w.at(name, width, r, old)}
        if w.has("dc"):
            places["dc"] = targets["dc_old"] = w.at("dc0", hidden, r)
        for name in ("dx", "dz") if not w.cell.same else ("dx",):
            start = w.at(name, w["gates"], r, t)
            targets |= {f"{name}{k}": f.at(start, f.mul(gate_bytes, k), "i8") for k in range(w.cell.gates)}
        driven = w.at("dout", size, r, t) if w.has("dout") and not w.has("projection") else ""
        with w.vectors(hidden) as (at, on):
            def load(name: str) -> V:
                value = w.load(f.at(places[name], at, "i8"), on)
                return value + w.load(f.at(driven, at, "i8"), on) if name == "dh" and driven else value

            def keep(name: str) -> Callable[[V], None]:
                return lambda value: w.store(f.at(targets[name], at, "i8"), value, on)

            w.formulas(load, {name: keep(name) for name in targets})
