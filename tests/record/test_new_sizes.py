"""A new batch size or sequence length needs a new plan, and no new kernel; a size seen before needs nothing, and no memory.

Extents are parameters of kernels. Which of a few variants of a kernel serves (tall or flat tiles, one nest or two where a
reduction is long) does depend on sizes, so some sizes of both kinds come first.
"""
from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn
from rushlight.compile.cpu import alloc, jit
from rushlight.compile.flags import flags
from rushlight.nn import functional
from rushlight.record.settings import settings
from rushlight.tools.profiler import counters


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch):
    """Planned here, too: of which sizes earlier processes have left plans on disk would decide which kernels come first."""
    monkeypatch.setattr(settings, "cold_limit", 0)
    monkeypatch.setattr(flags, "plans", False)


class Attention(nn.Module):
    """One block of a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(30, 32), nn.Embedding(64, 32)
        self.norm, self.qkv, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 30)

    def forward(self, idx: Any) -> Any:
        b, t = idx.shape
        x = self.tokens(idx) + self.positions(torch.arange(t))
        q, k, v = (y.view(b, t, 2, 16).transpose(1, 2) for y in self.qkv(self.norm(x)).split(32, dim=2))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + y.transpose(1, 2).reshape(b, t, 32)
        return self.head(x + self.down(functional.gelu(self.up(x)))).mean(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.lstm, self.head = nn.Embedding(30, 16), nn.LSTM(16, 24, batch_first=True), nn.Linear(24, 30)

    def forward(self, idx: Any) -> Any:
        return self.head(self.lstm(self.tokens(idx))[0][:, -1])


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 30))


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 32, 3), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 30))


def rows(*shape: int) -> Callable[[int], Any]:
    return lambda b: torch.tensor(np.random.default_rng(b).normal(size=(b, *shape)).astype(np.float32))


def tokens(b: int, t: int = 12) -> Any:
    return torch.tensor(np.random.default_rng(b).integers(0, 30, (b, t)))


def train(model: nn.Module, data: Callable[[Any], Any]) -> Callable[[Any], float]:
    optimizer = torch.optim.Adam(model.parameters())

    def step(size: Any) -> float:
        x = data(size)
        y = torch.tensor(np.random.default_rng(0).integers(0, 30, x.shape[0]))
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Any], list[Any], list[Any]]] = {
    "mlp": (mlp, rows(40), [16, 7, 40, 33], [9, 12, 37, 48]),
    "cnn": (cnn, rows(3, 14, 14), [16, 7, 40, 33], [9, 12, 37, 48]),
    "gpt": (Attention, tokens, [16, 7, 40, 33], [9, 13, 37, 48]),
    "gpt, another length": (Attention, lambda t: tokens(8, t), [16, 12, 40, 33], [17, 23, 37, 48]),
    "lstm": (Recurrent, tokens, [16, 7, 40, 33], [9, 13, 37, 48]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_new_size_compiles_nothing(name: str) -> None:
    make, data, seen, new = CASES[name]
    step = train(make(), data)
    for size in seen:
        step(size)
    obtained = jit.counters.compiled, jit.counters.loaded
    before = counters()
    for size in new:
        assert np.isfinite(step(size))
    assert (jit.counters.compiled, jit.counters.loaded) == obtained
    done = counters() - before
    assert done.programs_built == len(new) and done.programs_planned <= 2  # 9 and 48 may pass thresholds that nothing seen has passed


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_a_size_seen_before_takes_nothing_new(name: str) -> None:
    make, data, sizes, _ = CASES[name]
    step = train(make(), data)
    for _ in range(3):
        for size in sizes:
            step(size)
    gc.collect()
    before, memory = counters(), alloc.stats()
    for _ in range(3):
        for size in sizes:
            step(size)
    assert all(getattr(counters() - before, n) == 0 for n in (
        "programs_built", "kernels_compiled", "kernels_loaded", "cold_runs", "system_allocations"))
    gc.collect()
    assert (alloc.stats().live, alloc.stats().reserved) == (memory.live, memory.reserved)


def test_experts_with_few_and_with_many_tokens_share_a_plan() -> None:
    """How many tokens each of four experts gets is another threshold for each: sixteen plans, if any of them counted."""
    given = torch.tensor(np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32))
    first, gate, experts = nn.Linear(32, 32), nn.Linear(32, 4), [nn.Linear(32, 32) for _ in range(4)]

    def step(*sizes: int) -> None:
        x, chosen = first(given), torch.tensor(np.repeat(np.arange(4), sizes)[:, None])
        weights, total = functional.softmax(gate(x), -1).gather(1, chosen), torch.zeros_like(x)
        for k in range(4):
            tokens, place = torch.where(chosen == k)
            y = experts[k](x.index_select(0, tokens)) * weights[tokens, place].unsqueeze(1)
            total.index_add_(0, tokens, y)
        total.square().mean().backward()
        assert np.isfinite(gate.weight.grad.numpy()).all()

    for sizes in ((18, 17, 19, 10), (17, 20, 9, 18), (20, 8, 21, 11), (9, 20, 12, 23)):
        step(*sizes)
    before = counters()
    for sizes in ((8, 7, 11, 30), (22, 10, 7, 21), (5, 31, 19, 9)):
        step(*sizes)
    done = counters() - before
    assert done.programs_built > 0 and done.programs_planned == 0


def test_small_batches_share_their_kernels() -> None:
    """Two to sixteen fit into one vector, and a kernel for each of them would be quicker by little."""
    model = nn.Sequential(nn.Linear(20, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 5), nn.LogSoftmax(-1))

    def step(n: int) -> None:
        model.zero_grad()
        model(torch.tensor(np.ones((n, 20), np.float32))).pow(2).mean().backward()
        assert np.isfinite(model[0].weight.grad.numpy()).all()

    for n in (20, 16, 9, 8, 5, 3, 2):
        step(n)
    before = counters()
    for n in (4, 6, 7, 10, 11, 12, 13, 14, 15):
        step(n)
    done = counters() - before
    assert done.programs_built >= 9 and done.kernels_compiled + done.kernels_loaded == 0
