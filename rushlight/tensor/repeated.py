"""Writes into expanded tensors that PyTorch lets go, with a warning: memory that several positions show gets the last of what they get."""
from __future__ import annotations

import functools
from typing import Any

from ..autograd.apply import value_of
from ..compile import dtypes as dt
from ..ops import indexing as ix
from ..ops import views
from ..ops.structured import wrap_dim
from ..record.warn import warn
from .index_key import basic, check_positions
from .indexing import _expanded, _fit, _plan
from .registry import FUNCTIONS, METHODS, assign

__all__ = ["put_at"]


def put_at(t: Any, tensors: list[Any], values: Any, combine: str | None = None) -> None:
    """Write ``values`` into ``t`` at the positions that ``tensors`` (None: all positions of that dimension) select, or add them there."""
    t, many = _once(t, "index_put_", "tensor[indices] = tensor")
    for d, n in many.items():
        if tensors[d] is not None:
            tensors[d] = _first(tensors[d], n, d)
    t2, indices, first = _plan(t, tensors)
    shape = (*t2.shape[:first], *indices[0].shape, *t2.shape[first + len(indices):])
    if many:
        rest = [d for d, i in enumerate(tensors) if i is None]
        wide = {k if k < first else k + len(indices[0].shape): many[d] for k, d in enumerate(rest) if d in many}
        values = _fit(values, tuple(n * wide.get(k, 1) for k, n in enumerate(shape)))
        for k, n in wide.items():
            values = values.sum(k, True) if combine else views.slice_(values, k, n - 1, n, 1)
    assign(t2, ix.index_put(t2, _fit(values, shape), *indices, attrs=(first, combine)), "index_put_")


def _first(positions: Any, n: int, d: int) -> Any:
    """The first position of dimension ``d``, which is repeated ``n`` times, for each of ``positions``."""
    check_positions(positions.detach()._array(), n, d)
    return positions * 0


def _repeats(t: Any) -> dict[int, int]:
    """The dimensions along which all positions are the same memory, and their lengths."""
    meta = value_of(t).meta
    return {d: n for d, (s, n) in enumerate(zip(meta.strides, meta.shape)) if s == 0 and n > 1} if meta.strides and meta.numel else {}


def _once(t: Any, name: str, also: str) -> tuple[Any, dict[int, int]]:
    """``t`` with one position where all positions along a dimension are the same memory, and how long those dimensions were; warns if
    there is such a dimension, and ``name`` is the operation that writes."""
    many = _repeats(t)
    if many:
        warn(f"Use of {name} on expanded tensors is deprecated. Please clone() the tensor before performing this operation. This also "
             f"applies to advanced indexing e.g. {also}")
    for d in many:
        t = views.slice_(t, d, 0, 1, 1)
    return t, many


def _index_put(self: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    t, tensors = basic(self, tuple(indices))
    if tensors is None or values.dtype is not self.dtype or not _repeats(t):
        return _plain["index_put_"](self, indices, values, accumulate)
    put_at(t, tensors, values, "add" if accumulate else None)
    return self


def _index_fill(self: Any, dim: int, index: Any, value: Any) -> Any:
    if _repeats(self):
        target, many = _once(self, "index_fill_", "tensor[mask] = scalar")
        d = wrap_dim(dim, len(self.shape))
        _plain["index_fill_"](target, d, _first(index, many[d], d) if d in many else index, value)
        return self
    return _plain["index_fill_"](self, dim, index, value)


def _masked_fill(self: Any, mask: Any, value: Any) -> Any:
    target = self
    if mask.dtype is dt.bool_:
        target, many = _once(self, "masked_fill_", "tensor[mask] = scalar")
        if many:
            mask = _expanded(mask, tuple(self.shape)).any(tuple(many), True)
    assign(target, FUNCTIONS["masked_fill"](target, mask, value), "masked_fill_")
    return self


_plain = {name: METHODS[name] for name in ("index_put_", "index_fill_", "masked_fill_")}
for _name, _write in (("index_put_", _index_put), ("index_fill_", _index_fill), ("masked_fill_", _masked_fill)):
    METHODS[_name] = FUNCTIONS[_name] = functools.wraps(_plain[_name])(_write)
