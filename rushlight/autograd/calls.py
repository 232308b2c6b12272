"""What is known of calls of public functions: which were made at a point of a trace, and which can be remembered.

``quick.py`` asks; this module is where a call is looked at the first time.
"""
from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_double, c_int64
from typing import Any

from ..compile.dtypes import DType, float64, int64
from ..record.meta import Meta
from ..record.trace import Call, Known, Trace, TraceNode
from ..record.value import Epoch, looks
from .apply import value_of
from .handle import LEAF, Handle, How
from .node import GradNode
from .steps import (
    A_LEAF,
    ATOM,
    INDEX,
    LEAF_VALUE,
    NO,
    NUMBER,
    OLD_PART,
    PART,
    RANGE,
    SLICE,
    SLOT,
    VIEW,
    YES,
    Shape,
    start_of,
    step_for,
)

__all__ = ["ATOMS", "OPERAND", "PLAIN_TENSORS", "POSITION", "Attempt", "Function", "search"]

PLAIN_TENSORS: set[type] = set()  # classes of tensors without behaviour of their own; the rooms above add theirs
ATOMS: set[type] = {int, bool, str, type(None), type(Ellipsis), DType, float, slice}  # equal ones of one of these types are the same
SEQUENCES: set[type] = {tuple, list}  # of atoms or of tensors; the rooms above add theirs

OPERAND, POSITION = "operand", "position"  # what changing numbers are to a function: see ``quick``

KNOWN = 16     # calls of one function, on a first tensor of one meta, that one node keeps; the oldest are forgotten
METAS = 512    # such metas
PATIENCE = 32  # calls in a row with nothing to remember, after which a function is called in full for ...
REST = 1024    # ... so many calls
FAILURES = 8   # ... and after so many of them at one node, always there
TENSORS = 256  # of a call that is remembered, at most: its step has lines for each of them


class Function:
    """What is known of a public function: at which of its arguments ``*args`` and ``**kwargs`` stand (-1: it has none), what
    changing numbers are to it, and whether looking for its calls has been worth while (``patience`` > 0)."""

    __slots__ = ("star", "stars", "numbers", "patience")

    def __init__(self, star: int, stars: int, numbers: str | None = None) -> None:
        self.star, self.stars, self.numbers = star, stars, numbers
        self.patience = PATIENCE


class Attempt:
    """A call that is going to be made in full, and remembered if it turns out to be nothing but one record.

    Attributes:
        start: the node where it begins; ``epoch``, ``seen``, ``slot``: the epoch, the looks at content and the next slot then.
        nodes: how many nodes the trie had.
        given: the arguments; ``meta``: of the first tensor among them.
    """

    __slots__ = ("function", "trace", "start", "epoch", "seen", "slot", "nodes", "given", "meta")

    def __init__(self, function: Function, tr: Trace, given: tuple[Any, ...], meta: Meta | None) -> None:
        self.function, self.trace, self.given, self.meta = function, tr, given, meta
        self.start, self.epoch, self.seen, self.slot, self.nodes = tr.node, tr.epoch, looks.count, len(tr.values), tr.nodes

    def number(self) -> _Number | None:
        """The number that entered with the call, if it can be told which argument that is."""
        node, values = self.trace.node, self.trace.values
        slot = node.slot - 1
        if self.function.numbers is None or not node.inputs or node.inputs[-1] != slot or slot < self.slot:
            return None
        v = values[slot]
        if v.buffer is None or v.meta.shape or v.meta.dtype not in (int64, float64):
            return None
        if v.buffer.flight is not None:  # a tensor, which may have to be computed yet: no number that has just been written
            return None
        if self.function.numbers == OPERAND:
            value = c_double.from_address(v.buffer.ptr).value if v.meta.dtype is float64 else 0.0
            # What is told by its value must be no number that 1 / x, x * x, ... leave as it is.
            return _Number(slot, value) if value not in (0.0, 1.0, -1.0) and value == value else None
        if node.op.name != "cut_at":
            return None
        dim, length, step = node.attrs
        return _Number(slot, c_int64.from_address(v.buffer.ptr).value, values[node.inputs[0]].meta.shape[dim], length, step)

    def keep(self, out: Any) -> Any:
        """Remember the call, whose result was ``out``, if it may come again: it went where somebody had been. Returns ``out``."""
        tr = self.trace
        if tr.nodes != self.nodes:
            return out  # a size that is met once would pay for this, and keep it
        self.function.patience -= 1
        if tr.epoch is self.epoch and looks.count == self.seen and not tr.full:
            call, start = remember(self, out), self.start
            if start.calls is None:
                start.calls = {}
            known = start.calls.get(self.function)
            if known is None:
                known = start.calls[self.function] = Known()
            if call is None:
                known.failures += 1
                return out
            self.function.patience = PATIENCE
            known.failures = 0
            if self.meta not in known and len(known) == METAS:
                del known[next(iter(known))]
            calls = known.setdefault(self.meta, [])
            calls.append(call)
            if len(calls) > KNOWN:
                del calls[0]
            start.last = call
        return out


