"""Nodes of a graph: what is called, with which arguments, and who uses the result."""
from __future__ import annotations

import builtins
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..overrides import resolve_name
from .immutable_collections import immutable_dict, immutable_list

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ["Node", "has_side_effect", "map_aggregate", "map_arg"]

Target: TypeAlias = Callable[..., Any] | str
Argument = Any
_OPS = ("placeholder", "call_method", "call_module", "call_function", "get_attr", "output", "root")
_impure: set[Any] = set()


def has_side_effect(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Keep calls of a function although nobody uses the result; returns the function."""
    _impure.add(fn)
    return fn


def map_aggregate(a: Argument, fn: Callable[[Argument], Argument]) -> Argument:
    """``fn`` of everything in nested tuples, lists, dictionaries and slices, nested alike."""
    if isinstance(a, tuple):
        made = [map_aggregate(x, fn) for x in a]
        return type(a)(*made) if hasattr(a, "_fields") else tuple(made)
    if isinstance(a, list):
        return immutable_list([map_aggregate(x, fn) for x in a])
    if isinstance(a, dict):
        return immutable_dict({k: map_aggregate(v, fn) for k, v in a.items()})
    if isinstance(a, slice):
        return slice(map_aggregate(a.start, fn), map_aggregate(a.stop, fn), map_aggregate(a.step, fn))
    return fn(a)


def map_arg(a: Argument, fn: Callable[[Node], Argument]) -> Argument:
    """``fn`` of every node in nested arguments; the rest as it is."""
    return map_aggregate(a, lambda x: fn(x) if isinstance(x, Node) else x)


def qualified_name(func: Callable[..., Any]) -> str:
    """What a function is called where it can be imported from."""
    known = resolve_name(func)
    if known is not None:
        return known
    name = getattr(func, "__name__", type(func).__name__)
    if getattr(builtins, name, None) is func:
        return name
    module = getattr(func, "__module__", None) or type(func).__module__
    return f"{module.replace('rushlight', 'torch')}.{name}"


def _shown_target(target: Any) -> str:
    if isinstance(target, str):
        return target
    name = qualified_name(target)
    return name.replace("_operator.", "operator.") if "." in name else f"builtins.{name}"


def type_repr(obj: Any) -> str:
    """A type as written in an annotation."""
    if isinstance(obj, type) and not isinstance(obj, types.GenericAlias):
        if obj.__module__ == "builtins":
            return obj.__qualname__
        return f"torch.{obj.__qualname__}" if obj.__module__.startswith("rushlight") else f"{obj.__module__}.{obj.__qualname__}"
    if obj is ...:
        return "..."
    return obj.__name__ if isinstance(obj, types.FunctionType) else repr(obj).replace("rushlight.tensor.tensor.Tensor", "torch.Tensor")


def _shown(arg: Any) -> str:
    if isinstance(arg, list):
        return f"[{', '.join(map(_shown, arg))}]"
    if isinstance(arg, tuple):
        return f"({', '.join(map(_shown, arg))}{',' if len(arg) == 1 else ''})"
    if isinstance(arg, dict):
        return f"{{{', '.join(f'{k}: {_shown(v)}' for k, v in arg.items())}}}"
    return f"%{arg}" if isinstance(arg, Node) else str(arg)


class Node:
    """One call of a graph.

    Attributes:
        op: "placeholder" (an argument), "get_attr", "call_function", "call_method", "call_module" or "output".
        target: the function, or the name of argument, attribute, method or module.
        args, kwargs: nodes and constants, nested.
        users: the nodes that have this one among their arguments, as keys of a dictionary.
        name, type, meta: its name in the generated code, its annotation, and what passes want to keep with it.
    """

    def __init__(self, graph: Graph, name: str, op: str, target: Target, args: tuple, kwargs: dict[str, Any],
                 return_type: Any = None) -> None:
        if op not in _OPS:
            raise AssertionError(f"op {op!r} is none of {', '.join(_OPS)}")
        if op == "call_function" and not callable(target):
            raise ValueError(f"Node [graph = {graph}, name = '{name}'] target {target} has type {type(target)} but a Callable is expected")
        if op != "call_function" and not isinstance(target, str):
            raise ValueError(f"Node [graph = {graph}, name = '{name}'] target {target} has type {type(target)} but a str is expected")
        self.graph, self.name, self.op, self.target, self.type = graph, name, op, target, return_type
        self.users: dict[Node, None] = {}
        self.meta: dict[str, Any] = {}
        self._input_nodes: dict[Node, None] = {}
        self._prev = self._next = self
        self._erased = False
        self._repr_fn: Any = None
        self._take(args, kwargs)

    # -- arguments -----------------------------------------------------------------------------------------------------

    @property
    def args(self) -> tuple:
        return self._args

    @args.setter
    def args(self, a: tuple) -> None:
        self._take(a, self._kwargs)

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._kwargs

    @kwargs.setter
    def kwargs(self, k: dict[str, Any]) -> None:
        self._take(self._args, k)

    def _take(self, args: tuple, kwargs: dict[str, Any]) -> None:
        for old in self._input_nodes:
            old.users.pop(self, None)
        self._input_nodes = {}

        def use(n: Node) -> Node:
            self._input_nodes.setdefault(n)
            n.users.setdefault(self)
            return n
        self._args: tuple = map_arg(tuple(args), use)
        self._kwargs: dict[str, Any] = map_arg(dict(kwargs), use)

    @property
    def all_input_nodes(self) -> list[Node]:
        """The nodes among the arguments, each once."""
        return list(self._input_nodes)

    def update_arg(self, idx: int, arg: Argument) -> None:
        """Replace one positional argument."""
        self.args = (*self.args[:idx], arg, *self.args[idx + 1:])

    def insert_arg(self, idx: int, arg: Argument) -> None:
        """Put a positional argument before position ``idx``."""
        if not 0 <= idx <= len(self.args):
            raise AssertionError("insert_args index must be between 0 and len(self.args)")
        self.args = (*self.args[:idx], arg, *self.args[idx:])

    def update_kwarg(self, key: str, arg: Argument) -> None:
        """Replace or add one named argument."""
        self.kwargs = {**self.kwargs, key: arg}

    def replace_input_with(self, old_input: Node, new_input: Node) -> None:
        """Use another node wherever ``old_input`` is among the arguments."""
        def other(n: Node) -> Node:
            return new_input if n is old_input else n
        self._take(map_arg(self.args, other), map_arg(self.kwargs, other))

    def replace_all_uses_with(self, replace_with: Node, delete_user_cb: Callable[[Node], bool] = lambda user: True, *,
                              propagate_meta: bool = False) -> list[Node]:
        """Let all users, or those for which ``delete_user_cb`` is true, use another node; returns them."""
        if propagate_meta:
            if replace_with.meta:
                raise AssertionError("Called node.replace_all_uses_with(replace_with, propagate_meta=True), but replace_with already has "
                                     ".meta keys")
            replace_with.meta.update(self.meta)
        changed = [user for user in self.users if delete_user_cb(user)]
        for user in changed:
            user.replace_input_with(self, replace_with)
        return changed

    # -- its place -----------------------------------------------------------------------------------------------------

    @property
    def next(self) -> Node:
        return self._next

    @property
    def prev(self) -> Node:
        return self._prev

    def prepend(self, x: Node) -> None:
        """Move ``x`` to the place before this node."""
        if x.graph is not self.graph:
            raise AssertionError("Attempting to move a Node into a different Graph")
        if x is self:
            return
        x.unlink()
        before = self._prev
        before._next, x._prev, x._next, self._prev = x, before, self, x

    def append(self, x: Node) -> None:
        """Move ``x`` to the place behind this node."""
        self._next.prepend(x)

    def unlink(self) -> None:
        """Take the node out of the order of its graph."""
        self._prev._next, self._next._prev = self._next, self._prev

    # -- questions -----------------------------------------------------------------------------------------------------

    @property
    def stack_trace(self) -> str | None:
        """Where the node was traced, if somebody noted it."""
        return self.meta.get("stack_trace")

    @stack_trace.setter
    def stack_trace(self, trace: str | None) -> None:
        self.meta["stack_trace"] = trace

    def is_impure(self, impure_random: bool = True) -> bool:
        """Whether the node counts although nobody uses it."""
        if self.op in ("placeholder", "output"):
            return True
        if self.op == "call_function":
            return self.target in _impure or getattr(self.target, "__name__", "") in ("_assert", "setitem")
        if self.op == "call_module" and self.graph.owning_module is not None:
            return bool(getattr(self.graph.owning_module.get_submodule(self.target), "_is_impure", False))
        return False

    def format_node(self, placeholder_names: list[str] | None = None, maybe_return_typename: list[str] | None = None, *,
                    include_tensor_metadata: bool = False) -> str | None:
        """The node as one line of text."""
        typed = f"{type_repr(self.type)} " if self.type else ""
        if self.op == "placeholder":
            if placeholder_names is not None:
                placeholder_names.append(f"{self.target}: {type_repr(self.type)}" if self.type else str(self.target))
            default = f"(default={self.args[0]})" if self.args else ""
            return f"%{self.name} : {typed}[num_users={len(self.users)}] = {self.op}[target={self.target}]{default}"
        if self.op == "get_attr":
            return f"%{self.name} : {typed}[num_users={len(self.users)}] = {self.op}[target={self.target}]"
        if self.op == "output":
            if self.type and maybe_return_typename:
                maybe_return_typename[0] = f" -> {type_repr(self.type)}"
            return f"return {self.args[0]}"
        return (f"%{self.name} : {typed}[num_users={len(self.users)}] = {self.op}[target={_shown_target(self.target)}](args = "
                f"{_shown(self.args)}, kwargs = {_shown(self.kwargs)})")

    def __repr__(self) -> str:
        return self._repr_fn(self) if self._repr_fn else self.name

    def __lt__(self, other: Node) -> bool:
        """Whether the node comes before another of its graph."""
        at = self._next
        while at.op != "root":
            if at is other:
                return self is not other
            at = at._next
        return False
