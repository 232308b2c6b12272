"""The quick way for calls of public functions and methods: what the same call recorded at this point of a trace before.

A public function checks its arguments, works out attributes and records an operation. Called again at the same node of
the trie, on values of the same slots and with equal other arguments, it would record the same; so the second call goes
straight to the node where the first one arrived. The key is the function, the slots of its tensors (the metas of those
that enter the trace with it), its other arguments with their types, and which tensors want gradients.

Only a call that recorded one operation on exactly its tensors, in their order, and returned the fresh result of it, is
remembered. Everything else a function may do (read values, write in place, record several operations) is done anew at
each call.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from ..compile.dtypes import DType
from ..record.trace import Trace, TraceNode, local
from ..record.value import Epoch, Value, is_exported, looks
from . import handle
from .apply import enter, refresh
from .handle import LEAF, Alias, Handle, _new, make, storage_of
from .node import GradNode

__all__ = ["quick", "PLAIN_TENSORS"]

F = TypeVar("F", bound=Callable[..., Any])

PLAIN_TENSORS: set[type] = set()  # classes of tensors without behaviour of their own; the rooms above add theirs
_PATIENCE = 32  # calls with nothing to remember, after which a function is always called in full
_MISSING: Any = object()

_ATOMS = frozenset({int, bool, str, type(None), DType})  # within one type, what is equal is the same
_ODD = frozenset({float, tuple, list})  # to be looked at: see ``_plain``


class _Pattern:
    """Stands in keys for a function with arguments of certain types and names: positions of tensors, a getter of all others,
    and those that need a look."""

    __slots__ = ("tensors", "others", "odd", "patience")

    def __init__(self, kinds: Sequence[type]) -> None:
        self.patience = _PATIENCE
        self.tensors = tuple([k for k, kind in enumerate(kinds) if kind in PLAIN_TENSORS])
        self.odd = tuple([k for k, kind in enumerate(kinds) if kind in _ODD])
        others = [k for k in range(len(kinds)) if k not in self.tensors]
        self.others = itemgetter(*others) if others and self.tensors else None


def _plain(given: Sequence[Any], odd: Sequence[int]) -> Sequence[Any] | None:
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


class _Variant:
    """What is known of a function: the patterns of its calls after the first argument (those of one positional argument by its
    type alone), and whether looking for its calls has been worth while."""

    __slots__ = ("patience", "patterns")

    def __init__(self) -> None:
        self.patience = _PATIENCE
        self.patterns: dict[Any, _Pattern] = {}

    def pattern(self, kinds: Any, names: dict[str, Any]) -> _Pattern | None:
        """The pattern of a call that has none yet; None where a type is none that keys can hold."""
        given = (kinds,) if type(kinds) is type else kinds
        if not all(kind in PLAIN_TENSORS or kind in _ATOMS or kind in _ODD for kind in given):
            return None
        found = self.patterns[(kinds, *names) if names else kinds] = _Pattern(given)
        return found


class _Found:
    """Where a call arrived, and what its graph node keeps (``in_metas`` None: the result has none): the inputs except those
    at the positions ``drop``, or none of them; and whether the result."""

    __slots__ = ("node", "meta", "slot", "in_metas", "keep", "drop", "outs", "is_view")

    def __init__(self, node: TraceNode, plan: tuple[Any, ...], is_view: bool) -> None:
        self.node, self.meta, self.slot, self.is_view = node, node.meta, node.slot, is_view
        self.in_metas, mask, outs = plan
        self.outs = outs if type(outs) is bool else outs[0]
        self.keep = mask is not None
        self.drop = tuple([k for k, m in enumerate(mask or ()) if not m])


def quick(full: F) -> F:
    """A function with the meaning of ``full``, faster where it has been called at this point of a trace before."""
    variant = _Variant()

    @functools.wraps(full)
    def call(first: Any = _MISSING, /, *args: Any, **kwargs: Any) -> Any:
        tr = local.trace
        if type(first) not in PLAIN_TENSORS or tr.exported or tr.anomaly:
            return full(*args, **kwargs) if first is _MISSING else full(first, *args, **kwargs)
        epoch = tr.epoch
        alias = first._alias
        v = first._value if alias is None or alias.version == alias.storage.version else refresh(first)
        edge = first._edge
        tensors: Any = None  # these three only where there is more than one tensor
        values: Any = None
        edges: Any = None
        fresh: list[Value] | None = None  # ready values that enter the trace with this call
        if v.epoch is epoch:
            place: Any = v.slot
        elif _enters(v, epoch, None):
            place = v.meta
            fresh = [v]
        else:
            return full(first, *args, **kwargs)
        needs = 0 if edge is None else 1
        if args or kwargs:
            given: Any = (*args, *kwargs.values()) if kwargs else args
            n = len(given)
            if n == 1:
                kinds: Any = type(given[0])
            elif n == 2:
                kinds = (type(given[0]), type(given[1]))
            elif n == 3:
                kinds = (type(given[0]), type(given[1]), type(given[2]))
            else:
                kinds = tuple([type(a) for a in given])
            pattern = variant.patterns.get((kinds, *kwargs) if kwargs else kinds)
            if pattern is None:
                pattern = variant.pattern(kinds, kwargs)
                if pattern is None:
                    return full(first, *args, **kwargs)
            if not pattern.patience:
                return full(first, *args, **kwargs)
            if pattern.odd:
                given = _plain(given, pattern.odd)
                if given is None:
                    return full(first, *args, **kwargs)
            if pattern.tensors:
                tensors, values, edges = [first], [v], [first if edge is LEAF else edge]
                parts: list[Any] = []
                bit = 2
                for k in pattern.tensors:
                    a = given[k]
                    tensors.append(a)
                    alias = a._alias
                    w = a._value if alias is None or alias.version == alias.storage.version else refresh(a)
                    values.append(w)
                    if w.epoch is epoch:
                        parts.append(w.slot)
                    elif _enters(w, epoch, fresh):
                        parts.append(w.meta)
                        if fresh is None:
                            fresh = [w]
                        else:
                            fresh.append(w)
                    else:
                        return full(first, *args, **kwargs)
                    own = a._edge
                    if own is None:
                        edges.append(None)
                    else:
                        needs += bit
                        edges.append(a if own is LEAF else own)
                    bit += bit
                if pattern.others is not None:
                    parts.append(pattern.others(given))
                given = tuple(parts)
            elif pattern.odd:
                given = tuple(given)
            key: Any = (pattern, place, needs if tr.grad_enabled else -1, given)
        elif variant.patience:
            key = (variant, place, needs if tr.grad_enabled else -1)
        else:
            return full(first)
        before = tr.node
        found = before.quick.get(key)
        if found is None:
            entering = 0 if fresh is None else len(fresh)
            # A flush inside the call must not count these names.
            fresh = v = w = alias = values = edges = edge = None  # type: ignore[assignment]
            seen = looks.count
            out: Any = full(first, *args, **kwargs)
            asked = key[0]
            asked.patience -= 1
            if tr.epoch is epoch and looks.count == seen:
                if _remember(tr, before, key, out, (first,) if tensors is None else tensors, entering):
                    asked.patience = _PATIENCE
            return out
        node = found.node
        recorded = tr.values
        if fresh is not None:
            for w in fresh:
                if w.buffer is None:
                    enter(tr, w)
                else:
                    w.epoch = epoch
                    w.slot = len(recorded)
                    recorded.append(w)
        tr.node = node
        # Objects are made without calling their ``__init__``: the call would cost as much as everything else here.
        made: Any = _new(Value)
        made.meta = found.meta
        made.epoch = epoch
        made.slot = found.slot
        made.buffer = made.origin = made.home = made.overwritten = None
        recorded.append(made)
        if found.is_view:
            out = _view(tr, node, first, made)
        else:
            out = _new(handle._class)
            out._value = made
            out._edge = None
            out._grad = None
            out._alias = None
            out._version = 0
            out._more = None
        in_metas = found.in_metas
        if in_metas is not None:
            grad = _new(GradNode)
            grad.node = node
            grad.epoch = epoch
            grad.in_metas = in_metas
            grad.rare = None
            if edges is None:
                grad.edges = (first if edge is LEAF else edge,)
                grad._inputs = (v,) if found.keep else None
            else:
                grad.edges = tuple(edges)
                if found.keep:
                    for k in found.drop:
                        values[k] = None
                    grad._inputs = tuple(values)
                else:
                    grad._inputs = None
            grad._outputs = (made,) if found.outs else None
            out._edge = grad
        return out
    return call  # type: ignore[return-value]


def _enters(v: Value, epoch: Epoch, fresh: list[Value] | None) -> bool:
    """Whether a value that is not in the trace yet would enter it as one leaf: ready memory that nobody outside can write,
    or a row-major part of some."""
    if v.buffer is not None:
        return (fresh is None or v not in fresh) and not is_exported(v)
    if v.origin is None or v.meta.strides is not None:
        return False
    root = v.origin[0]
    return root.buffer is not None and root.epoch is not epoch and (
        fresh is None or v not in fresh and root not in fresh) and not is_exported(root)


def _view(tr: Trace, node: TraceNode, t: Handle, made: Value) -> Any:
    """The result of a view operation: it shares the memory of ``t``."""
    parent = storage_of(t)
    out = make(made)
    base = None
    if tr.grad_enabled:
        base = t if parent.base is None else parent.base
    out._alias = Alias(parent.storage, base, parent, node.op, node.attrs, node.meta)
    made.origin = (parent.storage.value, out._alias)
    return out


def _remember(tr: Trace, before: TraceNode, key: tuple, out: Any, tensors: Sequence[Handle], entering: int) -> bool:
    """Keep what a call recorded, if the call was nothing but the recording of one operation."""
    node = tr.node
    if type(out) not in PLAIN_TENSORS or node.op is None or len(node.metas) != 1 or node.stop or tr.exported:
        return False
    made = out._value
    if made.epoch is not tr.epoch or made.slot != node.slot or made.home is not None:
        return False
    if len(key) > 3 and _has_nan(key[3]):  # a key with NaN would never be found
        return False
    inputs = node.inputs
    if len(inputs) != len(tensors) or any(t._value.slot != s or t._value.epoch is not tr.epoch for t, s in zip(tensors, inputs)):
        return False
    first = node.slot - entering  # the slots of what entered, in the order of the arguments
    if [s for s in inputs if s >= first] != list(range(first, node.slot)):
        return False
    start: Any = node.parent
    for _ in range(entering):
        if start.op is not None:
            return False
        start = start.parent
    if start is not before:
        return False
    alias = out._alias
    if alias is not None or made.origin is not None:
        if not node.op.is_view or alias is None or alias.parent is not tensors[0]._alias or alias.op is not node.op \
                or alias.attrs != node.attrs:
            return False
    plan: tuple[Any, ...] = (None, None, False)
    edge = out._edge
    if edge is not None:
        if type(edge) is not GradNode or edge.node is not node or edge.rare is not None:
            return False
        if any((t if t._edge is LEAF else t._edge) is not e for t, e in zip(tensors, edge.edges, strict=True)):
            return False
        plan = node.saves[key[2]]
    before.quick[key] = _Found(node, plan, alias is not None)
    return True


def _has_nan(part: Any) -> bool:
    return any(_has_nan(p) for p in part) if type(part) is tuple else part != part
