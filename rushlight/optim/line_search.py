"""A line search for the strong Wolfe conditions."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["strong_wolfe", "cubic_minimum"]


class Point(NamedTuple):
    """A step length t along the direction: the value there, the gradient, and the slope along the direction."""

    t: float
    f: float
    g: Any
    slope: float


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic through two points with their slopes is smallest, within ``bounds`` (default: between the points)."""
    low, high = bounds if bounds is not None else (min(a.t, b.t), max(a.t, b.t))
    if a.t == b.t:
        return (low + high) / 2
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    under = b.slope - a.slope + 2 * d2
    if under == 0:
        return (low + high) / 2
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / under), low), high)


def strong_wolfe(evaluate: Callable[[float], Point], start: Point, t: float, size: float, c1: float = 1e-4, c2: float = 0.9,
                 tolerance_change: float = 1e-9, max_ls: int = 25) -> tuple[Point, int]:
    """A step with enough decrease (c1) and a flat enough slope (c2): Nocedal and Wright, algorithms 3.5 and 3.6.

    Args:
        evaluate: the point at a step length. start: the point at t = 0; t: the first step length to try.
        size: largest element of the direction: the bracket is small enough at ``tolerance_change / size``.

    Returns:
        (the point, how often ``evaluate`` was called)
    """
    def too_high(p: Point) -> bool:
        return p.f > start.f + c1 * p.t * start.slope

    def flat(p: Point) -> bool:
        return abs(p.slope) <= -c2 * start.slope

    before, new, calls, rounds = start, evaluate(t), 1, 0
    bracket: list[Point] = []
    while rounds < max_ls:  # go on until a minimum is bracketed
        if too_high(new) or (rounds > 1 and new.f >= before.f):
            bracket = [before, new]
            break
        if flat(new):
            return new, calls
        if new.slope >= 0:
            bracket = [before, new]
            break
        t = cubic_minimum(before, new, (new.t + 0.01 * (new.t - before.t), new.t * 10))
        before, new = new, evaluate(t)
        calls, rounds = calls + 1, rounds + 1
    if rounds == max_ls:
        bracket = [start, new]

    little = False  # the last trial was close to an end of the bracket
    low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
    while rounds < max_ls:
        if abs(bracket[1].t - bracket[0].t) * size < tolerance_change:
            break
        t = cubic_minimum(bracket[0], bracket[1])
        left, right = min(b.t for b in bracket), max(b.t for b in bracket)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if little or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                little = False
            else:
                little = True
        else:
            little = False
        new = evaluate(t)
        calls, rounds = calls + 1, rounds + 1
        if too_high(new) or new.f >= bracket[low].f:
            bracket[high] = new
            low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
        else:
            done = flat(new)
            if not done and new.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = new
            if done:
                break
    return bracket[low], calls
