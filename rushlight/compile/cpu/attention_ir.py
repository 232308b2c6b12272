"""The kernels of attention, as LLVM IR text: forward, backward, and the sum of a backward that was split.

All have the executor's form. Queries lie along the vectors (see ``attention_tiles``): a block of ``width`` queries goes
through the keys, a tile of them at a time.

* Forward: the scores of a tile; the running maximum of each query; exponentials and their running sum; the result so far
  is scaled down where the maximum has grown, and the tile's weights times its values are added. A part is some
  blocks of queries of one head.
* Backward: scores again, weights from what was saved of each row; their gradient; then a product for each of the gradients of
  q (which stays in the first-level cache), k and v (which are added to where they lie, by the blocks of queries in their
  order). A part is all queries of one key head, or every n-th block of them: then each part adds up gradients of its own,
  and ``add`` puts them together.

Blocks above the diagonal are never looked at; on it, products leave the first vector of queries out for keys that only the second
sees. A mask is looked at tile by tile: what it shuts wholly is left out, and what it leaves alone is computed without it.

``fields`` names the parameters after the operands' pointer pairs; a stride is in bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rushlight.compile.attention import MAX_HEAD
from rushlight.compile.cpu import mathlib
from rushlight.compile.cpu.attention_ahead import Block, Queue, ask_ahead, ask_first, define, what_comes
from rushlight.compile.cpu.attention_keys import Add, Gather
from rushlight.compile.cpu.attention_tiles import Tiles
from rushlight.compile.cpu.attention_writer import Writer
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import intrinsic_suffix, mask, masked_load
from rushlight.compile.cpu.values import V, literal, splat, where

__all__ = ["SQUARES", "AttentionKernel", "Backward", "Forward"]

#: Keys and values for the tile unit: row by row, or turned (``attention_unit.py``).
SQUARES = ("lines_k", "lines_v", "turned_k", "turned_v")
_OPERANDS = {"forward": ("q", "k", "v", "mask", "seed", "out", "stats", "lines_k", "turned_v"),
             "backward": ("q", "k", "v", "result", "grad", "stats", "mask", "seed", "to_q", "to_k", "to_v", "into_k", "into_v",
                          "pairs_k", "lines_k", "lines_v", "turned_k"),
             "few": ("q", "k", "v", "mask", "out", "stats"), "few in pieces": ("q", "k", "v", "mask", "parts"),
             "join": ("parts", "out", "stats"),
             "gather": ("near_k", "near_v", "k", "v"), "apart": ("k", "v", *SQUARES),
             "add": ("parts_k", "parts_v", "to_k", "to_v")}  # fmt: skip
#: Of each operand, the dimensions that it moves along: batch, query head or key head, query or key. Each row's largest score and
#: share (one over its sum) lie in ``stats``, ``n`` apart.
_DIMS = {"q": "bhl", "k": "bgs", "v": "bgs", "mask": "bhls", "seed": "", "out": "bhl", "stats": "bhnl", "result": "bhl", "grad": "bhl",
         "to_q": "bhl", "to_k": "bgs", "to_v": "bgs", "into_k": "bgs", "into_v": "bgs", "parts_k": "ns", "parts_v": "ns",
         "near_k": "ns", "near_v": "ns", "parts": "n", "pairs_k": "bgs", **dict.fromkeys(SQUARES, "ns")}  # fmt: skip
_COMMON = ("heads", "group", "length", "source", "e_size", "v_size", "blocks", "chunk", "scale")


@dataclass(frozen=True)
class AttentionKernel:
    """``kind``: "forward", "backward", "gather" or "add"; of few queries "few", or "few in pieces" and "join".

    The heads of a wide joint projection have rows that are far apart: they fall into few sets of the caches, and each into a page
    of its own. So "gather" puts keys and values side by side first. A ``far`` backward does that with a block of queries and
    its gradients, and adds up gradients of k and v in scratch memory, side by side, too; a part that has all of them
    then copies them to where they belong. For 16 heads of 64 the backward takes a third of the time.
    """

    kind: str
    tiles: Tiles
    causal: bool
    masked: bool
    drops: bool = False
    far: bool = False
    pairs: bool = False  # operands of bfloat16, multiplied by pairs: ``attention_pairs.py``
    unit: bool = False   # products on the tile unit: ``attention_unit.py``
    fills: bool = False  # the mask's numbers take the place of scores; else they are added
    strict: bool = False  # a row that sees nothing is NaN

    @property
    def key(self) -> str:
        return (f"attention24 {self.kind} {self.tiles.key} {self.causal} {self.masked} {self.drops} {self.far} {self.pairs} {self.unit} "
                f"{self.fills} {self.strict}")  # fmt: skip

    @property
    def operands(self) -> list[str]:
        left_out = {"mask": not self.masked, "seed": not self.drops, "into_k": not self.far, "into_v": not self.far,
                    "pairs_k": not self.pairs}  # fmt: skip
        return [x for x in _OPERANDS[self.kind] if not left_out.get(x) and (self.unit or x not in SQUARES)]

    @property
    def fields(self) -> list[str]:
        splits = {"backward": ("to_k_split", "to_v_split"), "add": ("k_split", "v_split"),
                  "apart": tuple(f"{x}_columns" for x in SQUARES), "join": ("rows",)}.get(self.kind, ())  # fmt: skip
        numbers = [*(("limit", "growth") if self.drops else ()), *(("fill",) if self.masked else ())]
        local: tuple[str, ...] = ()
        if self.unit and self.kind in ("forward", "backward"):
            local = ("local", *(f"{x}_at" for x in self.operands if x in (*SQUARES, "to_k", "to_v")))
        return [*_COMMON, *splits, *numbers, *local, *(f"{x}_{d}" for x in self.operands for d in _DIMS[x])]

    @property
    def tile_rows(self) -> int:
        """Keys of a tile: few enough for the first-level cache, a whole number of the tallest products. On the diagonal tiles fall to
        pieces, of which larger ones have fewer."""
        if self.unit:
            return 128 if self.kind == "forward" else 64
        if self.tiles.vectors > 2:
            return 64  # whole blocks of queries: a tile on the diagonal falls to no more pieces than it must
        tall = self.tiles.heights(self.tiles.vectors)[0]
        if tall == 14 and self.kind == "backward" and self.causal:
            return 64  # likewise
        rows = 112 if self.kind == "forward" or self.causal else 56
        return rows // tall * tall

    def ir(self) -> str:
        module = Module()
        f = Function("void @attention(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
        frame = Frame(f, len(self.operands), self.fields)
        writers: dict[str, type[Writer]] = {"forward": Forward, "backward": Backward, "gather": Gather, "add": Add}
        if self.pairs:
            from rushlight.compile.cpu.attention_pairs import WRITERS  # which derives from these

            writers |= WRITERS
        if self.kind in ("few", "few in pieces", "join"):
            from rushlight.compile.cpu.attention_few import Few, FewInPieces, Join  # likewise

            writers |= {"few": Few, "few in pieces": FewInPieces, "join": Join}
        if self.unit:
            from rushlight.compile.cpu.attention_unit import UNIT_WRITERS  # likewise

            writers |= UNIT_WRITERS
        writer = writers[self.kind](self, module, f, frame)
        writer.begin()
        with f.loop("%begin", "%end") as part:
            writer.part(part)
        writer.end()
        return f.finish() + module.text()


class Forward(Writer):
    products: tuple[str, ...] = ("product",)

    def begin(self) -> None:
        super().begin()
        self.asked = Queue(self.f)

    def part(self, part: str) -> None:
        f, frame = self.f, self.frame
        self.define(*self.products, "turn_in", "turn_out")
        define(self.module)
        self.queries, self.out = self.buffer(MAX_HEAD), self.buffer(MAX_HEAD)
        self.scores, self.factors = self.buffer(self.kernel.tile_rows), self.buffer(1)
        self.numbers = self.mask_buffer()
        self.tiles_made()
        self.most, self.total = f.slot(self.vector), f.slot(self.vector)
        b, h, g, first = self.place_of(part)
        self.head(b, g)
        begins = f.compare("eq", part, "%begin")
        with f.when(begins):
            ask_first(self, b, g)
        fresh = f.let(f"or i1 {begins}, {f.compare('eq', first, 0)}")  # keys and values that the thread has not seen
        after, width = f.add(part, 1), self.tiles.width
        other = self.place_of(after)
        end = f.minimum(f.add(first, frame["chunk"]), frame["blocks"])
        with f.loop(first, end) as block:
            following = f.add(block, 1)
            opens, closes = f.let(f"and i1 {f.compare('eq', block, first)}, {fresh}"), f.compare("eq", following, end)
            present, same = (Block(b, h, g, f.mul(x, width)) for x in (block, following))
            self.coming = what_comes(self, present, same, opens, closes, after, Block(*other[:3], f.mul(other[3], width)))
            self.block(b, h, g, f.mul(block, self.tiles.width))

    def place_of(self, part: str) -> tuple[str, str, str, str]:
        """Batch, query head, key head, first block."""
        f, frame = self.f, self.frame
        chunks = f.div(f.add(frame["blocks"], f.sub(frame["chunk"], 1)), frame["chunk"])
        head, chunk = f.div(part, chunks), f.rem(part, chunks)
        b, h = f.div(head, frame["heads"]), f.rem(head, frame["heads"])
        return b, h, f.div(h, frame["group"]), f.mul(chunk, frame["chunk"])

    def block(self, b: str, h: str, g: str, query: str) -> None:
        f, frame = self.f, self.frame
        rows = f.minimum(f.sub(frame["length"], query), self.tiles.width)
        self.fill_vectors(rows)
        self.turned(self.queries, "q", rows, "e_size", self.number(frame["scale"]), b=b, h=h, l=query)
        self.set(self.most, self.constant(-math.inf))
        self.set(self.total, self.constant(0))
        keys = self.keys_of(query, rows)
        with f.loop(0, keys, self.kernel.tile_rows) as key:
            ask_ahead(self, self.coming, key, keys, (("q", "e_size"),), "", False)
            self.tile(b, h, g, query, rows, key, f.minimum(f.sub(keys, key), self.kernel.tile_rows))
        total = self.get(self.total)
        none = total.eq(0)
        whole = self.growth if self.kernel.drops else self.constant(1)
        nothing = self.constant(math.nan if self.kernel.strict else 0)
        self.store(self.factors, where(none, nothing, whole / total))
        self.turn_out("out", self.out, rows, frame["v_size"], self.factors, b=b, h=h, l=query)
        f.module.declare(f"void @llvm.masked.store.{self.suffix}.p0({self.vector}, ptr, i32, <{self.tiles.width} x i1>)")
        for n, value in enumerate((self.get(self.most), self.constant(1) / total)):
            value, at = where(none, nothing, value), self.place("stats", b=b, h=h, n=str(n), l=query)
            f.do(f"call void @llvm.masked.store.{self.suffix}.p0({value!r}, ptr {at}, i32 {self.dtype.itemsize}, {self.lanes(rows)!r})")

    @property
    def suffix(self) -> str:
        return intrinsic_suffix(self.dtype, self.tiles.width)

    def tile(self, b: str, h: str, g: str, query: str, rows: str, key: str, count: str) -> None:
        if not self.kernel.masked:
            self.keys(b, h, g, query, rows, key, count, "")
            return
        f = self.f
        endless = f.let(f"fcmp oeq {self.fill!r}, {literal(self.scalar, -math.inf)}")
        trims = f.let(f"or i1 {endless}, {self.beyond(self.get(self.most))}")
        count, plain = self.left_by_mask(self.place("mask", b=b, h=h, l=query, s=key), rows, key, count, trims)
        with f.when(f.compare("sgt", count, 0)):
            self.mask_tile(plain, rows, count, b=b, h=h, l=query, s=key)
            self.keys(b, h, g, query, rows, key, count, plain)

    def keys(self, b: str, h: str, g: str, query: str, rows: str, key: str, count: str, plain: str) -> None:
        f, frame = self.f, self.frame
        again = f.let(f"zext i1 {f.compare('sgt', key, 0)} to i64")
        self.look(query, key, count)
        self.scored(self.scores, "k", self.queries, "e_size", count, b=b, g=g, s=key)
        before = self.get(self.most)
        self.each_masked_key(plain, count, key, query, self.bounded)
        most = self.get(self.most)
        # Where nothing has been seen yet, the maximum is -inf, and so would be all differences NaN.
        self.shift = where(most.eq(-math.inf), self.constant(0), most)
        self.now = f.slot(self.vector)
        self.set(self.now, self.constant(0))
        self.weigh(b, h, query, key, count)
        shrink = mathlib.call("exp", before - self.shift)
        self.set(self.total, self.get(self.total) * shrink + self.get(self.now))
        with f.when(f.compare("ne", again, 0)), f.loop(0, frame["v_size"]) as d:
            at = self.row_of(self.out, d)
            self.store(at, self.load(at) * shrink)
        self.summed(self.out, "v", self.scores, count, "v_size", again, b=b, g=g, s=key)

    def bounded(self, r: str, on: V | None, masked: bool) -> None:
        """A row of scores, masked; the running maximum."""
        at = self.row_of(self.scores, r)
        value = self.score(at)
        if masked:
            value = self.masked(value, self.load(self.row_of(self.numbers, r)))
        if masked or self.scales_late:
            self.store(at, value)
        most = self.get(self.most)
        above = value.gt(most)
        self.set(self.most, where(above if on is None else above & on, value, most))

    def weigh(self, b: str, h: str, query: str, key: str, count: str) -> None:
        self.each_key(count, key, query, lambda r, on: self.weighed(b, h, query, self.f.add(key, r), r, on))

    def weighed(self, b: str, h: str, query: str, key: str, r: str, on: V | None) -> None:
        """A row of scores becomes one of weights; their running sum, which counts those that are dropped, too."""
        weight = mathlib.call("exp", self.load(self.row_of(self.scores, r)) - self.shift)
        if on is not None:
            weight = where(on, weight, 0.0)
        self.set(self.now, self.get(self.now) + weight)
        self.keep(self.scores, r, where(self.kept(b, h, query, key), weight, 0.0) if self.kernel.drops else weight)


class Backward(Writer):
    products: tuple[str, ...] = ("product", "product_part")

    def begin(self) -> None:
        super().begin()
        self.asked = Queue(self.f)

    def part(self, part: str) -> None:
        f, frame = self.f, self.frame
        self.define(*self.products, "turn_in", "turn_out")
        define(self.module)
        if not self.kernel.pairs:
            self.define("row_products")
        if self.kernel.far:
            self.define("copy_rows")
        self.query_rows, self.grad_rows = (self.buffer(MAX_HEAD) if self.kernel.far else "" for _ in range(2))
        self.queries, self.grads, self.to_q = self.buffer(MAX_HEAD), self.buffer(MAX_HEAD), self.buffer(MAX_HEAD)
        self.weights, self.changes = self.buffer(self.kernel.tile_rows), self.buffer(self.kernel.tile_rows)
        self.numbers = self.mask_buffer()
        self.tiles_made()
        self.ones = self.buffer(1)
        self.store(self.ones, self.constant(1))
        self.inner = f.slot(self.vector, align=64)
        splits = frame["chunk"]
        b, g, split = self.place_of(part)
        self.head(b, g)
        with f.when(f.compare("eq", part, "%begin")):
            ask_first(self, b, g)
        after, width = f.add(part, 1), self.tiles.width
        other_b, other_g, other_split = self.place_of(after)
        other = Block(other_b, f.mul(other_g, frame["group"]), other_g, f.mul(other_split, width))
        # A split part of the work adds up in a place of its own: its number times the bytes of one such place.
        self.moved = {name: f.mul(split, frame[f"{name}_split"]) for name in ("to_k", "to_v")}
        # How many keys have gradients already: the first block of queries that sees a key writes them, later ones add to them.
        self.known = f.slot("i64", "0")
        if self.kernel.masked or self.kernel.unit:  # tiles that a mask shuts are left out
            self.clear(b, g)
        with f.loop(0, frame["group"]) as i:
            h = f.add(f.mul(g, frame["group"]), i)
            block = f.slot("i64", split)
            with f.loop_while(block, "slt", frame["blocks"]) as at:
                following = f.add(at, splits)
                ends = f.compare("sge", following, frame["blocks"])
                opens = f.let(f"and i1 {f.compare('eq', i, 0)}, {f.compare('eq', at, split)}")
                closes = f.let(f"and i1 {f.compare('eq', f.add(i, 1), frame['group'])}, {ends}")
                present, query = Block(b, h, g, f.mul(at, width)), f.mul(f.let(f"select i1 {ends}, i64 {split}, i64 {following}"), width)
                same = Block(b, f.add(h, f.let(f"zext i1 {ends} to i64")), g, query)
                self.coming = what_comes(self, present, same, opens, closes, after, other)
                self.block(b, h, g, f.mul(at, self.tiles.width))
                f.set(block, f.add(at, splits))
            self.clear(b, g)
        if self.kernel.far:
            with f.when(f.compare("eq", splits, 1)):
                for x, size in (("k", "e_size"), ("v", "v_size")):
                    into, source = self.place(f"into_{x}", b=b, g=g), self.gradient(f"to_{x}", b, g, "0")
                    f.do(f"call void @copy_rows(ptr {into}, i64 {frame[f'into_{x}_s']}, ptr {source}, i64 {frame[f'to_{x}_s']}, "
                         f"i64 {frame['source']}, i64 {frame[size]})")  # fmt: skip

    def place_of(self, part: str) -> tuple[str, str, str]:
        """Batch, key head, which of the pieces that the head's blocks are split into."""
        f, frame = self.f, self.frame
        head, split = f.div(part, frame["chunk"]), f.rem(part, frame["chunk"])
        groups = f.div(frame["heads"], frame["group"])
        return f.div(head, groups), f.rem(head, groups), split

    def gradient(self, name: str, b: str, g: str, s: str) -> str:
        return self.f.at(self.place(name, b=b, g=g, s=s), self.moved[name], "i8")

    def clear(self, b: str, g: str) -> None:
        """Gradients of zero for the keys that no query has seen."""
        f, lanes = self.f, self.tiles.lanes
        for name, size in (("to_k", "e_size"), ("to_v", "v_size")):
            columns = self.frame[size]
            with f.loop(f.get(self.known), self.frame["source"]) as s:
                place = self.gradient(name, b, g, s)
                with f.loop(0, columns, lanes) as e:
                    at = f.at(place, f.mul(e, self.dtype.itemsize), "i8")
                    self.tiles.store(f, at, "zeroinitializer", mask(f, f.sub(columns, e), lanes))
        f.set(self.known, self.frame["source"])

    def block(self, b: str, h: str, g: str, query: str) -> None:
        f, frame = self.f, self.frame
        rows = f.minimum(f.sub(frame["length"], query), self.tiles.width)
        self.fill_vectors(rows)
        here = {"b": b, "h": h, "l": query}
        self.turned(self.queries, "q", rows, "e_size", self.number(frame["scale"]), **here)
        self.turned(self.grads, "grad", rows, "v_size", self.one, **here)
        self.inner_products(rows, here)
        on, width = self.lanes(rows), self.tiles.width
        most, self.share = (V(f, masked_load(f, self.place("stats", n=n, **here), self.dtype, width, on.name), self.scalar, width)
                            for n in ("0", "1"))  # fmt: skip
        self.most = where(on, most, math.inf)  # lanes beyond the last query get no weight
        self.sources = {name: self.near(buffer, self.place(name, **here), frame[f"{name}_l"], rows, size)
                        for name, buffer, size in (("q", self.query_rows, "e_size"), ("grad", self.grad_rows, "v_size"))}
        keys = self.keys_of(query, rows)
        with f.loop(0, keys, self.kernel.tile_rows) as key:
            reads = ("q", "e_size"), ("grad", "v_size"), ("result", "v_size")
            ask_ahead(self, self.coming, key, keys, reads, "to_q", not self.kernel.far)
            self.tile(b, h, g, query, rows, key, f.minimum(f.sub(keys, key), self.kernel.tile_rows))
        f.set(self.known, f.maximum(f.get(self.known), keys))
        self.turn_out("to_q", self.to_q, rows, frame["e_size"], self.ones, **here)

    def inner_products(self, rows: str, here: dict[str, str]) -> None:
        """For each query, its result times the gradient of that: what softmax's gradient subtracts."""
        places = (f"ptr {self.place(name, **here)}, i64 {self.frame[f'{name}_l']}" for name in ("result", "grad"))
        self.f.do(f"call void @row_products(ptr {self.inner}, {', '.join(places)}, i64 {rows}, i64 {self.frame['v_size']})")

    def tile(self, b: str, h: str, g: str, query: str, rows: str, key: str, count: str) -> None:
        if not self.kernel.masked:
            self.keys(b, h, g, query, rows, key, count, "")
            return
        f, start = self.f, self.place("mask", b=b, h=h, l=query, s=key)
        count, plain = self.left_by_mask(start, rows, key, count, self.beyond(self.most))
        with f.when(f.compare("sgt", count, 0)):
            self.mask_tile(plain, rows, count, b=b, h=h, l=query, s=key)
            self.keys(b, h, g, query, rows, key, count, plain)

    def keys(self, b: str, h: str, g: str, query: str, rows: str, key: str, count: str, plain: str) -> None:
        f = self.f
        again = f.let(f"zext i1 {f.compare('sgt', key, 0)} to i64")
        self.look(query, key, count)
        self.scored(self.weights, "k", self.queries, "e_size", count, b=b, g=g, s=key)
        self.scored(self.changes, "v", self.grads, "v_size", count, b=b, g=g, s=key)
        self.derive(b, h, query, rows, key, count, plain)
        self.summed(self.to_q, "k", self.changes, count, "e_size", again, b=b, g=g, s=key)
        self.to_keys(b, g, rows, key, count)

    def derive(self, b: str, h: str, query: str, rows: str, key: str, count: str, plain: str) -> None:
        self.each_masked_key(plain, count, key, query, lambda r, on, masked: self.derived(
            b, h, query, self.f.add(key, r), r, on, masked))  # fmt: skip

    def to_keys(self, b: str, g: str, rows: str, key: str, count: str) -> None:
        """What the block adds to the gradients of the present tile's keys and values."""
        f, frame, item = self.f, self.frame, self.dtype.itemsize
        known = f.minimum(f.maximum(f.sub(f.get(self.known), key), "0"), count)
        for name, tile, size, source in (("to_v", self.weights, "v_size", "grad"), ("to_k", self.changes, "e_size", "q")):
            into, (other, other_row) = self.gradient(name, b, g, key), self.sources[source]
            left, left_row = self.left_of(tile)
            for vector, first, keys in self.each_sight(count):
                skipped = self.steps_of(str(vector * self.tiles.lanes))  # queries, before those that see these keys
                # The first vector sees keys that others have seen, and new ones.
                old = f.minimum(f.maximum(f.sub(known, first), "0"), keys)
                for again, begin, many in ((1, first, old), (0, f.add(first, old), f.sub(keys, old))):
                    with f.when(f.compare("sgt", many, 0)):
                        self.gathered(name, size, f.at(into, f.mul(frame[f"{name}_s"], begin), "i8"),
                                      f.at(f.at(left, f.mul(begin, left_row), "i8"), f.mul(skipped, item), "i8"), left_row,
                                      f.at(other, f.mul(other_row, skipped), "i8"), other_row, f.sub(self.steps_of(rows), skipped),
                                      many, again)  # fmt: skip

    def gathered(self, name: str, size: str, into: str, left: str, left_row: int, other: str, other_row: str, steps: str,
                 rows: str, again: int) -> None:  # fmt: skip
        """Rows of a tile times rows of the block's queries (or their gradients): the gradients of so many keys, or a part of them."""
        f, frame, item, lanes = self.f, self.frame, self.dtype.itemsize, self.tiles.lanes
        with f.loop(0, frame[size], self.tiles.width) as e:
            columns, start = f.minimum(f.sub(frame[size], e), self.tiles.width), f.mul(e, item)
            for vectors in f.cases(f.div(f.add(columns, lanes - 1), lanes), range(1, self.tiles.vectors + 1)):
                self.tiles.call(f, f"product_part_{vectors}", f.at(into, start, "i8"), frame[f"{name}_s"], left, left_row, item,
                                f.at(other, start, "i8"), other_row, steps, rows, columns, again, self.asked.place)  # fmt: skip

    def left_of(self, tile: str) -> tuple[str, int]:
        """A tile whose rows are multiplied by rows of the block's queries: where it is, bytes of a row."""
        return tile, self.row

    def derived(self, b: str, h: str, query: str, key: str, r: str, on: V | None, masked: bool) -> None:
        """A row of scores becomes weights, a row of the weights' gradients becomes those of the scores."""
        weights, changes = self.row_of(self.weights, r), self.row_of(self.changes, r)
        score = self.score(weights)
        numbers = self.load(self.row_of(self.numbers, r)) if masked else None
        if numbers is not None:
            score = self.masked(score, numbers)
        below = score - self.most
        weight = mathlib.call("exp", where(below.gt(0.0), 0.0, below)) * self.share  # huge scores are rounded by more than 1
        if on is not None:
            weight = where(on, weight, 0.0)
        used, change = weight, self.load(changes)
        if self.kernel.drops:
            factor = where(self.kept(b, h, query, key), self.growth, 0.0)
            used, change = weight * factor, change * factor
        self.keep(self.weights, r, used)
        scale = splat(V(self.f, self.number(self.frame["scale"]), self.scalar), self.tiles.width)
        change = weight * (change - self.get(self.inner)) * scale
        if numbers is not None and self.kernel.fills:
            change = where(numbers.eq(0.0), change, 0.0)  # a number that stands in a score's place has no gradient
        self.keep(self.changes, r, change)
