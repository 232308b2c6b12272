"""Distinct values, counts, histograms, and searching in sorted values. Shapes depend on the data, so values are read."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd.handle import Handle
from ..compile import dtypes as dt
from ..ops import counting
from ..ops.ordering import comparable
from ..ops.promotion import default_dtype
from ..ops.structured import wrap_dim
from .creation import from_array, from_owned
from .registry import METHODS, public
from .return_types import named

__all__: list[str] = []

_count = range  # histograms have an argument of that name


def _array(t: Any) -> np.ndarray:
    return t.detach()._array()


def _check_real(name: str, *tensors: Any) -> None:
    for t in tensors:
        if isinstance(t, Handle) and t.dtype.kind == "c" or isinstance(t, complex):
            raise NotImplementedError(f'"{name}" not implemented for complex numbers, which have no order')


def _result(values: np.ndarray, inverse: Any, counts: Any, like: Any, want_inverse: bool, want_counts: bool) -> Any:
    made = from_array(np.ascontiguousarray(values).astype(like.dtype.numpy, copy=False))
    if not (want_inverse or want_counts):
        return made
    rest = [from_array(np.asarray(x).astype(np.int64)) for x, want in ((inverse, want_inverse), (counts, want_counts)) if want]
    return (made, *rest)


@public(out=False)
def unique(input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """The distinct elements in order (or slices along ``dim``), where each element is among them, how often each occurs."""
    _check_real("unique", input)
    x = comparable(_array(input))
    if dim is not None:
        dim = wrap_dim(dim, len(input.shape))
        if x.shape[dim] == 0 or x.size == 0:
            if x.shape[dim] and x.size == 0:
                raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
            return _result(x, np.zeros(0), np.zeros(0), input, return_inverse, return_counts)
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
    inverse = inverse.reshape(x.shape if dim is None else (-1,))
    return _result(values, inverse, counts, input, return_inverse, return_counts)


@public(out=False)
def unique_consecutive(input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """Elements (or slices along ``dim``) without those equal to the one before."""
    _check_real("unique", input)
    x = comparable(_array(input))
    rows = x.reshape(-1, 1) if dim is None else np.moveaxis(x, wrap_dim(dim, len(input.shape)), 0)
    if 0 in rows.shape[1:]:
        raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    starts = np.ones(len(rows), bool)
    starts[1:] = (flat[1:] != flat[:-1]).any(1)
    kept = rows[starts]
    values = kept.reshape(-1) if dim is None else np.moveaxis(kept, 0, wrap_dim(dim, len(input.shape)))
    inverse = np.cumsum(starts) - 1
    counts = np.diff(np.append(np.flatnonzero(starts), len(rows)))
    return _result(values, inverse.reshape(x.shape) if dim is None else inverse, counts, input, return_inverse, return_counts)


@public(out=False)
def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each non-negative integer occurs, or the sum of its weights."""
    if input.numel() and input.dtype.kind not in "ui":
        raise NotImplementedError(f'"bincount_cpu" not implemented for {input.dtype}')
    if len(input.shape) != 1 or input.dtype.kind not in "ui":
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    x = _array(input).astype(np.int64)
    if x.size and x.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is None:
        return from_owned(np.bincount(x, minlength=minlength).astype(np.int64))
    if weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    d = weights.dtype if weights.dtype is dt.float32 else dt.float64
    return from_owned(np.bincount(x, _array(weights).astype(np.float64), minlength).astype(d.numpy))


def _range(x: np.ndarray, low: float, high: float, name: str, margin: float = 1.0) -> tuple[float, float]:
    if low == high and x.size:
        low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"{name}: range of [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError(f"{name}: max must be larger than min")
    return (low - margin, high + margin) if low == high else (low, high)


@public()
def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """Counts in ``bins`` bins of equal width between min and max (of the data if both are equal)."""
    if bins <= 0:
        raise RuntimeError("bins must be > 0")
    if input.dtype.kind != "f":
        raise NotImplementedError(f'"histogram_cpu" not implemented for \'{input.dtype.name}\'')
    x = comparable(_array(input)).reshape(-1)
    low, high = _range(x, float(min), float(max), "torch.histc")
    inside = x[(x >= low) & (x <= high)].astype(np.float64)
    place = np.minimum(((inside - low) * bins / (high - low)).astype(np.int64), bins - 1)
    return from_owned(np.bincount(place, minlength=bins).astype(input.dtype.numpy))


def _edges(bins: Any, limits: Any, x: np.ndarray, d: Any) -> np.ndarray:
    if isinstance(bins, Handle):
        return _array(bins)
    if bins <= 0:
        raise RuntimeError("torch.histogramdd(): bins must be > 0")
    low, high = limits if limits is not None else (0.0, 0.0) if x.size else (0.0, 1.0)
    low, high = _range(x, float(low), float(high), "torch.histogram", 0.5)
    from .sequences import spaced

    return spaced(low, high, bins + 1, d)


