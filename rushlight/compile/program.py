"""Program: a planned graph, run by one native call for each stretch of kernels between host functions.

Example::

    g = Graph(); x = g.leaf((4,), float32); g.results = [g.map(lambda e, x: e.exp(x), x)]
    program = build(g, {})
    program.run([x_array.ctypes.data], [out_array.ctypes.data])
"""
from __future__ import annotations

import ctypes
import functools
import math
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .counters import Event, counters, tell, watchers
from .cpu import alloc, executor, jit, pool
from .cpu.flight import Aftermath, Launch, flights, in_flight
from .cpu.vecmath import constant_bits
from .dtypes import DType
from .errors import OutOfBounds, ZeroDivision, origin
from .flags import flags
from .graph import HostCall
from .nest import ERRORS

__all__ = ["ERROR_WORDS", "Program", "Packed", "Instruction", "Segment", "HostStep", "Value", "arena", "note_built", "note_found"]


ERROR_WORDS = 8  # of the block that the table's first entry points to; a program's own numbers lie behind it


@dataclass(frozen=True)
class Value:
    """A leaf or a result of a program."""

    shape: tuple[int, ...]
    dtype: DType
    nbytes: int

    def __iter__(self) -> Any:
        return iter((self.shape, self.dtype, self.nbytes))


@dataclass(frozen=True)
class Packed:
    """A packed form of a leaf that the program does not write: it may lie anywhere, and serve many runs.

    Attributes:
        leaf: number of the leaf.
        key: names the form; forms of one content with equal keys are equal.
        offset: where it lies in the arena in a run that was given no place for it.
    """

    leaf: int
    key: Any
    nbytes: int
    offset: int


@dataclass
class Instruction:
    """One kernel call, and what the profiler says about it. ``params`` are the kernel's 64-bit parameters, ``packed`` what
    it makes and nothing else."""

    kernel: int
    params: list[int]
    parts: int
    grain: int
    label: Any  # its text is what the profiler shows, with ``detail`` behind it
    lines: tuple[Any, ...] = ()
    nbytes: int = 0
    flops: int = 0
    work: float = 0.0  # estimated nanoseconds on one core
    packed: Packed | None = None
    detail: str = ""
    symbol: tuple[str, str] = ("", "")  # what names the kernel: its structure key and the function's name

    @property
    def name(self) -> str:
        return f"{self.label}{self.detail}"


@dataclass
class HostStep:
    """A Python function between kernels: ``inputs`` and ``outputs`` are (table index, byte offset, shape, dtype)."""

    call: HostCall
    inputs: list[tuple[int, int, tuple[int, ...], DType]]
    outputs: list[tuple[int, int, int, tuple[int, ...], DType]]  # first: which of the call's results
    line: Any = None


class Segment:
    """Consecutive kernel calls in memory that the executor can walk.

    Args:
        rows: of each four numbers: the kernel's address, where its parameters begin (in bytes), parts and grain.
        params: of all of them, one after the other.
        work: estimated nanoseconds on one core.
        forms: the packed forms that they make: (number of the call, the form).
        instructions: makes the instructions, when somebody asks.
    """

    def __init__(self, rows: Sequence[int], params: Sequence[int] | np.ndarray, work: float,
                 forms: Sequence[tuple[int, Packed]], instructions: Callable[[], list[Instruction]]) -> None:
        self.params = np.asarray(params, np.int64)
        self.code = executor.Instructions(rows)
        self.code.array[:, 1] += self.params.ctypes.data
        self.pointer, self.count = self.code.pointer, len(self.code)
        self.work, self.forms = work, tuple(forms)
        self.run = executor.run_held if work < 10_000 else executor.run
        self._make = instructions
        self._made: list[Instruction] | None = None
        self._lines: list[Callable[[Any], Any]] = []  # what has happened to the user's lines since

    @classmethod
    def of(cls, instructions: list[Instruction]) -> Segment:
        """A segment of instructions that are there."""
        rows: list[int] = []
        params: list[int] = []
        for i in instructions:
            rows += (i.kernel, 8 * len(params), i.parts, i.grain)
            params += i.params
        forms = [(k, i.packed) for k, i in enumerate(instructions) if i.packed is not None]
        return cls(rows, params, sum([i.work for i in instructions]), forms, lambda: instructions)

    @property
    def instructions(self) -> list[Instruction]:
        if self._made is None:
            self._made = self._make()
        for other in self._lines:
            for one in self._made:
                one.lines = tuple([other(line) for line in one.lines])
        self._lines.clear()
        return self._made

    def relabel(self, other: Callable[[Any], Any]) -> None:
        """The user's lines are others: ``other`` of what they were."""
        self._lines.append(other)


