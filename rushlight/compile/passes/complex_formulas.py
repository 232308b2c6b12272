"""Formulas of complex numbers as formulas of their parts."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rushlight.compile.expr import Expr, cast, const, e, walk

__all__ = ["split"]

Parts = tuple[Expr, Expr]


def split(formula: Expr, inputs: Mapping[int, Expr | Parts]) -> Expr | Parts | None:
    """Real and imaginary part of ``formula``, or the formula alone where its value is real; None if it has no such form.

    Args:
        formula: any of its values may be complex.
        inputs: what stands for input k: two formulas for a complex input, else one.
    """
    made: dict[Expr, Any] = {}
    for n in walk(formula):
        args = [made[a] for a in n.args]
        if n.fn == "input":
            made[n] = inputs[n.attr]
        elif n.dtype.kind != "c" and not any(isinstance(a, tuple) for a in args):
            made[n] = Expr(n.fn, tuple(args), n.dtype, n.attr)
        else:
            rule = _RULES.get(n.fn)
            if rule is None:
                return None
            made[n] = rule(n, *args)
    return made[formula]


def _const(n: Expr) -> Parts:
    real = n.dtype.to_real()
    return const(complex(n.attr).real, real), const(complex(n.attr).imag, real)


def _cast(n: Expr, x: Expr | Parts) -> Expr | Parts:
    if not isinstance(x, tuple):
        real = n.dtype.to_real()
        return cast(x, real), const(0.0, real)
    if n.dtype.kind == "b":
        return e.ne(x[0], 0) | e.ne(x[1], 0)
    if n.dtype.kind != "c":
        return cast(x[0], n.dtype)
    return cast(x[0], n.dtype.to_real()), cast(x[1], n.dtype.to_real())


def _mul(n: Expr, x: Parts, y: Parts) -> Parts:
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def _div(n: Expr, x: Parts, y: Parts) -> Parts:
    """By the larger part of the divisor, as NumPy does, so that nothing overflows on the way."""
    (a, b), (c, d) = x, y
    level = e.ge(e.abs(c), e.abs(d))
    large, small = e.where(level, c, d), e.where(level, d, c)
    nothing = e.eq(large, 0) & e.eq(small, 0)
    ratio = e.where(nothing, small, small / large)
    size = large + small * ratio
    return (e.where(level, a + b * ratio, a * ratio + b) / size, e.where(level, b - a * ratio, b * ratio - a) / size)


def _reciprocal(n: Expr, x: Parts) -> Parts:
    return _div(n, (const(1.0, x[0].dtype), const(0.0, x[0].dtype)), x)


def _exp(n: Expr, x: Parts) -> Parts:
    size = e.exp(x[0])
    flat = e.eq(x[1], 0)  # exp(inf + 0j) is inf + 0j
    return size * e.cos(x[1]), e.where(flat, x[1], size * e.sin(x[1]))


_RULES: Final[dict[str, Callable[..., Any]]] = {
    "const": _const, "cast": _cast, "mul": _mul, "div": _div, "reciprocal": _reciprocal, "exp": _exp,
    "add": lambda n, x, y: (x[0] + y[0], x[1] + y[1]),
    "sub": lambda n, x, y: (x[0] - y[0], x[1] - y[1]),
    "neg": lambda n, x: (-x[0], -x[1]),
    "where": lambda n, c, x, y: (e.where(c, x[0], y[0]), e.where(c, x[1], y[1])),
    "eq": lambda n, x, y: e.eq(x[0], y[0]) & e.eq(x[1], y[1]),
    "ne": lambda n, x, y: e.ne(x[0], y[0]) | e.ne(x[1], y[1]),
}
