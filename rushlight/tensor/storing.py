"""Writes into memory that is there already, made by the host without recording: what loops over elements and rows of data do.

``x[i, j] = 1.0`` is one store, ``batch[k, :n] = sentence`` one copy, if nothing that has been recorded reads that memory and what is
written is there. A batch that is padded, a mask, the transitions that an agent remembers are data: recorded, each place would be part of
the path of its own. Whatever is not so plain is False here, and goes the full way.
"""
from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from ..autograd.given import PLAIN_TENSORS
from ..autograd.handle import lying
from ..autograd.writing import free_memory, is_unrecorded, wrote_part
from ..compile import dtypes as dt
from ..ops.basic import full
from ..record.flush import flush_trace, ready
from ..record.meta import is_contiguous
from ..record.trace import local
from ..record.value import allocate, new_value
from .parts import Place, cell, part

__all__ = ["MOST_AT_ONCE", "inner_shape", "store_now"]

_LARGEST = 3e38  # of a float32, nearly
_CONVERTED = {("b", "i"), ("b", "f"), ("i", "i"), ("i", "f"), ("f", "f")}  # kinds
MOST_AT_ONCE = 1 << 16  # elements that are written, or chosen, without recording
_NEAR = 8  # how many operations ago a constant was recorded that becomes memory


def store_now(t: Any, key: Any, value: Any) -> bool:
    """Write a number or a tensor's elements to ``t[key]`` in ready memory; False, and nothing done, if that is to be recorded."""
    if type(t) not in PLAIN_TENSORS:
        return False
    dtype = t._value.meta.dtype
    is_tensor = type(value) in PLAIN_TENSORS
    if is_tensor:
        given = value._value.meta
        if not _becomes(given.dtype, dtype) or value._edge is not None and local.trace.grad_enabled:
            return False  # to be checked or rounded, or its history is to be handed on
    elif isinstance(value, np.generic):
        value = value.item()
    if not is_tensor and not _fits(value, dtype):
        return False
    alias = t._alias
    root = t._value if alias is None else alias.storage.value
    if alias is None or alias.parent is None:
        shape, steps, offset = *lying(root), 0
    elif root.meta.dtype is dtype:
        shape, steps, offset = alias.place()
    else:
        return False
    if type(key) in PLAIN_TENSORS:
        return _store_where_true(t, key, value, (shape, steps, offset))
    place = part(shape, steps, offset, key)
    if place is None:
        return False
    lengths = place[0]
    if lengths and math.prod(lengths) > MOST_AT_ONCE:
        return False
    if is_tensor:
        if given.shape and not (inner_shape(given.shape) in ((), inner_shape(lengths)) and _is_ready(value, root, t)):
            return False
        if given.numel == 1:  # without dimensions, worth waiting for
            value, is_tensor = value.item(), False
            if not _fits(value, dtype):
                return False
    buffer = free_memory(t)
    if buffer is None and _fill(t):
        buffer = free_memory(t)
    if buffer is None or is_tensor and not _copy(value, buffer, place, dtype):
        return False
    if not is_tensor:
        if lengths:
            _array(buffer, dtype, place).fill(value)
        else:
            element: Any = cell(dtype)
            element.from_address(buffer.ptr + place[2] * dtype.itemsize).value = value
    wrote_part(t, "copy_")
    return True


def _store_where_true(t: Any, mask: Any, value: Any, place: Place) -> bool:
    """``store_now`` where a mask of the tensor's shape says so, which has been computed; as many elements as it has ones, or a number."""
    given, shape = mask._value.meta, place[0]
    if given.dtype is not dt.bool_ or given.shape != shape or not shape or given.numel > MOST_AT_ONCE or _root(mask).buffer is None:
        return False
    root, chosen = _root(t), mask.detach()._array()
    is_tensor = type(value) in PLAIN_TENSORS
    if is_tensor and (value._value.meta.dtype is not t._value.meta.dtype or value._value.meta.shape != (np.count_nonzero(chosen),)
                      or not _is_ready(value, root, t)):
        return False
    buffer = free_memory(t)
    if buffer is None or is_tensor and _root(value).buffer is buffer or _root(mask).buffer is buffer:
        return False
    into = _array(buffer, t._value.meta.dtype, place)
    with np.errstate(over="ignore"):
        into[chosen] = value.detach()._array() if is_tensor else value
    wrote_part(t, "index_put_")
    return True