class _Number:
    """A number that entered as a leaf: its slot and value; of a position also the length of the dimension, how many positions there
    are from it on (None: it alone, without its dimension), and the step between them."""

    __slots__ = ("slot", "value", "size", "length", "step")

    def __init__(self, slot: int, value: Any, size: int = 0, length: int | None = None, step: int = 1) -> None:
        self.slot, self.value, self.size, self.length, self.step = slot, value, size, length, step


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
    if tr.full:
        return _vain
    if function.patience <= 0:
        function.patience -= 1
        if function.patience > -REST:
            return _vain
        function.patience = 1
    meta: Meta | None = None
    for a in given:
        if isinstance(a, Handle):
            fresh = value_of(a).meta
            meta = meta or fresh
        elif type(a) is list or type(a) is tuple:
            for t in a:
                if isinstance(t, Handle):
                    fresh = value_of(t).meta
                    meta = meta or fresh
    node = tr.node
    known = None if node.calls is None else node.calls.get(function)
    if known is not None:
        for call in known.get(meta, ()):
            out = call.step(tr, call.facts, *given)
            if out is not None:
                node.last = call
                return out
        if known.failures >= FAILURES:
            return _vain
    return Attempt(function, tr, given, meta)


class _Sorted:
    """Arguments apart: their kinds (of groups: of their items), the tensors (and the number) among them, and what a step's facts
    hold of each."""

    __slots__ = ("kinds", "tensors", "facts")

    def __init__(self) -> None:
        self.kinds: list[Any] = []
        self.tensors: list[Any] = []
        self.facts: list[Any] = []


def _sort(attempt: Attempt) -> _Sorted | None:
    """The arguments of a call that has been made; None where one is neither a tensor nor an atom."""
    found = _Sorted()
    values, number = attempt.trace.values, attempt.number()

    def kind_of(a: Any) -> str | None:
        if type(a) in PLAIN_TENSORS:
            v = a._value
            if v.epoch is not attempt.epoch:
                if attempt.trace.copied[0] is not v or attempt.trace.copied[1] < attempt.slot or v.buffer is None:
                    return None
                found.tensors.append(a)
                found.facts.append(v.meta)
                return LEAF_VALUE
            found.tensors.append(a)
            found.facts.append(v.meta if v.slot >= attempt.slot else v.slot)
            if v.slot >= attempt.slot:
                return PART if v.buffer is None else LEAF_VALUE
            return OLD_PART if values[v.slot] is not v else SLOT if v.origin is None else VIEW
        if a is None or a is True or a is False:
            return repr(a)
        if number is not None:
            kind, fact = _as_number(attempt.function.numbers, a, number)
            if kind is not None:
                if number in found.tensors:
                    return None  # it could be either
                found.tensors.append(number)
                found.facts += fact
                return kind
        if not _is_atom(a):
            return None
        if type(a) is slice:
            found.facts += (a.start, a.stop, a.step)
            return SLICE
        found.facts.append(_frozen(a))
        return ATOM

    for k, a in enumerate(attempt.given):
        if k == attempt.function.stars:
            pairs = [(name, kind_of(item)) for name, item in a.items()]
            kind: Any = None if any(item is None for _, item in pairs) else ("**", tuple(pairs))
        elif k == attempt.function.star or type(a) in SEQUENCES and any(isinstance(item, Handle) for item in a):
            items = tuple([kind_of(item) for item in a])
            kind = None if None in items else ("*" if k == attempt.function.star else "[]", items)
        elif type(a) is tuple and any(type(item) is slice for item in a):  # an index
            items = tuple([kind_of(item) for item in a])
            kind = None if None in items else ("()", items)
        else:
            kind = kind_of(a)
        if kind is None:
            return None
        found.kinds.append(kind)
    return found


