"""Complex numbers and their parts, by NumPy."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..record.meta import Meta, meta_of
from .structured import Structured

__all__ = ["compose", "pairs", "conj", "modulus", "sgn"]


def _compose(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    made = np.empty(x[0].shape, outs[0].dtype.numpy)
    made.real, made.imag = x
    return made


# (real part, imaginary part) -> complex; gradients pair as PyTorch's do: the gradient of a complex number is conjugated
compose: Structured = Structured(
    "complex", meta=lambda metas: meta_of(metas[0].shape, metas[0].dtype.to_complex(), metas[0].device), reference=_compose,
    saves=((), False), grad=lambda ctx, g: (pairs(g).select(-1, 0), pairs(g).select(-1, 1)))

# complex -> (..., 2)
pairs: Structured = Structured(
    "view_as_real", meta=lambda metas: meta_of((*metas[0].shape, 2), metas[0].dtype.to_real(), metas[0].device), saves=((), False),
    reference=lambda x, attrs, outs: np.stack([x[0].real, x[0].imag], -1),
    grad=lambda ctx, g: compose(g.select(-1, 0), g.select(-1, 1)))

conj: Structured = Structured("conj", meta=lambda metas: metas[0].plain, reference=lambda x, attrs, outs: np.conj(x[0]),
                              saves=((), False), grad=lambda ctx, g: conj(g))


def _modulus_grad(ctx: Any, g: Any) -> Any:
    return sgn(ctx.inputs[0]) * g


modulus = Structured("abs", meta=lambda metas: meta_of(metas[0].shape, metas[0].dtype.to_real(), metas[0].device),
                     reference=lambda x, attrs, outs: np.abs(x[0]), grad=_modulus_grad, saves=((0,), False))


def _sgn(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    size = np.abs(x[0])
    return np.where(size == 0, 0, x[0] / np.where(size == 0, 1, size))


def _sgn_grad(ctx: Any, g: Any) -> Any:
    """The part of the gradient across the direction, over the length."""
    x, s = ctx.inputs[0], ctx.outputs[0]
    size = modulus(x)
    along = pairs(conj(g) * s).select(-1, 0)
    made = (g - s * along) / size
    return (size == 0).logical_not().to(g.dtype) * made.nan_to_num(0.0) if g.dtype.kind != "c" else \
        compose(*(part.nan_to_num(0.0, 0.0, 0.0) for part in (pairs(made).select(-1, 0), pairs(made).select(-1, 1))))


sgn = Structured("sgn", meta=lambda metas: metas[0].plain, reference=_sgn, grad=_sgn_grad)
