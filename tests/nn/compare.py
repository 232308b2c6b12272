"""Run the same call in PyTorch and here, and compare values, gradients and second derivatives."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")


def arrays(shapes: Sequence[tuple[int, ...]], seed: int = 0) -> list[np.ndarray]:
    r = np.random.default_rng(seed)
    return [r.standard_normal(s) for s in shapes]


def close(actual: Any, expected: Any, rtol: float = 1e-6, atol: float = 1e-8) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected.detach().numpy(), rtol=rtol, atol=atol)


def same(theirs: Callable[..., Any], ours: Callable[..., Any], *shapes: tuple[int, ...], second: bool = False, seed: int = 0) -> None:
    """``theirs`` on PyTorch's tensors and ``ours`` on Rushlight's agree in float64: values (of all results), gradients of the first
    result for all arguments, and with ``second`` the gradients of these gradients."""
    given = arrays(shapes, seed)
    a = [torch.tensor(x, requires_grad=True) for x in given]
    b = [rushlight.tensor(x, requires_grad=True) for x in given]
    want, got = theirs(*a), ours(*b)
    if isinstance(want, tuple):
        assert len(got) == len(want)
        for x, y in zip(got[1:], want[1:]):
            np.testing.assert_array_equal(x.numpy(), y.numpy())
        want, got = want[0], got[0]
    assert tuple(got.shape) == tuple(want.shape)
    close(got, want)
    seed_grad = np.random.default_rng(seed + 1).standard_normal(want.shape)
    c, d = torch.tensor(seed_grad, requires_grad=True), rushlight.tensor(seed_grad, requires_grad=True)
    g = torch.autograd.grad(want, a, c, create_graph=second)
    h = rushlight.autograd.grad(got, b, d, create_graph=second)
    for x, y in zip(h, g):
        close(x, y, 1e-5, 1e-7)
    if not second:
        return
    weights = arrays([tuple(x.shape) for x in g], seed + 2)
    total = sum((x * torch.tensor(w)).sum() for x, w in zip(g, weights))
    mine = sum((x * rushlight.tensor(w)).sum() for x, w in zip(h, weights))
    for x, y in zip(rushlight.autograd.grad(mine, [*b, d], allow_unused=True), torch.autograd.grad(total, [*a, c], allow_unused=True)):
        zero = [None if t is None or not t.detach().numpy().any() else t for t in (x, y)]
        assert (zero[0] is None) == (zero[1] is None)
        if zero[0] is not None:
            close(x, y, 1e-5, 1e-7)


def same_error(theirs: Callable[[], Any], ours: Callable[[], Any]) -> None:
    """Both raise, and the exception classes are equal."""
    with pytest.raises(Exception) as want:  # noqa: B017, PT011
        theirs()
    with pytest.raises(type(want.value)):
        ours()
