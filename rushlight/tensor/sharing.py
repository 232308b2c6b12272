"""Memory that processes share: ``share_memory_``. What NumPy sees anybody may write (``record/value.py::is_exported``), and so is this."""
from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ..autograd.apply import value_of
from ..autograd.handle import LEAF, make
from ..record.flush import ready
from ..record.meta import Meta
from ..record.value import Value, array_of, value_from_array
from .subclassing import of_class

__all__ = ["is_shared", "share"]


def _memory(t: Any) -> Any:
    """The piece of shared memory in which a tensor lies; None if its memory is its process's own."""
    t._array()  # its content is there, and the storage has taken it up
    buffer = ready(t._value) if t._alias is None else t._alias.storage.value.buffer
    holder = getattr(buffer, "owner", None)
    while type(holder) is np.ndarray:
        holder = holder.base
    if isinstance(holder, memoryview):
        holder = holder.obj
    return holder if isinstance(holder, ctypes.Array) and hasattr(holder, "_wrapper") else None


def is_shared(t: Any) -> bool:
    """Whether a tensor lies in memory that other processes map."""
    return _memory(t) is not None


def share(t: Any) -> None:
    """Move a tensor's content to shared memory. Processes that are forked from now on, or get the tensor among their arguments, see
    what any of them writes. Views that were made before keep the memory that they had."""
    if not t.numel() or is_shared(t):
        return
    from multiprocessing.sharedctypes import RawArray  # some hundredth of a second, which few programs need

    memory = RawArray(ctypes.c_ubyte, t.numel() * t.dtype.itemsize)
    value = _over(memory, value_of(t).meta.own)
    array_of(value)[...] = t.detach()._array()
    t.data = make(value)
    _register(type(t))


def _over(memory: Any, meta: Meta) -> Value:
    value = value_from_array(np.frombuffer(memory, np.uint8).view(meta.dtype.numpy).reshape(meta.memory), copy=False)
    value.meta = meta
    value.buffer.packed = ()  # type: ignore[union-attr]  # no packed form of this content stays true
    return value


def _register(kind: type) -> None:
    from multiprocessing.reduction import ForkingPickler

    ForkingPickler.register(kind, _reduce)


def _reduce(t: Any) -> Any:
    """How a tensor goes to another process: one in shared memory by where it lies, if the process is just being started; all others
    as a copy."""
    from multiprocessing.context import get_spawning_popen

    memory = None if get_spawning_popen() is None else _memory(t)
    meta = value_of(t).meta
    whole = memory is not None and t.is_leaf and meta.own is meta and meta.nbytes == len(memory)
    if not whole:
        return t.__reduce_ex__(2)
    return _rebuild, (type(t), memory, meta, t.requires_grad, dict(t.__dict__))


def _rebuild(kind: type, memory: Any, meta: Meta, requires_grad: bool, state: dict[str, Any]) -> Any:
    t = make(_over(memory, meta))
    if kind is not type(t):
        t = of_class(t, kind)
    t._edge = LEAF if requires_grad else None
    t.__dict__.update(state)
    _register(kind)
    return t
