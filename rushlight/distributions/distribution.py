"""The base of all distributions: shapes, validation, printed form."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import rushlight as torch

from ..autograd.modes import no_grad
from ..autograd.quick import quick
from . import constraints
from .utils import lazy_property

__all__ = ["Centred", "Distribution"]

Size, Tensor = torch.Size, torch.Tensor


def _judging(regions: tuple[constraints.Constraint, ...]) -> Any:
    """A function of as many tensors: whether each lies in its region, as a tensor of one bool."""
    def lie(*values: Any) -> Any:
        return functools.reduce(torch.logical_and, [region.check(value).all() for region, value in zip(regions, values)])
    return lie


@functools.lru_cache(maxsize=512)
def _remembered(regions: tuple[constraints.Constraint, ...]) -> Any:
    """The same, remembered as one call, as public functions are: distributions are made and asked in every step."""
    return quick(_judging(regions))


def _all_lie(regions: tuple[constraints.Constraint, ...], values: Sequence[Any], lasting: bool) -> bool:
    """Whether each value lies in its region; ``lasting``: the regions are those of a class, not of an instance."""
    with no_grad():
        return bool((_remembered if lasting else _judging)(regions)(*values))


class Distribution:
    """A distribution of values of shape ``event_shape``, one for each entry of ``batch_shape``.

    Args:
        batch_shape: shape over which parameters differ.
        event_shape: shape of one value.
        validate_args: check parameters and values; None means the default (``set_default_validate_args``).

    Raises:
        ValueError: a parameter outside of its constraint.
    """

    has_rsample = False
    has_enumerate_support = False
    _validate_args = __debug__

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions check their arguments from now on."""
        if value not in (True, False):
            raise ValueError
        Distribution._validate_args = value

    def __init__(self, batch_shape: Any = Size(), event_shape: Any = Size(), validate_args: bool | None = None) -> None:  # noqa: B008
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_parameters()

    def _check_parameters(self) -> None:
        """All parameters in one look: every look at a value ends what has been recorded, and a distribution is made in every step."""
        try:
            arg_constraints = self.arg_constraints
        except NotImplementedError:
            warnings.warn(f"{self.__class__} does not define `arg_constraints`. Please set `arg_constraints = {{}}` or initialize the "
                          "distribution with `validate_args=False` to turn off validation.", stacklevel=4)
            return
        names = []
        for name, constraint in arg_constraints.items():
            computed = name not in self.__dict__ and isinstance(getattr(type(self), name, None), lazy_property)
            if not constraints.is_dependent(constraint) and not computed:
                names.append(name)
        regions, values = tuple([arg_constraints[name] for name in names]), [getattr(self, name) for name in names]
        kind: Any = type(self)
        if not names or _all_lie(regions, values, kind.arg_constraints is arg_constraints):
            return
        for name, constraint, value in zip(names, regions, values):
            if not _all_lie((constraint,), (value,), False):
                raise ValueError(f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of distribution "
                                 f"{self!r} to satisfy the constraint {constraint!r}, but found invalid values:\n{value}")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution for each entry of a larger batch shape, without copying parameters."""
        raise NotImplementedError

    @property
    def batch_shape(self) -> Any:
        """The shape over which parameters differ."""
        return self._batch_shape

    @property
    def event_shape(self) -> Any:
        """The shape of one value."""
        return self._event_shape

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What the parameters have to satisfy, by name."""
        raise NotImplementedError

    @property
    def support(self) -> Any:
        """The constraint that values satisfy."""
        raise NotImplementedError

    @property
    def mean(self) -> Any:
        """The mean."""
        raise NotImplementedError

    @property
    def mode(self) -> Any:
        """A most probable value."""
        raise NotImplementedError(f"{self.__class__} does not implement mode")

    @property
    def variance(self) -> Any:
        """The variance of each entry."""
        raise NotImplementedError

    @property
    def stddev(self) -> Any:
        """The standard deviation of each entry."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        """Values of shape ``sample_shape + batch_shape + event_shape``, without gradients."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        """Values as a differentiable function of the parameters."""
        raise NotImplementedError

    def sample_n(self, n: int) -> Any:
        """``sample((n,))``, by its older name."""
        warnings.warn("sample_n will be deprecated. Use .sample((n,)) instead", UserWarning, stacklevel=2)
        return self.sample(Size((n,)))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density (or probability) at ``value``.

        Raises:
            ValueError: ``value`` is no tensor, does not fit the shapes, or lies outside of the support.
        """
        raise NotImplementedError

    def cdf(self, value: Any) -> Any:
        """The probability of at most ``value``."""
        raise NotImplementedError

    def icdf(self, value: Any) -> Any:
        """The value below which lies the probability ``value``."""
        raise NotImplementedError

    def enumerate_support(self, expand: bool = True) -> Any:
        """All values that a discrete distribution can take, along a new first dimension."""
        raise NotImplementedError

    def entropy(self) -> Any:
        """The entropy, of ``batch_shape``."""
        raise NotImplementedError

    def perplexity(self) -> Any:
        """The exponential of the entropy."""
        return torch.exp(self.entropy())

    def _extended_shape(self, sample_shape: Any = Size()) -> Any:  # noqa: B008
        return Size((*Size(sample_shape), *self._batch_shape, *self._event_shape))

    def _validate_sample(self, value: Any) -> None:
        """Raises ValueError for a value that this distribution cannot have taken."""
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        start = len(value.shape) - len(self._event_shape)
        if value.shape[start:] != self._event_shape:
            raise ValueError("The right-most size of value must match event_shape: "
                             f"{value.shape} vs {self._event_shape}.")
        actual, expected = value.shape, self._batch_shape + self._event_shape
        for i, j in zip(reversed(actual), reversed(expected)):
            if i != 1 and j != 1 and i != j:
                raise ValueError(f"Value is not broadcastable with batch_shape+event_shape: {actual} vs {expected}.")
        try:
            support = self.support
        except NotImplementedError:
            warnings.warn(f"{self.__class__} does not define `support` to enable sample validation. Please initialize the distribution "
                          "with `validate_args=False` to turn off validation.", stacklevel=3)
            return
        kind: Any = type(self)
        if not _all_lie((support,), (value,), kind.support is support or getattr(support, "lasts", False)):
            raise ValueError(f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) to be within the support "
                             f"({support!r}) of the distribution {self!r}, but found invalid values:\n{value}")

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        """An empty instance for ``expand`` to fill; a subclass with another ``__init__`` has to do it itself."""
        if _instance is None and type(self).__init__ is not cls.__init__:  # type: ignore[misc]
            raise NotImplementedError(f"Subclass {self.__class__.__name__} of {cls.__name__} that defines a custom __init__ method must "
                                      "also define a custom .expand() method.")
        return self.__new__(type(self)) if _instance is None else _instance

    def _expanded(self, cls: type, batch_shape: Any, names: tuple[str, ...], _instance: Any = None) -> Any:
        """An instance with the named parameters, as far as there are such, expanded to ``batch_shape``; an event is one number."""
        new = self._get_checked_instance(cls, _instance)
        batch_shape = Size(batch_shape)
        for name in names:
            if name in self.__dict__:
                setattr(new, name, self.__dict__[name].expand(batch_shape))
        Distribution.__init__(new, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def __repr__(self) -> str:
        kept = {k: self.__dict__[k] for k in self.arg_constraints if k in self.__dict__}
        return f"{self.__class__.__name__}({', '.join(f'{k}: {v if v.numel() == 1 else v.size()}' for k, v in kept.items())})"


class Centred(Distribution):
    """Distributions whose mean (of angles: the circular one) and mode are their parameter ``loc``."""

    loc: Any

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc
