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

from ..compile.cpu.flight import failed, in_flight
from . import launching
from .salvage import Aftermath
from .trace import TraceNode
from .value import Buffer, Value, allocate, allocate_behind

__all__ = ["Again", "counters", "fill", "written"]

_WRITTEN = 3   # the run for which code is written
_LIMIT = 100   # leaves and results of a run, at most: the others' programs take longer than a loop over them


class Counters(threading.local):
    """What flushes did in this thread: asserted by tests, printed by the profiler."""

    def __init__(self) -> None:
        self.programs_built = 0
        self.programs_run = 0
        self.programs_launched = 0  # of these, how many without waiting
        self.cold_runs = 0


counters = Counters()


class Again:
    """A run that may come again.

    Args:
        slots: of the values that are alive. takes: for each, (slot of the leaf whose memory it takes over or -1, its bytes).
        path: the program.

    Attributes:
        counts: references to each value of the trace; where they are the same, so is what is alive.
        types: of the values if some are views, which keep others alive; else None.
        live, read: from the values of a trace: those that are alive, the leaves.
        step: ``(values, program's run, facts)``: runs it, or returns False where memory is taken over otherwise; None: not written.
    """

    __slots__ = ("slots", "takes", "path", "leaves", "in_place", "counts", "types", "live", "read", "runs", "step", "facts",
                 "_dead", "_dead_views")
    counts: list[int]
    types: list[type] | None

    def __init__(self, slots: tuple[int, ...], takes: tuple[tuple[int, int], ...], path: Any) -> None:
        self.slots, self.takes, self.path, self.leaves = slots, takes, path, path.leaves
        self.in_place = tuple([leaf >= 0 for leaf, _ in takes])
        self.live, self.read = _items(slots), _items(path.leaves)
        self.runs = 0
        self.step: Callable[[list[Value], Any, tuple], bool] | None = None
        self.facts: tuple = ()

    def found(self, counts: list[int], values: Sequence[Value]) -> None:
        """Remember what it is known by, when dead views have let go of what they were views of."""
        self.counts = counts
        types = list(map(type, values))
        self.types = None if types.count(Value) == len(types) else types
        held = set(self.slots)
        pending = [(k, v) for k, v in enumerate(values) if v.buffer is None and k not in held]
        self._dead = _items([k for k, v in pending if type(v) is Value])
        self._dead_views = _items([k for k, v in pending if type(v) is not Value and v.origin is None])

    def is_this(self, counts: list[int], values: Sequence[Value]) -> bool:
        """Whether the same values are alive."""
        return counts == self.counts and (self.types is None or list(map(type, values)) == self.types)

    def dead(self, values: Sequence[Value]) -> list[Value]:
        """The results that nobody refers to, with nothing to them but their place in the trace."""
        return [v for v in self._dead(values) if v.home is None and v.overwritten is None]

    def dead_views(self, values: Sequence[Value]) -> list[Value]:
        """The same of views, which let go of what they are views of."""
        return [] if self.types is None else [v for v in self._dead_views(values) if v.let_go()]  # type: ignore[attr-defined]

    def run_alone(self, values: list[Value], wait: bool) -> bool:
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
        return step(values, path.plain, self.facts)

    def _write(self) -> None:
        if all(leaf < 0 or leaf in self.leaves for leaf, _ in self.takes):  # not memory that is written and not read
            self.step = _step_for(len(self.leaves), tuple([-1 if leaf < 0 else self.leaves.index(leaf) for leaf, _ in self.takes]))
            self.facts = (*self.leaves, *self.slots, *[nbytes for _, nbytes in self.takes])

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
        else:
            self.path.start(pointers, values)
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
def _step_for(leaves: int, takes: tuple[int, ...]) -> Callable[[list[Value], Any, tuple], bool]:
    """The code of all runs with so many leaves, whose results take over the memory of these of them (-1: of none). Facts: the slots of
    leaves and of results, and the results' bytes."""
    n = len(takes)
    facts = [*[f"L{k}" for k in range(leaves)], *[f"S{k}" for k in range(n)], *[f"N{k}" for k in range(n)]]
    lines = [f"{', '.join(facts)}, = facts"]
    lines += [f"b{k} = values[L{k}].buffer" for k in range(leaves)]
    lines += [f"v{k} = values[S{k}]" for k in range(n)]
    doubts = [f"v{k}.home is not {'None' if leaf < 0 else f'b{leaf}'}" for k, leaf in enumerate(takes)]
    lines += [f"if {' or '.join(doubts)}: return False"]
    lines += [f"m{k} = allocate(N{k})" for k, leaf in enumerate(takes) if leaf < 0]
    # A program that makes no packed forms reads none: they can be forgotten before it writes.
    lines += [f"if b{leaf}.packed: b{leaf}.packed = None" for leaf in takes if leaf >= 0]
    made = [f"m{k}" if leaf < 0 else f"b{leaf}" for k, leaf in enumerate(takes)]
    lines += ["counters.programs_run += 1", f"run({', '.join([f'{b}.ptr' for b in [*[f'b{k}' for k in range(leaves)], *made]])})"]
    for k, b in enumerate(made):
        lines += [f"v{k}.buffer = {b}", f"v{k}.home = v{k}.epoch = None"]
    scope: dict[str, Any] = {"__name__": __name__, "allocate": allocate, "counters": counters}
    exec(compile("\n  ".join(["def step(values, run, facts):", *lines, "return True"]) + "\n", "<run>", "exec"), scope)
    return scope["step"]  # type: ignore[no-any-return]
