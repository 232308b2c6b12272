"""The Bernoulli distribution: one trial."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..autograd.modes import no_grad
from ..nn.functional import binary_cross_entropy_with_logits, softplus
from . import constraints
from .discrete import ByProbability
from .exp_family import ExponentialFamily
from .utils import broadcast_all, expanded

__all__ = ["Bernoulli"]

Size = torch.Size


class Bernoulli(ByProbability, ExponentialFamily):
    """1 with probability ``probs`` (or log-odds ``logits``), else 0.

    Example:
        >>> rushlight.distributions.Bernoulli(torch.tensor([0.3])).log_prob(torch.tensor([1.0]))
        tensor([-1.2040])
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.boolean
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(self._take(probs, logits), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Bernoulli, batch_shape, ("probs", "logits"), _instance)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        mode = (self.probs >= 0.5).to(self.probs)
        return mode.masked_fill(self.probs == 0.5, math.nan)

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        with no_grad():
            return torch.bernoulli(expanded(self.probs, self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Any) -> Any:  # type: ignore[override]
        return softplus(x)

    _mean_carrier_measure = 0  # type: ignore[assignment]

    def entropy(self) -> Any:
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Any:
        values = torch.arange(2, dtype=(self.__dict__["probs"] if "probs" in self.__dict__ else self.logits).dtype)
        values = values.view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values
