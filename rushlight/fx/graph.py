"""Graphs of nodes, in the order in which they run."""
from __future__ import annotations

import builtins
import contextlib
import copy
import keyword
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from .node import Argument, Node, Target, map_arg
from .python_code import PythonCode, python_code

__all__ = ["Graph", "PythonCode"]


def snake_case(s: str) -> str:
    """A name in small letters, its words joined by underscores."""
    return "".join([("_" if k and c.isupper() and s[k - 1] not in "_." and not s[k - 1].isupper() else "") + c.lower()
                    for k, c in enumerate(s)])


class Namespace:
    """Names that are taken: of nodes and of what the generated code calls."""

    def __init__(self) -> None:
        self._names: dict[Any, str] = {}
        self._used: set[str] = set()
        self._count: dict[str, int] = defaultdict(int)

    def create_name(self, candidate: str, obj: Any) -> str:
        """A name like ``candidate`` that nothing else has, for ``obj``, which keeps it."""
        if obj is not None and obj in self._names:
            return self._names[obj]
        candidate = re.sub("[^0-9a-zA-Z_]+", "_", candidate) or "_unnamed"
        if candidate[0].isdigit():
            candidate = "_" + candidate
        numbered = re.fullmatch(r"(.*)_(\d+)", candidate)
        base, number = (candidate, 0) if numbered is None else (numbered[1], int(numbered[2]))
        if numbered is not None:
            candidate = f"{base}_{number}"
        number = number or self._count[base]
        while candidate in self._used or _reserved(candidate):
            number += 1
            candidate = f"{base}_{number}"
        self._used.add(candidate)
        self._count[base] = number
        if obj is not None:
            self._names[obj] = candidate
        return candidate

    def associate(self, name: str, obj: Any) -> None:
        """``obj`` has this name."""
        self._names[obj] = name
        self._used.add(name)


def _reserved(name: str) -> bool:
    return keyword.iskeyword(name) or name in vars(builtins) or name in ("inf", "nan", "NoneType", "torch", "device", "math")


class _NodeList:
    """The nodes of a graph, in order."""

    def __init__(self, graph: Graph, direction: str = "_next") -> None:
        self.graph, self.direction = graph, direction

    def __len__(self) -> int:
        return self.graph._len

    def __iter__(self) -> Iterator[Node]:
        root, at = self.graph._root, getattr(self.graph._root, self.direction)
        while at is not root:
            following = getattr(at, self.direction)
            if not at._erased:
                yield at
            at = getattr(at, self.direction) if not at._erased else following

    def __reversed__(self) -> _NodeList:
        return _NodeList(self.graph, "_prev" if self.direction == "_next" else "_next")


