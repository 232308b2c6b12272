"""Checks that programs make of their own values (``torch._check``), and arithmetic on sizes (``torch.sym_max``).

Under PyTorch's tracing a size may be a symbol, which these functions take, too. Here sizes are Python's numbers.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .tensor import Tensor

__all__ = ["SymBool", "SymFloat", "SymInt", "sym_float", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sum"]


class _Symbol:
    """A number that is not known while a program is traced. None is made: it is a name for ``isinstance`` and annotations."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{cls.__name__}: there are no symbolic numbers here, sizes are Python's numbers")


class SymInt(_Symbol):
    """An integer that is not known while a program is traced: no object is one."""


class SymFloat(_Symbol):
    """A real number that is not known while a program is traced: no object is one."""


class SymBool(_Symbol):
    """A truth value that is not known while a program is traced: no object is one."""


def sym_int(a: Any) -> int:
    """``a`` without what comes after the point."""
    return math.trunc(a)


def sym_float(a: Any) -> float:
    """``float(a)``."""
    return float(a)


def sym_max(a: Any, b: Any) -> Any:
    """The larger of two numbers, a float if one of them is."""
    larger = max(a, b)
    return float(larger) if isinstance(a, float) or isinstance(b, float) else larger


def sym_min(a: Any, b: Any) -> Any:
    """The smaller of two numbers, a float if one of them is."""
    smaller = min(a, b)
    return float(smaller) if isinstance(a, float) or isinstance(b, float) else smaller


def sym_not(a: Any) -> Any:
    """``not a``."""
    return not a


def sym_ite(b: Any, t: Any, f: Any) -> Any:
    """``t if b else f``, for values of one type."""
    assert type(t) is type(f), f"sym_ite: {type(t).__name__} and {type(f).__name__}"
    return t if b else f


def sym_sum(args: Any) -> Any:
    """The sum of some numbers."""
    return sum(args)


def _check_with(error_type: type[Exception], cond: Any, message: Callable[[], Any] | None) -> None:
    if not isinstance(cond, bool):
        raise TypeError(f"cond must be a bool, but got {type(cond)}")
    if cond:
        return
    if message is None:
        raise error_type("Expected cond to be True, but got False.")
    if not callable(message):
        raise TypeError("message must be a callable")
    raise error_type(str(message()))


def _check(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """Go on if ``cond`` is True.

    Raises:
        RuntimeError: it is False; ``message()`` says what is wrong. TypeError: it is no bool.

    Example:
        >>> torch._check(1 < 2, lambda: "the order of numbers")
    """
    _check_with(RuntimeError, cond, message)


def _check_index(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """As ``_check``, with an IndexError."""
    _check_with(IndexError, cond, message)


def _check_value(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """As ``_check``, with a ValueError."""
    _check_with(ValueError, cond, message)


def _check_type(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """As ``_check``, with a TypeError."""
    _check_with(TypeError, cond, message)


def _check_not_implemented(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """As ``_check``, with a NotImplementedError."""
    _check_with(NotImplementedError, cond, message)


def _check_is_size(i: Any, message: Callable[[], Any] | None = None, *, max: Any = None) -> None:  # noqa: A002
    """Go on if ``i`` can be a size: not negative, and at most ``max``.

    Raises:
        RuntimeError: it cannot.
    """
    _check(i >= 0, message)
    if max is not None:
        _check(i <= max, message)


def _check_tensor_all_with(error_type: type[Exception], cond: Any, message: Callable[[], Any] | None = None) -> None:
    """As ``_check_tensor_all``, with an error of this type."""
    if not isinstance(cond, Tensor):
        raise TypeError(f"cond must be a tensor, but got {type(cond)}")
    if cond.dtype.name != "bool":
        raise TypeError(f"cond tensor must have dtype torch.bool, but got {cond.dtype}")
    _check_with(error_type, bool(cond.all().item()), message)


def _check_tensor_all(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """Go on if all elements of a tensor of bools are True; this reads it.

    Raises:
        RuntimeError: one is False. TypeError: not a tensor of bools.
    """
    _check_tensor_all_with(RuntimeError, cond, message)


def _assert_async(tensor: Any, assert_msg: str | None = None) -> None:
    """Go on if the only element of a tensor is not zero; this reads it.

    Raises:
        RuntimeError: it is zero.
    """
    if not tensor.item():
        raise RuntimeError(assert_msg or "Expected Tensor with single nonzero value, but got zero")
