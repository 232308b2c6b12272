"""Positions found by sorting: a library (NumPy) finds the positions, values follow by ``gather``, and so do gradients."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..compile import dtypes as dt
from ..compile.graph import Graph, Node
from ..compile.reference.order_keys import stable_order
from ..compile.selection import FirstPositions
from ..record.meta import Meta, meta_of
from .layouts import like_input
from .reduction import reduced_shape
from .structured import Structured

__all__ = ["sort_index", "first_index", "kth_index", "median_index", "mode_index", "running_index", "median_all", "comparable"]

Shape = tuple[int, ...]


def comparable(x: np.ndarray) -> np.ndarray:
    """An array that NumPy can sort: bfloat16 widened."""
    return x if x.dtype.kind in "biufc" else x.astype(np.float32)


def _order(x: np.ndarray, dim: int, descending: bool, k: int | None = None) -> np.ndarray:
    """Positions in stable order; NaN counts as the largest."""
    return stable_order(comparable(x), dim, descending, k)


def _index(metas: Sequence[Meta], dim: int, *rest: Any) -> Meta:
    return meta_of(metas[0].shape, dt.int64, metas[0].device)


def _first(metas: Sequence[Meta], dim: int, descending: bool, k: int) -> Meta:
    shape = metas[0].shape
    return meta_of((*shape[:dim], k, *shape[dim + 1:]), dt.int64, metas[0].device)


def _kept(metas: Sequence[Meta], dim: int, *rest: Any) -> Meta:
    return meta_of(reduced_shape(metas[0].shape, (dim,), True), dt.int64, metas[0].device)


# attrs: (dimension, descending)
sort_index = Structured("argsort", lays=like_input(), meta=_index, reference=lambda x, attrs, outs: _order(x[0], *attrs))
def _first_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    (x,), (dim, descending, k) = inputs, attrs
    if not x.size:
        return g.const(0, dt.int64, outs[0].shape)
    last = [d for d in range(len(x.shape)) if d != dim] + [dim]
    rows = g.permute(x, last)
    lead, n = rows.shape[:-1], rows.shape[-1]
    call = FirstPositions(math.prod(lead), n, k, bool(descending))
    (found,) = g.native(call, g.reshape(rows, (call.rows, n)))
    return g.permute(g.reshape(found, (*lead, k)), [last.index(d) for d in range(len(last))])


# attrs: (dimension, descending, k): the first k of these
first_index = Structured("topk", meta=_first, lower=_first_lower)


def _kth(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    dim, k = attrs
    return np.take(_order(x[0], dim, False, k), [k - 1], axis=dim)


# attrs: (dimension, k): position of the k-th smallest, with the dimension kept
kth_index = Structured("kthvalue", meta=_kept, reference=_kth)


def _is_nan(x: np.ndarray) -> np.ndarray:
    return np.isnan(x) if x.dtype.kind in "fc" else np.zeros(x.shape, bool)


def _median(x: np.ndarray, dim: int, ignore: bool) -> np.ndarray:
    x = comparable(x)
    order = _order(x, dim, False)
    missing = _is_nan(x)
    n = x.shape[dim] - (missing.sum(dim, keepdims=True) if ignore else 0)
    middle = np.maximum((n - 1) // 2, 0) * np.ones(reduced_shape(x.shape, (dim,), True), np.int64)
    found = np.take_along_axis(order, middle, dim)
    return found if ignore else np.where(missing.any(dim, keepdims=True), np.argmax(missing, dim, keepdims=True), found)


# attrs: (dimension, whether NaN is left out): position of the lower median, with the dimension kept
median_index = Structured("median", meta=_kept,
                          reference=lambda x, attrs, outs: np.asarray(_median(x[0], *attrs), np.int64))


def _median_all_grad(ctx: Any, g: Any) -> Any:
    """Shared equally between the elements that equal the median."""
    (x,), (y,) = ctx.inputs, ctx.outputs
    mask = ((x == y) | (x.isnan() & y.isnan())).to(g.dtype)
    return mask * (g / mask.sum())


def _median_all(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    flat = x[0].reshape(-1)
    if not flat.size:
        return np.full((), np.nan, np.float32)
    return flat[int(_median(flat, 0, attrs[0])[0])].copy()


# attrs: (whether NaN is left out,): the median of all elements
median_all = Structured("median", meta=lambda metas, ignore: meta_of((), metas[0].dtype, metas[0].device), reference=_median_all,
                        grad=_median_all_grad)


def _mode(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    """The last position, in stable order, of the longest run of equal values (the smallest of several)."""
    (dim,) = attrs
    rows = np.moveaxis(comparable(x[0]), dim, -1)
    order = stable_order(rows, rows.ndim - 1)
    ordered = np.take_along_axis(rows, order, -1)
    n = rows.shape[-1]
    starts = np.ones(rows.shape, bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    start = np.maximum.accumulate(np.where(starts, np.arange(n), 0), -1)
    length = np.arange(n) - start + 1
    longest = length.max(-1, keepdims=True)
    end = np.argmax(length == longest, -1)[..., None]
    return np.moveaxis(np.take_along_axis(order, end, -1), -1, dim).astype(np.int64)


mode_index = Structured("mode", meta=_kept, reference=_mode)


def _running(compare: Callable[..., Any]) -> Callable[..., Any]:
    def reference(inputs: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
        dim, x = attrs[0], comparable(inputs[0])
        n = x.shape[dim]
        best = compare.accumulate(x, axis=dim)  # type: ignore[attr-defined]
        places = np.arange(n).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
        return np.maximum.accumulate(np.where((x == best) | _is_nan(x), places, 0), axis=dim)
    return reference


# attrs: (dimension, is maximum): position of the extreme so far, the latest of equal ones
running_index = Structured("cummax", meta=_index, reference=lambda x, attrs, outs: _running(
    np.maximum if attrs[1] else np.minimum)(x, attrs, outs))
