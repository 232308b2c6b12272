"""Grad modes: ``no_grad``, ``enable_grad``, ``set_grad_enabled``, ``inference_mode``. All belong to one thread."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from ..record.trace import Trace, local
from .handle import enter_inference

__all__ = ["no_grad", "enable_grad", "set_grad_enabled", "inference_mode", "is_grad_enabled", "is_inference_mode_enabled"]

F = TypeVar("F", bound=Callable[..., Any])


def is_grad_enabled() -> bool:
    return local.trace.grad_enabled is True


def is_inference_mode_enabled() -> bool:
    return local.trace.inference


def _set(tr: Trace, grad: bool, inference: bool) -> None:
    """Change the modes of a thread. In inference mode, ``grad_enabled`` is None: what is remembered of calls tells it from no-grad mode."""
    if tr.inference is not inference:
        enter_inference(1 if inference else -1)
        tr.inference = inference
    tr.grad_enabled = None if inference else grad


class _Mode:
    """A context manager that is also a decorator, of generator functions too. ``before``: the modes outside, for each time that it was
    entered and not left."""

    before: list[tuple[bool | None, bool]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = object.__new__(cls)
        made.before = []
        return made

    def clone(self) -> _Mode:
        return type(self)()

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *error: object) -> None:
        tr = local.trace
        tr.grad_enabled, inference = self.before.pop()
        if tr.inference is not inference:
            enter_inference(1 if inference else -1)
            tr.inference = inference

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function):
            @functools.wraps(function)
            def stepping(*args: Any, **kwargs: Any) -> Any:
                # The mode holds inside the generator's body only, not in the code between its steps.
                body = function(*args, **kwargs)
                send: Callable[[], Any] = lambda: next(body)
                while True:
                    try:
                        with self.clone():
                            item = send()
                    except StopIteration as end:
                        return end.value
                    try:
                        sent = yield item
                        send = functools.partial(body.send, sent)
                    except GeneratorExit:
                        body.close()
                        raise
                    except BaseException as error:
                        send = functools.partial(body.throw, error)
            return stepping  # type: ignore[return-value]

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return function(*args, **kwargs)
        return call  # type: ignore[return-value]


class no_grad(_Mode):
    """Results computed inside do not require grad. Usable as ``with no_grad():`` and as ``@no_grad()``."""

    # Programs enter it at every step, so it calls nothing that it can do itself: no ``__init__``, no function that sets a mode.
    def __new__(cls, function: Any = None) -> Any:
        made = object.__new__(cls)
        made.before = []
        return made if function is None else made(function)  # the latter: ``@no_grad`` without parentheses

    def __enter__(self) -> None:
        tr = local.trace
        grad = tr.grad_enabled
        self.before.append((grad, tr.inference))
        if grad:
            tr.grad_enabled = False


class enable_grad(no_grad):
    """The opposite of ``no_grad``, inside it. What ``inference_mode`` computes never requires grad."""

    def __enter__(self) -> None:
        tr = local.trace
        grad = tr.grad_enabled
        self.before.append((grad, tr.inference))
        if grad is False:
            tr.grad_enabled = True


class set_grad_enabled(_Mode):
    """Sets the mode at once, and back at the end of a ``with`` block."""

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {type(mode).__name__}")
        tr = local.trace
        self.mode = mode
        self.outer = (tr.grad_enabled, tr.inference)
        _set(tr, mode, tr.inference)

    def clone(self) -> set_grad_enabled:
        return type(self)(self.mode)

    def __enter__(self) -> None:
        tr = local.trace
        _set(tr, self.mode, tr.inference)

    def __exit__(self, *error: object) -> None:
        grad, inference = self.outer
        _set(local.trace, bool(grad), inference)

    def __call__(self, function: F) -> F:
        local.trace.grad_enabled = self.outer[0]  # as a decorator it has no effect outside the function
        return super().__call__(function)


class inference_mode(_Mode):
    """``no_grad`` for code whose results never meet autograd again.

    What is made inside, but for views of other tensors, is an *inference tensor* (``Tensor.is_inference``), which no graph may save, and
    which is written inside only. Outside it may be read, and a clone is a tensor like any other.

    Raises:
        RuntimeError: outside, where an inference tensor is saved for a backward, written in place, or to require grad.
    """

    mode: bool

    def __new__(cls, mode: Any = True) -> Any:
        made = super().__new__(cls)
        made.mode = mode if isinstance(mode, bool) else True
        return made if isinstance(mode, bool) else made(mode)

    def clone(self) -> inference_mode:
        return type(self)(self.mode)

    def __enter__(self) -> None:
        tr = local.trace
        self.before.append((tr.grad_enabled, tr.inference))
        _set(tr, not self.mode, self.mode)
