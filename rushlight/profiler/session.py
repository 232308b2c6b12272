"""``profile``: when to measure, and what to do with what was measured."""
from __future__ import annotations

import enum
import json
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from ..record.warn import warn
from . import chrome
from .averages import EventList, events_of
from .collect import Collector, Range, finish

__all__ = ["ProfilerAction", "ProfilerActivity", "profile", "schedule", "supported_activities", "tensorboard_trace_handler"]


class ProfilerActivity(enum.Enum):
    """What to measure. Everything runs on the CPU here; the other names are accepted and measure nothing."""

    CPU = 0
    XPU = 1
    MTIA = 2
    CUDA = 3
    HPU = 4
    PrivateUse1 = 5


class ProfilerAction(enum.Enum):
    """What a profiler does in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """``{ProfilerActivity.CPU}``."""
    return {ProfilerActivity.CPU}


def schedule(*, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0,
             skip_first_wait: int = 0) -> Callable[[int], ProfilerAction]:
    """A function from the number of a step to what to do in it: cycles of ``wait`` steps without measuring, ``warmup`` steps whose
    measurements are thrown away, and ``active`` steps; ``repeat`` cycles (0: without end) after the first ``skip_first`` steps.
    With ``skip_first_wait`` other than 0 the first cycle has no ``wait``.

    Raises:
        AssertionError: a negative number, or no active step.

    >>> from rushlight.profiler import schedule
    >>> [schedule(wait=1, warmup=1, active=2, repeat=1)(step).name for step in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if not (wait >= 0 and warmup >= 0 and active > 0 and repeat >= 0 and skip_first >= 0):
        raise AssertionError("Invalid profiler schedule arguments. Parameters wait, warmup, repeat and skip_first must be >= 0 and "
                             "active must be > 0")
    if warmup == 0:
        warn("Profiler won't be using warmup, this can skew profiler results")

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise AssertionError(f"Step must be non-negative. Got {step}.")
        step -= skip_first
        if step < 0:
            return ProfilerAction.NONE
        if skip_first_wait:
            step += wait
        length = wait + warmup + active
        cycle, place = divmod(step, length)
        if repeat and cycle >= repeat or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if place < length - 1 else ProfilerAction.RECORD_AND_SAVE
    return action


def tensorboard_trace_handler(dir_name: str, worker_name: str | None = None, use_gzip: bool = False) -> Callable[[profile], None]:
    """For ``on_trace_ready``: write a trace into a folder, under a name of its own, for TensorBoard or Perfetto.

    Raises:
        RuntimeError: the folder cannot be made (when a trace is ready).
    """
    def handler(prof: profile) -> None:
        try:
            os.makedirs(dir_name, exist_ok=True)
        except OSError as error:
            raise RuntimeError("Can't create directory: " + dir_name) from error
        name = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        prof.export_chrome_trace(os.path.join(dir_name, f"{name}.{time.time_ns()}.pt.trace.json" + (".gz" if use_gzip else "")))
    return handler


class profile:
    """Measures a program: ``with profile() as prof: ...``, then ``prof.key_averages().table(sort_by="cpu_time_total")``.

    Rows are the ranges that the program names (``record_function``), and kernels, named by the operations that they compute
    (``linear+relu``). A range has the time of what was recorded in it, also where that runs later; building programs is the row
    ``compile``. While it measures, kernels run one after the other as always, each with all threads, and the programs are the ones that
    run without it.

    Args:
        activities: accepted; everything runs on the CPU.
        schedule: what to do in which step (see :func:`schedule`); ``step()`` must then be called after each step. All of
            it is measured, if not given.
        on_trace_ready: called with this object whenever a stretch has been measured.
        record_shapes: keep the shapes of operations' inputs, for ``key_averages(group_by_input_shape=True)``.
        profile_memory: what flushes allocate and free, and a track of it in the trace.
        with_stack: keep the lines of the program. (The trace has them in any case.)
        with_flops: floating-point operations in tables.
        with_modules, experimental_config, execution_trace_observer, acc_events, custom_trace_id_callback, use_cuda: accepted.

    Example::

        >>> from rushlight.profiler import profile, record_function
        >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
        >>> with profile() as prof:
        ...     with record_function("inference"):
        ...         y = model(torch.ones(2, 8))
        >>> sorted(row.key for row in prof.key_averages() if row.key == "inference")
        ['inference']
    """

    def __init__(self, *, activities: Iterable[ProfilerActivity] | None = None, schedule: Callable[[int], ProfilerAction] | None = None,
                 on_trace_ready: Callable[[profile], Any] | None = None, record_shapes: bool = False, profile_memory: bool = False,
                 with_stack: bool = False, with_flops: bool = False, with_modules: bool = False, experimental_config: Any = None,
                 execution_trace_observer: Any = None, acc_events: bool = False, use_cuda: bool | None = None,
                 custom_trace_id_callback: Any = None, post_processing_timeout_s: float | None = None) -> None:
        self.activities = set(activities) if activities is not None else supported_activities()
        self.schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self.record_steps = schedule is not None
        self.on_trace_ready = on_trace_ready
        self.record_shapes, self.profile_memory, self.with_stack, self.with_flops = record_shapes, profile_memory, with_stack, with_flops
        self.step_num = 0
        self.current_action = ProfilerAction.NONE
        self.collector: Collector | None = None
        self._running: Collector | None = None
        self._step: Range | None = None
        self._metadata: dict[str, Any] = {}
        self._events: EventList | None = None

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._end(run_pending=error is None)

    def start(self) -> None:
        """Begin, with step 0."""
        self._turn(self.schedule(self.step_num))

    def stop(self) -> None:
        """End; what is being measured is ready now."""
        self._end(run_pending=True)

    def step(self) -> None:
        """The next step begins."""
        if self._running is not None:
            finish()
            self._close_step()
        self.step_num += 1
        self._turn(self.schedule(self.step_num))

    def _turn(self, action: ProfilerAction) -> None:
        """From one step's action to the next."""
        before, self.current_action = self.current_action, action
        over = action in (ProfilerAction.NONE, ProfilerAction.WARMUP)
        if before is ProfilerAction.RECORD_AND_SAVE or before is ProfilerAction.RECORD and over:
            self._finish_trace()
        if before is ProfilerAction.WARMUP:
            self._drop()
        if action is not ProfilerAction.NONE and self._running is None:
            self._running = Collector(memory=self.profile_memory)
            self._running.start()
        if self._running is not None and self.record_steps:
            self._step = self._running.enter(f"ProfilerStep#{self.step_num}", is_step=True)

    def _close_step(self) -> None:
        if self._running is not None and self._step is not None:
            self._running.exit(self._step)
        self._step = None

    def _drop(self) -> None:
        """Measurements of a warm-up are nobody's."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _end(self, run_pending: bool) -> None:
        before, self.current_action = self.current_action, ProfilerAction.NONE
        if self._running is None:
            return
        if run_pending:
            finish()
        self._close_step()
        if before is ProfilerAction.WARMUP or not run_pending:
            self._running.stop(run_pending)
            if before is not ProfilerAction.WARMUP:
                self._take()
            self._running = None
        else:
            self._finish_trace()

    def _finish_trace(self) -> None:
        assert self._running is not None
        self._running.stop()
        self._take()
        self._running = None
        if self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def _take(self) -> None:
        self.collector, self._events = self._running, None

    # -- results -------------------------------------------------------------------------------------------------------
    def _measured(self) -> Collector:
        if self.collector is None:
            raise AssertionError("Profiler must be initialized before getting results: nothing has been measured yet")
        return self.collector

    def events(self) -> EventList:
        """All ranges and kernels of the stretch that was measured last, an ``EventList`` of ``FunctionEvent``.

        Raises:
            AssertionError: nothing has been measured yet.
        """
        collector = self._measured()
        if self._events is None:
            self._events = events_of(collector)
            for event in self._events:
                if not self.record_shapes:
                    event.input_shapes = []
                if not self.with_stack:
                    event.stack = []
                if not self.with_flops:
                    event.flops = 0
            self._events.profile_memory = self.profile_memory
        return self._events

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0,
                     group_by_overload_name: bool = False) -> EventList:
        """Events of one name as one row: ``events().key_averages(...)``."""
        return self.events().key_averages(group_by_input_shape, group_by_stack_n, group_by_overload_name)

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a trace for Perfetto (ui.perfetto.dev) or chrome://tracing; compressed, if the name ends in ``.gz``.

        Raises:
            AssertionError: nothing has been measured yet.
        """
        chrome.write(path, chrome.trace(self._measured(), self._metadata))

    def export_stacks(self, path: str | os.PathLike[str], metric: str = "self_cpu_time_total") -> None:
        """Write a line for each place in the program, with its time in microseconds: what flame graphs are made of.

        Raises:
            ValueError: the metric has another name.
        """
        if metric not in ("self_cpu_time_total", "self_cuda_time_total", "self_xpu_time_total"):
            raise ValueError(f"metric should be one of: self_cpu_time_total, self_cuda_time_total, self_xpu_time_total; got {metric!r}")
        times: dict[str, float] = {}
        for s in self._measured().slices:
            if s.lines and metric == "self_cpu_time_total":
                stack = [*reversed(_ranges(s.owner)), "{}({})".format(*s.lines[0]), "+".join(s.operations) or s.name]
                key = ";".join(part.replace(";", ",") for part in stack)
                times[key] = times.get(key, 0.0) + s.seconds * 1e6
        Path(path).write_text("".join(f"{stack} {int(t)}\n" for stack, t in times.items()), encoding="utf-8")

    def add_metadata(self, key: str, value: str) -> None:
        """A text that goes into the trace."""
        self._metadata[key] = value

    def add_metadata_json(self, key: str, value: str) -> None:
        """A value, as JSON, that goes into the trace."""
        self._metadata[key] = json.loads(value)


def _ranges(inner: Range | None) -> list[str]:
    names = []
    while inner is not None:
        names.append(inner.name)
        inner = inner.parent
    return names
