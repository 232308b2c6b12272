"""Distributions against PyTorch: densities, gradients, samples of the same seed, shapes, printed forms, errors."""
from __future__ import annotations

import copy
import functools
import itertools
import math
import pickle

import numpy as np
import pytest

import rushlight
import rushlight.distributions
from rushlight.distributions.sampling import gamma_slope, share_slope

torch = pytest.importorskip("torch")
pytest.importorskip("torch.distributions")
BOTH = (torch, rushlight)

POSITIVE = np.array([[0.5, 1.5, 0.2], [2.0, 0.7, 3.0]])
PLACES = np.array([[0.3, -1.2, 0.0], [2.0, 0.4, -0.7]])
CHANCES = np.array([[0.1, 0.5, 0.9], [0.3, 0.25, 0.7]])
SIMPLEX = CHANCES / CHANCES.sum(-1, keepdims=True)
TRIL = np.array([[1.5, 0.0, 0.0], [0.3, 0.8, 0.0], [-0.4, 0.2, 1.1]])
COVARIANCE = TRIL @ TRIL.T
CORRELATIONS = TRIL / np.linalg.norm(TRIL, axis=-1, keepdims=True)


def made(d, name, arrays, **more):
    """The distribution ``name`` of the namespace ``d`` with arrays as its parameters."""
    return getattr(d, name)(**arrays, **more)


#: name -> (class, parameters, values that it can take)
CASES = {
    "normal": ("Normal", {"loc": PLACES, "scale": POSITIVE}, PLACES + 0.4),
    "normal, scalar scale": ("Normal", {"loc": PLACES, "scale": np.array(0.7)}, PLACES + 0.4),
    "log normal": ("LogNormal", {"loc": PLACES, "scale": POSITIVE}, POSITIVE + 0.1),
    "half normal": ("HalfNormal", {"scale": POSITIVE}, POSITIVE + 0.1),
    "gumbel": ("Gumbel", {"loc": PLACES, "scale": POSITIVE}, PLACES + 0.4),
    "laplace": ("Laplace", {"loc": PLACES, "scale": POSITIVE}, PLACES + 0.4),
    "cauchy": ("Cauchy", {"loc": PLACES, "scale": POSITIVE}, PLACES + 0.4),
    "uniform": ("Uniform", {"low": PLACES, "high": PLACES + POSITIVE}, PLACES + 0.3 * POSITIVE),
    "exponential": ("Exponential", {"rate": POSITIVE}, POSITIVE + 0.2),
    "poisson": ("Poisson", {"rate": POSITIVE}, np.array([[0.0, 1.0, 4.0], [2.0, 0.0, 7.0]])),
    "geometric": ("Geometric", {"probs": CHANCES}, np.array([[0.0, 1.0, 4.0], [2.0, 0.0, 7.0]])),
    "geometric, logits": ("Geometric", {"logits": PLACES}, np.array([[0.0, 1.0, 4.0], [2.0, 0.0, 7.0]])),
    "bernoulli": ("Bernoulli", {"probs": CHANCES}, np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])),
    "bernoulli, logits": ("Bernoulli", {"logits": PLACES}, np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])),
    "binomial": ("Binomial", {"total_count": np.array(5.0), "probs": CHANCES}, np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 4.0]])),
    "binomial, logits": ("Binomial", {"total_count": np.array(5.0), "logits": PLACES}, np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 4.0]])),
    "gamma": ("Gamma", {"concentration": POSITIVE, "rate": POSITIVE + 0.5}, POSITIVE + 0.1),
    "gamma, large": ("Gamma", {"concentration": 9 * POSITIVE, "rate": POSITIVE}, 9 + POSITIVE),
    "chi squared": ("Chi2", {"df": POSITIVE}, POSITIVE + 0.1),
    "inverse gamma": ("InverseGamma", {"concentration": 2 * POSITIVE, "rate": POSITIVE}, POSITIVE + 0.1),
    "beta": ("Beta", {"concentration1": POSITIVE, "concentration0": POSITIVE + 0.5}, CHANCES),
    "dirichlet": ("Dirichlet", {"concentration": POSITIVE}, SIMPLEX),
    "dirichlet, small": ("Dirichlet", {"concentration": POSITIVE / 3}, SIMPLEX),
    "student": ("StudentT", {"df": 2.3 * POSITIVE, "loc": PLACES, "scale": POSITIVE}, PLACES + 0.4),
    "f": ("FisherSnedecor", {"df1": 3 * POSITIVE, "df2": 4 * POSITIVE}, POSITIVE),
    "half cauchy": ("HalfCauchy", {"scale": POSITIVE}, POSITIVE + 0.1),
    "pareto": ("Pareto", {"scale": POSITIVE, "alpha": POSITIVE + 0.5}, POSITIVE + 0.1),
    "weibull": ("Weibull", {"scale": POSITIVE, "concentration": POSITIVE + 0.5}, POSITIVE + 0.1),
    "negative binomial": ("NegativeBinomial", {"total_count": np.array(5.0), "probs": CHANCES},
                          np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 9.0]])),
    "negative binomial, logits": ("NegativeBinomial", {"total_count": np.array(5.0), "logits": PLACES},
                                  np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 9.0]])),
    "relaxed trials": ("RelaxedBernoulli", {"temperature": np.array(0.7), "probs": CHANCES}, CHANCES[:, ::-1].copy()),
    "relaxed trials, logits": ("RelaxedBernoulli", {"temperature": np.array(0.7), "logits": PLACES}, CHANCES),
    "relaxed categories": ("RelaxedOneHotCategorical", {"temperature": np.array(0.7), "probs": CHANCES}, SIMPLEX[:, ::-1].copy()),
    "relaxed categories, logits": ("RelaxedOneHotCategorical", {"temperature": np.array(0.7), "logits": PLACES}, SIMPLEX),
    "shares of normals": ("LogisticNormal", {"loc": PLACES, "scale": POSITIVE}, np.concatenate([SIMPLEX / 2, np.full((2, 1), 0.5)], -1)),
    "kumaraswamy": ("Kumaraswamy", {"concentration1": POSITIVE + 0.5, "concentration0": POSITIVE}, CHANCES),
    "continuous trials": ("ContinuousBernoulli", {"probs": CHANCES}, CHANCES[:, ::-1].copy()),
    "continuous trials, logits": ("ContinuousBernoulli", {"logits": PLACES}, CHANCES),
    "vectors, low rank": ("LowRankMultivariateNormal", {"loc": PLACES, "cov_factor": PLACES.T, "cov_diag": POSITIVE[0]}, PLACES + 0.4),
    "factors of correlations": ("LKJCholesky", {"dim": 3, "concentration": np.array([0.7, 1.5])}, CORRELATIONS),
    "covariances": ("Wishart", {"df": np.array([3.2, 4.5]), "covariance_matrix": COVARIANCE}, COVARIANCE + np.eye(3)),
    "covariances, scale": ("Wishart", {"df": np.array(5.0), "scale_tril": TRIL}, COVARIANCE + np.eye(3)),
    "covariances, precision": ("Wishart", {"df": np.array([4.0]), "precision_matrix": COVARIANCE}, COVARIANCE + np.eye(3)),
    "categorical": ("Categorical", {"probs": CHANCES}, np.array([2, 0])),
    "categorical, logits": ("Categorical", {"logits": PLACES}, np.array([[2, 0], [1, 1], [0, 2]])),
    "one-hot": ("OneHotCategorical", {"probs": CHANCES}, np.eye(3)[[2, 0]]),
    "one-hot, logits": ("OneHotCategorical", {"logits": PLACES}, np.eye(3)[[2, 0]]),
    "one-hot, straight through": ("OneHotCategoricalStraightThrough", {"probs": CHANCES}, np.eye(3)[[2, 0]]),
    "vectors, scale": ("MultivariateNormal", {"loc": PLACES, "scale_tril": TRIL}, PLACES + 0.4),
    "vectors, covariance": ("MultivariateNormal", {"loc": PLACES, "covariance_matrix": COVARIANCE}, PLACES + 0.4),
    "vectors, covariances": ("MultivariateNormal", {"loc": PLACES[0], "covariance_matrix": np.stack([COVARIANCE, 2 * COVARIANCE])},
                             PLACES + 0.4),
    "vectors, precision": ("MultivariateNormal", {"loc": PLACES[0], "precision_matrix": COVARIANCE}, PLACES + 0.4),
}

