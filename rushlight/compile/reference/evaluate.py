"""The meaning of formulas, in NumPy, with PyTorch's rules for integers, NaN and half precision."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import DType
from ..errors import ZeroDivision
from ..expr import Expr, walk

__all__ = ["evaluate", "evaluated", "constant", "FUNCTIONS"]

_MANY = 1 << 16  # numbers that are worth loading SciPy for: some ten milliseconds' work


def evaluate(expr: Expr, inputs: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The value of ``expr`` where ``input(k)`` is ``inputs[k]`` and ``index(a)`` runs along axis a of ``shape``.

    The result may be smaller than ``shape`` (broadcast it) where the expression does not vary along an axis.
    """
    with np.errstate(all="ignore"):
        return evaluated(expr, inputs, shape)


def evaluated(expr: Expr, inputs: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """:func:`evaluate` where NumPy has been told not to warn."""
    values: dict[Expr, Any] = {}
    for n in walk(expr):
        kind = n.dtype.numpy
        if n.fn == "input":
            value = inputs[n.attr]
        elif n.fn == "const":
            value = constant(n.attr, n.dtype)
        elif n.fn == "index":
            value = np.arange(shape[n.attr]).reshape([-1 if d == n.attr else 1 for d in range(len(shape))])
        elif n.fn == "cast":
            value = cast(values[n.args[0]], n.dtype)
        elif n.fn == "bitcast":
            value = np.ascontiguousarray(values[n.args[0]]).view(kind).reshape(np.shape(values[n.args[0]]))
        else:
            args = [values[a] for a in n.args]
            half = n.args[-1].dtype.kind == "f" and n.args[-1].dtype.itemsize == 2
            if half:  # arithmetic on half precision is done in float32 and rounded
                args = [a.astype(np.float32) if a.dtype.itemsize == 2 else a for a in args]
            value = FUNCTIONS[n.fn](*args)
        value = np.asarray(value)
        values[n] = value if value.dtype == kind else value.astype(kind)
    return values[expr]


def constant(number: Any, d: DType) -> np.ndarray:
    """A number as an array without dimensions; whole numbers wrap around, as they do in compiled code."""
    if d.kind in "iu" and isinstance(number, int):
        return np.array(number & 0xFFFFFFFFFFFFFFFF, np.uint64).astype(d.numpy)
    return d.rounded(np.array(number)) if d.kind in "fq" else np.array(number, d.numpy)


def cast(x: np.ndarray, d: DType) -> np.ndarray:
    """Convert as PyTorch does on x86: floats truncate; what does not fit gives the least integer of the type that the
    processor converts to (int32 for int8, int16, uint16 and int32, else int64), of which the low bits are kept."""
    if d.kind == "b":
        return x != 0
    if x.dtype.kind == "c" and d.kind != "c":
        x = x.real
    if x.dtype.kind not in "biuc" and d.kind in "iu":
        whole = np.trunc(x.astype(np.float64))
        if d.name == "uint64":
            big = whole >= 2.0**63
            return _truncated(np.where(big, whole - 2.0**63, whole), 64).view(np.uint64) ^ (big.astype(np.uint64) << np.uint64(63))
        return _truncated(whole, 32 if d.name in ("int8", "int16", "uint16", "int32") else 64).astype(d.numpy)
    return d.rounded(x)


def _truncated(whole: np.ndarray, bits: int) -> np.ndarray:
    limit = 2.0 ** (bits - 1)
    return np.where((whole >= -limit) & (whole < limit), whole, -limit).astype(np.int64)


def _sign(x: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(x), 0, np.sign(x)).astype(x.dtype) if x.dtype.kind == "f" else np.sign(x)


def _special(name: str, *modules: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        try:
            from scipy import special
        except ImportError:
            raise ImportError(f"{name} needs SciPy: pip install \"rushlight[scipy]\"") from None
        return getattr(special, modules[0] if modules else name)(*args)
    return call


def _floordiv(a: Any, b: Any) -> Any:
    if np.any(b == 0) and a.dtype.kind in "iu":
        raise ZeroDivision
    return np.floor_divide(a, b)


def _truncdiv(a: Any, b: Any) -> Any:
    if a.dtype.kind not in "iu":
        return np.trunc(a / b)
    if np.any(b == 0):
        raise ZeroDivision
    q = np.floor_divide(a, b)
    return q + ((q < 0) & (q * b != a)).astype(a.dtype) if a.dtype.kind == "i" else q


def _checked_mod(f: Any) -> Callable[..., Any]:
    def call(a: Any, b: Any) -> Any:
        if a.dtype.kind in "iu" and np.any(b == 0):
            raise ZeroDivision
        return f(a, b)
    return call


def _mod(a: Any, b: Any) -> Any:
    if a.dtype.kind in "iu":
        return np.remainder(a, b)
    r = np.fmod(a, b)  # PyTorch: of fmod, moved by b where the signs differ
    return np.where((r != 0) & ((b < 0) != (r < 0)), r + b, r)


def _pow(a: Any, b: Any) -> Any:
    if a.dtype.kind in "iu":
        negative = b < 0
        exact = np.power(a, np.where(negative, 0, b))
        if not np.any(negative):
            return exact
        odd = np.where(b % 2 == 0, 1, -1)
        return np.where(negative, np.where(a == 1, 1, np.where(a == -1, odd, 0)), exact)
    return np.power(a, b)


def _shift(f: Any) -> Callable[..., Any]:
    def call(a: Any, b: Any) -> Any:
        bits = 8 * a.dtype.itemsize
        wide = (b < 0) | (b >= bits)
        safe = np.where(wide, bits - 1, b).astype(a.dtype)
        if f is np.left_shift:
            return np.where(wide, 0, np.left_shift(a, np.where(wide, 0, b).astype(a.dtype)))
        return np.where(wide & (a >= 0), 0, np.right_shift(a, safe))
    return call


def _logic(boolean: Any, bits: Any) -> Callable[..., Any]:
    return lambda a, *b: (boolean if a.dtype == bool else bits)(a, *b)


def _by_numbers(name: str) -> Callable[..., Any]:
    """A function that Python's mathematics has, and SciPy for many numbers: loading that takes as long as a million numbers do here, and
    is most of the first step of many a small network."""
    one = np.vectorize(getattr(math, name), otypes=[np.float64])

    def call(x: Any) -> Any:
        if np.size(x) > _MANY:
            try:
                from scipy import special
            except ImportError:
                pass
            else:
                return getattr(special, name)(x)
        return one(x).astype(x.dtype)
    return call


_erf, _erfc = _by_numbers("erf"), _by_numbers("erfc")


def _trigamma(x: Any) -> Any:
    return _special("polygamma")(1, x)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.abs,
    "sign": _sign,
    "floordiv": _floordiv, "truncdiv": _truncdiv, "mod": _checked_mod(_mod), "fmod": _checked_mod(np.fmod),
    "min": np.minimum, "max": np.maximum, "pow": _pow, "atan2": np.arctan2, "hypot": np.hypot, "copysign": np.copysign,
    "nextafter": np.nextafter,
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "log1p_exp": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": _erf, "erfc": _erfc, "normal_cdf": lambda x: (_erf(x * math.sqrt(0.5)) + 1) * 0.5, "erfinv": _special("erfinv"),
    "lgamma": lambda x: _special("lgamma", "gammaln")(np.where(x == -np.inf, np.inf, x)),
    "digamma": _special("digamma", "psi"), "trigamma": _trigamma, "i0": _special("i0"), "i0e": _special("i0e"),
    "i1": _special("i1"), "i1e": _special("i1e"), "ndtri": _special("ndtri"),
    "floor": np.floor, "ceil": np.ceil, "round": np.round, "trunc": np.trunc,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "isnan": np.isnan, "isinf": np.isinf,
    "and": _logic(np.logical_and, np.bitwise_and), "or": _logic(np.logical_or, np.bitwise_or),
    "xor": _logic(np.logical_xor, np.bitwise_xor), "not": _logic(np.logical_not, np.bitwise_not),
    "shl": _shift(np.left_shift), "shr": _shift(np.right_shift), "where": np.where,
}
