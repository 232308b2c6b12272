"""``__torch_function__``: classes that decide themselves what public functions do with their objects.

A call of a public function that is made from memory looks at values only. So nobody asks for the classes of tensors until there is an
object of such a class; then what was remembered is forgotten, and steps that are written from then on look (``steps.py``). A program
without such classes pays nothing.
"""
from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ..record.trace import NO_CALL, local, traces
from . import handle
from .handle import Handle

__all__ = ["MISSED", "Names", "answer", "aside", "asked", "asking", "disabled", "dispatch", "forgetting", "meet", "overrides", "overriding",
           "strangers", "those_overriding"]

F = TypeVar("F", bound=Callable[..., Any])

overriding: set[type] = set()  # the classes of which there have been objects
_forgetting: list[Callable[[], None]] = []  # what else has to forget when the first of them is met


class _Aside(threading.local):
    """How deep this thread is in regions where nobody is asked: there such tensors are like all others."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *error: Any) -> None:
        self.depth -= 1


aside = _Aside()
MISSED: Any = object()  # no argument of a call is of such a class


class _Disabled:
    """The ``__torch_function__`` of classes that do not want to be asked, although those above them do."""

    __name__ = "_disabled_torch_function_impl"

    def __call__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        with aside:
            return func(*args, **(kwargs or {}))


disabled = _Disabled()


def overrides(kind: type) -> bool:
    """Whether a class wants to be asked: ``Tensor`` itself does not."""
    found = getattr(kind, "__torch_function__", None)
    return found is not None and found is not disabled and kind is not handle.plain


def forgetting(forget: Callable[[], None]) -> Callable[[], None]:
    """Let something be forgotten with all remembered calls."""
    _forgetting.append(forget)
    return forget


def meet(kind: type) -> None:
    """There is an object of this class."""
    if kind in overriding:
        return
    first = not overriding
    overriding.add(kind)
    if not first:
        return
    for forget in _forgetting:
        forget()
    for tr in list(traces):
        tr.known.clear()
        nodes: list[Any] = [tr.root, tr.node]
        while nodes:
            node = nodes.pop()
            node.calls = node.then = None
            node.last = NO_CALL
            nodes += node.edges.values()


def _each(values: Iterable[Any]) -> Iterator[Any]:
    """The values, and those in lists, tuples and dictionaries among them."""
    for a in values:
        kind = type(a)
        if kind is list or kind is tuple:
            yield from _each(a)
        elif kind is dict:
            yield from _each(a.values())
        else:
            yield a


def those_overriding(values: Iterable[Any]) -> list[Any]:
    """One object of each class that wants to be asked, in the order of asking: from left to right, but derived classes first."""
    found: list[Any] = []
    for a in _each(values):
        kind = type(a)
        if kind in overriding and all(type(b) is not kind for b in found):
            place = next((k for k, b in enumerate(found) if issubclass(kind, type(b))), len(found))
            found.insert(place, a)
    return found


def strangers(values: Iterable[Any]) -> bool:
    """Whether there are objects among the values, no tensors, whose classes want to be asked and have not been met: now they have."""
    new = [kind for kind in {type(a) for a in _each(values) if not isinstance(a, Handle)} if kind not in overriding and overrides(kind)]
    for kind in new:
        meet(kind)
    return bool(new)


def asked(function: Any, given: tuple[Any, ...]) -> Any:
    """What an argument's class says about a call of a public function (a ``calls.Function``), in a tuple; MISSED if there is no such
    argument, None where nobody is asked: that call is made in full."""
    reads = function.reads
    relevant = those_overriding(given if reads is None else (*given[:-2], *[given[-2].get(name) for name in reads.names]))
    if not relevant and (reads is not None or not local.trace.modes):
        return MISSED
    if aside.depth or reads is not None:
        return None
    args, kwargs = _as_called(function, given)
    result = answer(function.shown, relevant, args, kwargs)
    if result is NotImplemented and function.entry.__name__[:2] != "__":  # of an operator it means: it is the other operand's turn
        raise _refused(function.shown, relevant)
    return (result,)


def asking(function: F) -> F:
    """A public function that is not made from memory: it asks the classes of its arguments, too."""
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        relevant = those_overriding(given) if overriding and not aside.depth else []
        if relevant or local.trace.modes and not aside.depth:
            return dispatch(call, relevant, args, kwargs)
        try:
            return function(*args, **kwargs)
        except Exception:
            if aside.depth or not strangers(given):
                raise
            return call(*args, **kwargs)
    return call  # type: ignore[return-value]


def _as_called(function: Any, given: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments as somebody would write them: without those that are as by default. A function may have a ``told`` of its own, which
    makes PyTorch's form of those that mean the same."""
    entry = function.entry
    n, names = entry.__code__.co_argcount, entry.__code__.co_varnames
    first, rest = list(given[:n]), list(given[n:])
    more = tuple(rest.pop(0)) if function.star >= 0 else ()
    by_name = dict(rest.pop()) if function.stars >= 0 else {}
    if not more:
        defaults = entry.__defaults__ or ()
        while len(first) > n - len(defaults) and first[-1] is defaults[len(first) - 1 - n]:
            first.pop()
    usual = entry.__kwdefaults__ or {}
    by_name.update((name, value) for name, value in zip(names[n:], rest) if name not in usual or value is not usual[name])
    told = getattr(entry.__wrapped__, "told", None)
    return ((*first, *more), by_name) if told is None else told((*first, *more), by_name)


class Names:
    """Handed in by the tensor room: ``of`` a public function, what it is called in an error."""

    of: Callable[[Any], str]


def answer(func: Any, relevant: list[Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    """What the innermost region (``overrides.TorchFunctionMode``) says about a call of ``func``, or the first of the classes that says
    anything; NotImplemented if none does."""
    types = [type(a) for a in relevant]
    tr = local.trace
    modes = tr.modes
    if modes and not aside.depth:
        tr.set_modes(modes[:-1])  # what the innermost one calls is for those outside of it
        try:
            result = modes[-1].__torch_function__(func, types, args, kwargs)
        finally:
            tr.set_modes(modes)
        if result is not NotImplemented:
            return result
    for a in relevant:
        result = a.__torch_function__(func, types, args, kwargs)
        if result is not NotImplemented:
            return result
    return NotImplemented


def _refused(func: Any, relevant: list[Any]) -> TypeError:
    told = "\n".join([f"  - {'tensor subclass' if isinstance(a, Handle) else 'object of'} {type(a)}" for a in relevant])
    return TypeError(f"Multiple dispatch failed for '{Names.of(func)}'; all __torch_function__ handlers returned NotImplemented:\n\n{told}")


def dispatch(func: Any, relevant: list[Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    """What the first of the classes says that says anything about a call of ``func``.

    Raises:
        TypeError: none does.
    """
    result = answer(func, relevant, args, kwargs)
    if result is NotImplemented:
        raise _refused(func, relevant)
    return result
