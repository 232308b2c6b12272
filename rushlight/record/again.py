"""A run that comes again: at one trie node, with the same values alive, which take over the memory of the same leaves.

A flush need not work out then what is alive and where it goes. That it is the same run is told by the number of references to
each value, and by the memory that each is to take over. A run that keeps coming gets straight-line code, written once for all with as
many leaves and the same kinds of results.
"""
from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from operator import itemgetter
from sys import getrefcount
from typing import Any

from ..compile.cpu.alloc import allocate_each, free_list
from ..compile.cpu.flight import failed, in_flight
from . import launching
from .salvage import Aftermath
from .trace import TraceNode
from .value import Buffer, DerivedValue, Value, allocate, allocate_behind

__all__ = ["Again", "counters", "fill", "keep_pending", "written"]

_WRITTEN = 3   # the run for which code is written
_SMALL = 4096  # bytes of results, at most, whose memory is kept for the next run
_LIMIT = 100   # leaves and results of a run, at most: the others' programs take longer than a loop over them


class Counters(threading.local):
    """What flushes did in this thread: asserted by tests, printed by the profiler."""

    def __init__(self) -> None:
        self.programs_built = 0
        self.programs_run = 0
        self.programs_launched = 0  # of these, how many without waiting
        self.cold_runs = 0


counters = Counters()


def keep_pending(values: Sequence[Any]) -> bool:
    """Whether one of these is a view that keeps something pending alive: what it is a view of, or what its storage holds by now. Then
    references do not tell what is alive, because a dead view holds its storage and the tensor that it was made of, as a user would."""
    for v in values:
        if v.origin is not None and (v.origin.buffer is None or v.alias.storage.value.buffer is None):
            return True
    return False


class Again:
    """A run that may come again.

    Args:
        slots: of the values that are alive. takes: for each, (slot of the leaf whose memory it takes over or -1, its bytes).
        path: the program.

    Attributes:
        counts: references to each pending value of the trace: where they are the same, so is what is alive, unless a view keeps
            something pending; None: one did.
        types: of the ``odd`` values: views, which keep others alive, and what only holds a slot; None: there are none. views: whether there
            are views among them.
        pending, odd, live, read: from the values of a trace: those that were no leaves, those of other types, those that are alive,
            the leaves.
        dead, dead_views: likewise, the results that nobody refers to, and the views (None: there are none).
        step: ``(values, windows, program's run, facts)``: runs it, or returns False where memory is taken over otherwise, or is read
            through a window, too; None: not written.
    """

    __slots__ = ("slots", "takes", "path", "leaves", "in_place", "counts", "types", "views", "pending", "odd", "live", "read", "dead",
                 "dead_views", "runs", "step", "facts")
    counts: list[int] | None
    types: list[type] | None
    views: bool

    def __init__(self, slots: tuple[int, ...], takes: tuple[tuple[int, int], ...], path: Any) -> None:
        self.slots, self.takes, self.path, self.leaves = slots, takes, path, path.leaves
        self.in_place = tuple([leaf >= 0 for leaf, _ in takes])
        self.live, self.read = _items(slots), _items(path.leaves)
        self.runs = 0
        self.step: Callable[[list[Value], set[int], Any, tuple], bool] | None = None
        self.facts: tuple = ()

    def found(self, counts: list[int] | None, values: Sequence[Value]) -> None:
        """Remember what it is known by: the references to all values, as they were before dead views let go of what they were views of;
        None: they do not tell."""
        odd = [k for k, v in enumerate(values) if type(v) is not Value]
        self.odd, self.types = _items(odd), [type(values[k]) for k in odd] or None
        self.views = any(issubclass(type(values[k]), DerivedValue) for k in odd)
        pending = [k for k, v in enumerate(values) if v.buffer is None]
        self.pending = _items(pending)
        self.counts = None if counts is None else [counts[k] + 1 for k in pending]  # with the sequence of those that are pending
        held = set(self.slots)
        others = [(k, values[k]) for k in pending if k not in held]
        self.dead = _items([k for k, v in others if type(v) is Value])
        views = [k for k, v in others if type(v) is not Value and v.origin is None]
        self.dead_views = _items(views) if views else None

    def is_this(self, values: Sequence[Value]) -> bool:
        """Whether the references tell that the same values are alive."""
        if self.counts is None or list(map(getrefcount, self.pending(values))) != self.counts:
            return False
        if self.types is None:
            return True
        odd = self.odd(values)
        return list(map(type, odd)) == self.types and not (self.views and keep_pending(odd))

    def run_alone(self, values: list[Value], windows: set[int], wait: bool) -> bool:
        """Run it if its code is written and nothing is or will be in flight; the same values have to be alive. False if not, and nothing
        is done."""
        path, step = self.path, self.step
        if step is None:
            self.runs += 1
            if self.runs == _WRITTEN and path.plain is not None and len(self.leaves) + len(self.slots) <= _LIMIT:
                self._write()
            return False
        if in_flight or failed or not (wait or path.work < launching.SHORT or path.rests()):
            return False
        return step(values, windows, path.plain, self.facts)

    def _write(self) -> None:
        if all(leaf < 0 or leaf in self.leaves for leaf, _ in self.takes):  # not memory that is written and not read
            keeps = sum([nbytes for leaf, nbytes in self.takes if leaf < 0]) <= _SMALL
            takes = tuple([-1 if leaf < 0 else self.leaves.index(leaf) for leaf, _ in self.takes])
            self.step = _step_for(len(self.leaves), takes, keeps)
            sizes = tuple([nbytes for leaf, nbytes in self.takes if leaf < 0])
            homes: Any = [allocate(nbytes) for nbytes in sizes] if keeps else tuple(map(free_list, sizes))
            self.facts = (*self.leaves, *self.slots, homes, sizes)

    def run(self, node: TraceNode, live: Sequence[Value], values: list[Value], windows: set[int], wait: bool) -> Any:
        """Run it; returns the launch, if it is one, else None. False, and nothing done, if this is another run."""
        if in_flight or failed or not (wait or self.path.work < launching.SHORT or self.path.rests()):
            return self._run_beside(node, live, values, windows, wait)
        made = []
        pointers = [v.buffer.ptr for v in self.read(values)]  # type: ignore[union-attr]
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
            written(made)
        fill(live, made)
        return None

    def _run_beside(self, node: TraceNode, live: Sequence[Value], values: list[Value], windows: set[int], wait: bool) -> Any:
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
        pointers = [v.buffer.ptr for v in self.read(values)]  # type: ignore[union-attr]
        pointers += [b.ptr for b in made]
        launched = None
        if fly:
            counters.programs_launched += 1
            launched = launching.launch(self.path, pointers, values, Aftermath(self.path, node, self.slots, self.in_place), made, windows)
            written(made)
        else:
            try:
                self.path.start(pointers, values)
            finally:
                written(made)
        fill(live, made)
        return launched


