"""The quick way for calls of public functions and methods: what the same call recorded at this point of a trace before.

A public function checks its arguments, works out attributes and records an operation. Called again at the same node of
the trie, on values of the same slots and with equal other arguments, it would record the same; so the second call goes
straight to the node where the first one arrived. The key is the function, the slots of its tensors (the metas of those
that enter the trace with it), its other arguments with their types, and which tensors want gradients.

Only a call that recorded one operation on exactly its tensors and returned the fresh result of it is remembered, or one that
cut its tensor into several views. Everything else a function may do (read values, write in place, record several
operations) is done anew at each call.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..record.trace import Trace, TraceNode, local
from ..record.value import Epoch, Value, is_exported, looks
from . import handle
from .apply import enter, link, refresh
from .calls import ATOMS, PATIENCE, PLAIN_TENSORS, Found, Variant, plain, remember
from .handle import LEAF, Alias, Handle, _new, make, storage_of
from .node import GradNode

__all__ = ["quick", "PLAIN_TENSORS"]

F = TypeVar("F", bound=Callable[..., Any])
_MISSING: Any = object()


def quick(full: F) -> F:
    """A function with the meaning of ``full``, faster where it has been called at this point of a trace before."""
    variant = Variant()

    @functools.wraps(full)
    def call(first: Any = _MISSING, /, *args: Any, **kwargs: Any) -> Any:
        tr = local.trace
        if type(first) not in PLAIN_TENSORS or tr.exported or tr.anomaly:
            if (type(first) is list or type(first) is tuple) and first and not (tr.exported or tr.anomaly):
                return _joined(tr, variant, full, first, args, kwargs)
            return full(*args, **kwargs) if first is _MISSING else full(first, *args, **kwargs)
        epoch = tr.epoch
        alias = first._alias
        v = first._value if alias is None or alias.version == alias.storage.version else refresh(first)
        edge = first._edge
        values: Any = None  # these two only where there is more than one tensor
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
                given = plain(given, pattern.odd)
                if given is None:
                    return full(first, *args, **kwargs)
            if pattern.tensors:
                values, edges = [v], [first if edge is LEAF else edge]
                parts: list[Any] = []
                bit = 2
                for k in pattern.tensors:
                    a = given[k]
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
                tensors = (first, *_picked((*args, *kwargs.values()), asked.tensors)) if args or kwargs else (first,)
                if remember(tr, before, key, out, tensors, entering):
                    asked.patience = PATIENCE
            return out
        node = found.node
        recorded = tr.values
        if fresh is not None:
            for w in fresh if found.entering is None else _picked(fresh, found.entering):
                if w.buffer is None:
                    enter(tr, w)
                else:
                    w.epoch = epoch
                    w.slot = len(recorded)
                    recorded.append(w)
        tr.node = node
        if found.special:
            if found.pieces is not None:
                return _pieces(tr, found.pieces, found.kind, first)
            tensors = (first, *_picked((*args, *kwargs.values()), key[0].tensors)) if args or kwargs else (first,)
            return _one_of(tr, found, tensors)
        # Objects are made without calling their ``__init__``: the call would cost as much as everything else here.
        made: Any = _new(Value)
        made.meta = found.meta
        made.epoch = epoch
        made.slot = found.slot
        made.buffer = made.origin = made.home = made.overwritten = None
        recorded.append(made)
        out = _new(handle._class)
        out._value = made
        out._edge = None
        out._grad = None
        out._alias = _shared(tr, node, first, made) if found.is_view else None
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
                if found.order is not None:
                    edges, values = _picked(edges, found.order), _picked(values, found.order)
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


def _shared(tr: Trace, node: TraceNode, t: Handle, made: Value) -> Alias:
    """How the result of a view operation shares the memory of ``t``."""
    parent = t._alias
    if parent is None:
        parent = storage_of(t)
    storage = parent.storage
    alias = _new(Alias)
    alias.storage = storage
    alias.version = storage.version
    alias.base = None if not tr.grad_enabled else t if parent.base is None else parent.base
    alias.parent = parent
    alias.op = node.op
    alias.attrs = node.attrs
    alias.meta = node.meta
    alias._place = None
    made.origin = (storage.value, alias)
    return alias


def _pieces(tr: Trace, nodes: Sequence[TraceNode], kind: type, t: Handle) -> Any:
    """Several views of ``t``, as a tuple or list."""
    outs = []
    for node in nodes:
        made = Value(node.meta, tr.epoch, node.slot)
        tr.values.append(made)
        out = make(made)
        out._alias = _shared(tr, node, t, made)
        if tr.grad_enabled and t._edge is not None:
            out._edge = link(tr, node, (t,), 1, (made,))
        outs.append(out)
    return kind(outs)


def _one_of(tr: Trace, found: Found, tensors: Sequence[Handle]) -> Any:
    """The result of a call, which may be one of several results of its operation."""
    node = found.node
    made = [Value(meta, tr.epoch, node.slot + k) for k, meta in enumerate(node.metas)]
    tr.values += made
    out = make(made[found.nr])
    if found.in_metas is not None:
        taken = tensors if found.order is None else _picked(tensors, found.order)
        edge = link(tr, node, taken, found.needs, tuple(made))
        out._edge = edge if len(made) == 1 or edge is None else (edge, found.nr)
    return out


# Not inside ``call``: a comprehension there would make its names cells, which every call pays for.
def _picked(items: Sequence[Any], positions: Sequence[int]) -> list[Any]:
    return [items[k] for k in positions]


def _joined(tr: Trace, variant: Variant, full: Callable[..., Any], tensors: Sequence[Any], args: tuple[Any, ...],
            kwargs: dict[str, Any]) -> Any:
    """A call whose first argument is a list of tensors (``cat``), the others atoms."""
    if not variant.patience:
        return full(tensors, *args, **kwargs)
    epoch, needs, bit = tr.epoch, 0, 1
    places: list[Any] = []
    fresh: list[Value] = []
    for t in tensors:
        if type(t) not in PLAIN_TENSORS:
            return full(tensors, *args, **kwargs)
        alias = t._alias
        v = t._value if alias is None or alias.version == alias.storage.version else refresh(t)
        if v.epoch is epoch:
            places.append(v.slot)
        elif _enters(v, epoch, fresh):
            places.append(v.meta)
            fresh.append(v)
        else:
            return full(tensors, *args, **kwargs)
        if t._edge is not None:
            needs += bit
        bit += bit
    others = (*args, *kwargs.values())
    kinds = tuple(map(type, others))
    if not ATOMS.issuperset(kinds):
        return full(tensors, *args, **kwargs)
    key = (variant, tuple(places), needs if tr.grad_enabled else -1, (kinds, others, tuple(kwargs)))
    before = tr.node
    found = before.quick.get(key)
    if found is None:
        entering, fresh, v, alias = len(fresh), [], None, None  # type: ignore[assignment]
        seen = looks.count
        out = full(tensors, *args, **kwargs)
        variant.patience -= 1
        if tr.epoch is epoch and looks.count == seen and remember(tr, before, key, out, list(tensors), entering):
            variant.patience = PATIENCE
        return out
    for v in fresh if found.entering is None else [fresh[k] for k in found.entering]:
        enter(tr, v)
    tr.node = found.node
    return _one_of(tr, found, tensors)


