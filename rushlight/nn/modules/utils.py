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


def consume_prefix_in_state_dict_if_present(state_dict: dict[str, Any], prefix: str) -> None:
    """Take a prefix off the names of a state dictionary that have it, in place: what ``DataParallel`` saved for a bare module.

    >>> state = {"module.weight": 1, "bias": 2}
    >>> consume_prefix_in_state_dict_if_present(state, "module.")
    >>> state
    {'bias': 2, 'weight': 1}
    """
    for name in list(state_dict):
        if name.startswith(prefix):
            state_dict[name[len(prefix):]] = state_dict.pop(name)
    metadata = getattr(state_dict, "_metadata", None)
    for name in list(metadata or ()):
        if name and (name == prefix.replace(".", "") or name.startswith(prefix)):
            metadata[name[len(prefix):]] = metadata.pop(name)  # type: ignore[index, union-attr]
