"""What is known of calls of public functions: which were made at a point of a trace, and which can be remembered.

``quick.py`` asks; this module is where a call is looked at the first time.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile.dtypes import DType
from ..record.trace import Call, Trace, TraceNode
from ..record.value import Epoch, looks
from .apply import value_of
from .handle import LEAF, Handle
from .node import GradNode
from .steps import A_LEAF, ATOM, LEAF_VALUE, NO, OLD_PART, PART, SLOT, VIEW, YES, Shape, step_for

__all__ = ["ATOMS", "PLAIN_TENSORS", "Attempt", "Function", "search"]

PLAIN_TENSORS: set[type] = set()  # classes of tensors without behaviour of their own; the rooms above add theirs
ATOMS: set[type] = {int, bool, str, type(None), type(Ellipsis), DType, float, slice}  # equal ones of one of these types are the same
SEQUENCES: set[type] = {tuple, list}  # of atoms or of tensors; the rooms above add theirs

PATIENCE = 32  # calls with nothing to remember, after which a function is always called in full
KNOWN = 32     # calls of one function that one node keeps; the oldest are forgotten


class Function:
    """What is known of a public function: at which of its arguments ``*args`` and ``**kwargs`` stand (-1: it has none), and whether
    looking for its calls has been worth while."""

    __slots__ = ("star", "stars", "patience")

    def __init__(self, star: int, stars: int) -> None:
        self.star, self.stars = star, stars
        self.patience = PATIENCE


class Attempt:
    """A call that is going to be made in full, and remembered if it turns out to be nothing but one record.

    Attributes:
        start: the node where it begins; ``epoch``, ``seen``, ``slot``: the epoch, the looks at content and the next slot then.
        given: the arguments.
    """

    __slots__ = ("function", "trace", "start", "epoch", "seen", "slot", "given")

    def __init__(self, function: Function, tr: Trace, given: tuple[Any, ...]) -> None:
        self.function, self.trace, self.given = function, tr, given
        self.start, self.epoch, self.seen, self.slot = tr.node, tr.epoch, looks.count, len(tr.values)

    def keep(self, out: Any) -> Any:
        """Remember the call, whose result was ``out``; returns ``out``."""
        tr = self.trace
        self.function.patience -= 1
        if tr.epoch is self.epoch and looks.count == self.seen and not tr.full:
            call = remember(self, out)
            if call is not None:
                self.function.patience = PATIENCE
                start = self.start
                if start.calls is None:
                    start.calls = {}
                known = start.calls.setdefault(self.function, [])
                known.append(call)
                if len(known) > KNOWN:
                    del known[0]
                start.last = call
        return out


class _Vain(Attempt):
    """Where there is nothing to remember."""

    __slots__ = ()

    def __init__(self) -> None:
        """It knows of no call."""

    def keep(self, out: Any) -> Any:
        return out


_vain = _Vain()


def search(function: Function, tr: Trace, given: tuple[Any, ...]) -> Any:
    """The result of the call, if it was made here before; else an attempt to remember it.

    Tensors whose memory was written through others are brought up to date first, which may record.
    """
    if tr.full or not function.patience:
        return _vain
    for a in given:
        if isinstance(a, Handle):
            value_of(a)
        elif type(a) is list or type(a) is tuple:
            for t in a:
                if isinstance(t, Handle):
                    value_of(t)
    node = tr.node
    for call in () if node.calls is None else node.calls.get(function, ()):
        out = call.step(tr, call.facts, *given)
        if out is not None:
            node.last = call
            return out
    return Attempt(function, tr, given)


class _Sorted:
    """Arguments apart: their kinds (of groups: of their items), the tensors among them, and what a step's facts hold of each."""

    __slots__ = ("kinds", "tensors", "facts")

    def __init__(self) -> None:
        self.kinds: list[Any] = []
        self.tensors: list[Handle] = []
        self.facts: list[Any] = []


def _sort(attempt: Attempt) -> _Sorted | None:
    """The arguments of a call that has been made; None where one is neither a tensor nor an atom."""
    found = _Sorted()
    values = attempt.trace.values

    def kind_of(a: Any) -> str | None:
        if type(a) in PLAIN_TENSORS:
            v = a._value
            if v.epoch is not attempt.epoch:
                return None
            found.tensors.append(a)
            found.facts.append(v.meta if v.slot >= attempt.slot else v.slot)
            if v.slot >= attempt.slot:
                return PART if v.buffer is None else LEAF_VALUE
            return OLD_PART if values[v.slot] is not v else SLOT if v.origin is None else VIEW
        if a is None or a is True or a is False:
            return repr(a)
        if not _is_atom(a):
            return None
        found.facts.append(_frozen(a))
        return ATOM

    for k, a in enumerate(attempt.given):
        if k == attempt.function.stars:
            pairs = [(name, kind_of(item)) for name, item in a.items()]
            kind: Any = None if any(item is None for _, item in pairs) else ("**", tuple(pairs))
        elif k == attempt.function.star or type(a) in SEQUENCES and any(isinstance(item, Handle) for item in a):
            items = tuple([kind_of(item) for item in a])
            kind = None if None in items else ("*" if k == attempt.function.star else "[]", items)
        else:
            kind = kind_of(a)
        if kind is None:
            return None
        found.kinds.append(kind)
    return found


