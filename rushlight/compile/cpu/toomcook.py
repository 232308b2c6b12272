"""The matrices of Winograd's convolutions (Toom and Cook's algorithm), and code that multiplies by them.

``F(m, r)``: m neighbouring results of a correlation with r taps cost n = m + r - 1 multiplications,

    y = outputs · ((taps · w) * (inputs · d)),        y[i] = sum over k of d[i + k] * w[k]

because a polynomial of degree n - 1 is known by its values at n points (one of them infinity). In two dimensions each matrix
is applied along both. The points decide how much rounding errors grow: with 0, ±3/4, ±3/2 those of F(4, 3) in float32 are half
of what they are with 0, ±1, ±2, the textbook's choice. Over 64 and 512 channels of normal numbers their root mean square is 8e-7 of the
result's, that of a plain sum in stretches 2e-7; ``tests/compile/test_winograd.py`` holds it to a bound.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from rushlight.compile.cpu.irtext import Function

__all__ = ["POINTS", "Matrices", "matrices", "multiplied"]

POINTS = (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Matrices:
    """``outputs`` (m, n), ``taps`` (n, r), ``inputs`` (n, n)."""

    outputs: Matrix
    taps: Matrix
    inputs: Matrix


@functools.cache
def matrices(m: int, r: int) -> Matrices:
    """Of F(m, r) with the finite ``POINTS``; m + r must be 7.

    Row i of ``inputs`` holds the coefficients of the product of (x - p) over all points p but the i-th (over all of them for
    infinity), row i of ``taps`` the powers of point i over the value of that product there, column i of ``outputs`` its powers.
    """
    n = m + r - 1
    if n != len(POINTS) + 1:
        raise ValueError(f"F({m}, {r}) needs {n - 1} finite points")
    zero, one = Fraction(0), Fraction(1)
    inputs, taps = [], []
    for p in POINTS:
        others = [q for q in POINTS if q != p]
        value = one
        for q in others:
            value *= p - q
        inputs.append((*_product(others), zero))
        taps.append(tuple(p**k / value for k in range(r)))
    inputs.append(_product(POINTS))
    taps.append((*(zero,) * (r - 1), one))
    outputs = tuple((*(p**i for p in POINTS), one if i == m - 1 else zero) for i in range(m))
    return Matrices(outputs, tuple(taps), tuple(inputs))


def _product(roots: tuple[Fraction, ...] | list[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients, constant term first, of the product of (x - root)."""
    out = [Fraction(1)]
    for root in roots:
        out = [(out[k - 1] if k else Fraction(0)) - (root * out[k] if k < len(out) else 0) for k in range(len(out) + 1)]
    return tuple(out)


def multiplied(f: Function, matrix: Matrix, values: list[str], lanes: int, fma: bool) -> list[str]:
    """The vectors ``matrix · values`` of floats. Two rows that are sum and difference of the same two sums (points p and -p
    make such rows) share these."""
    count = len(matrix)
    out: list[str | None] = [None] * count
    for i in range(count):
        if out[i] is not None:
            continue
        for j in range(i + 1, count):
            even = [(a + b) / 2 for a, b in zip(matrix[i], matrix[j], strict=True)]
            odd = [(a - b) / 2 for a, b in zip(matrix[i], matrix[j], strict=True)]
            apart = sum(map(bool, matrix[i])) + sum(map(bool, matrix[j]))
            if out[j] is None and any(even) and any(odd) and sum(map(bool, even)) + sum(map(bool, odd)) < apart:
                x, y = _sum(f, even, values, lanes, fma), _sum(f, odd, values, lanes, fma)
                vector = f"<{lanes} x float>"
                out[i], out[j] = f.let(f"fadd {vector} {x}, {y}"), f.let(f"fsub {vector} {x}, {y}")
                break
        else:
            out[i] = _sum(f, list(matrix[i]), values, lanes, fma)
    return [x for x in out if x is not None]


def _sum(f: Function, row: list[Fraction], values: list[str], lanes: int, fma: bool) -> str:
    vector = f"<{lanes} x float>"
    terms = [(c, v) for c, v in zip(row, values, strict=True) if c]
    # One that needs no multiplication starts.
    terms.sort(key=lambda t: t[0] != 1)
    total: str | None = None
    for c, v in terms:
        if total is None:
            total = v if c == 1 else f.let(f"fmul {vector} {v}, {_constant(c)}")
        elif abs(c) == 1:
            total = f.let(f"{'fadd' if c > 0 else 'fsub'} {vector} {total}, {v}")
        elif fma:
            f.module.declare(f"{vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})")
            total = f.let(f"call {vector} @llvm.fma.v{lanes}f32({vector} {v}, {vector} {_constant(c)}, {vector} {total})")
        else:
            total = f.let(f"fadd {vector} {total}, {f.let(f'fmul {vector} {v}, {_constant(c)}')}")
    assert total is not None
    return total


def _constant(c: Fraction) -> str:
    bits = int(np.float64(np.float32(float(c))).view(np.uint64))
    return f"splat (float 0x{bits:016X})"
