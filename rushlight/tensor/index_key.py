"""What stands between the brackets of an index: its parts, of which slices, numbers and None become views."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd.apply import value_of
from ..autograd.handle import Handle
from ..compile import dtypes as dt
from ..ops import views
from ..record.trace import local
from ..record.warn import warn
from .creation import array_from, from_array

__all__ = ["basic", "check_positions", "converts", "selected", "sliced"]

_ALL = slice(None)  # of the dimensions that an index does not name
_BOOLS = (bool, np.bool_)
_STILL_A_TUPLE = 32  # a list of at least so many parts is one index, whatever it holds: PyTorch's rule, which was NumPy's


def _is_number(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) or hasattr(x, "__index__") and not isinstance(x, (Handle, np.ndarray))


def _is_sequence(x: Any) -> bool:
    return isinstance(x, (Sequence, np.ndarray))


def _is_mask(index: Any) -> bool:
    if isinstance(index, np.ndarray):
        return index.dtype.char in "?B"
    return index.dtype.kind == "b" or index.dtype is dt.uint8


def _parts(key: Any) -> list[Any]:
    """A tuple's parts; a short list that holds lists, tensors, slices, None or ... counts as a tuple, too."""
    if isinstance(key, tuple):
        return list(key)
    if isinstance(key, Sequence) and not isinstance(key, (str, bytes, memoryview)) and len(key) < _STILL_A_TUPLE:
        if any(p is None or p is Ellipsis or isinstance(p, (Handle, slice)) or _is_sequence(p) for p in key):
            warn("Using a non-tuple sequence for multidimensional indexing is deprecated, as in PyTorch: x[seq] is read as x[tuple(seq)] "
                 "here. Write that, or x[torch.tensor(seq)] where positions along the first dimension are meant.")
            return list(key)
    return [key]


def _as_index(x: Any) -> Any:
    """A part of an index that is neither number, slice, None nor ...: a tensor as it is, what Python knows as an array."""
    if isinstance(x, Handle):
        if x.dtype.kind not in "bui":
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        return x
    if isinstance(x, np.ndarray):
        array = x
    elif isinstance(x, (str, bytes)):
        raise TypeError(f"new(): invalid data type '{type(x).__name__}'")
    elif isinstance(x, Sequence):
        array = array_from(x if isinstance(x, (list, tuple)) else list(x), None)
        array = array.astype(np.int64) if array.size == 0 else array
    else:
        kind = type(x).__name__ if type(x).__module__ == "builtins" else f"{type(x).__module__}.{type(x).__name__}"
        raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                         f"(got {kind})")
    return array if array.dtype.kind in "bui" else array.astype(np.int64)


def _normalised(self: Any, key: Any) -> list[Any]:
    """The parts of an index, sequences as arrays, with the ellipsis spelled out as slices."""
    parts = [p if p is None or p is Ellipsis or isinstance(p, (slice, *_BOOLS)) or _is_number(p) else _as_index(p) for p in _parts(key)]
    used = 0
    for p in parts:
        if p is None or p is Ellipsis or isinstance(p, _BOOLS):
            continue
        used += len(p.shape) if isinstance(p, (Handle, np.ndarray)) and _is_mask(p) else 1
    n = len(value_of(self).meta.shape)
    if used > n:
        if n == 0 and _is_number(key):
            raise IndexError("invalid index of a 0-dim tensor: `tensor.item()` gives its number")
        if n == 0 and isinstance(key, slice):
            raise IndexError("slice() cannot be applied to a 0-dim tensor.")
        raise IndexError(f"too many indices for tensor of dimension {n}")
    ellipses = sum(p is Ellipsis for p in parts)
    if ellipses > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    rest = [_ALL] * (n - used)
    if ellipses:
        at = next(k for k, p in enumerate(parts) if p is Ellipsis)
        return parts[:at] + rest + parts[at + 1:]
    return parts + rest


