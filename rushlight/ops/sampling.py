"""Reading an image between its elements: the positions of a point's neighbours, and the sum of what is read there.

A formula each, so that a point costs a few operations, not some for each neighbour, weight and border. Coordinates count elements along
each of the last dimensions. ``corner`` has a letter for each dimension: "0" the neighbour at or before the point, "1" the one behind it.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

from ..compile.dtypes import int32, int64
from ..compile.expr import cast
from .pointwise import Pointwise, pointwise

__all__ = ["coordinate", "corners", "linear_sum", "neighbour", "whole_or_zero"]

#: (x + 1) scale - shift: from [-1, 1] to elements.
coordinate = pointwise("grid_sampler", lambda e, x, scale, shift: (x + 1) * scale - shift, allowed="f")


def _at(e: Any, x: Any, letter: str) -> Any:
    return e.floor(x) if letter == "0" else e.floor(x) + 1


def _inside(e: Any, at: Sequence[Any], sizes: Sequence[int]) -> Any:
    found = None
    for x, n in zip(at, sizes):
        here = e.ge(x, 0) & e.le(x, n - 1)
        found = here if found is None else found & here
    return found


def _place(e: Any, *points: Any, sizes: tuple[int, ...], corner: str, wide: bool) -> Any:
    total = None
    for x, n, letter in zip(points, sizes, corner):
        at = _at(e, x, letter)
        whole = cast(e.where(_inside(e, (at,), (n,)), at, at * 0), int64 if wide else int32)
        total = whole if total is None else total * n + whole
    return total


_places = {wide: pointwise("grid_sampler", _place, result=int64 if wide else int32, grads=False, allowed="f") for wide in (False, True)}


def neighbour(points: Sequence[Any], sizes: tuple[int, ...], corner: str) -> Any:
    """The place of a neighbour among all elements, row-major; what is outside counts as 0. (Of half as many bytes twice as many are
    reckoned at once.)"""
    wide = math.prod(sizes) >= 1 << 31
    return _places[wide](*points, sizes=sizes, corner=corner, wide=wide)


def _linear(e: Any, *args: Any, sizes: tuple[int, ...]) -> Any:
    nd = len(sizes)
    read, points = args[:-nd], args[-nd:]
    total = None
    for value, corner in zip(read, corners(nd)):
        weight = None
        for x, letter in zip(points, corner):
            behind = x - e.floor(x)
            w = behind if letter == "1" else 1 - behind
            weight = w if weight is None else weight * w
        inside = _inside(e, [_at(e, x, letter) for x, letter in zip(points, corner)], sizes)
        part = e.where(inside, value, value * 0) * weight
        total = part if total is None else total + part
    return total


def corners(nd: int) -> list[str]:
    """All neighbours of a point, in the order in which ``linear_sum`` wants what is read there."""
    return ["".join(letters) for letters in product("01", repeat=nd)]


#: What is read at the neighbours, then the coordinates: each times its weight, zero outside.
linear_sum: Pointwise = pointwise("grid_sampler", _linear, allowed="f")
#: What is read at whole coordinates, then these: zero outside.
whole_or_zero: Pointwise = pointwise("grid_sampler", lambda e, value, *points, sizes: e.where(_inside(e, points, sizes), value, value * 0),
                                     allowed="f")
