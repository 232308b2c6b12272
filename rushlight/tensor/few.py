"""Ready values of a few numbers, written without NumPy: some programs make one in each step."""
from __future__ import annotations

from ctypes import c_double, c_float, c_int64
from typing import Any

from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..record.meta import meta_of
from ..record.value import Value, allocate, new_value

__all__ = ["few_numbers"]

_FEW = 32      # numbers that are written one by one
_LARGE = 1e18  # numbers beyond this are looked at closer
_NUMBERS: dict[DType, Any] = {dt.float32: c_float, dt.float64: c_double, dt.int64: c_int64}


def few_numbers(data: Any, dtype: DType) -> Value | None:
    """The value of one number, or of a few in a list. None for what needs a closer look."""
    kind = _NUMBERS.get(dtype)
    if kind is None:
        return None
    of = int if kind is c_int64 else float
    if type(data) is list:
        if not 0 < len(data) <= _FEW or set(map(type, data)) != {of} or not (-_LARGE < min(data) and max(data) < _LARGE):
            return None
        v = new_value(meta_of((len(data),), dtype))
        v.buffer = allocate(v.meta.nbytes)
        (kind * len(data)).from_address(v.buffer.ptr)[:] = data
        return v
    if type(data) is not of or not -_LARGE < data < _LARGE:
        return None
    v = new_value(meta_of((), dtype))
    v.buffer = allocate(8)
    kind.from_address(v.buffer.ptr).value = data
    return v
