"""Distributions of functions of random values."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..autograd.modes import no_grad
from . import constraints
from .distribution import Distribution
from .independent import Independent
from .transforms import ComposeTransform, Transform
from .utils import sum_rightmost

__all__ = ["TransformedDistribution"]

Size = torch.Size
EULER = 0.57721566490153286060  # the Euler-Mascheroni constant


def _expanded_base(base: Distribution, transform: Transform) -> Distribution:
    """``base`` with the batch shape and event dimensions that ``transform`` makes of it."""
    shape = base.batch_shape + base.event_shape
    if len(shape) < transform.domain.event_dim:
        raise ValueError(f"base_distribution needs to have shape with size at least {transform.domain.event_dim}, but got {shape}.")
    needed = transform.inverse_shape(transform.forward_shape(shape))
    if shape != needed:
        base = base.expand(needed[:len(needed) - len(base.event_shape)])
    together = transform.domain.event_dim - len(base.event_shape)
    return Independent(base, together) if together > 0 else base


class TransformedDistribution(Distribution):
    """What ``transforms``, one after another, make of values of ``base_distribution``.

    Example:
        >>> D = rushlight.distributions
        >>> squashed = D.TransformedDistribution(D.Normal(0.0, 1.0), [D.TanhTransform(cache_size=1)])
        >>> squashed.log_prob(torch.tensor(0.5))
        tensor(-0.7821)
    """

    arg_constraints: dict = {}

    def __init__(self, base_distribution: Distribution, transforms: Any, validate_args: bool | None = None) -> None:
        if isinstance(transforms, Transform):
            self.transforms = [transforms]
        elif isinstance(transforms, list) and all(isinstance(f, Transform) for f in transforms):
            self.transforms = transforms
        elif isinstance(transforms, list):
            raise ValueError("transforms must be a Transform or a list of Transforms")
        else:
            raise ValueError(f"transforms must be a Transform or list, but was {transforms}")
        transform = ComposeTransform(self.transforms)
        self.base_dist = base = _expanded_base(base_distribution, transform)
        shape = transform.forward_shape(base.batch_shape + base.event_shape)
        event_dim = transform.codomain.event_dim + max(len(base.event_shape) - transform.domain.event_dim, 0)
        cut = len(shape) - event_dim
        super().__init__(shape[:cut], shape[cut:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(TransformedDistribution, _instance)
        batch_shape = Size(batch_shape)
        shape = ComposeTransform(self.transforms).inverse_shape(batch_shape + self.event_shape)
        new.base_dist = self.base_dist.expand(shape[:len(shape) - len(self.base_dist.event_shape)])
        new.transforms = self.transforms
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """The last transform's codomain."""
        if not self.transforms:
            return self.base_dist.support
        result = self.transforms[-1].codomain
        more = len(self.event_shape) - result.event_dim
        return constraints.independent(result, more) if more > 0 else result

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether samples have gradients."""
        return self.base_dist.has_rsample

    def _transformed(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x

    def sample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        with no_grad():
            return self._transformed(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        return self._transformed(self.base_dist.rsample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        event_dim, log_prob, y = len(self.event_shape), 0.0, value
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            event_dim += transform.domain.event_dim - transform.codomain.event_dim
            log_prob = log_prob - sum_rightmost(transform.log_abs_det_jacobian(x, y), event_dim - transform.domain.event_dim)
            y = x
        return log_prob + sum_rightmost(self.base_dist.log_prob(y), event_dim - len(self.base_dist.event_shape))

    def _turned(self, probability: Any) -> Any:
        """A probability where the transforms increase, the opposite one where they decrease."""
        sign = math.prod(transform.sign for transform in self.transforms)
        return probability if isinstance(sign, int) and sign == 1 else sign * (probability - 0.5) + 0.5

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        for transform in reversed(self.transforms):
            value = transform.inv(value)
        return self._turned(self.base_dist.cdf(value))

    def icdf(self, value: Any) -> Any:
        return self._transformed(self.base_dist.icdf(self._turned(value)))


class Relaxed(TransformedDistribution):
    """What discrete distributions have in common that are relaxed to continuous ones: the parameters of what is transformed."""

    base_dist: Any

    @property
    def temperature(self) -> Any:
        """How far from the discrete distribution."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Any:
        """The logarithms that the probabilities are given by."""
        return self.base_dist.logits

    @property
    def probs(self) -> Any:
        """Probabilities."""
        return self.base_dist.probs
