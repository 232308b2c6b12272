"""Losses against class numbers and probabilities, and of regression."""
from __future__ import annotations

import math
from typing import Any

from ...autograd.autocast import full_precision, widest
from ...autograd.handle import Handle
from ...autograd.titles import titled
from ...ops import arithmetic as ar
from ...ops import loss as ops
from ...ops import views
from ...ops.cross_entropy import class_dim
from ...ops.cross_entropy import cross_entropy as class_loss
from ...record.trace import local
from ...record.warn import warn
from ...tensor import FUNCTIONS, METHODS

__all__ = ["cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
           "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss", "gaussian_nll_loss", "soft_margin_loss"]


def reduction_of(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction asked for, also by the old arguments.

    Raises:
        ValueError: no such reduction.
    """
    if size_average is not None or reduce is not None:
        old = "none" if reduce is False else "sum" if size_average is False else "mean"
        warn(f"size_average and reduce args will be deprecated, please use reduction='{old}' instead.")
        return old
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(terms: Any, reduction: str) -> Any:
    return terms if reduction == "none" else terms.mean() if reduction == "mean" else terms.sum()


# -- classes ------------------------------------------------------------------------------------------------------


def _title(input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
           reduce: bool | None = None, reduction: str = "mean", label_smoothing: float = 0.0) -> str | None:
    """Images and the like have a loss of their own, which takes them with two dimensions."""
    n = input.ndim
    if n < 3 or label_smoothing or target.ndim == n:
        return None
    return "ViewBackward0" if (reduction == "none" or reduce is False) and n != 4 else "NllLoss2DBackward0"


@titled(_title)
def cross_entropy(input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
                  reduce: bool | None = None, reduction: str = "mean", label_smoothing: float = 0.0) -> Any:
    """Cross entropy of logits (C,), (N, C) or (N, C, ...) against class numbers (), (N,), (N, ...) or probabilities.

    Args:
        weight: (C,), of each class.
        ignore_index: class number whose targets do not count.
        label_smoothing: share of the target that is spread over all classes.

    Raises:
        ValueError: batch sizes differ. RuntimeError: other sizes or dtypes do not fit. IndexError: a class number is out of range
        (when the loss is computed).
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    given, wanted = input._value.meta, target._value.meta
    if given.shape and wanted.dtype.kind == "f" or wanted.shape == given.shape:
        return _soft_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
    if weight is None:
        return class_loss(input, target, attrs=(True, ignore_index, reduction, label_smoothing))
    return class_loss(input, target, weight, attrs=(True, ignore_index, reduction, label_smoothing))


_divided = ar.div.named("DivBackward1")


@full_precision
def _soft_cross_entropy(input: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    if target.dtype.kind != "f":
        raise RuntimeError(f"Expected floating point type for target with class probabilities, got {target.dtype.name.capitalize()}")
    if input.ndim > 1 and target.shape[:1] != input.shape[:1]:
        have = target.shape[0] if target.ndim else 1
        raise ValueError(f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({have}).")
    if target.shape != input.shape:
        raise RuntimeError(f"cross_entropy: class probabilities {list(target.shape)} must have the input's shape {list(input.shape)}")
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    dim = class_dim(tuple(input.shape))
    classes = input.shape[dim]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError("cross_entropy: weight tensor should be defined either for all or no classes: got "
                           f"{list(weight.shape)} for {classes} classes")
    if smoothing > 0.0:
        target = target * (1 - smoothing) + smoothing / classes
    terms = METHODS["log_softmax"](input, dim) * target
    if weight is not None:
        terms = terms * weight.reshape([classes if d == dim else 1 for d in range(input.ndim)])
    if reduction == "none":
        return -terms.sum(dim)
    total = -terms.sum()
    return total if reduction == "sum" else _divided(total, max(input.numel() // classes, 1))


@titled(_title)
def nll_loss(input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
             reduce: bool | None = None, reduction: str = "mean") -> Any:
    """Negative log-likelihood: like ``cross_entropy`` for scores that are log-probabilities already."""
    reduction = reduction_of(size_average, reduce, reduction)
    attrs = (False, ignore_index, reduction, 0.0)
    return class_loss(input, target, attrs=attrs) if weight is None else class_loss(input, target, weight, attrs=attrs)


# -- regression ---------------------------------------------------------------------------------------------------


def _same_size(input: Any, target: Any) -> tuple[Any, Any]:
    """Input and target; where one has no dimensions, of one size, so that its dtype counts as the other's does."""
    given, wanted = input._value.meta, target._value.meta
    if wanted.shape == given.shape:
        return input, target
    warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead "
         "to incorrect results due to broadcasting. Please ensure they have the same size.")
    if given.dtype is wanted.dtype or given.shape and wanted.shape:
        return input, target
    return (input, views.expand(target, given.shape)) if given.shape else (views.expand(input, wanted.shape), target)


def _weighted(terms: Any, weight: Any, reduction: str) -> Any:
    """Terms times weights; a mean divides by the sum of the weights."""
    if tuple(weight.shape) != tuple(terms.shape):
        raise ValueError("Weights and input must have the same size.")
    terms = terms * weight
    return terms if reduction == "none" else terms.sum() if reduction == "sum" else terms.sum() / weight.sum()


def mse_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
             weight: Any = None) -> Any:
    """(x - y)², reduced."""
    input, target = _same_size(input, target)
    reduction = reduction_of(size_average, reduce, reduction)
    return ops.mse(input, target, reduction=reduction) if weight is None else \
        _weighted(ops.mse(input, target, reduction="none"), weight, reduction)


def l1_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
            weight: Any = None) -> Any:
    """|x - y|, reduced."""
    input, target = _same_size(input, target)
    reduction = reduction_of(size_average, reduce, reduction)
    if input.dtype.kind == "c":
        return reduced((input - target).abs(), reduction)
    return ops.l1(input, target, reduction=reduction) if weight is None else \
        _weighted(ops.l1(input, target, reduction="none"), weight, reduction)


@titled(lambda input, target, size_average=None, reduce=None, reduction="mean", beta=1.0:
        None if beta else {"mean": "MeanBackward0", "sum": "SumBackward0"}.get(reduction, "AbsBackward0"))
def smooth_l1_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
                   beta: float = 1.0) -> Any:
    """(x - y)² / (2 beta) where |x - y| < beta, else |x - y| - beta / 2.

    Raises:
        RuntimeError: beta is negative.
    """
    input, target = _same_size(input, target)
    reduction = reduction_of(size_average, reduce, reduction)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return ops.smooth_l1(input, target, float(beta), reduction=reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """(x - y)² / 2 where |x - y| <= delta, else delta (|x - y| - delta / 2).

    Raises:
        RuntimeError: delta is not positive.
    """
    input, target = _same_size(input, target)
    reduction = reduction_of(None, None, reduction)
    if target.dtype is not input.dtype and local.trace.low is None:  # the result is of the input's
        target = target.to(input.dtype)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    return ops.huber(input, target, float(delta), reduction=reduction) if weight is None else \
        _weighted(ops.huber(input, target, float(delta), reduction="none"), weight, reduction)


# -- two classes --------------------------------------------------------------------------------------------------


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None,
                         reduction: str = "mean") -> Any:
    """Cross entropy of probabilities against targets in [0, 1].

    Raises:
        ValueError: sizes differ. RuntimeError: a probability is outside [0, 1] (only checked where it costs no run).
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if target.shape != input.shape:
        raise ValueError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. Please "
                         "ensure they have the same size.")
    if target.dtype is not input.dtype:
        input, target = widest(input, target)
    if target.dtype is not input.dtype:
        raise RuntimeError(f"Found dtype {target.dtype.name.capitalize()} but expected {input.dtype.name.capitalize()}")
    if input._value.buffer is not None:
        values = input.detach()._array()
        if values.size and not bool(((values >= 0) & (values <= 1)).all()):
            raise RuntimeError("all elements of input should be between 0 and 1")
    if weight is not None:
        FUNCTIONS["broadcast_to"](weight, tuple(input.shape))
    return ops.bce(input, target, 1.0 if weight is None else weight.detach(), reduction=reduction)


def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, size_average: bool | None = None,
                                     reduce: bool | None = None, reduction: str = "mean", pos_weight: Any = None) -> Any:
    """Cross entropy of sigmoid(input) against targets in [0, 1], without overflow.

    Args:
        weight: of each element (broadcasts); pos_weight: of positive targets, for each class.

    Raises:
        ValueError: sizes differ.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if target._value.meta.shape != input._value.meta.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    return ops.bce_logits(input, target, 1.0 if weight is None else weight, 1.0 if pos_weight is None else pos_weight, reduction=reduction)


# -- distributions ------------------------------------------------------------------------------------------------


def kl_div(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
           log_target: bool = False) -> Any:
    """Kullback-Leibler divergence of log-probabilities ``input`` from probabilities (or log-probabilities) ``target``.

    "batchmean" divides by the batch size, which is the definition; "mean" divides by the number of elements.
    """
    if size_average is not None or reduce is not None:
        reduction = reduction_of(size_average, reduce, reduction)
    if reduction == "mean":
        warn("reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides only by "
             "the batch size, and aligns with the KL div math definition. 'mean' will be changed to behave the same as "
             "'batchmean' in the next major release.")
    op = ops.kl_log if log_target else ops.kl
    if reduction == "batchmean":
        total = op(input, target, reduction="sum")
        return total / input.shape[0] if input.ndim else total
    return op(input, target, reduction=reduction_of(None, None, reduction))


@titled(lambda input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean":
        "AddBackward0" if full and (reduction == "none" or reduce is False) else None)
def poisson_nll_loss(input: Any, target: Any, log_input: bool = True, full: bool = False, size_average: bool | None = None,
                     eps: float = 1e-8, reduce: bool | None = None, reduction: str = "mean") -> Any:
    """Negative log-likelihood of counts under Poisson rates (their logarithms with ``log_input``)."""
    reduction = reduction_of(size_average, reduce, reduction)
    return ops.poisson_nll(input, target, float(eps), reduction=reduction, log_input=bool(log_input), full=bool(full))


def gaussian_nll_loss(input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> Any:
    """Negative log-likelihood of targets under normal distributions of mean ``input`` and variance ``var``.

    Raises:
        ValueError: a size does not fit, a variance is negative, or there is no such reduction.
    """
    if not isinstance(var, Handle):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = var * FUNCTIONS["ones_like"](input)
    elif bool(FUNCTIONS["lt"](var, 0).any()):
        raise ValueError("var has negative entry/entries")
    if var.shape != input.shape:
        if tuple(input.shape[:-1]) == tuple(var.shape):
            var = var.unsqueeze(-1)
        elif tuple(input.shape[:-1]) != tuple(var.shape[:-1]) or var.shape[-1] != 1:
            if not _heteroscedastic(input, var):
                raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    kept = var.clone()
    from ...autograd.modes import no_grad

    with no_grad():
        kept.clamp_(min=eps)  # the gradient passes as if nothing were clamped
    terms = 0.5 * (kept.log() + (input - target) ** 2 / kept)
    if full:
        terms = terms + 0.5 * math.log(2 * math.pi)
    return reduced(terms, reduction)


def _heteroscedastic(input: Any, var: Any) -> bool:
    """Variances that broadcast along one dimension of length 1."""
    pairs = list(zip(input.shape, var.shape))
    return input.ndim == var.ndim and sum(b == 1 for _, b in pairs) == 1 and all(a == b or b == 1 for a, b in pairs)


def soft_margin_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Any:
    """log(1 + exp(-y x)), for targets y in {-1, 1}."""
    return ops.soft_margin(input, target, reduction=reduction_of(size_average, reduce, reduction))
