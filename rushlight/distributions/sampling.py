"""Gamma and Dirichlet numbers as differentiable functions of their parameters.

A sample x of a distribution function F(x; a) changes with a as dx/da = -(∂F/∂a) / (∂F/∂x): where the share of probability below it stays
what it is (implicit reparametrisation). ∂F/∂a is an integral over the numbers below x, which is computed here by quadrature, to about
ten digits.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

import rushlight as torch

from ..autograd.function import Function
from ..record.random import default_stream
from ..tensor.creation import from_owned
from ..tensor.kinds import finfo

__all__ = ["sample_dirichlet", "standard_gamma"]

def _gamma_numbers(alpha: Any) -> np.ndarray:
    """float64, with the shapes in ``alpha`` and rate 1."""
    return default_stream.gammas(alpha._array())


def _sample(drawn: np.ndarray, dtype: Any) -> Any:
    """Positive numbers as a tensor."""
    return from_owned(np.maximum(drawn, finfo(dtype).tiny).astype(dtype.numpy))


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """ln s of nodes in (0, 1) that crowd at both ends, most of all at 0, and logarithms of their weights (tanh-sinh quadrature)."""
    step = 1.0 / 16
    t = np.arange(-144, 73) * step
    u = math.pi * np.sinh(t)
    log_s = -np.logaddexp(0.0, -u)
    return log_s, np.log(step * math.pi * np.cosh(t)) + log_s - np.logaddexp(0.0, u)


_LOG_S, _LOG_WEIGHTS = _nodes()


def _slope(a: Any, x: Any, log_front: Any, log_rest: Any, centre: Any) -> Any:
    """-∂F/∂a / f(x) for a density f(t) = t^(a-1) g(t) / Z, where ln Z changes with a by ``centre``.

    That is -∫₀ˣ f(t) (ln t - centre) dt / f(x). In s = (t/x)^a the power is gone: t^(a-1) dt = x^a/a ds. ``log_front`` is -ln g(x),
    ``log_rest(log_share)`` is ln g(x · share).
    """
    log_x = x.log()
    log_share = torch.as_tensor(_LOG_S, dtype=torch.float64) / a.unsqueeze(-1)  # ln(t/x)
    weights = torch.as_tensor(_LOG_WEIGHTS, dtype=torch.float64)
    ratio = torch.exp((log_x - a.log() + log_front).unsqueeze(-1) + log_rest(log_share) + weights)
    return -(ratio * (log_x.unsqueeze(-1) + log_share - centre.unsqueeze(-1))).sum(-1)


def gamma_slope(alpha: Any, x: Any) -> Any:
    """dx/dα of a sample x of the gamma distribution with shape α and rate 1."""
    a, value = alpha.double(), x.double()
    return _slope(a, value, value, lambda log_share: -value.unsqueeze(-1) * log_share.exp(), torch.digamma(a)).to(x.dtype)


def share_slope(x: Any, alpha: Any, total: Any) -> Any:
    """dx/dα / (1 - x) of a sample x of the beta distribution with α and ``total`` - α, for an unchanged second parameter."""
    a, b, value = alpha.double(), (total - alpha).double(), x.double()
    rest = (1 - value).clamp(min=finfo(x.dtype).eps)  # a sample that has been rounded to 1 lay so near to it

    def log_rest(log_share: Any) -> Any:
        return (b - 1).unsqueeze(-1) * torch.log(rest.unsqueeze(-1) - value.unsqueeze(-1) * log_share.expm1())

    return (_slope(a, value, (1 - b) * rest.log(), log_rest, torch.digamma(a) - torch.digamma(a + b)) / rest).to(x.dtype)


class _StandardGamma(Function):
    @staticmethod
    def forward(ctx: Any, alpha: Any) -> Any:
        sample = _sample(_gamma_numbers(alpha), alpha.dtype)
        ctx.save_for_backward(alpha, sample)
        return sample

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad * gamma_slope(*ctx.saved_tensors)


class _Dirichlet(Function):
    @staticmethod
    def forward(ctx: Any, alpha: Any) -> Any:
        drawn = _gamma_numbers(alpha)
        sample = _sample(drawn / drawn.sum(-1, keepdims=True), alpha.dtype)
        ctx.save_for_backward(alpha, sample)
        return sample

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        alpha, x = ctx.saved_tensors
        total = alpha.sum(-1, True).expand_as(alpha)
        # Each share by itself is a beta number; the others keep their proportions among each other.
        return share_slope(x, alpha, total) * (grad - (x * grad).sum(-1, True))


def standard_gamma(alpha: Any) -> Any:
    """Gamma numbers with the shapes in ``alpha`` and rate 1."""
    return _StandardGamma.apply(alpha)


def sample_dirichlet(alpha: Any) -> Any:
    """Vectors of positive numbers with sum 1: gamma numbers with the shapes in ``alpha``, divided by their sum over the last dimension."""
    return _Dirichlet.apply(alpha)
