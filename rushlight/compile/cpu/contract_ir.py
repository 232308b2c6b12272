"""The kernels around the micro-kernel, as LLVM IR text: the loops over tiles.

Four kinds of kernel, all of the executor's form ``void (ptr table, ptr params, i64 begin, i64 end)``:

* ``direct``: tiles of finished sums; the epilogue is applied to each tile while it is in the first-level cache.
* ``chunked``: the reduction is cut into chunks; sums go to a scratch buffer, rows of one panel, and wait there in the second-level
  cache for the next chunk. With the last one the epilogue is applied to each tile.
* ``partial``: likewise, but the chunks are split among parts, each with sums of its own.
* ``finish``: adds the splits of a ``partial`` in order and applies the epilogue.

Another step, packing B, is in ``pack.py``, the epilogue in ``contract_epilogue.py``.

The micro-kernel and the function that finds the rows (``contract_rows.py``) are called through addresses in the
parameters, so an epilogue of its own costs only this small loop.
``fields`` names the fixed parameters; the planner (``contract.py``) fills them in by name. After the pointer pairs and
the fixed parameters come tables: batch dimensions and m dimensions (extent, then bytes per step for each operand), then
the reduction's runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from rushlight.compile.cpu.contract_ask import Asked
from rushlight.compile.cpu.contract_block import BLOCK_BYTES, LINE, turned_pitch, turned_rows
from rushlight.compile.cpu.contract_epilogue import Epilogue, EpilogueOperand
from rushlight.compile.cpu.contract_rows import MAX_ROWS
from rushlight.compile.cpu.contract_sizes import CHUNK
from rushlight.compile.cpu.contract_sums import Item, lines, sums_key
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import ir_type
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, canonical

__all__ = ["A", "Driver", "Part"]

#: Rows that a "finish" adds up at a time where there are sums over rows.
FINISHED = 16


@dataclass
class Part:
    """What the body of a kernel knows about its part, as names of IR values: the operands' addresses in this batch
    (``bases``), tables of their rows, the first row and the number of rows, the range of panels, the split, and where the partials
    of its sums over rows lie (``contract_sums.py``). ``behind``: what finishes tiles later (``pair_behind.py``)."""

    frame: Frame
    runs: str
    bases: list[str]
    rows: list[str]
    first: str
    count: str
    panels: tuple[str, str]
    split: str
    partials: str = ""
    behind: Any = None
    asked: Any = None


@dataclass(frozen=True)
class A:
    """A as the micro-kernel is to read it, as names of IR values: addresses of the part's rows, the runs of the reduction,
    bytes per step."""

    rows: str
    runs: str
    n_runs: str
    step: str


@dataclass(frozen=True)
class Tile:
    """A tile as names of IR values: its chunk, panel, first row within the part, rows and columns, where its sums are, and what adds the
    chunk's products to them."""

    chunk: str
    panel: str
    first: str
    height: str
    columns: str
    sums: str
    product: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Driver:
    """A kernel of kind "direct", "chunked", "partial" or "finish" for panels of ``vectors`` vectors.

    Operands: direct: A, B, C, extras; chunked: A, B, scratch, C, extras; partial: A, B, scratch; finish: scratch, C, extras; with
    ``sums`` over the rows, their partials last.
    ``stores`` are the epilogue's expressions over input(0) and the read extras. ``block``: "" where A is read in place; "turned" or
    "copied": it is, ``block_rows`` rows at a time. ``lifted``: so is a panel of B, for the tiles of a block (``contract_block.py``).
    ``down``: parts that follow each other have the same panels, not the same rows. ``asks``: the micro-kernel asks for lines
    (``contract_ask.py``).
    """

    kind: str
    accumulate: DType
    lanes: int
    vectors: int
    heights: tuple[int, ...]
    outputs: tuple[EpilogueOperand, ...] = ()
    stores: tuple[Expr, ...] = ()
    block: str = ""
    sums: tuple[Item, ...] = ()
    lifted: bool = False
    down: bool = False
    asks: bool = False

    @property
    def order(self) -> tuple[str, str]:
        """Of parts: along which dimension the next one lies."""
        return ("parts_m", "parts_n") if self.down else ("parts_n", "parts_m")

    @property
    def key(self) -> str:
        outputs = ";".join(map(str, self.outputs))
        return (f"contract20 {self.kind} {self.accumulate.name} {self.lanes}x{self.vectors} "
                f"{self.heights} [{outputs}] {canonical(*self.stores)} {self.block}{' lifted' * self.lifted}"
                f"{' down' * self.down}{' asks' * self.asks}"
                f"{sums_key(self.sums)}")  # fmt: skip

    @property
    def operands(self) -> int:
        return {"direct": 2, "chunked": 3, "partial": 3, "finish": 1}[self.kind] + len(self.outputs) + bool(self.sums)

    @property
    def fields(self) -> list[str]:
        common = ["parts_m", "parts_n", "m", "n", "block_m", "block_n", "panels", "batch_dims", "m_dims", "vectors", "rows"]
        if self.kind != "finish":
            common += ["micro", "a_panel_bytes", "panel_bytes", "b_step", "step", "runs"]
        if self.kind == "chunked":
            common += ["chunk", "chunks"]
        if self.kind == "partial":
            common += ["splits", "chunk", "split_chunks", "chunks"]
        if self.block:
            common += ["turn", "depth", "block_rows"]
        if self.lifted:
            common += ["lift"]
        if self.kind != "direct":
            common += ["scratch_panel_bytes"]
        if self.kind in ("partial", "finish"):
            common += ["split_bytes"]
        if self.kind == "finish":
            common += ["splits"]
        if self.sums:
            common += ["sum_line"]
        return common + [f"n_stride{i}" for i in range(len(self.outputs))]

    @property
    def epilogue(self) -> Epilogue:
        return Epilogue(self.accumulate, self.lanes, self.vectors, self.outputs, self.stores, self.sums)

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
        behind = self._enter(f, frame)
        asked = Asked.begin(f) if self.asks else None
        with f.loop("%begin", "%end") as part:
            place, rest = {}, part
            for name in self.order:
                place[name], rest = f.rem(rest, frame[name]), f.div(rest, frame[name])
            ni, mi = place["parts_n"], place["parts_m"]
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
            partials = ""
            if self.sums:
                number = f.add(f.mul(rest, frame["parts_m"]), mi)
                partials = f.at(frame.bases[-1], f.mul(f.mul(number, lines(self.sums)), frame["sum_line"]), "i8")
            self._body(f, Part(frame, runs, bases, rows, first, count, (panel0, panel1), split, partials, behind, asked))
        self._leave(f)
        return f.finish() + module.text() + (behind.ir() if behind is not None else "")

    def _enter(self, f: Function, frame: Frame) -> Any:
        """What a kernel does before its first part; returns what its parts have as ``behind``."""

    def _leave(self, f: Function) -> None:
        """What it does after its last."""

    def _body(self, f: Function, part: Part) -> None:
        """One part."""
        {"direct": self._direct, "chunked": self._chunked, "partial": self._partial, "finish": self._finish}[self.kind](f, part)

    def _sums(self, f: Function, part: Part) -> str:
        """Memory for the sums of a tile."""
        return f.slot(f"[{self.heights[0] * self.row_bytes} x i8]", align=64)

    def _more(self, part: Part) -> str:
        """Further arguments of the inner kernel."""
        return ""

    # ------------------------------------------------------------------------------------------ the four bodies

    def _direct(self, f: Function, part: Part) -> None:
        frame, outputs = part.frame, part.rows[2 : 2 + len(self.outputs)]
        b_base = f.let(f"inttoptr i64 {part.bases[1]} to ptr")
        a = A(part.rows[0], part.runs, frame["runs"], frame["step"])
        depth = frame["depth"] if self.block else ""
        with self._blocks(f, part, a, depth) as (first, count, a), f.loop(*part.panels) as panel:
            columns = self._columns(f, frame, panel)
            b, b_step = self._lift(f, frame, f.at(b_base, f.mul(panel, frame["panel_bytes"]), "i8"), columns, depth)
            with self._tiles(f, count) as (here, height):
                t, tile = f.add(first, here), self._sums(f, part)
                asked = self._ask(f, part, a, outputs, t, (here, height, count), panel)
                self._micro(f, part, tile, a, here, height, b, columns, "0", panel, b_step, asked)
                self._apply(f, part, outputs, Tile("0", panel, t, height, columns, tile))

    def _chunked(self, f: Function, part: Part) -> None:
        frame, outputs = part.frame, part.rows[3 : 3 + len(self.outputs)]
        own = f.let(f"inttoptr i64 {part.bases[2]} to ptr")
        with self._chunks(f, part, own, "0", frame["chunk"]) as tile:
            last = f.compare("eq", f.add(tile.chunk, 1), frame["chunk"])
            with f.when(last):
                self.epilogue.prefetch(f, frame, outputs, tile.first, tile.height, tile.panel)
            tile.product()
            with f.when(last):
                self._apply(f, part, outputs, tile)

    def _partial(self, f: Function, part: Part) -> None:
        frame = part.frame
        own = f.let(f"inttoptr i64 {f.add(part.bases[2], f.mul(part.split, frame['split_bytes']))} to ptr")
        first = f.mul(part.split, frame["split_chunks"])
        with self._chunks(f, part, own, first, f.minimum(f.add(first, frame["split_chunks"]), frame["chunk"])) as tile:
            tile.product()

    def _finish(self, f: Function, part: Part) -> None:
        frame, outputs = part.frame, part.rows[1 : 1 + len(self.outputs)]
        own = f.let(f"inttoptr i64 {part.bases[0]} to ptr")
        if self.sums:
            self._finish_tiles(f, part, outputs, own)
            return
        with f.loop(0, part.count) as r, f.loop(*part.panels) as panel:  # along the rows of the outputs, as they lie in memory
            columns = self._columns(f, frame, panel)
            source = f.at(own, f.mul(panel, frame["scratch_panel_bytes"]), "i8")
            sums = f.at(source, f.mul(f.add(part.first, r), self.row_bytes), "i8")
            self.epilogue.row(f, frame, outputs, r, panel, columns, partial(self._sum_of_splits, f, frame, sums))

    def _finish_tiles(self, f: Function, part: Part, outputs: list[str], own: str) -> None:
        """Some rows of a panel after the other."""
        frame = part.frame
        with f.loop(0, part.count, FINISHED) as r, f.loop(*part.panels) as panel:
            source = f.at(own, f.mul(panel, frame["scratch_panel_bytes"]), "i8")

            def vector(row: str, lane: str, lanes: int, source: str = source) -> str:
                return self._sum_of_splits(f, frame, f.at(source, f.mul(f.add(part.first, row), self.row_bytes), "i8"), lane, lanes)

            height, columns = f.minimum(f.sub(part.count, r), FINISHED), self._columns(f, frame, panel)
            self.epilogue.tile(f, frame, outputs, r, height, panel, columns, vector, part.partials)

    # ------------------------------------------------------------------------------------------ their pieces

    @contextmanager
    def _chunks(self, f: Function, part: Part, own: str, chunk0: str, chunk1: str) -> Iterator[Tile]:
        """The tiles of a part, chunk after chunk of the reduction, with sums at ``own``. ``chunks`` at the end of the parameters: for
        each (first run, one past the last, first position, positions)."""
        frame = part.frame
        b_base = f.let(f"inttoptr i64 {part.bases[1]} to ptr")
        table = f.at("%params", frame["chunks"])
        with f.loop(chunk0, chunk1) as chunk:
            line = f.at(table, f.mul(chunk, 4))
            run0, run1, position, length = (f.load(line, i) for i in range(4))
            a = A(part.rows[0], f.at(part.runs, f.mul(run0, 2)), f.sub(run1, run0), frame["step"])
            skipped = f.mul(position, frame["b_step"])
            again = f.let(f"zext i1 {f.compare('sgt', chunk, chunk0)} to i64")
            with self._blocks(f, part, a, length) as (first, count, a), f.loop(*part.panels) as panel:
                columns = self._columns(f, frame, panel)
                b = f.at(b_base, f.add(f.mul(panel, frame["panel_bytes"]), skipped), "i8")
                b, b_step = self._lift(f, frame, b, columns, length)
                target = f.at(own, f.mul(panel, frame["scratch_panel_bytes"]), "i8")
                with self._tiles(f, count) as (here, height):
                    t = f.add(first, here)
                    tile = f.at(target, f.mul(f.add(part.first, t), self.row_bytes), "i8")
                    product = partial(self._micro, f, part, tile, a, here, height, b, columns, again, panel, b_step)
                    yield Tile(chunk, panel, t, height, columns, tile, product)

    def _apply(self, f: Function, part: Part, outputs: list[str], tile: Tile) -> None:
        """The epilogue of a tile of finished sums."""
        frame = part.frame
        if self.sums:
            def vector(row: str, lane: str, lanes: int) -> str:
                return self._tile_vector(f, f.at(tile.sums, f.mul(f.sub(row, tile.first), self.row_bytes), "i8"), lane, lanes)

            self.epilogue.tile(f, frame, outputs, tile.first, tile.height, tile.panel, tile.columns, vector, part.partials)
            return
        with f.loop(0, tile.height) as r:
            sums = f.at(tile.sums, f.mul(r, self.row_bytes), "i8")
            self.epilogue.row(f, frame, outputs, f.add(tile.first, r), tile.panel, tile.columns, partial(self._tile_vector, f, sums))

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
    def _blocks(self, f: Function, part: Part, a: A, depth: str) -> Iterator[tuple[str, str, A]]:
        """The part's rows of A, block by block: (first row, rows, how to read them). One block where A is read in place."""
        frame, rows = part.frame, part.count
        if not self.block:
            yield "0", rows, a
            return
        make = self._copy if self.block == "copied" else self._turn
        done = f.slot("i64", "0")
        with f.loop_while(done, "slt", rows) as first:
            count = f.minimum(f.sub(rows, first), frame["block_rows"])
            yield first, count, make(f, frame, a, first, count, depth, f.sub(rows, first))
            f.set(done, f.add(first, count))

    def _copy(self, f: Function, frame: Frame, a: A, first: str, count: str, depth: str, left: str) -> A:
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

    def _turn(self, f: Function, frame: Frame, a: A, first: str, count: str, depth: str, left: str) -> A:
        """A copy of some rows for ``depth`` positions of the reduction: block after block, each as ``out[k][row]``."""
        item, together = self.accumulate.itemsize, turned_rows(self.heights[0], self.lanes)
        pitch = turned_pitch(together, self.lanes) * item
        room, rows, run = f.slot(f"[{BLOCK_BYTES} x i8]", align=64), f.slot(f"[{MAX_ROWS} x i64]"), f.slot("[2 x i64]")
        f.set(run, "0")
        f.set(f.at(run, 1), depth)
        turn = f.let(f"inttoptr i64 {frame['turn']} to ptr")
        block_bytes = f.add(f.mul(depth, pitch), LINE)  # so that a position's vectors of all blocks do not share a place of the cache
        f.do(f"call void {turn}(ptr {room}, ptr {f.at(a.rows, first)}, i64 {count}, ptr {a.runs}, i64 {a.n_runs}, i64 {a.step}, "
             f"i64 {block_bytes})")  # fmt: skip
        start = f.let(f"ptrtoint ptr {room} to i64")
        with f.loop(0, count) as r:
            block = f.add(start, f.mul(f.div(r, together), block_bytes))
            f.set(f.at(rows, r), f.add(block, f.mul(f.rem(r, together), item)))
        return A(rows, run, "1", str(pitch))

    def _lift(self, f: Function, frame: Frame, b: str, columns: str, depth: str) -> tuple[str, str]:
        """(address, bytes per step) of a panel of B for ``depth`` positions of the reduction: a copy of it, or in place."""
        if not self.lifted:
            return b, frame["b_step"]
        room = f.slot(f"[{CHUNK * self.row_bytes} x i8]", align=LINE)
        lift = f.let(f"inttoptr i64 {frame['lift']} to ptr")
        f.do(f"call void {lift}(ptr {room}, ptr {b}, i64 {columns}, i64 {depth}, i64 {frame['b_step']}, i64 {self.row_bytes})")
        return room, str(self.row_bytes)

    def _ask(self, f: Function, part: Part, a: A, outputs: list[str], row: str, place: tuple[str, str, str], panel: str) -> str:
        """Asks for what the tile at ``row`` will touch, or has the micro-kernel do so: then its arguments. ``place``: the tile's first row
        and height, and the rows of the block."""
        frame = part.frame
        here, height, count = place
        if part.asked is None:
            self.epilogue.prefetch(f, frame, outputs, row, height, panel)
            return ""
        first = f.compare("eq", panel, part.panels[0])
        start = part.asked.list_of(f, first)
        end = f.slot("ptr")
        f.set(end, start, "ptr")
        self.epilogue.ask(f, frame, outputs, row, height, panel, end)

        def written() -> str:
            return f.div(f.sub(f.let(f"ptrtoint ptr {f.get(end, 'ptr')} to i64"), f.let(f"ptrtoint ptr {start} to i64")), 8)

        if not self.block:  # A is read in place: as far as one run goes, from one number to its neighbour
            item = self.accumulate.itemsize
            tests = first, f.compare("eq", a.n_runs, 1), f.compare("eq", a.step, item)
            with f.when(f.let(f"and i1 {f.let(f'and i1 {tests[0]}, {tests[1]}')}, {tests[2]}")):
                after = f.add(here, height)
                rows = f.minimum(f.sub(count, after), self.heights[0])
                part.asked.rows(f, end, written(), f.at(a.rows, after), rows, f.load(a.runs), f.mul(f.load(a.runs, 1), item))
        return f", ptr {start}, i64 {written()}"

    def _micro(
        self, f: Function, part: Part, tile: str, a: A, first: str, height: str, b: str, columns: str, again: str, panel: str, b_step: str,
        asked: str = "",
    ) -> None:  # fmt: skip
        frame = part.frame
        shift = f.mul(panel, frame["a_panel_bytes"])
        micro = f.let(f"inttoptr i64 {frame['micro']} to ptr")
        f.do(
            f"call void {micro}(ptr {tile}, ptr {f.at(a.rows, first)}, i64 {height}, ptr {a.runs}, i64 {a.n_runs}, i64 {a.step}, "
            f"ptr {b}, i64 {b_step}, i64 {columns}, i64 {again}, i64 {shift}{self._more(part)}{asked})"
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
