"""CTC against the sum over all alignments, written out, and against PyTorch."""
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight
import rushlight.nn.functional as F

from .compare import torch

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(2, 4), st.integers(0, 3), st.integers(0, 2**32 - 1))


def case(sizes, shortest=0):
    """(scores, labels, input lengths, label lengths) of sequences of different lengths."""
    steps, n, classes, longest, seed = sizes
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(steps, n, classes)), rng.integers(1, classes, (n, longest)), rng.integers(shortest, steps + 1, n),
            rng.integers(0, longest + 1, n))


def collapsed(path):
    return [label for label, _ in itertools.groupby(path) if label]


@settings(max_examples=40)
@given(SIZES)
def test_the_loss_is_the_sum_over_all_alignments(sizes):
    scores, labels, times, lengths = case(sizes)
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    found = F.ctc_loss(rushlight.tensor(logs), rushlight.tensor(labels), rushlight.tensor(times), rushlight.tensor(lengths),
                       reduction="none").numpy()
    for k, loss in enumerate(found):
        wanted = labels[k, :lengths[k]].tolist()
        total = sum(math.exp(sum(logs[t, k, c] for t, c in enumerate(path)))
                    for path in itertools.product(range(sizes[2]), repeat=int(times[k])) if collapsed(path) == wanted)
        assert math.exp(-loss) == pytest.approx(total, rel=1e-9, abs=1e-12)


@settings(max_examples=40)
@given(SIZES)
def test_gradients_are_pytorchs(sizes):
    scores, labels, times, lengths = case(sizes, shortest=1)
    grads = []
    for package in (rushlight, torch):
        x = package.tensor(scores, requires_grad=True)
        loss = package.nn.functional.ctc_loss(x.log_softmax(2), package.tensor(labels), package.tensor(times), package.tensor(lengths),
                                              reduction="sum", zero_infinity=True)
        loss.backward()
        grads.append(x.grad.numpy())
    np.testing.assert_allclose(*grads, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 60.0, 700.0])
def test_long_sequences_and_probabilities_that_float64_does_not_hold(scale):
    """Probabilities far below the smallest float64 count like any others: all sums are of logarithms."""
    rng = np.random.default_rng(1)
    steps, n, classes, longest = 90, 3, 11, 21
    scores, labels = rng.normal(size=(steps, n, classes)) * scale, rng.integers(1, classes, (n, longest))
    found = []
    for package in (rushlight, torch):
        x = package.tensor(scores, requires_grad=True)
        loss = package.nn.functional.ctc_loss(x.log_softmax(2), package.tensor(labels), (90, 71, 64), (21, 13, 20), reduction="none")
        loss.sum().backward()
        found.append((loss.detach().numpy(), x.grad.numpy()))
    (ours, grad), (theirs, wanted) = found
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(grad, wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("steps", [4, 300])
@pytest.mark.parametrize("hurt", [False, True])
def test_sequences_that_are_too_short_and_numbers_that_are_none(steps, hurt):
    results = []
    for package in (rushlight, torch):
        scores = np.random.default_rng(2).normal(size=(steps, 3, 5)).astype(np.float32)
        if hurt:
            scores[2, 1, 3] = np.nan
        x = package.tensor(scores, requires_grad=True)
        loss = package.nn.functional.ctc_loss(x, package.tensor([[1, 1, 1], [3, 2, 0], [4, 0, 0]]), (4, 4, 2), (3, 2, 1), reduction="none")
        loss.sum().backward()
        results.append((loss.detach().numpy(), x.grad.numpy()))
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_gradient_takes_over_what_the_loss_computed():
    from rushlight.ops import ctc

    calls = []
    keep, ctc.forward = ctc.forward, lambda *args: calls.append(1) or keep(*args)
    try:
        x = rushlight.randn(7, 2, 5, requires_grad=True)
        F.ctc_loss(x.log_softmax(2), rushlight.tensor([[1, 2], [3, 4]]), (7, 6), (2, 1)).backward()
        assert x.grad.isfinite().all().item() and len(calls) == 1
    finally:
        ctc.forward = keep
