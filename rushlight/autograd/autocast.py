"""Autocast: operations choose the type they compute in. ``rushlight.amp`` is the public face of this module.

What an operation chooses is part of its declaration: ``Op.autocast`` is "low" (inputs become the region's narrow type) or
"float32". ``apply`` asks only where it finds no edge in the trie: while autocast is on, recording stands on branches that
begin with a mark of the narrow type, so an edge that is found there was chosen before, under the same type. Outside of a
region recording costs what it costs without autocast, and no path is shared between the two.

The casts are recorded operations, so gradients of float32 parameters are float32. The cast of a parameter is kept until
the outermost region ends: it is cast once, and gradients of all its uses add up in the narrow type's graph node.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ..compile.dtypes import DType, bfloat16, float16, float32
from ..record.op import Op
from ..record.trace import Trace, local
from .handle import LEAF, Handle

__all__ = ["Regions", "fitted", "full_precision", "narrowed", "paused", "region", "regions", "resumed", "switch",
           "widest"]

F = TypeVar("F", bound=Callable[..., Any])

cast_to: Callable[[Any, DType], Any]  # (tensor, dtype) -> the cast tensor; handed in by the room above


def hand_in(cast: Callable[[Any, DType], Any]) -> None:
    global cast_to
    cast_to = cast


class Regions:
    """The autocast state of one thread.

    Attributes:
        enabled, dtype: by kind of device. Only "cpu" has operations; the others are remembered for programs that ask.
        nesting: how many regions are entered; the cache is dropped when it returns to 0.
        cache: (identity of a parameter, whether gradients are recorded, narrow type) -> (parameter, its value, the cast).
    """

    __slots__ = ("enabled", "dtype", "nesting", "use_cache", "cache", "paused")

    def __init__(self) -> None:
        self.enabled: dict[str, bool] = {}
        self.dtype: dict[str, DType] = {"cpu": bfloat16}
        self.nesting = 0
        self.use_cache = True
        self.cache: dict[tuple[int, bool, DType], tuple[Any, Any, Any]] = {}
        self.paused = 0

    @property
    def low(self) -> DType | None:
        """The narrow type that operations on the CPU choose at this moment; None outside of autocast."""
        return self.dtype["cpu"] if self.enabled.get("cpu") and not self.paused else None

    def leave(self) -> int:
        """One region less; with the outermost the cache goes."""
        self.nesting -= 1
        if not self.nesting:
            self.cache.clear()
        return self.nesting

    def default(self, device: str) -> DType:
        return self.dtype.get(device, float16)


def regions() -> Regions:
    """The autocast state of this thread."""
    tr = local.trace
    if tr.regions is None:
        tr.regions = Regions()
    return tr.regions


def switch(tr: Trace) -> None:
    """Make recording follow the state of ``tr.regions``."""
    low = tr.regions.low
    if low is not tr.low:
        tr.branch(low)


def fitted(op: Op, tensors: Sequence[Handle], low: DType) -> list[Any] | None:
    """``tensors`` in the types that ``op`` chooses; None if they are as it wants them."""
    want = low if op.autocast == "low" else float32
    out: list[Any] = [_cast(t, want, want is low) for t in tensors]
    return out if any(a is not b for a, b in zip(out, tensors)) else None


def _cast(t: Handle, want: DType, keep: bool) -> Any:
    """``t`` in type ``want``, unless it is no floating tensor, or a double one."""
    have = t._value.meta.dtype
    if have is want or have.kind != "f" or have.itemsize == 8:
        return t
    tr = local.trace
    state = tr.regions
    alias = t._alias
    if not (keep and state.use_cache and have is float32 and t._edge is LEAF and (alias is None or alias.parent is None)):
        return cast_to(t, want)
    if alias is not None and alias.version != alias.storage.version:
        t._value, alias.version = alias.storage.value, alias.storage.version
    key = (id(t), tr.grad_enabled, want)
    found = state.cache.get(key)
    if found is None or found[1] is not t._value:
        found = state.cache[key] = (t, t._value, cast_to(t, want))
    return found[2]


@contextmanager
def paused(tr: Trace) -> Iterator[None]:
    """Autocast is off inside: gradient rules compute in the types of the forward."""
    state = tr.regions
    state.paused += 1
    switch(tr)
    try:
        yield
    finally:
        state.paused -= 1
        switch(tr)


@contextmanager
def resumed(tr: Trace) -> Iterator[None]:
    """The caller's autocast state again, inside ``paused``: for gradients that users write."""
    state = tr.regions
    before, state.paused = state.paused, 0
    switch(tr)
    try:
        yield
    finally:
        state.paused = before
        switch(tr)


@contextmanager
def region(low: DType | None) -> Iterator[None]:
    """Operations on the CPU choose ``low`` inside (None: nothing), whatever the thread's state."""
    tr = local.trace
    if low is tr.low:
        yield
        return
    state = regions()
    kept = state.enabled.get("cpu", False), state.dtype["cpu"], state.paused
    state.enabled["cpu"], state.dtype["cpu"], state.paused = low is not None, low or kept[1], 0
    state.nesting += 1
    switch(tr)
    try:
        yield
    finally:
        state.leave()
        state.enabled["cpu"], state.dtype["cpu"], state.paused = kept
        switch(tr)


def full_precision(function: F) -> F:
    """A function of several operations that autocast runs in float32: its floating tensors (not double ones) are cast
    first, and what it calls chooses nothing."""
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        tr = local.trace
        if tr.low is None:
            return function(*args, **kwargs)
        args = tuple([_widened(a) for a in args])
        kwargs = {name: _widened(a) for name, a in kwargs.items()}
        with paused(tr):
            return function(*args, **kwargs)
    return call  # type: ignore[return-value]


def narrowed(*tensors: Any) -> list[Any] | None:
    """Under autocast, floating tensors (but double ones) in the narrow type, other arguments as they are; None where that
    changes nothing, or autocast is off. For functions that look at types before they record anything."""
    low = local.trace.low
    if low is None:
        return None
    out = [_cast(t, low, True) if isinstance(t, Handle) else t for t in tensors]
    return out if any(a is not b for a, b in zip(out, tensors)) else None


def widest(*tensors: Any) -> Sequence[Any]:
    """Under autocast, tensors of float32 and narrower types together become float32."""
    if local.trace.low is None or not any(t._value.meta.dtype is float32 for t in tensors):
        return tensors
    return [_cast(t, float32, False) for t in tensors]


def _widened(a: Any) -> Any:
    if isinstance(a, Handle):
        return _cast(a, float32, False)
    if type(a) in (list, tuple):
        return type(a)(_widened(x) for x in a)
    return a
