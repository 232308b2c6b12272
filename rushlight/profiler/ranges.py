"""``record_function``: a name for a stretch of the program."""
from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from . import collect
from .collect import Collector, Range

__all__ = ["record_function"]

F = TypeVar("F", bound=Callable[..., Any])


class record_function:
    """``with record_function("forward"): ...``, or ``@record_function("forward")``: a row in the profiler's tables, a slice in its trace.

    Costs next to nothing while no profiler measures.

    Args:
        name: of the range.
        args: a text that goes into the trace.
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name, self.args = name, args
        self._entered: list[list[tuple[Collector, Range]]] = []

    def __enter__(self) -> record_function:
        self._entered.append([(c, c.enter(self.name, self.args)) for c in collect.active])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        for collector, entered in self._entered.pop():
            collector.exit(entered)

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with type(self)(self.name, self.args):
                return function(*args, **kwargs)
        return call  # type: ignore[return-value]
