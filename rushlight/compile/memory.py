"""Where every stored value lies: in a leaf, in a result, or in the arena, whose space is used again as values die."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

from .body import Body
from .flags import flags
from .fuse_rules import memory_base
from .fusion import Fusion
from .graph import Graph, Node
from .group import Group

__all__ = ["Plan", "Place", "donate", "plan_memory", "ALIGN"]

ALIGN = 64
Place = tuple[str, int]  # ("leaf" | "result" | "arena", number or byte offset)


@dataclass
class Plan:
    """``place`` of each stored value (of aliases: of their origin); ``late``: results to be copied from the arena at the
    end, (value, result number); ``scratch`` of each group; ``size`` of the arena in bytes."""

    place: dict[Node, Place] = field(default_factory=dict)
    late: list[tuple[Node, int]] = field(default_factory=list)
    scratch: dict[Group, int] = field(default_factory=dict)
    size: int = 0


def donate(graph: Graph, fusion: Fusion, bodies: dict[Group, Body], donations: dict[int, int]) -> dict[int, int]:
    """The donations under which a result can be written straight over its leaf; adds the order that they need.

    The others are computed elsewhere and copied at the end.
    """
    direct = {}
    for result, leaf in donations.items():
        node, source = fusion.origin(graph.results[result]), graph.leaves[leaf]
        home = fusion.home[node]
        readers = [g for g in dict.fromkeys(fusion.readers.get(source, ())) if g is not home]
        reads_here = home in fusion.readers.get(source, ())
        if home.kind == "join" and (readers or reads_here) or any(fusion.groups.needs(g, home) for g in readers):
            continue
        if reads_here and (_is_operand(home, source, fusion) or not _same_places(bodies.get(home), node, source, fusion)):
            continue
        for reader in readers:
            fusion.groups.add_edge(home, reader)
        direct[result] = leaf
    return direct


def _is_operand(group: Group, source: Node, fusion: Fusion) -> bool:
    """Whether a contraction multiplies by ``source``, which it reads again and again."""
    return group.kind == "contract" and group.anchor is not None and any(
        fusion.origin(memory_base(x)) is source for x in group.anchor.inputs)


def _same_places(body: Body | None, node: Node, source: Node, fusion: Fusion) -> bool:
    """Whether the kernel reads ``source`` only where, and no later than, it writes ``node``."""
    if body is None:
        return False
    put = next((p for p in body.puts if p.node is node), None)
    if put is None:
        return False
    kept = set(body.kept)
    for value in body.values:
        if value.kind == "load" and fusion.origin(value.node) is source:  # type: ignore[arg-type]
            inside = all(a in kept for a, _ in value.at.terms)
            if value.at != put.at or value.conds or body.reduced and not inside or value.dtype.itemsize != node.dtype.itemsize:
                return False
    return True


def plan_memory(graph: Graph, fusion: Fusion, order: list[Group], bodies: dict[Group, Body],
                donations: dict[int, int], direct: dict[int, int], scratch: dict[Group, int]) -> Plan:
    """Place every stored value; ``order`` is the order of execution, ``scratch`` the extra bytes that groups need."""
    plan = Plan()
    for k, leaf in enumerate(graph.leaves):
        plan.place[leaf] = ("leaf", k)
    for k, node in enumerate(graph.results):
        origin = fusion.origin(node)
        if k in donations and k not in direct:
            plan.late.append((origin, k))
        else:
            plan.place[origin] = ("result", k)
    when = {g: i for i, g in enumerate(order)}
    first: dict[Node, int] = {}
    last: dict[Node, int] = {}
    late = {node for node, _ in plan.late}
    for node, group in fusion.home.items():
        origin = fusion.origin(node)
        if origin in plan.place:
            continue
        first[origin] = min(first.get(origin, len(order)), when[group])
        last[origin] = max(last.get(origin, -1), when[group])
    for group in order:
        if group.kind == "part" and group.anchor is not None and fusion.origin(group.anchor) in first:
            origin = fusion.origin(group.anchor)
            first[origin] = min(first[origin], when[group])
            last[origin] = max(last[origin], when[group])
    for node, readers in fusion.readers.items():
        if node in first:
            last[node] = max(last[node], *(when[g] for g in readers), -1) if readers else last[node]
    for node in late:
        last[node] = len(order)
    births: dict[int, list[Node]] = {}
    deaths: dict[int, list[Node]] = {}
    for node, step in first.items():
        births.setdefault(step, []).append(node)
        deaths.setdefault(last[node], []).append(node)
    space = _Space()
    for step, group in enumerate(order):
        dying = deaths.get(step, [])
        for node in births.get(step, ()):
            heir = None
            if flags.inplace and group.kind == "loops":
                heir = _inheritance(node, group, dying, bodies, fusion, plan)
            elif flags.inplace and group.kind == "native":
                heir = _overwritten(node, group, dying, fusion, plan)
            if heir is not None:
                dying = [d for d in dying if d is not heir]
                plan.place[node] = plan.place[heir]
            else:
                plan.place[node] = ("arena", space.take(_bytes(node)))
        extra = None
        if scratch.get(group):
            extra = plan.scratch[group] = space.take(scratch[group])
        for node in dying:
            space.give(plan.place[node][1])
        if extra is not None:
            space.give(extra)
    plan.size = space.size
    return plan


def _bytes(node: Node) -> int:
    return math.prod(node.shape) * node.dtype.itemsize


def _inheritance(node: Node, group: Group, dying: list[Node], bodies: dict[Group, Body], fusion: Fusion,
                 plan: Plan) -> Node | None:
    """A value that dies here and whose memory the kernel may overwrite with ``node`` as it goes."""
    body = bodies.get(group)
    if body is None or body.reduced:
        return None
    for other in dying:
        if (fusion.home.get(other) is not group and _bytes(other) == _bytes(node) and other in plan.place
                and any(v.kind == "load" and fusion.origin(v.node) is other for v in body.values)  # type: ignore[arg-type]
                and _same_places(body, node, other, fusion)):
            return other
    return None


def _overwritten(node: Node, group: Group, dying: list[Node], fusion: Fusion, plan: Plan) -> Node | None:
    """The operand of a native call that dies here, if the call may write ``node`` over it."""
    call = group.anchor
    assert call is not None
    if node.kind != "item" or node.inputs[0] is not call or node.attrs[0] not in call.attrs[0].overwrites:
        return None
    operands = [fusion.origin(memory_base(x)) for x in call.inputs]
    source = operands[call.attrs[0].overwrites[node.attrs[0]]]
    fits = source in dying and _bytes(source) == _bytes(node) and plan.place[source][0] == "arena"
    return source if fits and operands.count(source) == 1 else None


class _Space:
    """Offsets in the arena: the lowest gap that fits."""

    def __init__(self) -> None:
        self.size = 0
        self._used: list[tuple[int, int]] = []  # sorted (offset, end)

    def take(self, nbytes: int) -> int:
        nbytes = max(ALIGN, -(-nbytes // ALIGN) * ALIGN)
        at = 0
        for k, (start, end) in enumerate(self._used):
            if start - at >= nbytes:
                self._used.insert(k, (at, at + nbytes))
                return at
            at = end
        self._used.append((at, at + nbytes))
        self.size = max(self.size, at + nbytes)
        return at

    def give(self, at: int) -> None:
        self._used = [u for u in self._used if u[0] != at]