def _histogram(points: np.ndarray, edges: list[np.ndarray], weights: np.ndarray | None, density: bool, d: Any) -> np.ndarray:
    shape = [len(e) - 1 for e in edges]
    inside, places = np.ones(len(points), bool), []
    for x, e, n in zip(points.T, edges, shape):
        inside &= (x >= e[0]) & (x <= e[-1])
        places.append(np.clip(np.searchsorted(e, x, "right") - 1, 0, n - 1))  # the last bin has its right edge, too
    flat = np.ravel_multi_index([p[inside] for p in places], shape)
    made = np.bincount(flat, None if weights is None else weights[inside], math.prod(shape)).reshape(shape).astype(np.float64)
    if density:
        volume: Any = 1.0
        for k, e in enumerate(edges):
            volume = volume * np.diff(e.astype(np.float64)).reshape([-1 if j == k else 1 for j in range(len(edges))])
        made = made / made.sum() / volume
    return made.astype(d.numpy)


@public()
def histogram(input: Any, bins: Any = 100, *, range: Any = None, weight: Any = None, density: bool = False) -> Any:
    """(counts, edges) in so many bins of equal width, or between given edges."""
    if input.dtype.kind != "f":
        raise NotImplementedError(f'"histogram_cpu" not implemented for \'{input.dtype.name}\'')
    x = _array(input).reshape(-1)
    edges = _edges(bins, range, x, input.dtype)
    weights = None if weight is None else _array(weight).reshape(-1).astype(np.float64)
    made = _histogram(x[:, None], [edges], weights, density, input.dtype)
    return named("histogram", "hist", "bin_edges")((from_array(made), from_array(edges)))


@public(method=False, out=False)
def histogramdd(input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False) -> Any:
    """(counts, edges of each dimension) of points in the rows of ``input``."""
    n = input.shape[-1]
    x = _array(input).reshape(-1, n)
    given = [bins] * n if isinstance(bins, int) else list(bins)
    if len(given) != n:
        raise RuntimeError(f"torch.histogramdd(): expected {n} sequences of bin edges for a {n}-dimensional histogram but got {len(given)}")
    limits = [None] * n if range is None else [tuple(range[2 * k:2 * k + 2]) for k in _count(n)]
    edges = [_edges(b, r, x[:, k], input.dtype) for k, (b, r) in enumerate(zip(given, limits))]
    weights = None if weight is None else _array(weight).reshape(-1).astype(np.float64)
    made = _histogram(x, edges, weights, density, input.dtype)
    shown = tuple(b if isinstance(b, Handle) else from_array(e) for b, e in zip(given, edges))
    return named("histogramdd", "hist", "bin_edges")((from_array(made), shown))


# -- searching ----------------------------------------------------------------------------------------------------


def _search(edges: Any, values: Any, right: bool, side: str | None, out_int32: bool) -> Any:
    if side is not None and side not in ("left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True")
    _check_real("searchsorted", edges, values)
    if edges.dtype.kind == "b" and (not isinstance(values, Handle) or values.dtype.kind == "b"):
        raise NotImplementedError('"searchsorted" not implemented for \'Bool\'')
    if not isinstance(values, Handle):
        values = from_array(np.asarray(values).astype(edges.dtype.numpy if not isinstance(values, float) or edges.dtype.kind == "f" else
                                       default_dtype().numpy))
    made = counting.searchsorted(edges, values, attrs=(right or side == "right",))
    return made.to(dt.int32) if out_int32 else made


@public(method=False)
def searchsorted(sorted_sequence: Any, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
                 sorter: Any = None) -> Any:
    """Where values would be inserted to keep each row of ``sorted_sequence`` sorted."""
    if isinstance(input, Handle) and len(sorted_sequence.shape) != 1 and tuple(sorted_sequence.shape[:-1]) != tuple(input.shape[:-1]):
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
                           f"and input value tensor must match, but we got boundaries tensor {list(sorted_sequence.shape)} and input value "
                           f"tensor {list(input.shape)}")
    if not isinstance(input, Handle) and len(sorted_sequence.shape) != 1:
        raise RuntimeError("torch.searchsorted(): input value can be a scalar only when boundaries tensor dimension is 1, but we got "
                           f"boundaries tensor dim({len(sorted_sequence.shape)})")
    if sorter is not None:
        if tuple(sorter.shape) != tuple(sorted_sequence.shape):
            raise RuntimeError(f"torch.searchsorted(): boundary and sorter must have the same size, but got boundary tensor "
                               f"{list(sorted_sequence.shape)} and got sorter tensor {list(sorter.shape)}")
        if sorter.dtype is not dt.int64:
            raise RuntimeError(f"torch.searchsorted(): sorter must be a tensor of long dtype but got dtype {sorter.dtype.name}")
        sorted_sequence = sorted_sequence.gather(-1, sorter)
    return _search(sorted_sequence, input, right, side, out_int32)


@public(method=False)
def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """The bin of each value among ``boundaries``, a sorted vector."""
    if len(boundaries.shape) != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({len(boundaries.shape)})")
    return _search(boundaries, input, right, None, out_int32)


METHODS["unique"] = unique
