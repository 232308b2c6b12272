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


def _forward(logs: np.ndarray, labels: np.ndarray, times: np.ndarray, lengths: np.ndarray,
             blank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(log-probability of the prefixes (T, N, 2 S + 1), of the whole (N,), extended labels, used, skip)."""
    steps, n, _ = logs.shape
    wide, used, skip = _extended(labels, lengths, blank)
    alpha = np.full((steps, n, wide.shape[1]), -np.inf)
    rows = np.arange(n)
    emitted = logs[:, rows[:, None], wide]
    with np.errstate(all="ignore"):
        if steps:
            alpha[0, :, 0] = emitted[0, :, 0]
            if wide.shape[1] > 1:
                alpha[0, :, 1] = np.where(lengths > 0, emitted[0, :, 1], -np.inf)
        for t in range(1, steps):
            before = alpha[t - 1]
            one = np.pad(before, ((0, 0), (1, 0)), constant_values=-np.inf)[:, :-1]
            two = np.where(skip, np.pad(before, ((0, 0), (2, 0)), constant_values=-np.inf)[:, :-2], -np.inf)
            now = np.logaddexp(np.logaddexp(before, one), two) + emitted[t]
            alpha[t] = np.where((t < times)[:, None], np.where(used, now, -np.inf), before)
        last = alpha[-1] if steps else np.full((n, wide.shape[1]), -np.inf)
        end = last[rows, 2 * lengths]
        label_end = np.where(lengths > 0, last[rows, np.maximum(2 * lengths - 1, 0)], -np.inf)
        total = np.logaddexp(end, label_end)
        total = np.where(times == 0, np.where(lengths == 0, 0.0, -np.inf), total)
    return alpha, total, wide, used, skip


def _loss(arrays: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    logs, labels, times, lengths = arrays
    return (-_forward(logs.astype(np.float64), labels, times, lengths, attrs[0])[1]).astype(logs.dtype)


def _loss_gradient(arrays: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    """exp(logs) - (share of the alignments that pass each class), times the incoming gradient of each sequence."""
    grad, logs, labels, times, lengths = arrays
    blank, zero_infinity = attrs
    x = logs.astype(np.float64)
    steps, n, classes = x.shape
    alpha, total, wide, used, skip = _forward(x, labels, times, lengths, blank)
    rows = np.arange(n)
    places = wide.shape[1]
    out = np.zeros(x.shape)
    beta = np.full((n, places), -np.inf)
    with np.errstate(all="ignore"):
        for t in range(steps - 1, -1, -1):
            emitted = x[t][rows[:, None], wide]
            start = np.full((n, places), -np.inf)
            start[rows, 2 * lengths] = 0.0
            start[rows[lengths > 0], 2 * lengths[lengths > 0] - 1] = 0.0
            one = np.pad(beta, ((0, 0), (0, 1)), constant_values=-np.inf)[:, 1:]
            two = np.pad(np.where(skip, beta, -np.inf), ((0, 0), (0, 2)), constant_values=-np.inf)[:, 2:]
            onward = np.logaddexp(np.logaddexp(beta, one), two)
            here = np.where((times == t + 1)[:, None], start, onward)
            active = (t < times)[:, None] & used
            passing = np.where(active, np.exp(alpha[t] + here - total[:, None]), 0.0)
            share = np.zeros((n, classes))
            np.add.at(share, (rows[:, None], wide), passing)
            out[t] = np.where((t < times)[:, None], np.exp(x[t]) - share, 0.0)
            beta = np.where(active, here + emitted, -np.inf)
        if zero_infinity:
            out = np.where(np.isinf(total)[None, :, None], 0.0, out)
        return (out * grad.astype(np.float64)[None, :, None]).astype(logs.dtype)


_back = Structured("ctc_loss_backward", meta=lambda metas, *attrs: metas[1].plain, reference=_loss_gradient)
ctc_loss = Structured(
    "ctc_loss", meta=lambda metas, *attrs: meta_of((metas[0].shape[1],), metas[0].dtype, metas[0].device), reference=_loss,
    saves=((0, 1, 2, 3), False), grad=lambda ctx, g: (_back(g, *ctx.inputs, attrs=ctx.attrs), None, None, None))
