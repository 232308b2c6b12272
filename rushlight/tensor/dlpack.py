"""Memory that is handed from one library to another and stays where it is: DLPack, as NumPy speaks it."""
from __future__ import annotations

import ctypes
import enum
from typing import Any

import numpy as np

from ..record.meta import Device
from .creation import from_numpy
from .registry import public

__all__ = ["DLDeviceType", "exported", "from_dlpack", "to_dlpack"]


class DLDeviceType(enum.IntEnum):
    """Kinds of devices, with the numbers that DLPack gives them."""

    kDLCPU = 1
    kDLCUDA = 2
    kDLCUDAHost = 3
    kDLOpenCL = 4
    kDLVulkan = 7
    kDLMetal = 8
    kDLVPI = 9
    kDLROCM = 10
    kDLROCMHost = 11
    kDLExtDev = 12
    kDLCUDAManaged = 13
    kDLOneAPI = 14
    kDLWebGPU = 15
    kDLHexagon = 16
    kDLMAIA = 17
    kDLTrn = 18


class _Capsule:
    """A capsule as an object that hands it over, which is what NumPy takes."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def is_called(self, name: bytes) -> bool:
        """Whether the capsule has this name: "dltensor", "dltensor_versioned", or another once it has been taken."""
        return bool(ctypes.pythonapi.PyCapsule_IsValid(ctypes.py_object(self.capsule), name))

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return int(DLDeviceType.kDLCPU), 0


def exported(tensor: Any, stream: Any, max_version: tuple[int, int] | None, dl_device: tuple[int, int] | None,
             copy: bool | None) -> Any:
    """The capsule of a tensor's memory (``Tensor.__dlpack__``)."""
    if tensor.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if stream is not None and stream != -1:
        raise AssertionError("stream should be None on cpu.")
    options = {name: value for name, value in (("max_version", max_version), ("dl_device", dl_device), ("copy", copy)) if value is not None}
    try:
        array = tensor.numpy()
    except TypeError:
        raise BufferError(f"__dlpack__: {tensor.dtype} has no NumPy type, through which tensors are exported; "
                          "export tensor.view(torch.int16), or a copy of another dtype") from None
    return array.__dlpack__(**options)


@public(method=False, out=False, recorded=False)
def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Any:
    """A tensor over the memory of another library's array.

    Args:
        ext_tensor: an object with ``__dlpack__`` and ``__dlpack_device__``, or a capsule; a capsule can be taken once.
        device: where the tensor is to be: the CPU.
        copy: True copies the memory, False never does, None only where it must.

    Raises:
        RuntimeError: neither, or a capsule that has been taken.
        BufferError: memory of a device other than the CPU, or memory that must not be written.

    Example:
        >>> array = np.zeros(3)
        >>> torch.from_dlpack(array)[0] = 2.0
        >>> array
        array([2., 0., 0.])
    """
    if device is not None and Device(device).type != "cpu":
        raise BufferError(f"from_dlpack: memory stays on the CPU, not {Device(device)}")
    capsule = _Capsule(_handed_over(ext_tensor))
    if not (versioned := capsule.is_called(b"dltensor_versioned")) and not capsule.is_called(b"dltensor"):
        raise RuntimeError(f"from_dlpack received an invalid capsule, {ext_tensor!r}. It takes objects with __dlpack__, and capsules, "
                           "which can be consumed only once, so you might have already constructed a tensor from it")
    array = np.from_dlpack(capsule)
    if copy:
        return from_numpy(array.copy())
    if not array.flags.writeable:
        if versioned:
            raise BufferError("from_dlpack: the memory must not be written, and tensors can be: take a copy (copy=True)")
        array = _writeable(array)
    return from_numpy(array)


def _handed_over(ext_tensor: Any) -> Any:
    """The capsule that an object hands over, or that it is."""
    if not hasattr(ext_tensor, "__dlpack__"):
        return ext_tensor
    kind, index = ext_tensor.__dlpack_device__()
    if kind != DLDeviceType.kDLCPU:
        raise BufferError(f"from_dlpack: the memory is that of a device of kind {int(kind)}, number {index}; it has to be the CPU's")
    try:
        return ext_tensor.__dlpack__(max_version=(1, 0))
    except TypeError:  # from before there were versions
        return ext_tensor.__dlpack__()


def _writeable(array: np.ndarray) -> np.ndarray:
    """The same memory, which may be written: a capsule without a version cannot say whether it may, and only such memory is handed over in
    one. NumPy takes it not to be so."""
    size = sum((n - 1) * s for n, s in zip(array.shape, array.strides)) + array.itemsize if array.size else 0
    memory = (ctypes.c_char * size).from_address(array.ctypes.data)
    memory.owner = array  # type: ignore[attr-defined]
    return np.ndarray(array.shape, array.dtype, memoryview(memory), strides=array.strides)


def to_dlpack(tensor: Any) -> Any:
    """The capsule of a tensor's memory, which ``from_dlpack`` of any library takes, once.

    Raises:
        BufferError: the tensor requires grad, or is of a dtype that NumPy lacks.

    Example:
        >>> a = torch.zeros(2)
        >>> torch.from_dlpack(torch.utils.dlpack.to_dlpack(a)).fill_(3.0)
        tensor([3., 3.])
        >>> a
        tensor([3., 3.])
    """
    return tensor.__dlpack__()
