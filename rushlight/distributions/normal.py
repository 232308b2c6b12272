"""The normal distribution."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..autograd.modes import no_grad
from .distribution import Centred
from .exp_family import ExponentialFamily
from .location_scale import LocationScale
from .utils import standard_normal

__all__ = ["Normal"]

Size = torch.Size


class Normal(LocationScale, Centred, ExponentialFamily):
    """A normal distribution with mean ``loc`` and standard deviation ``scale``: numbers, or tensors that broadcast.

    Example:
        >>> m = rushlight.distributions.Normal(torch.tensor([0.0, 1.0]), 2.0)
        >>> m
        Normal(loc: torch.Size([2]), scale: torch.Size([2]))
        >>> m.log_prob(torch.tensor([0.0, 1.0]))
        tensor([-1.6121, -1.6121])
    """

    @property
    def stddev(self) -> Any:
        return self.scale

    @property
    def variance(self) -> Any:
        return self.stddev.pow(2)

    def sample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        shape = self._extended_shape(sample_shape)
        with no_grad():
            if not self._validate_args:  # `normal` looks at the deviations, which ends what has been recorded
                return torch.normal(self.loc.expand(shape), self.scale.expand(shape))
            return standard_normal(shape, self.loc.dtype) * self.scale + self.loc

    def rsample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        return self.loc + standard_normal(self._extended_shape(sample_shape), self.loc.dtype) * self.scale

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return -((value - self.loc) ** 2) / (2 * self.scale**2) - self.scale.log() - math.log(math.sqrt(2 * math.pi))

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return 0.5 * (1 + torch.erf((value - self.loc) * self.scale.reciprocal() / math.sqrt(2)))

    def icdf(self, value: Any) -> Any:
        return self.loc + self.scale * torch.erfinv(2 * value - 1) * math.sqrt(2)

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return self.loc / self.scale.pow(2), -0.5 * self.scale.pow(2).reciprocal()

    def _log_normalizer(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        return -0.25 * x.pow(2) / y + 0.5 * torch.log(-math.pi / y)

    _mean_carrier_measure = 0  # type: ignore[assignment]

    def entropy(self) -> Any:
        return 0.5 + 0.5 * math.log(2 * math.pi) + torch.log(self.scale)
