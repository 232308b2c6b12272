"""Complex numbers and their parts."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile.complexes import Complex
from ..compile.graph import Graph, Node, View
from ..record.meta import Meta, meta_of
from .layouts import iterated
from .structured import Structured

__all__ = ["compose", "compose_pairs", "pairs", "paired", "parted", "conj", "modulus", "sgn"]


def _call(name: str) -> Any:
    def lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
        return g.native(Complex(name, outs[0].shape, outs[0].dtype), *inputs)[0]
    return lower


# (real part, imaginary part) -> complex; gradients pair as PyTorch's do: the gradient of a complex number is conjugated
compose: Structured = Structured(
    "complex", meta=lambda metas: meta_of(metas[0].shape, metas[0].dtype.to_complex(), metas[0].device), lower=_call("complex"),
    lays=iterated, saves=((), False), grad=lambda ctx, g: (pairs(g).select(-1, 0), pairs(g).select(-1, 1)))



def parted(g: Graph, x: Node) -> Node:
    """Complex numbers as their parts along a last dimension."""
    return g.native(Complex("view_as_real", (*x.shape, 2), x.dtype.to_real()), x)[0]


def paired(g: Graph, x: Node) -> Node:
    """The complex numbers whose parts lie along the last dimension."""
    n = len(x.shape) - 1
    matrix = tuple([tuple([int(d == j) for j in range(n)]) for d in range(n + 1)])
    parts = [g.view(x, View(x.shape[:-1], (*[0] * n, k), matrix)) for k in (0, 1)]
    return g.native(Complex("complex", x.shape[:-1], x.dtype.to_complex()), *parts)[0]


# complex -> (..., 2), and back, in memory of their own: what gradients are made with. The views are in ``views.py``.
pairs: Structured = Structured(
    "view_as_real", meta=lambda metas: meta_of((*metas[0].shape, 2), metas[0].dtype.to_real(), metas[0].device), saves=((), False),
    lower=lambda g, x, attrs, outs: parted(g, x[0]), grad=lambda ctx, g: compose_pairs(g))
compose_pairs: Structured = Structured(
    "view_as_complex", meta=lambda metas: meta_of(metas[0].shape[:-1], metas[0].dtype.to_complex(), metas[0].device), saves=((), False),
    lower=lambda g, x, attrs, outs: paired(g, x[0]), grad=lambda ctx, g: pairs(g))

conj: Structured = Structured("conj", meta=lambda metas: metas[0].plain, lower=_call("conj"),
                              saves=((), False), grad=lambda ctx, g: conj(g), lays=iterated)


def _modulus_grad(ctx: Any, g: Any) -> Any:
    return sgn(ctx.inputs[0]) * g


modulus = Structured("abs", meta=lambda metas: meta_of(metas[0].shape, metas[0].dtype.to_real(), metas[0].device),
                     lower=_call("abs"), grad=_modulus_grad, saves=((0,), False), lays=iterated)


def _sgn_grad(ctx: Any, g: Any) -> Any:
    """The part of the gradient across the direction, over the length."""
    x, s = ctx.inputs[0], ctx.outputs[0]
    size = modulus(x)
    along = pairs(conj(g) * s).select(-1, 0)
    made = (g - s * along) / size
    return (size == 0).logical_not().to(g.dtype) * made.nan_to_num(0.0) if g.dtype.kind != "c" else \
        compose(*(part.nan_to_num(0.0, 0.0, 0.0) for part in (pairs(made).select(-1, 0), pairs(made).select(-1, 1))))


sgn = Structured("sgn", meta=lambda metas: metas[0].plain, lower=_call("sgn"), grad=_sgn_grad, lays=iterated)
