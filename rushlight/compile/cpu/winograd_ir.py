"""The kernels of Winograd's F(4×4, 3×3), as LLVM IR text; ``winograd.py`` plans them.

A 3×3 convolution of stride 1 makes 4×4 results from 6×6 inputs with 36 multiplications for each pair of channels in place
of 144: every *tile* of inputs and every filter is transformed to 36 numbers, for each of these *planes* there is a matrix
product (tiles × channels by channels × filters), and the 36 sums of a tile are transformed to its results.

* ``Filters``: all filters, once (``Transform``): ``u[panel][plane][channel][column]``.
* ``Inputs``: where all tiles are one block, its inputs, for all panels; then ``Tiles`` transform filters as they need them, unless
  all filters are kept.
* ``Tiles``: for a block of tiles, in memory that stays in the second-level cache: inputs to ``v[plane][chunk][tile][channel]``
  (``Gather``), then for each panel of filters 36 products to ``m[plane][tile][column]`` (``winograd_product.py``), and from there the
  results with the epilogue. A chunk has ``CHUNK`` channels, so that the rows of a product are a constant distance apart.

``Gather``, the products and ``Transform`` are functions that all ``Tiles`` share, called by address.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile import dtypes as dt
from rushlight.compile.cpu.contract_epilogue import EpilogueOperand, apply, gather, known, operand_places, scattered
from rushlight.compile.cpu.contract_sums import Item, Partial, Tally, lines, sums_key
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import mask, masked_load
from rushlight.compile.cpu.toomcook import matrices, multiplied
from rushlight.compile.cpu.values import V
from rushlight.compile.cpu.winograd_product import CHUNK
from rushlight.compile.cpu.winograd_tiles import TILE, list_tiles, place, share
from rushlight.compile.expr import Expr, canonical

__all__ = ["PLANES", "Filters", "Gather", "Inputs", "Tiles", "Transform"]

TAPS = 3
SIDE = TILE + TAPS - 1
PLANES = SIDE * SIDE

#: Rows of a transform that are made at a time: those of opposite points share sums.
GROUPS = ((0,), (1, 2), (3, 4), (5,))

#: Channels ahead of which a filter is asked for.
AHEAD = 2

#: What ``Gather`` and ``Transform`` read of the parameters of ``Tiles``, which begin with it.
FILTERS = ("n", "b_k", "b_n", "b_y", "b_x", "u_plane")
GEOMETRY = ("tiles_y", "tiles_x", "high", "wide", "v_plane", "v_chunk", "a_n", "a_y", "a_x")


def square(f: Function, matrix: tuple, values: list[list[str]], lanes: int, fma: bool, right: tuple = ()) -> list[list[str]]:
    """``matrix · values · rightᵀ``; ``right``: the same matrix if none is given."""
    columns = [multiplied(f, matrix, [row[j] for row in values], lanes, fma) for j in range(len(values[0]))]
    return [multiplied(f, right or matrix, [column[i] for column in columns], lanes, fma) for i in range(len(matrix))]


@dataclass(frozen=True)
class Gather:
    """``void gather(ptr v, ptr a, i64 first, i64 count, i64 channels, ptr geometry)``: ``count`` tiles, transformed.

    ``inputs``: 6×6 inputs each. Those past the last one that a result needs are the one at the edge again: their part in the
    results that are stored is zero but for rounding, and no infinity comes from anywhere else. Else 4×4 gradients of
    results, zero past the last one, to be summed for the gradient of the filter.

    Each group of rows of the transform reads anew what it needs: all 36 numbers at once are more than there are registers. So LLVM must
    not know that ``v`` and ``a`` lie apart, or it would keep what it has read.
    """

    lanes: int
    fma: bool
    inputs: bool = True

    @property
    def key(self) -> str:
        return f"winograd gather 3 {self.lanes} {self.fma} {self.inputs}"

    def ir(self) -> str:
        f = Function("void @gather(ptr %v, ptr %a, i64 %first, i64 %count, i64 %channels, ptr noalias %geometry) nounwind \"stackrealign\"")
        g = {name: f.load("%geometry", i) for i, name in enumerate(GEOMETRY)}
        vector = f"<{self.lanes} x float>"
        found = matrices(TILE, TAPS)
        matrix, side = (found.inputs, SIDE) if self.inputs else (matrices(TAPS, TILE).taps, TILE)
        zeros = f.slot(f"[{CHUNK // self.lanes} x {vector}]", align=64)
        if not self.inputs:
            f.do(f"store [{CHUNK // self.lanes} x {vector}] zeroinitializer, ptr {zeros}, align 64")
        with f.loop(0, "%count") as t:
            image, y, x = place(f, f.add("%first", t), g["tiles_y"], g["tiles_x"])
            here = f.at("%a", f.mul(image, g["a_n"]), "i8")
            ys, xs = [f.add(y, i) for i in range(side)], [f.add(x, j) for j in range(side)]
            rows = [f.at(here, f.mul(f.minimum(i, f.add(g["high"], TAPS - 2)), g["a_y"]), "i8") for i in ys]
            columns = [f.mul(f.minimum(j, f.add(g["wide"], TAPS - 2)), g["a_x"]) for j in xs]
            inside = [] if self.inputs else [[f.let(f"and i1 {a}, {b}") for b in [f.compare("slt", j, g["wide"]) for j in xs]]
                                             for a in [f.compare("slt", i, g["high"]) for i in ys]]
            target = f.slot("ptr")
            f.set(target, f.at("%v", f.mul(t, CHUNK * 4), "i8"), "ptr")
            with f.loop(0, "%channels", CHUNK) as first:
                to = f.get(target, "ptr")
                count = f.minimum(f.sub("%channels", first), CHUNK)
                with f.loop(0, count, self.lanes) as c:
                    byte, data = f.mul(f.add(first, c), 4), []
                    for i, row in enumerate(rows):
                        places = [f.at(f.at(row, column, "i8"), byte, "i8") for column in columns]
                        if not self.inputs:
                            places = [f.let(f"select i1 {on}, ptr {at}, ptr {zeros}") for on, at in zip(inside[i], places, strict=True)]
                        data.append(places)
                    at = f.at(to, f.mul(c, 4), "i8")
                    for numbers in GROUPS:
                        lines = tuple(matrix[i] for i in numbers)
                        read = [[f.let(f"load {vector}, ptr {x}, align 4") if any(line[i] for line in lines) else "" for x in row]
                                for i, row in enumerate(data)]
                        out = square(f, lines, read, self.lanes, self.fma, matrix)
                        for k, line in zip(numbers, out, strict=True):
                            for n, value in enumerate(line):
                                f.do(f"store {vector} {value}, ptr {f.at(at, f.mul(g['v_plane'], k * SIDE + n), 'i8')}, align 4")
                f.set(target, f.at(to, g["v_chunk"], "i8"), "ptr")
        return f.finish() + f.module.text()


@dataclass(frozen=True)
class Transform:
    """``void transform(ptr u, ptr b, i64 panel, i64 first, i64 last, ptr shape)``: the filters of some channels of one panel;
    ``unit``: B is contiguous along the filters."""

    lanes: int
    vectors: int
    fma: bool
    unit: bool

    @property
    def key(self) -> str:
        return f"winograd transform 5 {self.lanes} {self.vectors} {self.fma} {self.unit}"

    def ir(self) -> str:
        f = Function("void @transform(ptr noalias %u, ptr noalias %b, i64 %panel, i64 %first, i64 %last, ptr noalias %shape) "
                     'nounwind "stackrealign"')
        shape = {name: f.load("%shape", i) for i, name in enumerate(FILTERS)}
        vector, width = f"<{self.lanes} x float>", self.lanes * self.vectors
        with f.loop("%first", "%last") as k, f.loop(0, str(self.vectors)) as v:
            column = f.add(f.mul("%panel", width), f.mul(v, self.lanes))
            on = mask(f, f.sub(shape["n"], column), self.lanes)
            source = f.at(f.at("%b", f.mul(column, shape["b_n"]), "i8"), f.mul(k, shape["b_k"]), "i8")
            taps = []
            for i in range(TAPS):
                line = f.at(source, f.mul(shape["b_y"], i), "i8")
                places = [f.at(line, f.mul(shape["b_x"], j), "i8") for j in range(TAPS)]
                if self.unit:
                    taps.append([masked_load(f, at, dt.float32, self.lanes, on) for at in places])
                else:
                    taps.append([gather(f, scattered(f, at, shape["b_n"], 0, self.lanes), dt.float32, self.lanes, on) for at in places])
            if not self.unit:
                self._ask(f, f.at(source, f.mul(shape["b_k"], AHEAD), "i8"), shape["b_n"])
            out = square(f, matrices(TILE, TAPS).taps, taps, self.lanes, self.fma)
            to = f.at("%u", f.mul(f.add(f.mul(k, self.vectors), v), self.lanes * 4), "i8")
            for p, value in enumerate(x for line in out for x in line):
                f.do(f"store {vector} {value}, ptr {f.at(to, f.mul(shape['u_plane'], p), 'i8')}, align 4")
        return f.finish() + f.module.text()


    def _ask(self, f: Function, source: str, step: str) -> None:
        """Ask for the filters of a later channel: they lie in pieces all over memory."""
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for lane in range(self.lanes):
            f.do(f"call void @llvm.prefetch.p0(ptr {f.at(source, f.mul(step, lane), 'i8')}, i32 0, i32 3, i32 1)")


@dataclass(frozen=True)
class Filters:
    """Operands: B, u. A part is a block of channels of one panel."""

    fields = (*FILTERS, "transform", "parts_k", "k", "block_k", "u_panel")
    key = "winograd filters 2"

    def ir(self) -> str:
        f = Function("void @filters(ptr %table, ptr %params, i64 %begin, i64 %end)")
        frame = Frame(f, 2, self.fields)
        transform = f.let(f"inttoptr i64 {frame['transform']} to ptr")
        with f.loop("%begin", "%end") as part:
            panel, block = f.div(part, frame["parts_k"]), f.rem(part, frame["parts_k"])
            first = f.mul(block, frame["block_k"])
            last = f.minimum(f.add(first, frame["block_k"]), frame["k"])
            u = f.at(frame.bases[1], f.mul(panel, frame["u_panel"]), "i8")
            f.do(f"call void {transform}(ptr {u}, ptr {frame.bases[0]}, i64 {panel}, i64 {first}, i64 {last}, ptr {f.at('%params', 4)})")
        return f.finish() + f.module.text()


@dataclass(frozen=True)
class Inputs:
    """Operands: A, v. A part is ``each`` tiles of a single block."""

    fields = (*GEOMETRY, "gather", "channels", "each", "tiles")
    key = "winograd inputs 1"

    def ir(self) -> str:
        f = Function("void @inputs(ptr %table, ptr %params, i64 %begin, i64 %end)")
        frame = Frame(f, 2, self.fields)
        collect = f.let(f"inttoptr i64 {frame['gather']} to ptr")
        first, end = f.mul("%begin", frame["each"]), f.minimum(f.mul("%end", frame["each"]), frame["tiles"])
        f.do(f"call void {collect}(ptr {f.at(frame.bases[1], f.mul(first, CHUNK * 4), 'i8')}, ptr {frame.bases[0]}, i64 {first}, "
             f"i64 {f.sub(end, first)}, i64 {frame['channels']}, ptr {f.at('%params', 4)})")  # fmt: skip
        return f.finish() + f.module.text()


@dataclass(frozen=True)
class Tiles:
    """Operands: A, u, scratch, C, extras. A part is ``per_part`` blocks of tiles and a group of panels; there is a slot for
    each in the scratch memory, of which the parts of one call use one. ``shared``: where there is one block of tiles
    only, all parts share its inputs, and v (``Inputs``) takes the place of A. ``own``: B takes the place of u, and each panel is
    transformed just before it is used, into the slot: ``deep`` channels at a time. ``vectors`` of a panel."""

    lanes: int
    vectors: int
    fma: bool
    outputs: tuple[EpilogueOperand, ...]
    stores: tuple[Expr, ...]
    sums: tuple[Item, ...] = ()

    @property
    def key(self) -> str:
        outputs = ";".join(map(str, self.outputs))
        return f"winograd tiles 13 {self.lanes} {self.vectors} {self.fma} [{outputs}] {canonical(*self.stores)}{sums_key(self.sums)}"

    @property
    def fields(self) -> list[str]:
        own = ["own", "shared", "channels", "gather", "product", "transform", "parts_n", "panels", "group", "blocks", "per_part", "block",
               "tiles", "slot", "m", "u", "list", "m_plane", "u_panel", "deep", "ahead"]  # fmt: skip
        steps = [f"{d}{i}" for i in range(len(self.outputs)) for d in ("n", "y", "x", "c")]
        return [*GEOMETRY, *FILTERS, *own, *steps, *(["sum_line"] if self.sums else [])]

    def ir(self) -> str:
        module = Module()
        f = Function("void @tiles(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        operands = 3 + len(self.outputs) + bool(self.sums)
        frame = Frame(f, operands, self.fields)
        geometry = f.at("%params", 2 * operands)
        product, collect, transform = (f.let(f"inttoptr i64 {frame[name]} to ptr") for name in ("product", "gather", "transform"))
        row_bytes = self.lanes * self.vectors * 4
        # Nobody else has the slot of the first part meanwhile, and it stays in this core's cache from part to part.
        slot = f.at(frame.bases[2], f.mul("%begin", frame["slot"]), "i8")
        sums, held = f.at(slot, frame["m"], "i8"), f.slot("i64")
        own = f.compare("ne", frame["own"], 0)
        shared = f.compare("ne", frame["shared"], 0)
        inputs = f.let(f"select i1 {shared}, ptr {frame.bases[0]}, ptr {slot}")
        f.set(held, f.let(f"select i1 {shared}, i64 0, i64 -1"))
        with f.loop("%begin", "%end") as part:
            panel0 = f.mul(f.rem(part, frame["parts_n"]), frame["group"])
            panel1 = f.minimum(f.add(panel0, frame["group"]), frame["panels"])
            block0 = f.mul(f.div(part, frame["parts_n"]), frame["per_part"])
            block1 = f.minimum(f.add(block0, frame["per_part"]), frame["blocks"])
            partials, rows = "", f.slot("i64", "0") if self.sums else ""
            if self.sums:
                number = f.mul(f.div(part, frame["parts_n"]), lines(self.sums))
                partials = f.at(frame.bases[-1], f.mul(number, frame["sum_line"]), "i8")
            with f.loop(block0, block1) as block:
                before = f.get(rows) if self.sums else ""
                first = f.mul(block, frame["block"])
                count = f.minimum(f.sub(frame["tiles"], first), frame["block"])
                with f.when(f.compare("ne", f.get(held), block)):
                    f.do(f"call void {collect}(ptr {slot}, ptr {frame.bases[0]}, i64 {first}, i64 {count}, i64 {frame['channels']}, "
                         f"ptr {geometry})")  # fmt: skip
                    f.set(held, block)
                with f.loop(panel0, panel1) as panel:
                    if self.sums:
                        f.set(rows, before)
                    here, whole = f.at(slot, frame["u"], "i8"), f.at(frame.bases[1], f.mul(panel, frame["u_panel"]), "i8")
                    filters = f.let(f"select i1 {own}, ptr {here}, ptr {whole}")
                    # What a product asks for: its next chunk, or where it has only one the next plane's.
                    following = f.let(f"select i1 {own}, i64 {frame['v_plane']}, i64 {frame['v_chunk']}")
                    places = f.at(slot, frame["list"], "i8")
                    end = self._list(f, frame, places, block, first, count, panel, f.sub(panel1, 1))
                    with f.loop(0, frame["channels"], frame["deep"]) as k:
                        depth = f.minimum(f.sub(frame["channels"], k), frame["deep"])
                        with f.when(own):
                            to = f.at(here, f.sub("0", f.mul(k, row_bytes)), "i8")
                            f.do(f"call void {transform}(ptr {to}, ptr {frame.bases[1]}, i64 {panel}, i64 {k}, i64 {f.add(k, depth)}, "
                                 f"ptr {f.at(geometry, len(GEOMETRY))})")  # fmt: skip
                        chunks, again = f.mul(f.div(k, CHUNK), frame["v_chunk"]), f.let(f"zext i1 {f.compare('ne', k, 0)} to i64")
                        until = f.let(f"select i1 {f.compare('eq', k, 0)}, ptr {end}, ptr {places}")
                        with f.loop(0, str(PLANES)) as plane:
                            a = f.at(f.at(inputs, f.mul(plane, frame["v_plane"]), "i8"), chunks, "i8")
                            m, b = f.at(sums, f.mul(plane, frame["m_plane"]), "i8"), f.at(filters, f.mul(plane, frame["u_plane"]), "i8")
                            asked, number = share(f, places, until, plane, PLANES)
                            f.do(f"call void {product}(ptr {m}, ptr {a}, ptr {b}, i64 {count}, i64 {depth}, i64 {following}, "
                                 f"i64 {again}, ptr {asked}, i64 {number})")  # fmt: skip
                    with f.loop(0, count) as t:
                        self._results(f, frame, f.at(sums, f.mul(t, row_bytes), "i8"), f.add(first, t), panel, partials, rows)
        return f.finish() + module.text()

    def _results(self, f: Function, frame: Frame, sums: str, tile: str, panel: str, partials: str, seen: str) -> None:
        """The results of one tile in one panel. Where there are sums over the results: the part's partials, and a slot with how many
        results of each column the part had so far."""
        vector, lanes = f"<{self.lanes} x float>", self.lanes
        image, y, x = place(f, tile, frame["tiles_y"], frame["tiles_x"])
        rows, columns = f.minimum(f.sub(frame["high"], y), TILE), f.minimum(f.sub(frame["wide"], x), TILE)
        corners = []
        for i, base in enumerate(frame.bases[3 : 3 + len(self.outputs)]):
            at = f.at(base, f.mul(image, frame[f"n{i}"]), "i8")
            at = f.at(f.at(at, f.mul(y, frame[f"y{i}"]), "i8"), f.mul(x, frame[f"x{i}"]), "i8")
            corners.append(at)
        tile_memory = f.slot(f"[{TILE * TILE} x {vector}]", align=64)
        before, formulas = f.get(seen) if seen else "", [expr for _, expr in self.sums]
        with f.loop(0, str(self.vectors)) as v:
            column = f.add(f.mul(panel, lanes * self.vectors), f.mul(v, lanes))
            left = f.sub(frame["n"], column)
            with f.when(f.compare("sgt", left, 0)):
                on = mask(f, left, lanes)
                source = f.at(sums, f.mul(v, lanes * 4), "i8")
                values = [f.let(f"load {vector}, ptr {f.at(source, f.mul(frame['m_plane'], k), 'i8')}, align 4") for k in range(PLANES)]
                out = square(f, matrices(TILE, TAPS).outputs, [values[k : k + SIDE] for k in range(0, PLANES, SIDE)], lanes, self.fma)
                for k, value in enumerate(o for line in out for o in line):
                    f.do(f"store {vector} {value}, ptr {f.at(tile_memory, k, vector)}, align 4")
                starts = [f.at(at, f.mul(column, frame[f"c{k}"]), "i8") for k, at in enumerate(corners)]

                fixed = known(f, self._places(f, frame, starts, "0"), on, self.outputs, lanes)

                def evaluated(
                    line: list[str], number: str, across: str, stores: tuple[Expr, ...], on: str = on, fixed: dict[int, V] = fixed
                ) -> list[V]:
                    value = f.let(f"load {vector}, ptr {f.at(tile_memory, f.add(number, across), vector)}, align 4")
                    places = self._places(f, frame, line, across)
                    return apply(f, V(f, value, "float", lanes), places, on, self.outputs, stores, formulas, fixed)

                tally = None
                if self.sums:
                    partial = Partial(f.at(partials, f.mul(column, 4), "i8"), frame["sum_line"])
                    tally = Tally(f, self.sums, dt.float32, lanes, partial)
                    fresh = f.compare("eq", before, 0)
                    tally.begin(fresh, lambda: evaluated(starts, "0", "0", ()))
                with f.loop(0, rows) as down:
                    line = [f.at(at, f.mul(down, frame[f"y{k}"]), "i8") for k, at in enumerate(starts)]
                    number = f.mul(down, TILE)
                    with f.loop(0, columns) as across:
                        found = evaluated(line, number, across, self.stores)
                        if tally is not None:
                            tally.add(found)
                if tally is not None:
                    tally.end(fresh, before, f.mul(rows, columns))
        if seen:
            f.set(seen, f.add(before, f.mul(rows, columns)))

    def _places(self, f: Function, frame: Frame, line: list[str], across: str) -> list[str]:
        return operand_places(f, frame, line, across, self.outputs, self.lanes)

    def _list(self, f: Function, frame: Frame, places: str, block: str, first: str, count: str, panel: str, last: str) -> str:
        """Lists what the epilogue of a panel reads and writes, and after the ``last`` what is transformed next; gives the list's end."""
        end, image = f.slot("ptr"), ((frame["tiles_y"], frame["tiles_x"]), (frame["high"], frame["wide"]))
        f.set(end, places, "ptr")
        f.do(f"store ptr {places}, ptr {places}")
        for k, output in enumerate(self.outputs):
            if output.stride == "unit" and not output.fixed:
                column = f.mul(f.mul(panel, self.lanes * self.vectors), frame[f"c{k}"])
                steps = (frame[f"n{k}"], frame[f"y{k}"], frame[f"x{k}"])
                list_tiles(f, end, f.at(frame.bases[3 + k], column, "i8"), steps, *image, first, count)
        following = f.add(block, 1)
        inside = f.let(f"and i1 {f.compare('eq', panel, last)}, {f.compare('slt', following, frame['blocks'])}")
        with f.when(f.let(f"and i1 {inside}, {f.compare('ne', frame['ahead'], 0)}")):
            start = f.mul(following, frame["block"])
            number, chunks = f.minimum(f.sub(frame["tiles"], start), frame["block"]), f.div(f.add(frame["channels"], CHUNK - 1), CHUNK)
            list_tiles(f, end, frame.bases[0], (frame["a_n"], frame["a_y"], frame["a_x"]), *image, start, number, 1, chunks)
        return f.get(end, "ptr")
