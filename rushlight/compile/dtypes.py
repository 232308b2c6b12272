"""Element types: one interned object per type, shared by every room of the house.

The printed form is PyTorch's (``torch.float32``), because programs print and compare it.
"""
from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

from .float8 import narrowed

__all__ = ["DType", "by_name", "from_numpy", "of_python", "BY_NAME"]


class DType:
    """An element type.

    Attributes:
        name: ``"float32"``, ...
        numpy: the NumPy dtype that holds it (``bfloat16`` through ml_dtypes).
        itemsize: bytes per element.
        kind: ``"b"`` bool, ``"u"`` unsigned, ``"i"`` signed, ``"f"`` floating, ``"c"`` complex; ``"q"`` a floating number of one byte,
            which is stored, moved and converted, and not computed with (or ``complex32``, which is not even converted).
    """

    __slots__ = ("name", "numpy", "itemsize", "kind", "is_floating_point", "is_complex", "is_signed", "number")

    def __init__(self, name: str, numpy: np.dtype, kind: str, number: int) -> None:
        self.name = name
        self.numpy = numpy
        self.itemsize = numpy.itemsize
        self.kind = kind
        self.is_complex = kind == "c" or name == "complex32"
        self.is_floating_point = kind in "fq" and not self.is_complex
        self.is_signed = kind in "ifc" or kind == "q" and name != "float8_e8m0fnu"
        self.number = number  # position in the table below: a stable small integer

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple:
        return by_name, (self.name,)

    def to_real(self) -> DType:
        return {"complex64": BY_NAME["float32"], "complex128": BY_NAME["float64"]}.get(self.name, self)

    def to_complex(self) -> DType:
        name = {"float64": "complex128", "float32": "complex64", "float16": "complex64", "bfloat16": "complex64"}
        return BY_NAME[name.get(self.name, "complex64" if not self.is_complex else self.name)]

    @property
    def foreign(self) -> bool:
        """Whether NumPy itself lacks it, and ml_dtypes has it."""
        return self.numpy.kind == "V" or self.kind == "q"

    @property
    def compute(self) -> DType:
        """The type arithmetic on this type is done in: half precision computes in float32."""
        return BY_NAME["float32"] if self.kind == "f" and self.itemsize == 2 else self

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Real numbers as this type. To two bytes or one they are rounded by way of float32, as PyTorch and compiled code do; what the
        conversions of NumPy and ml_dtypes do depends on their versions."""
        if self.is_floating_point and self.itemsize <= 2 and values.dtype.itemsize > 2 and values.dtype != np.float32:
            values = values.astype(np.float32)
        if self.kind == "q":
            return narrowed(values.astype(np.float32), self.numpy)
        return values.astype(self.numpy)

DType.__name__ = DType.__qualname__ = "dtype"  # the name that programs know

_TABLE: Final = [
    ("bool", np.bool_, "b"), ("uint8", np.uint8, "u"), ("int8", np.int8, "i"), ("int16", np.int16, "i"),
    ("int32", np.int32, "i"), ("int64", np.int64, "i"), ("float16", np.float16, "f"),
    ("bfloat16", ml_dtypes.bfloat16, "f"), ("float32", np.float32, "f"), ("float64", np.float64, "f"),
    ("complex64", np.complex64, "c"), ("complex128", np.complex128, "c"),
    ("uint16", np.uint16, "u"), ("uint32", np.uint32, "u"), ("uint64", np.uint64, "u"),
    ("float8_e4m3fn", ml_dtypes.float8_e4m3fn, "q"), ("float8_e5m2", ml_dtypes.float8_e5m2, "q"),
    ("float8_e4m3fnuz", ml_dtypes.float8_e4m3fnuz, "q"), ("float8_e5m2fnuz", ml_dtypes.float8_e5m2fnuz, "q"),
    ("float8_e8m0fnu", ml_dtypes.float8_e8m0fnu, "q"),
    ("complex32", "V4", "q"),
]
BY_NAME: Final[dict[str, DType]] = {
    name: DType(name, np.dtype(numpy), kind, i) for i, (name, numpy, kind) in enumerate(_TABLE)}
_BY_NUMPY: Final[dict[np.dtype, DType]] = {d.numpy: d for d in BY_NAME.values()}

bool_, uint8, int8, int16, int32, int64 = (BY_NAME[n] for n in ("bool", "uint8", "int8", "int16", "int32", "int64"))
float16, bfloat16, float32, float64 = (BY_NAME[n] for n in ("float16", "bfloat16", "float32", "float64"))
complex64, complex128 = BY_NAME["complex64"], BY_NAME["complex128"]
_BY_PYTHON: Final[dict[type, DType]] = {float: float64, int: int64, bool: bool_, complex: complex128}
uint16, uint32, uint64 = BY_NAME["uint16"], BY_NAME["uint32"], BY_NAME["uint64"]
float8_e4m3fn, float8_e5m2, float8_e8m0fnu = BY_NAME["float8_e4m3fn"], BY_NAME["float8_e5m2"], BY_NAME["float8_e8m0fnu"]
complex32 = BY_NAME["complex32"]
float8_e4m3fnuz, float8_e5m2fnuz = BY_NAME["float8_e4m3fnuz"], BY_NAME["float8_e5m2fnuz"]


def by_name(name: str) -> DType:
    return BY_NAME[name]


def of_python(kind: type) -> Any:
    """The dtype that a Python type stands for (float64 for ``float``, int64 for ``int``); the type itself if it is none of them."""
    return _BY_PYTHON.get(kind, kind)


def from_numpy(dtype: np.dtype) -> DType:
    """The element type that a NumPy array of ``dtype`` holds.

    Raises:
        TypeError: NumPy types without a counterpart (object, str, datetime, ...).
    """
    found = _BY_NUMPY.get(dtype) or _BY_NUMPY.get(np.dtype(dtype).newbyteorder("="))
    if found is None:
        raise TypeError(f"can't convert np.ndarray of type numpy.{np.dtype(dtype).name}. The only supported types are: "
                        "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, "
                        "uint16, uint8, and bool.")
    return found
