"""The ROC curve and the area under it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from .inputs import class_numbers, to_numpy


def _binary(preds: Any, target: Any, pos_label: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat scores of the positive class, and which targets are positive."""
    preds, target = to_numpy(preds), to_numpy(target)
    if preds.ndim == target.ndim + 1 and preds.shape[1] == 2:
        preds = preds[:, pos_label if pos_label in (0, 1) else 1]
    if preds.shape != target.shape:
        raise ValueError(f"scores of shape {preds.shape} do not fit binary targets of shape {target.shape}")
    if np.isnan(preds).any():
        raise ValueError("scores contain NaN")
    numbers = class_numbers(target, "target")
    found = np.unique(numbers)
    if len(found) > 2:
        raise ValueError(f"expected two classes in target, got {len(found)}: {found[:10].tolist()}")
    return preds.reshape(-1), numbers == pos_label


def _both_present(positive: np.ndarray, what: str) -> None:
    count = int(positive.sum())
    if count in (0, positive.size):
        kind = "negative" if positive.size and count else "positive"
        raise ValueError(f"{what} is not defined: there are no {kind} targets among {positive.size}")


def roc_curve(
    preds: Any, target: Any, *, pos_label: int = 1, drop_intermediate: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False positive rates, true positive rates, and the score thresholds that give them.

    Args:
        preds: scores of the positive class, the target's shape, or `(N, 2)`.
        target: class numbers, two classes.
        drop_intermediate: leave out thresholds that lie on a straight line between their neighbours.

    Returns:
        Three float64 arrays of one length, thresholds falling from infinity (where nothing is positive).

    Raises:
        ValueError: NaN, shapes that do not fit, more than two classes, or a class without targets.

    Example::

        >>> [part.tolist() for part in roc_curve([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])]
        [[0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0], [inf, 0.8, 0.4, 0.35, 0.1]]
    """
    scores, positive = _binary(preds, target, pos_label)
    _both_present(positive, "the ROC curve")
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    scores, positive = scores[order], positive[order]
    ends = np.r_[np.flatnonzero(np.diff(scores)), scores.size - 1]  # the last of every run of equal scores
    true_positives = np.cumsum(positive)[ends]
    false_positives = 1 + ends - true_positives
    thresholds = scores[ends].astype(np.float64)
    if drop_intermediate and len(ends) > 2:
        bends = np.r_[True, (np.diff(false_positives, 2) != 0) | (np.diff(true_positives, 2) != 0), True]
        true_positives, false_positives, thresholds = true_positives[bends], false_positives[bends], thresholds[bends]
    return (
        np.r_[0, false_positives] / false_positives[-1],
        np.r_[0, true_positives] / true_positives[-1],
        np.r_[np.inf, thresholds],
    )


def auc(x: Any, y: Any) -> float:
    """The area under the curve through the points `(x, y)`, by trapezoids; `x` must rise or fall throughout."""
    x, y = to_numpy(x), to_numpy(y)
    if x.ndim != 1 or x.shape != y.shape or x.size < 2:
        raise ValueError(f"expected two or more points, x and y of one length, got shapes {x.shape} and {y.shape}")
    steps = np.diff(x)
    if not ((steps >= 0).all() or (steps <= 0).all()):
        raise ValueError("x neither rises nor falls throughout")
    area = float((steps * (y[1:] + y[:-1]) / 2).sum())
    return -area if (steps < 0).any() else area


def _area(scores: np.ndarray, positive: np.ndarray, what: str = "ROC AUC") -> float:
    """The chance that a positive scores above a negative, ties counting half: the area under the ROC curve."""
    _both_present(positive, what)
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(sizes) - (sizes - 1) / 2
    count = int(positive.sum())
    above = middle_rank[group.reshape(-1)][positive].sum() - count * (count + 1) / 2
    return float(above / (count * (positive.size - count)))


def roc_auc_score(
    preds: Any, target: Any, *, average: str | None = "macro", multi_class: str = "ovr", pos_label: int = 1
) -> Any:
    """The area under the ROC curve: 1 for a perfect ranking, 0.5 for none.

    Args:
        preds: scores of class 1, `(N,)`; or scores of C classes, `(N, C)`.
        target: class numbers `(N,)`.
        average: for more than two classes "macro", "weighted" (by the classes' shares), or None (one number per
            class; only for "ovr").
        multi_class: "ovr", each class against the rest, or "ovo", each pair of classes, both ways.
        pos_label: the positive one of two classes.

    Raises:
        ValueError: NaN, shapes that do not fit, a class without targets, unknown options.

    Example::

        >>> roc_auc_score([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    scores, numbers = to_numpy(preds), to_numpy(target)
    if scores.ndim == numbers.ndim or (scores.ndim == 2 and scores.shape[1] == 2):
        return _area(*_binary(scores, numbers, pos_label))
    if scores.ndim != 2 or numbers.shape != scores.shape[:1]:
        raise ValueError(f"scores of shape {scores.shape} do not fit targets of shape {numbers.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores contain NaN")
    if multi_class not in ("ovr", "ovo"):
        raise ValueError(f"multi_class={multi_class!r} is neither 'ovr' nor 'ovo'")
    if average not in ("macro", "weighted") and not (average is None and multi_class == "ovr"):
        allowed = "'macro', 'weighted' or None" if multi_class == "ovr" else "'macro' or 'weighted'"
        raise ValueError(f"average={average!r} is not {allowed}, which multi_class={multi_class!r} takes")
    numbers, classes = class_numbers(numbers, "target"), scores.shape[1]
    if numbers.size and numbers.max() >= classes:
        raise ValueError(f"target holds class {numbers.max()}, but scores {scores.shape} are of {classes} classes")
    if multi_class == "ovr":
        areas = [_area(scores[:, c], numbers == c, f"ROC AUC of class {c}") for c in range(classes)]
        weights = np.bincount(numbers, minlength=classes)
        if average is None:
            return np.array(areas)
    else:
        areas, shares = [], []
        for a, b in combinations(range(classes), 2):
            pair = (numbers == a) | (numbers == b)
            is_a = numbers[pair] == a
            what = f"ROC AUC of classes {a} and {b}"
            areas.append((_area(scores[pair, a], is_a, what) + _area(scores[pair, b], ~is_a, what)) / 2)
            shares.append(pair.mean())
        weights = np.array(shares)
    return float(np.average(areas, weights=weights if average == "weighted" else None))
