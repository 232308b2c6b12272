"""Anomaly mode: which forward operation's gradient gave a NaN, and where it was called."""
from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from typing import Any

from ..record.trace import local
from ..record.warn import warn
from .engine import Rules
from .node import Node

__all__ = ["detect_anomaly", "set_detect_anomaly", "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "stack_text", "check", "explain"]


def stack_text() -> str:
    return "".join(traceback.format_stack()[:-3])


def is_anomaly_enabled() -> bool:
    return local.trace.anomaly


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode, where it is on, looks for NaNs."""
    return _checks.nan


def check(node: Node, grads: Sequence[Any]) -> None:
    """Raise RuntimeError if a gradient that the node computed holds a NaN, where that is asked for."""
    if not _checks.nan:
        return
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


class _Checks(threading.local):
    """Whether anomaly mode looks for NaNs in this thread."""

    nan = True


_checks = _Checks()


class set_detect_anomaly:
    """Switch anomaly mode; as a context manager, back at the end. With ``check_nan=False`` NaNs pass: errors in backward alone
    tell where the forward was called."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = local.trace.anomaly, _checks.nan
        self._switch(bool(mode), bool(check_nan))

    def _switch(self, mode: bool, check_nan: bool) -> None:
        local.trace.set_anomaly(mode)
        _checks.nan = check_nan

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        self._switch(*self.before)


class detect_anomaly(set_detect_anomaly):
    """Inside, forward operations remember where they were called, and a backward that computes a NaN raises RuntimeError (unless
    ``check_nan`` is False)."""

    def __init__(self, check_nan: bool = True) -> None:
        self.before = local.trace.anomaly, _checks.nan
        self.check_nan = bool(check_nan)

    def __enter__(self) -> None:
        self.before = local.trace.anomaly, _checks.nan
        self._switch(True, self.check_nan)
