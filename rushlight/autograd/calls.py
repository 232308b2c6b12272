"""What is known of calls of public functions: which were made at a point of a trace, and which can be remembered.

``quick.py`` asks; this module is where a call is looked at the first time.
"""
from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_double, c_int64
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from ..compile.dtypes import float64, int64
from ..record.flush import flush_trace
from ..record.meta import Meta
from ..record.trace import Call, Known, Trace, TraceNode, local
from ..record.value import Epoch, Value, looks
from .anew import MOST, SEEN, template
from .apply import value_of
from .given import OPERAND, PLAIN_TENSORS, POSITION, Made, Number, State, sort_arguments
from .handle import LEAF, Handle, How
from .node import GradNode
from .overriding import MISSED, asked, overriding
from .reads import Reads
from .several import several
from .steps import A_LEAF, FLOATS, NO, YES, Shape, step_for

__all__ = ["OPERAND", "PLAIN_TENSORS", "POSITION", "Attempt", "Function", "search", "vain"]

KNOWN = 16     # calls of one function, on a first tensor of one meta, that one node keeps; the oldest are forgotten
METAS = 512    # such metas
KINDS = 8      # calls of one function on tensors of certain metas that are known anywhere
PATIENCE = 32  # calls in a row with nothing to remember, after which a function is called in full for ...
REST = 1024    # ... so many calls
FAILURES = 8   # ... and after so many of them at one node, there for as many
MANY = 16      # tensors; the step of a call of so many, with lines for each, is written when it has come a time for every two of them
TENSORS = 256  # of a call that is remembered, at most: its step has lines for each of them


class Function:
    """What is known of a public function: at which of its arguments ``*args`` and ``**kwargs`` stand (-1: it has none), what
    changing numbers are to it, and whether looking for its calls has been worth while (``patience`` > 0).

    ``elsewhere``: whether calls of it are known away from where they were made (``anew.py``). ``reads``: of a method, what it reads of its
    object. The last two arguments are that object's ``__dict__`` and its class, by which whoever asks for calls of it knows them (``key``;
    a function's is this object). ``idle``: of a layer, tells by its attributes whether a call records nothing. ``entry``: the function that
    users call; ``shown``: what classes are told that are asked about its calls (``overriding.py``).
    """

    __slots__ = ("star", "stars", "numbers", "patience", "reads", "elsewhere", "key", "idle", "entry", "shown")

    def __init__(self, star: int, stars: int, numbers: str | None = None, reads: Reads | None = None, kind: type | None = None) -> None:
        self.star, self.stars, self.numbers, self.reads, self.key = star, stars, numbers, reads, kind or self
        self.patience = PATIENCE
        self.elsewhere = False
        self.idle: Any = None
        self.entry: Any = None
        self.shown: Any = None


