"""Layouts, memory formats and type names: small constant objects that programs pass around."""
from __future__ import annotations

import functools
from typing import Any

from ..autograd.given import ATOMS
from ..autograd.handle import TYPE_NAMES, Handle, type_name
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops.layouts import channels_last_order

__all__ = ["layout", "memory_format", "strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc",
           "contiguous_format", "channels_last", "channels_last_3d",
           "preserve_format", "type_name", "type_named", "iinfo", "finfo"]


class layout:
    """How the elements of a tensor are stored."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


class memory_format(layout):
    """An order of dimensions in memory."""

    def order(self, ndim: int) -> tuple[int, ...] | None:
        """The dimensions from the outermost to the innermost; None for row-major.

        Raises:
            RuntimeError: a tensor of so many dimensions has no channels there.
        """
        if self.name == "contiguous_format":
            return None
        wanted = 5 if self.name == "channels_last_3d" else 4
        if ndim != wanted:
            raise RuntimeError(f"required rank {wanted} tensor to use {self.name} format")
        return channels_last_order(ndim)


ATOMS |= {layout, memory_format}
strided, sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc = (
    layout(_name) for _name in ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"))
contiguous_format, channels_last = memory_format("contiguous_format"), memory_format("channels_last")
channels_last_3d, preserve_format = memory_format("channels_last_3d"), memory_format("preserve_format")

def type_named(which: Any) -> DType:
    """A dtype from a dtype, a name like ``torch.FloatTensor``, or a typed constructor."""
    if isinstance(which, DType):
        return which
    if not isinstance(which, (str, type)):
        raise TypeError("dtype must be a type, str, or dtype object")
    name = which if isinstance(which, str) else which.__name__
    short = name.rsplit(".", 1)[-1]
    for key, known in TYPE_NAMES.items():
        if known == short:
            return dt.by_name(key)
    raise ValueError(f"invalid type: '{name}'")


def typename(obj: Any) -> str:
    """The name of an object's type, with its module; of a tensor that of its kind: ``torch.FloatTensor``."""
    if isinstance(obj, Handle):
        return obj.type()  # type: ignore[attr-defined, no-any-return]
    kind = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(kind, "__module__", None) or ""
    return kind.__qualname__ if module in ("", "builtins", "__builtin__") else f"{module}.{kind.__qualname__}"


class _Info:
    def __init__(self, d: DType, fields: dict[str, Any]) -> None:
        self.dtype, self._fields = d.name, fields
        for k, v in fields.items():
            setattr(self, k, v)

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v:g}" for k, v in self._fields.items())
        return f"{type(self).__name__}({inner}, dtype={self.dtype})"


class iinfo(_Info):
    """Limits of an integer dtype: ``bits``, ``min``, ``max``."""

    def __init__(self, type: DType) -> None:
        import numpy as np

        if type.kind not in "ui":
            raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to handle 'torch.finfo'")
        info = np.iinfo(type.numpy)
        super().__init__(type, {"min": int(info.min), "max": int(info.max)})
        self.bits = info.bits


@functools.cache
def _limits(d: DType) -> tuple[dict[str, float], int]:
    import ml_dtypes

    info = ml_dtypes.finfo(d.numpy)
    precision = info.precision if d.kind != "q" else 0  # decimal digits that survive a round trip: none of one byte's
    return {"resolution": 10.0 ** -precision, "min": float(info.min), "max": float(info.max), "eps": float(info.eps),
            "smallest_normal": float(info.smallest_normal), "tiny": float(info.tiny)}, info.bits


class finfo(_Info):
    """Limits of a floating dtype: ``bits``, ``eps``, ``max``, ``min``, ``tiny``, ``smallest_normal``, ``resolution``."""

    eps: float
    max: float
    min: float
    tiny: float

    def __init__(self, type: DType | None = None) -> None:
        from ..ops.promotion import default_dtype

        type = type or default_dtype()
        if type.kind not in "fcq":
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{type!r}'")
        fields, self.bits = _limits(type.to_real())
        super().__init__(type, fields)