def _as_number(meaning: str | None, a: Any, number: _Number) -> tuple[str | None, tuple]:
    """The kind of an argument that a number may be, and its facts."""
    if meaning == OPERAND:
        return NUMBER if type(a) is float and a == number.value else None, ()
    if number.length is None:
        return INDEX if type(a) is int and a % number.size == number.value else None, (number.size,)
    fact = (number.size, number.length, number.step)
    return RANGE if start_of(a, *fact) == number.value else None, (fact,)


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
    if found is None or not 0 < len(found.tensors) <= TENSORS:
        return None
    tensors = found.tensors
    slots = [t.slot if type(t) is _Number else t._value.slot if t._value.epoch is epoch else tr.copied[1] for t in tensors]
    entering = sorted([i for i, s in enumerate(slots) if s >= attempt.slot], key=slots.__getitem__)
    shape = Shape(tuple(found.kinds), entering=tuple(entering), grad=tr.grad_enabled,
                  wants=tuple([NO if type(t) is _Number or t._edge is None else A_LEAF if t._edge is LEAF else YES for t in tensors]))
    if type(out) in (tuple, list) and len(tensors) == 1:
        nodes = _pieces(tr, attempt, out, tensors[0])
        if nodes is None:
            return None
        linked = out[0]._edge is not None
        shape = shape._replace(inputs=(0,), is_view=True, pieces=True, linked=linked, outs=(False,))
        each = tuple([(n, n.meta, n.slot) for n in nodes])
        return Call(attempt.function, step_for(shape), (node, each, type(out), nodes[0].saves[1][0] if linked else None, *found.facts))
    if not _is_result(out, node, epoch):
        return None
    nr = out._value.slot - node.slot
    inputs = _order(slots, node.inputs)
    if inputs is None or [slots[i] for i in entering] != list(range(attempt.slot, node.slot)):
        return None
    if not _begins(node.parent, attempt.start, len(entering)):
        return None
    is_view = out._alias is not None or out._value.origin is not None
    moves = is_view and type(tensors[-1]) is _Number
    if is_view and (len(tensors) > 1 + moves or len(node.metas) > 1 or not _is_view(out, node, tensors[0], moves)):
        return None
    taken = [tensors[i] for i in inputs]
    if not _is_linked(out, node, taken):
        return None
    shape = shape._replace(inputs=inputs, is_view=is_view, moves=moves, results=len(node.metas), nr=nr)
    in_metas = None
    if out._edge is not None:
        in_metas, keeps, outs, *_ = node.saves[sum([1 << k for k, i in enumerate(inputs) if shape.wants[i] is not NO])]
        outs = (outs,) * len(node.metas) if type(outs) is bool else outs
        shape = shape._replace(linked=True, keeps=keeps, outs=outs)
    meta = (out._value.meta, out._alias.how.op, out._alias.how.attrs) if moves else out._value.meta
    return Call(attempt.function, step_for(shape), (node, meta, out._value.slot, in_metas, *found.facts))


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
    if len({piece._edge is None for piece in out}) > 1:
        return None
    if not nodes or not _begins(node, attempt.start, 1 if t._value.slot >= attempt.slot else 0):
        return None
    return tuple(reversed(nodes))


def _is_result(out: Any, node: TraceNode, epoch: Epoch) -> bool:
    """Whether ``out`` is a fresh result of a recorded operation."""
    if type(out) not in PLAIN_TENSORS or node.stop:
        return False
    made = out._value
    return made.epoch is epoch and 0 <= made.slot - node.slot < len(node.metas) and made.home is None


def _is_view(out: Any, node: TraceNode, t: Handle, moves: bool = False) -> bool:
    alias = out._alias
    return alias is not None and alias.parent is t._alias and (type(alias.how) is How if moves else node.op.is_view and alias.how is node)


def _is_linked(out: Any, node: TraceNode, tensors: Sequence[Any]) -> bool:
    """Whether the graph node of ``out``, if it has one, is the one that the operation on these tensors has."""
    edge = out._edge
    if edge is None:
        return True
    if type(edge) is tuple:
        edge, nr = edge
        if nr != out._value.slot - node.slot:
            return False
    return isinstance(edge, GradNode) and edge.node is node and edge.rare is None and all(
        (None if type(t) is _Number else t if t._edge is LEAF else t._edge) is e for t, e in zip(tensors, edge.edges, strict=True))


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
