"""Normalisation: batch, layer, group, instance and root-mean-square norms as one operation each.

All of them see the input at some shape ``view``, take statistics over the dimensions ``dims`` of it, and scale and shift by
parameters that broadcast against it. The gradient computes the statistics again from the input: in a program that holds forward
and backward they are the same graph nodes, so nothing is computed twice, and between two programs only the input is kept.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from ..record.op import backward_name
from .derived import gradient_of
from .layouts import suggested
from .structured import Structured

__all__ = ["Spec", "spec", "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "batch_norm_eval"]

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Spec:
    """The attrs of a normalisation. As part of an operation's key it is compared by identity: make it by ``spec``, which remembers.

    Attributes:
        view: the shape at which the input is seen (same elements, row-major).
        dims: dimensions of ``view`` that the statistics are taken over.
        params: shape of weight and bias against ``view``; their own shape has the same elements. All 1 where there is neither.
        eps: added to the variance.
        weight, bias: whether there is one.
        centre: subtract the mean (all but rms_norm).
        momentum: None, or that of running statistics. Then further inputs (running mean, running variance, [number of batches])
            follow, and the results are y and the new values of these. "mean": 1 / number of batches, the mean over all.
        counted: whether the number of batches is among them.
    """

    view: Shape
    dims: Shape
    params: Shape
    eps: float
    weight: bool
    bias: bool
    centre: bool = True
    momentum: float | str | None = None
    counted: bool = False

    @cached_property
    def unweighted(self) -> Spec:
        """The same for a gradient that does not read the weight."""
        return replace(self, weight=False)

    @property
    def count(self) -> int:
        return math.prod(self.view[d] for d in self.dims)

    @property
    def kept(self) -> Shape:
        """The statistics' shape."""
        return tuple(n for d, n in enumerate(self.view) if d not in self.dims)

    @property
    def inner(self) -> Shape:
        """Reduced dimensions along which the parameters are constant: sums over them are shared by all gradients."""
        return tuple(d for d in self.dims if self.params[d] == 1)

    @property
    def outer(self) -> Shape:
        """Kept dimensions along which the parameters are constant."""
        return tuple(d for d, n in enumerate(self.params) if n == 1 and d not in self.dims)


spec = lru_cache(maxsize=8192)(Spec)


# -- forward ------------------------------------------------------------------------------------------------------


def _statistics(g: Graph, x: Node, s: Spec) -> tuple[Node | None, Node, Node]:
    """(mean or None, sum of squared deviations, 1 / deviation), all with reduced dimensions of length 1."""
    n = s.count or math.nan
    mean = None
    if s.centre:
        mean = g.map(lambda e, t: t / n, g.reduce("add", x, s.dims, True))
        squares = g.reduce("add", g.map(lambda e, a, m: (a - m) * (a - m), x, mean), s.dims, True)
    else:
        squares = g.reduce("add", g.map(lambda e, a: a * a, x), s.dims, True)
    return mean, squares, g.map(lambda e, q: 1 / e.sqrt(q / n + s.eps), squares)


def _normalised(g: Graph, x: Node, mean: Node | None, rstd: Node) -> Node:
    if mean is None:
        return g.map(lambda e, a, r: a * r, x, rstd)
    return g.map(lambda e, a, m, r: (a - m) * r, x, mean, rstd)


def _param(g: Graph, p: Node, s: Spec, like: Node) -> Node:
    return g.cast(g.reshape(p, s.params), like.dtype)


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
    s: Spec = attrs[0]
    x = g.cast(g.reshape(inputs[0], s.view), inputs[0].dtype.compute)
    mean, squares, rstd = _statistics(g, x, s)
    y = _normalised(g, x, mean, rstd)
    rest = list(inputs[1:])
    if s.weight:
        y = g.map(lambda e, a, w: a * w, y, _param(g, rest.pop(0), s, x))
    if s.bias:
        y = g.map(lambda e, a, b: a + b, y, _param(g, rest.pop(0), s, x))
    y = g.reshape(g.cast(y, outs[0].dtype), outs[0].shape)
    if s.momentum is None:
        return [y]
    assert mean is not None
    var = g.map(lambda e, q: e.div(q, max(s.count - 1, 0)), squares)
    return [y, *_moved(g, s, rest, (mean, var))]


