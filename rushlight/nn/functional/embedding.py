"""Embeddings: rows of a table, single or combined in bags."""
from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd.handle import Handle
from ...autograd.modes import no_grad
from ...autograd.titles import titled
from ...ops.embedding import embedding as embedding_op
from ...tensor import FUNCTIONS
from ...tensor.creation import from_array, from_owned
from .distance import p_norm

__all__ = ["embedding", "embedding_bag", "one_hot"]

_MADE_AT_ONCE = 1 << 16  # elements, at most, that are cheaper to write than to record


def _check_numbers(input: Any, name: str) -> None:
    if not isinstance(input, Handle):
        raise TypeError(f"{name}(): argument 'indices' (position 2) must be Tensor, not {type(input).__name__}")
    if input.dtype.name not in ("int64", "int32"):
        raise RuntimeError("Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
                           f"{input.type()} instead (while checking arguments for {name})")


def _renorm(weight: Any, numbers: np.ndarray, max_norm: float, norm_type: float) -> None:
    """Shrink the rows that are looked up, in place, to a norm of at most ``max_norm``."""
    rows = np.unique(numbers)
    if not rows.size:
        return
    with no_grad():
        at = from_array(rows.astype(np.int64))
        chosen = weight.detach().index_select(0, at)
        norms = p_norm(chosen, norm_type, 1, True)
        scale = FUNCTIONS["where"](norms > max_norm, max_norm / (norms + 1e-7), FUNCTIONS["ones_like"](norms))
        weight.index_copy_(0, at, chosen * scale)


def embedding(input: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
              scale_grad_by_freq: bool = False, sparse: bool = False) -> Any:
    """Rows of ``weight`` (V, D) at the numbers ``input`` (*) -> (*, D).

    Args:
        padding_idx: a row that gets no gradient.
        max_norm: rows that are looked up are shrunk, in place, to this norm.
        scale_grad_by_freq: divide a row's gradient by how often it is looked up.
        sparse: accepted; gradients are dense.

    Raises:
        IndexError: a number is out of range (when the rows are computed). RuntimeError: weight is no matrix.
        AssertionError: padding_idx is out of range.
    """
    _check_numbers(input, "embedding")
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    rows = weight.shape[0]
    padding = -1
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding = padding_idx % rows
    if max_norm is not None:
        _renorm(weight, input.detach()._array(), max_norm, norm_type)
    return embedding_op(weight, input, attrs=(padding, bool(scale_grad_by_freq)))


@titled("EmbeddingBagBackward0")
def embedding_bag(input: Any, weight: Any, offsets: Any = None, max_norm: float | None = None, norm_type: float = 2,
                  scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, per_sample_weights: Any = None,
                  include_last_offset: bool = False, padding_idx: int | None = None) -> Any:
    """The sum, mean or maximum of rows of ``weight``: numbers (B, N), or (N,) cut at ``offsets``, -> (B, D).

    Raises:
        ValueError: the arguments do not go together. NotImplementedError: per_sample_weights with another mode than "sum".
    """
    if weight.dtype.kind in "iu" and input.dtype.kind == "f":
        input, weight = weight, input  # the order of arguments that old programs use
    _check_numbers(input, "embedding_bag")
    if per_sample_weights is not None and input.size() != per_sample_weights.size():
        raise ValueError(f"embedding_bag: If per_sample_weights ({list(per_sample_weights.shape)}) is not None, then it must have the same "
                         f"shape as the input ({list(input.shape)})")
    if weight.ndim != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length sequences. "
                             f"However, found offsets of type {type(offsets)}")
        starts = None
    elif input.ndim == 1:
        if offsets is None:
            raise ValueError("offsets has to be a 1D Tensor but got None")
        if offsets.ndim != 1:
            raise ValueError("offsets has to be a 1D Tensor")
        starts = np.array(offsets.detach()._array(), np.int64)
        if starts.size and starts[0] != 0:
            raise RuntimeError(f"offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. However, "
                               f"got {starts[0]}")
        if starts.size and starts[-1] > input.shape[0]:
            raise RuntimeError(f"offsets[-1] can not be greater than input's length({input.shape[0]}), but got offsets[-1] of {starts[-1]}")
        if include_last_offset:
            starts = starts[:-1]
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError("embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for "
                                  "mode='sum' (got "
                                  f"mode='{mode}'). Please open a feature request on GitHub.")
    if max_norm is not None:
        _renorm(weight, input.detach()._array(), max_norm, norm_type)
    rows = weight.shape[0]
    padding = None if padding_idx is None else padding_idx % rows
    if starts is None and mode != "max" and input.shape[1]:
        return _equal_bags(input, weight, mode, per_sample_weights, padding, scale_grad_by_freq)
    if starts is None:
        bags, length = input.shape
        starts, input = np.arange(bags) * length, input.reshape(-1)
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    return _bags(input, weight, starts, mode, per_sample_weights, padding, scale_grad_by_freq)


