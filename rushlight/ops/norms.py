"""Vector norms, and what their gradients share."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..compile.dtypes import DType
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .reduction import reduced_shape
from .structured import Structured

__all__ = ["vector_norm"]

Shape = tuple[int, ...]


def _meta(metas: Sequence[Meta], order: float, dims: Shape, keepdim: bool, dtype: DType) -> Meta:
    m = metas[0]
    if order < 0 or order == math.inf:
        for d in dims:
            if m.shape[d] == 0:
                raise RuntimeError(f"linalg.vector_norm cannot compute the {order} norm on the dimension {d} because this "
                                   "dimension is empty and the operation does not have an identity")
    return meta_of(reduced_shape(m.shape, dims, keepdim), dtype, m.device)


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    order, dims, keepdim, dtype = attrs
    x = g.map(lambda e, v: e.abs(v), g.cast(inputs[0], dtype.compute))
    if math.isinf(order):
        made = g.reduce("max" if order > 0 else "min", x, dims, keepdim)
    elif order == 0:
        made = g.reduce("add", g.map(lambda e, v: e.cast(e.ne(v, 0), v.dtype), x), dims, keepdim)
    elif order == 1:
        made = g.reduce("add", x, dims, keepdim)
    elif order == 2:
        made = g.map(lambda e, v: e.sqrt(v), g.reduce("add", g.map(lambda e, v: v * v, x), dims, keepdim))
    else:
        total = g.reduce("add", g.map(lambda e, v: e.pow(v, order), x), dims, keepdim)
        made = g.map(lambda e, v: e.pow(v, 1 / order), total)
    return g.cast(made, dtype)


def _grad(ctx: Any, g: Any) -> Any:
    """Zero where the norm is zero; equal shares where several elements are the extreme."""
    order, dims, keepdim, dtype = ctx.attrs
    x, y = ctx.inputs[0].to(dtype), ctx.outputs[0]
    if not keepdim:
        kept = reduced_shape(ctx.metas[0].shape, dims, True)
        g, y = g.reshape(kept), y.reshape(kept)
    if order == 0:
        made = (x * g) * 0
    elif order == 1:
        made = x.sign() * g
    elif math.isinf(order):
        where = ((x.abs() == y) | (x.isnan() & y.isnan())).to(dtype)
        made = x.sign() * where * (g / where.sum(dims, True))
    elif order == 2:
        made = (x * (g / y)).masked_fill(y == 0, 0.0)
    else:
        size = x.abs()
        made = x.sign() * size ** (order - 1) * (g / y ** (order - 1))
        made = made.masked_fill((y == 0) | (size == 0) if order < 2 else y == 0, 0.0)
    return made.to(ctx.metas[0].dtype)


# attrs: (order, dimensions, keepdim, dtype to compute in)
vector_norm = Structured("linalg_vector_norm", meta=_meta, lower=_lower, grad=_grad, saves=((0,), True))
