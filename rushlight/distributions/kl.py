"""Kullback-Leibler divergences, by pairs of classes."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import rushlight as torch

from ..nn.functional import softplus
from .bernoulli import Bernoulli
from .beta import Beta
from .binomial import Binomial
from .categorical import Categorical
from .cauchy import Cauchy
from .continuous_bernoulli import ContinuousBernoulli
from .dirichlet import Dirichlet
from .distribution import Distribution
from .exp_family import ExponentialFamily, normalizer_and_slopes
from .exponential import Exponential
from .gamma import Gamma
from .geometric import Geometric
from .gumbel import Gumbel
from .half_normal import HalfNormal
from .independent import Independent
from .laplace import Laplace
from .log_normal import LogNormal
from .lowrank_multivariate_normal import LowRankMultivariateNormal
from .multivariate_normal import MultivariateNormal, mahalanobis
from .normal import Normal
from .one_hot_categorical import OneHotCategorical
from .pareto import Pareto
from .poisson import Poisson
from .transformed_distribution import EULER, TransformedDistribution
from .uniform import Uniform
from .utils import sum_rightmost
from .wishart import Wishart

__all__ = ["kl_divergence", "register_kl"]

_RULES: dict[tuple[type, type], Callable] = {}
_FOUND: dict[tuple[type, type], Any] = {}


def register_kl(type_p: type, type_q: type) -> Callable:
    """Decorator: the divergence of distributions of class ``type_p`` from those of ``type_q``, and of their subclasses."""
    for name, cls in (("type_p", type_p), ("type_q", type_q)):
        if not isinstance(cls, type):  # any class: libraries have bases of their own beside Distribution
            raise TypeError(f"Expected {name} to be a subclass of Distribution but got {cls}")

    def decorator(fun: Callable) -> Callable:
        _RULES[type_p, type_q] = fun
        _FOUND.clear()
        return fun

    return decorator


def _rule(type_p: type, type_q: type) -> Any:
    """The rule of the nearest classes, those of p counting first; NotImplemented if there is none."""
    if (type_p, type_q) not in _FOUND:
        pairs = ((p, q) for p in type_p.__mro__ for q in type_q.__mro__)
        _FOUND[type_p, type_q] = next((_RULES[pair] for pair in pairs if pair in _RULES), NotImplemented)
    return _FOUND[type_p, type_q]


def kl_divergence(p: Distribution, q: Distribution) -> Any:
    """KL(p || q), the expectation under ``p`` of log p - log q, of the batch shape.

    Raises:
        NotImplementedError: no rule for these two classes.

    Example:
        >>> D = rushlight.distributions
        >>> D.kl_divergence(D.Normal(0.0, 1.0), D.Normal(1.0, 1.0))
        tensor(0.5000)
    """
    rule = _rule(type(p), type(q))
    if rule is NotImplemented:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {p.__class__.__name__} and q type {q.__class__.__name__}")
    return rule(p, q)


def _infinite_like(tensor: Any) -> Any:
    return torch.full_like(tensor, math.inf)


@register_kl(ExponentialFamily, ExponentialFamily)
def _exponential_families(p: Any, q: Any) -> Any:
    """Of one family that has no rule of its own: the Bregman divergence of the normalizer's logarithm."""
    if type(p) is not type(q):
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {p.__class__.__name__} and q type {q.__class__.__name__}: "
                                  "the rule of exponential families is for one family")
    params, normalizer, slopes = normalizer_and_slopes(p)
    others = q._natural_params
    result = q._log_normalizer(*others) - normalizer
    for mine, other, slope in zip(params, others, slopes):
        result = result - sum_rightmost((other - mine) * slope, len(q.event_shape))
    return result


