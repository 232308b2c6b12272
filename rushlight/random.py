"""Seeds and states of the random number generator: ``rushlight.random``."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .record.settings import settings
from .tensor.random import Generator, default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state

__all__ = ["Generator", "default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "match_pytorch",
           "seed", "set_rng_state"]


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cpu") -> Iterator[None]:
    """Whatever is drawn inside leaves the default generator as it was."""
    if not enabled:
        yield
        return
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def match_pytorch(flag: bool = True) -> bool:
    """Whether everything random, dropout masks included, draws the numbers that PyTorch draws; returns the former setting.

    Without it, what runs inside compiled programs may draw from a faster generator.
    """
    former, settings.match_pytorch = settings.match_pytorch, bool(flag)
    return former