class _Space:
    """The scratch memory of a thread's programs: one block that grows to the largest need."""

    __slots__ = ("block", "size", "busy")

    def __init__(self) -> None:
        self.block: alloc.Block | None = None
        self.size = -1
        self.busy = False

    def pointer(self, size: int) -> int:
        if size > self.size:
            self.block = None  # give the old one back first
            self.block = alloc.allocate(size)
            self.size = size
        assert self.block is not None
        return self.block.ptr


class _Arena(threading.local):
    def __init__(self) -> None:
        self.space = _Space()


arena = _Arena()


class Program:
    """Runs a graph. Made by :func:`rushlight.compile.build.build`.

    Attributes:
        leaves, results: a :class:`Value` (shape, dtype, bytes) each, made when somebody asks: a step of new sizes has hundreds of them.
        steps: segments of instructions and host steps, in order.
        arena_bytes: scratch memory that a run needs.
        packed: the packed forms of leaves, in the order of the table's last entries.
        numbers: (value, dtype) of what it reads besides, which lies behind the error block, 8 bytes each.
    """

    def __init__(self, leaves: Sequence[tuple[tuple[int, ...], DType]], results: Sequence[tuple[tuple[int, ...], DType]],
                 steps: list[Segment | HostStep], arena_bytes: int, numbers: Sequence[tuple[float, DType]] = ()) -> None:
        self._given = leaves, results
        self.steps = steps
        self.arena_bytes = arena_bytes
        self.numbers = tuple(numbers)
        self._errors = np.array([0] * ERROR_WORDS + [constant_bits(*x) for x in numbers], np.uint64)
        segments = [s for s in steps if isinstance(s, Segment)]
        self.packed = [form for s in segments for _, form in s.forms]
        self._packing = [(s.code.array, k, int(s.code.array[k, 2])) for s in segments for k, _ in s.forms]
        self._ready = (False,) * len(self.packed)
        n = len(leaves) + len(results) + 1 + len(self.packed)
        self._table = np.zeros(n + 1, np.int64)
        self._table[0] = self._errors.ctypes.data
        self._table_pointer = self._table.ctypes.data
        self._view = self._table.data.cast("B")
        self._pack = struct.Struct(f"{n}q").pack_into
        # What ``plain_run`` has written into the table, and nobody else since: the addresses, and that of the arena.
        self._entered: tuple[int, ...] | None = None
        self._base = 0
        self._lock = threading.RLock()  # a host function may run the very program that calls it
        self._only = steps[0] if len(steps) == 1 and isinstance(steps[0], Segment) else None
        #: Whether ``plain_run`` runs it: one segment that makes no packed forms.
        self.is_plain = self._only is not None and not self.packed
        self._tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of launches: (error block, table)
        #: Whether it can run while Python goes on, and how long it will take: an estimate in nanoseconds on one core.
        self.can_fly = self._only is not None and pool.processors() > 1
        self.work = sum([s.work for s in segments])

    @functools.cached_property
    def leaves(self) -> tuple[Value, ...]:
        return tuple([_value(*x) for x in self._given[0]])

    @functools.cached_property
    def results(self) -> tuple[Value, ...]:
        return tuple([_value(*x) for x in self._given[1]])

    @property
    def instructions(self) -> list[Instruction]:
        return [i for s in self.steps if isinstance(s, Segment) for i in s.instructions]

    def relabel(self, lines: Mapping[int, tuple[str, int]]) -> None:
        """What was recorded in the slots that ``lines`` names is from other lines of the user's: (file, line)."""
        def other(line: Any) -> Any:
            return line if line is None or line[2] not in lines else (*lines[line[2]], line[2])

        for step in self.steps:
            if isinstance(step, HostStep):
                step.line = other(step.line)
            else:
                step.relabel(other)

    def run(self, leaf_ptrs: Sequence[int], result_ptrs: Sequence[int], places: Sequence[int] = (),
            ready: tuple[bool, ...] = ()) -> None:
        """Compute the results from the leaves; both are addresses of dense row-major arrays that no program in flight uses.

        Args:
            places: the address of each of ``packed``, 0 for one in the arena. Without, all are there.
            ready: of each, whether it is there already and need not be made.

        Raises:
            OutOfBounds: an index of a gather or a scatter is out of range.
            RuntimeError: integer division by zero.
            ValueError: the number of addresses is wrong.
        """
        space = arena.space
        if space.busy or watchers or flags.debug >= 2 or in_flight:
            self._run_carefully(leaf_ptrs, result_ptrs, places, ready)
            return
        only = self._only
        with self._lock:
            space.busy = True
            try:
                self._enter(self._view, leaf_ptrs, result_ptrs, space.pointer(self.arena_bytes), places, ready)
                if only is not None:
                    failed = only.run(only.pointer, only.count, self._table_pointer)
                    if failed is not None:
                        raise _error(failed, only)
                else:
                    self._run_steps()
            finally:
                space.busy = False

    def plain_run(self) -> Callable[..., None]:
        """``run`` where ``is_plain``, as a function of the addresses of leaves, then results, one argument each: without what takes
        longer than a program of some instructions."""
        only: Any = self._only
        run, start, count, table, need = only.run, only.pointer, only.count, self._table_pointer, self.arena_bytes
        lock, pack, view, carefully = self._lock, self._pack, self._view, self._run_carefully

        def run_plain(*pointers: int) -> None:
            space = arena.space
            if space.busy or watchers or flags.debug >= 2 or in_flight:
                carefully(pointers, (), (), ())
                return
            with lock:
                space.busy = True
                try:
                    base = space.block.ptr if need <= space.size else space.pointer(need)  # type: ignore[union-attr]
                    if self._entered != pointers or self._base != base:  # a loop that repeats itself finds the table as it left it
                        self._entered = None
                        pack(view, 8, *pointers, base)
                        self._base = base
                        self._entered = pointers
                    failed = run(start, count, table)
                    if failed is not None:
                        raise _error(failed, only)
                finally:
                    space.busy = False
        return run_plain

    def launch(self, pointers: Sequence[int], places: Sequence[int], ready: tuple[bool, ...], aftermath: Aftermath) -> Launch:
        """Run while Python goes on; only where ``can_fly``.

        Args:
            pointers: of leaves, then results. places, ready: as in ``run``.
            aftermath: what a failure means.
        """
        return flights.launch(self, pointers, (places, ready), aftermath, pool.ready(), pool.native())

    def inside_another(self) -> bool:
        """Whether this thread is in a host function of a program, whose arena is in use."""
        return arena.space.busy

    def prepare(self, number: int, pointers: Sequence[int], packed: tuple[Sequence[int], tuple[bool, ...]]) -> tuple[int, int, int]:
        """What the executor needs for a run: (address and number of instructions, address of the table). The arena is this thread's:
        only for programs of one thread that run one after the other. Those that have not ended have tables of different numbers."""
        assert self._only is not None
        known = self._tables.get(number)
        if known is None:
            known = self._tables[number] = self._errors.copy(), np.zeros(len(self._table), np.int64)
            known[1][0] = known[0].ctypes.data
        table = known[1]
        self._enter(table.data.cast("B"), pointers, (), arena.space.pointer(self.arena_bytes), *packed)
        return self._only.pointer, self._only.count, table.ctypes.data

    def take_error(self, number: int) -> Exception:
        """The exception for the error that a launched run left."""
        assert self._only is not None
        return _error(executor.take_error(self._tables[number][1].ctypes.data), self._only)

    def leaf_ranges(self, pointers: Sequence[int]) -> list[tuple[int, int]]:
        """The memory of the leaves: [begin, end) each."""
        return [(p, p + leaf.nbytes) for p, leaf in zip(pointers, self.leaves)]

    def _enter(self, table: memoryview, leaf_ptrs: Sequence[int], result_ptrs: Sequence[int], base: int, places: Sequence[int],
               ready: tuple[bool, ...]) -> None:
        """Write the addresses into a table, and let the instructions rest whose work is done."""
        self._entered = None
        packed = self.packed
        if packed:
            if not ready:
                places, ready = [0] * len(packed), (False,) * len(packed)
            places = [place or base + p.offset for place, p in zip(places, packed, strict=True)]
            if ready != self._ready:
                flights.drain()  # a program in flight may be this one
                for (code, k, parts), done in zip(self._packing, ready, strict=True):
                    code[k, 2] = 0 if done else parts
                self._ready = ready
        try:
            self._pack(table, 8, *leaf_ptrs, *result_ptrs, base, *places)
        except struct.error:
            raise self._wrong_count(leaf_ptrs, result_ptrs) from None

    def _run_steps(self) -> None:
        for step in self.steps:
            if isinstance(step, Segment):
                failed = step.run(step.pointer, step.count, self._table_pointer)
                if failed is not None:
                    raise _error(failed, step)
            else:
                self._run_host(step)

    def _run_carefully(self, leaf_ptrs: Sequence[int], result_ptrs: Sequence[int], places: Sequence[int],
                       ready: tuple[bool, ...]) -> None:
        """A run inside another one's host function or beside programs in flight, which has an arena of its own, or one that is timed.
        That one takes the arena that all runs of this thread take, touched before: fresh memory would be most of the time that its kernels
        are seen to need."""
        space = arena.space
        own = alloc.allocate(self.arena_bytes) if space.busy or in_flight else None
        timed = bool(watchers) or flags.debug >= 2
        fresh = timed and own is None and space.size < self.arena_bytes
        with self._lock:
            space.busy |= own is None
            try:
                base = space.pointer(self.arena_bytes) if own is None else own.ptr
                if fresh:
                    ctypes.memset(base, 0, self.arena_bytes)
                self._enter(self._view, leaf_ptrs, result_ptrs, base, places, ready)
                if timed:
                    self._run_timed()
                else:
                    self._run_steps()
            finally:
                space.busy &= own is not None

    def _run_timed(self) -> None:
        for step in self.steps:
            if isinstance(step, HostStep):
                start = time.perf_counter()
                self._run_host(step)
                _tell(Event("host", "host " + step.call.name, start, time.perf_counter() - start,
                            () if step.line is None else (step.line,)))
                continue
            for k, one in enumerate(step.instructions):
                if one.packed is not None and not step.code.array[k, 2]:
                    continue
                start = time.perf_counter()
                failed = executor.run(step.pointer + 32 * k, 1, self._table_pointer)
                seconds = time.perf_counter() - start
                if failed is not None:
                    raise _error(failed, step, k)
                _tell(Event("kernel", one.name, start, seconds, one.lines, one.nbytes, one.flops))

    def _run_host(self, step: HostStep) -> None:
        pointers = self._table.copy()
        arrays = [alloc.array_at(int(pointers[t]) + offset, shape, dtype.numpy) for t, offset, shape, dtype in step.inputs]
        made = step.call.function(*arrays)
        self._table[:] = pointers
        made = made if isinstance(made, tuple) else (made,)
        for which, t, offset, shape, dtype in step.outputs:
            np.copyto(alloc.array_at(int(self._table[t]) + offset, shape, dtype.numpy), np.asarray(made[which]).reshape(shape),
                      casting="unsafe")

    def _wrong_count(self, leaf_ptrs: Sequence[int], result_ptrs: Sequence[int]) -> ValueError:
        return ValueError(f"the program has {len(self.leaves)} leaves and {len(self.results)} results; got "
                          f"{len(leaf_ptrs)} and {len(result_ptrs)} addresses")


