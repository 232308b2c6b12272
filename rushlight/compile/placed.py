"""Native calls whose outputs can be put together in one result.

A call has *outputs*, what it computes, and *results*, the memory that it fills: dense arrays, row-major. Each output has a
place in one of the results. At first it has one for itself; where outputs are put together afterwards (the gradients of
the parts of one projection), ``passes/assemble.py`` moves them into one result, so that nothing is copied.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from .dtypes import DType
from .graph import NativeCall
from .index import row_major

__all__ = ["Output", "PlacedCall"]

Shape = tuple[int, ...]
Call = TypeVar("Call", bound="PlacedCall")


@dataclass(frozen=True)
class Output:
    """One output: element i lies at ``offset + strides · i`` of the given result, counted in elements."""

    shape: Shape
    result: int
    offset: int
    strides: Shape

    @staticmethod
    def alone(shape: Shape, result: int) -> Output:
        return Output(shape, result, 0, row_major(shape))


@dataclass(frozen=True)
class PlacedCall(NativeCall):
    """A call with places for its outputs; subclasses say what is computed.

    Attributes:
        arrays: shape and dtype of each result.
        outputs: where each output lies in them.
    """

    arrays: tuple[tuple[Shape, DType], ...]
    outputs: tuple[Output, ...]

    @property
    def results(self) -> tuple[tuple[Shape, DType], ...]:
        return self.arrays

    def writes(self, output: Output) -> bool:
        """Whether the call's kernel can write an output there."""
        return True

    def values(self, *inputs: np.ndarray) -> Sequence[Any]:
        """The outputs, from whole inputs: the meaning of the call."""
        raise NotImplementedError

    def reference(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        made = [np.zeros(math.prod(shape), dtype.numpy) for shape, dtype in self.arrays]
        for out, value in zip(self.outputs, self.values(*inputs), strict=True):
            flat = made[out.result]
            part = np.lib.stride_tricks.as_strided(flat[out.offset:], out.shape, [s * flat.itemsize for s in out.strides])
            part[...] = value
        return tuple(a.reshape(shape) for a, (shape, _) in zip(made, self.arrays, strict=True))

    def gathered(self: Call, outputs: dict[int, Output], shape: Shape) -> Call:
        """The call with all its outputs in one result of ``shape``, at new places (whose ``result`` is not looked at)."""
        placed = tuple(replace(outputs[k], result=0) for k in range(len(self.outputs)))
        return replace(self, arrays=((shape, self.arrays[0][1]),), outputs=placed)
