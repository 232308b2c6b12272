"""What a timer measured, and its printed form."""
from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Measurement", "TaskSpec", "select_unit", "trim_sigfig", "unit_to_english"]

_UNITS = (("ns", 1e-9, "nanosecond"), ("us", 1e-6, "microsecond"), ("ms", 1e-3, "millisecond"), ("s", 1.0, "second"))
_NOTABLE, _GROSS = 0.1, 0.25  # shares of the median: interquartile ranges that deserve a warning, and a stronger one


def select_unit(seconds: float) -> tuple[str, float]:
    """The unit that suits a time, and its length in seconds.

    >>> from rushlight.utils.benchmark import select_unit
    >>> select_unit(0.0021)
    ('ms', 0.001)
    """
    name, size, _ = next((u for u in reversed(_UNITS) if seconds >= u[1]), _UNITS[0])
    return name, size


def unit_to_english(unit: str) -> str:
    """"us" -> "microsecond"."""
    return next(english for name, _, english in _UNITS if name == unit)


def trim_sigfig(x: float, n: int) -> float:
    """``x`` with ``n`` significant digits.

    >>> from rushlight.utils.benchmark import trim_sigfig
    >>> trim_sigfig(1234.5, 2)
    1200.0
    """
    if x == 0:
        return 0.0
    digits = n - 1 - math.floor(math.log10(abs(x)))
    return float(round(x, digits))


@dataclass(frozen=True)
class TaskSpec:
    """What was measured."""

    stmt: str
    setup: str
    global_setup: str = ""
    label: str | None = None
    sub_label: str | None = None
    description: str | None = None
    env: str | None = None
    num_threads: int = 1

    @property
    def title(self) -> str:
        """The label, or the statement, with the sub-label."""
        name = self.label or (self.stmt if "\n" not in self.stmt else "stmt:\n" + textwrap.indent(self.stmt, "  ") + "\n")
        return name if self.sub_label is None else f"{name}: {self.sub_label}"

    def summarize(self) -> str:
        """Title, description and setup."""
        parts = [self.title, self.description or ""]
        if self.setup not in ("", "pass"):
            parts.append("setup:\n" + textwrap.indent(self.setup, "  ") + "\n" if "\n" in self.setup else f"setup: {self.setup}")
        return "\n".join(p for p in parts if p)


@dataclass(init=True, repr=False)
class Measurement:
    """Times of a statement: ``raw_times`` in seconds, each of ``number_per_run`` runs.

    Example::

        >>> from rushlight.utils.benchmark import Measurement, TaskSpec
        >>> m = Measurement(10, [0.02, 0.03, 0.04], TaskSpec("f(x)", "pass"))
        >>> round(m.median, 6), round(m.mean, 6)
        (0.003, 0.003)
    """

    number_per_run: int
    raw_times: list[float]
    task_spec: TaskSpec
    metadata: dict[Any, Any] | None = field(default=None)

    @property
    def times(self) -> list[float]:
        """Seconds of one run."""
        return [t / self.number_per_run for t in self.raw_times]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.times)

    @property
    def iqr(self) -> float:
        """The interquartile range."""
        return self._quantile(0.75) - self._quantile(0.25)

    @property
    def significant_figures(self) -> int:
        """How many digits of the median mean something: of the 90 % confidence interval of the middle half's mean; 1 to 5."""
        times, n = sorted(self.times), len(self.raw_times)
        if n < 4:
            return 3
        middle = times[n // 4: -(-3 * n // 4)]
        spread = statistics.stdev(middle) if len(middle) > 1 else 0.0
        interval = max(1.645 * spread / math.sqrt(len(middle)), 1e-15)
        return min(5, max(1, math.floor(-math.log10(interval / self.median))))

    @property
    def has_warnings(self) -> bool:
        return len(self.raw_times) > 1 and self.iqr > _NOTABLE * self.median

    def meets_confidence(self, threshold: float = _NOTABLE) -> bool:
        """Whether the interquartile range is below that share of the median."""
        return self.iqr / self.median < threshold

    @property
    def title(self) -> str:
        return self.task_spec.title

    @property
    def env(self) -> str:
        return self.task_spec.env or "Unspecified env"

    @property
    def as_row_name(self) -> str:
        return self.task_spec.sub_label or self.task_spec.stmt or "[Unknown]"

    def _quantile(self, q: float) -> float:
        """Between two measurements: in proportion."""
        times = sorted(self.times)
        low, part = divmod(q * (len(times) - 1), 1)
        return times[int(low)] + part * (times[min(int(low) + 1, len(times) - 1)] - times[int(low)])

    @staticmethod
    def merge(measurements: Iterable[Measurement]) -> list[Measurement]:
        """Measurements of equal tasks as one each."""
        found: dict[tuple[TaskSpec, int], list[float]] = {}
        for m in measurements:
            found.setdefault((m.task_spec, m.number_per_run), []).extend(m.raw_times)
        return [Measurement(number, times, spec) for (spec, number), times in found.items()]

    def __repr__(self) -> str:
        n, runs, threads = len(self.raw_times), self.number_per_run, self.task_spec.num_threads
        unit, size = select_unit(self.median)
        text = [object.__repr__(self), self.task_spec.summarize()]
        if n == 1:
            text.append(f"  {self.median / size:.2f} {unit}")
        else:
            low, high = self._quantile(0.25), self._quantile(0.75)
            middle = f"Median: {self.median / size:.2f}" if n > 3 else f"Mean:   {self.mean / size:.2f}"
            text.append(f"  {middle} {unit}")
            if n > 3:
                text.append(f"  IQR:    {self.iqr / size:.2f} {unit} ({low / size:.2f} to {high / size:.2f})")
        measured = "1 measurement" if n == 1 else f"{n} measurements"
        text.append(f"  {measured}, {runs} runs {'' if n == 1 else 'per measurement'}, {threads} thread{'s' if threads > 1 else ''}")
        if self.has_warnings:
            cause = "This suggests significant environmental influence." if self.iqr > _GROSS * self.median else \
                "This could indicate system fluctuation."
            text += [f"  WARNING: Interquartile range is {self.iqr / self.median:.1%} of the median measurement.", f"           {cause}"]
        return "\n".join(text)

    __str__ = __repr__


def common_unit(measurements: Sequence[Measurement]) -> tuple[str, float]:
    """The unit of the shortest."""
    return select_unit(min(m.median for m in measurements))
