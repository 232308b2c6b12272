"""Elementary functions of float64 vectors."""

from __future__ import annotations

import math

from rushlight.compile.cpu import coefficients as c
from rushlight.compile.cpu.math32 import power_specials, tanh_from
from rushlight.compile.cpu.mathlib import (
    at_least,
    at_most,
    call,
    defines,
    normal,
    poly,
    power_of_two,
    scale,
    slow_lanes,
    split_exponent,
    whole_bits,
)  # fmt: skip
from rushlight.compile.cpu.values import V, const, fma, mad, where

__all__: list[str] = []

LOG2E = 1 / math.log(2)
NOTHING = -1075.5  # 2^n and its double are rounded to 0 for smaller n
LN2_HI = float.fromhex("0x1.62e42feep-1")  # 32 bits: n * LN2_HI is exact
LN2_LO = float.fromhex("0x1.a39ef35793c76p-33")
# pi/2 in pieces: 33 bits, then two full doubles
PIO2_1, PIO2_2, PIO2_3 = 1.5707963267341256, 6.077100506506192e-11, 3.5215598651832e-27
PIO2_HI, PIO2_LO = math.pi / 2, 6.123233995736766e-17


def _one(x: V) -> V:
    return const(x.f, x.type, x.lanes, 1.0)


def two_product(a: V, b: V | float) -> tuple[V, V]:
    """a * b as an unevaluated sum."""
    high = a * b
    return high, fma(a, b, -high)


