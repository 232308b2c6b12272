"""The loops of ``benchmarks.small`` do in both packages what they are called."""
from __future__ import annotations

import pytest

import rushlight
from benchmarks.small import loops

torch = pytest.importorskip("torch")
DRAWN = ("sampled action", "Gaussian action")


@pytest.mark.parametrize("name", [name for name in loops(rushlight) if name not in DRAWN])
def test_loops_compute_the_same(name):
    ours, theirs = loops(rushlight)[name], loops(torch)[name]
    for _ in range(4):
        assert ours() == pytest.approx(theirs(), rel=1e-4)


@pytest.mark.parametrize("name", DRAWN)
def test_loops_that_draw(name):
    for package in (rushlight, torch):
        action, chance = loops(package)[name]()
        assert chance.requires_grad and chance.item() < 0 and (action in (0, 1) if name == "sampled action" else action.shape == (2,))
