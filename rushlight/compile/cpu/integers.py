"""Integer division and powers on vectors.

Processors divide integers one at a time. Quotients of up to 52 bits are exact in float64 (float32 for 16-bit types), so
vectors are divided there; 64-bit vectors with greater numbers in them take the processor's division, lane by lane.
"""

from __future__ import annotations

import functools

from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.mathlib import add, any_lane
from rushlight.compile.cpu.values import V, const, splat, where
from rushlight.compile.dtypes import DType

__all__ = ["truncdiv", "fmod", "floordiv", "mod", "power"]

def _divisor(dtype: DType, a: V, b: V) -> V:
    """b with what the processor traps on replaced by 1: zero, and -1 under the least integer (whose quotient wraps)."""
    if b.name[0] != "%":
        number = int(b.name.rstrip(")").split()[-1])
        return b if number not in (0, -1) else const(b.f, b.type, 0, 1) if number == 0 else _safe(dtype, a, b)
    return _safe(dtype, a, b)


def _safe(dtype: DType, a: V, b: V) -> V:
    bad = b.eq(0)
    if dtype.kind == "i":
        bad = bad | (b.eq(-1) & a.eq(-(1 << (8 * dtype.itemsize - 1))))
    return where(bad, 1, b)


def quotient(dtype: DType, a: V, b: V) -> V:
    """a / b rounded to zero, for a divisor that does not trap."""
    lanes = max(a.lanes, b.lanes)
    plain = a.udiv if dtype.kind == "u" else a.sdiv
    if not lanes or _is_power_of_two(b):
        return plain(b)
    a, b = splat(a, lanes), splat(b, lanes)
    if dtype.itemsize < 8:
        return _floating(dtype, a, b, "float" if dtype.itemsize < 4 else "double")
    symbol, declarations, functions = _wide_text(dtype, lanes)
    add(a.f.module, declarations, functions)
    return V(a.f, a.f.let(f"call {a.text} @{symbol}({a!r}, {b!r})"), a.type, lanes)


def _is_power_of_two(b: V) -> bool:
    """A constant that LLVM divides by with a shift."""
    if b.name[0] == "%":
        return False
    number = int(b.name.rstrip(")").split()[-1])
    return number > 0 and number & (number - 1) == 0


def _floating(dtype: DType, a: V, b: V, type_: str) -> V:
    signed = dtype.kind == "i"
    x, y = (v.convert("sitofp" if signed else "uitofp", type_) for v in (a, b))
    return (x / y).convert("fptosi" if signed else "fptoui", a.type)


@functools.lru_cache(maxsize=64)
def _wide_text(dtype: DType, lanes: int) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """A function for 64-bit vectors, so that a quotient and a remainder of the same numbers divide once."""
    symbol, text = f"rl_quotient_{dtype.name}_{lanes}", f"<{lanes} x i64>"
    f = Function(f"private {text} @{symbol}({text} %a, {text} %b) alwaysinline nounwind willreturn memory(none)")
    a, b = V(f, "%a", "i64", lanes), V(f, "%b", "i64", lanes)
    limit = 1 << 51
    if dtype.kind == "i":
        great = (a + limit).uge(2 * limit) | (b + limit).uge(2 * limit)
    else:
        great = a.uge(limit) | b.uge(limit)
    result = f.slot(text)
    name = f.name()
    f.do(f"br i1 {any_lane(great)}, label %{name}.slow, label %{name}.fast")
    f.label(f"{name}.fast")
    f.set(result, _floating(dtype, a, b, "double").name, text)
    f.do(f"br label %{name}.end")
    f.label(f"{name}.slow")
    numerators, denominators = f.slot(text, "%a"), f.slot(text, "%b")
    with f.loop("0", str(lanes)) as i:
        one = f"{'sdiv' if dtype.kind == 'i' else 'udiv'} i64 {f.load(numerators, i)}, {f.load(denominators, i)}"
        f.set(f.at(result, i), f.let(one))
    f.do(f"br label %{name}.end")
    f.label(f"{name}.end")
    f.module.functions.append(f.finish(f"{text} {f.get(result, text)}"))
    return symbol, tuple(f.module.declarations), tuple(f.module.functions)


def truncdiv(dtype: DType, a: V, b: V) -> V:
    return quotient(dtype, a, _divisor(dtype, a, b))


def fmod(dtype: DType, a: V, b: V) -> V:
    b = _divisor(dtype, a, b)
    return a - quotient(dtype, a, b) * b


def floordiv(dtype: DType, a: V, b: V) -> V:
    b = _divisor(dtype, a, b)
    q = quotient(dtype, a, b)
    if dtype.kind == "u":
        return q
    rest = a - q * b
    return where(rest.ne(0) & (rest ^ b).lt(0), q - 1, q)


def mod(dtype: DType, a: V, b: V) -> V:
    b = _divisor(dtype, a, b)
    rest = a - quotient(dtype, a, b) * b
    return rest if dtype.kind == "u" else where(rest.ne(0) & (rest ^ b).lt(0), rest + b, rest)


def power(dtype: DType, x: V, y: V) -> V:
    """x^y by squaring; a negative y gives 0, but 1 for x = 1 and +-1 for x = -1."""
    f = x.f
    lanes = max(x.lanes, y.lanes)
    x, y = (splat(x, lanes), splat(y, lanes)) if lanes else (x, y)
    one = const(f, x.type, lanes, 1)
    result, base, rest = f.slot(x.text, one.name), f.slot(x.text, x.name), f.slot(x.text, y.name)
    bits = int(x.type[1:])
    counter = f.slot("i64", "0")
    with f.loop_while(counter, "slt", str(bits)) as i:
        e = V(f, f.get(rest, x.text), x.type, lanes)
        r, b = V(f, f.get(result, x.text), x.type, lanes), V(f, f.get(base, x.text), x.type, lanes)
        f.set(result, where((e & 1).ne(0), r * b, r).name, x.text)
        f.set(base, (b * b).name, x.text)
        shifted = e.lshr(1)
        f.set(rest, shifted.name, x.text)
        # all exponents used up: leave the loop
        more = f.let(f"select i1 {any_lane(shifted.ne(0))}, i64 {f.add(i, 1)}, i64 {bits}")
        f.set(counter, more)
    value = V(f, f.get(result, x.text), x.type, lanes)
    if dtype.kind == "i":
        odd = (y & 1).ne(0)
        inverse = where(x.eq(1), one, where(x.eq(-1), where(odd, const(f, x.type, lanes, -1), 1), 0))
        value = where(y.lt(0), inverse, value)
    return value
