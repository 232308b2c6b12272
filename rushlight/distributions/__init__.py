"""Probability distributions with log-densities, samples and divergences, laid out as ``torch.distributions``.

Samples of the same seed are PyTorch's, except binomial ones of many trials.

Example:
    >>> policy = rushlight.distributions.Categorical(logits=torch.tensor([0.0, 0.0]))
    >>> policy.entropy()
    tensor(0.6931)
"""
from . import constraints, transforms
from .bernoulli import Bernoulli
from .categorical import Categorical
from .counts import Binomial, Exponential, Geometric, Poisson
from .distribution import Distribution
from .independent import Independent
from .kl import kl_divergence, register_kl
from .location import Cauchy, Laplace, Uniform
from .mixture_same_family import MixtureSameFamily
from .multivariate_normal import MultivariateNormal
from .normal import Normal
from .one_hot_categorical import OneHotCategorical, OneHotCategoricalStraightThrough
from .transformed_distribution import Gumbel, HalfNormal, LogNormal, TransformedDistribution
from .transforms import (
    AbsTransform,
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    PowerTransform,
    SigmoidTransform,
    SoftplusTransform,
    TanhTransform,
    Transform,
    identity_transform,
)

__all__ = ["AbsTransform", "AffineTransform", "Bernoulli", "Binomial", "Categorical", "Cauchy", "ComposeTransform", "Distribution",
           "ExpTransform", "Exponential", "Geometric", "Gumbel", "HalfNormal", "Independent", "Laplace", "LogNormal",
           "MixtureSameFamily", "MultivariateNormal", "Normal", "OneHotCategorical", "OneHotCategoricalStraightThrough", "Poisson",
           "PowerTransform", "SigmoidTransform", "SoftplusTransform", "TanhTransform", "Transform", "TransformedDistribution",
           "Uniform", "constraints", "identity_transform", "kl_divergence", "register_kl", "transforms"]
