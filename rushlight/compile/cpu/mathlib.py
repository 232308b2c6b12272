"""A library of mathematical functions as private LLVM functions, one for each (function, type, lanes), always inlined.

``math32`` and ``math64`` define them with :func:`defines`; :func:`call` puts the text of one, and of whatever it uses,
into the module (once) and emits the call. The text is made once per process, so a kernel that uses ``exp`` costs one
line of IR.

The functions are accurate to 2 ulp over the whole range, denormal numbers, infinities and NaN included, and their
results do not depend on the number of lanes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from rushlight.compile.cpu import registers, target
from rushlight.compile.cpu.irtext import Function, Module
from rushlight.compile.cpu.values import V, const, mad, type_text, where

__all__ = ["call", "defines", "poly", "pairs", "scale", "at_least", "at_most", "any_lane", "rarely", "slow_lanes"]

_definitions: dict[tuple[str, str], Callable[..., V]] = {}  # (function, "float" or "double")
_in_registers: dict[tuple[str, str], Callable[..., V]] = {}  # those with the instructions of registers.py
_MAGIC = {"float": 1.5 * 2.0**23, "double": 1.5 * 2.0**52}
_MANTISSA = {"float": 23, "double": 52}
_BIAS = {"float": 127, "double": 1023}


def defines(name: str, *types: str, registers: bool = False) -> Callable[[Callable[..., V]], Callable[..., V]]:
    """Decorator: this Python function emits ``name`` for arguments of these types; ``registers``: only where the instructions of
    ``registers.py`` are there, and then before any other."""

    def register(emit: Callable[..., V]) -> Callable[..., V]:
        for type_ in types:
            (_in_registers if registers else _definitions)[name, type_] = emit
        return emit

    return register


def has(name: str, type_: str) -> bool:
    _load()
    return (name, type_) in _definitions


@functools.cache
def _load() -> None:
    from rushlight.compile.cpu import math32, math64, math512  # noqa: F401  they register their functions here


def call(name: str, *args: V) -> V:
    """The library function ``name`` of floating values of one type and one number of lanes."""
    x = args[0]
    _load()
    symbol, declarations, functions = _text(name, x.type, x.lanes, len(args), target.current().key)
    add(x.f.module, declarations, functions)
    return V(x.f, x.f.let(f"call {x.text} @{symbol}({', '.join(map(repr, args))})"), x.type, x.lanes)


def add(module: Module, declarations: Sequence[str], functions: Sequence[str]) -> None:
    for text in declarations:
        module.declarations[text] = None
    for text in functions:
        if text not in module.functions:
            module.functions.append(text)


@functools.lru_cache(maxsize=4096)
def _text(name: str, type_: str, lanes: int, arity: int, cpu: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(symbol, declarations, functions) of one library function with all that it uses."""
    symbol = f"rl_{name}_{'f32' if type_ == 'float' else 'f64'}_{lanes}"
    text = type_text(type_, lanes)
    names = [f"%x{i}" for i in range(arity)]
    header = f"private {text} @{symbol}({', '.join(f'{text} {n}' for n in names)}) alwaysinline nounwind"
    f = Function(header)
    emit = registers.available() and _in_registers.get((name, type_)) or _definitions[name, type_]
    result = emit(*(V(f, n, type_, lanes) for n in names))
    f.module.functions.append(f.finish(repr(result)))
    return symbol, tuple(f.module.declarations), tuple(f.module.functions)


