"""Flush: make the live pending values of a trace ready, with a program found or built for the path walked.

A flush happens where a value is read, at the end of an optimizer step, at a batch boundary, and when a trace grows past
its budget. The path and the set of live values name the program, so the second time round it is found, not built.

Where nobody waits for a value, the program is launched and runs while Python goes on (``compile/cpu/flight.py``). Its results
count as ready from then on; who looks at their memory waits.
"""
from __future__ import annotations

import ctypes
import threading
import time
import traceback
from collections.abc import Sequence
from sys import getrefcount
from typing import Any

from ..compile.counters import Event, tell, watchers
from ..compile.cpu.flight import Launch, failed, flights, in_flight, unheard
from ..compile.reference.interpret import PLAIN
from . import cold, families, launching, paths
from .salvage import Aftermath, salvage
from .settings import settings
from .trace import NO_CALL, Trace, TraceNode, local, traces
from .value import Buffer, Epoch, Value, allocate, allocate_behind

__all__ = ["flush", "flush_trace", "ready", "batch_boundary", "start_afresh", "counters"]

PROGRAMS_AT_NODE = 64   # programs kept at one point of the trie, for different sets of live values
NODE_LIMIT = 100_000    # nodes of one thread's trie: with their programs, some 250 MB
SPARE = 1000             # values that nobody needed, kept to be used again
_COLD_SIZES = 2         # sizes of one path that run cold


class Counters(threading.local):
    """What flushes did in this thread: asserted by tests, printed by the profiler."""

    def __init__(self) -> None:
        self.programs_built = 0
        self.programs_run = 0
        self.programs_launched = 0  # of these, how many without waiting
        self.cold_runs = 0


counters = Counters()


def flush() -> None:
    """Run what this thread has recorded; come back when that, and all that was launched before, has been done."""
    flush_trace(local.trace)
    if in_flight:
        flights.drain()
    if unheard:
        flights.complain()


def batch_boundary() -> None:
    """A loop over data moves on: run what is pending, so that flushes fall on the user's loop boundaries."""
    tr = local.trace
    if tr.values:
        flush_trace(tr, False)


def flush_trace(tr: Trace, wait: bool = True) -> None:
    """Run what is recorded in ``tr``; without ``wait`` it may still be running when this returns.

    Raises:
        what the run raises, or a program that this thread launched before.
    """
    launched = None
    with tr.lock:
        values, node, epoch = tr.values, tr.node, tr.epoch
        if not values:
            return
        live, dead, dead_views = _sorted(values)
        windows = tr.windows
        wait = wait or tr.exported
        tr.windows = set()
        tr.values, tr.epoch = [], Epoch(tr)
        tr.exported, tr.full = False, tr.anomaly
        tr.node = tr.root if tr.low is None else tr.beginning()
        tr.flushes += 1
        if live:
            start = time.perf_counter() if watchers else 0.0
            try:
                if watchers:
                    tell(Event("flush", "flush", start, 0.0, detail=(node, epoch)))
                launched = _run(tr, node, values, live, windows, wait)
            except BaseException as error:
                epoch.error = error
                flights.drain()
                salvage(node, values, live, error)
                # The epoch keeps the error, whose frames must not keep values: they would count as alive.
                if error.__traceback__ is not None:
                    traceback.clear_frames(error.__traceback__)
                values, live = [], []
                raise
            finally:
                if watchers:
                    tell(Event("flushed", "flush", start, time.perf_counter() - start, detail=(node, epoch)))
        if len(tr.spare) < SPARE:
            tr.spare += dead
        if len(tr.spare_views) < SPARE:
            tr.spare_views += dead_views
        if tr.nodes > NODE_LIMIT:
            _prune(tr)
            tr.node = tr.beginning()
    if launched is not None and wait:
        flights.wait(launched)
    elif unheard:
        flights.complain()


def start_afresh() -> None:
    """Forget every recorded path of every thread: something changed that the results' metas follow from."""
    families.clear()
    for tr in list(traces):
        with tr.lock:
            flush_trace(tr)
            tr.root = TraceNode(None, None, (), (), (), 0)
            tr.nodes = 0
            tr.node = tr.beginning()


def _sorted(values: list[Value]) -> tuple[list[Value], list[Value], list[Value]]:
    """Pending values that somebody outside the trace refers to, in slot order; and those that nobody refers to, with nothing to
    them but their place in the trace, which serve again: results and views (``Trace.spare``, ``Trace.spare_views``).

    Later values are looked at first: a dead view lets go of the value it is a view of.
    """
    live, dead, dead_views = [], [], []
    for v in reversed(values):
        if v.buffer is None:
            held = getrefcount(v) > 3  # the list, v, the argument
            if v.origin is not None:
                if not held and v.let_go():  # type: ignore[attr-defined]
                    dead_views.append(v)
            elif held:
                live.append(v)
            elif v.home is None and v.overwritten is None:
                dead.append(v)
    live.reverse()
    return live, dead, dead_views


