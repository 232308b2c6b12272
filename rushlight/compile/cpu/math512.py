"""Elementary functions of float32 vectors for AVX-512: tables of sixteen numbers that lie in a register.

With powers of 2^(1/16) from a table, exp needs a polynomial of half the degree, and so does log with logarithms of sixteenths. What
is out of range, infinite or NaN is taken care of by instructions made for it, so there is no branch for rare numbers: around one, all
that lies in registers would be saved.

All of them have few operations for the multipliers (two a cycle on most processors), the rest for the units beside them.
"""

from __future__ import annotations

import math

import numpy as np

from rushlight.compile.cpu import coefficients as c
from rushlight.compile.cpu.mathlib import at_least, at_most, defines, pairs, poly
from rushlight.compile.cpu.registers import exponent, lookup, mantissa, nearer, repaired, scalef, scalef_from
from rushlight.compile.cpu.values import V, mad, where

__all__: list[str] = []

LOG2E = 1 / math.log(2)
LN2 = float(np.float32(math.log(2)))
LN2_REST = math.log(2) - LN2
LN2_SHORT = float.fromhex("0x1.62e4p-1")  # a multiple of 2^-15: times an exponent, plus an entry of a table it is exact
LN2_SHORT_REST = math.log(2) - LN2_SHORT
LOG10_2_SHORT = float.fromhex("0x1.344p-2")  # times an exponent it is exact, and what is left has its sign
LOG10_2_REST = math.log10(2) - LOG10_2_SHORT
LOG10E = float(np.float32(1 / math.log(10)))
LOG10E_REST = 1 / math.log(10) - LOG10E
SIXTEENTHS = 1.5 * 2.0**19  # added to a small number, it leaves its sixteenths in the low bits
UNITS = 1.5 * 2.0**23
NOTHING = -150.5  # smaller powers of two are rounded to 0, and so are those that are a 32nd larger

#: 2^(k / 16), and what its logarithm is more than that of the rounded number.
POWERS = [float(np.float32(2.0 ** (k / 16))) for k in range(16)]
MORE = [k / 16 * math.log(2) - math.log(p) for k, p in enumerate(POWERS)]


def _grid(reciprocals: tuple[float, ...]) -> list[float]:
    """-log(r), each a multiple of 2^-17."""
    return [round(-math.log(r) * 2**17) / 2**17 for r in reciprocals]


LOGS, LOGS_1P = _grid(c.LOG_RECIPROCALS), _grid(c.LOG1P_RECIPROCALS)


def _less_index(numbers: list[float], index_bit: int) -> list[float]:
    """The numbers with their index subtracted from the bits, from ``index_bit`` on."""
    bits = np.array(numbers, np.float32).view(np.int32) - (np.arange(16, dtype=np.int32) << index_bit)
    return [float(x) for x in bits.view(np.float32)]


POWERS_LESS_INDEX = _less_index(POWERS, 19)
HALF_POWERS_LESS_INDEX = _less_index([p / 2 for p in POWERS], 19)


def _grown(table: list[float], sixteenths: V) -> V:
    """table[k] 2^n where the low bits of ``sixteenths`` are 16 n + k: they are added to the exponent together, and the entries, of
    ``_less_index``, lack what k adds."""
    return (lookup(table, sixteenths).bits() + (sixteenths << 19)).as_float()


def _reduced(x: V) -> tuple[V, V, V]:
    """(16 n / log(2) as bits, n / log(2), r): x = n + r, |r| <= log(2) / 32; r is NaN or anything where x is huge."""
    shifted = mad(x, LOG2E, SIXTEENTHS)
    n = shifted - SIXTEENTHS
    return shifted.bits(), n, mad(n, -LN2_REST, mad(n, -LN2, x))


def _times(power: V, growth: V) -> V:
    """power * (1 + growth)"""
    return mad(power, growth, power)


@defines("exp", "float", registers=True)
def exp(x: V) -> V:
    index, n, r = _reduced(x)
    r = nearer(r, 0.0225)
    return scalef_from(NOTHING, _times(lookup(POWERS, index), mad(r * r, poly(r, c.EXP_TABLE_F32), r)), n)


@defines("exp2", "float", registers=True)
def exp2(x: V) -> V:
    return _exp2(x, 0.0313)


def _exp2(x: V, bound: float = 0.0, least: float = NOTHING) -> V:
    """2^x, but 0 for x below ``least``; with a ``bound`` of the remainder also for numbers whose sixteenths are not known."""
    shifted = x + SIXTEENTHS
    n = shifted - SIXTEENTHS
    r = nearer(x - n, bound) if bound else x - n
    return scalef_from(least, _times(lookup(POWERS, shifted.bits()), r * poly(r, c.EXP2_TABLE_F32)), n)


@defines("expm1", "float", registers=True)
def expm1(x: V) -> V:
    # With half the power: the power itself may be infinite where the result is not.
    index, _, r = _reduced(at_most(at_least(x, -30.0), 89.0))
    r = r + lookup(MORE, index)
    half = _grown(HALF_POWERS_LESS_INDEX, index)
    value = mad(half, mad(r * r, poly(r, c.EXPM1_TABLE_F32), r), half - 0.5)
    return (value + value).copysign(x)


