"""Parts of memory that is there already, read and written without recording: what loops over elements do.

``x[i, j]`` of a ready tensor is a view of a known place, for which nothing has to run; ``x[i, j] = 1.0`` is one store, if nothing that
has been recorded reads that memory; many parts are joined by copying them. Whatever is not so plain is None or False here, and goes the
full way.
"""
from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..autograd.given import PLAIN_TENSORS
from ..autograd.handle import Handle, How, lying, make, new_view, storage_of, whole_of
from ..autograd.writing import free_memory, wrote_part
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops.basic import full
from ..ops.views import select_of_unbind, slice_of_sizes, slice_of_split
from ..record.meta import Meta, is_contiguous, meta_of
from ..record.trace import Trace, local
from ..record.value import allocate, looks, new_value

__all__ = ["MANY", "Place", "all_of_ready", "cell", "joined", "part", "part_of_ready", "pieces_of_ready", "store_number"]

Place = tuple[tuple[int, ...], tuple[int, ...], int]

_CELLS: dict[DType, Any] = {dt.float32: ctypes.c_float, dt.float64: ctypes.c_double, dt.int64: ctypes.c_int64, dt.int32: ctypes.c_int32,
                            dt.bool_: ctypes.c_bool}
cell = _CELLS.get  # how one element in memory is read and written without making an array: a class of ctypes, or None
_LARGEST = 3e38  # of a float32, nearly
MANY = 8  # parts from which on joining them is no part of a path
_MOST, _NEAR = 1 << 16, 8  # elements of a constant that is filled at once, and how many operations ago it was recorded


