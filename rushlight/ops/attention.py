"""Scaled dot-product attention: one node forward, one backward. Neither stores a weight for each pair of query and key.

What the kernels of ``compile/attention.py`` do not cover (gradients of few queries, very long heads) is written out as two products
and a softmax between them.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..compile.attention import MAX_HEAD, attend, attend_backward
from ..compile.dtypes import DType, bfloat16
from ..compile.graph import Graph, Node
from ..compile.randoms import dropout_limit, random_bits
from ..record.meta import Meta, meta_of
from .contraction import einsum2
from .derived import gradient_of
from .dropout import dropout
from .grad_names import attention_name
from .layouts import in_order_of
from .structured import Structured

__all__ = ["attention"]

# Inputs q (*N, H, L, E), k (*N, G, S, E), v (*N, G, S, V), [numbers to add to the scores: they broadcast to (*N, H, L, S)],
# [seed of the weights to drop: int64, zero-dimensional]; G divides H. attrs: (scale, whether query i sees the keys up to i only,
# whether there is a mask, probability of dropping a weight). Results: (*N, H, L, V), and for the gradient (*N, H, 2, L): of each
# row the largest score, and one over its sum of exponentials beside that.

_FEW = 4  # queries; with fewer, most of a vector would be empty


def _meta(metas: Sequence[Meta], scale: float, causal: bool, masked: bool, drop: float) -> tuple[Meta, Meta]:
    q, k, v = (m.shape for m in metas[:3])
    fits = len(q) == len(k) == len(v) and q[:-3] == k[:-3] == v[:-3] and k[:-1] == v[:-1] and q[-1] == k[-1]
    if not fits or len(q) > 2 and (q[-3] != k[-3] and (k[-3] == 0 or q[-3] % k[-3])):
        raise RuntimeError(f"scaled_dot_product_attention: query {list(q)}, key {list(k)} and value {list(v)} do not fit: expected "
                           "(..., L, E), (..., S, E) and (..., S, Ev)")
    if masked:
        want, have = (*q[:-1], k[-2]), metas[3].shape
        if len(have) > len(want) or any(n not in (1, w) for n, w in zip(reversed(have), reversed(want))):
            raise RuntimeError(f"scaled_dot_product_attention: attn_mask {list(have)} does not broadcast to {list(want)}")
    first = metas[0]
    return meta_of((*q[:-1], v[-1]), first.dtype, first.device), meta_of((*q[:-2], 2, q[-2]), first.dtype.compute, first.device)


def _four(g: Graph, x: Node, dtype: DType) -> Node:
    """(N, heads, rows, columns) in the type to compute in. A three-dimensional tensor is a batch with one head each."""
    shape = x.shape
    if len(shape) == 3:
        shape = (shape[0], 1, *shape[1:])
    elif len(shape) == 2:
        shape = (1, 1, *shape)
    return g.reshape(g.cast(x, dtype), (math.prod(shape[:-3]), *shape[-3:]))


def _mask(g: Graph, inputs: Sequence[Node], at: int, masked: bool) -> Node | None:
    if not masked:
        return None
    q, k = inputs[0], inputs[1]
    full = (*q.shape[:-1], k.shape[-2])
    return _four(g, g.expand(g.cast(inputs[at], q.dtype.compute), full), q.dtype.compute)


def _direct(inputs: Sequence[Node], least: int = _FEW) -> bool:
    """Whether the kernels do it, of so many queries on. They count weights in 32 bits, to drop some."""
    q, k, v = inputs[:3]
    few = math.prod(q.shape[:-1]) * k.shape[-2] <= 1 << 32
    return few and q.shape[-2] >= least and q.shape[-1] <= MAX_HEAD and v.shape[-1] <= MAX_HEAD


def _inside(dtype: DType, direct: bool) -> DType:
    """The type of the calls' operands: bfloat16 as it is, for where the processor multiplies it (else it is widened there)."""
    return dtype if direct and dtype is bfloat16 else dtype.compute


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
    scale, causal, masked, drop = attrs
    if not outs[0].numel or not inputs[1].size or not inputs[0].size:
        return [g.const(0, m.dtype, m.shape) for m in outs]
    wide = inputs[0].dtype.compute is inputs[0].dtype  # half precision would be widened first, all of the keys
    direct = _direct(inputs, 1 if wide and not drop else _FEW)
    q, k, v = (_four(g, x, _inside(x.dtype, direct)) for x in inputs[:3])
    mask, seed = _mask(g, inputs, 3, masked), inputs[-1] if drop else None
    made = (attend if direct else _written_out)(g, q, k, v, mask, scale, causal, drop, seed)
    return [g.reshape(g.cast(x, m.dtype), m.shape) for x, m in zip(made, outs)]


