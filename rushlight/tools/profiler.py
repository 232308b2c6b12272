"""Where the time goes, and whether a loop still builds programs.

``profile()`` measures every instruction of the programs that run inside it::

    with profile() as p:
        train(model, loader)
    p.report()                  # or report(), of the last profile that ended
    p.roofline("roofline.svg")  # the kernels under the machine's roofs
    p.trace("trace.json")       # to look at in Perfetto

    kernel                     operations   line         calls      ms  share    MB    GB/s  MFLOP  GFLOP/s     of peak
    contract 64x24x24x64 -> 1  conv2d+relu  mnist.py:28      5  10.417  41.3%  52.7     5.1   2550    244.8  93% of FMA
    ...

``counters()`` tells what was done so far; a repeated training step builds no program and compiles no kernel::

    before = counters()
    step()
    assert (counters() - before).programs_built == 0

``rushlight.profiler`` is the interface of ``torch.profiler`` to the same measurements.
"""
from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from os.path import basename
from types import TracebackType
from typing import NamedTuple

from ..compile.counters import counters as _compiler
from ..compile.cpu import alloc
from ..compile.cpu.peaks import Peaks, peaks
from ..profiler import chrome
from ..profiler.collect import Collector
from ..record import counters as _recorder
from ..record import local
from . import roofline as _roofline

__all__ = ["Counts", "Row", "Profile", "counters", "profile", "report", "roofline"]


class Counts(NamedTuple):
    """What was done since the process (for recording: since the thread) began.

    Attributes:
        flushes: how often recorded operations were run; programs_run: flushes that had something to compute;
            programs_launched: of these, how many ran while Python went on.
        cold_runs: programs that ran in the reference interpreter, as small ones do the first time.
        programs_built: paths that were compiled to programs; instructions: their kernel calls.
        programs_planned: programs for which everything was decided anew; others differ from one of these in sizes alone.
        plans_loaded: of the planned ones, how many an earlier process had planned.
        kernels_compiled, kernels_loaded: by LLVM, from the disk cache.
        system_allocations: how often memory was asked of the system.
        build_seconds: time spent building programs, compilation included.
    """

    flushes: int
    programs_run: int
    programs_launched: int
    cold_runs: int
    programs_built: int
    programs_planned: int
    plans_loaded: int
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
    return Counts(local.trace.flushes, _recorder.programs_run, _recorder.programs_launched, _recorder.cold_runs, _recorder.programs_built,
                  _compiler.outlines, _compiler.found, _compiler.instructions, compiled, loaded, alloc.stats().system_allocations,
                  _compiler.build_seconds)


