"""Writes in place: a fresh result becomes the content of a tensor, of all its memory or of the part that it shows."""
from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

from ..record.flush import flush_trace, ready
from ..record.meta import CPU
from ..record.op import Op
from ..record.trace import Trace, local
from ..record.value import NO_MEMORY, Buffer, Immaterial, Value, array_of, immaterial, is_exported, looks, new_value
from . import handle
from .apply import Restrided, apply, attrs_of, described, enter, keep_anew, refresh, value_of
from .handle import (
    LEAF,
    UNWATCHED,
    UNWATCHED_WRITE,
    Handle,
    View,
    base_of,
    derived,
    is_unwatched,
    lying,
    make,
    renew,
    within,
)
from .node import GradNode
from .over_steps import Over, over_of

__all__ = ["apply_over", "at_rest", "OVERLAP", "check_apart", "check_overlap", "check_writable", "free_memory", "is_unrecorded", "replace",
           "write", "written_over", "wrote_part"]


def write(t: Handle, new: Handle, name: str, update: Op) -> Any:
    """Make ``new`` (a fresh result of the shape and dtype of ``t``) the content of ``t``; returns ``t``.

    ``update`` is the operation ``(whole, part; shape, strides, offset) -> whole`` that writes a view's content into a
    storage.

    Raises:
        RuntimeError: ``t`` is a leaf that requires grad (or a view of one) and grad mode is on; elements of ``t`` share memory.
    """
    tr = local.trace
    alias = t._alias
    base: Any = None if alias is None else base_of(alias)
    looks.written += 1
    if handle.was_inferring and not tr.inference:
        handle.check_normal((t,), handle.UNWRITTEN)
    if tr.grad_enabled:
        check_writable(t)
        if alias is not None and alias.parent is not None and (t._edge is not None or new._edge is not None):
            _check_view(alias)
    if alias is not None and name not in _SAME_EVERYWHERE:
        check_apart(t)
    if t._value.meta.device is not CPU:
        return _write_nothing(t, new, base, name, update)
    known = t._value if alias is None else alias.storage.value if alias.parent is None else None
    meta = new._value.meta if known is None else known.meta if known.origin is None else known.meta.plain
    if new._value.buffer is not None or new._value.meta is not meta:
        # It has memory, and the target's memory is to hold the content; or it would fill that in another order.
        new = Restrided.in_order(new, meta)
    if tr.grad_enabled and (new._edge is None or name == "copy_") and t._edge is not None and (alias is None or alias.parent is None):
        # The new content does not depend on the old: what led to that gets zeros.
        new = apply(Restrided.overwrite, (), (make(value_of(t), t._edge), new), hold=True)
    fresh = new._value
    seen_outside = False
    by = _writer(new)
    if alias is None:
        old = t._value
        seen_outside = old.buffer is not None and is_exported(old)
        replace(old, fresh, name, by)
        t._value = fresh
        t._writes += 1
        if tr.grad_enabled and new._edge is not None:
            t._edge = new._edge
    else:
        writes = 1
        if is_unwatched(alias):
            by, writes = UNWATCHED, UNWATCHED_WRITE
        storage = alias.storage
        old = storage.value
        seen_outside = old.buffer is not None and is_exported(old)
        if alias.parent is None:
            whole = new
        else:
            linked = tr.grad_enabled and base is not None and (base._edge is not None or new._edge is not None)
            # What wants a gradient may have saved the old content: that is moved, then, when the write runs.
            if old.buffer is not None and not linked and not (tr.grad_enabled and new._edge is not None):
                return _write_part(tr, t, alias, new, (name, by), writes)
            if linked and base._alias.parent is not None:  # the base is a part of the storage: its history is that of this part
                value_of(base)
                dtype = new._value.meta.dtype
                part = apply(update, attrs_of(within(base, alias.place(), dtype), base._value, dtype), (base, new), hold=True)
                base._edge = part._edge
                place = attrs_of(base._alias.place(), old, base._value.meta.dtype)
                whole = apply(update, place, (make(old), make(part._value)), hold=True)
            else:
                place = attrs_of(alias.place(), old, new._value.meta.dtype)
                whole = apply(update, place, (make(old, base._edge if linked else None), new), hold=True)
                if linked:
                    base._edge = whole._edge
        replace(old, whole._value, name, by)
        storage.value = whole._value
        storage.version += writes
        if tr.grad_enabled and (new._edge is not None) and (alias.parent is None or base is None):
            t._edge = new._edge
        elif alias.parent is not None and base is not None:
            refresh(t)
        if alias.parent is None:
            alias.version = storage.version
            t._value = fresh
    if t._more is not None:
        keep_anew(t)
    if base is not None and base._more is not None:
        keep_anew(base)
    if tr.exported or seen_outside:
        # NumPy sees this memory: it has to be written now.
        del old, fresh, new
        flush_trace(tr)
    elif tr.node.stop:  # what is held until the write is done does not end an epoch before
        del old, fresh, new
        flush_trace(tr, False)
    return t


