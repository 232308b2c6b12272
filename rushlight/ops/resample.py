"""Resizing along one dimension as a weighted sum of a few input positions; images are resized one dimension at a time."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .layouts import suggested
from .structured import Structured

__all__ = ["taps", "repeat_each"]

# inputs (x, positions (T, out) int64, weights (T, out)), attrs (axis, n): out[o] = sum_t weights[t, o] * x[positions[t, o]]
# along ``axis``, whose length is n in the input. Without weights they are 1.


def _replaced(m: Meta, axis: int, n: int) -> Meta:
    return meta_of((*m.shape[:axis], n, *m.shape[axis + 1:]), m.dtype, m.device)


def _row(g: Graph, table: Node, t: int, shape: Sequence[int], axis: int) -> Node:
    """Row t of a (T, out) table, broadcast along the other axes of ``shape``."""
    row = g.slice(table, (t, 0), (1, table.shape[1]))
    rank = len(shape)
    return g.expand(g.reshape(row, tuple(table.shape[1] if d == axis else 1 for d in range(rank))), tuple(shape))


def _taps_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, index, *weights = inputs
    axis, _ = attrs
    shape = outs[0].shape
    if not outs[0].numel:
        return g.const(0, x.dtype, shape)
    total: Node | None = None
    for t in range(index.shape[0]):
        part = g.gather(x, _row(g, index, t, shape, axis), axis, False)
        if weights:
            w = _row(g, weights[0], t, shape, axis)
            part = g.map(lambda e, a, b: a * b, g.cast(part, weights[0].dtype), w)
        total = part if total is None else g.map(lambda e, a, b: a + b, total, part)
    assert total is not None
    return g.cast(total, x.dtype)


def _taps_grad(ctx: Any, g: Any) -> Sequence[Any]:
    axis, n = ctx.attrs
    found = _taps_back(g, *ctx.inputs[1:], attrs=(axis, n)) if ctx.needs[0] else None
    return (found, *[None] * (len(ctx.metas) - 1))


def _back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    grad, index, *weights = inputs
    axis, _ = attrs
    wide = weights[0].dtype if weights else grad.dtype.compute
    total = g.const(0, wide, outs[0].shape)
    if not grad.size:
        return g.cast(total, grad.dtype)
    grad_wide = g.cast(grad, wide)
    for t in range(index.shape[0]):
        part = grad_wide
        if weights:
            part = g.map(lambda e, a, b: a * b, part, _row(g, weights[0], t, grad.shape, axis))
        total = g.scatter(total, _row(g, index, t, grad.shape, axis), part, axis, "add")
    return g.cast(total, grad.dtype)


taps: Structured = Structured("upsample", lays=suggested(0),
                  meta=lambda metas, axis, n: _replaced(metas[0], axis, metas[1].shape[1]), lower=_taps_lower,
                  grad=_taps_grad, saves=lambda needs: (tuple(range(1, len(needs))), False))
_taps_back: Structured = Structured("upsample_backward", meta=lambda metas, axis, n: _replaced(metas[0], axis, n), lower=_back_lower,
                        grad=lambda ctx, gg: (taps(gg, *ctx.inputs[1:], attrs=ctx.attrs), *[None] * (len(ctx.metas) - 1)),
                        saves=lambda needs: (tuple(range(1, len(needs))), False))

# attrs (factors,): every element of the last dimensions repeated


def _repeat_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, (times,) = inputs[0], attrs
    lead = len(x.shape) - len(times)
    split = (*x.shape[:lead], *[m for n in x.shape[lead:] for m in (n, 1)])
    whole = (*x.shape[:lead], *[m for n, t in zip(x.shape[lead:], times) for m in (n, t)])
    return g.reshape(g.expand(g.reshape(x, split), whole), outs[0].shape)


def _repeat_back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    grad, (times,) = inputs[0], attrs
    lead = len(grad.shape) - len(times)
    whole = (*grad.shape[:lead], *[m for n, t in zip(grad.shape[lead:], times) for m in (n // t, t)])
    wide = g.cast(grad, grad.dtype.compute)
    return g.cast(g.reduce("add", g.reshape(wide, whole), range(lead + 1, len(whole), 2)), grad.dtype)


def _scaled(m: Meta, times: tuple[int, ...], up: bool) -> Meta:
    lead = len(m.shape) - len(times)
    return meta_of((*m.shape[:lead], *[n * t if up else n // t for n, t in zip(m.shape[lead:], times)]), m.dtype, m.device)


def _nearest_name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    return f"UpsampleNearest{len(attrs[0])}DBackward0"


repeat_each: Structured = Structured("upsample_nearest", lays=suggested(0),
                         grad_name=_nearest_name, meta=lambda metas, times: _scaled(metas[0], times, True), lower=_repeat_lower,
                         saves=((), False), grad=lambda ctx, g: _repeat_back(g, attrs=ctx.attrs))
_repeat_back: Structured = Structured("upsample_nearest_backward", meta=lambda metas, times: _scaled(metas[0], times, False),
                          lower=_repeat_back_lower, saves=((), False), grad=lambda ctx, gg: repeat_each(gg, attrs=ctx.attrs))
