"""What this machine can do at most, measured: multiply-adds in registers, and copies of memory.

The roofs of the roofline, and what a kernel's share of the peak is a share of. Each figure is measured once in a process,
with the threads that programs have; it takes some tens of milliseconds. What others do on the machine only lowers a
measurement, so each is the best of several.

Example::

    roof = peaks()
    print(f"{roof.flops / 1e9:.0f} GFLOP/s, {roof.copy / 1e9:.0f} GB/s")
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rushlight.compile.cpu import executor, jit, pages, pool, target
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.nest_memory import ahead

__all__ = ["Peaks", "measure", "peaks", "streams", "swept"]

_COPIED = 64 << 20  # bytes of each array of the copy
_PART = 256 << 10  # bytes of a part of it
_SUMS = 12  # multiply-adds under way at once
_TURNS = 200_000  # half a millisecond: some processors take a tenth of that to power all of their vectors up
_VERSION = 2


@dataclass(frozen=True)
class Peaks:
    """What ``threads`` threads reach together.

    Attributes:
        flops: float32 operations a second (a multiply-add is two), nothing but registers touched.
        copy: bytes a second, read and written, of a copy of 64 MB of numbers (not zeros).
        cached: the same of copies that stay in each core's second-level cache.
    """

    threads: int
    flops: float
    copy: float
    cached: float


def peaks(threads: int | None = None) -> Peaks:
    """The peaks of ``threads`` threads: all that programs run with, if not given. Measured once.

    Raises:
        ValueError: more threads than programs run with, or fewer than one.
    """
    most = pool.get_num_threads()
    threads = most if threads is None else threads
    if not 1 <= threads <= most:
        raise ValueError(f"the peaks of {threads} threads cannot be measured: programs run with {most} (set_num_threads)")
    return _measured(threads, most, target.current().key)


@functools.cache
def _measured(threads: int, most: int, processor: str) -> Peaks:
    """``most`` and ``processor`` are what the result depends on besides ``threads``."""
    return measure(threads)


def measure(threads: int | None = None) -> Peaks:
    """Measure now: what :func:`peaks` keeps."""
    threads = pool.get_num_threads() if threads is None else threads
    room = max(64 << 10, (target.current().l2 or 512 << 10) // 4)  # of each of the two arrays of a thread
    size = max(_COPIED, room * threads)
    blocks = [pages.map_block(size) for _ in range(2)]
    try:
        for block in blocks:  # memory that was never written is one page of zeros, read from a cache
            ctypes.memset(block, 0, size)
        kernels = _kernels(target.current().key)
        fma = _best(kernels["rl_peak_fma"], blocks, [_TURNS], threads, threads, 10)
        for block in blocks:
            _fill(block, size)
        copies = [_best(kernels[k], blocks, [_PART, 1], _COPIED // _PART, threads, 6) for k in ("rl_peak_copy", "rl_peak_stream")]
        cached = _best(kernels["rl_peak_copy"], blocks, [room, 50], threads, threads, 10)
    finally:
        for block in blocks:
            pages.unmap(block)
    lanes = target.current().vector_bytes // 4
    return Peaks(threads, 2 * lanes * _SUMS * _TURNS * threads / fma, 2 * _COPIED / min(copies), 2 * room * 50 * threads / cached)


def streams(reads: int, threads: int | None = None, before: Callable[[], None] | None = None) -> float:
    """Bytes a second, read and written, where ``reads`` arrays of 64 MB are read side by side and their sum is written: what memory
    gives a chain of pointwise operations. With more arrays to read it is less than a copy, where reads are what it is short of.

    ``before`` is called before each run: :func:`swept`'s function, for the speed of what lies in no cache.
    """
    threads = pool.get_num_threads() if threads is None else threads
    blocks = [pages.map_block(_COPIED) for _ in range(reads + 1)]
    try:
        for block in blocks:
            _fill(block, _COPIED)
        name = f"rl_peak_sum{reads}"
        kernel = jit.functions(f"{name} {_VERSION} {target.current().key}", lambda: _sum_ir(name, reads), (name,))[name]
        return (reads + 1) * _COPIED / _best(kernel, blocks, [_PART], _COPIED // _PART, threads, 6, before)
    finally:
        for block in blocks:
            pages.unmap(block)


@contextlib.contextmanager
def swept() -> Iterator[Callable[[], None]]:
    """A function that puts other data into all caches. A large last-level cache otherwise comes to hold more and more of arrays that
    are used again and again, though they are larger than what a program that does other things in between finds there."""
    size = min(max(2 * (target.current().l3 or 0), 128 << 20), 512 << 20)
    block = pages.map_block(size)
    try:
        yield functools.partial(_sweep, block, size)
    finally:
        pages.unmap(block)


def _sweep(block: int, nbytes: int) -> None:
    ctypes.memset(block, 1, nbytes)


def _fill(block: int, nbytes: int) -> None:
    """Put numbers there. A machine may move lines of zeros faster than any others (a third, measured on a Zen 4 server)."""
    numbers = np.random.default_rng(0).random(min(nbytes, _PART) // 4, np.float32)
    for start in range(0, nbytes, _PART):
        ctypes.memmove(block + start, numbers.ctypes.data, min(numbers.nbytes, nbytes - start))


@functools.cache
def _kernels(processor: str) -> dict[str, int]:
    return jit.functions(f"peaks {_VERSION} {processor}", _ir, ("rl_peak_fma", "rl_peak_copy", "rl_peak_stream"))


def _best(kernel: int, blocks: Sequence[int], params: Sequence[int], parts: int, threads: int, repeats: int,
          before: Callable[[], None] | None = None) -> float:
    """The least time in seconds of an instruction; the first run, which touches the memory, does not count."""
    error, values = np.zeros(8, np.int64), np.array(params, np.int64)
    table = np.array([error.ctypes.data, *blocks], np.int64)
    code = executor.Instructions([(kernel, values.ctypes.data, parts, 1 if threads > 1 else -1)])
    best = float("inf")
    for number in range(repeats + 1):
        if before is not None:
            before()
        start = time.perf_counter()
        executor.run(code.pointer, 1, table.ctypes.data)
        if number:
            best = min(best, time.perf_counter() - start)
    return best


def _ir() -> str:
    module = Module()
    lanes = target.current().vector_bytes // 4
    vector = f"<{lanes} x float>"
    module.functions += [_fma(module, vector, lanes), _copy(module, vector, lanes, ""), _copy(module, vector, lanes, ", !nontemporal !0")]
    return module.text() + "!0 = !{i32 1}\n"


def _fma(module: Module, vector: str, lanes: int) -> str:
    """x = x * x + x in registers, ``params[0]`` times for each part; the memory holds zeros."""
    f = Function("void @rl_peak_fma(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
    multiply_add = f"{vector} @llvm.fmuladd.v{lanes}f32"
    module.declare(f"{multiply_add}({vector}, {vector}, {vector})")
    memory, turns, width = f.load("%table", 1, "ptr"), f.load("%params"), 4 * lanes
    with f.loop("%begin", "%end") as part:
        mine = f.at(memory, f.mul(part, str(width * _SUMS)), "i8")
        places = [f.at(mine, width * k, "i8") for k in range(_SUMS)]
        sums = [f.slot(vector, f.let(f"load {vector}, ptr {at}, align 4")) for at in places]
        with f.loop("0", turns):
            for s in sums:
                x = f.get(s, vector)
                f.set(s, f.let(f"call {multiply_add}({vector} {x}, {vector} {x}, {vector} {x})"), vector)
        for at, s in zip(places, sums):
            f.do(f"store {vector} {f.get(s, vector)}, ptr {at}, align 4")
    return f.finish()


def _copy(module: Module, vector: str, lanes: int, how: str) -> str:
    """Each part copies ``params[0]`` bytes ``params[1]`` times; ``how`` goes with the stores.

    Volatile loads: what is copied again and again must not be copied once.
    """
    name = "rl_peak_stream" if how else "rl_peak_copy"
    f = Function(f"void @{name}(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
    source, goal, nbytes, turns = f.load("%table", 1, "ptr"), f.load("%table", 2, "ptr"), f.load("%params"), f.load("%params", 1)
    with f.loop("%begin", "%end") as part:
        first = f.mul(part, nbytes)
        a, b = f.at(source, first, "i8"), f.at(goal, first, "i8")
        with f.loop("0", turns), f.loop("0", nbytes, 16 * lanes) as i:
            for k in range(4):
                here = f.at(f.at(a, i, 'i8'), 4 * lanes * k, 'i8')
                if how:
                    _ask_ahead(f, here, 4 * lanes, 1)
                x = f.let(f"load volatile {vector}, ptr {here}, align 64")
                f.do(f"store {vector} {x}, ptr {f.at(f.at(b, i, 'i8'), 4 * lanes * k, 'i8')}, align 64{how}")
    return f.finish()


def _ask_ahead(f: Function, here: str, nbytes: int, arrays: int) -> None:
    """Ask for lines ahead as the loops of programs do: else a program would reach more than the peak."""
    f.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for line in range(0, nbytes, 64):
        f.do(f"call void @llvm.prefetch.p0(ptr {f.at(here, ahead(arrays) + line, 'i8')}, i32 0, i32 2, i32 1)")


def _sum_ir(name: str, reads: int) -> str:
    """Each part reads ``params[0]`` bytes of each of the first arrays, and writes their sum past the caches."""
    module = Module()
    lanes = target.current().vector_bytes // 4
    vector = f"<{lanes} x float>"
    f = Function(f"void @{name}(ptr %table, ptr %params, i64 %begin, i64 %end)", module)
    arrays, nbytes = [f.load("%table", 1 + k, "ptr") for k in range(reads + 1)], f.load("%params")
    with f.loop("%begin", "%end") as part:
        first = f.mul(part, nbytes)
        with f.loop(first, f.add(first, nbytes), 4 * lanes) as i:
            total = ""
            for array in arrays[:-1]:
                _ask_ahead(f, f.at(array, i, "i8"), 4 * lanes, reads)
                x = f.let(f"load {vector}, ptr {f.at(array, i, 'i8')}, align 64")
                total = x if not total else f.let(f"fadd {vector} {total}, {x}")
            f.do(f"store {vector} {total}, ptr {f.at(arrays[-1], i, 'i8')}, align {4 * lanes}, !nontemporal !0")
    module.functions.append(f.finish())
    return module.text() + "!0 = !{i32 1}\n"
