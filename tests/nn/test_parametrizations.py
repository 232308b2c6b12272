"""Parametrized tensors, and the ready parametrizations: values, gradients, keys, printed forms and messages are PyTorch's."""
from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")


def agree(call) -> None:
    """``call(m, m.nn.utils.parametrize, m.nn.utils.parametrizations)`` gives dictionaries of tensors and plain things: equal ones."""
    got = []
    for m in (torch, rushlight):
        m.manual_seed(0)
        got.append(call(m, m.nn.utils.parametrize, m.nn.utils.parametrizations))
    assert list(got[0]) == list(got[1])
    for key, want in got[0].items():
        if hasattr(want, "detach"):
            want = want.detach().numpy()
            np.testing.assert_allclose(got[1][key].detach().numpy(), want, 1e-4, 1e-5 * max(1.0, np.abs(want).max()), err_msg=key)
        else:
            assert got[1][key] == want, key


def described(layer, *tensors) -> dict:
    """What a layer is, computes and has as gradients."""
    made = {"repr": repr(layer), "keys": [(k, tuple(v.shape)) for k, v in layer.state_dict().items()], "weight": layer.weight}
    if tensors:
        made |= {f"call {i}": layer(*tensors) for i in range(2)}  # spectral norm moves on with each
        y = layer(*tensors).flatten()
        (y * y.detach().cumsum(0) ** 2).sum().backward()
        made |= {f"gradient of {n}": p.grad for n, p in layer.named_parameters()}
        layer.eval()
        made["evaluated"] = layer(*tensors)
    return made


def message(call) -> str:
    with pytest.raises(Exception) as error:  # noqa: PT011
        call()
    return f"{type(error.value).__name__}: {error.value}"


def symmetric(m):
    class Symmetric(m.nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).mT

        def right_inverse(self, a):
            return a.triu()
    return Symmetric()


def exponential(m):
    class Exponential(m.nn.Module):
        def forward(self, x):
            return m.matrix_exp(x)
    return Exponential()


def first_row(m):
    class FirstRow(m.nn.Module):
        def forward(self, x):
            return x[:1]
    return FirstRow()


