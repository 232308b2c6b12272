"""``torch.cpu.amp``: the older names of ``torch.amp`` with the device "cpu"."""
from __future__ import annotations

from typing import Any

from ... import amp
from ...record.warn import warn

__all__ = ["GradScaler", "autocast"]


def _old(old: str, new: str) -> None:
    warn(f"`{old}` is deprecated. Please use `{new}` instead.", FutureWarning)


class autocast(amp.autocast):
    """``torch.amp.autocast("cpu", ...)``."""

    def __init__(self, enabled: bool = True, dtype: Any = None, cache_enabled: bool = True) -> None:
        _old("torch.cpu.amp.autocast(args...)", "torch.amp.autocast('cpu', args...)")
        super().__init__("cpu", amp.autocast_mode.bfloat16 if dtype is None else dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """``torch.amp.GradScaler("cpu", ...)``."""

    def __init__(self, init_scale: float = 2.0 ** 16, growth_factor: float = 2.0, backoff_factor: float = 0.5, growth_interval: int = 2000,
                 enabled: bool = True) -> None:
        _old("torch.cpu.amp.GradScaler(args...)", "torch.amp.GradScaler('cpu', args...)")
        super().__init__("cpu", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
