"""Type promotion: the dtype that an operation on several operands computes in (PyTorch's rules).

Source: https://pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc
"""
from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ..autograd.handle import type_name
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..compile.sizes import is_size
from ..record.meta import Meta

__all__ = ["promote_types", "result_type", "default_dtype", "set_default_dtype", "scalar_dtype"]

_default = [dt.float32]


def default_dtype() -> DType:
    return _default[0]


def set_default_dtype(d: DType) -> None:
    _default[0] = d


def _scalar_name(d: DType) -> str:
    return type_name(d).removeprefix("torch.").removesuffix("Tensor")


@cache
def promote_types(a: DType, b: DType) -> DType:
    """The smallest type that both convert to.

    Raises:
        RuntimeError: unsigned types wider than 8 bits with signed ones have none.
    """
    if a is b:
        return a
    if a.kind == "b":
        return b
    if b.kind == "b":
        return a
    if "q" in (a.kind, b.kind):
        raise RuntimeError(f"Promotion for Float8 Types is not supported, attempted to promote "
                           f"{_scalar_name(a)} and {_scalar_name(b)}")
    rank = "uifc"
    if a.kind in "ui" and b.kind in "ui":
        if a.kind == b.kind:
            return a if a.itemsize >= b.itemsize else b
        unsigned, signed = (a, b) if a.kind == "u" else (b, a)
        if signed.itemsize > unsigned.itemsize:
            return signed
        if unsigned is not dt.uint8:
            raise RuntimeError(f"Promotion for uint16, uint32, uint64 types is not supported, attempted to promote "
                               f"{a.name} and {b.name}")
        return dt.int16
    high, low = (a, b) if rank.index(a.kind) >= rank.index(b.kind) else (b, a)
    if high.kind == "f":
        if low.kind != "f":
            return high
        if high.itemsize == low.itemsize:  # float16 and bfloat16
            return dt.float32
        return high if high.itemsize > low.itemsize else low
    if low.kind == "c":
        return dt.complex128
    return dt.complex128 if low is dt.float64 else high


def scalar_dtype(value: object) -> DType:
    """The type that a Python number (or a size) has as an operand."""
    if is_size(value):
        value = value.value  # type: ignore[attr-defined]
    if isinstance(value, bool):
        return dt.bool_
    if isinstance(value, int):
        return dt.int64
    if isinstance(value, complex):
        return default_dtype().to_complex()
    return default_dtype()


def _combine(higher: DType | None, lower: DType | None) -> DType | None:
    """A dimensioned operand decides unless the other is of a higher category (bool < integer < float < complex)."""
    if higher is None or lower is None:
        return higher or lower
    if higher.kind == "c":
        return higher
    if higher.kind == "f":
        return higher.to_complex() if lower.kind == "c" else higher
    if higher.kind == "b" or lower.kind in "fc":
        return promote_types(higher, lower)
    return higher


def _fold(kinds: Iterable[DType]) -> DType | None:
    found: DType | None = None
    for d in kinds:
        found = d if found is None else promote_types(found, d)
    return found


def result_type(metas: Iterable[Meta], scalars: Iterable[DType] = ()) -> DType:
    """Dimensioned tensors before zero-dimensional tensors before Python numbers (given by ``scalar_dtype``)."""
    metas = list(metas)
    dimensioned = _fold(m.dtype for m in metas if m.shape)
    zero_dim = _fold(m.dtype for m in metas if not m.shape)
    found = _combine(_combine(dimensioned, zero_dim), _fold(scalars))
    return found if found is not None else default_dtype()
