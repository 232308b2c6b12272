"""The continuous Bernoulli distribution."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..nn.functional import binary_cross_entropy_with_logits
from . import constraints
from .discrete import ByProbability
from .exp_family import ExponentialFamily
from .utils import broadcast_all, clamp_probs

__all__ = ["ContinuousBernoulli"]

Size = torch.Size


class ContinuousBernoulli(ByProbability, ExponentialFamily):
    """Density proportional to p^x · (1 - p)^(1 - x) for x from 0 to 1 (Loaiza-Ganem and Cunningham 2019), given ``probs`` or ``logits``.

    Args:
        lims: where p is between these, series around 1/2 stand for formulas that divide by 1 - 2p.

    Raises:
        ValueError: not exactly one of ``probs`` and ``logits``.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
                 validate_args: bool | None = None) -> None:
        shape = self._take(probs, logits)
        if probs is not None:
            if validate_args is not None and not self.arg_constraints["probs"].check(self.probs).all():
                raise ValueError("The parameter probs has invalid values")
            self.probs = clamp_probs(self.probs)
        self._lims = lims
        super().__init__(shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(ContinuousBernoulli, _instance)
        new._lims = self._lims
        return self._expanded(ContinuousBernoulli, batch_shape, ("probs", "logits"), new)

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        low, high = (limit - 0.5 for limit in self._lims)
        far = (x <= low) | (x > high)  # from 0, about which (e^x - 1) / x is a series
        apart = torch.where(far, x, low)
        return torch.where(far, torch.log(torch.expm1(apart) / apart), x * (0.5 + x * (1 / 24 - x * x / 2880)))

    _mean_carrier_measure = 0  # type: ignore[assignment]

    def _cut(self) -> tuple[Any, Any]:
        """Where the formulas hold, and probabilities that are such that they hold everywhere."""
        low, high = self._lims
        outside = (self.probs <= low) | (self.probs > high)
        return outside, torch.where(outside, self.probs, low * torch.ones_like(self.probs))

    def _log_norm(self) -> Any:
        outside, p = self._cut()
        below = torch.where(p <= 0.5, p, torch.zeros_like(p))
        above = torch.where(p >= 0.5, p, torch.ones_like(p))
        norm = ((-p).log1p() - p.log()).abs().log() - torch.where(p <= 0.5, (-2.0 * below).log1p(), (2.0 * above - 1.0).log())
        x = (self.probs - 0.5).pow(2)
        return torch.where(outside, norm, math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x)

    @property
    def mean(self) -> Any:
        outside, p = self._cut()
        x = self.probs - 0.5
        return torch.where(outside, p / (2.0 * p - 1.0) + 1.0 / ((-p).log1p() - p.log()),
                           0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x.pow(2)) * x)

    @property
    def variance(self) -> Any:
        outside, p = self._cut()
        x = (self.probs - 0.5).pow(2)
        return torch.where(outside, p * (p - 1.0) / (1.0 - 2.0 * p).pow(2) + 1.0 / ((-p).log1p() - p.log()).pow(2),
                           1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    @property
    def stddev(self) -> Any:
        return self.variance.sqrt()

    def rsample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        return self.icdf(torch.rand(tuple(self._extended_shape(sample_shape)), dtype=self.probs.dtype))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none") + self._log_norm()

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        outside, p = self._cut()
        whole = (p.pow(value) * (1.0 - p).pow(1.0 - value) + p - 1.0) / (2.0 * p - 1.0)
        chance = torch.where(outside, whole, value)
        return torch.where(value <= 0.0, torch.zeros_like(value), torch.where(value >= 1.0, torch.ones_like(value), chance))

    def icdf(self, value: Any) -> Any:
        outside, p = self._cut()
        return torch.where(outside, ((-p + value * (2.0 * p - 1.0)).log1p() - (-p).log1p()) / (p.log() - (-p).log1p()), value)

    def entropy(self) -> Any:
        low, high = (-self.probs).log1p(), self.probs.log()
        return self.mean * (low - high) - self._log_norm() - low
