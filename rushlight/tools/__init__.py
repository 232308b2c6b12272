"""Things around training: graph drawings, the profiler, summaries, the command line."""
from __future__ import annotations

from . import graph, profiler
from .graph import draw
from .profiler import counters, profile

__all__ = ["graph", "profiler", "draw", "counters", "profile"]
