"""``torch._C._nn``: how the arguments of ``Module.to`` are read, which modules of other libraries ask, too."""
from __future__ import annotations

from typing import Any

from ..autograd.handle import Handle
from ..compile.dtypes import DType, float64
from ..record.meta import CPU, Device

__all__ = ["_parse_to"]


def _of_device(device: Any = None, dtype: DType | None = None, non_blocking: bool = False, copy: bool = False, *,
               memory_format: Any = None) -> tuple[Any, ...]:
    where = Device("cuda", device) if type(device) is int else device if device is None or isinstance(device, Device) else Device(device)
    return where, dtype, non_blocking, copy, memory_format


def _of_dtype(dtype: DType, non_blocking: bool = False, copy: bool = False, *, memory_format: Any = None) -> tuple[Any, ...]:
    return None, dtype, non_blocking, copy, memory_format


def _of_tensor(tensor: Any, non_blocking: bool = False, copy: bool = False, *, memory_format: Any = None) -> tuple[Any, ...]:
    return tensor.device, tensor.dtype, non_blocking, copy, memory_format


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool, Any]:
    """(device, dtype, non_blocking, memory_format), None for what is to stay: of ``(device, dtype, non_blocking)``, ``(dtype,
    non_blocking)`` or ``(tensor, non_blocking)``, each with ``memory_format`` by name.

    Raises:
        TypeError: other arguments. RuntimeError: ``copy`` is asked for, which modules do not do.

    Example:
        >>> torch._C._nn._parse_to("cpu", torch.float16)
        (device(type='cpu'), torch.float16, False, None)
        >>> torch._C._nn._parse_to(torch.ones(1, dtype=torch.int8))
        (device(type='cpu'), torch.int8, False, None)
    """
    first = args[0] if args else kwargs.get("tensor")
    if isinstance(first, float):  # a number counts as a tensor of its dtype
        args = (CPU, float64, *args[1:])
    form = _of_dtype if isinstance(first, DType) else _of_tensor if isinstance(first, Handle) else _of_device
    try:
        device, dtype, non_blocking, copy, memory_format = form(*args, **kwargs)
    except TypeError as error:
        given = ", ".join([*[type(a).__name__ for a in args], *[f"{name}={type(value).__name__}" for name, value in kwargs.items()]])
        raise TypeError(f"to() received an invalid combination of arguments - got ({given}): {error}") from None
    if dtype is not None and not isinstance(dtype, DType):
        raise TypeError(f"to(): argument 'dtype' must be torch.dtype, not {type(dtype).__name__}")
    if copy:
        raise RuntimeError(".to() does not accept copy argument")
    return device, dtype, bool(non_blocking), memory_format
