"""The kernels of Winograd's algorithm for the gradient of a 3×3 filter, F(3×3, 4×4), as LLVM IR text; planned by
``winograd_grad.py``.

The gradient is a correlation of the inputs with the gradients of the results: a 6×6 tile of inputs and the 4×4 tile of
gradients that it belongs to give 3×3 sums, with the 36 products of their transforms in place of 144. Sums over all tiles are
taken before they are transformed back, so there are 36 matrix products, filters × tiles by tiles × channels.

Filters and channels come in groups of ``CHUNK``. ``Gradient`` works on one pair of groups, or on a part of the tiles for
one pair (*split*): blocks of tiles are transformed (``winograd_ir.Gather``) and added to ``m[plane][filter][channel]``
(``winograd_product.Outer``), all in a slot that stays in the second-level cache; then the sums are transformed to the gradient. With splits
that is a kernel of its own, ``finish``, which adds the splits up in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.cpu.contract_epilogue import EpilogueOperand, apply, scattered
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import mask
from rushlight.compile.cpu.toomcook import matrices
from rushlight.compile.cpu.values import V
from rushlight.compile.cpu.winograd_ir import GEOMETRY, PLANES, SIDE, TAPS, square
from rushlight.compile.cpu.winograd_product import CHUNK
from rushlight.compile.cpu.winograd_tiles import TILE, list_tiles, share
from rushlight.compile.expr import Expr, canonical

__all__ = ["SHAPES", "Gradient"]

#: The geometry of the inputs, then that of the gradients: what ``Gather`` reads.
SHAPES = (*(f"x_{name}" for name in GEOMETRY), *(f"g_{name}" for name in GEOMETRY))


@dataclass(frozen=True)
class Gradient:
    """``kind`` "whole": operands A, B, scratch, C, extras; a part does ``each`` pairs of groups.
    "partial": operands A, B, scratch; a part is a split of a pair. "finish": operands scratch, C, extras; a part is one filter
    of a pair."""

    kind: str
    lanes: int
    fma: bool
    outputs: tuple[EpilogueOperand, ...] = ()
    stores: tuple[Expr, ...] = ()

    @property
    def key(self) -> str:
        outputs = ";".join(f"{o.dtype.name} {o.stride} {o.written}" for o in self.outputs)
        return f"winograd gradient 8 {self.kind} {self.lanes} {self.fma} [{outputs}] {canonical(*self.stores)}"

    @property
    def fields(self) -> list[str]:
        work = [*SHAPES, "inputs", "gradients", "outer", "each", "blocks", "per_split", "block", "tiles", "v", "w", "list", "w_plane",
                "v_plane"]  # fmt: skip
        common = ["pairs", "across", "splits", "channels", "filters", "slot", "m_plane"]
        return [*([] if self.kind == "finish" else work), *common,
                *(f"{d}{i}" for i in range(len(self.outputs)) for d in ("n", "y", "x", "c"))]

    def ir(self) -> str:
        module = Module()
        f = Function("void @gradient(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        operands = {"whole": 3, "partial": 3, "finish": 1}[self.kind] + len(self.outputs)
        frame = Frame(f, operands, self.fields)
        held = f.slot("i64", "-1")
        with f.loop("%begin", "%end") as part:
            if self.kind == "finish":
                pair, row = f.div(part, CHUNK), f.rem(part, CHUNK)
                filters, _ = self._extent(f, frame, pair)
                with f.when(f.compare("slt", row, filters)):
                    self._row(f, frame, f.at(frame.bases[0], f.mul(f.mul(pair, frame["splits"]), frame["slot"]), "i8"), pair, row)
            else:
                # Nobody else has the slot of the first part meanwhile, and it stays in this core's cache from part to part.
                reused = f.at(frame.bases[2], f.mul("%begin", frame["slot"]), "i8")
                slot = reused if self.kind == "whole" else f.at(frame.bases[2], f.mul(part, frame["slot"]), "i8")
                split, first = f.rem(part, frame["splits"]), f.mul(f.div(part, frame["splits"]), frame["each"])
                with f.loop(first, f.minimum(f.add(first, frame["each"]), frame["pairs"])) as p:
                    self._sums(f, frame, f.at("%params", 2 * operands), slot, reused, held, p, split)
                    if self.kind == "whole":
                        with f.loop(0, self._extent(f, frame, p)[0]) as row:
                            self._row(f, frame, slot, p, row)
        return f.finish() + module.text()

    def _extent(self, f: Function, frame: Frame, pair: str) -> tuple[str, str]:
        """The numbers of filters and channels of a pair of groups."""
        down, across = f.div(pair, frame["across"]), f.rem(pair, frame["across"])
        return (f.minimum(f.sub(frame["filters"], f.mul(down, CHUNK)), CHUNK),
                f.minimum(f.sub(frame["channels"], f.mul(across, CHUNK)), CHUNK))

    def _sums(self, f: Function, frame: Frame, shapes: str, slot: str, reused: str, held: str, pair: str, split: str) -> None:
        """The sums of a pair of groups over the tiles of a split, in ``slot``; the transforms lie in another one, ``reused``. ``held``: a
        slot that tells of which filters and block the gradients there are: those of one block serve for all groups of channels."""
        inputs, gradients, outer = (f.let(f"inttoptr i64 {frame[name]} to ptr") for name in ("inputs", "gradients", "outer"))
        filters, channels = self._extent(f, frame, pair)
        x = f.at(frame.bases[0], f.mul(f.rem(pair, frame["across"]), CHUNK * 4), "i8")
        g = f.at(frame.bases[1], f.mul(f.div(pair, frame["across"]), CHUNK * 4), "i8")
        v, w = f.at(reused, frame["v"], "i8"), f.at(reused, frame["w"], "i8")
        first, places = f.mul(split, frame["per_split"]), f.at(reused, frame["list"], "i8")
        last = f.minimum(f.add(first, frame["per_split"]), frame["blocks"])
        with f.loop(first, last) as block:
            tile = f.mul(block, frame["block"])
            count = f.minimum(f.sub(frame["tiles"], tile), frame["block"])
            again = f.let(f"zext i1 {f.compare('sgt', block, first)} to i64")
            f.do(f"call void {inputs}(ptr {v}, ptr {x}, i64 {tile}, i64 {count}, i64 {channels}, ptr {shapes})")
            wanted = f.add(f.mul(f.div(pair, frame["across"]), frame["blocks"]), block)
            with f.when(f.compare("ne", f.get(held), wanted)):
                f.do(f"call void {gradients}(ptr {w}, ptr {g}, i64 {tile}, i64 {count}, i64 {filters}, ptr {f.at(shapes, len(GEOMETRY))})")
                f.set(held, wanted)
            until = self._list(f, frame, places, pair, x, g, f.add(block, 1), last)
            with f.loop(0, str(PLANES)) as plane:
                a, b = f.at(w, f.mul(plane, frame["w_plane"]), "i8"), f.at(v, f.mul(plane, frame["v_plane"]), "i8")
                m = f.at(slot, f.mul(plane, frame["m_plane"]), "i8")
                asked, number = share(f, places, until, plane, PLANES)
                f.do(f"call void {outer}(ptr {m}, ptr {a}, ptr {b}, i64 {filters}, i64 {channels}, i64 {count}, i64 {again}, "
                     f"i64 {frame['w_plane']}, i64 {frame['v_plane']}, ptr {asked}, i64 {number})")  # fmt: skip

    def _list(self, f: Function, frame: Frame, places: str, pair: str, x: str, g: str, block: str, last: str) -> str:
        """Lists what is transformed for ``block``, if there is one, and what comes after the ``last`` of a part; gives the list's end."""
        end = f.slot("ptr")
        f.set(end, places, "ptr")
        f.do(f"store ptr {places}, ptr {places}")
        with f.when(f.compare("slt", block, frame["blocks"])):
            start = f.mul(block, frame["block"])
            count = f.minimum(f.sub(frame["tiles"], start), frame["block"])
            tiles, sides = (frame["x_tiles_y"], frame["x_tiles_x"]), (frame["x_high"], frame["x_wide"])
            for base, name, border in ((x, "x", 1), (g, "g", 0)):
                steps = (frame[f"{name}_a_n"], frame[f"{name}_a_y"], frame[f"{name}_a_x"])
                list_tiles(f, end, base, steps, tiles, sides, start, count, border)
        if self.kind == "whole":
            with f.when(f.compare("eq", block, last)):
                self._list_results(f, frame, end, pair)
        return f.get(end, "ptr")

    def _list_results(self, f: Function, frame: Frame, end: str, pair: str) -> None:
        first, channel = f.mul(f.div(pair, frame["across"]), CHUNK), f.mul(f.rem(pair, frame["across"]), CHUNK)
        for i, (base, output) in enumerate(zip(frame.bases[-len(self.outputs):], self.outputs, strict=True)):
            if output.stride == "unit":
                start = f.at(base, f.mul(channel, frame[f"c{i}"]), "i8")
                with f.loop(0, self._extent(f, frame, pair)[0]) as row:
                    at, to = f.at(start, f.mul(f.add(first, row), frame[f"n{i}"]), "i8"), f.get(end, "ptr")
                    for y in range(TAPS):
                        for x in range(TAPS):
                            here = f.at(at, f.add(f.mul(frame[f"y{i}"], y), f.mul(frame[f"x{i}"], x)), "i8")
                            f.do(f"store ptr {here}, ptr {f.at(to, TAPS * y + x)}")
                    f.set(end, f.at(to, TAPS * TAPS), "ptr")

    def _row(self, f: Function, frame: Frame, slot: str, pair: str, row: str) -> None:
        """The gradients of one filter and a group of channels."""
        vector, lanes = f"<{self.lanes} x float>", self.lanes
        filter_, first = f.add(f.mul(f.div(pair, frame["across"]), CHUNK), row), f.mul(f.rem(pair, frame["across"]), CHUNK)
        _, channels = self._extent(f, frame, pair)
        results = f.slot(f"[{TAPS * TAPS} x {vector}]", align=64)
        bases = frame.bases[-len(self.outputs):]
        with f.loop(0, channels, lanes) as c:
            here = f.at(f.at(slot, f.mul(row, CHUNK * 4), "i8"), f.mul(c, 4), "i8")
            sums = []
            for k in range(PLANES):
                at = f.at(here, f.mul(frame["m_plane"], k), "i8")
                value = f.let(f"load {vector}, ptr {at}, align 4")
                if self.kind == "finish":
                    total = f.slot(vector, value)
                    with f.loop(1, frame["splits"]) as s:
                        more = f.let(f"load {vector}, ptr {f.at(at, f.mul(s, frame['slot']), 'i8')}, align 4")
                        f.set(total, f.let(f"fadd {vector} {f.get(total, vector)}, {more}"), vector)
                    value = f.get(total, vector)
                sums.append(value)
            out = square(f, matrices(TAPS, TILE).outputs, [sums[k : k + SIDE] for k in range(0, PLANES, SIDE)], lanes, self.fma)
            for k, value in enumerate(o for line in out for o in line):
                f.do(f"store {vector} {value}, ptr {f.at(results, k, vector)}, align 4")
            channel = f.add(first, c)
            on = mask(f, f.sub(frame["channels"], channel), lanes)
            starts = [f.at(f.at(base, f.mul(filter_, frame[f"n{i}"]), "i8"), f.mul(channel, frame[f"c{i}"]), "i8")
                      for i, base in enumerate(bases)]
            with f.loop(0, str(TAPS)) as y, f.loop(0, str(TAPS)) as x:
                value = f.let(f"load {vector}, ptr {f.at(results, f.add(f.mul(y, TAPS), x), vector)}, align 4")
                places = []
                for i, (at, operand) in enumerate(zip(starts, self.outputs, strict=True)):
                    at = f.at(f.at(at, f.mul(y, frame[f"y{i}"]), "i8"), f.mul(x, frame[f"x{i}"]), "i8")
                    places.append(scattered(f, at, frame[f"c{i}"], 0, lanes) if operand.stride == "any" else at)
                apply(f, V(f, value, "float", lanes), places, on, self.outputs, self.stores)
