"""``torch.profiler``: where the time goes, with the ranges that a program names.

``rushlight.tools.profiler`` has the compiler's view of the same: kernels with their rates, and a roofline.

::

    with profile(schedule=schedule(wait=1, warmup=1, active=3), on_trace_ready=tensorboard_trace_handler("log")) as prof:
        for images, labels in loader:
            train_step(images, labels)
            prof.step()
    print(prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=10))
"""
from __future__ import annotations

from .ranges import record_function
from .session import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)

__all__ = ["ProfilerAction", "ProfilerActivity", "kineto_available", "profile", "record_function", "schedule", "supported_activities",
           "tensorboard_trace_handler"]


def kineto_available() -> bool:
    """False: the profiler is Rushlight's own."""
    return False