def _writer(new: Handle) -> Any:
    """The graph node of the operation whose result is written; None: it has none."""
    by = new._edge
    if isinstance(by, GradNode) and by.node.op.name in ("to", "clone"):
        by = by.edges[0]  # a conversion stands between the operation and the write
    return by


def _write_nothing(t: Handle, new: Handle, base: Any, name: str, update: Op) -> Any:
    """``write`` for a tensor without memory: what changes is its history, and how often it was written."""
    alias, grad = t._alias, local.trace.grad_enabled
    if alias is None or alias.parent is None:
        if grad and new._edge is None and t._edge is not None:
            new = apply(Restrided.overwrite, (), (make(t._value, t._edge), new))
        edge = new._edge
    else:
        edge = None
        if grad and base is not None and (base._edge is not None or new._edge is not None):
            value_of(base)
            dtype = new._value.meta.dtype
            base._edge = apply(update, attrs_of(within(base, alias.place(), dtype), base._value, dtype), (base, new))._edge
    old = t._value if alias is None else alias.storage.value
    fresh = immaterial(old.meta)
    _overwrite(old, name, _writer(new))
    if alias is None:
        t._value = fresh
        t._writes += 1
    else:
        _hold(t, alias, fresh, UNWATCHED_WRITE if is_unwatched(alias) else 1)
    if grad and edge is not None:
        t._edge = edge
    elif alias is not None and alias.parent is not None and base is not None:
        refresh(t)
    return t


def at_rest(t: Handle) -> Buffer | None:
    """The memory of a tensor if it can be written straight away, as if nobody had ever seen what is there: it is ready, all of it
    belongs to this tensor, and nobody else holds its value, no graph node and nothing that is pending. ``written_over`` is to be called
    then. Waits for programs in flight that use it. None where a write has to be recorded (``write``), or is an error."""
    tr = local.trace
    v, alias = t._value, t._alias
    buffer, epoch = v.buffer, v.epoch
    if buffer is None or t._more is not None or t._edge is not None and tr.grad_enabled or v.meta.strides is not None or (
            epoch is not None and (epoch is tr.epoch or epoch.trace is not tr)) or id(buffer) in tr.windows or buffer is NO_MEMORY:
        return None
    if alias is not None and (alias.parent is not None or alias.version != alias.storage.version or is_unwatched(alias)):
        return None
    if handle.was_inferring and not tr.inference and handle.is_inference(t):
        return None
    if getrefcount(v) > (3 if alias is None else 4):  # the tensor, v, the argument; the storage
        return None
    if buffer.flight is not None:
        buffer.flight.settle(buffer)
    return buffer


def written_over(t: Handle) -> Any:
    """The memory of a tensor ``at_rest`` has other content; returns the tensor."""
    looks.count += 1  # a call that did so is not remembered: it recorded nothing
    looks.written += 1
    buffer: Any = t._value.buffer
    if buffer.packed:
        buffer.packed = None
    alias = t._alias
    if alias is None:
        t._writes += 1
    else:
        alias.storage.version += 1
        alias.version = alias.storage.version
    return t


def is_unrecorded(t: Handle) -> bool:
    """Whether a write to a tensor has no gradient, no hooks and no history to keep, wherever the memory is."""
    tr, alias = local.trace, t._alias
    if alias is not None:
        base = base_of(alias)
        if is_unwatched(alias) or base is not None and (base._more is not None or base._edge is not None and tr.grad_enabled):
            return False
    if handle.was_inferring and not tr.inference and handle.is_inference(t):
        return False
    return t._more is None and not (t._edge is not None and tr.grad_enabled)


