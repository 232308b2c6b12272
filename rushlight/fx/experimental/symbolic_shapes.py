"""Questions about sizes that PyTorch's tracing may not know. Here sizes are Python's numbers: everything is known."""
from __future__ import annotations

import operator
from typing import Any

__all__ = ["free_symbols", "free_unbacked_symbols", "guard_int", "guard_or_false", "guard_or_true", "guard_size_oblivious",
           "has_free_symbols", "is_symbolic", "statically_known_true"]


def _known(a: Any) -> bool:
    return bool(a)


guard_or_false = guard_or_true = guard_size_oblivious = statically_known_true = _known


def guard_int(a: Any) -> int:
    """The number itself."""
    return operator.index(a)


def is_symbolic(val: Any) -> bool:
    """Whether it is a symbol: no."""
    return False


def free_symbols(val: Any) -> set[Any]:
    """The symbols in it: none."""
    return set()


free_unbacked_symbols = free_symbols


def has_free_symbols(val: Any) -> bool:
    """Whether there are symbols in it: no."""
    return False
