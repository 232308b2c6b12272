"""Pooling. Windows are affine views, so a pool is one reduction; inputs are (*lead, *size), whatever comes before.

The gradient of a maximum goes to the first element of a window that is the maximum. Where windows tile the input (the usual
case) that is a pointwise choice at every element; where they overlap, the chosen elements are added up at their places.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..compile import dtypes as dt
from ..compile.graph import Graph, Node
from ..compile.sizes import numeric
from ..record.meta import Meta, meta_of
from .grad_names import by_dimensions
from .layouts import suggested
from .structured import Structured
from .windows import Windows, cut, inside_position, lowest, repeated, spread_back

__all__ = ["max_pool", "max_pool_indices", "avg_pool", "ragged_max", "ragged_mean", "unfold_windows", "fold_windows"]

Shape = tuple[int, ...]


def _lead(m: Meta, nd: int) -> Shape:
    return m.shape[:len(m.shape) - nd]


# With more windows than this over one element, adding at their places is cheaper than asking each of them.
_MOST_WINDOWS = 9


# -- maximum ------------------------------------------------------------------------------------------------------
# attrs (Windows,)


def _axes(shape: Shape, nd: int) -> range:
    return range(len(shape) - nd, len(shape))


def _chosen(g: Graph, x: Node, w: Windows) -> tuple[Node, Node]:
    """(windows' maxima, number of the first element that is the maximum (a NaN is), as int32)."""
    parts = cut(g, x, w, lowest(x.dtype))
    axes = _axes(parts.shape, w.nd)
    top = g.reduce("max", parts, axes)
    spread = repeated(g, top, w)
    at = inside_position(g, parts.shape, w)
    hit = (lambda e, a, m: e.eq(a, m) | e.isnan(a)) if x.dtype.kind == "f" else (lambda e, a, m: e.eq(a, m))
    first = g.map(lambda e, a, m, k: e.where(hit(e, a, m), k, e.const(math.prod(w.kernel) - 1, dt.int32)), parts, spread, at)
    return top, g.reduce("min", first, axes)


def _flat_index(g: Graph, chosen: Node, w: Windows) -> Node:
    """Positions in the input's last dimensions taken as one, int64, from numbers within windows."""
    nd, shape = w.nd, chosen.shape
    left = g.cast(chosen, dt.int64)
    places: list[Node] = []
    for d in reversed(range(nd)):
        k, s, p, step = w.kernel[d], w.stride[d], w.padding[d], w.dilation[d]
        u = g.map(lambda e, a, k=k: e.mod(a, k), left) if d else left
        left = g.map(lambda e, a, k=k: e.floordiv(a, k), left) if d else left
        at = g.map(lambda e, a, o, s=s, p=p, step=step: a * step + o * s - p, u, g.index(shape, len(shape) - nd + d))
        if p:  # a window of nothing but -inf chooses its first element, which may be padding: the first inside it
            at = g.map(lambda e, a, step=step: e.where(e.lt(a, 0), a + e.floordiv(-a + (step - 1), e.const(step, dt.int64)) * step, a), at)
        places.append(at)
    places.reverse()
    total = places[0]
    for d in range(1, nd):
        total = g.map(lambda e, a, b, n=w.size[d]: a * n + b, total, places[d])
    return total


def _max_meta(metas: Sequence[Meta], w: Windows) -> Meta:
    return meta_of((*_lead(metas[0], w.nd), *w.out), metas[0].dtype, metas[0].device)


def _max_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    (w,) = attrs
    parts = cut(g, inputs[0], w, lowest(inputs[0].dtype))
    return g.reduce("max", parts, _axes(parts.shape, w.nd))


def _max_indices_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
    (w,) = attrs
    top, chosen = _chosen(g, inputs[0], w)
    return [top, _flat_index(g, chosen, w)]


def _max_indices_meta(metas: Sequence[Meta], w: Windows) -> tuple[Meta, Meta]:
    y = _max_meta(metas, w)
    return y, meta_of(y.shape, dt.int64, y.device)


def _max_back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    grad, x = inputs
    (w,) = attrs
    shape = outs[0].shape
    if not grad.size:
        return g.const(0, grad.dtype, shape)
    _, chosen = _chosen(g, x, w)
    lead = shape[:len(shape) - w.nd]
    if w.apart or w.overlap <= _MOST_WINDOWS:
        whole = (*lead, *w.out, *w.kernel)
        spread = [repeated(g, a, w) for a in (grad, chosen)]
        at = inside_position(g, whole, w)
        return spread_back(g, g.map(lambda e, a, c, k: e.where(e.eq(c, k), a, e.const(0, a.dtype)), *spread, at), w)
    rows, n = math.prod(lead), math.prod(w.size)
    zeros = g.const(0, grad.dtype.compute, (rows, n))
    index = _flat_index(g, chosen, w)
    if any(p and d > 1 for p, d in zip(w.padding, w.dilation)):  # a window may hold nothing but padding: its gradient is lost
        grad = g.map(lambda e, a, k: e.where(e.lt(k, n), a, e.const(0, a.dtype)), grad, index)
        index = g.map(lambda e, k: e.min(k, max(n - 1, 0)), index)
    index = g.reshape(index, (rows, math.prod(w.out)))
    added = g.scatter(zeros, index, g.cast(g.reshape(grad, index.shape), grad.dtype.compute), 1, "add")
    return g.cast(g.reshape(added, shape), grad.dtype)


def _pick_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    """The elements of the first input at the places of the second's maxima."""
    v, x = inputs
    (w,) = attrs
    _, chosen = _chosen(g, x, w)
    parts = cut(g, v, w, 0)
    spread = repeated(g, chosen, w)
    at = inside_position(g, parts.shape, w)
    picked = g.map(lambda e, a, c, k: e.where(e.eq(c, k), a, e.const(0, a.dtype)), parts, spread, at)
    return g.reduce("add", picked, _axes(parts.shape, w.nd))


def _max_grad(ctx: Any, g: Any, *_: Any) -> Any:
    return None if g is None else _max_back(g, ctx.inputs[0], attrs=ctx.attrs)


max_pool = Structured("max_pool", lays=suggested(0, lines=True),
                      meta=_max_meta, lower=_max_lower, grad=_max_grad, saves=((0,), False),
                      grad_name=by_dimensions("MaxPool{}DWithIndicesBackward0"))
max_pool_indices = Structured("max_pool", lays=suggested(0, lines=True),
                              meta=_max_indices_meta, lower=_max_indices_lower, grad=_max_grad, saves=((0,), False),
                              grad_name=by_dimensions("MaxPool{}DWithIndicesBackward0"))
_max_back: Structured = Structured("max_pool_backward", meta=lambda metas, w: metas[1].plain, lower=_max_back_lower, saves=((1,), False),
                       grad=lambda ctx, gg: (_pick(gg, ctx.inputs[1], attrs=ctx.attrs), None),
                       grad_name="MaxPool2DWithIndicesBackwardBackward0")
_pick: Structured = Structured("max_pool_pick", meta=lambda metas, w: _max_meta(metas, w), lower=_pick_lower, saves=((1,), False),
                   grad=lambda ctx, g: (_max_back(g, ctx.inputs[1], attrs=ctx.attrs), None))


# -- average ------------------------------------------------------------------------------------------------------
# attrs (Windows, count_include_pad, divisor or None)


def _divisor(g: Graph, shape: Shape, w: Windows, include: bool, divisor: int | None, dtype: Any) -> Node | float:
    """What the windows' sums are divided by: a number, or a value for each where windows are cut off at the border."""
    nd = w.nd
    if divisor is not None:
        return divisor
    total: Node | float = 1
    for d in range(nd):
        n, k, s, p, o = w.size[d], w.kernel[d], w.stride[d], w.padding[d], w.out[d]
        limit = n + p if include else n
        if (include or p == 0) and (o - 1) * s - p + k <= limit:
            count: Node | float = k
        else:
            def length(e: Any, at: Any, s: int = s, p: int = p, k: int = k, limit: int = limit) -> Any:
                start = at * s - p
                stop = e.min(start + k, limit)
                return e.cast(stop - (start if include else e.max(start, 0)), dtype)
            count = g.map(length, g.index(shape, len(shape) - nd + d))
        if isinstance(count, Node) and isinstance(total, Node):
            total = g.map(lambda e, t, c: t * c, total, count)
        elif isinstance(count, Node):
            total = g.map(lambda e, c, t=total: c * t, count)
        else:
            total = g.map(lambda e, t, c=count: t * c, total) if isinstance(total, Node) else count * total
    return total


def _divide(g: Graph, x: Node, by: Node | float) -> Node:
    if isinstance(by, Node):
        return g.map(lambda e, a, b: a / b, x, by)
    return x if by == 1 else g.map(lambda e, a: e.div(a, by), x)


def _avg_meta(metas: Sequence[Meta], w: Windows, *_: Any) -> Meta:
    if metas[0].dtype.kind not in "fi":
        raise NotImplementedError(f"\"avg_pool\" not implemented for '{metas[0].dtype.name}'")
    return _max_meta(metas, w)


def _avg_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    w, include, divisor = attrs
    x, out = inputs[0], outs[0]
    parts = cut(g, g.cast(x, x.dtype.compute), w, 0)
    total = g.reduce("add", parts, _axes(parts.shape, w.nd))
    if x.dtype.kind != "f":
        by = _divisor(g, out.shape, w, include, divisor, dt.float64)
        quotient = _divide(g, g.cast(total, dt.float64), by)
        return g.cast(g.map(lambda e, a: e.trunc(a), quotient), x.dtype)
    return g.cast(_divide(g, total, _divisor(g, out.shape, w, include, divisor, total.dtype)), x.dtype)


def _avg_back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    w, include, divisor = attrs
    grad = inputs[0]
    if not grad.size:
        return g.const(0, grad.dtype, outs[0].shape)
    wide = g.cast(grad, grad.dtype.compute)
    by = _divisor(g, grad.shape, w, include, divisor, wide.dtype)
    if isinstance(by, Node):
        wide, by = _divide(g, wide, by), 1
    return g.cast(_divide(g, spread_back(g, repeated(g, wide, w), w), by), grad.dtype)  # a number divides the sums, in the same pass


def _avg_back_meta(metas: Sequence[Meta], w: Windows, *_: Any) -> Meta:
    return meta_of((*_lead(metas[0], w.nd), *w.size), metas[0].dtype, metas[0].device)


avg_pool: Structured = Structured("avg_pool", lays=suggested(0, lines=True, volumes=False),
                                  meta=_avg_meta, lower=_avg_lower, saves=((), False),
                      grad_name=by_dimensions("AvgPool{}DBackward0"), grad=lambda ctx, g: _avg_back(g, attrs=ctx.attrs))
_avg_back: Structured = Structured("avg_pool_backward", meta=_avg_back_meta, lower=_avg_back_lower, saves=((), False),
                       grad=lambda ctx, gg: avg_pool(gg, attrs=ctx.attrs), grad_name="AvgPool2DBackwardBackward0")


# -- windows of unequal length ------------------------------------------------------------------------------------
# Along each dimension window o of m over n elements is [floor(o n / m), ceil((o + 1) n / m)). Input i is in the windows
# [floor(i m / n), ceil((i + 1) m / n)): the adjoint is of the same kind.


@numeric
def _longest(n: int, m: int) -> int:
    return max((((o + 1) * n + m - 1) // m - o * n // m for o in range(m)), default=0)


def _start(e: Any, o: Any, n: int, m: int) -> Any:
    return e.floordiv(o * n, e.const(m, dt.int64))


def _stop(e: Any, o: Any, n: int, m: int) -> Any:
    return e.floordiv((o + 1) * n + (m - 1), e.const(m, dt.int64))


def _ragged(g: Graph, x: Node, out: Shape, value: Any) -> tuple[Node, Shape]:
    """(*lead, *size) as (*lead, out, longest window, out, longest window, ...); what a shorter window lacks reads ``value``."""
    nd = len(out)
    lead = x.shape[:len(x.shape) - nd]
    size = x.shape[len(lead):]
    longest = tuple(_longest(n, m) for n, m in zip(size, out))
    for d, (n, m) in enumerate(zip(size, out)):
        x = _ragged_dim(g, x, len(lead) + 2 * d, n, m, value)
    return x, longest


def _ragged_dim(g: Graph, x: Node, axis: int, n: int, m: int, value: Any) -> Node:
    """The dimension ``axis`` of n elements as two: m windows, and the longest window."""
    t = _longest(n, m)
    shape = (*x.shape[:axis], m, t, *x.shape[axis + 1:])
    place = g.map(lambda e, o, k: e.min(_start(e, o, n, m) + k, n - 1), g.index(shape, axis), g.index(shape, axis + 1))
    flat = (*x.shape[:axis], m * t, *x.shape[axis + 1:])
    taken = g.reshape(g.gather(x, g.reshape(place, flat), axis, False), shape)
    return g.map(lambda e, a, o, k: e.where(e.lt(_start(e, o, n, m) + k, _stop(e, o, n, m)), a, e.const(value, a.dtype)),
                 taken, g.index(shape, axis), g.index(shape, axis + 1))


def _lengths(g: Graph, shape: Shape, size: Shape, out: Shape, dtype: Any) -> Node | float:
    """How many elements each window has."""
    nd, total = len(out), None
    for d, (n, m) in enumerate(zip(size, out)):
        count = g.map(lambda e, o, n=n, m=m: e.cast(_stop(e, o, n, m) - _start(e, o, n, m), dtype),
                      g.index(shape, len(shape) - nd + d))
        total = count if total is None else g.map(lambda e, a, b: a * b, total, count)
    return 1.0 if total is None else total


def _ragged_mean_meta(metas: Sequence[Meta], out: Shape, before: bool) -> Meta:
    if metas[0].dtype.kind != "f":
        raise NotImplementedError(f"\"adaptive_avg_pool\" not implemented for '{metas[0].dtype.name}'")
    return meta_of((*_lead(metas[0], len(out)), *out), metas[0].dtype, metas[0].device)


def _ragged_mean_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    """Means over windows; with ``before`` their adjoint: sums, over the windows of the other side, of the divided input."""
    x, (out, before) = inputs[0], attrs
    if not outs[0].numel or not x.size:
        return g.const(0, x.dtype, outs[0].shape)
    wide = g.cast(x, x.dtype.compute)
    size = x.shape[len(x.shape) - len(out):]
    if before:
        wide = _divide(g, wide, _lengths(g, x.shape, out, size, wide.dtype))
    total = wide
    for axis in range(len(x.shape) - len(out), len(x.shape)):  # the outer dimension first: what is added up there lies side by side
        parts = _ragged_dim(g, total, axis, total.shape[axis], out[axis - len(x.shape)], 0)
        total = g.reduce("add", parts, (axis + 1,))
    if not before:
        total = _divide(g, total, _lengths(g, total.shape, size, out, total.dtype))
    return g.cast(total, x.dtype)


ragged_mean: Structured = Structured("adaptive_avg_pool", lays=suggested(0, volumes=False),
                                     meta=_ragged_mean_meta, lower=_ragged_mean_lower, saves=((), False),
                         grad_name="AdaptiveAvgPool2DBackward0", grad=lambda ctx, g: ragged_mean(
                             g, attrs=(ctx.metas[0].shape[len(ctx.metas[0].shape) - len(ctx.attrs[0]):], not ctx.attrs[1])))


def _ragged_max_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
    x, (out,) = inputs[0], attrs
    nd, n = len(out), len(x.shape) - len(out)
    size = x.shape[n:]
    if not outs[0].numel:
        return [g.const(0, x.dtype, outs[0].shape), g.const(0, dt.int64, outs[0].shape)]
    parts, longest = _ragged(g, x, out, lowest(x.dtype))
    axes = range(n + 1, n + 2 * nd, 2)
    top = g.reduce("max", parts, axes)
    order = [*range(n), *range(n, n + 2 * nd, 2), *axes]
    rows = g.reshape(g.permute(parts, order), (*top.shape, math.prod(longest)))
    left = g.reduce("argmax", rows, (len(rows.shape) - 1,))
    places: list[Node] = []
    for d in reversed(range(nd)):
        u = g.map(lambda e, a, k=longest[d]: e.mod(a, k), left)
        left = g.map(lambda e, a, k=longest[d]: e.floordiv(a, k), left)
        places.insert(0, g.map(lambda e, a, o, s=size[d], m=out[d]: a + _start(e, o, s, m), u, g.index(top.shape, n + d)))
    total = places[0]
    for d in range(1, nd):
        total = g.map(lambda e, a, b, s=size[d]: a * s + b, total, places[d])
    return [top, total]


def _ragged_max_meta(metas: Sequence[Meta], out: Shape) -> tuple[Meta, Meta]:
    y = meta_of((*_lead(metas[0], len(out)), *out), metas[0].dtype, metas[0].device)
    return y, meta_of(y.shape, dt.int64, y.device)


def _ragged_max_grad(ctx: Any, g: Any, *_: Any) -> Any:
    """The elements at the places of the maxima are what the gradient flows to."""
    if g is None:
        return None
    from .indexing import scatter

    x, nd = ctx.metas[0], len(ctx.attrs[0])
    lead = _lead(x, nd)
    index = ragged_max(ctx.inputs[0], attrs=ctx.attrs)[1].reshape((*lead, -1)) if g.numel() else None
    if index is None:
        return g.new_zeros(x.shape)
    flat = g.new_zeros((*lead, math.prod(x.shape[len(lead):])))
    return scatter(flat, index, g.reshape(index.shape), attrs=(len(lead), "add")).reshape(x.shape)


ragged_max: Structured = Structured("adaptive_max_pool", lays=suggested(0, volumes=False),
                                    meta=_ragged_max_meta, lower=_ragged_max_lower, grad=_ragged_max_grad,
                        saves=((0,), False), grad_name="AdaptiveMaxPool2DBackward0")


# -- unfold and fold ----------------------------------------------------------------------------------------------
# (N, C, *size) <-> (N, C * kernel, windows); attrs (Windows,)


def _unfold_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    (w,) = attrs
    parts = cut(g, inputs[0], w, 0)  # (N, C, *out, *kernel)
    nd = w.nd
    return g.reshape(g.permute(parts, [0, 1, *range(2 + nd, 2 + 2 * nd), *range(2, 2 + nd)]), outs[0].shape)


def _unfold_meta(metas: Sequence[Meta], w: Windows) -> Meta:
    m = metas[0]
    return meta_of((m.shape[0], m.shape[1] * math.prod(w.kernel), math.prod(w.out)), m.dtype, m.device)


def _fold_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    (w,) = attrs
    nd = w.nd
    x = g.cast(inputs[0], inputs[0].dtype.compute)
    parts = g.reshape(x, (*outs[0].shape[:2], *w.kernel, *w.out))
    return g.cast(spread_back(g, g.permute(parts, [0, 1, *range(2 + nd, 2 + 2 * nd), *range(2, 2 + nd)]), w), inputs[0].dtype)


def _fold_meta(metas: Sequence[Meta], w: Windows) -> Meta:
    m = metas[0]
    return meta_of((m.shape[0], m.shape[1] // math.prod(w.kernel), *w.size), m.dtype, m.device)


unfold_windows: Structured = Structured("im2col", meta=_unfold_meta, lower=_unfold_lower, saves=((), False),
                            grad=lambda ctx, g: fold_windows(g, attrs=ctx.attrs))
fold_windows: Structured = Structured("col2im", meta=_fold_meta, lower=_fold_lower, saves=((), False),
                          grad=lambda ctx, g: unfold_windows(g, attrs=ctx.attrs))