# -- one family ---------------------------------------------------------------------------------------------------


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Any:
    first = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    first = first.masked_fill(q.probs == 0, math.inf).masked_fill(p.probs == 0, 0)
    second = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    return first + second.masked_fill(q.probs == 1, math.inf).masked_fill(p.probs == 1, 0)


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Any:
    terms = p.probs * (p.logits - q.logits)
    terms = torch.where(q.probs == 0, math.inf, terms)
    return torch.where(p.probs == 0, 0, terms).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: Any, q: Any) -> Any:
    return _categorical(p._categorical, q._categorical)


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Any:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    kl = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p())
    return torch.where(p.total_count > q.total_count, math.inf, kl)


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(LogNormal, LogNormal)
def _log_normal(p: Any, q: Any) -> Any:
    return _normal(p.base_dist, q.base_dist)


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Any:
    return _normal(p.base_dist, q.base_dist)


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normal(p: Any, q: Any) -> Any:
    if p.event_shape != q.event_shape:
        raise ValueError("KL-divergence between two Multivariate Normals with different event shapes cannot be computed")
    trace = torch.linalg.solve_triangular(q.scale_tril, p.scale_tril, upper=False).pow(2).sum((-2, -1))
    squares = mahalanobis(q.scale_tril, q.loc - p.loc)
    return q._half_log_det() - p._half_log_det() + 0.5 * (trace + squares - p.event_shape[0])


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Any:
    here, there = (d._log_norm() + torch.log1p(-d.probs) for d in (p, q))
    return p.mean * (p.logits - q.logits) + here - there


def _squared(x: Any) -> Any:
    """The sum of the squares of each matrix."""
    return x.pow(2).sum((-2, -1))


def _same_length(p: Any, q: Any) -> int:
    if p.event_shape != q.event_shape:
        raise ValueError(f"KL-divergence between two normal distributions of vectors with different lengths, {p.event_shape[0]} and "
                         f"{q.event_shape[0]}, is not defined")
    return p.event_shape[0]  # type: ignore[no-any-return]


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _low_rank(p: Any, q: Any) -> Any:
    n, part = _same_length(p, q), q._narrowed()
    trace = ((p._diag / q._diag).sum(-1) + _squared(p._factor * q._diag.rsqrt().unsqueeze(-1))
             - _squared(part * p._diag.sqrt().unsqueeze(-2)) - _squared(part @ p._factor))
    return 0.5 * (q._log_det() - p._log_det() + trace + q._squares(q.loc - p.loc) - n)


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _vectors_low_rank(p: Any, q: Any) -> Any:
    n, tril = _same_length(p, q), p._unbroadcasted_scale_tril
    trace = _squared(tril * q._diag.rsqrt().unsqueeze(-1)) - _squared(q._narrowed() @ tril)
    return 0.5 * (q._log_det() - 2 * p._half_log_det() + trace + q._squares(q.loc - p.loc) - n)


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _low_rank_vectors(p: Any, q: Any) -> Any:
    n, tril = _same_length(p, q), q.scale_tril
    trace = sum(_squared(torch.linalg.solve_triangular(tril, x.expand((*q.batch_shape, *x.shape[-2:])) if x.dim() == 2 else x, upper=False))
                for x in (p._factor, torch.diag_embed(p._diag.sqrt())))
    return 0.5 * (2 * q._half_log_det() - p._log_det() + trace + mahalanobis(q._unbroadcasted_scale_tril, q.loc - p.loc) - n)