@dataclass
class Row:
    """All calls of one kernel for one place in the user's code. ``line`` is "file:number", or empty where unknown;
    ``operations`` are the recorded ones that it computes, ``"linear+relu"``. ``nbytes`` and ``flops`` are of all calls."""

    kernel: str
    line: str
    calls: int = 0
    seconds: float = 0.0
    nbytes: int = 0
    flops: int = 0
    operations: str = ""

    def shares(self, roof: Peaks) -> tuple[float, float]:
        """Of the peak of multiply-adds, and of the copy bandwidth."""
        each = max(self.seconds, 1e-9)
        return self.flops / each / roof.flops, self.nbytes / each / roof.copy


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
    collector: Collector = field(default_factory=Collector, repr=False)

    def __enter__(self) -> Profile:
        self.collector.start()
        self._before, self._start = counters(), time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        global _last
        try:
            self.collector.stop(run_pending=error is None)
        finally:
            self.seconds = time.perf_counter() - self._start
            self.counts = counters() - self._before
            self.rows = self._rows()
            _last = self

    def _rows(self) -> list[Row]:
        found: dict[tuple, Row] = {}
        for s in self.collector.slices:
            if s.kind not in ("kernel", "host", "cold"):
                continue
            row = found.get((s.name, s.lines))
            if row is None:
                row = found[s.name, s.lines] = Row(s.name, _place(s.lines), operations="+".join(s.operations))
            row.calls += 1
            row.seconds += s.seconds
            row.nbytes += s.nbytes
            row.flops += s.flops
        return sorted(found.values(), key=lambda r: -r.seconds)

    def table(self, limit: int = 30) -> str:
        """The ``limit`` longest rows as text, with a line for the rest and one for all of it.

        MB and MFLOP are of one call. The last column says what bounds a kernel: the larger of its shares of the peak of
        multiply-adds (FMA) and of the copy bandwidth. Data that lie in a cache can be read faster than memory is copied.
        """
        shown, rest = self.rows[:limit], self.rows[limit:]
        total = sum(r.seconds for r in self.rows)
        if rest:
            shown = [*shown, Row(f"{len(rest)} others", "", *(sum(getattr(r, n) for r in rest)
                                                              for n in ("calls", "seconds", "nbytes", "flops")))]
        roof = peaks()
        lines = [("kernel", "operations", "line", "calls", "ms", "share", "MB", "GB/s", "MFLOP", "GFLOP/s", "of peak")]
        for r in shown:
            each = max(r.seconds, 1e-9) * 1e9
            lines.append((
                r.kernel, _cut(r.operations, 32), r.line, str(r.calls), f"{r.seconds * 1e3:.3f}", f"{r.seconds / max(total, 1e-9):.1%}",
                _rate(r.nbytes / r.calls / 1e6, 3), _rate(r.nbytes / each), _rate(r.flops / r.calls / 1e6, 3), _rate(r.flops / each),
                _bound(r, roof)))
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        text = ["  ".join(f"{c:<{w}}" if k < 3 else f"{c:>{w}}" for k, (c, w) in enumerate(zip(line, widths))) for line in lines]
        text.append(f"{total * 1e3:.3f} ms in kernels, {self.seconds * 1e3:.3f} ms in all")
        text.append(f"{'one thread' if roof.threads == 1 else f'{roof.threads} threads'} reach {roof.flops / 1e9:.0f} GFLOP/s and copy "
                    f"{roof.copy / 1e9:.1f} GB/s")
        if self.counts is not None:
            text.append(", ".join(f"{n.replace('_', ' ')} {v:.3f}" if isinstance(v, float) else f"{n.replace('_', ' ')} {v}"
                                  for n, v in zip(Counts._fields, self.counts)))
        return "\n".join(text)

    def report(self, limit: int = 30) -> None:
        """Print the table."""
        print(self.table(limit))

    def roofline(self, path: str | os.PathLike[str]) -> None:
        """Write a picture (SVG) of the kernels under the machine's roofs: see :mod:`rushlight.tools.roofline`."""
        _roofline.write(path, self.rows, peaks())

    def trace(self, path: str | os.PathLike[str]) -> None:
        """Write a trace for Perfetto (ui.perfetto.dev), compressed if the name ends in ``.gz``."""
        chrome.write(path, chrome.trace(self.collector))


_last: Profile | None = None


def profile() -> Profile:
    """A ``with`` block whose programs are measured instruction by instruction."""
    return Profile()


def _latest() -> Profile:
    if _last is None:
        raise RuntimeError("nothing has been profiled yet: with rushlight.tools.profiler.profile(): ...")
    return _last


def report(limit: int = 30) -> None:
    """Print the table of the last profile that ended.

    Raises:
        RuntimeError: there was none.
    """
    _latest().report(limit)


def roofline(path: str | os.PathLike[str]) -> None:
    """Write the roofline of the last profile that ended, as SVG.

    Raises:
        RuntimeError: there was none.
    """
    _latest().roofline(path)


def _rate(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if value else ""  # unknown, or none


def _bound(row: Row, roof: Peaks) -> str:
    arithmetic, memory = row.shares(roof)
    if not (arithmetic or memory):
        return ""
    return f"{arithmetic:.0%} of FMA" if arithmetic >= memory else f"{memory:.0%} of copy"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[:width - 3] + "..."


def _place(lines: tuple[tuple[str, int], ...]) -> str:
    """"file:number", with how many further lines share the kernel."""
    if not lines:
        return ""
    more = f" +{len(lines) - 1}" if len(lines) > 1 else ""
    return f"{basename(lines[0][0])}:{lines[0][1]}{more}"