# -- written out --------------------------------------------------------------------------------------------------


def _scores(g: Graph, q: Node, k: Node, mask: Node | None, scale: float, causal: bool) -> Node:
    """(N, G, heads of a group, L, S)"""
    scores = g.einsum("ngrle,ngse->ngrls", g.map(lambda e, a: a * scale, q), k)
    if mask is not None:
        scores = g.map(lambda e, a, m: a + m, scores, g.reshape(mask, scores.shape))
    if causal:
        shape = scores.shape
        scores = g.map(lambda e, a, i, j: e.where(e.ge(i, j), a, e.const(-math.inf, a.dtype)), scores, g.index(shape, 3), g.index(shape, 4))
    return scores


def _grouped(g: Graph, x: Node, groups: int) -> Node:
    return g.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))


def _factor(g: Graph, scores: Node, drop: float, seed: Node | None) -> Node | None:
    """What each weight is multiplied by where some are dropped."""
    if seed is None:
        return None
    bits, limit, dtype = g.reshape(random_bits(g, seed, scores.size), scores.shape), dropout_limit(drop), scores.dtype
    return g.map(lambda e, b: e.where(e.ge(b, limit), e.const(1 / (1 - drop), dtype), e.const(0, dtype)), bits)


def _times(g: Graph, x: Node, factor: Node | None) -> Node:
    return x if factor is None else g.map(lambda e, a, b: a * b, x, factor)


def _written_out(g: Graph, q: Node, k: Node, v: Node, mask: Node | None, scale: float, causal: bool, drop: float,
                 seed: Node | None) -> tuple[Node, Node]:
    scores = _scores(g, _grouped(g, q, k.shape[1]), k, mask, scale, causal)
    most = g.reduce("max", scores, (4,), True)
    most = g.map(lambda e, m: e.where(e.eq(m, -math.inf), e.const(0, m.dtype), m), most)
    weights = g.map(lambda e, a, m: e.exp(a - m), scores, most)
    total = g.reduce("add", weights, (4,), True)
    safe = g.map(lambda e, t: e.where(e.eq(t, 0), e.const(1, t.dtype), t), total)
    weights = _times(g, g.map(lambda e, w, t: w / t, weights, safe), _factor(g, scores, drop, seed))
    out = g.einsum("ngrls,ngsv->ngrlv", weights, v)
    share = g.map(lambda e, t, s: e.where(e.eq(t, 0), e.const(0, t.dtype), 1 / s), total, safe)
    b, h, length, _ = q.shape
    rows = g.concat([g.reshape(x, (b, h, 1, length)) for x in (most, share)], 2)
    return g.reshape(out, (b, h, length, v.shape[3])), rows


def _written_out_backward(g: Graph, q: Node, k: Node, v: Node, out: Node, grad: Node, rows: Node, mask: Node | None, scale: float,
                          causal: bool, drop: float, seed: Node | None) -> Sequence[Node]:
    groups = k.shape[1]
    shape = b, h, length, _ = q.shape
    most, share = (g.reshape(g.slice(rows, (0, 0, n, 0), (b, h, 1, length)), (b, h, length, 1)) for n in range(2))
    q, out, grad, most, share = (_grouped(g, x, groups) for x in (q, out, grad, most, share))
    weights = g.map(lambda e, a, m, s: e.exp(e.min(a - m, e.const(0, a.dtype))) * s, _scores(g, q, k, mask, scale, causal), most, share)
    inner = g.reduce("add", g.map(lambda e, a, b: a * b, grad, out), (4,), True)
    factor = _factor(g, weights, drop, seed)
    change = _times(g, g.einsum("ngrlv,ngsv->ngrls", grad, v), factor)
    change = g.map(lambda e, w, d, i: w * (d - i) * scale, weights, change, inner)
    return (g.reshape(g.einsum("ngrls,ngse->ngrle", change, k), shape), g.einsum("ngrls,ngrle->ngse", change, q),
            g.einsum("ngrls,ngrlv->ngsv", _times(g, weights, factor), grad))


