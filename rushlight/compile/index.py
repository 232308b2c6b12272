"""Positions as affine forms: where in a value a loop iteration reads.

``Ix`` is ``offset + sum(coef * axis)``; axes are numbered by the group that loops over them. Negative numbers stand for
*dynamic* positions (a gather's index), which behave like axes whose value is not known until run time. A value's index is a
tuple of ``Ix``, one for each of its dimensions; views, pads and reshapes turn an index of their result into one of their
operand.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .graph import View

__all__ = ["Ix", "Index", "axis_ix", "NeedSplit", "CannotSplit", "through_view", "through_reshape", "address",
           "plain_axes", "bounds", "replace_axis", "row_major", "as_view"]


class Ix(NamedTuple):
    offset: int
    terms: tuple[tuple[int, int], ...]  # (axis, coefficient), sorted, no zero coefficients


Index = tuple[Ix, ...]
ZERO = Ix(0, ())


def axis_ix(axis: int) -> Ix:
    return Ix(0, ((axis, 1),))


def combine(parts: Sequence[tuple[int, Ix]], offset: int = 0) -> Ix:
    """``offset + sum(c * ix)``."""
    if len(parts) == 1 and parts[0][0] == 1 and not offset:
        return parts[0][1]
    terms: dict[int, int] = {}
    for c, ix in parts:
        offset += c * ix.offset
        for axis, k in ix.terms:
            terms[axis] = terms.get(axis, 0) + c * k
    return Ix(offset, tuple(sorted((a, k) for a, k in terms.items() if k)))


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of a dense array in row-major order."""
    strides, step = [], 1
    for s in reversed(shape):
        strides.append(step)
        step *= max(s, 1)
    return tuple(reversed(strides))


def as_view(shape: tuple[int, ...], out: tuple[int, ...], strides: Sequence[int], offset: int) -> View | None:
    """The affine map onto positions of a row-major value of ``shape`` of what has the shape ``out``, these strides and this
    offset, in elements; None where a dimension of it runs across several of the value's."""
    steps = row_major(shape)
    start, columns = [], []
    for extent, step in zip(shape, steps):
        at = min(offset // step, extent - 1) if extent > 1 else 0
        start.append(at)
        offset -= at * step
    if offset:
        return None
    for n, stride in zip(out, strides):
        column = []
        left = stride if n > 1 else 0
        for extent, step in zip(shape, steps):
            c = left // step if extent > 1 else 0
            column.append(c)
            left -= c * step
        if left:
            return None
        columns.append(column)
    for d, extent in enumerate(shape):
        if start[d] + sum(column[d] * (n - 1) for column, n in zip(columns, out)) >= extent:
            return None
    return View(out, tuple(start), tuple(tuple(column[d] for column in columns) for d in range(len(shape))))


def through_view(index: Index, view: View) -> Index:
    return tuple(combine([(c, ix) for c, ix in zip(row, index, strict=True) if c], o)
                 for o, row in zip(view.offset, view.matrix, strict=True))


class NeedSplit(Exception):
    """The index of a reshape's operand is affine only if ``axis`` is cut into an outer axis and ``inner`` positions."""

    def __init__(self, axis: int, inner: int) -> None:
        self.axis, self.inner = axis, inner


class CannotSplit(Exception):
    """The index of a reshape's operand is not affine in the loops' axes."""


def bounds(ix: Ix, extents: Mapping[int, int]) -> tuple[int, int]:
    """The smallest and the largest value."""
    low = high = ix.offset
    for axis, k in ix.terms:
        reach = k * (extents[axis] - 1)
        if reach < 0:
            low += reach
        else:
            high += reach
    return low, high


def through_reshape(index: Index, shape: Sequence[int], source: Sequence[int], extents: Mapping[int, int]) -> Index:
    """The index into ``source`` for a row-major reshape of it to ``shape``.

    Raises:
        NeedSplit: it would be affine if an axis were split.
        CannotSplit: it is not affine.
    """
    if 0 in source:
        raise CannotSplit
    whole = combine(list(zip(row_major(shape), index, strict=True)))
    out: list[Ix] = []
    for size in reversed(source):
        if size == 1:
            out.append(ZERO)
            continue
        outer: list[tuple[int, int]] = []
        inner: list[tuple[int, int]] = []
        for axis, k in whole.terms:
            if k % size == 0:
                outer.append((axis, k // size))
            elif extents[axis] > 1:
                inner.append((axis, k))
        base, rest = divmod(whole.offset, size)
        here = Ix(rest, tuple(inner))
        low, high = bounds(here, extents)
        if low < 0 or high >= size:
            for axis, k in inner:
                if axis >= 0 and k > 0 and size % k == 0 and k * extents[axis] > size and extents[axis] % (size // k) == 0:
                    raise NeedSplit(axis, size // k)
            raise CannotSplit
        out.append(here)
        whole = Ix(base, tuple(outer))
    return tuple(reversed(out))


def address(index: Sequence[Ix], strides: Sequence[int]) -> Ix:
    return combine(list(zip(strides, index, strict=True)))


def plain_axes(index: Index, shape: Sequence[int], extents: Mapping[int, int]) -> tuple[int, ...] | None:
    """The axes of an index that visits every element exactly once: each dimension is one whole axis, or several in
    row-major order, and no axis serves twice. None for other indices."""
    axes: list[int] = []
    for ix, size in zip(index, shape, strict=True):
        if ix.offset:
            return None
        step = 1
        found = []
        for axis, k in sorted((t for t in ix.terms if extents[t[0]] != 1), key=lambda t: abs(t[1])):
            if axis < 0 or k != step:
                return None
            found.append(axis)
            step *= extents[axis]
        if step != size:
            return None
        axes.extend(reversed(found))
    return tuple(axes) if len(set(axes)) == len(axes) else None


def replace_axis(index: Index, axis: int, by: Ix) -> Index:
    """The index with ``by`` in the place of an axis."""
    if not any(a == axis for ix in index for a, _ in ix.terms):
        return index
    return tuple(combine([(k, by if a == axis else axis_ix(a)) for a, k in ix.terms], ix.offset) if ix.terms else ix
                 for ix in index)
