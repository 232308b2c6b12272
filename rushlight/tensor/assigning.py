"""Assignment: ``x[index] = value``, ``copy_``, ``fill_``, ``zero_``."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd.apply import apply, value_of
from ..autograd.handle import Handle
from ..autograd.quick import POSITION, quick
from ..autograd.titles import entitle_written, now, titled
from ..autograd.writing import check_overlap, check_writable, write
from ..ops import arithmetic as ar
from ..ops import views
from ..ops.basic import filled, update_view
from ..ops.pointwise import tag
from ..record.meta import CPU
from ..record.trace import local
from .casting import moved
from .creation import array_from, from_array, no_memory, number_like
from .index_key import basic, converts
from .indexing import _alias, _expanded, _fit
from .parts import Place, part
from .registry import FUNCTIONS, METHODS, assign, public
from .repeated import put_at
from .scalars import check_number
from .storing import inner_shape, store_now

__all__: list[str] = []


def _setitem(self: Any, key: Any, value: Any) -> None:
    if store_now(self, key, value):
        return
    place = _pending_place(self, key)
    t, tensors = basic(self, key) if place is None else (self, None)
    if local.trace.grad_enabled:
        check_writable(self)
    if not isinstance(value, Handle):
        value = from_array(array_from(value, None)) if isinstance(value, np.ndarray) else number_like(value, self.dtype)
    elif value.dtype is not self.dtype and tensors is not None and not converts(key, value.numel()):
        raise RuntimeError(f"Index put requires the source and destination dtypes match, got {self.dtype} for the destination and "
                           f"{value.dtype} for the source.")
    elif (value._alias is not None or value is self) and (tensors is None or not converts(key, value.numel())):
        # What is spread is read once and for all before: ``x[:] = x[0]``.
        if tensors is not None or inner_shape(value.shape) == inner_shape(t.shape if place is None else place[0]):
            check_overlap(t, value, tensors is not None, place)
    if value.dtype is not self.dtype:
        value = value.to(self.dtype)
    if place is not None:
        _put(self, value, *place)
        return
    if tensors is None:
        _store(t if t is not self else _alias(self, True), value)
        return
    put_at(t, tensors, value)


def _pending_place(t: Any, key: Any) -> Place | None:
    """The place of what numbers and slices select of a result that has not been computed yet; None for any other index, and any other
    tensor."""
    v = value_of(t)
    if v.buffer is not None or v.origin is not None or t._alias is not None and t._alias.parent is not None:
        return None
    return part(v.meta.shape, v.meta.rows, 0, key)


def _put(self: Any, value: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Any:
    """Write a part of a whole: one operation, without a view of the part."""
    whole = apply(update_view, (shape, strides, offset), (self, _fit(value, shape)), hold=True)
    return write(self, whole, "copy_slices", update_view)


_put = quick(_put, POSITION)


def _store(view: Any, value: Any) -> None:
    value = _fit(value, tuple(view.shape))
    assign(view, value.clone() if value._alias is None else value.contiguous().clone(), "copy_")


METHODS["__setitem__"] = _setitem


def _copy(self: Any, src: Any, non_blocking: bool = False) -> Any:
    """Take over the content of ``src``, broadcast and converted."""
    if isinstance(src, (int, float, complex)):
        return self.fill_(src)  # type: ignore[attr-defined]
    if not isinstance(src, Handle):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
    check_overlap(self, src)
    value = src.to(self.dtype) if src.dtype is not self.dtype else src
    here, there = (value_of(t).meta.device for t in (self, src))
    if here is not there:
        value = moved(value, here)
    return assign(self, _expanded(value, tuple(self.shape)).clone(), "copy_")


METHODS["copy_"] = _copy


def _fill(self: Any, value: Any) -> Any:
    """Set every element to ``value``."""
    if isinstance(value, Handle):
        if value.dim():
            raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.dim()} dimensions.")
        if self._edge is not None:
            return assign(self, ar.fill(self, value.to(self.dtype)), "fill_")
        return assign(self, views.expand(value.to(self.dtype), tuple(self.shape)).clone(), "fill_")
    check_number(value, self.dtype, "fill_")
    if self.dtype.kind in "bui" and isinstance(value, float):
        value = int(value)
    if self._edge is not None:
        return assign(self, ar.fill(self, value), "fill_")
    if self._value.meta.device is not CPU:
        return assign(self, no_memory(self.shape, self.dtype), "fill_")
    return assign(self, filled(tuple(self.shape), tag(value), self.dtype), "fill_")


def _titled(title: Callable[..., str], write: Callable[..., Any]) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        begun = now()
        write(self, *args, **kwargs)
        entitle_written(self, title(*args, **kwargs), begun)
        return self
    return functools.wraps(write)(call)


METHODS["fill_"] = _titled(lambda value: f"FillBackward{3 if isinstance(value, Handle) else 2}", _fill)
METHODS["zero_"] = _titled(lambda: "ZeroBackward0", lambda self: _fill(self, 0))


@public(method=False, out=False)
@titled(lambda input, value: f"FillBackward{int(isinstance(value, Handle))}")
def fill(input: Any, value: Any) -> Any:
    """A tensor of the shape and dtype of ``input`` filled with ``value``."""
    return input.clone().fill_(value)


METHODS["fill"] = fill
FUNCTIONS["fill_"], FUNCTIONS["zero_"] = METHODS["fill_"], METHODS["zero_"]