def _moved(g: Graph, s: Spec, running: Sequence[Node], new: Sequence[Node]) -> list[Node]:
    """Running statistics moved towards the batch's (for instance norms: their mean over the samples), and the count."""
    counts = [g.map(lambda e, n: n + 1, running[2])] if s.counted else []
    results = []
    for old, value in zip(running, new):
        wide = value.dtype
        value = g.reshape(value, s.kept)
        if len(s.kept) > 1:
            n = s.kept[0]
            value = g.map(lambda e, v, n=n: v / n, g.reduce("add", value, range(len(s.kept) - 1)))
        before = g.cast(g.reshape(old, value.shape), wide)
        if s.momentum == "mean":
            part = g.map(lambda e, n: 1 / n, g.cast(counts[0], wide))
            moved = g.map(lambda e, a, b, m: a * (1 - m) + b * m, before, value, part)
        else:
            share = float(s.momentum)  # type: ignore[arg-type]
            moved = g.map(lambda e, a, b, m=share: a * (1 - m) + b * m, before, value)
        results.append(g.reshape(g.cast(moved, old.dtype), old.shape))
    return [*results, *counts]


def _meta(metas: Sequence[Meta], s: Spec) -> Meta | tuple[Meta, ...]:
    x = metas[0]
    if x.dtype.kind != "f":
        raise NotImplementedError(f'normalisation is not implemented for {x.dtype}')
    if s.momentum is None:
        return x.plain
    return x.plain, *(m.plain for m in metas[1 + s.weight + s.bias:])


# -- gradient -----------------------------------------------------------------------------------------------------
# inputs (incoming gradient, x, [weight]); attrs (Spec, which of x, weight, bias want a gradient, dtype of the parameters)


def _backward_meta(metas: Sequence[Meta], s: Spec, wants: tuple[bool, bool, bool], dtype: Any) -> Any:
    x = metas[1]
    param = meta_of(s.params, dtype, x.device)
    out = tuple(m for m, want in zip((x.plain, param, param), wants) if want)
    return out if len(out) > 1 else out[0]


def _backward_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
    s, wants, dtype = attrs
    compute = inputs[1].dtype.compute
    grad = g.cast(g.reshape(inputs[0], s.view), compute)
    x = g.cast(g.reshape(inputs[1], s.view), compute)
    mean, _, rstd = _statistics(g, x, s)
    hat = _normalised(g, x, mean, rstd)
    # Sums over what the parameters do not see; then each gradient adds up what is left.
    product = g.map(lambda e, a, b: a * b, grad, hat)
    sum_g, sum_gh = g.reduce("add", grad, s.inner, True), g.reduce("add", product, s.inner, True)
    results = []
    if wants[0]:
        left = tuple(d for d in s.dims if d not in s.inner)
        n = s.count or math.nan
        w = _param(g, inputs[2], s, x) if s.weight else None
        scaled = [a if w is None else g.map(lambda e, p, q: p * q, a, w) for a in (sum_g, sum_gh)]
        m1, m2 = (g.map(lambda e, t: t / n, g.reduce("add", a, left, True)) for a in scaled)
        gy = grad if w is None else g.map(lambda e, p, q: p * q, grad, w)
        if s.centre:
            gx = g.map(lambda e, a, h, r, p, q: r * (a - p - h * q), gy, hat, rstd, m1, m2)
        else:
            gx = g.map(lambda e, a, h, r, q: r * (a - h * q), gy, hat, rstd, m2)
        results.append(g.reshape(g.cast(gx, inputs[1].dtype), inputs[1].shape))
    for want, total in zip(wants[1:], (sum_gh, sum_g)):
        if want:
            results.append(g.reshape(g.cast(g.reduce("add", total, s.outer, True), dtype), s.params))
    return results


def _backward_formula(inputs: Sequence[Any], attrs: tuple) -> Sequence[Any]:
    """The same in tensors, for second derivatives."""
    s, wants, dtype = attrs
    grad, x = inputs[0].reshape(s.view), inputs[1].reshape(s.view)
    n = max(s.count, 1)
    centred = x - x.sum(s.dims, True) / n if s.centre else x
    rstd = ((centred * centred).sum(s.dims, True) / n + s.eps).rsqrt()
    hat = centred * rstd
    results = []
    if wants[0]:
        gy = grad * inputs[2].reshape(s.params) if s.weight else grad
        gx = gy - hat * ((gy * hat).sum(s.dims, True) / n)
        if s.centre:
            gx = gx - gy.sum(s.dims, True) / n
        results.append((gx * rstd).reshape(inputs[1].shape))
    for want, whole in zip(wants[1:], (grad * hat, grad)):
        if want:
            results.append(whole.sum_to_size(s.params).to(dtype))
    return results


