"""Families of distributions of one number that are one distribution, scaled and moved."""
from __future__ import annotations

from typing import Any

from . import constraints
from .distribution import Distribution
from .utils import batch_shape_of, broadcast_all

__all__ = ["LocationScale"]


class LocationScale(Distribution):
    """A family directly below this class is ``loc + scale · x`` of an x that it tells: numbers, or tensors that broadcast."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(batch_shape_of(self.loc, loc, scale), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        family = next(kind for kind in type(self).__mro__ if LocationScale in kind.__bases__)  # which an error names
        return self._expanded(family, batch_shape, ("loc", "scale"), _instance)
