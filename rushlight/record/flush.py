"""Flush: make the live pending values of a trace ready, with a program found or built for the path walked.

A flush happens where a value is read, at the end of an optimizer step, at a batch boundary, and when a trace grows past
its budget. The path and the set of live values name the program, so the second time round it is found, not built.

Where nobody waits for a value, the program is launched and runs while Python goes on (``compile/cpu/flight.py``). Its results
count as ready from then on; who looks at their memory waits.
"""
from __future__ import annotations

import ctypes
import time
import traceback
from collections.abc import Sequence
from sys import getrefcount
from typing import Any

from ..compile.counters import Event, tell, watchers
from ..compile.cpu.flight import Launch, flights, in_flight, unheard
from ..compile.reference.interpret import PLAIN
from . import cold, families, launching, paths
from .again import Again, counters, fill, keep_pending, written
from .cold import Waiting
from .met import Met
from .pace import pace
from .passing import Passing
from .patience import LONG
from .salvage import Aftermath, salvage
from .settings import settings
from .trace import NO_COPY, NOTHING, Trace, TraceNode, forget_results, local, traces
from .unsettled import APART
from .value import SPARE, Buffer, Value, allocate, allocate_behind, new_epoch

__all__ = ["flush", "flush_trace", "ready", "batch_boundary", "start_afresh", "counters"]

PROGRAMS_AT_NODE = 64   # programs kept at one point of the trie, for different sets of live values
NODE_LIMIT = 100_000    # nodes of one thread's trie: with their programs, some 250 MB
_COLD_SIZES = 2         # sizes of one path that run cold
_PLANNED = 2            # heavy long paths that begin alike and are planned the first time that each of them comes
_HEAVY = 6              # times as heavy has a long path to be for that: what is not takes hardly longer operation by operation


def flush() -> None:
    """Run what this thread has recorded; come back when that, and all that was launched before, has been done."""
    flush_trace(local.trace)
    if in_flight:
        flights.drain()
    if unheard:
        flights.complain()


def batch_boundary() -> None:
    """A loop over data moves on: run what is pending, so that flushes fall on the user's loop boundaries."""
    flush_trace(local.trace, False)


def flush_trace(tr: Trace, wait: bool = True, goes_on: bool = False) -> None:
    """Run what is recorded in ``tr``; without ``wait`` it may still be running when this returns. ``goes_on``: it is a call that runs by
    itself, and the path does not end with it.

    Raises:
        what the run raises, or a program that this thread launched before.
    """
    launched = None
    with tr.lock:
        values, node, epoch = tr.values, tr.node, tr.epoch
        alone = tr.alone
        if not values:
            if alone and not tr.within:
                tr.end_path()
            return
        again = node.again
        known: list[int] | None = None
        live: Sequence[Value] = ()
        dead: Sequence[Value]
        dead_views: Sequence[Value]
        if again is None or not again.is_this(values):
            again = None
            known = None if keep_pending(values) else list(map(getrefcount, values))
            live, dead, dead_views = _sorted(values, tr.spare_wholes)
        windows = tr.windows
        wait = wait or alone or tr.exported
        if windows:
            tr.windows = set()
        tr.values, tr.epoch = [], new_epoch(tr)
        tr.exported, tr.full, tr.copied = False, tr.slow, NO_COPY
        tr.flushes += 1
        if alone:
            tr.unsettled.trail = hash((tr.unsettled.trail, node))
            if not (goes_on or tr.within):
                tr.end_path()
        elif node.stop is APART:
            tr.alone, tr.unsettled.trail = True, hash(node)
        if node.depth >= LONG:
            tr.unsettled.runs += 1
        tr.node = tr.root if tr.low is None and not tr.alone else tr.beginning()
        if tr.alone:  # a call that is found here is to run by itself
            tr.node.forget_latest()
        if len(values) > pace.length:
            pace.follow(len(values))
        if again is not None or live:
            start = time.perf_counter() if watchers else 0.0
            try:
                if watchers:
                    tell(Event("flush", "flush", start, 0.0, detail=(node, epoch)))
                if again is None or watchers or not again.run_alone(values, windows, wait):
                    live = live or again.live(values)
                    launched = _run(tr, node, values, live, windows, wait, known, again, alone)
                node.used = tr.flushes
            except BaseException as error:
                epoch.error = error
                flights.drain()
                live = live or again.live(values)
                salvage(node, values, live, error)
                # The epoch keeps the error, whose frames must not keep values: they would count as alive.
                if error.__traceback__ is not None:
                    traceback.clear_frames(error.__traceback__)
                values, live = [], ()
                raise
            finally:
                if watchers:
                    tell(Event("flushed", "flush", start, time.perf_counter() - start, detail=(node, epoch)))
        if again is not None:
            dead = again.dead(values)
            dead_views = () if again.dead_views is None else _let_go(again.dead_views(values), tr.spare_wholes)
        if dead and len(tr.spare) < SPARE:
            if epoch.writes:  # some took memory over, or were overwritten: that is nobody's business any more
                for v in dead:
                    v.home = v.overwritten = None
            tr.spare += dead
        if dead_views and len(tr.spare_views) < SPARE:
            tr.spare_views += dead_views
        if tr.nodes != tr.passing.nodes:
            tr.passing.ended(tr, node)
        if tr.nodes > max(NODE_LIMIT, tr.room):
            with paths.no_collection():
                _prune(tr)
            tr.room = 2 * tr.nodes  # a step may be longer than the limit: what comes again has to have room
            tr.node = tr.beginning()
    if launched is not None and wait:
        flights.wait(launched)
    elif unheard:
        flights.complain()


