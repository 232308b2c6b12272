"""Long sums pass through memory every few terms, so that a loop of another length has the same kernels."""
from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rushlight as torch
from rushlight import nn
from rushlight.compile.build import build
from rushlight.compile.cpu import jit
from rushlight.compile.dtypes import float32
from rushlight.compile.fuse_sums import stations
from rushlight.compile.graph import Graph, Node
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings

fuse = importlib.import_module("rushlight.compile.fuse")


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "cold_limit", 0)


def chain(terms: int) -> tuple[Graph, list[Node]]:
    g = Graph()
    sums = [g.leaf((5,), float32)]
    for _ in range(terms):
        sums.append(g.map(lambda e, a, b: a + b, sums[-1], g.leaf((5,), float32)))
    g.results = [sums[-1]]
    return g, sums


@given(st.integers(1, 100))
def test_kernels_add_eight_terms_and_in_the_beginning_halves_of_that(terms: int) -> None:
    g, sums = chain(terms)
    ends = [k for k, node in enumerate(sums) if node in stations(g)]
    steps = np.diff([0, *ends, terms]).tolist()
    if terms <= 8:
        assert not ends
    else:
        assert steps == sorted(steps) and set(steps) <= {1, 2, 4, 8} and all(steps.count(n) <= 1 for n in (1, 2, 4))


def test_a_partial_sum_that_is_wanted_itself_ends_a_sum() -> None:
    g, sums = chain(12)
    g.results.append(sums[6])
    assert not stations(g)


class Loop(nn.Module):
    """A recurrent network by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside, self.out = nn.Linear(12, 24), nn.Linear(24, 24), nn.Linear(24, 3)

    def forward(self, x: Any) -> Any:
        h = torch.zeros(x.shape[0], 24)
        for k in range(x.shape[1]):
            h = (self.inside(x[:, k]) + self.outside(h)).tanh()
        return self.out(h).square().mean()


def step(model: nn.Module, t: int) -> list[np.ndarray]:
    model.zero_grad()
    loss = model(torch.tensor(np.random.default_rng(t).normal(size=(6, t, 12)).astype(np.float32)))
    loss.backward()
    return [loss.detach().numpy().copy(), *(p.grad.numpy().copy() for p in model.parameters())]


def biases(turns: int) -> Graph:
    """The sum of as many gradients of a bias, each that of a batch."""
    g = Graph()
    total = g.reduce("add", g.leaf((6, 24), float32), (0,))
    for _ in range(turns - 1):
        total = g.map(lambda e, a, b: a + b, total, g.reduce("add", g.leaf((6, 24), float32), (0,)))
    g.results = [total]
    return g


def weights(turns: int) -> Graph:
    g = Graph()
    total = g.einsum("nk,nm->km", g.leaf((6, 24), float32), g.leaf((6, 12), float32))
    for _ in range(turns - 1):
        total = g.map(lambda e, a, b: a + b, total, g.einsum("nk,nm->km", g.leaf((6, 24), float32), g.leaf((6, 12), float32)))
    g.results = [total]
    return g


@pytest.mark.parametrize("gradient", [biases, weights])
def test_a_loop_of_another_length_has_the_same_kernels(gradient: Callable[[int], Graph]) -> None:
    for turns in (25, 29, 31, 32):  # the sums begin with 8, 4, 2, 1 terms
        build(gradient(turns), {})
    before = jit.counters.compiled + jit.counters.loaded
    for turns in (27, 33, 38, 30, 45):
        build(gradient(turns), {})
    assert jit.counters.compiled + jit.counters.loaded == before


@pytest.mark.parametrize("t", [9, 20])
def test_where_a_sum_is_interrupted_is_no_matter_of_bits(t: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Loop()
    found = step(model, t)
    monkeypatch.setattr(fuse, "stations", lambda graph: set())
    start_afresh()
    for a, b in zip(found, step(model, t), strict=True):
        np.testing.assert_array_equal(a, b)