def part(shape: tuple[int, ...], steps: tuple[int, ...], offset: int, key: Any) -> Place | None:
    """(shape, strides, offset) of what numbers and slices select of something that lies so; None for any other index, one that is out
    of range, and one that selects nothing."""
    parts = key if type(key) is tuple else (key,)
    rank = len(shape)
    dim, seen = 0, False
    lengths: list[int] = []
    strides: list[int] = []
    for p in parts:
        kind = type(p)
        if p is Ellipsis:
            rest = rank - len(parts) + 1
            if rest < 0 or seen:
                return None
            seen = True
            lengths += shape[dim:dim + rest]
            strides += steps[dim:dim + rest]
            dim += rest
            continue
        if dim == rank:
            return None
        n = shape[dim]
        if kind is int:
            if not -n <= p < n:
                return None
            offset += p % n * steps[dim]
        elif kind is slice:
            by = p.step
            if by is None and p.start is None and p.stop is None:
                if not n:
                    return None
                lengths.append(n)
                strides.append(steps[dim])
            elif by is None or type(by) is int and by > 0:
                start, stop, by = p.indices(n)
                if stop <= start:
                    return None
                lengths.append((stop - start + by - 1) // by)
                strides.append(steps[dim] * by)
                offset += start * steps[dim]
            else:
                return None
        else:
            return None
        dim += 1
    if dim < rank:
        lengths += shape[dim:]
        strides += steps[dim:]
    return tuple(lengths), tuple(strides), offset


def _lies(tr: Trace, t: Any) -> Place | None:
    """Where a tensor lies in ready memory; None if it does not, or if autograd has to know of its views."""
    alias, v = t._alias, t._value
    root = v if alias is None else alias.storage.value
    if root.buffer is None or tr.grad_enabled and t._edge is not None or not root.meta.numel or type(t) not in PLAIN_TENSORS:
        return None
    if root.meta.dtype is not v.meta.dtype:
        return None
    if alias is None:
        alias = storage_of(t)
    return alias._place or alias.place()  # type: ignore[no-any-return]


#: What views of a kind have in common: how they are made, shape, strides, and the step between the first dimension's positions.
_rows: dict[Any, tuple[How, tuple[int, ...], tuple[int, ...], int]] = {}
_stretches: dict[Any, tuple[How, tuple[int, ...], tuple[int, ...], int]] = {}
_MOST_KNOWN = 4096  # of each


def part_of_ready(tr: Trace, t: Any, key: Any) -> Any:
    """The view ``t[key]`` of ready memory, or None."""
    lies = _lies(tr, t)
    if lies is None:
        return None
    shape, strides, begin = lies
    meta, kind = t._value.meta, type(key)
    # For the two indices of loops over data, ``x[i]`` and ``x[i:i + n]``, what does not depend on ``i`` is remembered.
    if kind is int:
        if not shape or not -shape[0] <= key < shape[0]:
            return None
        name: Any = meta, strides
        how, lengths, steps, step = _rows.get(name) or _keep(_rows, name, meta, shape[1:], strides[1:], strides[0])
        offset = key % shape[0] * step
    elif kind is slice and shape and (key.step is None or type(key.step) is int and key.step > 0):
        start, stop, by = key.indices(shape[0])
        if stop <= start:
            return None
        name = meta, strides, stop - start, by
        how, lengths, steps, step = _stretches.get(name) or _keep(
            _stretches, name, meta, ((stop - start + by - 1) // by, *shape[1:]), (strides[0] * by, *strides[1:]), strides[0])
        offset = start * step
    else:
        place = part(shape, strides, 0, key)
        if place is None:
            return None
        lengths, steps, offset = place
        how = whole_of(meta_of(lengths, meta.dtype, meta.device, steps))
    return new_view(t, how.meta, how, tr.grad_enabled, (lengths, steps, begin + offset))


def _keep(known: dict[Any, Any], name: Any, meta: Meta, lengths: tuple[int, ...], steps: tuple[int, ...], step: int) -> Any:
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[name] = found = whole_of(meta_of(lengths, meta.dtype, meta.device, steps)), lengths, steps, step
    return found


def all_of_ready(tr: Trace, t: Any, dim: Any = 0) -> tuple[Any, ...] | None:
    """All positions along a dimension of ready memory, or None."""
    lies = _lies(tr, t) if isinstance(t, Handle) else None
    if lies is None:
        return None
    shape, steps, begin = lies
    if type(dim) is not int or not -len(shape) <= dim < len(shape):
        return None
    dim %= len(shape)
    grad, meta, step = tr.grad_enabled, t._value.meta, steps[dim]
    lengths, strides = (*shape[:dim], *shape[dim + 1:]), (*steps[:dim], *steps[dim + 1:])
    seen = meta_of(lengths, meta.dtype, meta.device, strides)
    how = How(select_of_unbind, (), seen)
    return tuple([new_view(t, seen, how, grad, (lengths, strides, begin + k * step)) for k in range(shape[dim])])


def pieces_of_ready(tr: Trace, t: Any, sizes: Any, dim: Any = 0) -> tuple[Any, ...] | None:
    """What ``split`` gives of ready memory, or None."""
    lies = _lies(tr, t) if isinstance(t, Handle) else None
    if lies is None or type(dim) is not int or not -len(lies[0]) <= dim < len(lies[0]):
        return None
    shape, strides, begin = lies
    if type(sizes) is not int:
        if type(sizes) is not list and type(sizes) is not tuple or any(type(s) is not int for s in sizes):
            return None
        sizes = tuple(sizes)
    found = _pieces(t._value.meta, shape, strides, sizes, dim % len(shape))
    if found is None:
        return None
    grad = tr.grad_enabled
    return tuple([new_view(t, how.meta, how, grad, (lengths, strides, begin + offset)) for how, lengths, offset in found])


@functools.lru_cache(1024)
def _pieces(meta: Meta, shape: tuple[int, ...], strides: tuple[int, ...], sizes: Any, dim: int) -> Any:
    """How the pieces are made, their shapes, and how far behind the begin each lies; None for sizes that do not fit, or of 0."""
    n, one = shape[dim], type(sizes) is int
    if one:
        sizes = [min(sizes, n - k) for k in range(0, n, sizes)] if sizes > 0 else []
    if not sizes or min(sizes) <= 0 or sum(sizes) != n:
        return None
    op = slice_of_split if one else slice_of_sizes
    found, at = [], 0
    for s in sizes:
        lengths = *shape[:dim], s, *shape[dim + 1:]
        found.append((How(op, (), meta_of(lengths, meta.dtype, meta.device, strides)), lengths, at * strides[dim]))
        at += s
    return found


def store_number(t: Any, key: Any, number: Any) -> bool:
    """Make a number, or a tensor's only one, the element ``t[key]`` of ready memory; False, and nothing done, if that is to be recorded."""
    meta = t._value.meta
    kind, dtype = type(number), meta.dtype
    if kind in PLAIN_TENSORS:
        given = number._value.meta
        if given.shape or given.dtype is not dtype or dtype not in _CELLS or number._edge is not None and local.trace.grad_enabled:
            return False
    elif kind is float:
        if dtype is not dt.float32 and dtype is not dt.float64 or not -_LARGEST < number < _LARGEST:
            return False  # to be checked or rounded, or infinite
    elif kind is int:
        if dtype not in _CELLS or dtype is dt.bool_ or not -1 << 24 <= number <= 1 << 24:
            return False
    elif kind is not bool or dtype is not dt.bool_:
        return False
    alias = t._alias
    if alias is None or alias.parent is None:
        shape, steps, offset = *lying(t._value if alias is None else alias.storage.value), 0
    elif alias.storage.value.meta.dtype is dtype:
        shape, steps, offset = alias.place()
    else:
        return False
    place = part(shape, steps, offset, key)
    if place is None or place[0] or type(t) not in PLAIN_TENSORS:
        return False
    if kind in PLAIN_TENSORS:
        number = number.item()
    buffer = free_memory(t)
    if buffer is None and _fill(t):
        buffer = free_memory(t)
    if buffer is None:
        return False
    _CELLS[dtype].from_address(buffer.ptr + place[2] * dtype.itemsize).value = number
    wrote_part(t, "copy_")
    return True


def _fill(t: Any) -> bool:
    """Put a small constant that has just been recorded (``torch.zeros``) into memory: what is then written number by number, like the
    letters of a word, is data, and records nothing. Whatever has read the constant keeps its value."""
    alias, tr = t._alias, local.trace
    root = t._value if alias is None else alias.storage.value
    meta = root.meta
    if root.epoch is not tr.epoch or root.buffer is not None or root.origin is not None or root.home is not None or tr.full:
        return False
    if not 0 < meta.numel <= _MOST or meta.dtype not in _CELLS:
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
    if alias is None:
        t._value = made
    else:
        alias.storage.value = made
        if alias.parent is None:
            t._value = made
    return True


def joined(tensors: Sequence[Any], dim: int, *, stacked: bool) -> Any:
    """Many pieces of ready memory one after the other, as ``cat`` or (``stacked``) ``stack`` has them, copied now; None if one of them
    is no such piece. Recorded, each would be an operand: which of a hundred remembered states a batch is drawn from, and which of them it
    has twice, would be another path in every step."""
    first = known = tensors[0]._value.meta if type(tensors[0]) in PLAIN_TENSORS else None
    if first is None or not first.numel or type(dim) is not int:
        return None
    shape, dtype = first.shape, first.dtype
    rank = len(shape) + stacked
    if not -rank <= dim < rank:
        return None
    dim %= rank
    before, behind = shape[:dim], shape[dim if stacked else dim + 1:]
    if math.prod(before) != 1:
        return None  # what is joined does not lie one after the other
    grad = local.trace.grad_enabled
    places, sizes = [], []
    for t in tensors:
        if type(t) not in PLAIN_TENSORS or grad and t._edge is not None:
            return None
        v, alias, offset = t._value, t._alias, 0
        meta = v.meta
        if meta is not known:
            if meta.dtype is not dtype or meta.device != first.device or len(meta.shape) != len(shape) or (
                    meta.shape != shape if stacked else meta.shape[:dim] != before or meta.shape[dim + 1:] != behind):
                return None
            known = meta
        if meta.strides is not None and not is_contiguous(meta.shape, meta.strides):
            return None
        if alias is not None:
            v = alias.storage.value
            if alias.parent is not None:
                offset = alias.place()[2]
                if v.meta.dtype is not dtype:
                    return None
        buffer = v.buffer
        if buffer is None:
            return None
        if buffer.flight is not None:
            buffer.flight.settle(buffer)
        places.append(buffer.ptr + offset * dtype.itemsize)
        sizes.append(meta.nbytes)
    looks.count += 1  # what has been read is no part of the path
    length = len(tensors) if stacked else sum(sizes) // (dtype.itemsize * math.prod(behind))
    made = new_value(meta_of((*before, length, *behind), dtype, first.device))
    made.buffer = allocate(made.meta.nbytes)
    deque(map(ctypes.memmove, itertools.accumulate(sizes[:-1], initial=made.buffer.ptr), places, sizes), 0)
    return make(made)
