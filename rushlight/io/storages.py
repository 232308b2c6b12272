"""Tensors as files describe them: a storage of bytes, and a window on it (offset, size, stride)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from rushlight.compile.dtypes import BY_NAME, DType, by_name

#: PyTorch's storage classes and the dtype that each implies.
DTYPE_OF_STORAGE = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
STORAGE_OF_DTYPE = {dtype: storage for storage, dtype in DTYPE_OF_STORAGE.items()}
UNTYPED = "UntypedStorage"  # for dtypes that came after typed storages went; the tensor's entry names the dtype


class LoadedStorage:
    """The bytes of one storage of a file, and the first tensor made of each dtype, which later ones are views of.

    Attributes:
        data: uint8, shape (nbytes,), writable, on 16-byte boundaries.
        dtype: the type that the storage's class implies; None for untyped storages.
        device: the device its tensors go to.
    """

    def __init__(self, data: np.ndarray, dtype: DType | None, device: Any) -> None:
        self.data = data
        self.dtype = dtype
        self.device = device
        self._whole: dict[str, Any] = {}

    def nbytes(self) -> int:
        return self.data.nbytes

    def tensor(
        self, offset: int, size: tuple[int, ...], stride: tuple[int, ...], dtype: DType, from_numpy: Callable[..., Any]
    ) -> Any:
        """The tensor with this window, in elements of `dtype`; tensors of one storage share its memory.

        Raises:
            RuntimeError: the window reaches beyond the storage.
        """
        check_window(self.data.nbytes, offset, size, stride, dtype.itemsize)
        elements = self.data[: self.data.nbytes // dtype.itemsize * dtype.itemsize].view(dtype.numpy)
        whole = self._whole.get(dtype.name)
        if whole is None:
            fills = offset == 0 and stride == contiguous_strides(size) and count(size) == elements.size
            # A tensor that is its whole storage, the ordinary case of a parameter, is not a view of anything.
            whole = from_numpy(elements.reshape(size) if fills else elements)
            if str(self.device) != "cpu":
                whole = whole.to(self.device)
            self._whole[dtype.name] = whole
            if fills:
                return whole
        return whole.as_strided(size, stride, offset)


def count(size: tuple[int, ...]) -> int:
    total = 1
    for n in size:
        total *= n
    return total


def contiguous_strides(size: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides, in elements, as PyTorch counts them (an extent of 0 counts as 1)."""
    strides, step = [], 1
    for n in reversed(size):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def check_window(nbytes: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...], itemsize: int) -> None:
    """Raise RuntimeError unless every element of the window lies inside the storage."""
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise RuntimeError(f"a tensor of size {list(size)}, stride {list(stride)}, storage offset {offset} is damaged")
    if count(size) == 0:
        return
    needed = (offset + sum((n - 1) * step for n, step in zip(size, stride)) + 1) * itemsize
    if needed > nbytes:
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize {itemsize} "
            f"requiring a storage size of {needed} are out of bounds for storage of size {nbytes}"
        )


def storage_bytes(storage: Any) -> memoryview | bytes:
    """The memory of a tensor's storage on the CPU, without a copy. The storage must stay alive while it is used."""
    size = storage.nbytes()
    if size == 0:
        return b""
    return memoryview((ctypes.c_char * size).from_address(storage._address())).cast("B")


def dtype_named(name: str) -> DType | None:
    """The dtype object that files call `torch.<name>`."""
    aliases = {"float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32",
               "short": "int16", "cfloat": "complex64", "cdouble": "complex128"}  # fmt: skip
    name = aliases.get(name, name)
    return by_name(name) if name in BY_NAME else None
