"""What the compiler did in this process. A repeated training step changes none of these numbers; tests hold it to that.

``compile.cpu.jit.counters`` counts the kernels that were compiled and loaded.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Counters", "counters", "watchers"]


@dataclass
class Counters:
    programs: int = 0          # programs built
    build_seconds: float = 0.0  # time spent building them, compilation of kernels included
    instructions: int = 0      # instructions of all programs built


counters = Counters()

# Called with (name, lines of the user's code, bytes, floating-point operations, seconds) after every instruction while
# there are any: the profiler. Instructions then run one by one.
watchers: list[Callable[[str, tuple[Any, ...], int, int, float], None]] = []