class _Norm(Structured):
    """A normalisation, called ``norm(x, [weight], [bias], attrs=(spec,))``."""

    shown_results = 1

    def shown_order(self, inputs: int) -> Sequence[int]:
        return range(min(inputs, 3))  # without the running statistics

    def __init__(self, name: str, grad_name: Any = None, lays: Any = None) -> None:
        super().__init__(name, meta=_meta, lower=_lower, grad=self._rule, grad_name=grad_name, lays=lays)
        self.backward = Structured(name + "_backward", meta=_backward_meta, lower=_backward_lower,
                                   grad=gradient_of(_backward_formula), grad_name=backward_name(name, "Backward0"))

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
        s: Spec = attrs[0]
        return (0, 1) if s.weight and needs[0] else (0,), False

    def _rule(self, ctx: Any, grad: Any, *_: Any) -> Sequence[Any]:
        """The statistics' own gradients are not defined, as in PyTorch: they only feed the running ones."""
        if grad is None:
            return [None] * len(ctx.needs)
        s: Spec = ctx.attrs[0]
        needs = iter(ctx.needs)
        wants = (next(needs), s.weight and next(needs), s.bias and next(needs))
        shapes = [ctx.metas[0].shape, *[m.shape for m in ctx.metas[1:]]]
        dtype = ctx.metas[1].dtype if s.weight or s.bias else ctx.metas[0].dtype
        saved = [t for t in ctx.inputs[:2] if t is not None]
        if s.weight and not wants[0] and len(saved) < 2:
            # Without the input's gradient the weight is not read; the operation then sees no weight.
            s = s.unweighted
        made = self.backward(grad, *saved[:1 + s.weight], attrs=(s, wants, dtype))
        found = iter(made if isinstance(made, tuple) else (made,))
        given: list[Any] = []
        present = [True, ctx.attrs[0].weight, ctx.attrs[0].bias]
        for there, want in zip(present, wants):
            if there:
                given.append(next(found).reshape(shapes[len(given)]) if want else None)
        return [*given, *[None] * (len(shapes) - len(given))]


batch_norm = _Norm("native_batch_norm", lays=suggested(0))
layer_norm = _Norm("native_layer_norm")
group_norm = _Norm("native_group_norm", lays=suggested(0))
instance_norm = _Norm("instance_norm", "ViewBackward0")
rms_norm = _Norm("fused_rms_norm", "MulBackward0")


# -- batch norm with given statistics -----------------------------------------------------------------------------
# inputs (x, mean, variance, [weight], [bias]), attrs (eps, weight?, bias?); channels are dimension 1 of x


def _eval_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    eps, has_weight, has_bias = attrs
    compute = inputs[0].dtype.compute
    shape = (inputs[1].size, *(1,) * (len(outs[0].shape) - 2))
    x, mean, var, *rest = (g.cast(i if k == 0 else g.reshape(i, shape), compute) for k, i in enumerate(inputs))
    scale = g.map(lambda e, v: 1 / e.sqrt(v + eps), var)
    if has_weight:
        scale = g.map(lambda e, a, w: a * w, scale, rest[0])
    shift = g.map(lambda e, m, a: -(m * a), mean, scale)
    if has_bias:
        shift = g.map(lambda e, m, a, b: b - m * a, mean, scale, rest[-1])
    return g.cast(g.map(lambda e, a, k, c: a * k + c, x, scale, shift), outs[0].dtype)


def _eval_grad(ctx: Any, g: Any) -> Sequence[Any]:
    eps, has_weight, has_bias = ctx.attrs
    x, mean, var = ctx.inputs[:3]
    wide = g.dtype.compute
    shape = (1, -1, *(1,) * (len(g.shape) - 2))
    dims = (0, *range(2, len(g.shape)))
    g = g.to(wide)
    rstd = (var.to(wide) + eps).rsqrt().reshape(shape)
    scale = rstd * ctx.inputs[3].to(wide).reshape(shape) if has_weight else rstd
    centred = (x.to(wide) - mean.to(wide).reshape(shape)) if any(ctx.needs[k] for k in range(2, 3 + has_weight)) else None
    given: list[Any] = [g * scale if ctx.needs[0] else None,
                        -(g * scale).sum(dims) if ctx.needs[1] else None,
                        (g * centred * scale * rstd * rstd * -0.5).sum(dims) if ctx.needs[2] else None]
    if has_weight:
        given.append((g * (centred * rstd)).sum(dims) if ctx.needs[3] else None)
    if has_bias:
        given.append(g.sum(dims) if ctx.needs[-1] else None)
    return given


class _EvalNorm(Structured):
    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
        read = [0] if any(needs[k] for k in range(1, 3 + attrs[1])) else []
        return (*read, 1, 2, *((3,) if attrs[1] else ())), False


batch_norm_eval = _EvalNorm("native_batch_norm", meta=lambda metas, *attrs: metas[0].plain, lower=_eval_lower, grad=_eval_grad,
                            lays=suggested(0))
