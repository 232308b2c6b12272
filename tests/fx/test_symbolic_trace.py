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


def test_products_are_told_as_pytorch_tells_them() -> None:
    def products(a, b):
        both = torch.einsum("ij,jk->ik", (a, b)), torch.einsum("ij,jk->ik", a, b)
        return *both, torch.tensordot(a, b, 1), torch.tensordot(a, b, ([1], [0]))

    told = [(node.args, node.kwargs) for node in fx.symbolic_trace(products).graph.nodes if node.op == "call_function"]
    a, b = told[0][0][1:]
    assert (a.name, b.name) == ("a", "b") and told[0] == told[1] == (("ij,jk->ik", a, b), {})
    assert told[2] == ((a, b), {"dims": 1, "out": None}) and told[3] == ((a, b), {"dims": ([1], [0]), "out": None})
    x = torch.randn(2, 3), torch.randn(3, 4)
    for got, want in zip(fx.symbolic_trace(products)(*x), products(*x)):
        torch.testing.assert_close(got, want)
