"""``vmap`` does for all samples at once what the function recorded for one; where it cannot, it calls the function for each."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rushlight as torch
import rushlight.nn as nn
import rushlight.nn.functional as F
from rushlight.func import functional_call, grad, hessian, vmap
from rushlight.func.sample import Sample
from rushlight.tools.profiler import counters


def normal(*shape: int, seed: int = 0) -> Any:
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def loss(w: Any, x: Any) -> Any:
    return (torch.tanh(x @ w) ** 2).sum()


def attended(x: Any, w: Any) -> Any:
    return F.softmax((x @ w) @ x.T, 1) @ x


def picked(x: Any, w: Any) -> Any:
    at = x.sum(1).argmax()
    return x.index_select(0, at.reshape(1)) @ w + F.one_hot(torch.arange(3), 3).to(w.dtype) @ w


#: (function of x (4, 3) and w (3, 3), in_dims of the two). x is (5, 4, 3), or lies as in_dims says.
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, Any]]] = {
    "product": (lambda x, w: x @ w, (0, None)), "last": (lambda x, w: torch.tanh(x @ w).sum(), (2, None)),
    "both": (lambda x, w: (x @ w).cumsum(0), (0, 0)), "attention": (attended, (0, None)), "picked": (picked, (0, None)),
    "constant": (lambda x, w: (w * 2, x[0]), (0, None)), "itself": (lambda x, w: x, (0, None)),
    "gradient": (lambda x, w: grad(loss)(w, x), (0, None)), "hessian": (lambda x, w: hessian(loss, 1)(w, x[:1]), (0, None)),
    "nested": (lambda x, w: vmap(lambda row: row @ w)(x), (0, None)), "convolution": (
        lambda x, w: F.conv2d(x[None, None], w[None, None], padding=1), (0, 0)),
    "layers": (lambda x, w: F.layer_norm(F.gelu(x @ w), (3,)) + F.pad(x, (1, 0))[:, :3].flip(0), (0, None)),
    "spectrum": (lambda x, w: torch.fft.rfft(x @ w, dim=0).abs(), (0, None)),
}  # fmt: skip


def arguments(in_dims: tuple[Any, Any]) -> list[Any]:
    shapes = ((4, 3), (3, 3))
    # In double precision: second derivatives of a norm over three numbers lose most digits of a float.
    return [normal(*(shape if d is None else (*shape[:d], 5, *shape[d:])), seed=k).double().requires_grad_()
            for k, (shape, d) in enumerate(zip(shapes, in_dims))]


def everything(function: Callable[..., Any], in_dims: tuple[Any, Any]) -> list[np.ndarray]:
    """Results, gradients, and gradients of gradients."""
    args = arguments(in_dims)
    made = vmap(function, in_dims)(*args)
    made = made if isinstance(made, tuple) else (made,)
    slopes = torch.autograd.grad(sum((y ** 2).sum() for y in made), args, create_graph=True, allow_unused=True)
    slopes = [g for g in slopes if g is not None]
    curves = torch.autograd.grad(sum((g ** 2).sum() for g in slopes), args, allow_unused=True)
    return [t.detach().numpy() for t in (*made, *slopes, *[g for g in curves if g is not None])]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call of a mapped function was done for all samples at once."""
    done: list[bool] = []
    real = Sample.for_all

    def for_all(self: Sample, results: Any, count: int) -> Any:
        made = real(self, results, count)
        done.append(made is not None)
        return made

    monkeypatch.setattr(Sample, "for_all", for_all)
    return done


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_as_one_call_for_each(name: str, taken: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    got = [everything(*FUNCTIONS[name]) for _ in range(3)]
    assert taken and all(taken)
    monkeypatch.setattr(Sample, "for_all", lambda self, results, count: None)
    want = everything(*FUNCTIONS[name])
    for run in got:
        for a, b in zip(run, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_gradients_of_captured_parameters(taken: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LayerNorm(4)), normal(5, 3)
    found = []
    for _ in range(2):
        model.zero_grad()
        (vmap(model)(x) ** 3).sum().backward()
        found.append([p.grad.numpy().copy() for p in model.parameters()])
        if all(taken):
            monkeypatch.setattr(Sample, "for_all", lambda self, results, count: None)
    assert taken == [True, True]  # forward and backward
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def written(x: Any) -> Any:
    x.mul_(2)
    return x.sum()


def looked(x: Any) -> Any:
    return x * 2 if x.sum().item() > 0 else x * 3


@pytest.mark.parametrize("function", [written, looked, lambda x: torch.sort(x)[0] * 2, lambda x: torch.linalg.qr(x @ x.T)[1]])
def test_what_has_no_form_for_all_is_called_for_each(function: Callable[..., Any], taken: list[bool]) -> None:
    x, y = normal(5, 4, 3), normal(5, 4, 3)
    got = vmap(function)(x)
    assert taken == [False]
    want = torch.stack([function(row) for row in y])
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x.numpy(), y.numpy())  # both were written to, or neither


def test_what_is_outside_is_written_once_for_each() -> None:
    total, x = torch.zeros(3), normal(5, 3)
    vmap(lambda row: total.add_(row).sum())(x)
    np.testing.assert_allclose(total.numpy(), x.sum(0).numpy(), rtol=1e-5)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_random_numbers(randomness: str, taken: list[bool]) -> None:
    torch.manual_seed(0)
    rows = vmap(lambda x: x * 0 + torch.rand(3), randomness=randomness)(normal(4, 3)).numpy()
    assert taken == [] and (len(np.unique(rows[:, 0])) == 1) == (randomness == "same")
    torch.manual_seed(0)
    np.testing.assert_array_equal(rows[:2], torch.rand(2, 3).numpy() if randomness == "different" else torch.rand(3).expand(2, 3).numpy())
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        vmap(lambda x: x + torch.rand(3))(normal(4, 3))


def per_sample(model: nn.Module, x: Any, y: Any) -> float:
    weights = {k: v.detach() for k, v in model.named_parameters()}

    def one(w: Any, a: Any, b: Any) -> Any:
        return F.cross_entropy(functional_call(model, w, (a[None],)), b[None])

    slopes = vmap(grad(one), (None, 0, 0))(weights, x, y)
    return float(sum(g.square().sum() for g in slopes.values()).item())


def test_per_sample_gradients_take_as_many_kernels_for_many_samples_as_for_few() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    kernels = []
    for n in (4, 64):
        x, y = normal(n, 6), torch.arange(n) % 4
        before = counters()
        for _ in range(4):
            per_sample(model, x, y)
        done = counters() - before
        kernels.append(done.instructions)
        before = counters()
        per_sample(model, x, y)
        assert (counters() - before).programs_built == 0
    assert kernels[1] <= kernels[0] + 2


def test_a_position_that_is_mapped_over_is_not_read() -> None:
    table, rows, columns = torch.randn(30, 40), torch.arange(30), torch.arange(40)
    both = vmap(vmap(lambda i, j: table[i][j], in_dims=(None, 0)), in_dims=(0, None))
    before = counters()
    assert torch.equal(both(rows, columns), table)
    assert (counters() - before).programs_run == 1