def _tell(event: Event) -> None:
    """One instruction has run: let the profiler know, print it with RUSHLIGHT_DEBUG=2."""
    tell(event)
    if flags.debug >= 2:
        each = max(event.seconds, 1e-9)
        print(f"  {event.name:<44} {each * 1e6:9.1f} us {event.nbytes / each / 1e9:7.1f} GB/s {event.flops / each / 1e9:7.1f} GFLOP/s "
              f"{next((line[:2] for line in event.lines), '')}")


def _value(shape: tuple[int, ...], dtype: DType) -> Value:
    return Value(shape, dtype, math.prod(shape) * dtype.itemsize)


def _error(failed: executor.RunError, segment: Segment, number: int | None = None) -> Exception:
    """The exception for a run-time error, naming the user's line where it is known.

    ``number``: the instruction's place in the segment, where it was run by itself.
    """
    instruction = segment.instructions[failed.instruction if number is None else number]
    line = next((x for x in instruction.lines if x is not None), None)
    where = origin(line)
    if failed.code == 1:
        return OutOfBounds(f"index {failed.index} is out of bounds for dimension with size {failed.bound}{where}")
    if failed.code == 2:
        return ZeroDivision(f"ZeroDivisionError: integer division by zero{where}")
    if failed.code == 3:
        return OutOfBounds(f"Target {failed.index} is out of bounds.{where}")
    return RuntimeError(f"{ERRORS.get(failed.code, 'unknown error')}: {failed.index}{where}")


def note_found(program: Program, seconds: float) -> None:
    """Count a program whose plan was on disk."""
    counters.outlines += 1
    counters.found += 1
    note_built(program, seconds)


def note_built(program: Program, seconds: float) -> None:
    """Count a finished program; print a line with RUSHLIGHT_DEBUG=1."""
    counters.programs += 1
    counters.build_seconds += seconds
    count = sum([s.count for s in program.steps if isinstance(s, Segment)])
    counters.instructions += count
    if watchers:
        tell(Event("build", f"build program {counters.programs}", time.perf_counter() - seconds, seconds))
    if flags.debug >= 1:
        hosts = sum(isinstance(s, HostStep) for s in program.steps)
        print(f"program {counters.programs}: {len(program.leaves)} leaves, {len(program.results)} results, "
              f"{count} instructions, {hosts} host calls, arena {program.arena_bytes} bytes, "
              f"built in {seconds * 1e3:.1f} ms; {jit.counters.compiled} kernels compiled, {jit.counters.loaded} loaded")
