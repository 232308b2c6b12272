"""Subclasses of Tensor: what functions return for them, and ``__torch_function__``.

Public functions ask the classes of their arguments where calls are looked at the first time (``autograd/overriding.py``). What a tensor
has besides these, its properties and the methods that record nothing, asks only in classes that want it: they get it from here.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

from ..autograd.apply import alias_of, apply_view
from ..autograd.handle import Handle
from ..autograd.overriding import aside, dispatch, meet, overrides, overriding
from ..ops.views import permute
from ..record.trace import local
from .reading import Readable

__all__ = ["Subclassed", "asking_first", "never_converted", "of_class"]

_SLOTS = ("_value", "_edge", "_grad", "_alias", "_writes", "_more")
_same = permute.named("AliasBackward0")

# Of names with underscores in front only these ask: the others are Python's own business, or ours.
_ASKING = frozenset(("__len__", "__bool__", "__float__", "__int__", "__index__", "__complex__", "__contains__", "__format__", "__repr__",
                     "__array__", "__getitem__", "__setitem__", "__invert__", "__rdiv__"))
_SILENT = frozenset(("as_subclass",))

never_converted: list[Any] = []  # functions whose results stay plain tensors


def of_class(t: Any, cls: type) -> Any:
    """A tensor that nobody else has as an instance of a subclass."""
    if overrides(cls):
        meet(cls)
    made: Any = object.__new__(cls)
    for slot in _SLOTS:
        setattr(made, slot, getattr(t, slot))
    return made


class Subclassed(Readable):
    """The part of ``Tensor`` that subclasses are about."""

    __slots__ = ()

    def as_subclass(self, cls: type) -> Any:
        """The same memory as an instance of a subclass, with the same history.

        Raises:
            TypeError: no subclass of Tensor.
        """
        if not isinstance(cls, type) or not issubclass(cls, Subclassed):
            raise TypeError(f"as_subclass(): argument 'cls' must be a subclass of Tensor, not {cls}")
        if self._edge is not None and local.trace.grad_enabled:
            return of_class(apply_view(_same, (tuple(range(len(self._value.meta.shape))),), self), cls)
        return of_class(alias_of(self), cls)

    @staticmethod
    def _make_subclass(cls: type, data: Any, require_grad: bool = False) -> Any:
        """A leaf of a subclass over the memory of ``data``: what a class like ``Parameter`` makes in its ``__new__``."""
        made = of_class(alias_of(data), cls)
        if require_grad:
            made.requires_grad_()
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Call ``func``, and let results be of this class: what a subclass does that does not define this itself.

        Returns:
            NotImplemented if one of the classes is not among this one's ancestors.
        """
        if not all(issubclass(cls, kind) for kind in types):
            return NotImplemented
        with aside:
            result = func(*args, **(kwargs or {}))
            return result if func in never_converted else _converted(result, cls)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__base__ is not Subclassed and overrides(cls):  # not Tensor itself
            _let_ask(cls)


def _converted(result: Any, cls: type) -> Any:
    if isinstance(result, Handle):
        return result if isinstance(result, cls) else result.as_subclass(cls)
    if isinstance(result, (tuple, list)) and any(isinstance(x, (Handle, tuple, list)) for x in result):
        return type(result)([_converted(x, cls) for x in result])
    return result


def _let_ask(cls: Any) -> None:
    """Let the properties and methods that a class has from Tensor ask it first."""
    tensor = next(k for k in cls.__mro__ if k.__base__ is Subclassed)
    for owner in tensor.__mro__[:-1]:
        for name, value in vars(owner).items():
            if name[:1] == "_" and name not in _ASKING or name in _SILENT or name in cls.__dict__:
                continue
            first = next(k for k in cls.__mro__ if name in vars(k))
            if first is not owner:
                continue
            if isinstance(value, property):
                setattr(cls, name, _asking_property(value))
            elif isinstance(value, FunctionType) and value.__code__.co_filename != "<quick>":
                setattr(cls, name, _asking(value))


def _asking(method: Callable[..., Any]) -> Any:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if aside.depth:
            return method(self, *args, **kwargs)
        return dispatch(method, [self], (self, *args), kwargs)
    return call


def asking_first(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a tensor that records nothing of it: it asks the class of that first."""
    @functools.wraps(function)
    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        if type(input) in overriding and not aside.depth:
            return dispatch(call, [input], (input, *args), kwargs)
        return function(input, *args, **kwargs)
    return call


def _asking_property(known: property) -> property:
    def get(self: Any) -> Any:
        return known.__get__(self) if aside.depth else dispatch(known.__get__, [self], (self,), {})

    def write(self: Any, value: Any) -> None:
        if aside.depth:
            known.__set__(self, value)
        else:
            dispatch(known.__set__, [self], (self, value), {})
    return property(get, write, known.fdel, known.__doc__)
