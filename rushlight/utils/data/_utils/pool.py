"""The worker processes of one iterator: starting them, talking to them, and ending them under all circumstances."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
import warnings
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from .transport import receive, send
from .worker import Job, work

__all__ = ["WorkerPool"]

_GRACE_SECONDS = 5.0  # how long a worker may finish the sample it is at, before it is terminated
_KILL_SECONDS = 1.0  # how long it may take over SIGTERM

_open_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


class WorkerPool:
    """Started workers and the connections to them.

    Each worker has a pair of sockets: requests go in, results come out. A worker ends when it is told to, in
    :meth:`shutdown`, and by itself when its requests are closed without that: then this process has died.
    """

    def __init__(self, context: Any, jobs: Sequence[Job]) -> None:
        self._owner = os.getpid()
        self.processes: list = []
        self.pids: list[int] = []
        self._requests: list[Connection] = []
        self._results: list[Connection] = []
        self._selector = selectors.DefaultSelector()
        _open_pools.add(self)
        try:
            for job in jobs:
                self._start(context, job)
        except BaseException:
            self.shutdown()
            raise

    def _start(self, context: Any, job: Job) -> None:
        worker_requests, our_requests = context.Pipe()
        our_results, worker_results = context.Pipe()
        self._requests.append(our_requests)
        self._results.append(our_results)
        process = context.Process(target=work, args=(job, worker_requests, worker_results), daemon=True)
        try:
            _start_without_interrupt(process)
        finally:
            # Ours must be the only copies of our ends and the worker's of its own, or a death would go unnoticed.
            worker_requests.close()
            worker_results.close()
        index = len(self.processes)
        self.processes.append(process)
        self.pids.append(process.pid)
        self._selector.register(our_results, selectors.EVENT_READ, ("result", index))
        self._selector.register(process.sentinel, selectors.EVENT_READ, ("ended", index))

    def send(self, worker: int, message: Any) -> None:
        """Send a request.

        Raises:
            RuntimeError: the worker is dead.
        """
        try:
            send(self._requests[worker], message)
        except (BrokenPipeError, ConnectionResetError):
            self._raise_dead(worker)

    def receive(self, timeout: float | None) -> tuple[int, Any] | None:
        """Wait for an answer of any worker.

        Returns:
            (worker, answer), or None when ``timeout`` seconds have passed.

        Raises:
            RuntimeError: a worker died.
        """
        ready = [key.data for key, _ in self._selector.select(timeout)]
        for kind, worker in ready:
            if kind == "result":
                try:
                    return worker, receive(self._results[worker])
                except (EOFError, ConnectionResetError):
                    self._raise_dead(worker)
        for _, worker in ready:
            self._raise_dead(worker)
        return None

    def _raise_dead(self, worker: int) -> None:
        process, pid = self.processes[worker], self.pids[worker]
        process.join(_GRACE_SECONDS)  # its connection is closed; the exit status follows
        code = process.exitcode
        self.shutdown()
        if code is not None and code < 0:
            reason = f"it was killed by signal: {signal.strsignal(-code)} ({signal.Signals(-code).name})"
            if -code == signal.SIGKILL:
                reason += ". The system does this when memory runs out: try fewer workers or a smaller prefetch_factor"
        else:
            reason = "it closed its connection" if code is None else f"exit code {code}"
        raise RuntimeError(f"DataLoader worker (pid(s) {pid}) exited unexpectedly: {reason}")

    def shutdown(self) -> None:
        """End all workers and wait for them. May be called again, and from a finalizer."""
        if os.getpid() != self._owner:  # a forked copy of this object: these are not our children
            return
        for requests in self._requests:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a worker that is dead already
                send(requests, None)
        self.close_connections()
        _open_pools.discard(self)
        processes, self.processes = self.processes, []
        try:
            deadline = time.monotonic() + _GRACE_SECONDS
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
        finally:  # also when a second Ctrl-C cuts the wait short
            for end in ("terminate", "kill"):
                late = [process for process in processes if process.is_alive()]
                for process in late:
                    getattr(process, end)()
                for process in late:
                    process.join(_KILL_SECONDS)

    def close_connections(self) -> None:
        """Close this process's ends of all connections."""
        self._selector.close()
        for connection in self._requests + self._results:
            connection.close()
        self._requests, self._results = [], []


def _start_without_interrupt(process: Any) -> None:
    """Start ``process`` with SIGINT blocked, which it inherits, until it has arranged to ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork among threads. Our own pool of compute threads is made for that.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _close_in_child() -> None:
    # A child holding a copy of our ends would keep orphaned workers from noticing that we died.
    for pool in list(_open_pools):
        pool.close_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
