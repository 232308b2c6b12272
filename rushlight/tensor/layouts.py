"""The order in memory of tensors that are made like another one: its own, where it has no gaps (``torch.preserve_format``)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd.apply import value_of
from ..autograd.handle import make as tensor_of
from ..autograd.modes import no_grad
from ..compile.dtypes import DType
from ..ops.layouts import in_order, in_order_meta, preserved
from ..ops.views import inverse
from ..record.meta import Meta, meta_of
from ..record.value import new_value
from .creation import beside, empty, finish, full, ones, zeros
from .kinds import preserve_format
from .registry import public

__all__ = ["laid_out"]


def laid_out(input: Any, memory_format: Any, requires_grad: bool, make: Callable[[tuple[int, ...]], Any]) -> Any:
    """What ``make`` gives for the shape of ``input``, in memory that is filled in the same order, or as ``memory_format`` says."""
    meta = value_of(input).meta
    if memory_format in (None, preserve_format):
        like = preserved(meta)
    else:
        like = in_order_meta(meta, memory_format.order(len(meta.shape)))
    if like.order is None:
        return finish(make(meta.shape), requires_grad)
    with no_grad():
        return finish(filled_by(make((meta.numel,)), like), requires_grad)


def filled_by(content: Any, like: Meta) -> Any:
    """A vector that nobody else holds, as the memory of a tensor that lies as ``like`` says."""
    memory = content._value
    assert like.order is not None
    if memory.buffer is None:
        return in_order(content.view(like.memory).permute(inverse(like.order)), attrs=(like.order,))
    v = new_value(meta_of(like.shape, memory.meta.dtype, memory.meta.device, like.strides))
    v.buffer = memory.buffer
    return tensor_of(v)


# -- filled -------------------------------------------------------------------------------------------------------


def _like(name: str, fill: Callable[..., Any]) -> None:
    def call(input: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
             memory_format: Any = None) -> Any:
        return laid_out(input, memory_format, requires_grad, lambda shape: fill(
            shape, dtype=dtype or input.dtype, device=beside(input, device)))
    call.__name__ = name
    call.__doc__ = f"``{fill.__name__}`` with the shape and dtype of ``input``."
    public(method=False, out=False)(call)


_like("zeros_like", zeros)
_like("ones_like", ones)


@public(method=False, out=False, recorded=False)
def empty_like(input: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
               memory_format: Any = None) -> Any:
    """A tensor of undefined content with the shape and dtype of ``input``."""
    return laid_out(input, memory_format, requires_grad, lambda shape: empty(
        shape, dtype=dtype or input.dtype, device=beside(input, device)))


@public(method=False, out=False)
def full_like(input: Any, fill_value: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None) -> Any:
    """One number, with the shape and dtype of ``input``."""
    return laid_out(input, memory_format, requires_grad, lambda shape: full(
        shape, fill_value, dtype=dtype or input.dtype, device=beside(input, device)))
