"""The normal distribution of vectors."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..ops.pointwise import broadcast_shapes
from . import constraints
from .distribution import Centred, Distribution
from .utils import lazy_property, standard_normal

__all__ = ["MultivariateNormal", "mahalanobis"]

Size = torch.Size


def mahalanobis(tril: Any, difference: Any) -> Any:
    """|L⁻¹ d|² for lower triangular matrices (..., n, n) and vectors (..., n)."""
    if tril.dim() == 2:  # one solve for all vectors
        columns = difference.reshape(-1, difference.shape[-1]).mT
        return torch.linalg.solve_triangular(tril, columns, upper=False).pow(2).sum(0).reshape(difference.shape[:-1])
    return torch.linalg.solve_triangular(tril, difference.unsqueeze(-1), upper=False).pow(2).sum((-2, -1))


def _from_precision(precision: Any) -> Any:
    """The lower triangular factor of the inverse: a Cholesky factorisation from the last row to the first gives its inverse."""
    inverse = torch.linalg.cholesky(precision.flip((-2, -1))).flip((-2, -1)).mT
    return torch.linalg.solve_triangular(inverse, torch.eye(precision.shape[-1], dtype=precision.dtype), upper=False)


class MultivariateNormal(Centred):
    """A normal distribution of vectors of length n, given by its mean and one of three matrices (..., n, n).

    Args:
        loc: mean (..., n).
        covariance_matrix: symmetric and positive definite.
        precision_matrix: its inverse.
        scale_tril: its lower triangular factor, with a positive diagonal.

    Raises:
        ValueError: not exactly one matrix, or too few dimensions.
    """

    arg_constraints = {"loc": constraints.real_vector, "covariance_matrix": constraints.positive_definite,
                       "precision_matrix": constraints.positive_definite, "scale_tril": constraints.lower_cholesky}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Any, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None,
                 validate_args: bool | None = None) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        matrices = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril}
        given = {k: m for k, m in matrices.items() if m is not None}
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        ((name, matrix),) = given.items()
        if matrix.dim() < 2:
            raise ValueError(f"{name} {'matrix ' if name == 'scale_tril' else ''}must be at least two-dimensional, with optional leading "
                             "batch dimensions")
        batch_shape = Size(broadcast_shapes([tuple(matrix.shape[:-2]), tuple(loc.shape[:-1])], "MultivariateNormal"))
        self.loc = loc.expand((*batch_shape, -1))
        setattr(self, name, matrix.expand((*batch_shape, -1, -1)))
        super().__init__(batch_shape, self.loc.shape[-1:], validate_args=validate_args)
        #: the factor before it was expanded: one for all entries of the batch is factored, and solved with, once
        self._unbroadcasted_scale_tril = matrix if name == "scale_tril" else (
            torch.linalg.cholesky(matrix) if name == "covariance_matrix" else _from_precision(matrix))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(MultivariateNormal, _instance)
        batch_shape = Size(batch_shape)
        new.loc = self.loc.expand(batch_shape + self.event_shape)
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril
        for name in ("covariance_matrix", "scale_tril", "precision_matrix"):
            if name in self.__dict__:
                setattr(new, name, self.__dict__[name].expand(batch_shape + self.event_shape + self.event_shape))
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @lazy_property
    def scale_tril(self) -> Any:
        """The lower triangular factor of the covariance."""
        return self._unbroadcasted_scale_tril.expand(self._batch_shape + self._event_shape + self._event_shape)

    @lazy_property
    def covariance_matrix(self) -> Any:
        """The covariance."""
        tril = self._unbroadcasted_scale_tril
        return (tril @ tril.mT).expand(self._batch_shape + self._event_shape + self._event_shape)

    @lazy_property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance."""
        return torch.cholesky_inverse(self._unbroadcasted_scale_tril).expand(self._batch_shape + self._event_shape + self._event_shape)

    @property
    def variance(self) -> Any:
        return self._unbroadcasted_scale_tril.pow(2).sum(-1).expand(self._batch_shape + self._event_shape)

    def rsample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        eps = standard_normal(self._extended_shape(sample_shape), self.loc.dtype)
        return self.loc + (self._unbroadcasted_scale_tril @ eps.unsqueeze(-1)).squeeze(-1)

    def _half_log_det(self) -> Any:
        return self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        squares = mahalanobis(self._unbroadcasted_scale_tril, value - self.loc)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + squares) - self._half_log_det()

    def entropy(self) -> Any:
        half = 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._half_log_det()
        return half if len(self._batch_shape) == 0 else half.expand(self._batch_shape)
