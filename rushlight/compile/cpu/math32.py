"""Elementary functions of float32 vectors; those not here go through float64 (``_WIDENED``)."""

from __future__ import annotations

import math

from rushlight.compile.cpu import coefficients as c
from rushlight.compile.cpu.mathlib import (
    at_least,
    at_most,
    defines,
    normal,
    poly,
    power_of_two,
    scale,
    slow_lanes,
    split_exponent,
    whole_bits,
    widened,
)  # fmt: skip
from rushlight.compile.cpu.values import V, const, fma, mad, where

__all__: list[str] = []

LN2_HI = float.fromhex("0x1.62e4p-1")  # 16 bits: n * LN2_HI is exact
LN2_LO = 1.4286068203094173e-06
LOG2E = 1 / math.log(2)

_WIDENED = ("log2", "log10", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh",
            "erfc", "hypot", "fmod")
for _name in _WIDENED:
    defines(_name, "float")(widened(_name))


def reduced(x: V) -> tuple[V, V]:
    """(n, r): x = n log(2) + r."""
    n = (x * LOG2E).nearest()
    return n, mad(n, -LN2_LO, mad(n, -LN2_HI, x))


def exp_parts(x: V, terms: tuple[float, ...]) -> tuple[V, V]:
    """(p, n): exp(x) = (1 + p) 2^n."""
    n, r = reduced(x)
    return mad(r * r, poly(r, terms), r), n


@defines("exp", "float")
def exp(x: V) -> V:
    p, n = exp_parts(at_most(at_least(x, -106.0), 92.0), c.EXP_F32)
    return scale(p + 1.0, n)


@defines("exp2", "float")
def exp2(x: V) -> V:
    x = at_most(at_least(x, -152.0), 130.0)
    n = x.nearest()
    r = (x - n) * math.log(2)
    return scale(mad(r * r, poly(r, c.EXP_F32), r) + 1.0, n)


@defines("expm1", "float")
def expm1(x: V) -> V:
    p, n = exp_parts(at_most(at_least(x, -20.0), 92.0), c.EXPM1_F32)
    return scale(p + (1.0 - scale(const(x.f, x.type, x.lanes, 1.0), -n)), n).copysign(x)  # the sign of -0


@defines("tanh", "float")
def tanh(x: V) -> V:
    # expm1(2a) / (expm1(2a) + 2); 2a <= 20 keeps n within what 2^-n needs, and tanh(10) rounds to 1.
    n, r = reduced(at_most(x.abs() * 2.0, 20.0))
    return tanh_from(n, r, poly(r, c.EXPM1_F32)).copysign(x)


def tanh_from(n: V, r: V, q: V, exact_sum: bool = False) -> V:
    """tanh(a) for 2a = n log(2) + r and expm1(r) = r + r^2 q; ``exact_sum``: make up for the rounding of em + 2."""
    square = r * r
    p = mad(square, q, r)
    grown = power_of_two(n)
    less = grown - 1.0
    em = mad(grown, p, less)
    # Add what rounding p and em lost, times the derivative of t = em / (em + 2), which is (1 - t)^2 / 2.
    lost = mad(grown, mad(square, q, r - p), mad(grown, p, less - em))
    below = em + 2.0
    t = em / below
    rest = 1.0 - t  # 2 / (em + 2)
    change = lost * rest
    if exact_sum:
        change = change - t * (em - (below - 2.0))
    return at_most(mad(change * 0.5, rest, t), 1.0) if exact_sum else mad(change * 0.5, rest, t)


@defines("log", "float")
def log(x: V) -> V:
    y, shift = normal(x)
    m, e = split_exponent(y)
    return _log_specials(_log_tail(m - 1.0, e + shift, None), x)


def _log_tail(f: V, e: V, correction: V | None) -> V:
    square = f * f
    low = mad(e, LN2_LO, square * mad(f, poly(f, c.LOG_F32), -0.5))
    if correction is not None:
        low = low + correction
    return mad(e, LN2_HI, f + low)


def _log_specials(result: V, x: V) -> V:
    """log of +inf, NaN, 0 and negative numbers."""
    result = where(x.lt(math.inf), result, x)
    zero = where(x.eq(0.0), const(x.f, x.type, x.lanes, -math.inf), math.nan)
    return where(x.le(0.0), zero, result)


