"""Modules that are made of a graph."""
from __future__ import annotations

import copy
import itertools
import linecache
from typing import Any

from ..nn.modules.module import Module
from ..tensor import Tensor
from .graph import Graph

__all__ = ["GraphModule"]

_numbers = itertools.count()


class _Source:
    """The source of a generated ``forward``, where tracebacks and ``inspect`` find it."""

    def __init__(self, text: str) -> None:
        self.name = f"<rushlight.fx generated {next(_numbers)}>"
        linecache.cache[self.name] = (len(text), None, text.splitlines(keepends=True), self.name)

    def __del__(self) -> None:
        linecache.cache.pop(self.name, None)


def _forward(text: str, names: dict[str, Any]) -> Any:
    source = _Source(text)
    scope = dict(names)
    exec(compile(text, source.name, "exec"), scope)
    forward = scope["forward"]
    forward._source = source
    return forward


def _hold(target: str, source: Any, place: Module) -> None:
    """Put what ``source`` holds as ``a.b.c`` there in another module, with empty modules on the way."""
    *path, last = target.split(".")
    for part in path:
        source = getattr(source, part)
        inner = getattr(place, part, None)
        if inner is source:
            return  # held already, with all that is in it
        if inner is None:
            inner = Module()
            setattr(place, part, inner)
        place = inner
    held = getattr(source, last)
    if isinstance(held, Tensor) and last not in place._parameters and not _is_parameter(held):
        place.register_buffer(last, held)
    else:
        setattr(place, last, held)


def _is_parameter(x: Any) -> bool:
    from ..nn.parameter import Parameter

    return isinstance(x, Parameter)


