"""What is known of calls of public functions: how their arguments become keys, and which calls can be remembered.

``quick.py`` asks; this module is where a call is looked at the first time.
"""
from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from ..compile.dtypes import DType
from ..record.trace import Trace, TraceNode
from ..record.value import Epoch
from .handle import LEAF, Handle
from .node import GradNode

__all__ = ["ATOMS", "PATIENCE", "PLAIN_TENSORS", "Found", "Variant", "plain", "remember"]

PLAIN_TENSORS: set[type] = set()  # classes of tensors without behaviour of their own; the rooms above add theirs
PATIENCE = 32  # calls with nothing to remember, after which a function is always called in full

ATOMS = frozenset({int, bool, str, type(None), DType})  # within one type, what is equal is the same
_ODD = frozenset({float, tuple, list})  # to be looked at: see ``plain``


class _Pattern:
    """Stands in keys for a function with arguments of certain types and names: positions of tensors, a getter of all others,
    and those that need a look."""

    __slots__ = ("tensors", "others", "odd", "patience")

    def __init__(self, kinds: Sequence[type]) -> None:
        self.patience = PATIENCE
        self.tensors = tuple([k for k, kind in enumerate(kinds) if kind in PLAIN_TENSORS])
        self.odd = tuple([k for k, kind in enumerate(kinds) if kind in _ODD])
        others = [k for k in range(len(kinds)) if k not in self.tensors]
        self.others = itemgetter(*others) if others and self.tensors else None


def plain(given: Sequence[Any], odd: Sequence[int]) -> Sequence[Any] | None:
    """The arguments with 0.0 and -0.0 told apart and sequences of integers as tuples; None for other sequences."""
    made = list(given)
    for k in odd:
        a = made[k]
        if type(a) is float:
            if not a:
                made[k] = repr(a)
        else:
            for n in a:
                if type(n) is not int:
                    return None
            made[k] = tuple(a)
    return made


class Variant:
    """What is known of a function: the patterns of its calls after the first argument (those of one positional argument by its
    type alone), and whether looking for its calls has been worth while."""

    __slots__ = ("patience", "patterns")

    def __init__(self) -> None:
        self.patience = PATIENCE
        self.patterns: dict[Any, _Pattern] = {}

    def pattern(self, kinds: Any, names: dict[str, Any]) -> _Pattern | None:
        """The pattern of a call that has none yet; None where a type is none that keys can hold."""
        given = (kinds,) if type(kinds) is type else kinds
        if not all(kind in PLAIN_TENSORS or kind in ATOMS or kind in _ODD for kind in given):
            return None
        found = self.patterns[(kinds, *names) if names else kinds] = _Pattern(given)
        return found


class Found:
    """Where a call arrived, and what its graph node keeps (``in_metas`` None: the result has none): the inputs except those
    at the positions ``drop``, or none of them; and whether the result.

    ``order`` is None where the operation takes the tensors in the order of the arguments, else it gives their positions;
    ``entering`` likewise for those that enter the trace. ``special`` calls are few: they give several views (``pieces``, in a
    ``kind`` of sequence), or one of several results (number ``nr``).
    """

    __slots__ = ("node", "meta", "slot", "in_metas", "keep", "drop", "outs", "is_view", "needs", "order", "entering", "special", "pieces",
                 "kind", "nr")

    def __init__(self, node: TraceNode, plan: tuple[Any, ...], is_view: bool, *, needs: int = 0, order: tuple[int, ...] | None = None,
                 entering: tuple[int, ...] | None = None, pieces: tuple[TraceNode, ...] | None = None, kind: type = tuple,
                 nr: int = 0) -> None:
        self.node, self.meta, self.slot, self.is_view = node, node.meta, node.slot, is_view
        self.needs, self.order, self.entering, self.pieces, self.kind, self.nr = needs, order, entering, pieces, kind, nr
        self.special = pieces is not None or len(node.metas) > 1
        self.in_metas, mask, outs = plan
        self.outs = outs if type(outs) is bool else outs[0]
        self.keep = mask is not None
        self.drop = tuple([k for k, m in enumerate(mask or ()) if not m])


