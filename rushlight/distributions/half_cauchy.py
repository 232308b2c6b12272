"""The absolute value of a number of Cauchy's distribution."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from .cauchy import Cauchy
from .folded import Folded

__all__ = ["HalfCauchy"]


class HalfCauchy(Folded):
    """The absolute value of a Cauchy number around 0."""

    of = Cauchy

    @property
    def mean(self) -> Any:
        return torch.full(tuple(self._extended_shape()), math.inf, dtype=self.scale.dtype)

    @property
    def variance(self) -> Any:
        return self.base_dist.variance