LAYERS = {
    "weight norm": lambda m, p: (p.weight_norm(m.nn.Linear(4, 3)), m.ones(2, 4)),
    "weight norm, one length": lambda m, p: (p.weight_norm(m.nn.Conv2d(2, 3, 3), dim=None), m.ones(1, 2, 4, 4)),
    "weight norm, inputs": lambda m, p: (p.weight_norm(m.nn.Conv1d(2, 3, 3), dim=1), m.ones(1, 2, 4)),
    "weight norm of a bias": lambda m, p: (p.weight_norm(m.nn.Linear(4, 3), "bias"), m.ones(2, 4)),
    "spectral norm": lambda m, p: (p.spectral_norm(m.nn.Linear(4, 3)), m.ones(2, 4)),
    "spectral norm, steps": lambda m, p: (p.spectral_norm(m.nn.Linear(4, 3), n_power_iterations=3, eps=0.1, dim=1), m.ones(2, 4)),
    "spectral norm, transposed": lambda m, p: (p.spectral_norm(m.nn.ConvTranspose2d(2, 3, 3)), m.ones(1, 2, 4, 4)),
    "spectral norm of a vector": lambda m, p: (p.spectral_norm(m.nn.BatchNorm1d(3)), m.arange(6.0).reshape(2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_norms(name):
    agree(lambda m, r, p: described(*LAYERS[name](m, p)))


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("map_", [None, "matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_orthogonal(map_, base, shape):
    def call(m, r, p):
        layer = p.orthogonal(m.nn.Linear(shape[1], shape[0], bias=False), orthogonal_map=map_, use_trivialization=base)
        made = described(layer, m.arange(2.0 * shape[1]).reshape(2, -1))
        if base or map_ == "householder" or map_ is None and shape != (4, 4):
            layer.weight = m.eye(*shape)
            return made | {"set": layer.weight}
        return made | {"set": message(lambda: setattr(layer, "weight", m.eye(*shape)))}
    agree(call)


def test_register_and_remove():
    def call(m, r, p):
        layer = r.register_parametrization(m.nn.Linear(3, 3), "weight", symmetric(m))
        made = described(layer, m.ones(2, 3))
        r.register_parametrization(layer, "weight", exponential(m))
        made["chain"], made["chained"] = repr(layer), layer.weight
        made["names"] = [n for n, _ in layer.named_parameters()] + [n for n, _ in layer.named_modules()]
        made["types"] = [r.type_before_parametrizations(layer).__name__, type(layer).__name__]
        made["is"] = [r.is_parametrized(layer), r.is_parametrized(layer, "bias"), r.is_parametrized(layer, "weight")]
        other = copy.deepcopy(layer)
        made["copy"], made["copied"] = other.weight, type(other).__name__
        with r.cached():
            assert layer.weight is layer.weight
        assert layer.weight is not layer.weight
        made["no inverse"] = message(lambda: setattr(layer, "weight", m.ones(3, 3)))
        original = layer.parametrizations.weight.original
        r.remove_parametrizations(layer, "weight")
        assert layer.weight is original
        made["removed"], made["plain"], made["kept"] = repr(layer), layer.weight, list(layer.state_dict())
        normed = p.weight_norm(m.nn.Linear(4, 3))
        r.remove_parametrizations(normed, "weight")
        made["several"] = normed.weight
        back = r.remove_parametrizations(r.register_parametrization(m.nn.Linear(3, 3), "weight", symmetric(m)), "weight", False)
        return made | {"original": back.weight}
    agree(call)


def test_transfer_and_old_checkpoints():
    def call(m, r, p):
        a, b = p.weight_norm(m.nn.Linear(4, 3)), m.nn.Linear(4, 3)
        r.transfer_parametrizations_and_params(a, b)
        made = {"weight": b.weight, "repr": repr(b), "keys": list(b.state_dict())}
        a.load_state_dict({"weight_g": m.ones(3, 1), "weight_v": m.ones(3, 4), "bias": m.zeros(3)})
        return made | {"old": a.weight}
    agree(call)


def test_training_moves_the_originals():
    def call(m, r, p):
        net = m.nn.Sequential(p.spectral_norm(m.nn.Linear(4, 3)), p.weight_norm(m.nn.Linear(3, 3)), p.orthogonal(m.nn.Linear(3, 3)))
        optimizer = m.optim.SGD(net.parameters(), 0.1)
        for _ in range(4):
            optimizer.zero_grad()
            (net(m.ones(2, 4)) ** 2).sum().backward()
            optimizer.step()
        return {str(i): layer.weight for i, layer in enumerate(net)}
    agree(call)


ERRORS = {
    "no such tensor": lambda m, r, p: r.register_parametrization(m.nn.ReLU(), "w", symmetric(m)),
    "shape": lambda m, r, p: r.register_parametrization(m.nn.Linear(3, 3), "weight", first_row(m)),
    "not parametrized": lambda m, r, p: r.remove_parametrizations(m.nn.Linear(3, 3), "bias"),
    "several": lambda m, r, p: r.remove_parametrizations(p.weight_norm(m.nn.Linear(4, 3)), "weight", leave_parametrized=False),
    "dimension": lambda m, r, p: p.spectral_norm(m.nn.Linear(3, 3), dim=4),
    "iterations": lambda m, r, p: p.spectral_norm(m.nn.Linear(3, 3), n_power_iterations=0),
    "nothing to norm": lambda m, r, p: p.spectral_norm(m.nn.ReLU()), "map": lambda m, r, p: p.orthogonal(m.nn.Linear(3, 3), "weight", "x"),
    "vector": lambda m, r, p: p.orthogonal(m.nn.Linear(3, 3), "bias"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_messages(name):
    agree(lambda m, r, p: {"text": message(lambda: ERRORS[name](m, r, p))})


def test_modules_with_parametrizations_are_not_pickled():
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(rushlight.nn.utils.parametrizations.weight_norm(rushlight.nn.Linear(2, 2)))
