"""Instructions of AVX-512 that LLVM has no words for, on vectors of any number of lanes.

They work on whole registers of sixteen floats or eight doubles. Wider vectors are cut, narrower ones and scalars take the first
lanes of a register, so a value does not depend on the number of lanes.

Example::

    if registers.available():
        y = registers.scalef(x, n)      # x * 2^floor(n)
"""

from __future__ import annotations

from collections.abc import Sequence

from rushlight.compile.cpu import target
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.values import V, const, literal, type_text

__all__ = ["available", "scalef", "scalef_from", "lookup", "nearer", "exponent", "mantissa", "repaired"]

Operand = tuple[str, str]  # type, value


def available() -> bool:
    """Whether the processor that code is generated for has them."""
    cpu = target.current()
    return cpu.tables and cpu.vector_bytes == 64 and cpu.triple.startswith("x86_64")


def scalef(x: V, n: V) -> V:
    """x * 2^floor(n), rounded once."""
    if x.type == "double":
        return _each("mask.scalef.pd.512", (x, n), [("<8 x double>", "zeroinitializer"), ("i8", "-1"), ("i32", "4")])
    return _each("mask.scalef.ps.512", (x, n), _ALL)


def scalef_from(least: float, x: V, n: V) -> V:
    """``scalef``, but 0 where n is less than ``least``. There the instruction is told to leave the lane alone: a result that is too
    small to be a normal number would take it some hundred cycles."""
    f, double = x.f, x.type == "double"
    native = 8 if double else 16
    part, bits, letter = type_text(x.type, native), f"i{native}", "d" if double else "s"
    name, limit = f"@llvm.x86.avx512.mask.scalef.p{letter}.512", const(f, x.type, native, least)
    f.module.declare(f"{part} {name}({part}, {part}, {part}, {bits}, i32)")
    pieces = []
    for a, b in zip(_cut(x, native), _cut(n, native), strict=True):
        mask = f.let(f"bitcast <{native} x i1> {f.let(f'fcmp uge {part} {b}, {limit.name}')} to {bits}")  # NaN stays NaN
        pieces.append(f.let(f"call {part} {name}({part} {a}, {part} {b}, {part} zeroinitializer, {bits} {mask}, i32 4)"))
    return _joined(f, pieces, x.type, native, x.lanes)


def lookup(table: Sequence[float], index: V) -> V:
    """``table[index & 15]`` for a table of sixteen floats."""
    if len(table) != 16:
        raise ValueError(f"a register has 16 floats, the table {len(table)}")
    numbers = ", ".join(f"float {literal('float', v)}" for v in table)
    return _each("permvar.sf.512", (index,), [], [("<16 x float>", f"<{numbers}>")], "float")


def nearer(x: V, bound: float) -> V:
    """The one of x and ``bound`` that is nearer to zero, with the sign of x; ``bound`` where x is NaN."""
    limit = const(x.f, "float", 16, bound)
    return _each("mask.range.ps.512", (x,), [(limit.text, limit.name), ("i32", "2"), *_ALL])


def exponent(x: V) -> V:
    """floor(log2(|x|)) as a float: -inf for 0, inf for inf, NaN for NaN."""
    return _each("mask.getexp.ps.512", (x,), _ALL)


def mantissa(x: V) -> V:
    """x / 2^k in [3/4, 3/2); NaN for negative x and NaN, 1 or -1 for zeros and inf."""
    return _each("mask.getmant.ps.512", (x,), [("i32", "11"), *_ALL])


def repaired(value: V, x: V) -> V:
    """``value``, but where x is 0, negative, infinite or NaN what a logarithm of x must be."""
    # For x = QNaN, SNaN, 0, 1, -inf, inf, below 0, above 0 from the low digits on: 2 x as a quiet NaN, 3 the NaN of an invalid
    # operation, 4 -inf, 5 inf, 0 what was there.
    rules = const(x.f, "i32", 16, 0x03530422)
    return _each("mask.fixupimm.ps.512", (value, x), [(rules.text, rules.name), ("i32", "0"), ("i16", "-1"), ("i32", "4")])


_ALL: list[Operand] = [("<16 x float>", "zeroinitializer"), ("i16", "-1"), ("i32", "4")]  # every lane, rounding as usual


def _each(name: str, args: Sequence[V], after: Sequence[Operand], before: Sequence[Operand] = (), result: str = "") -> V:
    """The instruction ``name`` on each register of the arguments; ``before`` and ``after`` are its other operands."""
    x = args[0]
    f, native, result = x.f, 8 if x.type == "double" else 16, result or x.type
    function, part = f"@llvm.x86.avx512.{name}", type_text(result, native)
    kinds = [*(t for t, _ in before), *(type_text(a.type, native) for a in args), *(t for t, _ in after)]
    f.module.declare(f"{part} {function}({', '.join(kinds)})")
    values = []
    for pieces in zip(*(_cut(a, native) for a in args), strict=True):
        operands = [*(v for _, v in before), *pieces, *(v for _, v in after)]
        values.append(f.let(f"call {part} {function}({', '.join(map(' '.join, zip(kinds, operands, strict=True)))})"))
    return _joined(f, values, result, native, x.lanes)


def _cut(x: V, native: int) -> list[str]:
    """The registers of x, the last one filled up."""
    f, part = x.f, type_text(x.type, native)
    if x.lanes == native:
        return [x.name]
    if not x.lanes:
        return [f.let(f"insertelement {part} zeroinitializer, {x!r}, i64 0")]
    cut = []
    for first in range(0, x.lanes, native):
        order = ", ".join(f"i32 {min(k, x.lanes)}" for k in range(first, first + native))  # lane x.lanes: a zero
        cut.append(f.let(f"shufflevector {x!r}, {x.text} zeroinitializer, <{native} x i32> <{order}>"))
    return cut


def _joined(f: Function, parts: list[str], type_: str, native: int, lanes: int) -> V:
    """The first ``lanes`` lanes of the registers as one value."""
    if not lanes:
        return V(f, f.let(f"extractelement {type_text(type_, native)} {parts[0]}, i64 0"), type_)
    size = native
    while len(parts) > 1:
        one, order = type_text(type_, size), ", ".join(f"i32 {k}" for k in range(2 * size))
        if len(parts) % 2:
            parts = [*parts, "poison"]
        parts = [f.let(f"shufflevector {one} {a}, {one} {b}, <{2 * size} x i32> <{order}>") for a, b in zip(parts[::2], parts[1::2])]
        size *= 2
    if size > lanes:
        whole, order = type_text(type_, size), ", ".join(f"i32 {k}" for k in range(lanes))
        parts = [f.let(f"shufflevector {whole} {parts[0]}, {whole} poison, <{lanes} x i32> <{order}>")]
    return V(f, parts[0], type_, lanes)
