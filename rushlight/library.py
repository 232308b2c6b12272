"""``torch.library``: operators that a library writes in Python, and finds again under ``torch.ops``."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import _ops
from .autograd import Function, no_grad

__all__ = ["CustomOpDef", "Library", "custom_op", "define", "impl", "register_autograd", "register_fake", "register_kernel"]


def _split(qualname: str) -> tuple[str, str]:
    space, colons, name = qualname.partition("::")
    if not colons or not space or not name:
        raise ValueError(f"Expected `name` to be of the form 'namespace::name', got {qualname!r}: there is no namespace")
    return space, name.split("(")[0].split(".")[0]


class CustomOpDef:
    """An operator that ``custom_op`` has made: called like the function, and to be found as ``torch.ops.<namespace>.<name>``."""

    def __init__(self, qualname: str, function: Callable[..., Any], mutates: Iterable[str]) -> None:
        self._qualname, self._function, self._mutates = qualname, function, tuple(mutates)
        self._backward: Callable[..., Any] | None = None
        self._setup: Callable[..., Any] | None = None
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self._signature = inspect.signature(function)
        self._called: Any = _called(self)
        space, name = _split(qualname)
        _ops.register(space, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != len(self._signature.parameters):
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args = tuple(bound.arguments.values())
        return self._called.apply(*args)

    def register_kernel(self, device_types: str | Sequence[str] | None, func: Callable[..., Any] | None = None) -> Any:
        """Another function for a device; decorates if ``func`` is None. That of the CPU is what is called from then on."""
        def register(func: Callable[..., Any]) -> Callable[..., Any]:
            named = [device_types] if isinstance(device_types, str) else device_types
            if named is None or "cpu" in named:
                self._function = func
            return func
        return register if func is None else register(func)

    def register_fake(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What the shapes of the results would be: nobody needs it, the operator runs where it is called."""
        return fn

    def register_vmap(self, func: Callable[..., Any] | None = None) -> Any:
        """A rule for ``vmap``, which calls the operator for each sample."""
        return (lambda func: func) if func is None else func

    def register_autograd(self, backward: Callable[..., Any], /, *, setup_context: Callable[..., Any] | None = None) -> None:
        """The gradient.

        Args:
            backward: ``(ctx, *grads)`` -> a gradient for each argument.
            setup_context: ``(ctx, inputs, output)``, which saves what ``backward`` needs.
        """
        self._backward, self._setup = backward, setup_context


