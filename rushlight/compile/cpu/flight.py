"""Programs in flight: launched by a thread that does not wait for them, run by a worker of the pool while Python goes on.

There is one queue for the process (:mod:`.queue_ir`), and programs run in the order in which they were launched. So a program may take
results of the ones before it, and memory that they still use, without anybody waiting in between. At most :data:`DEPTH` are in
flight, all of one thread: who launches one more waits for the first of them, and takes part in its work meanwhile.

What must wait is a look at memory. Every block that a launched program reads or writes remembers it (``Block.flight``), and
``Block.array`` and :func:`settle` wait for that program. Blocks that are given back meanwhile are kept (:mod:`.alloc`). Everybody waits
before a fork, before the pool changes, and at the end of the process.

**Errors.** A program that fails halts the queue. Whoever finds out lets the launch's ``aftermath`` put memory in order, then
runs the programs behind it, those excepted that take values which are lost. The error is raised in the thread that launched the program,
when it next flushes or waits; reading a lost value raises it again.

Example::

    launch = flights.launch(program, pointers, aftermath)
    for block in blocks: block.flight = launch
    ...
    flights.wait(launch)
"""

from __future__ import annotations

import copy
import functools
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from rushlight.compile.cpu import alloc
from rushlight.compile.cpu.queue_ir import ROOM
from rushlight.compile.cpu.queue_ir import WORDS as _WORDS

__all__ = ["DEPTH", "Aftermath", "Flights", "Launch", "failed", "flights", "in_flight", "settle", "unheard"]

#: Launching a program takes some tens of microseconds, and moves data between the processors' caches. What is won is half of the
#: time that Python works beside it, at best. So a launch is *idle* if a result is needed sooner than these seconds after it, or if
#: Python works less than this share of the time that it waits for programs; who launched it is told.
IDLE_SECONDS = 200e-6
IDLE_SHARE = 1 / 16

#: Programs in flight at most. One runs while the next is queued: the worker need not wait for Python in between.
DEPTH = 2

Range = tuple[int, int]  # the addresses [begin, end)


class Aftermath(Protocol):
    """What becomes of a launched program, and what that means for the values that it was to compute."""

    def salvage(self, pointers: Sequence[int], error: BaseException) -> list[Range]:
        """The program failed in the middle: put right what can be; returns the memory whose content is lost."""

    def cancel(self, pointers: Sequence[int]) -> list[Range]:
        """The program never ran: the same."""

    def idle(self) -> None:
        """Next to nothing was done beside the program."""


class Launch:
    """A program that was launched, with the addresses of its leaves and results. ``number`` is its place among all."""

    __slots__ = ("number", "place", "pool", "await_", "thread", "program", "pointers", "table", "aftermath", "began", "done", "lost",
                 "error")

    def __init__(self, number: int, program: Any, pointers: Sequence[int], aftermath: Aftermath, pool: Any, native: Any) -> None:
        self.number, self.pool, self.await_ = number, pool, native.wait
        self.program, self.pointers = program, pointers
        self.aftermath: Aftermath | None = aftermath
        self.table = number % DEPTH  # the one of its program's tables that it uses
        self.thread = threading.get_ident()
        self.place = self.pool.words[_WORDS["LAUNCHED"]] + 1
        self.began = time.perf_counter()
        self.done = False
        self.lost: list[Range] = []  # memory without content because of an error
        self.error: BaseException | None = None

    def settle(self, block: alloc.Block) -> None:
        """Wait until ``block``, which this launch touches, may be looked at.

        Raises:
            the error because of which it has no content.
        """
        if not self.done:
            aftermath = self.aftermath
            if not self.ended and time.perf_counter() - self.began < IDLE_SECONDS and aftermath is not None:
                aftermath.idle()
            flights.wait(self)
        if self.lost:
            self.check(block)
        else:
            block.flight = None

    def check(self, block: alloc.Block) -> None:
        """Raise the error of a block whose content is lost."""
        if self.error is not None and _overlap((block.ptr, block.ptr + block.nbytes), self.lost):
            raise copy.copy(self.error)  # without the frames of earlier raises, and what they refer to

    @property
    def ended(self) -> bool:
        return bool(self.pool.words[_WORDS["ENDED"]] >= self.place)

    @property
    def result(self) -> int:
        """0, or 1 + the number of the instruction that failed, or -1: it was not run."""
        return int(self.pool.words[_WORDS["QUEUE"] + 4 * ((self.place - 1) % ROOM) + 3])

    def _end(self) -> None:
        self.done = True
        self.program = self.aftermath = None
        self.pointers = ()


in_flight: deque[Launch] = deque()  # launches that are not known to have ended, oldest first
failed: list[Launch] = []  # the last that failed
unheard: dict[int, list[BaseException]] = {}  # errors that the threads which launched the programs have not heard of


