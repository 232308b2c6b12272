"""A backward that was walked before, from the same point of a trace over the same graph, is one step along the trie.

The first walk records gradient operations one by one. What it recorded is kept at the trie node where it began, together
with a description of the graph. The next backward there describes its own graph, in one light pass; if the two are equal,
recording moves straight to where the walk ended, and only the gradients of the leaves become tensors.
"""
from __future__ import annotations

from typing import Any

from ..record.trace import Trace, TraceNode
from ..record.value import Buffer, Epoch, Value, new_value
from .handle import LEAF, Handle, make
from .node import GradNode

__all__ = ["describe", "replay", "remember", "Description"]

# Fills the slots of values that nobody refers to; its buffer keeps it from being taken for a live pending value.
_DEAD = new_value(None)  # type: ignore[arg-type]
_DEAD.buffer = Buffer(0, 0, None)


class Description:
    """The graph below a root: ``signature`` is equal for equal graphs; ``nodes`` and ``leaves`` are what it was read from."""

    __slots__ = ("signature", "nodes", "leaves")

    def __init__(self, signature: list[Any], nodes: list[GradNode], leaves: list[Handle]) -> None:
        self.signature, self.nodes, self.leaves = signature, nodes, leaves


class Recipe:
    """Where a walk ended, and the slots of the leaves' gradients in the order of the description."""

    __slots__ = ("signature", "end", "slots", "dead")

    def __init__(self, signature: list[Any], end: TraceNode, slots: list[int], count: int) -> None:
        self.signature, self.end, self.slots, self.dead = signature, end, slots, [_DEAD] * count


def describe(root: Handle, epoch: Epoch) -> Description | None:
    """The graph below ``root`` if a walk of it depends on nothing else: everything was recorded in this epoch, there are
    no hooks, no gradients to add to, and no saved value was overwritten."""
    edge = root._edge
    if not isinstance(edge, GradNode):
        return None
    nodes = [edge]
    number = {edge: 0}
    leaves: list[Handle] = []
    leaf_number: dict[int, int] = {}
    signature: list[Any] = [root._value.slot]
    put = signature.append
    writes = epoch.writes
    for n in nodes:  # grows while it is read
        if n.epoch is not epoch or n.rare is not None or n.in_metas is None or writes and _overwritten(n):
            return None
        put(n.node)
        for edge in n.edges:
            if edge is None:
                put(None)
                continue
            nr = 0
            if type(edge) is tuple:
                edge, nr = edge
            if isinstance(edge, GradNode):
                k = number.get(edge)
                if k is None:
                    k = number[edge] = len(nodes)
                    nodes.append(edge)
                put((k, nr) if nr else k)
            elif isinstance(edge, Handle):
                k = leaf_number.get(id(edge))
                if k is None:
                    if edge._more is not None or edge._grad is not None or edge._edge is not LEAF:
                        return None
                    k = leaf_number[id(edge)] = len(leaves)
                    leaves.append(edge)
                put(-1 - k)
            else:
                return None
    return Description(signature, nodes, leaves)


def _overwritten(n: GradNode) -> bool:
    """Whether something that a node saved was written over."""
    for v in n.kept:
        if v is not None and (v.overwritten is not None or v.origin is not None and v.origin.overwritten is not None):
            return True
    return any(v is not None and v.overwritten is not None for v in n.kept_outs)


def replay(tr: Trace, found: Description, retain_graph: bool) -> bool:
    """Take the recorded walk of this graph, if there is one."""
    recipe = tr.node.backward
    if recipe is None or recipe.signature != found.signature:
        return False
    epoch, values = tr.epoch, tr.values
    values += recipe.dead
    for leaf, slot in zip(found.leaves, recipe.slots):
        v = values[slot]
        if v is _DEAD:
            v = values[slot] = Value()
            v.meta = leaf._value.meta.plain
            v.epoch = epoch
            v.slot = slot
            v.buffer = v.origin = v.home = v.overwritten = None
        leaf._grad = make(v)
    tr.node = recipe.end
    if not retain_graph:
        for n in found.nodes:
            n.release()
    return True


def remember(start: TraceNode, tr: Trace, epoch: Epoch, before: int, found: Description) -> None:
    """Keep the walk that has just been recorded from ``start`` on."""
    if tr.epoch is not epoch:
        return
    node = tr.node
    while node is not start:
        if node.op is None and not node.is_mark or node.parent is None:  # a value entered that the forward had not used
            return
        node = node.parent
    slots = []
    for leaf in found.leaves:
        grad = leaf._grad
        if grad is None or grad._value.epoch is not epoch or grad._value.slot < before or grad._alias is not None:
            return
        slots.append(grad._value.slot)
    start.backward = Recipe(found.signature, tr.node, slots, len(tr.values) - before)
