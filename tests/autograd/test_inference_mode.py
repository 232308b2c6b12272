"""Inference mode: which tensors it makes, and where these are refused: the same small programs in PyTorch and here."""
from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import rushlight

PROGRAMS: dict[str, Any] = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def inferred(t):
    with t.inference_mode():
        return t.ones(3) * 2


def error(call):
    """The beginning of a call's error, or None."""
    try:
        call()
    except RuntimeError as found:
        return str(found)[:60]
    return None


@program
def what_is_made(t):
    x = t.ones(3)
    with t.inference_mode():
        made = [t.ones(2), t.tensor([1.]), x * 2, x.view(3), x[1:], x.detach(), x.clone(), t.randn(2), t.arange(3), t.cat([x, x]),
                t.empty(2), t.zeros_like(x), t.from_numpy(np.ones(2)), (x * 2)[1:], x.add(1).mul_(2), x.max(0).values, x.split(1)[0],
                (x + 1).split(1)[0], t.nn.functional.relu(x), t.sort(x)[0]]
        x.add_(1)
    return [y.is_inference() for y in made], x.is_inference(), x._version, t.is_inference(made[0])


@program
def what_is_made_of_it_outside(t):
    x = inferred(t)
    made = [x, x * 2, x[1:], x.detach(), x.view(3), x.clone(), x.t(), x.data, x + t.ones(3)]
    return [y.is_inference() for y in made], error(lambda: t.nn.Parameter(x))


@program
def the_same_calls_in_each_mode(t):
    found = []
    for _ in range(4):
        for mode in (t.inference_mode, t.no_grad, t.enable_grad):
            with mode():
                y = t.ones(3) * 2
                z = y.exp()
                found.append([x.is_inference() for x in (y, z, z[1:], y.sum(), t.nn.functional.gelu(z), z.max(0)[0], y.mul_(2))])
    return found


@program
def a_model_in_both_modes(t):
    model = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.BatchNorm1d(4), t.nn.ReLU(), t.nn.Dropout(0.1), t.nn.Linear(4, 2))
    optimizer = t.optim.Adam(model.parameters())
    found = []
    for _ in range(3):
        with t.inference_mode():
            found.append(model(t.ones(5, 3)).is_inference())
        y = model(t.ones(5, 3))
        found.append(y.is_inference())
        y.sum().backward()
        optimizer.step()
        found += [x.is_inference() for x in [*model.buffers(), *[p.grad for p in model.parameters()]]]
        found += [x.is_inference() for state in optimizer.state.values() for x in state.values()]
    return found


@program
def saved(t):
    w = t.ones(3, requires_grad=True)
    found = []
    for k in range(6):  # calls that are remembered from a tensor of no mode meet one of inference mode
        x = inferred(t) if k in (2, 4) else t.ones(3) * 2
        if k > 3:
            x.tolist()
        found += [error(lambda x=x: w * x), error(lambda x=x: w + x), error(lambda x=x: w @ x), error(lambda x=x: w * x.clone()),
                  error(lambda x=x: t.nn.functional.mse_loss(w, x)), error(lambda x=x: x * 2), error(lambda x=x: w * x[0]),
                  error(lambda x=x: (w[1:] * x[1:]).sum().backward()), error(lambda x=x: w * x.detach()),
                  error(lambda x=x: t.nn.functional.smooth_l1_loss(w, x)), error(lambda x=x: t.nn.functional.linear(x, w.view(1, 3)))]
        with t.no_grad():
            found.append(error(lambda x=x: w * x))
        with t.inference_mode():
            found.append(error(lambda x=x: w * x))
    return found


@program
def written(t):
    found = []
    for k in range(4):
        for x in (t.ones(3) * 2, inferred(t)):
            if k > 1:
                x.tolist()
            found += [error(call) for call in (
                lambda x=x: x.add_(1), lambda x=x: x.fill_(1), lambda x=x: x.__setitem__(0, 1.), lambda x=x: x[1:].mul_(2),
                lambda x=x: x.copy_(t.ones(3)), lambda x=x: x.zero_(), lambda x=x: x.normal_(), lambda x=x: t.add(x, 1, out=x),
                lambda x=x: t.nn.init.ones_(x), lambda x=x: t.nn.functional.relu_(x), lambda x=x: x.clamp_(0), lambda x=x: x.uniform_())]
            with t.inference_mode():
                found += [error(lambda x=x: x.add_(1)), error(lambda x=x: x.__setitem__(0, 1.))]
            with t.no_grad():
                found.append(error(lambda x=x: x.add_(1)))
    return found


@program
def flags(t):
    x = inferred(t)
    found = [error(lambda: x.requires_grad_()), error(lambda: x._version), error(lambda: x.requires_grad_(False))]
    with t.inference_mode():
        y, z = t.ones(2).requires_grad_(), t.ones(2, requires_grad=True)
        found += [y.requires_grad, z.requires_grad, (z * 2).requires_grad, t.is_grad_enabled(), t.is_inference_mode_enabled()]
    return found, y.requires_grad, y.is_leaf


@program
def modes_in_modes(t):
    found = []

    def look():
        found.append((t.ones(2).is_inference(), t.is_grad_enabled(), t.is_inference_mode_enabled()))
    with t.inference_mode():
        with t.inference_mode(False):
            look()
        with t.no_grad():
            look()
        with t.enable_grad():
            found.append((t.ones(2, requires_grad=True) * 2).requires_grad)
        look()
    with t.no_grad():
        with t.inference_mode():
            look()
        look()
        with t.inference_mode(False):
            look()
        look()
    look()
    return found


@program
def decorated(t):
    @t.inference_mode()
    def twice(x):
        return x * 2

    @t.inference_mode
    def thrice(x):
        return x * 3

    @t.inference_mode()
    def steps():
        for k in range(2):
            yield t.ones(1) * k
    return [x.is_inference() for x in (twice(t.ones(2)), thrice(t.ones(2)), *steps(), t.ones(1))]


@program
def a_function_of_the_user_saves_it(t):
    class Product(t.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            return g * b, g * a
    w = t.ones(3, requires_grad=True)
    return error(lambda: Product.apply(w, inferred(t))), error(lambda: Product.apply(w, t.ones(3)))


@program
def parameters_made_inside(t):
    with t.inference_mode():
        layer = t.nn.Linear(3, 2)
    return [p.is_inference() for p in layer.parameters()], [p.requires_grad for p in layer.parameters()], \
        error(lambda: layer(t.ones(1, 3)))


@program
def a_view_of_something_else(t):
    y = t.ones(3, requires_grad=True) * 1
    with t.inference_mode():
        v = y[1:]
        v.mul_(2)
    return v.is_inference(), y.tolist()


@program
def another_thread(t):
    found = []
    with t.inference_mode():
        thread = threading.Thread(target=lambda: found.append(t.ones(2).is_inference()))
        thread.start()
        thread.join()
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_in_pytorch(name):
    theirs = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
    assert PROGRAMS[name](rushlight) == PROGRAMS[name](theirs)


def test_a_backward_may_run_inside():
    x = rushlight.ones(3, requires_grad=True)
    loss = (x * x).sum()
    with rushlight.inference_mode():
        loss.backward()
    assert x.grad.tolist() == [2, 2, 2]
