"""Copies of a block of A or B, on the stack of the thread that uses it, in the second-level cache: functions for all contractions.

    void copy(ptr out, ptr rows, i64 count, ptr runs, i64 n_runs, i64 step, i64 row_bytes)

writes ``count`` rows, whose addresses are in ``rows``, one after the other, ``row_bytes`` apart: ``out[r][k] = A[r, k]`` for the
positions of the reduction that ``runs`` describes (as in ``microkernel.py``), which are neighbours in memory. For rows that lie so
that those of a tile share a place of the first-level cache, which holds fewer of them than the tile has: then every broadcast
load would come from the second level.

    void turn(ptr out, ptr rows, i64 count, ptr runs, i64 n_runs, i64 step, i64 block_bytes)

cuts the rows into blocks, of one tile or several, and writes ``out[block][k][r] = A[r, k]``. Where A's rows lie side by side
(a weight gradient, ``x.T @ y``) the reduction goes across memory, a new line or page at each step; the driver turns some rows
once and uses them for every panel of B.

    void lift(ptr out, ptr start, i64 count, i64 positions, i64 step, i64 pitch)

copies a panel of B that is read in place, ``count`` columns of it: ``out[k][j] = B[k, j]``, positions ``pitch`` bytes apart. For B
whose lines would share a place of the cache, if many tiles of a block of A read the panel one after the other.

In ``turn``, neighbours in memory are moved together. Where all rows of the whole blocks are one stretch, it is read position by
position, as it lies, and dealt out to the blocks; else a stretch of adjacent rows within a block is one masked load. Where a block
is one stretch, some positions of it become whole vectors, which lie on lines; of positions that are left over each is stored as a
vector, and the next one takes the place of its last lanes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import AHEAD, convert, intrinsic_suffix, ir_type, mask, masked_load
from rushlight.compile.dtypes import DType

__all__ = ["BLOCK_BYTES", "LINE", "Copy", "Lift", "Turn", "turned_pitch", "turned_rows"]

#: Of a turned block: it lies on the stack of the thread that uses it, and in the second-level cache.
BLOCK_BYTES = 384 << 10
LINE = 64


def turned_rows(tall: int, lanes: int) -> int:
    """Rows that lie side by side in a turned block: those of a tile, or of several if a vector holds them."""
    return max(1, lanes // tall) * tall


def turned_pitch(together: int, lanes: int) -> int:
    """Elements from one position of a turned block to the next. A vector that is stored whole reaches into the next position, which is
    stored after it: padded to whole vectors, a block and a panel of B would fill the first-level cache between them."""
    return together if together <= lanes else -(-together // lanes) * lanes


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
    """``lanes`` of ``target`` are moved at a time at most; ``together`` rows lie side by side (``turned_rows``)."""

    source: DType
    target: DType
    lanes: int
    together: int

    @property
    def key(self) -> str:
        return f"turn7 {self.source.name} {self.target.name} {self.lanes} {self.together}"

    @property
    def pitch(self) -> int:
        """Bytes from one position of a block to the next."""
        return turned_pitch(self.together, self.lanes) * self.target.itemsize

    @property
    def at_once(self) -> int:
        """Positions that fill whole vectors, if each of these has numbers of two positions at most."""
        fits = self.together <= self.lanes <= 2 * self.together
        return self.lanes // math.gcd(self.lanes, self.together) if fits else 1

    def ir(self) -> str:
        module = Module()
        module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        f = Function(
            "void @turn(ptr noalias %out, ptr noalias %rows, i64 %count, ptr noalias %runs, i64 %n_runs, i64 %step, "
            "i64 %block_bytes)", module)  # fmt: skip
        together = self.together
        row, out = f.slot("i64", "0"), f.slot("ptr")
        f.set(out, "%out", "ptr")
        if together <= self.lanes:
            whole = f.mul(f.div("%count", together), together)
            stretch = self._adjacent(f, "%rows", "0", whole, whole)
            with f.when(f.let(f"and i1 {f.compare('sgt', whole, 0)}, {f.compare('eq', stretch, whole)}")):
                blocks = f.div(whole, together)
                self._deal(f, "%out", f.load("%rows"), blocks, mask(f, str(together), self.lanes))
                f.set(row, whole)
                f.set(out, f.at("%out", f.mul(blocks, "%block_bytes"), "i8"), "ptr")
        with f.loop_while(row, "slt", "%count") as first:
            height = f.minimum(f.sub("%count", first), together)
            here = f.get(out, "ptr")
            self._block(f, f.at("%rows", first), height, here)
            f.set(row, f.add(first, height))
            f.set(out, f.at(here, "%block_bytes", "i8"), "ptr")
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

    def _deal(self, f: Function, out: str, start: str, blocks: str, lanes_on: str) -> None:
        """Blocks of rows that are one stretch: for each position, a vector for each block; those of several positions together, where
        they fill whole vectors. (A vector for each position lies across two lines, and over the next position: twice the time.)"""
        with self._run(f, out, start) as (source, target, length):
            whole = f.sub(length, f.rem(length, self.at_once))
            for positions, first, end in ((self.at_once, "0", whole), (1, whole, length)):
                with f.loop(first, end, positions) as k, f.loop(0, blocks) as block:
                    here = f.at(f.at(source, f.mul(k, "%step"), "i8"), f.mul(block, self.together * self.source.itemsize), "i8")
                    there = f.at(f.at(target, f.mul(k, self.pitch), "i8"), f.mul(block, "%block_bytes"), "i8")
                    values = [self._load(f, f.at(here, f.mul("%step", j), "i8"), lanes_on) for j in range(positions)]
                    for v, value in enumerate(self._joined(f, values)):
                        at = f.at(there, v * self.lanes * self.target.itemsize, "i8")
                        f.do(f"store {ir_type(self.target, self.lanes)} {value}, ptr {at}, align {self.target.itemsize}")

    def _block(self, f: Function, rows: str, height: str, out: str) -> None:
        """One block, stretch by stretch."""
        row = f.slot("i64", "0")
        with f.loop_while(row, "slt", height) as r:
            start = f.load(rows, r)
            count = self._adjacent(f, rows, r, height, self.lanes)
            at = f.at(out, f.mul(r, self.target.itemsize), "i8")
            lanes_on = mask(f, count, self.lanes)
            alone = f.let(f"and i1 {f.compare('eq', r, 0)}, {f.compare('eq', count, height)}")
            with f.when(alone):
                self._deal(f, at, start, "1", lanes_on)
            with f.when(f.let(f"xor i1 {alone}, true")), self._run(f, at, start) as (here, there, length), f.loop(0, length) as k:
                self._part(f, f.at(here, f.mul(k, "%step"), "i8"), f.at(there, f.mul(k, self.pitch), "i8"), lanes_on)
            f.set(row, f.add(r, count))

    @contextmanager
    def _run(self, f: Function, out: str, start: str) -> Iterator[tuple[str, str, str]]:
        """A loop over the runs of the reduction: where a row that begins at ``start`` is, where in ``out``, and the run's length."""
        source, to = f.let(f"inttoptr i64 {start} to ptr"), f.slot("ptr")
        f.set(to, out, "ptr")
        with f.loop(0, "%n_runs") as run:
            pair = f.mul(run, 2)
            there, length = f.get(to, "ptr"), f.load("%runs", f.add(pair, 1))
            yield f.at(source, f.load("%runs", pair), "i8"), there, length
            f.set(to, f.at(there, f.mul(length, self.pitch), "i8"), "ptr")

    def _load(self, f: Function, source: str, lanes_on: str) -> str:
        f.do(f"call void @llvm.prefetch.p0(ptr {f.at(source, f.mul('%step', AHEAD), 'i8')}, i32 0, i32 3, i32 1)")
        return convert(f, masked_load(f, source, self.source, self.lanes, lanes_on), self.source, self.target, self.lanes)

    def _joined(self, f: Function, values: list[str]) -> list[str]:
        """The first ``together`` lanes of each vector, one after the other: a single one as it is, several as whole vectors."""
        if len(values) == 1:
            return values
        vector, out = ir_type(self.target, self.lanes), []
        for first in range(0, len(values) * self.together, self.lanes):
            places = [divmod(first + i, self.together) for i in range(self.lanes)]
            left = places[0][0]
            right = min(left + 1, len(values) - 1)
            lanes = ", ".join(f"i32 {lane + (position - left) * self.lanes}" for position, lane in places)
            out.append(f.let(f"shufflevector {vector} {values[left]}, {vector} {values[right]}, <{self.lanes} x i32> <{lanes}>"))
        return out

    def _part(self, f: Function, source: str, target: str, lanes_on: str) -> None:
        """Some rows of a block at one position."""
        vector, suffix = ir_type(self.target, self.lanes), intrinsic_suffix(self.target, self.lanes)
        value = self._load(f, source, lanes_on)
        f.module.declare(f"void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, <{self.lanes} x i1>)")
        f.do(f"call void @llvm.masked.store.{suffix}.p0({vector} {value}, ptr {target}, i32 {self.target.itemsize}, "
             f"<{self.lanes} x i1> {lanes_on})")  # fmt: skip
