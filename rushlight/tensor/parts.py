"""Parts of memory that is there already, read and written without recording: what loops over elements do.

``x[i, j]`` of a ready tensor is a view of a known place, for which nothing has to run; ``x[i, j] = 1.0`` is one store, if nothing that
has been recorded reads that memory; many parts are joined by copying them. Whatever is not so plain is None or False here, and goes the
full way.
"""
from __future__ import annotations

import ctypes
import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..autograd import handle
from ..autograd.given import PLAIN_TENSORS
from ..autograd.handle import Handle, How, View, lying, make, part_at, storage_of, whole_of
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


def _lies(tr: Trace, t: Any) -> Any:
    """The alias of a tensor in ready memory, whose ``_place`` is known; None if it is not there, or autograd has to know of its views."""
    alias, v = t._alias, t._value
    root = v if alias is None else alias.storage.value
    if root.buffer is None or t._edge is not None and tr.grad_enabled or not root.meta.numel or type(t) not in PLAIN_TENSORS:
        return None
    if root.meta.dtype is not v.meta.dtype:
        return None
    if alias is None:
        alias = storage_of(t)
    if alias._place is None:
        alias.place()
    return alias


#: Of one meta. What is remembered of its views does not depend on positions, so few programs have as many.
_MOST_KNOWN = 256


def _keep(meta: Meta, name: Any, found: Any) -> Any:
    """Remember what views of something of a meta have in common. Names begin with the strides, which a meta does not tell alone."""
    known = meta.parts
    if known is None or len(known) >= _MOST_KNOWN:
        known = meta.parts = {}
    known[name] = found
    return found


def _like(meta: Meta, lengths: tuple[int, ...], steps: tuple[int, ...]) -> tuple[Meta, How]:
    """The meta of such a part, and how it is made."""
    seen = meta_of(lengths, meta.dtype, meta.device, steps)
    return seen, whole_of(seen)


