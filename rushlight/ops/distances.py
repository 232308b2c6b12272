"""Euclidean distances between all rows of two matrices, from their products: |x - y|² = |x|² + |y|² - 2 x·y.

That is a matrix product instead of a difference for each pair and dimension. Close rows of large numbers lose digits, as in PyTorch, which
takes this form for more than 25 rows.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .structured import Structured

__all__ = ["distances"]


def _meta(metas: Sequence[Meta]) -> Meta:
    x, y = metas
    return meta_of((x.shape[0], x.shape[1], y.shape[1]), x.dtype, x.device)


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, y = inputs
    products = g.einsum("bpm,brm->bpr", x, y)
    b, p, r = x.shape[0], x.shape[1], y.shape[1]
    of_x, of_y = (g.reduce("add", g.map(lambda e, v: v * v, v), (2,)) for v in (x, y))
    return g.map(lambda e, a, c, product: e.sqrt(e.max(a + c - product * 2, 0)),
                 g.expand(g.reshape(of_x, (b, p, 1)), (b, p, r)), g.expand(g.reshape(of_y, (b, 1, r)), (b, p, r)), products)


def _grad(ctx: Any, g: Any) -> Sequence[Any]:
    """Of rows that coincide it is zero."""
    (x, y), (found,) = ctx.inputs, ctx.outputs
    apart = found > 0
    pull = (g / found.where(apart, 1)).where(apart, 0)
    return (x * pull.sum(2, True) - pull.matmul(y) if ctx.needs[0] else None,
            y * pull.sum(1).unsqueeze(2) - pull.transpose(1, 2).matmul(x) if ctx.needs[1] else None)


# inputs (B, P, M), (B, R, M) of one floating-point type; result (B, P, R)
distances = Structured("cdist", meta=_meta, lower=_lower, grad=_grad, grad_name="CdistBackward0")
