"""Connectionist temporal classification: the probability of all alignments of labels to a longer sequence.

A library call between native segments: the recursion over time is a native loop (``compile/cpu/alignment.py``), all else is NumPy.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile.cpu.alignment import LANES, backward, forward
from ..compile.dtypes import float64
from ..record.meta import Meta, meta_of
from .structured import Structured

__all__ = ["ctc_loss"]
# Inputs: log-probabilities (T, N, C), labels (N, S) padded with anything, input lengths (N,), label lengths (N,). attrs: (blank,).


def _extended(labels: np.ndarray, lengths: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels with blanks between and around (N, 2 S + 1), which places are in use, where two places may be skipped)."""
    n, s = labels.shape
    wide = np.full((n, 2 * s + 1), blank, np.int64)
    inside = np.arange(s)[None] < lengths[:, None]
    wide[:, 1::2] = np.where(inside, labels, blank)
    used = np.arange(2 * s + 1)[None] < 2 * lengths[:, None] + 1
    skip = np.zeros(wide.shape, bool)
    skip[:, 2:] = (wide[:, 2:] != blank) & (wide[:, 2:] != wide[:, :-2])
    return wide, used, skip


def _emitted(logs: np.ndarray, wide: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, int]:
    """(log-probabilities of the labels' places (T, N, as many places as the native loop takes), -inf where none is in use; how many
    there are)."""
    steps, n, _ = logs.shape
    places = wide.shape[1]
    reached = np.full((steps, n, -(-places // LANES) * LANES), -np.inf)
    reached[:, :, :places] = logs[:, np.arange(n)[:, None], wide]
    np.copyto(reached[:, :, :places], -np.inf, where=~used)
    return reached, places


def _table(steps: int, n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(a table as the native loop wants it, all of zero probability, its part that is not at the borders)."""
    table = np.full((steps, n, width + 2 * LANES), -np.inf)
    return table, table[:, :, LANES:-LANES]


def _ways(allowed: np.ndarray, width: int) -> np.ndarray:
    ways = np.full((len(allowed), width), -np.inf)
    ways[:, :allowed.shape[1]][allowed] = 0.0
    return ways


def _prefixes(reached: np.ndarray, skip: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Table of the log-probabilities of prefixes; times behind a sequence's end mean nothing."""
    steps, n, width = reached.shape
    table, alpha = _table(steps, n, width)
    if steps:
        first = min(2, skip.shape[1])
        alpha[0, :, :first] = reached[0, :, :first]
    forward(table, reached, _ways(skip, width), times)
    return table


def _whole(table: np.ndarray, times: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Log-probability of all alignments of each sequence (N,)."""
    n = len(times)
    if not len(table):
        return np.where(lengths == 0, 0.0, -np.inf)
    last = table[times - 1, np.arange(n), LANES:]
    rows = np.arange(n)
    with np.errstate(all="ignore"):
        total = np.logaddexp(last[rows, 2 * lengths], np.where(lengths > 0, last[rows, np.maximum(2 * lengths - 1, 0)], -np.inf))
    return np.where(times == 0, np.where(lengths == 0, 0.0, -np.inf), total)


def _loss(arrays: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> tuple[np.ndarray, np.ndarray]:
    logs, labels, times, lengths = arrays
    wide, used, skip = _extended(labels, lengths, attrs[0])
    reached, _ = _emitted(logs, wide, used)
    table = _prefixes(reached, skip, np.ascontiguousarray(times))
    return (-_whole(table, times, lengths)).astype(logs.dtype), table


def _passing(prefixes: np.ndarray, total: np.ndarray, reached: np.ndarray, skip: np.ndarray, times: np.ndarray,
             lengths: np.ndarray) -> np.ndarray:
    """Probability that an alignment passes a place at a time (T, N, places); behind a sequence's end it means nothing."""
    steps, n, width = reached.shape
    table, behind = _table(steps, n, width)
    passing = np.zeros((steps, n, width))
    rows = np.nonzero(times)[0]
    last, end, longer = times[rows] - 1, 2 * lengths[rows], lengths[rows] > 0
    ends = np.full((len(rows), width), -np.inf)
    ends[np.arange(len(rows)), end] = 0.0
    ends[longer, end[longer] - 1] = 0.0
    behind[last, rows] = ends + reached[last, rows]
    passing[last, rows] = np.exp(prefixes[last, rows, LANES:-LANES] + ends - total[rows, None])
    ways = _ways(np.concatenate([skip[:, 2:], np.zeros((n, min(2, skip.shape[1])), bool)], 1), width)
    backward(table, reached, ways, np.ascontiguousarray(times), prefixes, total, passing)
    return passing


def _loss_gradient(arrays: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    """exp(logs) - (share of the alignments that pass each class), times the incoming gradient of each sequence."""
    grad, logs, labels, times, lengths, table = arrays
    blank, zero_infinity = attrs
    x = logs.astype(np.float64)
    steps, n, classes = x.shape
    with np.errstate(all="ignore"):
        wide, used, skip = _extended(labels, lengths, blank)
        reached, places = _emitted(x, wide, used)
        total = _whole(table, times, lengths)
        inside = np.arange(steps)[:, None] < times
        passing = _passing(np.ascontiguousarray(table), total, reached, skip, times, lengths)[:, :, :places]
        np.copyto(passing, 0.0, where=~(inside[:, :, None] & used))
        one_hot = (wide[:, :, None] == np.arange(classes)).astype(np.float64)
        share = np.matmul(passing.transpose(1, 0, 2), one_hot).transpose(1, 0, 2)
        share[:, ~np.isfinite(total)] = np.nan  # where no alignment exists there is no gradient
        out = np.where(inside[:, :, None], np.exp(x) - share, 0.0)
        if zero_infinity:
            out = np.where(np.isinf(total)[None, :, None], 0.0, out)
        return (out * grad.astype(np.float64)[None, :, None]).astype(logs.dtype)


def _meta(metas: Sequence[Meta], *attrs: Any) -> tuple[Meta, Meta]:
    """Losses, and the table that the gradient reads."""
    (steps, n, _), places = metas[0].shape, 2 * metas[1].shape[1] + 1
    device = metas[0].device
    return meta_of((n,), metas[0].dtype, device), meta_of((steps, n, -(-places // LANES) * LANES + 2 * LANES), float64, device)


_back = Structured("ctc_loss_backward", meta=lambda metas, *attrs: metas[1].plain, reference=_loss_gradient)
ctc_loss = Structured(
    "ctc_loss", meta=_meta, reference=_loss, saves=((0, 1, 2, 3), (1,)),
    grad=lambda ctx, g, _: (_back(g, *ctx.inputs, ctx.outputs[1], attrs=ctx.attrs), None, None, None))
