"""The kernels of recurrent loops: forward, and back through all times (their pieces are in ``recurrence_ir.py``)."""

from __future__ import annotations

from collections.abc import Callable

from rushlight.compile.cpu.recurrence_ir import Kernel, Panel, Time, Writer
from rushlight.compile.cpu.values import V
from rushlight.compile.recurrence import Formulas, backward_formulas, forward_formulas

__all__ = ["Backward", "Forward"]


class Forward(Kernel):
    """Operands: x, w (packed, gate by gate), bias, h0, c0, projection (packed), batch_sizes, h, c, saved, last_c, m (what is projected: a
    block for each part)."""

    @property
    def formulas(self) -> Formulas:
        return forward_formulas(self.cell, self.dtype)

    def block(self, w: Writer) -> None:
        self._begin(w)
        states = w.table("h", w["size"])
        middle = w.table("m", w["hidden"], scratch=True) if w.has("projection") else ""
        with w.f.loop(0, w["steps"]) as s:
            self._step(w, w.time(s), states, middle)
        self._end(w)

    def wave(self, w: Writer, number: str) -> None:
        f = w.f
        states = w.table("h", w["size"])
        with f.when(f.compare("eq", number, 0)):
            self._begin(w)
        with f.when(f.compare("sgt", number, 0)):
            time = w.time(f.sub(number, 1))
            w.ask_rows("h", w["size"], time.old, time.running)
            self._step(w, time, states, "")
        with f.when(f.compare("eq", number, w["steps"])):
            self._end(w)

    def _begin(self, w: Writer) -> None:
        """The first states."""
        hidden, size = w["hidden"], w["size"]
        before = w.f.add(w["first"], w["shift"])  # the number of the first state
        with w.f.loop(0, w.rows) as r:
            w.copy(w.at("h0", size, r), w.at("h", size, r, before), w.own(size))
            if w.has("c0"):
                w.copy(w.at("c0", hidden, r), w.at("c", hidden, r, self._c(w, before)), w.own(hidden))

    def _step(self, w: Writer, time: Time, states: str, middle: str) -> None:
        """One time; ``states``, ``middle``: tables of the rows of h and m."""
        f = w.f
        hidden, size = w["hidden"], w["size"]
        offset = f.mul(f.mul(time.old, w["batch"]), f.mul(size, w.item))
        with w.units() as panel:
            with f.loop(0, time.running) as r:
                for x in self._inputs(w, panel, r, time):
                    w.ask(x, panel.nbytes)
            sums = w.gates(panel, states, time.running, offset, size)
            with f.loop(0, time.running) as r:
                self._units(w, panel, sums, r, time)
        if w.has("projection"):
            with w.panels(size) as panel:
                b = f.at(w.base["projection"], f.mul(panel.number, w["p_panel"]), "i8")
                tile = w.multiply(panel.columns, middle, time.running, "0", hidden, b)
                with f.loop(0, time.running) as r:
                    target = f.at(w.at("h", size, r, time.new), f.mul(panel.column, w.item), "i8")
                    w.copy(f.at(tile, f.mul(r, w.row_bytes), "i8"), target, w.vectors(panel.columns))
        if w.has("batch_sizes"):
            with f.loop(time.running, w.rows) as r:
                w.copy(w.at("h", size, r, time.old), w.at("h", size, r, time.new), w.own(size))
                if w.has("c0"):
                    w.copy(w.at("c", hidden, r, self._c(w, time.old)), w.at("c", hidden, r, self._c(w, time.new)), w.own(hidden))
                if w.has("saved"):
                    w.clear(w.at("saved", f.mul(hidden, w.cell.saved), r, time.t), hidden, w.cell.saved)

    def _end(self, w: Writer) -> None:
        f = w.f
        if w.has("last_c"):
            last = f.sub(f.add(w["first"], f.mul(f.sub(w["steps"], 1), w["step"])), f.sub(w["shift"], 1))
            with f.loop(0, w.rows) as r:
                w.copy(w.at("c", w["hidden"], r, self._c(w, last)), w.at("last_c", w["hidden"], r), w.own(w["hidden"]))

    def _c(self, w: Writer, number: str) -> str:
        """The place of a cell state: number ``number``, or the only one that there is room for."""
        f = w.f
        return f.let(f"select i1 {f.compare('eq', w['c_times'], 1)}, i64 0, i64 {number}")

    def _inputs(self, w: Writer, panel: Panel, r: str, time: Time) -> list[str]:
        """Where the input's part of each gate lies, of one sequence and the hidden units of a panel."""
        x, start = w.at("x", w["gates"], r, time.t), w.f.mul(panel.column, w.item)
        gate_bytes = w.f.mul(w["hidden"], w.item)
        return [w.f.at(x, w.f.add(start, w.f.mul(gate_bytes, g)), "i8") for g in range(w.cell.gates)]

    def _units(self, w: Writer, panel: Panel, sums: list[str], r: str, time: Time) -> None:
        """The formulas for one sequence and the hidden units of a panel."""
        f = w.f
        hidden, size = w["hidden"], w["size"]
        start = f.mul(panel.column, w.item)
        gate_bytes = f.mul(hidden, w.item)

        def row(pointer: str, gate: int = 0) -> str:
            return f.at(pointer, f.add(start, f.mul(gate_bytes, gate)) if gate else start, "i8")

        places = {f"x{g}": at for g, at in enumerate(self._inputs(w, panel, r, time))}
        places |= {f"z{g}": f.at(tile, f.mul(r, w.row_bytes), "i8") for g, tile in enumerate(sums)}
        bias = {f"z{g}": row(w.base["bias"], g) for g in range(w.cell.gates)} if w.has("bias") else {}
        if not w.has("projection"):
            places["h_old"] = row(w.at("h", size, r, time.old))
        targets = {"h": row(w.scratch("m", hidden, r) if w.has("projection") else w.at("h", size, r, time.new))}
        if w.has("c0"):
            places["c_old"] = row(w.at("c", hidden, r, self._c(w, time.old)))
            targets["c"] = row(w.at("c", hidden, r, self._c(w, time.new)))
        if w.has("saved"):
            saved = w.at("saved", f.mul(hidden, w.cell.saved), r, time.t)
            targets |= {f"s{k}": row(saved, k) for k in range(w.cell.saved)}
        with w.vectors(panel.columns) as (at, on):
            def load(name: str) -> V:
                value = w.load(f.at(places[name], at, "i8"), on)
                return value + w.load(f.at(bias[name], at, "i8"), on) if name in bias else value

            def keep(name: str) -> Callable[[V], None]:
                return lambda value: w.store(f.at(targets[name], at, "i8"), value, on)

            w.formulas(load, {name: keep(name) for name in targets})


