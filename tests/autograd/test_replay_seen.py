"""Backwards over values that NumPy sees, and over views with strides of what was recorded before the last flush, are found again."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.record.flush import start_afresh

peer = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def nothing_pending():
    start_afresh()


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def attended(t, w, x, turns, between):
    """A decoder that hands out its weights at each turn; the arrays live until the gradients are there."""
    states = t.tanh(x.transpose(0, 1) @ w)                       # (T, B, D)
    h, kept = states[0], []
    for _ in range(turns):
        scores = (states.transpose(0, 1) @ h.unsqueeze(-1)).squeeze(-1)  # (B, T)
        weights = scores.softmax(1)
        kept.append(weights.squeeze().detach().numpy())
        h = t.tanh(weights.unsqueeze(1).bmm(states.transpose(0, 1)).squeeze(1) @ w[:h.shape[1]])
    between(kept)
    (h.square().sum() + h.sum()).backward()
    return h


@pytest.mark.parametrize("changed", [False, True])
def test_values_that_are_seen_from_outside(changed, walks):
    """What is written into an array between forward and backward is what the backward reads, as in PyTorch."""
    def between(kept):
        if changed:
            kept[1][...] = 0.25

    data = numbers(5, 5, seed=1) * 0.5
    w, want = torch.tensor(data, requires_grad=True), peer.tensor(data, requires_grad=True)
    for k in range(8):
        x = numbers(2, 6, 5, seed=k)
        w.grad = want.grad = None
        got = attended(torch, w, torch.tensor(x), 4, between)
        expected = attended(peer, want, peer.tensor(x), 4, between)
        np.testing.assert_allclose(got.detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(w.grad.numpy(), want.grad.numpy(), rtol=2e-3, atol=1e-4)
    assert len(walks) <= 3


def test_views_with_strides_of_ready_memory(walks):
    whole = numbers(7, 4, 6)
    w = torch.tensor(numbers(4, 4, seed=3), requires_grad=True)
    want = peer.tensor(numbers(4, 4, seed=3), requires_grad=True)
    for k in range(8):
        for t, v in ((torch, w), (peer, want)):
            v.grad = None
            x = t.tensor(whole + k)
            y = (x[:, :, 1::2].transpose(1, 2) @ v).tanh()      # a view with strides is kept
            z = (x.permute(2, 0, 1)[1] * y.mean(1)).sum() + (y[1:] * x[:-1, :, :3].transpose(1, 2)).sum()
            z.item()
            (z * 0.5).backward()
        np.testing.assert_allclose(w.grad.numpy(), want.grad.numpy(), rtol=1e-3, atol=1e-4)
    assert len(walks) <= 3


def test_a_graph_that_is_kept_reads_what_is_there_each_time():
    for t in (torch, peer):
        w = t.tensor([1.0, 2.0], requires_grad=True)
        p = w.exp()
        seen = p.detach().numpy()
        loss = (p * p).sum()
        loss.item()
        loss.backward(retain_graph=True)
        first = w.grad.numpy().copy()
        seen[...] = 1.0
        w.grad = None
        loss.backward()
        if t is torch:
            got = first, w.grad.numpy()
    np.testing.assert_allclose(got[0], first, rtol=1e-5)
    np.testing.assert_allclose(got[1], w.grad.numpy(), rtol=1e-5)


def test_one_value_that_two_nodes_keep_is_copied_once_and_stays_apart_from_others():
    for k in range(6):
        grads = []
        for t in (torch, peer):
            w = t.tensor(numbers(3, seed=k), requires_grad=True)
            a, b = w.sigmoid(), (w * 2).sigmoid()
            seen = [a.detach().numpy(), b.detach().numpy()]
            loss = (a * b).sum() + (a * a * b).sum()
            loss.item()
            loss.backward()
            grads.append((w.grad.numpy(), [s.copy() for s in seen]))
        np.testing.assert_allclose(grads[0][0], grads[1][0], rtol=1e-4)
