"""Metrics over a stream of batches: `update` with each, `compute` at the end, `reset` to start over.

    >>> correct = Accuracy()
    >>> for preds, target in [([0, 1], [0, 0]), ([2, 2], [2, 2])]:
    ...     correct.update(preds, target)
    >>> correct.compute()
    0.75
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from .classification import ClassCounts, averaged, confusion_counts, normalized, top_k_hits
from .inputs import check_shapes, is_tensor, labels, to_numpy
from .ranking import roc_auc_score


class Metric(ABC):
    """The common part: what to keep of a batch, and when to look at it.

    Reading a Tensor's values ends the program that is being recorded, so `update` keeps copies of Tensors, reduced to
    class numbers where that is enough, and reads some tens of batches at once.
    """

    _BATCHES_KEPT = 32

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, Any]] = []
        self.reset()

    def update(self, preds: Any, target: Any) -> None:
        """Take in a batch. ValueError for shapes that do not fit (values are checked when they are read)."""
        if not is_tensor(preds):
            preds = to_numpy(preds)
        if not is_tensor(target):
            target = to_numpy(target)
        check_shapes(preds, target)
        if not (is_tensor(preds) or is_tensor(target)):
            self._read()
            self._take(preds, target)
            return
        if is_tensor(preds):
            preds = preds.detach()
            scored = len(preds.shape) == len(target.shape) + 1
            preds = preds.argmax(1) if scored and self._labels_suffice(preds) else preds.clone()
        else:
            preds = preds.copy()
        target = target.detach().clone() if is_tensor(target) else target.copy()
        self._waiting.append((preds, target))
        if len(self._waiting) >= self._BATCHES_KEPT:
            self._read()

    def compute(self) -> Any:
        """The metric over all batches since the last reset. ValueError if there were none."""
        self._read()
        if not self._seen():
            raise ValueError(f"{type(self).__name__}.compute() needs at least one target: call update() before")
        return self._result()

    def reset(self) -> None:
        """Forget all batches."""
        self._waiting.clear()
        self._clear()

    def _read(self) -> None:
        waiting, self._waiting = self._waiting, []
        for preds, target in waiting:
            self._take(to_numpy(preds), to_numpy(target))

    def _labels_suffice(self, scores: Any) -> bool:
        """Whether the class of the highest score is all that is needed of the scores."""
        return True

    @abstractmethod
    def _take(self, preds: np.ndarray, target: np.ndarray) -> None:
        """Count a batch in."""

    @abstractmethod
    def _seen(self) -> bool:
        """Whether there is anything to compute from."""

    @abstractmethod
    def _result(self) -> Any:
        """The metric of what was counted."""

    @abstractmethod
    def _clear(self) -> None:
        """Set the counts to zero."""


class Accuracy(Metric):
    """The share of right predictions; arguments as for `rushlight.metrics.accuracy`."""

    def __init__(
        self,
        *,
        top_k: int = 1,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        threshold: float = 0.5,
    ) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        self.top_k, self.num_classes, self.ignore_index, self.threshold = top_k, num_classes, ignore_index, threshold
        super().__init__()

    def _labels_suffice(self, scores: Any) -> bool:
        return self.top_k == 1

    def _take(self, preds: np.ndarray, target: np.ndarray) -> None:
        if self.top_k > 1:
            hits, count = top_k_hits(preds, target, self.top_k, self.ignore_index)
        else:
            predicted, true, _ = labels(
                preds,
                target,
                num_classes=self.num_classes,
                ignore_index=self.ignore_index,
                threshold=self.threshold,
            )
            hits, count = int((predicted == true).sum()), true.size
        self._hits += hits
        self._count += count

    def _seen(self) -> bool:
        return self._count > 0

    def _result(self) -> float:
        return self._hits / self._count

    def _clear(self) -> None:
        self._hits = self._count = 0


class _PerClass(Metric):
    """Precision, recall and F-beta: three counts per class."""

    _place: int  # which of (precision, recall, F-beta) this is
    _counts: ClassCounts

    def __init__(
        self,
        *,
        average: str | None = "binary",
        pos_label: int = 1,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        threshold: float = 0.5,
        zero_division: float = 0.0,
        beta: float = 1.0,
    ) -> None:
        self.average, self.pos_label, self.num_classes = average, pos_label, num_classes
        self.ignore_index = ignore_index
        self.threshold, self.zero_division, self.beta = threshold, zero_division, beta
        super().__init__()
        averaged(self._counts, average, beta, zero_division, num_classes is not None, pos_label)  # checks the options

    def _take(self, preds: np.ndarray, target: np.ndarray) -> None:
        predicted, true, classes = labels(
            preds,
            target,
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
            threshold=self.threshold,
        )
        self._counts = self._counts + ClassCounts.of(predicted, true, classes)

    def _seen(self) -> bool:
        return bool(self._counts.true.sum())

    def _result(self) -> Any:
        everything = averaged(
            self._counts, self.average, self.beta, self.zero_division, self.num_classes is not None, self.pos_label
        )
        return everything[self._place]

    def _clear(self) -> None:
        self._counts = ClassCounts.zeros(self.num_classes or 0)


class Precision(_PerClass):
    """Of what was predicted as a class, the share of that class; arguments as for `rushlight.metrics.precision`."""

    _place = 0


class Recall(_PerClass):
    """Of what is of a class, the share predicted so; arguments as for `rushlight.metrics.precision`."""

    _place = 1


class FBetaScore(_PerClass):
    """The mean of precision and recall that `beta` weighs; arguments as for `rushlight.metrics.precision`."""

    _place = 2


class F1Score(_PerClass):
    """The harmonic mean of precision and recall; arguments as for `rushlight.metrics.precision`."""

    _place = 2

    def __init__(self, **options: Any) -> None:
        if "beta" in options:
            raise TypeError("F1Score has no beta; use FBetaScore")
        super().__init__(**options)


class ConfusionMatrix(Metric):
    """Counts of (true class, predicted class); arguments as for `rushlight.metrics.confusion_matrix`."""

    _matrix: np.ndarray

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        normalize: str | None = None,
        ignore_index: int | None = None,
        threshold: float = 0.5,
    ) -> None:
        self.num_classes, self.normalize = num_classes, normalize
        self.ignore_index, self.threshold = ignore_index, threshold
        super().__init__()
        normalized(self._matrix, normalize)  # checks the option

    def _take(self, preds: np.ndarray, target: np.ndarray) -> None:
        predicted, true, classes = labels(
            preds,
            target,
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
            threshold=self.threshold,
        )
        size = max(classes, len(self._matrix))
        grown = np.zeros((size, size), np.int64)
        grown[: len(self._matrix), : len(self._matrix)] = self._matrix
        self._matrix = grown + confusion_counts(predicted, true, size)

    def _seen(self) -> bool:
        return bool(self._matrix.any())

    def _result(self) -> np.ndarray:
        return normalized(self._matrix, self.normalize).copy()

    def _clear(self) -> None:
        self._matrix = np.zeros((self.num_classes or 0,) * 2, np.int64)


class ROCAUC(Metric):
    """The area under the ROC curve, exact: all scores are kept. Arguments as for `rushlight.metrics.roc_auc_score`."""

    def __init__(self, *, average: str | None = "macro", multi_class: str = "ovr", pos_label: int = 1) -> None:
        self.average, self.multi_class, self.pos_label = average, multi_class, pos_label
        super().__init__()

    def _labels_suffice(self, scores: Any) -> bool:
        return False

    def _take(self, preds: np.ndarray, target: np.ndarray) -> None:
        self._batches.append((preds.copy(), target.copy()))

    def _seen(self) -> bool:
        return any(target.size for _, target in self._batches)

    def _result(self) -> Any:
        preds, target = (np.concatenate(part) for part in zip(*self._batches))
        return roc_auc_score(
            preds, target, average=self.average, multi_class=self.multi_class, pos_label=self.pos_label
        )

    def _clear(self) -> None:
        self._batches: list[tuple[np.ndarray, np.ndarray]] = []


class Mean:
    """The mean of a stream of numbers, such as the losses of an epoch.

    Tensors are copied and read some tens at a time, so that `update(loss)` does not stop the recording.

    Example::

        >>> loss = Mean()
        >>> loss.update(2.0, weight=3)
        >>> loss.update(1.0)
        >>> loss.compute()
        1.75
    """

    _VALUES_KEPT = 128

    def __init__(self) -> None:
        self.reset()

    def update(self, value: Any, weight: float = 1.0) -> None:
        """Take in a number, or all elements of a Tensor or array, each with the given weight (a batch size, say)."""
        weight = float(weight)
        if not weight >= 0:
            raise ValueError(f"weight must be at least 0, got {weight}")
        kept = value.detach().clone() if is_tensor(value) else to_numpy(value).copy()
        self._waiting.append((kept, weight))
        if len(self._waiting) >= self._VALUES_KEPT:
            self._read()

    def compute(self) -> float:
        """The weighted mean since the last reset. ValueError if there were no values."""
        self._read()
        if not self._weight:
            raise ValueError("Mean.compute() needs at least one value of positive weight: call update() before")
        return self._sum / self._weight

    def reset(self) -> None:
        """Forget all values."""
        self._waiting: list[tuple[Any, float]] = []
        self._sum = self._weight = 0.0

    def _read(self) -> None:
        waiting, self._waiting = self._waiting, []
        for value, weight in waiting:
            values = to_numpy(value)
            self._sum += float(values.sum(dtype=np.float64)) * weight
            self._weight += values.size * weight