def remember(tr: Trace, before: TraceNode, key: tuple, out: Any, tensors: Sequence[Handle], entering: int) -> bool:
    """Keep what a call recorded, if the call was nothing but the recording of one operation, or of views of its tensor."""
    node, epoch = tr.node, tr.epoch
    if tr.exported or node.op is None or len(key) > 3 and _has_nan(key[3]):  # a key with NaN would never be found
        return False
    if any(t._value.epoch is not epoch for t in tensors):
        return False
    if type(out) in (tuple, list) and len(tensors) == 1:
        return _remember_pieces(tr, before, key, out, tensors[0], entering)
    if not _is_result(out, node, epoch):
        return False
    nr = out._value.slot - node.slot
    order = _order([t._value.slot for t in tensors], node.inputs)
    if order is None:
        return False
    first = node.slot - entering  # the slots of what entered
    came = [s for s in node.inputs if s >= first]
    if came != list(range(first, node.slot)) or not _begins(node.parent, before, entering):
        return False
    alias = out._alias
    if alias is not None or out._value.origin is not None:
        if len(tensors) > 1 or len(node.metas) > 1 or not _is_view(out, node, tensors[0]):
            return False
    taken = [tensors[k] for k in order]
    if not _is_linked(out, node, taken):
        return False
    needs = sum([1 << i for i, t in enumerate(taken) if t._edge is not None])
    plan = node.saves[needs] if out._edge is not None else (None, None, False)
    straight = order == tuple(range(len(order)))
    enters = tuple([t._value.slot - first for t in tensors if t._value.slot >= first])  # of each that entered: when
    before.quick[key] = Found(node, plan, alias is not None, needs=needs, nr=nr, order=None if straight else order,
                              entering=None if straight else tuple([enters.index(i) for i in range(entering)]))
    return True


def _remember_pieces(tr: Trace, before: TraceNode, key: tuple, out: Sequence[Any], t: Handle, entering: int) -> bool:
    nodes: list[TraceNode] = []
    node: Any = tr.node
    for piece in reversed(out):
        if node.op is None or len(node.metas) > 1 or node.inputs != (t._value.slot,):
            return False
        if not (_is_result(piece, node, tr.epoch) and _is_view(piece, node, t) and _is_linked(piece, node, (t,))):
            return False
        nodes.append(node)
        node = node.parent
    if not nodes or not _begins(node, before, entering):
        return False
    before.quick[key] = Found(tr.node, (None, None, False), True, pieces=tuple(reversed(nodes)), kind=type(out))
    return True


def _is_result(out: Any, node: TraceNode, epoch: Epoch) -> bool:
    """Whether ``out`` is a fresh result of a recorded operation."""
    if type(out) not in PLAIN_TENSORS or node.stop:
        return False
    made = out._value
    return made.epoch is epoch and 0 <= made.slot - node.slot < len(node.metas) and made.home is None


def _is_view(out: Any, node: TraceNode, t: Handle) -> bool:
    alias = out._alias
    return node.op.is_view and alias is not None and alias.parent is t._alias and alias.op is node.op and alias.attrs == node.attrs


def _is_linked(out: Any, node: TraceNode, tensors: Sequence[Handle]) -> bool:
    """Whether the graph node of ``out``, if it has one, is the one that the operation on these tensors has."""
    edge = out._edge
    if edge is None:
        return True
    if type(edge) is tuple:
        edge, nr = edge
        if nr != out._value.slot - node.slot:
            return False
    return type(edge) is GradNode and edge.node is node and edge.rare is None and all(
        (t if t._edge is LEAF else t._edge) is e for t, e in zip(tensors, edge.edges, strict=True))


def _begins(node: Any, before: TraceNode, entering: int) -> bool:
    """Whether ``node`` is where so many leaves lead to from ``before``."""
    for _ in range(entering):
        if node.op is not None or node.is_mark:
            return False
        node = node.parent
    return node is before


def _order(slots: Sequence[int], inputs: Sequence[int]) -> tuple[int, ...] | None:
    """Which of ``slots`` each of ``inputs`` is, all of them once."""
    if len(slots) != len(inputs):
        return None
    left = list(range(len(slots)))
    order = []
    for s in inputs:
        k = next((k for k in left if slots[k] == s), None)
        if k is None:
            return None
        left.remove(k)
        order.append(k)
    return tuple(order)


def _has_nan(part: Any) -> bool:
    return any(_has_nan(p) for p in part) if type(part) is tuple else part != part
