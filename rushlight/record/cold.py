"""The cold tier: a path runs in the reference interpreter (NumPy), primitive by primitive; a long one operation by operation
(``stepwise.py``).

A path may run so several times before it is compiled (``patience.py``). What is known of it is kept meanwhile, for the next run and for
the compiler.
"""
from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile.counters import Event, tell, watchers
from ..compile.graph import Graph
from ..compile.reference.interpret import interpret
from .paths import lower_path, no_collection
from .settings import settings
from .stepwise import StepwiseProgram
from .trace import TraceNode
from .value import Buffer, Value

__all__ = ["ColdProgram", "Waiting", "program"]

_MOST = 30_000  # primitives, or operations, that are kept for paths that wait: some 20 MB


class Waiting:
    """A path that has run cold ``seen`` times. ``program`` is what it ran as, ``described`` its description; both None when they have
    made way for later ones."""

    __slots__ = ("seen", "program", "described", "nodes")
    _kept: dict[Waiting, None] = {}  # oldest first
    _nodes = 0

    def __init__(self, program: ColdProgram | StepwiseProgram, described: Any) -> None:
        self.seen = 1
        self.program: ColdProgram | StepwiseProgram | None = program
        self.described = described
        self.nodes = program.nodes
        Waiting._kept[self] = None
        Waiting._nodes += self.nodes
        while Waiting._nodes > _MOST and (oldest := next(iter(Waiting._kept), None)) is not None:
            oldest.let_go()

    def let_go(self) -> None:
        """It is needed no more, or makes way."""
        if Waiting._kept.pop(self, self) is None:
            self.program = self.described = None
            Waiting._nodes -= self.nodes


def program(path: Sequence[TraceNode], key: tuple, stepwise: bool) -> ColdProgram | StepwiseProgram:
    """What a path that is not compiled runs as; ``stepwise``: operation by operation, if there is memory enough."""
    if stepwise and not settings.eager:
        made = StepwiseProgram(path, key)
        if made.fits:
            return made
    return ColdProgram(path, key)


class ColdProgram:
    """Has the interface of a compiled path. ``waits``: it takes up memory as arrays, which wait for the programs in flight."""

    can_fly, waits = False, True
    work = 0.0

    def __init__(self, path: Sequence[TraceNode], key: tuple) -> None:
        live, _, moved = key
        self.graph, leaves = lower_path(path, [*live, *moved])
        self.leaves = tuple(leaves)

    @property
    def nodes(self) -> int:
        return len(self.graph.nodes)

    def lowered(self) -> tuple[Graph, Sequence[int]]:
        """The graph of the path, and the slots of its leaves."""
        return self.graph, self.leaves

    @functools.cached_property
    def products(self) -> int:
        """Multiplications in contractions and native calls."""
        return sum(node.attrs[0].work if node.kind == "native" else math.prod(n for _, n in node.attrs[0].sizes)
                   for node in self.graph.nodes if node.kind in ("contract", "native"))

    def run(self, values: Sequence[Value], results: Sequence[Buffer]) -> None:
        start = time.perf_counter()
        leaves = [values[s].buffer for s in self.leaves]
        arrays = [b.array(n.dtype.numpy, n.shape)  # type: ignore[union-attr]
                  for n, b in zip(self.graph.leaves, leaves, strict=True)]
        with no_collection():
            made = interpret(self.graph, arrays)
        # A result may be a view of a leaf, or be written over one: copy everything out before writing anything.
        taken = {b.ptr for b in leaves}  # type: ignore[union-attr]
        if any(b.ptr in taken for b in results):
            made = [np.array(a, copy=True) for a in made]
        for a, node, buffer in zip(made, self.graph.results, results, strict=True):
            np.copyto(buffer.array(node.dtype.numpy, node.shape), a, casting="no")
        if watchers:
            lines = tuple(dict.fromkeys(n.line for n in self.graph.nodes if n.line is not None))
            tell(Event("cold", "cold program", start, time.perf_counter() - start, lines))