class _Again:
    """A run that may come again: at one node, with these values alive, which take over the memory of these leaves (-1: of
    none). Checking that it is the same is quicker than working it out."""

    __slots__ = ("slots", "takes", "path", "leaves", "in_place")

    def __init__(self, slots: tuple[int, ...], takes: tuple[tuple[int, int], ...], path: Any) -> None:
        self.slots, self.takes, self.path, self.leaves = slots, takes, path, path.leaves
        self.in_place = tuple([leaf >= 0 for leaf, _ in takes])

    def run(self, node: TraceNode, live: list[Value], values: list[Value], windows: set[int], wait: bool) -> Any:
        """Run it; returns the launch, if it is one, else None. False, and nothing done, if this is another run."""
        if in_flight or failed or not (wait or self.path.work < launching.SHORT or self.path.rests()):
            return self._run_beside(node, live, values, windows, wait)
        made = []
        pointers = [values[s].buffer.ptr for s in self.leaves]  # type: ignore[union-attr]
        for v, (slot, nbytes) in zip(live, self.takes):
            buffer = v.home
            if slot < 0:
                if buffer is not None:
                    return False
                buffer = allocate(nbytes)
            else:
                leaf = values[slot]
                if buffer is None or leaf.buffer is not buffer or getrefcount(leaf) > 3:  # the list, leaf, the argument
                    return False
            made.append(buffer)
            pointers.append(buffer.ptr)
        counters.programs_run += 1
        try:
            self.path.start(pointers, values)
        finally:
            _written(made)
        _fill(live, made)
        return None

    def _run_beside(self, node: TraceNode, live: list[Value], values: list[Value], windows: set[int], wait: bool) -> Any:
        """The same with programs in flight, or to come."""
        for v, (slot, _) in zip(live, self.takes):
            home = v.home
            if slot < 0:
                if home is not None:
                    return False
            else:
                leaf = values[slot]
                if home is None or leaf.buffer is not home or getrefcount(leaf) > 3:  # the list, leaf, the argument
                    return False
        fly = launching.flies(self.path, values, live, windows, wait)
        obtain = allocate_behind if fly else allocate
        made: list[Any] = [obtain(nbytes) if slot < 0 else v.home for v, (slot, nbytes) in zip(live, self.takes)]
        counters.programs_run += 1
        pointers = [values[s].buffer.ptr for s in self.leaves]  # type: ignore[union-attr]
        pointers += [b.ptr for b in made]
        launched = None
        if fly:
            counters.programs_launched += 1
            launched = launching.launch(self.path, pointers, values, Aftermath(self.path, node, self.slots, self.in_place), made, windows)
        else:
            self.path.start(pointers, values)
        _written(made)
        _fill(live, made)
        return launched


def _written(buffers: Sequence[Buffer]) -> None:
    """A program wrote into them: packed forms of what they held are forgotten."""
    for buffer in buffers:
        if buffer.packed:
            buffer.packed = None


def _fill(live: Sequence[Value], buffers: Sequence[Buffer]) -> None:
    """The values have been computed, or will have been once the program that was launched has run."""
    for v, buffer in zip(live, buffers):
        v.buffer = buffer
        v.home = v.epoch = None


