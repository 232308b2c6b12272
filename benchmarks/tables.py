"""The tables of ``python -m benchmarks``: as text, a line as soon as it is known, or as Markdown."""
from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["NAMES", "Comparison", "Table", "cells", "geometric_mean", "inference_table", "training_table"]

NAMES = {"torch": "PyTorch", "torch.compile": "torch.compile", "jax": "JAX"}  # of the sides that Rushlight is compared with


@dataclass
class Comparison:
    """What was measured of a workload.

    Attributes:
        times: side -> seconds of a step: the median of each round.
        firsts: side -> seconds of the first step: "cold" is Rushlight's with an empty cache of kernels, "warm" with a filled one.
        peaks: side -> bytes.
        failures: side -> why it has no figures.
    """

    name: str
    about: str
    times: dict[str, list[float]] = field(default_factory=dict)
    firsts: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def ratios(self, other: str = "torch") -> list[float]:
        """The other side's time ÷ Rushlight's, round by round."""
        return [b / a for a, b in zip(self.times.get("rushlight", ()), self.times.get(other, ()))]

    def ratio(self, other: str = "torch") -> float | None:
        ratios = self.ratios(other)
        return statistics.median(ratios) if ratios else None


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


def training_table(markdown: bool, others: Sequence[str] = ()) -> Table:
    return _table("training step", "ms", 10, markdown, others)


def inference_table(markdown: bool, others: Sequence[str] = ()) -> Table:
    return _table("inference", "ms or tokens/s", 16, markdown, others)


def _table(first: str, unit: str, width: int, markdown: bool, others: Sequence[str]) -> Table:
    columns = [(first, first, 22), ("PyTorch ÷ Rushlight", "PyTorch ÷ Rushlight", 20), ("lowest to highest", "low to high", 15),
               (f"Rushlight, {unit}", unit, width), (f"PyTorch, {unit}", "PyTorch", max(width, 10))]
    for side in others:
        name = NAMES[side]
        columns += [(f"{name} ÷ Rushlight", f"{name} ÷", len(name) + 4), (f"{name}, {unit}", name, max(width, len(name) + 2)),
                    ("its first step, s", "first s", 9)]
    columns += [("first step, s", "first s", 9), ("first step with kernels on disk, s", "warm s", 8),
                ("peak, MB", "peak MB", 9), ("PyTorch, MB", "PyTorch MB", 12)]
    return Table(columns, markdown)


def cells(c: Comparison, markdown: bool, others: Sequence[str] = (), tokens: int | None = None) -> list[str]:
    """The row of a comparison, with ``others`` beside PyTorch.

    ``tokens``: how many a step decodes, where tokens a second say more than milliseconds.
    """
    name = f"{c.name}: {c.about}" if markdown else c.name
    ratios = c.ratios()

    def ratio(side: str) -> str:
        value = c.ratio(side)
        return "–" if value is None else f"{value:.2f}×"

    def time(side: str) -> str:
        if not c.times.get(side):
            return "–"
        middle = statistics.median(c.times[side])
        return f"{tokens / middle:.0f} tokens/s" if tokens else _three(middle * 1e3)

    out = [name, ratio("torch"), f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "–", time("rushlight"), time("torch")]
    for side in others:
        out += [ratio(side), time(side), _seconds(c.firsts.get(side))]
    out += [_seconds(c.firsts.get("cold")), _seconds(c.firsts.get("warm"))]
    return [*out, *(f"{c.peaks[side] / 1e6:.0f}" if side in c.peaks else "–" for side in ("rushlight", "torch"))]


def geometric_mean(comparisons: Sequence[Comparison], side: str = "torch") -> str:
    """A sentence about all rows that have a ratio to that side."""
    ratios = {c.name: ratio for c in comparisons if (ratio := c.ratio(side)) is not None}
    if not ratios:
        return f"{NAMES[side]}: no row was measured"
    lowest = min(ratios, key=ratios.__getitem__)
    return (f"{NAMES[side]}: geometric mean of {len(ratios)} of {len(comparisons)} rows {statistics.geometric_mean(ratios.values()):.2f}×, "
            f"lowest {ratios[lowest]:.2f}× ({lowest})")


def _three(value: float) -> str:
    """Three digits."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