#: Samples that come from another algorithm, or (covariances) that PyTorch draws again where they are positive definite.
OTHERWISE = ("binomial", "binomial, logits", "covariances", "covariances, scale", "covariances, precision")
#: How samples change with the parameters is approximated in PyTorch, to three digits; here to ten (a test below).
MADE_OF_GAMMA = ("gamma", "gamma, large", "chi squared", "inverse gamma", "beta", "dirichlet", "dirichlet, small", "student", "f")


def both(case, dtype="float64"):
    """The distribution in both packages with its parameters (leaves that want gradients) and values."""
    name, arrays, values = CASES[case]
    for m in BOTH:
        kind = getattr(m, dtype)
        leaves = {k: a if k == "dim" else m.tensor(a, dtype=kind, requires_grad=k != "total_count") for k, a in arrays.items()}
        value = m.tensor(values) if values.dtype == np.int64 else m.tensor(values, dtype=kind)
        yield m, made(m.distributions, name, leaves), leaves, value


def same(got, want, message="", rtol=1e-10):
    assert tuple(got.shape) == tuple(want.shape) and str(got.dtype) == str(want.dtype), message
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol, 1e-12, err_msg=message)


def outcome(call):
    """What a call gives: a value, or the class of its error."""
    try:
        return call()
    except (NotImplementedError, ValueError, RuntimeError, AttributeError) as e:
        return type(e)