def _equal_bags(input: Any, weight: Any, mode: str, weights: Any, padding: int | None, by_frequency: bool) -> Any:
    """Sums or means of the rows that each row of ``input`` (B, N) names."""
    rows = embedding_op(weight, input, attrs=(-1 if padding is None else padding, bool(by_frequency)))  # (B, N, D)
    if weights is not None:
        rows = rows * weights.unsqueeze(-1)
    if padding is None:
        return rows.mean(1) if mode == "mean" else rows.sum(1)
    counted = (input != padding).unsqueeze(-1)
    total = FUNCTIONS["where"](counted, rows, FUNCTIONS["zeros_like"](rows)).sum(1)
    return total / counted.sum(1).clamp(min=1).to(total.dtype) if mode == "mean" else total


def _bags(input: Any, weight: Any, starts: np.ndarray, mode: str, weights: Any, padding: int | None, by_frequency: bool) -> Any:
    n, bags, width = input.shape[0], len(starts), weight.shape[1]
    lengths = np.diff(starts, append=n)
    alike = bags > 0 and mode != "max" and int(lengths[0]) * bags == n and bool((lengths == lengths[0]).all())
    rows = embedding_op(weight, input, attrs=(-1 if padding is None else padding, bool(by_frequency)))  # (N, D)
    if weights is not None:
        rows = rows * weights.unsqueeze(-1)
    if alike and padding is None:  # sums of rows that lie together: nothing is scattered, and no row is stored
        rows = rows.reshape(bags, lengths[0].item(), width)
        return rows.mean(1) if mode == "mean" and lengths[0] else rows.sum(1)
    bag_of = np.repeat(np.arange(bags), np.maximum(lengths, 0))
    counted = np.ones(n, bool) if padding is None else np.array(input.detach()._array() != padding)
    sizes = np.bincount(bag_of[counted], minlength=bags)
    zeros = rows.new_zeros((bags, width))
    if mode == "max":
        return _maximum(rows, counted, starts, np.append(starts[1:], n), zeros)
    if padding is not None:
        rows = FUNCTIONS["where"](from_owned(counted[:, None]), rows, FUNCTIONS["zeros_like"](rows))
    if not n:
        return zeros + rows.sum()  # nothing, that depends on the weight
    total = zeros.scatter_add(0, from_owned(bag_of[:, None].repeat(width, 1)), rows)  # whose backward is found again, index_add's is not
    if mode == "mean":
        return total / from_owned(np.maximum(sizes, 1)[:, None]).to(total.dtype)
    return total


def _maximum(rows: Any, counted: np.ndarray, starts: np.ndarray, ends: np.ndarray, zeros: Any) -> Any:
    """The gradient goes to the first row that is the maximum."""
    values = rows.detach()._array()
    chosen = np.zeros((len(starts), values.shape[1]), np.int64)
    filled = np.zeros((len(starts), 1), bool)
    for b, (start, end) in enumerate(zip(starts, ends)):
        inside = np.nonzero(counted[start:end])[0] + start
        if inside.size:
            chosen[b] = inside[values[inside].argmax(0)]
            filled[b] = True
    if not filled.any():
        return zeros + rows.sum() * 0 if rows.numel() else zeros
    return FUNCTIONS["where"](from_owned(filled), rows.gather(0, from_owned(chosen)), zeros)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Class numbers (*) -> (*, num_classes) of zeros and ones (int64); by default one more class than the largest number.

    Raises:
        RuntimeError: not int64, or a number is negative or not below ``num_classes``.
    """
    if tensor.dtype.name != "int64":
        raise RuntimeError(f"one_hot is only applicable to index tensor of type LongTensor, got {tensor.type()}")
    values = tensor.detach()._array()
    if not values.size:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return FUNCTIONS["zeros"](*tensor.shape, num_classes, dtype=tensor.dtype)
    if values.min() < 0:
        raise RuntimeError("Class values must be non-negative.")
    if num_classes == -1:
        num_classes = int(values.max()) + 1
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive")
    elif values.max() >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    if values.size * num_classes > _MADE_AT_ONCE:
        return (tensor.unsqueeze(-1) == from_owned(np.arange(num_classes))).to(tensor.dtype)
    made = np.zeros((*values.shape, num_classes), np.int64)
    made.reshape(-1)[np.arange(0, made.size, num_classes) + values.reshape(-1)] = 1
    return from_owned(made)
