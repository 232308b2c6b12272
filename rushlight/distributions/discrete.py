"""What the distributions that take ``probs`` or ``logits`` share."""
from __future__ import annotations

from numbers import Number
from typing import Any

import rushlight as torch

from .distribution import Distribution
from .utils import broadcast_all, lazy_property, logits_to_probs, probs_to_logits

__all__ = ["ByProbability", "one_of"]


def one_of(probs: Any, logits: Any) -> None:
    """Raises ValueError unless exactly one of the two forms is given."""
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")


class ByProbability(Distribution):
    """A distribution of numbers with the probability of something at each entry; the form that is not given is computed when asked for."""

    def _take(self, probs: Any, logits: Any) -> Any:
        """Keeps the form that is given; returns the batch shape."""
        one_of(probs, logits)
        given = logits if probs is None else probs
        (tensor,) = broadcast_all(given)
        setattr(self, "logits" if probs is None else "probs", tensor)
        return torch.Size() if isinstance(given, Number) else tensor.shape

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return (self.__dict__["probs"] if "probs" in self.__dict__ else self.logits).size()

    @lazy_property
    def logits(self) -> Any:
        """Log-odds."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Any:
        """Probabilities."""
        return logits_to_probs(self.logits, is_binary=True)
