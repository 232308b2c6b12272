"""The functions behind ``autocast``: ``torch.is_autocast_enabled``, ``torch.set_autocast_dtype`` and their relatives.

All of it belongs to one thread. Only "cpu" has operations to choose types for; the other kinds of device are remembered
for programs that ask.
"""
from __future__ import annotations

from ..autograd.autocast import regions, switch
from ..compile.dtypes import DType
from ..record.trace import local

__all__ = ["autocast_decrement_nesting", "autocast_increment_nesting", "clear_autocast_cache", "get_autocast_cpu_dtype",
           "get_autocast_dtype", "get_autocast_gpu_dtype", "is_autocast_available", "is_autocast_cache_enabled",
           "is_autocast_cpu_enabled", "is_autocast_enabled", "set_autocast_cache_enabled", "set_autocast_cpu_dtype",
           "set_autocast_cpu_enabled", "set_autocast_dtype", "set_autocast_enabled", "set_autocast_gpu_dtype"]

_DEVICES = ("cpu", "cuda", "hpu", "maia", "mps", "mtia", "xla", "xpu")


def is_autocast_available(device_type: str) -> bool:
    """Whether there is autocast for a kind of device."""
    return device_type in _DEVICES


def _checked(device_type: str, function: str) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type not in _DEVICES:
        raise RuntimeError(f"{function}: unsupported device type '{device_type}': expected one of {', '.join(_DEVICES)}")
    return device_type


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on in this thread.

    Raises:
        RuntimeError: there is no autocast for this kind of device.
    """
    return regions().enabled.get(_checked(device_type, "is_autocast_enabled"), False)


def set_autocast_enabled(device_type: str | bool, enabled: bool | None = None) -> None:
    """Turn autocast on or off in this thread; ``autocast`` does it for a region."""
    if enabled is None:  # the old form, for "cuda"
        device_type, enabled = "cuda", bool(device_type)
    regions().enabled[_checked(device_type, "set_autocast_enabled")] = bool(enabled)  # type: ignore[arg-type]
    switch(local.trace)


def get_autocast_dtype(device_type: str) -> DType:
    """The narrow type of regions that name none: bfloat16 on the CPU, float16 elsewhere."""
    return regions().default(_checked(device_type, "get_autocast_dtype"))


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """The narrow type that operations choose in this thread."""
    regions().dtype[_checked(device_type, "set_autocast_dtype")] = dtype
    switch(local.trace)


def is_autocast_cache_enabled() -> bool:
    """Whether the casts of parameters are kept until the outermost region ends."""
    return regions().use_cache


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Keep the casts of parameters, or cast them at every use."""
    regions().use_cache = bool(enabled)


def clear_autocast_cache() -> None:
    """Forget the casts of parameters."""
    regions().cache.clear()


def autocast_increment_nesting() -> int:
    """A region begins; returns how many are entered now."""
    state = regions()
    state.nesting += 1
    return state.nesting


def autocast_decrement_nesting() -> int:
    """A region ends; returns how many are left."""
    state = regions()
    state.nesting -= 1
    return state.nesting


def is_autocast_cpu_enabled() -> bool:
    """``is_autocast_enabled("cpu")``."""
    return is_autocast_enabled("cpu")


def set_autocast_cpu_enabled(enabled: bool) -> None:
    """``set_autocast_enabled("cpu", enabled)``."""
    set_autocast_enabled("cpu", enabled)


def get_autocast_cpu_dtype() -> DType:
    """``get_autocast_dtype("cpu")``."""
    return get_autocast_dtype("cpu")


def set_autocast_cpu_dtype(dtype: DType) -> None:
    """``set_autocast_dtype("cpu", dtype)``."""
    set_autocast_dtype("cpu", dtype)


def get_autocast_gpu_dtype() -> DType:
    """``get_autocast_dtype("cuda")``."""
    return get_autocast_dtype("cuda")


def set_autocast_gpu_dtype(dtype: DType) -> None:
    """``set_autocast_dtype("cuda", dtype)``."""
    set_autocast_dtype("cuda", dtype)
