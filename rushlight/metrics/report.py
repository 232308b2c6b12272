"""The classification report: precision, recall and F1 per class as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .classification import ClassCounts, averaged
from .inputs import labels

_HEADINGS = ("precision", "recall", "f1-score", "support")


def classification_report(
    preds: Any,
    target: Any,
    *,
    target_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    digits: int = 2,
    output_dict: bool = False,
    zero_division: float = 0.0,
    ignore_index: int | None = None,
    threshold: float = 0.5,
) -> str | dict[str, Any]:
    """Precision, recall, F1 and number of targets of every class, and their averages.

    Args:
        preds, target, ignore_index, threshold: as for `accuracy`.
        target_names: what the classes are called; their numbers by default.
        num_classes: report the classes 0 … num_classes-1; None: those that appear.
        digits: digits after the point.
        output_dict: return nested dictionaries instead of text.
        zero_division: the value where a class was never predicted, or never true.

    Raises:
        ValueError: as many names as classes are needed.

    Example::

        >>> print(classification_report([0, 1, 1], [0, 1, 0], target_names=["cat", "dog"]))
                      precision    recall  f1-score   support
        <BLANKLINE>
                 cat       1.00      0.50      0.67         2
                 dog       0.50      1.00      0.67         1
        <BLANKLINE>
            accuracy                           0.67         3
           macro avg       0.75      0.75      0.67         3
        weighted avg       0.83      0.67      0.67         3
        <BLANKLINE>
    """
    predicted, true, classes = labels(
        preds, target, num_classes=num_classes, ignore_index=ignore_index, threshold=threshold
    )
    counts = ClassCounts.of(predicted, true, classes)
    shown = np.arange(classes) if num_classes is not None else counts.present()
    names = [str(c) for c in shown] if target_names is None else [str(name) for name in target_names]
    if len(names) != len(shown):
        raise ValueError(f"{len(names)} target_names for {len(shown)} classes: {shown.tolist()}")
    counts = counts.take(shown)
    support = int(counts.true.sum())
    per_class = averaged(counts, None, 1.0, zero_division, all_classes=True)
    rows: dict[str, tuple[float, ...]] = dict(zip(names, zip(*per_class, counts.true)))
    means = {
        f"{average} avg": (*averaged(counts, average, 1.0, zero_division, all_classes=True), support)
        for average in ("macro", "weighted")
    }
    hits = float(counts.hits.sum() / support) if support else float("nan")
    if output_dict:
        tables = {name: dict(zip(_HEADINGS, map(float, row))) for name, row in (rows | means).items()}
        return {**{name: tables[name] for name in rows}, "accuracy": hits, **{name: tables[name] for name in means}}
    width = max(len("weighted avg"), digits, *map(len, names)) if names else len("weighted avg")

    def count(targets: float) -> float:
        # scikit-learn prints the counts as floating point where not one prediction is right.
        return int(targets) if counts.hits.any() else float(targets)

    def line(name: str, row: Sequence[float]) -> str:
        cells = "".join(f" {value:>9.{digits}f}" for value in row[:3])
        return f"{name:>{width}} {cells} {count(row[3]):>9}\n"

    head = " " * width + " " + "".join(f" {heading:>9}" for heading in _HEADINGS) + "\n\n"
    body = "".join(line(name, row) for name, row in rows.items())
    share = f"{'accuracy':>{width}} " + " " * 20 + f" {hits:>9.{digits}f} {count(support):>9}\n"
    return head + body + "\n" + share + "".join(line(name, row) for name, row in means.items())
