"""``torch.types``: names for annotations."""
from __future__ import annotations

import os
from typing import IO, Any, TypeAlias

from .checks import SymBool, SymFloat, SymInt
from .compile.dtypes import DType
from .record.meta import Device as _Device
from .tensor import Size, Tensor

__all__ = ["Device", "FileLike", "Number", "Size", "Storage", "Tensor"]

Number: TypeAlias = int | float | bool
Device: TypeAlias = _Device | str | int | None
FileLike: TypeAlias = str | os.PathLike[str] | IO[bytes]
IntLikeType: TypeAlias = int | SymInt
FloatLikeType: TypeAlias = float | SymFloat
BoolLikeType: TypeAlias = bool | SymBool
PySymType: TypeAlias = SymInt | SymFloat | SymBool
py_sym_types = (SymInt, SymFloat, SymBool)
Storage: TypeAlias = Any
_dtype, _device, _size = DType, _Device, Size | list[int] | tuple[int, ...]
_int, _float, _bool = int, float, bool
