"""Updates that an optimizer made before at the same point of a trace are recorded by code of their own; whatever is different is
recorded in full."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.autograd import over_steps
from rushlight.record.flush import start_afresh
from rushlight.record.trace import Trace


@pytest.fixture
def recorded(monkeypatch):
    """The names of updates that were recorded in full."""
    start_afresh()
    names = []
    record = Trace.record
    monkeypatch.setattr(Trace, "record", lambda tr, key: (names.append(key[0].name), record(tr, key))[1])
    return names


OPTIMIZERS = {"sgd": lambda p: torch.optim.SGD(p, lr=0.1), "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
              "adam": lambda p: torch.optim.Adam(p, lr=0.1), "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1)}


def parameters(n=3):
    return [torch.tensor(np.random.default_rng(k).normal(size=(2, 3)).astype(np.float32), requires_grad=True) for k in range(n)]


def train(params, optimizer, steps, between=lambda k: None):
    for k in range(steps):
        between(k)
        optimizer.zero_grad()
        sum([((p - 1) ** 2).sum() for p in params]).backward()
        optimizer.step()
    return [p.tolist() for p in params]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_that_comes_again_is_not_recorded_in_full(name, recorded):
    params = parameters()
    optimizer = OPTIMIZERS[name](params)
    train(params, optimizer, 6)
    recorded.clear()
    train(params, optimizer, 4)
    assert not [r for r in recorded if r == optimizer.update_for(optimizer.param_groups[0])[0].name]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("change", ["frozen", "viewed", "exported", "shared gradient", "other memory", "no gradient"])
def test_steps_that_differ_give_what_recording_in_full_gives(name, change, monkeypatch):
    """In the middle of a training something is different for one or some steps."""
    def run():
        params, held = parameters(), []

        def between(k):
            if k == 5 and change == "viewed":
                held.append(params[0].detach()[1:])
            elif k == 5 and change == "exported":
                held.append(params[1].detach().numpy())
            elif k == 5 and change == "other memory":
                params[2].data = params[2].data.clone()
            elif change == "frozen":
                params[1].requires_grad_(k % 4 != 3)
            elif change == "no gradient":
                params[0].grad = None

        optimizer = OPTIMIZERS[name](params)
        if change == "shared gradient":
            made = []
            for k in range(10):
                g = torch.full((2, 3), 0.5 + k)
                for p in params:
                    p.grad = g
                optimizer.step()
                made.append([p.tolist() for p in params])
            return made, []
        return train(params, optimizer, 10, between), [np.asarray(h).tolist() for h in held]

    quick = run()
    start_afresh()
    monkeypatch.setattr(over_steps, "LIMIT", 0)
    assert quick == run()
