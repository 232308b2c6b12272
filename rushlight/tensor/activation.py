"""Softmax and the activations that are also functions of the root namespace or methods of tensors."""
from __future__ import annotations

from typing import Any

from ..autograd.autocast import narrowed
from ..autograd.titles import titled
from ..ops import activation as act
from ..ops.softmax import log_softmax as log_softmax_op
from ..ops.softmax import softmax as softmax_op
from ..ops.structured import wrap_dim
from .registry import public

__all__: list[str] = []


@public()
def softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """Exponentials over ``dim``, divided by their sum; converted to ``dtype`` first.

    Raises:
        IndexError: ``dim`` is out of range. NotImplementedError: an integer tensor without a floating ``dtype``.
    """
    return softmax_op(input, attrs=(wrap_dim(dim, input.ndim), dtype or input.dtype))


@public()
def log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """The logarithm of ``softmax``, without overflow or cancellation."""
    return log_softmax_op(input, attrs=(wrap_dim(dim, input.ndim), dtype or input.dtype))


@public(inplace=True, method=False)
def selu(input: Any) -> Any:
    """Scaled ELU, whose constants keep mean 0 and variance 1 through layers."""
    return act.elu(input, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)


@public(inplace=True, method=False)
@titled("CeluBackward0")
def celu(input: Any, alpha: float = 1.0) -> Any:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``.

    Raises:
        RuntimeError: alpha is zero ("ZeroDivisionError").
    """
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return act.elu(input, float(alpha), 1.0, 1.0 / alpha)


@public(inplace=True, method=False)
def threshold(input: Any, threshold: float, value: float) -> Any:
    """``input`` where it is above ``threshold``, else ``value``."""
    return act.threshold(input, threshold, value)


@public()
def prelu(input: Any, weight: Any) -> Any:
    """``input`` where positive, else ``weight * input``; one weight, or one for each channel (dimension 1).

    Raises:
        RuntimeError: the number of weights is neither 1 nor the number of channels.
    """
    if not hasattr(weight, "_value"):
        raise TypeError(f"prelu(): argument 'weight' (position 2) must be Tensor, not {type(weight).__name__}")
    if weight.dtype is not input.dtype:
        cast = narrowed(input, weight)
        if cast is not None:
            return prelu(*cast)
        raise RuntimeError(f"prelu: Type promoting not supported. Got {input.dtype} and {weight.dtype}")
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    if weight.numel() != 1:
        if input.ndim == 0:
            raise RuntimeError("prelu: Not allow zero-dim input tensor.")
        channels = input.shape[1] if input.ndim >= 2 else 1
        if channels != weight.numel():
            raise RuntimeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {weight.numel()} and "
                               f"channel size = {channels}.")
        shape = [1] * input.ndim
        if input.ndim >= 2:
            shape[1] = channels
        weight = weight.reshape(shape)
    elif weight.ndim:
        weight = weight.reshape([1] * input.ndim)
    return act.prelu(input, weight)


@public(method=True)
def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """``input`` outside [-lambd, lambd], else 0."""
    return act.hardshrink(input, lambd)
