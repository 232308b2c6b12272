"""The von Mises distribution of angles."""
from __future__ import annotations

import math
from typing import Any

import rushlight as torch

from ..autograd.modes import no_grad
from . import constraints
from .distribution import Centred
from .utils import batch_shape_of, broadcast_all, lazy_property

__all__ = ["VonMises"]

Size = torch.Size


class VonMises(Centred):
    """Angles, in radians, with a density proportional to exp(concentration · cos(x - loc)).

    Samples come from Best and Fisher's rejections (1979), in double precision, and have no gradient.

    Example:
        >>> rushlight.distributions.VonMises(torch.tensor([1.0]), torch.tensor([1.0])).variance
        tensor([0.5536])
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real
    has_rsample = False

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(batch_shape_of(self.loc, loc, concentration), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(VonMises, batch_shape, ("loc", "concentration"), _instance)

    @lazy_property
    def variance(self) -> Any:
        """The circular variance, between 0 and 1."""
        return 1 - torch.special.i1e(self.concentration) / torch.special.i0e(self.concentration)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        norm = math.log(2 * math.pi) + torch.special.i0e(self.concentration).log() + self.concentration
        return self.concentration * torch.cos(value - self.loc) - norm

    def _proposal(self) -> Any:
        """The parameter of the wrapped Cauchy numbers that are proposed."""
        k = self.concentration.double()
        tau = 1 + (1 + 4 * k ** 2).sqrt()
        rho = (tau - (2 * tau).sqrt()) / (2 * k)
        return torch.where(k < 1e-5, 1 / k + k, (1 + rho ** 2) / (2 * rho))

    def sample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        with no_grad():
            shape = tuple(self._extended_shape(sample_shape))
            loc, k, r = (v.expand(shape) for v in (self.loc.double(), self.concentration.double(), self._proposal()))
            x, done = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.bool)
            while not done.all():
                u1, u2, u3 = torch.rand((3, *shape), dtype=torch.float64).unbind()
                z = (math.pi * u1).cos()
                f = (1 + r * z) / (r + z)
                c = k * (r - f)
                good = (c * (2 - c) - u2 > 0) | ((c / u2).log() + 1 - c >= 0)
                x = torch.where(good, (u3 - 0.5).sign() * f.acos(), x)
                done = done | good
            return ((x + math.pi + loc) % (2 * math.pi) - math.pi).to(self.loc.dtype)
