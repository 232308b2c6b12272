"""What fusion decides from sizes alone: thresholds, each question a decision of its own.

With sizes in place of numbers (``sizes.py``) nothing but the answers become conditions, so a plan holds for all sizes for which the
answers are the same.
"""
from __future__ import annotations

from .sizes import decision

__all__ = ["MANY", "few_for_many", "is_few", "is_summed", "many_as_large", "repeats", "short_columns", "short_rows"]

_LARGE = 1 << 14   # elements of which a kernel is worth its while
_NUMBERS = 16      # elements that are in a register anyway
MANY = 16          # values that the formulas of a kernel want, from which on it does not take up further products' results
_FEW = 8           # a value of which there are so many elements to each of another is read at next to no cost
_ROW_BYTES = 512 << 10     # a row that is read several times should stay in the cache
_BLOCK_BYTES = 256 << 10   # likewise a whole block that is reduced over its columns
_SMALL_BYTES = 32 << 10    # a block in the first-level cache
_LINE_BYTES = 64
_CHANNELS = 8      # half a vector: the fewest for which a contraction makes sums


@decision
def is_few(numbers: int, size: int, spread: bool) -> bool:
    """Whether an operand's elements are read at next to no cost, as a row that belongs to all others is, be they few or many (of few, as
    the positions of a batch of two texts are, at half the cost of the others). Where there is one for each, it is no row."""
    return numbers * _FEW <= size or spread and numbers != size


@decision
def few_for_many(numbers: int, size: int) -> bool:
    return numbers <= _NUMBERS and size >= _LARGE


@decision
def many_as_large(size: int, *others: int) -> bool:
    """Whether many of the others are as large, as the terms of a sum are; one that lacks the row of an odd height is."""
    return sum([3 * size < 4 * n < 5 * size for n in others]) > MANY


@decision
def repeats(work: int, size: int, cheap: bool) -> bool:
    """Whether a value of this size is computed so many times over that storing it is better. One cheap number is not stored however often
    it is used, a few are: rows may be few (tokens that an expert gets), and each of several that falls short of some number would be a
    plan of its own."""
    return size > 1 and work > 16 * size if cheap else work > 1.25 * size


@decision
def short_rows(length: int, rows: int, total: int, itemsize: int) -> bool:
    """Whether rows are short enough to be read again from the cache, and many enough for all cores."""
    return length * itemsize <= _ROW_BYTES and (rows >= 8 or total <= _BLOCK_BYTES // 2)


@decision
def short_columns(length: int, columns: int, total: int) -> bool:
    """Likewise columns: a cache line of each row of the block is read again, for a vector of results. One kernel instead of two or three
    is worth something where they take a microsecond; a larger block would save nothing, and be a threshold that more sizes cross."""
    return total <= _SMALL_BYTES or length * _LINE_BYTES <= _BLOCK_BYTES // 2 and columns >= 256


@decision
def is_summed(channels: int) -> bool:
    """Whether sums over all rows of a contraction's results are made while it stores them. With few rows that gains nothing, and it costs
    nothing: another answer for them would be a plan of its own for each layer whose rows a batch may make few."""
    return channels >= _CHANNELS
