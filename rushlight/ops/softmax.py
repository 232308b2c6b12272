"""Softmax and log-softmax: one node each, and one for each gradient."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile.dtypes import DType
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .structured import Structured

__all__ = ["softmax", "log_softmax", "shifted", "log_softmax_of"]

# attrs: (dimension, result dtype).


def _meta(name: str) -> Any:
    def meta(metas: Sequence[Meta], dim: int, dtype: DType) -> Meta:
        if dtype.kind != "f":
            raise NotImplementedError(f'"{name}_lastdim_kernel_impl" not implemented for {dtype.name} tensors: convert the input, or '
                                      "give a floating dtype")
        return meta_of(metas[0].shape, dtype, metas[0].device)
    return meta


def shifted(g: Graph, x: Node, dim: int) -> tuple[Node, Node]:
    """(x - its maximum along ``dim``, the sum of the exponentials of that with ``dim`` kept)."""
    dims = (dim,) if x.shape else ()
    y = g.map(lambda e, a, m: a - m, x, g.reduce("max", x, dims, True))
    return y, g.reduce("add", g.map(lambda e, a: e.exp(a), y), dims, True)


def log_softmax_of(g: Graph, x: Node, dim: int) -> Node:
    """Log-softmax of a node that is already in the type to compute in."""
    y, total = shifted(g, x, dim)
    return g.map(lambda e, a, s: a - e.log(s), y, total)


def _softmax_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dim, dtype = attrs
    if not outs[0].numel:
        return g.const(0, dtype, outs[0].shape)
    y, total = shifted(g, g.cast(inputs[0], dtype.compute), dim)
    return g.cast(g.map(lambda e, a, s: e.exp(a) * e.reciprocal(s), y, total), dtype)  # one division a row, not one a number


def _log_softmax_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dim, dtype = attrs
    if not outs[0].numel:
        return g.const(0, dtype, outs[0].shape)
    return g.cast(log_softmax_of(g, g.cast(inputs[0], dtype.compute), dim), dtype)


# -- gradients: inputs (incoming gradient, result), attrs (dimension, dtype of the input) --------------------------


def _back_meta(metas: Sequence[Meta], dim: int, dtype: DType) -> Meta:
    return meta_of(metas[0].shape, dtype, metas[0].device)


def _total(g: Graph, x: Node, dim: int) -> Node:
    return g.reduce("add", x, (dim,) if x.shape else (), True)


def _softmax_back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dim, dtype = attrs
    grad, y = (g.cast(n, n.dtype.compute) for n in inputs)
    if not outs[0].numel:
        return g.const(0, dtype, outs[0].shape)
    inner = _total(g, g.map(lambda e, a, b: a * b, grad, y), dim)
    return g.cast(g.map(lambda e, a, b, s: b * (a - s), grad, y, inner), dtype)


def _log_softmax_back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dim, dtype = attrs
    grad, y = (g.cast(n, n.dtype.compute) for n in inputs)
    if not outs[0].numel:
        return g.const(0, dtype, outs[0].shape)
    return g.cast(g.map(lambda e, a, b, s: a - e.exp(b) * s, grad, y, _total(g, grad, dim)), dtype)


def _softmax_back_grad(ctx: Any, v: Any) -> Sequence[Any]:
    (grad, y), dim = ctx.inputs, ctx.attrs[0]
    v = v.to(y.dtype)
    inner = (v * y).sum(dim, True)
    return (v - inner) * y, v * (grad - (grad * y).sum(dim, True)) - grad * inner


def _log_softmax_back_grad(ctx: Any, v: Any) -> Sequence[Any]:
    (grad, y), dim = ctx.inputs, ctx.attrs[0]
    v, p = v.to(y.dtype), y.exp()
    return v - (v * p).sum(dim, True), -(v * p * grad.sum(dim, True))


_softmax_back = Structured("softmax_backward_data", meta=_back_meta, lower=_softmax_back_lower, grad=_softmax_back_grad,
                           saves=((0, 1), False))
_log_softmax_back = Structured("log_softmax_backward_data", meta=_back_meta, lower=_log_softmax_back_lower,
                               grad=_log_softmax_back_grad, saves=((0, 1), False))

softmax = Structured("softmax", meta=_meta("softmax"), lower=_softmax_lower, saves=((), True),
                     grad=lambda ctx, g: _softmax_back(g, ctx.outputs[0], attrs=(ctx.attrs[0], ctx.metas[0].dtype)))
log_softmax = Structured("log_softmax", meta=_meta("log_softmax"), lower=_log_softmax_lower, saves=((), True),
                         grad=lambda ctx, g: _log_softmax_back(g, ctx.outputs[0], attrs=(ctx.attrs[0], ctx.metas[0].dtype)))
