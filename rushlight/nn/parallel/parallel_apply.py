"""Calls of several modules: one after the other."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..modules.module import Module

__all__ = ["parallel_apply"]


def parallel_apply(modules: Sequence[Module], inputs: Sequence[Any], kwargs_tup: Sequence[dict[str, Any]] | None = None,
                   devices: Sequence[Any] | None = None) -> list[Any]:
    """The results of the modules, each with its arguments."""
    if len(modules) != len(inputs):
        raise AssertionError(f"The number of modules {len(modules)} is not equal to the number of inputs {len(inputs)}")
    named = kwargs_tup or [{} for _ in modules]
    return [module(*(x if isinstance(x, (list, tuple)) else (x,)), **more) for module, x, more in zip(modules, inputs, named)]
