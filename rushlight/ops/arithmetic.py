"""Pointwise arithmetic, comparison and elementary functions."""
from __future__ import annotations

import math
from typing import Any

from ..compile import dtypes as dt
from ..record.op import backward_name
from .grad_names import UNKNOWN, by_first, by_number, by_tensor, pow_name, remainder_name, xlogy_name
from .pointwise import pointwise

__all__: list[str] = []


def _logical(e: Any, x: Any) -> Any:
    return x if x.dtype is dt.bool_ else e.cast(x, dt.bool_)


def _no_bool_sub(e: Any, x: Any, y: Any, alpha: Any) -> Any:
    if x.dtype is dt.bool_:
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` "
                           "operator instead.")
    return x - _scaled(e, y, alpha)


def _scaled(e: Any, y: Any, alpha: Any) -> Any:
    if alpha.fn == "const" and alpha.attr == 1:
        return y
    return y * alpha


def _add(e: Any, x: Any, y: Any, alpha: Any) -> Any:
    return x | y if x.dtype is dt.bool_ else x + _scaled(e, y, alpha)


def _mul(e: Any, x: Any, y: Any) -> Any:
    return x & y if x.dtype is dt.bool_ else x * y


def _neg(e: Any, x: Any) -> Any:
    if x.dtype is dt.bool_:
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use "
                           "the `~` or `logical_not()` operator instead.")
    return -x


def _floor_divide(e: Any, x: Any, y: Any) -> Any:
    """Python's //; for floats the quotient is corrected where rounding carried it past an integer."""
    if x.dtype.kind in "bui":
        return e.floordiv(x, y)
    remainder = e.fmod(x, y)
    quotient = (x - remainder) / y
    quotient = e.where(e.ne(remainder, 0) & (e.lt(y, 0) ^ e.lt(remainder, 0)), quotient - 1, quotient)
    near = e.floor(quotient)
    near = e.where(e.gt(quotient - near, 0.5), near + 1, near)
    near = e.where(e.eq(quotient, 0), e.copysign(e.const(0, x.dtype), x / y), near)
    return e.where(e.eq(y, 0), x / y, near)


def _pow(e: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind == "b":
        return x | ~y
    if x.dtype.kind in "ui" and y.fn == "const" and y.attr < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return e.pow(x, y)


def _maximum(e: Any, x: Any, y: Any) -> Any:
    return x | y if x.dtype is dt.bool_ else e.max(x, y)


def _minimum(e: Any, x: Any, y: Any) -> Any:
    return x & y if x.dtype is dt.bool_ else e.min(x, y)


def _fmax(e: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind != "f":
        return _maximum(e, x, y)
    return e.where(e.isnan(y), x, e.where(e.isnan(x), y, e.max(x, y)))


def _fmin(e: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind != "f":
        return _minimum(e, x, y)
    return e.where(e.isnan(y), x, e.where(e.isnan(x), y, e.min(x, y)))


def _half_tie(e: Any, g: Any, wins: Any, tie: Any) -> Any:
    return e.where(tie, g * 0.5, e.where(wins, g, e.const(0, g.dtype)))


def _where(e: Any, c: Any, x: Any, y: Any) -> Any:
    return e.where(_logical(e, c), x, y)


# PyTorch has no derivative of some functions. Here it is zero, as that of other steps (``floor``, ``sign``).

add = pointwise("add", _add, neutral=(2,))

sub = pointwise("sub", _no_bool_sub, neutral=(2,), grad_name=by_first("SubBackward0", "RsubBackward1"))
mul = pointwise("mul", _mul)
div = pointwise("div", lambda e, x, y: x / y, result="float", grad_name=by_first("DivBackward0", "MulBackward0"))
div_floor = pointwise("floor_divide", _floor_divide, grad_name=UNKNOWN, grads=(None, None), allowed="uif")
div_trunc = pointwise("div_trunc", grad_name="DivBackward2", allowed="uif", formula=lambda e, x, y:
                      e.truncdiv(x, y) if x.dtype.kind in "bui" else e.trunc(x / y), grads=(
    lambda e, g, out, x, y: None, lambda e, g, out, x, y: None))
div_floor_mode = pointwise("div_floor", grad_name="DivBackward2", formula=_floor_divide, allowed="uif", grads=(
    lambda e, g, out, x, y: None, lambda e, g, out, x, y: None))
fill = pointwise("fill", lambda e, x, value: e.cast(e.const(value, x.dtype), x.dtype), neutral=(1,), grads=(
    lambda e, g, out, x, value: None, lambda e, g, out, x, value: g))
remainder = pointwise("remainder", lambda e, x, y: e.mod(x, y), allowed="uif", grad_name=remainder_name, grads=(
    lambda e, g, out, x, y: g, lambda e, g, out, x, y: -(g * e.floor(x / y))))
fmod = pointwise("fmod", lambda e, x, y: e.fmod(x, y), allowed="uif", grad_name=by_tensor("Fmod"))
pow_ = pointwise("pow", _pow, grad_name=pow_name)
mul.once = div.once = pow_.once = True
neg = pointwise("neg", _neg)
positive = pointwise("positive", lambda e, x: x)
abs_ = pointwise("abs", lambda e, x: x if x.dtype.kind == "u" else e.abs(x), allowed="uifq")
sign = pointwise("sign", lambda e, x: x if x.dtype.kind == "b" else e.sign(x), allowed="buif")
maximum = pointwise("maximum", _maximum, allowed="buif", plain="c")
minimum = pointwise("minimum", _minimum, allowed="buif", plain="c")
fmax = pointwise("fmax", _fmax, allowed="buif", plain="c", grads=(
    lambda e, g, out, x, y: e.where(e.ge(x, y) | e.isnan(y), g, e.const(0, g.dtype)),
    lambda e, g, out, x, y: e.where(e.ge(x, y) | e.isnan(y), e.const(0, g.dtype), g)))
fmin = pointwise("fmin", _fmin, allowed="buif", plain="c", grads=(
    lambda e, g, out, x, y: e.where(e.le(x, y) | e.isnan(y), g, e.const(0, g.dtype)),
    lambda e, g, out, x, y: e.where(e.le(x, y) | e.isnan(y), e.const(0, g.dtype), g)))
where = pointwise("where", _where, raw=(0,), allowed="buifcq")
lerp = pointwise("lerp", grad_name=by_tensor("Lerp"), formula=lambda e, a, b, w:
                 e.where(e.lt(e.abs(w), 0.5), a + w * (b - a), b - (b - a) * (1 - w)), grads=(
    lambda e, g, out, a, b, w: g * (1 - w), lambda e, g, out, a, b, w: g * w, lambda e, g, out, a, b, w: g * (b - a)),
    allowed="f")
addcmul = pointwise("addcmul", lambda e, x, a, b, value: x + a * b * value, neutral=(3,))
addcdiv = pointwise("addcdiv", lambda e, x, a, b, value: x + a / b * value, neutral=(3,), allowed="fc")

# -- comparison and logic -----------------------------------------------------------------------------------------


def _compare(name: str, allowed: str) -> Any:
    return pointwise(name, lambda e, x, y: getattr(e, name)(x, y), result="bool", allowed=allowed)


eq, ne = (_compare(n, "buifcq") for n in ("eq", "ne"))
lt, le, gt, ge = (_compare(n, "buif") for n in ("lt", "le", "gt", "ge"))
logical_and = pointwise("logical_and", lambda e, x, y: _logical(e, x) & _logical(e, y), result="bool", raw=(0, 1))
logical_or = pointwise("logical_or", lambda e, x, y: _logical(e, x) | _logical(e, y), result="bool", raw=(0, 1))
logical_xor = pointwise("logical_xor", lambda e, x, y: _logical(e, x) ^ _logical(e, y), result="bool", raw=(0, 1))
logical_not = pointwise("logical_not", lambda e, x: ~_logical(e, x), result="bool", raw=(0,))
isnan = pointwise("isnan", lambda e, x: e.isnan(x) if x.dtype.kind == "f" else e.ne(x, x), result="bool", allowed="buifcq")
isinf = pointwise("isinf", lambda e, x: e.isinf(x) if x.dtype.kind == "f" else e.ne(x, x), result="bool")
isfinite = pointwise("isfinite", lambda e, x: ~(e.isnan(x) | e.isinf(x)) if x.dtype.kind == "f" else e.eq(x, x), result="bool")
isposinf = pointwise("isposinf", lambda e, x: e.eq(x, math.inf) if x.dtype.kind == "f" else e.ne(x, x), result="bool",
                     allowed="buif", plain="c")
isneginf = pointwise("isneginf", lambda e, x: e.eq(x, -math.inf) if x.dtype.kind == "f" else e.ne(x, x), result="bool",
                     allowed="buif", plain="c")
signbit = pointwise("signbit", lambda e, x: e.lt(e.copysign(e.const(1, x.dtype), x), 0) if x.dtype.kind == "f" else
                    e.ne(x, x) if x.dtype.kind in "bu" else e.lt(x, 0), result="bool", allowed="buif")

bitwise_and = pointwise("bitwise_and", lambda e, x, y: x & y, allowed="bui", grads=False)
bitwise_or = pointwise("bitwise_or", lambda e, x, y: x | y, allowed="bui", grads=False)
bitwise_xor = pointwise("bitwise_xor", lambda e, x, y: x ^ y, allowed="bui", grads=False)
bitwise_not = pointwise("bitwise_not", lambda e, x: ~x, allowed="bui", grads=False)
bitwise_left_shift = pointwise("bitwise_left_shift", lambda e, x, y: e.shl(x, y), allowed="ui", grads=False)
bitwise_right_shift = pointwise("bitwise_right_shift", lambda e, x, y: e.shr(x, y), allowed="ui", grads=False)

# -- elementary functions -----------------------------------------------------------------------------------------


def _unary(name: str, fn: str | None = None, allowed: str = "buifc", **kwargs: Any) -> Any:
    fn = fn or name
    return pointwise(name, lambda e, x: getattr(e, fn)(x), result="float", allowed=allowed, **kwargs)


exp, exp2, expm1, sqrt, rsqrt, reciprocal, tan, tanh = (_unary(n, keeps_result=True) for n in (
    "exp", "exp2", "expm1", "sqrt", "rsqrt", "reciprocal", "tan", "tanh"))
log, log2, log10, log1p = map(_unary, ("log", "log2", "log10", "log1p"))
sin, cos, asin, acos, atan = map(_unary, ("sin", "cos", "asin", "acos", "atan"))
sinh, cosh, asinh, acosh, atanh = map(_unary, ("sinh", "cosh", "asinh", "acosh", "atanh"))
erf, erfc, erfinv = (_unary(n, allowed="buif") for n in ("erf", "erfc", "erfinv"))
lgamma, digamma = (_unary(n, allowed="buif") for n in ("lgamma", "digamma"))
i0 = _unary("i0", allowed="buif")
i0e, i1, i1e, ndtri = (_unary(n, allowed="buif").named(f"Special{backward_name(n)}") for n in ("i0e", "i1", "i1e", "ndtri"))
atan2 = pointwise("atan2", lambda e, y, x: e.atan2(y, x), result="float", allowed="buif")
hypot = pointwise("hypot", lambda e, x, y: e.hypot(x, y), allowed="f")
copysign = pointwise("copysign", lambda e, x, y: e.copysign(x, y), result="float", allowed="buif", grad_name=by_number("Copysign"))
nextafter = pointwise("nextafter", lambda e, x, y: e.nextafter(x, y), allowed="f", grads=False)
xlogy = pointwise("xlogy", lambda e, x, y: e.where(e.isnan(y), y, e.where(e.eq(x, 0), x * 0, x * e.log(y))), result="float",
                  allowed="buif", grad_name=xlogy_name, grads=(
    lambda e, g, out, x, y: g * e.where(e.eq(x, 0) & e.le(y, 0), y * 0, e.log(y)), lambda e, g, out, x, y: g * x / y))
logaddexp = pointwise("logaddexp", lambda e, x, y: e.where(
    e.isinf(x) & e.eq(x, y), x, e.max(x, y) + e.log1p_exp(-e.abs(x - y))), allowed="f", grads=(
    lambda e, g, out, x, y: g * e.exp(x - out), lambda e, g, out, x, y: g * e.exp(y - out)))
logaddexp2 = pointwise("logaddexp2", lambda e, x, y: e.where(
    e.isinf(x) & e.eq(x, y), x, e.max(x, y) + e.log1p(e.exp2(-e.abs(x - y))) * (1 / math.log(2))), allowed="f", grads=(
    lambda e, g, out, x, y: g * e.exp2(x - out), lambda e, g, out, x, y: g * e.exp2(y - out)))


def _rounding(name: str) -> Any:
    return pointwise(name, lambda e, x: getattr(e, name)(x) if x.dtype.kind == "f" else x, allowed="uif")


floor, ceil, round_, trunc = map(_rounding, ("floor", "ceil", "round", "trunc"))
frac = pointwise("frac", lambda e, x: x - e.trunc(x), allowed="f")
deg2rad = pointwise("deg2rad", lambda e, x: x * (math.pi / 180), result="float", allowed="buif", plain="c")
rad2deg = pointwise("rad2deg", lambda e, x: x * (180 / math.pi), result="float", allowed="buif", plain="c")
square = pointwise("square", grad_name="PowBackward0", formula=lambda e, x: x * x, allowed="uifc")
heaviside = pointwise("heaviside", lambda e, x, v: e.where(e.eq(x, 0), v, e.cast(e.gt(x, 0), x.dtype)), allowed="buif",
                      plain="c", grads=(None, None), grad_name=UNKNOWN)
sinc = pointwise("sinc", lambda e, x: e.where(e.eq(x, 0), e.const(1, x.dtype), e.sin(x * math.pi) / (x * math.pi)),
                 result="float", allowed="buif", grads=(lambda e, g, out, x: g * e.where(
                     e.eq(x, 0), e.const(0, x.dtype), (e.cos(x * math.pi) * (x * math.pi) - e.sin(x * math.pi)) /
                     (x * x * math.pi)),))
logit = pointwise("logit", lambda e, x: e.log(x / (1 - x)), result="float", allowed="buif", grads=(
    lambda e, g, out, x: g / (x * (1 - x)),))
nan_to_num = pointwise("nan_to_num", lambda e, x, nan, high, low: x if x.dtype.kind != "f" else e.where(
    e.isnan(x), nan, e.where(e.eq(x, math.inf), high, e.where(e.eq(x, -math.inf), low, x))), neutral=(1, 2, 3), allowed="buif",
    grads=(lambda e, g, out, x, nan, high, low: e.where(e.isnan(x) | e.isinf(x), e.const(0, g.dtype), g),))
clamp = pointwise("clamp", grad_name=by_number("Clamp"), formula=lambda e, x, low, high: e.min(e.max(x, low), high), allowed="uif", grads=(
    lambda e, g, out, x, low, high: e.where(e.ge(x, low) & e.le(x, high), g, e.const(0, g.dtype)),
    lambda e, g, out, x, low, high: e.where(e.lt(x, low) & e.lt(low, high), g, e.const(0, g.dtype)),
    lambda e, g, out, x, low, high: e.where(e.gt(x, high) | e.ge(low, high), g, e.const(0, g.dtype))))
clamp_min = pointwise("clamp_min", _maximum, allowed="buif", grads=(
    lambda e, g, out, x, low: e.where(e.ge(x, low), g, e.const(0, g.dtype)),
    lambda e, g, out, x, low: e.where(e.lt(x, low), g, e.const(0, g.dtype))))
clamp_max = pointwise("clamp_max", _minimum, allowed="buif", grads=(
    lambda e, g, out, x, high: e.where(e.le(x, high), g, e.const(0, g.dtype)),
    lambda e, g, out, x, high: e.where(e.gt(x, high), g, e.const(0, g.dtype))))
