"""``torch.compiler`` names, for programs that use them: every program is compiled while it runs."""
from __future__ import annotations

import contextlib
from typing import Any, TypeVar

__all__ = ["allow_in_graph", "assume_constant_result", "compile", "cudagraph_mark_step_begin", "disable", "is_compiling",
           "is_dynamo_compiling", "is_exporting", "list_backends", "nested_compile_region", "reset", "set_stance"]

F = TypeVar("F")


def compile(model: Any = None, **options: Any) -> Any:  # noqa: A001
    """``model`` itself: every program is compiled while it runs. Also a decorator, with or without options."""
    return model if model is not None else (lambda m: m)


def is_compiling() -> bool:
    """Whether a separate compilation pass is tracing the program: never."""
    return False


is_dynamo_compiling = is_exporting = is_compiling


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """``fn`` itself; also a decorator with arguments."""
    return fn if fn is not None else (lambda f: f)


def allow_in_graph(fn: F) -> F:
    """``fn`` itself: whatever it does is recorded."""
    return fn


def assume_constant_result(fn: F) -> F:
    """``fn`` itself: it is called each time."""
    return fn


def nested_compile_region(fn: Any = None, **options: Any) -> Any:
    """``fn`` itself; also a decorator with arguments."""
    return fn if fn is not None else (lambda f: f)


class set_stance(contextlib.ContextDecorator):
    """A choice of how to compile that changes nothing: a function, a context manager and a decorator."""

    def __init__(self, stance: str = "default", *, skip_guard_eval_unsafe: bool = False, force_backend: Any = None) -> None:
        self.stance = stance

    def __enter__(self) -> None:
        """Nothing changes."""

    def __exit__(self, *exc: Any) -> None:
        """Nothing changes back."""


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """No compiler can be chosen."""
    return []


def cudagraph_mark_step_begin() -> None:
    """Nothing to mark."""


def reset() -> None:
    """Nothing to forget."""