def part_of_ready(tr: Trace, t: Any, key: Any) -> Any:
    """The view ``t[key]`` of ready memory, or None."""
    alias = t._alias
    meta = t._value.meta
    if alias is None or alias._place is None or t._edge is not None:
        alias = _lies(tr, t)
        if alias is None:
            return None
        storage = alias.storage
    else:  # ``_lies``, and below ``part_at``, written out: loops over data do nothing as often
        storage = alias.storage
        of = storage.value
        if of.buffer is None or of.meta.dtype is not meta.dtype or type(t) not in PLAIN_TENSORS or not meta.numel:
            return None
    shape, strides, begin = alias._place
    known = meta.parts or {}
    kind = type(key)
    if kind is int:  # the two indices of loops over data come first: ``x[i]`` and ``x[i:i + n]``
        if not shape or key >= shape[0]:
            return None
        if key < 0:
            key += shape[0]
            if key < 0:
                return None
        seen, how, lengths, steps, step = known.get(strides) or _keep(
            meta, strides, (*_like(meta, shape[1:], strides[1:]), shape[1:], strides[1:], strides[0]))
        begin += key * step
    elif kind is slice and shape:
        start, stop, by = key.start, key.stop, key.step
        if by is not None or type(start) is not int or type(stop) is not int or not 0 <= start < stop <= shape[0]:
            if by is not None and (type(by) is not int or by <= 0):
                return None
            start, stop, by = key.indices(shape[0])
            if stop <= start:
                return None
        name: Any = strides, stop - start, by
        found = known.get(name)
        if found is None:
            by = by or 1
            lengths, steps = ((stop - start + by - 1) // by, *shape[1:]), (strides[0] * by, *strides[1:])
            found = _keep(meta, name, (*_like(meta, lengths, steps), lengths, steps, strides[0]))
        seen, how, lengths, steps, step = found
        begin += start * step
    else:
        parts = key if kind is tuple else (key,)
        name = _form(strides, parts)
        found = None if name is None else known.get(name) or _formed(meta, shape, strides, parts, name)
        if found is None:
            return None
        seen, how, lengths, steps, offset, numbers = found
        begin += offset
        for k, n, step in numbers:
            i = parts[k]
            if not -n <= i < n:
                return None
            begin += (i if i >= 0 else i + n) * step
    v: Any = View()
    v.buffer = v.home = v.overwritten = v.epoch = None
    v.slot = -1
    v.meta = seen
    v.storage = storage
    v.origin = storage.value
    v.version = storage.version
    v.base = None if not tr.grad_enabled else t if alias.base is None else alias.base
    v.parent = alias
    v.how = how
    v._place = lengths, steps, begin
    out = next(handle.blanks)
    out._value = out._alias = v
    out._writes = 0
    out._edge = out._grad = out._more = None
    return out


_SIMPLE = frozenset((int, type(None)))


def _form(strides: tuple[int, ...], parts: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The name of an index of numbers and slices, the same for all numbers; None for any other index."""
    form: list[Any] = [strides]
    for p in parts:
        kind = type(p)
        if kind is int:
            form.append(kind)
        elif kind is slice:
            bounds = start, stop, by = p.start, p.stop, p.step
            if type(start) not in _SIMPLE or type(stop) not in _SIMPLE or type(by) not in _SIMPLE:  # 1.0, which equals 1, is an error
                return None
            form.append(bounds)
        elif p is Ellipsis:
            form.append(p)
        else:
            return None
    return tuple(form)


def _formed(meta: Meta, shape: tuple[int, ...], strides: tuple[int, ...], parts: tuple[Any, ...], name: Any) -> Any:
    """What indices of a form have in common: how views are made, shape, strides, where the view for the numbers 0 begins, and for each
    number where in the index it stands, the length of its dimension, and the step between positions. None for what ``part`` does not
    know."""
    place = part(shape, strides, 0, tuple([0 if type(p) is int else p for p in parts]))
    if place is None:
        return None
    numbers, dim = [], 0
    for k, p in enumerate(parts):
        if p is Ellipsis:
            dim += len(shape) - len(parts) + 1
            continue
        if type(p) is int:
            numbers.append((k, shape[dim], strides[dim]))
        dim += 1
    return _keep(meta, name, (*_like(meta, *place[:2]), *place, tuple(numbers)))


def all_of_ready(tr: Trace, t: Any, dim: Any = 0) -> tuple[Any, ...] | None:
    """All positions along a dimension of ready memory, or None."""
    alias = _lies(tr, t) if isinstance(t, Handle) else None
    if alias is None:
        return None
    shape, steps, begin = alias._place
    if type(dim) is not int or not -len(shape) <= dim < len(shape):
        return None
    dim %= len(shape)
    meta, step = t._value.meta, steps[dim]
    lengths, strides = (*shape[:dim], *shape[dim + 1:]), (*steps[:dim], *steps[dim + 1:])
    seen = meta_of(lengths, meta.dtype, meta.device, strides)
    how = How(select_of_unbind, (), seen)
    base = None if not tr.grad_enabled else t if alias.base is None else alias.base
    return tuple([part_at(alias, seen, how, base, (lengths, strides, begin + k * step)) for k in range(shape[dim])])


def pieces_of_ready(tr: Trace, t: Any, sizes: Any, dim: Any = 0) -> tuple[Any, ...] | None:
    """What ``split`` gives of ready memory, or None."""
    alias = _lies(tr, t) if isinstance(t, Handle) else None
    if alias is None or type(dim) is not int:
        return None
    shape, strides, begin = alias._place
    if not -len(shape) <= dim < len(shape):
        return None
    if type(sizes) is not int:
        if type(sizes) is not list and type(sizes) is not tuple or any(type(s) is not int for s in sizes):
            return None
        sizes = tuple(sizes)
    meta = t._value.meta
    name = strides, "split", sizes, dim
    found = (meta.parts or {}).get(name)
    if found is None:
        found = _keep(meta, name, _pieces(meta, shape, strides, sizes, dim % len(shape)))
    if not found:
        return None
    base = None if not tr.grad_enabled else t if alias.base is None else alias.base
    pieces = []
    for seen, how, lengths, offset in found:
        pieces.append(part_at(alias, seen, how, base, (lengths, strides, begin + offset)))
    return tuple(pieces)


def _pieces(meta: Meta, shape: tuple[int, ...], strides: tuple[int, ...], sizes: Any, dim: int) -> Any:
    """The metas of the pieces, how they are made, their shapes, and how far behind the begin each lies; none for sizes that do not fit, or
    of 0."""
    n, one = shape[dim], type(sizes) is int
    if one:
        sizes = [min(sizes, n - k) for k in range(0, n, sizes)] if sizes > 0 else []
    if not sizes or min(sizes) <= 0 or sum(sizes) != n:
        return ()
    op = slice_of_split if one else slice_of_sizes
    found, at = [], 0
    for s in sizes:
        lengths = *shape[:dim], s, *shape[dim + 1:]
        seen = meta_of(lengths, meta.dtype, meta.device, strides)
        found.append((seen, How(op, (), seen), lengths, at * strides[dim]))
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