def free_memory(t: Handle) -> Buffer | None:
    """The memory that a tensor lies in, all of it, if a part may be written straight away: it is ready, nothing that is pending reads it,
    and the write has no gradient. ``wrote_part`` is to be called then. Waits for programs in flight that use it. None where a write has
    to be recorded (``write``), or is an error."""
    tr, alias = local.trace, t._alias
    v = t._value if alias is None else alias.storage.value
    buffer, epoch = v.buffer, v.epoch
    if buffer is None or not is_unrecorded(t) or (
            epoch is not None and (epoch is tr.epoch or epoch.trace is not tr)) or id(buffer) in tr.windows or buffer is NO_MEMORY:
        return None
    if buffer.flight is not None:
        buffer.flight.settle(buffer)
    return buffer


def wrote_part(t: Handle, name: str) -> None:
    """The operation ``name`` has written a part of the ``free_memory`` of a tensor: it has another value, which lies in the same memory."""
    looks.count += 1  # a call that did so is not remembered: it recorded nothing
    looks.written += 1
    alias = t._alias
    old = t._value if alias is None else alias.storage.value
    _overwrite(old, name, None)
    whole = _value_over(old)
    if alias is None:
        t._value = whole
        t._writes += 1
    else:
        _hold(t, alias, whole, 1)


def _overwrite(old: Value, name: str, by: Any) -> None:
    """The content of a value is there no longer."""
    old.overwritten = (name, by)
    local.trace.epoch.writes = True
    buffer: Any = old.buffer
    if buffer.packed:
        buffer.packed = None


def _value_over(old: Value) -> Value:
    """What lies in the memory of a value that was overwritten."""
    whole = new_value(old.meta)
    whole.buffer = old.buffer
    return whole


def _hold(t: Handle, alias: Any, whole: Value, writes: int) -> None:
    """The storage of a tensor has another value, written through this tensor."""
    storage = alias.storage
    storage.value = whole
    storage.version += writes
    if alias.parent is None:
        alias.version = storage.version
        t._value = whole
    else:
        t._value = derived(renew(t))


def apply_over(op: Op, attrs: tuple, tensors: Sequence[Handle], targets: Sequence[Handle], update: Op) -> None:
    """Record an operation without gradient whose results become the content of ``targets``, which are among its inputs:
    ``apply`` and ``write`` in one, for optimizers, which do this to hundreds of tensors in each step."""
    tr = local.trace
    looks.written += 1
    start, before = tr.node, len(tr.values)
    known = start.over
    again = known is not None and known.op is op and known.attrs == attrs
    if again and known.step is not None and not tr.full:
        at_once = known.step(tr, known.facts, tensors, targets)
        if at_once is not None:
            if at_once:
                flush_trace(tr)
            return
    if handle.was_inferring and not tr.inference:
        handle.check_normal(targets, handle.UNWRITTEN)
    epoch = tr.epoch
    parts: list[Any] = [op, attrs]
    try:
        for t in tensors:
            alias = t._alias
            v = t._value if alias is None or alias.version == alias.storage.version else refresh(t)
            parts.append(v.slot if v.epoch is epoch else enter(tr, v))
    except Immaterial:
        made = described(op, attrs, tensors)
        for t, new in zip(targets, made if type(made) is tuple else (made,), strict=True):
            write(t, new, op.name, update)
        return
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
            t._writes += 1
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
        if old.buffer is None:
            epoch.rewrites = True
        elif is_exported(old):
            at_once = True
        v.home = old.home if old.home is not None else old.buffer
        old.home = None
    if not (at_once or parts_of_memory):
        # Writing the code takes a while for many tensors: what comes once is only marked.
        start.over = None if tr.passing.loose else Over(op, attrs, None, ()) if not again else over_of(
            op, attrs, tensors, parts[2:], targets, before, node, values)
    del parts, fresh
    v = old = alias = None  # type: ignore[assignment]
    for t, new in parts_of_memory:
        write(t, new, op.name, update)
    if at_once:
        t = new = parts_of_memory = None  # type: ignore[assignment]
        flush_trace(tr)


def _write_part(tr: Trace, t: Handle, alias: Any, new: Handle, by: tuple[str, Any], writes: int) -> Any:
    """Write a part of ready memory at once, after everything that still reads it: the place of the part, which tends to
    change from step to step, is then no part of a path, and the rest of the memory is not copied."""
    flush_trace(tr)
    storage = alias.storage
    old = storage.value
    ready(new._value)
    shape, strides, offset = alias.place()
    d = new._value.meta.dtype
    if 0 not in shape:  # an empty part may begin behind the end
        place = old.buffer.array(d.numpy, shape, tuple([s * d.itemsize for s in strides]), offset * d.itemsize)  # type: ignore[union-attr]
        place[...] = array_of(new._value)
    _overwrite(old, *by)
    _hold(t, alias, _value_over(old), writes)
    return t