def _fits(number: Any, dtype: Any) -> bool:
    """Whether a number becomes an element as it is, or rounded to float32."""
    kind = type(number)
    if kind is float:
        return dtype is dt.float64 or dtype is dt.float32 and (-_LARGEST < number < _LARGEST or number - number != 0)  # or no finite one
    if kind is int:
        return cell(dtype) is not None and dtype is not dt.bool_ and -1 << 24 <= number <= 1 << 24
    return kind is bool and cell(dtype) is not None


def _becomes(given: Any, dtype: Any) -> bool:
    """Whether elements of a dtype become those of another as NumPy converts them."""
    if given is dtype:
        return cell(dtype) is not None
    return cell(given) is not None and cell(dtype) is not None and (given.kind, dtype.kind) in _CONVERTED


def inner_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without dimensions of length 1 in front."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _root(t: Any) -> Any:
    """The value in whose memory a tensor lies."""
    return t._value if t._alias is None else t._alias.storage.value


def _is_ready(given: Any, into: Any, t: Any) -> bool:
    """Whether a tensor's elements are in memory. What is written to memory that is ready is computed for that: the place, which tends to
    change from step to step, is then no part of a path."""
    root = _root(given)
    if root.meta.dtype is not given._value.meta.dtype:
        return False
    if root.buffer is None:
        if into.buffer is None or root.origin is not None or t._edge is not None and local.trace.grad_enabled:
            return False
        flush_trace(local.trace)
        root = _root(given)
        ready(root)
    return True


def _copy(given: Any, buffer: Any, place: Place, dtype: Any) -> bool:
    """Write a tensor's elements as some of a dtype; False if they may lie where they are written."""
    alias, meta, root = given._alias, given._value.meta, _root(given)
    source = root.buffer
    if source is buffer:
        return False
    shape, steps, offset = (*lying(root), 0) if alias is None or alias.parent is None else alias.place()
    if meta.strides is None and dtype is meta.dtype and is_contiguous(place[0], place[1]):
        if source.flight is not None:
            source.flight.settle(source)
        size = meta.dtype.itemsize
        ctypes.memmove(buffer.ptr + place[2] * size, source.ptr + offset * size, meta.numel * size)
    else:
        with np.errstate(over="ignore"):
            np.copyto(_array(buffer, dtype, place), _array(source, meta.dtype, (shape, steps, offset)).reshape(place[0]), "same_kind")
    return True


def _array(buffer: Any, dtype: Any, place: Place) -> Any:
    """A part of memory as a NumPy array."""
    shape, steps, offset = place
    size = dtype.itemsize
    return buffer.array(dtype.numpy, shape, tuple([s * size for s in steps]), offset * size)


def _fill(t: Any) -> bool:
    """Put a small constant that has just been recorded (``torch.zeros``) into memory: what is then written number by number, like the
    letters of a word, is data, and records nothing. What has been recorded reads the constant; tensors that hold it find it overwritten."""
    alias, tr = t._alias, local.trace
    root = t._value if alias is None else alias.storage.value
    meta = root.meta
    if root.epoch is not tr.epoch or root.buffer is not None or root.origin is not None or root.home is not None or tr.full:
        return False
    if not is_unrecorded(t):
        return False
    if not 0 < meta.numel <= MOST_AT_ONCE or cell(meta.dtype) is None:
        return False
    node = tr.node
    for _ in range(_NEAR):
        if node.slot <= root.slot or node.parent is None:
            break
        node = node.parent
    if node.op is not full or node.slot != root.slot:
        return False
    made = new_value(meta)
    made.buffer = allocate(meta.nbytes)
    made.buffer.array(meta.dtype.numpy, meta.memory).fill(node.attrs[1][0])
    root.overwritten = ("copy_", None)  # what follows is a write: versions tell it to views, this to others that hold the constant
    if alias is None:
        t._value = made
    else:
        alias.storage.value = made
        if alias.parent is None:
            t._value = made
    return True
