"""A layer and the batch norm behind it as one layer, for evaluation."""
from __future__ import annotations

import copy
from typing import Any

from ..parameter import Parameter

__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]


def _factor(rm: Any, rv: Any, eps: float, w: Any, b: Any) -> tuple[Any, Any]:
    """(what the norm multiplies with, what it adds after that)."""
    scale = (rv + eps).rsqrt()
    scale = scale if w is None else w * scale
    return scale, -rm * scale if b is None else b - rm * scale


def _fused(weight: Any, bias: Any, scale: Any, shift: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    fused_bias = shift if bias is None else bias * scale + shift
    like = weight if bias is None else bias
    return (Parameter((weight * scale.reshape(shape)).to(weight.dtype).detach(), weight.requires_grad),
            Parameter(fused_bias.to(like.dtype).detach(), like.requires_grad))


def fuse_conv_bn_weights(conv_w: Any, conv_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any,
                         transpose: bool = False) -> tuple[Any, Any]:
    """(weight, bias) of a convolution that does what one with ``conv_w``, ``conv_b`` and the batch norm after it do."""
    scale, shift = _factor(bn_rm, bn_rv, bn_eps, bn_w, bn_b)
    shape = (1, -1) if transpose else (-1, 1)
    return _fused(conv_w, conv_b, scale, shift, (*shape, *[1] * (conv_w.ndim - 2)))


def fuse_linear_bn_weights(linear_w: Any, linear_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any) -> tuple[Any, Any]:
    """(weight, bias) of a linear layer that does what one with ``linear_w``, ``linear_b`` and the batch norm after it do."""
    return _fused(linear_w, linear_b, *_factor(bn_rm, bn_rv, bn_eps, bn_w, bn_b), (-1, 1))


def _checked(layer: Any, bn: Any) -> Any:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("a batch norm without running statistics cannot be fused")
    return copy.deepcopy(layer)


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of ``conv`` that does what both modules do, in evaluation mode.

    Raises:
        AssertionError: a module is in training mode.
    """
    fused = _checked(conv, bn)
    fused.weight, fused.bias = fuse_conv_bn_weights(fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias,
                                                    transpose)
    return fused


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of ``linear`` that does what both modules do, in evaluation mode.

    Raises:
        AssertionError: a module is in training mode, or the sizes do not fit.
    """
    fused = _checked(linear, bn)
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError("To fuse, linear.out_features == bn.num_features or bn.num_features == 1")
    fused.weight, fused.bias = fuse_linear_bn_weights(fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    return fused