def start_afresh() -> None:
    """Forget every recorded path of every thread: something changed that the results' metas follow from."""
    families.clear()
    forget_results()
    for waiting in list(Waiting._kept):
        waiting.let_go()
    for tr in list(traces):
        with tr.lock:
            flush_trace(tr)
            tr.root, tr.lone = TraceNode(None, None, (), (), (), 0), TraceNode(None, None, (), (), (), 0)
            tr.nodes, tr.alone = 0, False
            tr.known, tr.bare, tr.rules_met, tr.passing = {}, {}, Met(), Passing()
            tr.node = tr.beginning()


def _sorted(values: list[Value], wholes: list[Any]) -> tuple[list[Value], list[Value], list[Value]]:
    """Pending values that somebody outside the trace refers to, in slot order; and those that nobody refers to, which serve again: results
    and views (``Trace.spare``, ``Trace.spare_views``).

    Later values are looked at first: a dead view lets go of the value it is a view of. ``wholes``: as ``Trace.spare_wholes``.
    """
    live, dead, dead_views = [], [], []
    for v in reversed(values):
        if v.buffer is None:
            if getrefcount(v) > 3:  # the list, v, the argument
                if v.origin is None:
                    live.append(v)
            elif v.origin is None:
                dead.append(v)
            elif v.let_go(wholes):  # type: ignore[attr-defined]
                dead_views.append(v)
    live.reverse()
    return live, dead, dead_views


def _let_go(views: Sequence[Any], wholes: list[Any]) -> list[Value]:
    """Views that nobody refers to let go of what they are views of; returns those that may serve again."""
    return [v for v in views if v.let_go(wholes)]


def _run(tr: Trace, node: TraceNode, values: list[Value], live: Sequence[Value], windows: set[int], wait: bool,
         known: list[int] | None, again: Again | None, alone: bool) -> Launch | None:
    """``again``: the run that references told. If None, ``known`` has the references to the values, or is None where they do not tell."""
    # Memory that this program also reads through a window is written at the end.
    late = [(v, v.home) for v in live if v.home is not None and id(v.home) in windows] if windows else []
    told, again = again, again or node.again
    if again is not None and (told or again.slots == tuple([v.slot for v in live])):
        if known is not None:
            again.found(known, values)
        # Who was told has tried this already.
        if not (told or late or watchers) and again.run_alone(values, windows, wait):
            return None
        done: Any = False if late else again.run(node, live, values, windows, wait)
        if done is not False:
            return done  # type: ignore[no-any-return]
        if told:  # then nobody has seen to the dead views
            known = list(map(getrefcount, values))
            if again.dead_views is not None:
                _let_go(again.dead_views(values), tr.spare_wholes)
    if late:
        flights.drain()
        for v, _ in late:
            v.home = None
    launched = None
    try:
        donations, moved = _donations(values, live)
        key = (tuple([v.slot for v in live]), donations, moved)
        entry = node.programs.get(key)
        if entry is None or type(entry) is Waiting:
            entry = _program(tr, node, key, entry, alone)
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
        written([v.home for v in live if v.home is not None])
    takes = dict(donations)
    one_each = len(takes) == len(donations) == sum([v.home is not None for v in live])
    if one_each and not moved and not late and node.programs.get(key) is entry:
        node.again = Again(key[0], tuple([(takes.get(v.slot, -1), v.meta.nbytes or 1) for v in live]), entry)
        node.again.found(known, values)
    fill(live, buffers)
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


