"""The thread pool: Python threads that enter compiled code once and stay there.

A worker without work spins for 50 microseconds, or for a millisecond (``$RUSHLIGHT_SPIN_US``) inside a loop of short
steps, then sleeps on a condition variable until it is needed. How work is divided is told in
:mod:`rushlight.compile.cpu.pool_ir`.

The number of threads (the caller's included) is ``$RUSHLIGHT_NUM_THREADS``, else ``$OMP_NUM_THREADS``, else the number
of processors that this process may use. It never changes results, only time.

After ``fork`` the child has no workers; its first parallel program starts new ones. At interpreter exit the workers are
told to leave and are waited for.

Measured on a 2-core Zen 5, two threads: a fork-join takes 0.15 (two parts) to 0.35 microseconds (eight chunks); waking
a worker that sleeps costs the caller 2 microseconds, and the worker arrives 35 microseconds later.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rushlight.compile.cpu import flight, jit, pages, target
from rushlight.compile.cpu.pool_ir import POOL_BYTES, WORDS, executor_ir

__all__ = ["Native", "Pool", "get_num_threads", "native", "processors", "ready", "set_num_threads"]


@dataclass(frozen=True)
class Native:
    """The functions of :mod:`pool_ir`; ``execute`` and ``wait`` give up the GIL while they run, ``execute_held`` and ``launch``
    keep it."""

    execute: Callable[[int, int, int, int], int]
    execute_held: Callable[[int, int, int, int], int]
    launch: Callable[[int, int, int, int], int]
    wait: Callable[[int, int], None]
    worker: Callable[[int], None]
    init: Callable[[int], None]
    stop: Callable[[int], None]
    spin: Callable[[int], None]


@functools.cache
def native() -> Native:
    """Load (the first time on this machine: compile) the executor."""
    machine = target.machine()
    names = ("rl_execute", "rl_worker", "rl_pool_init", "rl_pool_stop", "rl_spin", "rl_launch", "rl_await")
    addresses = jit.functions(f"executor 5 {machine}", lambda: executor_ir(machine), names)
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    arguments = (pointer, integer, pointer, pointer)
    of_pool = ctypes.CFUNCTYPE(None, pointer)
    return Native(
        execute=ctypes.CFUNCTYPE(integer, *arguments)(addresses["rl_execute"]),
        execute_held=ctypes.PYFUNCTYPE(integer, *arguments)(addresses["rl_execute"]),
        launch=ctypes.PYFUNCTYPE(integer, pointer, pointer, integer, pointer)(addresses["rl_launch"]),
        wait=ctypes.CFUNCTYPE(None, pointer, integer)(addresses["rl_await"]),
        worker=of_pool(addresses["rl_worker"]),
        init=of_pool(addresses["rl_pool_init"]),
        stop=of_pool(addresses["rl_pool_stop"]),
        spin=ctypes.CFUNCTYPE(None, integer)(addresses["rl_spin"]),
    )


_SPIN_US = 50.0


class Pool:
    """``threads - 1`` workers and the memory that they share with their callers.

    The memory is never given back: a worker or a caller may still look at it, and it is one page.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        code = native()
        # Private to this process: a forked child must not write into its parent's pool.
        self.pointer = pages.map_slab(POOL_BYTES)
        self.words = (ctypes.c_int64 * (POOL_BYTES // 8)).from_address(self.pointer)
        self.words[WORDS["THREADS"]] = threads
        longest = float(os.environ.get("RUSHLIGHT_SPIN_US", "1000"))
        self.words[WORDS["SPIN"]] = _pauses(min(longest, _SPIN_US))
        self.words[WORDS["SPIN_LONG"]] = _pauses(longest)
        self.words[WORDS["NEAR"]] = int(longest * 1000)
        code.init(self.pointer)
        self._workers: list[threading.Thread] = []
        for _ in range(1, threads):
            self._add_worker()

    def _add_worker(self) -> None:
        worker = threading.Thread(target=native().worker, args=(self.pointer,), name=f"rushlight-{len(self._workers) + 1}", daemon=True)
        self._workers.append(worker)
        worker.start()

    def staff(self) -> None:
        """See to it that there is a worker, who can run a program while its caller does something else."""
        if not self._workers and not _leaving:
            self._add_worker()

    def stop(self) -> None:
        """Tell the workers to leave and wait for them. Programs that are running go on, on their own thread."""
        self.words[WORDS["THREADS"]] = 1
        native().stop(self.pointer)
        for worker in self._workers:
            worker.join()
        self._workers = []

    def disown(self) -> None:
        """In a forked child, where there are no workers: whoever still holds this pool runs its programs alone."""
        self.words[WORDS["THREADS"]] = 1
        self.words[WORDS["SLEEPING"]] = 0
        self.words[WORDS["BUSY"]] = 0
        self._workers = []


_pool: Pool | None = None
_wanted: int | None = None  # None: the default
_lock = threading.Lock()
_leaving = False


def ready() -> Pool:
    """The pool, started if need be."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool(1 if _leaving else get_num_threads())
        return _pool


def get_num_threads() -> int:
    """The number of threads that run a program, the calling one included."""
    return _wanted if _wanted is not None else _default_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads that run a program, the calling one included.

    Raises:
        TypeError: ``n`` is not an int.
        RuntimeError: ``n`` is not positive.
    """
    global _wanted, _pool
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"set_num_threads expects an int, but got {type(n).__name__}")
    if n < 1:
        raise RuntimeError(f"set_num_threads expects a positive integer, but got {n}")
    flight.flights.drain()
    with _lock:
        _wanted = min(n, 1024)
        if _pool is not None and _pool.threads != _wanted:
            _retire()


def _retire() -> None:
    """Stop the present pool; the next program starts another. Called with the lock held."""
    global _pool
    pool, _pool = _pool, None
    for forget in _on_change:
        forget()
    if pool is not None:
        pool.stop()


#: Called when the pool is replaced (the executor drops its short cut to it).
_on_change: list[Callable[[], None]] = []


@functools.cache
def _default_threads() -> int:
    for variable in ("RUSHLIGHT_NUM_THREADS", "OMP_NUM_THREADS"):
        first = os.environ.get(variable, "").split(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return min(int(first), 1024)
    return processors()


@functools.cache
def processors() -> int:
    """The number of processors that this process may use."""
    if sys.platform.startswith("linux"):
        return max(1, min(len(os.sched_getaffinity(0)), _quota()))
    return os.cpu_count() or 1


def _quota(path: str = "/sys/fs/cgroup/cpu.max") -> int:
    """The processors that a container's time quota amounts to, rounded up; no quota: a large number."""
    unlimited = 1 << 20
    file = Path(path)
    if not file.is_file():
        return unlimited
    limit, _, period = file.read_text().strip().partition(" ")
    if not limit.isdigit() or not period.isdigit() or int(period) == 0:
        return unlimited
    return max(1, -(-int(limit) // int(period)))


@functools.cache
def _pauses(microseconds: float) -> int:
    """How many pause instructions take that long on this processor (1 to 60 ns each, depending on the model)."""
    spin = native().spin
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        spin(1000)
        best = min(best, time.perf_counter() - start)
    return max(1, int(microseconds * 1e-6 / (best / 1000)))


def _after_fork_in_child() -> None:
    global _pool, _lock
    _lock = threading.Lock()
    if _pool is not None:
        _pool.disown()
    _pool = None
    for forget in _on_change:
        forget()


def _at_exit() -> None:
    global _leaving
    flight.close()
    with _lock:
        _leaving = True
        _retire()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
