"""Mixtures of distributions of one family."""
from __future__ import annotations

from typing import Any

import rushlight as torch

from ..autograd.modes import no_grad
from . import constraints
from .categorical import Categorical
from .distribution import Distribution

__all__ = ["MixtureSameFamily"]

Size = torch.Size


class MixtureSameFamily(Distribution):
    """A value of ``component_distribution``, whose last batch dimension counts components, chosen by ``mixture_distribution``.

    Raises:
        ValueError: the mixture is no ``Categorical``, or its shapes do not fit the components'.
    """

    arg_constraints: dict = {}

    def __init__(self, mixture_distribution: Categorical, component_distribution: Distribution,
                 validate_args: bool | None = None) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(" The Mixture distribution needs to be an  instance of torch.distributions.Categorical")
        if not isinstance(component_distribution, Distribution):
            raise ValueError("The Component distribution need to be an instance of torch.distributions.Distribution")
        mixed, batch = mixture_distribution.batch_shape, component_distribution.batch_shape[:-1]
        for a, b in zip(reversed(mixed), reversed(batch)):
            if a != 1 and b != 1 and a != b:
                raise ValueError(f"`mixture_distribution.batch_shape` ({mixed}) is not compatible with "
                                 f"`component_distribution.batch_shape` ({batch})")
        number, of_components = mixture_distribution.logits.shape[-1], component_distribution.batch_shape[-1]
        if number != of_components:
            raise ValueError(f"`mixture_distribution component` ({number}) does not equal `component_distribution.batch_shape[-1]` "
                             f"({of_components})")
        self._mixture_distribution, self._component_distribution, self._num_component = mixture_distribution, component_distribution, number
        self._event_ndims = len(component_distribution.event_shape)
        super().__init__(batch, component_distribution.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(MixtureSameFamily, _instance)
        batch_shape = Size(batch_shape)
        new._component_distribution = self._component_distribution.expand((*batch_shape, self._num_component))
        new._mixture_distribution = self._mixture_distribution.expand(batch_shape)
        new._num_component, new._event_ndims = self._num_component, self._event_ndims
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property
    def support(self) -> Any:
        """The components' support; their parameters' bounds, which have a dimension of components, are judged by ``log_prob``."""
        support = self._component_distribution.support
        if isinstance(support, constraints.interval | constraints.half_open_interval):
            raise NotImplementedError("the support of a mixture whose components have different bounds")
        return support

    @property
    def mixture_distribution(self) -> Categorical:
        """How components are chosen."""
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Distribution:
        """The components."""
        return self._component_distribution

    def _weights(self) -> Any:
        """Probabilities of the components, as wide as their events."""
        probs = self._mixture_distribution.probs
        return probs.reshape(probs.shape + (1,) * self._event_ndims)

    def _over_components(self, value: Any) -> Any:
        return (self._weights() * value).sum(-1 - self._event_ndims)

    @property
    def mean(self) -> Any:
        return self._over_components(self._component_distribution.mean)

    @property
    def variance(self) -> Any:
        apart = self._component_distribution.mean - self.mean.unsqueeze(-1 - self._event_ndims)
        return self._over_components(self._component_distribution.variance) + self._over_components(apart.pow(2))

    def cdf(self, x: Any) -> Any:
        return (self._component_distribution.cdf(x.unsqueeze(-1 - self._event_ndims)) * self._mixture_distribution.probs).sum(-1)

    def log_prob(self, x: Any) -> Any:
        if self._validate_args:
            self._validate_sample(x)
        logs = self._component_distribution.log_prob(x.unsqueeze(-1 - self._event_ndims))
        return torch.logsumexp(logs + torch.log_softmax(self._mixture_distribution.logits, dim=-1), dim=-1)

    def sample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        with no_grad():
            chosen = self._mixture_distribution.sample(sample_shape)
            values = self._component_distribution.sample(sample_shape)
            dim = chosen.dim()
            index = chosen.reshape(chosen.shape + (1,) * (self._event_ndims + 1))
            index = index.expand((*chosen.shape, 1, *self.event_shape))
            return values.gather(dim, index).squeeze(dim)

    def __repr__(self) -> str:
        return f"MixtureSameFamily(\n  {self._mixture_distribution!r},\n  {self._component_distribution!r})"
