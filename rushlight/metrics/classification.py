"""Accuracy, precision, recall, F-scores and the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .inputs import check_shapes, class_numbers, labels, scores_as_rows, to_numpy

AVERAGES = ("binary", "micro", "macro", "weighted", None)


def top_k_hits(preds: Any, target: Any, k: int, ignore_index: int | None = None) -> tuple[int, int]:
    """How many targets are among the `k` highest scores `(N, C, …)`, and how many targets there are.

    Of equal scores the lower class number ranks first; a NaN never hits.
    """
    preds, target = to_numpy(preds), to_numpy(target)
    check_shapes(preds, target)
    if preds.ndim != target.ndim + 1:
        raise ValueError(f"top_k={k} needs scores of shape (N, C), got preds of shape {preds.shape}")
    if not 1 <= k <= preds.shape[1]:
        raise ValueError(f"top_k={k} is not between 1 and the {preds.shape[1]} classes of preds {preds.shape}")
    rows, true = scores_as_rows(preds), target.reshape(-1)
    if ignore_index is not None:
        counted = true != ignore_index
        rows, true = rows[counted], true[counted]
    true = class_numbers(true, "target")
    if true.size and true.max() >= rows.shape[1]:
        raise ValueError(f"target holds class {true.max()}, but preds {preds.shape} score {rows.shape[1]} classes")
    own = np.take_along_axis(rows, true[:, None], axis=1)
    earlier = np.arange(rows.shape[1]) < true[:, None]
    rank = ((rows > own) | ((rows == own) & earlier) | np.isnan(rows)).sum(axis=1)
    return int(((rank < k) & ~np.isnan(own[:, 0])).sum()), true.size


@dataclass
class ClassCounts:
    """Per class: how often it was predicted rightly, was predicted, and was true. Each `(C,)` int64."""

    hits: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    @classmethod
    def zeros(cls, num_classes: int) -> ClassCounts:
        return cls(*(np.zeros(num_classes, np.int64) for _ in range(3)))

    @classmethod
    def of(cls, predicted: np.ndarray, true: np.ndarray, num_classes: int) -> ClassCounts:
        parts = (true[predicted == true], predicted, true)
        return cls(*(np.bincount(part, minlength=num_classes) for part in parts))

    def __add__(self, other: ClassCounts) -> ClassCounts:
        size = max(len(self.true), len(other.true))
        mine, theirs = (
            [np.pad(part, (0, size - len(part))) for part in (counts.hits, counts.predicted, counts.true)]
            for counts in (self, other)
        )
        return ClassCounts(*(a + b for a, b in zip(mine, theirs)))

    def take(self, classes: np.ndarray) -> ClassCounts:
        return ClassCounts(self.hits[classes], self.predicted[classes], self.true[classes])

    def present(self) -> np.ndarray:
        """The numbers of the classes that were predicted or true at all."""
        return np.flatnonzero(self.predicted + self.true)

    def total(self) -> ClassCounts:
        return ClassCounts(*(part.sum(keepdims=True) for part in (self.hits, self.predicted, self.true)))


def ratio(numerator: np.ndarray, denominator: np.ndarray, zero_division: float) -> np.ndarray:
    """Quotients, with `zero_division` where the denominator is zero."""
    empty = denominator == 0
    return np.where(empty, zero_division, numerator / np.where(empty, 1, denominator))


def f_scores(counts: ClassCounts, beta: float, zero_division: float) -> np.ndarray:
    """F-beta per class."""
    squared = beta * beta
    return ratio((1 + squared) * counts.hits, squared * counts.true + counts.predicted, zero_division)


def scores(counts: ClassCounts, beta: float, zero_division: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F-beta per class."""
    return (
        ratio(counts.hits, counts.predicted, zero_division),
        ratio(counts.hits, counts.true, zero_division),
        f_scores(counts, beta, zero_division),
    )


def weighted_mean(values: np.ndarray, weights: np.ndarray | None, zero_division: float) -> float:
    """The mean of the values that are numbers; `zero_division` where all weights are zero."""
    known = ~np.isnan(values)
    if not known.any():
        return float("nan")
    if weights is None:
        return float(values[known].mean())
    if not weights[known].sum():
        return float(zero_division)
    return float(np.average(values[known], weights=weights[known]))


def averaged(
    counts: ClassCounts,
    average: str | None,
    beta: float,
    zero_division: float,
    all_classes: bool,
    pos_label: int = 1,
) -> tuple[Any, Any, Any]:
    """Precision, recall and F-beta of the counts, averaged over the classes as asked (see `precision`)."""
    if average not in AVERAGES:
        raise ValueError(f"average={average!r} is none of {AVERAGES}")
    if beta < 0:
        raise ValueError(f"beta must be at least 0, got {beta}")
    present = counts.present()
    if average == "binary":
        if len(present) and present[-1] > 1:
            raise ValueError(
                f"average='binary' is for classes 0 and 1, but there is class {present[-1]}; "
                "choose 'micro', 'macro', 'weighted' or None"
            )
        if pos_label not in (0, 1):
            raise ValueError(f"pos_label={pos_label} is none of the classes 0 and 1")
        padded = counts + ClassCounts.zeros(2)
        chosen = scores(padded.take(np.array([pos_label])), beta, zero_division)
        return tuple(float(values[0]) for values in chosen)  # type: ignore[return-value]
    if not all_classes:
        counts = counts.take(present)
    if average == "micro":
        return tuple(float(values[0]) for values in scores(counts.total(), beta, zero_division))  # type: ignore[return-value]
    per_class = scores(counts, beta, zero_division)
    if average is None:
        return per_class
    weights = counts.true if average == "weighted" else None
    return tuple(weighted_mean(values, weights, zero_division) for values in per_class)  # type: ignore[return-value]