def converts(key: Any, elements: int) -> bool:
    """Whether an assignment of so many elements through an index converts their dtype: one number goes where masks say so, and
    positions that are tensors without dimensions are positions."""
    parts = [_as_index(p) for p in _parts(key) if isinstance(p, Handle) or _is_sequence(p)]
    counted = [_is_mask(p) for p in parts if p.shape or _is_mask(p)]
    return not counted or all(counted) and elements == 1


def basic(self: Any, key: Any, reads: bool = False) -> tuple[Any, list[Any] | None]:
    """Apply slices, numbers and None as views: (view, index tensors for each dimension of it, or None). With ``reads`` a tensor that is
    one number is read, so that what it picks is a view; a write through it needs no look, and one that ``vmap`` maps over is not looked at:
    it is another number in each sample."""
    reads = reads and not local.trace.mapping
    t, dim, gone = self, 0, 0
    tensors: list[Any] = []
    advanced = False
    for p in _normalised(self, key):
        if reads and isinstance(p, (Handle, np.ndarray)) and not p.shape and not _is_mask(p):
            p = p.item()
        elif isinstance(p, np.ndarray):
            if not _is_mask(p) and (t.numel() or not t.shape[dim]):  # there is something to be read, or no position at all
                check_positions(p, t.shape[dim], dim + gone)
            p = from_array(p)
        if p is None:
            t = views.unsqueeze(t, dim)
            tensors.append(None)
            dim += 1
        elif isinstance(p, slice):
            if p is not _ALL:
                t = sliced(t, dim, p)
            tensors.append(None)
            dim += 1
        elif isinstance(p, _BOOLS):
            t = views.unsqueeze(t, dim)
            tensors.append(from_array(np.array([0] if p else [], np.int64)))
            dim, advanced = dim + 1, True
        elif not isinstance(p, Handle):
            t = selected(t, dim, p.__index__(), dim + gone)
            gone += 1
        elif _is_mask(p):
            advanced = True
            if p.dtype is dt.uint8:
                warn("indexing with dtype torch.uint8 is deprecated, as in PyTorch: please use a dtype torch.bool instead")
            for d, n in enumerate(p.shape):
                if n != t.shape[dim + d]:
                    raise IndexError(f"The shape of the mask {list(p.shape)} at index {d} does not match the shape of the indexed "
                                     f"tensor {list(t.shape)} at index {dim + d}")
            if not p.shape:
                t = views.unsqueeze(t, dim)
                tensors.append(p.reshape((1,)).nonzero().reshape((-1,)))
                dim += 1
                continue
            if reads and len(p.shape) > 1 and t.is_contiguous():  # positions in one dimension are found, and read, in a third of the time
                t = t.reshape((*t.shape[:dim], p.numel(), *t.shape[dim + len(p.shape):]))
                p = p.reshape((-1,))
            found = p.nonzero()
            tensors += [views.select(found, 1, d) for d in range(len(p.shape))]
            dim += len(p.shape)
        else:
            advanced = True
            tensors.append(p)
            dim += 1
    return t, tensors if advanced else None


def check_positions(positions: Any, n: int, named: int) -> None:
    """Refuse positions that Python knows and a dimension of length ``n`` lacks; those of tensors are checked where they are used."""
    if positions.size:
        for at in (int(positions.min()), int(positions.max())):
            if not -n <= at < n:
                raise IndexError(f"index {at} is out of bounds for dimension {named} with size {n}")


def selected(t: Any, dim: int, at: int, named: int) -> Any:
    """One position of a dimension, which was number ``named`` of the tensor that the user indexed."""
    n = t._value.meta.shape[dim]
    if not -n <= at < n:
        raise IndexError(f"index {at} is out of bounds for dimension {named} with size {n}")
    return views.select(t, dim, at % n)


def sliced(t: Any, dim: int, s: slice) -> Any:
    n = t._value.meta.shape[dim]
    start, stop, step = s.indices(n)
    if step < 1:
        raise ValueError("step must be greater than zero")
    if start == 0 and stop == n and step == 1:
        return t
    return views.slice_(t, dim, start, max(start, stop), step)
