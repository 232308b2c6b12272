"""``torch._dynamo``: names that programs use around ``torch.compile``. There is no separate compiler to steer: they change nothing."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..compiler import (
    allow_in_graph,
    assume_constant_result,
    disable,
    is_compiling,
    list_backends,
    reset,
    set_stance,
)
from . import config, eval_frame
from .eval_frame import OptimizedModule

__all__ = ["OptimizedModule", "allow_in_graph", "assume_constant_result", "config", "disable", "disallow_in_graph", "eval_frame",
           "forbid_in_graph", "graph_break", "is_compiling", "list_backends", "mark_dynamic", "mark_static", "mark_static_address",
           "maybe_mark_dynamic", "optimize", "reset", "set_stance"]

disallow_in_graph = forbid_in_graph = allow_in_graph


def graph_break(msg: str = "") -> None:
    """Nothing to break: what is recorded runs when a value is wanted."""


def mark_dynamic(t: Any, index: Any, *, hint_override: int | None = None, min: int | None = None, max: int | None = None,  # noqa: A002
                 specialize_on: list[Any] | None = None) -> None:
    """Nothing to mark: programs serve every size."""


def maybe_mark_dynamic(t: Any, index: Any) -> None:
    """Nothing to mark: programs serve every size."""


def mark_static(t: Any, index: Any = None) -> None:
    """Nothing to mark: programs serve every size."""


def mark_static_address(t: Any, guard: bool = False) -> None:
    """Nothing to mark: parameters keep their memory."""


def optimize(*args: Any, **options: Any) -> Callable[[Any], Any]:
    """A decorator that returns what it is given: every program is compiled while it runs."""
    return lambda model: model
