"""What pooling and unfolding share: windows of the last dimensions as affine views, and their adjoint."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..compile.graph import Graph, Node, View
from ..compile.sizes import largest

__all__ = ["Windows", "windows", "cut", "repeated", "spread_back", "inside_position"]

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows over the last ``len(kernel)`` dimensions: ``position = stride * o + dilation * u - padding``.

    ``size`` and ``out`` are the extents of the input and the numbers of windows along these dimensions: those that fit, with
    ``ceil_mode`` also those that begin inside and reach over the end. As part of an operation's key it is compared by identity, which
    costs nothing: make it by ``windows``, which remembers.
    """

    size: Shape
    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    ceil_mode: bool = False

    @cached_property
    def out(self) -> Shape:
        out = []
        for n, k, s, p, d in zip(self.size, self.kernel, self.stride, self.padding, self.dilation):
            reach = n + 2 * p - d * (k - 1) - 1
            count = (reach + (s - 1 if self.ceil_mode else 0)) // s + 1
            if self.ceil_mode and (count - 1) * s >= n + p:
                count -= 1
            out.append(count)
        return tuple(out)

    @property
    def nd(self) -> int:
        return len(self.kernel)

    @property
    def overlap(self) -> float:
        """The most windows over one element (infinite with dilation, which has no simple answer)."""
        if any(d != 1 for d in self.dilation):
            return math.inf
        return math.prod(-(-k // s) for k, s in zip(self.kernel, self.stride))

    @property
    def apart(self) -> bool:
        """Whether windows tile the input: no two share an element and none has a hole."""
        return all(s == k and d == 1 or o == 1 and d == 1
                   for s, k, d, o in zip(self.stride, self.kernel, self.dilation, self.out))


@lru_cache(maxsize=8192)
def windows(size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, ceil_mode: bool = False) -> Windows:
    """Equal windows are one object."""
    return Windows(size, kernel, stride, padding, dilation, ceil_mode)


def cut(g: Graph, x: Node, w: Windows, value: Any) -> Node:
    """(*lead, *size) as (*lead, *out, *kernel); outside the input reads ``value``."""
    nd = w.nd
    lead = x.shape[:len(x.shape) - nd]
    high = [largest(0, (o - 1) * s + d * (k - 1) + 1 - p - n)
            for n, o, k, s, p, d in zip(w.size, w.out, w.kernel, w.stride, w.padding, w.dilation)]
    x = g.pad(x, ((0,) * len(lead)) + w.padding, (0,) * len(lead) + tuple(high), value)
    rank = len(lead) + 2 * nd
    matrix = [tuple(int(j == d) for j in range(rank)) for d in range(len(lead))]
    for d in range(nd):
        row = [0] * rank
        row[len(lead) + d], row[len(lead) + nd + d] = w.stride[d], w.dilation[d]
        matrix.append(tuple(row))
    return g.view(x, View((*lead, *w.out, *w.kernel), (0,) * len(x.shape), tuple(matrix)))


def repeated(g: Graph, x: Node, w: Windows) -> Node:
    """A value for each window, (*lead, *out), at all of the window's elements: (*lead, *out, *kernel)."""
    shape = (*x.shape, *w.kernel)
    rows = tuple(tuple(int(j == d) for j in range(len(shape))) for d in range(len(x.shape)))
    return g.view(x, View(shape, (0,) * len(x.shape), rows))


def inside_position(g: Graph, shape: Shape, w: Windows) -> Node:
    """For values of shape (*lead, *out, *kernel): the number of the window's element, row-major, int32."""
    nd = w.nd
    total: Any = None
    for d in range(nd):
        at = g.index(shape, len(shape) - nd + d)
        total = at if total is None else g.map(lambda e, a, b, k=w.kernel[d]: a * k + b, total, at)
    return g.cast(total, dt.int32)


def spread_back(g: Graph, x: Node, w: Windows) -> Node:
    """The adjoint of ``cut``: (*lead, *out, *kernel) added up at the places the windows read, as (*lead, *size)."""
    nd = w.nd
    lead = x.shape[:len(x.shape) - 2 * nd]
    n = len(lead)
    dtype = x.dtype
    if math.prod(x.shape) == 0 or math.prod(w.size) == 0:
        return g.const(0, dtype, (*lead, *w.size))
    if w.apart:
        order = [*range(n)]
        for d in range(nd):
            order += [n + d, n + nd + d]
        flat = g.reshape(g.permute(x, order), (*lead, *[o * k for o, k in zip(w.out, w.kernel)]))
        if w.ceil_mode or any(w.padding):
            return _fit(g, flat, n, [-p for p in w.padding], w.size)
        return g.fit(flat, (*lead, *w.size), [n + d for d in range(nd) if (w.stride[d], w.kernel[d]) != (1, 1)])
    if all(d == 1 for d in w.dilation):
        return _overlapping(g, x, w, n)
    return _dilated(g, x, w, n)


def _overlapping(g: Graph, x: Node, w: Windows, n: int) -> Node:
    """Without dilation: each element of the input adds up those of the windows over it, a few neighbours: an affine view."""
    nd = w.nd
    lead = x.shape[:n]
    sides = [_side(*numbers) for numbers in zip(w.size, w.out, w.kernel, w.stride, w.padding)]
    x = g.pad(x, [0] * n + [a.low for a in sides] + [0] * nd, [0] * n + [a.high for a in sides] + [
        a.most * s - k for a, s, k in zip(sides, w.stride, w.kernel)])
    # Axes of the view: lead, then (j, c) for each dimension, then t for each.
    rank = n + 3 * nd
    matrix = [tuple(int(j == d) for j in range(rank)) for d in range(n)]
    windows_, elements = [], []
    for d, (a, s) in enumerate(zip(sides, w.stride)):
        row, column = [0] * rank, [0] * rank
        row[n + 2 * d], row[n + 2 * d + 1], row[n + 2 * nd + d] = 1, a.twist, -1
        column[n + 2 * d + 1], column[n + 2 * nd + d] = 1 - 2 * a.twist, s
        windows_.append(tuple(row))
        elements.append(tuple(column))
    offset = (*(0,) * n, *[a.low + a.ahead for a in sides], *[a.twist for a in sides])
    shape = (*lead, *[m for a, s in zip(sides, w.stride) for m in (a.count, s)], *[a.most for a in sides])
    read = g.view(x, View(shape, offset, (*matrix, *windows_, *elements)))
    total = g.reduce("add", read, range(n + 2 * nd, rank))
    flat = g.reshape(total, (*lead, *[a.count * s for a, s in zip(sides, w.stride)]))
    if any(a.start for a in sides):
        return _fit(g, flat, n, [a.start for a in sides], w.size)
    return g.fit(flat, (*lead, *w.size), [n + d for d, s in enumerate(w.stride) if s != 1])


@dataclass(frozen=True)
class _Side:
    """One dimension of ``_overlapping``. Position ``start + s j + c`` of the input, with c < s and j < ``count``, is element
    ``r + s t`` of window ``q - t`` for every t < ``most``, where q = ``ahead`` + j + ``twist`` c, and r = c, or 1 - c with a twist.
    ``low`` and ``high``: how many of these windows there would have to be before and behind those that there are."""

    start: int
    count: int
    most: int
    ahead: int
    twist: int
    low: int
    high: int


def _side(size: int, out: int, kernel: int, stride: int, padding: int) -> _Side:
    """From the first position of the input where that has a simple form, else from the first of the padding, which is cut off later."""
    most, count = -(-kernel // stride), -(-size // stride)
    ahead, left = divmod(padding, stride)
    if left and stride != 2:
        return _Side(-padding, out + most - 1, most, 0, 0, most - 1, most - 1)
    return _Side(0, count, most, ahead, left, max(0, most - 1 - ahead), max(0, count - 1 + ahead + left - (out - 1)))


def _dilated(g: Graph, x: Node, w: Windows, n: int) -> Node:
    """Positions of one window element are a stride apart: zeros between them, then input i adds up the windows that hold it."""
    nd = w.nd
    lead = x.shape[:n]
    spread, shape = x, x.shape
    if any(s > 1 for s in w.stride):
        wide = g.reshape(x, (*lead, *[m for o in w.out for m in (o, 1)], *w.kernel))
        high = [0] * n + [m for s in w.stride for m in (0, s - 1)] + [0] * nd
        shape = (*lead, *[o * s for o, s in zip(w.out, w.stride)], *w.kernel)
        spread = g.reshape(g.pad(wide, [0] * (n + 3 * nd), high), shape)
    # Input i, window element u: place i + padding - dilation * u.
    low = [max(0, d * (k - 1) - p) for k, p, d in zip(w.kernel, w.padding, w.dilation)]
    high = [max(0, size + p - m) for size, p, m in zip(w.size, w.padding, shape[n:n + nd])]
    spread = g.pad(spread, [0] * n + low + [0] * nd, [0] * n + high + [0] * nd)
    rank = n + 2 * nd
    offset, matrix = [0] * n, [tuple(int(j == d) for j in range(rank)) for d in range(n)]
    for d in range(nd):
        row = [0] * rank
        row[n + d], row[n + nd + d] = 1, -w.dilation[d]
        matrix.append(tuple(row))
        offset.append(low[d] + w.padding[d])
    matrix += [tuple(int(j == n + nd + d) for j in range(rank)) for d in range(nd)]
    read = g.view(spread, View((*lead, *w.size, *w.kernel), (*offset, *(0,) * nd), tuple(matrix)))
    return g.reduce("add", read, range(n + nd, rank))


def _fit(g: Graph, x: Node, lead: int, start: Sequence[int], size: Shape) -> Node:
    """Let x's last dimensions, whose first element lies at ``start``, cover [0, size): cut off or filled with zeros."""
    extents = x.shape[lead:]
    first = [max(0, -s) for s in start]
    last = [min(n, m - s) for n, m, s in zip(extents, size, start)]
    if any(b <= a for a, b in zip(first, last)):
        return g.const(0, x.dtype, (*x.shape[:lead], *size))
    x = g.slice(x, (*(0,) * lead, *first), (*x.shape[:lead], *[b - a for a, b in zip(first, last)]))
    low = [max(0, s) for s in start]
    high = [m - lo - (b - a) for m, lo, a, b in zip(size, low, first, last)]
    return g.pad(x, (*(0,) * lead, *low), (*(0,) * lead, *high))


def lowest(dtype: DType) -> Any:
    """What a maximum starts from."""
    if dtype.kind == "f":
        return -math.inf
    bits = 8 * dtype.itemsize
    return -(1 << (bits - 1)) if dtype.kind == "i" else 0
