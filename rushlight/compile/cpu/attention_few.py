"""Attention of a few queries: a key/value cache that generated tokens look at, one after the other.

A tile of many queries would be mostly empty. Here numbers of a head lie along the vectors: a score is a dot product, a vector of them is
that of as many keys, and the result is values times weights. A part has a piece of one key head's keys, and all queries that look at them
go through it while the caches have it. Where there are fewer heads than make parts, the keys of each are cut into pieces, whose results
:class:`Join` puts together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rushlight.compile.attention import MAX_HEAD
from rushlight.compile.cpu import mathlib
from rushlight.compile.cpu.attention_writer import Writer
from rushlight.compile.cpu.contract_epilogue import gather, scattered
from rushlight.compile.cpu.microkernel import mask
from rushlight.compile.cpu.values import V, literal, mad, splat, where
from rushlight.compile.sizes import decision, numeric

__all__ = ["Few", "FewInPieces", "Join", "is_few", "pieces_of", "record"]

#: So many queries are better off in tiles.
MANY = 4
#: Keys whose weights are known before their values are added up.
_TILE = 64
_PIECE_BYTES = 64 << 10
_MOST_PARTS = 32


@decision
def is_few(queries: int) -> bool:
    return queries < MANY


@numeric
def pieces_of(heads: int, keys: int, row: int) -> int:
    """Pieces of a head's keys, of ``row`` bytes with their values: enough to share among threads, none shorter than a tile."""
    wanted = min(_MOST_PARTS, heads * keys * row // _PIECE_BYTES)
    return max(1, min(-(-wanted // heads), keys // _TILE))


def record(v: int, item: int) -> int:
    """Bytes of a piece's result: the largest score, the sum of exponentials, each in a line of its own, and the sum of values."""
    return 128 + -(-v * item // 64) * 64


class Few(Writer):
    """Queries whose rows are complete: ``blocks`` is 1."""

    def part(self, part: str) -> None:
        f, frame = self.f, self.frame
        self.scores, self.sums = self.numbers_of(_TILE), self.numbers_of(MAX_HEAD)
        self.most, self.total = f.slot(self.scalar), f.slot(self.vector)
        pieces = frame["blocks"]
        head, piece = f.div(part, pieces), f.rem(part, pieces)
        groups = f.div(frame["heads"], frame["group"])
        b, g = f.div(head, groups), f.rem(head, groups)
        first = f.mul(piece, frame["chunk"])
        with f.loop(0, frame["group"]) as i, f.loop(0, frame["length"]) as query:
            h = f.add(f.mul(g, frame["group"]), i)
            end = f.minimum(f.add(first, frame["chunk"]), frame["source"])
            if self.kernel.causal:
                end = f.minimum(end, f.add(query, 1))
            f.set(self.most, self.scalar_of(-math.inf).name, self.scalar)
            self.set(self.total, self.constant(0))
            with self.along("v_size") as (at, _):
                self.store(f.at(self.sums, at, "i8"), self.constant(0))
            with f.loop(first, end, _TILE) as key:
                self.tile(b, h, g, query, key, f.minimum(f.sub(end, key), _TILE))
            self.end_row(b, h, query, piece)

    def tile(self, b: str, h: str, g: str, query: str, key: str, count: str) -> None:
        """Takes up ``count`` keys from ``key`` on."""
        f, lanes, item = self.f, self.tiles.lanes, self.dtype.itemsize
        peak = f.slot(self.vector)
        self.set(peak, self.constant(-math.inf))
        start = self.place("k", b=b, g=g, s=key)
        with f.loop(0, count, lanes) as s:
            score = self.scores_of(self.place("q", b=b, h=h, l=query), start, s, count)
            if self.kernel.masked:
                at = scattered(f, self.place("mask", b=b, h=h, l=query, s=f.add(key, s)), self.frame["mask_s"], 0, lanes)
                score = self.masked(score, V(f, gather(f, at, self.dtype, lanes, self.lanes(f.sub(count, s)).name), self.scalar, lanes))
            score = where(self.lanes(f.sub(count, s)), score, -math.inf)
            self.store(f.at(self.scores, f.mul(s, item), "i8"), score)
            before = self.get(peak)
            self.set(peak, _larger(score, before))
        old = self.load_one(self.most)
        found = self.across(self.get(peak), _larger)
        most = _larger(found, old)
        f.set(self.most, most.name, self.scalar)
        # Where nothing has been seen yet, the maximum is -inf, and so would be all differences NaN.
        shift = splat(where(most.eq(-math.inf), self.scalar_of(0.0), most), lanes)
        shrink = mathlib.call("exp", splat(old, lanes) - shift)
        self.set(self.total, self.get(self.total) * shrink)
        with f.loop(0, count, lanes) as s:
            at = f.at(self.scores, f.mul(s, item), "i8")
            weight = mathlib.call("exp", self.load(at) - shift)
            self.store(at, weight)
            self.set(self.total, self.get(self.total) + weight)
        self.add_values(self.place("v", b=b, g=g, s=key), count, shrink)

    def scores_of(self, q: str, k: str, s: str, count: str) -> V:
        """Scores of a vector of keys from number ``s`` of the tile on; the last one of the tile's ``count`` stands for those beyond it."""
        f, lanes = self.f, self.tiles.lanes
        last = f.sub(count, 1)
        rows = [f.at(k, f.mul(f.minimum(f.add(s, r), last), self.frame["k_s"]), "i8") for r in range(lanes)]
        sums = [f.slot(self.vector) for _ in rows]
        for slot in sums:
            self.set(slot, self.constant(0))
        with self.along("e_size") as (at, on):
            left = self.part_of(q, at, on)
            for row, slot in zip(rows, sums, strict=True):
                self.set(slot, mad(left, self.part_of(row, at, on), self.get(slot)))
        total = _folded([self.get(slot) for slot in sums])
        return total * splat(V(f, self.number(self.frame["scale"]), self.scalar), lanes)

    def add_values(self, v: str, count: str, shrink: V) -> None:
        """``sums = sums * shrink +`` the sum over the tile's keys of their weights times their values."""
        f, lanes, item = self.f, self.tiles.lanes, self.dtype.itemsize
        wide, turns = 4, 2  # vectors of a row; keys that have sums of their own: as many as hide the time of a multiply-add
        row = self.frame["v_s"]
        with f.loop(0, self.frame["v_size"], wide * lanes) as first:
            places = [f.mul(f.add(first, j * lanes), item) for j in range(wide)]
            on = [mask(f, f.sub(self.frame["v_size"], f.add(first, j * lanes)), lanes) for j in range(wide)]
            sums = [[f.slot(self.vector) for _ in range(wide)] for _ in range(turns)]
            for slots in sums:
                for slot in slots:
                    self.set(slot, self.constant(0))
            pairs = f.sub(count, f.rem(count, turns))
            for begin, end, many in (("0", pairs, sums), (pairs, count, sums[:1])):
                with f.loop(begin, end, len(many)) as s:
                    for t, slots in enumerate(many):
                        key = f.add(s, t)
                        weight, line = splat(self.load_one(f.at(self.scores, key, self.scalar)), lanes), f.at(v, f.mul(key, row), "i8")
                        for slot, place, there in zip(slots, places, on, strict=True):
                            self.set(slot, mad(weight, self.part_of(line, place, there), self.get(slot)))
            for j, place in enumerate(places):
                at = f.at(self.sums, place, "i8")
                with f.when(f.compare("slt", f.add(first, j * lanes), self.frame["v_size"])):
                    self.store(at, mad(self.load(at), shrink, self.get(sums[0][j]) + self.get(sums[1][j])))

    def end_row(self, b: str, h: str, query: str, piece: str) -> None:
        self.put_row(b, h, query, self.load_one(self.most), self.across(self.get(self.total), V.__add__))

    def put_row(self, b: str, h: str, query: str, most: V, total: V) -> None:
        """Writes the result of a row, which is ``sums`` over ``total``, and its numbers."""
        f, strict = self.f, self.kernel.strict
        none, nothing = total.eq(0.0), self.scalar_of(math.nan if strict else 0.0)
        share = where(none, nothing, self.scalar_of(1.0) / total)
        with self.along("v_size") as (at, on):
            value = self.load(f.at(self.sums, at, "i8")) * splat(share, self.tiles.lanes)
            self.tiles.store(f, f.at(self.place("out", b=b, h=h, l=query), at, "i8"), value.name, on)
        for n, value in enumerate((where(none, nothing, most), share)):
            f.do(f"store {value!r}, ptr {self.place('stats', b=b, h=h, n=str(n), l=query)}")

    # -- small things --------------------------------------------------------------------------------------------------
    @contextmanager
    def along(self, size: str) -> Iterator[tuple[str, str]]:
        """A loop over the vectors of a head: the offset of each in bytes, and which of its numbers there are."""
        f, lanes = self.f, self.tiles.lanes
        with f.loop(0, self.frame[size], lanes) as e:
            yield f.mul(e, self.dtype.itemsize), mask(f, f.sub(self.frame[size], e), lanes)

    def numbers_of(self, many: int) -> str:
        return self.f.slot(f"[{many} x {self.scalar}]", align=64)

    def part_of(self, row: str, at: str, on: str) -> V:
        return V(self.f, self.tiles.load(self.f, self.f.at(row, at, "i8"), on), self.scalar, self.tiles.lanes)

    def across(self, x: V, combine: Callable[[V, V], V]) -> V:
        """All lanes of a vector combined, halves with halves."""
        lanes = x.lanes
        while lanes > 1:
            lanes //= 2
            x = combine(_picked(x, x, range(lanes)), _picked(x, x, range(lanes, 2 * lanes)))
        return V(x.f, x.f.let(f"extractelement {x!r}, i64 0"), x.type)

    def scalar_of(self, number: float) -> V:
        return V(self.f, literal(self.scalar, number), self.scalar)

    def load_one(self, place: str) -> V:
        return V(self.f, self.f.load(place, 0, self.scalar), self.scalar)


class FewInPieces(Few):
    """Rows whose keys are in pieces: of each piece, what :class:`Join` needs."""

    def end_row(self, b: str, h: str, query: str, piece: str) -> None:
        f, frame = self.f, self.frame
        row = f.add(f.mul(f.add(f.mul(b, frame["heads"]), h), frame["length"]), query)
        at = self.place("parts", n=f.add(f.mul(row, frame["blocks"]), piece))
        for k, value in enumerate((self.load_one(self.most), self.across(self.get(self.total), V.__add__))):
            f.do(f"store {value!r}, ptr {f.at(at, 64 * k, 'i8')}")
        with self.along("v_size") as (e, _):
            self.store(f.at(f.at(at, 128, "i8"), e, "i8"), self.load(f.at(self.sums, e, "i8")))


class Join(Few):
    """A part is ``chunk`` rows, each with the results of its pieces."""

    def part(self, part: str) -> None:
        f, frame, lanes = self.f, self.frame, self.tiles.lanes
        self.sums = self.numbers_of(MAX_HEAD)
        total, most = f.slot(self.scalar), f.slot(self.scalar)
        first = f.mul(part, frame["chunk"])
        with f.loop(first, f.minimum(f.add(first, frame["chunk"]), frame["rows"])) as row:
            query, head = f.rem(row, frame["length"]), f.div(row, frame["length"])
            b, h = f.div(head, frame["heads"]), f.rem(head, frame["heads"])
            pieces = self.place("parts", n=f.mul(row, frame["blocks"]))
            f.set(most, self.scalar_of(-math.inf).name, self.scalar)
            f.set(total, self.scalar_of(0.0).name, self.scalar)
            with self.along("v_size") as (at, _):
                self.store(f.at(self.sums, at, "i8"), self.constant(0))
            with f.loop(0, frame["blocks"]) as piece:
                at = f.at(pieces, f.mul(piece, frame["parts_n"]), "i8")
                f.set(most, _larger(self.load_one(at), self.load_one(most)).name, self.scalar)
            peak = self.load_one(most)
            shift = splat(where(peak.eq(-math.inf), self.scalar_of(0.0), peak), lanes)
            with f.loop(0, frame["blocks"]) as piece:
                at = f.at(pieces, f.mul(piece, frame["parts_n"]), "i8")
                share = mathlib.call("exp", splat(self.load_one(at), lanes) - shift)
                one = V(f, f.let(f"extractelement {share!r}, i64 0"), self.scalar)
                f.set(total, mad(self.load_one(f.at(at, 64, "i8")), one, self.load_one(total)).name, self.scalar)
                with self.along("v_size") as (e, _):
                    into = f.at(self.sums, e, "i8")
                    self.store(into, mad(self.load(f.at(f.at(at, 128, "i8"), e, "i8")), share, self.load(into)))
            self.put_row(b, h, query, peak, self.load_one(total))


def _larger(a: V, b: V) -> V:
    """The larger one; b where a is no number."""
    return where(a.gt(b), a, b)


def _folded(rows: list[V]) -> V:
    """The sums of the lanes of as many vectors as each has lanes: lane i is that of vector i. Halves of two vectors are added to halves."""
    lanes = len(rows)
    size = lanes // 2
    while size:
        # A vector holds what is left of ``lanes / size / 2`` rows, each in stretches of ``2 size`` lanes that are still to be halved.
        low = [i + j for i in range(0, lanes, 2 * size) for j in range(size)]
        both = [*low, *(lanes + i for i in low)]
        rows = [_picked(a, b, both) + _picked(a, b, [i + size for i in both]) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        size //= 2
    return rows[0]


def _picked(a: V, b: V, order: Iterable[int]) -> V:
    numbers = list(order)
    text = ", ".join(f"i32 {i}" for i in numbers)
    return V(a.f, a.f.let(f"shufflevector {a!r}, {b!r}, <{len(numbers)} x i32> <{text}>"), a.type, len(numbers))
