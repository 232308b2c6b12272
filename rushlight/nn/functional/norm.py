"""Normalisation functions.

Example:
    >>> layer_norm(rushlight.tensor([[1.0, 3.0]]), (2,), eps=0.0)
    tensor([[-1.,  1.]])
"""
from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...autograd.titles import titled
from ...ops import norm as ops
from ...ops.norm import Spec, spec
from ...tensor.out import assign

__all__ = ["batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm", "normalize"]


def _check_size(what: str, t: Any, n: int) -> None:
    if t is not None and t.numel() != n:
        raise RuntimeError(f"{what} should contain {n} elements not {t.numel()}")


@lru_cache(maxsize=1024)
def _batch_spec(shape: tuple[int, ...], eps: float, weight: bool, bias: bool, momentum: float | str | None,
                counted: bool) -> tuple[Spec]:
    params = tuple(n if d == 1 and (weight or bias) else 1 for d, n in enumerate(shape))
    return (spec(shape, (0, *range(2, len(shape))), params, eps, weight, bias, True, momentum, counted),)


def _tracked(op: Any, input: Any, parameters: list[Any], running: list[Any], attrs: tuple) -> Any:
    """Normalise and write the new running statistics."""
    y, *new = op(input, *parameters, *running, attrs=attrs)
    for old, value in zip(running, new):
        value._edge = None
        assign(old, value, op.name)
    return y


def _given(*parameters: Any) -> list[Any]:
    return [p for p in parameters if p is not None]


def batch_norm(input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
               momentum: float | None = 0.1, eps: float = 1e-5, *, _count: Any = None) -> Any:
    """Normalise (N, C, ...) for each channel over everything else.

    Args:
        training: use the batch's mean and variance, and move the running ones (if given) towards them by ``momentum``;
            otherwise use the running ones.
        _count: from layers: the number of batches seen, which grows by one; with it a momentum of None means the mean over all
            batches.

    Raises:
        ValueError: one value for a channel when training. RuntimeError: sizes do not fit, or no running statistics in evaluation.
    """
    shape = input._value.meta.shape
    if shape == (0,):
        return input.clone()
    if len(shape) < 2:
        raise RuntimeError(f"batch_norm: expected at least 2 dimensions (N, C, ...), got input of size {list(shape)}")
    channels = shape[1]
    if training and eps <= 0 or eps < 0:
        raise ValueError(f"batch_norm eps must be {'positive during training' if training else 'non-negative'}, but got {eps}")
    if training and math.prod(shape) == channels:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.size()}")
    for what, t in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        _check_size(what, t, channels)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(f"{'running_mean' if running_mean is None else 'running_var'} must be defined in evaluation mode")
        return ops.batch_norm_eval(input, running_mean, running_var, *_given(weight, bias),
                                   attrs=(eps, weight is not None, bias is not None))
    running = _pair(running_mean, running_var, input) if 0 not in shape else []  # nothing is learned from no values
    if _count is not None:
        if running:
            running.append(_count)
        else:
            _count.add_(1)
    share = None if not running else momentum if momentum is not None else "mean" if len(running) > 2 else 0.0
    attrs = _batch_spec(shape, eps, weight is not None, bias is not None, share, len(running) > 2)
    parameters = _given(weight, bias)
    return _tracked(ops.batch_norm, input, parameters, running, attrs) if running else ops.batch_norm(input, *parameters, attrs=attrs)


def _pair(mean: Any, var: Any, input: Any) -> list[Any]:
    """The running statistics; where only one is tracked the other is thrown away."""
    if mean is None and var is None:
        return []
    spare = input.new_zeros(input.shape[1], dtype=input.dtype.compute) if mean is None or var is None else None
    return [spare if t is None else t for t in (mean, var)]


def _normalized(name: str, input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float, centre: bool) -> Any:
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    shape = input._value.meta.shape
    if not wanted:
        raise RuntimeError("Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got "
                           "normalized_shape = []")
    for what, p in (("weight", weight), ("bias", bias)):
        if p is not None and p._value.meta.shape != wanted:
            raise RuntimeError(f"Expected {what} to be of same shape as normalized_shape, but got {what} of shape {list(p.shape)} and "
                               f"normalized_shape = {list(wanted)}")
    attrs = _row_spec(shape, wanted, eps, weight is not None, bias is not None, centre)
    return (ops.layer_norm if centre else ops.rms_norm)(input, *_given(weight, bias), attrs=attrs)


