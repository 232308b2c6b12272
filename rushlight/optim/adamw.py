"""``torch.optim.adamw``: Adam with decoupled weight decay, which is written with Adam."""
from __future__ import annotations

from .adam import AdamW

__all__ = ["AdamW"]
