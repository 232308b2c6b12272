"""Triangles of matrices and diagonals put into them."""
from __future__ import annotations

from collections.abc import Sequence

from ..compile.graph import Graph, Node
from ..record.meta import Meta
from .structured import Structured

__all__ = ["tril", "triu"]


def _triangle(name: str, lower_part: bool) -> Structured:
    def lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
        x, (k,) = inputs[0], attrs
        n = len(x.shape)
        rows, columns = g.index(x.shape, n - 2), g.index(x.shape, n - 1)
        zero = g.const(0, x.dtype, x.shape)
        keep = (lambda e, i, j, a, z: e.where(e.le(j - i, k), a, z)) if lower_part else (
            lambda e, i, j, a, z: e.where(e.ge(j - i, k), a, z))
        return g.map(keep, rows, columns, x, zero)

    def meta(metas: Sequence[Meta], k: int) -> Meta:
        if len(metas[0].shape) < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        return metas[0].plain
    op: Structured = Structured(name, meta=meta, lower=lower, saves=((), False), grad=lambda ctx, g: op(g, attrs=ctx.attrs))
    return op


tril, triu = _triangle("tril", True), _triangle("triu", False)
