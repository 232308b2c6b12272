"""Each distribution lies in the module in which PyTorch has it."""
from __future__ import annotations

import importlib
import inspect

import pytest

import rushlight.distributions as ours


@pytest.mark.parametrize("name", sorted(n for n in ours.__all__ if inspect.isclass(getattr(ours, n))))
def test_modules_are_named_as_in_pytorch(name):
    theirs = pytest.importorskip("torch.distributions")
    module = getattr(theirs, name).__module__.replace("torch.", "rushlight.", 1)
    assert getattr(importlib.import_module(module), name) is getattr(ours, name)
