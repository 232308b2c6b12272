"""Walks whose rules run one by one: a node's share is known by what it reads and where its gradients go."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.autograd import shares
from rushlight.record import counters
from rushlight.record.flush import flush, start_afresh
from rushlight.record.trace import local
from rushlight.record.unsettled import Unsettled

oracle = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def alone():
    """Each call runs by itself, from the first one on."""
    flush()
    start_afresh()
    tr = local.trace
    tr.unsettled, tr.alone = Unsettled(), True
    tr.node = tr.beginning()
    yield
    start_afresh()
    tr.unsettled = Unsettled()


def stay():
    flush()
    tr = local.trace
    if not tr.alone:
        tr.alone = True
        tr.node = tr.beginning()


def params(t):
    return [t.tensor((np.arange(n).reshape(shape) / n - 0.4).astype(np.float32).tolist(), requires_grad=True)
            for n, shape in ((24, (6, 4)), (16, (4, 4)), (4, (4,)))]


def told(t, words, table, w, b):
    """A sentence word by word; each parameter is used at each word, and ``h`` twice."""
    h = t.zeros(1, 4)
    for word in words:
        x = t.nn.functional.embedding(t.tensor([word]), table)
        h = t.tanh(t.nn.functional.linear(t.cat((x, h), 1)[:, 2:6], w, b)) + 0.1 * h
    return h.square().sum()


def grads(t, words, given=None):
    given = params(t) if given is None else given
    for p in given:
        p.grad = None
    told(t, words, *given).backward()
    return [p.grad.numpy().copy() for p in given]


def warm(n=8):
    for k in range(n):
        stay()
        grads(torch, [(j * 5 + k) % 6 for j in range(5)])
    stay()


def check(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_known_share_records_nothing(monkeypatch):
    warm()
    full = []
    begin = shares.Share.__init__
    monkeypatch.setattr(shares.Share, "__init__", lambda self, *args: (full.append(args[1].name()), begin(self, *args))[1])
    given = params(torch)
    loss = told(torch, [5, 1, 1, 0, 2, 3, 4, 5, 1], *given)
    flushes, runs = local.trace.flushes, counters.programs_run
    loss.backward()
    done = counters.programs_run - runs
    assert not full and local.trace.flushes <= flushes + 1 and done > 30  # the gradient of the loss itself is recorded
    check([p.grad.numpy() for p in given], grads(oracle, [5, 1, 1, 0, 2, 3, 4, 5, 1]))


def test_what_a_leaf_has_already_is_written_over_and_nobody_else_sees_it():
    warm()
    given = params(torch)
    told(torch, [1, 2, 3, 1], *given).backward()
    held = [p.grad for p in given]
    before = [g.numpy().copy() for g in held]
    stay()
    told(torch, [1, 2, 3, 1], *given).backward()  # added to what is there, in place, as PyTorch does
    check([p.grad.numpy() for p in given], [2 * g for g in before])
    assert all(p.grad is g for p, g in zip(given, held))
    kept = [g.clone() for g in held]
    stay()
    for p in given:
        p.grad = None
    told(torch, [4, 2, 4], *given).backward()
    check([g.numpy() for g in kept], [g.numpy() for g in held])


def test_hooks_are_called_and_see_what_they_see_in_pytorch():
    def hooked(t, words):
        table, w, b = params(t)
        seen = []
        w.register_hook(lambda g: seen.append(g.sum().item()))
        h = t.zeros(1, 4)
        for word in words:
            x = t.nn.functional.embedding(t.tensor([word]), table)
            h = t.tanh(t.nn.functional.linear(x + h, w, b))
            h.register_hook(lambda g: (seen.append(g.abs().sum().item()), g * 0.9)[1])
        h.sum().backward()
        return seen, w.grad.numpy(), table.grad.numpy()

    for k in range(6):
        stay()
        words = [(j * j + k) % 6 for j in range(4 + k)]
        for a, b in zip(hooked(torch, words), hooked(oracle, words), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_graph_that_is_kept_is_walked_again():
    warm()
    for t, out in ((torch, []), (oracle, [])):
        given = params(t)
        loss = told(t, [3, 3, 0], *given)
        for _ in range(3):
            loss.backward(retain_graph=True)
        out += [p.grad.numpy().copy() for p in given]
        if t is torch:
            got = out
    check(got, out)
    with pytest.raises(RuntimeError, match="second time"):
        loss = told(torch, [3, 3, 0], *given_afresh())
        loss.backward()
        loss.backward()


def given_afresh():
    stay()
    return params(torch)


def test_what_was_written_over_is_an_error():
    warm()
    given = params(torch)
    h = torch.tanh(torch.nn.functional.linear(torch.ones(1, 4), given[1], given[2]))
    loss = (h * h).sum()
    h.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert not local.trace.within


def test_a_failing_call_leaves_nothing_behind():
    warm()
    with pytest.raises(RuntimeError):
        torch.nn.functional.linear(torch.ones(1, 3), params(torch)[1])
    with pytest.raises(RuntimeError):
        torch.nn.Linear(4, 4)(torch.ones(1, 3))
    assert not local.trace.within
    with pytest.raises(IndexError):
        torch.nn.functional.embedding(torch.tensor([17]), params(torch)[0]).tolist()
    warm(2)
    check(grads(torch, [2, 4]), grads(oracle, [2, 4]))


def test_second_derivatives():
    warm()

    def second(t):
        table, w, b = params(t)
        loss = told(t, [1, 4, 1, 2], table, w, b)
        g, = t.autograd.grad(loss, w, create_graph=True)
        (g * g).sum().backward()
        return [p.grad.numpy() for p in (table, w, b)]

    check(second(torch), second(oracle))
