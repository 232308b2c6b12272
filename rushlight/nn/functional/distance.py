"""Distances and similarities."""
from __future__ import annotations

from typing import Any

from ...autograd.titles import titled
from ...ops.pointwise import broadcast_shapes
from ...ops.structured import wrap_dim
from ...tensor import FUNCTIONS

__all__ = ["cosine_similarity", "pairwise_distance", "pdist"]


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1·x2 / (max(|x1|, eps) max(|x2|, eps)) along ``dim``, broadcast.

    Raises:
        RuntimeError: integer tensors.
    """
    if x1.dtype is not x2.dtype:
        wide = (x1.new_empty((1,)) + x2.new_empty((1,))).dtype
        x1, x2 = x1.to(wide), x2.to(wide)
    if x1.dtype.kind not in "fc":
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {x1.dtype.name.capitalize()}")
    d = wrap_dim(dim, max(x1.ndim, x2.ndim))
    shape = broadcast_shapes([tuple(x1.shape), tuple(x2.shape)], "cosine_similarity")
    x1, x2 = x1.expand(shape), x2.expand(shape)
    a = x1 / _length(x1, d).clamp_min(eps)
    b = x2 / _length(x2, d).clamp_min(eps)
    return (a * b).sum(d)


def _length(x: Any, dim: int) -> Any:
    """The norm along a dimension, kept; its gradient at zero is zero."""
    square = (x * x).sum(dim, True)
    zero = square == 0
    return FUNCTIONS["where"](zero, square, FUNCTIONS["where"](zero, FUNCTIONS["ones_like"](square), square).sqrt())


def p_norm(x: Any, p: float, dim: int, keepdim: bool = False) -> Any:
    """The p-norm along ``dim``; gradients at zero are zero, as PyTorch's are."""
    p = float(p)
    if x.dtype.kind == "c":
        x = x.abs()
    if p == 0:
        return FUNCTIONS["where"](x != 0, 1.0, x * 0).sum(dim, keepdim)  # in the graph, with gradient zero
    if p == 1:
        return x.abs().sum(dim, keepdim)
    if p == 2:
        length = _length(x, wrap_dim(dim, x.ndim))
        return length if keepdim else length.squeeze(dim)
    if p in (float("inf"), float("-inf")):
        return x.abs().amax(dim, keepdim) if p > 0 else x.abs().amin(dim, keepdim)
    where = FUNCTIONS["where"]
    powers = x.abs()
    zero = powers == 0
    total = where(zero, powers, where(zero, FUNCTIONS["ones_like"](powers), powers).pow(p)).sum(dim, keepdim)
    none = total == 0
    return where(none, total, where(none, FUNCTIONS["ones_like"](total), total).pow(1.0 / p))


@titled("NormBackward1")
def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The p-norm of x1 - x2 + eps over the last dimension."""
    return p_norm(x1 - x2 + eps, p, -1, keepdim)


@titled("PdistBackward0")
def pdist(input: Any, p: float = 2.0) -> Any:
    """Distances between all pairs of rows: (N, M) -> (N (N - 1) / 2,).

    Raises:
        RuntimeError: not two-dimensional, or negative p.
    """
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if input.dtype.kind != "f":
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    import numpy as np

    from ...tensor.creation import from_array

    first, second = (from_array(i.astype(np.int64)) for i in np.triu_indices(input.shape[0], 1))
    return p_norm(input.index_select(0, first) - input.index_select(0, second), p, -1)
