"""Dropout in training: one node whose mask is computed where it is needed and never stored.

The mask comes from a counter-based generator: the random bits of an element are a hash of its position and of a seed, so
that the gradient computes the same mask again from the same seed, and any thread any part of it.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..compile.graph import Graph, Node
from ..compile.randoms import dropout_limit, random_bits
from ..record.meta import Meta
from .layouts import like_input
from .structured import Structured

__all__ = ["dropout"]

Shape = tuple[int, ...]


def _lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, seed = inputs
    p, shape, scale, shift, dropped = attrs
    if not x.size:
        return x
    limit = dropout_limit(p)
    bits = g.reshape(random_bits(g, seed, math.prod(shape)), shape)

    def chosen(e: Any, a: Any, b: Any) -> Any:
        kept = a * scale
        return e.where(e.ge(b, limit), kept + shift if shift else kept, e.const(dropped, a.dtype))
    return g.cast(g.map(chosen, g.cast(x, x.dtype.compute), bits), x.dtype)


# inputs (x, seed: int64, zero-dimensional), attrs (probability of dropping, shape of the mask (it broadcasts to that of x), scale,
# shift, dropped): ``x * scale + shift`` where the mask keeps, ``dropped`` elsewhere.
dropout: Structured = Structured("dropout", lays=like_input(), meta=lambda metas, *attrs: metas[0].plain, lower=_lower, saves=((1,), False),
                                 grad_name="MulBackward0",
                                 grad=lambda ctx, g: (dropout(g, ctx.inputs[1], attrs=(*ctx.attrs[:3], 0.0, 0.0)), None))
