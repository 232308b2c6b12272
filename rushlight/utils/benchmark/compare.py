"""``Compare``: measurements side by side."""
from __future__ import annotations

from collections.abc import Sequence

from .measurement import Measurement, common_unit, trim_sigfig, unit_to_english

__all__ = ["Compare"]

_GREEN, _RED, _BOLD, _PLAIN = "\033[92m", "\033[31m", "\033[1m", "\033[0m"


class Compare:
    """A table for each label: rows are sub-labels, under their number of threads; columns are descriptions.

    Example::

        >>> from rushlight.utils.benchmark import Compare, Measurement, TaskSpec
        >>> spec = lambda size, who: TaskSpec("f", "pass", label="product", sub_label=size, description=who)
        >>> table = Compare([Measurement(1, [t], spec(size, who)) for t, size, who in
        ...                  ((1e-5, "64", "a"), (2.35e-5, "64", "b"), (1.258e-3, "1024", "a"))])
        >>> for line in str(table).splitlines():
        ...     print(line.rstrip() or "-")
        [--------- product ----------]
                    |    a     |   b
        1 threads: -------------------
              64    |    10.0  |  23.5
              1024  |  1258.0  |
        -
        Times are in microseconds (us).
    """

    def __init__(self, results: Sequence[Measurement]) -> None:
        self._results: list[Measurement] = []
        self.extend_results(results)
        self._trim = self._warn = False
        self._colour: str | None = None

    def extend_results(self, results: Sequence[Measurement]) -> None:
        """Add measurements.

        Raises:
            ValueError: something else.
        """
        for r in results:
            if not isinstance(r, Measurement):
                raise ValueError(f"Expected an instance of `Measurement`, got {type(r)} instead.")
        self._results += results

    def trim_significant_figures(self) -> None:
        """Print only digits that mean something."""
        self._trim = True

    def highlight_warnings(self) -> None:
        """Print the interquartile range, as a share, beside measurements that were disturbed."""
        self._warn = True

    def colorize(self, rowwise: bool = False) -> None:
        """The best of each column (or row) in green, what takes more than twice as long in red."""
        self._colour = "row" if rowwise else "column"

    def print(self) -> None:
        """Print the tables."""
        print(str(self))

    def __str__(self) -> str:
        labels = dict.fromkeys(m.task_spec.label or m.title for m in self._results)
        return "\n".join(self._table(label, [m for m in self._results if (m.task_spec.label or m.title) == label]) for label in labels)

    def _table(self, label: str, results: list[Measurement]) -> str:
        results = Measurement.merge(results)
        unit, size = common_unit(results)
        columns = list(dict.fromkeys((m.task_spec.description, m.task_spec.env) for m in results))
        rows = list(dict.fromkeys((m.task_spec.num_threads, m.as_row_name) for m in sorted(results, key=lambda m: m.task_spec.num_threads)))
        cell = {(m.task_spec.num_threads, m.as_row_name, m.task_spec.description, m.task_spec.env): m for m in results}
        names = [description or (env if env is not None else "") for description, env in columns]
        table = [[self._cell(cell.get((*row, *column)), size) for column in columns] for row in rows]
        widths = [max(len(x) for x in (names[k], *(line[k] for line in table))) for k in range(len(columns))]
        first = 6 + max(len(name) for _, name in rows) + 2

        def line(start: str, cells: list[str]) -> str:
            return f"{start:<{first}}|" + "  |".join("  " + c for c in cells)

        head = line("", [name.center(w) for name, w in zip(names, widths)])
        out = [f"[{f' {label} '.center(len(head) - 2, '-')}]", head]
        threads = None
        for k, row in enumerate(rows):
            if row[0] != threads:
                threads = row[0]
                out.append(f"{threads} threads: ".ljust(len(head), "-"))
            cells = [self._coloured(text.rjust(w), cell.get((*row, *column)), [m for key, m in cell.items() if (
                key[:2] == row if self._colour == "row" else key[2:] == column)]) for text, w, column in zip(table[k], widths, columns)]
            out.append(line("      " + row[1], cells))
        return "\n".join([*out, "", f"Times are in {unit_to_english(unit)}s ({unit}).", ""])

    def _cell(self, m: Measurement | None, size: float) -> str:
        if m is None:
            return ""
        value, digits = m.median / size, 1
        if self._trim:
            value = trim_sigfig(value, m.significant_figures)
            digits = min(1, max(0, m.significant_figures - len(str(int(value)))))
        return f"{value:.{digits}f}" + (f" (! {m.iqr / m.median:.0%})" if self._warn and m.has_warnings else "")

    def _coloured(self, text: str, m: Measurement | None, group: list[Measurement]) -> str:
        if self._colour is None or m is None:
            return text
        ratio = m.median / min(other.median for other in group)
        colour = _GREEN if ratio == 1 else _RED if ratio > 2 else ""
        return f"{colour}{_BOLD}{text}{_PLAIN}" if colour else text
