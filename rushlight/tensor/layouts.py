"""The order in memory of tensors that are made like another one: its own, where it has no gaps (``torch.preserve_format``)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd.apply import value_of
from ..autograd.modes import no_grad
from ..compile.dtypes import DType
from .creation import empty, finish, full, ones, window, zeros
from .kinds import preserve_format
from .registry import public

__all__ = ["laid_out"]


def laid_out(input: Any, memory_format: Any, requires_grad: bool, make: Callable[[tuple[int, ...]], Any]) -> Any:
    """What ``make`` gives for the shape of ``input``, with the dimensions in the order that they have there.

    Memory is row-major, so another order is a view of a vector. (Results of computations keep to rows: for them that would be an
    operation more.)
    """
    meta = value_of(input).meta
    strides = None if meta.strides is None or memory_format not in (None, preserve_format) else _dense(meta.shape, meta.strides)
    if strides is None:
        return finish(make(meta.shape), requires_grad)
    with no_grad():
        made = window(make((meta.numel,)), meta.shape, strides, 0)
    return finish(made, requires_grad)


def _dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides without gaps for dimensions in the same order; None for elements that are seen several times, and for none."""
    if 0 in shape or any(s == 0 and n > 1 for s, n in zip(strides, shape)):
        return None
    dense, step = [1] * len(shape), 1
    for d in sorted(range(len(shape)), key=lambda d: (strides[d], shape[d] > 1, -d)):
        dense[d] = step
        step *= shape[d]
    return tuple(dense)


# -- filled -------------------------------------------------------------------------------------------------------


def _like(name: str, fill: Callable[..., Any]) -> None:
    def call(input: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
             memory_format: Any = None) -> Any:
        return laid_out(input, memory_format, requires_grad, lambda shape: fill(shape, dtype=dtype or input.dtype, device=device))
    call.__name__ = name
    call.__doc__ = f"``{fill.__name__}`` with the shape and dtype of ``input``."
    public(method=False, out=False)(call)


_like("zeros_like", zeros)
_like("ones_like", ones)


@public(method=False, out=False, recorded=False)
def empty_like(input: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
               memory_format: Any = None) -> Any:
    """A tensor of undefined content with the shape and dtype of ``input``."""
    return laid_out(input, memory_format, requires_grad, lambda shape: empty(shape, dtype=dtype or input.dtype, device=device))


@public(method=False, out=False)
def full_like(input: Any, fill_value: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None) -> Any:
    """One number, with the shape and dtype of ``input``."""
    return laid_out(input, memory_format, requires_grad, lambda shape: full(
        shape, fill_value, dtype=dtype or input.dtype, device=device))
