"""Losses with margins: rankings, embeddings, several labels."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...autograd.autocast import full_precision
from ...autograd.titles import titled
from ...ops import loss as ops
from ...tensor import FUNCTIONS
from ...tensor.creation import from_owned
from .activation import logsigmoid
from .distance import pairwise_distance
from .loss import reduced, reduction_of

__all__ = ["hinge_embedding_loss", "margin_ranking_loss", "cosine_embedding_loss", "triplet_margin_loss",
           "triplet_margin_with_distance_loss",
           "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss"]


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, size_average: bool | None = None, reduce: bool | None = None,
                         reduction: str = "mean") -> Any:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    return ops.hinge_embedding(input, target, float(margin), reduction=reduction_of(size_average, reduce, reduction))


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Any:
    """max(0, -y (x1 - x2) + margin): y is 1 where x1 should rank higher, -1 where x2 should.

    Raises:
        RuntimeError: numbers of dimensions differ.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError("margin_ranking_loss : All input tensors should have same dimension but got sizes: "
                           f"input1: {input1.size()}, input2: {input2.size()}, target: {target.size()} ")
    return ops.margin_ranking(input1, input2, target, margin, reduction=reduction)


@full_precision
def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0, size_average: bool | None = None,
                          reduce: bool | None = None, reduction: str = "mean") -> Any:
    """1 - cos(x1, x2) where the target is 1, max(0, cos(x1, x2) - margin) where it is -1."""
    reduction = reduction_of(size_average, reduce, reduction)
    if target.ndim not in (0, 1):
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if target.ndim == 1 and (input1.ndim != 2 or input2.ndim != 2):
        raise RuntimeError("1D target tensor expects 2D input tensors, but found inputs with sizes "
                           f"{list(input1.shape)} and {list(input2.shape)}.")
    if target.ndim == 0 and (input1.ndim != 1 or input2.ndim != 1):
        raise RuntimeError("0D target tensor expects 1D input tensors, but found inputs with sizes "
                           f"{list(input1.shape)} and {list(input2.shape)}.")
    tiny = 1e-12
    product = (input1 * input2).sum(-1)
    cosine = product / ((input1 * input1).sum(-1) + tiny).mul((input2 * input2).sum(-1) + tiny).sqrt()
    zeros = FUNCTIONS["zeros_like"](cosine)
    where = FUNCTIONS["where"]
    terms = where(target == 1, 1 - cosine, zeros) + where(target == -1, (cosine - margin).clamp_min(0), zeros)
    return reduced(terms, reduction)


@full_precision
def triplet_margin_loss(anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2, eps: float = 1e-6, swap: bool = False,
                        size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Any:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), with the p-norm as distance d.

    Raises:
        ValueError: margin is not positive. RuntimeError: numbers of dimensions differ.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(f"The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
                           f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs")

    def distance(a: Any, b: Any) -> Any:
        return pairwise_distance(a, b, p, eps)
    return _triplet(anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(anchor: Any, positive: Any, negative: Any, distance: Callable, margin: float, swap: bool, reduction: str) -> Any:
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = FUNCTIONS["minimum"](far, distance(positive, negative))
    return reduced((margin + near - far).clamp_min(0), reduction)


def triplet_margin_with_distance_loss(anchor: Any, positive: Any, negative: Any, *, distance_function: Callable | None = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Any:
    """The triplet loss with a distance of the user's.

    Raises:
        ValueError: no such reduction, or margin is not positive. RuntimeError: numbers of dimensions differ.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(f"The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
                           f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs")
    return _triplet(anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _batch(input: Any, name: str) -> tuple[int, int]:
    if input.ndim > 2 or input.ndim == 2 and input.shape[1] == 0 or input.ndim < 2 and input.numel() == 0:
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}")
    return (1, input.numel()) if input.ndim < 2 else (input.shape[0], input.shape[1])


@full_precision
@titled("MultiMarginLossBackward0")
def multi_margin_loss(input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, size_average: bool | None = None,
                      reduce: bool | None = None, reduction: str = "mean") -> Any:
    """The sum over the other classes of max(0, margin - x[y] + x[i])^p, divided by the number of classes.

    Raises:
        ValueError: p is neither 1 nor 2, or weight is no vector. RuntimeError: sizes do not fit.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    n, classes = _batch(input, "multi_margin_loss")
    if target.ndim > 1 or target.numel() != n:
        raise RuntimeError(f"inconsistent target size, expected {n} but got {list(target.shape)}")
    if weight is not None and weight.numel() != classes:
        raise RuntimeError(f"inconsistent weight size, expected {classes} but got {list(weight.shape)}")
    x, t = input.reshape(n, classes), target.reshape(n, 1)
    terms = (margin - x.gather(1, t) + x).clamp_min(0)
    if p == 2:
        terms = terms * terms
    if weight is not None:
        terms = terms * weight.index_select(0, t.reshape(n)).unsqueeze(1)
    classes_at = from_owned(np.arange(classes))
    terms = FUNCTIONS["where"](t == classes_at, FUNCTIONS["zeros_like"](terms), terms).sum(1) / classes
    return terms.reshape(tuple(target.shape)) if reduction == "none" else reduced(terms, reduction)


@full_precision
@titled("MultilabelMarginLossBackward0")
def multilabel_margin_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None,
                           reduction: str = "mean") -> Any:
    """The sum over labels y and other classes i of max(0, 1 - x[y] + x[i]), divided by the number of classes.

    A row of ``target`` lists labels up to the first -1.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    n, classes = _batch(input, "multilabel_margin_loss")
    if target.shape != input.shape and not (input.ndim <= 1 and target.ndim <= 1 and target.numel() == classes):
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    labels = np.array(target.detach()._array()).reshape(n, classes)
    if ((labels < -1) | (labels >= classes)).any():
        raise RuntimeError("multilabel_margin_loss: target out of range")
    counted = np.cumprod(labels >= 0, axis=1).astype(bool)
    is_label = np.zeros((n, classes), bool)
    rows = np.nonzero(counted)[0]
    is_label[rows, labels[counted]] = True
    x = input.reshape(n, classes)
    own = x.gather(1, from_owned(np.where(counted, labels, 0)))              # (N, label)
    terms = (1 - own.unsqueeze(2) + x.unsqueeze(1)).clamp_min(0)             # (N, label, class)
    wanted = from_owned(counted[:, :, None] & ~is_label[:, None, :])
    terms = FUNCTIONS["where"](wanted, terms, FUNCTIONS["zeros_like"](terms)).sum((1, 2)) / classes
    if reduction == "none":
        return terms if input.ndim == 2 else terms.reshape(())
    return reduced(terms, reduction)


def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None,
                                reduction: str = "mean") -> Any:
    """The mean over classes of the two-class cross entropy of logits."""
    reduction = reduction_of(size_average, reduce, reduction)
    terms = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        terms = terms * weight
    return reduced(terms.sum(-1) / input.shape[-1] if input.ndim else terms, reduction)
