"""Normal distributions of vectors whose covariance is a diagonal and a matrix of low rank."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..ops.pointwise import broadcast_shapes
from . import constraints
from .distribution import Centred, Distribution
from .multivariate_normal import mahalanobis
from .utils import lazy_property, standard_normal

__all__ = ["LowRankMultivariateNormal"]

Size = torch.Size


class LowRankMultivariateNormal(Centred):
    """Normal vectors of length n with the covariance W Wᵀ + D. Densities cost a factorisation of (m, m), not of (n, n).

    Args:
        loc: mean (..., n); cov_factor: W (..., n, m); cov_diag: the diagonal of D (..., n).

    Raises:
        ValueError: too few dimensions, or shapes that do not fit.
    """

    arg_constraints = {"loc": constraints.real_vector, "cov_factor": constraints.independent(constraints.real, 2),
                       "cov_diag": constraints.independent(constraints.positive, 1)}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        n = loc.shape[-1]
        if cov_factor.dim() < 2:
            raise ValueError("cov_factor must be at least two-dimensional, with optional leading batch dimensions")
        if cov_factor.shape[-2] != n:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {n} x m")
        if cov_diag.shape[-1:] != (n,):
            raise ValueError(f"cov_diag must be a batch of vectors with shape {(n,)}")
        try:
            batch = Size(broadcast_shapes([tuple(loc.shape[:-1]), tuple(cov_factor.shape[:-2]), tuple(cov_diag.shape[:-1])], ""))
        except RuntimeError as error:
            raise ValueError(f"Incompatible batch shapes: loc {loc.shape}, cov_factor {cov_factor.shape}, cov_diag {cov_diag.shape}") \
                from error
        self.loc, self.cov_diag = loc.expand((*batch, -1)), cov_diag.expand((*batch, -1))
        self.cov_factor = cov_factor.expand((*batch, -1, -1))
        super().__init__(batch, Size((n,)), validate_args=validate_args)
        #: before they were expanded: one for all entries of the batch is factored once
        self._factor, self._diag = cov_factor, cov_diag
        self._capacitance_tril = self._capacitance()

    def _capacitance(self) -> Any:
        """The lower triangular factor of I + Wᵀ D⁻¹ W."""
        inner = self._factor.mT / self._diag.unsqueeze(-2) @ self._factor
        return torch.linalg.cholesky(inner + torch.eye(inner.shape[-1], dtype=inner.dtype))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(LowRankMultivariateNormal, _instance)
        batch = Size(batch_shape)
        new.loc, new.cov_diag = self.loc.expand(batch + self.event_shape), self.cov_diag.expand(batch + self.event_shape)
        new.cov_factor = self.cov_factor.expand(batch + self.cov_factor.shape[-2:])
        new._factor, new._diag, new._capacitance_tril = self._factor, self._diag, self._capacitance_tril
        Distribution.__init__(new, batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @lazy_property
    def variance(self) -> Any:
        return (self._factor.pow(2).sum(-1) + self._diag).expand(self._batch_shape + self._event_shape)

    def _square(self, matrix: Any) -> Any:
        return matrix.expand(self._batch_shape + self._event_shape + self._event_shape)

    @lazy_property
    def scale_tril(self) -> Any:
        """The lower triangular factor of the covariance."""
        root = self._diag.sqrt().unsqueeze(-1)
        scaled = self._factor / root
        inner = scaled @ scaled.mT
        return self._square(root * torch.linalg.cholesky(inner + torch.eye(inner.shape[-1], dtype=inner.dtype)))

    @lazy_property
    def covariance_matrix(self) -> Any:
        """The covariance."""
        return self._square(self._factor @ self._factor.mT + torch.diag_embed(self._diag))

    @lazy_property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance."""
        part = self._narrowed()
        return self._square(torch.diag_embed(self._diag.reciprocal()) - part.mT @ part)

    def rsample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        shape = self._extended_shape(sample_shape)
        few = standard_normal((*shape[:-1], self.cov_factor.shape[-1]), self.loc.dtype)
        own = standard_normal(shape, self.loc.dtype)
        return self.loc + (self._factor @ few.unsqueeze(-1)).squeeze(-1) + self._diag.sqrt() * own

    def _log_det(self) -> Any:
        return 2 * self._capacitance_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) + self._diag.log().sum(-1)

    def _squares(self, gap: Any) -> Any:
        """gapᵀ (W Wᵀ + D)⁻¹ gap."""
        few = (self._factor.mT / self._diag.unsqueeze(-2) @ gap.unsqueeze(-1)).squeeze(-1)
        return (gap.pow(2) / self._diag).sum(-1) - mahalanobis(self._capacitance_tril, few)

    def _narrowed(self) -> Any:
        """C⁻¹ Wᵀ D⁻¹ with C the factor of the capacitance: the precision is D⁻¹ less the square of this."""
        return torch.linalg.solve_triangular(self._capacitance_tril, self._factor.mT / self._diag.unsqueeze(-2), upper=False)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + self._log_det() + self._squares(value - self.loc))

    def entropy(self) -> Any:
        half = 0.5 * (self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._log_det())
        return half if len(self._batch_shape) == 0 else half.expand(self._batch_shape)