# -- gradient: inputs q, k, v, the result, its gradient, the rows' numbers, [mask], [seed]; attrs as above ------


def _backward_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
    scale, causal, masked, drop = attrs
    if not inputs[0].size or not inputs[1].size or not inputs[2].size:
        return [g.const(0, m.dtype, m.shape) for m in outs]
    direct = _direct(inputs)
    q, k, v, out, grad = (_four(g, x, _inside(x.dtype, direct)) for x in inputs[:5])
    rows = g.reshape(inputs[5], (*q.shape[:2], 2, q.shape[2]))
    mask, seed = _mask(g, inputs, 6, masked), inputs[-1] if drop else None
    back = attend_backward if direct else _written_out_backward
    made = back(g, q, k, v, out, grad, rows, mask, scale, causal, drop, seed)
    return [g.reshape(g.cast(x, m.dtype), m.shape) for x, m in zip(made, outs)]


def _backward_formula(inputs: Sequence[Any], attrs: tuple) -> Sequence[Any]:
    """The gradients in tensors, from q, k, v, the incoming gradient and the mask alone: for second derivatives."""
    scale, causal, masked, drop = attrs
    q, k, v, _, grad = inputs[:5]
    shapes = [t.shape for t in (q, k, v)]
    wide = q.dtype.compute
    q, k, v, grad = (t.to(wide).reshape(_four_shape(t.shape)) for t in (q, k, v, grad))
    n, heads, length, _ = q.shape
    groups, source = k.shape[1], k.shape[2]
    q, grad = (t.reshape(n, groups, heads // groups, *t.shape[2:]) for t in (q, grad))
    scores = einsum2(q, k, attrs=("ngrle", "ngse", "ngrls")) * scale
    if masked:
        scores = scores + inputs[6].to(wide).expand(*shapes[0][:-1], source).reshape(scores.shape)
    if causal:
        scores = scores.masked_fill(scores.new_ones(length, source).tril() == 0, -math.inf)
    shut = (scores == -math.inf).all(-1, True)
    weights = scores.masked_fill(shut, 0.0).softmax(-1).masked_fill(shut, 0.0)
    used, change = weights, einsum2(grad, v, attrs=("ngrlv", "ngsv", "ngrls"))
    if drop:
        used, change = (dropout(t, inputs[-1], attrs=(drop, tuple(t.shape), 1 / (1 - drop), 0.0, 0.0)) for t in (used, change))
    change = weights * (change - (change * weights).sum(-1, True)) * scale
    made = (einsum2(change, k, attrs=("ngrls", "ngse", "ngrle")), einsum2(change, q, attrs=("ngrls", "ngrle", "ngse")),
            einsum2(used, grad, attrs=("ngrls", "ngrlv", "ngsv")))
    return [t.reshape(s).to(inputs[0].dtype) for t, s in zip(made, shapes)]


def _four_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) == 3:
        shape = (shape[0], 1, *shape[1:])
    lead = math.prod(shape[:-3]) if len(shape) > 3 else 1
    return (lead, *((1,) * (3 - len(shape)) if len(shape) < 3 else ()), *shape[-3:])


def _grad(ctx: Any, grad: Any, _: Any) -> Sequence[Any]:
    if grad is None:
        return [None] * len(ctx.needs)
    q, k, v, *rest = ctx.inputs
    out, rows = ctx.outputs
    made = _backward(q, k, v, out, grad, rows, *rest, attrs=ctx.attrs)
    return [*(t if need else None for t, need in zip(made, ctx.needs)), *(None for _ in rest)]


_backward = Structured("scaled_dot_product_attention_backward", meta=lambda metas, *attrs: tuple(m.plain for m in metas[:3]),
                       lower=_backward_lower, grad=gradient_of(_backward_formula))
def _lays(metas: Sequence[Meta], outs: Any, attrs: tuple) -> Any:
    """In the order of the queries, where the tiled computation of PyTorch takes them as they are."""
    tiled = len(metas[0].shape) == 4 and all(m.strides is None or m.strides[-1] == 1 for m in metas[:3])
    return in_order_of()(metas, outs, attrs) if tiled else outs


#: The gradient of the mask is not known to it.
attention = Structured("scaled_dot_product_attention", meta=_meta, lower=_lower, grad=_grad, autocast="low",
                       grad_name=attention_name, lays=_lays)
