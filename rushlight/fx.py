"""``torch.fx``: only what marks functions for its tracing, which is not there."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["wrap"]


def wrap(fn_or_name: str | Callable[..., Any]) -> Any:
    """What was given: tracing, which does not happen here, would leave calls of that function as they are.

    Raises:
        RuntimeError: neither a function nor the name of one.
    """
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or string name")
    return fn_or_name
