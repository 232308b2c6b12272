"""Tracing where PyTorch fails: names of modules that are words of Python, arguments collected behind decorators."""
from __future__ import annotations

import pytest

import rushlight as torch
from rushlight import fx, nn


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"if": nn.Identity(), "0": nn.Identity()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts["0"](self.parts["if"](x))


class Collecting(nn.Module):
    @torch.no_grad()
    def forward(self, x: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        return x + more.get("a", 0)


def test_modules_may_have_any_name() -> None:
    assert fx.symbolic_trace(Named())(torch.ones(2)).tolist() == [1, 1]


def test_arguments_collected_behind_a_decorator_are_refused_not_forgotten() -> None:
    module = Collecting()
    with pytest.raises(fx.proxy.TraceError, match="behind a decorator"):
        fx.symbolic_trace(module)
    assert module(torch.ones(2), a=torch.ones(2)).tolist() == [2, 2]
