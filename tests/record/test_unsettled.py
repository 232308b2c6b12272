"""Programs whose structure is another one each time: recursive networks over trees, steps that chance leads through."""
from __future__ import annotations

import random
import sys

import numpy as np
import pytest

import rushlight as torch
from rushlight.record import counters, stepwise
from rushlight.record.flush import start_afresh
from rushlight.record.patience import LONG, Patience
from rushlight.record.settings import settings
from rushlight.record.trace import local
from rushlight.record.unsettled import Unsettled


@pytest.fixture(autouse=True)
def no_paths_known():
    start_afresh()
    local.trace.patience, local.trace.unsettled = Patience(), Unsettled()
    yield
    start_afresh()
    local.trace.patience, local.trace.unsettled = Patience(), Unsettled()


def grown(chance, leaves):
    """A random binary tree over words, as nested pairs."""
    if leaves == 1:
        return chance.randrange(50)
    left = chance.randint(1, leaves - 1)
    return grown(chance, left), grown(chance, leaves - left)


def losses_over_trees(t, trees, width=8):
    """Training a recursive network: the losses, in ``t``."""
    words = (np.arange(50 * width).reshape(50, width) * 7 % 31 / 31 - 0.5).astype(np.float32)
    mix = (np.arange(width * 2 * width).reshape(width, 2 * width) * 5 % 23 / 23 - 0.5).astype(np.float32)
    emb, w = (t.tensor(a.tolist(), requires_grad=True) for a in (words, mix))
    optimizer = t.optim.SGD([emb, w], lr=0.05)

    def encoded(tree):
        if isinstance(tree, int):
            return t.nn.functional.embedding(t.tensor([tree]), emb)
        return t.tanh(t.nn.functional.linear(t.cat((encoded(tree[0]), encoded(tree[1])), 1), w))

    losses = []
    for tree in trees:
        optimizer.zero_grad()
        loss = (encoded(tree) - 0.3).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def forest(seed, n):
    chance = random.Random(seed)
    return [grown(chance, chance.randint(20, 60)) for _ in range(n)]


def test_a_network_over_trees_learns_what_it_learns_in_pytorch():
    oracle = pytest.importorskip("torch")
    trees = forest(0, 60)
    np.testing.assert_allclose(losses_over_trees(torch, trees), losses_over_trees(oracle, trees), rtol=1e-4)


def test_new_trees_are_made_of_calls_that_are_known():
    losses_over_trees(torch, forest(0, 150))
    built, new, nodes = counters.programs_built, counters.cold_runs, local.trace.nodes
    losses_over_trees(torch, forest(1, 20))
    assert counters.programs_built - built <= 5  # each tree has some two hundred operations
    assert counters.cold_runs - new <= 10
    assert local.trace.nodes - nodes <= 20 * 20


def test_the_same_trees_give_the_same_bits():
    def fresh():
        start_afresh()
        local.trace.patience, local.trace.unsettled = Patience(), Unsettled()
        stepwise._known.singles.clear()
        return losses_over_trees(torch, forest(2, 40))

    threads, first = torch.get_num_threads(), fresh()
    torch.set_num_threads(1)
    try:
        assert fresh() == first
    finally:
        torch.set_num_threads(threads)


def test_heavy_paths_that_never_come_again_are_not_planned_each(monkeypatch):
    """Planning takes a millisecond for each operation; operation by operation they run about as fast."""
    monkeypatch.setattr(settings, "cold_limit", 1000)
    flush = sys.modules["rushlight.record.flush"]
    compiled, make = [], flush._compiled
    monkeypatch.setattr(flush, "_compiled", lambda path, *args: (compiled.append(len(path)), make(path, *args))[1])
    w, chance = torch.from_numpy(np.ones((4, 64), np.float32)).clone().requires_grad_(), random.Random(3)
    w.sum().item()
    for _ in range(12):
        x = torch.ones(4, 64)
        for _ in range(LONG):
            x = (x * w).tanh() if chance.random() < 0.5 else x + w
        w.grad = None
        x.sum().backward()
        w.grad.sum().item()
    assert sum(n > 2 * LONG for n in compiled) == 2  # a call is shorter


def test_what_comes_again_and_again_is_whole_again():
    """Many networks for a step each, then one of them for many steps."""
    torch.manual_seed(0)

    def step(turns):
        x = torch.ones(3, 3)
        for k in range(turns):
            x = (x @ w).tanh() if k % 3 else x + w
        w.grad = None
        x.sum().backward()
        return w.grad.sum().item()

    w = (torch.eye(3) * 0.9).requires_grad_()
    for turns in (200, 210, 220, 230, 240, 250, 260):
        step(turns)
    assert local.trace.unsettled.alike
    results = [step(300) for _ in range(30)]
    assert not local.trace.unsettled.alike
    before = counters.programs_run
    assert step(300) == pytest.approx(results[0], rel=1e-4)
    assert counters.programs_run == before + 1
    stack = [local.trace.root]
    while stack:  # nor is anything else cut any more
        node = stack.pop()
        stack.extend(node.edges.values())
        assert not node.stop


def test_writes_in_place_between_calls():
    def story(turns):
        memory = torch.zeros(6, 4)
        x = torch.ones(4).neg().neg()
        for _ in range(turns):
            x = torch.tanh(x * 0.5 + 0.1)
            memory[2] = x
        return memory.sum().item()

    def expected(turns):
        x = 1.0
        for _ in range(turns):
            x = np.tanh(x * 0.5 + 0.1)
        return 4 * x

    for turns in range(90, 130, 4):
        assert story(turns) == pytest.approx(expected(turns), rel=1e-5)
    assert local.trace.unsettled.alike
    before = counters.programs_run
    assert story(131) == pytest.approx(expected(131), rel=1e-5)
    assert counters.programs_run > before + 5


@pytest.mark.parametrize(("limit", "dear"), [(20_000, False), (5_000, True)])  # for each 256 operations; it has 130,000 elements
def test_a_long_path_that_is_not_dear_is_planned_when_it_comes_again(limit, dear, monkeypatch):
    """Planning it takes longer than running it operation by operation, and the first step of a training often comes once. One that is
    dear is planned at once: operation by operation it would take much more memory, too."""
    monkeypatch.setattr(settings, "cold_limit", limit)
    flush = sys.modules["rushlight.record.flush"]
    compiled, make = [], flush._compiled
    monkeypatch.setattr(flush, "_compiled", lambda path, *args: (compiled.append(len(path)), make(path, *args))[1])
    w = torch.from_numpy(np.ones((4, 64), np.float32)).clone()
    w.sum().item()

    def step():
        x = torch.ones(4, 64)
        for _ in range(LONG):
            x = (x * w).tanh()
        return x.sum().item()

    cold, first = counters.cold_runs, step()
    assert len(compiled) == dear and counters.cold_runs == cold + (not dear)
    assert step() == pytest.approx(first, rel=1e-5)
    assert len(compiled) == 1 and counters.cold_runs == cold + (not dear)
