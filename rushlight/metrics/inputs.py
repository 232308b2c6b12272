"""From what users pass (Tensors, arrays, lists; labels, probabilities or scores) to checked NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_tensor(values: Any) -> bool:
    """Whether `values` is a Tensor, ours or one that behaves alike."""
    return hasattr(values, "detach") and hasattr(values, "numpy")


def to_numpy(values: Any) -> np.ndarray:
    """The values as a NumPy array; half precisions are widened to float32."""
    if is_tensor(values):
        values = values.detach()
        if str(values.dtype).endswith("bfloat16"):
            values = values.float()
        values = values.cpu().numpy()
    array = np.asarray(values)
    if array.dtype == object:
        raise ValueError("expected numbers of one shape, got a ragged or mixed sequence")
    if array.dtype.kind not in "biuf":
        array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        if array.dtype.kind not in "biuf":
            raise ValueError(f"expected real numbers or booleans, got dtype {array.dtype}")
    return array


def check_shapes(preds: Any, target: Any) -> None:
    """ValueError unless `preds` has the shape of `target`, or that with a class dimension after the first.

    Reads no values: it takes anything with a `shape`.
    """
    p, t = tuple(preds.shape), tuple(target.shape)
    if p == t or (len(p) == len(t) + 1 and p[:1] + p[2:] == t and p[1] > 0):
        return
    raise ValueError(
        f"preds of shape {p} do not fit target of shape {t}: expected preds of shape {t} (class numbers or "
        f"probabilities of class 1) or {(*t[:1], 'C', *t[1:])} (scores of C classes)"
    )


def class_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """The values as int64 class numbers; ValueError for fractions, NaN or negative numbers."""
    if values.dtype.kind == "f":
        if not (values == np.floor(values)).all() or not np.isfinite(values).all():
            raise ValueError(f"{name} must hold class numbers, got {_first(values, values != np.floor(values))}")
    numbers = values.astype(np.int64, copy=False).reshape(-1)
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"{name} must hold class numbers from 0 on, got {numbers.min()}")
    return numbers


def _first(values: np.ndarray, where: np.ndarray) -> Any:
    found = values[where]
    return found.reshape(-1)[0] if found.size else values.reshape(-1)[0]


def scores_as_rows(scores: np.ndarray) -> np.ndarray:
    """Scores `(N, C, …)` as one row of C per element of the target: `(N·…, C)`."""
    return np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])


def labels(
    preds: Any, target: Any, *, num_classes: int | None = None, ignore_index: int | None = None, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray, int]:
    """Predicted and true class numbers, flat int64, and how many classes there are.

    Args:
        preds: class numbers of the target's shape; probabilities of class 1 of that shape (floating, cut at
            `threshold`); or scores `(N, C, …)`, of which the largest counts.
        target: class numbers, any shape.
        num_classes: how many classes there are; None: as many as the data (or the scores) show.
        ignore_index: a target that does not count.

    Raises:
        ValueError: shapes that do not fit, or numbers that are no class numbers below `num_classes`.
    """
    preds, target = to_numpy(preds), to_numpy(target)
    check_shapes(preds, target)
    shown = 0
    if preds.ndim == target.ndim + 1:
        shown = preds.shape[1]
        predicted = preds.argmax(axis=1).reshape(-1)
    elif preds.dtype.kind == "f":
        inside = (preds >= 0) & (preds <= 1)
        if not inside.all():
            raise ValueError(
                f"floating preds of the target's shape are probabilities, in [0, 1], but there is "
                f"{_first(preds, ~inside)}; pass class numbers as integers, or scores of shape (N, C)"
            )
        predicted = (preds > threshold).astype(np.int64).reshape(-1)
    else:
        predicted = class_numbers(preds, "preds")
    true = target.reshape(-1)
    if ignore_index is not None:
        counted = true != ignore_index
        true, predicted = true[counted], predicted[counted]
    true = class_numbers(true, "target")
    highest = max([0, *(int(part.max()) + 1 for part in (true, predicted) if part.size)])
    limit = num_classes if num_classes is not None else shown or None
    if limit is not None and highest > limit:
        for name, part in (("target", true), ("preds", predicted)):
            if part.size and part.max() >= limit:
                raise ValueError(f"{name} holds class {part.max()}, but there are {limit} classes (0 to {limit - 1})")
    return predicted, true, num_classes if num_classes is not None else max(shown, highest)
