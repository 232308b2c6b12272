"""The random numbers that transforms draw: from the framework's default stream, in the order PyTorch programs see them.

Each function consumes what the named PyTorch call consumes, so a seeded program makes the same crops and flips.
"""

from __future__ import annotations

import numpy as np

from rushlight.record.random import default_stream


def uniform(low: float = 0.0, high: float = 1.0) -> float:
    """One float32 number in [low, high): `torch.empty(1).uniform_(low, high).item()`; `torch.rand(1)` by default."""
    return float(default_stream.uniform(1, low, high)[0])


def chance(p: float) -> bool:
    """True with probability `p`: `torch.rand(1) < p`, which compares in float32."""
    return bool(default_stream.uniform(1)[0] < np.float32(p))


def above(p: float) -> bool:
    """True with probability `1 - p`: `torch.rand(1) > p`."""
    return bool(default_stream.uniform(1)[0] > np.float32(p))


def integer(low: int, high: int) -> int:
    """One integer in [low, high): `torch.randint(low, high, (1,)).item()`."""
    return int(default_stream.randint(low, high, 1)[0])


def permutation(n: int) -> list[int]:
    """The numbers 0 … n-1 in random order: `torch.randperm(n)`."""
    return default_stream.randperm(n).tolist()


def words(count: int) -> np.ndarray:
    """The next `count` words of 32 bits, as uint64: the raw material of `uniform` and `integer`, one word each."""
    return default_stream.raw32(count)


def uniform_of(words: np.ndarray) -> np.ndarray:
    """What `uniform()` makes of each word."""
    return (words & np.uint64((1 << 24) - 1)).astype(np.float32) * np.float32(2.0**-24)


def integer_of(words: np.ndarray, span: int) -> np.ndarray:
    """What `integer(0, span)` makes of each word, for spans below 2**28."""
    return (words % np.uint64(span)).astype(np.intp)
