"""What distributions that are relaxed to continuous ones have in common."""
from __future__ import annotations

from typing import Any

from .transformed_distribution import TransformedDistribution

__all__ = ["Relaxed"]


class Relaxed(TransformedDistribution):
    """A transform of a distribution with a ``temperature`` and probabilities."""

    has_rsample = True  # type: ignore[assignment]
    base_dist: Any

    @property
    def temperature(self) -> Any:
        """How far from whole numbers."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Any:
        """Log-odds of trials, logarithms of the probabilities of categories."""
        return self.base_dist.logits

    @property
    def probs(self) -> Any:
        """Probabilities."""
        return self.base_dist.probs
