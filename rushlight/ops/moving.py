"""Views and writes whose position is an input: what ``x[i]`` and ``x[i] = v`` become where ``i`` keeps changing.

The position is a zero-dimensional int64, within range: the caller has checked it.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..compile.dtypes import int64
from ..compile.graph import Graph, Node
from ..record.meta import Meta
from ..record.op import Op
from .basic import full, update_view
from .indexing import _index_lower, _put_lower
from .structured import Structured
from .views import as_strided, select, slice_

__all__ = ["cut_at", "put_at", "take_at", "update_at"]

Shape = tuple[int, ...]

# -- a part along one dimension -----------------------------------------------------------------------------------
# attrs (dim, number of positions or None for a single one without its dimension, step between them).


def _cut_meta(metas: Sequence[Meta], dim: int, n: int | None, step: int) -> Meta:
    return select.meta(metas[:1], (dim, 0)) if n is None else slice_.meta(metas[:1], (dim, 0, (n - 1) * step + 1 if n else 0, step))


def _positions(g: Graph, start: Node, n: int | None, step: int) -> Node:
    return start if n is None else g.map(lambda e, k, i: k + i * step, start, g.index((n,), 0))


def _cut_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dim, n, step = attrs
    if not outs[0].numel:
        return g.const(0, inputs[0].dtype, outs[0].shape)
    return _index_lower(g, (inputs[0], _positions(g, inputs[1], n, step)), (dim,), outs)


def _cut_grad(ctx: Any, g: Any) -> Sequence[Any]:
    return put_at(g.contiguous(), ctx.inputs[1], attrs=(ctx.metas[0].shape, *ctx.attrs)), None


cut_at: Structured = Structured("cut_at", moves=True, meta=_cut_meta, lower=_cut_lower, grad=_cut_grad, saves=((1,), False),
                                grad_name="SelectBackward0")


def _put_at_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    shape, dim, n, step = attrs
    zeros = g.const(0, inputs[0].dtype, shape)
    if not inputs[0].size:
        return zeros
    return _put_lower(g, (zeros, inputs[0], _positions(g, inputs[1], n, step)), (dim, None), outs)


put_at = Structured("put_at", moves=True,
                    meta=lambda metas, shape, dim, n, step: full.meta((), (shape, (0, "i"), metas[0].dtype)), lower=_put_at_lower,
                    grad=lambda ctx, g: (cut_at(g, ctx.inputs[1], attrs=ctx.attrs[1:]), None), saves=((1,), False))


# -- any part of a whole storage ----------------------------------------------------------------------------------
# attrs (shape, strides): where the part lies, counted from the position.


def _places(g: Graph, start: Node, shape: Shape, strides: Shape) -> Node:
    """The place of each element of a part in the storage, as a vector."""
    at = g.expand(g.cast(start, int64), shape)
    for axis, stride in enumerate(strides):
        if shape[axis] > 1 and stride:
            at = g.map(lambda e, i, p, s=stride: i + p * s, at, g.index(shape, axis))
    return g.reshape(at, (at.size,))


def _take_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    whole, start = inputs
    if not outs[0].numel:
        return g.const(0, whole.dtype, outs[0].shape)
    return g.reshape(g.gather(g.reshape(whole, (whole.size,)), _places(g, start, *attrs), 0), attrs[0])


def _take_grad(ctx: Any, g: Any) -> Sequence[Any]:
    m = ctx.metas[0]
    return update_at(full(attrs=(m.shape, (0, "i"), m.dtype)), g.contiguous(), ctx.inputs[1], attrs=(*ctx.attrs, "add")), None


take_at: Structured = Structured("take_at", moves=True, meta=lambda metas, shape, strides: as_strided.meta(metas[:1], (shape, strides, 0)),
                                 lower=_take_lower, grad=_take_grad, saves=((1,), False), grad_name="AsStridedBackward0")


def _update_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    whole, part, start = inputs
    if not part.size:
        return whole
    shape, strides, combine = attrs
    flat = g.scatter(g.reshape(whole, (whole.size,)), _places(g, start, shape, strides), g.reshape(part, (part.size,)), 0, combine)
    return g.reshape(flat, whole.shape)


def _update_grad(ctx: Any, g: Any) -> Sequence[Any]:
    shape, strides, combine = ctx.attrs
    g, at = g.contiguous(), ctx.inputs[2]
    outside = None
    if ctx.needs[0]:
        outside = g if combine else update_at(g, full(attrs=(shape, (0, "i"), g.dtype)), at, attrs=ctx.attrs)
    return outside, take_at(g, at, attrs=(shape, strides)) if ctx.needs[1] else None, None


update_at: Structured = Structured("update_at", moves=True, meta=lambda metas, shape, strides, combine: metas[0].own, lower=_update_lower,
                                   grad=_update_grad, saves=((2,), False), grad_name="torch::autograd::CopySlices")


# -- what they stand for ------------------------------------------------------------------------------------------


def _select_at(cut: Op, attrs: tuple) -> tuple[Op, tuple, list[int]]:
    return cut, (attrs[0], None, 1), [attrs[1]]


def _slice_at(cut: Op, attrs: tuple) -> tuple[Op, tuple, list[int]]:
    dim, start, stop, step = attrs
    return cut, (dim, max(0, (stop - start + step - 1) // step), step), [start]


for _op in (as_strided, update_view):
    _op.positions = True
for _cut, _at in ((select, _select_at), (slice_, _slice_at)):
    _moving = cut_at.named(_cut.grad_name)
    _cut.positions, _cut.runtime = True, partial(_at, _moving)
as_strided.runtime = lambda attrs: None if len(attrs) > 3 else (take_at, attrs[:2], [attrs[2]])
update_view.runtime = lambda attrs: None if len(attrs) > 3 else (update_at, (*attrs[:2], None), [attrs[2]])
