"""``torch.xpu`` where there is no Intel GPU: programs ask, and are told so."""
from __future__ import annotations

from typing import Any

from .cuda import (
    device_count,
    empty_cache,
    get_arch_list,
    get_rng_state_all,
    is_available,
    is_bf16_supported,
    is_initialized,
    manual_seed,
    manual_seed_all,
    max_memory_allocated,
    max_memory_reserved,
    memory_allocated,
    memory_reserved,
    memory_stats,
    reset_peak_memory_stats,
    seed,
    seed_all,
    set_rng_state_all,
)
from .record.meta import NoSuchDevice

__all__ = ["current_device", "current_stream", "device", "device_count", "empty_cache", "get_arch_list", "get_device_capability",
           "get_device_name", "get_device_properties", "get_rng_state", "get_rng_state_all", "init", "initial_seed", "is_available",
           "is_bf16_supported", "is_current_stream_capturing", "is_initialized", "manual_seed", "manual_seed_all", "max_memory_allocated",
           "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_reserved", "memory_stats", "reset_peak_memory_stats", "seed",
           "seed_all", "set_device", "set_rng_state", "set_rng_state_all", "synchronize"]

is_current_stream_capturing = is_initialized


def _absent(*args: Any, **kwargs: Any) -> Any:
    raise NoSuchDevice("xpu")


current_device = current_stream = get_device_capability = get_device_name = get_device_properties = get_rng_state = _absent
init = initial_seed = mem_get_info = set_device = set_rng_state = synchronize = _absent


class device:
    """A region in which one GPU is the present one.

    Raises:
        AssertionError: when the region is entered with the number of a GPU that is not there; None and -1 mean no GPU.
    """

    def __init__(self, device: Any) -> None:
        self.idx = -1 if device is None else device

    def __enter__(self) -> None:
        if self.idx != -1:
            _absent()

    def __exit__(self, *error: Any) -> None:
        """No GPU was chosen."""
