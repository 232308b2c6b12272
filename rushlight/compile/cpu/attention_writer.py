"""What the kernels of attention are written with: operands, rows of tiles, scores, products (see ``attention_ir``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rushlight.compile.cpu.contract_epilogue import gather, scattered
from rushlight.compile.cpu.frame import Frame
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import ir_type, mask, masked_load
from rushlight.compile.cpu.nest_scope import iota
from rushlight.compile.cpu.values import V, const, splat, where

if TYPE_CHECKING:
    from rushlight.compile.cpu.attention_ahead import Queue
    from rushlight.compile.cpu.attention_ir import AttentionKernel

__all__ = ["Writer"]


class Writer:
    """What the kernels share."""

    def __init__(self, kernel: AttentionKernel, module: Module, f: Function, frame: Frame) -> None:
        self.kernel, self.tiles, self.f, self.frame = kernel, kernel.tiles, f, frame
        self.module = module
        self.base = dict(zip(kernel.operands, frame.bases, strict=True))
        self.dtype = self.tiles.dtype
        self.scalar = ir_type(self.dtype)
        self.row = self.tiles.row
        self.slim = "false"  # whether the present block's queries fill one vector at most
        self.used = ""       # how many vectors they fill, the last one not wholly
        self.asked: Queue    # of the rows that come next
        self.numbers = ""    # with a mask: that of the present tile, turned
        self.seen: list[str] = []  # with a causal mask: of the present tile, how many rows' keys each vector but the last sees some of

    def begin(self) -> None:
        """Before the first part."""

    def part(self, part: str) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """After the last one."""

    # -- addresses -----------------------------------------------------------------------------------------------
    def place(self, name: str, **at: str) -> str:
        """The address of an operand at a position."""
        offset = "0"
        for d, position in at.items():
            offset = self.f.add(self.f.mul(position, self.frame[f"{name}_{d}"]), offset)
        return self.f.at(self.base[name], offset, "i8")

    def mask_buffer(self) -> str:
        """For ``numbers``: whole vectors of keys."""
        lanes = self.tiles.lanes
        return self.buffer(-(-self.kernel.tile_rows // lanes) * lanes) if self.kernel.masked else ""

    def buffer(self, rows: int) -> str:
        return self.f.slot(f"[{rows * self.tiles.width} x {self.scalar}]", align=64)

    def number(self, bits: str) -> str:
        """A parameter that is a floating-point number."""
        if self.scalar == "double":
            return self.f.let(f"bitcast i64 {bits} to double")
        return self.f.let(f"bitcast i32 {self.f.let(f'trunc i64 {bits} to i32')} to float")

    # -- rows of tiles -------------------------------------------------------------------------------------------
    @property
    def vector(self) -> str:
        return ir_type(self.dtype, self.tiles.width)

    def load(self, place: str) -> V:
        value = self.f.let(f"load {self.vector}, ptr {place}, align {self.dtype.itemsize}")
        return V(self.f, value, self.scalar, self.tiles.width)

    def store(self, place: str, value: V) -> None:
        self.f.do(f"store {value!r}, ptr {place}, align {self.dtype.itemsize}")

    def get(self, slot: str) -> V:
        return V(self.f, self.f.get(slot, self.vector), self.scalar, self.tiles.width)

    def set(self, slot: str, value: V) -> None:
        self.f.set(slot, value.name, self.vector)

    def constant(self, value: float) -> V:
        return const(self.f, self.scalar, self.tiles.width, value)

    def row_of(self, tile: str, r: str) -> str:
        return self.f.at(tile, self.f.mul(r, self.row), "i8")

    def lanes(self, count: str) -> V:
        """Whether a lane's number is less than ``count``."""
        return V(self.f, mask(self.f, count, self.tiles.width), "i1", self.tiles.width)

    # -- scores --------------------------------------------------------------------------------------------------
    def left_by_mask(self, start: str, rows: str, key: str, count: str, trims: str) -> tuple[str, str]:
        """What the mask leaves of a tile of ``count`` keys from ``key`` on: how many of them, and (i1) whether it says nothing.

        Where ``trims`` (i1), keys at the end that no query of the block sees are left out, a vector of them at a time: of a mask
        below a diagonal half. Of a block's first tile something always remains, because it sets the sums that others add to.
        ``start``: the mask at the block's first query and the tile's first key."""
        f, lanes, item, step = self.f, self.tiles.lanes, self.dtype.itemsize, self.frame["mask_l"]
        bits = V(f, "zeroinitializer", "i32" if self.scalar == "float" else "i64", lanes)
        left, plain = f.slot("i64", count), f.slot("i1", "false")
        with f.when(f.compare("eq", self.frame["mask_s"], item)):  # else it is looked up number by number
            shut = splat(self.fill, lanes).bits()
            any_bits, open_bits = f.slot(bits.text, bits.name), f.slot(bits.text)
            last = f.slot("i64", "0")
            looked_at = f.let(f"select i1 {f.compare('eq', step, 0)}, i64 1, i64 {rows}")
            with f.loop(0, count, lanes) as s:
                on = mask(f, f.sub(count, s), lanes)
                f.set(open_bits, bits.name, bits.text)
                with f.loop(0, looked_at) as r:
                    place = f.at(start, f.add(f.mul(s, item), f.mul(r, step)), "i8")
                    here = V(f, masked_load(f, place, self.dtype, lanes, on), self.scalar, lanes).bits()
                    f.set(any_bits, (V(f, f.get(any_bits, bits.text), bits.type, lanes) | here << 1).name, bits.text)
                    f.set(open_bits, (V(f, f.get(open_bits, bits.text), bits.type, lanes) | here ^ shut).name, bits.text)
                seen = V(f, f.get(open_bits, bits.text), bits.type, lanes).ne(0) & V(f, on, "i1", lanes)
                with f.when(any_of(seen)):
                    f.set(last, f.minimum(f.add(s, lanes), count))
            something = any_of(V(f, f.get(any_bits, bits.text), bits.type, lanes).ne(0))
            f.set(plain, f.let(f"xor i1 {something}, true"), "i1")
            first = f.let(f"select i1 {f.compare('eq', key, 0)}, i64 {f.minimum(count, lanes)}, i64 0")
            f.set(left, f.let(f"select i1 {trims}, i64 {f.maximum(f.get(last), first)}, i64 {count}"))
        return f.get(left), f.get(plain, "i1")

    @property
    def fill(self) -> V:
        """What the mask holds where a key is not seen."""
        return V(self.f, self.number(self.frame["fill"]), self.scalar)

    def beyond(self, most: V) -> str:
        """Whether (i1) what the mask shuts has no weight beside scores like these: an exponential that is zero."""
        return all_of(most.gt(splat(self.fill + (110.0 if self.scalar == "float" else 750.0), self.tiles.width)))

    def masked(self, score: V, numbers: V) -> V:
        """A row of scores with those of the mask: added, or in the place of the scores where they are not zero."""
        return where(numbers.eq(0.0), score, numbers) if self.kernel.fills else score + numbers

    def each_masked_key(self, plain: str, count: str, key: str, query: str, body: Callable[[str, V | None, bool], None]) -> None:
        """``each_key``; the last argument says whether the mask has to be looked at (``plain``: its tile is all zeros)."""
        f = self.f
        if plain:
            with f.when(plain):
                self.each_key(count, key, query, lambda r, on: body(r, on, False))
            with f.when(f.let(f"xor i1 {plain}, true")):
                self.each_key(count, key, query, lambda r, on: body(r, on, True))
        else:
            self.each_key(count, key, query, lambda r, on: body(r, on, False))

    def mask_tile(self, plain: str, rows: str, count: str, **at: str) -> None:
        """Turns the mask of the present tile, of ``count`` keys, into ``numbers``; where it is not ``plain``."""
        f = self.f
        near = f.compare("eq", self.frame["mask_s"], self.dtype.itemsize)
        with f.when(f.let(f"xor i1 {plain}, true")):
            with f.when(near):
                self.turn_in(self.numbers, "mask", rows, count, "1.0", self.turn_mask, **at)
            with f.when(f.let(f"xor i1 {near}, true")), f.loop(0, count) as r:
                place = f.at(self.place("mask", **at), f.mul(r, self.frame["mask_s"]), "i8")
                self.store(self.row_of(self.numbers, r), self.mask_row(place, rows))

    def mask_row(self, start: str, rows: str) -> V:
        """The mask at one key for the block's queries; ``start``: at the block's first query and the key."""
        f, width = self.f, self.tiles.width
        step = self.frame["mask_l"]
        slot = f.slot(self.vector)
        plain = f.compare("eq", step, 0)
        with f.when(plain):
            one = V(f, f.load(start, 0, self.scalar), self.scalar)
            self.set(slot, splat(one, width))
        with f.when(f.let(f"xor i1 {plain}, true")):
            places = scattered(f, start, step, 0, width)
            self.set(slot, V(f, gather(f, places, self.dtype, width, mask(f, rows, width)), self.scalar, width))
        return self.get(slot)

    def each_key(self, count: str, first_key: str, first_query: str, body: Callable[[str, V | None], None]) -> None:
        """``body(row, lanes that see its key; None: all)`` for each row of a tile."""
        f = self.f
        if not self.kernel.causal:
            with f.loop(0, count) as r:
                body(r, None)
            return
        free = f.minimum(f.add(f.sub(first_query, first_key), 1), count)
        free = f.let(f"select i1 {f.compare('slt', free, 0)}, i64 0, i64 {free}")
        with f.loop(0, free) as r:
            body(r, None)
        with f.loop(free, count) as r:
            body(r, self.visible(f.add(first_key, r), first_query))

    def visible(self, key: str, first_query: str) -> V:
        """Whether lane i, query ``first_query + i``, sees the key: i >= key - first_query."""
        f = self.f
        return ~self.lanes(f.sub(key, first_query))

    def kept(self, b: str, h: str, query: str, key: str) -> V:
        """Whether the weights of a key for the block's queries are kept: the hash of ``compile/randoms.py``."""
        f, frame, width = self.f, self.frame, self.tiles.width
        row = f.add(f.mul(f.add(f.mul(b, frame["heads"]), h), frame["length"]), query)
        first = f.add(f.mul(row, frame["source"]), key)

        def low(number: str) -> V:
            return splat(V(f, f.let(f"trunc i64 {number} to i32"), "i32"), width)
        seed = f.load(self.base["seed"])
        upper = low(f.let(f"lshr i64 {seed}, 32"))
        bits = _mixed(_mixed((iota(f, "i32", width) * low(frame["source"]) + low(first)) ^ low(seed)) + upper)
        return bits.uge(low(frame["limit"]))

    @property
    def growth(self) -> V:
        """What the kept weights are multiplied by."""
        return splat(V(self.f, self.number(self.frame["growth"]), self.scalar), self.tiles.width)

    def keys_of(self, first_query: str, rows: str) -> str:
        """How many keys, from the first on, a block of queries sees."""
        source = self.frame["source"]
        return self.f.minimum(self.f.add(first_query, rows), source) if self.kernel.causal else source

    # -- products and turning ------------------------------------------------------------------------------------
    def define(self, *names: str) -> None:
        """Puts what the kernel calls into the module."""
        for name in names:
            if name.startswith("product"):
                for vectors in range(1, self.tiles.vectors + 1):
                    self.tiles.product(self.module, name, vectors)
            else:
                getattr(self.tiles, name)(self.module)

    def fill_vectors(self, rows: str) -> None:
        """Says that a block of so many queries is the present one."""
        f, lanes = self.f, self.tiles.lanes
        self.slim, self.used = f.compare("sle", rows, lanes), f.div(f.add(rows, lanes - 1), lanes)

    def product(self, vector: int, c: str, a: str, a_row: str | int, a_step: str | int, b: str, k: str, rows: str, accumulate: str) -> None:
        """A product into a tile, from a tile: of the vectors with queries in them, from one on."""
        f = self.f
        c, b = (f.at(x, vector * self.vector_size, "i8") for x in (c, b))
        for vectors in f.cases(f.sub(self.used, vector), range(1, self.tiles.vectors - vector + 1)):
            self.tiles.call(f, f"product_{vectors}", c, self.row, a, a_row, a_step, b, self.row, k, rows, 0, accumulate,
                            self.asked.place)

    def look(self, query: str, key: str, count: str) -> None:
        """Which rows of the tile of ``count`` keys from ``key`` on not all vectors of queries see: products leave these vectors out."""
        if not self.kernel.causal:
            return
        f = self.f
        self.seen = []
        for vector in range(1, self.tiles.vectors):
            seen = f.minimum(f.sub(f.add(query, vector * self.tiles.lanes), key), count)
            self.seen.append(f.let(f"select i1 {f.compare('slt', seen, 0)}, i64 0, i64 {seen}"))

    def each_sight(self, count: str) -> Iterator[tuple[int, str, str]]:
        """The rows of the present tile, ``count`` of them, by the first vector that sees them: that, the first row, how many. There may be
        none."""
        first = "0"
        for vector, end in enumerate([*self.seen, count]):
            yield vector, first, self.f.sub(end, first)
            first = end

    @property
    def vector_size(self) -> int:
        """Bytes of a vector of a tile's row."""
        return self.row // self.tiles.vectors

    def by_rows(self, c: str, a: str, a_row: str, a_step: str | int, b: str, k: str, count: str) -> None:
        """A product whose rows are those of the present tile, ``count`` of them."""
        f = self.f
        for vector, first, rows in self.each_sight(count):
            with f.when(f.compare("sgt", rows, 0)):
                self.product(vector, self.row_of(c, first), f.at(a, f.mul(a_row, first), "i8"), a_row, a_step, b, k, rows, "0")

    def over_rows(self, c: str, a: str, a_row: int, a_step: str, tile: str, count: str, rows: str, again: str) -> None:
        """A product that adds up over the rows of the present tile, which are ``count`` steps; a moves by ``a_step`` from one to the next.
        Of a head's first tile all vectors see some."""
        f, begin = self.f, "0"
        for vector, end in enumerate([*map(self.steps_of, self.seen), count]):
            steps = f.sub(end, begin)
            with f.when(f.compare("sgt", steps, 0)):
                self.product(vector, c, f.at(a, f.mul(a_step, begin), "i8"), a_row, a_step, self.row_of(tile, begin), steps, rows,
                             "1" if vector else again)  # fmt: skip
            begin = end

    def steps_of(self, rows: str) -> str:
        """Steps of a product over so many numbers."""
        return rows

    turn_mask = "turn_in"

    def turn_in(self, tile: str, name: str, rows: str, columns: str, factor: str, function: str = "turn_in", **at: str) -> None:
        self.f.do(f"call void @{function}(ptr {tile}, ptr {self.place(name, **at)}, i64 {self.frame[f'{name}_l']}, i64 {rows}, "
                  f"i64 {columns}, {self.scalar} {factor})")  # fmt: skip

    def turn_out(self, name: str, tile: str, rows: str, columns: str, factors: str, **at: str) -> None:
        self.f.do(f"call void @turn_out(ptr {self.place(name, **at)}, i64 {self.frame[f'{name}_l']}, ptr {tile}, i64 {rows}, "
                  f"i64 {columns}, ptr {factors})")  # fmt: skip

    # -- how operands and tiles are held: what ``attention_pairs.py`` and ``attention_unit.py`` do in another way ------
    scales_late = False  # whether scores are multiplied by the scale, not queries
    reads_keys = True    # whether every block reads keys and values

    def head(self, b: str, g: str) -> None:
        """Called when a part begins, with its keys and values."""

    def tiles_made(self) -> None:
        """Called once the kernel's tiles are there."""

    def turned(self, tile: str, name: str, rows: str, size: str, factor: str, **at: str) -> None:
        """Rows of an operand into the columns of a tile."""
        self.turn_in(tile, name, rows, self.frame[size], factor, **at)

    def scored(self, tile: str, name: str, turned: str, size: str, count: str, **at: str) -> None:
        """``count`` rows of keys or values times a turned tile."""
        self.by_rows(tile, self.place(name, **at), self.frame[f"{name}_s"], self.dtype.itemsize, turned, self.frame[size], count)

    def score(self, at: str) -> V:
        """A row of scores, without the mask."""
        return self.load(at)

    def keep(self, tile: str, r: str, value: V) -> None:
        """A finished row of a tile that is multiplied next."""
        self.store(self.row_of(tile, r), value)

    def summed(self, total: str, name: str, tile: str, count: str, size: str, again: str, **at: str) -> None:
        """``total[d] (+)=`` the sum over the rows of ``tile`` of those times number d of the operand's rows."""
        place = self.place(name, **at)
        self.over_rows(total, place, self.dtype.itemsize, self.frame[f"{name}_s"], tile, count, self.frame[size], again)

    def near(self, buffer: str, place: str, row: str, rows: str, size: str) -> tuple[str, str]:
        """Some rows of memory and their distance: where they lie, or side by side in ``buffer`` if that is far apart."""
        if not self.kernel.far:
            return place, row
        f, item = self.f, self.dtype.itemsize
        pitch = f.mul(self.frame[size], item)
        f.do(f"call void @copy_rows(ptr {buffer}, i64 {pitch}, ptr {place}, i64 {row}, i64 {rows}, i64 {self.frame[size]})")
        return buffer, pitch

    @property
    def one(self) -> str:
        return "1.0"


def _mixed(x: V) -> V:
    """``compile.randoms._mix``."""
    x = (x ^ x.lshr(16)) * 0x7FEB352D
    x = (x ^ x.lshr(15)) * (0x846CA68B - (1 << 32))
    return x ^ x.lshr(16)


def any_of(x: V) -> str:
    """Whether (i1) one of a vector of bits is set."""
    whole = f"i{x.lanes}"
    return x.f.let(f"icmp ne {whole} {x.f.let(f'bitcast {x!r} to {whole}')}, 0")


def all_of(x: V) -> str:
    """Whether (i1) all are."""
    whole = f"i{x.lanes}"
    return x.f.let(f"icmp eq {whole} {x.f.let(f'bitcast {x!r} to {whole}')}, -1")
