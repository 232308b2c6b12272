"""Sizes given as a number or as a sequence."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["repeated", "reversed_twice"]


def repeated(value: Any, n: int) -> tuple[Any, ...]:
    """``3`` becomes ``(3, 3)`` for n = 2; a sequence becomes a tuple."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,) * n


def _ntuple(n: int, name: str = "parse") -> Callable[[Any], tuple[Any, ...]]:
    """The function that makes a tuple of ``n`` of a number; sequences become tuples of their own length."""
    def parse(x: Any) -> tuple[Any, ...]:
        return repeated(x, n)
    parse.__name__ = name
    return parse


_single, _pair, _triple, _quadruple = [_ntuple(n + 1, name) for n, name in enumerate(("_single", "_pair", "_triple", "_quadruple"))]


def _reverse_repeat_tuple(t: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    """Each item ``n`` times, the last one first."""
    return tuple([x for x in reversed(t) for _ in range(n)])


def _list_with_default(out_size: Sequence[int | None], defaults: Sequence[int]) -> Any:
    """Sizes, with those of ``defaults`` (of which the last belong to them) where there is None; a number as it is.

    Raises:
        ValueError: there are not more defaults than sizes.
    """
    if isinstance(out_size, int):
        return out_size
    if len(defaults) <= len(out_size):
        raise ValueError(f"Input dimension should be at least {len(out_size) + 1}")
    return [d if v is None else v for v, d in zip(out_size, defaults[-len(out_size):])]


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
