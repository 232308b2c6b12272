"""Gradient rules where no walk has been, without running them: what a rule recorded for such values, it records again.

A rule is a function of the operation, of what its node keeps and of the incoming gradients; what it records depends on their metas
alone, if it looks at no content. So the second time that a rule meets these metas at a new point of a trace, what it records is
written down, as operations on the values themselves, and from then on recorded without tensors, checks of arguments, and the rule.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..record.flush import flush_trace
from ..record.trace import Trace, TraceNode
from ..record.value import Value, looks
from .apply import enter, value_of
from .garbage import crowded
from .handle import Handle, make
from .varying import varying

__all__ = ["MOST", "Bare", "written_down"]

MOST = 4096  # rules on certain metas that one thread knows


class Bare:
    """What a rule records on values of certain metas, of which certain ones are the same.

    Attributes:
        steps: (operation, attributes, inputs, metas of the results, whether it is a view) of each; an input is the number of an argument,
            or ~k for result k of the steps before.
        given: what the rule gives, likewise; None: nothing.
    """

    __slots__ = ("steps", "given")

    def __init__(self, steps: Sequence[tuple[Any, tuple, tuple[int, ...], tuple, bool]], given: Sequence[int | None]) -> None:
        self.steps, self.given = steps, given

    def record(self, tr: Trace, args: Sequence[Value], grads: Sequence[Handle], first: int) -> Sequence[Any]:
        """The gradients that it gives. ``args``: what the node keeps, from ``first`` on the values of ``grads``."""
        epoch = tr.epoch
        made: list[Any] = []  # values, or tensors that are views
        for op, attrs, inputs, metas, is_view in self.steps:
            if is_view:
                made += op.views(self._tensor(inputs[0], args, grads, first, made), attrs)
                epoch = tr.epoch
                continue
            parts: list[Any] = [op, attrs]
            for k in inputs:
                v = args[k] if k >= 0 else made[~k]
                if type(v) is not Value and isinstance(v, Handle):
                    v = value_of(v)
                parts.append(v.slot if v.epoch is epoch else enter(tr, v, True))
            key = tuple(parts)
            node = tr.node.edges.get(key)
            if node is None:
                again = None if op.runtime is None else varying(tr, op, attrs, key[2:])
                if again is not None:
                    node = tr.record((again.op, again.attrs, *key[2:], *[enter(tr, n._value) for n in again.numbers]))
                else:
                    node = tr.grow(tr.node, key, op, attrs, key[2:], metas, len(tr.values))
            tr.node = node
            slot, values = node.slot, tr.values
            for meta in node.metas:
                if tr.spare:
                    v = tr.spare.pop()
                else:
                    v = Value()
                    v.buffer = v.origin = v.home = v.overwritten = None
                v.meta, v.epoch, v.slot = meta, epoch, slot
                values.append(v)
                made.append(v)
                slot += 1
            if tr.exported or node.stop or node.sweep and crowded(tr):
                v = None  # type: ignore[assignment]  # so that liveness does not count this name
                flush_trace(tr, False)
                epoch = tr.epoch
        return [None if k is None else self._tensor(k, args, grads, first, made) for k in self.given]

    @staticmethod
    def _tensor(k: int, args: Sequence[Value], grads: Sequence[Handle], first: int, made: list[Any]) -> Any:
        if k >= 0:
            return grads[k - first] if k >= first else make(args[k])
        v = made[~k]
        return v if isinstance(v, Handle) else make(v)


def written_down(tr: Trace, start: TraceNode, before: tuple[Any, ...], args: Sequence[Value], grads: Sequence[Handle], first: int,
                 given: Sequence[Any]) -> Bare | None:
    """What a rule has recorded since it stood at ``start``, with the epoch, the next slot and the looks at content ``before``; None if
    that is not all that there is to say."""
    epoch, slot, seen, written = before
    if tr.epoch is not epoch or looks.count != seen or looks.written != written:
        return None
    there = [(k, v) for k, v in enumerate(args) if v.epoch is epoch]
    place = {v.slot: k for k, v in reversed(there)}
    if len(place) < len({id(v) for _, v in there}):
        return None
    path: list[TraceNode] = []
    node: Any = tr.node
    while node is not start:
        if node is None or node.is_mark:
            return None
        path.append(node)
        node = node.parent
    path.reverse()
    steps, made = [], 0
    for node in path:
        if node.slot in place:  # an argument enters
            continue
        if node.op is None:
            if node.slot + 1 not in place:  # a stretch of memory in which an argument lies
                return None  # something else enters
            continue
        if any(s not in place for s in node.inputs):
            return None
        steps.append((node.op, node.attrs, tuple([place[s] for s in node.inputs]), node.metas, node.op.is_view))
        for k in range(len(node.metas)):
            place[node.slot + k] = ~made
            made += 1
    out: list[int | None] = []
    for g in given:
        at = None if g is None else next((first + k for k, one in enumerate(grads) if one is g), None)
        if g is not None and at is None:
            v = g._value
            at = place.get(v.slot) if v.epoch is epoch and tr.values[v.slot] is v else None
            if at is None or g._edge is not None or g._more is not None or (g._alias is not None) is not (at < 0 and _is_view(steps, ~at)):
                return None
        out.append(at)
    return Bare(steps, out)


def _is_view(steps: Sequence[tuple[Any, tuple, tuple[int, ...], tuple, bool]], k: int) -> bool:
    """Whether result ``k`` is a view."""
    for step in steps:
        k -= len(step[3])
        if k < 0:
            return step[4]
    return False
