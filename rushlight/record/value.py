"""Value: one result of one operation, pending in a trace or ready in memory."""
from __future__ import annotations

import itertools
from ctypes import c_double, c_int64, memmove
from sys import getrefcount
from typing import Any

import numpy as np

from ..compile import dtypes
from ..compile.cpu.alloc import Block as Buffer
from ..compile.cpu.alloc import allocate, allocate_behind, allocate_zeroed, block_at, wrap
from .meta import CPU, Meta, meta_of

__all__ = ["COPIED", "Value", "DerivedValue", "Buffer", "Epoch", "Immaterial", "NO_DATA", "NO_MEMORY", "allocate", "allocate_behind",
           "allocate_zeroed", "block_at",
           "value_from_array", "array_of", "copied", "immaterial", "is_exported", "looks", "new_epoch", "new_value", "scalar_value"]


#: Objects of one kind that nobody needs any more, kept to be used again.
SPARE = 1000
_epochs = itertools.count()


class Epoch:
    """The stretch of recording between two flushes of one trace. ``error`` is set where running it failed; ``number`` grows with
    time; ``writes`` tells whether something was written in place meanwhile, ``rewrites`` whether what is pending may have been,
    ``backwards`` how often a backward was recorded."""

    # Made by ``new_epoch``: a class without ``__init__`` is called in half the time.
    __slots__ = ("trace", "error", "number", "writes", "rewrites", "backwards")
    trace: Any
    error: BaseException | None
    number: int
    writes: bool
    rewrites: bool
    backwards: int


def new_epoch(trace: Any) -> Epoch:
    epoch = Epoch()
    epoch.trace = trace
    epoch.number = next(_epochs)
    epoch.error = None
    epoch.writes = epoch.rewrites = False
    epoch.backwards = 0
    return epoch


class Value:
    """An immutable array that is there or will be.

    * *pending*: ``epoch`` is the epoch of the trace that recorded it, ``slot`` its number there, ``buffer`` None.
    * *ready*: ``buffer`` holds it, row-major or in the order of its meta. ``epoch`` and ``slot`` remember where it last entered a trace as
      a leaf. A program in flight may still be about to write it there, which whoever looks at the memory waits for
      (``compile/cpu/flight.py``).
    * *derived* (a ``DerivedValue``): a view of the value ``origin``; it has no memory of its own and is recorded again where
      it is needed.

    ``home`` is the memory that this value takes over when it becomes ready (the target of an in-place write), and
    ``overwritten`` is (name, graph node) of the in-place operation that replaced this value in its tensor (the version
    check of autograd).
    """

    # Made by ``new_value``: a class without ``__init__`` is called in half the time.
    __slots__ = ("meta", "epoch", "slot", "buffer", "origin", "home", "overwritten")
    meta: Meta
    epoch: Epoch | None
    slot: int
    buffer: Buffer | None
    origin: Value | None
    home: Buffer | None
    overwritten: tuple[str, Any] | None


class DerivedValue(Value):
    """``alias`` tells how this value lies in ``origin``. Its classes are in ``autograd/handle.py``."""

    __slots__ = ()
    alias: Any

    def let_go(self, wholes: list[Any]) -> bool:
        """Nobody needs this value any more: refer to nothing. Returns whether it may serve again (``Trace.spare_views``); what its tensor
        got for it may too, in ``wholes`` (``Trace.spare_wholes``)."""
        raise NotImplementedError


NO_DATA = "Cannot copy out of meta tensor; no data!"


class Nothing:
    """The memory of tensors of the device ``meta``: there is none, and whoever looks for it is told so."""

    __slots__ = ("packed", "flight", "__weakref__")
    nbytes = 0
    owner = None

    def __init__(self) -> None:
        self.packed = self.flight = None

    @property
    def ptr(self) -> int:
        raise NotImplementedError(NO_DATA)

    def array(self, *args: Any) -> Any:
        raise NotImplementedError(NO_DATA)


NO_MEMORY: Any = Nothing()


class Immaterial(Exception):
    """A value without memory was about to enter a trace: nothing is recorded of it."""


