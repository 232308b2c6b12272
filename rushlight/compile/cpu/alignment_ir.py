"""Sums over alignments as LLVM IR text: the recursion of connectionist temporal classification (``ops/ctc.py``), in float64.

For each sequence, time after time: the probability of a place is that of the places from which it can be reached, itself and the
one and two before it, times that of what is emitted there. All are logarithms, so the sum is log(exp a + exp b + exp c).
"""
from __future__ import annotations

import math

from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.mathlib import call
from rushlight.compile.cpu.values import V, where

__all__ = ["LANES", "VERSION", "source"]

VERSION = 1
LANES = 8  # places at a time, and cells beside each row that hold the logarithm of zero


def source(backward: bool) -> str:
    """The module of ``i64 @rl_alignments(reached, ways, times, table, batch, width, prefixes, whole, passing)``.

    ``reached``: logarithms of what is emitted (T, batch, width); ``ways``: 0 where two places may be skipped to get to a place, else
    minus infinity (batch, width); ``times``: of each sequence. ``table``: rows (T, batch, LANES + width + LANES), of which the first time
    is there (``backward``: the last one of each sequence; places are then reached from those behind them), and all others are filled
    in. ``backward`` stores in ``passing`` (T, batch, width) how probable it is that a place is passed at a time, given the logarithms
    of its ``prefixes`` (a table, filled forward) and of the ``whole`` (batch). ``width`` is a multiple of LANES.
    """
    module = Module()
    f = Function("i64 @rl_alignments(ptr %reached, ptr %ways, ptr %times, ptr %table, i64 %batch, i64 %width, ptr %prefixes, ptr %whole, "
                 "ptr %passing)", module)
    row = f.add("%width", 2 * LANES)
    step = f.mul("%batch", row)
    with f.loop(0, "%batch") as n:
        steps = f.load("%times", n)
        ways = f.at("%ways", f.mul(n, "%width"), "double")
        whole = V(f, f.load("%whole", n, "double"), "double") if backward else None
        with f.loop(1, steps) as k:
            t = f.sub(f.sub(steps, 1), k) if backward else k
            plain = f.mul(f.add(f.mul(t, "%batch"), n), "%width")
            bordered = f.add(f.add(f.mul(t, step), f.mul(n, row)), LANES)
            here = f.at("%table", bordered, "double")
            there = f.at(here, step if backward else f.sub("0", step), "double")
            with f.loop(0, "%width", LANES) as s:
                same, one, two = [_load(f, f.at(f.at(there, s, "double"), d if backward else -d, "double")) for d in range(3)]
                total = _sum(same, one, two + _load(f, f.at(ways, s, "double")))
                if whole is not None:
                    prefix = _load(f, f.at("%prefixes", f.add(bordered, s), "double"))
                    _store(_exp(prefix + total - whole, 0.0), f.at("%passing", f.add(plain, s), "double"))
                _store(total + _load(f, f.at("%reached", f.add(plain, s), "double")), f.at(here, s, "double"))
    module.functions.append(f.finish("i64 0"))
    return module.text()


def _load(f: Function, address: str) -> V:
    return V(f, f.let(f"load <{LANES} x double>, ptr {address}, align 8"), "double", LANES)


def _store(x: V, address: str) -> None:
    x.f.do(f"store {x!r}, ptr {address}, align 8")


def _exp(x: V, least: float) -> V:
    """exp x, or ``least`` where that is hardly more than zero: numbers near the smallest that there are would take a hundred times as
    long."""
    small = x.lt(-700.0)
    return where(small, least, call("exp", where(small, 0.0, x)))


def _sum(a: V, b: V, c: V) -> V:
    """log(exp a + exp b + exp c)."""
    swapped = a.gt(b)
    high, low = where(swapped, a, b), where(swapped, b, a)
    swapped = high.gt(c)
    most, middle = where(swapped, high, c), where(swapped, c, high)
    shift = where(most.eq(-math.inf), 0.0, most)
    return call("log", _exp(low - shift, 0.0) + _exp(middle - shift, 0.0) + 1.0) + most
