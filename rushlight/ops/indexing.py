"""Gather, scatter, and indexing by several tensors."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..compile import dtypes as dt
from ..compile.graph import Graph, Node
from ..record.meta import Meta, contiguous_strides, meta_of
from .layouts import like_input, sorted_by
from .structured import Structured

__all__ = ["gather", "scatter", "index", "index_put"]

Shape = tuple[int, ...]


def _wrapped(g: Graph, i: Node, n: int) -> Node:
    """Indices counted from the end become positions."""
    i = g.cast(i, dt.int64)
    return g.map(lambda e, k: e.where(e.lt(k, 0), k + n, k), i)


# -- gather and scatter along one dimension -----------------------------------------------------------------------


def _gather_grad(ctx: Any, g: Any) -> Sequence[Any]:
    x, index_ = ctx.metas[0], ctx.inputs[1]
    return scatter(g.new_zeros(x.shape), index_, g, attrs=(ctx.attrs[0], "add")), None


gather = Structured("gather", meta=lambda metas, dim: meta_of(metas[1].shape, metas[0].dtype, metas[0].device),
                    lower=lambda g, x, attrs, outs: g.gather(x[0], x[1], attrs[0]), grad=_gather_grad, saves=((1,), False))


def _scatter_grad(ctx: Any, g: Any) -> Sequence[Any]:
    dim, combine = ctx.attrs
    index_ = ctx.inputs[1]
    if combine == "add":
        return g, None, gather(g, index_, attrs=(dim,))
    if combine is None:
        return scatter(g, index_, g.new_zeros(ctx.metas[2].shape), attrs=(dim, None)), None, gather(g, index_, attrs=(dim,))
    raise RuntimeError(f"the derivative of scatter with reduce={combine!r} is not implemented; use scatter_reduce")


scatter = Structured("scatter", meta=lambda metas, dim, combine: metas[0].plain, grad=_scatter_grad, saves=((1,), False),
                     lower=lambda g, x, attrs, outs: g.scatter(x[0], x[1], x[2], *attrs))


# -- several index tensors ----------------------------------------------------------------------------------------
# Inputs (x, *indices) with indices of one shape; attrs (first indexed dimension, ...). The indexed dimensions are
# adjacent; the result has the indices' shape in their place.


def _linear_index(g: Graph, indices: Sequence[Node], sizes: Shape) -> Node:
    """One index into the indexed dimensions taken as one."""
    total = None
    for i, n in zip(indices, sizes):
        k = _wrapped(g, i, n)
        total = k if total is None else g.map(lambda e, a, b, n=n: a * n + b, total, k)
    assert total is not None
    return total


def _spread(g: Graph, at: Node, outer: Shape, inner: Shape) -> tuple[Node, int]:
    """The index for a source seen as (outer, indexed, inner)."""
    flat = g.reshape(at, (1, at.size, 1))
    return g.expand(flat, (math.prod(outer), at.size, math.prod(inner))), at.size


def _index_meta(metas: Sequence[Meta], first: int) -> Meta:
    x, n = metas[0], len(metas) - 1
    if metas[1].numel and math.prod(x.shape[first:first + n]) == 0:
        raise IndexError(f"index is out of bounds for dimension with size 0: tensor {list(x.shape)}")
    return meta_of((*x.shape[:first], *metas[1].shape, *x.shape[first + n:]), x.dtype, x.device)


def _parts(shape: Shape, first: int, n: int) -> tuple[Shape, Shape, Shape]:
    return shape[:first], shape[first:first + n], shape[first + n:]


def _index_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, indices = inputs[0], inputs[1:]
    if not outs[0].numel:
        return g.const(0, x.dtype, outs[0].shape)
    outer, sizes, inner = _parts(x.shape, attrs[0], len(indices))
    indices = _within(g, indices, sizes)
    at, _ = _spread(g, _linear_index(g, indices, sizes), outer, inner)
    flat = g.reshape(x, (math.prod(outer), math.prod(sizes), math.prod(inner)))
    return g.reshape(g.gather(flat, at, 1), outs[0].shape)


def _within(g: Graph, indices: Sequence[Node], sizes: Shape) -> list[Node]:
    """With several indices each is checked by itself: one that is out of range could stay inside their product."""
    if len(indices) == 1:
        return list(indices)
    big = math.prod(sizes)
    checked = []
    for i, n in zip(indices, sizes):
        i = g.cast(i, dt.int64)
        # Out of range becomes far out of range, so that the check of the joint index sees it.
        checked.append(g.map(lambda e, k, n=n: e.where(e.ge(k, -n) & e.lt(k, n), k, e.const(big * 4 + 1, dt.int64)), i))
    return checked


def _index_grad(ctx: Any, g: Any) -> Sequence[Any]:
    x, n = ctx.metas[0], len(ctx.metas) - 1
    made = index_put(g.new_zeros(x.shape), g, *ctx.inputs[1:], attrs=(ctx.attrs[0], "add"))
    return (made, *[None] * n)


def _index_saves(needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
    return tuple(range(1, len(needs))), False


def _index_lays(metas: Sequence[Meta], out: Meta, attrs: tuple) -> Meta:
    """As what is taken lies, where the dimensions that are looked up say nothing; then as the indices lie."""
    x, first, n = metas[0], attrs[0], len(metas) - 1
    strides, width = x.strides or contiguous_strides(x.shape), len(metas[1].shape)
    source = (*strides[:first], *(0,) * width, *strides[first + n:])
    each = [(*(0,) * first, *(m.strides or contiguous_strides(m.shape)), *(0,) * (len(out.shape) - first - width)) for m in metas[1:]]
    return sorted_by(out, [source, *each])


index = Structured("index", moves=True, meta=_index_meta, lower=_index_lower, grad=_index_grad, saves=_index_saves, lays=_index_lays)


# Inputs (x, values, *indices), attrs (first indexed dimension, combine); values have the shape of ``index``'s result.


def _put_meta(metas: Sequence[Meta], first: int, combine: str | None) -> Meta:
    _index_meta([metas[0], *metas[2:]], first)
    return metas[0].plain


def _put_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, values, *indices = inputs
    if not values.size:
        return x
    outer, sizes, inner = _parts(x.shape, attrs[0], len(indices))
    at, n = _spread(g, _linear_index(g, _within(g, indices, sizes), sizes), outer, inner)
    flat = g.reshape(x, (math.prod(outer), math.prod(sizes), math.prod(inner)))
    source = g.reshape(values, (math.prod(outer), n, math.prod(inner)))
    return g.reshape(g.scatter(flat, at, source, 1, attrs[1]), x.shape)


def _put_grad(ctx: Any, g: Any) -> Sequence[Any]:
    first, combine = ctx.attrs
    indices = ctx.inputs[2:]
    outside = g if combine == "add" else index_put(g, g.new_zeros(ctx.metas[1].shape), *indices, attrs=(first, None))
    return (outside, index(g, *indices, attrs=(first,)), *[None] * len(indices))


def _put_saves(needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
    return tuple(range(2, len(needs))), False


index_put = Structured("index_put", moves=True, meta=_put_meta, lower=_put_lower, grad=_put_grad, saves=_put_saves, lays=like_input())


# -- scatter with a product or an extreme -------------------------------------------------------------------------
# Inputs (base, index, src), attrs (dimension, "mul", "max" or "min").


def _scatter_reduce_grad(ctx: Any, g: Any) -> Sequence[Any]:
    dim, combine = ctx.attrs
    base, index_, src = ctx.inputs
    out = ctx.outputs[0]
    if combine == "mul":
        return _scatter_product_grad(g, out, base, index_, src, dim)
    # Extremes share the gradient equally.
    from_base = (base == out).to(g.dtype)
    from_src = (src == gather(out, index_, attrs=(dim,))).to(g.dtype)
    share = g / scatter(from_base, index_, from_src, attrs=(dim, "add"))
    return from_base * share, None, from_src * gather(share, index_, attrs=(dim,))


def _scatter_product_grad(g: Any, out: Any, base: Any, index_: Any, src: Any, dim: int) -> Sequence[Any]:
    """The product of the others: by division, and where there is one zero by the product without it."""
    zero_base, zero_src = base == 0, src == 0
    zeros = scatter(zero_base.to(g.dtype), index_, zero_src.to(g.dtype), attrs=(dim, "add"))
    rest = scatter_reduce(base.masked_fill(zero_base, 1), index_, src.masked_fill(zero_src, 1), attrs=(dim, "mul"))
    kept = g * rest

    def share(x: Any, is_zero: Any, number: Any, value: Any) -> Any:
        plain = (value / x.masked_fill(is_zero, 1)).masked_fill(number > 0, 0)
        return plain.where(is_zero.logical_not(), value.masked_fill(number != 1, 0))
    return (share(base, zero_base, zeros, kept), None,
            share(src, zero_src, gather(zeros, index_, attrs=(dim,)), gather(kept, index_, attrs=(dim,))))


scatter_reduce = Structured("scatter_reduce", meta=lambda metas, dim, combine: metas[0].plain, grad=_scatter_reduce_grad,
                            lower=lambda g, x, attrs, outs: g.scatter(x[0], x[1], x[2], *attrs))