def _is_atom(a: Any) -> bool:
    if type(a) in SEQUENCES:
        return all(map(_is_atom, a))
    if type(a) is slice:
        return _is_atom(a.start) and _is_atom(a.stop) and _is_atom(a.step)
    return type(a) in ATOMS and a == a  # NaN would never be found


def _frozen(a: Any) -> Any:
    """An atom that nobody can change: lists are copied."""
    return [_frozen(item) for item in a] if type(a) is list else a


def remember(attempt: Attempt, out: Any) -> Call | None:
    """What a call recorded, if the call was nothing but the recording of one operation, or of views of its tensor."""
    tr, epoch = attempt.trace, attempt.epoch
    node = tr.node
    if node is attempt.start or node.op is None:
        return None
    found = _sort(attempt)
    if found is None or not found.tensors:
        return None
    tensors = found.tensors
    slots = [t._value.slot for t in tensors]
    entering = sorted([i for i, s in enumerate(slots) if s >= attempt.slot], key=slots.__getitem__)
    shape = Shape(tuple(found.kinds), entering=tuple(entering), grad=tr.grad_enabled,
                  wants=tuple([NO if t._edge is None else A_LEAF if t._edge is LEAF else YES for t in tensors]))
    if type(out) in (tuple, list) and len(tensors) == 1:
        nodes = _pieces(tr, attempt, out, tensors[0])
        if nodes is None:
            return None
        return Call(attempt.function, step_for(shape._replace(pieces=True)), (node, (nodes, type(out)), 0, None, *found.facts))
    if not _is_result(out, node, epoch):
        return None
    nr = out._value.slot - node.slot
    inputs = _order(slots, node.inputs)
    if inputs is None or [slots[i] for i in entering] != list(range(attempt.slot, node.slot)):
        return None
    if not _begins(node.parent, attempt.start, len(entering)):
        return None
    is_view = out._alias is not None or out._value.origin is not None
    if is_view and (len(tensors) > 1 or len(node.metas) > 1 or not _is_view(out, node, tensors[0])):
        return None
    taken = [tensors[i] for i in inputs]
    if not _is_linked(out, node, taken):
        return None
    shape = shape._replace(inputs=inputs, is_view=is_view, results=len(node.metas), nr=nr)
    in_metas = None
    if out._edge is not None:
        in_metas, keeps, outs = node.saves[sum([1 << i for i, t in enumerate(taken) if t._edge is not None])]
        outs = (outs,) * len(node.metas) if type(outs) is bool else outs
        shape = shape._replace(linked=True, keeps=keeps, outs=outs)
    return Call(attempt.function, step_for(shape), (node, out._value.meta, out._value.slot, in_metas, *found.facts))


def _pieces(tr: Trace, attempt: Attempt, out: Sequence[Any], t: Handle) -> tuple[TraceNode, ...] | None:
    """The nodes of several views of one tensor, in order."""
    nodes: list[TraceNode] = []
    node: Any = tr.node
    for piece in reversed(out):
        if node.op is None or len(node.metas) > 1 or node.inputs != (t._value.slot,):
            return None
        if not (_is_result(piece, node, tr.epoch) and _is_view(piece, node, t) and _is_linked(piece, node, (t,))):
            return None
        nodes.append(node)
        node = node.parent
    if not nodes or not _begins(node, attempt.start, 1 if t._value.slot >= attempt.slot else 0):
        return None
    return tuple(reversed(nodes))


def _is_result(out: Any, node: TraceNode, epoch: Epoch) -> bool:
    """Whether ``out`` is a fresh result of a recorded operation."""
    if type(out) not in PLAIN_TENSORS or node.stop:
        return False
    made = out._value
    return made.epoch is epoch and 0 <= made.slot - node.slot < len(node.metas) and made.home is None


def _is_view(out: Any, node: TraceNode, t: Handle) -> bool:
    alias = out._alias
    return node.op.is_view and alias is not None and alias.parent is t._alias and alias.how is node


def _is_linked(out: Any, node: TraceNode, tensors: Sequence[Handle]) -> bool:
    """Whether the graph node of ``out``, if it has one, is the one that the operation on these tensors has."""
    edge = out._edge
    if edge is None:
        return True
    if type(edge) is tuple:
        edge, nr = edge
        if nr != out._value.slot - node.slot:
            return False
    return isinstance(edge, GradNode) and edge.node is node and edge.rare is None and all(
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
    left = list(range(len(slots)))
    order = []
    for s in inputs:
        k = next((k for k in left if slots[k] == s), None)
        if k is None:
            return None
        left.remove(k)
        order.append(k)
    return None if left else tuple(order)
