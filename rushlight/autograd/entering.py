"""Values of ready memory that enter a trace as leaves: which may, and as what. ``apply.enter`` is the way for all; this is what the code of
calls that are remembered, of writes and of backwards says or calls, where it has been found out before how a value enters.
"""
from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from ..record.flush import ready
from ..record.meta import is_contiguous, meta_of
from ..record.trace import Trace
from ..record.value import Buffer, Value, copied, is_exported
from .apply import window

__all__ = ["copy_of", "in_use", "in_use_text", "is_stretch", "is_strided", "is_whole", "part_of", "stretch_of"]


def in_use_text(v: str) -> str:
    """``in_use`` of the value with this name, which is in memory, as an expression of a step: without a call for each leaf. It needs
    ``getrefcount``, ``ndarray`` and ``is_exported``."""
    return f"(getrefcount({v}.buffer) > 2 or type({v}.buffer.owner) is ndarray and is_exported({v}))"  # v.buffer, the argument


def in_use(v: Value) -> bool:
    """Whether the memory of a ready value may be written by somebody outside (as ``is_exported``, which looks closer)."""
    buffer = v.buffer
    if getrefcount(buffer) > 3:  # v.buffer, the local, the argument
        return True
    if type(buffer.owner) is not np.ndarray:  # type: ignore[union-attr]
        return False
    del buffer
    return is_exported(v)


def is_whole(v: Value, epoch: Any, others: Sequence[Value]) -> bool:
    """Whether a view of ready memory would enter as one leaf: a row-major part of some that nobody outside can write and that
    does not enter itself."""
    meta, root = v.meta, v.origin
    # Strides along dimensions of length 1 say nothing: a chunk of a single row is a part like any other.
    if root is None or meta.strides is not None and not is_contiguous(meta.shape, meta.strides):
        return False
    return root.buffer is not None and root.epoch is not epoch and root not in others and not is_exported(root)


def is_strided(v: Value) -> bool:
    """Whether a value is a view whose elements do not lie in a row."""
    strides = v.meta.strides
    return v.buffer is None and strides is not None and not is_contiguous(v.meta.shape, strides)


def is_stretch(v: Any, epoch: Any, others: Sequence[Value]) -> bool:
    """Whether a view would enter as the stretch of ready memory that it lies in."""
    root = v.origin
    if root is None or root.buffer is None or root.epoch is epoch or root in others or not v.meta.numel:
        return False
    return is_strided(v) and v.alias.place()[1] == v.meta.strides and not is_exported(root)


def stretch_of(tr: Trace, v: Any) -> Value:
    """The leaf as which a view with strides of ready memory enters."""
    root = v.origin
    shape, strides, offset = v.alias.place()
    span = 1 + sum([(n - 1) * s for n, s in zip(shape, strides)])
    leaf = window(tr, root, meta_of((span,), v.meta.dtype, root.meta.device), offset)
    leaf.epoch, leaf.slot = tr.epoch, len(tr.values)
    return leaf


def copy_of(v: Value, epoch: Any, slot: int) -> Value:
    """The leaf as which small memory enters, or a row-major part of some, that somebody outside can write."""
    root: Any = v.origin
    if root is None:
        leaf = copied(v, ready(v).ptr)
    else:
        leaf = copied(v, ready(root).ptr + v.alias.place()[2] * v.meta.dtype.itemsize)  # type: ignore[attr-defined]
    leaf.epoch, leaf.slot = epoch, slot
    return leaf


def part_of(tr: Trace, v: Value) -> Value:
    """The leaf as which a part of ready memory enters."""
    # As ``window``, written out: batches of a data set are such parts, two of them in every step.
    root: Any = v.origin
    buffer = root.buffer
    tr.windows.add(id(buffer))
    meta = v.meta.plain
    leaf = Value()
    leaf.meta, leaf.epoch, leaf.slot = meta, v.epoch, v.slot
    leaf.origin = leaf.home = leaf.overwritten = None
    alias: Any = v.alias  # type: ignore[attr-defined]
    place = alias._place or alias.place()
    leaf.buffer = part = Buffer()
    part.ptr, part.nbytes, part.owner = buffer.ptr + place[2] * meta.dtype.itemsize, meta.nbytes, root
    part.packed = part.flight = None
    return leaf