def compare(got, want, message="", rtol=1e-10):
    assert isinstance(want, type) == isinstance(got, type), f"{message}: {got} for {want}"
    if isinstance(want, type):
        assert got is want, message
    elif hasattr(want, "numpy"):
        same(got, want, message, rtol)
    else:
        assert got == want, message


@pytest.mark.parametrize("case", CASES)
def test_values_and_shapes(case):
    (_, p, _, pv), (_, r, _, rv) = both(case)
    assert repr(r) == repr(p)
    assert tuple(r.batch_shape) == tuple(p.batch_shape) and tuple(r.event_shape) == tuple(p.event_shape)
    assert repr(r.support) == repr(p.support)
    assert r.support.is_discrete == p.support.is_discrete and r.support.event_dim == p.support.event_dim
    assert (r.has_rsample, r.has_enumerate_support) == (p.has_rsample, p.has_enumerate_support)
    for name in ("mean", "mode", "variance", "stddev"):
        compare(outcome(lambda: getattr(r, name)), outcome(lambda: getattr(p, name)), name)  # noqa: B023
    for name in ("entropy", "perplexity", "enumerate_support"):
        compare(outcome(lambda: getattr(r, name)()), outcome(lambda: getattr(p, name)()), name)  # noqa: B023
    compare(outcome(lambda: r.enumerate_support(expand=False)), outcome(lambda: p.enumerate_support(expand=False)))
    for name in ("log_prob", "cdf"):
        compare(outcome(lambda: getattr(r, name)(rv)), outcome(lambda: getattr(p, name)(pv)), name)  # noqa: B023
    chance = np.array([[0.2], [0.6]])
    compare(outcome(lambda: r.icdf(rushlight.tensor(chance))), outcome(lambda: p.icdf(torch.tensor(chance))), "icdf")
    assert repr(r) == repr(p)  # with what was computed meanwhile


LOWER_TRIANGLE = [case for case, (name, *_) in CASES.items() if name == "Wishart"]


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_log_prob_and_entropy(case):
    found = []
    for m, dist, leaves, value in both(case):
        loss = (dist.log_prob(value) * m.arange(1, dist.log_prob(value).numel() + 1).view(dist.log_prob(value).shape)).sum()
        try:
            loss = loss + dist.entropy().sum()
        except NotImplementedError:
            pass
        loss.backward()
        # What PyTorch computes of a Wishart's triangular matrix gives gradients to the other triangle.
        part = (lambda g: g.tril()) if case in LOWER_TRIANGLE else (lambda g: g)
        found.append({k: part(t.grad) if k == "scale_tril" else t.grad for k, t in leaves.items() if getattr(t, "requires_grad", False)})
    for k, want in found[0].items():
        same(found[1][k], want, k, 1e-6 if case in MADE_OF_GAMMA else 1e-8)  # PyTorch's trigamma has nine digits


