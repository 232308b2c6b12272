"""The Wishart distribution of covariance matrices."""
from __future__ import annotations

import math
import warnings
from numbers import Number
from typing import Any

import rushlight as torch

from ..ops.pointwise import broadcast_shapes
from . import constraints
from .chi2 import Chi2
from .distribution import Distribution
from .exp_family import ExponentialFamily
from .multivariate_normal import _from_precision
from .utils import lazy_property, standard_normal

__all__ = ["Wishart"]

Size = torch.Size


class Wishart(ExponentialFamily):
    """Sums of outer products of ``df`` normal vectors of length p: positive definite matrices (p, p).

    Args:
        df: above p - 1, not necessarily whole.
        covariance_matrix, precision_matrix, scale_tril: of the vectors, one of them (..., p, p), as in ``MultivariateNormal``.

    Raises:
        ValueError: not exactly one matrix, too few dimensions, or too small a ``df``.
    """

    support = constraints.positive_definite
    has_rsample = True

    def __init__(self, df: Any, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None,
                 validate_args: bool | None = None) -> None:
        matrices = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril}
        given = {name: m for name, m in matrices.items() if m is not None}
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril must be specified.")
        ((name, matrix),) = given.items()
        if matrix.dim() < 2:
            raise ValueError("scale_tril must be at least two-dimensional, with optional leading batch dimensions")
        df = torch.as_tensor(df, dtype=matrix.dtype) if isinstance(df, Number) else df
        batch = Size(broadcast_shapes([tuple(matrix.shape[:-2]), tuple(df.shape)], "Wishart"))
        event = matrix.shape[-2:]
        if df.le(event[-1] - 1).any():
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {event[-1] - 1}.")
        if df.lt(event[-1]).any():
            warnings.warn("Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.", stacklevel=2)
        self.df = df.expand(batch)
        setattr(self, name, matrix.expand((*batch, -1, -1)))
        super().__init__(batch, event, validate_args=validate_args)
        self._tril = matrix if name == "scale_tril" else (
            torch.linalg.cholesky(matrix) if name == "covariance_matrix" else _from_precision(matrix))
        self._chi2 = self._squares()

    @property
    def arg_constraints(self) -> dict:
        """The degrees of freedom have to be more than one less than the size."""
        least = 0 if "_event_shape" not in self.__dict__ else self._event_shape[-1] - 1
        return {"covariance_matrix": constraints.positive_definite, "precision_matrix": constraints.positive_definite,
                "scale_tril": constraints.lower_cholesky, "df": constraints.greater_than(least)}

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return -self.precision_matrix / 2, (self.df - self._event_shape[-1] - 1) / 2

    def _log_normalizer(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        p = x.shape[-1]
        half = y + (p + 1) / 2
        return half * (p * math.log(2) - torch.linalg.slogdet(-2 * x).logabsdet) + torch.mvlgamma(half, p)

    _mean_carrier_measure = 0  # type: ignore[assignment]

    def _squares(self) -> Chi2:
        """Of the diagonal: fewer degrees of freedom from entry to entry."""
        return Chi2(self.df.unsqueeze(-1) - torch.arange(self._event_shape[-1], dtype=self.df.dtype))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Wishart, _instance)
        batch = Size(batch_shape)
        for name in ("covariance_matrix", "scale_tril", "precision_matrix"):
            if name in self.__dict__:
                setattr(new, name, self.__dict__[name].expand(batch + self.event_shape))
        new.df, new._tril = self.df.expand(batch), self._tril
        Distribution.__init__(new, batch, self.event_shape, validate_args=False)
        new._chi2 = new._squares()
        new._validate_args = self._validate_args
        return new

    def _square(self, matrix: Any) -> Any:
        return matrix.expand(self._batch_shape + self._event_shape)

    @lazy_property
    def scale_tril(self) -> Any:
        """The lower triangular factor of the covariance."""
        return self._square(self._tril)

    @lazy_property
    def covariance_matrix(self) -> Any:
        """The covariance of the vectors."""
        return self._square(self._tril @ self._tril.mT)

    @lazy_property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance."""
        return self._square(torch.cholesky_inverse(self._tril))

    @property
    def mean(self) -> Any:
        return self.df.reshape(self._batch_shape + (1, 1)) * self.covariance_matrix

    @property
    def mode(self) -> Any:
        factor = self.df - self.covariance_matrix.shape[-1] - 1
        return factor.masked_fill(factor <= 0, math.nan).reshape(self._batch_shape + (1, 1)) * self.covariance_matrix

    @property
    def variance(self) -> Any:
        cov = self.covariance_matrix
        own = cov.diagonal(dim1=-2, dim2=-1)
        return self.df.reshape(self._batch_shape + (1, 1)) * (cov.pow(2) + own.unsqueeze(-1) * own.unsqueeze(-2))

    def rsample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        """Bartlett's decomposition: a lower triangular factor of independent numbers."""
        p = self._event_shape[-1]
        shape = tuple(Size(sample_shape) + self._batch_shape)
        diagonal = self._chi2.rsample(Size(sample_shape)).sqrt().diag_embed()
        below = standard_normal((*shape, p * (p - 1) // 2), self.df.dtype)
        rows, columns = torch.tril_indices(p, p, -1)
        noise = below.new_zeros((*shape, p * p)).scatter(-1, (rows * p + columns).expand(below.shape), below).reshape(*shape, p, p)
        factor = self._tril @ (diagonal + noise)
        return factor @ factor.mT

    def _half_log_det(self) -> Any:
        return self._tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        nu, p = self.df, self._event_shape[-1]
        trace = torch.cholesky_solve(value, self._tril).diagonal(dim1=-2, dim2=-1).sum(-1)
        return (-nu * (p * math.log(2.0) / 2 + self._half_log_det()) - torch.mvlgamma(nu / 2, p)
                + (nu - p - 1) / 2 * torch.linalg.slogdet(value).logabsdet - trace / 2)

    def entropy(self) -> Any:
        nu, p = self.df, self._event_shape[-1]
        return ((p + 1) * (p * math.log(2.0) / 2 + self._half_log_det()) + torch.mvlgamma(nu / 2, p) - (nu - p - 1) / 2 * self._slope()
                + nu * p / 2)

    def _slope(self) -> Any:
        """The derivative of ``mvlgamma`` at half of the degrees of freedom."""
        return torch.digamma(self.df.unsqueeze(-1) / 2 - torch.arange(self._event_shape[-1], dtype=self.df.dtype) / 2).sum(-1)
