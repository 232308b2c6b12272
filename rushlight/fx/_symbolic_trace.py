"""Symbolic tracing: a module or function runs once with proxies, and what it does becomes a graph."""
from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

import rushlight

from ..nn.modules.container import Sequential
from ..nn.modules.hooks import call_with_hooks, has_hooks
from ..nn.modules.layers import layers
from ..nn.modules.module import Module
from ..nn.parameter import Parameter
from ..record.warn import warn
from ..tensor import Tensor
from ..tensor.types import DType
from .graph import Graph
from .graph_module import GraphModule
from .node import Argument, has_side_effect
from .proxy import Proxy, TraceError, TracerBase

__all__ = ["PH", "Tracer", "symbolic_trace", "wrap"]

_wrapped: dict[tuple[int, str], dict[str, Any]] = {}  # functions that stay calls: (globals, name) -> the globals


class PHBase:
    """Stands for an argument that is not concrete."""

    def __repr__(self) -> str:
        return "PH"


PH = PHBase()


def wrap(fn_or_name: str | Callable[..., Any]) -> Any:
    """Leave calls of a global function of the calling module as they are when something is traced; returns what was given.

    Raises:
        RuntimeError: neither a function nor the name of one.
        NotImplementedError: not called at the level of a module.
    """
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or string name")
    name = fn_or_name if isinstance(fn_or_name, str) else fn_or_name.__name__
    frame: Any = inspect.currentframe()
    frame = frame.f_back
    if frame.f_code.co_name != "<module>":
        raise NotImplementedError("wrap must be called at the top level of a module")
    _wrapped[id(frame.f_globals), name] = frame.f_globals
    return fn_or_name


def _found(args: Any) -> Proxy | None:
    if isinstance(args, (tuple, list)):
        return next((p for p in map(_found, args) if p is not None), None)
    if isinstance(args, dict):
        return _found(list(args.values()))
    return args if isinstance(args, Proxy) else None


def _recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = _found((args, kwargs))
        if proxy is None:
            return original(*args, **kwargs)
        made = proxy.tracer.create_proxy("call_function", original, args, kwargs)
        made.node.meta["is_wrapped"] = True
        return made
    return call


def _collecting_nothing(fn: Callable[..., Any], count: int) -> Callable[..., Any]:
    """``fn`` with ``count`` ordinary arguments, in the order of its code, so that a proxy can be what ``*args`` is, or ``**kwargs``.

    Raises:
        TraceError: behind a decorator, whose code has other arguments.
    """
    method = isinstance(fn, MethodType)
    own: Any = getattr(fn, "__func__", fn)
    if not isinstance(own, FunctionType) or hasattr(own, "__wrapped__"):
        raise TraceError(f"{own} collects arguments (*args or **kwargs) behind a decorator, which cannot be traced")
    code = own.__code__.replace(co_flags=own.__code__.co_flags & ~(inspect.CO_VARARGS | inspect.CO_VARKEYWORDS), co_argcount=count + method,
                                co_posonlyargcount=0, co_kwonlyargcount=0)
    made: Any = FunctionType(code, own.__globals__, own.__name__, None, own.__closure__)
    return MethodType(made, fn.__self__) if isinstance(fn, MethodType) else made


#: Types of arguments of which the traced module can tell that they are what they were when it was traced.
_COMPARED = (bool, int, float, complex, str, DType)


@has_side_effect
def _assert_is_none(value: Any, msg: str) -> None:
    """Go on if a value is None.

    Raises:
        AssertionError: it is not.
    """
    assert value is None, msg


