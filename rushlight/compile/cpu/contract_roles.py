"""The roles of a contraction's dimensions, settled: which one lies along vectors, which operand is B, what merges.

Vectors lie along one axis, ``n``; its operand is called B, and A and B change places where an estimate of the cycles says
so. Axes that B does not know are rows (``m``); further n axes join the batch. Where an operand has neither m nor n of its
own, a batch axis can take the place of n (``along``): depthwise convolutions.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rushlight.compile.contraction import Contraction
from rushlight.compile.cpu import target
from rushlight.compile.cpu.contract_sizes import cycles, scattering
from rushlight.compile.dtypes import DType
from rushlight.compile.sizes import first_smallest, numeric, smallest

__all__ = ["Axis", "Roles", "chunk_table", "in_chunks", "merged", "offsets", "one_stride", "positions", "run_table", "size"]


@dataclass(frozen=True)
class Axis:
    """An extent and bytes per step for A, B, C, extras (an axis of the reduction: A and B)."""

    extent: int
    strides: tuple[int, ...]

    def turned(self) -> Axis:
        """With A and B exchanged."""
        return Axis(self.extent, (self.strides[1], self.strides[0], *self.strides[2:]))


class Roles:
    """Attributes: ``batch``, ``m``, ``k``: lists of axes, merged, outer ones first; ``n``: one axis; ``types`` of "a" and
    "b"; ``names``: which operand of the contraction is now "a" and "b"; ``along``: A moves along n too; ``empty``: there
    is no result to compute."""

    def __init__(self, c: Contraction, lanes: int, rate: int, cpu: target.CPU) -> None:
        self.lanes = lanes
        self.cpu = cpu
        self.summed = bool(c.sums)  # over rows, which then stay rows
        self.rate = rate  # of the inner kernel, in those of two multiply-adds of vectors a cycle
        self.outputs = (c.c, *(x.dtype for x in c.extras))
        self.types: dict[str, DType] = {"a": c.a, "b": c.b}
        self.names = {"a": "a", "b": "b"}
        self.along = False
        sizes = [d.itemsize for d in (c.a, c.b, *self.outputs)]
        axes = []
        for i, d in enumerate([*c.batch, *c.m, *c.n]):
            strides = (d.a, d.b, d.c, *(x.strides[i] for x in c.extras))
            axes.append(Axis(d.extent, tuple(s * z for s, z in zip(strides, sizes, strict=True))))
        self.empty = any(x.extent == 0 for x in axes)
        nb, nm = len(c.batch), len(c.m)
        batch, m, n, k = (
            [x for x in role if x.extent != 1]
            for role in (axes[:nb], axes[nb : nb + nm], axes[nb + nm :],
                         [Axis(d.extent, (d.a * sizes[0], d.b * sizes[1])) for d in c.k])  # fmt: skip
        )
        m += [x for x in batch if x.strides[1] == 0]  # a batch that B does not know is more rows
        self.batch, self.m, self.k = [x for x in batch if x.strides[1] != 0], m, k
        self.n = self._along_batch(n) or self._choose(n)
        # Neighbouring rows lie near each other in A: a tile is read again for each position of the reduction, C once.
        self.batch, self.m, self.k = merged(self.batch), merged(self.m, "a"), merged(self.k, "a")

    def _choose(self, n_axes: list[Axis]) -> Axis:
        if not self.summed and smallest(*self._cycles(self.m, n_axes, "a")) < smallest(*self._cycles(n_axes, self.m, "b")):
            n_axes = self._swap(n_axes)
        n_axes = merged(n_axes)
        if not n_axes:
            return Axis(1, (0, self.types["b"].itemsize, *(d.itemsize for d in self.outputs)))
        n = n_axes.pop(first_smallest(*self._cycles(n_axes, self.m, "b")) if len(n_axes) > 1 else 0)
        self.batch += n_axes
        return n

    def _swap(self, n_axes: list[Axis]) -> list[Axis]:
        """Exchange A and B; returns the new n axes."""
        n_axes, self.m = [x.turned() for x in self.m], [x.turned() for x in n_axes]
        self.batch, self.k = [x.turned() for x in self.batch], [x.turned() for x in self.k]
        self.types = {"a": self.types["b"], "b": self.types["a"]}
        self.names = {"a": "b", "b": "a"}
        return n_axes

    def _along_batch(self, n_axes: list[Axis]) -> Axis | None:
        """The batch axis that can take the place of n, where one operand has no other."""
        if n_axes and self.m:
            return None
        moving = "b" if n_axes else "a"  # the operand that has rows, to be A
        item, which = self.types[moving].itemsize, "ab".index(moving)
        out = self.outputs[0].itemsize
        fits = [x for x in self.batch if x.strides[which] == item and x.strides[2] == out and x.extent > 2]
        if not fits:
            return None
        chosen = max(fits, key=lambda x: x.extent)
        self.batch.remove(chosen)
        self.along = True
        if n_axes:
            self._swap(n_axes)
            return chosen.turned()
        return chosen

    def _cycles(self, n_axes: list[Axis], m_axes: list[Axis], b: str) -> list[float]:
        """About how long the contraction takes with operand ``b`` as B and vectors along each of its axes."""
        n_axes = merged(n_axes)
        if not n_axes:  # vectors with one lane in use
            n_axes = [Axis(1, (0, 0, *(0 for _ in self.outputs)))]
        rows, columns, depth = size(m_axes), size(n_axes), size(self.k)
        which, item = "ab".index(b), self.types[b].itemsize
        dots = len(self.k) == 1 and self.k[0].strides == tuple(self.types[x].itemsize for x in "ab")
        along_k = any(x.strides[which] == item for x in self.k)
        # Where A's rows lie side by side, blocks of it are turned, and partial sums go to memory after each.
        a = self.types["b" if b == "a" else "a"].itemsize
        nearest = smallest(*(abs(x.strides[1 - which]) for x in self.k)) if self.k else 0
        across = nearest if self.rate == 1 and any(x.strides[1 - which] == a for x in m_axes) and nearest >= 64 else 0
        out = []
        for x in n_axes:
            unit = x.strides[which] == item
            packing = 0.1 if unit else 0.2 if along_k else 2.0
            storing = sum(0.2 if s in (0, d.itemsize) else scattering(s, 2 * self.lanes, self.cpu.l1d, self.cpu.l1d_ways)
                          for s, d in zip(x.strides[2:], self.outputs, strict=True))
            out.append(cycles(rows, columns, depth, x.extent, packing, storing, dots and not unit, across, self.lanes, self.rate))
        return out


def size(axes: list[Axis]) -> int:
    """The number of positions of some axes."""
    return math.prod(x.extent for x in axes)


def merged(axes: list[Axis], by: str | None = "c") -> list[Axis]:
    """Outer axes first, in the order of operand ``by`` ("a" or "c"; None: as they are); neighbours whose strides compose
    in every operand become one."""
    if by == "c":
        axes = sorted(axes, key=lambda x: [-abs(s) for s in x.strides[2:]])
    elif by == "a":
        axes = sorted(axes, key=lambda x: [-abs(s) for s in x.strides])
    out: list[Axis] = []
    for x in axes:
        if out and out[-1].strides == tuple(s * x.extent for s in x.strides):
            out[-1] = replace(x, extent=x.extent * out[-1].extent)
        else:
            out.append(x)
    return out


def one_stride(axes: list[Axis], operand: int) -> int | None:
    """The stride of an operand that steps evenly through all positions of ``axes``, in order; None if it does not."""
    out = merged([Axis(x.extent, (x.strides[operand],)) for x in axes], None)
    return None if len(out) > 1 else out[0].strides[0] if out else 0


def positions(axes: list[Axis]) -> np.ndarray:
    """The offset of operand 0 at every position of ``axes``, in order."""
    out = np.zeros(1, np.int64)
    for x in axes:
        out = (out[:, None] + np.arange(x.extent, dtype=np.int64) * x.strides[0]).ravel()
    return out


def in_chunks(runs: list[int], chunk: int) -> list[tuple[int, int, int, int]]:
    """Groups neighbouring runs to about ``chunk`` positions: (first run, one past the last, first position, positions)."""
    return [tuple(one) for one in _chunks(runs, chunk).tolist()]


def _chunks(runs: Any, chunk: int) -> np.ndarray:
    """As ``in_chunks``, as rows of an array."""
    lengths = np.asarray(runs, np.int64)[1::2]
    n = len(lengths)
    ends = np.cumsum(lengths)
    if n and (lengths == lengths[0]).all():  # rows of images, of which there are many
        behind = np.append(np.arange(max(1, chunk // lengths[0]), n, max(1, chunk // lengths[0])), n)
    else:
        behind = np.array(_groups(ends.tolist(), chunk), np.int64)
    last = ends[behind - 1]
    first, start = (np.append(0, x[:-1])[:len(x)] for x in (behind, last))
    return np.stack([first, behind, start, last - start], 1)


def _groups(ends: list[int], chunk: int) -> list[int]:
    """Where groups of runs end that have no more than ``chunk`` positions, or are one run."""
    out, first, start = [], 0, 0
    while first < len(ends):
        first = bisect.bisect_right(ends, start + chunk, first + 1)
        start = ends[first - 1]
        out.append(first)
    return out


@numeric
def offsets(axes: tuple[tuple[int, int], ...]) -> Any:
    """The offset at every position of some axes, (extent, bytes from one to the next) each."""
    return positions([Axis(n, (step,)) for n, step in axes])


@numeric
def run_table(outer: tuple[tuple[int, int], ...], extent: int, step: int, per_step: int, piece: int) -> Any:
    """(offset, length) of the runs: pieces of the innermost axis, which moves by ``step`` bytes every ``per_step`` positions, at
    every position of the outer ones."""
    starts = positions([Axis(n, (s,)) for n, s in outer])
    firsts = np.arange(0, extent, piece)
    out = np.empty((len(starts), len(firsts), 2), np.int64)
    out[:, :, 0] = starts[:, None] + firsts // per_step * step
    out[:, :, 1] = np.minimum(piece, extent - firsts)
    return out.ravel()


@numeric
def chunk_table(runs: Any, chunk: int) -> Any:
    """The numbers of ``in_chunks``, four for each chunk."""
    return _chunks(runs, chunk).ravel()