@lru_cache(maxsize=1024)
def _row_spec(shape: tuple[int, ...], wanted: tuple[int, ...], eps: float, weight: bool, bias: bool, centre: bool) -> tuple[Spec]:
    lead = len(shape) - len(wanted)
    if lead < 0 or shape[lead:] != wanted:
        raise RuntimeError(f"Given normalized_shape={list(wanted)}, expected input with shape [*, {', '.join(map(str, wanted))}], but "
                           f"got input of size{list(shape)}")
    params = (1,) * lead + wanted if weight or bias else (1,) * len(shape)
    return (spec(shape, tuple(range(lead, len(shape))), params, eps, weight, bias, centre),)


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalise over the last dimensions, which are ``normalized_shape``; then scale and shift elementwise.

    Raises:
        RuntimeError: the input does not end in ``normalized_shape``, or weight or bias have another shape.
    """
    return _normalized("layer_norm", input, normalized_shape, weight, bias, eps, True)


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """Divide by the root mean square over the last dimensions; ``eps`` is the dtype's epsilon by default."""
    if eps is None:
        if input.dtype.kind not in "fc":
            raise NotImplementedError(f'"rms_norm" not implemented for {input.dtype}')
        eps = float(np.finfo(input.dtype.compute.numpy).eps)
    if input.dtype.kind == "c":
        dims = tuple(range(-len(tuple(normalized_shape)), 0))
        made = input * ((input * input).mean(dims, True) + eps).rsqrt()
        return made if weight is None else made * weight
    return _normalized("rms_norm", input, normalized_shape, weight, None, eps, False)


@lru_cache(maxsize=1024)
def _per_channel(shape: tuple[int, ...], groups: int, eps: float, weight: bool, bias: bool, momentum: float | None = None) -> tuple[Spec]:
    """(N, C, ...) seen as (N, groups, C / groups, ...), statistics for each sample and group."""
    n, c = shape[:2]
    view = (n, groups, c // groups if groups else 0, *shape[2:])
    params = (1, groups, c // groups, *(1,) * (len(shape) - 2)) if weight or bias else (1,) * len(view)
    return (spec(view, tuple(range(2, len(view))), params, eps, weight, bias, True, momentum),)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalise (N, C, ...) for each sample and each of ``num_groups`` groups of channels; weight and bias are for each channel.

    Raises:
        RuntimeError: the channels cannot be divided into ``num_groups``. ValueError: groups of a single value.
    """
    shape = input._value.meta.shape
    if len(shape) < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {len(shape)}")
    n, c = shape[:2]
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    if c % num_groups:
        raise RuntimeError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(shape)} "
                           f"and num_groups={num_groups}")
    if n * (c // num_groups) * math.prod(shape[2:]) == 1:
        raise ValueError("Expected more than 1 value per channel when training, got input size "
                         f"{[n * c // num_groups, num_groups, *shape[2:]]}")
    for what, p in (("weight", weight), ("bias", bias)):
        if p is not None and p._value.meta.shape != (c,):
            raise RuntimeError(f"Expected {what} to be a vector of size equal to the number of channels in input, but got {what} of "
                               f"shape {list(p.shape)} and input of shape {list(shape)}")
    attrs = _per_channel(shape, num_groups, eps, weight is not None, bias is not None)
    return ops.group_norm(input, *_given(weight, bias), attrs=attrs)


@titled("ViewBackward0")
def instance_norm(input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
                  use_input_stats: bool = True, momentum: Any = 0.1, eps: float = 1e-5) -> Any:
    """Normalise (N, C, ...) for each sample and channel; with ``use_input_stats=False`` by the running statistics.

    Raises:
        ValueError: a single spatial element when its statistics are used. RuntimeError: sizes do not fit.
    """
    shape = input._value.meta.shape
    if use_input_stats and math.prod(shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.size()}")
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats is false")
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    for what, t in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        _check_size(what, t, shape[1])
    running = _pair(running_mean, running_var, input)
    attrs = _per_channel(shape, shape[1], eps, weight is not None, bias is not None, (momentum or 0.0) if running else None)
    parameters = _given(weight, bias)
    return _tracked(ops.instance_norm, input, parameters, running, attrs) if running else ops.instance_norm(input, *parameters, attrs=attrs)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Divide each channel by a power of the mean square of ``size`` channels around it.

    Raises:
        ValueError: fewer than three dimensions.
    """
    from .pooling import avg_pool2d

    shape = input._value.meta.shape
    if len(shape) < 3:
        raise ValueError(f"Expected 3D or higher dimensionality                          input (got {len(shape)} dimensions)")
    if input.numel() == 0:
        return input
    square = (input * input).reshape((shape[0], 1, shape[1], -1))
    padded = square.new_zeros((shape[0], 1, size // 2, square.shape[-1])).cat_with(square, 2)
    padded = padded.cat_with(square.new_zeros((shape[0], 1, (size - 1) // 2, square.shape[-1])), 2)
    mean = avg_pool2d(padded, (size, 1), stride=1).reshape(shape)
    return input / (mean * alpha + k) ** beta


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """Divide by the p-norm along ``dim``, or by ``eps`` where that is larger."""
    made = input / input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)
    if out is None:
        return made
    from ...tensor.out import fill_out

    return fill_out(out, made, "normalize")
