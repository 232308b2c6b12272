"""Tensors over memory that somebody else made."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.handle import Handle
from ..compile.dtypes import DType
from ..record.warn import warn
from .creation import as_tensor, finish, from_numpy
from .registry import public
from .storage import UntypedStorage

__all__ = ["asarray", "frombuffer"]


@public(method=False, out=False, recorded=False)
def asarray(obj: Any, *, dtype: DType | None = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False) -> Any:
    """``obj`` as a tensor: over the same memory where that is possible (a tensor's, an array's, a storage's); with ``copy=True`` never,
    with ``copy=False`` or an error.

    Raises:
        ValueError: ``copy=False`` and the memory cannot be shared.
    """
    if isinstance(obj, UntypedStorage):
        obj = obj._bytes() if dtype is None else obj._bytes().view(dtype)
    made = as_tensor(obj, dtype, device)
    shared = made is obj or isinstance(obj, np.ndarray) and obj.size and np.shares_memory(made.numpy(), obj)
    if copy is False and not shared and isinstance(obj, (Handle, np.ndarray)):
        raise ValueError("can't alias a tensor or an array of another dtype")
    if isinstance(obj, Handle) and (copy or made._edge is not None and not requires_grad):
        made = made.clone() if copy else made.detach()
    elif copy and shared:
        made = made.clone()
    return finish(made, requires_grad)


@public(method=False, out=False, recorded=False)
def frombuffer(buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Any:
    """A vector over the memory of an object with Python's buffer protocol: ``count`` elements (-1: all) from byte ``offset`` on.

    Raises:
        ValueError: nothing is there, or no whole number of elements.

    Example:
        >>> frombuffer(bytearray(b"abcd"), dtype=torch.uint8)
        tensor([ 97,  98,  99, 100], dtype=torch.uint8)
    """
    memory = memoryview(buffer).cast("B")
    size, width = len(memory), dtype.itemsize
    if not size or not count:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) minus 1")
    if count < 0 and (size - offset) % width:
        raise ValueError(f"buffer length ({size} bytes) after offset ({offset} bytes) must be a multiple of element size ({width})")
    if count > 0 and offset + count * width > size:
        raise ValueError(f"requested buffer length ({count} * {width} bytes) after offset ({offset} bytes) must not be greater than "
                         f"actual buffer length ({size} bytes)")
    if memory.readonly:
        warn("The given buffer is not writable, and tensors that are not writable are not supported: writing to this one is undefined. "
             "You may want to copy the buffer first.", UserWarning)
    array = np.frombuffer(memory, np.uint8, -1 if count < 0 else count * width, offset).view(dtype.numpy)
    if not array.flags.writeable:
        array = array.copy()
    return finish(from_numpy(array), requires_grad)
