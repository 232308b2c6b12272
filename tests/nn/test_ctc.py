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