class Graph:
    """What a function computes, node by node.

    Example:
        >>> graph = rushlight.fx.Graph()
        >>> x = graph.placeholder("x")
        >>> _ = graph.output(graph.call_function(torch.relu, (x,)))
        >>> print(graph)
        graph():
            %x : [num_users=1] = placeholder[target=x]
            %relu : [num_users=1] = call_function[target=torch.relu](args = (%x,), kwargs = {})
            return relu
        >>> rushlight.fx.GraphModule({}, graph)(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(self, owning_module: Any = None, tracer_cls: Any = None, tracer_extras: dict[str, Any] | None = None) -> None:
        self._root = Node(self, "", "root", "", (), {})
        self._insert: Callable[[Node], None] = self._root.prepend
        self._len = 0
        self._graph_namespace = Namespace()
        self._owning_module, self._tracer_cls, self._tracer_extras = owning_module, tracer_cls, tracer_extras

    @property
    def owning_module(self) -> Any:
        """The GraphModule that the graph is the graph of, if there is one."""
        return self._owning_module

    @owning_module.setter
    def owning_module(self, module: Any) -> None:
        self._owning_module = module

    @property
    def nodes(self) -> _NodeList:
        """The nodes, in order: they can be counted, and walked through while nodes come and go."""
        return _NodeList(self)

    def find_nodes(self, *, op: str, target: Target | None = None, sort: bool = True) -> list[Node]:
        """The nodes of a kind, and of a target for functions, methods and so on."""
        return [n for n in self.nodes if n.op == op and (target is None or n.target == target)]

    def output_node(self) -> Node:
        """The node that names the result."""
        return self.find_nodes(op="output")[-1]

    # -- making nodes --------------------------------------------------------------------------------------------------

    def create_node(self, op: str, target: Target, args: tuple | None = None, kwargs: dict[str, Any] | None = None,
                    name: str | None = None, type_expr: Any = None) -> Node:
        """A new node at the place of insertion, which is the end but inside ``inserting_before`` and ``inserting_after``."""
        candidate = name if name is not None else self._target_to_str(target)
        name = self._graph_namespace.create_name(candidate, None)
        node = Node(self, name, op, target, args or (), kwargs or {}, type_expr)
        self._graph_namespace.associate(name, node)
        self._insert(node)
        self._len += 1
        return node

    def _target_to_str(self, target: Target) -> str:
        if callable(target):
            name = getattr(target, "__name__", type(target).__name__)
        else:
            name = target[2:-2] if len(target) > 4 and target.startswith("__") and target.endswith("__") else target
        return snake_case(name)

    def placeholder(self, name: str, type_expr: Any = None, default_value: Any = ...) -> Node:
        """An argument of the function."""
        return self.create_node("placeholder", name, () if default_value is ... else (default_value,), type_expr=type_expr)

    def get_attr(self, qualified_name: str, type_expr: Any = None) -> Node:
        """A parameter, buffer or other attribute of the module."""
        return self.create_node("get_attr", qualified_name, type_expr=type_expr)

    def call_module(self, module_name: str, args: tuple | None = None, kwargs: dict[str, Any] | None = None, type_expr: Any = None) -> Node:
        """A call of a module that the module holds."""
        return self.create_node("call_module", module_name, args, kwargs, type_expr=type_expr)

    def call_method(self, method_name: str, args: tuple | None = None, kwargs: dict[str, Any] | None = None, type_expr: Any = None) -> Node:
        """A call of a method of ``args[0]``."""
        return self.create_node("call_method", method_name, args, kwargs, type_expr=type_expr)

    def call_function(self, the_function: Callable[..., Any], args: tuple | None = None, kwargs: dict[str, Any] | None = None,
                      type_expr: Any = None, name: str | None = None) -> Node:
        """A call of a function."""
        return self.create_node("call_function", the_function, args, kwargs, name=name, type_expr=type_expr)

    def output(self, result: Argument, type_expr: Any = None) -> Node:
        """The result: nodes, nested as they are to be returned."""
        return self.create_node("output", "output", (result,), type_expr=type_expr)

    def node_copy(self, node: Node, arg_transform: Callable[[Node], Argument] = lambda x: x) -> Node:
        """A node of another graph here; ``arg_transform`` gives the nodes here for the nodes there."""
        args, kwargs = map_arg(node.args, arg_transform), map_arg(node.kwargs, arg_transform)
        made = self.create_node(node.op, node.target, args, kwargs, node.name, node.type)
        made.meta = copy.copy(node.meta)
        return made

    def graph_copy(self, g: Graph, val_map: dict[Node, Node], return_output_node: bool = False) -> Any:
        """All nodes of another graph but its output, at the place of insertion; returns what the output named, or None."""
        for node in g.nodes:
            if node in val_map:
                continue
            if node.op == "output":
                result = map_arg(node.args[0], lambda n: val_map[n])
                return (result, node) if return_output_node else result
            val_map[node] = self.node_copy(node, lambda n: val_map[n])
        return None

    def __deepcopy__(self, memo: Any = None) -> Graph:
        made = Graph(tracer_cls=self._tracer_cls)
        found: dict[Node, Node] = {}
        result = made.graph_copy(self, found, return_output_node=True)
        if result is not None:
            made.output(result[0], result[1].type).meta = copy.copy(result[1].meta)
        return made

    # -- changing them -------------------------------------------------------------------------------------------------

    def erase_node(self, to_erase: Node) -> None:
        """Remove a node that nobody uses.

        Raises:
            RuntimeError: somebody uses it.
        """
        if to_erase.users:
            raise RuntimeError(f"Tried to erase Node {to_erase} but it still had {len(to_erase.users)} users in the graph: "
                               f"{to_erase.users}!")
        if to_erase.graph is not self:
            raise RuntimeError(f"Attempting to remove {to_erase} from wrong graph!")
        if to_erase._erased:
            return
        to_erase.unlink()
        to_erase._erased = True
        self._len -= 1
        to_erase._take((), {})

    @contextlib.contextmanager
    def _inserting(self, insert: Callable[[Node], None]) -> Iterator[None]:
        before, self._insert = self._insert, insert
        try:
            yield
        finally:
            self._insert = before

    def inserting_before(self, n: Node | None = None) -> Any:
        """Inside, new nodes come before ``n``; before everything without it."""
        return self.inserting_after(self._root) if n is None else self._inserting(n.prepend)

    def inserting_after(self, n: Node | None = None) -> Any:
        """Inside, new nodes come behind ``n``, one behind the other; at the end without it."""
        return self.inserting_before(self._root) if n is None else self._inserting(n._next.prepend)

    def eliminate_dead_code(self, is_impure_node: Callable[[Node], bool] | None = None) -> bool:
        """Remove the nodes that nobody uses, and that do nothing but compute; returns whether there were any."""
        self.lint()
        found = False
        for node in reversed(self.nodes):
            if not node.users and not (is_impure_node or Node.is_impure)(node):
                self.erase_node(node)
                found = True
        return found

    def lint(self) -> None:
        """Check that nodes come after what they use, have names of their own, and name what the module has.

        Raises:
            RuntimeError: a node does not.
        """
        seen: set[Node] = set()
        names: set[str] = set()
        for node in self.nodes:
            if node.graph is not self:
                raise RuntimeError(f"Node '{node}' does not belong to this Graph!")
            for used in node.all_input_nodes:
                if used.graph is not self:
                    raise RuntimeError(f"Argument '{used}' of Node '{node}' does not belong to this Graph, but was used as an argument! "
                                       "If you are copying nodes from another graph, make sure to use ``arg_transform`` on node_copy() to "
                                       f"remap values\n{self}")
                if used not in seen:
                    raise RuntimeError(f"Argument '{used}' of Node '{node}' was used before it has been defined! Please check that Nodes "
                                       f"in the graph are topologically ordered\n{self}")
            if node.name in names:
                raise RuntimeError(f"Node redefined name {node.name}!")
            seen.add(node)
            names.add(node.name)
            if self.owning_module is not None and node.op in ("get_attr", "call_module"):
                held: Any = self.owning_module
                for part in str(node.target).split("."):
                    held = getattr(held, part, None)
                    if held is None:
                        raise RuntimeError(f"Node {node} target {node.target} references nonexistent attribute {part}")

    # -- showing them --------------------------------------------------------------------------------------------------

    def python_code(self, root_module: str, *, verbose: bool = False) -> PythonCode:
        """A function ``forward`` that computes the graph; attributes are those of ``root_module``."""
        return python_code(self, root_module)

    def print_tabular(self) -> None:
        """Print opcode, name, target and arguments of all nodes, one a line."""
        rows = [("opcode", "name", "target", "args", "kwargs")]
        rows += [(n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in self.nodes]
        widths = [max(map(len, column)) for column in zip(*rows)]
        rule = "  ".join("-" * w for w in widths)
        print("\n".join(["  ".join(x.ljust(w) for x, w in zip(row, widths)).rstrip() for row in rows[:1]] + [rule] + [
            "  ".join(x.ljust(w) for x, w in zip(row, widths)).rstrip() for row in rows[1:]]))

    def __str__(self) -> str:
        returned = [""]
        lines = [node.format_node(None, returned) for node in self.nodes]
        return "".join([f"graph(){returned[0]}:", *[f"\n    {line}" for line in lines if line]])
