"""The focal loss (Lin et al. 2017)."""
from __future__ import annotations

from typing import Any

from rushlight.nn.functional import binary_cross_entropy_with_logits
from rushlight.vision.ops.losses import reduced

__all__ = ["sigmoid_focal_loss"]


def sigmoid_focal_loss(inputs: Any, targets: Any, alpha: float = 0.25, gamma: float = 2, reduction: str = "none") -> Any:
    """Binary cross entropy of ``inputs.sigmoid()`` in which what is told well counts little: times ``(1 - p) ** gamma``.

    Args:
        inputs: logits of any shape; targets: 0 or 1, as floats of that shape.
        alpha: the weight of the ones, that of the zeros being ``1 - alpha``; negative: no weights.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: ``alpha`` is above 1, or an unknown reduction.
    """
    if alpha > 1:
        raise ValueError(f"Invalid alpha value: {alpha}. alpha must be in the range [0,1] or negative for ignore.")
    p = inputs.sigmoid()
    told = p * targets + (1 - p) * (1 - targets)
    loss = binary_cross_entropy_with_logits(inputs, targets, reduction="none") * (1 - told) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return reduced(loss, reduction)
