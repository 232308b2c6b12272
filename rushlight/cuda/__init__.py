"""``torch.cuda`` where there is no GPU: programs ask, and are told so."""
from __future__ import annotations

from typing import Any

from ..autograd.handle import TYPE_NAMES
from ..record.meta import Device, NoSuchDevice

__all__ = ["current_device", "device", "device_count", "empty_cache", "is_available", "is_initialized", "manual_seed",
           "manual_seed_all", "max_memory_allocated", "memory_allocated", "set_device", "synchronize"]


def is_available() -> bool:
    """Whether a GPU can be used: no."""
    return False


def is_initialized() -> bool:
    """Whether a GPU is in use: no."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the GPU computes in bfloat16: there is none."""
    return False


def device_count() -> int:
    """The number of GPUs: 0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing to seed."""
    int(seed)


def manual_seed_all(seed: int) -> None:
    """Nothing to seed."""
    int(seed)


def empty_cache() -> None:
    """Nothing to release."""


def memory_allocated(device: Any = None) -> int:
    """Bytes in use on the GPU: 0."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def _absent(*args: Any, **kwargs: Any) -> Any:
    raise NoSuchDevice()


class _NoTensors(type):
    """``torch.cuda.FloatTensor``: no tensor is one, and none can be made."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"type torch.cuda.{cls.__name__} not available. Torch not compiled with CUDA enabled.")

    def __instancecheck__(cls, t: Any) -> bool:
        return False


globals().update({name: _NoTensors(name, (), {"__module__": __name__}) for name in TYPE_NAMES.values()})

current_device = get_device_name = get_device_properties = get_device_capability = synchronize = set_device = _absent


def __getattr__(name: str) -> Any:
    if name == "amp":
        import importlib

        return importlib.import_module(f"{__name__}.amp")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class device:
    """Context manager that chooses a GPU; without one, only ``None`` and negative numbers are accepted.

    Raises:
        RuntimeError: on entering, if a GPU was asked for.
    """

    def __init__(self, device: Any) -> None:
        self.index = Device(device).index if isinstance(device, (str, Device)) else device

    def __enter__(self) -> None:
        if self.index is not None and self.index >= 0:
            _absent()

    def __exit__(self, *error: object) -> None:
        """Nothing to restore."""
