"""Symbolic derivatives of formulas: reverse accumulation over the expression graph."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import dtypes as dt
from .expr import Expr, cast, const, e, walk

__all__ = ["derivatives", "DERIVATIVES"]

Rule = Callable[..., Sequence[Any]]

# fn -> (g, y, *args) -> gradient for each argument (None: zero). y is the node itself.
DERIVATIVES: dict[str, Rule] = {
    "add": lambda g, y, a, b: (g, g),
    "sub": lambda g, y, a, b: (g, -g),
    "mul": lambda g, y, a, b: (g * b, g * a),
    "div": lambda g, y, a, b: (g / b, -(g * (y / b))),
    "neg": lambda g, y, a: (-g,),
    "abs": lambda g, y, a: (g * e.sign(a),),
    "mod": lambda g, y, a, b: (g, -(g * e.floor(a / b))),
    "fmod": lambda g, y, a, b: (g, -(g * e.trunc(a / b))),
    # PyTorch: where both are equal each side gets half.
    "min": lambda g, y, a, b: _extreme(g, a, b, a < b, a > b),
    "max": lambda g, y, a, b: _extreme(g, a, b, a > b, a < b),
    "pow": lambda g, y, a, b: (_pow_base(g, a, b), _pow_exponent(g, y, a, b)),
    "atan2": lambda g, y, a, b: (g * (b / (a * a + b * b)), g * (-a / (a * a + b * b))),
    "hypot": lambda g, y, a, b: (g * (a / y), g * (b / y)),
    "copysign": lambda g, y, a, b: (e.where(e.eq(a, 0), const(0, a.dtype), g * (y / a)), None),
    "exp": lambda g, y, a: (g * y,),
    "exp2": lambda g, y, a: (g * y * math.log(2),),
    "expm1": lambda g, y, a: (g * (y + 1),),
    "log": lambda g, y, a: (g / a,),
    "log2": lambda g, y, a: (g / (a * math.log(2)),),
    "log10": lambda g, y, a: (g / (a * math.log(10)),),
    "log1p": lambda g, y, a: (g / (a + 1),),
    "log1p_exp": lambda g, y, a: (g / (1 + e.exp(-a)),),
    "sqrt": lambda g, y, a: (g / (y * 2),),
    "rsqrt": lambda g, y, a: (g * -0.5 * (y * y * y),),
    "reciprocal": lambda g, y, a: (-(g * (y * y)),),
    "sin": lambda g, y, a: (g * e.cos(a),),
    "cos": lambda g, y, a: (-(g * e.sin(a)),),
    "tan": lambda g, y, a: (g * (y * y + 1),),
    "asin": lambda g, y, a: (g * e.rsqrt(1 - a * a),),
    "acos": lambda g, y, a: (-(g * e.rsqrt(1 - a * a)),),
    "atan": lambda g, y, a: (g / (a * a + 1),),
    "sinh": lambda g, y, a: (g * e.cosh(a),),
    "cosh": lambda g, y, a: (g * e.sinh(a),),
    "tanh": lambda g, y, a: (g * (1 - y * y),),
    "asinh": lambda g, y, a: (g * e.rsqrt(a * a + 1),),
    "acosh": lambda g, y, a: (g * e.rsqrt(a * a - 1),),
    "atanh": lambda g, y, a: (g / (1 - a * a),),
    "erf": lambda g, y, a: (g * e.exp(-(a * a)) * (2 / math.sqrt(math.pi)),),
    "normal_cdf": lambda g, y, a: (g * e.exp(a * a * -0.5) * (1 / math.sqrt(2 * math.pi)),),
    "erfc": lambda g, y, a: (g * e.exp(-(a * a)) * (-2 / math.sqrt(math.pi)),),
    "erfinv": lambda g, y, a: (g * e.exp(y * y) * (math.sqrt(math.pi) / 2),),
    "lgamma": lambda g, y, a: (g * e.digamma(a),),
    "digamma": lambda g, y, a: (g * e.trigamma(a),),
    "i0": lambda g, y, a: (g * e.i1(a),),
    "i0e": lambda g, y, a: (g * (e.i1e(a) - e.sign(a) * y),),
    "i1": lambda g, y, a: (g * (e.i0(a) - e.where(e.eq(a, 0), const(0.5, a.dtype), y / a)),),
    "i1e": lambda g, y, a: (g * (e.i0e(a) - e.where(e.eq(a, 0), const(0.5, a.dtype), y * (e.sign(a) + 1 / a))),),
    "ndtri": lambda g, y, a: (g * e.exp(y * y * 0.5) * math.sqrt(2 * math.pi),),
    "where": lambda g, y, c, a, b: (None, e.where(c, g, const(0, g.dtype)), e.where(c, const(0, g.dtype), g)),
    **{fn: (lambda g, y, *args: (None,) * len(args)) for fn in (
        "sign", "floor", "ceil", "round", "trunc", "floordiv", "truncdiv", "lt", "le", "gt", "ge", "eq", "ne", "isnan",
        "isinf", "and", "or", "xor", "not", "shl", "shr", "bitcast", "nextafter")},
    "trigamma": lambda g, y, a: _unknown("trigamma"),
}


def _unknown(name: str) -> Sequence[Any]:
    raise NotImplementedError(f"the derivative of {name} has no formula here")


def _extreme(g: Expr, a: Expr, b: Expr, a_wins: Expr, b_wins: Expr) -> tuple[Expr, Expr]:
    """A NaN wins against nothing and loses to nothing: both get the gradient, so that it does not vanish."""
    zero, half = const(0, g.dtype), g * 0.5
    tie = e.eq(a, b)
    return e.where(tie, half, e.where(b_wins, zero, g)), e.where(tie, half, e.where(a_wins, zero, g))


def _pow_base(g: Expr, a: Expr, b: Expr) -> Expr:
    if b.fn == "const":
        p = b.attr
        return const(0, g.dtype) if p == 0 else g * (e.pow(a, p - 1) * p)
    return e.where(e.eq(b, 0), const(0, g.dtype), g * (b * e.pow(a, b - 1)))


def _pow_exponent(g: Expr, y: Expr, a: Expr, b: Expr) -> Expr:
    zero = const(0, g.dtype)
    return e.where(e.eq(a, 0) & e.ge(b, 0), zero, g * (y * e.log(a)))


def derivatives(root: Expr, seed: Expr, wanted: Sequence[int]) -> dict[int, Expr | None]:
    """Input position -> d root / d input · seed, as an expression of the inputs (None: identically zero).

    Types follow the casts in the formula: a gradient has the floating type of what it is the gradient of.
    """
    order = list(walk(root))
    depends: set[Expr] = set()
    for n in order:
        if n.fn == "input" and n.attr in wanted or any(a in depends for a in n.args):
            depends.add(n)
    adjoint: dict[Expr, Expr] = {root: seed}
    for n in reversed(order):
        g = adjoint.get(n)
        if g is None or n not in depends or not n.args:
            continue
        if n.fn == "cast":
            source = n.args[0]
            if source.dtype.kind not in "fc" or n.dtype.kind not in "fc":
                continue
            parts: Sequence[Any] = (cast(g, source.dtype),)
        else:
            parts = DERIVATIVES[n.fn](g, n, *n.args)
        for a, part in zip(n.args, parts, strict=True):
            if part is None or a not in depends or a.dtype is dt.bool_:
                continue
            known = adjoint.get(a)
            adjoint[a] = part if known is None else known + part
    return {k: next((adjoint[n] for n in order if n.fn == "input" and n.attr == k and n in adjoint), None) for k in wanted}
