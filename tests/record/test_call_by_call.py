"""Long paths that begin alike and never come again: their calls run one by one."""
from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

import rushlight as torch
from rushlight import nn
from rushlight.record import counters
from rushlight.record.flush import start_afresh
from rushlight.record.paths import path_to
from rushlight.record.patience import Patience
from rushlight.record.trace import local
from rushlight.record.unsettled import APART, Unsettled


@pytest.fixture(autouse=True)
def no_paths_known():
    afresh()
    yield
    afresh()


def afresh():
    start_afresh()
    local.trace.patience, local.trace.unsettled = Patience(), Unsettled()


def spoken(cell, word, turns):
    """A recurrent cell by hand, backpropagated through all turns."""
    h, losses = word, []
    for k in range(turns):
        h = torch.tanh(cell(h) + 0.01 * (k % 3))
        losses.append((h * h).mean())
    for p in cell.parameters():
        p.grad = None
    loss = torch.stack(losses).sum()
    loss.backward()
    return loss.item(), cell.weight.grad.numpy().copy(), cell.bias.grad.numpy().copy()


def reference(cell, word, turns):
    """The same in NumPy, in double precision."""
    w, b, h = (t.detach().numpy().astype(np.float64) for t in (cell.weight, cell.bias, word))
    states, loss = [h], 0.0
    for k in range(turns):
        states.append(np.tanh(states[-1] @ w.T + b + 0.01 * (k % 3)))
        loss += (states[-1] ** 2).mean()
    g, dw, db = np.zeros_like(h), np.zeros_like(w), np.zeros_like(b)
    for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
        g = (g + 2 * after / after.size) * (1 - after**2)
        dw, db, g = dw + g.T @ before, db + g.sum(0), g @ w
    return loss, dw, db


