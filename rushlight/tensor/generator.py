"""Generators of random numbers as users see them, and the default one."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.handle import Handle
from ..record.meta import Device
from ..record.random import Mt19937Stream, default_stream
from .creation import check_device, from_array

__all__ = ["Generator", "default_generator", "manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state", "stream_of"]


class Generator:
    """A seeded stream of random numbers, to be passed as ``generator=``.

    Example:
        >>> g = Generator().manual_seed(0)
        >>> torch.rand(2, generator=g)
        tensor([0.4963, 0.7682])
    """

    def __init__(self, device: Any = "cpu") -> None:
        check_device(device)
        self.device = Device("cpu")
        self._stream = Mt19937Stream()

    def manual_seed(self, seed: int) -> Generator:
        """Start over from ``seed``; returns the generator."""
        self._stream.manual_seed(seed)
        return self

    def seed(self) -> int:
        """Start over from a seed that the operating system makes up; returns it."""
        return self._stream.seed()

    def initial_seed(self) -> int:
        """The seed that the stream was last started from."""
        return self._stream.initial_seed()

    def get_state(self) -> Any:
        """The state as a vector of bytes, laid out as PyTorch's."""
        return from_array(self._stream.get_state())

    def set_state(self, new_state: Any) -> Generator:
        """Continue from a state that ``get_state`` gave."""
        if not isinstance(new_state, Handle):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        self._stream.set_state(new_state.detach()._array())  # type: ignore[attr-defined]
        return self

    def clone_state(self) -> Generator:
        """Another generator that continues with the same numbers."""
        other = Generator()
        other._stream = self._stream.clone()
        return other

    def __reduce__(self) -> tuple:
        return _generator_of, (self._stream.get_state(),)


def _generator_of(state: np.ndarray) -> Generator:
    made = Generator()
    made._stream.set_state(state)
    return made


default_generator = Generator()
default_generator._stream = default_stream


def manual_seed(seed: int) -> Generator:
    """Seed the default generator; returns it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    """The state of the default generator as a vector of bytes."""
    return default_generator.get_state()


def set_rng_state(new_state: Any) -> None:
    """Continue the default generator from a state that ``get_rng_state`` gave."""
    default_generator.set_state(new_state)


def stream_of(generator: Generator | None) -> Mt19937Stream:
    """The stream of a generator, or of the default one."""
    if generator is None:
        return default_stream
    if not isinstance(generator, Generator):
        raise TypeError(f"argument 'generator' must be a torch.Generator, not {type(generator).__name__}")
    return generator._stream
