"""The first few elements of each row in order, found without sorting the row: ``topk``."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .dtypes import DType, int64
from .graph import NativeCall, Shape
from .reference.order_keys import stable_order

__all__ = ["FirstPositions", "MOST"]

#: How many positions of a row the kernel finds at most. It keeps them in order as it meets them, so many cost more than sorting.
MOST = 64


@dataclass(frozen=True)
class FirstPositions(NativeCall):
    """Input: (rows, n) numbers. Output: (rows, k) positions, int64, of the k smallest or largest in order, equal ones by position; NaN
    counts as the largest."""

    rows: int
    n: int
    k: int
    descending: bool

    name = "first positions"

    @property
    def results(self) -> tuple[tuple[Shape, DType], ...]:
        return (((self.rows, self.k), int64),)

    def wide(self) -> NativeCall:
        return self

    @property
    def work(self) -> int:
        return self.rows * self.n

    def reference(self, *arrays: Any) -> tuple[Any, ...]:
        (x,) = arrays
        x = x if x.dtype.kind in "biuf" else x.astype(np.float32)  # bfloat16
        return (stable_order(x, 1, self.descending, self.k),)
