"""Long paths that are not compiled: operation by operation, with what is known of each."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.record import counters, stepwise, unsettled
from rushlight.record.flush import flush, start_afresh
from rushlight.record.patience import LONG, Patience
from rushlight.record.trace import local
from rushlight.record.unsettled import Unsettled


@pytest.fixture(autouse=True)
def no_paths_known(monkeypatch):
    flush()
    start_afresh()
    local.trace.patience, local.trace.unsettled = Patience(), Unsettled()
    monkeypatch.setattr(unsettled, "_STRANGERS", 1000)
    stepwise._known.singles.clear()


def turns(t, n, x, step):
    for k in range(n):
        x = step(t, x, k)
    return x


def test_a_new_length_runs_what_the_others_have_made(monkeypatch):
    lowered, lower = [], stepwise.lower_op
    monkeypatch.setattr(stepwise, "lower_op", lambda *args: (lowered.append(1), lower(*args))[1])
    for n in range(LONG, LONG + 5):
        cold, before = counters.cold_runs, len(lowered)
        x = turns(torch, n, torch.ones(4), lambda t, x, k: (x * 1.01).tanh() + 0.1)
        want = turns(np, n, np.ones(4), lambda t, x, k: np.tanh(x * 1.01) + 0.1)
        np.testing.assert_allclose(x.numpy(), want, rtol=1e-4)
        assert counters.cold_runs == cold + 1
    assert 0 < before == len(lowered) < 10  # an operation of each kind


@pytest.mark.parametrize("runs", [0, 3, 10_000])
def test_the_same_interpreted_and_compiled(monkeypatch, runs):
    """Views in a row and others, several results, memory that is written over, values that are read in between."""
    monkeypatch.setattr(stepwise, "_RUNS", runs)

    def story(t):
        x, total = t.arange(12.0).reshape(3, 4), t.zeros(4)
        held = []
        for k in range(LONG):
            y = x.reshape(4, 3).t() * 0.5 + x[k % 3, 1:2]
            x.copy_(y)
            low, high = x.min(), x[1].view(2, 2)
            total = total + high.sum(0).repeat(2) * 0.1 + low
            total.mul_(0.5)
            if k % 50 == 0:
                held.append(x[2] + 1)
        order, place = total.sort()
        return x.tolist(), total.tolist(), order.tolist(), place.tolist(), [h.tolist() for h in held]

    import torch as theirs

    for got, want in zip(story(torch), story(theirs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("runs", [0, 10_000])
def test_an_error_names_its_own_line(monkeypatch, runs):
    monkeypatch.setattr(stepwise, "_RUNS", runs)
    table = torch.arange(8.0).reshape(4, 2)
    for row in (1, 9):
        x = turns(torch, LONG, torch.ones(2), lambda t, x, k: x * 1.0 + 0)
        index = torch.tensor([row])
        picked = torch.nn.functional.embedding(index + 0, table) + x
        if row < 4:
            assert picked.tolist() == [[3.0, 4.0]]
            continue
        with pytest.raises(IndexError) as caught:
            picked.tolist()
        assert f"{__file__}:" in str(caught.value)
        assert x.tolist() == [1.0, 1.0]  # what does not follow from it is there


def test_any_number_of_threads_gives_the_same_bits():
    def run():
        start_afresh()
        stepwise._known.singles.clear()
        g = torch.Generator().manual_seed(0)
        x, w = torch.randn(16, 16, generator=g), torch.randn(16, 16, generator=g)
        return turns(torch, LONG + 3, x, lambda t, x, k: (x @ w).tanh() + x.mean(0)).numpy().tobytes()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run()
        torch.set_num_threads(2)
        assert run() == one
    finally:
        torch.set_num_threads(before)


def test_what_is_known_of_operations_is_bounded(monkeypatch):
    monkeypatch.setattr(stepwise, "_MOST", 5)
    x = torch.ones(3)
    for k in range(LONG + 10):
        x = x + float(k % 20)
    assert x.tolist() == [1.0 + sum(k % 20 for k in range(LONG + 10))] * 3
    assert len(stepwise._known.singles) <= 5


def test_memory_for_intermediate_results_is_bounded(monkeypatch):
    monkeypatch.setattr(stepwise, "_BYTES", 1000)
    x = turns(torch, LONG, torch.ones(8), lambda t, x, k: x * 1.0)
    assert x.tolist() == [1.0] * 8 and not stepwise._known.singles == {}


def test_parameters_are_updated_one_by_one():
    """Which of them have gradients is another question in each step, where chance leads through a network."""
    theirs = pytest.importorskip("torch")

    def story(t):
        params = [t.linspace(-1, 1, n).reshape(shape).clone().requires_grad_()
                  for n, shape in ((6, (2, 3)), (6, (2, 3)), (3, (3,)), (6, (2, 3)))]
        optimizer = t.optim.AdamW(params, lr=0.1)
        for used in ((0, 1, 2), (0, 2, 3), (1, 2), (0, 1, 2, 3)):
            x = turns(t, LONG, t.ones(2, 3), lambda t, x, k: (x * 1.01).tanh() + 0.1)
            optimizer.zero_grad()
            sum([(params[k] * x[0] if k == 2 else params[k] * x).sum() * (k + 1) for k in used]).backward()
            optimizer.step()
        return [p.tolist() for p in params]

    for got, want in zip(story(torch), story(theirs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4)
    updates = [name for name in stepwise._known.singles if "adam" in name[0].name.lower()]
    assert len(updates) == 2  # one for each shape
