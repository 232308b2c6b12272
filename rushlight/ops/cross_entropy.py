"""Cross entropy and negative log-likelihood against class numbers: one node forward, one for the gradient.

Inputs are (scores, target) or (scores, target, weight): scores of shape (C,) or (N, C, ...), target of shape () or (N, ...),
weight of shape (C,). attrs are ``(from_logits, ignore_index, reduction, smoothing)``; with ``from_logits`` the scores go
through log-softmax first, else they are log-probabilities. The log-probabilities are never stored: the loss of a row is the
logarithm of its sum of exponentials less the score of its target.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile import dtypes as dt
from ..compile.errors import TARGET
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .softmax import shifted
from .structured import Structured

__all__ = ["cross_entropy"]

Shape = tuple[int, ...]


def class_dim(shape: Shape) -> int:
    return 0 if len(shape) == 1 else 1


def _check(metas: Sequence[Meta], name: str) -> None:
    x, t = metas[0], metas[1]
    if x.dtype.kind != "f":
        raise NotImplementedError(f'"{name}_out_frame" not implemented for {x.dtype.name} tensors')
    if not x.shape:
        raise RuntimeError(f"{name}: expected an input with a dimension of classes, got a zero-dimensional tensor")
    if t.dtype.name not in ("int64", "uint8"):
        raise RuntimeError(f"expected scalar type Long but found {t.dtype.name.capitalize()}: {name} takes class numbers "
                           f"(int64) or, of the "
                           "input's shape, class probabilities")
    dim = class_dim(x.shape)
    wanted = (*x.shape[:dim], *x.shape[dim + 1:])
    if x.shape[:dim] != t.shape[:dim] and len(x.shape) > 1:
        raise ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({t.shape[0] if t.shape else 1}).")
    if t.shape != wanted:
        raise RuntimeError(f"{name}: input {list(x.shape)} wants a target of size {list(wanted)}, got {list(t.shape)}")
    if len(metas) > 2 and metas[2].dtype is not x.dtype:
        raise RuntimeError(f"{name}: expected a weight of dtype {x.dtype.name} as the input has, but found {metas[2].dtype.name}")
    if len(metas) > 2 and metas[2].shape != (x.shape[dim],):
        raise RuntimeError(f"weight tensor should be defined either for all {x.shape[dim]} classes or no classes but got weight tensor of "
                           f"shape: {list(metas[2].shape)}")


def _meta(metas: Sequence[Meta], from_logits: bool, ignore: int, reduction: str, smoothing: float) -> Meta:
    _check(metas, "cross_entropy_loss" if from_logits else "nll_loss")
    m = metas[0]
    return meta_of(metas[1].shape if reduction == "none" else (), m.dtype, m.device)


class _Parts:
    """What the loss and its gradient share, all with the class dimension kept (length 1)."""

    def __init__(self, g: Graph, inputs: Sequence[Node], ignore: int) -> None:
        scores, target = inputs[0], inputs[1]
        self.g = g
        self.x = g.cast(scores, scores.dtype.compute)
        self.dim = class_dim(scores.shape)
        self.classes = scores.shape[self.dim]
        self.kept = tuple(1 if d == self.dim else n for d, n in enumerate(scores.shape))
        t = g.reshape(g.cast(target, dt.int64), self.kept)
        self.counts = g.map(lambda e, k: e.ne(k, ignore), t)
        self.safe = g.map(lambda e, k, c: e.where(c, k, e.const(0, dt.int64)), t, self.counts)
        self.weight = g.cast(inputs[2], self.x.dtype) if len(inputs) > 2 else None

    def own_weight(self) -> Node:
        """The weight of each target, 0 for ignored ones.

        It is read by class number also where there are no weights: that finds a label out of range in programs that need
        only the gradient.
        """
        g = self.g
        weight = g.const(1, self.x.dtype, (self.classes,)) if self.weight is None else self.weight
        flat = g.reshape(self.safe, (self.safe.size,))
        taken = g.reshape(g.gather(weight, flat, 0, TARGET), self.kept)
        return g.map(lambda e, w, c: e.where(c, w, e.const(0, w.dtype)), taken, self.counts)

    def class_weight(self) -> Node | None:
        """The weights along the class dimension of the scores."""
        if self.weight is None:
            return None
        return self.g.reshape(self.weight, tuple(self.classes if d == self.dim else 1 for d in range(len(self.x.shape))))

    def all(self, x: Node) -> Node:
        return self.g.reduce("add", x, range(len(x.shape)))


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    from_logits, ignore, reduction, smoothing = attrs
    out = outs[0]
    p = _Parts(g, inputs, ignore)
    if not inputs[0].size:
        return g.const(float("nan") if reduction == "mean" else 0, out.dtype, out.shape)
    w = p.own_weight()
    if from_logits:
        y, total = shifted(g, p.x, p.dim)
        level = g.map(lambda e, s: e.log(s), total)
    else:
        y, level = p.x, None
    picked = g.gather(y, p.safe, p.dim, TARGET)
    if level is not None:
        picked = g.map(lambda e, a, b: a - b, picked, level)
    loss = g.map(lambda e, a, k, c: e.where(c, -(a * k), e.const(0, a.dtype)), picked, w, p.counts)
    if smoothing:
        logs = y if level is None else g.map(lambda e, a, b: a - b, y, level)
        weights = p.class_weight()
        spread = g.reduce("add", logs if weights is None else g.map(lambda e, a, b: a * b, logs, weights), (p.dim,), True)
        share = smoothing / p.classes
        loss = g.map(lambda e, a, s, c: e.where(c, a * (1 - smoothing) - s * share, e.const(0, a.dtype)), loss, spread, p.counts)
    if reduction == "none":
        return g.reshape(g.cast(loss, out.dtype), out.shape)
    total = p.all(loss)
    if reduction == "mean":
        total = g.map(lambda e, a, b: a / b, total, p.all(w))
    return g.cast(total, out.dtype)


# -- the gradient -------------------------------------------------------------------------------------------------
# Inputs (incoming gradient, scores, target[, weight]). With q = (1 - smoothing) w_t [c = t] + smoothing / C w_c, a row's gradient
# is (softmax * sum(q) - q) times the row's factor; of log-probabilities it is -q times the factor.


def _row_parts(g: Graph, inputs: Sequence[Node], attrs: tuple) -> tuple[_Parts, Node, Node, Node | None]:
    """(parts, factor of each row, own weights, smoothing's share of each class)."""
    _, ignore, reduction, smoothing = attrs
    p = _Parts(g, inputs[1:], ignore)
    w = p.own_weight()
    grad = g.cast(inputs[0], p.x.dtype)
    factor = g.reshape(grad, p.kept) if reduction == "none" else g.expand(grad, p.kept)
    if reduction == "mean":
        factor = g.map(lambda e, a, b: a / b, factor, p.all(w))
    factor = g.map(lambda e, a, c: e.where(c, a, e.const(0, a.dtype)), factor, p.counts)
    share = None
    if smoothing:
        weights = p.class_weight()
        portion = smoothing / p.classes
        share = g.const(portion, p.x.dtype, p.kept) if weights is None else g.map(lambda e, a: a * portion, weights)
    return p, factor, w, share


def _mass(p: _Parts, w: Node, share: Node | None, smoothing: float) -> Node:
    """The sum of q over the classes."""
    if share is None:
        return w
    g = p.g
    total = g.reduce("add", share, (p.dim,), True) if p.weight is not None else g.const(smoothing, p.x.dtype, p.kept)
    return g.map(lambda e, a, b: a * (1 - smoothing) + b, w, total)


def _back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    from_logits, _, _, smoothing = attrs
    if not outs[0].numel:
        return g.const(0, outs[0].dtype, outs[0].shape)
    p, factor, w, share = _row_parts(g, inputs, attrs)
    here = g.map(lambda e, i, t: e.eq(i, t), g.index(p.x.shape, p.dim), p.safe)
    q = g.map(lambda e, h, a: e.where(h, a if share is None else a * (1 - smoothing), e.const(0, a.dtype)), here, w)
    if share is not None:
        q = g.map(lambda e, a, b: a + b, q, share)
    if not from_logits:
        return g.cast(g.map(lambda e, a, f: -(a * f), q, factor), outs[0].dtype)
    y, total = shifted(g, p.x, p.dim)
    row = g.map(lambda e, m, s: m / s, _mass(p, w, share, smoothing), total)
    return g.cast(g.map(lambda e, a, r, b, f: (e.exp(a) * r - b) * f, y, row, q, factor), outs[0].dtype)


def _scale_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    if not outs[0].numel:
        return g.const(0, outs[0].dtype, outs[0].shape)
    p, factor, w, share = _row_parts(g, inputs, attrs)
    return g.cast(g.map(lambda e, m, f: m * f, _mass(p, w, share, attrs[3]), factor), outs[0].dtype)


def _scale_meta(metas: Sequence[Meta], *attrs: Any) -> Meta:
    x = metas[1]
    return meta_of(tuple(1 if d == class_dim(x.shape) else n for d, n in enumerate(x.shape)), x.dtype, x.device)


def _gather_up(v: Any, like: Meta, reduction: str, dim: int) -> Any:
    """The gradient of the incoming gradient from products at each row (class dimension kept)."""
    return v.sum() if reduction == "none" and not like.shape or reduction != "none" else v.reshape(like.shape)


def _scale_grad(ctx: Any, v: Any) -> Sequence[Any]:
    unit = ctx.metas[0]
    ones = v.new_ones(unit.shape)
    inner = v * _scale(ones, *ctx.inputs[1:], attrs=ctx.attrs)
    dim = class_dim(ctx.metas[1].shape)
    return (_gather_up(inner, unit, ctx.attrs[2], dim), *[None] * (len(ctx.metas) - 1))


def _back_grad(ctx: Any, v: Any) -> Sequence[Any]:
    grad, x = ctx.inputs[0], ctx.inputs[1]
    dim = class_dim(ctx.metas[1].shape)
    to_grad = to_x = None
    if ctx.needs[0]:
        ones = v.new_ones(ctx.metas[0].shape)
        inner = (v * _back(ones, *ctx.inputs[1:], attrs=ctx.attrs)).sum(dim, True)
        to_grad = _gather_up(inner, ctx.metas[0], ctx.attrs[2], dim)
    if ctx.needs[1] and ctx.attrs[0]:
        probabilities = x.softmax(dim)
        scale = _scale(grad, x.detach(), *ctx.inputs[2:], attrs=ctx.attrs)
        to_x = probabilities * (v - (v * probabilities).sum(dim, True)) * scale
    return (to_grad, to_x, *[None] * (len(ctx.metas) - 2))


_scale = Structured("cross_entropy_scale", meta=_scale_meta, lower=_scale_lower, grad=_scale_grad)
_back = Structured("cross_entropy_backward", meta=lambda metas, *attrs: metas[1].plain, lower=_back_lower, grad=_back_grad)


def _saves(needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
    return tuple(range(len(needs))), False


def _name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    """Smoothed, PyTorch's is a sum of two losses."""
    return "AddBackward0" if attrs[3] else "NllLossBackward0"


cross_entropy = Structured(
    "nll_loss", grad_name=_name, meta=_meta, lower=_lower, saves=_saves, autocast="float32",
    grad=lambda ctx, g: (_back(g, *ctx.inputs, attrs=ctx.attrs), *[None] * (len(ctx.metas) - 1)))
