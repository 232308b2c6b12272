"""Threads that compile kernels while their planner goes on in Python.

LLVM works without the GIL and without llvmlite's lock, so planning the rest of a program and compiling its first kernels
go on at the same time, on all cores. Jobs that somebody waits for go before those that were only announced.

The threads are daemons that start with the first job. A fork waits until none of them is inside LLVM, whose locks a child
would inherit for ever; the end of the process waits likewise, because LLVM's globals are taken down there. This module is
loaded with the package, long before LLVM, so that no fork can come before its hooks.

Example::

    job = compilers.submit(lambda: compile_object(ir))
    ...
    data = job.result()     # waits; raises what compiling raised
"""

from __future__ import annotations

import atexit
import functools
import heapq
import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Job", "lock", "submit"]

lock = threading.RLock()  # held while kernels are obtained, and while the rest of the compiler is being loaded
_held_for_fork: list[Any] = []  # llvmlite's lock

_state = threading.Condition()  # guards everything below, and all jobs
_queue: list[tuple[int, int, Job]] = []  # a heap of (0 if somebody waits, order of arrival, job)
_numbers = itertools.count()
_workers: set[threading.Thread] = set()
_busy = 0  # threads inside a job
_closed = False


class Job:
    """Work that a thread will do, is doing, or has done."""

    __slots__ = ("work", "taken", "done", "data", "error")

    def __init__(self, work: Callable[[], bytes]) -> None:
        self.work: Callable[[], bytes] | None = work
        self.taken = self.done = False
        self.data = b""
        self.error: BaseException | None = None

    def hurry(self) -> None:
        """Somebody will wait for this one."""
        with _state:
            if not self.taken:
                heapq.heappush(_queue, (0, next(_numbers), self))  # its first entry will be passed over
                _state.notify()

    def wait(self) -> None:
        """Come back when it is done."""
        with _state:
            if not self.taken and (_closed or not _workers):  # the process ends, or it is a fork's child: nobody else is there
                self.taken = True
            else:
                while not self.done:
                    _state.wait()
                return
        self._run()

    def result(self) -> bytes:
        """What the work returned, when it is done; raises what it raised."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self.data

    def _run(self) -> None:
        assert self.work is not None
        try:
            self.data = self.work()
        except BaseException as error:  # raised where the result is wanted
            self.error = error
        self.work = None
        self.done = True


def submit(work: Callable[[], bytes], *, ahead: bool = False) -> Job:
    """Let a thread do ``work``; ``ahead``: nobody waits for it yet."""
    job = Job(work)
    with _state:
        heapq.heappush(_queue, (int(ahead), next(_numbers), job))
        waiting = len(_queue)
        if not _closed and len(_workers) < min(os.cpu_count() or 1, waiting + _busy):
            worker = threading.Thread(target=_work, name="rushlight compiler", daemon=True)
            _workers.add(worker)
            worker.start()
        _state.notify()
    return job


def _work() -> None:
    global _busy
    while True:
        with _state:
            while not _queue and not _closed:
                _state.wait()
            if _closed:
                return
            job = heapq.heappop(_queue)[2]
            if job.taken:
                continue
            job.taken = True
            _busy += 1
        job._run()
        with _state:
            _busy -= 1
            _state.notify_all()


def _before_fork() -> None:
    """Wait until nobody is loading the compiler or waits for a kernel, no thread is inside a job, and LLVM is at rest."""
    lock.acquire()
    _state.acquire()
    while _busy:
        _state.wait()
    ffi = sys.modules.get("llvmlite.binding.ffi")
    llvm_lock = getattr(getattr(ffi, "lib", None), "_lock", None)
    if llvm_lock is not None:
        llvm_lock.__enter__()
        _held_for_fork.append(llvm_lock)


def _after_fork(*, child: bool) -> None:
    """In the child the threads are gone; its next job makes new ones."""
    global _state
    while _held_for_fork:
        _held_for_fork.pop().__exit__(None, None, None)
    if child:
        _state = threading.Condition()  # the old one knows threads that are not here
        _workers.clear()
    else:
        _state.release()
    lock.release()


def _close() -> None:
    global _closed
    with _state:
        _closed = True
        _queue.clear()
        _state.notify_all()
        while _busy:
            _state.wait()


os.register_at_fork(before=_before_fork, after_in_parent=functools.partial(_after_fork, child=False),
                    after_in_child=functools.partial(_after_fork, child=True))
atexit.register(_close)
