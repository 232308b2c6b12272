"""Functions of layers that PyTorch also has, with its older argument orders, in the top namespace (``torch.conv2d``,
``torch.batch_norm``, ...).

Example:
    >>> max_pool1d(rushlight.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    tensor([[3., 2.]])
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tensor.creation import empty
from .functional import conv as _conv
from .functional import norm as _norm
from .functional.conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .functional.grid import affine_grid, grid_sample
from .functional.norm import rms_norm
from .functional.pad import pad as _pad
from .functional.pooling import (
    adaptive_avg_pool1d,
    avg_pool1d,
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool3d,
)
from .functional.pooling import adaptive_max_pool1d_with_indices as adaptive_max_pool1d
from .functional.vision import channel_shuffle, native_channel_shuffle, pixel_shuffle, pixel_unshuffle

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution", "conv_tbc",
           "rms_norm", "batch_norm", "layer_norm", "group_norm", "instance_norm", "native_batch_norm", "native_layer_norm",
           "native_group_norm", "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "max_pool1d", "max_pool1d_with_indices",
           "max_pool2d", "max_pool3d", "channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle",
           "constant_pad_nd", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "affine_grid_generator"]


def convolution(input: Any, weight: Any, bias: Any, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
                transposed: bool, output_padding: Sequence[int], groups: int) -> Any:
    """Any convolution: dimensions as of the weight, transposed or not."""
    n = len(weight.shape) - 2
    if transposed:
        return getattr(_conv, f"conv_transpose{n}d")(input, weight, bias, tuple(stride), tuple(padding), tuple(output_padding), groups,
                                                     tuple(dilation))
    return getattr(_conv, f"conv{n}d")(input, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


def conv_tbc(input: Any, weight: Any, bias: Any, pad: int = 0) -> Any:
    """Convolution over (time, batch, channels) with weight (K, C_in, C_out)."""
    return conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad).permute(2, 0, 1)


def batch_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: Any, eps: float,
               cudnn_enabled: bool = True) -> Any:
    """``nn.functional.batch_norm`` with the parameters before the statistics."""
    return _norm.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               cudnn_enable: bool = True) -> Any:
    """``nn.functional.layer_norm``."""
    return _norm.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn_enabled: bool = True) -> Any:
    """``nn.functional.group_norm``."""
    return _norm.group_norm(input, num_groups, weight, bias, eps)


def instance_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool, momentum: Any, eps: float,
                  cudnn_enabled: bool = True) -> Any:
    """``nn.functional.instance_norm`` with the parameters before the statistics."""
    return _norm.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def _moments(x: Any, dims: tuple[int, ...], keepdim: bool, eps: float) -> tuple[Any, Any]:
    """(mean, 1 / deviation), without gradients."""
    wide = x.detach().to(x.dtype.compute)
    return wide.mean(dims, keepdim), (wide.var(dims, correction=0, keepdim=keepdim) + eps).rsqrt()


def native_batch_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: Any,
                      eps: float) -> tuple[Any, Any, Any]:
    """(batch norm, the batch's mean, 1 / its deviation); in evaluation the latter are empty."""
    y = _norm.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if not training:
        return y, empty((0,), dtype=input.dtype.compute), empty((0,), dtype=input.dtype.compute)
    return (y, *_moments(input, (0, *range(2, input.dim())), False, eps))


def native_layer_norm(input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    """(layer norm, mean, 1 / deviation), the statistics with dimensions of length 1 for the normalised ones."""
    y = _norm.layer_norm(input, normalized_shape, weight, bias, eps)
    return (y, *_moments(input, tuple(range(-len(tuple(normalized_shape)), 0)), True, eps))


def native_group_norm(input: Any, weight: Any, bias: Any, N: int, C: int, HxW: int, group: int,
                      eps: float) -> tuple[Any, Any, Any]:
    """(group norm, mean, 1 / deviation), the statistics (N, group)."""
    y = _norm.group_norm(input, group, weight, bias, eps)
    return (y, *_moments(input.reshape(N, group, -1), (2,), False, eps))


def constant_pad_nd(input: Any, pad: Sequence[int], value: Any = 0) -> Any:
    """``nn.functional.pad`` with one value."""
    return _pad(input, pad, "constant", value)


_SAMPLING, _OUTSIDE = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")


def grid_sampler(input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Any:
    """``nn.functional.grid_sample`` with its modes as numbers: (bilinear, nearest, bicubic), (zeros, border, reflection)."""
    return grid_sample(input, grid, _SAMPLING[interpolation_mode], _OUTSIDE[padding_mode], align_corners)


grid_sampler_2d = grid_sampler_3d = grid_sampler


def affine_grid_generator(theta: Any, size: Sequence[int], align_corners: bool) -> Any:
    """``nn.functional.affine_grid``."""
    return affine_grid(theta, size, align_corners)
