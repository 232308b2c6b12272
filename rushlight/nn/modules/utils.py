"""Sizes given as a number or as a sequence."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["repeated", "reversed_twice"]


def repeated(value: Any, n: int) -> tuple[Any, ...]:
    """``3`` becomes ``(3, 3)`` for n = 2; a sequence becomes a tuple."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,) * n


def reversed_twice(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """What ``functional.pad`` wants for symmetric padding: the last dimension first, each size for both ends."""
    return tuple([s for s in reversed(sizes) for _ in range(2)])
