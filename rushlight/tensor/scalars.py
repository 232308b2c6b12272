"""Numbers that tensors are given: that they are numbers, and fit the dtype."""
from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from ..autograd.handle import Handle
from ..compile.dtypes import DType
from ..ops.basic import filled
from ..ops.pointwise import tag
from ..ops.promotion import scalar_dtype
from ..record.warn import warn

__all__ = ["check_fits", "check_number", "counted", "scale_first"]


def counted(input: Any, other: Any) -> Any:
    """``input``, as a tensor if both are numbers: the four kinds of arithmetic take two numbers, too."""
    if isinstance(input, (int, float, complex)) and isinstance(other, (int, float, complex)):
        return filled((), tag(input), scalar_dtype(input))
    return input


def scale_first(name: str, scale: Any, *operands: Any) -> tuple[Any, ...]:
    """The arguments of a call in the order of old programs, the scale before what it scales. Warns that it is old.

    Raises:
        TypeError: what comes first is no number, or what follows no tensor.
    """
    if not isinstance(scale, numbers.Number) or not all(isinstance(x, (Handle, numbers.Number)) for x in operands):
        given = ", ".join(type(x).__name__ for x in (scale, *operands))
        raise TypeError(f"{name}() received an invalid combination of arguments: ({given})")
    warn(f"This overload of {name} is deprecated: {name}(..., Number, Tensor). The number has a name now and comes last.", UserWarning)
    return scale, *operands


def check_number(value: Any, d: DType, name: str, argument: str = "value") -> None:
    """TypeError unless ``value`` is a number, RuntimeError unless a tensor of dtype ``d`` can hold it."""
    if not isinstance(value, (numbers.Number, np.bool_)):
        raise TypeError(f"{name}(): argument '{argument}' must be Number, not {type(value).__name__}")
    check_fits(value, d)


def check_fits(value: Any, d: DType) -> None:
    """RuntimeError unless a tensor of dtype ``d`` can hold the number.

    Unsigned integers take negative whole numbers, too, down to minus their largest, which wrap around: PyTorch's rule.
    """
    fits = True
    if isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real):
        fits, value = d.kind == "c" or value.imag == 0, value.real
    if d.kind in "iu":
        bounds = np.iinfo(d.numpy)
        least = -int(bounds.max) if d.kind == "u" and isinstance(value, numbers.Integral) else int(bounds.min)
        fits = fits and bool(least <= value <= int(bounds.max))
    if not fits:
        raise RuntimeError(f"value cannot be converted to type {d.name} without overflow")
