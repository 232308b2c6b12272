"""Mixed precision: ``autocast`` chooses types, ``GradScaler`` keeps small gradients from vanishing.

Example:
    >>> model = rushlight.nn.Linear(8, 4)
    >>> with rushlight.autocast("cpu", dtype=rushlight.bfloat16):
    ...     y = model(rushlight.ones(2, 8))
    >>> y.dtype
    torch.bfloat16
    >>> y.float().sum().backward()
    >>> model.weight.grad.dtype
    torch.float32
"""
from __future__ import annotations

from .autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
