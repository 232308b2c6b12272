"""Elementary functions of float32 vectors; those not here go through float64 (``_WIDENED``)."""

from __future__ import annotations

import math

from rushlight.compile.cpu import coefficients as c
from rushlight.compile.cpu import target
from rushlight.compile.cpu.mathlib import (
    at_least,
    at_most,
    defines,
    normal,
    poly,
    power_of_two,
    rarely,
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
MAGIC = 1.5 * 2.0**23  # added to a small number, it leaves a whole number in the low bits

#: pi in three numbers.
PI = (3.141592502593994, 1.5099578831723193e-07, 1.0780605906948477e-14)

HALF_PI = tuple(x / 2 for x in PI)

_WIDENED = ("log2", "log10", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "erfc", "hypot", "fmod")
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
    # expm1(2a) / (expm1(2a) + 2); tanh(10) rounds to 1. An error of r is an error of the result only where n > 0, and there
    # half of it or less counts: log(2) need not have more digits than one number.
    a = at_most(x.abs(), 10.0)
    shifted = mad(a, 2 * LOG2E, MAGIC)  # 2a / log(2) rounded to a whole number, in the low bits
    r = mad(shifted - MAGIC, -math.log(2), a + a)
    grown = ((shifted.bits() + 127) << 23).as_float()
    return tanh_from(grown, r, poly(r, c.EXPM1_F32)).copysign(x)


def tanh_from(grown: V, r: V, q: V, exact_sum: bool = False) -> V:
    """tanh(a) for 2a = n log(2) + r, 2^n and expm1(r) = r + r^2 q; ``exact_sum``: make up for the rounding of em + 2."""
    square = r * r
    p = mad(square, q, r)
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
    e, _ = _exponent(x)
    m = (x.bits() - (e << 23)).as_float()
    return rarely("log_of_any", x, _log_tail(m - 1.0, e.convert("sitofp", "float")), _special(x))


@defines("log_of_any", "float")
def log_of_any(x: V) -> V:
    y, shift = normal(x)
    m, e = split_exponent(y)
    return _log_specials(_log_tail(m - 1.0, e + shift), x)


def _exponent(x: V) -> tuple[V, V]:
    """(e as i32, 2^-e) with x 2^-e in [sqrt(1/2), sqrt(2)), for positive normal x."""
    e = (x.bits() - 0x3F3504F3) >> 23
    return e, (const(x.f, "i32", x.lanes, 0x3F800000) - (e << 23)).as_float()


def _special(x: V, beyond: int = 0x7F800000) -> V:
    """Whether x is anything but a positive normal number below the one whose bits are ``beyond``."""
    return (x.bits() - 0x00800000).uge(beyond - 0x00800000)


def _log_tail(f: V, e: V) -> V:
    """log(1 + f) + e log(2)"""
    square = f * f
    low = mad(e, LN2_LO, square * mad(f, poly(f, c.LOG_F32), -0.5))
    return mad(e, LN2_HI, f + low)


def _log_specials(result: V, x: V) -> V:
    """log of +inf, NaN, 0 and negative numbers."""
    result = where(x.lt(math.inf), result, x)
    zero = where(x.eq(0.0), const(x.f, x.type, x.lanes, -math.inf), math.nan)
    return where(x.le(0.0), zero, result)


@defines("log1p", "float")
def log1p(x: V) -> V:
    u, value = _log1p_tail(x)
    return rarely("log1p_of_any", x, value, _special(u, 0x7EB504F3))  # from there on 2^-e is no normal number


@defines("log1p_exp", "float")
def log1p_exp(x: V) -> V:
    """log(1 + exp(x)), by way of exp(-|x|), for which one polynomial serves."""
    p, n = exp_parts(at_least(-x.abs(), -106.0), c.EXP_F32)
    u = scale(p + 1.0, n)
    return where(x.lt(0.0), 0.0, x) + mad(u * u, poly(u, c.LOG1P_UNIT_F32), u)


@defines("log1p_of_any", "float")
def log1p_of_any(x: V) -> V:
    u, value = _log1p_tail(x)
    return where(x.lt(2.0**60), _log_specials(value, u), log_of_any(x))


def _log1p_tail(x: V) -> tuple[V, V]:
    """(1 + x, log(1 + x)). 1 + x = 2^e (1 + f), and f = 2^-e x + (2^-e - 1) loses nothing of x to the rounding of 1 + x."""
    u = x + 1.0
    e, shrunk = _exponent(u)
    f = mad(x, shrunk, shrunk - 1.0)  # the product is exact
    return u, _log_tail(f, e.convert("sitofp", "float")).copysign(x)  # the sign of -0


def _sin_cos(x: V, quarter: bool, name: str) -> V:
    """sin, or cos for ``quarter``, that is sin a quarter turn ahead. n pi is subtracted in three parts, of which the first leaves no
    rounding; what is left is within a quarter turn from 0."""
    if not target.current().fma:
        return _sin_cos_of_any(x, quarter, f"{name}f")
    a = x.abs()
    shifted = mad(a, 1 / math.pi, -0.5 if quarter else MAGIC)
    shifted = shifted + MAGIC if quarter else shifted
    n = shifted - MAGIC
    n = n + 0.5 if quarter else n
    r = fma(n, -PI[2], fma(n, -PI[1], fma(n, -PI[0], a)))
    value = _turned(r, shifted.bits(), x, quarter)
    return rarely(f"{name}_of_any", x, value, ~a.lt(2.0**13))


def _sin_cos_of_any(x: V, quarter: bool, name: str) -> V:
    """The reduction is in float64, good to 2^30; beyond: the C library."""
    a = x.abs()
    wide = a.convert("fpext", "double")
    n = mad(wide, 1 / math.pi, -0.5).nearest() if quarter else (wide * (1 / math.pi)).nearest()
    turns = n + 0.5 if quarter else n
    r = mad(turns, -1.2246467991473532e-16, fma(turns, -math.pi, wide)).convert("fptrunc", "float")
    value = _turned(r, whole_bits(n).convert("trunc", "i32"), x, quarter)
    return slow_lanes(name, [x], value, a.ge(2.0**30))


def _turned(r: V, n: V, x: V, quarter: bool) -> V:
    """sin(|x|) with the sign of x for |x| = r + n pi; cos(x) for |x| = r + (n + 1/2) pi."""
    z = r * r
    value = mad(r * z, poly(z, c.SIN_F32), r).bits()
    sign = ~(n << 31) if quarter else (n << 31) ^ x.bits()
    return (value ^ sign & -(2**31)).as_float()


@defines("sin", "float")
def sin(x: V) -> V:
    return _sin_cos(x, False, "sin")


@defines("cos", "float")
def cos(x: V) -> V:
    return _sin_cos(x, True, "cos")


@defines("sin_of_any", "float")
def sin_of_any(x: V) -> V:
    return _sin_cos_of_any(x, False, "sinf")


@defines("cos_of_any", "float")
def cos_of_any(x: V) -> V:
    return _sin_cos_of_any(x, True, "cosf")


@defines("tan", "float")
def tan(x: V) -> V:
    """|x| = r + n pi / 2, within an eighth of a turn from 0; -1 / tan(r) for odd n."""
    if not target.current().fma:
        return tan_of_any(x)
    a = x.abs()
    shifted = mad(a, 2 / math.pi, MAGIC)
    n = shifted - MAGIC
    high = fma(n, -HALF_PI[0], a)
    first = fma(n, -HALF_PI[1], high)
    # What rounding took from r, and below from t: the slope of tan makes up to twice as much of the one, the reciprocal of the other.
    gone = high - first
    back = gone - high
    lost = (high - (gone - back)) - (first + back)  # by this subtraction
    low = fma(n, -HALF_PI[2], fma(n, -HALF_PI[1], gone) + lost)
    r = first + low
    low = (first - r) + low
    z = r * r
    more = mad(low, mad(z, 1.5, 1.0), r * z * poly(z, c.TAN_F32))
    t = r + more
    rest = (r - t) + more
    turned = -1.0 / t
    turned = mad(turned, mad(turned, t, 1.0) + turned * rest, turned)
    value = where((shifted.bits() & 1).eq(0), t, turned)
    return rarely("tan_of_any", x, (value.bits() ^ (x.bits() & -(2**31))).as_float(), ~a.lt(2.0**13))


tan_of_any = defines("tan_of_any", "float")(widened("tan"))


@defines("atan", "float")
def atan(x: V) -> V:
    """pi / 2 - atan(1 / x) beyond 1."""
    a = x.abs()
    far = a.gt(1.0)
    r = where(far, 1.0 / a, a)
    z = r * r
    near = mad(r * z, poly(z, c.ATAN_F32), r)
    return where(far, (HALF_PI[0] - near) + HALF_PI[1], near).copysign(x)


def _asin_parts(x: V) -> tuple[V, V, V]:
    """(whether |x| is beyond 1/2, s, asin(s)): s = |x|, and there the square root of (1 - |x|) / 2, for asin(|x|) = pi / 2 - 2 asin(s)."""
    a = x.abs()
    far = a.gt(0.5)
    z = where(far, mad(a, -0.5, 0.5), a * a)
    s = where(far, z.sqrt(), a)
    return far, s, mad(s * z, poly(z, c.ASIN_F32), s)


@defines("asin", "float")
def asin(x: V) -> V:
    far, _, p = _asin_parts(x)
    return where(far, (HALF_PI[0] - (p + p)) + HALF_PI[1], p).copysign(x)


@defines("acos", "float")
def acos(x: V) -> V:
    far, _, p = _asin_parts(x)
    twice = p + p
    return where(far, where(x.lt(0.0), (PI[0] - twice) + PI[1], twice), (HALF_PI[0] - p.copysign(x)) + HALF_PI[1])


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


