"""Handles that take hooks back out again."""
from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

from .handle import Handle

__all__ = ["RemovableHandle", "add", "checked_gradient"]

_numbers = itertools.count()


class RemovableHandle:
    """Returned by every ``register_*hook``; ``remove()`` takes the hook out. Also a context manager."""

    def __init__(self, hooks: dict[int, Callable], *, extra: Any = None) -> None:
        self.hooks_ref = _reference(hooks)
        self.id = next(_numbers)

    def remove(self) -> None:
        hooks = self.hooks_ref()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def _reference(hooks: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(hooks)
    except TypeError:  # a plain dict
        return lambda: hooks


def add(hooks: dict[int, Callable], hook: Callable) -> RemovableHandle:
    if not callable(hook):
        raise TypeError(f"a hook must be callable, got {type(hook).__name__}")
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def checked_gradient(changed: Any, grad: Any, hook: Callable) -> Any:
    """What a tensor's hook returned: None, or a gradient to take the place of ``grad``.

    Raises:
        TypeError: it is no tensor.
        RuntimeError: it has another shape or dtype.
    """
    if changed is None:
        return None
    name = getattr(hook, "__name__", type(hook).__name__)
    if not isinstance(changed, Handle):
        raise TypeError(f"expected Tensor, but hook '{name}' returned '{type(changed).__name__}'")
    if changed.shape != grad.shape:
        raise RuntimeError(f"hook '{name}' has changed the size of value: {list(grad.shape)} to {list(changed.shape)}")
    if changed.dtype is not grad.dtype:
        raise RuntimeError(f"hook '{name}' has changed the type of value (was {grad.dtype} got {changed.dtype})")
    return changed
