"""A backward that was walked before is found again, also where a flush came in between, and means what the walk means."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn
from rushlight.autograd import replay
from rushlight.record import counters, flush
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings


@pytest.fixture(autouse=True)
def nothing_pending():
    start_afresh()


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


@pytest.mark.parametrize("batch", [(), (2,)])
def test_log_probabilities_of_sampled_actions_are_found(batch, walks):
    """What ``log_prob`` keeps of an action lies in memory as one leaf, so that the backward of an episode is walked once."""
    model = nn.Linear(4, 3)
    for k in range(8):
        torch.manual_seed(k)
        logs = []
        for t in range(5):
            policy = torch.distributions.Categorical(torch.softmax(model(tensor(*batch, 4, seed=10 * k + t, grad=False)), -1))
            action = policy.sample()
            logs.append(policy.log_prob(action).sum())
            action.sum().item()
        fresh(model.parameters())
        torch.stack(logs).sum().backward()
    assert len(walks) <= 3


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


@pytest.fixture
def descriptions(monkeypatch):
    """How often a graph was described: not where the step that was written for it knows it."""
    calls = []
    describe = replay.describe
    monkeypatch.setattr(replay, "describe", lambda *args: (calls.append(1), describe(*args))[1])
    return calls


@pytest.mark.parametrize("look", [lambda loss: None, lambda loss: loss.item()])
def test_a_graph_that_keeps_coming_is_known_without_a_description(look, descriptions):
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 3))
    optimizer, y = torch.optim.SGD(model.parameters(), lr=0.1), torch.tensor([0, 2, 1, 0])
    for k in range(10):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tensor(4, 5, seed=k, grad=False)), y)
        look(loss)
        loss.backward()
        optimizer.step()
    assert len(descriptions) <= 4  # the first times: what a step takes over is new, and begins in the interpreter
    known = len(descriptions)
    (model(tensor(4, 5, grad=False)).sum() * 2.0).backward()
    assert len(descriptions) > known  # another graph


def _changed(name, w, other, h):
    """Change something of the graph of ``h`` before its backward; returns what undoes it."""
    if name == "a hook of a leaf":
        return w.register_hook(lambda g: g * 3).remove
    if name == "a hook of a node":
        h.register_hook(lambda g: g * 3)
    if name == "a gradient to add to":
        w.grad = torch.ones(3)
    if name == "a gradient that is a part":
        w.grad = torch.ones(6)[3:]
    if name == "a leaf that wants no gradient any more":
        other.requires_grad_(False)
        return lambda: other.requires_grad_(True)
    if name == "anomaly mode":
        torch.autograd.set_detect_anomaly(True)
        return lambda: torch.autograd.set_detect_anomaly(False)
    return lambda: None


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("name", ["a hook of a leaf", "a hook of a node", "a gradient to add to", "a gradient that is a part",
                                  "a leaf that wants no gradient any more", "anomaly mode", "autocast", "one leaf instead of two"])
def test_what_changes_when_a_step_has_been_written(name, early, walks):
    w, other = tensor(3), tensor(3, seed=1)
    for k in range(12):
        w.grad = other.grad = None
        changed = k in (7, 8, 10)
        again = other if name == "one leaf instead of two" and changed else w
        if name == "one leaf instead of two":
            w.data = other.data  # one value, two leaves: one slot
        h = torch.sin(w) * torch.cos(again) + other
        if early:
            flush()
        undo = _changed(name, w, other, h) if changed else lambda: None
        base = 0.0 if w.grad is None else 1.0
        before = len(walks)
        if name == "autocast" and changed:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                h.sum().backward()
        else:
            h.sum().backward()
        undo()
        if k == 6:
            assert len(walks) == before  # known by now
        v, u = w.detach().numpy().astype(np.float64), again.detach().numpy().astype(np.float64)
        factor = 3.0 if changed and name.startswith("a hook") else 1.0
        want_w, want_other = np.cos(v) * np.cos(u), np.ones(3)
        if again is w:
            want_w -= np.sin(v) * np.sin(u)
        else:
            want_other -= np.sin(v) * np.sin(u)
        np.testing.assert_allclose(w.grad.numpy(), base + factor * want_w, rtol=1e-5, atol=1e-6)
        if changed and "no gradient" in name:
            assert other.grad is None
        else:
            np.testing.assert_allclose(other.grad.numpy(), (factor if "node" in name else 1.0) * want_other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("early", [False, True])
def test_several_results_and_nodes_of_one_kind_in_many_epochs(early, descriptions):
    w = tensor(4, 1)
    for k in range(8):
        w.grad = None
        total, want = 0.0, np.zeros((4, 1))
        for t in range(3):
            x = tensor(4, 5, seed=10 * k + t, grad=False)
            a, b = (x * w).split(2)
            value, _ = torch.max(a * b, dim=1)
            if early:
                flush()
            total = total + value.sum()
            p = x.numpy() * w.detach().numpy()
            for row, column in enumerate((p[:2] * p[2:]).argmax(1)):
                want[row] += x.numpy()[row, column] * p[row + 2, column]
                want[row + 2] += x.numpy()[row + 2, column] * p[row, column]
        before = len(descriptions)
        total.backward()
        assert k < 5 or len(descriptions) == before
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("early", [False, True])
def test_one_node_twice_is_no_two_nodes(early):
    """Log probabilities of two epochs, then one of them twice: the same trie nodes."""
    w = tensor(3)
    for k in range(12):
        w.grad = None
        x = [tensor(3, seed=2 * k + i, grad=False) for i in range(2)]
        made = []
        for i in range(2):
            made.append(torch.exp(w + x[i]))
            flush()
        first, second = (made[0], made[0]) if k in (7, 9) else made
        loss = (first + second).sum()
        if early:
            loss.item()
        loss.backward()
        v = w.detach().numpy()
        want = np.exp(v + x[0].numpy()) + np.exp(v + (x[0] if k in (7, 9) else x[1]).numpy())
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-5)


def test_a_graph_that_is_kept_and_one_that_is_gone_after_a_step_was_written():
    w = tensor(3)
    for k in range(9):
        w.grad = None
        loss = (w.exp() * w).sum()
        loss.backward(retain_graph=k % 2 == 1)
        first = w.grad.numpy().copy()
        w.grad = None
        if k % 2:
            loss.backward()
            np.testing.assert_array_equal(w.grad.numpy(), first)
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
        assert w.grad is None or k % 2


def test_an_overwritten_value_is_an_error_after_a_step_was_written():
    w = tensor(3)
    for k in range(9):
        w.grad = None
        h = w * 2.0
        loss = h.exp().mul(h).sum()
        if k > 5:
            with torch.no_grad():
                h.add_(1.0)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        else:
            loss.backward()


def test_a_changing_number_of_backwards_stops_building():
    """One backward for each step of an episode, as policy gradients are written: episodes of any length share their programs."""
    torch.manual_seed(0)
    net = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def episode(length):
        probabilities = []
        for _ in range(length):
            probabilities.append(torch.softmax(net(torch.randn(4)), 0)[0])
            probabilities[-1].item()
        optimizer.zero_grad()
        for k, p in enumerate(probabilities):
            (-torch.log(p) * (0.5 + k)).backward()
        optimizer.step()

    for length in (*range(8, 32), *range(8, 32)):
        episode(length)
    before = counters.programs_built
    for length in (50, 33, 61, 47, 58) * 2:
        episode(length)
    assert counters.programs_built == before


@pytest.mark.parametrize("look", [True, False])
def test_gradients_that_are_added_to(look, walks, monkeypatch):
    """A backward for each step of an episode: from the second on, gradients are there already."""
    monkeypatch.setattr(settings, "cold_limit", 0)

    def episodes(replays):
        start_afresh()
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        params, rng, seen = list(model.parameters()), np.random.default_rng(0), []
        for _ in range(8):
            chances = []
            for _ in range(11):
                p = torch.softmax(model(tensor(4, seed=int(rng.integers(100)), grad=False)), -1)
                if look:
                    p[0].item()
                chances.append(p[1])
            fresh(params)
            first = None
            for n, p in enumerate(chances):
                loss = -torch.log(p) * (n + 0.5)
                loss.backward()
                first = first or [p.grad for p in params]
                assert all(p.grad is g for p, g in zip(params, first))
                del loss
            assert {p.grad._version for p in params} == {len(chances) - 1}
            seen.append(gradients(params))
        return seen

    found = episodes(True)
    n = len(walks)
    assert n < 45  # of 88
    del walks[:]
    monkeypatch.setattr(replay, "describe", lambda root, epoch: None)
    for got, want in zip(found, episodes(False), strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(walks) == 88


@pytest.mark.parametrize("change", [
    lambda g: g.mul_(2), lambda g: g.view(-1).zero_(), lambda g: g.numpy().fill(3), lambda g: g.detach().add_(1), lambda g: None])
def test_a_gradient_that_is_changed_before_more_is_added(change):
    w = tensor(3, 2)
    for k in range(6):
        w.grad = None
        x, y = tensor(4, 3, seed=k, grad=False), tensor(4, 3, seed=k + 9, grad=False)
        (x @ w).sum().backward()
        change(w.grad)
        want = w.grad.numpy() + y.numpy().sum(0)[:, None]
        (y @ w).sum().backward()
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-5, atol=1e-5)


def test_one_gradient_of_two_leaves_is_added_to_twice():
    a, b = tensor(3), tensor(3, seed=1)
    for _ in range(5):
        a.grad = b.grad = torch.ones(3)
        (a * b).sum().backward()
        np.testing.assert_allclose(a.grad.numpy(), 1 + a.detach().numpy() + b.detach().numpy(), rtol=1e-6)


def test_a_long_graph_that_keeps_coming_is_not_described_for_good(monkeypatch):
    described, describe = [], replay.describe
    monkeypatch.setattr(replay, "describe", lambda *args: (described.append(1), describe(*args))[1])
    monkeypatch.setattr(replay, "LONG", 30)
    w = tensor(3)
    counted = []
    for _ in range(replay._LONG_WRITTEN + 12):
        y = w
        for _ in range(40):
            y = y * 0.9 + 0.1
        w.grad = None
        y.sum().backward()
        np.testing.assert_allclose(w.grad.numpy(), np.full(3, 0.9 ** 40), rtol=1e-5)
        counted.append(len(described))
    assert counted[10] > counted[5]  # a short one would have its code by now
    assert len(set(counted[-8:])) == 1


def test_backwards_that_begin_alike_over_graphs_of_several_lengths_are_all_found(walks):
    """A loop that looks at its state before each turn: its backward begins at one node, whatever the number of turns."""
    w, expected = tensor(4, 4, seed=1), {}
    for turn in range(12):
        turns = 2 + turn % 3
        h = tensor(2, 4, seed=2, grad=False)
        for _ in range(turns):
            h = (h @ w).tanh()
            assert h.abs().max().item() <= 1
        w.grad = None
        if turn == 6:
            walks.clear()
        (h * h).sum().backward()
        found = w.grad.numpy().copy()
        np.testing.assert_allclose(found, expected.setdefault(turns, found), rtol=1e-5)
    assert not walks
