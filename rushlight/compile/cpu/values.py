"""Typed values of LLVM IR with Python's operators, so that vector mathematics reads like a formula.

A :class:`V` is a register: an element type (``float``, ``double``, ``i1`` ... ``i64``) and a number of lanes (0: a
scalar). A Python number beside a value becomes a constant of its type; a scalar beside a vector is spread over the lanes.

Example::

    f = Function("float @half_plus_one(float %x)")
    x = V(f, "%x", "float")
    text = f.finish(f"float {(x * 0.5 + 1.0).name}")
"""

from __future__ import annotations

import struct
from typing import Union

from rushlight.compile.cpu.irtext import Function

__all__ = ["V", "const", "fma", "intrinsic", "literal", "mad", "splat", "type_text", "where"]

_SUFFIX = {"float": "f32", "double": "f64"}
_F32_MAX = 3.4028235677973366e38  # from here on, float32 rounds to infinity


def type_text(type_: str, lanes: int) -> str:
    return f"<{lanes} x {type_}>" if lanes else type_


def literal(type_: str, value: float) -> str:
    """A number as LLVM writes it: floating types by their bits (a float constant is written as a double)."""
    if type_ in _SUFFIX:
        value = float(value)
        if type_ == "float" and value == value:
            value = struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) < _F32_MAX else value * float("inf")
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if type_ == "i1":
        return "true" if value else "false"
    return str(int(value))


Number = Union[int, float, "V"]


class V:
    """One value: ``name`` in the function ``f``, element type ``type``, ``lanes`` (0: scalar). ``exact``: what it was before it was
    rounded to a narrower type, where the processor has an instruction that rounds and narrows at once."""

    __slots__ = ("f", "name", "type", "lanes", "exact")

    def __init__(self, f: Function, name: str, type_: str, lanes: int = 0, exact: V | None = None) -> None:
        self.f, self.name, self.type, self.lanes, self.exact = f, name, type_, lanes, exact

    def __repr__(self) -> str:
        return f"{self.text} {self.name}"

    @property
    def text(self) -> str:
        return f"<{self.lanes} x {self.type}>" if self.lanes else self.type

    @property
    def is_float(self) -> bool:
        return self.type in _SUFFIX

    def _pair(self, other: Number) -> tuple[V, V]:
        if not isinstance(other, V):
            return self, const(self.f, self.type, self.lanes, other)
        if self.lanes == other.lanes:
            return self, other
        return (splat(self, other.lanes), other) if not self.lanes else (self, splat(other, self.lanes))

    def _op(self, instruction: str, other: Number) -> V:
        a, b = self._pair(other)
        return V(a.f, a.f.let(f"{instruction} {a.text} {a.name}, {b.name}"), a.type, a.lanes)

    def _compare(self, instruction: str, other: Number) -> V:
        a, b = self._pair(other)
        return V(a.f, a.f.let(f"{instruction} {a.text} {a.name}, {b.name}"), "i1", a.lanes)

    def __add__(self, other: Number) -> V: return self._op("fadd" if self.is_float else "add", other)
    def __sub__(self, other: Number) -> V: return self._op("fsub" if self.is_float else "sub", other)
    def __mul__(self, other: Number) -> V: return self._op("fmul" if self.is_float else "mul", other)
    def __truediv__(self, other: Number) -> V: return self._op("fdiv", other)
    def __radd__(self, other: Number) -> V: return self + other
    def __rmul__(self, other: Number) -> V: return self * other
    def __rsub__(self, other: float) -> V: return const(self.f, self.type, self.lanes, other) - self
    def __rtruediv__(self, other: float) -> V: return const(self.f, self.type, self.lanes, other) / self
    def __and__(self, other: Number) -> V: return self._op("and", other)
    def __or__(self, other: Number) -> V: return self._op("or", other)
    def __xor__(self, other: Number) -> V: return self._op("xor", other)
    def __lshift__(self, other: Number) -> V: return self._op("shl", other)
    def __rshift__(self, other: Number) -> V: return self._op("ashr", other)
    def lshr(self, other: Number) -> V: return self._op("lshr", other)
    def sdiv(self, other: Number) -> V: return self._op("sdiv", other)
    def udiv(self, other: Number) -> V: return self._op("udiv", other)
    def srem(self, other: Number) -> V: return self._op("srem", other)
    def urem(self, other: Number) -> V: return self._op("urem", other)
    def __invert__(self) -> V: return self ^ (1 if self.type == "i1" else -1)

    def __neg__(self) -> V:
        if not self.is_float:
            return const(self.f, self.type, self.lanes, 0) - self
        return V(self.f, self.f.let(f"fneg {self.text} {self.name}"), self.type, self.lanes)

    # Comparisons: ordered (false for NaN), except `ne`; integers signed, the u-forms unsigned.
    def lt(self, other: Number) -> V: return self._compare("fcmp olt" if self.is_float else "icmp slt", other)
    def le(self, other: Number) -> V: return self._compare("fcmp ole" if self.is_float else "icmp sle", other)
    def gt(self, other: Number) -> V: return self._compare("fcmp ogt" if self.is_float else "icmp sgt", other)
    def ge(self, other: Number) -> V: return self._compare("fcmp oge" if self.is_float else "icmp sge", other)
    def eq(self, other: Number) -> V: return self._compare("fcmp oeq" if self.is_float else "icmp eq", other)
    def ne(self, other: Number) -> V: return self._compare("fcmp une" if self.is_float else "icmp ne", other)
    def ult(self, other: Number) -> V: return self._compare("icmp ult", other)
    def ule(self, other: Number) -> V: return self._compare("icmp ule", other)
    def ugt(self, other: Number) -> V: return self._compare("icmp ugt", other)
    def uge(self, other: Number) -> V: return self._compare("icmp uge", other)
    def isnan(self) -> V: return self._compare("fcmp uno", self)

    def convert(self, instruction: str, type_: str) -> V:
        """``instruction`` is LLVM's: sitofp, fptrunc, zext, bitcast, ..."""
        result = type_text(type_, self.lanes)
        return V(self.f, self.f.let(f"{instruction} {self.text} {self.name} to {result}"), type_, self.lanes)

    def bits(self) -> V:
        return self.convert("bitcast", "i32" if self.type == "float" else "i64")

    def as_float(self) -> V:
        return self.convert("bitcast", "float" if self.type == "i32" else "double")

    def abs(self) -> V: return intrinsic("fabs", self)
    def sqrt(self) -> V: return intrinsic("sqrt", self)
    def floor(self) -> V: return intrinsic("floor", self)
    def trunc(self) -> V: return intrinsic("trunc", self)
    def nearest(self) -> V: return intrinsic("roundeven", self)

    def copysign(self, sign: V) -> V:
        # LLVM moves a conversion to half precision before a copysign, and then converts the sign by itself: if that came
        # from a double, by a call of the compiler's library, which need not be there.
        return intrinsic("arithmetic.fence", intrinsic("copysign", self, sign))


