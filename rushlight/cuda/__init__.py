"""``torch.cuda`` where there is no GPU: programs ask, and are told so."""
from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ..autograd.handle import TYPE_NAMES
from ..record.meta import Device, NoSuchDevice

__all__ = ["CUDAGraph", "Event", "ExternalStream", "OutOfMemoryError", "Stream", "StreamContext", "current_device", "current_stream",
           "default_generators", "default_stream", "device", "device_count", "device_of", "empty_cache", "get_arch_list",
           "get_rng_state", "get_rng_state_all", "graph",
           "init", "initial_seed", "ipc_collect", "is_available", "is_current_stream_capturing",
           "is_initialized",
           "manual_seed", "manual_seed_all", "max_memory_allocated", "max_memory_cached", "mem_get_info", "memory_allocated",
           "memory_cached", "memory_stats", "memory_summary", "reset_accumulated_memory_stats", "reset_max_memory_allocated",
           "reset_max_memory_cached", "reset_peak_memory_stats", "seed", "seed_all",
           "set_device", "set_per_process_memory_fraction", "set_rng_state",
           "set_rng_state_all", "set_stream", "stream", "synchronize"]


class OutOfMemoryError(RuntimeError):
    """A GPU's memory is full. Programs catch it to try again with a smaller batch; without a GPU it does not come."""


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


max_memory_allocated = memory_reserved = max_memory_reserved = memory_cached = max_memory_cached = memory_allocated


def reset_peak_memory_stats(device: Any = None) -> None:
    """Nothing to reset."""


reset_max_memory_allocated = reset_max_memory_cached = reset_accumulated_memory_stats = reset_peak_memory_stats


def is_current_stream_capturing() -> bool:
    """Whether the present stream records a graph: no."""
    return False


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """A readable text about the GPU's memory: empty."""
    return ""


def memory_stats(device: Any = None) -> OrderedDict[str, Any]:
    """What the GPU's allocator counts: nothing."""
    return OrderedDict()


def seed() -> None:
    """Nothing to seed."""


seed_all = seed


def set_rng_state(new_state: Any, device: Any = "cuda") -> None:
    """Nothing to set."""


def set_rng_state_all(new_states: Any) -> None:
    """Nothing to set."""


def get_rng_state_all() -> list[Any]:
    """The states of the GPUs' generators: there are none."""
    return []


def get_arch_list() -> list[str]:
    """The architectures that kernels were compiled for: none."""
    return []


default_generators: tuple[Any, ...] = ()


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
current_stream = default_stream = get_rng_state = init = initial_seed = ipc_collect = mem_get_info = _absent
set_per_process_memory_fraction = _absent


class Stream:
    """A queue of a GPU's work. A name for annotations and ``isinstance``.

    Raises:
        RuntimeError: whenever one is to be made.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"torch.cuda.{cls.__name__} requires CUDA support, and there is no GPU here")


class ExternalStream(Stream):
    """A stream that another library made."""


class Event(Stream):
    """A point in a stream that can be waited for."""


class CUDAGraph(Stream):
    """A recorded sequence of a GPU's work."""


class graph:
    """A region whose work on a GPU becomes a ``CUDAGraph``.

    Raises:
        AssertionError: where the region is made: there is no GPU.
    """

    def __init__(self, cuda_graph: Any, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> None:
        raise NoSuchDevice("cuda")


class StreamContext:
    """Context manager that chooses a stream; without a GPU, only None is one."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        """Nothing to choose."""

    def __exit__(self, *error: object) -> None:
        """Nothing to restore."""


def stream(stream: Any) -> StreamContext:
    """``with stream(None)``: nothing is chosen."""
    return StreamContext(stream)


def set_stream(stream: Any) -> None:
    """Choose a stream: only None is one."""


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


class device_of(device):  # noqa: N801
    """Context manager that chooses the GPU on which a tensor lies; tensors lie on none."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else -1)
