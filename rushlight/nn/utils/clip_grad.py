"""Limits on gradients."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...autograd.handle import Handle
from ...autograd.modes import no_grad
from ...ops.clipping import scale_, square_sum
from ...record.warn import warn
from ...tensor import FUNCTIONS
from ..functional.distance import p_norm

__all__ = ["clip_grad_norm_", "clip_grad_norm", "clip_grad_value_", "get_total_norm", "clip_grads_with_norm_"]


def _gradients(parameters: Any) -> list[Any]:
    many = [parameters] if isinstance(parameters, Handle) else list(parameters)
    return [p.grad for p in many if p.grad is not None]


def _alike(tensors: list[Any]) -> bool:
    """Whether these are different tensors of one floating dtype: then one operation serves all."""
    dtype = tensors[0].dtype
    return dtype.kind == "f" and all(t.dtype is dtype for t in tensors) and len({id(t) for t in tensors}) == len(tensors)


@no_grad()
def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None) -> Any:
    """The norm of all tensors taken as one vector: the norm of their norms.

    Raises:
        RuntimeError: it is not finite, with ``error_if_nonfinite``.
    """
    many: list[Any] = [tensors] if isinstance(tensors, Handle) else list(tensors)
    if not many:
        return FUNCTIONS["tensor"](0.0)
    p = float(norm_type)
    if p == 2.0:
        if _alike(many):
            total = square_sum(*many).sqrt()
        else:
            total = sum([(t * t).sum() for t in many[1:]], (many[0] * many[0]).sum()).sqrt()
    else:
        norms = [p_norm(t.reshape(-1), p, 0) for t in many]
        total = p_norm(FUNCTIONS["stack"](norms), p, 0)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(f"The total norm of order {p} for gradients from `parameters` is non-finite, so it cannot be "
                           f"clipped. To disable "
                           "this error and scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`")
    return total


@no_grad()
def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scale gradients by max_norm / total_norm where that is below 1."""
    factor = (float(max_norm) / (total_norm + 1e-6)).clamp_max(1.0)
    grads = _gradients(parameters)
    if _alike([*grads, factor]):
        scale_(grads, factor)
    else:
        for grad in grads:
            grad.mul_(factor)


@no_grad()
def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                    foreach: bool | None = None) -> Any:
    """Scale the gradients of all parameters together so that their norm is at most ``max_norm``; returns the norm before.

    Example:
        >>> w = nn.Parameter(rushlight.tensor([3.0, 4.0]))
        >>> (w ** 2).sum().backward()
        >>> nn.utils.clip_grad_norm_([w], 1.0), w.grad
        (tensor(10.), tensor([0.6000, 0.8000]))
    """
    many = [parameters] if isinstance(parameters, Handle) else list(parameters)
    total = get_total_norm(_gradients(many), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(many, max_norm, total, foreach)
    return total


def clip_grad_norm(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                   foreach: bool | None = None) -> Any:
    """Deprecated name of ``clip_grad_norm_``."""
    warn("torch.nn.utils.clip_grad_norm is now deprecated in favor of torch.nn.utils.clip_grad_norm_.", FutureWarning)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@no_grad()
def clip_grad_value_(parameters: Any | Iterable[Any], clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of the gradients to [-clip_value, clip_value]."""
    limit = float(clip_value)
    for grad in _gradients(parameters):
        grad.clamp_(min=-limit, max=limit)