@pytest.mark.parametrize("case", [c for c in CASES if c not in OTHERWISE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_are_pytorchs(case, dtype):
    drawn, coarse = [], []
    for m, dist, leaves, _ in both(case, dtype):
        m.manual_seed(3)
        seen = [dist.sample(), dist.sample((2,)), dist.sample(m.Size((2, 3)))]
        assert not any(t.requires_grad for t in seen)
        if dist.has_rsample:
            value = dist.rsample((4,))
            (value * value).sum().backward()
            slopes = [t.grad for t in leaves.values() if getattr(t, "grad", None) is not None]
            seen += [value.detach(), *(() if case in MADE_OF_GAMMA else slopes)]
            for k, slope in enumerate(slopes if case in MADE_OF_GAMMA else ()):
                coarse.append((m, k, slope))
        drawn.append(seen)
    assert len(drawn[0]) == len(drawn[1])
    for want, got in zip(*drawn):
        same(got, want, rtol=2e-5 if dtype == "float32" else 1e-10)
    half = len(coarse) // 2
    for (_, _, want), (_, _, got) in zip(coarse[:half], coarse[half:]):
        same(got, want, rtol=5e-3)


@pytest.mark.parametrize("alpha", [0.02, 0.3, 1.0, 4.0, 60.0, 3000.0])
def test_slopes_of_gamma_and_beta_numbers_are_those_of_quantiles(alpha):
    special = pytest.importorskip("scipy.special")
    levels = np.array([1e-4, 0.03, 0.3, 0.5, 0.8, 0.99, 0.9999])
    h = 1e-4 * alpha

    def slope(quantile):
        return (8 * (quantile(alpha + h) - quantile(alpha - h)) - (quantile(alpha + 2 * h) - quantile(alpha - 2 * h))) / (12 * h)

    x = special.gammaincinv(alpha, levels)
    seen = x > 1e-290
    got = gamma_slope(rushlight.tensor(np.full_like(x, alpha)), rushlight.tensor(x)).numpy()
    np.testing.assert_allclose(got[seen], slope(lambda a: special.gammaincinv(a, levels))[seen], 1e-5)
    for beta in (0.4, 2.5, 200.0):
        x = special.betaincinv(alpha, beta, levels)
        seen = (x > 1e-290) & (1 - x > 1e-6)
        got = share_slope(rushlight.tensor(x), rushlight.tensor(np.full_like(x, alpha)), rushlight.tensor(np.full_like(x, alpha + beta)))
        want = slope(lambda a: special.betaincinv(a, beta, levels)) / (1 - x)  # noqa: B023
        np.testing.assert_allclose(got.numpy()[seen], want[seen], 1e-5)


def test_counts_of_categories():
    seen = []
    for m in BOTH:
        d = m.distributions
        m.manual_seed(0)
        dist = d.Multinomial(5, m.tensor(CHANCES, requires_grad=True))
        value = m.tensor([[1.0, 3.0, 1.0], [0.0, 5.0, 0.0]], dtype=m.float64)
        impossible = d.Multinomial(2, m.tensor([0.0, 1.0])).log_prob(m.tensor([0.0, 2.0]))
        assert dist.log_prob(value).requires_grad
        seen.append([dist.sample(), dist.sample((2,)), dist.log_prob(value), dist.mean, dist.variance, dist.entropy(), impossible,
                     dist.expand((3, 2)).log_prob(value), tuple(dist.event_shape), repr(dist), repr(dist.support)])
        with pytest.raises(NotImplementedError):
            d.Multinomial(m.tensor([2, 3]), m.tensor(CHANCES))
        with pytest.raises(ValueError, match="at least one-dimensional"):
            d.Dirichlet(m.tensor(1.0))
    for got, want in zip(*seen[::-1]):
        compare(got, want)


def test_samples_at_the_ends_have_finite_slopes():
    for dtype in (rushlight.float32, rushlight.float64):
        rushlight.manual_seed(0)
        alpha = rushlight.full((64, 3), 0.01, dtype=dtype, requires_grad=True)
        x = rushlight.distributions.Dirichlet(alpha).rsample()
        y = rushlight.distributions.Gamma(alpha, 1.0).rsample()
        assert bool((x > 0).all()) and bool((x == 1).any()) and bool((y > 0).all())
        (x.square().sum() + y.square().sum()).backward()
        assert bool(alpha.grad.isfinite().all())


@pytest.mark.parametrize("case", CASES)
def test_expand_and_copies(case):
    (_, p, _, pv), (_, r, _, rv) = both(case)
    shape = (3, *p.batch_shape)
    wide, want = r.expand(shape), p.expand(shape)
    assert repr(wide) == repr(want) and tuple(wide.batch_shape) == shape
    same(wide.log_prob(rv[0] if rv.dim() > len(shape) - 1 + len(r.event_shape) else rv),
         want.log_prob(pv[0] if pv.dim() > len(shape) - 1 + len(p.event_shape) else pv))
    with rushlight.no_grad():
        again = type(r)(**{k: v.detach() for k, v in r.__dict__.items() if k in r.arg_constraints and k not in ("mean",)}) \
            if type(r).__name__ in ("Normal", "Categorical", "Bernoulli") else None
    if again is not None:
        for other in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
            same(other.log_prob(rv), again.log_prob(rv))


def test_numbers_as_parameters():
    for name, args in {"Normal": (0, 1), "Uniform": (0.0, 2.0), "Exponential": (1.5,), "Bernoulli": (0.3,), "Poisson": (2,),
        "Gumbel": (0, 1.0),
                       "Laplace": (0, 1), "Geometric": (0.4,), "LogNormal": (0.0, 1.0), "HalfNormal": (2.0,), "Cauchy": (0.0, 1.0)}.items():
        want, got = getattr(torch.distributions, name)(*args), getattr(rushlight.distributions, name)(*args)
        assert repr(got) == repr(want) and got.batch_shape == () and want.batch_shape == ()
        for m, dist in zip(BOTH, (want, got)):
            m.manual_seed(0)
            dist.seen = dist.sample(), dist.sample((2,))
        for a, b in zip(got.seen, want.seen):
            same(a, b, name, 1e-5)


def squashed(m):
    d = m.distributions
    loc = m.tensor(PLACES, requires_grad=True)
    base = d.Normal(loc, m.tensor(POSITIVE))
    return loc, d.TransformedDistribution(base, [d.TanhTransform(cache_size=1), d.AffineTransform(1.0, m.tensor([2.0, 0.5, -1.0]))])


def test_transformed():
    seen = []
    for m in BOTH:
        m.manual_seed(1)
        loc, dist = squashed(m)
        action = dist.rsample((5,))
        log_prob = dist.log_prob(action)
        log_prob.sum().backward()
        wide = dist.expand((4, 2, 3))
        seen.append([action, log_prob, loc.grad, dist.log_prob(m.tensor(0.9, dtype=m.float64).expand(2, 3)), dist.cdf(m.full((2, 3),
            0.8, dtype=m.float64)),
                     dist.icdf(m.full((2, 3), 0.3, dtype=m.float64)), wide.log_prob(action[:1]), m.tensor(wide.sample().shape),
                     repr(dist), repr(dist.transforms), repr(dist.support), repr(wide.support)])
    for got, want in zip(seen[1], seen[0]):
        compare(got, want) if isinstance(want, str) else same(got, want)


TRANSFORMS = {
    "exp": lambda d, m: d.ExpTransform(), "tanh": lambda d, m: d.TanhTransform(), "sigmoid": lambda d, m: d.SigmoidTransform(),
    "softplus": lambda d, m: d.SoftplusTransform(), "affine": lambda d, m: d.AffineTransform(m.tensor([1.0, 2.0, 3.0]), -0.5),
    "affine of vectors": lambda d, m: d.AffineTransform(m.tensor([1.0, 2.0, 3.0]), m.tensor([2.0, 3.0, 4.0]), event_dim=1),
    "power": lambda d, m: d.ComposeTransform([d.ExpTransform(), d.PowerTransform(2.0)]),
    "composed": lambda d, m: d.ComposeTransform([d.AffineTransform(0.0, m.tensor([2.0, 3.0, 4.0]), event_dim=1), d.TanhTransform()], 1),
    "inverse": lambda d, m: d.ComposeTransform([d.SigmoidTransform(), d.ExpTransform()]).inv.inv, "nothing": lambda d,
      m: d.identity_transform,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    seen = []
    for m in BOTH:
        f, x = TRANSFORMS[name](m.distributions, m), m.tensor(PLACES[:, :3].astype(np.float32), requires_grad=True)
        y = f(x)
        jacobian = f.log_abs_det_jacobian(x, y)
        (y + 2 * jacobian.sum()).sum().backward()
        seen.append([y, jacobian, x.grad, f.inv(y.detach()), f.inv.log_abs_det_jacobian(y, x), f.bijective, repr(f), repr(f.inv),
            repr(f.domain),
                     repr(f.codomain), f.inv.inv is f, f == TRANSFORMS[name](m.distributions, m), tuple(f.forward_shape((2, 3)))])
    for got, want in zip(*seen[::-1]):
        same(got, want, rtol=1e-4) if hasattr(want, "numpy") else compare(got, want)


def test_a_cached_inverse_is_the_value_itself():
    d = rushlight.distributions
    f, x = d.TanhTransform(cache_size=1), rushlight.tensor([20.0])
    assert f.inv(f(x)) is x and not math.isfinite(d.TanhTransform().inv(f(x)).item())


def test_independent():
    seen = []
    for m in BOTH:
        d = m.distributions
        dist = d.Independent(d.Normal(m.tensor(PLACES), m.tensor(POSITIVE)), 1)
        seen.append([dist.log_prob(m.tensor(PLACES)), dist.entropy(), dist.mean, dist.variance, dist.mode, repr(dist),
            repr(dist.support), dist.has_rsample,
                     repr(dist.expand((4, 2))), d.kl_divergence(dist, d.Independent(d.Normal(m.tensor(POSITIVE), m.tensor(CHANCES)), 1)),
                     tuple(dist.batch_shape), tuple(dist.event_shape)])
        with pytest.raises(ValueError, match="reinterpreted_batch_ndims"):
            d.Independent(dist, 2)
    for got, want in zip(*seen[::-1]):
        compare(got, want)


@pytest.mark.parametrize("vectors", [False, True])
def test_mixtures(vectors):
    seen = []
    for m in BOTH:
        d = m.distributions
        logits = m.tensor(PLACES, requires_grad=True)
        part = d.MultivariateNormal(m.tensor(np.stack([PLACES.T, POSITIVE.T])), m.eye(2, dtype=m.float64)) if vectors else \
            d.Normal(m.tensor(PLACES), m.tensor(POSITIVE))
        dist = d.MixtureSameFamily(d.Categorical(logits=logits), part)
        m.manual_seed(0)
        drawn = dist.sample((4,))
        log_prob = dist.log_prob(drawn)
        log_prob.sum().backward()
        seen.append([drawn, log_prob, logits.grad, dist.mean, dist.variance, repr(dist), repr(dist.expand((3, 2))),
            tuple(dist.event_shape)])
    for got, want in zip(*seen[::-1]):
        compare(got, want)


KL = [*itertools.combinations_with_replacement(["normal", "laplace", "uniform", "exponential"], 2),
      *[(b, a) for a, b in itertools.combinations(["normal", "laplace", "uniform", "exponential"], 2)],
      *[(c, c) for c in CASES if c not in ("normal", "laplace", "uniform", "exponential")],
      ("vectors, low rank", "vectors, covariance"), ("vectors, scale", "vectors, low rank"),
      ("poisson", "bernoulli"), ("bernoulli", "poisson"), ("poisson", "binomial"), ("vectors, scale", "vectors, covariances"),
      ("one-hot", "one-hot, straight through"), ("categorical", "normal"), ("geometric", "geometric, logits"), ("bernoulli, logits",
          "bernoulli")]


@pytest.mark.parametrize(("first", "second"), KL)
def test_kl_divergence(first, second):
    seen = []
    for (m, p, leaves, _), (_, q, others, _) in zip(both(first), both(second)):
        moved = type(q)(**{k: (v * 1.25 + (0.125 if k in ("loc",
            "logits") else 0)).clamp(max=0.95 if k == "probs" else 9) if k != "total_count" else v
                           for k, v in others.items()}) if first == second and not {"dim", "covariance_matrix", "precision_matrix"} & {
                               *others} else q
        kl = outcome(lambda: m.distributions.kl_divergence(p, moved))  # noqa: B023
        if not isinstance(kl, type) and kl.requires_grad and bool(m.isfinite(kl).all()):
            kl.sum().backward()
        seen.append([kl, *(t.grad for t in leaves.values() if getattr(t, "grad", None) is not None)])
    if first.startswith("covariances"):  # PyTorch's rule cuts the parameters off the graph
        seen = [one[:1] for one in seen]
    assert len(seen[0]) == len(seen[1])
    for got, want in zip(*seen[::-1]):
        compare(got, want, rtol=1e-6 if first in MADE_OF_GAMMA else 1e-10)


def test_impossible_categories():
    for m in BOTH:
        d = m.distributions
        p, q = d.Categorical(m.tensor([0.0, 0.5, 0.5])), d.Categorical(m.tensor([0.5, 0.5, 0.0]))
        assert d.kl_divergence(p, q).item() == math.inf and d.kl_divergence(p, p).item() == 0
        assert p.entropy().item() == pytest.approx(math.log(2), abs=1e-5)
        one, sure = d.Bernoulli(m.tensor(0.3)), d.Bernoulli(m.tensor(0.0))
        assert d.kl_divergence(one, sure).item() == math.inf and math.isfinite(d.kl_divergence(sure, one).item())


def test_a_rule_of_ones_own():
    d = rushlight.distributions

    class Mine(d.Normal):
        pass

    mine = Mine(0.0, 1.0)
    assert d.kl_divergence(mine, mine).item() == 0

    @d.register_kl(Mine, d.Normal)
    def rule(p, q):
        return "found"

    assert d.kl_divergence(mine, mine) == "found" and d.kl_divergence(d.Normal(0.0, 1.0), mine).item() == 0
    with pytest.raises(TypeError, match="subclass of Distribution"):
        d.register_kl(3, Mine)


BAD = {
    "scale": lambda d, m: d.Normal(m.tensor([0.0, 1.0]), m.tensor([1.0, -1.0])),
    "a NaN": lambda d, m: d.Normal(m.tensor([float("nan"), 1.0]), m.tensor([1.0, 1.0])),
    "logits with a NaN": lambda d, m: d.Categorical(logits=m.tensor([[0.0, float("nan")]])),
    "neither": lambda d, m: d.Categorical(), "both forms": lambda d, m: d.Bernoulli(m.tensor(0.5), m.tensor(0.0)),
    "a probability": lambda d, m: d.Bernoulli(m.tensor([0.5, 1.5])), "no events": lambda d, m: d.Categorical(m.tensor(0.5)),
    "a negative probability": lambda d, m: d.Categorical(m.tensor([0.5, -0.5, 1.0])),
    "bounds": lambda d, m: d.Uniform(m.tensor([0.0, 1.0]), m.tensor([1.0, 1.0])),
    "no success": lambda d, m: d.Geometric(m.tensor([0.5, 0.0])),
    "no tensor": lambda d, m: d.Normal(0.0, 1.0).log_prob(0.5),
    "support": lambda d, m: d.Bernoulli(m.tensor([0.5, 0.5])).log_prob(m.tensor([0.5, 1.0])),
    "category": lambda d, m: d.Categorical(m.tensor([0.5, 0.5])).log_prob(m.tensor(2)),
    "shapes": lambda d, m: d.Normal(m.zeros(3), 1.0).log_prob(m.zeros(4)),
    "event shape": lambda d, m: d.OneHotCategorical(m.tensor([0.5, 0.5])).log_prob(m.tensor([1.0])),
    "outside": lambda d, m: d.Uniform(0.0, 1.0).log_prob(m.tensor(2.0)),
    "two matrices": lambda d, m: d.MultivariateNormal(m.zeros(2), m.eye(2), m.eye(2)),
    "a mean": lambda d, m: d.MultivariateNormal(m.tensor(0.0), m.eye(2)),
    "a vector for a matrix": lambda d, m: d.MultivariateNormal(m.zeros(2), scale_tril=m.ones(2)),
    "not definite": lambda d, m: d.MultivariateNormal(m.zeros(2), m.tensor([[1.0, 2.0], [2.0, 1.0]])),
    "not triangular": lambda d, m: d.MultivariateNormal(m.zeros(2), scale_tril=m.ones(2, 2)),
    "text": lambda d, m: d.Normal("0", 1.0), "transforms": lambda d, m: d.TransformedDistribution(d.Normal(0.0, 1.0), [abs]),
    "a mixture": lambda d, m: d.MixtureSameFamily(d.Normal(0.0, 1.0), d.Normal(m.zeros(2), 1.0)),
    "components": lambda d, m: d.MixtureSameFamily(d.Categorical(m.ones(3)), d.Normal(m.zeros(2), 1.0)),
    "no rule": lambda d, m: d.kl_divergence(d.Cauchy(0.0, 1.0), d.Normal(0.0, 1.0)), "a cache": lambda d, m: d.TanhTransform(cache_size=2),
    "no samples": lambda d, m: d.Bernoulli(0.5).rsample(), "a constraint": lambda d, m: d.constraints.dependent.check(m.zeros(1)),
}


@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    errors = []
    for m in BOTH:
        with pytest.raises(Exception) as e:  # noqa: B017, PT011
            BAD[name](m.distributions, m)
        errors.append(e.value)
    assert type(errors[1]) is type(errors[0])
    assert str(errors[1]) == str(errors[0])


def test_validation_can_be_switched_off():
    d = rushlight.distributions
    assert d.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
    d.Distribution.set_default_validate_args(False)
    try:
        assert math.isnan(d.Normal(0.0, -1.0).log_prob(rushlight.tensor(0.0)).item())
    finally:
        d.Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError, match="scale"):
        d.Normal(0.0, -1.0)


CONSTRAINTS = ["boolean", "real", "real_vector", "positive", "nonnegative", "unit_interval", "simplex", "one_hot",
    "nonnegative_integer", "positive_integer",
               "lower_triangular", "lower_cholesky", "square", "symmetric", "positive_definite", "positive_semidefinite"]


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints(name):
    values = [PLACES, CHANCES, SIMPLEX, np.eye(3), TRIL, COVARIANCE, -COVARIANCE, np.array([[0.0, 1.0, np.nan]] * 3), np.array([[1.0,
        2.0, 0.0]] * 3)]
    for value in values:
        seen = []
        for m in BOTH:
            constraint = getattr(m.distributions.constraints, name)
            seen.append([outcome(functools.partial(constraint.check, m.tensor(value))), repr(constraint), constraint.is_discrete,
                         constraint.event_dim])
        if np.isnan(value).any() and name in ("positive_definite", "positive_semidefinite"):
            continue
        for got, want in zip(*seen[::-1]):
            compare(got, want)


def test_a_policy_gradient_step_builds_no_new_programs():
    d, counters = rushlight.distributions, rushlight.tools.profiler.counters
    net = rushlight.nn.Linear(4, 3)
    optimizer = rushlight.optim.SGD(net.parameters(), lr=0.1)

    def step():
        policy = d.Categorical(logits=net(rushlight.randn(8, 4)))
        action = policy.sample()
        loss = -(policy.log_prob(action) * rushlight.randn(8)).mean() - 0.01 * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(4):
        step()
    before = counters()
    for _ in range(5):
        step()
    after = counters()
    assert after.programs_built == before.programs_built


def test_parameters_are_looked_at_once_and_the_look_is_remembered(monkeypatch):
    from rushlight.distributions import constraints
    from rushlight.record import counters

    asked = []
    kind = type(constraints.positive)
    check = kind.check
    monkeypatch.setattr(kind, "check", lambda *args: asked.append(1) or check(*args))
    one = torch.ones(3).numpy()
    loc, scale = rushlight.tensor(one), rushlight.tensor(one)
    for k in range(8):
        before = counters.programs_run
        made = rushlight.distributions.Beta(loc, scale)
        assert counters.programs_run - before <= 1
        made.log_prob(rushlight.tensor(0.5 * one)).numpy()
        rushlight.distributions.Normal(loc, scale).log_prob(loc).numpy()
        assert k < 4 or not asked
        asked.clear()
    for wrong in (rushlight.distributions.Beta, rushlight.distributions.Normal):
        with pytest.raises(ValueError, match="to satisfy the constraint"):
            wrong(loc, -scale)
        with pytest.raises(ValueError, match="to be within the support"):
            wrong(loc, scale).log_prob(loc * math.nan)


def test_angles():
    loc, k = np.array([0.3, -2.0, 3.0]), np.array([0.5, 4.0, 1e-7])
    seen = []
    for m in BOTH:
        dist = m.distributions.VonMises(m.tensor(loc), m.tensor(k, requires_grad=True))
        m.manual_seed(0)
        value = m.tensor([0.1, 3.0, -1.0], dtype=m.float64)
        dist.log_prob(value).sum().backward()
        seen.append([dist.mean, dist.variance, dist.log_prob(value), dist.sample((5,)), dist.concentration.grad, repr(dist),
                     dist.expand((2, 3)).sample()])
    for got, want in zip(*seen[::-1]):  # PyTorch's Bessel functions have seven digits
        compare(got, want) if isinstance(want, str) else np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), 1e-6, 1e-6)


