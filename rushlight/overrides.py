"""``torch.overrides``: for functions that ask the classes of their arguments (``__torch_function__``), and for such classes.

Example:
    >>> class Wrapped:
    ...     @classmethod
    ...     def __torch_function__(cls, func, types, args=(), kwargs=None):
    ...         return f"{func.__name__} of Wrapped"
    >>> torch.mean(Wrapped())
    'mean of Wrapped'
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from .autograd.overriding import answer, aside, asking, meet, overrides, those_overriding
from .record.trace import local
from .tensor import FUNCTIONS, Tensor
from .tensor.registry import CONVENIENCES
from .tensor.subclassing import never_converted

__all__ = ["enable_reentrant_dispatch", "get_default_nowrap_functions", "get_ignored_functions", "get_overridable_functions",
           "handle_torch_function", "has_torch_function", "is_tensor_like", "is_tensor_method_or_property", "resolve_name",
           "TorchFunctionMode", "wrap_torch_function"]


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether the class of one of the arguments wants to be asked."""
    if aside.depth:
        return False
    return bool(local.trace.modes) or any(overrides(type(a)) for a in relevant_args)


def has_torch_function_unary(arg: Any) -> bool:
    """``has_torch_function`` of one argument."""
    return has_torch_function((arg,))


def has_torch_function_variadic(*args: Any) -> bool:
    """``has_torch_function`` of several arguments."""
    return has_torch_function(args)


def handle_torch_function(public_api: Callable[..., Any], relevant_args: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    """What the classes of ``relevant_args`` make of ``public_api(*args, **kwargs)``.

    Raises:
        TypeError: none of them says.

    Example:
        >>> def doubled(x):
        ...     if torch.overrides.has_torch_function((x,)):
        ...         return torch.overrides.handle_torch_function(doubled, (x,), x)
        ...     return x + x
        >>> doubled(torch.ones(1))
        tensor([2.])
    """
    relevant = tuple(relevant_args)
    for a in relevant:
        if overrides(type(a)):
            meet(type(a))
    asked = those_overriding(relevant)
    result = answer(public_api, asked, args, kwargs)
    if result is NotImplemented:
        raise TypeError(f"no implementation found for '{public_api.__module__}.{public_api.__name__}' on types that implement "
                        f"__torch_function__: {[type(a) for a in asked]}")
    return result


def wrap_torch_function(dispatcher: Callable[..., Iterable[Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: the function asks the classes of what ``dispatcher`` makes of its arguments."""
    def wrap(func: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(func)
        def call(*args: Any, **kwargs: Any) -> Any:
            relevant = tuple(dispatcher(*args, **kwargs))
            if has_torch_function(relevant):
                return handle_torch_function(call, relevant, *args, **kwargs)
            return func(*args, **kwargs)
        return call
    return wrap


def is_tensor_like(inp: Any) -> bool:
    """Whether it is a tensor, or something that functions take for one."""
    return isinstance(inp, Tensor) or hasattr(type(inp), "__torch_function__")


@functools.cache
def _names() -> dict[Any, str]:
    """Public functions and methods -> what they are called."""
    import importlib

    import rushlight

    found: dict[Any, str] = {}
    for place in ("", "nn.functional", "linalg", "fft", "special", "nn.init"):
        space = importlib.import_module(f"rushlight.{place}" if place else "rushlight")
        for name in dir(space):
            value = getattr(space, name, None)
            if isinstance(value, (FunctionType, BuiltinFunctionType)) and name[0] != "_":
                found.setdefault(value, ".".join(["torch", *([place] if place else []), name]))
    for name in dir(rushlight.Tensor):
        value = getattr(rushlight.Tensor, name)
        if isinstance(value, FunctionType):
            found.setdefault(value, f"torch.Tensor.{name}")
        elif isinstance(value, property):
            found[value.__get__] = f"torch.Tensor.{name}.__get__"
            found[value.__set__] = f"torch.Tensor.{name}.__set__"
    return found


def resolve_name(f: Any) -> str | None:
    """What a public function or method is called in PyTorch; None if it is none."""
    return _names().get(f)


def is_tensor_method_or_property(func: Any) -> bool:
    """Whether ``func`` is a method of Tensor, or reads or writes a property of it."""
    return (resolve_name(func) or "").startswith("torch.Tensor.") or getattr(func, "__name__", "") in ("__get__", "__set__")


def get_default_nowrap_functions() -> set[Any]:
    """Functions whose results subclasses leave as they are."""
    return set(never_converted)


def get_overridable_functions() -> dict[Any, list[Any]]:
    """Where functions are -> those that ask the classes of their arguments."""
    import rushlight
    from rushlight import fft, linalg, special
    from rushlight.nn import functional

    found: dict[Any, list[Any]] = {}
    for f, name in _names().items():
        path = name.split(".")
        place: Any = {"Tensor": Tensor, "nn": functional, "linalg": linalg, "fft": fft, "special": special}.get(path[1], rushlight)
        if path[1:3] != ["nn", "init"]:
            found.setdefault(place, []).append(f)
    return found


def get_ignored_functions() -> set[Any]:
    """Functions that ask nobody: they make tensors, or have none among their arguments."""
    import rushlight

    names = ("is_tensor tensor as_tensor from_numpy zeros ones empty full rand randn randint randperm arange linspace logspace eye "
             "manual_seed").split()
    return {getattr(rushlight, name) for name in names}


class enable_reentrant_dispatch:  # noqa: N801
    """Accepted for compatibility: functions may be called from within others' answers anyway."""

    def __enter__(self) -> None:
        """Nothing has to be done."""

    def __exit__(self, *error: Any) -> None:
        """Nothing has to be undone."""


class TorchFunctionMode:
    """A region in which ``__torch_function__`` of this object is asked about every call of a public function, whatever its arguments are.

    Asked about are functions and methods that compute or make tensors, not those that only tell something of one (``shape``, ``size()``,
    ``dtype``). What it calls itself is for the regions outside of this one. Inside, calls are not made from memory, so programs are slower.

    Example:
        >>> class Doubling(torch.overrides.TorchFunctionMode):
        ...     def __torch_function__(self, func, types, args=(), kwargs=None):
        ...         result = func(*args, **(kwargs or {}))
        ...         return result * 2 if func is torch.sin else result
        >>> with Doubling():
        ...     torch.sin(torch.ones(1)) / torch.ones(1).sin()
        tensor([2.])
    """

    def __init__(self) -> None:
        """Nothing has to be known."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """What to do for a call of ``func``. NotImplemented: what would be done without this region."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        _let_makers_ask()
        local.trace.set_modes((*local.trace.modes, self))
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        local.trace.set_modes(local.trace.modes[:-1])

    @classmethod
    def push(cls, *args: Any, **kwargs: Any) -> Any:
        """An instance (deprecated in PyTorch, too)."""
        return cls(*args, **kwargs)


BaseTorchFunctionMode = TorchFunctionMode


@functools.cache
def _let_makers_ask() -> None:
    """Functions that make tensors of nothing record nothing, so nobody looks at their calls. From the first region on they ask."""
    import rushlight

    for name in (CONVENIENCES & FUNCTIONS.keys()) - {"is_tensor"}:  # which makes none, and asks nobody
        FUNCTIONS[name] = asking(FUNCTIONS[name])
        setattr(rushlight, name, FUNCTIONS[name])
