"""Paths that come once do not stay in the trie; one that comes again does."""
from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn
from rushlight.nn import functional
from rushlight.record import passing
from rushlight.record.flush import start_afresh
from rushlight.record.pace import OBJECTS, Pace
from rushlight.record.settings import settings
from rushlight.record.trace import local
from rushlight.tools.profiler import counters

COLD_LIMIT = settings.cold_limit


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", 0)
    monkeypatch.setattr(passing, "_LARGE", 0)


class Net:
    """A step on a graph of any size; the parameters move."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.message, self.out = nn.Linear(16, 8), nn.Linear(8, 2)
        self.optimizer = torch.optim.Adam([*self.message.parameters(), *self.out.parameters()], lr=1e-2)

    def step(self, n: int, m: int) -> float:
        rng = np.random.default_rng(1000 * n + m)
        x = torch.tensor(rng.standard_normal((n, 8)).astype(np.float32))
        src, dst = torch.tensor(rng.integers(0, n, (2, m)))
        h = functional.relu(self.message(torch.cat([x[src], x[dst]], 1)))
        summed = torch.zeros(n, 8).index_add(0, dst, h)
        loss = functional.cross_entropy(self.out(summed), torch.tensor(rng.integers(0, 2, n)))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def _sizes(count: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(3)
    return [(int(rng.integers(20, 200)), int(rng.integers(200, 900))) for _ in range(count)]


def test_ever_new_sizes_leave_nothing_in_the_trie():
    net = Net()
    sizes = _sizes(220)
    for n, m in sizes[:120]:
        net.step(n, m)
    gc.collect()
    before, objects = local.trace.nodes, len(gc.get_objects())
    for n, m in sizes[120:]:
        net.step(n, m)
    assert local.trace.nodes - before < 100
    gc.collect()
    # What is known of operations on certain sizes is kept, up to a bound; a step is 100 nodes, with 700 objects.
    assert (len(gc.get_objects()) - objects) / 100 < 150


def test_nodes_that_do_not_stay_go_without_a_collection():
    net = Net()
    sizes = _sizes(140)
    for n, m in sizes[:120]:
        net.step(n, m)
    gc.collect()
    gc.disable()
    try:
        for n, m in sizes[120:]:
            net.step(n, m)
        assert gc.collect() < 200
    finally:
        gc.enable()


def test_a_size_that_comes_again_stays():
    net = Net()
    sizes = _sizes(120)
    for n, m in sizes:
        net.step(n, m)
    n, m = 77, 333
    for _ in range(4):  # it is made twice, and its backward and run are remembered after that
        net.step(n, m)
    before = counters()
    net.step(n, m)
    assert (counters() - before).programs_built == 0


def test_the_same_numbers_whether_paths_stay_or_not(monkeypatch):
    def run() -> list[Any]:
        net = Net()
        losses = [net.step(n, m) for n, m in _sizes(150)]
        return [losses, *[p.detach().numpy().tobytes() for p in net.message.parameters()]]
    first = run()
    monkeypatch.setattr(type(local.trace.passing), "_once", lambda self, nodes, now, name: False)
    local.trace.passing.loose = False
    assert run() == first


def test_a_graph_kept_from_a_path_that_did_not_stay():
    """Its backward runs after the flush, from what it keeps."""
    net = Net()
    for n, m in _sizes(120):
        net.step(n, m)
    x = torch.ones(57, 16)
    loss = net.out(functional.relu(net.message(x))).square().mean()
    assert loss.item() > 0
    grads = torch.autograd.grad(loss, [net.message.weight, net.out.weight])
    x = torch.ones(57, 16)
    again = torch.autograd.grad(net.out(functional.relu(net.message(x))).square().mean(), [net.message.weight, net.out.weight])
    for a, b in zip(grads, again):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5)


def test_paths_of_other_kinds_stay_among_them():
    """Evaluation now and then is known from one time to the next."""
    net = Net()
    x = torch.ones(30, 16)
    sizes = _sizes(200)
    built = []
    for k, (n, m) in enumerate(sizes):
        net.step(n, m)
        if k % 20 == 19:
            before = counters()
            with torch.no_grad():
                functional.relu(net.message(x)).sum().item()
            built.append((counters() - before).programs_built)
    assert built[3:] == [0] * len(built[3:])


def test_an_error_leaves_it_as_it_was():
    net = Net()
    for n, m in _sizes(120):
        net.step(n, m)
    table = nn.Embedding(5, 3)
    for k in range(3):
        with pytest.raises(IndexError):
            table(torch.tensor([1, 7 + k])).sum().item()
    assert net.step(40, 250) > 0


def test_calls_that_lead_to_what_was_cut_off(monkeypatch):
    """A loop of new length in each step: members of families begin alike and end in what others have cut off."""
    monkeypatch.setattr(settings, "cold_limit", COLD_LIMIT)
    start_afresh()
    torch.manual_seed(0)
    embedding, linear = nn.Embedding(40, 12), nn.Linear(12, 5)
    between = nn.Parameter(torch.randn(5, 5) * 0.1)
    rng = np.random.default_rng(0)
    for _ in range(260):
        n = int(rng.integers(4, 30))
        words, tags = torch.tensor(rng.integers(0, 40, n)), torch.tensor(rng.integers(0, 5, n))
        scores = linear(embedding(words))
        alpha = scores[0]
        for t in range(1, n):
            alpha = torch.logsumexp(alpha.unsqueeze(1) + between, 0) + scores[t]
        gold = scores[torch.arange(n), tags].sum() + between[tags[:-1], tags[1:]].sum()
        between.grad = None
        loss = torch.logsumexp(alpha, 0) - gold
        loss.backward()
        assert loss.item() > 0
        assert abs(between.grad.sum().item()) < 1e-3  # as many transitions are expected as there are


def test_where_paths_keep_being_new_python_looks_for_garbage_less_often(monkeypatch):
    first, *others = gc.get_threshold()
    try:
        gc.set_threshold(700, *others)
        start_afresh()
        monkeypatch.setattr(passing, "pace", Pace())
        net = Net()
        for n, m in _sizes(4):
            net.step(n, m)
        assert gc.get_threshold()[0] == 700  # a program begins
        for n, m in _sizes(12):
            net.step(n, m)
        assert 700 < gc.get_threshold()[0] <= passing._PACE * OBJECTS
    finally:
        gc.set_threshold(first, *others)
