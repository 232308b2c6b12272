"""Running sums, products and log-sums along a dimension."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile.dtypes import DType
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .structured import Structured

__all__ = ["cumsum", "cumprod", "logcumsumexp", "recurrence"]


def _meta(metas: Sequence[Meta], dim: int, dtype: DType) -> Meta:
    return meta_of(metas[0].shape, dtype, metas[0].device)


def _lower(op: str) -> Any:
    def lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
        dim, dtype = attrs
        x = g.cast(inputs[0], dtype.compute)
        return g.cast(g.scan(op, x, dim), dtype) if x.shape else g.cast(x, dtype)
    return lower


def _reverse_sum(g: Any, dim: int) -> Any:
    return g.flip(dim).cumsum(dim).flip(dim) if g.shape else g


cumsum = Structured("cumsum", meta=_meta, lower=_lower("add"), saves=((), False),
                    grad=lambda ctx, g: _reverse_sum(g, ctx.attrs[0]).to(ctx.metas[0].dtype))


def _wide(dtype: DType) -> np.dtype:
    """The type of running values: the errors of many steps follow one another."""
    return np.dtype(np.float64) if dtype.kind == "f" else dtype.compute.numpy


def _recurrence(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    (dim,), wide = attrs, _wide(outs[0].dtype)
    a, b = (np.moveaxis(t.astype(wide), dim, 0) for t in x)
    s = np.array(b)
    for k in range(len(s) - 2, -1, -1):
        s[k] += a[k + 1] * s[k + 1]
    return np.moveaxis(s, 0, dim).astype(outs[0].dtype.numpy)


def _recurrence_grad(ctx: Any, g: Any) -> Sequence[Any]:
    """The adjoint runs the other way: t[k] = g[k] + a[k] t[k - 1]; then da[k] = t[k - 1] s[k], db = t."""
    (dim,), a, s = ctx.attrs, ctx.inputs[0], ctx.outputs[0]
    n = a.shape[dim]
    zero = a.narrow(dim, 0, 1) * 0
    # Mirrored, the coefficient of the step from j + 1 to j is that of place j; the recurrence wants it at j + 1.
    coefficient = zero.cat_with(a.flip(dim).narrow(dim, 0, n - 1), dim)
    t = recurrence(coefficient, g.flip(dim), attrs=(dim,)).flip(dim)
    return zero.cat_with(t.narrow(dim, 0, n - 1), dim) * s, t


# inputs (a, b), attrs (dim,): s[k] = b[k] + a[k + 1] s[k + 1], from the end
recurrence = Structured("linear_recurrence", meta=lambda metas, dim: metas[1].plain, reference=_recurrence, grad=_recurrence_grad)


def _cumprod_grad(ctx: Any, g: Any) -> Any:
    """dx[k] = (product before k) · s[k] with s[k] = g[k] + x[k + 1] s[k + 1]: exact where elements are zero."""
    dim, dtype = ctx.attrs
    x = ctx.inputs[0].to(dtype)
    x = x.conj() if dtype.kind == "c" else x
    if not x.shape:
        return g.to(ctx.metas[0].dtype)
    n = x.shape[dim]
    first = x.new_ones(tuple(1 if d == dim else m for d, m in enumerate(x.shape)))
    before = first.cat_with(x.narrow(dim, 0, n - 1).cumprod(dim), dim) if n > 1 else first
    return (before * recurrence(x, g, attrs=(dim,))).to(ctx.metas[0].dtype)


cumprod = Structured("cumprod", meta=_meta, lower=_lower("mul"), saves=((0,), False), grad=_cumprod_grad)


def _logcumsumexp(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    a = x[0].astype(_wide(outs[0].dtype))
    with np.errstate(all="ignore"):
        if a.dtype.kind == "c":
            return _complex_logcumsumexp(a, attrs[0]).astype(outs[0].dtype.numpy)
        return (np.logaddexp.accumulate(a, axis=attrs[0]) if a.ndim else a).astype(outs[0].dtype.numpy)


def _complex_logcumsumexp(a: np.ndarray, dim: int) -> np.ndarray:
    """Step by step, the number with the larger real part taken out."""
    out = np.array(a)
    rows = np.moveaxis(out, dim, 0) if a.ndim else out.reshape(1)
    for k in range(1, len(rows)):
        x, y = rows[k - 1], rows[k]
        first = x.real >= y.real
        high, low = np.where(first, x, y), np.where(first, y, x)
        rows[k] = high + np.log(1 + np.exp(low - high))
    return out


def _logcumsumexp_grad(ctx: Any, g: Any) -> Any:
    """dx[k] = sum over i >= k of g[i] exp(x[k] - y[i]), as exp(x[k] - y[k]) s[k] with s[k] = g[k] + exp(y[k] - y[k + 1]) s[k + 1]:
    the results never fall, so that no exponential overflows."""
    dim = ctx.attrs[0]
    x, y = ctx.inputs[0], ctx.outputs[0]
    if not x.shape or not x.numel():
        return g
    n = x.shape[dim]
    first = y.narrow(dim, 0, 1)
    before = first.cat_with(y.narrow(dim, 0, n - 1), dim)
    return (x - y).exp() * recurrence((before - y).exp(), g, attrs=(dim,))


def _logcumsumexp_meta(metas: Sequence[Meta], dim: int) -> Meta:
    if metas[0].dtype.kind not in "fc":
        raise NotImplementedError(f'"logcumsumexp" not implemented for {metas[0].dtype}')
    return metas[0].plain


logcumsumexp = Structured("logcumsumexp", meta=_logcumsumexp_meta, reference=_logcumsumexp, grad=_logcumsumexp_grad)
