"""Padding with the content's own elements: reflected, repeated at the borders, or as if it began anew.

Along a dimension the result is a few runs of the input's elements, forwards, backwards, or one element again and again. Its adjoint
adds the runs up where they came from.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from .layouts import suggested
from .structured import Structured

__all__ = ["pad_content"]


class _Run(NamedTuple):
    """``length`` elements: ``start``, ``start + step``, ...; step 0 repeats one of them."""

    start: int
    length: int
    step: int


def _runs(mode: str, size: int, lo: int, hi: int) -> list[_Run]:
    """What a dimension of ``size`` becomes. Borders are made from the whole content, then the content is cut where a number is
    negative; a circular border is made from what is left of the content."""
    first, stop = max(0, -lo), size - max(0, -hi)
    if mode == "reflect":
        before, behind = _Run(lo, lo, -1), _Run(size - 2, hi, -1)
    elif mode == "replicate":
        before, behind = _Run(0, lo, 0), _Run(size - 1, hi, 0)
    else:
        before, behind = _Run(stop - lo, lo, 1), _Run(first, hi, 1)
    return [run for run in (before, _Run(first, stop - first, 1), behind) if run.length > 0]


def _grown(metas: Sequence[Meta], mode: str, pairs: tuple) -> Meta:
    (m,) = metas
    shape = list(m.shape)
    for dim, lo, hi in pairs:
        shape[dim] = sum(run.length for run in _runs(mode, shape[dim], lo, hi))
    return meta_of(tuple(shape), m.dtype, m.device)


def _cut(g: Graph, x: Node, dim: int, start: int, count: int, step: int = 1) -> Node:
    shape = tuple(count if d == dim else n for d, n in enumerate(x.shape))
    return g.slice(x, [start if d == dim else 0 for d in range(len(shape))], shape, [step if d == dim else 1 for d in range(len(shape))])


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, (mode, pairs) = inputs[0], attrs
    if not outs[0].numel:
        return g.const(0, x.dtype, outs[0].shape)
    for dim, lo, hi in pairs:
        parts = []
        for start, count, step in _runs(mode, x.shape[dim], lo, hi):
            part = _cut(g, x, dim, start, count if step else 1, step or 1)
            parts.append(part if step else g.expand(part, tuple(count if d == dim else n for d, n in enumerate(x.shape))))
        x = g.concat(parts, dim)
    return x


def _back_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, (mode, pairs, _) = inputs[0], attrs
    dtype, shape = x.dtype, outs[0].shape
    if not x.size or not outs[0].numel:
        return g.const(0, dtype, shape)
    x = g.cast(x, dtype.compute)
    for dim, lo, hi in reversed(pairs):
        size, at, total = shape[dim], 0, None
        for start, count, step in _runs(mode, size, lo, hi):
            part = _cut(g, x, dim, at, count)
            at += count
            if not step:
                part, count = g.reduce("add", part, (dim,), True), 1
            elif step < 0:
                part, start = _cut(g, part, dim, count - 1, count, -1), start - count + 1
            part = g.pad(part, [start if d == dim else 0 for d in range(len(shape))],
                         [size - start - count if d == dim else 0 for d in range(len(shape))], 0)
            total = part if total is None else g.map(lambda e, a, b: a + b, total, part)
        assert total is not None
        x = total
    return g.cast(x, dtype)


def _name(attrs: tuple, outs: Sequence[Meta], inputs: int) -> str:
    mode, pairs = attrs[:2]
    if mode == "circular":
        return "torch::autograd::CopySlices"
    return f"{'Reflection' if mode == 'reflect' else 'Replication'}Pad{len(pairs)}DBackward0"


# attrs ("reflect", "replicate" or "circular", ((dimension, before, behind), ...)), one dimension after the other
pad_content: Structured = Structured(
    "pad", meta=_grown, lower=_lower, saves=((), False), grad_name=_name, lays=suggested(0, volumes=False),
    grad=lambda ctx, g: _pad_back(g, attrs=(*ctx.attrs, ctx.metas[0].shape)))
# attrs as above, and the shape of the content
_pad_back: Structured = Structured(
    "pad_backward", meta=lambda metas, mode, pairs, shape: meta_of(shape, metas[0].dtype, metas[0].device), lower=_back_lower,
    saves=((), False), grad=lambda ctx, gg: pad_content(gg, attrs=ctx.attrs[:2]))
