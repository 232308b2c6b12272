"""Graphs as Python functions."""
from __future__ import annotations

import dataclasses
import keyword
import math
import operator
import re
import types
from typing import TYPE_CHECKING, Any

import rushlight

from .node import Node, map_arg, qualified_name, type_repr

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ["PythonCode", "python_code"]

_INFIX = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "floordiv": "{} // {}", "truediv": "{} / {}", "mod": "{} % {}",
          "pow": "{} ** {}", "lshift": "{} << {}", "rshift": "{} >> {}", "and_": "{} & {}", "or_": "{} | {}", "xor": "{} ^ {}",
          "getitem": "{}[{}]", "matmul": "{} @ {}", "eq": "{} == {}", "ne": "{} != {}", "lt": "{} < {}", "gt": "{} > {}",
          "le": "{} <= {}", "ge": "{} >= {}", "pos": "+{}", "neg": "-{}", "invert": "~{}"}
_INFIX = {getattr(operator, name): text for name, text in _INFIX.items()}  # type: ignore[misc]
_WRITTEN = {f"i{name}": sign for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("floordiv", "//"), ("truediv", "/"),
                                                ("mod", "%"), ("pow", "**"), ("lshift", "<<"), ("rshift", ">>"), ("and", "&"),
                                                ("or", "|"), ("xor", "^"), ("matmul", "@"))}
_WRITTEN = {getattr(operator, name): f"{sign}=" for name, sign in _WRITTEN.items()}  # type: ignore[misc]


@dataclasses.dataclass
class PythonCode:
    """Source of a function ``forward``, and what its names mean."""

    src: str
    globals: dict[str, Any]


def _path(root: str, target: str) -> str:
    """``root.a.b``, and ``getattr`` where a part is no name."""
    text = root
    for part in target.split("."):
        text = f"{text}.{part}" if part.isidentifier() and not keyword.iskeyword(part) else f'getattr({text}, "{part}")'
    return text


class _Writer:
    """Writes the lines of one function."""

    def __init__(self, graph: Graph, root: str) -> None:
        self.graph, self.root = graph, root
        self.globals: dict[str, Any] = {"torch": rushlight, "inf": math.inf, "nan": math.nan, "NoneType": type(None),
                                        "device": rushlight.device}
        self.wrapped: list[str] = []
        self.taken: dict[str, Any] = {}

    def name_of(self, target: Any) -> str:
        """The text that names a function; what cannot be reached from ``torch`` becomes a global."""
        name = qualified_name(target)
        if name.startswith("torch."):
            held: Any = rushlight
            for part in name.split(".")[1:]:
                held = getattr(held, part, None)
            if held is target:
                return name
        if "." not in name and name in vars(__import__("builtins")):
            return name
        own = name.replace(".", "_")
        own = re.sub("[^0-9a-zA-Z_]", "_", own)
        while self.taken.get(own, target) is not target:
            own += "_1"
        self.taken[own] = self.globals[own] = target
        return own

    def value(self, a: Any) -> str:
        """An argument as it is written."""
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            return f"{self.name_of(type(a))}({', '.join(map(self.value, a))})"
        if isinstance(a, tuple):
            return f"({', '.join(map(self.value, a))}{',' if len(a) == 1 else ''})"
        if isinstance(a, list):
            return f"[{', '.join(map(self.value, a))}]"
        if isinstance(a, dict):
            return f"{{{', '.join(f'{k!r}: {self.value(v)}' for k, v in a.items())}}}"
        if isinstance(a, slice):
            return f"slice({self.value(a.start)}, {self.value(a.stop)}, {self.value(a.step)})"
        if isinstance(a, Node):
            return repr(a)
        if isinstance(a, type):
            return self.name_of(a)
        if isinstance(a, (types.FunctionType, types.BuiltinFunctionType)) or callable(a) and hasattr(a, "__name__"):
            return self.name_of(a)
        return repr(a)

    def call(self, args: tuple, kwargs: dict[str, Any]) -> str:
        return ", ".join([*map(self.value, args), *[f"{k} = {self.value(v)}" for k, v in kwargs.items()]])

    def statement(self, node: Node) -> str:
        target: Any = node.target
        name = repr(node) + (f" : {type_repr(node.type)}" if node.type is not None else "")
        if node.op == "get_attr":
            return f"{name} = {_path(self.root, target)}"
        if node.op == "call_module":
            return f"{name} = {_path(self.root, target)}({self.call(node.args, node.kwargs)})"
        if node.op == "call_method":
            return f"{name} = {self.value(node.args[0])}.{target}({self.call(node.args[1:], node.kwargs)})"
        if target in _INFIX and not node.kwargs:
            return f"{name} = {_INFIX[target].format(*map(self.value, node.args))}"
        if target in _WRITTEN and not node.kwargs:
            first, second = map(self.value, node.args)
            return f"{first} {_WRITTEN[target]} {second};  {name} = {first}"
        if target is getattr and len(node.args) == 2 and isinstance(node.args[1], str) and node.args[1].isidentifier():
            return f"{name} = {self.value(node.args[0])}.{node.args[1]}"
        called = self.name_of(target)
        if node.meta.get("is_wrapped") and called not in self.wrapped:
            self.wrapped.append(called)
        return f"{name} = {called}({self.call(node.args, node.kwargs)})"


def _last_uses(graph: Graph) -> dict[Node, list[Node]]:
    """Of each node the nodes that are used by it for the last time."""
    seen: set[Node] = set()
    ends: dict[Node, list[Node]] = {}

    def use(n: Node, user: Node) -> Node:
        if n not in seen:
            seen.add(n)
            ends.setdefault(user, []).append(n)
        return n
    for node in reversed(graph.nodes):
        map_arg(node.args, lambda n: use(n, node))  # noqa: B023  (called at once)
        map_arg(node.kwargs, lambda n: use(n, node))  # noqa: B023
    return ends


def python_code(graph: Graph, root: str) -> PythonCode:
    """A function of the placeholders of ``graph`` that computes it, and lets go of each value behind its last use."""
    writer = _Writer(graph, root)
    ends = _last_uses(graph)
    parameters: list[str] = []
    body: list[str] = []
    returned = ""
    for node in graph.nodes:
        if node.op == "placeholder":
            target = str(node.target)
            typed = f" : {type_repr(node.type)}" if node.type is not None else ""
            default = f" = {writer.value(node.args[0])}" if node.args else ""
            parameters.append(f"{target}{typed}{default}")
            raw = target.replace("*", "")
            if raw != repr(node):
                body.append(f"{node!r} = {raw}\n")
            continue
        if node.op == "output":
            returned = f" -> {type_repr(node.type)}" if node.type is not None else ""
            body.append(f"return {writer.value(node.args[0])}\n")
            continue
        gone = [repr(n) for n in (*ends.get(node, []), *([] if node.users else [node]))]
        body.append(writer.statement(node) + (f";  {' = '.join([*gone, 'None'])}\n" if gone else "\n"))
    if not body:
        body.append("pass\n")
    lines = "".join(body).split("\n")
    marks = "".join(f'torch.fx._symbolic_trace.wrap("{name}")\n' for name in writer.wrapped)
    own = ", ".join([root, *_ordered(parameters)])
    source = f"\n{marks}\n" + ("\n" if not marks else "") + f"def forward({own}){returned}:\n" + "\n".join(f"    {line}" for line in lines)
    return PythonCode(source, writer.globals)


def _ordered(parameters: list[str]) -> list[str]:
    """Parameters as a function may have them: what collects the rest comes last."""
    return [p for p in parameters if p[0] != "*"] + [p for p in parameters if p[0] == "*"]