def check(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def test_a_new_number_of_turns_is_made_of_calls_that_are_known():
    torch.manual_seed(0)
    cell, word = nn.Linear(6, 6), torch.randn(2, 6)
    lengths = random.Random(0).sample(range(40, 140), 90)
    for n in lengths[:70]:
        check(spoken(cell, word, n), reference(cell, word, n))
    for n in lengths[70:]:
        built, cold, nodes = counters.programs_built, counters.cold_runs, local.trace.nodes
        check(spoken(cell, word, n), reference(cell, word, n))
        assert counters.programs_built <= built + 2
        assert counters.cold_runs <= cold + 3
        assert local.trace.nodes - nodes < 30 + n  # of some twenty for each turn: those that enter the stack


def episode(actor, states):
    """Each move's result is looked at, and all of them are in one stack of the loss: as many values enter as there are moves."""
    moves = []
    for state in states:
        value = torch.tanh(actor(state))
        moves.append(value * (1.0 if value.sum().item() > 0 else -1.0))
    for p in actor.parameters():
        p.grad = None
    loss = torch.stack(moves).square().sum()
    loss.backward()
    return loss.item(), actor.weight.grad.numpy().copy(), actor.bias.grad.numpy().copy()


def test_episodes_whose_losses_are_stacked():
    torch.manual_seed(0)
    actor = nn.Linear(6, 6)
    lengths = random.Random(1).sample(range(20, 120), 80)
    for n in lengths[:60]:
        episode(actor, torch.randn(n, 6).unbind(0))
    for n in lengths[60:]:
        nodes, states = local.trace.nodes, torch.randn(n, 6)
        loss, dw, db = episode(actor, states.unbind(0))
        assert local.trace.nodes - nodes < 300 + 4 * n  # of some ten for each move
        w, x = actor.weight.detach().numpy().astype(np.float64), states.numpy().astype(np.float64)
        values = np.tanh(x @ w.T + actor.bias.detach().numpy())
        grads = 2 * values * (1 - values**2)
        check((loss, dw, db), ((values**2).sum(), grads.T @ x, grads.sum(0)))


def test_what_comes_again_stays_whole():
    torch.manual_seed(0)
    cell, word = nn.Linear(6, 6), torch.randn(2, 6)
    for n in (60, 60, 40, 50, 60, 70, 60, 60, 80, 60, 60, 60, 90, 60, 60):
        spoken(cell, word, n)
    before = counters.programs_run
    spoken(cell, word, 60)
    assert counters.programs_run == before + 1


def test_calls_that_run_by_themselves_read_and_write_as_before():
    """In-place writes and views, whose memory outlives the call, and values that are read in between."""
    def story(t, turns):
        x = t.arange(12.0).reshape(3, 4)
        total, rows = t.zeros(4), [x[k] for k in range(3)]
        for k in range(turns):
            x.mul_(0.99)
            rows[k % 3].add_(0.5)
            total = total + x[(k + 1) % 3] * 0.1
            x[0, k % 4] = float(k)
        return x.tolist(), total.tolist(), rows[1].tolist()

    oracle = pytest.importorskip("torch")
    for n in (70, 75, 81, 90, 99, 72, 103, 110, 77, 91):
        for got, want in zip(story(torch, n), story(oracle, n), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5)


STEPS = {
    "scale": lambda x, w: x * 0.9,
    "weigh": lambda x, w: x * w,
    "product": lambda x, w: x @ w,
    "tanh": lambda x, w: x.tanh(),
    "turn": lambda x, w: x.t(),
    "halves": lambda x, w: (x[:2] + x[2:]).repeat(2, 1),
    "whole": lambda x, w: x - x.mean(),
    "join": lambda x, w: type(x).chunk(x, 2, 1)[1].repeat(1, 2) + x[:, :1],
    "same twice": lambda x, w: x * x + w,
    "rows": lambda x, w: x[[2, 0, 0, 1]],
    "written": lambda x, w: (x + 1).mul_(0.5).add_(w),
    "row written": lambda x, w: _with_row(x * 1.0, w),
    "alone": lambda x, w: x + w.detach() * x.detach(),
    "best": lambda x, w: x * 0.5 + x.max(1, keepdim=True)[0] * w[:, :1],
    "parts": lambda x, w: sum(x.unbind(0)).expand(4, 4) * 0.25 + w,
    "hooked": lambda x, w: _hooked(x * w + 0.1),
}


def _with_row(x, w):
    x[1] = w[2] * 0.5
    return x


def _hooked(x):
    if x.requires_grad:
        x.register_hook(lambda g: g * 0.5)
    return x


@property_settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(st.sampled_from(sorted(STEPS)), min_size=90, max_size=130), min_size=9, max_size=9))
def test_programs_that_begin_alike_and_never_come_again(programs):
    oracle = pytest.importorskip("torch")
    afresh()

    def run(t, steps):
        w = t.tensor((np.arange(16).reshape(4, 4) / 40 - 0.1).astype(np.float32).tolist(), requires_grad=True)
        x = t.eye(4)
        for name in ["scale", "weigh"] * 12 + steps:
            x = STEPS[name](x, w)
        x.sum().backward()
        return x.detach().numpy(), w.grad.numpy()

    for steps in programs:
        for got, want in zip(run(torch, steps), run(oracle, steps), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_a_path_is_left_at_one_place():
    cell, word = nn.Linear(6, 6), torch.ones(2, 6)
    for n in (60, 65, 70, 75, 80, 85, 90, 95):
        spoken(cell, word, n)
    ends, stack = [], [local.trace.root]
    while stack:
        node = stack.pop()
        stack.extend(node.edges.values())
        if node.stop:
            ends.append(node.stop)
    assert ends == [APART]


def test_steps_that_differ_in_sizes_alone_are_left_whole():
    """Each new size of an image may be a stranger to all that is known; its step is still one program."""
    torch.manual_seed(0)
    net = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())], nn.Flatten())
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    unsettled = local.trace.unsettled
    for k in range(12):
        optimizer.zero_grad()
        y = net(torch.randn(1, 3, 5 + k % 7, 11 + k))
        for _ in range(20):
            y = torch.tanh(y) + 0.1
        loss = y.square().mean()
        loss.backward()
        optimizer.step()
        loss.item()
        unsettled.stranger(path_to(longest(local.trace.root)), 7)  # as if its family did not know it
    assert not unsettled.alike


def longest(node):
    """The end of the longest path of a trie."""
    best, stack = node, [node]
    while stack:
        n = stack.pop()
        best = n if n.depth > best.depth else best
        stack.extend(n.edges.values())
    return best


def test_other_sizes_that_began_before_run_call_by_call_as_well():
    """Their beginning lies elsewhere in the trie."""
    torch.manual_seed(0)
    cell, few, many = nn.Linear(6, 6), torch.randn(2, 6), torch.randn(3, 6)
    check(spoken(cell, few, 90), reference(cell, few, 90))
    for n in (50, 60, 70, 80):
        check(spoken(cell, many, n), reference(cell, many, n))
    assert local.trace.unsettled.alike
    flushes = local.trace.flushes
    check(spoken(cell, few, 95), reference(cell, few, 95))
    assert local.trace.flushes - flushes > 10
