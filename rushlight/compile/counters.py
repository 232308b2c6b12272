"""What the compiler did in this process. A repeated training step changes none of these numbers; tests hold it to that.

``compile.cpu.jit.counters`` counts the kernels that were compiled and loaded.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Counters", "Event", "counters", "tell", "watchers"]


@dataclass
class Counters:
    programs: int = 0          # programs built
    outlines: int = 0          # ... for which everything was decided anew, not computed for other sizes
    found: int = 0             # ... of these, by an earlier process
    lowered: int = 0           # works of families that were lowered: for sizes for which none like them was lowered before
    build_seconds: float = 0.0  # time spent building them, compilation of kernels included
    instructions: int = 0      # instructions of all programs built


counters = Counters()


class Event(NamedTuple):
    """Something that took time.

    Attributes:
        kind: ``"kernel"``, ``"host"`` (a Python function between kernels), ``"cold"`` (a program in the interpreter), ``"build"``
            (of a program), ``"flush"`` (one begins: no time yet) or ``"flushed"``.
        lines: of the user's code that it comes from, each (file, line, slot of the recorded operation).
        start, seconds: on the clock of ``time.perf_counter``.
        detail: of a flush: (the trie's node where recording stood, the epoch).
    """

    kind: str
    name: str
    start: float
    seconds: float
    lines: tuple[Any, ...] = ()
    nbytes: int = 0
    flops: int = 0
    detail: Any = None


# Who is told of every event, as it ends: the profiler. While there are any, instructions run one by one.
watchers: list[Callable[[Event], None]] = []


def tell(event: Event) -> None:
    for watch in watchers:
        watch(event)
