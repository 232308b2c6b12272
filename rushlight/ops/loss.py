"""Losses: the terms of the common ones as pointwise formulas, each reduced in the node that computes it.

``mse(x, y, reduction="mean")`` records one node and, for its gradient, one pointwise node.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.apply import apply
from ..compile.dtypes import DType
from ..compile.expr import Expr, inputs_of
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .grad_names import reduced_name
from .pointwise import TENSOR, Pointwise, _slope_op, broadcast_shapes, tag

__all__ = ["Loss", "mse", "l1", "smooth_l1", "huber", "bce", "bce_logits", "kl", "kl_log", "soft_margin", "poisson_nll", "hinge_embedding",
           "margin_ranking"]


class Loss(Pointwise):
    """A pointwise operation that may be followed by a sum or mean over all elements; attrs are (pattern, options, reduction)."""

    autocast = "float32"
    runtime = None  # type: ignore[assignment]  # the numbers are part of the formula: there is no second form of the call

    def __call__(self, *args: Any, reduction: str = "mean", **options: Any) -> Any:
        tensors: list[Any] = []
        pattern: list[Any] = []
        for a in args:
            if hasattr(a, "_value"):
                tensors.append(a)
                pattern.append(TENSOR)
            else:
                pattern.append(tag(a))
        return apply(self, (tuple(pattern), tuple(options.items()), reduction), tensors)

    def _build(self, metas: Sequence[Meta], attrs: tuple) -> Expr:
        return super()._build(metas, attrs[:2])

    def _slope(self, metas: Sequence[Meta], attrs: tuple, k: int) -> Expr | None:
        return super()._slope(metas, attrs[:2], k)

    def _shape(self, metas: Sequence[Meta]) -> tuple[int, ...]:
        return broadcast_shapes([m.shape for m in metas], self.name)

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> Meta:
        full = super().meta(metas, attrs)
        return full if attrs[2] == "none" else meta_of((), full.dtype, full.device)

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        metas = [meta_of(n.shape, n.dtype) for n in inputs]
        shape, dtype = self._shape(metas), outs[0].dtype
        terms = g.expand(g.pointwise(self.build(metas, attrs), *inputs, shape=shape), shape)
        if attrs[2] == "none":
            return [terms]
        total = g.reduce("add", g.cast(terms, dtype.compute), range(len(shape)))
        if attrs[2] == "mean":
            n = math.prod(shape)
            total = g.map(lambda e, s: s / (n or math.nan), total)
        return [g.cast(total, dtype)]

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
        return super().saved(metas, attrs, needs)[0], False

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        metas, (g,) = ctx.metas, grads
        shape = self._shape(metas)
        if ctx.attrs[2] == "mean" and shape:
            g = g / math.prod(shape)
        given: list[Any] = [None] * len(metas)
        tensors = None
        for k, need in enumerate(ctx.needs):
            slope = self.slope(metas, ctx.attrs, k) if need else None
            if slope is None:
                continue
            if tensors is None:
                tensors = [*ctx.inputs, None, g]
            used = tuple(sorted(inputs_of(slope)))
            if used:
                if broadcast_shapes([tensors[i]._value.meta.shape for i in used]) != shape:
                    tensors[-1] = g.expand(shape)
                given[k] = apply(_slope_op(self), (slope, used), [tensors[i] for i in used])
        return given


def _loss(name: str, formula: Callable[..., Any], *, grads: Any = None, neutral: tuple[int, ...] = (), allowed: str = "fc",
          result: str | DType = "same", last: str | None = None, plain: str = "") -> Loss:
    """``last``: what PyTorch makes the terms with, where it reduces them by itself."""
    return Loss(name, formula, result, grads, (), neutral, allowed, plain=plain,
                grad_name=None if last is None else reduced_name(last))


def _zero(e: Any, x: Any) -> Any:
    return e.const(0, x.dtype)


def _smooth(e: Any, x: Any, y: Any, beta: Any) -> Any:
    d = x - y
    z = e.abs(d)
    return z if beta.attr == 0 else e.where(e.lt(z, beta), d * d * 0.5 / beta, z - beta * 0.5)


def _smooth_slope(e: Any, g: Any, out: Any, x: Any, y: Any, beta: Any) -> Any:
    d = x - y
    if beta.attr == 0:
        return g * e.sign(d)
    return g * e.where(e.lt(d, -beta), e.const(-1, g.dtype), e.where(e.gt(d, beta), e.const(1, g.dtype), d / beta))


def _huber(e: Any, x: Any, y: Any, delta: Any) -> Any:
    d = x - y
    z = e.abs(d)
    return e.where(e.le(z, delta), d * d * 0.5, delta * (z - delta * 0.5))


def _huber_slope(e: Any, g: Any, out: Any, x: Any, y: Any, delta: Any) -> Any:
    return g * e.min(e.max(x - y, -delta), delta)


mse = _loss("mse_loss", lambda e, x, y: (x - y) * (x - y), grads=(
    lambda e, g, out, x, y: g * ((x - y) * 2), lambda e, g, out, x, y: g * ((y - x) * 2)))
l1 = _loss("l1_loss", last="AbsBackward0", formula=lambda e, x, y: e.abs(x - y), grads=(
    lambda e, g, out, x, y: g * e.sign(x - y), lambda e, g, out, x, y: g * e.sign(y - x)), allowed="buif")
smooth_l1 = _loss("smooth_l1_loss", _smooth, neutral=(2,), grads=(
    _smooth_slope, lambda e, g, out, x, y, beta: -_smooth_slope(e, g, out, x, y, beta)))
huber = _loss("huber_loss", _huber, neutral=(2,), grads=(
    _huber_slope, lambda e, g, out, x, y, delta: -_huber_slope(e, g, out, x, y, delta)))


# -- cross entropies of two classes -------------------------------------------------------------------------------


def _bce(e: Any, x: Any, y: Any, w: Any) -> Any:
    """Logarithms are held above -100, as PyTorch holds them."""
    return w * ((y - 1) * e.max(e.log1p(-x), -100) - y * e.max(e.log(x), -100))


bce = _loss("binary_cross_entropy", _bce, neutral=(2,), allowed="f", grads=(
    lambda e, g, out, x, y, w: g * w * (x - y) / e.max((1 - x) * x, 1e-12),
    lambda e, g, out, x, y, w: g * w * (e.max(e.log1p(-x), -100) - e.max(e.log(x), -100)), None))


def _log_sigmoid(e: Any, x: Any) -> Any:
    return -e.log1p_exp(-x)


def _sigmoid(e: Any, x: Any) -> Any:
    return 1 / (1 + e.exp(-x))


def _bce_logits(e: Any, x: Any, y: Any, w: Any, pos: Any) -> Any:
    if pos.fn == "const" and pos.attr == 1:
        return w * ((1 - y) * x - _log_sigmoid(e, x))
    return w * ((1 - y) * x - (1 + (pos - 1) * y) * _log_sigmoid(e, x))


def _bce_logits_slope(e: Any, g: Any, out: Any, x: Any, y: Any, w: Any, pos: Any) -> Any:
    if pos.fn == "const" and pos.attr == 1:
        return g * w * (_sigmoid(e, x) - y)
    t = pos * y
    return g * w * ((t + 1 - y) * _sigmoid(e, x) - t)


bce_logits = _loss("binary_cross_entropy_with_logits", _bce_logits, allowed="f", grads=(
    _bce_logits_slope, lambda e, g, out, x, y, w, pos: -(g * w * (x + (pos - 1) * _log_sigmoid(e, x))),
    lambda e, g, out, x, y, w, pos: g * _bce_logits(e, x, y, e.const(1, g.dtype), pos),
    lambda e, g, out, x, y, w, pos: -(g * w * y * _log_sigmoid(e, x))))


# -- distributions and margins ------------------------------------------------------------------------------------


def _xlogx(e: Any, y: Any) -> Any:
    return e.where(e.isnan(y), y, e.where(e.eq(y, 0), _zero(e, y), y * e.log(y)))


kl = _loss("kl_div", last="SubBackward0", formula=lambda e, x, y: _xlogx(e, y) - y * x, allowed="f", plain="buic", grads=(
    lambda e, g, out, x, y: -(g * y), lambda e, g, out, x, y: g * (e.log(y) + 1 - x)))
kl_log = _loss("kl_div", last="MulBackward0", formula=lambda e, x, y: e.exp(y) * (y - x), allowed="f", plain="buic")
soft_margin = _loss("soft_margin_loss", lambda e, x, y: e.log1p_exp(-(y * x)), allowed="f", plain="buic", grads=(
    lambda e, g, out, x, y: -(g * y) / (1 + e.exp(y * x)), lambda e, g, out, x, y: -(g * x) / (1 + e.exp(y * x))))


def _poisson(e: Any, x: Any, y: Any, eps: Any, log_input: bool, full: bool) -> Any:
    terms = e.exp(x) - y * x if log_input else x - y * e.log(x + eps)
    if not full:
        return terms
    stirling = y * e.log(y) - y + 0.5 * e.log(y * (2 * math.pi))
    return terms + e.where(e.le(y, 1), _zero(e, y), stirling)


poisson_nll = _loss("poisson_nll_loss", _poisson, last="SubBackward0", neutral=(2,), allowed="uif", result="float")
hinge_embedding = _loss("hinge_embedding_loss", last="AddBackward0", formula=lambda e, x, y, margin:
                        e.where(e.eq(y, 1), _zero(e, x), e.max(margin - x, 0)) + e.where(
    e.eq(y, -1), _zero(e, x), x), neutral=(2,), allowed="f")
margin_ranking = _loss("margin_ranking_loss", last="ClampMinBackward0", formula=lambda e, a, b, y, margin: e.max(-y * (a - b) + margin, 0),
                       allowed="buif", grads=(
    lambda e, g, out, a, b, y, margin: _active(e, -(g * y), a, b, y, margin),
    lambda e, g, out, a, b, y, margin: _active(e, g * y, a, b, y, margin),
    lambda e, g, out, a, b, y, margin: _active(e, -(g * (a - b)), a, b, y, margin)))


def _active(e: Any, g: Any, a: Any, b: Any, y: Any, margin: Any) -> Any:
    return e.where(e.ge(-y * (a - b) + margin, 0), g, _zero(e, g))
