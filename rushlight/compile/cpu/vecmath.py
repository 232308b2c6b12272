"""Formulas (``Expr``) as LLVM IR, on vectors or scalars.

``emit`` gives every node of a formula a value, common subexpressions once. How element types are held in registers:
bool as ``i1``, integers as they are, float32 and float64 as they are, and both half types as float32 numbers that the
half type can represent (every operation is done in float32 and rounded back). ``load_form`` and ``store_form`` convert
from and to what lies in memory: bool is a byte, bfloat16 its bits.

A node whose arguments are all scalars stays a scalar, whatever ``lanes`` says; a scalar is spread where it meets a vector.

Example::

    f = Function("void @k(ptr %p)")
    x = Value(V(f, "%x", "float", 16), dtypes.float32)
    y = emit(f, e.exp(input_(0, dtypes.float32)), {0: x.v}, 16)      # V: <16 x float>
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping

import numpy as np

from rushlight.compile import dtypes as dt
from rushlight.compile.cpu import half, integers, mathlib
from rushlight.compile.cpu.irtext import Function
from rushlight.compile.cpu.values import V, const, intrinsic, splat, where
from rushlight.compile.dtypes import BY_NAME, DType
from rushlight.compile.expr import FUNCTIONS, Expr, walk

__all__ = ["SUPPORTED", "supports", "emit", "register_type", "memory_type", "load_form", "store_form", "convert",
           "constant", "constant_bits", "emit_any", "is_half", "register_bytes", "rounded"]  # fmt: skip

_REGISTER = {"bool": "i1", "uint8": "i8", "int8": "i8", "int16": "i16", "uint16": "i16", "int32": "i32",
             "uint32": "i32", "int64": "i64", "uint64": "i64", "float16": "float", "bfloat16": "float",
             "float32": "float", "float64": "double",
             **dict.fromkeys((d.name for d in BY_NAME.values() if d.kind == "q"), "i8")}  # fmt: skip
_MEMORY = _REGISTER | {"bool": "i8", "float16": "half", "bfloat16": "i16"}

#: Functions without a native form: the planner runs them on the host.
_HOST_ONLY = {"erfinv", "lgamma", "digamma", "trigamma", "i0", "i0e", "i1", "i1e", "ndtri", "nextafter"}
SUPPORTED: frozenset[str] = frozenset(FUNCTIONS) - _HOST_ONLY | {"input", "const", "index", "extent", "cast", "bitcast"}


def supports(expr: Expr) -> bool:
    """Whether the whole formula has a native form (no complex types, no special functions; floating numbers of one byte are moved and
    chosen among, their conversions are the host's)."""
    return all(n.fn in SUPPORTED and n.dtype.kind != "c" and
               (n.fn in ("input", "where") or all(a.dtype.kind != "q" for a in (n, *n.args))) for n in walk(expr))


def register_type(dtype: DType) -> str:
    """The LLVM type in which a value of ``dtype`` is computed with."""
    return _REGISTER[dtype.name]


def memory_type(dtype: DType) -> str:
    """The LLVM type of an element of ``dtype`` in memory."""
    return _MEMORY[dtype.name]


def register_bytes(dtype: DType) -> int:
    """Bytes of one lane in a register."""
    return dtype.compute.itemsize


def is_half(dtype: DType) -> bool:
    return dtype.kind == "f" and dtype.itemsize == 2


def load_form(x: V, dtype: DType) -> V:
    """A value just loaded (``memory_type``) in its register form."""
    if dtype is dt.bool_:
        return x.ne(0)
    if dtype is dt.float16:
        return half.widen(x)
    if dtype is dt.bfloat16:
        return half.widen_bfloat(x)
    return x


def store_form(x: V, dtype: DType) -> V:
    """The register form as it is stored."""
    if dtype is dt.bool_:
        return x.convert("zext", "i8")
    if dtype is dt.float16:
        return half.narrow(x)
    if dtype is dt.bfloat16:
        return half.narrow_bfloat(x)
    return x


def rounded(x: V, dtype: DType) -> V:
    """A float32 value rounded to what a half type can represent (nearest even); others as they are."""
    if dtype is dt.float16:
        return half.widen(half.narrow(x))
    if dtype is dt.bfloat16:
        return half.round_bfloat(x)
    return x


def constant_bits(value: float | bool, dtype: DType) -> int:
    """The bits of a number as an element of ``dtype``, as an unsigned integer."""
    if dtype.kind in "iu":
        return int(value) & ((1 << 8 * dtype.itemsize) - 1)
    with np.errstate(over="ignore"):  # a number beyond the type's range is infinite, as anywhere
        return int.from_bytes(dtype.rounded(np.array(value)).tobytes(), "little")


def constant(f: Function, value: float | bool, dtype: DType) -> V:
    if is_half(dtype):
        value = float(dtype.rounded(np.array(value)))
    return const(f, register_type(dtype), 0, value)


def emit(builder: Function, expr: Expr, env: Mapping[object, V], lanes: int,
         memo: MutableMapping[Expr, V] | None = None) -> V:
    """Emit ``expr`` into ``builder``; the value is a vector of ``lanes`` lanes, or a scalar for ``lanes == 0``.

    Args:
        builder: the function that is being written.
        env: ``env[k]`` is the value of ``input(k)`` in register form, ``env["index", a]`` the i64 value of ``index(a)``;
            ``extent(a)`` likewise.
        memo: values of nodes that are known already; nodes emitted here are added. None: a fresh one.

    Raises:
        KeyError: an input that ``env`` lacks.
        NotImplementedError: a function or a type that ``supports`` says no to.
    """
    value = emit_any(builder, expr, env, {} if memo is None else memo)
    return splat(value, lanes) if lanes else value


def emit_any(f: Function, expr: Expr, env: Mapping[object, V], memo: MutableMapping[Expr, V]) -> V:
    """Like ``emit``, but a value that is equal in all lanes is given as a scalar."""
    found = memo.get(expr)
    if found is not None:
        return found
    for n in walk(expr):
        if n in memo:
            continue
        if n.fn == "input":
            value = env[n.attr]
        elif n.fn == "const":
            value = constant(f, n.attr, n.dtype)
        elif n.fn in ("index", "extent"):
            value = env[n.fn, n.attr]
        elif n.fn == "cast":
            value = convert(memo[n.args[0]], n.args[0].dtype, n.dtype)
        elif n.fn == "bitcast":
            value = _bitcast(memo[n.args[0]], n.args[0].dtype, n.dtype)
        else:
            value = _apply(n, [memo[a] for a in n.args])
        memo[n] = value
    return memo[expr]


def _bitcast(x: V, source: DType, target: DType) -> V:
    bits = store_form(x, source)
    memory = memory_type(target)
    return load_form(bits if bits.type == memory else bits.convert("bitcast", memory), target)


# -- conversions -------------------------------------------------------------------------------------------------------
def convert(x: V, source: DType, target: DType) -> V:
    """The value in another type, as PyTorch's ``to`` does it on a processor of the x86 family."""
    if source is target:
        return x
    if target is dt.bool_:
        return x.ne(0)
    if source.kind == "f":
        if target.kind == "f":
            if x.type == "float" and target is dt.float64:
                return x.convert("fpext", "double")
            return rounded(x.convert("fptrunc", "float") if x.type == "double" else x, target)
        return _truncated(x, target)
    if target.kind == "f":
        wide = register_type(target)
        return rounded(x.convert("sitofp" if source.kind == "i" else "uitofp", wide), target)
    to, have = register_type(target), 1 if source is dt.bool_ else 8 * source.itemsize
    if have == 8 * target.itemsize:
        return x
    if have > 8 * target.itemsize:
        return x.convert("trunc", to)
    return x.convert("sext" if source.kind == "i" else "zext", to)


def _truncated(x: V, target: DType) -> V:
    """Float to integer. What does not fit gives the least integer, as the processor's instruction does: in 32 bits for
    the types that fit in them, which keep the low bits of that. uint8 keeps the low bits of 64 bits, which makes a
    difference where the source has digits that low."""
    if target is dt.uint64:
        big = x.ge(2.0**63)
        return _guarded(where(big, x - 2.0**63, x), 64) ^ where(big, const(x.f, "i64", x.lanes, -(2**63)), 0)
    bits = 64 if target.itemsize == 8 or target is dt.uint32 or (target is dt.uint8 and x.type == "double") else 32
    whole = _guarded(x, bits)
    return whole if bits == 8 * target.itemsize else whole.convert("trunc", register_type(target))


def _guarded(x: V, bits: int) -> V:
    limit = 2.0 ** (bits - 1)
    # Beyond the range LLVM's fptosi has no meaning at all, so such lanes (and NaN) get the least integer beforehand.
    low = x.gt(-limit - 1.0) if x.type == "double" and bits == 32 else x.ge(-limit)
    return where(low & x.lt(limit), x, -limit).convert("fptosi", f"i{bits}")


# -- functions ---------------------------------------------------------------------------------------------------------
def _apply(n: Expr, args: list[V]) -> V:
    operand = n.args[-1].dtype  # of the arguments (for where: of the choices)
    if n.fn == "pow" and n.args[1].fn == "const":
        special = _constant_power(args[0], n.args[1].attr, operand)
        if special is not None:
            return rounded(special, n.dtype)
    table = _BOOL if operand is dt.bool_ else _FLOAT if operand.kind == "f" else _INTEGER
    rule = table.get(n.fn)
    if rule is not None:
        value = rule(operand, *args)
    elif operand.kind == "f" and mathlib.has(n.fn, args[0].type):
        value = _library(n.fn, args)
    else:
        raise NotImplementedError(f"{n.fn} of {operand.name} has no native form")
    return rounded(value, n.dtype) if is_half(n.dtype) and n.fn not in _EXACT else value


_EXACT = {"neg", "abs", "sign", "min", "max", "where", "floor", "ceil", "round", "trunc", "copysign", "fmod"}


def _library(name: str, args: list[V]) -> V:
    lanes = max(a.lanes for a in args)
    return mathlib.call(name, *(splat(a, lanes) if lanes else a for a in args))


def _constant_power(x: V, exponent: float, dtype: DType) -> V | None:
    if dtype.kind == "f":
        if exponent in (2, 3, 4):
            square = x * x
            return square if exponent == 2 else square * x if exponent == 3 else square * square
        simple: dict[float, Callable[[], V]] = {
            0: lambda: const(x.f, x.type, x.lanes, 1), 1: lambda: x, -1: lambda: 1 / x, -2: lambda: 1 / (x * x),
            0.5: x.sqrt, -0.5: lambda: 1 / x.sqrt()}  # fmt: skip
        return simple[exponent]() if exponent in simple else None
    if dtype.kind in "iu" and 0 <= exponent <= 64:
        result, base, rest = const(x.f, x.type, x.lanes, 1), x, int(exponent)
        while rest:
            result = result * base if rest & 1 else result
            rest >>= 1
            base = base * base if rest else base
        return result
    return None


def _extreme(dtype: DType, a: V, b: V, greater: bool) -> V:
    """min or max; a NaN wins."""
    if dtype.kind == "f":
        if b.name[0] != "%" and "0x7FF" not in b.name:
            a, b = b, a
        take_a = a.gt(b) if greater else a.lt(b)  # false for NaN: b, so only a NaN in a needs care
        value = where(take_a, a, b)
        return value if a.name[0] != "%" and "0x7FF" not in a.name else where(a.isnan(), a, value)
    return intrinsic(("u" if dtype.kind == "u" else "s") + ("max" if greater else "min"), a, b)


def _float_sign(_: DType, x: V) -> V:
    one = const(x.f, x.type, x.lanes, 1)
    return where(x.gt(0), one, 0) - where(x.lt(0), one, 0)


def _float_fmod(_: DType, a: V, b: V) -> V:
    return _library("fmod", [a, b])


def _float_mod(_: DType, a: V, b: V) -> V:
    rest = _library("fmod", [a, b])
    return where(rest.ne(0) & (b.lt(0) ^ rest.lt(0)), rest + b, rest)


def _float_floordiv(_: DType, a: V, b: V) -> V:
    """Python's //: from the remainder, because the rounded quotient may be a whole number too great."""
    rest = _library("fmod", [a, b])
    q = (a - rest) / b
    q = where(rest.ne(0) & (b.lt(0) ^ rest.lt(0)), q - 1, q)
    floor = q.floor()
    floor = where((q - floor).gt(0.5), floor + 1, floor)
    plain = a / b
    value = where(q.ne(0), floor, const(a.f, a.type, 0, 0).copysign(plain))
    return where(b.eq(0), plain, value)


def _shift(dtype: DType, a: V, b: V, left: bool) -> V:
    width = 8 * dtype.itemsize
    inside = b.ult(width)  # a negative count counts as too far
    if left:
        return where(inside, a << where(inside, b, 0), 0)
    if dtype.kind == "u":
        return where(inside, a.lshr(where(inside, b, 0)), 0)
    return a >> where(inside, b, width - 1)


def _int_sign(dtype: DType, x: V) -> V:
    positive = x.ne(0) if dtype.kind == "u" else x.gt(0)
    one = const(x.f, x.type, x.lanes, 1)
    return where(positive, one, 0) if dtype.kind == "u" else where(positive, one, x >> (8 * dtype.itemsize - 1))


def _compare(signed: str, unsigned: str) -> Callable[[DType, V, V], V]:
    return lambda d, a, b: getattr(a, unsigned if d.kind in "ub" else signed)(b)


_COMPARE: dict[str, Callable[..., V]] = {"lt": _compare("lt", "ult"), "le": _compare("le", "ule"), "gt": _compare("gt", "ugt"),
            "ge": _compare("ge", "uge"), "eq": _compare("eq", "eq"), "ne": _compare("ne", "ne"),
            "where": lambda d, c, a, b: where(c, a, b)}  # fmt: skip
_FLOAT: dict[str, Callable[..., V]] = {
    **_COMPARE,
    "add": lambda d, a, b: a + b, "sub": lambda d, a, b: a - b, "mul": lambda d, a, b: a * b,
    "div": lambda d, a, b: a / b, "neg": lambda d, a: -a, "abs": lambda d, a: a.abs(), "sign": _float_sign,
    "floordiv": _float_floordiv, "truncdiv": lambda d, a, b: (a / b).trunc(), "mod": _float_mod, "fmod": _float_fmod,
    "min": lambda d, a, b: _extreme(d, a, b, False), "max": lambda d, a, b: _extreme(d, a, b, True),
    "copysign": lambda d, a, b: a.copysign(b), "sqrt": lambda d, a: a.sqrt(), "rsqrt": lambda d, a: 1 / a.sqrt(),
    "reciprocal": lambda d, a: 1 / a, "floor": lambda d, a: a.floor(), "ceil": lambda d, a: intrinsic("ceil", a),
    "round": lambda d, a: a.nearest(), "trunc": lambda d, a: a.trunc(), "isnan": lambda d, a: a.isnan(),
    "isinf": lambda d, a: a.abs().eq(math.inf),
}  # fmt: skip
_INTEGER: dict[str, Callable[..., V]] = {
    **_COMPARE,
    "add": lambda d, a, b: a + b, "sub": lambda d, a, b: a - b, "mul": lambda d, a, b: a * b, "neg": lambda d, a: -a,
    "abs": lambda d, a: a if d.kind == "u" else where(a.lt(0), -a, a), "sign": _int_sign,
    "floordiv": integers.floordiv, "truncdiv": integers.truncdiv, "mod": integers.mod, "fmod": integers.fmod, "pow": integers.power,
    "min": lambda d, a, b: _extreme(d, a, b, False), "max": lambda d, a, b: _extreme(d, a, b, True),
    "and": lambda d, a, b: a & b, "or": lambda d, a, b: a | b, "xor": lambda d, a, b: a ^ b, "not": lambda d, a: ~a,
    "shl": lambda d, a, b: _shift(d, a, b, True), "shr": lambda d, a, b: _shift(d, a, b, False),
    "floor": lambda d, a: a, "ceil": lambda d, a: a, "round": lambda d, a: a, "trunc": lambda d, a: a,
    "isnan": lambda d, a: const(a.f, "i1", a.lanes, 0), "isinf": lambda d, a: const(a.f, "i1", a.lanes, 0),
}  # fmt: skip
# Arithmetic on truth values is that of the integers 0 and 1, with 1 + 1 = 1.
_BOOL: dict[str, Callable[..., V]] = {
    **_COMPARE,
    "add": lambda d, a, b: a | b, "or": lambda d, a, b: a | b, "max": lambda d, a, b: a | b,
    "mul": lambda d, a, b: a & b, "and": lambda d, a, b: a & b, "min": lambda d, a, b: a & b,
    "sub": lambda d, a, b: a ^ b, "xor": lambda d, a, b: a ^ b, "not": lambda d, a: ~a, "neg": lambda d, a: a,
    "abs": lambda d, a: a, "sign": lambda d, a: a, "pow": lambda d, a, b: a | ~b,
    "isnan": lambda d, a: const(a.f, "i1", a.lanes, 0), "isinf": lambda d, a: const(a.f, "i1", a.lanes, 0),
}  # fmt: skip