class Backward(Kernel):
    """Operands: dout, dh, dc, w (packed), projection (packed), h, c, saved, batch_sizes; dx, dz, dh0, dc0 (also the running
    gradients), dh_all (of all outputs), m (a block for each part: the gradient behind the projection)."""

    @property
    def formulas(self) -> Formulas:
        return backward_formulas(self.cell, self.dtype)

    def block(self, w: Writer) -> None:
        f = w.f
        self._begin(w)
        running_h = w.table("dh0", w["size"]) if w.has("projection") else ""
        gates = w.table(self._gradients(w)[-1], w["gates"])
        with f.loop(0, w["steps"]) as s:
            time = w.time(s)
            self._through_units(w, time, running_h)
            with f.when(f.compare("slt", s, w["products"])):
                self._through_weights(w, time, gates)

    def wave(self, w: Writer, number: str) -> None:
        """Through the weights at one time, which needs the gradients of all gates, then through the units at the next."""
        f = w.f
        gates = w.table(self._gradients(w)[-1], w["gates"])
        with f.when(f.compare("eq", number, 0)):
            self._begin(w)
        last = f.sub(number, 1)
        with f.when(f.let(f"and i1 {f.compare('sge', last, 0)}, {f.compare('slt', last, w['products'])}")):
            time = w.time(last)
            w.ask_rows(self._gradients(w)[-1], w["gates"], time.t, time.running)
            self._through_weights(w, time, gates)
        with f.when(f.compare("slt", number, w["steps"])):
            self._through_units(w, w.time(number), "")

    def _gradients(self, w: Writer) -> tuple[str, ...]:
        """Of the gates' two parts, as far as they differ."""
        return ("dx",) if w.cell.same else ("dx", "dz")

    def _begin(self, w: Writer) -> None:
        """The gradients of the last states."""
        hidden, size = w["hidden"], w["size"]
        with w.f.loop(0, w.rows) as r:
            w.copy(w.at("dh", size, r), w.at("dh0", size, r), w.own(size))
            if w.has("dc"):
                w.copy(w.at("dc", hidden, r), w.at("dc0", hidden, r), w.own(hidden))

    def _through_units(self, w: Writer, time: Time, running_h: str) -> None:
        """The gradients of the gates at one time from those of the states; ``running_h``: a table of the rows of dh0."""
        f = w.f
        hidden, size = w["hidden"], w["size"]
        projected = w.has("projection")
        if w.has("dout"):
            with f.loop("0" if projected else time.running, w.rows) as r:
                into, dout = w.at("dh0", size, r), w.at("dout", size, r, time.t)
                with w.own(size) as (at, on):
                    here = f.at(into, at, "i8")
                    w.store(here, w.load(here, on) + w.load(f.at(dout, at, "i8"), on), on)
        if projected:
            with w.panels(hidden) as panel:
                b = f.at(w.base["projection"], f.mul(panel.number, w["p_panel"]), "i8")
                tile = w.multiply(panel.columns, running_h, time.running, "0", size, b)
                with f.loop(0, time.running) as r:
                    target = f.at(w.scratch("m", hidden, r), f.mul(panel.column, w.item), "i8")
                    w.copy(f.at(tile, f.mul(r, w.row_bytes), "i8"), target, w.vectors(panel.columns))
        if w.has("dh_all"):
            with f.loop(0, time.running) as r:
                w.copy(w.at("dh0", size, r), w.at("dh_all", size, r, time.t), w.own(size))
        with f.loop(0, time.running) as r:
            self._units(w, r, time)
        if w.has("batch_sizes"):
            with f.loop(time.running, w.rows) as r:
                for name in self._gradients(w):
                    w.clear(w.at(name, w["gates"], r, time.t), hidden, w.cell.gates)
                if w.has("dh_all"):
                    w.clear(w.at("dh_all", size, r, time.t), size)

    def _through_weights(self, w: Writer, time: Time, gates: str) -> None:
        """The gradient of the state before: that of the gates, whose rows are in the table ``gates``, times the weights."""
        f = w.f
        size = w["size"]
        offset = f.mul(f.mul(time.t, w["batch"]), f.mul(w["gates"], w.item))
        with w.panels(size) as panel:
            b = f.at(w.base["w"], f.mul(panel.number, w["w_panel"]), "i8")
            tile = w.multiply(panel.columns, gates, time.running, offset, w["gates"], b)
            with f.loop(0, time.running) as r:
                target = f.at(w.at("dh0", size, r), f.mul(panel.column, w.item), "i8")
                source = f.at(tile, f.mul(r, w.row_bytes), "i8")
                with w.vectors(panel.columns) as (at, on):
                    here, value = f.at(target, at, "i8"), w.load(f.at(source, at, "i8"), on)
                    w.store(here, w.load(here, on) + value if "dh_old" in self.formulas.outputs else value, on)

    def _units(self, w: Writer, r: str, time: Time) -> None:
        """The formulas for one sequence."""
        f = w.f
        hidden, size = w["hidden"], w["size"]
        gate_bytes = f.mul(hidden, w.item)
        running_h = w.at("dh0", size, r)
        places = {"dh": w.scratch("m", hidden, r) if w.has("projection") else running_h}
        targets = {"dh_old": running_h}
        if w.has("saved"):
            start = w.at("saved", f.mul(hidden, w.cell.saved), r, time.t)
            places |= {f"s{k}": f.at(start, f.mul(gate_bytes, k), "i8") for k in range(w.cell.saved)}
        for name, width in (("h", size), ("c", hidden)):
            if w.has(name):
                places |= {name: w.at(name, width, r, time.new), name + "_old": w.at(name, width, r, time.old)}
        if w.has("dc"):
            places["dc"] = targets["dc_old"] = w.at("dc0", hidden, r)
        for name in self._gradients(w):
            start = w.at(name, w["gates"], r, time.t)
            targets |= {f"{name}{k}": f.at(start, f.mul(gate_bytes, k), "i8") for k in range(w.cell.gates)}
        driven = w.at("dout", size, r, time.t) if w.has("dout") and not w.has("projection") else ""
        with w.own(hidden) as (at, on):
            def load(name: str) -> V:
                value = w.load(f.at(places[name], at, "i8"), on)
                return value + w.load(f.at(driven, at, "i8"), on) if name == "dh" and driven else value

            def keep(name: str) -> Callable[[V], None]:
                return lambda value: w.store(f.at(targets[name], at, "i8"), value, on)

            w.formulas(load, {name: keep(name) for name in targets})
