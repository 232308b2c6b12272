"""Turning a block of A so that the micro-kernel reads it in one stream: one native function for all contractions.

    void turn(ptr out, ptr rows, i64 height, ptr runs, i64 n_runs, i64 step)

writes ``out[k][r] = A[r, k]`` for the ``height`` rows of a tile, whose addresses are in ``rows``, and the positions of the
reduction that ``runs`` describes (as in ``microkernel.py``); ``out`` has whole vectors for each position. Where A's rows lie
side by side (a weight gradient, ``x.T @ y``) the reduction goes across memory, a new line or page at each step; the driver
turns a block of rows once, into memory that stays in the second-level cache, and uses it for every panel of B.

Neighbours in memory are moved together: a stretch of adjacent rows is one masked load. Where the whole tile is one stretch,
whole vectors are stored, aligned; their last lanes are never read.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.microkernel import AHEAD, convert, intrinsic_suffix, ir_type, mask, masked_load
from rushlight.compile.dtypes import DType

__all__ = ["BLOCK_BYTES", "Turn"]

#: Of a turned block: it lies on the stack of the thread that uses it, and in the second-level cache.
BLOCK_BYTES = 384 << 10


@dataclass(frozen=True)
class Turn:
    """``lanes`` of ``target`` are moved at a time at most; ``tall``: the most rows of a tile."""

    source: DType
    target: DType
    lanes: int
    tall: int

    @property
    def key(self) -> str:
        return f"turn4 {self.source.name} {self.target.name} {self.lanes} {self.tall}"

    @property
    def pitch(self) -> int:
        """Elements from one position of the reduction to the next."""
        return -(-self.tall // self.lanes) * self.lanes

    def ir(self) -> str:
        module = Module()
        f = Function(
            "void @turn(ptr noalias %out, ptr noalias %rows, i64 %height, ptr noalias %runs, i64 %n_runs, i64 %step)", module)
        row = f.slot("i64", "0")
        with f.loop_while(row, "slt", "%height") as r:
            start = f.load("%rows", r)
            count = self._adjacent(f, r, start)
            out = f.at("%out", f.mul(r, self.target.itemsize), "i8")
            lanes_on = mask(f, count, self.lanes)
            alone = f.let(f"and i1 {f.compare('eq', r, 0)}, {f.compare('eq', count, '%height')}")
            with f.when(alone):
                self._move(f, out, start, lanes_on, whole=True)
            with f.when(f.let(f"xor i1 {alone}, true")):
                self._move(f, out, start, lanes_on, whole=False)
            f.set(row, f.add(r, count))
        return f.finish() + module.text()

    def _adjacent(self, f: Function, first: str, start: str) -> str:
        """How many rows from ``first`` on lie side by side, up to a vector of them."""
        count, more = f.slot("i64", "1"), f.slot("i64", "1")
        last = f.sub("%height", 1)
        with f.loop_while(more, "eq", "1"):
            n = f.get(count)
            row = f.add(first, n)
            there = f.load("%rows", f.minimum(row, last))
            tests = [f.compare("slt", row, "%height"), f.compare("slt", n, self.lanes),
                     f.compare("eq", there, f.add(start, f.mul(n, self.source.itemsize)))]
            both = f.let(f"and i1 {f.let(f'and i1 {tests[0]}, {tests[1]}')}, {tests[2]}")
            grown = f.let(f"zext i1 {both} to i64")
            f.set(count, f.add(n, grown))
            f.set(more, grown)
        return f.get(count)

    def _move(self, f: Function, out: str, start: str, lanes_on: str, whole: bool) -> None:
        dtype, lanes = self.target, self.lanes
        vector, suffix = ir_type(dtype, lanes), intrinsic_suffix(dtype, lanes)
        f.module.declare(f"void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, <{lanes} x i1>)")
        source = f.let(f"inttoptr i64 {start} to ptr")
        f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        far = f.mul("%step", AHEAD)
        to = f.slot("ptr")
        f.set(to, out, "ptr")
        with f.loop(0, "%n_runs") as run:
            pair = f.mul(run, 2)
            at = f.slot("ptr")
            f.set(at, f.at(source, f.load("%runs", pair), "i8"), "ptr")
            with f.loop(0, f.load("%runs", f.add(pair, 1))):
                here, there = f.get(at, "ptr"), f.get(to, "ptr")
                f.do(f"call void @llvm.prefetch.p0(ptr {f.at(here, far, 'i8')}, i32 0, i32 3, i32 1)")
                value = convert(f, masked_load(f, here, self.source, lanes, lanes_on), self.source, dtype, lanes)
                if whole:
                    f.do(f"store {vector} {value}, ptr {there}, align {lanes * dtype.itemsize}")
                else:
                    f.do(f"call void @llvm.masked.store.{suffix}.p0({vector} {value}, ptr {there}, i32 {dtype.itemsize}, "
                         f"<{lanes} x i1> {lanes_on})")  # fmt: skip
                f.set(at, f.at(here, "%step", "i8"), "ptr")
                f.set(to, f.at(there, self.pitch * dtype.itemsize, "i8"), "ptr")
