"""Apply an operation to tensors: record it, and link the graph node of its gradient.

Everything that a user's program computes comes through ``apply``, ``apply_view`` or ``writing.write``.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..compile.dtypes import DType
from ..record.flush import flush_trace, ready
from ..record.meta import CPU, META, Meta, is_contiguous, meta_of
from ..record.op import Op
from ..record.trace import NOTHING, Trace, TraceNode, local, result_of
from ..record.value import COPIED, Immaterial, Value, block_at, copied, immaterial, is_exported, new_value
from . import handle
from .autocast import fitted
from .garbage import crowded
from .handle import (
    Alias,
    DataAlias,
    Handle,
    How,
    base_of,
    derived,
    make,
    new_view,
    renew,
    storage_of,
    within,
)
from .node import FORMS, GradNode, filler, grad_class
from .varying import varying

__all__ = ["Restrided", "alias_of", "apply", "apply_view", "apply_views", "attrs_of", "described", "enter", "keep_anew", "link", "refresh",
           "value_of", "window"]


def refresh(t: Handle) -> Value:
    """Bring a tensor up to date after its memory was written through another one."""
    alias = renew(t)
    if alias.parent is None:
        t._value = alias.storage.value
        return t._value
    base = base_of(alias)
    if base is not None and base._edge is not None:
        value_of(base)
        dtype = alias.how.meta.dtype
        again = _record_view(Restrided.op, attrs_of(within(base, alias.place(), dtype), base._value, dtype), base, True, alias)
        t._value, t._edge = again._value, again._edge
        if t._more is not None:
            keep_anew(t)
    else:
        t._value = derived(alias)
    return t._value


def keep_anew(t: Handle) -> None:
    """A tensor has another edge: if its gradient is kept, it is that of the new content."""
    if t._more is not None and "kept_grad" in t._more and t._edge is not None:
        t._keep_grad()


def value_of(t: Handle) -> Value:
    """The present value of a tensor."""
    try:
        alias = t._alias
    except AttributeError:
        if isinstance(t, Handle):
            raise
        raise TypeError(f"expected a Tensor, but got {type(t).__name__}") from None
    if alias is not None and alias.version != alias.storage.version:
        return refresh(t)
    return t._value


def enter(tr: Trace, v: Value, copies: bool = False) -> int:
    """The slot of a value in the present epoch of a trace. With ``copies``, a copy of the content enters where that is small and somebody
    outside may change it."""
    if v.epoch is tr.epoch:
        return v.slot
    if v.meta.device is not CPU:
        raise Immaterial
    if v.buffer is None:
        if v.origin is not None:
            root, alias = v.origin, v.alias  # type: ignore[attr-defined]
            if root.buffer is not None and root.epoch is not tr.epoch:
                return _enter_window(tr, v, root, alias, copies)
            node, _ = _record(tr, Restrided.op, attrs_of(alias.place(), root, v.meta.dtype), enter(tr, root))
            v.epoch, v.slot = tr.epoch, node.slot
            tr.values.append(v)
            if node.stop:
                tr.read_at_once()
            return v.slot
        ready(v)  # pending in another thread's trace
    if is_exported(v):
        if copies and v.meta.nbytes <= COPIED:
            return _enter_copy(tr, v, ready(v).ptr)
        tr.read_at_once()
    return tr.add_leaf(v)


def _enter_copy(tr: Trace, v: Value, address: int) -> int:
    """Let what now lies at the address enter in place of ``v``, which is not marked as being there: its next use sees what it is then."""
    slot = tr.add_leaf(copied(v, address))
    tr.copied = v, slot
    return slot


def _enter_window(tr: Trace, v: Value, root: Value, alias: Any, copies: bool) -> int:
    """Let a view of ready memory enter as a leaf that starts where the view starts, so that its position is no part of
    the path."""
    shape, strides, offset = alias.place()
    if is_exported(root):
        if copies and v.meta.nbytes <= COPIED and is_contiguous(shape, strides):
            return _enter_copy(tr, v, ready(root).ptr + offset * v.meta.dtype.itemsize)
        tr.read_at_once()
    if is_contiguous(shape, strides):
        v.slot = tr.add_leaf(window(tr, root, v.meta.plain, offset))
        v.epoch = tr.epoch
        return v.slot
    span = 1 + sum([(n - 1) * s for n, s in zip(shape, strides)]) if v.meta.numel else 0
    slot = tr.add_leaf(window(tr, root, meta_of((span,), v.meta.dtype, root.meta.device), offset))
    tr.record((Restrided.op, (shape, strides, 0), slot))
    v.epoch, v.slot = tr.epoch, len(tr.values)
    tr.values.append(v)
    return v.slot


def window(tr: Trace, root: Value, meta: Meta, offset: int) -> Value:
    """A ready value over a part of the memory of ``root``."""
    buffer = root.buffer
    tr.windows.add(id(buffer))
    leaf = new_value(meta)
    leaf.buffer = block_at(buffer.ptr + offset * meta.dtype.itemsize, meta.nbytes, root)  # type: ignore[union-attr]
    return leaf


class Restrided:
    """Hands in operations from the room above: ``op`` takes a view from a whole storage, attrs as ``attrs_of``;
    ``overwrite`` is of two values the second, with zeros as the gradient of the first.
    ``in_order`` gives a tensor in memory of its own that is filled as a meta says."""

    op: Op
    overwrite: Op
    in_order: Callable[[Any, Meta], Any]


def attrs_of(place: tuple, whole: Value, dtype: DType) -> tuple:
    """The attributes of operations on a part of the memory of a value, as elements of ``dtype``: its shape, strides and offset, the order
    in which that memory is filled where this is not by rows, and the dtype where the value has another one."""
    order = None if whole.origin is not None else whole.meta.order
    if dtype is not whole.meta.dtype:
        return (*place, order, dtype)
    return place if order is None else (*place, order)


def apply(op: Op, attrs: tuple, tensors: Sequence[Handle], hold: bool = False) -> Any:
    """Record ``op`` on tensors; returns its result, or a tuple of its results. With ``hold`` the caller sees to a flush
    that falls due.

    Raises:
        whatever ``op.meta`` raises for inputs that do not fit.
    """
    tr = local.trace
    epoch = tr.epoch
    parts: list[Any] = [op, attrs]
    needs, bit = 0, 1  # which inputs want a gradient
    try:
        for t in tensors:
            alias = t._alias
            v = t._value if alias is None or alias.version == alias.storage.version else refresh(t)
            parts.append(v.slot if v.epoch is epoch else enter(tr, v, not hold))
            if t._edge is not None:
                needs += bit
            bit += bit
    except Immaterial:
        return described(op, attrs, tensors)
    key = tuple(parts)
    node = tr.node.edges.get(key)
    if node is None:
        if tr.low is not None and op.autocast is not None:
            cast = fitted(op, tensors, tr.low)
            if cast is not None:
                return apply(op, attrs, cast, hold)
        if op.runtime is not None:
            again = varying(tr, op, attrs, key[2:])
            if again is not None:
                return apply(again.op, again.attrs, [*tensors, *again.numbers], hold)
        node = tr.record(key)
    else:
        tr.node = node
    linked = needs and tr.grad_enabled and op.differentiable
    if len(node.metas) == 1:
        if tr.spare:
            v = tr.spare.pop()
        else:  # made without calling ``__init__``: this is the path of every operation
            v = Value()
            v.buffer = v.origin = v.home = v.overwritten = None
        v.meta = node.meta
        v.epoch = epoch
        v.slot = node.slot
        tr.values.append(v)
        result: Any = make(v)
        if linked:
            result._edge = link(tr, node, tensors, needs, (v,))
    else:
        made = [new_value(m, epoch, node.slot + k) for k, m in enumerate(node.metas)]
        tr.values.extend(made)
        outs = [make(v) for v in made]
        if linked:
            grad_node = link(tr, node, tensors, needs, tuple(made))
            if grad_node is not None:
                for k, t in enumerate(outs):
                    if node.metas[k].dtype.kind in "fc":
                        t._edge = (grad_node, k) if k else grad_node
        result = tuple(outs)
    if (tr.exported or node.stop or node.sweep and crowded(tr)) and not hold:
        # The budget is used up, or an input's memory can be written by others before the next flush.
        made = v = None  # type: ignore[assignment]  # so that liveness does not count these names
        flush_trace(tr, False)
    return result


def described(op: Op, attrs: tuple, tensors: Sequence[Handle]) -> Any:
    """What ``op`` makes of tensors one of which has no memory: results that have none either. Nothing is recorded.

    Raises:
        whatever ``op.meta`` raises; RuntimeError: of a pointwise operation, another tensor has memory and is not zero-dimensional.
    """
    tr = local.trace
    if tr.low is not None and op.autocast is not None:
        cast = fitted(op, tensors, tr.low)
        if cast is not None:
            return apply(op, attrs, cast)
    given = tuple([value_of(t).meta for t in tensors])
    for m in given:
        if op.is_pointwise and m.device is CPU and m.shape:
            raise RuntimeError(f"{op.name}: Expected all tensors to be on the same device, but found at least two devices, meta and cpu!")
    node = _immaterial_node(op, attrs, given)
    made = [immaterial(m) for m in node.metas]
    outs = [make(v) for v in made]
    needs = sum([1 << k for k, t in enumerate(tensors) if t._edge is not None])
    if needs and tr.grad_enabled and op.differentiable:
        grad_node = link(tr, node, tensors, needs, tuple(made))
        for k, t in enumerate(outs):
            if grad_node is not None and node.metas[k].dtype.kind in "fc":
                t._edge = (grad_node, k) if k else grad_node
    return outs[0] if len(outs) == 1 else tuple(outs)


@functools.lru_cache(4096)
def _immaterial_node(op: Op, attrs: tuple, given: tuple[Meta, ...]) -> TraceNode:
    """What a trace would know of the operation, apart from every trace."""
    metas, _ = result_of(op, attrs, given)
    metas = tuple([meta_of(m.shape, m.dtype, META, m.strides) for m in metas])
    return TraceNode(None, op, attrs, (), metas, 0)


def link(tr: Trace, node: TraceNode, tensors: Sequence[Handle], needs: int, outputs: tuple[Value, ...]) -> GradNode | None:
    """The graph node of a recorded operation; ``needs`` has a bit for each input that wants a gradient."""
    plan = node.saves.get(needs)
    if plan is None:
        plan = _plan(node, tensors, needs)
    in_metas, mask, outs, kind, fill = plan
    if in_metas is None:
        return None
    if handle.was_inferring and mask is not None:
        handle.check_normal([t for t, keep in zip(tensors, mask) if keep], handle.UNSAVED)
    made = kind()
    made.node = node
    made.epoch = tr.epoch
    made.state = in_metas
    fill(made, tensors)
    for name, v, keep in zip(kind.OUTS, outputs, outs):
        if keep:
            setattr(made, name, v)
    if tr.watching:
        from .saved import watched

        watched(tr, made)
    return made  # type: ignore[no-any-return]


_plans: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # one tuple for equal ones: there are few


def _plan(node: TraceNode, tensors: Sequence[Handle], needs: int) -> tuple[Any, ...]:
    """(metas of the inputs or None where no result is differentiable, mask of the inputs to keep or None, mask of the results to keep,
    class of the graph node, what fills in its inputs), worked out once for a node and a set of inputs that want gradients."""
    found: tuple[Any, ...] = (None, None, (), None, None)
    metas, op = node.metas, node.op
    if metas[0].dtype.kind in "fc" or len(metas) > 1 and any(m.dtype.kind in "fc" for m in metas):
        in_metas = tuple([t._value.meta for t in tensors])
        n = len(in_metas)
        positions, outs = op.saved(in_metas, node.attrs, _bits(needs, n))
        outs = tuple([outs if isinstance(outs, bool) else k in outs for k in range(len(metas))])
        found = (in_metas, *_form(tuple(positions), _bits(needs, n), outs))
    if node.saves is NOTHING:
        node.saves = {}
    if len(_plans) > FORMS:
        _plans.clear()
    found = node.saves[needs] = _plans.setdefault(found, found)
    return found


@functools.lru_cache(4096)
def _bits(needs: int, n: int) -> tuple[bool, ...]:
    return tuple([bool(needs >> k & 1) for k in range(n)])


@functools.lru_cache(FORMS)
def _form(positions: tuple[int, ...], wants: tuple[bool, ...], outs: tuple[bool, ...]) -> tuple[Any, ...]:
    """What ``_plan`` tells besides metas, of an operation that keeps these of its inputs and these results, and of whose inputs some want
    gradients."""
    mask = tuple([k in positions for k in range(len(wants))])
    return mask if positions else None, outs, grad_class(wants, mask, outs), filler(wants, mask)


# -- views --------------------------------------------------------------------------------------------------------


def apply_view(op: Op, attrs: tuple, t: Handle) -> Any:
    """Record a view operation: the result shares the memory of ``t``."""
    alias = storage_of(t)
    if alias.version != alias.storage.version:
        refresh(t)
    grad = bool(local.trace.grad_enabled)
    root = alias.storage.value
    if root.meta.device is not CPU:
        return _record_view(op, attrs, t, grad)
    if op.is_cut and root.buffer is not None and not (grad and t._edge is not None) and root.meta.numel:
        how = _cut(op, attrs, t._value.meta)
        return new_view(t, how.meta, how, grad)
    tr = local.trace
    if root.buffer is not None and root.epoch is not tr.epoch and not (grad and t._edge is not None) and is_exported(root):
        # Recorded, it would read memory that others can write before it is used: as a window it is read where it is used.
        fresh: Any = op.meta((t._value.meta,), attrs)
        if fresh.nbytes <= COPIED and fresh.dtype is root.meta.dtype and fresh.strides is None and root.meta.numel:
            return new_view(t, fresh, How(op, attrs, fresh), grad)
    out = _record_view(op, attrs, t, grad)
    if tr.node.stop or tr.node.sweep and crowded(tr):
        flush_trace(tr, False)
    return out


def apply_views(op: Any, attrs: tuple, t: Handle) -> tuple[Any, ...]:
    """Record several views of ``t`` as one operation (``ops/splits.py``): they share its graph node."""
    alias = storage_of(t)
    if alias.version != alias.storage.version:
        refresh(t)
    tr = local.trace
    grad, root = bool(tr.grad_enabled), alias.storage.value
    linked = grad and t._edge is not None
    if root.buffer is not None and not linked and root.meta.numel and root.meta.device is CPU:
        return tuple([apply_view(op.one, one, t) for one in op.each(attrs)])
    v, spare = t._value, tr.spare_views
    if root.meta.device is not CPU:  # nothing is recorded
        node = _immaterial_node(op, attrs, (v.meta,))
        outs = tuple([new_view(t, m, how, grad) for m, how in zip(node.metas, op.hows(node))])
    else:
        slot = v.slot if v.epoch is tr.epoch else enter(tr, v)
        node = tr.record((op, attrs, slot))
        outs = tuple([new_view(t, m, how, grad, None, tr.epoch, node.slot + k, spare.pop() if spare else None)
                      for k, (m, how) in enumerate(zip(node.metas, op.hows(node)))])
        tr.values += [out._value for out in outs]
    if linked:
        grad_node = link(tr, node, (t,), 1, tuple([out._value for out in outs]))
        if grad_node is not None:
            for k, out in enumerate(outs):
                out._edge = (grad_node, k) if k else grad_node
    if node.stop or node.sweep and crowded(tr):
        flush_trace(tr, False)
    return outs


@functools.lru_cache(4096)
def _cut(op: Op, attrs: tuple, m: Meta) -> How:
    """How a part of ready memory is made, which is not recorded."""
    shape, strides, _ = op.place(m.shape, m.strides or m.rows, 0, attrs)  # type: ignore[attr-defined]
    return How(op, attrs, meta_of(shape, m.dtype, m.device, strides))


def _record_view(op: Op, attrs: tuple, t: Handle, grad: bool, alias: Alias | None = None) -> Any:
    """The view, which shares the memory of ``t``; with ``alias``, one that was known before."""
    tr = local.trace
    v = t._value
    if v.meta.device is not CPU:  # nothing is recorded
        node = _immaterial_node(op, attrs, (v.meta,))
        if alias is None:
            out = new_view(t, node.meta, node, grad)
        else:
            out = make(derived(alias, node.meta))
            out._alias = alias
        if grad and t._edge is not None:
            out._edge = link(tr, node, (t,), 1, (out._value,))
        return out
    slot = v.slot if v.epoch is tr.epoch else enter(tr, v)
    node, numbers = _record(tr, op, attrs, slot)
    if alias is None:
        how = How(op, attrs, node.meta) if numbers else node
        out = new_view(t, node.meta, how, grad, None, tr.epoch, node.slot, tr.spare_views.pop() if tr.spare_views else None)
    else:
        out = make(derived(alias, node.meta, tr.epoch, node.slot))
        out._alias = alias
    made = out._value
    tr.values.append(made)
    if grad and t._edge is not None:
        out._edge = link(tr, node, (t, *numbers), 1, (made,))
    return out


def _record(tr: Trace, op: Op, attrs: tuple, slot: int) -> tuple[TraceNode, Sequence[Handle]]:
    """Move along the edge of a view operation; a position that keeps changing at this place enters as a number."""
    key = (op, attrs, slot)
    if op.runtime is not None and key not in tr.node.edges:
        again = varying(tr, op, attrs, (slot,))
        if again is not None:
            return tr.record((again.op, again.attrs, slot, *[enter(tr, n._value) for n in again.numbers])), again.numbers
    return tr.record(key), ()


def alias_of(t: Handle, edge: Any = None, kind: type[Alias] = Alias) -> Any:
    """Another tensor over the whole of the same memory (``detach``, ``data``)."""
    alias: Any = t._alias or storage_of(t)
    storage = alias.storage
    out = next(handle.blanks)
    out._value = t._value if alias.version == storage.version else refresh(t)
    out._edge = edge
    out._grad = out._more = None
    out._writes = t._writes
    known: Any = t._alias
    data = kind is Alias and type(known) is DataAlias  # ``x.data.detach()``
    made: Any = DataAlias() if data else kind()
    out._alias = made
    made.storage = storage
    made.version = storage.version
    made.base = None
    made.parent = alias.parent
    made.how = alias.how
    made._place = alias._place
    if data:
        made.begun = known.begun
    elif kind is DataAlias:
        made.begun = storage.version
    return out
