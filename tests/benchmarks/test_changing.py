"""The benchmark of programs that change computes the same in both packages."""
from __future__ import annotations

import importlib
import random

import pytest

from benchmarks.changing import PROGRAMS

oracle = pytest.importorskip("torch", reason="PyTorch is the other side")


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "sentences"])  # the short ones are of the same kind
def test_the_first_losses_are_those_of_pytorch(program):
    losses = []
    for package in ("torch", "rushlight"):
        t = importlib.import_module(package)
        t.manual_seed(1)
        random.seed(1)
        step = PROGRAMS[program](t)
        losses.append([step(), step()])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