@register_kl(Wishart, Wishart)
def _wishart(p: Any, q: Any) -> Any:
    n = p._event_shape[-1]
    trace = torch.cholesky_solve(p._tril @ p._tril.mT, q._tril).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (q.df * (q._half_log_det() - p._half_log_det()) + p.df / 2 * (trace - n)
            + torch.mvlgamma(q.df / 2, n) - torch.mvlgamma(p.df / 2, n) + (p.df - q.df) / 2 * p._slope())


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Any:
    result = ((q.high - q.low) / (p.high - p.low)).log()
    return torch.where((q.low > p.low) | (q.high < p.high), math.inf, result)


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    return ratio - 1 - ratio.log()


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Any:
    return -p.entropy() - torch.log1p(-q.probs) / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Any:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Any:
    ratio, apart = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + apart / q.scale + ratio * torch.exp(-apart / p.scale) - 1


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Any:
    return ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log() - (4 * p.scale * q.scale).log()


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Any:
    ratio, apart = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return apart - ratio.log() + EULER * (ratio - 1) - 1 + torch.exp((1 + ratio).lgamma() - apart)


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Any:
    return (q.concentration * (p.rate / q.rate).log() + torch.lgamma(q.concentration) - torch.lgamma(p.concentration)
            + (p.concentration - q.concentration) * torch.digamma(p.concentration)
            + (q.rate - p.rate) * (p.concentration / p.rate))


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Any:
    total_p, total_q = p.concentration1 + p.concentration0, q.concentration1 + q.concentration0
    return (q.concentration1.lgamma() + q.concentration0.lgamma() + total_p.lgamma()
            - p.concentration1.lgamma() - p.concentration0.lgamma() - total_q.lgamma()
            + (p.concentration1 - q.concentration1) * torch.digamma(p.concentration1)
            + (p.concentration0 - q.concentration0) * torch.digamma(p.concentration0) + (total_q - total_p) * torch.digamma(total_p))


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Any:
    total_p, total_q = p.concentration.sum(-1), q.concentration.sum(-1)
    apart = torch.digamma(p.concentration) - torch.digamma(total_p).unsqueeze(-1)
    return (total_p.lgamma() - total_q.lgamma() - (p.concentration.lgamma() - q.concentration.lgamma()).sum(-1)
            + ((p.concentration - q.concentration) * apart).sum(-1))


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Any:
    ratio = q.alpha / p.alpha
    kl = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return torch.where(p.support.lower_bound < q.support.lower_bound, math.inf, kl)


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Any:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), len(p.event_shape) - len(p.base_dist.event_shape))


# -- two families -------------------------------------------------------------------------------------------------


@register_kl(Uniform, Normal)
def _uniform_normal(p: Any, q: Any) -> Any:
    width = p.high - p.low
    middle = ((p.high + p.low - 2 * q.loc) / 2).pow(2)
    return (math.sqrt(2 * math.pi) * q.scale / width).log() + (width.pow(2) / 12 + middle) / (2 * q.scale.pow(2))


@register_kl(Laplace, Normal)
def _laplace_normal(p: Any, q: Any) -> Any:
    square = q.scale.pow(2)
    return 0.5 * torch.log(square * math.pi / (2 * p.scale.pow(2))) + (p.scale.pow(2) + 0.5 * (p.loc - q.loc).pow(2)) / square - 1


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Any:
    z = (p.loc - q.loc) / p.scale
    expected = p.scale * (math.sqrt(2 / math.pi) * torch.exp(-0.5 * z.pow(2)) + z * torch.erf(z / math.sqrt(2)))
    return -torch.log(p.scale / q.scale) + expected / q.scale - 0.5 * math.log(0.5 * math.pi * math.e)


@register_kl(Exponential, Normal)
def _exponential_normal(p: Any, q: Any) -> Any:
    square, mean = q.scale.pow(2), p.rate.reciprocal()
    return torch.log(p.rate * q.scale) + 0.5 * math.log(2 * math.pi) - 1 + (mean.pow(2) - q.loc * mean + q.loc.pow(2) / 2) / square


@register_kl(Uniform, Exponential)
def _uniform_exponential(p: Any, q: Any) -> Any:
    result = q.rate * (p.high + p.low) / 2 - ((p.high - p.low) * q.rate).log()
    return torch.where(p.low < 0, math.inf, result)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Any:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Exponential, Uniform)
@register_kl(Poisson, Bernoulli)
@register_kl(Poisson, Binomial)
def _further(p: Any, q: Any) -> Any:
    """``p`` has values that ``q`` never takes."""
    return _infinite_like(p.rate)


@register_kl(Normal, Exponential)
@register_kl(Normal, Uniform)
@register_kl(Laplace, Exponential)
@register_kl(Laplace, Uniform)
def _wider(p: Any, q: Any) -> Any:
    """``p`` has values that ``q`` never takes."""
    return _infinite_like(p.loc)
