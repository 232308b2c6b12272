"""Factors of random correlation matrices (Lewandowski, Kurowicka and Joe 2009)."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..autograd.modes import no_grad
from ..tensor.kinds import finfo
from . import constraints
from .beta import Beta
from .distribution import Distribution
from .utils import broadcast_all, standard_normal

__all__ = ["LKJCholesky"]

Size = torch.Size


class LKJCholesky(Distribution):
    """Lower triangular factors of correlation matrices (dim, dim), whose density is proportional to det(R)^(concentration - 1).

    Args:
        dim: at least 2; concentration: 1 for the same density everywhere, more for smaller correlations.

    Samples are made row by row, from a beta number and a direction (the "onion").

    Raises:
        ValueError: ``dim`` below 2.
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        batch = self.concentration.shape
        k = torch.arange(dim - 1, dtype=self.concentration.dtype)
        k = torch.cat([k.new_zeros((1,)), k])
        most = self.concentration + 0.5 * (dim - 2)
        self._beta = Beta(k + 0.5, most.unsqueeze(-1) - 0.5 * k)
        super().__init__(batch, Size((dim, dim)), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(LKJCholesky, _instance)
        batch = Size(batch_shape)
        new.dim, new.concentration, new._beta = self.dim, self.concentration.expand(batch), self._beta.expand(batch + (self.dim,))
        Distribution.__init__(new, batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        with no_grad():
            length = self._beta.sample(sample_shape).unsqueeze(-1)  # squared, of what lies left of the diagonal
            normal = standard_normal(self._extended_shape(sample_shape), self.concentration.dtype).tril(-1)
            direction = normal / normal.norm(dim=-1, keepdim=True)
            direction[..., 0, :].fill_(0.0)
            left = length.sqrt() * direction
            diagonal = (1 - (left ** 2).sum(-1)).clamp(min=finfo(left.dtype).tiny).sqrt()
            return left + torch.diag_embed(diagonal)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        n = self.dim - 1
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - torch.arange(2, self.dim + 1)
        alpha = self.concentration + 0.5 * n
        norm = 0.5 * n * math.log(math.pi) + torch.mvlgamma(alpha - 0.5, n) - torch.lgamma(alpha) * n
        return (order * diagonal.log()).sum(-1) - norm
