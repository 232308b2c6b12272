"""Anomaly mode: which forward operation's gradient gave a NaN, and where it was called."""
from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from ..record.trace import local
from ..record.warn import warn
from .engine import Rules
from .node import Node

__all__ = ["detect_anomaly", "set_detect_anomaly", "is_anomaly_enabled", "stack_text", "check", "explain"]


def stack_text() -> str:
    return "".join(traceback.format_stack()[:-3])


def is_anomaly_enabled() -> bool:
    return local.trace.anomaly


def check(node: Node, grads: Sequence[Any]) -> None:
    """Raise RuntimeError if a gradient that the node computed holds a NaN."""
    for k, grad in enumerate(grads):
        if grad is not None and Rules.find_nan(grad):
            error = RuntimeError(f"Function '{node.name()}' returned nan values in its {k}th output.")
            explain(node, error)
            raise error


def explain(node: Node, error: BaseException) -> None:
    """Tell where the forward operation of the node was called."""
    if node.rare is not None and "trace_text" in node.rare:
        warn(f"Error detected in {node.name()}. Traceback of forward call that caused the error:\n"
             f"{node.rare['trace_text']}")


class set_detect_anomaly:
    """Switch anomaly mode; as a context manager, back at the end."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = local.trace.anomaly
        local.trace.set_anomaly(bool(mode))

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        local.trace.set_anomaly(self.before)


class detect_anomaly(set_detect_anomaly):
    """Inside, forward operations remember where they were called, and a backward that computes a NaN raises RuntimeError."""

    def __init__(self, check_nan: bool = True) -> None:
        self.before = local.trace.anomaly

    def __enter__(self) -> None:
        self.before = local.trace.anomaly
        local.trace.set_anomaly(True)
