"""``Timer``: measures a statement, as often as it takes."""
from __future__ import annotations

import contextlib
import itertools
import textwrap
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

from ...compile.cpu.pool import get_num_threads, set_num_threads
from ...profiler.collect import finish
from .measurement import Measurement, TaskSpec

__all__ = ["Timer"]

_WARM_UP = 4  # runs that are not measured at least: a program is compiled when it comes the second time


class Timer:
    """How long ``stmt`` takes.

    Operations only run when a value is needed; so here the last result of every run is computed, whether the statement
    reads it or not, as PyTorch would have done. (Earlier results that nothing depends on are not computed.)

    Args:
        stmt: the code to measure.
        setup: code that runs before each measurement; global_setup: accepted, for C++ only.
        timer: a function that gives seconds.
        globals: the names that the code knows; ``torch`` is always known.
        label, sub_label, description, env: what tables call it.
        num_threads: that run programs while it is measured.

    Raises:
        ValueError: another language than Python.

    Example::

        >>> from rushlight.utils.benchmark import Timer
        >>> m = Timer("x + 1", globals={"x": torch.ones(3)}).timeit(10)
        >>> m.number_per_run, len(m.times)
        (10, 1)
    """

    def __init__(self, stmt: str = "pass", setup: str = "pass", global_setup: str = "", timer: Callable[[], float] = time.perf_counter,
                 globals: dict[str, Any] | None = None, label: str | None = None, sub_label: str | None = None,  # noqa: A002
                 description: str | None = None, env: str | None = None, num_threads: int = 1, language: Any = "python") -> None:
        if str(getattr(language, "value", language)).lower() not in ("python", "py", "0"):
            raise ValueError(f"a Timer measures Python; got language {language!r}")
        if not isinstance(stmt, str):
            raise ValueError("Currently only a `str` stmt is supported.")
        import rushlight

        stmt, setup = (textwrap.dedent(code).strip() for code in (stmt, setup))
        self._task_spec = TaskSpec(stmt, setup, global_setup, label, sub_label, description, env, num_threads)
        names = {"torch": rushlight, **(globals or {}), "_rushlight_finish": finish}
        self._clock = timer
        # On a line of its own inside the timed loop.
        self._timer = timeit.Timer(f"{stmt}\n_rushlight_finish()", setup or "pass", timer, names)

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        before = get_num_threads()
        set_num_threads(self._task_spec.num_threads)
        try:
            yield
        finally:
            set_num_threads(before)

    def _measured(self, number: int, times: list[float]) -> Measurement:
        return Measurement(number, times, self._task_spec)

    def timeit(self, number: int = 1_000_000) -> Measurement:
        """One measurement of ``number`` runs, after some that warm up."""
        with self._threads():
            self._timer.timeit(max(number // 100, _WARM_UP))
            return self._measured(number, [self._timer.timeit(number)])

    def repeat(self, repeat: int = -1, number: int = -1) -> None:
        """As in PyTorch, use ``blocked_autorange``.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("See `Timer.blocked_autorange.`")

    def autorange(self, callback: Any = None) -> None:
        """As in PyTorch, use ``blocked_autorange``.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("See `Timer.blocked_autorange.`")

    def blocked_autorange(self, callback: Callable[[int, float], Any] | None = None, min_run_time: float = 0.2) -> Measurement:
        """Measurements of as many runs as make the cost of measuring small, until ``min_run_time`` seconds are measured.

        ``callback(number, seconds)`` is called after each.
        """
        with self._threads():
            number = self._block(min_run_time)
            times = list(self._blocks(number, min_run_time, callback))
        return self._measured(number, times)

    def adaptive_autorange(self, threshold: float = 0.1, *, min_run_time: float = 0.01, max_run_time: float = 10.0,
                           callback: Callable[[int, float], Any] | None = None) -> Measurement:
        """The same, until the interquartile range is below ``threshold`` of the median, or ``max_run_time`` seconds are measured."""
        with self._threads():
            number = self._block(min_run_time)
            times: list[float] = []
            while sum(times) < max_run_time:
                times += self._blocks(number, min_run_time, callback)
                found = self._measured(number, times)
                if len(times) > 3 and found.meets_confidence(threshold):
                    break
        return self._measured(number, times)

    def _blocks(self, number: int, least: float, callback: Callable[[int, float], Any] | None) -> Iterator[float]:
        total = 0.0
        while total < least:
            seconds = self._timer.timeit(number)
            total += max(seconds, 1e-9)
            if callback is not None:
                callback(number, seconds)
            yield seconds

    def _block(self, least: float) -> int:
        """How many runs a measurement has: enough that reading the clock, and setup, cost less than a ten-thousandth of it."""
        self._timer.timeit(_WARM_UP)
        empty = timeit.Timer("pass", timer=self._clock)
        overhead = min(empty.timeit(0) for _ in range(5))
        for power in itertools.count():
            number = 10 ** power
            seconds = self._timer.timeit(number)
            if seconds >= least or overhead <= 1e-4 * seconds and seconds >= least / 1000:
                return number
        raise AssertionError  # the loop has no end
