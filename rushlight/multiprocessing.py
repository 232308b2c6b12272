"""``torch.multiprocessing``: Python's module, and ``spawn``. Tensors that a process is started with, and that ``share_memory_`` has put
into shared memory, are the same there; all others arrive as copies."""
from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import traceback
from collections.abc import Callable
from multiprocessing import *  # noqa: F403
from typing import Any

_STRATEGIES = {"file_descriptor", "file_system"}
_strategy = "file_descriptor"

__all__ = multiprocessing.__all__ + ["ProcessRaisedException", "spawn",
                                      "start_processes", "get_all_sharing_strategies",
                                      "get_sharing_strategy", "set_sharing_strategy"]  # type: ignore[attr-defined]


class ProcessRaisedException(Exception):
    """A function that ``spawn`` started raised; the message has its traceback."""


def _child(fn: Callable[..., Any], i: int, args: tuple, failed: Any) -> None:
    try:
        fn(i, *args)
    except Exception:
        failed.put((i, traceback.format_exc()))
        raise SystemExit(1) from None


def spawn(fn: Callable[..., Any], args: tuple = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
          start_method: str = "spawn") -> list[Any] | None:
    """Run ``fn(i, *args)`` in ``nprocs`` processes, i from 0; wait for them, or with ``join=False`` return them.

    Raises:
        ProcessRaisedException: one raised. The others are ended.
    """
    context = multiprocessing.get_context(start_method)
    failed = context.SimpleQueue()
    processes = [context.Process(target=_child, args=(fn, i, args, failed), daemon=daemon) for i in range(nprocs)]  # type: ignore[attr-defined]
    for process in processes:
        process.start()
    if not join:
        return processes
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        for sentinel in multiprocessing.connection.wait(list(waiting)):
            process = waiting.pop(sentinel)  # type: ignore[index]
            process.join()
            if process.exitcode:
                for other in waiting.values():
                    other.terminate()
                    other.join()
                i, text = failed.get() if not failed.empty() else (processes.index(process), f"it ended with code {process.exitcode}")
                raise ProcessRaisedException(f"\n\n-- Process {i} terminated with the following error:\n{text}")
    return None


def start_processes(fn: Callable[..., Any], args: tuple = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
                    start_method: str = "spawn") -> list[Any] | None:
    """``spawn`` with a choice of how processes start: "spawn", "fork" or "forkserver"."""
    return spawn(fn, args, nprocs, join, daemon, start_method)


def get_all_sharing_strategies() -> set[str]:
    """The names that ``set_sharing_strategy`` takes."""
    return set(_STRATEGIES)


def get_sharing_strategy() -> str:
    """What ``set_sharing_strategy`` was last told, "file_descriptor" at first."""
    return _strategy


def set_sharing_strategy(new_strategy: str) -> None:
    """Accepted for compatibility: shared memory has one form here, which holds no file descriptors.

    Raises:
        AssertionError: not one of ``get_all_sharing_strategies()``.
    """
    assert new_strategy in _STRATEGIES, f"set_sharing_strategy: {new_strategy!r} is not one of {sorted(_STRATEGIES)}"
    global _strategy
    _strategy = new_strategy
