"""Exponential families: densities exp(<t(x), θ> - F(θ) + k(x)) of natural parameters θ."""
from __future__ import annotations

from typing import Any

import rushlight as torch

from ..autograd import grad
from ..autograd.modes import enable_grad
from .distribution import Distribution

__all__ = ["ExponentialFamily", "normalizer_and_slopes"]


class ExponentialFamily(Distribution):
    """Distributions whose entropy follows from the logarithm of their normalizer: F(θ) - <θ, ∇F(θ)> - E[k(x)].

    Subclasses define ``_natural_params``, a tuple of tensors; ``_log_normalizer``, the function F of them; ``_mean_carrier_measure``,
    the expectation of k. Those here know their entropy directly.

    Example:
        >>> class Waiting(rushlight.distributions.ExponentialFamily):
        ...     arg_constraints = {}
        ...     _natural_params, _mean_carrier_measure = (torch.tensor(-2.0),), 0
        ...     def _log_normalizer(self, x):
        ...         return -torch.log(-x)
        >>> Waiting().entropy().detach(), rushlight.distributions.Exponential(2.0).entropy()
        (tensor(0.3069), tensor(0.3069))
    """

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Any) -> Any:
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> Any:
        raise NotImplementedError

    def entropy(self) -> Any:
        """The entropy, of the batch shape."""
        result = -self._mean_carrier_measure
        params, normalizer, slopes = normalizer_and_slopes(self)
        result = result + normalizer
        for param, slope in zip(params, slopes):
            result = result - (param * slope).reshape(*self.batch_shape, -1).sum(-1)
        return result


def normalizer_and_slopes(family: ExponentialFamily) -> tuple[list[Any], Any, Any]:
    """θ apart from what it was computed of, F(θ), and the derivative of F by each part of θ."""
    with enable_grad():
        params = [torch.as_tensor(p).detach().requires_grad_() for p in family._natural_params]
        normalizer = family._log_normalizer(*params)
        return params, normalizer, grad(normalizer.sum(), params, create_graph=True)
