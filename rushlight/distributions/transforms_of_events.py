"""Transforms of vectors and matrices: to shares of a whole, and to factors of covariances and correlations."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..nn.functional import logsigmoid, pad, softplus
from ..tensor.kinds import finfo
from . import constraints
from .transform import Transform

__all__ = ["CorrCholeskyTransform", "LowerCholeskyTransform", "PositiveDefiniteTransform", "SoftmaxTransform", "StickBreakingTransform"]

Size = torch.Size


class _Alike(Transform):
    """All of a class are the same."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    __hash__ = Transform.__hash__


class SoftmaxTransform(_Alike):
    """Vectors to shares of a whole by softmax, which forgets a constant: the inverse gives logarithms."""

    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x: Any) -> Any:
        weights = (x - x.amax(-1, keepdim=True)).exp()
        return weights / weights.sum(-1, keepdim=True)

    def _inverse(self, y: Any) -> Any:
        return y.log()


class StickBreakingTransform(_Alike):
    """Vectors of length n to n + 1 shares of a whole, one to one: each number tells which part of the rest is broken off."""

    domain, codomain = constraints.real_vector, constraints.simplex
    bijective = True

    @staticmethod
    def _left(x: Any) -> Any:
        """How many shares are still to come, at each of the numbers: n, ..., 1."""
        return x.shape[-1] + 1 - torch.ones_like(x).cumsum(-1)

    def _call(self, x: Any) -> Any:
        z = torch.sigmoid(x - self._left(x).log())
        return pad(z, [0, 1], value=1) * pad((1 - z).cumprod(-1), [1, 0], value=1)

    def _inverse(self, y: Any) -> Any:
        shares = y[..., :-1]
        rest = (1 - shares.cumsum(-1)).clamp(min=finfo(y.dtype).tiny)
        return shares.log() - rest.log() + self._left(shares).log()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        x = x - self._left(x).log()
        return (-x + logsigmoid(x) + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        return Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        return Size((*shape[:-1], shape[-1] - 1))


class LowerCholeskyTransform(_Alike):
    """Square matrices to lower triangular ones with a positive diagonal."""

    domain, codomain = constraints.independent(constraints.real, 2), constraints.lower_cholesky

    def _call(self, x: Any) -> Any:
        return x.tril(-1) + x.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def _inverse(self, y: Any) -> Any:
        return y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed()


class PositiveDefiniteTransform(_Alike):
    """Square matrices to positive definite ones, by way of their factors."""

    domain, codomain = constraints.independent(constraints.real, 2), constraints.positive_definite

    def _call(self, x: Any) -> Any:
        factor = LowerCholeskyTransform()(x)
        return factor @ factor.mT

    def _inverse(self, y: Any) -> Any:
        return LowerCholeskyTransform().inv(torch.linalg.cholesky(y))


def _below(x: Any, n: int) -> Any:
    """Vectors of length n (n - 1) / 2 as strictly lower triangular matrices (..., n, n), row by row."""
    rows, columns = torch.tril_indices(n, n, -1)
    return x.new_zeros((*x.shape[:-1], n * n)).scatter(-1, (rows * n + columns).expand(x.shape), x).reshape(*x.shape[:-1], n, n)


def _of_below(x: Any, diagonal: int = -1) -> Any:
    """What lies on and below a diagonal of matrices, row by row, as vectors."""
    rows, columns = torch.tril_indices(x.shape[-2], x.shape[-1], diagonal)
    return x[..., rows, columns]


class CorrCholeskyTransform(Transform):
    """Vectors of length n (n - 1) / 2 to the factors (n, n) of correlation matrices: lower triangular, rows of length 1."""

    domain, codomain = constraints.real_vector, constraints.corr_cholesky
    bijective = True

    def _call(self, x: Any) -> Any:
        eps, n = finfo(x.dtype).eps, self.forward_shape(x.shape)[-1]
        partial = _below(torch.tanh(x).clamp(min=-1 + eps, max=1 - eps), n)
        rest = (1 - partial ** 2).sqrt().cumprod(-1)  # what the columns so far leave of the length
        return (partial + torch.eye(n, dtype=x.dtype)) * pad(rest[..., :-1], [1, 0], value=1)

    def _inverse(self, y: Any) -> Any:
        rest = pad((1 - (y * y).cumsum(-1))[..., :-1], [1, 0], value=1)
        partial = _of_below(y) / _of_below(rest).sqrt()
        return (partial.log1p() - partial.neg().log1p()) / 2

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        rest = _of_below(1 - (y * y).cumsum(-1), -2)
        return 0.5 * rest.log().sum(-1) - 2 * (x + softplus(-2 * x) - math.log(2.0)).sum(-1)

    def forward_shape(self, shape: Any) -> Any:
        if len(shape) < 1:
            raise ValueError("Too few dimensions on input")
        n = round((0.25 + 2 * shape[-1]) ** 0.5 + 0.5)
        if n * (n - 1) // 2 != shape[-1]:
            raise ValueError("Input is not a flattened lower-diagonal number")
        return Size((*shape[:-1], n, n))

    def inverse_shape(self, shape: Any) -> Any:
        if len(shape) < 2:
            raise ValueError("Too few dimensions on input")
        if shape[-2] != shape[-1]:
            raise ValueError("Input is not square")
        return Size((*shape[:-2], shape[-1] * (shape[-1] - 1) // 2))
