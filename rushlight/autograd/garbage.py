"""Memory that is only held because something was recorded that nobody asks for any more.

A trace holds what entered it until the next flush. A loop that looks at one image after the other (``from_numpy(a).permute(2, 0, 1)``)
and keeps none of the results reads nothing, so nothing is flushed: the images would stay. So each time that a path has touched so many
bytes more (``TraceNode.sweep``), whoever records there asks how much of that is garbage.
"""
from __future__ import annotations

from sys import getrefcount

from ..record.paths import needed, path_to
from ..record.trace import SWEEP, Trace
from ..record.value import Value
from .handle import View

__all__ = ["crowded"]


def crowded(tr: Trace) -> bool:
    """Whether a flush would give back a good part of the memory that entered the trace since such a look was due."""
    dead = []
    others: dict[int, int] = {}  # references to values, views and tensors that are those of dead views
    for v in reversed(tr.values):
        if type(v) is View and v.origin is not None and getrefcount(v) <= 3 + others.get(id(v), 0):  # the list, v, the argument
            dead.append(v)
            for key in (id(v.origin), id(v.base), id(v.parent)):  # identities: a name for one of them would be a reference
                others[key] = others.get(key, 0) + 1
    seen: set[int] = set()
    for view in dead:
        root = id(view.origin)
        if id(view.storage) not in seen:
            seen.add(id(view.storage))
            others[root] = others.get(root, 0) + 1
        base = view.base
        if base is not None and id(base) not in seen and getrefcount(base) <= 2 + others[id(base)]:  # base, the argument
            seen.add(id(base))
            others[id(base._value)] = others.get(id(base._value), 0) + 1
    wanted = [v.slot for v in tr.values if v.buffer is None and type(v) is not View and getrefcount(v) > 3 + others.get(id(v), 0)]
    gone = set(map(id, dead))
    wanted += [v.slot for v in tr.values if type(v) is View and id(v) not in gone]
    read = {node.slot for node in needed(path_to(tr.node), wanted) if node.op is None}  # by what somebody waits for
    garbage = 0
    for v in tr.values:
        # A part of other memory (its owner is a value) is none of this trace's, and what is overwritten passes on to another value.
        if v.buffer is not None and v.overwritten is None and v.slot not in read and type(v.buffer.owner) is not Value and (
                getrefcount(v) <= 3 + others.get(id(v), 0)):
            garbage += v.buffer.nbytes
    return garbage >= SWEEP // 4
