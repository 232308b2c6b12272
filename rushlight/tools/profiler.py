"""Where the time goes, and whether a loop still builds programs.

``profile()`` measures every instruction of the programs that run inside it::

    with profile() as p:
        train(model, loader)
    p.report()

    kernel                          line             calls        ms  share    GB/s  GFLOP/s
    contract 64x24x24x64 -> 1       mnist.py:28          5    10.417  41.3%     5.1    244.8
    ...

``counters()`` tells what was done so far; a repeated training step builds no program and compiles no kernel::

    before = counters()
    step()
    assert (counters() - before).programs_built == 0
"""
from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from os.path import basename
from types import TracebackType
from typing import Any, NamedTuple

from ..compile.counters import counters as _compiler
from ..compile.counters import watchers
from ..compile.cpu import alloc
from ..record import counters as _recorder
from ..record import flush, local

__all__ = ["Counts", "Row", "Profile", "counters", "profile"]


class Counts(NamedTuple):
    """What was done since the process (for recording: since the thread) began.

    Attributes:
        flushes: how often recorded operations were run; programs_run: flushes that had something to compute.
        cold_runs: programs that ran in the reference interpreter, as small ones do the first time.
        programs_built: paths that were compiled to programs; instructions: their kernel calls.
        kernels_compiled, kernels_loaded: by LLVM, from the disk cache.
        system_allocations: how often memory was asked of the system.
        build_seconds: time spent building programs, compilation included.
    """

    flushes: int
    programs_run: int
    cold_runs: int
    programs_built: int
    instructions: int
    kernels_compiled: int
    kernels_loaded: int
    system_allocations: int
    build_seconds: float

    def __sub__(self, before: Counts) -> Counts:
        return Counts(*(a - b for a, b in zip(self, before)))  # type: ignore[arg-type]  # a list loses which field is a float


def counters() -> Counts:
    """What was done so far; differences of two readings tell what was done in between."""
    jit = sys.modules.get("rushlight.compile.cpu.jit")  # not imported, and LLVM with it, only to say zero
    compiled, loaded = (jit.counters.compiled, jit.counters.loaded) if jit is not None else (0, 0)
    return Counts(local.trace.flushes, _recorder.programs_run, _recorder.cold_runs, _recorder.programs_built,
                  _compiler.instructions, compiled, loaded, alloc.stats().system_allocations, _compiler.build_seconds)


@dataclass
class Row:
    """All calls of one kernel for one place in the user's code. ``line`` is "file:number", or empty where unknown."""

    kernel: str
    line: str
    calls: int = 0
    seconds: float = 0.0
    nbytes: int = 0
    flops: int = 0


@dataclass
class Profile:
    """The instructions that ran in a ``with`` block (of all threads), and the counts of what was done in it.

    Instructions run one by one while they are timed; each keeps the threads it has. A program that ran in the reference
    interpreter is one row, "cold program".

    Attributes:
        rows: by time, the longest first (after the block).
        counts: what was done in the block.
        seconds: how long the block took, Python included.
    """

    rows: list[Row] = field(default_factory=list)
    counts: Counts | None = None
    seconds: float = 0.0
    _found: dict[tuple[str, tuple[Any, ...]], Row] = field(default_factory=dict, repr=False)

    def __enter__(self) -> Profile:
        flush()  # what was recorded before belongs to nobody here
        self._before, self._start = counters(), time.perf_counter()
        watchers.append(self._watch)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        try:
            if error is None:
                flush()
        finally:
            watchers.remove(self._watch)
            self.seconds = time.perf_counter() - self._start
            self.counts = counters() - self._before
            self.rows = sorted(self._found.values(), key=lambda r: -r.seconds)

    def _watch(self, name: str, lines: tuple[Any, ...], nbytes: int, flops: int, seconds: float) -> None:
        row = self._found.get((name, lines))
        if row is None:
            row = self._found[name, lines] = Row(name, _place(lines))
        row.calls += 1
        row.seconds += seconds
        row.nbytes += nbytes
        row.flops += flops

    def table(self, limit: int = 30) -> str:
        """The ``limit`` longest rows as text, with a line for the rest and one for all of it."""
        shown, rest = self.rows[:limit], self.rows[limit:]
        total = sum(r.seconds for r in self.rows)
        if rest:
            shown = [*shown, Row(f"{len(rest)} others", "", *(sum(getattr(r, n) for r in rest)
                                                              for n in ("calls", "seconds", "nbytes", "flops")))]
        name = max([6, *(len(r.kernel) for r in shown)])
        place = max([4, *(len(r.line) for r in shown)])
        text = [f"{'kernel':<{name}}  {'line':<{place}}{'calls':>8}{'ms':>11}{'share':>8}{'GB/s':>8}{'GFLOP/s':>9}"]
        for r in shown:
            each = max(r.seconds, 1e-9) * 1e9
            text.append(f"{r.kernel:<{name}}  {r.line:<{place}}{r.calls:>8}{r.seconds * 1e3:>11.3f}"
                        f"{r.seconds / max(total, 1e-9):>8.1%}{_rate(r.nbytes / each):>8}{_rate(r.flops / each):>9}")
        text.append(f"{total * 1e3:.3f} ms in kernels, {self.seconds * 1e3:.3f} ms in all")
        if self.counts is not None:
            text.append(", ".join(f"{n.replace('_', ' ')} {v:.3f}" if isinstance(v, float) else f"{n.replace('_', ' ')} {v}"
                                  for n, v in zip(Counts._fields, self.counts)))
        return "\n".join(text)

    def report(self, limit: int = 30) -> None:
        """Print the table."""
        print(self.table(limit))


def profile() -> Profile:
    """A ``with`` block whose programs are measured instruction by instruction."""
    return Profile()


def _rate(giga: float) -> str:
    return f"{giga:.1f}" if giga else ""  # unknown, or none


def _place(lines: tuple[Any, ...]) -> str:
    """"file:number", with how many further lines share the kernel."""
    if not lines:
        return ""
    more = f" +{len(lines) - 1}" if len(lines) > 1 else ""
    return f"{basename(str(lines[0][0]))}:{lines[0][1]}{more}"
