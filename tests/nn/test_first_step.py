"""The first step of a model runs the program of all others: what made its parameters and buffers is no part of it."""
from __future__ import annotations

import math

import pytest

import rushlight as torch
from rushlight import nn
from rushlight.record import flush
from rushlight.record.settings import settings
from rushlight.tools.profiler import counters


class Positions(nn.Module):
    """A table that is computed, and written part by part."""

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(16).unsqueeze(1)
        rate = torch.exp(torch.arange(0, 8, 2) * (-math.log(10000.0) / 8))
        table = torch.zeros(16, 8)
        table[:, 0::2], table[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
        self.register_buffer("table", table)
        self.scale = nn.Parameter(torch.ones(8) / math.sqrt(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.table


MODELS = {
    "batch norm": lambda: nn.Sequential(nn.Linear(8, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 30)),
    "positions": lambda: nn.Sequential(Positions(), nn.Linear(8, 50), nn.LayerNorm(50)),
    "data": lambda: zeroed(nn.Sequential(nn.Linear(8, 30), nn.ReLU(), nn.Linear(30, 30))),
}


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    flush()
    monkeypatch.setattr(settings, "cold_limit", 0)


def zeroed(model: nn.Module) -> nn.Module:
    for p in model.parameters():
        if p.ndim == 1:
            nn.init.constant_(p.data, 0)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_training(name: str) -> None:
    model = MODELS[name]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.rand(16, 8)
    before = counters()
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert (counters() - before).programs_built == 1


@pytest.mark.parametrize("name", MODELS)
def test_inference(name: str) -> None:
    model = MODELS[name]().eval()
    x = torch.rand(16, 8)
    before = counters()
    with torch.no_grad():
        for _ in range(3):
            model(x).sum().item()
    assert (counters() - before).programs_built == 1


def test_running_statistics_begin_anew() -> None:
    layer = nn.BatchNorm1d(3)
    layer(torch.arange(12.0).reshape(4, 3))
    assert layer.num_batches_tracked.item() == 1 and layer.running_mean[0].item() != 0
    layer.reset_running_stats()
    assert layer.num_batches_tracked.item() == 0 and layer.num_batches_tracked.dtype is torch.int64
    assert layer.running_mean.tolist() == [0, 0, 0] and layer.running_var.tolist() == [1, 1, 1]