class Attempt:
    """A call that is going to be made in full, and remembered if it turns out to be nothing but records.

    Attributes:
        start: the node where it begins; ``epoch``, ``seen``, ``written``, ``slot``: the epoch, the looks at content, the writes
            and the next slot then.
        nodes: how many nodes the trie had.
        given: the arguments; ``tensors``: those among them; ``meta``: of the first one; ``name``: the function and the metas of all.
        before: what the tensors were, by identity: a reference would keep alive what the call gives up.
        alone: it is to run by itself.
    """

    __slots__ = ("alone", "function", "trace", "start", "epoch", "seen", "written", "slot", "nodes", "given", "meta", "tensors", "name",
                 "before")

    def __init__(self, function: Function, tr: Trace, given: tuple[Any, ...], meta: Meta | None, tensors: Sequence[Handle],
                 name: tuple[Any, ...]) -> None:
        self.function, self.trace, self.given, self.meta, self.tensors, self.name = function, tr, given, meta, tensors, name
        self.start, self.epoch, self.slot, self.nodes = tr.node, tr.epoch, len(tr.values), tr.nodes
        self.seen, self.written = looks.count, looks.written
        self.before = {id(t): State(t) for t in tensors}
        self.alone = False

    def value_of(self, t: Handle) -> Value | None:
        """The value that a tensor had when the call began; None if it is gone."""
        before = self.before.get(id(t))
        if before is None or before.value == id(t._value):
            return t._value
        # What was written over while it was pending, or entered then, is in the trace: so nothing else can have its identity.
        return next((v for v in self.trace.values if id(v) == before.value), None)

    def number(self) -> Number | None:
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
        value = (c_double if v.meta.dtype is float64 else c_int64).from_address(v.buffer.ptr).value
        if self.function.numbers == OPERAND:
            # What is told by its value must be no number that 1 / x, x * x, ... leave as it is.
            return Number(slot, value) if value not in (0, 1, -1) and value == value else None
        whole = values[node.inputs[0]].meta
        if node.op.name == "update_at":
            return Number(slot, value, whole.numel, 0)
        if node.op.name != "cut_at":
            return None
        dim, length, step = node.attrs
        return Number(slot, value, whole.shape[dim], length, step)

    def keep(self, out: Any) -> Any:
        """The call has been made, and its result was ``out``, which is returned: remember it, and if it is to run by itself, run it."""
        if not self.alone:
            return self._remember(out)
        tr = self.trace
        self._remember(out)
        tr.within = False
        if tr.values:
            flush_trace(tr, True, True)
        return out

    def drop(self) -> None:
        """The call has failed."""
        if self.alone:
            self.trace.within = False

    def _remember(self, out: Any) -> Any:
        """Remember the call if it may come again: it went where somebody had been."""
        tr = self.trace
        if tr.epoch is not self.epoch or tr.node.stop or tr.node.sweep:
            return out  # recording stops here for a flush, which says nothing about the function
        if tr.nodes != self.nodes:
            self._write_down(out)
            return out  # a size that is met once would pay for more, and keep it
        if len(self.tensors) >= MANY and self._is_rare():
            return out
        self.function.patience -= 1
        if looks.count == self.seen and not tr.full:
            found, start = remember(self, out), self.start
            if found is None:
                if start.calls is None:
                    start.calls = {}
                start.calls.setdefault(self.function, Known()).failures += (
                    1 if self.function.reads is None else FAILURES)  # then the function behind the method is remembered
                return out
            self.function.patience = PATIENCE
            _add(start, self.function, self.meta, found)
        return out

    def _is_rare(self) -> bool:
        """Whether such calls have not been made often enough for a step, which has lines for each tensor; counts this one."""
        known = self.trace.known.get(self.name, 0)
        if type(known) is not int:
            return False
        _met(self.trace, self.name, known + 1)
        tensors = len(self.tensors)
        return known + 1 < (SEEN if tensors < MANY else tensors // 2)

    def _write_down(self, out: Any) -> None:
        """Know the call elsewhere, if it has been made often enough at points that were new."""
        tr, name = self.trace, self.name
        if tr.low is not None or looks.count != self.seen or tr.full:
            return
        known = tr.known.get(name, 0)
        if known is None or self._is_rare():
            return
        if type(known) is int:
            known = []
        made = look(self, out)
        found = None if made is None else template(self, made, self.tensors)
        tr.known.pop(name, None)  # it is one of the latest again
        self.function.elsewhere = self.function.elsewhere or found is not None
        tr.known[name] = None if found is None and not known else known if found is None else [found, *known[:KINDS - 1]]


def _met(tr: Trace, name: tuple[Any, ...], times: int) -> None:
    if len(tr.known) >= MOST and name not in tr.known:
        del tr.known[next(iter(tr.known))]
    tr.known[name] = times


class _Vain(Attempt):
    """Where there is nothing to remember."""

    __slots__ = ()

    def __init__(self) -> None:
        """It knows of no call."""

    def keep(self, out: Any) -> Any:
        tr = local.trace
        if tr.alone and tr.values and not tr.within:
            flush_trace(tr, True, True)
        return out

    def drop(self) -> None:
        """There is nothing to drop."""


vain = _Vain()


def search(function: Function, tr: Trace, given: tuple[Any, ...]) -> Any:
    """The result of the call, if it was made here before, or is known from elsewhere; else an attempt to remember it, if it may come to
    that. Where calls run by themselves, this one has run, or will have when the attempt is kept."""
    if not tr.alone or tr.within:
        return _search(function, tr, given)
    found = _search(function, tr, given)
    if isinstance(found, Attempt):
        if found is not vain:
            found.alone = tr.within = True
    elif tr.values:
        flush_trace(tr, True, True)
    return found


def _search(function: Function, tr: Trace, given: tuple[Any, ...]) -> Any:
    """The result of the call, if it was made here before, or is known from elsewhere; else an attempt to remember it, if it may come to
    that.

    Tensors whose memory was written through others are brought up to date first, which may record.
    """
    if overriding or tr.modes:
        found = asked(function, given)
        if found is not MISSED:
            return vain if found is None else found[0]
    node = tr.node
    if tr.full or tr.whole or tr.passing.loose and not node.edges:
        return vain
    known = None if node.calls is None else node.calls.get(function)
    first = None
    if known:
        first = _first_meta(given)
        out = _among(known.get(first, ()), tr, given)
        if out is not None:
            return out
    resting = function.patience <= 0
    if resting:
        function.patience -= 1
        if function.patience <= -REST:
            function.patience, resting = 1, False
        elif not known and not function.elsewhere:
            return vain
    tensors: list[Handle] = []
    passed, reads = given, function.reads
    if reads is not None:
        *others, own, _ = given
        try:
            given = *others, tuple([own[name] for name in reads.names])
        except KeyError:
            return vain
    for a in given:
        if isinstance(a, Handle):
            tensors.append(a)
        elif type(a) is list or type(a) is tuple:
            for item in a:
                if isinstance(item, Handle):
                    tensors.append(item)
                elif type(item) is tuple or type(item) is list:
                    tensors += [t for t in item if isinstance(t, Handle)]
    before = [t._value for t in tensors]
    values = [value_of(t) for t in tensors]
    metas = [v.meta for v in values]
    meta = metas[0] if metas else None
    if meta is not first or any(v is not w for v, w in zip(before, values)):
        node = tr.node
        known = None if node.calls is None else node.calls.get(function)
        out = None if known is None else _among(known.get(meta, ()), tr, passed)
        if out is not None:
            return out
    if known is not None:
        if resting:
            return vain
        if known.failures >= FAILURES:  # where programs begin, those that cannot be remembered are not all that come
            known.failures += 1
            if known.failures < FAILURES + REST:
                return vain
            known.failures = FAILURES - 1
    name = (function, *metas)
    anywhere = tr.known.get(name, 0)
    if not anywhere and not node.edges:  # nobody was ever further than here
        if anywhere == 0:
            _met(tr, name, 1)
        return vain
    if type(anywhere) is list and tr.low is None:
        for one in anywhere:
            done = one.call(tr, passed, tensors)
            if done is not None:
                out, facts, then, old = done
                if old:
                    _add(node, function, meta, (_shared(function, one.plain, facts), then))
                return out
    if resting:
        return vain
    return Attempt(function, tr, given, meta, tensors, name)


def _among(known: Sequence[tuple[Call, Any]], tr: Trace, given: tuple[Any, ...]) -> Any:
    """The result of the call, if it is one of these, which were made here; else None."""
    node = tr.node
    for call, then in known:
        out = call.step(tr, then, call.facts, *given)
        if out is not None:
            node.last, node.then = call, then
            return out
    return None


def _first_meta(given: Sequence[Any]) -> Meta | None:
    """Of the first tensor among the arguments."""
    for a in given:
        if isinstance(a, Handle):
            return a._value.meta
        if type(a) is list or type(a) is tuple:
            for t in a:
                if isinstance(t, Handle):
                    return t._value.meta
    return None


def _add(node: TraceNode, function: Function, meta: Meta | None, found: tuple[Call, Any]) -> None:
    """Remember a call at the node where it was made."""
    if node.calls is None:
        node.calls = {}
    known = node.calls.get(function)
    if known is None:
        known = node.calls[function] = Known()
    known.failures = 0
    if meta not in known and len(known) == METAS:
        del known[next(iter(known))]
    calls = known.setdefault(meta, [])
    calls.append(found)
    if len(calls) > KNOWN:
        del calls[0]
    node.last, node.then = found


def remember(attempt: Attempt, out: Any) -> tuple[Call, Any] | None:
    """What a call recorded, and where that led, if the call was nothing but that."""
    found = look(attempt, out)
    return None if found is None else (_shared(attempt.function, found.step, found.facts), found.then)


def look(attempt: Attempt, out: Any) -> Made | None:
    """What a call did, if that can be told."""
    return _one(attempt, out) or several(attempt, out)


_calls: WeakValueDictionary[Any, Call] = WeakValueDictionary()


def _shared(function: Function, step: Any, facts: tuple) -> Call:
    """The call of which this is all that there is to know, apart from where it was made: at every other node it is the same object.

    So a loop that grows (a cache of keys and values, a list of states) finds in the processor's cache what it needs of most calls,
    though each length has nodes of its own.
    """
    call = Call(function.key, step, facts)
    kinds = tuple(map(type, facts))
    told = facts if _LOOSE.isdisjoint(kinds) else tuple([
        _exactly(fact) if kind in _LOOSE and not (kind is tuple and set(map(type, fact)) == {Meta}) else fact
        for fact, kind in zip(facts, kinds)])
    try:
        return _calls.setdefault((function, step, kinds, told), call)
    except TypeError:  # something in the facts that cannot be looked up
        return call


_LOOSE = frozenset((tuple, list, slice, *FLOATS))  # of these, equal ones of the same type need not be the same for every function


def _exactly(fact: Any) -> Any:
    """Equal to that of another fact where they are the same for every function: 1, 1.0 and True are not, nor are 0.0 and -0.0."""
    kind = type(fact)
    if kind is tuple or kind is list:
        return kind, *map(_exactly, fact)
    if kind is slice:
        return kind, _exactly(fact.start), _exactly(fact.stop), _exactly(fact.step)
    return kind, repr(fact) if kind in FLOATS else fact


def _one(attempt: Attempt, out: Any) -> Made | None:
    """What there is to know of a call that was nothing but the recording of one operation, or of views of its tensor."""
    tr, epoch = attempt.trace, attempt.epoch
    node = tr.node
    if node is attempt.start or node.op is None or looks.written != attempt.written:
        return None
    found = sort_arguments(attempt, False)
    if found is None or not 0 < len(found.tensors) <= TENSORS:
        return None
    tensors = found.tensors
    slots = [v.slot if v.epoch is epoch else tr.copied[1] for v in found.values]
    entering = sorted([i for i, s in enumerate(slots) if s >= attempt.slot], key=slots.__getitem__)
    wants = tuple([NO if type(t) is Number or t._edge is None else A_LEAF if t._edge is LEAF else YES for t in tensors])
    common = tuple(found.kinds), tuple(entering), tr.grad_enabled, wants
    inputs = _order(slots, node.inputs)
    if inputs is None or [slots[i] for i in entering] != list(range(attempt.slot, node.slot)):
        return None
    if not _begins(node.parent, attempt.start, len(entering)):
        return None
    if type(out) is tuple and node.op.is_view and len(tensors) == 1:
        if not _are_pieces(out, node, tensors[0], epoch):
            return None
        linked = out[0]._edge is not None
        shape = Shape(*common, inputs, linked, None, (False,) * len(out), _title(out[0]), is_view=True, pieces=len(out))
        facts = (tuple(zip(node.metas, node.op.hows(node))), node.slot, node.saves[1][0] if linked else None, *found.facts)
        return Made(step_for(shape), node, facts, partial(step_for, shape, True), (1,), found)
    if not _is_result(out, node, epoch):
        return None
    nr = out._value.slot - node.slot
    is_view = out._alias is not None or out._value.origin is not None
    moves = is_view and type(tensors[-1]) is Number
    if is_view and (len(tensors) > 1 + moves or len(node.metas) > 1 or not _is_view(out, node, tensors[0], moves)):
        return None
    taken = [tensors[i] for i in inputs]
    if not _is_linked(out, node, taken):
        return None
    results, linked = len(node.metas), out._edge is not None
    in_metas = keeps = title = None
    outs: Any = ()
    if linked:
        in_metas, keeps, outs, *_ = node.saves[sum([1 << k for k, i in enumerate(inputs) if wants[i] is not NO])]
        title = _title(out)
    shape = Shape(*common, inputs, linked, keeps, outs, title, results, nr, is_view, moves)
    meta = node.metas if results > 1 else (out._value.meta, out._alias.how.op, out._alias.how.attrs) if moves else out._value.meta
    return Made(step_for(shape), node, (meta, out._value.slot, in_metas, *found.facts), partial(step_for, shape, True), (1,), found)


def _are_pieces(out: Sequence[Any], node: TraceNode, t: Handle, epoch: Epoch) -> bool:
    """Whether ``out`` has the views of a tensor that were recorded together, each as it was made."""
    hows = node.op.hows(node)
    return len(out) == len(hows) and all(
        _is_result(piece, node, epoch) and piece._value.slot == node.slot + k and _is_linked(piece, node, (t,))
        and piece._alias is piece._value and piece._alias.parent is t._alias and piece._alias.how == how
        for k, (piece, how) in enumerate(zip(out, hows)))


def _is_result(out: Any, node: TraceNode, epoch: Epoch) -> bool:
    """Whether ``out`` is a fresh result of a recorded operation."""
    if type(out) not in PLAIN_TENSORS or node.stop or node.sweep:
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
    edge, nr = edge if type(edge) is tuple else (edge, 0)
    return nr == out._value.slot - node.slot and isinstance(edge, GradNode) and edge.node is node and edge.rare is None and all(
        (None if type(t) is Number else t if t._edge is LEAF else t._edge) is e for t, e in zip(tensors, edge.edges, strict=True))


def _title(out: Any) -> str | None:
    """What the graph node of a result is called, if that is not its operation's name."""
    edge = out._edge
    return None if edge is None else (edge[0] if type(edge) is tuple else edge).title  # type: ignore[no-any-return]


def _begins(node: Any, before: TraceNode, entering: int) -> bool:
    """Whether ``node`` is where so many leaves lead to from ``before``."""
    for _ in range(entering):
        if node.op is not None or node.is_mark:
            return False
        node = node.parent
    return node is before


def _order(slots: Sequence[int], inputs: Sequence[int]) -> tuple[int, ...] | None:
    """Which of ``slots`` each of ``inputs`` is, all of them at least once."""
    left = list(range(len(slots)))
    order: list[int] = []
    for s in inputs:
        k = next((k for k in (*left, *order) if slots[k] == s), None)
        if k is None:
            return None
        if k in left:
            left.remove(k)
        order.append(k)
    return None if left else tuple(order)