@defines("tanh", "float", registers=True)
def tanh(x: V) -> V:
    # m / (m + 1) for m = expm1(2a) / 2; tanh(10) rounds to 1. log(2) needs not have more digits than one number: where they would
    # count, tanh hardly changes any more.
    a = at_most(x.abs(), 10.0)
    shifted = mad(a, 2 * LOG2E, SIXTEENTHS)
    r = mad(shifted - SIXTEENTHS, -math.log(2) / 2, a) + lookup([m / 2 for m in MORE], shifted.bits())
    terms = [t * 2.0 ** (k + 1) for k, t in enumerate(c.EXPM1_TABLE_F32)]
    power = _grown(POWERS_LESS_INDEX, shifted.bits())
    m = mad(power, mad(r * r, poly(r, terms), r), mad(power, 0.5, -0.5))
    t = m / (m + 1.0)
    # = m - m t. Where m is small, m + 1 has lost digits of it, and this counts m times less than in t.
    return where(m.lt(0.5), mad(-m, t, m), t).copysign(x)


@defines("log", "float", registers=True)
def log(x: V) -> V:
    m = mantissa(x)
    index, k = (m + SIXTEENTHS).bits(), exponent(x) - exponent(m)
    f = mad(m, lookup(c.LOG_RECIPROCALS, index), -1.0)
    return _log_sum(k, lookup(LOGS, index), f)


def _log_sum(k: V, entry: V, f: V) -> V:
    """k log(2) + entry + log(1 + f)"""
    low = mad(f * f, pairs(f, c.LOG_TABLE_F32), k * LN2_SHORT_REST)
    return mad(k, LN2_SHORT, entry) + (f + low)


def _log_of_mantissa(x: V) -> tuple[V, V, V]:
    """(k, high, low) for x = m 2^k, m in [3/4, 3/2), log(m) = high + low."""
    m = mantissa(x)
    index = (m + SIXTEENTHS).bits()
    f, entry = mad(m, lookup(c.LOG_RECIPROCALS, index), -1.0), lookup(LOGS, index)
    total = entry + f
    return exponent(x) - exponent(m), total, mad(f * f, pairs(f, c.LOG_TABLE_F32), f - (total - entry))


@defines("log2", "float", registers=True)
def log2(x: V) -> V:
    k, high, low = _log_of_mantissa(x)
    return mad(high + low, LOG2E, k)


@defines("log10", "float", registers=True)
def log10(x: V) -> V:
    k, high, low = _log_of_mantissa(x)
    return mad(k, LOG10_2_SHORT, mad(high, LOG10E, mad(low, LOG10E, mad(high, LOG10E_REST, k * LOG10_2_REST))))


@defines("log1p", "float", registers=True)
def log1p(x: V) -> V:
    # 1 + x = 2^k / r (1 + f), and with s = 2^-k r, f = s x + (s - 1) loses nothing of x to the rounding of 1 + x.
    u = x + 1.0
    m = mantissa(u)
    index, less = (m + SIXTEENTHS).bits(), exponent(m) - exponent(u)
    s = scalef(lookup(c.LOG_RECIPROCALS, index), less)
    value = _log_sum(-less, lookup(LOGS, index), mad(x, s, s - 1.0))
    return repaired(value, u).copysign(x)  # the sign of -0


@defines("log1p_exp", "float", registers=True)
def log1p_exp(x: V) -> V:
    # max(x, 0) + log(1 + u) for u = exp(-|x|)
    a = at_most(x.abs(), 105.0)
    shifted = mad(a, -LOG2E, SIXTEENTHS)
    n, index = shifted - SIXTEENTHS, shifted.bits()
    low = mad(n, -LN2_REST, lookup(MORE, index))
    r = mad(n, -LN2, -a) + low
    u = _times(scalef_from(NOTHING, lookup(POWERS, index), n), mad(r * r, poly(r, c.EXP_TABLE_F32), r))
    index = mad(u, 15.0, UNITS).bits()
    reciprocal = lookup(c.LOG1P_RECIPROCALS, index)
    f = mad(u, reciprocal, reciprocal - 1.0)
    return at_least(x, 0.0) + lookup(LOGS_1P, index) + mad(f * f, pairs(f, c.LOG_TABLE_F32), f)


@defines("normal_cdf", "float", registers=True)
def normal_cdf(x: V) -> V:
    """To 2^-24, as the general one. 0 below 2^-100: what it is multiplied by (a gradient) would make numbers of it that are not normal."""
    below = _exp2(poly(at_most(x.abs(), 12.0), c.NORMAL_LOG_F32), least=-100.0)
    return where(x.lt(0.0), below, 1.0 - below)


@defines("erf", "float", registers=True)
def erf(x: V) -> V:
    a = at_most(x.abs(), 4.0)  # erf(4) rounds to 1
    near = mad(a, poly(a * a, c.ERF_F32), a)
    power = poly(a, c.ERF_LOG_F32)
    shifted = power + SIXTEENTHS
    r = power - (shifted - SIXTEENTHS)
    grown = _grown(POWERS_LESS_INDEX, shifted.bits())
    far = mad(-grown, r * poly(r, c.EXP2_TABLE_F32), 1.0 - grown)
    return where(a.lt(0.89), near, far).copysign(x)