def test_covariances_have_their_moments():
    rushlight.manual_seed(0)
    dist = rushlight.distributions.Wishart(rushlight.tensor(5.0), scale_tril=rushlight.tensor(TRIL, dtype=rushlight.float32))
    drawn = dist.sample((20000,))
    assert bool(dist.support.check(drawn[:100]).all())
    np.testing.assert_allclose(drawn.mean(0).numpy(), dist.mean.numpy(), atol=0.15)
    np.testing.assert_allclose(drawn.var(0).numpy(), dist.variance.numpy(), rtol=0.08)
    scale = rushlight.tensor(TRIL, requires_grad=True)
    rushlight.distributions.Wishart(rushlight.tensor(5.0, dtype=rushlight.float64), scale_tril=scale).rsample((3,)).sum().backward()
    assert bool(scale.grad.isfinite().all())


EVENTS = {
    "stick breaking": (lambda d, m: d.StickBreakingTransform(), PLACES), "softmax": (lambda d, m: d.SoftmaxTransform(), PLACES),
    "factors": (lambda d, m: d.LowerCholeskyTransform(), TRIL + 0.3),
    "covariances": (lambda d, m: d.PositiveDefiniteTransform(), TRIL + 0.3),
    "correlations": (lambda d, m: d.CorrCholeskyTransform(), PLACES), "reshaped": (lambda d, m: d.ReshapeTransform((3,), (3, 1)), PLACES),
    "together": (lambda d, m: d.IndependentTransform(d.ExpTransform(), 1), PLACES),
    "one after another": (lambda d, m: d.CatTransform([d.ExpTransform(), d.TanhTransform()], -1, [1, 2]), PLACES),
    "side by side": (lambda d, m: d.StackTransform([d.ExpTransform(), d.AffineTransform(1.0, 2.0)], 0), PLACES),
    "chances": (lambda d, m: d.CumulativeDistributionTransform(d.Normal(m.tensor(0.5, dtype=m.float64), 2.0)), PLACES)}


