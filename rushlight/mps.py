"""``torch.mps`` where there is no GPU of Apple's: programs ask, and are told so."""
from __future__ import annotations

from typing import Any

__all__ = ["current_allocated_memory", "device_count", "driver_allocated_memory", "empty_cache", "get_rng_state", "is_available",
           "manual_seed", "recommended_max_memory", "seed", "set_per_process_memory_fraction", "set_rng_state", "synchronize"]


def is_available() -> bool:
    """Whether such a GPU can be used: no."""
    return False


def device_count() -> int:
    """The number of such GPUs: 0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing to seed."""
    int(seed)


def _absent(name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"torch.mps.{name}: there is no MPS backend here. Ask torch.backends.mps.is_available() first.")
    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = "Raises RuntimeError: there is no such GPU."
    return refuse


current_allocated_memory, driver_allocated_memory = _absent("current_allocated_memory"), _absent("driver_allocated_memory")
empty_cache, synchronize, recommended_max_memory = _absent("empty_cache"), _absent("synchronize"), _absent("recommended_max_memory")
get_rng_state, set_rng_state, seed = _absent("get_rng_state"), _absent("set_rng_state"), _absent("seed")
set_per_process_memory_fraction = _absent("set_per_process_memory_fraction")
