"""Rows of a table by number: one node forward, one scatter-add for the gradient."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..compile import dtypes as dt
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .structured import Structured

__all__ = ["embedding"]

# Inputs (table (V, D), numbers); attrs (row without gradient or -1, whether gradients are divided by how often a row occurs).


def _meta(metas: Sequence[Meta], padding: int, by_frequency: bool) -> Meta:
    table, at = metas
    if table.shape[0] == 0 and at.numel:
        raise IndexError("index out of range in self: the table has no rows")
    return meta_of((*at.shape, table.shape[1]), table.dtype, table.device)


def _spread(g: Graph, at: Node, width: int) -> Node:
    flat = g.reshape(g.cast(at, dt.int64), (at.size, 1))
    return g.expand(flat, (at.size, width))


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    table, at = inputs
    if not outs[0].numel:
        return g.const(0, table.dtype, outs[0].shape)
    return g.reshape(g.gather(table, _spread(g, at, table.shape[1]), 0), outs[0].shape)


def _back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    grad, at = inputs
    rows, padding, by_frequency = attrs
    out = outs[0]
    zeros = g.const(0, out.dtype, out.shape)
    if not grad.size:
        return zeros
    n, width = math.prod(at.shape), out.shape[1]
    source = g.reshape(grad, (n, width))
    flat = g.reshape(g.cast(at, dt.int64), (n,))
    if padding >= 0:
        row = g.expand(g.reshape(flat, (n, 1)), (n, width))
        source = g.map(lambda e, a, i: e.where(e.eq(i, padding), e.const(0, a.dtype), a), source, row)
    if by_frequency:
        kind = out.dtype.compute
        counts = g.scatter(g.const(0, kind, (rows,)), flat, g.const(1, kind, (n,)), 0, "add")
        often = g.expand(g.reshape(g.gather(counts, flat, 0), (n, 1)), (n, width))
        source = g.cast(g.map(lambda e, a, c: a / c, g.cast(source, kind), often), out.dtype)
    return g.scatter(zeros, _spread(g, at, width), source, 0, "add")


def _back_grad(ctx: Any, v: Any) -> Sequence[Any]:
    if ctx.attrs[2]:
        raise RuntimeError("embedding: the second derivative with scale_grad_by_freq is not implemented")
    picked = embedding(v, ctx.inputs[1], attrs=(-1, False))
    if ctx.attrs[1] >= 0:
        picked = picked * (ctx.inputs[1] != ctx.attrs[1]).unsqueeze(-1).to(picked.dtype)
    return picked, None


_back = Structured("embedding_dense_backward", meta=lambda metas, rows, padding, by_frequency: meta_of(
    (rows, metas[0].shape[-1]), metas[0].dtype, metas[0].device), lower=_back_lower, grad=_back_grad, saves=((1,), False))
embedding = Structured("embedding", meta=_meta, lower=_lower, saves=((1,), False), grad=lambda ctx, g: (
    _back(g, ctx.inputs[1], attrs=(ctx.metas[0].shape[0], *ctx.attrs)), None))
