"""Python numbers that keep changing at one place become inputs of the program, so that they never cause a new one.

A place is a node of the trie: what a call with other numbers would record there differs only in these. After a few different
ones the number enters as a zero-dimensional leaf: a learning rate that decays, ``x[i]`` with another ``i`` each time. Programs
that take another path each time (an action picked in each of many steps) would never come by one node often enough; so the
surprises of all places are counted together that a line of the user's has, what they tell holds for all of them, and the paths
with constants from there are forgotten. A loop that takes ``x[0]``, ``x[1]``, ... on one path keeps its constants: there every
node sees one number.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..record.op import Op
from ..record.trace import NOTHING, Trace, TraceNode, user_line
from ..record.value import scalar_value
from .handle import make

__all__ = ["Runtime", "varying"]

# Different numbers at one place that stay constants; one more is too many, as are so many at several places. Operands are worth
# more as constants. Positions pick among few (an action, a class), in many places: what follows differs for each combination.
OPERANDS, POSITIONS = 3, 1


class Runtime(NamedTuple):
    """A call whose numbers are inputs."""

    op: Op
    attrs: tuple
    numbers: Sequence[Any]


def varying(tr: Trace, op: Op, attrs: tuple, slots: Sequence[int]) -> Runtime | None:
    """The call with its numbers as tensors, where they keep changing; None while they are few."""
    found = op.runtime(attrs)
    if found is None:
        return None
    runtime, others, numbers = found
    line = tr.here or user_line(3)
    what = "positions" if op.positions else op  # one line may read and write at the same place
    surprises, most = tr.varying.get((what, line), 0), POSITIONS if op.positions else OPERANDS
    if surprises < most:
        if tr.node.scalars is NOTHING:
            tr.node.scalars = {}
        place = runtime, others, *slots
        seen = tr.node.scalars.setdefault(place, (attrs,))
        if attrs not in seen:
            surprises = tr.varying[what, line] = surprises + 1
            tr.node.scalars[place] = (*seen, attrs)
        if surprises < most:
            return None
        _forget(tr, what, line)
    return Runtime(runtime, others, [make(scalar_value(n)) for n in numbers])


def _forget(tr: Trace, what: Any, line: tuple[str, int] | None) -> None:
    """Cut the paths from the trie that begin with a constant at this line."""
    gone: set[int] = set()
    stack, kept = [tr.root], []
    while stack:
        node = stack.pop()
        kept.append(node)
        for key in [key for key, child in node.edges.items() if _is_constant(child, what, line)]:
            gone.add(id(node.edges.pop(key)))
        stack.extend(node.edges.values())
    for node in kept:
        node.forget_latest()
        if node.calls is not None:
            for known in node.calls.values():
                for calls in known.values():
                    calls[:] = [c for c in calls if not _leads_to(c[1], node, gone)]
    tr.nodes = len(kept)


def _is_constant(node: TraceNode, what: Any, line: tuple[str, int] | None) -> bool:
    op: Any = node.op
    return node.line == line and op is not None and (op is what or what == "positions" and op.positions) and (
        op.runtime(node.attrs) is not None)


def _leads_to(then: TraceNode | tuple[TraceNode, ...], start: TraceNode, gone: set[int]) -> bool:
    """Whether a node of ``gone`` is on the way from ``start`` to ``then``, the last of several."""
    node: TraceNode | None = then[-1] if type(then) is tuple else then  # type: ignore[assignment]
    while node is not None and node is not start:
        if id(node) in gone:
            return True
        node = node.parent
    return False