def _items(slots: Sequence[int]) -> Callable[[Sequence[Value]], Sequence[Value]]:
    """A function that takes these items of a list."""
    if len(slots) > 1:
        return itemgetter(*slots)
    return lambda values: [values[s] for s in slots]


def written(buffers: Sequence[Buffer]) -> None:
    """A program wrote into them: packed forms of what they held are forgotten."""
    for buffer in buffers:
        if buffer.packed:
            buffer.packed = None


def fill(live: Sequence[Value], buffers: Sequence[Buffer]) -> None:
    """The values have been computed, or will have been once the program that was launched has run."""
    for v, buffer in zip(live, buffers):
        v.buffer = buffer
        v.home = v.epoch = None


@functools.lru_cache(1024)
def _step_for(leaves: int, takes: tuple[int, ...], keeps: bool) -> Callable[[list[Value], set[int], Any, tuple], bool]:
    """The code of all runs with so many leaves, whose results take over the memory of these of them (-1: of none). Facts: the slots of
    leaves and of results, where the results' memory comes from, and its sizes. With ``keeps`` it comes from the run before: small
    blocks that no result refers to any more serve again, which is quicker than giving them back and asking for as much."""
    n = len(takes)
    facts = [*[f"L{k}" for k in range(leaves)], *[f"S{k}" for k in range(n)], "homes", "sizes"]
    lines = [f"{', '.join(facts)} = facts"]
    lines += [f"b{k} = values[L{k}].buffer" for k in range(leaves)]
    lines += [f"v{k} = values[S{k}]" for k in range(n)]
    doubts = [f"v{k}.home is not {'None' if leaf < 0 else f'b{leaf}'}" for k, leaf in enumerate(takes)]
    # A leaf that is needed elsewhere has to move: it has other references than those of the list and the argument.
    doubts += [f"getrefcount(values[L{leaf}]) > 2" for leaf in takes if leaf >= 0]
    taken = [f"id(b{leaf})" for leaf in takes if leaf >= 0]
    if taken:
        doubts.append(f"windows and not windows.isdisjoint(({', '.join(taken)},))")
    lines += [f"if {' or '.join(doubts)}: return False"]
    fresh = [f"m{k}" for k, leaf in enumerate(takes) if leaf < 0]
    if keeps:
        for k, m in enumerate(fresh):
            lines += [f"home = homes[{k}]", f"if getrefcount(home) > 3: home = homes[{k}] = allocate(sizes[{k}])",
                      f"{m} = Buffer()", f"{m}.ptr, {m}.nbytes, {m}.owner = home.ptr, home.nbytes, home",
                      f"{m}.packed = {m}.flight = None"]
        # Since nothing was in flight, another thread may have launched a program on one of these blocks, and given it back. From here
        # on nobody can: no result refers to them.
        if fresh:
            lines.append("if in_flight: return False")
    elif fresh:
        lines.append(f"{', '.join(fresh)}, = allocate_each(homes, sizes)")
    # A program that makes no packed forms reads none: they can be forgotten before it writes.
    lines += [f"if b{leaf}.packed: b{leaf}.packed = None" for leaf in takes if leaf >= 0]
    made = [f"m{k}" if leaf < 0 else f"b{leaf}" for k, leaf in enumerate(takes)]
    lines += ["counters.programs_run += 1", f"run({', '.join([f'{b}.ptr' for b in [*[f'b{k}' for k in range(leaves)], *made]])})"]
    for k, b in enumerate(made):
        lines += [f"v{k}.buffer = {b}", f"v{k}.home = v{k}.epoch = None"]
    scope: dict[str, Any] = {"__name__": __name__, "allocate": allocate, "allocate_each": allocate_each, "counters": counters,
                             "in_flight": in_flight, "Buffer": Buffer, "getrefcount": getrefcount}
    exec(compile("\n  ".join(["def step(values, windows, run, facts):", *lines, "return True"]) + "\n", "<run>", "exec"), scope)
    return scope["step"]  # type: ignore[no-any-return]
