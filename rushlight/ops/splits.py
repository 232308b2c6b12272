"""Several views that one call gives: ``split`` and ``unbind``. They are one recorded operation with one graph node, as in PyTorch, whose
gradient waits for those of all pieces.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.apply import apply_views
from ..autograd.handle import How
from ..compile.graph import Graph, Node
from ..record.meta import Meta, contiguous_strides
from ..record.op import Op
from .views import (
    Place,
    Shape,
    ViewOp,
    put_view,
    select_of_unbind,
    sizes_unsafely,
    slice_of_sizes,
    slice_of_split,
    slice_unsafely,
)

__all__ = ["SplitOp", "split", "split_unsafely", "split_with_sizes", "split_with_sizes_unsafely", "unbind"]


class SplitOp(Op):
    """Views side by side along a dimension, the first of ``attrs``.

    Args:
        one: the operation of each view by itself: pieces of ready memory are made by it, for which nothing is recorded, and each piece
            tells that it was.
        each: ``attrs -> attributes of one`` for each view.
    """

    is_view = is_cut = True

    def __init__(self, one: ViewOp, each: Callable[..., Sequence[tuple]]) -> None:
        self.name, self.grad_name = one.name + "s", one.grad_name
        self.one, self._each = one, each
        self._hows = functools.lru_cache(1024)(self._how_of_each)

    def __call__(self, x: Any, *attrs: Any) -> tuple[Any, ...]:
        return apply_views(self, attrs, x)

    def views(self, x: Any, attrs: tuple) -> tuple[Any, ...]:
        return apply_views(self, attrs, x)

    def each(self, attrs: tuple) -> Sequence[tuple]:
        return self._each(*attrs)

    def _how_of_each(self, attrs: tuple, metas: tuple[Meta, ...]) -> tuple[How, ...]:
        return tuple([How(self.one, one, m) for one, m in zip(self.each(attrs), metas)])

    def hows(self, node: Any) -> tuple[How, ...]:
        return self._hows(node.attrs, node.metas)

    def places(self, shape: Shape, strides: Shape, attrs: tuple) -> Sequence[Place]:
        return [self.one.place(shape, strides, 0, one) for one in self.each(attrs)]

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> tuple[Meta, ...]:
        return tuple([self.one.meta(metas, one) for one in self.each(attrs)])

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        return [self.one.lower(g, inputs, one, [out])[0] for one, out in zip(self.each(attrs), outs)]

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
        return (), False

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        """Each piece's gradient in its place among zeros, added up; the compiler puts them side by side (``passes/assemble.py``)."""
        shape, total = ctx.metas[0].shape, None
        for g, place in zip(grads, self.places(shape, contiguous_strides(shape), ctx.attrs)):
            if g is not None:
                there = put_view(g, shape, *place)
                total = there if total is None else total + there
        return (total,)

    def cost(self, outs: Sequence[Meta]) -> int:
        return 0


def _stretches(dim: int, *sizes: int) -> Sequence[tuple]:
    ends, end = [], 0
    for size in sizes:
        ends.append((dim, end, end + size, 1))
        end += size
    return ends


split, split_with_sizes = SplitOp(slice_of_split, _stretches), SplitOp(slice_of_sizes, _stretches)
split_unsafely, split_with_sizes_unsafely = SplitOp(slice_unsafely, _stretches), SplitOp(sizes_unsafely, _stretches)
unbind = SplitOp(select_of_unbind, lambda dim, n: [(dim, k) for k in range(n)])
