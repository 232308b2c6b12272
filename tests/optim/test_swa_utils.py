"""Averages of parameters along training, against PyTorch."""
from __future__ import annotations

import copy

import numpy as np
import pytest

import rushlight
import rushlight.optim.swa_utils

torch = pytest.importorskip("torch")
pytest.importorskip("torch.optim.swa_utils")
BOTH = (torch, rushlight)

MODES = {
    "mean": lambda s: {}, "buffers": lambda s: {"use_buffers": True}, "mean by function": lambda s: {"avg_fn": s.get_swa_avg_fn()},
    "mean of lists": lambda s: {"multi_avg_fn": s.get_swa_multi_avg_fn()}, "ema": lambda s: {"avg_fn": s.get_ema_avg_fn(0.9)},
    "ema of lists": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.9)},
    "ema of buffers": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.9), "use_buffers": True},
}


def trained(m, mode):
    """Six steps with an average beside, then its statistics anew: everything that can be seen."""
    s = m.optim.swa_utils
    m.manual_seed(0)
    net = m.nn.Sequential(m.nn.Linear(4, 5), m.nn.BatchNorm1d(5), m.nn.ReLU(), m.nn.Linear(5, 2))
    x = m.randn(8, 4)
    averaged = s.AveragedModel(net, **MODES[mode](s))
    optimizer = m.optim.SGD(net.parameters(), lr=0.02)
    schedule = s.SWALR(optimizer, swa_lr=0.05, anneal_epochs=3)
    seen = {"repr": repr(averaged), "rates": []}
    for _ in range(6):
        optimizer.zero_grad()
        (net(x) ** 2).mean().backward()
        optimizer.step()
        averaged.update_parameters(net)
        schedule.step()
        seen["rates"].append(np.float64(optimizer.param_groups[0]["lr"]))
    seen |= {k: v.numpy().copy() for k, v in averaged.state_dict().items()}
    averaged.eval()
    s.update_bn([x, [x * 2, 0], (x * 3,)], averaged)
    seen |= {f"anew {k}": v.numpy().copy() for k, v in averaged.state_dict().items()}
    return seen | {"result": averaged(x).detach().numpy(), "training": averaged.training, "momentum": averaged.module[1].momentum,
                   "state": sorted(schedule.state_dict())}


@pytest.mark.parametrize("mode", MODES)
def test_averages(mode):
    want, got = trained(torch, mode), trained(rushlight, mode)
    assert list(got) == list(want)
    for key, value in want.items():
        if isinstance(value, np.ndarray) or key == "rates":
            np.testing.assert_allclose(got[key], value, 1e-4, 1e-6, err_msg=key)
        elif key != "state":
            assert got[key] == value, key
    assert {k for k in want["state"] if not k.startswith("_")} <= set(got["state"])


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_rates(strategy, epochs):
    rates = []
    for m in BOTH:
        groups = [{"params": [m.nn.Parameter(m.ones(1))], "lr": lr} for lr in (1.0, 0.2)]
        optimizer = m.optim.SGD(groups, lr=0.1)
        schedule = m.optim.swa_utils.SWALR(optimizer, [0.05, 0.5], epochs, strategy)
        rates.append([])
        for _ in range(7):
            optimizer.step()
            schedule.step()
            rates[-1].append(schedule.get_last_lr())
    np.testing.assert_allclose(rates[1], rates[0], 1e-9)


ERRORS = {
    "strategy": lambda m, s: s.SWALR(sgd(m), 0.1, anneal_strategy="x"), "epochs": lambda m, s: s.SWALR(sgd(m), 0.1, anneal_epochs=-1),
    "number of rates": lambda m, s: s.SWALR(sgd(m), [0.1, 0.2]), "decay": lambda m, s: s.get_ema_avg_fn(2.0),
    "decay of lists": lambda m, s: s.get_ema_multi_avg_fn(-1.0),
    "two functions": lambda m, s: s.AveragedModel(m.nn.ReLU(), avg_fn=s.get_swa_avg_fn(), multi_avg_fn=s.get_swa_multi_avg_fn()),
}


def sgd(m):
    return m.optim.SGD([m.nn.Parameter(m.ones(1))], lr=0.1)


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    classes = []
    for m in BOTH:
        with pytest.raises((ValueError, AssertionError)) as error:
            ERRORS[name](m, m.optim.swa_utils)
        classes.append(type(error.value))
    assert classes[0] is classes[1]


def test_nothing_to_do_without_batch_norms():
    layer = rushlight.nn.Linear(4, 1)
    rushlight.optim.swa_utils.update_bn([None], layer)  # the loader is not asked


def test_the_average_is_a_copy():
    net = rushlight.nn.Linear(2, 2)
    averaged = rushlight.optim.swa_utils.AveragedModel(net)
    before = copy.deepcopy(averaged.module.weight.detach().numpy())
    with rushlight.no_grad():
        net.weight.add_(1.0)
    np.testing.assert_array_equal(averaged.module.weight.detach().numpy(), before)
    assert sorted(rushlight.optim.swa_utils.__all__) == sorted(torch.optim.swa_utils.__all__)
