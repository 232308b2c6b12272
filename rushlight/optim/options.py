"""Checks of the options an optimizer is made with, worded as PyTorch words them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd.handle import Handle

__all__ = ["learning_rate", "non_negative", "momenta", "implementation"]


def learning_rate(lr: Any) -> None:
    """Raise ValueError for a negative learning rate, or a tensor of several."""
    if isinstance(lr, Handle) and lr._value.meta.numel != 1:
        raise ValueError("Tensor lr must be 1-element")
    non_negative(lr=lr)


def non_negative(**options: Any) -> None:
    """Raise ValueError for a negative option (or NaN)."""
    for name, value in options.items():
        if isinstance(value, Handle):
            value = value.item()  # type: ignore[attr-defined]
        if not value >= 0.0:
            title = {"lr": "learning rate", "eps": "epsilon value"}.get(name, f"{name} value")
            raise ValueError(f"Invalid {title}: {value}")


def momenta(betas: Sequence[Any]) -> None:
    """Raise ValueError for a coefficient of a running average outside [0, 1)."""
    tensors = [isinstance(beta, Handle) for beta in betas]
    if any(tensors) and not all(tensors) or any(not isinstance(beta, (Handle, float, int)) for beta in betas):
        raise ValueError("betas must be either both floats or both Tensors")
    for k, beta in enumerate(betas):
        if not 0.0 <= float(beta) < 1.0:
            raise ValueError(f"Invalid beta parameter at index {k}: {beta}")


def implementation(fused: bool | None, foreach: bool | None = None, differentiable: bool = False) -> None:
    """Raise RuntimeError for requests that exclude each other. Otherwise they change nothing: one compiled update serves all."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
