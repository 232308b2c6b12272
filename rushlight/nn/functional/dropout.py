"""Dropout in its kinds."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...autograd.handle import make
from ...autograd.quick import PLAIN_TENSORS, at_once
from ...autograd.titles import titled
from ...ops.dropout import dropout as dropout_op
from ...record.random import default_stream
from ...record.settings import settings
from ...record.trace import Trace, local
from ...record.warn import warn
from ...tensor.creation import from_owned
from ...tensor.layouts import laid_out
from ...tensor.registry import assign

__all__ = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]

_ALPHA = 1.7580993408473766  # minus the value that SELU tends to on the left


def _check(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def fresh_seed() -> Any:
    """A zero-dimensional int64 from the default generator: what one mask is computed from."""
    v = default_stream.seed_value()
    local.trace.drawn = v, default_stream.seeds.pop, default_stream.seed_value
    return make(v)


def _drop(input: Any, p: float, training: bool, feature: bool, alpha: bool) -> Any:
    if p == 0 or not training or input.numel() == 0:
        return input
    if p == 1:
        return input * 0.0
    shape = tuple(input.shape)
    mask_shape = (*shape[:2], *(1,) * (len(shape) - 2)) if feature else shape
    if alpha:
        a = 1.0 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
        shift, dropped = _ALPHA * a * p, -_ALPHA * a + _ALPHA * a * p
    else:
        a, shift, dropped = 1.0 / (1.0 - p), 0.0, 0.0
    if settings.match_pytorch:
        return _matching(input, p, mask_shape, a, alpha)
    return dropout_op(input, fresh_seed(), attrs=(float(p), mask_shape, a, shift, dropped))


def _matching(input: Any, p: float, mask_shape: tuple[int, ...], a: float, alpha: bool) -> Any:
    """With the numbers that PyTorch draws, and its arithmetic."""
    kind = np.dtype(np.float64) if input.dtype.itemsize == 8 else np.dtype(np.float32)
    kept = default_stream.bernoulli(math.prod(mask_shape), 1 - p).astype(kind)

    def mask(numbers: Any) -> Any:
        """Numbers in the order in which they are drawn: that of the input's memory, if there is one for each element."""
        if mask_shape != tuple(input.shape):
            return from_owned(numbers.astype(kind).reshape(mask_shape)).to(input.dtype)
        return laid_out(input, None, False, lambda shape: from_owned(numbers.astype(kind).reshape(shape))).to(input.dtype)

    if not alpha:
        return input * mask(kept / kind.type(1 - p))
    return input * mask(kept * kind.type(a)) + mask((kept - 1) * kind.type(_ALPHA * a) + kind.type(_ALPHA * a * p))


def _as_it_is(tr: Trace, input: Any, p: float, training: bool, inplace: bool) -> Any:
    """``input`` where there is nothing to do, as in evaluation; else None."""
    if (training is False or p == 0) and not inplace and type(input) in PLAIN_TENSORS and 0 <= p <= 1:
        return input
    return None


@at_once(_as_it_is)
def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero elements with probability p and scale the others by 1 / (1 - p), in training.

    Raises:
        ValueError: p outside [0, 1].
    """
    _check(p)
    result = _drop(input, p, training, False, False)
    return assign(input, result, "dropout_") if inplace else result


@titled(lambda input, p=0.5, *_, **__: None if p == 1 else "AddBackward0")
def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Dropout for SELU networks: mean 0 and variance 1 stay."""
    _check(p)
    result = _drop(input, p, training, False, True)
    return assign(input, result, "alpha_dropout_") if inplace else result


@titled(lambda input, p=0.5, *_, **__: None if p == 1 else "AddBackward0")
def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Alpha dropout of whole channels (dimension 1)."""
    _check(p)
    _needs_features(input, training, p)
    result = _drop(input, p, training, True, True)
    return assign(input, result, "feature_alpha_dropout_") if inplace else result


def _needs_features(input: Any, training: bool, p: float) -> None:
    if training and p not in (0, 1) and input.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")


def _features(input: Any, p: float, training: bool, inplace: bool) -> Any:
    _needs_features(input, training, p)
    result = _drop(input, p, training, True, False)
    return assign(input, result, "feature_dropout_") if inplace else result


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero whole channels of (N, C, L) or (C, L)."""
    _check(p)
    n = input.ndim
    if n not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {n}D input. Note that dropout1d exists to provide "
                           "channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional batch dimension "
                           "(i.e. 2D or 3D inputs).")
    if n == 3:
        return _features(input, p, training, inplace)
    result = _features(input.unsqueeze(0), p, training, False).squeeze(0)
    return assign(input, result, "feature_dropout_") if inplace else result


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero whole channels of (N, C, H, W)."""
    _check(p)
    n = input.ndim
    if n not in (3, 4):
        warn(f"dropout2d: Received a {n}-D input to dropout2d, which is deprecated and will result in an error in a future "
             "release. To retain the behavior and silence this warning, please use dropout instead. Note that dropout2d exists "
             "to provide channel-wise dropout on inputs with 2 spatial dimensions, a channel dimension, and an optional batch "
             "dimension (i.e. 3D or 4D inputs).")
    if n == 3:
        warn("dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired - input "
             "is interpreted as shape (N, C, L), where C is the channel dim. This behavior will change in a future release to "
             "interpret the input as one without a batch dimension, i.e. shape (C, H, W). To maintain the 1D channel-wise dropout "
             "behavior, please switch to using dropout1d instead.")
    return _features(input, p, training, inplace)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    _check(p)
    n = input.ndim
    if n not in (4, 5):
        warn(f"dropout3d: Received a {n}-D input to dropout3d, which is deprecated and will result in an error in a future "
             "release. To retain the behavior and silence this warning, please use dropout instead. Note that dropout3d exists "
             "to provide channel-wise dropout on inputs with 3 spatial dimensions, a channel dimension, and an optional batch "
             "dimension (i.e. 4D or 5D inputs).")
    if n != 4:
        return _features(input, p, training, inplace)
    result = _features(input.unsqueeze(0), p, training, False).squeeze(0)
    return assign(input, result, "feature_dropout_") if inplace else result
