"""Seeds and states of the random number generator: ``rushlight.random``."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .compile.flags import flags
from .record.flush import start_afresh
from .record.settings import settings
from .tensor.generator import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)

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

    Without it, what runs inside compiled programs may draw from a faster generator. Convolutions then keep to plain sums, as
    PyTorch's do: Winograd's algorithm rounds more, and one rounding error can choose another place in a pool, after which loss
    curves part. Exponentials and logarithms are polynomials alone, as PyTorch's are, for the same reason.
    """
    former, settings.match_pytorch = settings.match_pytorch, bool(flag)
    if settings.match_pytorch is not former:
        flags.winograd, flags.tables = (0, 0) if flag else _usual
        start_afresh()  # programs that were built otherwise are not taken
    return former


_usual = flags.winograd, flags.tables
if settings.match_pytorch:
    flags.winograd = flags.tables = 0
