"""Parts of memory that is there already: where they lie, and many of them joined without recording.

``x[i, j]`` of a ready tensor is a view of a known place (``cuts.py``), for which nothing has to run; ``x[i, j] = 1.0`` is one store
(``storing.py``), if nothing that has been recorded reads that memory; many parts are joined by copying them. Whatever is not so plain is
None here, and goes the full way.
"""
from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from ..autograd.given import PLAIN_TENSORS
from ..autograd.handle import make
from ..compile import dtypes as dt
from ..compile.cpu.joining import join
from ..compile.dtypes import DType
from ..record.meta import is_contiguous, meta_of
from ..record.trace import local
from ..record.value import allocate, looks, new_value

__all__ = ["MANY", "Place", "cell", "joined", "part"]

Place = tuple[tuple[int, ...], tuple[int, ...], int]

_CELLS: dict[DType, Any] = {dt.float32: ctypes.c_float, dt.float64: ctypes.c_double, dt.int64: ctypes.c_int64, dt.int32: ctypes.c_int32,
                            dt.bool_: ctypes.c_bool}
cell = _CELLS.get  # how one element in memory is read and written without making an array: a class of ctypes, or None
MANY = 8  # parts from which on joining them is no part of a path


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
                offset = (alias._place or alias.place())[2]
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
    join(made.buffer.ptr, places, sizes)
    return make(made)
