"""Connectionist temporal classification: the probability of all alignments of labels to a longer sequence.

A library call between native segments: the recursion over time runs in NumPy for all sequences of a batch together.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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


def _together(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """log(exp a + exp b + exp c)."""
    most = np.maximum(np.maximum(a, b), c)
    most[most == -np.inf] = 0.0
    return most + np.log(np.exp(a - most) + np.exp(b - most) + np.exp(c - most))


def _forward(logs: np.ndarray, labels: np.ndarray, times: np.ndarray, lengths: np.ndarray,
             blank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(log-probability of the prefixes (T, N, 2 S + 1), of the whole (N,), extended labels, used, 0 where two places may be skipped and
    else -inf, log-probabilities of the extended labels (T, N, 2 S + 1)). All that a step of the loop needs is made before."""
    steps, n, _ = logs.shape
    wide, used, skip = _extended(labels, lengths, blank)
    rows = np.arange(n)
    emitted = logs[:, rows[:, None], wide]
    ways = np.where(skip, 0.0, -np.inf)
    # Two places in front, so that those one and two before are other views of the same memory.
    table = np.full((steps, n, wide.shape[1] + 2), -np.inf)
    alpha = table[:, :, 2:]
    with np.errstate(all="ignore"):
        if steps:
            alpha[0, :, 0] = emitted[0, :, 0]
            if wide.shape[1] > 1:
                alpha[0, :, 1] = np.where(lengths > 0, emitted[0, :, 1], -np.inf)
        always = int(times.min()) if n else 0  # as long as all sequences go on
        reached = np.where(used, emitted, -np.inf)
        for t in range(1, steps):
            before = table[t - 1]
            now = _together(before[:, 2:], before[:, 1:-1], before[:, :-2] + ways) + reached[t]
            alpha[t] = now if t < always else np.where((t < times)[:, None], now, before[:, 2:])
        last = alpha[-1] if steps else np.full((n, wide.shape[1]), -np.inf)
        end = last[rows, 2 * lengths]
        label_end = np.where(lengths > 0, last[rows, np.maximum(2 * lengths - 1, 0)], -np.inf)
        total = np.logaddexp(end, label_end)
        total = np.where(times == 0, np.where(lengths == 0, 0.0, -np.inf), total)
    return alpha, total, wide, used, ways, emitted


def _loss(arrays: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    logs, labels, times, lengths = arrays
    return (-_forward(logs.astype(np.float64), labels, times, lengths, attrs[0])[1]).astype(logs.dtype)


def _suffixes(emitted: np.ndarray, used: np.ndarray, ways: np.ndarray, times: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Log-probability of what follows each place at each time, itself not counted (T, N, 2 S + 1)."""
    steps, n, places = emitted.shape
    rows = np.arange(n)
    start = np.full((n, places), -np.inf)
    start[rows, 2 * lengths] = 0.0
    start[rows[lengths > 0], 2 * lengths[lengths > 0] - 1] = 0.0
    reached = np.where(used, emitted, -np.inf)
    behind = np.full((n, places + 2), -np.inf)  # two places behind, as in ``_forward``
    ways_in = np.concatenate([ways, np.full((n, 2), -np.inf)], 1)[:, 2:]
    here = np.empty(emitted.shape)
    ends = set(times.tolist())
    always = int(times.min()) if n else 0
    for t in range(steps - 1, -1, -1):
        here[t] = _together(behind[:, :-2], behind[:, 1:-1], behind[:, 2:] + ways_in)
        if t + 1 in ends:
            here[t] = np.where((times == t + 1)[:, None], start, here[t])
        now = here[t] + reached[t]
        behind[:, :-2] = now if t < always else np.where((t < times)[:, None], now, -np.inf)
    return here


def _loss_gradient(arrays: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    """exp(logs) - (share of the alignments that pass each class), times the incoming gradient of each sequence."""
    grad, logs, labels, times, lengths = arrays
    blank, zero_infinity = attrs
    x = logs.astype(np.float64)
    steps, n, classes = x.shape
    with np.errstate(all="ignore"):
        alpha, total, wide, used, ways, emitted = _forward(x, labels, times, lengths, blank)
        inside = np.arange(steps)[:, None] < times
        passing = np.exp(alpha + _suffixes(emitted, used, ways, times, lengths) - total[:, None])
        passing = np.where(inside[:, :, None] & used, passing, 0.0)
        one_hot = (wide[:, :, None] == np.arange(classes)).astype(np.float64)
        # Where no alignment exists the labels' classes are NaN, and only these.
        lost = np.isnan(passing)
        share = np.matmul(np.where(lost, 0.0, passing).transpose(1, 0, 2), one_hot).transpose(1, 0, 2)
        if lost.any():
            share[np.matmul(lost.transpose(1, 0, 2), one_hot).transpose(1, 0, 2) > 0] = np.nan
        out = np.where(inside[:, :, None], np.exp(x) - share, 0.0)
        if zero_infinity:
            out = np.where(np.isinf(total)[None, :, None], 0.0, out)
        return (out * grad.astype(np.float64)[None, :, None]).astype(logs.dtype)


_back = Structured("ctc_loss_backward", meta=lambda metas, *attrs: metas[1].plain, reference=_loss_gradient)
ctc_loss = Structured(
    "ctc_loss", meta=lambda metas, *attrs: meta_of((metas[0].shape[1],), metas[0].dtype, metas[0].device), reference=_loss,
    saves=((0, 1, 2, 3), False), grad=lambda ctx, g: (_back(g, *ctx.inputs, attrs=ctx.attrs), None, None, None))
