"""What a profile is made of: slices of time that the system tells of, and ranges that the user names.

Operations run later than they are called: a range such as ``with record_function("forward")`` may be over when the program
runs that it recorded. So a kernel belongs to the innermost range in which its operation was *recorded*, wherever it runs;
programs are the same as without a profiler. Where a kernel computes operations of several ranges, its main one counts.

One thing differs. The result of a statement such as ``model(x)`` by itself is never read, so that nothing would need
computing; but it is there to be measured. So the last result of an outermost range, and of the profile, is computed even if
nobody holds it.
"""
from __future__ import annotations

import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from sys import getrefcount
from typing import Any

from ..compile.counters import Event, watchers
from ..compile.cpu import alloc
from ..record import flush, local
from ..record.paths import path_to
from ..record.trace import TraceNode

__all__ = ["Collector", "Range", "Slice", "active", "finish"]

Mark = tuple[int, int]  # a moment of a thread's recording: (number of the epoch, slot)

active: list[Collector] = []  # those that ranges are entered into


@dataclass(eq=False)
class Range:
    """A stretch of the program that has a name. ``first`` and ``last`` are its moments of recording; times are in seconds."""

    name: str
    thread: int
    parent: Range | None
    start: float
    first: Mark
    args: str | None = None
    end: float | None = None
    last: Mark | None = None
    is_step: bool = False

    def recorded(self, at: Mark) -> bool:
        return self.first <= at and (self.last is None or at < self.last)


@dataclass(eq=False)
class Slice:
    """A stretch of time that the system tells of.

    Attributes:
        kind: "kernel", "host", "cold", "build", "flush", or "record" (between two flushes).
        operations: names of the recorded operations that a kernel computes; ``shapes``: of the inputs of the first of them.
        lines: (file, line) of the user's code, the main one first.
        owner: the range that it belongs to; ``within``: the range that was open when it happened.
        live: of a flush: bytes in tensors when it was over.
    """

    kind: str
    name: str
    thread: int
    start: float
    seconds: float
    lines: tuple[tuple[str, int], ...] = ()
    nbytes: int = 0
    flops: int = 0
    operations: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    owner: Range | None = None
    within: Range | None = None
    live: int = 0


@dataclass
class _Thread:
    """What a collector knows of one thread. Recording is known since the profile began in the thread that began it, in others since
    their first range; where a thread's first flush is the first that is heard of it, there is no telling."""

    name: str
    recording: float | None = None                     # since when
    open: list[Range] = field(default_factory=list)
    recent: list[Range] = field(default_factory=list)  # those that operations still to run may belong to
    epoch: int = -1                                    # of the flush that runs
    nodes: list[TraceNode] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)      # results that nobody holds, until they have been computed


