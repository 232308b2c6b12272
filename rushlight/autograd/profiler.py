"""``torch.autograd.profiler``: the older interface to ``torch.profiler``, as far as programs use it."""
from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from ..profiler.averages import EventList, FunctionEvent, FunctionEventAvg
from ..profiler.ranges import record_function
from ..profiler.session import profile as _profile

__all__ = ["EventList", "FunctionEvent", "FunctionEventAvg", "emit_itt", "emit_nvtx", "profile", "record_function"]


class profile:
    """``with profile() as prof: ...``, then ``prof.table()``, ``prof.key_averages()``, ``prof.export_chrome_trace(path)``.

    Args:
        enabled: False: measure nothing.
        record_shapes, with_flops, profile_memory, with_stack: as in ``torch.profiler.profile``.
        use_cuda, use_device, with_modules, use_kineto, use_cpu, experimental_config, acc_events, custom_trace_id_callback: accepted.
    """

    def __init__(self, enabled: bool = True, *, use_cuda: bool = False, use_device: str | None = None, record_shapes: bool = False,
                 with_flops: bool = False, profile_memory: bool = False, with_stack: bool = False, with_modules: bool = False,
                 use_kineto: bool = False, use_cpu: bool = True, experimental_config: Any = None, acc_events: bool = False,
                 custom_trace_id_callback: Any = None) -> None:
        self.enabled, self.entered = enabled, False
        self._profile = _profile(record_shapes=record_shapes, with_flops=with_flops, profile_memory=profile_memory, with_stack=with_stack)

    def __enter__(self) -> profile:
        if self.enabled:
            if self.entered:
                raise RuntimeError("Profiler context manager is not reentrant")
            self.entered = True
            self._profile.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self.enabled:
            self._profile.__exit__(kind, error, where)

    @property
    def function_events(self) -> EventList:
        """All events.

        Raises:
            RuntimeError: nothing has been measured.
        """
        if self._profile.collector is None:
            raise RuntimeError("Profiler didn't finish running")
        return self._profile.events()

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0,
                     group_by_overload_name: bool = False) -> EventList:
        return self.function_events.key_averages(group_by_input_shape, group_by_stack_n, group_by_overload_name)

    def table(self, sort_by: str | None = None, row_limit: int = 100, max_src_column_width: int = 75, max_name_column_width: int = 55,
              max_shapes_column_width: int = 80, header: str | None = None, top_level_events_only: bool = False) -> str:
        return self.function_events.table(sort_by, row_limit, max_src_column_width, max_name_column_width, max_shapes_column_width, header,
                                          top_level_events_only)

    def total_average(self) -> FunctionEventAvg:
        return self.function_events.total_average()

    @property
    def self_cpu_time_total(self) -> float:
        return self.function_events.self_cpu_time_total

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        self.function_events  # noqa: B018 - raises where nothing has been measured
        self._profile.export_chrome_trace(path)

    def export_stacks(self, path: str | os.PathLike[str], metric: str = "self_cpu_time_total") -> None:
        self.function_events  # noqa: B018
        self._profile.export_stacks(path, metric)

    def __str__(self) -> str:
        return "<unfinished torch.autograd.profile>" if self._profile.collector is None else self.table()

    def __iter__(self) -> Any:
        return iter(self.function_events)


class emit_nvtx:
    """Ranges for NVIDIA's tools: there is no GPU that they could be sent for, so this changes nothing."""

    def __init__(self, enabled: bool = True, record_shapes: bool = False) -> None:
        self.enabled = enabled

    def __enter__(self) -> emit_nvtx:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        return None


class emit_itt(emit_nvtx):
    """Ranges for Intel's tools: changes nothing."""
