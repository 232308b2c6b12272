"""Accumulators of products, whose long sums keep their digits.

Each addition rounds by a fraction of the sum so far. So an accumulator adds up a *stretch* of ``STRETCH`` terms; then memory that
stays in the first-level cache takes its total up, and it begins again at zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from rushlight.compile.cpu.irtext import Function
from rushlight.compile.dtypes import DType

__all__ = ["STRETCH", "add", "clear", "put_away"]

#: To take up the sums of a tile takes a three-hundredth of the time of so many multiply-adds. A sum of so many numbers of one sign is
#: off by twice as much as one in two chains, as other libraries have it, of any length.
STRETCH = 384


def clear(f: Function, sums: Sequence[str], vector: str) -> None:
    """Begin again at zero; ``sums``: stack slots, each a register in the end."""
    for slot in sums:
        f.set(slot, "zeroinitializer", vector)


def put_away(f: Function, sums: Sequence[str], places: Sequence[str], dtype: DType, vector: str, again: str) -> None:
    """Sums to their places in memory; added to what is there where the ``i1`` ``again`` is true."""
    with f.when(again):
        for slot, at in zip(sums, places, strict=True):
            before = f.let(f"load {vector}, ptr {at}, align {dtype.itemsize}")
            f.set(slot, add(f, dtype, vector, before, f.get(slot, vector)), vector)
    for slot, at in zip(sums, places, strict=True):
        f.do(f"store {vector} {f.get(slot, vector)}, ptr {at}, align {dtype.itemsize}")


def add(f: Function, dtype: DType, vector: str, a: str, b: str) -> str:
    return f.let(f"{'fadd' if dtype.kind == 'f' else 'add'} {vector} {a}, {b}")
