"""A backward that was walked before is found again, also where a flush came in between, and means what the walk means."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn
from rushlight.autograd import engine
from rushlight.record import counters, flush
from rushlight.record.flush import start_afresh


@pytest.fixture(autouse=True)
def nothing_pending():
    start_afresh()


@pytest.fixture
def walks(monkeypatch):
    """How often a graph was walked."""
    calls = []
    run = engine.run
    monkeypatch.setattr(engine, "run", lambda *args, **kwargs: (calls.append(1), run(*args, **kwargs))[1])
    return calls


def tensor(*shape, seed=0, grad=True):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32), requires_grad=grad)


def gradients(params):
    return [p.grad.numpy().copy() for p in params]


def fresh(params):
    for p in params:
        p.grad = None


@pytest.mark.parametrize("look", [lambda loss: None, lambda loss: loss.item(), lambda loss: bool(torch.isnan(loss))])
def test_a_loss_that_is_looked_at_before_its_backward(look, walks):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 3))
    params, y = list(model.parameters()), torch.tensor([0, 2, 1, 0])
    seen = []
    for k in range(8):
        x = tensor(4, 5, seed=k, grad=False)
        fresh(params)
        loss = nn.functional.cross_entropy(model(x), y)
        look(loss)
        loss.backward()
        got = gradients(params)
        n = len(walks)
        fresh(params)
        nn.functional.cross_entropy(model(x), y).backward(torch.tensor(1.0))  # with a gradient it is always walked
        for a, b in zip(got, gradients(params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        seen.append((n, counters.programs_built))
        del walks[n:]
    assert seen[-1] == seen[3] and seen[-1][0] <= 2


def test_graphs_of_many_epochs(walks):
    """The log probability of an action in each step, all of them in one loss at the end."""
    model, built = nn.Linear(4, 3), []
    params = list(model.parameters())
    rng = np.random.default_rng(0)
    for k in range(8):
        logs, rewards, want = [], rng.normal(size=6).tolist(), [np.zeros((3, 4), np.float32), np.zeros(3, np.float32)]
        for t in range(6):
            x = tensor(4, seed=10 * k + t, grad=False)
            p = torch.softmax(model(x), -1)
            action = int(rng.integers(3))
            logs.append(torch.log(p[action]))
            slope = rewards[t] * (np.eye(3, dtype=np.float32)[action] - p.detach().numpy())
            want[0] += slope[:, None] * x.numpy()
            want[1] += slope
        fresh(params)
        sum(log * r for log, r in zip(logs, rewards)).backward()
        for got, expected in zip(gradients(params), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
        built.append((len(walks), counters.programs_built))
    assert built[-1] == built[5]


def test_one_value_kept_twice_is_no_two_values():
    w = tensor(3)
    for k in range(6):
        a, b = torch.exp(w), torch.exp(w * 1.0)
        flush()
        x, y = (a, a) if k % 2 else (a, b)
        w.grad = None
        loss = (x * y).sum()
        loss.item()
        loss.backward()
        np.testing.assert_allclose(w.grad.numpy(), 2 * np.exp(2 * w.detach().numpy()), rtol=1e-5)


def test_what_was_written_since_is_an_error():
    for k in range(5):
        w = tensor(3)
        h = w * 2.0
        loss = h.exp().mul(h).sum()
        loss.item()
        if k % 2:
            h.add_(1.0)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        else:
            loss.backward()
            with pytest.raises(RuntimeError, match="second time"):
                loss.backward()


def test_a_graph_that_is_kept_can_be_walked_again():
    w = tensor(3)
    for _ in range(4):
        w.grad = None
        loss = (w.exp() * w).sum()
        loss.item()
        loss.backward(retain_graph=True)
        first = w.grad.numpy().copy()
        w.grad = None
        loss.backward()
        np.testing.assert_array_equal(w.grad.numpy(), first)


def test_hooks_and_sums_of_gradients_are_walked():
    w, seen = tensor(3), []
    for k in range(6):
        h = w.exp()
        if k % 3 == 1:
            h.register_hook(lambda g: (seen.append(g.sum().item()), g * 2)[1])
        loss = (h * h).sum()
        loss.item()
        if k % 3 != 2:
            w.grad = None
        before = 0 if w.grad is None else w.grad.numpy().copy()
        loss.backward()
        e = np.exp(w.detach().numpy())
        np.testing.assert_allclose(w.grad.numpy() - before, 2 * e * e * (2 if k % 3 == 1 else 1), rtol=1e-5)
    assert len(seen) == 2


def test_memory_that_numpy_writes_is_read_in_time():
    w = tensor(3)
    for k in range(5):
        h = w.exp()
        flush()
        loss = (h * h).sum()
        loss.item()
        array = h.detach().numpy()
        w.grad = None
        loss.backward()
        want = 2 * np.exp(2 * w.detach().numpy())
        array[:] = k
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-5)


def test_parts_that_are_kept():
    w = tensor(4, 3)
    for k in range(6):
        x = tensor(6, 3, seed=k, grad=False)
        w.grad = None
        h = torch.sin(x)
        loss = (h[1:5] * w).exp().sum() + (h.t()[:, 2:] @ w).sum()
        loss.item()
        loss.backward()
        s = np.sin(x.numpy())
        want = s[1:5] * np.exp(s[1:5] * w.detach().numpy()) + s[2:].sum(1, keepdims=True)
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-4, atol=1e-5)
