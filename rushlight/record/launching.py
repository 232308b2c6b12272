"""Whether a program is launched, and runs while Python goes on, or is run here and now; and what a launch leaves behind.

The machinery, one queue for the process, is in ``compile/cpu/flight.py``.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile.counters import watchers
from ..compile.cpu.flight import Launch, failed, flights, in_flight, settle
from ..compile.flags import flags
from .salvage import Aftermath
from .settings import settings
from .value import Value

__all__ = ["SHORT", "check", "flies", "launch"]

SHORT = 50_000.0  # estimated nanoseconds of work below which launching a program costs more than waiting for it


def flies(entry: Any, values: list[Value], live: Sequence[Value], windows: set[int], wait: bool) -> bool:
    """Whether to launch a program, rather than to run it here and now; what is in flight does not hinder it when this returns.

    Raises:
        the error because of which a leaf has no content.
    """
    short = wait or entry.work < SHORT
    if not in_flight and not failed and (short or not settings.overlap):
        return False
    if in_flight:
        flights.land()
    if failed:
        check(_touched(entry, values, live, windows))
    if entry.waits:
        if windows:  # it looks at these, which do not know about what they are part of
            for b in _roots([values[s].buffer for s in entry.leaves]):
                settle(b)
        return False
    if short and not in_flight:
        return False
    if not entry.can_fly or not settings.overlap or watchers or flags.debug >= 2 or entry.inside_another():
        flights.drain()
        return False
    if entry.work >= SHORT and entry.rests():
        flights.drain()
        return False
    # A short one is launched where it has to come after another one.
    return entry.work >= SHORT or any(b.flight is not None and not b.flight.done for b in _touched(entry, values, live, windows))


def _touched(entry: Any, values: list[Value], live: Sequence[Value], windows: set[int]) -> list[Any]:
    """The memory, there already, that a run reads or writes."""
    leaves: list[Any] = [values[s].buffer for s in entry.leaves]
    return [*leaves, *[v.home for v in live if v.home is not None], *(_roots(leaves) if windows else ())]


def _roots(leaves: Sequence[Any]) -> list[Any]:
    """The memory that those of ``leaves`` are part of which are windows."""
    return [b.owner.buffer for b in leaves if type(b.owner) is Value]


def launch(entry: Any, pointers: list[int], values: list[Value], aftermath: Aftermath, results: list[Any], windows: set[int]) -> Launch:
    """Queue a program; the memory that it reads or writes remembers it."""
    launched: Launch = entry.launch(pointers, values, aftermath)
    leaves: list[Any] = [values[s].buffer for s in entry.leaves]
    for b in leaves:
        b.flight = launched
    for b in results:
        b.flight = launched
    if windows:
        for b in _roots(leaves):
            b.flight = launched
    return launched


def check(blocks: Sequence[Any]) -> None:
    """Raise the error because of which one of the blocks has no content."""
    if failed:
        for b in blocks:
            if b.flight is not None and b.flight.done:
                b.flight.check(b)
