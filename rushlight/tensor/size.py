"""``Size``, and sizes as arguments: one by one or together."""
from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from ..autograd.given import ATOMS

__all__ = ["Size", "size_argument", "size_given", "wholes"]


class Size(tuple):
    """A shape. A tuple of integers that prints as ``torch.Size([2, 3])``."""

    __slots__ = ()

    def __new__(cls, sizes: Any = ()) -> Size:
        made = tuple.__new__(cls, sizes)
        for k, n in enumerate(made):
            if type(n) is not int:
                try:
                    return tuple.__new__(cls, [operator.index(n) for n in made])
                except TypeError:
                    raise TypeError(f"torch.Size() takes an iterable of 'int' (item {k} is '{type(n).__name__}')") from None
        return made

    def numel(self) -> int:
        return math.prod(self)

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __add__(self, other: Any) -> Size:
        if not isinstance(other, tuple):
            raise TypeError(f"can only concatenate tuple (not {type(other).__name__}) to torch.Size")
        return Size(tuple.__add__(self, other))

    def __radd__(self, other: Any) -> Size:
        return Size(tuple.__add__(other, self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times: Any) -> Size:
        return Size(tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __getitem__(self, at: Any) -> Any:
        found = tuple.__getitem__(self, at)
        return tuple.__new__(Size, found) if isinstance(at, slice) else found

    def __reduce__(self) -> tuple:
        return Size, (tuple(self),)


ATOMS.add(Size)


def size_given(name: str, sizes: tuple, size: Any, called: str = "size") -> tuple[int, ...]:
    """The size (or dimensions) that a function was given, one by one or as ``size=``, as its argument is ``called``.

    Raises:
        TypeError: no size, or both.
    """
    if size is None:
        if not sizes or type(sizes[0]) is bool:
            raise TypeError(f'{name}() missing 1 required positional arguments: "{called}"' if not sizes else
                            f"{name}(): argument '{called}' (position 1) must be tuple of ints, not bool")
        return size_argument(sizes)
    if sizes:
        raise TypeError(f"{name}() got multiple values for argument '{called}'")
    return size_argument((size,))


def size_argument(size: Sequence[Any]) -> tuple[int, ...]:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    try:
        return tuple([n if type(n) is int else n.__index__() for n in size])
    except AttributeError:
        bad = next(n for n in size if not hasattr(n, "__index__"))
        raise TypeError(f"expected a size of integers, got {type(bad).__name__}") from None


def wholes(value: Any) -> int | tuple[int, ...]:
    """A number, or several in a sequence, as Python integers: programs also give NumPy's, and tensors of one element.

    Raises:
        TypeError: no integers.
    """
    if type(value) is int:
        return value
    return tuple([operator.index(n) for n in value]) if hasattr(value, "__len__") and not hasattr(value, "dtype") else operator.index(value)
