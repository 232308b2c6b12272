"""The benchmark of new sizes computes the same in both packages."""
from __future__ import annotations

import importlib

import pytest

from benchmarks.sizes import PROGRAMS

oracle = pytest.importorskip("torch", reason="PyTorch is the other side")
SIZES = {"CNN, height and width": [(2, 9, 12), (2, 12, 9)],
         "LSTM, length": [(3, 2), (4, 2)], "translation, ragged": [(3, 6, 4), (3, 4, 5)], "GPT, growing text": [(4,), (5,)]}  # fmt: skip


@pytest.mark.parametrize("program", SIZES)
def test_the_losses_are_those_of_pytorch(program):
    losses = []
    for package in ("torch", "rushlight"):
        t = importlib.import_module(package)
        t.manual_seed(1)
        step = PROGRAMS[program].make(t)
        losses.append([step(*size) for size in SIZES[program]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
