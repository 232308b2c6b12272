"""The random numbers of dropout: hashes of a position and a seed, so that whoever wants one can compute it, again and again.

``random_bits`` is what they are as nodes of a graph, ``dropped_bits`` the same with NumPy; the kernels of attention have a third
form (``compile/cpu/attention_writer.py``). All three give the same bits.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes as dt
from .expr import Expr, e, input_
from .graph import Graph, Node

__all__ = ["dropout_limit", "dropped_bits", "random_bits", "seed_of"]


def dropout_limit(drop: float) -> int:
    """Bits below this are dropped."""
    return min(int(drop * 2.0**32), 2**32 - 1)


def _mix(e: Any, x: Any) -> Any:
    """A bijection of 32-bit integers with good avalanche ("lowbias32", https://nullprogram.com/blog/2018/07/31/)."""
    x = (x ^ e.shr(x, 16)) * 0x7FEB352D
    x = (x ^ e.shr(x, 15)) * 0x846CA68B
    return x ^ e.shr(x, 16)


def _bits(e: Any, s: Any, i: Any, many: bool) -> Any:
    s = e.bitcast(s, dt.uint64)
    low, high = e.cast(s, dt.uint32), e.cast(e.shr(s, 32), dt.uint32)
    key = e.cast(i, dt.uint32)
    if many:  # the upper half of the position chooses another key
        high = high ^ _mix(e, e.cast(e.shr(i, 32), dt.uint32))
    return _mix(e, _mix(e, key ^ low) + high)


def random_bits(g: Graph, seed: Node, n: int) -> Node:
    """``n`` uint32 from an int64 seed: element i depends on the seed and on i only."""
    return g.map(lambda e, s, i: _bits(e, s, i, n > 1 << 32), seed, g.index((n,), 0))


def seed_of(bits: Node) -> Node | None:
    """The seed of what ``random_bits`` made, of no more than 2³² numbers."""
    if bits.kind != "pointwise" or bits.attrs[0] is not _FEW or len(bits.shape) != 1:
        return None
    spread, positions = bits.inputs
    if spread.kind != "view" or spread.inputs[0].shape or positions.kind != "pointwise" or positions.attrs[0] is not e.index(0):
        return None
    return spread.inputs[0]


_FEW: Expr = _bits(e, input_(0, dt.int64), input_(1, dt.int64), False)


def dropped_bits(seed: int, n: int) -> np.ndarray:
    """What ``random_bits`` gives for positions 0 to n - 1 (n at most 2³²)."""
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF)

    def mix(x: np.ndarray) -> np.ndarray:
        x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
        x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
        return x ^ x >> np.uint32(16)
    return mix(mix(np.arange(n, dtype=np.uint32) ^ low) + high)
