"""``torch.distributed.optim``: the names of optimizers for groups; what they are made of is in ``rushlight.optim.zero``."""
from __future__ import annotations

import importlib
from typing import Any

__all__ = ["ZeroRedundancyOptimizer"]  # noqa: F822


def __getattr__(name: str) -> Any:
    if name in __all__:  # a higher room, which nobody loads who only asks for ranks
        return getattr(importlib.import_module("rushlight.optim.zero"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