def _donations(values: list[Value], live: Sequence[Value]) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
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


def _program(tr: Trace, node: TraceNode, key: tuple, waiting: Waiting | None, alone: bool) -> Any:
    """The first small run of a path is cold (nobody waits for LLVM to fill a bias), also if it has run before with other sizes
    once; then it is compiled. Long paths are, when they come more often than others do (``patience.py``)."""
    if node.programs is NOTHING:
        node.programs = {}
    path = paths.path_to(node)
    seen, ran = (0, None) if waiting is None else (waiting.seen, waiting.program)
    with paths.no_collection():
        described = families.describe(path, key) if ran is None else waiting.described  # type: ignore[union-attr]
        program: Any = None if settings.eager else families.member(described)
        if tr.nodes != tr.passing.nodes and not node.programs and not node.edges:
            tr.passing.comes(tr, path, None if program is None else (described.digest, described.numbers))
        others = families.saw(described) if program is None else 0
        strangers = tr.unsettled.stranger(path, described.digest) if program is None and not seen and len(path) >= LONG else 0
        long = len(described.nodes) >= LONG
        patient = long or alone
        # Operation by operation a path takes not much longer than compiled, however heavy: what it costs counts where it is likely to
        # come again, and where that is more than planning it.
        heavy = not (alone or seen or strangers > _PLANNED) and paths.cost(path) >= (
            settings.cold_limit * _parts(path) * (_HEAVY if patient else 1))
        if program is None and (settings.eager or others < _COLD_SIZES and not heavy
                                and (tr.patience.runs_cold((node.depth, key), seen, long) if patient else seen == 0)):
            ran = ran or cold.program(path, key, patient)
            if settings.eager or type(ran) is not cold.ColdProgram or ran.products < min(settings.cold_limit, PLAIN) * (
                    _parts(path) if patient else 1):
                if waiting is None:
                    node.programs[key] = Waiting(ran, described)
                else:
                    waiting.seen += 1
                counters.cold_runs += 1
                return ran
        if waiting is not None:
            waiting.let_go()
        program = program or _compiled(path, key, described, ran)
    counters.programs_built += 1
    if tr.passing.end is node:
        return program
    node.programs[key] = program
    if len(node.programs) > PROGRAMS_AT_NODE:
        node.programs.pop(next(iter(node.programs)))
    return program


def _compiled(path: Sequence[TraceNode], key: tuple, described: families.Description, ran: Any) -> paths.CompiledPath:
    """Planned for all sizes, if others have been seen, else for these alone. Planning for all sizes takes long: where no family has
    been made so far, it is left to a size that no earlier process has met. ``ran``: what the path ran as before, if it did, which may
    have its graph."""
    made = families.are_made(described)
    planned = families.plan(described, key) if made else None
    if planned is not None:
        return planned
    asked = paths.Asked(path, key, None if ran is None else ran.lowered())
    found = asked.found()
    if found is not None:
        return found
    planned = None if made else families.plan(described, key)
    if planned is None:
        return asked.built()
    asked.keep(planned)
    return planned


def _parts(path: Sequence[TraceNode]) -> int:
    """What a path may cost in the interpreter grows with its length, as does what compiling it costs: a loop that writes a vector
    number by number is thousands of operations, each of which hardly computes anything."""
    return 1 + len(path) // LONG


def _prune(tr: Trace) -> None:
    """Forget the branches of the trie that were not flushed lately (the least recently used half)."""
    ends = []
    stack = [tr.root, tr.lone]
    while stack:
        n = stack.pop()
        if n.programs:
            ends.append(n)
        stack.extend(n.edges.values())
    ends.sort(key=lambda n: n.used)
    keep: set[int] = {id(tr.root), id(tr.lone)}
    for n in ends[len(ends) // 2:]:
        while n is not None and id(n) not in keep:
            keep.add(id(n))
            n = n.parent  # type: ignore[assignment]
    count = 0
    stack = [tr.root, tr.lone]
    while stack:
        n = stack.pop()
        count += 1
        n.edges = {k: c for k, c in n.edges.items() if id(c) in keep}
        n.calls = None
        n.forget_latest()
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
    tr = local.trace
    if tr.alone and not (tr.within or tr.values):  # a step that has been run call by call is looked at
        tr.end_path()
    buffer = v.buffer
    if buffer.flight is not None:
        buffer.flight.settle(buffer)
    return buffer