def check_writable(t: Handle) -> None:
    if t._edge is LEAF:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    alias = t._alias
    if alias is None:
        return
    base = base_of(alias)
    if base is None:
        base = t
    if base is not t and base._edge is LEAF:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    if base._more is not None and "passed_by" in base._more and base._edge is not None:
        raise RuntimeError(
            f"{base._more['passed_by']} is a view and is being modified inplace. This view was created inside a custom Function (or "
            "because an input was returned as-is) and the autograd logic to handle view+inplace would override the custom backward "
            "associated with the custom Function, leading to incorrect gradients. This behavior is forbidden. You can fix this by "
            "cloning the output of the custom Function.")


def _check_view(alias: Any) -> None:
    """Refuse a write with gradients through one of several views that a function returned together, or a view that knows no base."""
    if type(alias) is View and alias.base is None:
        raise RuntimeError("A view was created in no_grad mode and is being modified inplace with grad mode enabled. Given that this use "
                           "case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and the "
                           "inplace either both inside the no_grad block (if you don't want the inplace to be tracked) or both outside "
                           "(if you want the inplace to be tracked).")
    one = alias
    while one.parent is not None:
        op = one.how.op
        if op is not None and op.is_one_of_many:
            raise RuntimeError(f"Output of {op.grad_name} is a view and is being modified inplace. This view is the output of a function "
                               "that returns multiple views. Such functions do not allow the output views to be modified inplace. You "
                               "should replace the inplace operation by an out-of-place one.")
        one = one.parent


_SAME_EVERYWHERE = frozenset(("fill_", "zero_"))  # writes that give each element the same, however many places it has


def check_apart(t: Handle) -> None:
    """Refuse to write into a tensor that was expanded.

    Raises:
        RuntimeError: a dimension repeats the same memory.
    """
    meta = t._value.meta
    if meta.strides is not None and meta.numel and any(s == 0 and n > 1 for s, n in zip(meta.strides, meta.shape)):
        raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
                           "Please clone() the tensor before performing the operation.")


Place = tuple[tuple[int, ...], tuple[int, ...], int]


def check_overlap(t: Handle, other: Handle, whole: bool = False, place: Place | None = None) -> None:
    """Refuse to write into a tensor while a part of it is read through another one, which shows other elements at the same places.

    Only tensors without gaps are compared, as in PyTorch: what lies in between others is written as if they were apart. With
    ``whole`` the two may not even lie at the same place. ``place``: what is written of the memory of ``t``, if not all that it shows.

    Raises:
        RuntimeError: both share memory.
    """
    a, b = t._alias, other._alias
    if t is other and place is None and not whole or t is not other and (a is None or b is None or a.storage is not b.storage):
        return
    own = (*lying(t._value), 0) if a is None else a.place()
    here, there = (_stretch(v.meta.dtype.itemsize, *at) for v, at in (
        (t._value, place or own), (other._value, own if t is other else b.place())))
    if here is None or there is None or here == there and not whole or here[0] >= there[1] or there[0] >= here[1]:
        return
    raise RuntimeError(OVERLAP)


OVERLAP = ("unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory location. Please "
           "clone() the tensor before performing the operation.")


def _stretch(width: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> tuple[int, int, tuple[int, ...]] | None:
    """(first byte, that behind the last, strides of more than one) of the places of a tensor, with elements of ``width`` bytes, that fills
    its stretch of memory; else None."""
    dims = sorted([(s, n) for s, n in zip(strides, shape) if n != 1])
    step = 1
    for s, n in dims:
        if s != step:
            return None
        step *= n
    return None if 0 in shape else (offset * width, (offset + step) * width, tuple([s for s, n in zip(strides, shape) if n != 1]))


def replace(old: Value, new: Value, name: str, by: Any) -> None:
    """``new`` takes over the memory of ``old``; ``by`` is the graph node of the writing operation, which may itself keep
    the old value."""
    old.overwritten = (name, by)
    tr = local.trace
    tr.epoch.writes = tr.epoch.rewrites = True
    if old.buffer is not None and old.epoch is not tr.epoch:
        enter(tr, old)  # so that the flush sees whether somebody still needs the old content, and moves it
    new.home = old.home if old.home is not None else old.buffer
    old.home = None
