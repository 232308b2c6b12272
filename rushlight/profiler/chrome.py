"""A profile as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing load: JSON in the trace event format.

Each thread of the program has three tracks: the ranges and steps that the user names, what the recorder does (recording,
building programs, flushing), and the kernels. A kernel's slice carries the user's lines, bytes, floating-point operations, the rates
that follow from them, and their shares of what the machine reaches at most. An arrow leads to it from the range in which its
operation was recorded, which is often over by then.
"""
from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

from ..compile.cpu.peaks import peaks
from .collect import Collector, Range, Slice

__all__ = ["rates", "trace", "write"]

_TRACKS = ("ranges", "recorder", "kernels")


def rates(nbytes: float, flops: float, seconds: float) -> dict[str, float]:
    """GB/s and GFLOP/s, and their shares of the measured copy bandwidth and multiply-add peak."""
    roof, each = peaks(), max(seconds, 1e-9)
    found: dict[str, float] = {}
    if nbytes:
        found["GB/s"], found["share of copy bandwidth"] = nbytes / each / 1e9, nbytes / each / roof.copy
    if flops:
        found["GFLOP/s"], found["share of peak FLOP/s"] = flops / each / 1e9, flops / each / roof.flops
    return found


def trace(collector: Collector, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """The trace as a dictionary that ``json`` writes. ``metadata`` goes beside the events."""
    roof = peaks()
    return {"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": int(collector.epoch_time * 1e9),
            "machine": {"threads": roof.threads, "peak GFLOP/s": roof.flops / 1e9, "copy GB/s": roof.copy / 1e9},
            **(metadata or {}), "traceEvents": _Events(collector).all()}


class _Events:
    """The events of a collector. Times become whole nanoseconds, both ends of a slice in the same way: what began or ended at the same
    moment still does, so slices nest, and no viewer reads an exponent."""

    def __init__(self, collector: Collector) -> None:
        self.collector, self.pid = collector, os.getpid()
        begun = {s.thread for s in collector.slices} | {r.thread for r in collector.ranges}
        self.threads = {thread: name for thread, name in collector.thread_names().items() if thread in begun}
        # Viewers know threads alone, so that each track is one. Some take number 0 for the idle thread of a processor.
        self.first = {thread: 1 + len(_TRACKS) * k for k, thread in enumerate(self.threads)}

    def all(self) -> list[dict[str, Any]]:
        """Names first, then everything by time: of slices that begin together, the outer one first."""
        c = self.collector
        timed = [self._range(r) for r in c.ranges]
        for k, s in enumerate(c.slices):
            timed.append(self._slice(s))
            if s.kind == "kernel" and s.owner is not None:
                timed += self._arrow(k, s.owner, timed[-1])
        if c.memory:
            known = [(c.start_time, c.live), *((s.start + s.seconds, s.live) for s in c.slices if s.kind == "flush")]
            timed += [{"ph": "C", "name": "tensor memory", "pid": self.pid, "tid": 0, "ts": self._ns(at) / 1e3, "args": {"bytes": live}}
                      for at, live in known]
        return self._names() + sorted(timed, key=lambda e: (e["ts"], -e.get("dur", 0.0)))

    def _ns(self, time: float) -> int:
        return round((time - self.collector.start_time) * 1e9)

    def _names(self) -> list[dict[str, Any]]:
        found: list[tuple[str, int, dict[str, Any]]] = [("process_name", 0, {"name": "rushlight"})]
        for thread, name in self.threads.items():
            for tid, track in enumerate(_TRACKS, self.first[thread]):
                found += [("thread_name", tid, {"name": track if len(self.threads) == 1 else f"{track}, {name}"}),
                          ("thread_sort_index", tid, {"sort_index": tid})]
        return [{"ph": "M", "name": name, "pid": self.pid, "tid": tid, "args": args} for name, tid, args in found]

    def _complete(self, name: str, kind: str, thread: int, track: str, start: float, end: float, args: dict[str, Any]) -> dict[str, Any]:
        first = self._ns(start)
        return {"ph": "X", "name": name, "cat": kind, "pid": self.pid, "tid": self.first[thread] + _TRACKS.index(track),
                "ts": first / 1e3, "dur": max(self._ns(end) - first, 0) / 1e3, "args": args}

    def _range(self, r: Range) -> dict[str, Any]:
        end = self.collector.end_time if r.end is None else r.end
        return self._complete(r.name, "step" if r.is_step else "user_annotation", r.thread, "ranges", r.start, end,
                              {} if r.args is None else {"args": r.args})

    def _slice(self, s: Slice) -> dict[str, Any]:
        track = "kernels" if s.kind in ("kernel", "host", "cold") else "recorder"
        name = f"{'+'.join(s.operations)}: {s.name}" if s.operations else s.name
        return self._complete(name, s.kind, s.thread, track, s.start, s.start + s.seconds, _args(s))

    def _arrow(self, number: int, owner: Range, kernel: dict[str, Any]) -> list[dict[str, Any]]:
        """From where the range begins to where the kernel does."""
        both = {"name": "recorded in", "cat": "recorded", "id": number, "pid": self.pid}
        return [{"ph": "s", **both, "tid": self.first[owner.thread], "ts": self._ns(owner.start) / 1e3},
                {"ph": "f", "bp": "e", **both, "tid": kernel["tid"], "ts": kernel["ts"]}]


def _args(s: Slice) -> dict[str, Any]:
    args: dict[str, Any] = {}
    if s.lines:
        args["line"] = "{}:{}".format(*s.lines[0])
        if len(s.lines) > 1:
            args["further lines"] = ["{}:{}".format(*line) for line in s.lines[1:]]
    if s.owner is not None:
        args["range"] = s.owner.name
    if s.kind == "kernel":
        args["bytes"], args["FLOPs"] = s.nbytes, s.flops
        args.update(rates(s.nbytes, s.flops, s.seconds))
        args["kernel"] = s.name
    if s.operations:
        args["operations"] = list(s.operations)
        args["input shapes"] = ", ".join(str(list(shape)) for shape in s.shapes)  # of lists, viewers give every number a line
    return args


def write(path: str | os.PathLike[str], made: dict[str, Any]) -> None:
    """As JSON, compressed where the name ends in ``.gz``."""
    text = json.dumps(made)
    if os.fspath(path).endswith(".gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")
