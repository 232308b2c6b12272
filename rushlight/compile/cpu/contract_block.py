"""Copies of a block of A or B, on the stack of the thread that uses it, in the second-level cache: functions for all contractions.

    void copy(ptr out, ptr rows, i64 count, ptr runs, i64 n_runs, i64 step, i64 row_bytes)

writes ``count`` rows, whose addresses are in ``rows``, one after the other, ``row_bytes`` apart: ``out[r][k] = A[r, k]`` for the
positions of the reduction that ``runs`` describes (as in ``microkernel.py``), which are neighbours in memory. For rows that lie so
that those of a tile share a place of the first-level cache, which holds fewer of them than the tile has: then every broadcast
load would come from the second level.

    void turn(ptr out, ptr rows, i64 count, ptr runs, i64 n_runs, i64 step, i64 tile_bytes)

cuts the rows into tiles and writes ``out[tile][k][r] = A[r, k]``, whole vectors for each position. Where A's rows lie side by side
(a weight gradient, ``x.T @ y``) the reduction goes across memory, a new line or page at each step; the driver turns a block of rows
once and uses it for every panel of B.

    void lift(ptr out, ptr start, i64 count, i64 positions, i64 step, i64 pitch)

copies a panel of B that is read in place, ``count`` columns of it: ``out[k][j] = B[k, j]``, positions ``pitch`` bytes apart. For B
whose lines would share a place of the cache, if many tiles of a block of A read the panel one after the other.

In ``turn``, neighbours in memory are moved together. Where all rows of the whole tiles are one stretch, it is read position by
position, as it lies, and dealt out to the tiles; else a stretch of adjacent rows within a tile is one masked load. Whole vectors
are stored where a tile is one stretch; the next position takes the place of their last lanes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import AHEAD, convert, intrinsic_suffix, ir_type, mask, masked_load
from rushlight.compile.dtypes import DType

__all__ = ["BLOCK_BYTES", "LINE", "Copy", "Lift", "Turn", "turned_pitch"]

#: Of a turned block: it lies on the stack of the thread that uses it, and in the second-level cache.
BLOCK_BYTES = 384 << 10
LINE = 64


def turned_pitch(heights: tuple[int, ...], lanes: int) -> int:
    """Elements from one position of a turned tile to the next. A vector that is stored whole reaches into the next position, which is
    stored after it: padded to whole vectors, a tile and a panel of B would fill the first-level cache between them."""
    tall = heights[0]
    return tall if tall <= lanes else -(-tall // lanes) * lanes


def _vectors(f: Function, source: str, count: str, dtype: DType, lanes: int) -> Iterator[tuple[str, str, str]]:
    """``for at, value, mask in``: code for each vector of a stretch of ``count`` elements: where it begins, in bytes, the vector, and the
    mask under which it was read: "" for whole ones, then once, if some elements are left, which of the lanes are these."""
    whole = f.let(f"and i64 {count}, {-lanes}")
    with f.loop(0, whole, lanes) as k:
        at = f.mul(k, dtype.itemsize)
        yield at, f.let(f"load {ir_type(dtype, lanes)}, ptr {f.at(source, at, 'i8')}, align {dtype.itemsize}"), ""
    with f.when(f.compare("slt", whole, count)):
        at, lanes_on = f.mul(whole, dtype.itemsize), mask(f, f.sub(count, whole), lanes)
        yield at, masked_load(f, f.at(source, at, "i8"), dtype, lanes, lanes_on), lanes_on


@dataclass(frozen=True)
class Lift:
    """Panels of ``dtype``, ``lanes`` elements at a time. Of the last vector the lanes beyond ``count`` become zero."""

    dtype: DType
    lanes: int

    @property
    def key(self) -> str:
        return f"lift2 {self.dtype.name} {self.lanes}"

    def ir(self) -> str:
        module = Module()
        module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        f = Function("void @lift(ptr noalias %out, ptr noalias %start, i64 %count, i64 %positions, i64 %step, i64 %pitch)", module)
        with f.loop(0, "%positions") as k:
            source, target = f.at("%start", f.mul(k, "%step"), "i8"), f.at("%out", f.mul(k, "%pitch"), "i8")
            ahead = f.at(source, f.mul("%step", AHEAD), "i8")
            for at, value, _ in _vectors(f, source, "%count", self.dtype, self.lanes):
                f.do(f"call void @llvm.prefetch.p0(ptr {f.at(ahead, at, 'i8')}, i32 0, i32 3, i32 1)")
                f.do(f"store {ir_type(self.dtype, self.lanes)} {value}, ptr {f.at(target, at, 'i8')}, align {self.dtype.itemsize}")
        return f.finish() + module.text()


@dataclass(frozen=True)
class Copy:
    """Rows of ``dtype``, ``lanes`` elements at a time."""

    dtype: DType
    lanes: int

    @property
    def key(self) -> str:
        return f"copy2 {self.dtype.name} {self.lanes}"

    def ir(self) -> str:
        module = Module()
        f = Function(
            "void @copy(ptr noalias %out, ptr noalias %rows, i64 %count, ptr noalias %runs, i64 %n_runs, i64 %step, "
            "i64 %row_bytes)", module)  # fmt: skip
        vector, suffix = ir_type(self.dtype, self.lanes), intrinsic_suffix(self.dtype, self.lanes)
        f.module.declare(f"void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, <{self.lanes} x i1>)")
        out = f.slot("ptr")
        with f.loop(0, "%count") as r:
            row = f.let(f"inttoptr i64 {f.load('%rows', r)} to ptr")
            f.set(out, f.at("%out", f.mul(r, "%row_bytes"), "i8"), "ptr")
            with f.loop(0, "%n_runs") as run:
                pair = f.mul(run, 2)
                source, length, target = f.at(row, f.load("%runs", pair), "i8"), f.load("%runs", f.add(pair, 1)), f.get(out, "ptr")
                for at, value, lanes_on in _vectors(f, source, length, self.dtype, self.lanes):
                    there, item = f.at(target, at, "i8"), self.dtype.itemsize
                    under = f"i32 {item}, <{self.lanes} x i1> {lanes_on}"
                    f.do(f"call void @llvm.masked.store.{suffix}.p0({vector} {value}, ptr {there}, {under})" if lanes_on
                         else f"store {vector} {value}, ptr {there}, align {item}")
                f.set(out, f.at(target, f.mul(length, self.dtype.itemsize), "i8"), "ptr")
        return f.finish() + module.text()


@dataclass(frozen=True)
class Turn:
    """``lanes`` of ``target`` are moved at a time at most; ``heights`` of tiles, the tallest first."""

    source: DType
    target: DType
    lanes: int
    heights: tuple[int, ...]

    @property
    def key(self) -> str:
        return f"turn6 {self.source.name} {self.target.name} {self.lanes} {self.heights}"

    def ir(self) -> str:
        module = Module()
        module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        f = Function(
            "void @turn(ptr noalias %out, ptr noalias %rows, i64 %count, ptr noalias %runs, i64 %n_runs, i64 %step, "
            "i64 %tile_bytes)", module)  # fmt: skip
        tall = self.heights[0]
        row, out = f.slot("i64", "0"), f.slot("ptr")
        f.set(out, "%out", "ptr")
        if tall <= self.lanes:
            whole = f.mul(f.div("%count", tall), tall)
            stretch = self._adjacent(f, "%rows", "0", whole, whole)
            with f.when(f.let(f"and i1 {f.compare('sgt', whole, 0)}, {f.compare('eq', stretch, whole)}")):
                tiles = f.div(whole, tall)
                self._deal(f, f.load("%rows"), tiles)
                f.set(row, whole)
                f.set(out, f.at("%out", f.mul(tiles, "%tile_bytes"), "i8"), "ptr")
        with f.loop_while(row, "slt", "%count") as first:
            left = f.sub("%count", first)
            height = "1"
            for h in sorted(self.heights)[1:]:
                height = f.let(f"select i1 {f.compare('sge', left, h)}, i64 {h}, i64 {height}")
            here = f.get(out, "ptr")
            self._tile(f, f.at("%rows", first), height, here)
            f.set(row, f.add(first, height))
            f.set(out, f.at(here, "%tile_bytes", "i8"), "ptr")
        return f.finish() + module.text()

    def _adjacent(self, f: Function, rows: str, first: str, end: str, most: str | int) -> str:
        """How many rows from ``first`` on, before ``end``, lie side by side; at most ``most``."""
        count, more = f.slot("i64", "1"), f.slot("i64", "1")
        start, last = f.load(rows, first), f.sub(end, 1)
        with f.loop_while(more, "eq", "1"):
            n = f.get(count)
            row = f.add(n, first)
            nearest = f.let(f"select i1 {f.compare('sgt', last, 0)}, i64 {f.minimum(row, last)}, i64 0")
            there = f.load(rows, nearest)
            tests = [f.compare("slt", row, end), f.compare("slt", n, most),
                     f.compare("eq", there, f.add(start, f.mul(n, self.source.itemsize)))]
            both = f.let(f"and i1 {f.let(f'and i1 {tests[0]}, {tests[1]}')}, {tests[2]}")
            grown = f.let(f"zext i1 {both} to i64")
            f.set(count, f.add(n, grown))
            f.set(more, grown)
        return f.get(count)

    def _deal(self, f: Function, start: str, tiles: str) -> None:
        """Tiles of adjacent rows: for each position, a vector for each tile."""
        tall = self.heights[0]
        lanes_on = mask(f, str(tall), self.lanes)
        with self._positions(f, "%out", start) as (here, there):
            source, target = f.slot("ptr"), f.slot("ptr")
            f.set(source, here, "ptr")
            f.set(target, there, "ptr")
            with f.loop(0, tiles):
                src, dst = f.get(source, "ptr"), f.get(target, "ptr")
                self._vector(f, src, dst, lanes_on, whole=True)
                f.set(source, f.at(src, tall * self.source.itemsize, "i8"), "ptr")
                f.set(target, f.at(dst, "%tile_bytes", "i8"), "ptr")

    def _tile(self, f: Function, rows: str, height: str, out: str) -> None:
        """One tile, stretch by stretch."""
        row = f.slot("i64", "0")
        with f.loop_while(row, "slt", height) as r:
            start = f.load(rows, r)
            count = self._adjacent(f, rows, r, height, self.lanes)
            at = f.at(out, f.mul(r, self.target.itemsize), "i8")
            lanes_on = mask(f, count, self.lanes)
            alone = f.let(f"and i1 {f.compare('eq', r, 0)}, {f.compare('eq', count, height)}")
            with f.when(alone), self._positions(f, at, start) as (here, there):
                self._vector(f, here, there, lanes_on, whole=True)
            with f.when(f.let(f"xor i1 {alone}, true")), self._positions(f, at, start) as (here, there):
                self._vector(f, here, there, lanes_on, whole=False)
            f.set(row, f.add(r, count))

    @contextmanager
    def _positions(self, f: Function, out: str, start: str) -> Iterator[tuple[str, str]]:
        """A loop over the reduction: where a row that begins at ``start`` is, and where in ``out``."""
        source = f.let(f"inttoptr i64 {start} to ptr")
        at, to = f.slot("ptr"), f.slot("ptr")
        f.set(to, out, "ptr")
        with f.loop(0, "%n_runs") as run:
            pair = f.mul(run, 2)
            f.set(at, f.at(source, f.load("%runs", pair), "i8"), "ptr")
            with f.loop(0, f.load("%runs", f.add(pair, 1))):
                here, there = f.get(at, "ptr"), f.get(to, "ptr")
                yield here, there
                f.set(at, f.at(here, "%step", "i8"), "ptr")
                f.set(to, f.at(there, turned_pitch(self.heights, self.lanes) * self.target.itemsize, "i8"), "ptr")

    def _vector(self, f: Function, source: str, target: str, lanes_on: str, whole: bool) -> None:
        dtype, lanes = self.target, self.lanes
        vector, suffix = ir_type(dtype, lanes), intrinsic_suffix(dtype, lanes)
        f.do(f"call void @llvm.prefetch.p0(ptr {f.at(source, f.mul('%step', AHEAD), 'i8')}, i32 0, i32 3, i32 1)")
        value = convert(f, masked_load(f, source, self.source, lanes, lanes_on), self.source, dtype, lanes)
        if whole:
            f.do(f"store {vector} {value}, ptr {target}, align {dtype.itemsize}")
            return
        f.module.declare(f"void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, <{lanes} x i1>)")
        f.do(f"call void @llvm.masked.store.{suffix}.p0({vector} {value}, ptr {target}, i32 {dtype.itemsize}, <{lanes} x i1> {lanes_on})")