class GraphModule(Module):
    """A module whose ``forward`` is generated from a graph, again at each assignment to ``graph`` and each ``recompile``.

    Args:
        root: the module, or dictionary, that holds what the nodes name.
        graph: what to compute.
        class_name: what the class is called.

    Raises:
        RuntimeError: ``root`` is a dictionary without something that a node names.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> GraphModule:
        # Each has a class of its own, for forward belongs to the class.
        own = next(kind for kind in cls.__mro__ if kind.__qualname__ != "GraphModuleImpl")
        made: GraphModule = super().__new__(type("GraphModuleImpl", (own,), {"__module__": own.__module__}))
        return made

    def __init__(self, root: Module | dict[str, Any], graph: Graph, class_name: str = "GraphModule") -> None:
        super().__init__()
        self.__class__.__name__ = class_name
        if isinstance(root, Module):
            if hasattr(root, "training"):
                self.training = root.training
            source: Any = root
        else:
            source = _Nested(root)
        for node in graph.nodes:
            if node.op in ("get_attr", "call_module"):
                if isinstance(root, dict) and node.target not in root:
                    raise RuntimeError(f"Node {node} referenced target {node.target} but that target was not provided in ``root``!")
                _hold(str(node.target), source, self)
        self.meta: dict[str, Any] = {}
        self.graph = graph

    __jit_unused_properties__ = ["graph"]

    @property
    def graph(self) -> Graph:
        """What the module computes."""
        return self.__dict__["_graph"]  # type: ignore[no-any-return]

    @graph.setter
    def graph(self, g: Graph) -> None:
        if not isinstance(g, Graph):
            raise AssertionError(f"Expected a Graph instance, but got {type(g)}")
        self.__dict__["_graph"] = g if g.owning_module in (None, self) else copy.deepcopy(g)
        self.graph.owning_module = self
        self.recompile()

    @property
    def code(self) -> str:
        """The generated source."""
        if "_code" not in self.__dict__:
            raise RuntimeError("Code has not been generated: the module has no graph yet")
        return self.__dict__["_code"]  # type: ignore[no-any-return]

    def recompile(self) -> Any:
        """Generate ``forward`` anew, after the graph was changed; returns the source with its names."""
        made = self.graph.python_code(root_module="self")
        self.__dict__["_code"] = made.src
        self.__class__.forward = _forward(made.src, made.globals)  # type: ignore[method-assign]
        return made

    # -- what it holds -------------------------------------------------------------------------------------------------

    def add_submodule(self, target: str, m: Module) -> bool:
        """Hold a module as ``a.b.c``, with empty modules on the way; False if something else has one of these names."""
        place: Any = self
        *path, last = target.split(".")
        for part in path:
            inner = getattr(place, part, None)
            if inner is None:
                inner = Module()
                setattr(place, part, inner)
            if not isinstance(inner, Module):
                return False
            place = inner
        place.add_module(last, m)
        return True

    def delete_submodule(self, target: str) -> bool:
        """Let go of the module held as ``a.b.c``; False if there is none."""
        *path, last = target.split(".")
        place: Any = self
        for part in path:
            place = getattr(place, part, None)
            if not isinstance(place, Module):
                return False
        if not isinstance(getattr(place, last, None), Module):
            return False
        delattr(place, last)
        return True

    def delete_all_unused_submodules(self) -> None:
        """Let go of all modules that no node calls or reads from."""
        used: set[str] = set()
        for node in self.graph.nodes:
            if node.op in ("call_module", "get_attr"):
                parts = str(node.target).split(".")
                used |= {".".join(parts[:k]) for k in range(1, len(parts) + 1)}
                if node.op == "call_module":
                    used |= {f"{node.target}.{name}" for name, _ in self.get_submodule(str(node.target)).named_modules() if name}
        for name in [name for name, _ in self.named_modules() if name and name not in used]:
            self.delete_submodule(name)

    # -- copies and text -----------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: Any) -> GraphModule:
        plain = Module()
        memo[id(self)] = made = GraphModule.__new__(type(self))
        plain.__dict__ = copy.deepcopy({k: v for k, v in self.__dict__.items() if k not in ("_graph", "_code")}, memo)
        GraphModule.__init__(made, plain, copy.deepcopy(self.graph), type(self).__name__)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks"):
            if name in plain.__dict__:
                made.__dict__[name] = plain.__dict__[name]
        made.training = self.training
        made.meta = copy.copy(self.meta)
        return made

    def __copy__(self) -> GraphModule:
        made = GraphModule(self, copy.deepcopy(self.graph), type(self).__name__)
        made.meta = self.meta
        return made

    def __reduce__(self) -> tuple:
        names = self.graph.python_code(root_module="self").globals
        kept = {k: v for k, v in names.items() if k not in ("torch", "inf", "nan", "NoneType", "device")}
        state = {k: v for k, v in self.__dict__.items() if k not in ("_graph", "_code")}
        return _restored, (state, self.code, kept, type(self).__name__)

    def print_readable(self, print_output: bool = True, include_stride: bool = False, include_device: bool = False,
                       colored: bool = False) -> str:
        """The generated source as that of a class; printed, too, unless ``print_output`` is false."""
        body = "\n".join(f"    {line}".rstrip() for line in self.code.strip().split("\n"))
        text = f"class {type(self).__name__}(torch.nn.Module):\n{body}\n"
        if print_output:
            print(text)
        return text

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.code}\n# To see more debug info, please use `graph_module.print_readable()`"


class _Nested:
    """A dictionary of ``a.b.c``, read as attributes."""

    def __init__(self, held: dict[str, Any], prefix: str = "") -> None:
        self._held, self._prefix = held, prefix

    def __getattr__(self, name: str) -> Any:
        path = self._prefix + name
        if path in self._held:
            return self._held[path]
        if any(key.startswith(path + ".") for key in self._held):
            return _Nested(self._held, path + ".")
        raise AttributeError(path)


def _restored(state: dict[str, Any], code: str, names: dict[str, Any], class_name: str) -> GraphModule:
    """A module that was pickled: its graph is that of its source."""
    import math

    import rushlight

    from ._symbolic_trace import Tracer

    scope = {"torch": rushlight, "inf": math.inf, "nan": math.nan, "NoneType": type(None), "device": rushlight.device, **names}
    root = Module()
    root.__dict__ = state
    kind = type(class_name, (Module,), {"forward": _forward(code, scope)})
    root.__class__ = kind

    class Whole(Tracer):
        def is_leaf_module(self, m: Module, module_qualified_name: str) -> bool:
            return True
    made = GraphModule(root, Whole(autowrap_functions=tuple(f for f in names.values() if callable(f))).trace(root), class_name)
    for key, value in state.items():
        if key not in made.__dict__:
            made.__dict__[key] = value
    return made
