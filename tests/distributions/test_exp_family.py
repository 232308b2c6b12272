"""Exponential families: natural parameters, normalizers, and what follows from them, against PyTorch."""
from __future__ import annotations

import importlib

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

FAMILIES = [("Bernoulli", 0.3), ("Beta", 2.0, 3.0), ("ContinuousBernoulli", 0.3), ("ContinuousBernoulli", 0.5001),
            ("Dirichlet", [1.0, 2.0, 3.0]), ("Exponential", 2.0), ("Gamma", [2.0, 1.0], [3.0, 0.5]), ("Normal", [1.0, 0.0], [2.0, 0.3]),
            ("Poisson", 3.0), ("Chi2", 3.0), ("Wishart", 5.0, [[2.0, 0.3], [0.3, 1.0]])]


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case[0])
def test_a_familys_normalizer_and_entropy(case):
    name, *numbers = case
    theirs, ours = (getattr(t.distributions, name)(*map(t.tensor, numbers)) for t in (torch, rushlight))
    assert isinstance(ours, rushlight.distributions.ExponentialFamily)
    for a, b in zip(theirs._natural_params, ours._natural_params, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=2e-6)
    np.testing.assert_allclose(ours._log_normalizer(*ours._natural_params).numpy(),
                               theirs._log_normalizer(*theirs._natural_params).numpy(), rtol=1e-5, atol=1e-7)
    if name not in ("Beta", "Dirichlet", "Poisson", "Wishart"):  # whose mean carrier measure PyTorch does not say, or adds over too much
        want = torch.distributions.ExponentialFamily.entropy(theirs).detach().numpy()
        np.testing.assert_allclose(rushlight.distributions.ExponentialFamily.entropy(ours).detach().numpy(), want, rtol=1e-4, atol=1e-7)
    if name in ("Beta", "Dirichlet", "Poisson"):
        with pytest.raises(NotImplementedError):
            rushlight.distributions.ExponentialFamily.entropy(ours)


def test_the_divergence_within_a_family_that_has_no_rule():
    def divergence(t):
        class Waiting(t.distributions.ExponentialFamily):
            arg_constraints = {}
            _mean_carrier_measure = 0

            def __init__(self, rate):
                self.rate = t.tensor(rate)
                super().__init__(self.rate.shape)

            @property
            def _natural_params(self):
                return (-self.rate,)

            def _log_normalizer(self, x):
                return -t.log(-x)

        with pytest.raises(NotImplementedError):
            t.distributions.kl_divergence(Waiting([1.0]), t.distributions.Poisson(1.0))
        return t.distributions.kl_divergence(Waiting([2.0, 1.0]), Waiting([3.0, 0.5])).detach().numpy()

    np.testing.assert_allclose(divergence(rushlight), divergence(torch), rtol=1e-6)
    exponential = rushlight.distributions.Exponential
    np.testing.assert_allclose(divergence(rushlight), rushlight.distributions.kl_divergence(
        exponential(rushlight.tensor([2.0, 1.0])), exponential(rushlight.tensor([3.0, 0.5]))).numpy(), rtol=1e-6)


@pytest.mark.parametrize("path", [
    "binomial.Binomial", "cauchy.Cauchy", "chi2.Chi2", "continuous_bernoulli.ContinuousBernoulli", "exp_family.ExponentialFamily",
    "exponential.Exponential", "fishersnedecor.FisherSnedecor", "geometric.Geometric", "gumbel.Gumbel", "half_cauchy.HalfCauchy",
    "half_normal.HalfNormal", "inverse_gamma.InverseGamma", "kumaraswamy.Kumaraswamy", "laplace.Laplace", "log_normal.LogNormal",
    "logistic_normal.LogisticNormal", "negative_binomial.NegativeBinomial", "pareto.Pareto", "poisson.Poisson", "studentT.StudentT",
    "uniform.Uniform", "weibull.Weibull", "utils._standard_normal", "utils._sum_rightmost", "transforms._InverseTransform"])
def test_names_are_found_where_pytorch_has_them(path):
    module, name = path.split(".")
    for package in ("torch", "rushlight"):
        assert callable(getattr(importlib.import_module(f"{package}.distributions.{module}"), name))