@defines("log1p", "float")
def log1p(x: V) -> V:
    u = x + 1.0
    m, e = split_exponent(u)
    lost = where(x.gt(1.0), 1.0 - (u - x), x - (u - 1.0))  # what the addition rounded away
    near = e.eq(0.0)
    result = _log_tail(where(near, x, m - 1.0), e, where(near, const(x.f, x.type, x.lanes, 0.0), lost / u))
    result = where(x.eq(0.0), x, result)
    return where(x.lt(math.inf), _log_specials(result, u), x)


def _sin_cos(x: V, quadrants: int, name: str) -> V:
    """sin for 0, cos for 1 ``quadrants`` ahead. The reduction is in float64, good to 2^30; beyond: the C library."""
    wide = x.convert("fpext", "double")
    n = (wide * (2 / math.pi)).nearest()
    r = mad(n, -6.123233995736766e-17, fma(n, -math.pi / 2, wide)).convert("fptrunc", "float")
    q = whole_bits(n).convert("trunc", "i32") + quadrants
    z = r * r
    sine = mad(r * z, poly(z, c.SIN_F32), r)
    cosine = mad(z * z, poly(z, c.COS_F32), mad(z, -0.5, 1.0))
    value = where((q & 1).ne(0), cosine, sine)
    value = (value.bits() ^ ((q & 2) << 30)).as_float()
    return slow_lanes(name, [x], value, x.abs().ge(2.0**30))


@defines("sin", "float")
def sin(x: V) -> V:
    return where(x.eq(0.0), x, _sin_cos(x, 0, "sinf"))


@defines("cos", "float")
def cos(x: V) -> V:
    return _sin_cos(x, 1, "cosf")


@defines("erf", "float")
def erf(x: V) -> V:
    a = at_most(x.abs(), 4.0)  # erf(4) rounds to 1
    near = mad(a, poly(a * a, c.ERF_F32), a)
    exponent = poly(a, c.ERF_LOG_F32)
    n = exponent.nearest()
    r = exponent - n
    far = 1.0 - mad(r, poly(r, c.EXP2_SHORT_F32), 1.0) * power_of_two(n)
    return where(a.lt(0.89), near, far).copysign(x)


@defines("normal_cdf", "float")
def normal_cdf(x: V) -> V:
    """To 2^-24, not to the last places of small values: what ``(1 + erf(x / sqrt(2))) / 2`` gives."""
    exponent = at_least(poly(x.abs(), c.NORMAL_LOG_F32), -127.0)
    n = exponent.nearest()
    r = exponent - n
    below = mad(r, poly(r, c.EXP2_F32), 1.0) * power_of_two(n)  # 0 for n = -127
    return where(x.lt(0.0), below, 1.0 - below)


@defines("pow", "float")
def pow_(x: V, y: V) -> V:
    # In float64, to about 2^-34: the logarithm and the exponential are short, and rounding comes once, at the end.
    a, b = x.abs().convert("fpext", "double"), y.convert("fpext", "double")
    m, e = split_exponent(a)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    log_a = mad(e, math.log(2), mad(s * z, poly(z, c.LOG_F64_SHORT), s + s))
    t = at_most(at_least(log_a * b, -150.0), 130.0)
    n = (t * LOG2E).nearest()
    r = mad(n, -math.log(2), t)
    grown = scale(mad(r * r, poly(r, c.EXP_F64_SHORT), r) + 1.0, n).convert("fptrunc", "float")
    return power_specials(x, y, grown)


def power_specials(x: V, y: V, size: V) -> V:
    """pow(x, y) from ``size`` = pow(|x|, y) for finite, positive |x| and y: IEEE's rules for everything else."""
    a = x.abs()
    whole = y.trunc().eq(y)
    half = y * 0.5
    odd = whole & half.trunc().ne(half) & y.abs().lt(2.0 ** (24 if x.type == "float" else 53))
    inf = const(x.f, x.type, x.lanes, math.inf)
    # |x| is 0 or infinite, or y is infinite: 0 or infinity, by whether |x| is beyond 1 on y's side
    grows = a.gt(1.0) ^ y.lt(0.0)
    extreme = a.eq(0.0) | a.eq(math.inf) | y.abs().eq(math.inf)
    size = where(extreme, where(grows, inf, 0.0), size)
    size = where(a.eq(1.0), 1.0, size)
    sign_bit = 1 << (31 if x.type == "float" else 63)
    sign = where(odd, x.bits() & sign_bit, 0)
    value = (size.bits() | sign).as_float()
    value = where(x.lt(0.0) & ~whole & a.lt(math.inf), math.nan, value)
    value = where(x.isnan() | y.isnan(), math.nan, value)
    return where(y.eq(0.0) | x.eq(1.0), 1.0, value)


