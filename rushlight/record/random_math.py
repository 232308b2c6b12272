"""The arithmetic behind the matching random stream, reproduced to the last bit.

PyTorch's CPU distributions are compiled C++: products and sums contract to fused multiply-adds, double precision
calls the C library, and blocks of float32 normals go through the Cephes polynomials for log and sin/cos in vector
registers. NumPy's own functions are as accurate but round differently, so the same steps are spelled out here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F32 = np.float32
F64 = np.float64

# Cephes single precision: log(1 + x) on [sqrt(1/2) - 1, sqrt(2) - 1]; ln 2 in two parts; sin and cos on [-pi/4, pi/4];
# pi/4 in three parts for the argument reduction.
_LOG_POLY = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_LN2_HI, _LN2_LO = 0.693359375, -2.12194440e-4
_SQRT_HALF = F32(math.sqrt(0.5))
_SIN_POLY = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS_POLY = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_PI_4_PARTS = (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)


def libm(function: Callable[[float], float], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`function` (from `math`, that is, from the C library) of every element, as a flat float64 array."""
    return np.fromiter(map(function, values.ravel().tolist()), F64, values.size)


def cast(values: NDArray, dtype: np.dtype) -> NDArray:
    """Conversion as C does it: a narrower dtype overflows to infinity (or wraps) in silence."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype, copy=False)


def c_exp(x: float) -> float:
    """`exp` as C has it: infinity where Python raises."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def c_log(x: float) -> float:
    """`log` as C has it at zero."""
    return math.log(x) if x > 0.0 else -math.inf


def fma32(a: NDArray, b: NDArray | np.floating | float, c: NDArray | np.floating | float) -> NDArray[np.float32]:
    """float32 `a * b + c` with one rounding: the product of two float32 numbers is exact in float64."""
    return (a.astype(F64) * b + c).astype(F32)


def fma64(a: NDArray[np.float64], b: float, c: float) -> NDArray[np.float64]:
    """float64 `a * b + c` with one rounding, from error-free products (Dekker) and sums (Knuth)."""
    split = F64(134217729.0)  # 2**27 + 1 halves a 53-bit significand
    b, c = F64(b), F64(c)
    product = a * b
    t = split * a
    a_hi = t - (t - a)
    a_lo = a - a_hi
    t_b = split * b
    b_hi = t_b - (t_b - b)
    b_lo = b - b_hi
    product_error = ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo
    total = product + c
    c_part = total - product
    sum_error = (product - (total - c_part)) + (c - c_part)
    return total + (sum_error + product_error)


def _poly32(x: NDArray[np.float32], coefficients: tuple[float, ...]) -> NDArray[np.float32]:
    y = np.full_like(x, F32(coefficients[0]))
    for coefficient in coefficients[1:]:
        y = fma32(y, x, F32(coefficient))
    return y


def log32(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cephes float32 natural logarithm of positive normal numbers."""
    bits = x.view(np.int32)
    exponent = ((bits >> 23) - 126).astype(F32)
    mantissa = ((bits & 0x007FFFFF) | 0x3F000000).view(F32)  # in [1/2, 1)
    small = mantissa < _SQRT_HALF
    exponent -= small
    m = (mantissa - F32(1)) + np.where(small, mantissa, F32(0))
    z = m * m
    y = fma32(_poly32(m, _LOG_POLY) * m, z, exponent * F32(_LN2_LO))
    y = m + fma32(z, F32(-0.5), y)
    return fma32(exponent, F32(_LN2_HI), y)


def sincos32(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cephes float32 sine and cosine of small non-negative numbers."""
    octant = (x * F32(4 / math.pi)).astype(np.int32)
    octant = (octant + 1) & ~1
    n = octant.astype(F32)
    for part in _PI_4_PARTS:
        x = fma32(n, -F32(part), x)
    z = x * x
    cos = fma32(_poly32(z, _COS_POLY) * z, z, z * F32(-0.5)) + F32(1)
    sin = fma32(_poly32(z, _SIN_POLY) * z, x, x)
    swap = (octant & 2) != 0
    sin, cos = np.where(swap, cos, sin), np.where(swap, sin, cos)
    np.negative(sin, out=sin, where=(octant & 4) != 0)
    np.negative(cos, out=cos, where=((octant + 2) & 4) != 0)
    return sin, cos


def box_muller32(uniforms: NDArray, mean: float, std: float) -> NDArray:
    """Normals from blocks of uniforms: `(n, 16)` float32 in [0, 1) to `(n, 16)`; eight radii by eight angles."""
    out = np.empty_like(uniforms)
    rows = 2048  # the temporaries of a slab stay in the cache
    for start in range(0, len(uniforms), rows):
        slab = uniforms[start : start + rows]
        radius = np.sqrt(F32(-2) * log32(F32(1) - slab[:, :8]))
        sin, cos = sincos32(F32(2 * math.pi) * slab[:, 8:])
        out[start : start + rows, :8] = fma32(radius * cos, F32(std), F32(mean))
        out[start : start + rows, 8:] = fma32(radius * sin, F32(std), F32(mean))
    return out


def box_muller64(uniforms: NDArray, mean: float, std: float) -> NDArray:
    """As `box_muller32`, in double precision."""
    half = (len(uniforms), 8)
    radius = np.sqrt(-2.0 * libm(math.log, 1.0 - uniforms[:, :8]))
    angle = (2.0 * math.pi) * uniforms[:, 8:].ravel()
    cos, sin = (radius * libm(math.cos, angle)).reshape(half), (radius * libm(math.sin, angle)).reshape(half)
    return fma64(np.concatenate([cos, sin], axis=1), std, mean)
