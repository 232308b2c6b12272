"""A tensor's elements as Python's numbers and NumPy's arrays: all that makes a recorded program run."""
from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..autograd.handle import Handle, type_name
from ..record.flush import flush_trace, ready
from ..record.meta import CPU
from ..record.trace import local
from ..record.value import looks
from ..record.warn import warn
from .memory import Stored, settle
from .parts import cell

__all__ = ["Readable"]


class Readable(Stored):
    """The part of ``Tensor`` that Python and NumPy read."""

    __slots__ = ()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """A NumPy array over the same memory.

        Raises:
            RuntimeError: the tensor requires grad, in grad mode (unless ``force``). TypeError: a dtype that NumPy lacks (bfloat16,
                float8).
        """
        if not force and self.requires_grad and local.trace.grad_enabled:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.dtype.foreign:
            raise TypeError(f"Got unsupported ScalarType {type_name(self.dtype)[6:].removesuffix('Tensor')}")
        if self._value.meta.device is not CPU:
            raise TypeError("can't convert meta device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        _read_first(self._value if self._alias is None else self._alias.storage.value)
        return self._array()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __dlpack__(self, *, stream: Any = -1, max_version: tuple[int, int] | None = None, dl_device: tuple[int, int] | None = None,
                   copy: bool | None = None) -> Any:
        """A capsule of the memory for another library (``rushlight.from_dlpack``).

        Raises:
            BufferError: the tensor requires grad, or is of a dtype that NumPy lacks.
        """
        from .dlpack import exported

        return exported(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where the memory is, in DLPack's numbers: on the CPU."""
        from .dlpack import DLDeviceType

        return DLDeviceType.kDLCPU, 0

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        """What a NumPy function makes of this tensor becomes a tensor, too."""
        from .creation import from_numpy

        return from_numpy(np.asarray(array))  # type: ignore[no-any-return]

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises:
            RuntimeError: there is not exactly one element.
        """
        meta = self._value.meta
        if meta.numel != 1:
            raise RuntimeError(f"a Tensor with {meta.numel} elements cannot be converted to Scalar")
        if meta.device is not CPU:
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        kind = cell(meta.dtype)
        if kind is not None:
            read = kind.from_address
            looks.count += 1
            alias = self._alias
            if alias is None:
                return read(ready(self._value).ptr).value
            root = alias.storage.value
            if root.origin is not None:
                settle(root)
            offset = 0 if alias.parent is None else alias.place()[2] * meta.dtype.itemsize
            return read(ready(root).ptr + offset).value
        return self._array().item() if not self.dtype.foreign else float(self._array().reshape(()))

    def tolist(self) -> Any:
        array = self._array()
        return (array.astype(np.float32) if self.dtype.foreign else array).tolist()

    def __bool__(self) -> bool:
        n = self._value.meta.numel
        if n != 1:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous" if n == 0 else
                               "Boolean value of Tensor with more than one value is ambiguous")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self._one()._real("double").item())

    def __int__(self) -> int:
        return int(self._one()._real("int64_t").item())

    def __complex__(self) -> complex:
        return complex(self._one().item())

    def _real(self, kind: str) -> Any:
        if self._edge is not None and local.trace.grad_enabled:
            warn("Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\n"
                 "Consider using tensor.detach() first.", UserWarning)
        if self.dtype.kind == "c" and self.item().imag:
            raise RuntimeError(f"value cannot be converted to type {kind} without overflow")
        return self.real if self.dtype.kind == "c" else self

    def _one(self) -> Any:
        if self._value.meta.numel != 1:
            raise ValueError(f"only one element tensors can be converted to Python scalars, not one of {self._value.meta.numel}")
        return self

    def __index__(self) -> int:
        if self.dtype.kind not in "bui" or self.numel() != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __iter__(self) -> Iterator[Any]:
        if not self._value.meta.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))  # type: ignore[attr-defined]

    def __contains__(self, item: Any) -> bool:
        if not isinstance(item, (Handle, numbers.Number, np.generic)):
            raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(item)}.")
        return bool((self == item).any())  # type: ignore[attr-defined]


def _read_first(v: Any) -> None:
    """Run what was recorded to read the memory of a ready value: who gets it now may write there."""
    tr = local.trace
    if v.buffer is not None and (v.epoch is tr.epoch or id(v.buffer) in tr.windows):
        flush_trace(tr)
