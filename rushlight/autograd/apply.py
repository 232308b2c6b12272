"""Apply an operation to tensors: record it, and link the graph node of its gradient.

Everything that a user's program computes comes through ``apply``, ``apply_view`` or ``write``.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..record.flush import flush_trace, ready
from ..record.meta import Meta, contiguous_strides, is_contiguous, meta_of
from ..record.op import Op
from ..record.trace import Trace, TraceNode, local
from ..record.value import Buffer, Value, array_of, derived_value, is_exported, new_value, scalar_value
from .autocast import fitted
from .handle import LEAF, Alias, Handle, How, derived, make, new_alias, storage_of
from .node import GradNode, grad_class

__all__ = ["Restrided", "alias_of", "apply", "apply_over", "apply_view", "check_writable", "enter", "link", "refresh", "value_of", "window",
           "write"]


def refresh(t: Handle) -> Value:
    """Bring a tensor up to date after its memory was written through another one."""
    alias = t._alias
    assert alias is not None
    alias.version = alias.storage.version
    if alias.parent is None:
        t._value = alias.storage.value
        return t._value
    base = alias.base
    if base is not None and base._edge is not None:
        value_of(base)
        again = _record_view(Restrided.op, alias.place(), base, True, alias)
        t._value, t._edge = again._value, again._edge
    else:
        t._value = derived(alias)
    return t._value


def value_of(t: Handle) -> Value:
    """The present value of a tensor."""
    alias = t._alias
    if alias is not None and alias.version != alias.storage.version:
        return refresh(t)
    return t._value


def enter(tr: Trace, v: Value) -> int:
    """The slot of a value in the present epoch of a trace."""
    if v.epoch is tr.epoch:
        return v.slot
    if v.buffer is None:
        if v.origin is not None:
            root, alias = v.origin, v.alias  # type: ignore[attr-defined]
            if root.buffer is not None and root.epoch is not tr.epoch:
                return _enter_window(tr, v, root, alias)
            slot = enter(tr, root)
            node = tr.record((Restrided.op, alias.place(), slot))
            v.epoch, v.slot = tr.epoch, len(tr.values)
            tr.values.append(v)
            if node.stop:
                tr.read_at_once()
            return v.slot
        ready(v)  # pending in another thread's trace
    if is_exported(v):
        tr.read_at_once()
    return tr.add_leaf(v)


def _enter_window(tr: Trace, v: Value, root: Value, alias: Any) -> int:
    """Let a view of ready memory enter as a leaf that starts where the view starts, so that its position is no part of
    the path."""
    if is_exported(root):
        tr.read_at_once()
    shape, strides, offset = alias.place()
    if is_contiguous(shape, strides):
        v.slot = tr.add_leaf(window(tr, root, v.meta.plain, offset))
        v.epoch = tr.epoch
        return v.slot
    span = 1 + sum([(n - 1) * s for n, s in zip(shape, strides)]) if v.meta.numel else 0
    slot = tr.add_leaf(window(tr, root, meta_of((span,), root.meta.dtype, root.meta.device), offset))
    tr.record((Restrided.op, (shape, strides, 0), slot))
    v.epoch, v.slot = tr.epoch, len(tr.values)
    tr.values.append(v)
    return v.slot


def window(tr: Trace, root: Value, meta: Meta, offset: int) -> Value:
    """A ready value over a part of the memory of ``root``."""
    buffer = root.buffer
    tr.windows.add(id(buffer))
    leaf = new_value(meta)
    leaf.buffer = Buffer(buffer.ptr + offset * meta.dtype.itemsize, meta.nbytes, root)  # type: ignore[union-attr]
    return leaf


class Restrided:
    """Hands in operations from the room above: ``op`` takes a view from a whole storage, attrs (shape, strides, offset);
    ``copy`` is the same value in memory of its own."""

    op: Op
    copy: Op


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
    for t in tensors:
        alias = t._alias
        v = t._value if alias is None or alias.version == alias.storage.version else refresh(t)
        parts.append(v.slot if v.epoch is epoch else enter(tr, v))
        if t._edge is not None:
            needs += bit
        bit += bit
    key = tuple(parts)
    node = tr.node.edges.get(key)
    if node is None:
        if tr.low is not None and op.autocast is not None:
            cast = fitted(op, tensors, tr.low)
            if cast is not None:
                return apply(op, attrs, cast, hold)
        if op.runtime is not None:
            again = _varying(tr, op, attrs, key[2:])
            if again is not None:
                return apply(op, again[0], [*tensors, *again[1]], hold)
        node = tr.record(key)
    else:
        tr.node = node
    linked = needs and tr.grad_enabled and op.differentiable
    if len(node.metas) == 1:
        # Made without calling ``__init__``: this is the path of every operation.
        v = Value()
        v.meta = node.meta
        v.epoch = epoch
        v.slot = node.slot
        v.buffer = v.origin = v.home = v.overwritten = None
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
                        t._edge = (grad_node, k)
        result = tuple(outs)
    if (tr.exported or node.stop) and not hold:
        # The budget is used up, or an input's memory can be written by others before the next flush.
        made = v = None  # type: ignore[assignment]  # so that liveness does not count these names
        flush_trace(tr)
    return result


# After this many different numbers at one place of a trace, the number becomes an input of the program.
VARIANTS = 3


def _varying(tr: Trace, op: Op, attrs: tuple, slots: Sequence[int]) -> tuple[tuple, list[Any]] | None:
    """(attrs, number tensors) for a call whose Python numbers keep changing at this place; None while they are few."""
    found = op.runtime(attrs)  # type: ignore[misc]
    if found is None:
        return None
    runtime, numbers = found
    key = (op, runtime, *slots)
    seen = tr.node.scalars.setdefault(key, set())
    if len(seen) < VARIANTS or attrs in seen:
        seen.add(attrs)
        return None
    return runtime, [make(scalar_value(n)) for n in numbers]


def link(tr: Trace, node: TraceNode, tensors: Sequence[Handle], needs: int, outputs: tuple[Value, ...]) -> GradNode | None:
    """The graph node of a recorded operation; ``needs`` has a bit for each input that wants a gradient."""
    plan = node.saves.get(needs)
    if plan is None:
        plan = _plan(node, tensors, needs)
    in_metas, mask, outs = plan
    if in_metas is None:
        return None
    made = grad_class(len(tensors))()
    made.node = node
    made.epoch = tr.epoch
    made.in_metas = in_metas
    made.rare = None
    for t, name in zip(tensors, made.EDGES):
        setattr(made, name, t if t._edge is LEAF else t._edge)
    for k, name in enumerate(made.KEPT):
        setattr(made, name, tensors[k]._value if mask is not None and mask[k] else None)
    if len(outputs) == 1:
        made.kept_out = outputs[0] if outs else None
    else:
        made.kept_out = None if outs is False else outputs if outs is True else tuple([v if m else None for v, m in zip(outputs, outs)])
    if tr.anomaly:
        from .anomaly import stack_text

        made.rare = {"trace_text": stack_text()}
    return made


def _plan(node: TraceNode, tensors: Sequence[Handle], needs: int) -> tuple[Any, ...]:
    """(metas of the inputs or None where no result is differentiable, mask of the inputs to keep or None, whether to keep
    the results or a mask of those to keep), worked out once for a node and a set of inputs that want gradients."""
    found: tuple[Any, ...] = (None, None, False)
    if any(m.dtype.kind in "fc" for m in node.metas):
        in_metas = tuple(t._value.meta for t in tensors)
        wanted = tuple(bool(needs >> k & 1) for k in range(len(tensors)))
        positions, outs = node.op.saved(in_metas, node.attrs, wanted)  # type: ignore[union-attr]
        if len(node.metas) == 1:
            outs = outs is True or outs is not False and 0 in outs
        elif not isinstance(outs, bool):
            outs = tuple(k in outs for k in range(len(node.metas)))
        found = (in_metas, tuple(k in positions for k in range(len(tensors))) if positions else None, outs)
    node.saves[needs] = found
    return found


# -- views --------------------------------------------------------------------------------------------------------


def apply_view(op: Op, attrs: tuple, t: Handle) -> Any:
    """Record a view operation: the result shares the memory of ``t``."""
    alias = storage_of(t)
    if alias.version != alias.storage.version:
        refresh(t)
    grad = local.trace.grad_enabled
    root = alias.storage.value
    if op.is_cut and root.buffer is not None and not (grad and t._edge is not None) and root.meta.numel:
        m = t._value.meta
        shape, strides, _ = op.place(m.shape, m.strides or contiguous_strides(m.shape), 0, attrs)  # type: ignore[attr-defined]
        own = new_alias(alias.storage, (t if alias.base is None else alias.base) if grad else None, alias,
                        How(op, attrs, meta_of(shape, m.dtype, m.device, strides)))
        out = make(derived_value(own.how.meta, root, own))
        out._alias = own
        return out
    out = _record_view(op, attrs, t, grad)
    tr = local.trace
    if tr.node.stop:
        flush_trace(tr)
    return out


def _record_view(op: Op, attrs: tuple, t: Handle, grad: bool, alias: Alias | None = None) -> Any:
    """The view, which shares the memory of ``t``; with ``alias``, one that was known before."""
    tr = local.trace
    v = t._value
    slot = v.slot if v.epoch is tr.epoch else enter(tr, v)
    node = tr.record((op, attrs, slot))
    if alias is None:
        parent = storage_of(t)
        alias = new_alias(parent.storage, (t if parent.base is None else parent.base) if grad else None, parent, node)
    made = derived_value(node.meta, alias.storage.value, alias, tr.epoch, node.slot)
    tr.values.append(made)
    out = make(made)
    out._alias = alias
    if grad and t._edge is not None:
        out._edge = link(tr, node, (t,), 1, (made,))
    return out


def alias_of(t: Handle, edge: Any = None) -> Any:
    """Another tensor over the whole of the same memory (``detach``, ``data``)."""
    alias = storage_of(t)
    v = value_of(t)
    out = make(v, edge)
    out._alias = new_alias(alias.storage, None, alias.parent, alias.how)
    out._alias._place = alias._place
    return out


# -- in-place writes ----------------------------------------------------------------------------------------------


def write(t: Handle, new: Handle, name: str, update: Op) -> Any:
    """Make ``new`` (a fresh result of the shape and dtype of ``t``) the content of ``t``; returns ``t``.

    ``update`` is the operation ``(whole, part; shape, strides, offset) -> whole`` that writes a view's content into a
    storage.

    Raises:
        RuntimeError: ``t`` is a leaf that requires grad (or a view of one) and grad mode is on.
    """
    tr = local.trace
    alias = t._alias
    if tr.grad_enabled:
        check_writable(t)
    if new._value.buffer is not None:
        new = apply(Restrided.copy, (), (new,), hold=True)  # it has memory; the target's memory is to hold the content
    fresh = new._value
    seen_outside = False
    by = new._edge
    if isinstance(by, GradNode) and by.node.op.name in ("to", "clone"):
        by = by.edges[0]  # a conversion stands between the operation and the write
    if alias is None:
        old = t._value
        seen_outside = old.buffer is not None and is_exported(old)
        _replace(old, fresh, name, by)
        t._value = fresh
        t._version += 1
        if tr.grad_enabled and new._edge is not None:
            t._edge = new._edge
    else:
        storage = alias.storage
        old = storage.value
        seen_outside = old.buffer is not None and is_exported(old)
        if alias.parent is None:
            whole = new
        else:
            base = alias.base
            linked = tr.grad_enabled and base is not None and (base._edge is not None or new._edge is not None)
            if old.buffer is not None and not linked:
                return _write_part(tr, t, alias, new, (name, by))
            holder = make(old, base._edge if linked else None)
            whole = apply(update, alias.place(), (holder, new), hold=True)
            if linked:
                base._edge = whole._edge
        _replace(old, whole._value, name, by)
        storage.value = whole._value
        storage.version += 1
        if tr.grad_enabled and (new._edge is not None) and (alias.parent is None or alias.base is None):
            t._edge = new._edge
        elif alias.parent is not None and alias.base is not None:
            refresh(t)
        if alias.parent is None:
            alias.version = storage.version
            t._value = fresh
    if tr.exported or seen_outside:
        # NumPy sees this memory: it has to be written now.
        del old, fresh, new
        flush_trace(tr)
    return t


def apply_over(op: Op, attrs: tuple, tensors: Sequence[Handle], targets: Sequence[Handle], update: Op) -> None:
    """Record an operation without gradient whose results become the content of ``targets``, which are among its inputs:
    ``apply`` and ``write`` in one, for optimizers, which do this to hundreds of tensors in each step."""
    tr = local.trace
    epoch = tr.epoch
    parts: list[Any] = [op, attrs]
    for t in tensors:
        alias = t._alias
        v = t._value if alias is None or alias.version == alias.storage.version else refresh(t)
        parts.append(v.slot if v.epoch is epoch else enter(tr, v))
    node = tr.record(tuple(parts))
    slot, values, by = node.slot, tr.values, (op.name, None)
    epoch.writes = True
    fresh = []
    for meta in node.metas:
        v = Value()
        v.meta = meta
        v.epoch = epoch
        v.slot = slot
        v.buffer = v.origin = v.home = v.overwritten = None
        values.append(v)
        fresh.append(v)
        slot += 1
    at_once = tr.exported or node.stop
    parts_of_memory = []
    for t, v in zip(targets, fresh, strict=True):
        if tr.grad_enabled:
            check_writable(t)
        alias = t._alias
        if alias is None:
            t._version += 1
        elif alias.parent is None:
            storage = alias.storage
            storage.value = v
            storage.version += 1
            alias.version = storage.version
        else:
            parts_of_memory.append((t, make(v)))  # may be written at once, so after all others
            continue
        old = t._value
        t._value = v
        old.overwritten = by
        if old.buffer is not None and is_exported(old):
            at_once = True
        v.home = old.home if old.home is not None else old.buffer
        old.home = None
    del parts, fresh
    v = old = alias = None  # type: ignore[assignment]
    for t, new in parts_of_memory:
        write(t, new, op.name, update)
    if at_once:
        t = new = parts_of_memory = None  # type: ignore[assignment]
        flush_trace(tr)


def _write_part(tr: Trace, t: Handle, alias: Any, new: Handle, by: tuple[str, Any]) -> Any:
    """Write a part of ready memory at once, after everything that still reads it: the place of the part, which tends to
    change from step to step, is then no part of a path, and the rest of the memory is not copied."""
    flush_trace(tr)
    storage = alias.storage
    old = storage.value
    ready(new._value)
    shape, strides, offset = alias.place()
    d = old.meta.dtype
    place = old.buffer.array(d.numpy, shape, tuple([s * d.itemsize for s in strides]), offset * d.itemsize)  # type: ignore[union-attr]
    place[...] = array_of(new._value)
    old.overwritten = by
    tr.epoch.writes = True
    whole = new_value(old.meta)
    whole.buffer = old.buffer
    storage.value = whole
    storage.version += 1
    t._value, alias.version = derived(alias), storage.version
    if tr.grad_enabled and new._edge is not None:
        t._edge = new._edge
    return t


def check_writable(t: Handle) -> None:
    if t._edge is LEAF:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    alias = t._alias
    if alias is not None and alias.base is not None and alias.base._edge is LEAF:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


def _replace(old: Value, new: Value, name: str, by: Any) -> None:
    """``new`` takes over the memory of ``old``; ``by`` is the graph node of the writing operation, which may itself keep
    the old value."""
    old.overwritten = (name, by)
    tr = local.trace
    tr.epoch.writes = True
    if old.buffer is not None and old.epoch is not tr.epoch:
        enter(tr, old)  # so that the flush sees whether somebody still needs the old content, and moves it
    new.home = old.home if old.home is not None else old.buffer
    old.home = None