def _called(op: CustomOpDef) -> type[Function]:
    """The class of the graph nodes of an operator's calls."""
    def forward(ctx: Any, *args: Any) -> Any:
        with no_grad():
            output = op._function(*args)
        if op._setup is not None:
            op._setup(ctx, args, output)
        return output

    def backward(ctx: Any, *grads: Any) -> Any:
        if op._backward is None:
            raise RuntimeError(f"Trying to backward through {op._qualname}.default but no autograd formula was registered. Please use "
                               "register_autograd to add one.")
        return op._backward(ctx, *grads)

    return type(op.__name__, (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def custom_op(name: str, fn: Callable[..., Any] | None = None, /, *, mutates_args: str | Iterable[str], device_types: Any = None,
              schema: str | None = None, tags: Any = None) -> Any:
    """A function as an operator ``namespace::name``; decorates if ``fn`` is None.

    Args:
        name: ``"mylib::sin"``.
        fn: a function of tensors and other values that returns tensors.
        mutates_args: names of the arguments that it writes to, or ``"unknown"``.
        device_types: the devices that it is for.
        schema, tags: how it would be declared to PyTorch's dispatcher.

    Raises:
        ValueError: the name has no namespace.

    Example:
        >>> from rushlight.library import custom_op
        >>> @custom_op("mylib::doubled", mutates_args=())
        ... def doubled(x: torch.Tensor) -> torch.Tensor:
        ...     return 2 * x
        >>> doubled.register_autograd(lambda ctx, grad: 2 * grad)
        >>> x = torch.ones(2, requires_grad=True)
        >>> torch.ops.mylib.doubled(x).sum().backward()
        >>> x.grad
        tensor([2., 2.])
    """
    _split(name)

    def make(fn: Callable[..., Any]) -> CustomOpDef:
        return CustomOpDef(name, fn, (mutates_args,) if isinstance(mutates_args, str) else mutates_args)

    return make if fn is None else make(fn)


class Library:
    """Operators of one namespace, declared by a text and then written.

    Args:
        ns: the namespace. kind: ``"DEF"``, ``"FRAGMENT"`` or ``"IMPL"``. dispatch_key: for what the functions are, ``""`` for all.

    Raises:
        ValueError: another kind.

    Example:
        >>> library = torch.library.Library("ours", "FRAGMENT")
        >>> library.define("tripled(Tensor x) -> Tensor")
        'tripled'
        >>> library.impl("tripled", lambda x: 3 * x, "CompositeImplicitAutograd")
        >>> torch.ops.ours.tripled(torch.ones(1))
        tensor([3.])
    """

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        if kind not in ("IMPL", "DEF", "FRAGMENT"):
            raise ValueError(f"Unsupported kind: {kind}")
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        """Declare an operator; returns its name. Until it is written, calling it raises NotImplementedError."""
        full, name = schema.split("(")[0].strip(), _split(f"{self.ns}::{schema}")[1]

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(f"Could not run '{self.ns}::{full}' on the CPU: it is declared, and not written. Use Library.impl")

        _ops.register(self.ns, name, missing, full.partition(".")[2] or "default")
        return full

    def impl(self, op_name: Any, fn: Callable[..., Any], dispatch_key: str = "", *, with_keyset: bool = False,
             allow_override: bool = False) -> None:
        """Write an operator: ``fn`` is what is called, if it is for the CPU. Gradients flow through what it does."""
        key = dispatch_key or self.dispatch_key
        name = op_name.__name__.split(".")[0] if isinstance(op_name, (_ops.OpOverload, _ops.OpOverloadPacket)) else str(op_name)
        name, _, overload = name.rpartition("::")[2].partition(".")
        if key in ("", "CPU", "CompositeImplicitAutograd", "CompositeExplicitAutograd"):
            _ops.register(self.ns, name, fn, overload or "default")


def define(qualname: str, schema: str, *, lib: Library | None = None, tags: Any = ()) -> None:
    """Declare the operator ``namespace::name`` with the arguments and results of ``schema``."""
    space, name = _split(qualname)
    (lib or Library(space, "FRAGMENT")).define(name + schema)


def impl(qualname: str, types: str | Sequence[str], func: Callable[..., Any] | None = None, *, lib: Library | None = None) -> Any:
    """Write the operator ``namespace::name`` for devices or keys of PyTorch's dispatcher; decorates if ``func`` is None."""
    def register(func: Callable[..., Any]) -> None:
        space, name = _split(qualname)
        for key in [types] if isinstance(types, str) else types:
            (lib or Library(space, "FRAGMENT")).impl(name, func, {"cpu": "CPU", "default": ""}.get(key, key))
    return register if func is None else register(func)


def _definition(op: Any) -> CustomOpDef:
    found = op
    if isinstance(op, str):
        space, name = _split(op)
        found = getattr(_ops.namespace(space), name).function
    elif isinstance(op, _ops.OpOverload):
        found = op.overloadpacket.function
    if not isinstance(found, CustomOpDef):
        raise ValueError(f"{op} was not made by torch.library.custom_op: its gradient is that of what it does")
    return found


def register_kernel(op: Any, device_types: Any, func: Callable[..., Any] | None = None, /, *, lib: Library | None = None) -> Any:
    """``CustomOpDef.register_kernel`` of an operator or its name."""
    return _definition(op).register_kernel(device_types, func)


def register_autograd(op: Any, backward: Callable[..., Any], /, *, setup_context: Callable[..., Any] | None = None,
                      lib: Library | None = None) -> None:
    """``CustomOpDef.register_autograd`` of an operator or its name."""
    _definition(op).register_autograd(backward, setup_context=setup_context)


def register_fake(op: Any, func: Callable[..., Any] | None = None, /, *, lib: Library | None = None, _stacklevel: int = 1,
                  allow_override: bool = False) -> Any:
    """The shapes of an operator's results: nobody needs them, it runs where it is called."""
    return (lambda func: func) if func is None else func


impl_abstract = register_fake
