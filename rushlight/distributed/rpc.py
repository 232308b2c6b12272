"""``torch.distributed.rpc``: calls of functions in other processes. There is one process: the names are for libraries that import them, and
whoever wants to call another process is told."""
from __future__ import annotations

from typing import Any

__all__ = ["PyRRef", "RRef", "TensorPipeRpcBackendOptions", "get_worker_info", "init_rpc", "remote", "rpc_async", "rpc_sync", "shutdown"]


def _refused(name: str) -> Any:
    raise RuntimeError(f"distributed.rpc.{name}: there is one process here, which calls functions itself")


class _Remote(type):
    """A class of which nothing is an instance."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _refused(cls.__name__)


class RRef(metaclass=_Remote):
    """A value that another process has: no object is one.

    Raises:
        RuntimeError: when one is to be made.
    """


PyRRef = RRef


class TensorPipeRpcBackendOptions(metaclass=_Remote):
    """How processes talk. Raises RuntimeError: there is nobody to talk to."""


def init_rpc(name: str, backend: Any = None, rank: int = -1, world_size: int | None = None, rpc_backend_options: Any = None) -> Any:
    """Raises RuntimeError."""
    return _refused("init_rpc")


def rpc_sync(to: Any, func: Any, args: Any = None, kwargs: Any = None, timeout: float = -1.0) -> Any:
    """Raises RuntimeError."""
    return _refused("rpc_sync")


def rpc_async(to: Any, func: Any, args: Any = None, kwargs: Any = None, timeout: float = -1.0) -> Any:
    """Raises RuntimeError."""
    return _refused("rpc_async")


def remote(to: Any, func: Any, args: Any = None, kwargs: Any = None, timeout: float = -1.0) -> Any:
    """Raises RuntimeError."""
    return _refused("remote")


def get_worker_info(worker_name: str | None = None) -> Any:
    """Raises RuntimeError."""
    return _refused("get_worker_info")


def shutdown(graceful: bool = True, timeout: float = 0) -> None:
    """Nothing was begun."""
