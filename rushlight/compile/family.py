"""Families: programs that differ in sizes alone share one outline.

An outline whose numbers are sizes (``sizes.py``) is planned once. For other extents the tape computes its numbers anew, says
whether planning would decide the same for them, and what holds sizes is copied with plain numbers in their place.

What kernels are made from is treated in the same way, each work by itself: loops are lowered with sizes, too, and are lowered
again only where an extent passes a threshold of their own. Works that differ in sizes alone share what was made of them: those of
another family of the same path, where planning decided otherwise at a few places, and those of other models.
"""
from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

from .build import Kernels, kernels_afresh, kernels_of, make
from .calls import Calls
from .counters import counters
from .cpu import jit, target
from .flags import flags
from .graph import Graph
from .outline import HostWork, Outline, Work, outline
from .program import Program, note_built
from .replays import Replay
from .resize import Sizes
from .sizes import Tape

__all__ = ["Family"]

_MOST = 8           # ways of lowering one work that are kept
_MOST_KNOWN = 4096  # works whose ways are kept


class Family:
    """Args:
        graph: a graph whose shapes are sizes of ``tape``.
        donations: as for ``build``.

    Raises:
        NotGeneric: it calls a function that was made for these sizes.
    """

    def __init__(self, graph: Graph, donations: dict[int, int], tape: Tape) -> None:
        plan = outline(graph, donations)
        works, plan.works = plan.works, []
        sizes = Sizes()
        self._plan = plan
        self._resize = sizes.resize(plan)
        self._told = sizes.resize([(piece.label, piece.nbytes) for piece in plan.pieces])
        self._works = [_Lowering(work, sizes) for work in works]
        self._replay = tape.replay(sizes.found)
        self.rests_on = tape.rests_on

    def member(self, inputs: Sequence[int]) -> Program | None:
        """The program for other values of the tape's inputs; None where planning would decide otherwise."""
        start = time.perf_counter()
        Replay.begin()
        try:
            numbers = self._replay(inputs)
        except ArithmeticError:
            return None
        if numbers is None:
            return None
        plan: Outline = self._plan if self._resize is None else self._resize(numbers)
        if self._told is not None:
            plan = dataclasses.replace(plan, told=functools.partial(self._told, numbers))
        program = make(plan, lambda: [work.calls(numbers) for work in self._works])
        note_built(program, time.perf_counter() - start)
        return program


class _Lowering:
    """Makes the kernels of one work of a family, for any sizes."""

    def __init__(self, work: Work, sizes: Sizes) -> None:
        own = Sizes()
        self._work = work
        self._ways = _ways(work, own)
        self._inputs = [sizes.number(size) for size in own.found]

    def calls(self, numbers: Sequence[Any]) -> tuple[Work, Calls | Kernels]:
        return self._ways.calls(self._work, [numbers[k] for k in self._inputs])


class _Ways:
    """How works that differ in their sizes alone are lowered: all that were found so far, whichever family they belong to."""

    def __init__(self, work: Work, sizes: Sizes) -> None:
        self._resize = sizes.resize(work)
        self._made: list[tuple[Replay, Calls]] = []  # what was made with sizes, and its numbers for others
        self._generic = not isinstance(work, HostWork)
        self._plain: Kernels | None = None  # where nothing depends on sizes

    def calls(self, work: Work, inputs: list[Any]) -> tuple[Work, Calls | Kernels]:
        """The calls of ``work`` for these sizes, and the work itself as far as they do not tell."""
        if self._resize is None:
            self._plain = self._plain or kernels_of(work)
            return work, self._plain
        for replay, calls in self._made:
            try:
                numbers = replay(inputs)
            except ArithmeticError:
                continue
            if numbers is not None:
                return work, Calls(calls.calls, calls.buffers, numbers)
        if self._generic and len(self._made) < _MOST:
            self._make(inputs)
            return self.calls(work, inputs)
        work = self._resize(inputs)
        return work, kernels_of(work)

    def _make(self, inputs: list[Any]) -> None:
        """Lower the work with sizes."""
        assert self._resize is not None
        counters.lowered += 1
        tape = Tape(inputs)
        work = self._resize(tape.inputs)
        with jit.batch():
            made = kernels_afresh(work)
        calls = made.calls(work)
        self._made.append((tape.replay(calls.numbers), calls))
        self._generic = not tape.rests_on


_known: dict[Any, _Ways] = {}  # by what works are but for their sizes


def _ways(work: Work, sizes: Sizes) -> _Ways:
    """What is known of a work that differs from this one in sizes alone; ``sizes`` finds its sizes."""
    key = sizes.key(work), target.current().key, flags.state
    known = _known.get(key)
    if known is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[key] = _Ways(work, sizes)
    return known
