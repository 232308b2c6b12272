"""``torch.accelerator``: which accelerator is in use. There is none here."""
from __future__ import annotations

from typing import Any

__all__ = ["current_accelerator", "current_device_idx", "current_device_index", "current_stream", "device_count", "device_index",
           "empty_cache", "get_memory_info", "is_available", "max_memory_allocated", "max_memory_reserved", "memory_allocated",
           "memory_reserved", "memory_stats", "reset_accumulated_memory_stats", "reset_peak_memory_stats", "set_device_idx",
           "set_device_index", "set_stream", "synchronize"]


def is_available() -> bool:
    """Whether there is an accelerator: no."""
    return False


def device_count() -> int:
    """The number of accelerators: 0."""
    return 0


def current_accelerator(check_available: bool = False) -> Any:
    """The device of the accelerator: None."""
    return None


def _absent(*args: Any, **kwargs: Any) -> Any:
    """What needs an accelerator.

    Raises:
        RuntimeError: there is none.
    """
    raise RuntimeError("Cannot access accelerator device when none is available.")


current_device_idx = current_device_index = current_stream = set_device_idx = set_device_index = set_stream = synchronize = _absent
empty_cache = get_memory_info = max_memory_allocated = max_memory_reserved = memory_allocated = memory_reserved = memory_stats = _absent
reset_accumulated_memory_stats = reset_peak_memory_stats = _absent


class device_index:
    """A region in which one accelerator is the present one; None chooses none.

    Raises:
        RuntimeError: when the region is entered with a number: there is no accelerator.
    """

    def __init__(self, device: int | None, /) -> None:
        self.idx = device

    def __enter__(self) -> None:
        if self.idx is not None:
            _absent()

    def __exit__(self, *error: Any) -> None:
        """No accelerator was chosen."""
