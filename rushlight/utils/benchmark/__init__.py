"""``torch.utils.benchmark``: how long a statement takes.

::

    timer = Timer("model(x)", globals={"model": model, "x": x}, num_threads=2)
    print(timer.blocked_autorange())
"""
from __future__ import annotations

from .compare import Compare
from .measurement import Measurement, TaskSpec, select_unit, trim_sigfig, unit_to_english
from .timer import Timer

__all__ = ["Compare", "Measurement", "TaskSpec", "Timer", "select_unit", "trim_sigfig", "unit_to_english"]
