"""The random numbers that transforms draw: from the framework's default stream, in the order PyTorch programs see them.

Each function consumes what the named PyTorch call consumes, so a seeded program makes the same crops and flips.
"""

from __future__ import annotations

from rushlight.record.random import default_stream


def uniform(low: float = 0.0, high: float = 1.0) -> float:
    """One float32 number in [low, high): `torch.empty(1).uniform_(low, high).item()`; `torch.rand(1)` by default."""
    return float(default_stream.uniform(1, low, high)[0])


def integer(low: int, high: int) -> int:
    """One integer in [low, high): `torch.randint(low, high, (1,)).item()`."""
    return int(default_stream.randint(low, high, 1)[0])


def permutation(n: int) -> list[int]:
    """The numbers 0 … n-1 in random order: `torch.randperm(n)`."""
    return default_stream.randperm(n).tolist()