def accuracy(
    preds: Any,
    target: Any,
    *,
    top_k: int = 1,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    threshold: float = 0.5,
) -> float:
    """The share of right predictions.

    Args:
        preds: class numbers of the target's shape, probabilities of class 1 of that shape (floating, cut at
            `threshold`), or scores `(N, C, …)`.
        target: class numbers, any shape.
        top_k: right is a target among the `top_k` highest scores.
        num_classes: how many classes there are, to be checked.
        ignore_index: a target that does not count.

    Raises:
        ValueError: for shapes that do not fit, class numbers out of range, no targets at all.

    Example::

        >>> accuracy([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]], [1, 2], top_k=2)
        1.0
    """
    if top_k != 1:
        hits, count = top_k_hits(preds, target, top_k, ignore_index)
    else:
        predicted, true, _ = labels(
            preds, target, num_classes=num_classes, ignore_index=ignore_index, threshold=threshold
        )
        hits, count = int((predicted == true).sum()), true.size
    if not count:
        raise ValueError("accuracy of no targets is not defined")
    return hits / count


def precision_recall_fscore_support(
    preds: Any,
    target: Any,
    *,
    beta: float = 1.0,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    threshold: float = 0.5,
    zero_division: float = 0.0,
) -> tuple[Any, Any, Any, np.ndarray | None]:
    """Precision, recall, F-beta and (where `average` is None) the number of targets per class; see `precision`."""
    predicted, true, classes = labels(
        preds, target, num_classes=num_classes, ignore_index=ignore_index, threshold=threshold
    )
    counts = ClassCounts.of(predicted, true, classes)
    result = averaged(counts, average, beta, zero_division, num_classes is not None, pos_label)
    if average is not None:
        return (*result, None)
    return (*result, counts.true if num_classes is not None else counts.true[counts.present()])


def precision(preds: Any, target: Any, **options: Any) -> Any:
    """Of what was predicted as a class, the share that is of that class.

    Args:
        preds: as for `accuracy`.
        target: class numbers, any shape.
        average: "binary" (class `pos_label` against the other, the default), "micro" (all classes' counts together),
            "macro" (the mean over classes), "weighted" (by their number of targets), or None: one number per class.
        pos_label: the class that "binary" means; 1.
        num_classes: average over the classes 0 … num_classes-1, present or not. Without it the classes are those
            that appear in `preds` or `target`, in order, which is scikit-learn's default.
        ignore_index: a target that does not count.
        threshold: where probabilities are cut; 0.5.
        zero_division: the value of a class that was never predicted; 0.

    Returns:
        A float, or for `average=None` an array `(classes,)`.

    Example::

        >>> precision([0, 1, 1, 1], [0, 1, 0, 1])
        0.6666666666666666
        >>> precision([0, 1, 1, 2], [0, 1, 0, 2], average=None).tolist()
        [1.0, 0.5, 1.0]
    """
    return precision_recall_fscore_support(preds, target, **options)[0]


def recall(preds: Any, target: Any, **options: Any) -> Any:
    """Of what is of a class, the share that was predicted as that class. Options as for `precision`."""
    return precision_recall_fscore_support(preds, target, **options)[1]


def fbeta_score(preds: Any, target: Any, *, beta: float, **options: Any) -> Any:
    """The harmonic mean of precision and recall, with recall `beta` times as important. Options as for `precision`."""
    return precision_recall_fscore_support(preds, target, beta=beta, **options)[2]


def f1_score(preds: Any, target: Any, **options: Any) -> Any:
    """The harmonic mean of precision and recall. Options as for `precision`."""
    return precision_recall_fscore_support(preds, target, beta=1.0, **options)[2]


def confusion_counts(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """`(classes, classes)` int64: row = true class, column = predicted class."""
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def normalized(matrix: np.ndarray, normalize: str | None) -> np.ndarray:
    """The counts as they are, or as shares of the row ("true"), the column ("pred") or all ("all")."""
    if normalize is None:
        return matrix
    if normalize == "true":
        return ratio(matrix, matrix.sum(axis=1, keepdims=True), 0.0)
    if normalize == "pred":
        return ratio(matrix, matrix.sum(axis=0), 0.0)
    if normalize == "all":
        return ratio(matrix, matrix.sum(keepdims=True), 0.0)
    raise ValueError(f"normalize={normalize!r} is none of 'true', 'pred', 'all', None")


def confusion_matrix(
    preds: Any,
    target: Any,
    *,
    num_classes: int | None = None,
    normalize: str | None = None,
    ignore_index: int | None = None,
    threshold: float = 0.5,
) -> np.ndarray:
    """How often each true class (row) was predicted as each class (column).

    Args:
        preds, target, ignore_index, threshold: as for `accuracy`.
        num_classes: the table's size; None: up to the highest class that appears (or that has scores).
        normalize: "true" (each row sums to one), "pred" (each column), "all", or None: counts.

    Returns:
        `(C, C)`, int64 counts or float64 shares.
    """
    predicted, true, classes = labels(
        preds, target, num_classes=num_classes, ignore_index=ignore_index, threshold=threshold
    )
    return normalized(confusion_counts(predicted, true, classes), normalize)