def two_sum(a: V, b: V) -> tuple[V, V]:
    """a + b as an unevaluated sum, whichever is greater."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fast_sum(a: V, b: V) -> tuple[V, V]:
    """a + b as an unevaluated sum, for |a| >= |b|."""
    total = a + b
    return total, b - (total - a)


def reduced(x: V) -> tuple[V, V]:
    """(n, r): x = n log(2) + r."""
    n = (x * LOG2E).nearest()
    return n, mad(n, -LN2_LO, mad(n, -LN2_HI, x))


def exp_parts(x: V, low: V | None = None) -> tuple[V, V]:
    """(p, n): exp(x + low) = (1 + p) 2^n."""
    n, r = reduced(x)
    if low is not None:
        r = r + low
    return mad(r * r, poly(r, c.EXP_F64), r), n


@defines("exp", "double")
def exp(x: V) -> V:
    p, n = exp_parts(at_most(at_least(x, -750.0), 720.0))
    return scale(p + 1.0, n, NOTHING)


@defines("exp2", "double")
def exp2(x: V) -> V:
    x = at_most(at_least(x, -1080.0), 1030.0)
    n = x.nearest()
    r = (x - n) * math.log(2)
    return scale(mad(r * r, poly(r, c.EXP_F64), r) + 1.0, n, NOTHING)


@defines("expm1", "double")
def expm1(x: V) -> V:
    p, n = exp_parts(at_most(at_least(x, -50.0), 720.0))
    return scale(p + (1.0 - scale(_one(x), -n)), n).copysign(x)


@defines("tanh", "double")
def tanh(x: V) -> V:
    n, r = reduced(at_most(x.abs() * 2.0, 44.0))
    return tanh_from(power_of_two(n), r, poly(r, c.EXP_F64), exact_sum=True).copysign(x)


@defines("sinh", "double")
def sinh(x: V) -> V:
    a = at_most(x.abs(), 720.0)
    z = a * a
    near = mad(a * z, poly(z, c.SINH_F64), a)
    p, n = exp_parts(a)
    half = scale(p + 1.0, n - 1.0)
    return where(a.lt(1.0), near, half - 0.25 / half).copysign(x)


@defines("cosh", "double")
def cosh(x: V) -> V:
    p, n = exp_parts(at_most(x.abs(), 720.0))
    half = scale(p + 1.0, n - 1.0)
    return half + 0.25 / half


# -- logarithms --------------------------------------------------------------------------------------------------------
def _log_core(f: V) -> tuple[V, V]:
    """(f^2/2, t): log(1 + f) = f - f^2/2 + t."""
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return half, s * (half + z * poly(z, c.LOG_F64))


def _log_specials(result: V, x: V) -> V:
    result = where(x.lt(math.inf), result, x)
    zero = where(x.eq(0.0), const(x.f, x.type, x.lanes, -math.inf), math.nan)
    return where(x.le(0.0), zero, result)


@defines("log", "double")
def log(x: V) -> V:
    y, shift = normal(x)
    m, e = split_exponent(y)
    e, f = e + shift, m - 1.0
    half, t = _log_core(f)
    return _log_specials(e * LN2_HI - ((half - (t + e * LN2_LO)) - f), x)


@defines("log1p", "double")
def log1p(x: V) -> V:
    u = x + 1.0
    m, e = split_exponent(u)
    lost = where(x.gt(1.0), 1.0 - (u - x), x - (u - 1.0))  # what the addition rounded away
    near = e.eq(0.0)
    f = where(near, x, m - 1.0)
    half, t = _log_core(f)
    correction = where(near, const(x.f, x.type, x.lanes, 0.0), lost / u)
    result = e * LN2_HI - ((half - (t + (e * LN2_LO + correction))) - f)
    result = where(x.eq(0.0), x, result)
    return where(x.lt(math.inf), _log_specials(result, u), x)


def _log_base(x: V, inverse: tuple[float, float], unit: tuple[float, float] | None) -> V:
    """log(x) / log(base): ``inverse`` is 1 / log(base) in two parts, ``unit`` log(2) / log(base) (None: exactly 1)."""
    y, shift = normal(x)
    m, e = split_exponent(y)
    e, f = e + shift, m - 1.0
    half, t = _log_core(f)
    high = ((f - half).bits() & -(1 << 32)).as_float()
    low = ((f - high) - half) + t
    main = high * inverse[0]
    rest = (low + high) * inverse[1] + low * inverse[0]
    if unit is None:
        whole = e
    else:
        whole, rest = e * unit[0], e * unit[1] + rest
    total = whole + main
    return _log_specials(rest + ((whole - total) + main) + total, x)


@defines("log2", "double")
def log2(x: V) -> V:
    return _log_base(x, (1.4426950407214463, 1.6751713164886512e-10), None)


@defines("log10", "double")
def log10(x: V) -> V:
    inverse = (0.4342944818781689, 2.5082946711645275e-11)
    return _log_base(x, inverse, (0.30102999566361177, 3.694239077158931e-13))


@defines("asinh", "double")
def asinh(x: V) -> V:
    a = x.abs()
    large = a.gt(2.0**28)
    square = a * a
    u = where(large, a - 1.0, a + square / ((square + 1.0).sqrt() + 1.0))
    return (call("log1p", u) + where(large, _one(x) * math.log(2), 0.0)).copysign(x)


@defines("acosh", "double")
def acosh(x: V) -> V:
    large = x.gt(2.0**28)
    t = x - 1.0
    u = where(large, t, t + mad(t, t, t + t).sqrt())
    result = call("log1p", u) + where(large, _one(x) * math.log(2), 0.0)
    return where(x.lt(1.0), math.nan, result)


@defines("atanh", "double")
def atanh(x: V) -> V:
    a = x.abs()
    return (call("log1p", (a + a) / (1.0 - a)) * 0.5).copysign(x)


# -- trigonometry ------------------------------------------------------------------------------------------------------
def _quadrant(x: V) -> tuple[V, V, V]:
    """(r, low, q): x = r + low + q pi/2 with |r| <= pi/4, for |x| < 2^20."""
    n = (x * (2 / math.pi)).nearest()
    a = mad(n, -PIO2_1, x)  # exact
    w, w_low = two_product(n, PIO2_2)
    r, low = two_sum(a, -w)
    low = low - w_low - n * PIO2_3
    r, low = fast_sum(r, low)
    return r, low, whole_bits(n)


def _sin_cos(x: V, quadrants: int, name: str) -> V:
    r, low, q = _quadrant(x)
    q = q + quadrants
    z = r * r
    half = z * 0.5
    sine = r + (r * z * poly(z, c.SIN_F64) + low * (1.0 - half))
    w = 1.0 - half
    cosine = w + (((1.0 - w) - half) + (z * z * poly(z, c.COS_F64) - r * low))
    value = where((q & 1).ne(0), cosine, sine)
    value = (value.bits() ^ ((q & 2) << 62)).as_float()
    return slow_lanes(name, [x], value, x.abs().ge(2.0**20))


@defines("sin", "double")
def sin(x: V) -> V:
    return where(x.eq(0.0), x, _sin_cos(x, 0, "sin"))


@defines("cos", "double")
def cos(x: V) -> V:
    return _sin_cos(x, 1, "cos")


@defines("tan", "double")
def tan(x: V) -> V:
    r, low, q = _quadrant(x)
    z = r * r
    rest = r * z * poly(z, c.TAN_F64)
    t = r + rest
    tail = (rest - (t - r)) + low * mad(t, t, 1.0)
    # -1/(t + tail) with one step of correction
    inverse = -1.0 / t
    inverse = inverse + inverse * (fma(inverse, t, 1.0) + inverse * tail)
    value = where((q & 1).ne(0), inverse, t + tail)
    return where(x.eq(0.0), x, slow_lanes("tan", [x], value, x.abs().ge(2.0**20)))


def _arc_tangent(num: V, den: V) -> V:
    """atan(num / den) for num, den >= 0, not both 0 and not both infinite."""
    steep = num.gt(den * 2.414213562373095)
    middle = num.gt(den * 0.41421356237309503) & ~steep
    top = where(steep, -den, where(middle, num - den, num))
    bottom = where(steep, num, where(middle, num + den, den))
    t = top / bottom
    zero = const(num.f, num.type, num.lanes, 0.0)
    base = where(steep, PIO2_HI, where(middle, _one(num) * (math.pi / 4), 0.0))
    base_low = where(steep, PIO2_LO, where(middle, zero + PIO2_LO / 2, 0.0))
    z = t * t
    return base + (t + (t * z * poly(z, c.ATAN_F64) + base_low))


@defines("atan", "double")
def atan(x: V) -> V:
    return where(x.isnan(), x, _arc_tangent(at_most(x.abs(), 2.0**100), _one(x)).copysign(x))


@defines("atan2", "double")
def atan2(y: V, x: V) -> V:
    a, b = y.abs(), x.abs()
    # Both infinite: pi/4; both zero: 0. Halved, so that the sum of two huge numbers is finite.
    equal = a.eq(b)
    a, b = where(equal, where(a.eq(0.0), 0.0, _one(x)), a), where(equal, _one(x), b)
    huge = a.gt(2.0**1000) | b.gt(2.0**1000)
    a, b = where(huge, a * 0.25, a), where(huge, b * 0.25, b)
    base = _arc_tangent(where(b.eq(math.inf), 0.0, a), where(b.eq(math.inf), 1.0, b))
    base = where(a.eq(math.inf), PIO2_HI, base)
    behind = x.bits().lt(0)
    value = where(behind, math.pi - (base - 2 * PIO2_LO), base)
    return where(x.isnan() | y.isnan(), math.nan, value.copysign(y))


def _asin_poly(z: V) -> V:
    return z * poly(z, c.ASIN_F64)


def _root(z: V) -> tuple[V, V]:
    """sqrt(z) as an unevaluated sum."""
    s = z.sqrt()
    return s, where(s.eq(0.0), 0.0, fma(-s, s, z) / (s + s))


@defines("asin", "double")
def asin(x: V) -> V:
    a = x.abs()
    far = a.ge(0.5)
    z = where(far, (1.0 - a) * 0.5, a * a)
    r = _asin_poly(z)
    s, s_low = _root(z)
    away = math.pi / 4 - ((2.0 * (s * r + s_low) - PIO2_LO) - (math.pi / 4 - (s + s)))
    return where(far, away, mad(a, r, a)).copysign(x)


@defines("acos", "double")
def acos(x: V) -> V:
    a = x.abs()
    far = a.ge(0.5)
    z = where(far, (1.0 - a) * 0.5, a * a)
    r = _asin_poly(z)
    s, s_low = _root(z)
    near_one = 2.0 * (s + (s * r + s_low))
    near_minus = 2.0 * (PIO2_HI - (s + (s * r - PIO2_LO)))
    middle = PIO2_HI - (x - (PIO2_LO - x * r))
    return where(far, where(x.gt(0.0), near_one, near_minus), middle)


# -- error functions ---------------------------------------------------------------------------------------------------
def _erfc_tail(a: V) -> V:
    """erfc(a) for a in [0.5, 28]."""
    h, low = two_product(a, a)
    top = poly((a - 4.0) / (a + 4.0), c.ERFC_F64)
    bottom, bottom_low = fast_sum(a + a, _one(a))
    inverse = 1.0 / bottom
    x = top * inverse
    x_low = (fma(-x, bottom, top) - x * bottom_low) * inverse
    p, n = exp_parts(-h, -low)
    return scale(x + mad(x, p, x_low), n)


@defines("log1p_exp", "double")
def log1p_exp(x: V) -> V:
    return where(x.lt(0.0), 0.0, x) + call("log1p", call("exp", -x.abs()))


@defines("erf", "double")
def erf(x: V) -> V:
    a = at_most(x.abs(), 6.5)
    near = a * poly(a * a, c.ERF_F64)
    return where(a.lt(1.0), near, 1.0 - _erfc_tail(a)).copysign(x)


@defines("normal_cdf", "double")
def normal_cdf(x: V) -> V:
    return (call("erf", x * math.sqrt(0.5)) + 1.0) * 0.5


@defines("erfc", "double")
def erfc(x: V) -> V:
    a = at_most(x.abs(), 28.0)
    near = a * poly(a * a, c.ERF_F64)
    tail = _erfc_tail(a)
    right = where(a.lt(0.55), 1.0 - near, tail)
    left = where(a.lt(1.0), 1.0 + near, 2.0 - tail)
    return where(x.lt(0.0), left, right)


# -- others ------------------------------------------------------------------------------------------------------------
@defines("hypot", "double")
def hypot(x: V, y: V) -> V:
    a, b = x.abs(), y.abs()
    large, small = where(a.gt(b), a, b), where(a.gt(b), b, a)
    down, up = large.gt(2.0**500), large.lt(2.0**-500)
    factor = where(down, 2.0**-600, where(up, _one(x) * 2.0**600, 1.0))
    back = where(down, 2.0**600, where(up, _one(x) * 2.0**-600, 1.0))
    large, small = large * factor, small * factor
    value = fma(large, large, small * small).sqrt() * back
    value = where(x.isnan() | y.isnan(), math.nan, value)
    return where(a.eq(math.inf) | b.eq(math.inf), math.inf, value)


@defines("fmod", "double")
def fmod(x: V, y: V) -> V:
    # The remainder is exact for quotients below 2^52; one that was rounded up leaves a negative rest.
    a, b = x.abs(), y.abs()
    q = (a / b).trunc()
    r = fma(-q, b, a)
    r = where(r.lt(0.0), r + b, r)
    r = where(r.ge(b), r - b, r)
    rare = q.ge(2.0**52) & a.lt(math.inf)
    r = where(b.eq(math.inf) & a.lt(math.inf), a, r)
    return slow_lanes("fmod", [x, y], r.copysign(x), rare)


@defines("pow", "double")
def pow_(x: V, y: V) -> V:
    high, low = _log_double(x.abs())
    p, p_low = two_product(y, high)
    p_low = p_low + y * low
    outside = p.abs().ge(760.0)
    p_low = where(outside, 0.0, p_low)
    p = at_most(at_least(p, -760.0), 760.0)
    q, n = exp_parts(p, p_low)
    return power_specials(x, y, scale(q + 1.0, n))


def _log_double(x: V) -> tuple[V, V]:
    """log(x) to about 2^-65, as an unevaluated sum, for finite positive x.

    With s = (m - 1) / (m + 1): log(m) = 2s + s^3 (2/3 + z Q(z)), z = s^2; all but Q in doubled precision.
    """
    y, shift = normal(x)
    m, e = split_exponent(y)
    e, f = e + shift, m - 1.0
    d, d_low = fast_sum(_one(x) * 2.0, f)
    s = f / d
    s_low = (fma(-s, d, f) - s * d_low) / d
    z, z_low = two_product(s, s)
    z_low = z_low + 2.0 * (s * s_low)
    g, g_low = fast_sum(_one(x) * (2 / 3), z * poly(z, c.LOG_F64_TAIL))
    g_low = g_low + 3.700743415417188e-17
    u, u_low = two_product(s, z)
    u_low = u_low + s * z_low + s_low * z
    v, v_low = two_product(u, g)
    v_low = v_low + u * g_low + u_low * g
    high, low = fast_sum(s + s, v)
    low = low + (v_low + 2.0 * s_low)
    total, rest = two_sum(e * LN2_HI, high)
    return fast_sum(total, rest + (low + e * LN2_LO))


