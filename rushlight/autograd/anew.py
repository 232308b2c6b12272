"""Calls where nobody has been: what is known of a call holds anywhere in the trie, at other slots.

A call depends on its arguments: on the metas of its tensors, how they lie in the trace, which want a gradient, and the rest by
identity. So where the same call was made twice at points that were new, it is written down apart from where it was made: its
operations, with slots counted from where it began. Made a third time, at another new point, it is not run: the nodes are added to the
trie from what is written down, and the values come from a step like that of a call at a known point. A tree of a new form, an episode
of a new length, a layer like the one before: most of what they call, and nearly all of their gradient rules.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..record.trace import Trace, TraceNode
from .apply import Restrided
from .given import Made
from .handle import Handle
from .steps import STRETCH
from .varying import varying

__all__ = ["MOST", "SEEN", "Template", "template"]

MOST = 4096  # what one thread knows, by function and metas
SEEN = 2     # calls at new points, the last of which is written down


class Template:
    """A call apart from where it was made.

    Attributes:
        step: makes it (``steps.step_for``), with ``facts``; ``plain``: the step for when the point is known.
        base: the slot where it began.
        slots: (number of the fact, number of the tensor, slot, whether it is no view, whether the value itself is in the slot) of those
            arguments that are in the trace.
        made: numbers of the facts that have slots of results.
        path: (operation, attributes, inputs, metas, what its gradient keeps) of each node; then: which of these the step is told, one
            or several.
    """

    __slots__ = ("step", "plain", "facts", "base", "slots", "made", "path", "then")

    def __init__(self, made: Made, base: int, slots: Sequence[tuple[int, int, int, bool, bool]], path: Sequence[TraceNode]) -> None:
        self.step, self.plain, self.facts = made.anew(), made.step, made.facts
        self.base, self.slots, self.made = base, slots, made.slots
        self.path = [(n.op, n.attrs, n.inputs, n.metas, dict(n.saves)) for n in path]
        place = {id(n): k for k, n in enumerate(path)}
        self.then: Any = tuple([place[id(n)] for n in made.then]) if type(made.then) is tuple else place[id(made.then)]

    def call(self, tr: Trace, given: tuple[Any, ...], tensors: Sequence[Handle]) -> tuple[Any, tuple, Any, bool] | None:
        """Its result here, its facts and nodes here, and whether all nodes were there; None if this is another call, and nothing is
        done."""
        epoch, values = tr.epoch, tr.values
        where: dict[int, int] = {}
        facts = list(self.facts)
        for at, k, slot, whole, itself in self.slots:
            v = tensors[k]._value
            here = v.slot
            if v.epoch is not epoch or (v.origin is None) is not whole or (values[here] is v) is not itself:
                return None
            if where.setdefault(slot, here) != here:
                return None
            facts[at] = here
        if len(set(where.values())) != len(where):
            return None
        base = len(values)
        delta = base - self.base
        for at in self.made:
            fact = facts[at]
            facts[at] = fact + delta if type(fact) is int else tuple([(meta, slot + delta) for meta, slot in fact])
        nodes = tr.nodes
        then: Any = None

        def walk() -> Any:
            nonlocal then
            then = self._walk(tr, where, delta)
            return then
        out = self.step(tr, walk, facts, *given)
        return None if out is None else (out, tuple(facts), then, tr.nodes == nodes)

    def _walk(self, tr: Trace, where: dict[int, int], delta: int) -> Any:
        """The nodes here; None where recording has to stop at one of them, or a number among the attributes is no constant any more."""
        node, base, slot, passed = tr.node, self.base, len(tr.values), []
        for op, attrs, inputs, metas, saves in self.path:
            if op is None:
                key: tuple = ("leaf", metas[0])
            else:
                inputs = tuple([where[s] if s < base else s + delta for s in inputs])
                key = (op, attrs, *inputs)
            found = node.edges.get(key)
            if found is None:
                if op is not None and op.runtime is not None:  # another number at this place: it may have to become an input
                    start, tr.node = tr.node, node
                    again = varying(tr, op, attrs, inputs)
                    tr.node = start
                    if again is not None:
                        return None
                found = tr.grow(node, key, op, attrs, inputs, metas, slot)
            if saves:  # who remembers a call that has this one in it reads them
                found.saves = {**found.saves, **saves}
            if found.stop or found.sweep:
                return None
            node = found
            passed.append(node)
            slot += len(metas)
        then = self.then
        return passed[then] if type(then) is int else tuple([passed[k] for k in then])


def template(attempt: Any, made: Made, tensors: Sequence[Handle]) -> Template | None:
    """What is known of a call that has been made, apart from where that was; None if it cannot be told apart."""
    epoch = attempt.epoch
    slots = []
    first = len(made.facts) - len(made.found.facts)
    for fact, n in made.found.slots:
        t = made.found.tensors[n]
        k = next((k for k, other in enumerate(tensors) if other is t), None)
        v = made.found.values[n]
        if k is None or v.epoch is not epoch or t._value is not v:
            return None  # an argument by name, or what was written over
        slots.append((first + fact, k, v.slot, v.origin is None, attempt.trace.values[v.slot] is v))
    path: list[TraceNode] = []
    node: Any = attempt.trace.node
    while node is not attempt.start:
        if node.is_mark:
            return None
        path.append(node)
        node = node.parent
    path.reverse()
    known = {slot for _, _, slot, _, _ in slots}
    for node in path:
        if any(s < attempt.slot and s not in known for s in node.inputs):
            return None
        # Where a view lies in its whole is no part of its meta.
        if node.op is Restrided.op and STRETCH not in str(made.found.kinds):
            return None
    return Template(made, attempt.slot, slots, path)
