"""Scatter with a reduction, put and take."""
from __future__ import annotations

from typing import Any

from ..autograd.apply import value_of
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..ops import indexing as ix
from ..ops.layouts import filled_in, preserved
from ..ops.structured import wrap_dim
from .indexing import _check_gather, _scatter
from .registry import public

__all__: list[str] = []

_START = {"amax": -float("inf"), "amin": float("inf")}


def _neutral(d: Any, reduce: str) -> Any:
    """The number that does not change the result of a reduction."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if d.kind == "f":
        return _START[reduce]
    if d.kind == "b":
        return reduce == "amin"
    import numpy as np

    info = np.iinfo(d.numpy)
    return int(info.min if reduce == "amax" else info.max)


_COMBINE = {"sum": "add", "prod": "mul", "mean": "add", "amax": "max", "amin": "min"}


def _check_reduce(name: str, reduce: str) -> None:
    if reduce not in _COMBINE:
        raise RuntimeError(f"{name}: reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")


@public(inplace=True, composite=True)
@titled("ScatterReduceBackward0")
def scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """Reduce the elements of ``src`` that go to the same place: "sum", "prod", "mean", "amax" or "amin".

    ``include_self`` counts the element of ``input`` there as one of them.
    """
    dim = _check_gather("scatter_reduce", input, dim, index)
    _check_reduce("scatter_reduce", reduce)
    if not input.shape:
        return scatter_reduce(input.reshape((1,)), 0, index.reshape((-1,)), src.reshape((-1,)), reduce,
                              include_self=include_self).reshape(())
    if not index.numel():
        return input.clone()
    for d, n in enumerate(index.shape):
        if src.shape[d] > n:
            src = src.narrow(d, 0, n)
    base = input
    if not include_self:
        base = _scatter(input, dim, index, src.new_full(tuple(index.shape), _neutral(input.dtype, reduce)), None)
    if reduce == "sum":
        return _scatter(base, dim, index, src, "add")
    if reduce == "mean":
        ones = src.new_ones(tuple(index.shape))
        count = _scatter(input.detach().new_full(tuple(input.shape), 1 if include_self else 0), dim, index, ones, "add")
        total = _scatter(base, dim, index, src, "add")
        if input.dtype.kind == "b":
            raise NotImplementedError('"scatter_reduce" with the mean is not implemented for booleans')
        count = count.masked_fill(count == 0, 1)
        return total / count if input.dtype.kind in "fc" else total.div(count, rounding_mode="floor")
    if src.dtype is not input.dtype:
        raise RuntimeError(f"scatter(): Expected self.dtype to be equal to src.dtype: {input.dtype} and {src.dtype}")
    if input.dtype.kind == "c" and reduce != "prod":
        raise NotImplementedError(f'"scatter_reduce" with {reduce} is not implemented for complex numbers, which have no order')
    return ix.scatter_reduce(base, index, src, attrs=(dim, _COMBINE[reduce]))


@public(inplace=True, composite=True)
@titled("IndexReduceBackward0")
def index_reduce(input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    """``scatter_reduce`` with one index (a vector) for whole slices of ``source``: "prod", "mean", "amax" or "amin"."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    if index.dtype not in (dt.int64, dt.int32):
        raise RuntimeError("index_reduce(): Expected dtype int32/int64 for index but got: " + index.dtype.name)
    d = wrap_dim(dim, len(input.shape))
    if not input.shape:
        return index_reduce(input.reshape((1,)), 0, index.reshape((-1,)), source.reshape((-1,)), reduce,
                            include_self=include_self).reshape(())
    shape = tuple(index.numel() if k == d else n for k, n in enumerate(input.shape))
    spread = index.reshape(tuple(-1 if k == d else 1 for k in range(len(shape)))).expand(shape)
    return scatter_reduce(input, d, spread, source, reduce, include_self=include_self)


@public()
@titled("TakeBackward0")
def take(input: Any, index: Any) -> Any:
    """The elements at flat positions."""
    if index.dtype is not dt.int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index.dtype.name}")
    if not input.numel() and index.numel():
        raise IndexError("take(): tried to take from an empty tensor")
    return ix.index(input.reshape((-1,)), index, attrs=(0,))


@public(inplace=True, composite=True)
@titled("PutBackward0")
def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """``source`` put at (or added to) flat positions."""
    if index.dtype is not dt.int64:
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {index.dtype.name}")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"put_(): self and source expected to have the same dtype, but got self.dtype = {input.dtype.name} and "
                           f"source.dtype = {source.dtype.name}")
    if index.numel() != source.numel():
        raise RuntimeError(f"put_(): Expected source and index to have the same number of elements, but got source.numel() = "
                           f"{source.numel()}, index.numel() = {index.numel()}")
    if not index.numel():
        return input.clone()
    if not input.numel():
        raise IndexError("put_(): Expected self to be non-empty")
    made = ix.index_put(input.reshape((-1,)), source.reshape((-1,)), index.reshape((-1,)), attrs=(0, "add" if accumulate else None))
    return filled_in(made.reshape(tuple(input.shape)), preserved(value_of(input).meta).order)