@pytest.mark.parametrize("name", EVENTS)
def test_transforms_of_events(name):
    make, content = EVENTS[name]
    seen = []
    for m in BOTH:
        f, x = make(m.distributions, m), m.tensor(content, requires_grad=True)
        y = f(x)
        jacobian = outcome(lambda: f.log_abs_det_jacobian(x, y))  # noqa: B023
        loss = (y * y).sum() if isinstance(jacobian, type) else (y * y).sum() + jacobian.sum()
        loss.backward()
        cached = f.with_cache(1) if name not in ("chances",) else f
        z = x.detach()
        seen.append([y, jacobian, x.grad, f.inv(y.detach()), f.bijective, repr(f), outcome(lambda: f.domain.event_dim),  # noqa: B023
                     outcome(lambda: f.codomain.event_dim), bool(f.codomain.check(y).all()), tuple(f.forward_shape(x.shape)),  # noqa: B023
                     tuple(f.inverse_shape(y.shape)), f == make(m.distributions, m), cached.inv(cached(z)) is z])
    for got, want in zip(*seen[::-1]):
        compare(got, want)


@pytest.mark.parametrize("registry", ["biject_to", "transform_to"])
def test_transforms_to_regions(registry):
    seen = []
    for m in BOTH:
        d, c, found = m.distributions, m.distributions.constraints, []
        for region in (c.real, c.positive, c.nonnegative, c.greater_than(2.0), c.greater_than_eq(2.0), c.less_than(-1.0), c.unit_interval,
                       c.interval(-1.0, 3.0), c.half_open_interval(0.0, 2.0), c.simplex, c.lower_cholesky, c.positive_definite,
                       c.corr_cholesky, c.real_vector, c.independent(c.positive, 1), c.boolean,
                       c.cat([c.positive, c.real], -1, [1, 2]), c.stack([c.positive, c.unit_interval], 0)):
            matrix = region is c.lower_cholesky or region is c.positive_definite
            x = m.tensor(TRIL if matrix else PLACES)
            transform = outcome(lambda: getattr(d, registry)(region))  # noqa: B023
            found.append(transform if isinstance(transform, type) else transform(x))
        with pytest.raises(TypeError):
            getattr(d, registry).register(int, lambda constraint: None)
        seen.append(found)
    for got, want in zip(*seen[::-1]):
        compare(got, want)


def test_what_the_new_distributions_refuse():
    for m in BOTH:
        d = m.distributions
        with pytest.raises(ValueError, match="dim"):
            d.LKJCholesky(1)
        with pytest.raises(ValueError, match="cov_diag"):
            d.LowRankMultivariateNormal(m.zeros(3), m.zeros(3, 1), m.ones(2))
        with pytest.raises(ValueError, match="greater than"):
            d.Wishart(m.tensor(1.5), m.eye(3))
        with pytest.raises(ValueError, match="probs"):
            d.ContinuousBernoulli()
        with pytest.raises(ValueError, match="elements"):
            d.ReshapeTransform((2,), (3,))