def immaterial(meta: Meta) -> Value:
    """A value of the device ``meta``."""
    v = new_value(meta)
    v.buffer = NO_MEMORY
    return v


def new_value(meta: Meta, epoch: Epoch | None = None, slot: int = -1) -> Value:
    """A value with no memory yet."""
    v = Value()
    v.meta = meta
    v.epoch = epoch
    v.slot = slot
    v.buffer = v.origin = v.home = v.overwritten = None
    return v


def value_from_array(array: np.ndarray, *, copy: bool = True) -> Value:
    """A ready value with the content of ``array``; without ``copy`` it shares the (row-major) memory."""
    meta = meta_of(array.shape, dtypes.from_numpy(array.dtype), CPU)
    v = new_value(meta)
    if copy:
        v.buffer = allocate(max(meta.nbytes, 1))
        v.buffer.array(meta.dtype.numpy, meta.shape)[...] = array
    else:
        v.buffer = wrap(array)
    return v


_INT, _FLOAT = meta_of((), dtypes.int64), meta_of((), dtypes.float64)


_positions: dict[int, Value] = {}  # the values of small numbers, which serve again when nobody refers to them
_SMALL = 1024


def scalar_value(number: bool | int | float) -> Value:
    """A zero-dimensional float64 or int64: a number that is an input of a program rather than part of it. It is to enter a trace once."""
    if type(number) is int and 0 <= number < _SMALL:
        # A loop over positions asks for the same ones again and again, and making one takes as long as recording what it is for.
        v = _positions.get(number)
        if v is None or getrefcount(v) > 3 or v.buffer.flight is not None:  # type: ignore[union-attr]  # the dictionary, v, the argument
            v = _positions[number] = _scalar(number)
        return v
    return _scalar(number)


def _scalar(number: bool | int | float) -> Value:
    # Written straight into memory, without NumPy: some loops have one in every step.
    kind, v = (c_int64, new_value(_INT)) if isinstance(number, int) else (c_double, new_value(_FLOAT))
    if kind is c_int64 and not -1 << 63 <= number < 1 << 63:
        raise OverflowError(f"{number} does not fit into an int64")
    v.buffer = allocate(8)
    kind.from_address(v.buffer.ptr).value = number
    return v


class _Looks:
    """How often content was looked at, since what a function does after a look may depend on it; and how often ``written`` in place."""

    __slots__ = ("count", "written")

    def __init__(self) -> None:
        self.count = self.written = 0


looks = _Looks()


def array_of(v: Value) -> np.ndarray:
    """The memory of a ready value as a NumPy array that keeps it alive."""
    meta = v.meta
    looks.count += 1
    if meta.order is not None:
        width = meta.dtype.itemsize
        return v.buffer.array(meta.dtype.numpy, meta.shape, tuple([s * width for s in meta.strides]), 0)  # type: ignore[union-attr]
    return v.buffer.array(meta.dtype.numpy, meta.shape)  # type: ignore[union-attr]


COPIED = 4096  # bytes of memory that others can write, at most, that are copied where they are read: a run of its own would take longer


def copied(v: Value, address: int) -> Value:
    """A ready value of the meta of ``v`` (row-major for a part of something) with the content that lies at the address now."""
    meta = v.meta if v.origin is None else v.meta.plain
    leaf = new_value(meta)
    leaf.buffer = allocate(meta.nbytes or 1)
    memmove(leaf.buffer.ptr, address, meta.nbytes)
    return leaf


def is_exported(v: Value) -> bool:
    """Whether somebody outside may change the memory of a ready value: a NumPy array over it is alive.

    Such a value must be read when an operation is recorded, not later.
    """
    buffer = v.buffer
    if getrefcount(buffer) > 3:  # v.buffer, the local, the argument
        return True
    array = buffer.owner  # type: ignore[union-attr]
    if type(array) is not np.ndarray:
        return False
    # Memory taken over from NumPy: a chain of views down to the array that owns it, each held by the one before only.
    while getrefcount(array) <= 3:  # its holder, the local, the argument
        array = array.base
        if array is None:
            return False
        if type(array) is not np.ndarray:
            return True
    return True
