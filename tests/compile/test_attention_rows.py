"""Attention whose rows lie far from zero: the weights computed again for the gradients are those of the result.

Scores are exact in float32 here, and so is what their sum with the mask is rounded to: double precision gives the rest.
"""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings as recorder

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 1e-2}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=lambda d: str(d).rpartition(".")[2])
SCALE = 0.25
LEAST, LEAST_BFLOAT = float(np.finfo(np.float32).min), float.fromhex("-0x1.fep127")


@pytest.fixture(params=["compiled", "interpreted"], autouse=True)
def cold_limit(request, monkeypatch):
    if request.param == "compiled":
        monkeypatch.setattr(recorder, "cold_limit", 0)
    start_afresh()


def numbers(rng, length, source, most=2.0):
    """q, k and v of exact scores, and the gradient of the result."""
    q, k = (np.round(rng.uniform(-most, most, (2, 3, n, 8)) * 64 / most) * (most / 64) for n in (length, source))
    v, grad = (rng.integers(-8, 9, (2, 3, n, 8)) / 4 for n in (source, length))
    return q, k, v, grad


def expected(q, k, v, grad, mask, wide):
    """The result and the gradients; and for each how large what is added up gets, which may cancel."""
    scores = (q @ k.swapaxes(-1, -2) * SCALE).astype(wide)
    scores = (scores + mask.astype(wide)).astype(np.float64)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    change = grad @ v.swapaxes(-1, -2)
    inner = (change * weights).sum(-1, keepdims=True)
    terms = weights * (np.abs(change) + np.abs(inner)) * SCALE
    change = weights * (change - inner) * SCALE
    sizes = np.abs(v), terms @ np.abs(k), terms.swapaxes(-1, -2) @ np.abs(q), weights.swapaxes(-1, -2) @ np.abs(grad)
    return (weights @ v, change @ k, change.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ grad), [x.max() for x in sizes]


def check(values, mask, dtype, causal=False):
    *given, grad = values
    q, k, v = (torch.tensor(x, dtype=dtype, requires_grad=True) for x in given)
    given_mask = None if mask is None or causal else torch.tensor(mask, dtype=dtype)
    out = F.scaled_dot_product_attention(q, k, v, given_mask, is_causal=causal, scale=SCALE)
    out.backward(torch.tensor(grad, dtype=dtype))
    wide = np.float64 if dtype is torch.float64 else np.float32
    rounded = np.zeros(1) if mask is None else torch.tensor(mask, dtype=dtype).to(torch.float64).numpy()
    with np.errstate(over="ignore"):
        wanted, sizes = expected(*values, rounded, wide)
    made = (out.detach(), q.grad, k.grad, v.grad)
    for name, got, want, size in zip(("result", "to q", "to k", "to v"), made, wanted, sizes, strict=True):
        allowed = TOLERANCE[dtype] * max(1, size)
        np.testing.assert_allclose(got.to(torch.float64).numpy(), want, rtol=0, atol=allowed, err_msg=name)


def below_diagonal(length, source):
    return np.where(np.tril(np.ones((length, source), bool)), 0.0, -np.inf)


@DTYPES
@pytest.mark.parametrize("queries", [40, 2], ids=["kernels", "written out"])
@pytest.mark.parametrize("shut", [-1e9, -1e4, LEAST, 1e6])
@pytest.mark.parametrize("kind", ["all", "some", "causal"])
def test_rows_far_from_zero_by_their_mask(kind, shut, queries, dtype):
    source = 40
    mask = np.zeros((queries, source))
    if dtype is torch.bfloat16:
        shut = max(shut, LEAST_BFLOAT)
    mask[:] = shut if kind == "all" else np.where(np.arange(queries)[:, None] % 3 == 1, shut, 0.0)
    if kind == "causal":
        mask += below_diagonal(queries, source)
    check(numbers(np.random.default_rng(0), queries, source), mask, dtype)


@DTYPES
@pytest.mark.parametrize("queries", [70, 2], ids=["kernels", "written out"])
@pytest.mark.parametrize("causal", [False, True])
def test_large_scores(causal, queries, dtype):
    """Each key occurs several times: the largest scores, around 1e5, have equals."""
    rng = np.random.default_rng(0)
    q, k, v, grad = numbers(rng, queries, 70, 256.0)
    k = k[:, :, np.arange(70) % 7]
    assert np.abs(q @ k.swapaxes(-1, -2)).max() > 1e5
    check((q, k, v, grad), below_diagonal(queries, 70) if causal else None, dtype, causal)


@pytest.mark.parametrize("source", [40, 300])
def test_a_shut_row_is_spread_evenly(source):
    q, k, v = (torch.ones(1, 1, n, 8, requires_grad=True) for n in (source, source, source))
    F.scaled_dot_product_attention(q, k, v, torch.full((source, source), -1e9)).sum().backward()
    np.testing.assert_allclose(v.grad.numpy(), 1, rtol=1e-5)
