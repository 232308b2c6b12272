"""The loss of sequences whose alignment is unknown."""
from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd.autocast import full_precision
from ...autograd.handle import Handle
from ...ops.ctc import ctc_loss as ctc_op
from ...tensor import FUNCTIONS
from ...tensor.creation import from_owned

__all__ = ["ctc_loss"]


def _lengths(given: Any, n: int, what: str) -> np.ndarray:
    values = np.array(given.detach()._array() if isinstance(given, Handle) else given).reshape(-1)  # type: ignore[attr-defined]
    if values.dtype.kind not in "iu":
        raise RuntimeError(f"{what} must be integral")
    if values.size != n:
        raise RuntimeError(f"{what} must be of size batch_size: expected {n}, got {values.size}")
    if (values < 0).any():
        raise RuntimeError(f"Expected {what} to have value at least 0, but got value {values.min()}")
    return values.astype(np.int64)


@full_precision
def ctc_loss(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: str = "mean",
             zero_infinity: bool = False) -> Any:
    """Minus the log-probability of the labels under all alignments: log-probabilities (T, N, C) or (T, C).

    Args:
        targets: labels (N, S), or all of them one after the other.
        input_lengths, target_lengths: of each sequence.
        blank: the class that stands between labels.
        zero_infinity: a sequence too short for its labels counts as 0, not as infinity.

    Raises:
        RuntimeError: lengths or labels do not fit.
    """
    single = log_probs.ndim == 2
    logs = log_probs.unsqueeze(1) if single else log_probs  # (T, N, C)
    steps, n, classes = logs.shape
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    times, lengths = _lengths(input_lengths, n, "input_lengths"), _lengths(target_lengths, n, "target_lengths")
    if (times > steps).any():
        raise RuntimeError(f"Expected input_lengths to have value at most {steps}, but got value {times.max()} (while "
                           f"checking arguments for "
                           "ctc_loss_cpu)")
    given = targets.detach()._array()
    longest = int(lengths.max()) if n else 0
    if single and given.ndim == 1:
        given = given[None]
    if given.ndim == 1:
        if given.size != lengths.sum():
            raise RuntimeError(f"ctc_loss: targets have {given.size} labels, the lengths add up to {lengths.sum()}")
        starts = np.cumsum(lengths) - lengths
        rows = np.zeros((n, longest), np.int64)
        for k in range(n):
            rows[k, :lengths[k]] = given[starts[k]:starts[k] + lengths[k]]
    else:
        if given.shape[0] != n or given.shape[1] < longest:
            raise RuntimeError(f"Expected tensor to have size at least {longest} at dimension 1, but got size {list(given.shape)}")
        rows = np.ascontiguousarray(given[:, :longest], np.int64)
    losses, _ = ctc_op(logs, from_owned(rows.copy()), from_owned(times), from_owned(lengths), attrs=(blank, bool(zero_infinity)))
    if zero_infinity:
        losses = FUNCTIONS["where"](losses == float("inf"), FUNCTIONS["zeros_like"](losses), losses)
    if reduction == "mean":
        return (losses / from_owned(np.maximum(lengths, 1)).to(losses.dtype)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses.squeeze(0) if single else losses
