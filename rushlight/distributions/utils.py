"""What distributions share: parameters brought to one shape, and probabilities in their two forms."""
from __future__ import annotations

from collections.abc import Callable
from numbers import Number
from typing import Any

import rushlight as torch

from ..autograd.modes import enable_grad
from ..nn.functional import softmax
from ..ops.promotion import default_dtype
from ..tensor.kinds import finfo

__all__ = ["broadcast_all", "clamp_probs", "expanded", "lazy_property", "logits_to_probs", "probs_to_logits", "standard_normal",
           "sum_rightmost"]

Tensor = torch.Tensor


def broadcast_all(*values: Any) -> tuple[Any, ...]:
    """Tensors of one common shape; numbers become tensors of the tensors' dtype, or of the default one where there are none.

    Raises:
        ValueError: an argument that is neither a number nor a tensor.
    """
    if not all(isinstance(v, Tensor | Number) for v in values):
        raise ValueError("Input arguments must all be instances of Number, torch.Tensor or objects implementing __torch_function__.")
    like = next((v for v in values if isinstance(v, Tensor)), None)
    dtype = default_dtype() if like is None else like.dtype
    tensors = [v if isinstance(v, Tensor) else torch.as_tensor(v, dtype=dtype) for v in values]
    return tuple(tensors) if len({v.shape for v in tensors}) == 1 else tuple(torch.broadcast_tensors(*tensors))


def batch_shape_of(*values: Any) -> Any:
    """The shape of a distribution with these arguments, of which the first has been broadcast: empty if all are numbers."""
    return torch.Size() if all(isinstance(v, Number) for v in values[1:]) else values[0].shape


def expanded(t: Any, shape: Any) -> Any:
    """``t`` seen as of that shape; itself, if it has it."""
    return t if t.shape == shape else t.expand(shape)


def standard_normal(shape: Any, dtype: Any, device: Any = None) -> Any:
    """Standard normal numbers: ``randn`` takes from the stream what PyTorch's distributions take."""
    return torch.randn(tuple(shape), dtype=dtype, device=device)


def sum_rightmost(value: Any, dims: int) -> Any:
    """The sum over the last ``dims`` dimensions."""
    return value if dims == 0 else value.reshape(*value.shape[:len(value.shape) - dims], -1).sum(-1)


_standard_normal, _sum_rightmost = standard_normal, sum_rightmost  # the names that libraries of distributions import


def clamp_probs(probs: Any) -> Any:
    """Probabilities kept away from 0 and 1 by the machine's precision, so that logarithms are finite."""
    eps = finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def logits_to_probs(logits: Any, is_binary: bool = False) -> Any:
    """Probabilities of logits: a sigmoid each, or a softmax over the last dimension."""
    return torch.sigmoid(logits) if is_binary else softmax(logits, dim=-1)


def probs_to_logits(probs: Any, is_binary: bool = False) -> Any:
    """Logits of probabilities: log-odds, or logarithms."""
    clamped = clamp_probs(probs)
    return torch.log(clamped) - torch.log1p(-clamped) if is_binary else torch.log(clamped)


class lazy_property:  # noqa: N801
    """A value that is computed, with gradients, when it is first asked for, and kept in the instance."""

    def __init__(self, wrapped: Callable) -> None:
        self.wrapped = wrapped
        self.__doc__ = wrapped.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with enable_grad():
            value = self.wrapped(instance)
        instance.__dict__[self.wrapped.__name__] = value
        return value
