"""``torch.distributed.rpc``: functions called by the name of the worker that is to run them.

There is one worker, this process, and it may call itself, as in PyTorch: synchronously, in a thread whose result is waited for later, or
leaving the result where it was made, behind a reference. A larger group is refused when it is asked for.
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from ..futures import Future

__all__ = ["PyRRef", "RRef", "TensorPipeRpcBackendOptions", "WorkerInfo", "get_worker_info", "init_rpc", "remote", "rpc_async", "rpc_sync",
           "shutdown"]


class WorkerInfo(NamedTuple):
    """A worker's name and number."""

    name: str
    id: int

    def __repr__(self) -> str:
        return f"WorkerInfo(id={self.id}, name={self.name})"


class TensorPipeRpcBackendOptions:
    """How workers talk. A worker that talks to itself needs none of it; the settings are kept for who asks.

    Args:
        num_worker_threads, rpc_timeout (seconds), init_method, device_maps, devices: as in PyTorch.
    """

    def __init__(self, *, num_worker_threads: int = 16, rpc_timeout: float = 60.0, init_method: str = "env://",
                 device_maps: dict[str, Any] | None = None, devices: list[Any] | None = None) -> None:
        self.num_worker_threads, self.rpc_timeout, self.init_method = num_worker_threads, rpc_timeout, init_method
        self.device_maps, self.devices = device_maps or {}, devices or []


class _Agent:
    """This process as a worker: None before ``init_rpc`` and after ``shutdown``."""

    me: WorkerInfo | None = None
    calls: set[threading.Thread]
    made = 0  # references


_agent = _Agent()
_agent.calls = set()


def init_rpc(name: str, backend: Any = None, rank: int = -1, world_size: int | None = None, rpc_backend_options: Any = None) -> None:
    """Become the worker of this name; ``rank`` and ``world_size`` say that it is the only one.

    Raises:
        RuntimeError: it is one already; other workers are wanted.
    """
    if _agent.me is not None:
        raise RuntimeError("RPC is already initialized")
    if world_size not in (None, 1) or rank not in (-1, 0):
        raise RuntimeError(f"init_rpc: world_size={world_size}, rank={rank}: there is one worker, this process, whose rank is 0")
    _agent.me = WorkerInfo(name, 0)


def shutdown(graceful: bool = True, timeout: float = 0) -> None:
    """End being a worker; ``graceful``: when the calls that run have ended, or after so many seconds (0: however long it takes).

    Raises:
        RuntimeError: there is no worker.
    """
    _me()
    if graceful:
        for thread in list(_agent.calls):
            thread.join(timeout or None)
    _agent.me = None


def _me() -> WorkerInfo:
    if _agent.me is None:
        raise RuntimeError("RPC has not been initialized. Call torch.distributed.rpc.init_rpc first.")
    return _agent.me


def get_worker_info(worker_name: str | None = None) -> WorkerInfo:
    """The worker of this name; of none: this one.

    Raises:
        RuntimeError: there is no such worker.
    """
    me = _me()
    if worker_name is not None and worker_name != me.name:
        raise RuntimeError(f"name:{me.name},rank:{me.id} could not find destination name {worker_name}")
    return me


def _check(to: Any) -> None:
    """Refuse a worker, given by its name, number or info, that is not this one."""
    me = _me()
    if to not in (me.name, me.id, me):
        raise RuntimeError(f"name:{me.name},rank:{me.id} could not find destination name {to}")


def rpc_sync(to: Any, func: Callable[..., Any], args: Any = None, kwargs: Any = None, timeout: float = -1.0) -> Any:
    """Call ``func(*args, **kwargs)`` on a worker and return its result.

    Raises:
        RuntimeError: no such worker, or no result after ``timeout`` seconds, if those are given. Exception: what the function raises.
    """
    return _waited(rpc_async(to, func, args, kwargs), timeout)


def rpc_async(to: Any, func: Callable[..., Any], args: Any = None, kwargs: Any = None, timeout: float = -1.0) -> Any:
    """As ``rpc_sync``, but return at once, with a ``Future`` of the result.

    Example:
        >>> init_rpc("worker")
        >>> rpc_async("worker", max, args=(1, 2)).wait()
        2
        >>> shutdown()
    """
    _check(to)
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(func(*(args or ()), **(kwargs or {})))
        except Exception as error:  # whatever it is, it belongs to who waits
            future.set_exception(error)
        finally:
            _agent.calls.discard(threading.current_thread())
    thread = threading.Thread(target=run, name=f"rpc {getattr(func, '__name__', func)}", daemon=True)
    _agent.calls.add(thread)
    thread.start()
    return future


def _waited(future: Future[Any], timeout: float) -> Any:
    if timeout > 0 and not future._set.wait(timeout):
        raise RuntimeError(f"RPC ran for more than set timeout ({int(timeout * 1000)} ms) and will now be marked with an error")
    return future.wait()


def remote(to: Any, func: Callable[..., Any], args: Any = None, kwargs: Any = None, timeout: float = -1.0) -> RRef:
    """Call ``func(*args, **kwargs)`` on a worker, where the result stays; return a reference to it at once."""
    return RRef(None, _made=rpc_async(to, func, args, kwargs))


class RRef:
    """A reference to a value that a worker has.

    Args:
        value: what this worker has. ``type_hint``: of it, for TorchScript.

    Raises:
        RuntimeError: there is no worker.
    """

    def __init__(self, value: Any, type_hint: Any = None, *, _made: Future[Any] | None = None) -> None:
        self._owner = _me()
        if _made is None:
            _made = Future()
            _made.set_result(value)
        self._made = _made
        self._number, _agent.made = _agent.made, _agent.made + 1

    def to_here(self, timeout: float = -1.0) -> Any:
        """The value, when it is there."""
        return _waited(self._made, timeout)

    def local_value(self) -> Any:
        """The value, of a worker that has it."""
        return self._made.wait()

    def owner(self) -> WorkerInfo:
        """Who has the value."""
        return self._owner

    def owner_name(self) -> str:
        """The name of that worker."""
        return self._owner.name

    def is_owner(self) -> bool:
        """Whether this worker has the value."""
        return True

    def confirmed_by_owner(self) -> bool:
        """Whether the worker that has the value knows of this reference."""
        return True

    def rpc_sync(self, timeout: float = -1.0) -> Any:
        """An object whose methods call those of the value, as ``rpc_sync`` does."""
        return _Methods(self, rpc_sync, timeout)

    def rpc_async(self, timeout: float = -1.0) -> Any:
        """Likewise, as ``rpc_async`` does."""
        return _Methods(self, rpc_async, timeout)

    def remote(self, timeout: float = -1.0) -> Any:
        """Likewise, as ``remote`` does."""
        return _Methods(self, remote, timeout)

    def __repr__(self) -> str:
        return f"OwnerRRef(GloballyUniqueId(created_on={self._owner.id}, local_id={self._number}))"


PyRRef = RRef


class _Methods:
    """The methods of what a reference refers to, called in one of the three ways."""

    def __init__(self, reference: RRef, call: Callable[..., Any], timeout: float) -> None:
        self._reference, self._call, self._timeout = reference, call, timeout

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            def on_value() -> Any:
                return getattr(self._reference.local_value(), name)(*args, **kwargs)
            return self._call(self._reference.owner(), on_value, timeout=self._timeout)
        return method
