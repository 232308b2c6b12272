"""Reductions and normalisations of the elements that a mask selects: ``rushlight.masked``.

``mask`` (bool, broadcast to the input) is true where an element counts; without one all do.
"""
from __future__ import annotations

import math
from typing import Any

from ..compile import dtypes as dt
from ..ops.structured import wrap_dims

__all__ = ["amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp", "logsumexp", "mean", "median", "norm",
           "normalize", "prod", "softmax", "softmin", "std", "sum", "var"]


def _filled(input: Any, mask: Any, value: Any, dtype: Any = None) -> Any:
    """The input with ``value`` where the mask is false."""
    x = input if dtype is None else input.to(dtype)
    if mask is None:
        return x
    return x.masked_fill(mask.to(dt.bool_).logical_not().expand(tuple(x.shape)) if mask.dtype is not dt.bool_ else
                         mask.logical_not(), value)


def _limit(d: Any, largest: bool) -> Any:
    """What cannot win a search for the smallest (``largest``) or largest element."""
    if d.kind == "f":
        return math.inf if largest else -math.inf
    import numpy as np

    if d.kind == "b":
        return largest
    info = np.iinfo(d.numpy)
    return int(info.max if largest else info.min)


def _wide(input: Any, dtype: Any) -> Any:
    return dtype or (dt.int64 if input.dtype.kind in "bui" else input.dtype)


def _dims(input: Any, dim: Any) -> tuple[int, ...]:
    return wrap_dims(dim, len(input.shape))


def sum(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The sum of the selected elements."""
    return _filled(input, mask, 0, _wide(input, dtype)).sum(_dims(input, dim), keepdim)


def prod(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The product of the selected elements."""
    x = _filled(input, mask, 1, _wide(input, dtype))
    for d in sorted(_dims(input, dim), reverse=True):
        x = x.prod(d, keepdim)
    return x.clone() if x is input and dim is not None else x


def cumsum(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """Running sums of the selected elements."""
    return _filled(input, mask, 0, dtype or input.dtype).cumsum(dim, dtype=dtype or input.dtype)


def cumprod(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """Running products of the selected elements."""
    return _filled(input, mask, 1, dtype or input.dtype).cumprod(dim, dtype=dtype or input.dtype)


def amax(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The largest selected element."""
    x = _filled(input, mask, _limit(dtype or input.dtype, False), dtype)
    return x.amax(_dims(input, dim), keepdim)


def amin(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The smallest selected element."""
    x = _filled(input, mask, _limit(dtype or input.dtype, True), dtype)
    return x.amin(_dims(input, dim), keepdim)


def argmax(input: Any, dim: int | None = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """Where the largest selected element is."""
    return _filled(input, mask, _limit(dtype or input.dtype, False), dtype).argmax(dim, keepdim).to(dtype or input.dtype)


def argmin(input: Any, dim: int | None = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """Where the smallest selected element is."""
    return _filled(input, mask, _limit(dtype or input.dtype, True), dtype).argmin(dim, keepdim).to(dtype or input.dtype)


def _count(input: Any, dims: tuple[int, ...], keepdim: bool, mask: Any, d: Any) -> Any:
    if mask is None:
        return input.detach().new_ones(tuple(input.shape), dtype=d).sum(dims, keepdim)
    return mask.expand(tuple(input.shape)).to(d).sum(dims, keepdim)


def mean(input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The mean of the selected elements (NaN where there is none)."""
    d = _wide(input, dtype)
    dims = _dims(input, dim)
    if d.kind not in "fc":
        raise ValueError(f"mean expects a floating dtype, got {d}")
    return _filled(input, mask, 0, d).sum(dims, keepdim) / _count(input, dims, keepdim, mask, d)


def median(input: Any, dim: int = -1, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The (lower) median of the selected elements."""
    x = input if dtype is None else input.to(dtype)
    if x.dtype.kind != "f":
        raise ValueError(f"input must be floating point, got {x.dtype}")
    return _filled(x, mask, math.nan).nanmedian(dim, keepdim)[0]


def logsumexp(input: Any, dim: Any, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """log(sum(exp(x))) of the selected elements."""
    return _filled(input, mask, -math.inf, dtype).logsumexp(_dims(input, dim), keepdim)


def logaddexp(input: Any, other: Any, *, dtype: Any = None, input_mask: Any = None, other_mask: Any = None) -> Any:
    """log(exp(x) + exp(y)), a masked element counting as nothing."""
    return _filled(input, input_mask, -math.inf, dtype).logaddexp(_filled(other, other_mask, -math.inf, dtype))


def norm(input: Any, ord: float | None = 2.0, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
    """The vector norm of the selected elements."""
    from ..tensor.spectra import vector_norm

    order = 2.0 if ord is None else float(ord)
    x = _filled(input, mask, math.inf if order < 0 else 0, dtype)
    return vector_norm(x, order, _dims(input, dim), keepdim)


def _variance(input: Any, dim: Any, unbiased: bool | None, correction: Any, keepdim: bool, dtype: Any, mask: Any) -> Any:
    d = dtype or input.dtype
    if d.kind not in "fc":
        d = dt.float32
    less = correction if correction is not None else 0 if unbiased is False else 1
    dims = _dims(input, dim)
    count = _count(input, dims, True, mask, d.to_real())
    centre = _filled(input, mask, 0, d).sum(dims, True) / count
    gaps = _filled(input.to(d) - centre, mask, 0)
    total = (gaps * gaps if d.kind == "f" else gaps.abs() ** 2).sum(dims, keepdim)
    n = count if keepdim else count.squeeze(dims) if dims else count
    return (total / (n - less).clamp(min=0) if less else total / n).to(d)


def var(input: Any, dim: Any = None, unbiased: bool | None = None, *, correction: Any = None, keepdim: bool = False, dtype: Any = None,
        mask: Any = None) -> Any:
    """The variance of the selected elements."""
    return _variance(input, dim, unbiased, correction, keepdim, dtype, mask)


def std(input: Any, dim: Any = None, unbiased: bool | None = None, *, correction: Any = None, keepdim: bool = False, dtype: Any = None,
        mask: Any = None) -> Any:
    """The standard deviation of the selected elements."""
    return _variance(input, dim, unbiased, correction, keepdim, dtype, mask).sqrt()


def softmax(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """Softmax over the selected elements."""
    return _filled(input, mask, -math.inf, dtype).softmax(dim)


def log_softmax(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """The logarithm of softmax over the selected elements."""
    return _filled(input, mask, -math.inf, dtype).log_softmax(dim)


def softmin(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """Softmax of the negated selected elements."""
    return (-_filled(input, mask, math.inf, dtype)).softmax(dim)


def normalize(input: Any, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None, mask: Any = None) -> Any:
    """Divided by the norm of the selected elements."""
    x = _filled(input, mask, 0, dtype)
    return x / norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask).clamp(min=eps)
