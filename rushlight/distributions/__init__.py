"""Probability distributions with log-densities, samples and divergences, laid out as ``torch.distributions``.

Samples of the same seed are PyTorch's, except binomial ones of many trials.

Example:
    >>> policy = rushlight.distributions.Categorical(logits=torch.tensor([0.0, 0.0]))
    >>> policy.entropy()
    tensor(0.6931)
"""
from . import constraints, transforms
from .bernoulli import Bernoulli
from .beta import Beta
from .categorical import Categorical
from .counts import Binomial, Exponential, Geometric, Poisson
from .dirichlet import Dirichlet
from .distribution import Distribution
from .gamma import Chi2, Gamma, InverseGamma, NegativeBinomial
from .heavy_tails import FisherSnedecor, HalfCauchy, Pareto, StudentT, Weibull
from .independent import Independent
from .kl import kl_divergence, register_kl
from .location import Cauchy, Laplace, Uniform
from .mixture_same_family import MixtureSameFamily
from .multinomial import Multinomial
from .multivariate_normal import MultivariateNormal
from .normal import Normal
from .one_hot_categorical import OneHotCategorical, OneHotCategoricalStraightThrough
from .relaxed_bernoulli import RelaxedBernoulli
from .relaxed_categorical import RelaxedOneHotCategorical
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

__all__ = ["AbsTransform", "AffineTransform", "Bernoulli", "Beta", "Binomial", "Categorical", "Cauchy", "Chi2", "ComposeTransform",
           "Dirichlet", "Distribution", "ExpTransform", "Exponential", "FisherSnedecor", "Gamma",
           "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent", "InverseGamma", "Laplace", "LogNormal",
           "MixtureSameFamily", "Multinomial", "MultivariateNormal", "NegativeBinomial", "Normal",
           "OneHotCategorical", "OneHotCategoricalStraightThrough", "Pareto", "Poisson", "PowerTransform", "RelaxedBernoulli",
           "RelaxedOneHotCategorical", "SigmoidTransform", "SoftplusTransform", "StudentT", "TanhTransform", "Transform",
           "TransformedDistribution", "Uniform", "Weibull", "constraints", "identity_transform", "kl_divergence", "register_kl",
           "transforms"]
