"""``torch.compiler`` names, for programs that use them: every program is compiled while it runs."""
from __future__ import annotations

from typing import Any

__all__ = ["disable", "is_compiling", "reset"]


def is_compiling() -> bool:
    """Whether a separate compilation pass is tracing the program: never."""
    return False


def disable(fn: Any = None, recursive: bool = True) -> Any:
    """``fn`` itself; also a decorator with arguments."""
    return fn if fn is not None else (lambda f: f)


def reset() -> None:
    """Nothing to forget."""
