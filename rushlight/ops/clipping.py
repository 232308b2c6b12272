"""The norm of many tensors together and their scaling in place, one recorded operation each, however many there are."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd.writing import apply_over
from ..compile.graph import Graph, Node
from ..record.meta import Meta, meta_of
from ..record.op import Op
from .basic import update_view
from .structured import Structured

__all__ = ["square_sum", "scale_"]


def _square_sum_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    total = None
    for x in inputs:
        x = g.cast(x, outs[0].dtype.compute)
        own = g.reduce("add", g.map(lambda e, x: x * x, x), range(len(x.shape)))
        total = own if total is None else g.map(lambda e, a, b: a + b, total, own)
    assert total is not None
    return g.cast(total, outs[0].dtype)


# The sum of the squares of all elements of tensors of one dtype: () of that dtype.
square_sum = Structured("square_sum", meta=lambda metas: meta_of((), metas[0].dtype, metas[0].device), lower=_square_sum_lower)


class _Scale(Op):
    """Inputs: a factor (), then tensors. Results: each tensor times the factor."""

    name, grad_name = "scale", ""
    differentiable = False

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> tuple[Meta, ...]:
        return tuple(m.own for m in metas[1:])

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        factor, *tensors = inputs
        made = []
        for x in tensors:
            wide = x.dtype.compute
            made.append(g.cast(g.map(lambda e, x, f: x * f, g.cast(x, wide), g.cast(factor, wide)), x.dtype))
        return made

    def cost(self, outs: Sequence[Meta]) -> int:
        return sum(m.numel for m in outs)


_scale = _Scale()


def scale_(tensors: Sequence[Any], factor: Any) -> None:
    """Multiply different tensors by a zero-dimensional one, in place."""
    apply_over(_scale, (), [factor, *tensors], tensors, update_view)