def _run(tr: Trace, node: TraceNode, values: list[Value], live: list[Value], windows: set[int], wait: bool) -> Launch | None:
    # Memory that this program also reads through a window is written at the end.
    late = [(v, v.home) for v in live if v.home is not None and id(v.home) in windows] if windows else []
    again = node.again
    if again is not None and not late and again.slots == tuple([v.slot for v in live]):
        done = again.run(node, live, values, windows, wait)
        if done is not False:
            node.used = tr.flushes
            return done  # type: ignore[no-any-return]
    if late:
        flights.drain()
        for v, _ in late:
            v.home = None
    launched = None
    try:
        donations, moved = _donations(values, live)
        key = (tuple([v.slot for v in live]), donations, moved)
        entry = node.programs.get(key)
        if entry is None or type(entry) is int:
            entry = _program(node, key, entry or 0)
        node.used = tr.flushes
        fly = launching.flies(entry, values, live, windows, wait or bool(late))
        obtain = allocate_behind if fly else allocate
        buffers = []
        for v in live:
            buffers.append(obtain(v.meta.nbytes or 1) if v.home is None else v.home)
        for slot in moved:
            buffers.append(obtain(values[slot].meta.nbytes or 1))
        counters.programs_run += 1
        if fly:
            aftermath = Aftermath(entry, node, key[0], [v.home is not None for v in live], moved)
            pointers = [*[values[s].buffer.ptr for s in entry.leaves], *[b.ptr for b in buffers]]  # type: ignore[union-attr]
            counters.programs_launched += 1
            launched = launching.launch(entry, pointers, values, aftermath, buffers, windows)
        else:
            entry.run(values, buffers)
    except BaseException:
        for v, home in late:
            v.home = home
        raise
    finally:
        _written([v.home for v in live if v.home is not None])
    takes = dict(donations)
    one_each = len(takes) == len(donations) == sum([v.home is not None for v in live])
    if one_each and not moved and not late and node.programs.get(key) is entry:
        node.again = _Again(key[0], tuple([(takes.get(v.slot, -1), v.meta.nbytes or 1) for v in live]), entry)
    _fill(live, buffers)
    if late:
        flights.drain()
        launching.check([v.buffer for v, _ in late])
    for v, home in late:
        ctypes.memmove(home.ptr, v.buffer.ptr, v.meta.nbytes)  # type: ignore[union-attr]
        home.packed = home.packed and None
        v.buffer = home
    for slot, buffer in zip(moved, buffers[len(live):]):
        values[slot].buffer = buffer
    return launched


def _donations(values: list[Value], live: list[Value]) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Which live values take over the memory of which leaves, and which of those leaves are still needed elsewhere.

    The content of a leaf that is still needed (kept for a backward, say) moves to new memory: memory belongs to the
    tensor, not to the value.
    """
    pairs, moved = [], []
    homes = {id(v.home): v for v in live if v.home is not None}
    if homes:
        for leaf in values:
            if leaf.buffer is not None and id(leaf.buffer) in homes:
                pairs.append((homes[id(leaf.buffer)].slot, leaf.slot))
                if getrefcount(leaf) > 3:
                    moved.append(leaf.slot)
    return tuple(pairs), tuple(moved)


def _program(node: TraceNode, key: tuple, seen: int) -> Any:
    """The first small run of a path is cold (nobody waits for LLVM to fill a bias), also if it has run before with other sizes
    once; then it is compiled."""
    path = paths.path_to(node)
    lowered = None
    described = families.describe(path, key)
    program: Any = None if settings.eager else families.member(described)
    others = families.saw(described) if program is None else 0
    with paths.no_collection():
        if program is None and (settings.eager or seen == 0 and others < _COLD_SIZES and paths.cost(path) < settings.cold_limit):
            program = cold.ColdProgram(path, key)
            if settings.eager or program.products < min(settings.cold_limit, PLAIN):
                node.programs[key] = seen + 1
                counters.cold_runs += 1
                return program
            lowered, program = (program.graph, program.leaves), None
        program = program or families.plan(described, key) or paths.compile_path(path, key, lowered)
    counters.programs_built += 1
    node.programs[key] = program
    if len(node.programs) > PROGRAMS_AT_NODE:
        node.programs.pop(next(iter(node.programs)))
    return program


def _prune(tr: Trace) -> None:
    """Forget the branches of the trie that were not flushed lately (the least recently used half)."""
    ends = []
    stack = [tr.root]
    while stack:
        n = stack.pop()
        if n.programs:
            ends.append(n)
        stack.extend(n.edges.values())
    ends.sort(key=lambda n: n.used)
    keep: set[int] = {id(tr.root)}
    for n in ends[len(ends) // 2:]:
        while n is not None and id(n) not in keep:
            keep.add(id(n))
            n = n.parent  # type: ignore[assignment]
    count = 0
    stack = [tr.root]
    while stack:
        n = stack.pop()
        count += 1
        n.edges = {k: c for k, c in n.edges.items() if id(c) in keep}
        n.calls, n.last = None, NO_CALL
        stack.extend(n.edges.values())
    tr.nodes = count


def ready(v: Value) -> Buffer:
    """The memory of a value, after whatever must run to fill it (views have none: see ``Tensor``).

    Raises:
        what running it raised.
    """
    if v.buffer is None:
        epoch = v.epoch
        if epoch is None:
            raise RuntimeError("this value was never recorded")
        if epoch.error is None:
            flush_trace(epoch.trace)
        if v.buffer is None:
            raise epoch.error or RuntimeError("the value was not computed by the flush of its trace")
    buffer = v.buffer
    if buffer.flight is not None:
        buffer.flight.settle(buffer)
    return buffer
