"""Names of the libraries that carry PyTorch's collectives, and which of them are there."""
from __future__ import annotations

import os
from typing import Any

__all__ = ["Backend", "get_default_backend_for_device", "get_node_local_rank", "is_backend_available", "is_gloo_available",
           "is_mpi_available", "is_nccl_available", "is_torchelastic_launched", "is_ucc_available", "is_xccl_available"]


class Backend(str):
    """The name of a backend in lower case; its attributes are the names that PyTorch knows.

    Raises:
        ValueError: no string.

    Example:
        >>> torch.distributed.Backend("GLOO") == torch.distributed.Backend.GLOO
        True
    """

    UNDEFINED, GLOO, NCCL, XCCL, UCC, MPI, FAKE = "undefined", "gloo", "nccl", "xccl", "ucc", "mpi", "fake"
    backend_list = [UNDEFINED, GLOO, NCCL, XCCL, UCC, MPI, FAKE]
    default_device_backend_map = {"cpu": GLOO, "cuda": NCCL, "xpu": XCCL, "mps": GLOO}

    def __new__(cls, name: str) -> str:  # type: ignore[misc]  # a plain string, as PyTorch's
        if not isinstance(name, str):
            raise ValueError("Backend constructor parameter must be string-ish")
        return str.__new__(str, name.lower())


def is_gloo_available() -> bool:
    """Whether ``gloo``, the backend of CPUs, may be named: yes."""
    return True


def is_nccl_available() -> bool:
    """Whether there is a backend of NVIDIA's GPUs: no."""
    return False


def is_mpi_available() -> bool:
    """Whether there is an MPI backend: no."""
    return False


def is_ucc_available() -> bool:
    """Whether there is a UCC backend: no."""
    return False


def is_xccl_available() -> bool:
    """Whether there is a backend of Intel's GPUs: no."""
    return False


def is_backend_available(backend: str) -> bool:
    """Whether there is a backend of this name: ``gloo``."""
    return backend.lower() == Backend.GLOO


def is_torchelastic_launched() -> bool:
    """Whether ``torchrun`` started this process."""
    return os.environ.get("TORCHELASTIC_RUN_ID") is not None


def get_default_backend_for_device(device: Any) -> str:
    """The backend that PyTorch takes for tensors of a device, given by name or as a ``torch.device``.

    Raises:
        ValueError: it has none for such devices.
    """
    kind = str(getattr(device, "type", device)).partition(":")[0]
    if kind not in Backend.default_device_backend_map:
        raise ValueError(f"Default backend not registered for device : {device}")
    return Backend.default_device_backend_map[kind]


def get_node_local_rank(fallback_rank: int | None = None) -> int:
    """The number of this process on its machine: ``LOCAL_RANK`` of the environment, else ``fallback_rank``.

    Raises:
        RuntimeError: neither is there.
    """
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    if fallback_rank is not None:
        return int(fallback_rank)
    raise RuntimeError("LOCAL_RANK is not in the environment. Consider passing fallback_rank to allow `get_node_local_rank` to work, "
                       "assuming you are not running in a multi-device context and want the code to run locally instead.")
