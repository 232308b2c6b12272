"""Every operation, declared once: result shapes and types, lowering, gradient.

Programs know this name as ``torch.ops``, where PyTorch has operators by the names of its dispatcher (``torch.ops.aten.add.Tensor``), and
those that libraries have registered. Where these are kept, the public namespace hands in.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_MODULES = frozenset(path.stem for path in Path(__file__).parent.glob("*.py"))


class Names:
    """Handed in from above: ``of`` a namespace of operators, the object with its operators."""

    of: Callable[[str], Any]


def __getattr__(name: str) -> Any:
    if name in _MODULES or name.startswith("__") or not hasattr(Names, "of"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Names.of(name)
