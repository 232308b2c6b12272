"""Steps of groups whose options do not change are prepared; they see whatever else does."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.record import flush
from rushlight.record.trace import Trace


def _pair(n=3):
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(4, 2)) for _ in range(n)]


def _replace_state(optimizer, p):
    optimizer.state[p]["exp_avg"] = torch.ones(4, 2)


def _replace_parameter(optimizer, params):
    params[0] = torch.nn.Parameter(torch.full((4, 2), 2.0))
    optimizer.param_groups[0]["params"][0] = params[0]


CHANGES = {
    "learning rate": lambda o, ps: o.param_groups[0].__setitem__("lr", 0.5),
    "learning rate as a tensor": lambda o, ps: o.param_groups[0].__setitem__("lr", torch.tensor(0.25)),
    "a flag": lambda o, ps: o.param_groups[0].__setitem__("maximize", True),
    "coefficients": lambda o, ps: o.param_groups[0].__setitem__("betas", (0.5, 0.5)),
    "a state replaced": lambda o, ps: _replace_state(o, ps[1]),
    "a state written": lambda o, ps: o.state[ps[1]]["exp_avg_sq"].fill_(2.0),
    "a state forgotten": lambda o, ps: o.state.pop(ps[1]),
    "all states forgotten": lambda o, ps: o.state.clear(),
    "a parameter replaced": _replace_parameter,
    "a parameter's data": lambda o, ps: setattr(ps[1], "data", torch.ones(4, 2)),
    "a parameter written": lambda o, ps: ps[1].detach().mul_(2.0),
    "a parameter read": lambda o, ps: ps[1].detach(),
    "a parameter seen by NumPy": lambda o, ps: ps[1].detach().numpy(),
    "no gradient": lambda o, ps: setattr(ps[2], "grad", None),
    "a gradient that is a part": lambda o, ps: setattr(ps[2], "grad", torch.arange(16.0).reshape(8, 2)[2:6]),
    "one gradient for two": lambda o, ps: setattr(ps[2], "grad", ps[1].grad),
    "states and options loaded": lambda o, ps: o.load_state_dict(o.state_dict()),
    "another group": lambda o, ps: o.add_param_group({"params": [ps.append(torch.nn.Parameter(torch.ones(2))) or ps[-1]], "lr": 1.0}),
    "another list": lambda o, ps: o.param_groups[0].__setitem__("params", ps[1:]),
    "a shorter list": lambda o, ps: o.param_groups[0]["params"].pop(0),
}


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_prepared_step_sees_what_has_changed(change, ready):
    """The same steps by an optimizer that prepares nothing, in which every step works everything out."""
    def run(prepares):
        params = _pair()
        optimizer = torch.optim.Adam(params, lr=0.1)
        if not prepares:
            optimizer._prepare = lambda group: None
        held = []
        for k in range(12):
            for i, p in enumerate(params):
                p.grad = torch.full(p.shape, 0.5 + i - 0.1 * k)
            if ready:
                flush()
            if k in (6, 9):
                held.append(CHANGES[change](optimizer, params))
            optimizer.step()
        return [p.detach().numpy().copy() for p in params], [s["exp_avg"].numpy().copy() for s in optimizer.state.values()]

    for got, want in zip(run(True), run(False), strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_an_array_over_a_parameter_sees_each_step(options):
    for between in (False, True):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([p], lr=1.0, **options)
        for k in range(8):
            optimizer.zero_grad()
            (p * 2.0).sum().backward()
            array = p.detach().numpy() if between and k > 4 else None
            before = p.detach().clone()
            optimizer.step()
            if array is not None:
                np.testing.assert_array_equal(array, p.detach().numpy())
                assert array is not None and not np.array_equal(array, before.numpy())
            del array


def test_a_parameter_added_by_hand_has_no_momentum_yet():
    def run(prepares):
        a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([a, b], lr=0.1, momentum=0.9, dampening=0.5)
        if not prepares:
            optimizer._prepare = lambda group: None
        for k in range(10):
            a.grad = torch.ones(2)
            b.grad = torch.ones(2) if k > 5 else None
            if k == 8:
                optimizer.state[a]["momentum_buffer"] = None
            optimizer.step()
        return a.detach().numpy(), b.detach().numpy()

    for got, want in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_failed_step_leaves_prepared_ones_alone():
    """A label out of range: no parameter is updated, and the next step is as if nothing had been."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x = torch.randn(5, 3)
    for k in range(10):
        y = torch.tensor([0, 1, 2, 3, 9 if k in (5, 6) else 0])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        before = [p.detach().clone() for p in model.parameters()]
        if k in (5, 6):
            with pytest.raises(IndexError, match="out of"):
                optimizer.step()
                flush()
        else:
            optimizer.step()
        for p, old in zip(model.parameters(), before):
            assert torch.equal(p.detach(), old) == (k in (5, 6))


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_a_prepared_step_works_nothing_out(name, monkeypatch):
    params = _pair()
    optimizer = getattr(torch.optim, name)(params, lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
    counts = {"group": 0, "record": 0}

    def counted(what, f):
        def call(*args):
            counts[what] += 1
            return f(*args)
        return call

    monkeypatch.setattr(optimizer, "update_group", counted("group", optimizer.update_group))
    monkeypatch.setattr(Trace, "record", counted("record", Trace.record))
    for _ in range(10):
        optimizer.zero_grad()
        sum((p * p).sum() for p in params).backward()
        optimizer.step()
    assert counts["group"] <= 4
    before = dict(counts)
    optimizer.zero_grad()
    sum((p * p).sum() for p in params).backward()
    optimizer.step()
    assert counts == before
    optimizer.param_groups[0]["lr"] = 0.2
    optimizer.step()
    assert counts["group"] == before["group"] + 1
