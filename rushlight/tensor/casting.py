"""Methods that convert to one dtype: ``x.float()``, ``x.long()``, ..."""
from __future__ import annotations

from typing import Any

from ..autograd.apply import described
from ..autograd.quick import quick
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops.basic import cast
from ..ops.layouts import in_order
from ..ops.structured import Structured
from ..record.meta import CPU
from ..record.value import NO_DATA
from .registry import CONVENIENCES, METHODS

__all__ = ["converted", "in_format", "moved"]


def _to(self: Any, dtype: DType) -> Any:
    return cast(self, attrs=(dtype,))


_to.__name__ = "to"
converted = quick(_to)  # of another dtype


def in_format(self: Any, memory_format: Any) -> Any:
    """A copy whose memory is filled as the format says."""
    return in_order(self, attrs=(memory_format.order(len(self.shape)),))


_moved = Structured("to", meta=lambda metas: metas[0], lower=lambda g, x, attrs, outs: x[0], grad=lambda ctx, g: g, saves=((), False),
                    grad_name="ToCopyBackward0")


def moved(self: Any, device: Any) -> Any:
    """The tensor on another device: on ``meta``, a description of it.

    Raises:
        NotImplementedError: it has no content that it could take along.
    """
    if device is CPU:
        raise NotImplementedError(NO_DATA)
    return described(_moved, (), (self,))


def _converter(name: str, d: DType) -> None:
    def call(self: Any, memory_format: Any = None) -> Any:
        if memory_format is not None:
            return self.to(d, memory_format=memory_format)
        return self if self._value.meta.dtype is d else converted(self, d)
    call.__name__ = name
    call.__doc__ = f"The tensor converted to {d}."
    METHODS[name] = call
    CONVENIENCES.add(name)


for _name, _dtype in (("float", dt.float32), ("double", dt.float64), ("half", dt.float16), ("bfloat16", dt.bfloat16),
                      ("int", dt.int32), ("long", dt.int64), ("short", dt.int16), ("char", dt.int8), ("byte", dt.uint8),
                      ("bool", dt.bool_), ("cfloat", dt.complex64), ("cdouble", dt.complex128)):
    _converter(_name, _dtype)
