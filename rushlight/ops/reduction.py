"""Reductions: sums, products, extremes, logical ones, and the positions of extremes."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .indexing import scatter
from .promotion import default_dtype
from .structured import Structured

__all__ = ["sum_", "mean", "prod", "amax", "amin", "any_", "all_", "argmax", "argmin", "max_along", "min_along", "hash_", "var",
           "logsumexp", "reduced_shape"]

Shape = tuple[int, ...]


def reduced_shape(shape: Shape, dims: Shape, keepdim: bool) -> Shape:
    return tuple(1 if d in dims else n for d, n in enumerate(shape) if keepdim or d not in dims)


def _meta(metas: Sequence[Meta], dims: Shape, keepdim: bool, dtype: DType | None = None) -> Meta:
    m = metas[0]
    return meta_of(reduced_shape(m.shape, dims, keepdim), dtype or m.dtype, m.device)


def _spread(g: Any, ctx: Any) -> Any:
    """A gradient of the result, at the shape of the input."""
    dims, keepdim = ctx.attrs[0], ctx.attrs[1]
    shape = ctx.metas[0].shape
    if not keepdim:
        g = g.reshape(tuple(1 if d in dims else n for d, n in enumerate(shape)))
    return g.expand(shape)


def count(shape: Shape, dims: Shape) -> int:
    return math.prod(shape[d] for d in dims)


# -- sums ---------------------------------------------------------------------------------------------------------


def _sum_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dims, keepdim, dtype = attrs
    x = g.cast(inputs[0], dtype.compute)
    return g.cast(g.reduce("add", x, dims, keepdim), dtype)


def _mean_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dims, keepdim, dtype = attrs
    n = count(inputs[0].shape, dims)
    total = g.reduce("add", g.cast(inputs[0], dtype.compute), dims, keepdim)
    return g.cast(g.map(lambda e, s: s / (n if n else math.nan), total), dtype)


sum_ = Structured("sum", meta=_meta, lower=_sum_lower, saves=((), False),
                  grad=lambda ctx, g: _spread(g, ctx).to(ctx.metas[0].dtype))
mean = Structured("mean", meta=_meta, lower=_mean_lower, saves=((), False),
                  grad=lambda ctx, g: (_spread(g, ctx) / max(count(ctx.metas[0].shape, ctx.attrs[0]), 1)).to(ctx.metas[0].dtype))


def _prod_grad(ctx: Any, g: Any) -> Any:
    """The product of the others, for each element: exact also where elements are zero."""
    x = ctx.inputs[0].to(g.dtype)
    x = x.conj() if x.dtype.kind == "c" else x
    dims = ctx.attrs[0]
    shape = ctx.metas[0].shape
    if not shape:
        return g.to(ctx.metas[0].dtype)
    rest = tuple(d for d in range(len(shape)) if d not in dims)
    order = (*rest, *dims)
    flat = x.permute(order).reshape((*[shape[d] for d in rest], -1))
    before = flat.cumprod(-1)
    after = flat.flip((-1,)).cumprod(-1).flip((-1,))
    one = flat.new_ones((*flat.shape[:-1], 1))
    n = flat.shape[-1]
    others = one.cat_with(before.narrow(-1, 0, n - 1), -1) * after.narrow(-1, 1, n - 1).cat_with(one, -1) if n > 1 else \
        flat.new_ones(flat.shape)
    back = others.reshape(tuple(shape[d] for d in order)).permute(tuple(order.index(d) for d in range(len(order))))
    return (_spread(g, ctx) * back).to(ctx.metas[0].dtype)


prod = Structured("prod", meta=_meta, saves=((0,), False), grad=_prod_grad,
                  lower=lambda g, x, attrs, outs: g.cast(g.reduce("mul", g.cast(x[0], attrs[2].compute), *attrs[:2]), attrs[2]))


# -- extremes -----------------------------------------------------------------------------------------------------


def _extreme_grad(ctx: Any, g: Any) -> Any:
    """Shared equally between the elements that are the extreme."""
    (x,), (y,) = ctx.inputs, ctx.outputs
    dims, keepdim = ctx.attrs[0], ctx.attrs[1]
    if not keepdim:
        kept = tuple(1 if d in dims else n for d, n in enumerate(ctx.metas[0].shape))
        y, g = y.reshape(kept), g.reshape(kept)
    mask = (x == y).to(g.dtype)
    return mask * (g / mask.sum(dims, True))


def _extreme(name: str, op: str) -> Structured:
    def meta(metas: Sequence[Meta], dims: Shape, keepdim: bool) -> Meta:
        m = metas[0]
        if m.dtype.kind == "c":
            raise NotImplementedError(f'"{name}" not implemented for {m.dtype}: complex numbers have no order')
        for d in dims:
            if m.shape[d] == 0:
                raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
        return _meta(metas, dims, keepdim)
    return Structured(name, meta=meta, grad=_extreme_grad,
                      lower=lambda g, x, attrs, outs: g.reduce(op if x[0].dtype.kind != "b" else _LOGICAL[op], x[0], *attrs))


_LOGICAL = {"max": "or", "min": "and"}
amax, amin = _extreme("amax", "max"), _extreme("amin", "min")


def _truth(op: str, name: str) -> Structured:
    def lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
        return g.cast(g.reduce(op, g.cast(inputs[0], dt.bool_), *attrs[:2]), outs[0].dtype)
    return Structured(name, meta=_meta, lower=lower)


any_, all_ = _truth("or", "any"), _truth("and", "all")


def _arg(name: str, op: str) -> Structured:
    def meta(metas: Sequence[Meta], dim: int | None, keepdim: bool) -> Meta:
        m = metas[0]
        if (m.shape[dim] if dim is not None and m.shape else m.numel) == 0:
            what = "input.numel() == 0" if dim is None else f"dim {dim} to have non-zero size"
            raise IndexError(f"{name}(): Expected reduction dim to be specified for {what}.")
        if dim is None or not m.shape:
            return meta_of((1,) * len(m.shape) if keepdim else (), dt.int64, m.device)
        return meta_of(reduced_shape(m.shape, (dim,), keepdim), dt.int64, m.device)

    def lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
        x, (dim, keepdim) = inputs[0], attrs
        if x.dtype.kind == "b":
            x = g.cast(x, dt.uint8)
        if dim is None or not x.shape:
            return g.reshape(g.reduce(op, g.reshape(x, (x.size,)), (0,)), outs[0].shape)
        return g.reduce(op, x, (dim,), keepdim)
    return Structured(name, meta=meta, lower=lower)


argmax, argmin = _arg("argmax", "argmax"), _arg("argmin", "argmin")


def _with_place(name: str, find: Structured) -> Structured:
    """(the extremes along one dimension, where they are)."""
    def meta(metas: Sequence[Meta], dim: int, keepdim: bool) -> tuple[Meta, Meta]:
        places = find.meta(metas, (dim, keepdim))
        return meta_of(places.shape, metas[0].dtype, metas[0].device), places  # type: ignore[union-attr, return-value]

    def lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        dim, _ = attrs
        places, = find.lower(g, inputs, (dim, True), outs[1:])
        return g.reshape(g.gather(inputs[0], places, dim), outs[0].shape), g.reshape(places, outs[1].shape)

    def grad(ctx: Any, g: Any, _: Any) -> Any:
        dim, keepdim = ctx.attrs
        places = ctx.outputs[1]
        return scatter(g.new_zeros(ctx.metas[0].shape), *[t if keepdim else t.unsqueeze(dim) for t in (places, g)], attrs=(dim, "add"))
    return Structured(name, meta=meta, lower=lower, grad=grad, saves=((), (1,)))


max_along, min_along = _with_place("max", argmax), _with_place("min", argmin)


# -- statistics ---------------------------------------------------------------------------------------------------


def _var_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dims, keepdim, correction = attrs
    x = g.cast(inputs[0], outs[0].dtype.compute)
    n = count(x.shape, dims)
    mean = g.map(lambda e, s: s / (n or math.nan), g.reduce("add", x, dims, True))
    squares = g.reduce("add", g.map(lambda e, a, m: (a - m) * (a - m), x, mean), dims, keepdim)
    divisor = max(n - correction, 0)
    return g.cast(g.map(lambda e, s: e.div(s, divisor), squares), outs[0].dtype)


def _var_grad(ctx: Any, g: Any) -> Any:
    x = ctx.inputs[0]
    dims, _, correction = ctx.attrs
    divisor = max(count(ctx.metas[0].shape, dims) - correction, 0)
    scale = 2.0 / divisor if divisor else math.nan
    return _spread(g, ctx) * ((x - x.mean(dims, True)) * scale)


var = Structured("var", meta=lambda metas, dims, keepdim, correction: _meta(metas, dims, keepdim), lower=_var_lower,
                 grad=_var_grad, saves=((0,), False))


def _logsumexp_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dims, keepdim = attrs
    x = g.cast(inputs[0], outs[0].dtype.compute)
    top = g.map(lambda e, m: e.where(e.isinf(m), e.const(0, m.dtype), m), g.reduce("max", x, dims, True))
    total = g.reduce("add", g.map(lambda e, a, m: e.exp(a - m), x, top), dims, True)
    return g.reshape(g.cast(g.map(lambda e, s, m: e.log(s) + m, total, top), outs[0].dtype), outs[0].shape)


def _logsumexp_meta(metas: Sequence[Meta], dims: Shape, keepdim: bool) -> Meta:
    d = metas[0].dtype
    return _meta(metas, dims, keepdim, default_dtype() if d.kind in "bui" else d)


def _logsumexp_grad(ctx: Any, g: Any) -> Any:
    dims = ctx.attrs[0]
    kept = tuple(1 if d in dims else n for d, n in enumerate(ctx.metas[0].shape))
    return g.reshape(kept) * (ctx.inputs[0] - ctx.outputs[0].reshape(kept)).exp()


logsumexp = Structured("logsumexp", meta=_logsumexp_meta, lower=_logsumexp_lower, grad=_logsumexp_grad)


def _hash(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    a, (dims, keepdim) = x[0], attrs
    bits = a.astype(np.float64 if a.dtype.kind not in "bui" else np.int64).view(np.uint64)
    return np.bitwise_xor.reduce(bits, axis=dims, keepdims=keepdim) if dims else bits


hash_ = Structured("hash_tensor", reference=_hash, meta=lambda metas, dims, keepdim: _meta(metas, dims, keepdim, dt.uint64))
