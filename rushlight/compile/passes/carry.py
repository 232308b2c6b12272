"""What a backward computes from a saved value alone is computed where that value is, if half of it is computed there anyway.

GELU is ``x * cdf(x)``, its gradient ``g * (cdf(x) + x * pdf(x))``. The forward computes ``cdf(x)``, stores x for the backward, and that
computes ``cdf(x)`` again. Instead the forward stores the bracket: x is not stored, and the backward is a multiplication.

The rule, for a value x that pointwise nodes alone use, some where it is made and one much later, behind other products or
reductions: if what the late one computes from x alone shares a dear function with an early one that is an operand of a product, and so is
stored, a *copy* of that is made. A copy is stored by a kernel of its own, which fusion lets the early nodes join.
"""
from __future__ import annotations

from collections.abc import Mapping

from rushlight.compile.costs import CHEAP, expr_cost
from rushlight.compile.expr import Expr, input_, inputs_of, substitute, walk
from rushlight.compile.graph import Graph, Node
from rushlight.compile.passes.legalise import live_nodes, rebuilt

__all__ = ["carry"]

_BARRIERS = ("contract", "reduce", "scan", "scatter", "native", "host")
_SINGLE = 4  # bytes: what is carried may be float32 where half precision was saved


def carry(graph: Graph) -> Graph:
    """An equal graph, with copies of what late users compute from a value alone."""
    nodes = live_nodes(graph)
    found = _found(graph, nodes)
    if not found:
        return graph

    def carried(out: Graph, node: Node, made: Mapping[Node, Node]) -> Node | None:
        if node not in found:
            return None
        k, part = found[node]
        inputs = [made[i] for i in node.inputs]
        value = out.node("pointwise", (inputs[k],), (_renumbered(part, k, 0),), node.shape, part.dtype)
        inputs[k] = out.node("copy", (value,), ("carried", node.number), node.shape, part.dtype)
        return out.node("pointwise", tuple(inputs), (_with(node.attrs[0], part, input_(k, part.dtype)),), node.shape, node.dtype)
    return rebuilt(graph, nodes, carried)


def _found(graph: Graph, nodes: list[Node]) -> dict[Node, tuple[int, Expr]]:
    """Late users -> (which input, what they compute from it alone)."""
    users: dict[Node, list[Node]] = {}
    depth: dict[Node, int] = {}  # barriers before a node
    for node in nodes:
        depth[node] = max((depth[i] + (i.kind in _BARRIERS) for i in node.inputs), default=0)
        for i in dict.fromkeys(node.inputs):
            users.setdefault(i, []).append(node)
    results = set(graph.results)
    found: dict[Node, tuple[int, Expr]] = {}
    for node in nodes:
        if node.kind != "pointwise" or len(node.inputs) < 2 or expr_cost(node.attrs[0]) <= CHEAP:
            continue
        for k, value in enumerate(node.inputs):
            here = depth[value] + (value.kind in _BARRIERS)
            if value.kind not in ("pointwise", "contract") or value in results or depth[node] <= here or node.inputs.count(value) > 1:
                continue
            early = [u for u in users[value] if u is not node]
            if not early or any(u.kind != "pointwise" or depth[u] != here for u in early):
                continue
            part = _alone(node.attrs[0], k)
            if part is None or part.dtype.itemsize > max(_SINGLE, value.dtype.itemsize):
                continue
            stored = [u for u in early if _is_operand(u, users)]
            known = {f for u in stored for j, i in enumerate(u.inputs) if i is value for f in _dear(u.attrs[0], j)}
            if known & _dear(part, k):
                found[node] = (k, part)
                break
    return found


def _is_operand(node: Node, users: dict[Node, list[Node]]) -> bool:
    """Whether a contraction reads the value, or a view of it."""
    stack, seen = [node], {node}
    while stack:
        for user in users.get(stack.pop(), ()):
            if user.kind == "contract":
                return True
            if user.kind in ("view", "reshape", "pad", "fit") and user not in seen:
                seen.add(user)
                stack.append(user)
    return False


def _alone(expr: Expr, k: int) -> Expr | None:
    """The largest part of a formula that reads input k alone, if that is all it does with it."""
    parts: list[Expr] = []
    stack, seen = [expr], set()
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        inside = inputs_of(n)
        if inside == {k} and not any(m.fn == "index" for m in walk(n)):
            parts.append(n)
        elif k in inside:
            stack.extend(n.args)
    return parts[0] if len(parts) == 1 and parts[0].fn not in ("input", "cast") else None


def _dear(expr: Expr, k: int) -> set[Expr]:
    """The dear functions of input k alone in a formula, written with input 0."""
    return {_renumbered(n, k, 0) for n in walk(expr) if inputs_of(n) == {k} and expr_cost(n) - sum(map(expr_cost, n.args)) > CHEAP}


def _with(expr: Expr, part: Expr, new: Expr) -> Expr:
    return substitute((expr,), lambda n: new if n is part else None)[0]


def _renumbered(expr: Expr, old: int, new: int) -> Expr:
    return substitute((expr,), lambda n: input_(new, n.dtype) if n.fn == "input" and n.attr == old else None)[0]
