"""Gradient rules at points where nobody has been, recorded from what they recorded elsewhere, give what the rules give."""
from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import rushlight as torch
from rushlight.nn import functional
from rushlight.record.settings import settings

start_afresh = importlib.import_module("rushlight.record.flush").start_afresh
bare = importlib.import_module("rushlight.autograd.bare")

X = torch.linspace(-2, 2, 24).reshape(4, 6)
W = torch.linspace(-1, 1, 36).reshape(6, 6)
STEPS: list[tuple[str, Any]] = [
    ("square by a product", lambda x, w: x * x),
    ("product of three, two the same", lambda x, w: torch.where(x > 0, x * x.exp(), x)),
    ("linear", lambda x, w: functional.linear(x, w)),
    ("broadcast", lambda x, w: x * w[0] + w.sum()),
    ("views", lambda x, w: torch.cat([x[:, :3], x[:, 3:].flip(1)], 1)),
    ("transposed", lambda x, w: (x.t() @ x) @ w[:, :4].t().contiguous().t().mean(1, keepdim=True).expand(6, 6)[:, :1] + x.sum()),
    ("norms", lambda x, w: functional.layer_norm(x, (6,)) + functional.softmax(x, 0)),
    ("index", lambda x, w: x[torch.tensor([3, 1, 1, 0])] * 0.5),
    ("stack", lambda x, w: torch.stack([x, x.tanh()]).amax(0)),
    ("chunks", lambda x, w: torch.cat([p * k for k, p in enumerate(x.chunk(2, 1), 1)], 1)),
]


def _gradients(f: Any, salt: int) -> list[bytes]:
    """Below ``salt`` operations that nobody has recorded in a row, so that the walk is where nobody has been."""
    x, w = X.clone().requires_grad_(), W.clone().requires_grad_()
    y = x
    for k in range(10):
        y = y + 1.0 if salt >> k & 1 else y.abs()
    out = f(y, w)
    out = f(out, w) if out.shape == x.shape else out
    loss = (out * out).sum()
    loss.backward()
    return [loss.item(), x.grad.numpy().tobytes(), None if w.grad is None else w.grad.numpy().tobytes()]


@pytest.mark.parametrize(("name", "f"), STEPS, ids=[name for name, _ in STEPS])
def test_same_gradients_as_from_the_rule(name, f, monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", 0)
    start_afresh()
    taken = []
    record = bare.Bare.record
    monkeypatch.setattr(bare.Bare, "record", lambda self, *args: taken.append(len(self.steps)) or record(self, *args))
    found = [_gradients(f, salt) for salt in range(1, 12)]
    assert taken
    monkeypatch.setattr("rushlight.autograd.rules.written_down", lambda *args: None)
    start_afresh()
    assert [_gradients(f, salt) for salt in range(1, 12)] == found


def test_an_overwritten_value_is_found():
    for salt in range(1, 8):
        x = X.clone().requires_grad_()
        y = x.exp()
        for _ in range(salt):
            y = y.exp() * 0.1
        z = y.sigmoid()
        loss = z.sum()
        z.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_memory_that_numpy_can_write_is_copied_when_the_backward_begins():
    for salt in range(1, 8):
        array = np.ones((4, 6), np.float32)
        c = torch.from_numpy(array)
        x = X.clone().requires_grad_()
        y = x * c
        for _ in range(salt):
            y = y.tanh() + 2.0
        y.sum().item()
        array[:] = 1.0
        y = (x * c).sum()
        y.backward()
        array[:] = 5.0
        np.testing.assert_array_equal(x.grad.numpy(), np.ones((4, 6), np.float32))


def test_numbers_that_keep_changing_become_inputs():
    """A rule whose operation has a number among its attributes, another one each time."""
    for k in range(12):
        x = X.clone().requires_grad_()
        y = x
        for _ in range(k):
            y = y.sin()
        (y * (0.5 + k)).sum().backward()
        expected, z = np.full((4, 6), 0.5 + k), X.numpy().astype(np.float64)
        for _ in range(k):
            expected, z = expected * np.cos(z), np.sin(z)
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-4, atol=1e-6)
