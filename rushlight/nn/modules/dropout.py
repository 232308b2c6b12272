"""Dropout layers."""
from __future__ import annotations

from typing import Any

from .. import functional as F
from .layers import remembered_unless
from .module import Module

__all__ = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]


def _idle(own: dict[str, Any]) -> bool:
    """Whether a layer with these attributes hands on what it gets."""
    return not own["training"] or own["p"] == 0


class _Dropout(Module):
    """A probability of zeroing, and whether the input is written.

    Raises:
        ValueError: p outside [0, 1].
    """

    p: float
    inplace: bool

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if p < 0 or p > 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, zero elements with probability p and scale the others by 1 / (1 - p)."""

    @remembered_unless(_idle)
    def forward(self, input: Any) -> Any:
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_Dropout):
    """Dropout of whole channels: (N, C, L) or (C, L)."""

    @remembered_unless(_idle)
    def forward(self, input: Any) -> Any:
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """Dropout of whole channels: (N, C, H, W) or (N, C, L)."""

    @remembered_unless(_idle)
    def forward(self, input: Any) -> Any:
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_Dropout):
    """Dropout of whole channels: (N, C, D, H, W) or (C, D, H, W)."""

    @remembered_unless(_idle)
    def forward(self, input: Any) -> Any:
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, for SELU."""

    @remembered_unless(_idle)
    def forward(self, input: Any) -> Any:
        return F.alpha_dropout(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(_Dropout):
    """Alpha dropout of whole channels."""

    @remembered_unless(_idle)
    def forward(self, input: Any) -> Any:
        return F.feature_alpha_dropout(input, self.p, self.training, self.inplace)