# -- building blocks ---------------------------------------------------------------------------------------------------
def poly(x: V, coefficients: Sequence[float]) -> V:
    """``c[0] + c[1] x + ...`` by Horner's rule."""
    total: V = const(x.f, x.type, x.lanes, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = mad(total, x, c)
    return total


def pairs(x: V, coefficients: Sequence[float]) -> V:
    """The same by Estrin's scheme, in steps that do not wait for one another: for functions that are one long chain, of which more
    would have to be under way at once than a processor keeps."""
    terms: list[V] = [const(x.f, x.type, x.lanes, c) for c in coefficients]
    while len(terms) > 1:
        terms = [mad(b, x, a) for a, b in zip(terms[::2], terms[1::2])] + terms[len(terms) - len(terms) % 2 :]
        x = x * x
    return terms[0]


def at_most(x: V, bound: float) -> V:
    """min(x, bound), and NaN for NaN (one instruction on x86, in this form)."""
    return where(const(x.f, x.type, x.lanes, bound).lt(x), bound, x)


def at_least(x: V, bound: float) -> V:
    return where(const(x.f, x.type, x.lanes, bound).gt(x), bound, x)


def power_of_two(n: V) -> V:
    """2^n for integral n (a float) in the range of normal numbers: n + bias becomes the exponent field."""
    shifted = (n + (_MAGIC[n.type] + _BIAS[n.type])).bits()
    return (shifted << _MANTISSA[n.type]).as_float()


def whole_bits(n: V) -> V:
    """An integral float (below 2^22 or 2^51 in size) as an integer; only its low bits are right for negative numbers."""
    return (n + _MAGIC[n.type]).bits()


def scale(x: V, n: V, least: float | None = None) -> V:
    """x * 2^n for integral n (a float) in about twice the exponent range, rounded once; for n below ``least`` that is 0.

    AVX-512 has an instruction for it; elsewhere 2^n is multiplied in two halves, the first of which is exact.
    """
    if registers.available():
        return registers.scalef(x, n) if least is None else registers.scalef_from(least, x, n)
    half = (n * 0.5).floor()
    return x * power_of_two(half) * power_of_two(n - half)


def split_exponent(x: V) -> tuple[V, V]:
    """(m, e) with x = m * 2^e and m in [sqrt(1/2), sqrt(2)), for positive normal x; e as a float."""
    bits = x.bits()
    root = 0x3F3504F3 if x.type == "float" else 0x3FE6A09E667F3BCD
    whole = (bits - root) >> _MANTISSA[x.type]
    m = (bits - (whole << _MANTISSA[x.type])).as_float()
    magic = const(x.f, x.type, 0, _MAGIC[x.type])
    bias = 0x4B400000 if x.type == "float" else 0x4338000000000000
    return m, (whole + bias).as_float() - magic


def normal(x: V) -> tuple[V, V]:
    """(x', e) with x = x' * 2^e and x' normal, for positive x."""
    small, by = (2.0**-126, 23) if x.type == "float" else (2.0**-1022, 54)
    tiny = x.lt(small)
    return where(tiny, x * 2.0**by, x), where(tiny, const(x.f, x.type, x.lanes, -by), 0.0)


def any_lane(mask: V) -> str:
    """An i1 name: whether any lane is true."""
    if not mask.lanes:
        return mask.name
    name = f"@llvm.vector.reduce.or.v{mask.lanes}i1"
    mask.f.module.declare(f"i1 {name}({mask.text})")
    return mask.f.let(f"call i1 {name}({mask!r})")


def slow_lanes(function: str, args: Sequence[V], fast: V, rare: V) -> V:
    """``fast``, but with the lanes of ``rare`` (few, in few calls) computed by the C library's scalar ``function``."""
    f, text, type_, lanes = fast.f, fast.text, fast.type, fast.lanes
    f.module.declare(f"{type_} @{function}({', '.join([type_] * len(args))})")
    slot = f.slot(text, fast.name)
    with f.when(any_lane(rare)):
        if lanes:
            symbol = f"rl_slow_{function}_{lanes}"
            body = _slow_text(function, type_, lanes, len(args))
            if body not in f.module.functions:
                f.module.functions.append(body)
            value = f.let(f"call {text} @{symbol}({', '.join(map(repr, args))}, {fast!r}, {rare!r})")
            f.set(slot, value, text)
        else:
            f.set(slot, f.let(f"call {type_} @{function}({', '.join(map(repr, args))})"), type_)
    return V(f, f.get(slot, text), type_, lanes)


def rarely(name: str, x: V, fast: V, rare: V) -> V:
    """``fast``, but with the lanes of ``rare`` by the library function ``name`` of x, in a call that is not inlined: for numbers that
    formulas hardly ever meet, and whose care would double what every vector costs."""
    f = fast.f
    _load()
    symbol, declarations, functions = _text(name, x.type, x.lanes, 1, target.current().key)
    add(f.module, declarations, functions)
    apart = Function(f"private {fast.text} @{symbol}_apart({fast.text} %x, {fast.text} %fast, {rare.text} %rare) noinline cold nounwind")
    value = apart.let(f"call {fast.text} @{symbol}({fast.text} %x)")
    body = apart.finish(f"{fast.text} " + apart.let(f"select {rare.text} %rare, {fast.text} {value}, {fast.text} %fast"))
    if body not in f.module.functions:
        f.module.functions.append(body)
    slot = f.slot(fast.text, fast.name)
    with f.when(any_lane(rare)):
        f.set(slot, f.let(f"call {fast.text} @{symbol}_apart({x!r}, {fast!r}, {rare!r})"), fast.text)
    return V(f, f.get(slot, fast.text), fast.type, fast.lanes)


@functools.lru_cache(maxsize=256)
def _slow_text(function: str, type_: str, lanes: int, arity: int) -> str:
    text = type_text(type_, lanes)
    names = [f"%x{i}" for i in range(arity)]
    arguments = ", ".join(f"{text} {n}" for n in [*names, "%fast"])
    f = Function(f"private {text} @rl_slow_{function}_{lanes}({arguments}, <{lanes} x i1> %rare) noinline cold nounwind")
    slot = f.slot(text, "%fast")
    with f.loop("0", str(lanes)) as i, f.when(f.let(f"extractelement <{lanes} x i1> %rare, i64 {i}")):
        one = [f"{type_} " + f.let(f"extractelement {text} {n}, i64 {i}") for n in names]
        value = f.let(f"call {type_} @{function}({', '.join(one)})")
        f.set(slot, f.let(f"insertelement {text} {f.get(slot, text)}, {type_} {value}, i64 {i}"), text)
    return f.finish(f"{text} {f.get(slot, text)}")


def widened(name: str) -> Callable[..., V]:
    """The float32 function by way of the float64 one."""

    def emit(*args: V) -> V:
        return call(name, *(a.convert("fpext", "double") for a in args)).convert("fptrunc", "float")

    return emit