def const(f: Function, type_: str, lanes: int, value: float) -> V:
    text = literal(type_, value)
    return V(f, f"splat ({type_} {text})" if lanes else text, type_, lanes)


def splat(x: V, lanes: int) -> V:
    """A scalar spread over ``lanes`` lanes (a vector of that many lanes is returned as it is)."""
    if x.lanes == lanes:
        return x
    if x.name[0] != "%":
        return V(x.f, f"splat ({x.type} {x.name})", x.type, lanes)
    vector = type_text(x.type, lanes)
    one = x.f.let(f"insertelement {vector} poison, {x.type} {x.name}, i64 0")
    return V(x.f, x.f.let(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer"), x.type, lanes)


def level(*values: V) -> tuple[V, ...]:
    """The values with scalars spread, if one of them is a vector."""
    lanes = max(v.lanes for v in values)
    return tuple(splat(v, lanes) for v in values) if lanes else values


def intrinsic(name: str, *args: V) -> V:
    """``@llvm.<name>`` on values of one type; the result has that type."""
    args = level(*args)
    x = args[0]
    suffix = f"v{x.lanes}" if x.lanes else ""
    full = f"@llvm.{name}.{suffix}{_SUFFIX.get(x.type, x.type)}"
    x.f.module.declare(f"{x.text} {full}({', '.join([x.text] * len(args))})")
    return V(x.f, x.f.let(f"call {x.text} {full}({', '.join(map(repr, args))})"), x.type, x.lanes)


def _numbers(*args: Number) -> tuple[V, ...]:
    like = next(a for a in args if isinstance(a, V))
    return tuple(a if isinstance(a, V) else const(like.f, like.type, like.lanes, a) for a in args)


def fma(a: Number, b: Number, c: Number) -> V:
    """a * b + c rounded once, on every processor."""
    return intrinsic("fma", *_numbers(a, b, c))


def mad(a: Number, b: Number, c: Number) -> V:
    """a * b + c, rounded once where the processor does that as fast as a multiplication."""
    return intrinsic("fmuladd", *_numbers(a, b, c))


def where(condition: V, a: Number, b: Number) -> V:
    """Lane by lane: a where the condition holds, else b (one of them must be a value)."""
    x, y = _numbers(a, b)
    condition, x, y = level(condition, x, y)
    return V(x.f, x.f.let(f"select {condition!r}, {x!r}, {y!r}"), x.type, x.lanes)
