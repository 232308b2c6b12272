"""Distributions over categories."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..autograd.modes import no_grad
from ..tensor.kinds import finfo
from . import constraints
from .discrete import one_of
from .distribution import Distribution
from .utils import lazy_property, logits_to_probs, probs_to_logits

__all__ = ["Categorical", "OverCategories"]

Size = torch.Size


class Categorical(Distribution):
    """A category 0 ... K - 1, with probabilities proportional to ``probs`` or to the exponentials of ``logits``, of shape (..., K).

    Example:
        >>> m = rushlight.distributions.Categorical(torch.tensor([0.25, 0.25, 0.5]))
        >>> m.log_prob(torch.tensor(2)), m.entropy()
        (tensor(-0.6931), tensor(1.0397))
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        one_of(probs, logits)
        name, given = ("logits", logits) if probs is None else ("probs", probs)
        if given.dim() < 1:
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if probs is not None:
            self.probs = probs / probs.sum(-1, keepdim=True)
        else:
            self.logits = logits - logits.logsumexp(dim=-1, keepdim=True)
        self._num_events = given.size(-1)
        super().__init__(given.size()[:-1], validate_args=validate_args)

    def _parameter(self) -> Any:
        return self.__dict__["probs"] if "probs" in self.__dict__ else self.logits

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Categorical, _instance)
        batch_shape = Size(batch_shape)
        for name in ("probs", "logits"):
            if name in self.__dict__:
                setattr(new, name, self.__dict__[name].expand((*batch_shape, self._num_events)))
        new._num_events = self._num_events
        Distribution.__init__(new, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The category numbers."""
        return constraints.categories(self._num_events)

    @lazy_property
    def logits(self) -> Any:
        """Logarithms of the probabilities."""
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self) -> Any:
        """Probabilities."""
        return logits_to_probs(self.logits)

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._parameter().size()

    @property
    def mean(self) -> Any:
        return torch.full(tuple(self._extended_shape()), math.nan, dtype=self.probs.dtype)

    @property
    def mode(self) -> Any:
        return self.probs.argmax(dim=-1)

    @property
    def variance(self) -> Any:
        return self.mean

    def sample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        sample_shape = Size(sample_shape)
        with no_grad():
            probs, shape = self.probs, self._extended_shape(sample_shape)
            if probs.dim() == 1:
                return torch.multinomial(probs, sample_shape.numel(), True).reshape(shape)
            rows, times = probs if probs.dim() == 2 else probs.reshape(-1, self._num_events), sample_shape.numel()
            drawn = torch.multinomial(rows, times, True)
            return (drawn if times == 1 else drawn.T).reshape(shape)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, batch = self.logits, self.logits.shape[:-1]
        value, shape = value.long().unsqueeze(-1), value.shape
        if shape != batch:
            shape = torch.broadcast_shapes(shape, batch)
            # Expanded along the batch only: one category of each keeps its memory as it lies.
            value, logits = value.expand((*shape, 1)), logits.expand((*shape, self._num_events))
        return logits.gather(-1, value).squeeze(-1)

    def entropy(self) -> Any:
        logs = torch.clamp(self.logits, min=finfo(self.logits.dtype).min)  # 0 · log 0 is 0
        return -(logs * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Any:
        values = torch.arange(self._num_events).view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values


class OverCategories(Distribution):
    """What distributions have in common whose parameters are those of one ``Categorical``, which they hold."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _categorical: Categorical

    @property
    def probs(self) -> Any:
        """Probabilities, of shape (..., K)."""
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        """Logarithms of the probabilities."""
        return self._categorical.logits

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._categorical.param_shape