class Flights:
    """The queue as Python sees it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._launched = 0
        self._left = 0.0  # when Python went on after the last launch or wait

    def launch(self, program: Any, pointers: Sequence[int], packed: Any, aftermath: Aftermath, pool: Any,
               native: Any) -> Launch:
        """Queue ``program``, one segment of instructions; ``packed`` is what it wants to know of its packed leaves. Waits while
        :data:`DEPTH` programs are in flight."""
        with self._lock:
            self.land()
            if len(in_flight) >= DEPTH or in_flight and in_flight[0].thread != threading.get_ident():
                start, worked = time.perf_counter(), time.perf_counter() - self._left
                while len(in_flight) >= DEPTH or in_flight and in_flight[0].thread != threading.get_ident():
                    self._await(in_flight[0])
                if worked < IDLE_SHARE * (time.perf_counter() - start):
                    aftermath.idle()
            launch = Launch(self._launched + 1, program, pointers, aftermath, pool, native)
            pool.staff()
            instructions, n, table = program.prepare(launch.table, pointers, packed)
            alloc.launched(launch.number)
            in_flight.append(launch)
            try:
                native.launch(pool.pointer, instructions, n, table)
            except BaseException:  # an interrupt: before or after
                if pool.words[_WORDS["LAUNCHED"]] < launch.place:
                    in_flight.pop()
                    raise
            self._launched = launch.number
            self._left = time.perf_counter()
            return launch

    def land(self) -> None:
        """Take note of the programs that have ended."""
        try:
            if not in_flight[0].ended:
                return
        except IndexError:
            return
        with self._lock:
            while in_flight and in_flight[0].ended:
                if in_flight[0].result:
                    self._recover()
                    return
                in_flight.popleft()._end()
            alloc.landed(in_flight[0].number - 1 if in_flight else self._launched)

    def wait(self, launch: Launch) -> None:
        """Come back when ``launch`` has ended.

        Raises:
            what a program raised that this thread had launched.
        """
        if not launch.done:
            self._await(launch)
            self._left = time.perf_counter()
        self.complain()

    def drain(self) -> None:
        """Come back when nothing is in flight; raises nothing."""
        while in_flight:
            try:
                last = in_flight[-1]
            except IndexError:
                return  # another thread has seen the end of it
            self._await(last)

    def complain(self) -> None:
        """Raise the first error of this thread's programs that was not raised yet."""
        if unheard:
            errors = unheard.pop(threading.get_ident(), None)
            if errors:
                raise copy.copy(errors[0])

    def _await(self, launch: Launch) -> None:
        if not launch.ended:
            launch.await_(launch.pool.pointer, launch.place)
        self.land()
        if not launch.done:  # another thread is taking note
            with self._lock:
                self.land()

    def _recover(self) -> None:
        """The first program failed, and those behind it did not run. Called with the lock held."""
        launches = list(in_flight)
        last = launches[-1]
        last.await_(last.pool.pointer, last.place)
        in_flight.clear()
        last.pool.words[_WORDS["HALTED"]] = 0
        lost: list[tuple[list[Range], BaseException]] = []
        for launch in launches:
            error: BaseException | None = None
            assert launch.aftermath is not None
            leaves = launch.program.leaf_ranges(launch.pointers)
            cause = next((e for ranges, e in lost if any(_overlap(r, ranges) for r in leaves)), None)
            if launch is launches[0]:
                error = launch.program.take_error(launch.table)
            elif cause is None:
                try:
                    launch.program.run(launch.pointers, ())
                except Exception as problem:
                    error = problem.with_traceback(None)  # frames would keep memory alive
            if error is not None:
                failed[:] = [launch]
                unheard.setdefault(launch.thread, []).append(error)
                launch.lost, launch.error = launch.aftermath.salvage(launch.pointers, error), error
            elif cause is not None:
                launch.lost, launch.error = launch.aftermath.cancel(launch.pointers), cause
            if launch.error is not None:
                lost.append((launch.lost, launch.error))
            launch._end()
        alloc.landed(self._launched)


def _overlap(one: Range, ranges: Sequence[Range]) -> bool:
    return any(one[0] < end and begin < one[1] for begin, end in ranges)


flights = Flights()


def settle(block: alloc.Block) -> None:
    """Wait for the programs in flight that use ``block``; raises the error because of which it has no content."""
    if block.flight is not None:
        block.flight.settle(block)


def close() -> None:
    """The process ends: wait, and tell of errors that nobody has heard of."""
    flights.drain()
    for errors in unheard.values():
        for error in errors:
            print("rushlight: a program that nobody waited for failed:", file=sys.stderr)
            traceback.print_exception(error)


def _before_fork() -> None:
    flights._lock.acquire()
    flights.drain()


def _after_fork(*, child: bool) -> None:
    flights._lock.release()
    if child:
        flights._lock = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=functools.partial(_after_fork, child=False),
                    after_in_child=functools.partial(_after_fork, child=True))
alloc.on_shortage.append(flights.drain)