class Collector:
    """Gathers slices and ranges between :meth:`start` and :meth:`stop`, of all threads.

    Attributes:
        slices, ranges: in the order of their ends, and of their starts.
        start_time, end_time: on the clock of ``time.perf_counter``; ``epoch_time``: of ``time.time`` at the start.
    """

    def __init__(self, memory: bool = False) -> None:
        """``memory``: look at the allocator after every flush."""
        self.slices: list[Slice] = []
        self.ranges: list[Range] = []
        self.memory = memory
        self.start_time = self.end_time = self.epoch_time = 0.0
        self.live = 0  # bytes in tensors at the start
        self._threads: dict[int, _Thread] = {}

    def start(self) -> None:
        flush()  # what was recorded before belongs to nobody here
        self.live = alloc.stats().live
        self.start_time, self.epoch_time = time.perf_counter(), time.time()
        self._thread().recording = self.start_time
        watchers.append(self._watch)
        active.append(self)

    def stop(self, run_pending: bool = True) -> None:
        """``run_pending``: what has been recorded runs first, and belongs to this profile."""
        try:
            if run_pending:
                finish()
        finally:
            watchers.remove(self._watch)
            active.remove(self)
            self.end_time = time.perf_counter()
            for one in self._threads.values():
                for open_ in one.open:
                    open_.end = self.end_time
                one.open, one.recent, one.kept = [], [], []

    # -- ranges --------------------------------------------------------------------------------------------------------
    def enter(self, name: str, args: str | None = None, is_step: bool = False) -> Range:
        one = self._thread()
        parent = one.open[-1] if one.open else None
        made = Range(name, threading.get_ident(), parent, time.perf_counter(), _now(), args, is_step=is_step)
        if one.recording is None:
            one.recording = made.start
        one.open.append(made)
        one.recent.append(made)
        self.ranges.append(made)
        return made

    def exit(self, range_: Range) -> None:
        one = self._thread()
        if range_ not in one.open:
            return  # the profile began, or ended, in the middle of it
        while True:  # ranges that were left by an exception of their own end here, too
            top = one.open.pop()
            top.end, top.last = time.perf_counter(), _now()
            if top is range_:
                break
        if not one.open:
            values = local.trace.values
            if values and getrefcount(values[-1]) <= 2:  # the list and the argument: the result was dropped
                one.kept.append(values[-1])

    def _thread(self) -> _Thread:
        thread = threading.get_ident()
        if thread not in self._threads:
            self._threads[thread] = _Thread(threading.current_thread().name)
        return self._threads[thread]

    def thread_names(self) -> dict[int, str]:
        """Of the threads that have done something, the one that began the profile first."""
        return {thread: one.name for thread, one in self._threads.items()}

    # -- events --------------------------------------------------------------------------------------------------------
    def _watch(self, event: Event) -> None:
        one, thread = self._thread(), threading.get_ident()
        within = one.open[-1] if one.open else None
        if event.kind == "flush":
            node, epoch = event.detail
            one.nodes = path_to(node)
            one.slots = [n.slot for n in one.nodes]
            one.epoch = epoch.number
            one.recent = [r for r in one.recent if r.last is None or r.last >= (one.epoch, 0)]
            if one.recording is not None:
                count = sum(n.op is not None for n in one.nodes)
                self.slices.append(Slice("record", f"record {count} operation{'s' * (count != 1)}", thread, one.recording,
                                         event.start - one.recording, within=within))
            return
        if event.kind == "flushed":
            one.recording = event.start + event.seconds
            one.nodes, one.slots, one.kept = [], [], []
            self.slices.append(Slice("flush", "flush", thread, event.start, event.seconds, within=within,
                                     live=alloc.stats().live if self.memory else 0))
            return
        places = [self._node(one, line[2]) if len(line) > 2 else None for line in event.lines]
        nodes = [n for n in dict.fromkeys(places) if n is not None]
        made = Slice(event.kind, event.name, thread, event.start, event.seconds, tuple(dict.fromkeys(line[:2] for line in event.lines)),
                     event.nbytes, event.flops, tuple(dict.fromkeys(n.op.name for n in sorted(nodes, key=lambda n: n.slot))),
                     within=within)
        if nodes:
            made.shapes = tuple(self._shape(one, slot) for slot in nodes[0].inputs)
            made.owner = next((r for r in reversed(one.recent) if r.recorded((one.epoch, nodes[0].slot))), None)
        elif event.kind == "build":
            made.owner = within
        self.slices.append(made)

    def _node(self, one: _Thread, slot: int) -> TraceNode | None:
        """The operation with that slot, of the path that runs."""
        k = bisect_right(one.slots, slot) - 1
        return one.nodes[k] if k >= 0 and one.nodes[k].op is not None else None

    def _shape(self, one: _Thread, slot: int) -> tuple[int, ...]:
        node = one.nodes[bisect_right(one.slots, slot) - 1]
        return tuple(node.metas[slot - node.slot].shape)


def _now() -> Mark:
    trace = local.trace
    return trace.epoch.number, len(trace.values)


def finish() -> None:
    """Run what this thread has recorded, and compute its last result even if nobody holds it."""
    values = local.trace.values
    last = values[-1] if values else None
    flush()
    del last

