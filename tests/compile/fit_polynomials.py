"""Prints ``rushlight/compile/cpu/coefficients.py``: minimax polynomials for the vector mathematics.

Run as ``python tests/compile/fit_polynomials.py > rushlight/compile/cpu/coefficients.py`` (needs mpmath; seconds).
Each fit minimises the greatest *relative* error of the function that the polynomial is part of, by Remez' exchange;
the lowest coefficients are rounded to the working precision first, and the rest is fitted to what they leave.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import mpmath as mp
import numpy as np

mp.mp.dps = 60


TINY = mp.mpf("1e-9")


def _away_from_zero(f: Callable) -> Callable:
    return lambda x: f(x if abs(x) > TINY else TINY)  # where many of the quotients below are 0/0


def remez(f: Callable, weight: Callable, low: float, high: float, terms: int) -> tuple[list, mp.mpf]:
    """Coefficients c (lowest first) that minimise ``max |weight(x) (f(x) - sum c_i x^i)|`` on [low, high]."""
    low, high = mp.mpf(low), mp.mpf(high)
    n = terms + 1
    f, weight = _away_from_zero(f), _away_from_zero(weight)
    signed = weight
    weight = lambda x: abs(signed(x))
    points = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / n) for i in range(n)]
    grid_size = 40 * terms
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * mp.mpf(i) / grid_size) for i in range(grid_size + 1)]
    values, weights = [f(x) for x in grid], [weight(x) for x in grid]
    for _ in range(12):
        rows = mp.matrix(n, n)
        right = mp.matrix(n, 1)
        for i, x in enumerate(points):
            for j in range(terms):
                rows[i, j] = x**j
            rows[i, terms] = (-1) ** i / weight(x)
            right[i] = f(x)
        solution = mp.lu_solve(rows, right)
        c = [solution[j] for j in range(terms)]
        error = [w * (v - mp.polyval(c[::-1], x)) for x, v, w in zip(grid, values, weights)]
        # one extreme point for each run of equal sign
        runs, start = [], 0
        for i in range(1, len(grid) + 1):
            if i == len(grid) or mp.sign(error[i]) != mp.sign(error[start]):
                runs.append(max(range(start, i), key=lambda k: abs(error[k])))
                start = i
        while len(runs) > n:
            runs.pop(0 if abs(error[runs[0]]) < abs(error[runs[-1]]) else -1)
        if len(runs) < n:
            break
        points = [grid[i] for i in runs]
        sizes = [abs(error[i]) for i in runs]
        if max(sizes) < min(sizes) * mp.mpf("1.02"):
            break
    return c, max(abs(x) for x in error)


def rounded(value: mp.mpf, kind: str) -> float:
    return float(np.float32(float(value))) if kind == "f32" else float(value)


def fit(name: str, kind: str, terms: int, f: Callable, weight: Callable, low: float, high: float, fixed: int = 2) -> None:
    """Print the polynomial ``name``; ``fixed`` coefficients are rounded one after the other before the rest."""
    done: list[float] = []
    for _ in range(min(fixed, terms - 1)):
        k = len(done)
        rest = lambda x, d=tuple(done), k=k: (f(x) - mp.polyval([mp.mpf(v) for v in d[::-1]] or [0], x)) / x**k
        c, _ = remez(rest, lambda x, k=k: weight(x) * x**k, low, high, terms - k)
        done.append(rounded(c[0], kind))
    k = len(done)
    rest = lambda x: (f(x) - mp.polyval([mp.mpf(v) for v in done[::-1]] or [0], x)) / x**k
    c, error = remez(rest, lambda x: weight(x) * x**k, low, high, terms - k)
    done += [rounded(v, kind) for v in c]
    print(f"#: error 2^{float(mp.log(error, 2)):.1f}")
    lines = [f"    {v!r}," for v in done]
    print("\n".join([f"{name} = (", *lines, ")"]))
    print(name, kind, terms, f"2^{float(mp.log(error, 2)):.1f}", file=sys.stderr)


def reciprocals(name: str, centres: list[float]) -> None:
    """Print a number r close to 1 / c for each centre, one whose logarithm is all but a multiple of 2^-17: a table of logarithms in
    which the last digits are not missed. 1 stays 1."""
    print(f"#: log(r) is within 2^-30 of a multiple of 2^-17\n{name} = (")
    for c in centres:
        near = np.arange(*(np.float32(1 / (c + d)).view(np.int32) for d in (2**-10, -(2**-10))), dtype=np.int32).view(np.float32)
        logs = np.log(near.astype(np.longdouble)) * 2**17
        print(f"    {1.0 if c == 1 else float(near[np.argmin(np.abs(logs - np.rint(logs)))])!r},")
    print(")")


def main() -> None:
    print('"""Minimax polynomials, lowest power first. Made by ``tests/compile/fit_polynomials.py``."""\n')
    half_ln2 = mp.log(2) / 2 * mp.mpf("1.002")
    q = lambda x: (mp.expm1(x) - x) / x**2
    fit("EXP_F32", "f32", 5, q, lambda x: x * x / mp.exp(x), -half_ln2, half_ln2, 0)
    fit("EXPM1_F32", "f32", 6, q, lambda x: x * x / mp.expm1(x), -half_ln2, half_ln2, 0)
    # what is left where powers of 2^(1/16) come from a table
    sixteenth = half_ln2 / 16
    fit("EXP_TABLE_F32", "f32", 2, q, lambda x: x * x / mp.exp(x), -sixteenth, sixteenth, 0)
    fit("EXPM1_TABLE_F32", "f32", 3, q, lambda x: x * x / mp.expm1(x), -sixteenth, sixteenth, 0)
    bound = mp.mpf("1.01") / 32
    fit("EXP2_TABLE_F32", "f32", 3, lambda x: mp.expm1(x * mp.log(2)) / x, lambda x: x, -bound, bound, 0)
    fit("EXP_F64", "f64", 12, q, lambda x: x * x / mp.expm1(x), -half_ln2, half_ln2, 0)
    fit("EXP_F64_SHORT", "f64", 6, q, lambda x: x * x / mp.exp(x), -half_ln2, half_ln2, 0)  # for float32's pow

    root = mp.sqrt(2) * mp.mpf("1.0001")
    p = lambda x: (mp.log1p(x) - x + x * x / 2) / x**3
    fit("LOG_F32", "f32", 9, p, lambda x: x**3 / mp.log1p(x), 1 / root - 1, root - 1)
    # log(c) comes from a table for c in sixteenths of [3/4, 3/2], or of [1, 2]
    p2 = lambda x: (mp.log1p(x) - x) / x**2
    fit("LOG_TABLE_F32", "f32", 4, p2, lambda x: x**2 / mp.log1p(x), mp.mpf("-0.043"), mp.mpf("0.043"), 0)
    reciprocals("LOG_RECIPROCALS", [c / 16 for c in (*range(16, 25), 16, 16, 16, *range(12, 16))])
    reciprocals("LOG1P_RECIPROCALS", [1 + c / 15 for c in range(16)])
    fit("LOG1P_UNIT_F32", "f32", 9, p2, lambda x: x**2 / mp.log1p(x), TINY, 1, 1)  # of numbers from 0 to 1
    # log((1+s)/(1-s)) = 2s + s^3 R(s^2)
    zmax = ((root - 1) / (root + 1)) ** 2
    r = lambda z: (mp.log((1 + mp.sqrt(z)) / (1 - mp.sqrt(z))) - 2 * mp.sqrt(z)) / mp.sqrt(z) ** 3
    w = lambda z: mp.sqrt(z) ** 3 / mp.log((1 + mp.sqrt(z)) / (1 - mp.sqrt(z)))
    fit("LOG_F64", "f64", 7, r, w, TINY, zmax, 0)
    fit("LOG_F64_SHORT", "f64", 4, r, w, TINY, zmax, 0)  # for float32's pow
    r2 = lambda z: (r(z) - mp.mpf(2) / 3) / z
    fit("LOG_F64_TAIL", "f64", 7, r2, lambda z: w(z) * z, mp.mpf("1e-7"), zmax, 0)  # R without its first term

    quarter = (mp.pi / 4 * mp.mpf("1.001")) ** 2
    s = lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z
    half = (mp.pi / 2 * mp.mpf("1.001")) ** 2
    fit("SIN_F32", "f32", 4, s, lambda z: z / (mp.sin(mp.sqrt(z)) / mp.sqrt(z)), TINY, half, 1)  # from -pi/2 to pi/2
    fit("SIN_F64", "f64", 6, s, lambda z: z / (mp.sin(mp.sqrt(z)) / mp.sqrt(z)), TINY, quarter, 1)
    c = lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2
    fit("COS_F64", "f64", 6, c, lambda z: z**2 / mp.cos(mp.sqrt(z)), TINY, quarter, 1)
    t = lambda z: (mp.tan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z
    fit("TAN_F64", "f64", 15, t, lambda z: z / (mp.tan(mp.sqrt(z)) / mp.sqrt(z)), TINY, quarter, 1)
    fit("TAN_F32", "f32", 7, t, lambda z: z / (mp.tan(mp.sqrt(z)) / mp.sqrt(z)), TINY, quarter, 1)

    eighth = mp.tan(mp.pi / 8) ** 2 * mp.mpf("1.002")
    a = lambda z: (mp.atan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z
    fit("ATAN_F64", "f64", 12, a, lambda z: z / (mp.atan(mp.sqrt(z)) / mp.sqrt(z)), TINY, eighth, 1)
    fit("ATAN_F32", "f32", 9, a, lambda z: z / (mp.atan(mp.sqrt(z)) / mp.sqrt(z)), TINY, 1, 1)  # from -1 to 1
    n = lambda z: (mp.asin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z
    fit("ASIN_F64", "f64", 13, n, lambda z: z / (mp.asin(mp.sqrt(z)) / mp.sqrt(z)), TINY, mp.mpf("0.2501"), 1)
    fit("ASIN_F32", "f32", 5, n, lambda z: z / (mp.asin(mp.sqrt(z)) / mp.sqrt(z)), TINY, mp.mpf("0.2501"), 1)
    h = lambda z: (mp.sinh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z
    fit("SINH_F64", "f64", 8, h, lambda z: z / (mp.sinh(mp.sqrt(z)) / mp.sqrt(z)), TINY, mp.mpf("1.001"), 1)

    e1 = lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z)
    fit("ERF_F64", "f64", 14, e1, lambda z: 1 / e1(z), TINY, mp.mpf("1.001"), 2)
    fit("ERF_F32", "f32", 8, lambda z: e1(z) - 1, lambda z: 1 / e1(z), TINY, mp.mpf("0.8"), 2)
    # erf(a) = 1 - 2^L(a) for a in [0.89, 4]; and a short 2^x - 1 = x E(x) for that
    fit("ERF_LOG_F32", "f32", 7, lambda a: mp.log(mp.erfc(a), 2), lambda a: mp.erfc(a), mp.mpf("0.89"), 4, 0)
    fit("EXP2_SHORT_F32", "f32", 5, lambda x: mp.expm1(x * mp.log(2)) / x, lambda x: x, -0.5, 0.5, 0)
    # the normal distribution: 1 - P(a) = 2^L(a); beyond the range L goes to minus infinity
    below = lambda a: mp.erfc(a / mp.sqrt(2)) / 2
    fit("NORMAL_LOG_F32", "f32", 9, lambda a: mp.log(below(a), 2), below, 0, mp.mpf("5.6"), 1)
    fit("EXP2_F32", "f32", 6, lambda x: mp.expm1(x * mp.log(2)) / x, lambda x: x, -0.5, 0.5, 0)
    # erfc(x) = exp(-x^2) X(x), X(x) (1 + 2x) as a polynomial in t = (x - 4) / (x + 4)
    back = lambda t: 4 * (1 + t) / (1 - t)
    x = lambda t: mp.exp(back(t) ** 2) * mp.erfc(back(t)) * (1 + 2 * back(t))
    fit("ERFC_F64", "f64", 23, x, lambda t: 1 / x(t), mp.mpf("-0.78"), mp.mpf("0.75"), 0)


if __name__ == "__main__":
    main()
