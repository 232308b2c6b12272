"""The tables of ``python -m benchmarks``: as text, a line as soon as it is known, or as Markdown."""
from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Comparison", "Table", "inference_table", "training_table"]


@dataclass
class Comparison:
    """What was measured of a workload.

    Attributes:
        ours, theirs, compiled: seconds of a step in Rushlight, PyTorch and ``torch.compile``: the median of each round.
        firsts: seconds of the first step: "cold" is Rushlight's with an empty cache of kernels, "warm" with a filled one.
        peaks: bytes.
        failures: side -> why it has no figures.
    """

    name: str
    about: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    compiled: list[float] = field(default_factory=list)
    firsts: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def ratios(self, other: str = "theirs") -> list[float]:
        """The other side's time ÷ Rushlight's, round by round."""
        return [b / a for a, b in zip(self.ours, getattr(self, other))]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios()) if self.ratios() else None


@dataclass
class Table:
    """Columns, each with its heading in Markdown and as text, and its width as text; cells are text already."""

    columns: Sequence[tuple[str, str, int]]
    markdown: bool

    def head(self) -> str:
        if self.markdown:
            names = [name for name, _, _ in self.columns]
            return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"
        return self.row([name for _, name, _ in self.columns])

    def row(self, cells: Sequence[str]) -> str:
        if self.markdown:
            return f"| {' | '.join(cells)} |"
        first, *rest = zip(cells, (width for _, _, width in self.columns))
        return f"{first[0]:<{first[1]}}" + "".join(f"{text:>{width}}" for text, width in rest)


def training_table(markdown: bool, compiled: bool) -> Table:
    return _table("training step", "ms", 10, markdown, compiled)


def inference_table(markdown: bool, compiled: bool) -> Table:
    return _table("inference", "ms or tokens/s", 16, markdown, compiled)


def _table(first: str, unit: str, width: int, markdown: bool, compiled: bool) -> Table:
    columns = [(first, first, 22), ("PyTorch ÷ Rushlight", "PyTorch ÷ Rushlight", 20), ("lowest to highest", "low to high", 15),
               (f"Rushlight, {unit}", unit, width), (f"PyTorch, {unit}", "PyTorch", max(width, 10))]
    if compiled:
        columns += [("torch.compile ÷ Rushlight", "compile ÷", 11), ("its first step, s", "first s", 9)]
    columns += [("first step, s", "first s", 9), ("first step with kernels on disk, s", "warm s", 8),
                ("peak, MB", "peak MB", 9), ("PyTorch, MB", "PyTorch MB", 12)]
    return Table(columns, markdown)


def cells(c: Comparison, markdown: bool, compiled: bool, tokens: int | None = None) -> list[str]:
    """The row of a comparison. ``tokens``: how many a step decodes, where tokens a second say more than milliseconds."""
    name = f"{c.name}: {c.about}" if markdown else c.name
    ratios = c.ratios()

    def time(values: Sequence[float]) -> str:
        if not values:
            return "–"
        middle = statistics.median(values)
        return f"{tokens / middle:.0f} tokens/s" if tokens else _three(middle * 1e3)

    out = [name, f"{c.ratio:.2f}×" if ratios else "–", f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "–",
           time(c.ours), time(c.theirs)]
    if compiled:
        others = c.ratios("compiled")
        out += [f"{statistics.median(others):.2f}×" if others else "–", _seconds(c.firsts.get("torch.compile"))]
    out += [_seconds(c.firsts.get("cold")), _seconds(c.firsts.get("warm"))]
    return [*out, *(f"{c.peaks[side] / 1e6:.0f}" if side in c.peaks else "–" for side in ("rushlight", "torch"))]


def geometric_mean(comparisons: Sequence[Comparison]) -> str:
    """A sentence about all rows that have a ratio."""
    ratios = [c.ratio for c in comparisons if c.ratio is not None]
    if not ratios:
        return "geometric mean: no row was measured"
    return f"geometric mean of {len(ratios)} of {len(comparisons)} rows: {statistics.geometric_mean(ratios):.2f}×"


def _three(value: float) -> str:
    """Three digits."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