class Tracer(TracerBase):
    """Traces modules and functions; subclasses say which modules are leaves, and what becomes of arguments.

    Args:
        autowrap_modules: modules whose functions stay calls where they are reached as ``module.function``.
        autowrap_functions: further functions that stay calls where they are global names.

    Example:
        >>> graph = rushlight.fx.Tracer().trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
        >>> [node.target for node in graph.nodes]
        ['input', '0', '1', 'output']
    """

    def __init__(self, autowrap_modules: tuple = (math,), autowrap_functions: tuple = (), param_shapes_constant: bool = False) -> None:
        self._autowrap = list(autowrap_modules)
        self._functions = {id(f): f for f in autowrap_functions}
        self.param_shapes_constant = param_shapes_constant
        self.root: Any = None
        self.tensor_attrs: dict[Any, str] = {}
        self._paths: dict[Any, str] = {}

    def create_arg(self, a: Any) -> Argument:
        """As in TracerBase; parameters, buffers and constants become attributes of the root."""
        if isinstance(a, Parameter):
            for name, parameter in self.root.named_parameters():
                if a is parameter:
                    return self.create_node("get_attr", name, (), {})
            raise NameError("parameter is not a member of this module")
        if isinstance(a, Tensor):
            for name, buffer in self.root.named_buffers():
                if a is buffer:
                    return self.create_node("get_attr", name, (), {})
            known = next((name for t, name in self.tensor_attrs.items() if t is a), None)
            if known is None:
                known = self._fresh("_tensor_constant")
                self.tensor_attrs[a] = known
                setattr(self.root, known, a)
            return self.create_node("get_attr", known, (), {})
        if isinstance(a, Module):
            return self.create_node("get_attr", self.path_of_module(a), (), {})
        return super().create_arg(a)

    def _fresh(self, stem: str) -> str:
        number = 0
        while hasattr(self.root, f"{stem}{number}"):
            number += 1
        return f"{stem}{number}"

    def is_leaf_module(self, m: Module, module_qualified_name: str) -> bool:
        """Whether calls of a module are nodes: those of ``nn``, but ``Sequential``, are."""
        return (type(m).__module__.startswith(("torch.nn", "torch.ao.nn", "rushlight.nn"))) and not isinstance(m, Sequential)

    def path_of_module(self, mod: Module) -> str:
        """Where the root holds a module.

        Raises:
            NameError: it does not.
        """
        found = self._paths.get(mod)
        if found is None:
            found = next((name for name, held in self.root.named_modules() if held is mod), None)
        if found is None:
            raise NameError("module is not installed as a submodule")
        return found

    def call_module(self, m: Module, forward: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call of a module met while tracing: a node where it is a leaf, else what it does."""
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            return self.create_proxy("call_module", path, args, kwargs)
        return forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """What a module's attribute is while tracing: a proxy for a parameter of the root."""
        if isinstance(attr_val, Parameter):
            for name, parameter in self.root.named_parameters():
                if attr_val is parameter:
                    if name not in parameter_proxy_cache:
                        parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
                    return parameter_proxy_cache[name]
        return attr_val

    def trace(self, root: Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> Graph:
        """The graph of a module's ``forward``, or of a function; arguments in ``concrete_args`` have that value.

        Raises:
            TraceError: what happens depends on a value.
        """
        if isinstance(root, Module):
            self.root, fn = root, type(root).forward
            self._paths = {mod: name for name, mod in root.named_modules()}
        else:
            self.root, fn = Module(), root
        self.graph = Graph(tracer_cls=type(self))
        self.tensor_attrs = {held: (f"{path}." if path else "") + name for path, mod in self.root.named_modules()
                             for name, held in vars(mod).items() if isinstance(held, Tensor) and not isinstance(held, Parameter)}
        with self._patched(fn.__globals__ if hasattr(fn, "__globals__") else {}):
            fn, args, kwargs, returned = self._arguments(fn, isinstance(root, Module), concrete_args or {})
            self.create_node("output", "output", (self.create_arg(fn(*args, **kwargs)),), {}, type_expr=returned)
        return self.graph

    def _arguments(self, fn: Callable[..., Any], method: bool,
                   concrete: dict[str, Any]) -> tuple[Callable[..., Any], list[Any], dict[str, Any], Any]:
        """What to call with which arguments, and the annotation of what it returns."""
        parameters = list(inspect.signature(fn).parameters.values())
        args: list[Any] = [self.root] if method else []
        kwargs: dict[str, Any] = {}
        late = []
        try:
            hints = inspect.get_annotations(fn, eval_str=True)
        except Exception:  # an annotation that means nothing here
            hints = {}
        hints = {name: hint for name, hint in hints.items() if hint is not Any}  # which says nothing
        for p in parameters[1:] if method else parameters:
            if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                late.append(p)
                continue
            given = concrete.get(p.name, PH)
            default = () if p.default is p.empty else (p.default,)
            name = p.name if given is PH else f"{p.name}_1"
            proxy: Any = self.create_proxy("placeholder", name, default, {}, type_expr=hints.get(p.name))
            if given is not PH:
                says = f"{p.name} has been specialized to have value {given} but got another value"
                if isinstance(given, _COMPARED):
                    rushlight._assert(proxy == given, says)
                elif given is None:
                    self.create_proxy("call_function", _assert_is_none, (proxy, says), {})
                else:
                    warn(f"Was not able to add assertion to guarantee correct input {p.name} to specialized function. It is up to the user "
                         "to make sure that your inputs match the inputs you specialized the function with.")
                proxy = given
            if p.kind is p.KEYWORD_ONLY:
                kwargs[p.name] = proxy
            else:
                args.append(proxy)
        if late:
            args, kwargs = [*args, *kwargs.values()], {}  # as their names stand in the code: those of what collects the rest come last
            for p in late:
                star = "*" if p.kind is p.VAR_POSITIONAL else "**"
                args.append(self.create_proxy("placeholder", star + p.name, (), {}, name=f"_{p.name}"))
            fn = _collecting_nothing(fn, len(args))
        return fn, args, kwargs, hints.get("return")

    @contextlib.contextmanager
    def _patched(self, own: dict[str, Any]) -> Iterator[None]:
        """Inside, modules and functions that stay calls tell this tracer."""
        cache: dict[str, Any] = {}
        tracer = self

        def call(mod: Any, *args: Any, **kwargs: Any) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                return call_with_hooks(mod, args, kwargs) if has_hooks(mod) else mod.forward(*args, **kwargs)
            return tracer.call_module(mod, forward, args, kwargs)

        def attribute(mod: Any, name: str) -> Any:
            found = object.__getattribute__(mod, name)
            return tracer.getattr(name, found, cache) if isinstance(found, Tensor) else found

        undo: list[Callable[[], None]] = []

        def put(place: dict[str, Any], name: str) -> None:
            before = place.get(name, _wrapped)
            original = before if before is not _wrapped else getattr(builtins, name)
            place[name] = _recorded(original)
            undo.append(lambda: place.__setitem__(name, before) if before is not _wrapped else place.pop(name))
        called = Module.__call__
        try:
            for (_, name), place in list(_wrapped.items()):
                if name in place or hasattr(builtins, name):
                    put(place, name)
            for name, value in list(own.items()):
                if id(value) in self._functions:
                    put(own, name)
            for module in self._autowrap:
                for name, value in list(vars(module).items()):
                    if name[0] != "_" and callable(value) and not isinstance(value, type):
                        put(vars(module), name)
            Module.__call__ = call  # type: ignore[method-assign]
            Module.__getattribute__ = attribute  # type: ignore[method-assign]
            layers.clear()
            yield
        finally:
            Module.__call__ = called  # type: ignore[method-assign]
            if "__getattribute__" in vars(Module):
                del Module.__getattribute__
            layers.clear()
            for back in reversed(undo):
                back()


def symbolic_trace(root: Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> GraphModule:
    """A module that does what ``root`` does, with its graph, which can be looked at and changed.

    Args:
        root: a module or a function.
        concrete_args: values of arguments that decide what happens.

    Raises:
        TraceError: what happens depends on a value.

    Example:
        >>> traced = rushlight.fx.symbolic_trace(lambda x: torch.relu(x) + 1)
        >>> for node in traced.graph.nodes:
        ...     if node.target is torch.relu:
        ...         node.target = torch.sigmoid
        >>> _ = traced.recompile()
        >>> traced(torch.zeros(2))
        tensor([1.5000, 1.5000])
    """
    tracer = Tracer()
    graph = tracer.trace(root, concrete_args)
    name = root.__class__.__name__ if isinstance(root, Module) else root.__name__
    return GraphModule(tracer.root, graph, name)


