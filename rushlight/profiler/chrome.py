"""A profile as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing load: JSON in the trace event format.

Each thread of the program has three tracks: the ranges and steps that the user names, what the recorder does (recording,
building programs, flushing), and the kernels. A kernel's slice carries the user's lines, bytes, floating-point operations, the rates
that follow from them, and their shares of what the machine reaches at most.
"""
from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

from ..compile.cpu.peaks import peaks
from .collect import Collector, Slice

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
    begin, pid = collector.start_time, os.getpid()
    threads = list(dict.fromkeys([*(s.thread for s in collector.slices), *(r.thread for r in collector.ranges)]))
    number = {thread: len(_TRACKS) * k for k, thread in enumerate(threads)}

    def complete(name: str, kind: str, thread: int, track: str, start: float, seconds: float, args: dict[str, Any]) -> dict[str, Any]:
        return {"ph": "X", "name": name, "cat": kind, "pid": pid, "tid": number[thread] + _TRACKS.index(track),
                "ts": (start - begin) * 1e6, "dur": max(seconds, 0.0) * 1e6, "args": args}

    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "rushlight"}}]
    for k, thread in enumerate(threads):
        for track in _TRACKS:
            tid = number[thread] + _TRACKS.index(track)
            name = track if len(threads) == 1 else f"{track}, thread {k + 1}"
            events.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}})
            events.append({"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}})
    for r in collector.ranges:
        end = collector.end_time if r.end is None else r.end
        events.append(complete(r.name, "step" if r.is_step else "user_annotation", r.thread, "ranges", r.start, end - r.start,
                               {} if r.args is None else {"args": r.args}))
    for s in collector.slices:
        track = "kernels" if s.kind in ("kernel", "host", "cold") else "recorder"
        name = f"{'+'.join(s.operations)}: {s.name}" if s.operations else s.name
        events.append(complete(name, s.kind, s.thread, track, s.start, s.seconds, _args(s)))
        if collector.memory and s.kind == "flush":
            events.append({"ph": "C", "name": "tensor memory", "pid": pid, "tid": 0, "ts": (s.start + s.seconds - begin) * 1e6,
                           "args": {"bytes": s.live}})
    roof = peaks()
    return {"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": int(collector.epoch_time * 1e9),
            "machine": {"threads": roof.threads, "peak GFLOP/s": roof.flops / 1e9, "copy GB/s": roof.copy / 1e9},
            **(metadata or {}), "traceEvents": events}


def _args(s: Slice) -> dict[str, Any]:
    args: dict[str, Any] = {}
    if s.lines:
        args["line"] = "{}:{}".format(*s.lines[0])
        if len(s.lines) > 1:
            args["further lines"] = ["{}:{}".format(*line) for line in s.lines[1:]]
    if s.operations:
        args["operations"] = list(s.operations)
        args["input shapes"] = [list(shape) for shape in s.shapes]
    if s.owner is not None:
        args["range"] = s.owner.name
    if s.kind == "kernel":
        args["kernel"] = s.name
        args["bytes"], args["FLOPs"] = s.nbytes, s.flops
        args.update(rates(s.nbytes, s.flops, s.seconds))
    return args


def write(path: str | os.PathLike[str], made: dict[str, Any]) -> None:
    """As JSON, compressed where the name ends in ``.gz``."""
    text = json.dumps(made)
    if os.fspath(path).endswith(".gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")
