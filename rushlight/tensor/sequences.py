"""Evenly spaced numbers."""
from __future__ import annotations

import builtins
import math
import numbers
from ctypes import c_int64
from typing import Any

import numpy as np

from ..autograd.handle import Handle, make
from ..compile import dtypes as dt
from ..compile.cpu.twister import draw
from ..compile.dtypes import DType
from ..ops.promotion import default_dtype
from ..record.draws import address_of
from ..record.meta import CPU, meta_of
from ..record.value import allocate, new_value
from ..record.warn import warn
from .creation import check_device, convert, finish, from_owned, placed
from .registry import public

__all__ = ["arange", "linspace", "logspace", "spaced"]

_FEW = 32        # whole numbers that are written one by one
_WIDE = 1 << 62  # beyond this they are looked at closer


@public(method=False, recorded=False)
def arange(start: Any = None, end: Any = None, step: Any = 1, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
           requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """start, start + step, ... below end.

    Raises:
        RuntimeError: step is zero or leads away from ``end``.
    """
    where = check_device(device)
    if end is None:
        start, end = 0, start
    elif start is None:
        start = 0
    for x in (start, end, step):
        if x is None or isinstance(x, (str, list, tuple)):
            raise TypeError(f"arange() received an invalid combination of arguments: {type(x).__name__} is no number")
    if dtype is not None and dtype.kind in "bc":
        raise NotImplementedError(f"arange() is not implemented for {dtype}")
    if type(start) is type(end) is type(step) is int and step > 0 and -_WIDE < start <= end < _WIDE \
            and (dtype is None or dtype is dt.int64) and not requires_grad and where is CPU:
        return _counted(start, step, (end - start + step - 1) // step)
    start, end, step = (x.item() if isinstance(x, (Handle, np.generic)) else x for x in (start, end, step))
    if dtype is None:
        whole = all(isinstance(x, int) for x in (start, end, step))
        dtype = dt.int64 if whole else default_dtype()
    _check_way(start, end, step)
    n = max(0, math.ceil((end - start) / step)) if not isinstance(step, int) or not isinstance(end - start, int) else \
        max(0, -((start - end) // step))
    if dtype.kind in "iu":  # the count follows from the numbers given, the elements from their whole parts
        start, step = int(start), int(step)
        if step == 0:
            raise ValueError("step must be nonzero: it has no whole part")
    wide = np.arange(n, dtype=np.int64) * step + start if dtype.kind in "iu" and isinstance(step, int) and isinstance(start, int) else \
        np.arange(n, dtype=np.float64) * step + start
    return finish(placed(from_owned(convert(wide, dtype).copy()), where), requires_grad)


def _check_way(start: Any, end: Any, step: Any) -> None:
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")


def _counted(start: int, step: int, n: int) -> Any:
    """``n`` whole numbers from ``start`` on. Positions in a sequence are made by every step that generates text."""
    v = new_value(meta_of((n,), dt.int64))
    v.buffer = allocate(8 * n or 1)
    if n <= _FEW:
        (c_int64 * n).from_address(v.buffer.ptr)[:] = [*builtins.range(start, start + n * step, step)]  # without NumPy's overhead
    else:
        v.buffer.array(np.int64, (n,))[...] = np.arange(start, start + n * step, step)
    return make(v)


@public(method=False, recorded=False)
def linspace(start: Any, end: Any, steps: int, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """``steps`` evenly spaced numbers from start to end, both included."""
    where = check_device(device)
    start, end = (x.item() if isinstance(x, Handle) else x for x in (start, end))
    _check_steps("linspace", steps, start, end)
    d = dtype or (default_dtype().to_complex() if isinstance(start, complex) or isinstance(end, complex) else default_dtype())
    return finish(placed(from_owned(convert(spaced(start, end, steps, d), d)), where), requires_grad)


def _check_steps(name: str, steps: Any, *ends: Any) -> None:
    if isinstance(steps, float):
        raise TypeError(f"{name}(): argument 'steps' must be int, not float")
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    for end in ends:
        if not isinstance(end, (numbers.Number, np.bool_)):
            raise TypeError(f"{name}() received an invalid combination of arguments: {type(end).__name__} is no number")


def spaced(start: Any, end: Any, steps: int, d: DType) -> np.ndarray:
    """Counted from both ends, in the result's own precision, as PyTorch does."""
    if d.kind in "iu":
        start, end = int(start), int(end)
    kind = d.compute.numpy if d.kind in "fc" else np.dtype(np.float32)
    if steps == 1:
        return np.array([start], kind)
    step = kind.type((kind.type(end) - kind.type(start)) / kind.type(max(steps - 1, 1)))
    half = steps // 2
    made = np.empty(steps, kind)
    places = np.arange(steps - half).astype(kind, copy=False)  # from either end
    if d.kind != "f":
        made[:half], made[half:] = places[:half] * step + kind.type(start), kind.type(end) - places[::-1] * step
        return made
    # Each sum is rounded once, as a fused multiply-add is.
    for part, count, scale, base in ((made[:half], places[:half], step, start), (made[half:], places[::-1], -step, end)):
        sums = count.astype(np.float64)
        draw("map_fma")(0, address_of(sums), len(sums), float(scale), float(kind.type(base)))
        part[...] = sums
    return made


@public(method=False, recorded=False)
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: DType | None = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """``base`` to the powers of ``linspace(start, end, steps)``."""
    where = check_device(device)
    start, end = (x.item() if isinstance(x, Handle) else x for x in (start, end))
    _check_steps("logspace", steps, start, end)
    d = dtype or default_dtype()
    powers = spaced(start, end, steps, d)
    return finish(placed(from_owned(convert(np.power(np.float64(base), powers.astype(np.float64)), d).copy()), where), requires_grad)


@public(method=False, recorded=False)
def range(start: Any = 0, end: Any = None, step: Any = 1, *, dtype: DType | None = None, layout: Any = None,  # noqa: A001
          device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """start, start + step, ... up to ``end``, which belongs to it: a float tensor of ``(end - start) // step + 1`` elements.

    Deprecated in PyTorch, too, and warns of it: ``arange`` counts as Python does.

    Raises:
        RuntimeError: step is zero or leads away from ``end``.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     range(1, 4)
        tensor([1., 2., 3., 4.])
    """
    warn("torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with Python's range "
         "builtin. Instead, use torch.arange, which produces values in [start, end).", UserWarning)
    where = check_device(device)
    start, end, step = (x.item() if isinstance(x, (Handle, np.generic)) else x for x in (start, end, step))
    if end is None:
        raise TypeError("range() missing 1 required positional argument: 'end'")
    _check_way(start, end, step)
    d = dtype or default_dtype()
    if d.kind in "iu":
        start, end, step = int(start), int(end), int(step)
    n = int((end - start) / step) + 1
    return finish(placed(from_owned(convert(start + step * np.arange(n), d).copy()), where), requires_grad)
