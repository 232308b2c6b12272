"""``torch.jit``: archives of TorchScript are read; the other names change nothing, as everything is recorded and compiled anyway."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from ._serialization import RecursiveScriptModule, ScriptModule, load

__all__ = ["Error", "Final", "RecursiveScriptModule", "ScriptModule", "TracerWarning", "annotate", "export", "ignore", "is_scripting",
           "is_tracing", "isinstance", "load", "script", "script_if_tracing", "script_method", "trace", "trace_module", "unused"]

T = TypeVar("T")


class TracerWarning(Warning):
    """What tracing would warn of: a value that the trace cannot follow. Programs filter it; it never comes."""


class Error(RuntimeError):
    """What the code of a TorchScript archive raises."""


def script_method(fn: T) -> T:
    """``fn`` itself."""
    return fn


def is_scripting() -> bool:
    """Whether a script is being compiled: never."""
    return False


def is_tracing() -> bool:
    """Whether ``jit.trace`` is running: never."""
    return False


def script(obj: T, *args: Any, **options: Any) -> T:
    """``obj`` itself."""
    return obj


def trace(func: T, example_inputs: Any = None, **options: Any) -> T:
    """``func`` itself."""
    return func


def trace_module(mod: T, inputs: Any = None, **options: Any) -> T:
    """``mod`` itself."""
    return mod


def _overload(func: T) -> T:
    """``func`` itself: one of several signatures, of which the last definition has the body."""
    return func


_overload_method = _overload


def script_if_tracing(fn: T) -> T:
    """``fn`` itself."""
    return fn


def export(fn: T) -> T:
    """``fn`` itself."""
    return fn


def unused(fn: T) -> T:
    """``fn`` itself."""
    return fn


def ignore(drop: Any = False, **options: Any) -> Any:
    """A decorator (with or without arguments) that returns the function itself."""
    if callable(drop):
        return drop
    same: Callable[[T], T] = lambda fn: fn
    return same


def annotate(the_type: Any, value: T) -> T:
    """``value`` itself."""
    return value


def isinstance(obj: Any, target_type: Any) -> bool:  # noqa: A001
    """Python's ``isinstance``."""
    import builtins

    return builtins.isinstance(obj, target_type)
