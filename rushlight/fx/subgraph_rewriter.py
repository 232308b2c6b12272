"""Patterns in graphs, and what takes their place."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..nn.modules.module import Module
from ._symbolic_trace import symbolic_trace
from .graph import Graph
from .graph_module import GraphModule
from .node import Node

__all__ = ["Match", "replace_pattern"]


class Match(NamedTuple):
    """Where a pattern was found: the node of the pattern that gives its result, and the node of the graph for each node of the pattern."""

    anchor: Node
    nodes_map: dict[Node, Node]


def _graph_of(pattern: Any) -> Graph:
    if isinstance(pattern, Graph):
        return pattern
    return pattern.graph if isinstance(pattern, GraphModule) else symbolic_trace(pattern).graph


def _same(a: Any, b: Any, pairs: list[tuple[Node, Node]]) -> bool:
    """Whether arguments are alike but for nodes, which are noted."""
    if isinstance(a, Node):
        if isinstance(b, Node):
            pairs.append((a, b))
            return True
        return False
    if isinstance(a, (tuple, list)):
        return isinstance(b, (tuple, list)) and len(a) == len(b) and all(_same(x, y, pairs) for x, y in zip(a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k], pairs) for k in a)
    return type(a) is type(b) and bool(a == b)


def _match(end: Node, anchor: Node) -> dict[Node, Node] | None:
    """The nodes of a graph for those of a pattern whose last node is ``end``, if ``anchor`` is to be that one."""
    found: dict[Node, Node] = {}
    left = [(end, anchor)]
    while left:
        wanted, node = left.pop()
        if wanted in found:
            if found[wanted] is not node:
                return None
            continue
        found[wanted] = node
        if wanted.op == "placeholder":
            continue
        if (wanted.op, wanted.target) != (node.op, node.target):
            return None
        if not _same(wanted.args, node.args, left) or not _same(wanted.kwargs, node.kwargs, left):
            return None
    inside = {node for wanted, node in found.items() if wanted.op != "placeholder"}
    for wanted, node in found.items():  # what others use of it would be gone
        if wanted.op != "placeholder" and wanted is not end and any(user not in inside for user in node.users):
            return None
    return found


def replace_pattern(gm: GraphModule, pattern: Callable[..., Any] | GraphModule,
                    replacement: Callable[..., Any] | GraphModule) -> list[Match]:
    """Put what ``replacement`` does wherever the graph does what ``pattern`` does; returns where that was.

    Both are functions of the same arguments, which stand for any values; constants in them have to be the same. A place is left as it
    is where something between its first and last node is used by others, or belongs to another place that was found.

    Example:
        >>> traced = rushlight.fx.symbolic_trace(lambda x: torch.relu(x) * 2)
        >>> len(rushlight.fx.replace_pattern(traced, lambda x: torch.relu(x), lambda x: torch.sigmoid(x)))
        1
        >>> traced(torch.zeros(1))
        tensor([1.])
    """
    wanted, new = _graph_of(pattern), _graph_of(replacement)
    end = wanted.output_node().args[0]
    if not isinstance(end, Node):
        raise RuntimeError("a pattern gives one value")
    matches: list[Match] = []
    taken: set[Node] = set()
    for node in gm.graph.nodes:
        found = _match(end, node)
        if found is None:
            continue
        inside = {n for w, n in found.items() if w.op != "placeholder"}
        if not inside or inside & taken:
            continue
        taken |= inside
        matches.append(Match(end, found))
    given, expected = ([n for n in g.nodes if n.op == "placeholder"] for g in (wanted, new))
    changed: dict[Node, Node] = {}
    for match in matches:
        made = {b: changed.get(match.nodes_map[a], match.nodes_map[a]) for a, b in zip(given, expected) if a in match.nodes_map}
        last = match.nodes_map[match.anchor]
        with gm.graph.inserting_before(last):
            result = gm.graph.graph_copy(new, made)
        last.replace_all_uses_with(result)
        changed[last] = result
        for node in sorted({n for w, n in match.nodes_map.items() if w.op != "placeholder"}, key=_position(gm.graph), reverse=True):
            gm.graph.erase_node(node)
    if isinstance(replacement, Module):
        for node in new.nodes:
            if node.op in ("call_module", "get_attr"):
                _take_over(gm, replacement, str(node.target))
    gm.recompile()
    return matches


def _position(graph: Graph) -> Callable[[Node], int]:
    places = {node: k for k, node in enumerate(graph.nodes)}
    return places.__getitem__


def _take_over(gm: GraphModule, source: Any, target: str) -> None:
    """What the replacement holds under a name, in the module, unless it has that."""
    held: Any = gm
    for part in target.split("."):
        held = getattr(held, part, None)
    if held is None:
        from .graph_module import _hold

        _hold(target, source, gm)


