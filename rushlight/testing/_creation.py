"""Tensors of random content to test with."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from ..compile.dtypes import DType
from ..tensor import FUNCTIONS
from ..tensor.kinds import finfo, iinfo

__all__ = ["make_tensor"]


def make_tensor(*shape: int | Sequence[int], dtype: DType, device: Any, low: float | None = None, high: float | None = None,
                requires_grad: bool = False, noncontiguous: bool = False, exclude_zero: bool = False, memory_format: Any = None) -> Any:
    """A tensor of numbers drawn evenly from [low, high).

    Args:
        shape: a shape, or lengths one by one.
        low, high: bounds; without them [0, 2) for bool, [0, 10) for uint8, [-9, 10) for other integers, [-9, 9) for floating and complex
            numbers (for each part). Bounds outside of what the dtype can hold are moved to its ends.
        noncontiguous: whether the elements leave gaps in memory. (One element leaves none.)
        exclude_zero: whether 1, or the smallest positive normal number, stands where a 0 was drawn.
        memory_format: the order in memory.

    Raises:
        ValueError: bounds that are NaN, the wrong way round, or have nothing in common with the dtype; ``requires_grad`` of an integer
            dtype; ``noncontiguous`` together with a memory format.

    Example:
        >>> make_tensor(2, 3, dtype=torch.int64, device="cpu", low=0, high=5).shape
        torch.Size([2, 3])
    """
    size = [*shape[0]] if len(shape) == 1 and isinstance(shape[0], Sequence) else [*shape]
    if noncontiguous and memory_format is not None:
        raise ValueError("The parameters `noncontiguous` and `memory_format` are mutually exclusive, but got "
                         f"noncontiguous={noncontiguous} and memory_format={memory_format}")
    if requires_grad and dtype.kind in "bui":
        raise ValueError(f"`requires_grad=True` is not supported for boolean and integral dtypes, but got dtype={dtype}")
    gaps = noncontiguous and math.prod(size) > 1  # type: ignore[arg-type]
    if gaps:
        size[-1] *= 2  # type: ignore[operator]
    made = _drawn(size, dtype, device, low, high)
    if gaps:
        made = made[..., 1::2]
    elif memory_format is not None:
        made = made.clone(memory_format=memory_format)
    if exclude_zero:
        made[made == 0] = 1 if dtype.kind in "bui" else finfo(dtype).tiny
    return made.requires_grad_() if requires_grad else made


def _bounds(dtype: DType, low: float | None, high: float | None) -> tuple[Any, Any]:
    """What to draw between, as the dtype can hold it."""
    limits: Any = None if dtype.kind == "b" else iinfo(dtype) if dtype.kind in "ui" else finfo(dtype)
    lowest: Any
    highest: Any
    usual: tuple[int, int]
    if dtype.kind == "b":
        lowest, highest, usual = 0, 2, (0, 2)
    elif dtype.kind in "ui":
        lowest, highest = limits.min, limits.max + (dtype.itemsize < 8)  # to 64 bits there is nothing to add
        usual = (0, 10) if dtype.kind == "u" else (-9, 10)
    else:
        lowest, highest, usual = limits.min, limits.max, (-9, 9)
    low, high = usual[0] if low is None else low, usual[1] if high is None else high
    if any(isinstance(x, float) and math.isnan(x) for x in (low, high)):
        raise ValueError(f"`low` and `high` cannot be NaN, but got low={low} and high={high}")
    if low == high and dtype.kind in "fc":
        warnings.warn("Passing `low==high` to `torch.testing.make_tensor` for floating or complex types is deprecated since 2.1 and will "
                      "be removed in 2.3. Use `torch.full(...)` instead.", FutureWarning, stacklevel=4)
    elif low >= high:
        raise ValueError(f"`low` must be less than `high`, but got {low} >= {high}")
    if high < lowest or low >= highest:
        raise ValueError(f"The value interval specified by `low` and `high` is [{low}, {high}), but {dtype} only supports "
                         f"[{lowest}, {highest})")
    low, high = max(low, lowest), min(high, highest)
    return (math.ceil(low), math.ceil(high)) if dtype.kind in "bui" else (low, high)


def _drawn(size: Sequence[Any], dtype: DType, device: Any, low: float | None, high: float | None) -> Any:
    low, high = _bounds(dtype, low, high)
    if dtype.kind in "bui":
        return FUNCTIONS["randint"](low, high, (*size,), device=device, dtype=dtype)
    made = FUNCTIONS["empty"]((*size,), device=device, dtype=dtype)
    parts = FUNCTIONS["view_as_real"](made) if dtype.kind == "c" else made
    if low == high:
        parts.fill_(low)
    elif high - low > finfo(dtype).max:  # the distance is no number of the dtype
        parts.uniform_(low / 2, high / 2).mul_(2)
    else:
        parts.uniform_(low, high)
    return made
