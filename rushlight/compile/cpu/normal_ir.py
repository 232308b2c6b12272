"""Blocks of sixteen normals from sixteen numbers in [0, 1), in place, as LLVM IR: eight radii by eight angles (Box-Muller).

In float32 by the Cephes polynomials, in the order and with the roundings of PyTorch's vectorised CPU code; in float64 through the C
library.
"""

from __future__ import annotations

import math

from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.values import V, const, fma, where

__all__ = ["block32", "block64"]

# Cephes single precision: log(1 + x) on [sqrt(1/2) - 1, sqrt(2) - 1]; ln 2 in two parts; sin and cos on [-pi/4, pi/4];
# pi/4 in three parts for the argument reduction.
_LOG_POLY = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_LN2_HI, _LN2_LO = 0.693359375, -2.12194440e-4
_SIN_POLY = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS_POLY = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_PI_4_PARTS = (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)


def _poly(x: V, coefficients: tuple[float, ...]) -> V:
    y = const(x.f, "float", x.lanes, coefficients[0])
    for coefficient in coefficients[1:]:
        y = fma(y, x, coefficient)
    return y


def _log(x: V) -> V:
    """Natural logarithm of positive normal numbers."""
    bits = x.bits()
    exponent = ((bits >> 23) - 126).convert("sitofp", "float")
    mantissa = ((bits & 0x007FFFFF) | 0x3F000000).as_float()  # in [1/2, 1)
    small = mantissa.lt(math.sqrt(0.5))
    exponent = exponent - where(small, const(x.f, "float", x.lanes, 1.0), 0.0)
    m = (mantissa - 1.0) + where(small, mantissa, 0.0)
    z = m * m
    y = fma(_poly(m, _LOG_POLY) * m, z, exponent * _LN2_LO)
    y = m + fma(z, -0.5, y)
    return fma(exponent, _LN2_HI, y)


def _cos_sin(x: V) -> tuple[V, V]:
    """Of small non-negative numbers."""
    octant = ((x * (4 / math.pi)).convert("fptosi", "i32") + 1) & ~1
    n = octant.convert("sitofp", "float")
    for part in _PI_4_PARTS:
        x = fma(n, -part, x)
    z = x * x
    cos = fma(_poly(z, _COS_POLY) * z, z, z * -0.5) + 1.0
    sin = fma(_poly(z, _SIN_POLY) * z, x, x)
    swap = (octant & 2).ne(0)
    sign = (octant & 4) << 29  # the top bit
    sin_sign, cos_sign = sign, ((octant + 2) & 4) << 29
    return (where(swap, sin, cos).bits() ^ cos_sign).as_float(), (where(swap, cos, sin).bits() ^ sin_sign).as_float()


def block32(f: Function, place: str, mean: V, std: V, blocks: int) -> None:
    """One block, or two side by side, of float32."""
    lanes = 8 * blocks
    full = [V(f, f.let(f"load <16 x float>, ptr {f.at(place, 16 * k, 'float')}, align 4"), "float", 16) for k in range(blocks)]
    halves = [_picked(full, [16 * b + 8 * half + k for b in range(blocks) for k in range(8)]) for half in (0, 1)]
    radius = (_log(1.0 - halves[0]) * -2.0).sqrt()
    cos, sin = _cos_sin(halves[1] * (2 * math.pi))
    results = [fma(radius * part, std, mean) for part in (cos, sin)]
    for b in range(blocks):
        whole = _picked(results, [lanes * half + 8 * b + k for half in (0, 1) for k in range(8)])
        f.do(f"store {whole!r}, ptr {f.at(place, 16 * b, 'float')}, align 4")


def _picked(parts: list[V], which: list[int]) -> V:
    """These lanes of one vector, or of two side by side."""
    x = parts[0]
    second = repr(parts[1]) if len(parts) > 1 else f"{x.text} poison"
    mask = ", ".join([f"i32 {k}" for k in which])
    return V(x.f, x.f.let(f"shufflevector {x!r}, {second}, <{len(which)} x i32> <{mask}>"), x.type, len(which))


def block64(f: Function, place: str, mean: V, std: V, blocks: int) -> None:
    """One block, or two, of float64."""
    for name in ("log", "cos", "sin"):
        f.module.declare(f"double @{name}(double)")

    def call(name: str, x: V) -> V:
        return V(f, f.let(f"call double @{name}({x!r})"), "double")

    with f.loop(0, str(16 * blocks), 16) as b, f.loop(0, "8") as i:
        here = f.at(place, f.add(b, i), "double")
        there = f.at(here, 8, "double")
        unit, angle = [V(f, f.let(f"load double, ptr {at}"), "double") for at in (here, there)]
        radius = (call("log", 1.0 - unit) * -2.0).sqrt()
        angle = angle * (2 * math.pi)
        for at, name in ((here, "cos"), (there, "sin")):
            x = fma(radius * call(name, angle), std, mean)
            f.do(f"store {x!r}, ptr {at}")
