"""Arithmetic, comparison and elementary functions with PyTorch's signatures."""
from __future__ import annotations

import math
from typing import Any

from ..autograd.handle import Handle
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..ops import activation, complexes, special
from ..ops import arithmetic as ar
from ..ops.basic import cast
from ..ops.promotion import result_type
from ..record.warn import warn
from .registry import METHODS, public
from .scalars import check_fits, counted, scale_first

__all__: list[str] = []



# -- one tensor ---------------------------------------------------------------------------------------------------


def _publish_unary(op: Any, name: str, *aliases: str, inplace: bool = True, in_place_title: str | None = None,
                   in_place_of: str = "buifc") -> None:
    """``in_place_of``: the kinds that have the in-place method."""
    def call(input: Any) -> Any:
        return op(_tensor(input, name))
    call.__name__ = name
    call.__doc__ = f"Elementwise {name} of ``input``, of the same shape."
    call.in_place_of = in_place_of  # type: ignore[attr-defined]
    public(inplace=inplace, aliases=aliases)(titled(in_place=in_place_title)(call))


def _complex_sinc(x: Any) -> Any:
    y = ar.mul(x, math.pi)
    zero = ar.eq(x, 0)
    return ar.where(zero, 1, ar.div(ar.sin(y), ar.where(zero, 1, y)))


def _tensor(x: Any, name: str) -> Any:
    if not isinstance(x, Handle):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}")
    return x


for _name in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tan", "sinh",
              "cosh", "tanh", "erf", "erfc", "erfinv", "lgamma", "digamma", "sign", "floor", "ceil", "trunc", "frac", "deg2rad",
              "rad2deg", "i0", "logical_not", "bitwise_not"):
    _publish_unary(getattr(ar, _name), _name, *{"trunc": ("fix",)}.get(_name, ()))
for _name, _long in (("asin", "arcsin"), ("acos", "arccos"), ("atan", "arctan"), ("asinh", "arcsinh"), ("acosh", "arccosh"),
                     ("atanh", "arctanh")):
    _publish_unary(getattr(ar, _name), _name, _long, in_place_title=f"{_name.capitalize()}Backward1" if _name.endswith("h") else None)
_publish_unary(ar.neg, "neg", "negative")
_publish_unary(lambda x: complexes.modulus(x) if x.dtype.kind == "c" else ar.abs_(x), "abs", "absolute", in_place_of="fiub")
_publish_unary(lambda x: ar.square(x if x.dtype.kind != "b" else cast(x, attrs=(dt.int64,))), "square")
_publish_unary(lambda x: ar.sinc(x) if x.dtype.kind != "c" else _complex_sinc(x), "sinc")
_publish_unary(activation.sigmoid, "sigmoid")
_publish_unary(activation.relu, "relu")
for _name in ("isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit"):
    _publish_unary(getattr(ar, _name), _name, inplace=False)


@public()
def positive(input: Any) -> Any:
    """``input`` itself.

    Raises:
        RuntimeError: bool tensors.
    """
    if input.dtype.kind == "b":
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


@public(inplace=True, composite=True)
@titled(lambda input, decimals=0: f"RoundBackward{int(decimals != 0)}")
def round(input: Any, *, decimals: int = 0) -> Any:
    """Round half to even, to ``decimals`` places."""
    if decimals == 0:
        return ar.round_(input)
    scale = 10.0 ** abs(decimals)
    return ar.round_(input * scale) / scale if decimals > 0 else ar.round_(input / scale) * scale


@public(inplace=True, composite=True)
def logit(input: Any, eps: float | None = None) -> Any:
    """log(x / (1 - x)), x clamped to [eps, 1 - eps] first."""
    return ar.logit(input if eps is None else input.clamp(eps, 1 - eps))


@public(inplace=True, composite=True)
def nan_to_num(input: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Any:
    """Replace NaN by ``nan`` (0) and infinities by the largest finite numbers, unless given."""
    import ml_dtypes
    import numpy as np

    if input.dtype.kind != "f":
        return input.clone()
    limit = float((ml_dtypes.finfo if input.dtype.name == "bfloat16" else np.finfo)(input.dtype.numpy).max)
    return ar.nan_to_num(input, 0.0 if nan is None else nan, limit if posinf is None else posinf,
                         -limit if neginf is None else neginf)


# -- two tensors --------------------------------------------------------------------------------------------------


def _check_alpha(alpha: Any, *operands: Any) -> None:
    if isinstance(alpha, float) and all(_kind(x) in "bui" for x in operands):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(alpha, bool) and any(_kind(x) != "b" for x in operands):
        raise RuntimeError("Boolean alpha only supported for Boolean results.")


def _check_no_bool(*operands: Any) -> None:
    bools = [x._value.meta.dtype.kind == "b" if isinstance(x, Handle) else type(x) is bool for x in operands]
    if any(bools):
        what = "two bool tensors" if all(bools) else "a bool tensor"
        raise RuntimeError(f"Subtraction, the `-` operator, with {what} is not supported. If you are trying to invert a mask, use the "
                           "`~` or `logical_not()` operator instead.")


def _kind(x: Any) -> str:
    if isinstance(x, Handle):
        return x.dtype.kind
    return "b" if isinstance(x, bool) else "i" if isinstance(x, int) else "c" if isinstance(x, complex) else "f"


@public(inplace=True)
def add(input: Any, other: Any, old: Any = None, *, alpha: Any = 1) -> Any:
    """``input + alpha * other``, broadcast. (``add(input, alpha, other)`` is how it was called once.)"""
    if old is not None:
        alpha, other = scale_first("add", other, old)
    input = counted(input, other)
    if alpha != 1 or type(alpha) is not int:
        _check_alpha(alpha, input, other)
    return ar.add(input, other, alpha)


@public(inplace=True, aliases=("subtract",))
def sub(input: Any, other: Any, old: Any = None, *, alpha: Any = 1) -> Any:
    """``input - alpha * other``, broadcast. (``sub(input, alpha, other)`` is how it was called once.)

    Raises:
        RuntimeError: an operand is a bool tensor.
    """
    if old is not None:
        alpha, other = scale_first("sub", other, old)
    input = counted(input, other)
    _check_no_bool(input, other)
    if alpha != 1 or type(alpha) is not int:
        _check_alpha(alpha, input, other)
    return ar.sub(input, other, alpha)


@public()
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """``other - alpha * input``."""
    _check_no_bool(input, other)
    _tensor(input, "rsub")
    return ar.sub.named(f"RsubBackward{int(not isinstance(other, Handle))}")(other, input, alpha)


@public(inplace=True, aliases=("divide",))
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """``input / other``; ``rounding_mode`` None (true division), "trunc" or "floor"."""
    input = counted(input, other)
    if rounding_mode is None:
        return ar.div(input, other)
    if rounding_mode == "floor":
        _check_divisor(input, other)
        return ar.div_floor_mode(input, other)
    if rounding_mode == "trunc":
        return ar.div_trunc(input, other)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


@public(inplace=True)
def true_divide(input: Any, other: Any) -> Any:
    """Division, also of integers, with a floating result."""
    return ar.div(counted(input, other), other)


@public(inplace=True)
def floor_divide(input: Any, other: Any) -> Any:
    """Division rounded to minus infinity.

    Raises:
        RuntimeError: integer division by the number zero ("ZeroDivisionError").
    """
    input = counted(input, other)
    _check_divisor(input, other)
    return ar.div_floor(input, other)


def _check_divisor(input: Any, other: Any) -> None:
    """Division of integers by the number 0 is known at once; by elements that are 0 when it is computed."""
    if not isinstance(other, Handle) and other == 0 and _kind(input) in "bui" and _kind(other) in "bui":
        raise RuntimeError("ZeroDivisionError")


def _publish_binary(op: Any, name: str, *aliases: str, inplace: bool = True, tensors_only: bool = False, first: bool = False,
                    divides: bool = False, numbers: bool = False) -> None:
    """``numbers``: both may be numbers."""
    def call(input: Any, other: Any) -> Any:
        if numbers:
            input = counted(input, other)
        if first and not isinstance(input, Handle):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        if not isinstance(input, Handle) and not isinstance(other, Handle) or tensors_only and not (
                isinstance(input, Handle) and isinstance(other, Handle)):
            bad = other if isinstance(input, Handle) else input
            raise TypeError(f"{name}(): argument must be Tensor, not {type(bad).__name__}")
        if divides:
            _check_divisor(input, other)
        return op(input, other)
    call.__name__ = name
    call.__doc__ = f"Elementwise {name} of two tensors (or a tensor and a number), broadcast."
    public(inplace=inplace, aliases=aliases)(call)


def _nextafter(x: Any, y: Any) -> Any:
    d = result_type([x._value.meta, y._value.meta], [])
    if d.kind == "f" and d.itemsize == 2:
        return special.nextafter_narrow(cast(x, attrs=(d,)), cast(y, attrs=(d,)))
    return ar.nextafter(x, y)


def _heaviside(x: Any, values: Any) -> Any:
    if x.dtype is not values.dtype and "c" not in (x.dtype.kind, values.dtype.kind):
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    return ar.heaviside(x, values)


def _logaddexp(x: Any, y: Any) -> Any:
    if "c" not in (x.dtype.kind, y.dtype.kind):
        return ar.logaddexp(x, y)
    d = result_type([x._value.meta, y._value.meta], [])
    x, y = (cast(t, attrs=(d,)) for t in (x, y))
    larger = ar.ge(complexes.pairs(x).select(-1, 0), complexes.pairs(y).select(-1, 0))
    high, low = ar.where(larger, x, y), ar.where(larger, y, x)
    return ar.add(high, ar.log(ar.add(ar.exp(ar.sub(low, high, 1)), 1, 1)), 1)


def _power(x: Any, y: Any) -> Any:
    if isinstance(x, Handle) and isinstance(y, Handle) and x.dtype.kind == y.dtype.kind == "b":
        raise NotImplementedError('"pow" not implemented for \'Bool\'')
    if type(y) is int and y < 0 and isinstance(x, Handle) and x.dtype.kind in "bui":
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return ar.pow_(x, y)


_publish_binary(ar.mul, "mul", "multiply", numbers=True)
_publish_binary(ar.remainder, "remainder", divides=True)
_publish_binary(ar.fmod, "fmod", divides=True)
_publish_binary(_power, "pow")
_publish_binary(ar.atan2, "atan2", "arctan2", tensors_only=True)
_publish_binary(ar.hypot, "hypot", tensors_only=True)
_publish_binary(ar.copysign, "copysign", first=True)
_publish_binary(_nextafter, "nextafter", tensors_only=True)
_publish_binary(ar.xlogy, "xlogy")
_publish_binary(_heaviside, "heaviside", tensors_only=True)
_publish_binary(_logaddexp, "logaddexp", inplace=False, tensors_only=True)
for _name in ("maximum", "minimum", "fmax", "fmin", "logaddexp2"):
    _publish_binary(getattr(ar, _name), _name, inplace=False, tensors_only=True)
for _name, _long in (("eq", ""), ("ne", "not_equal"), ("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal")):
    _publish_binary(getattr(ar, _name), _name, *((_long,) if _long else ()), first=True)
for _name in ("logical_and", "logical_or", "logical_xor"):
    _publish_binary(getattr(ar, _name), _name, tensors_only=True)
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"):
    _publish_binary(getattr(ar, _name), _name)


def _check_bound(input: Any, bound: Any) -> None:
    if type(bound) is bool and input.dtype.kind == "b":
        raise NotImplementedError('"clamp" not implemented for \'Bool\'')


def _clamped(op: Any, bound: Any) -> Any:
    """``clamp`` with a single bound."""
    return op.named(f"ClampBackward{int(not isinstance(bound, Handle))}")


@public(inplace=True, aliases=("clip",))
def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """Limit to [min, max]; each a number, a tensor or None.

    Raises:
        RuntimeError: both are None, or a bound does not fit the integer dtype of ``input``.
    """
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if input.dtype.kind in "iub":
        for bound in (min, max):
            if type(bound) is int:
                check_fits(bound, input.dtype)
            elif type(bound) is bool:
                _check_bound(input, bound)
    if max is None:
        return _clamped(ar.clamp_min, min)(input, min)
    return _clamped(ar.clamp_max, max)(input, max) if min is None else ar.clamp(input, min, max)


@public(inplace=True)
def clamp_min(input: Any, min: Any) -> Any:
    """The larger of ``input`` and ``min``."""
    _check_bound(_tensor(input, "clamp_min"), min)
    return (ar.clamp_min.named("ClampMinBackward1") if isinstance(min, Handle) else ar.clamp_min)(input, min)


@public(inplace=True)
def clamp_max(input: Any, max: Any) -> Any:
    """The smaller of ``input`` and ``max``."""
    _check_bound(_tensor(input, "clamp_max"), max)
    return (ar.clamp_max.named("ClampMaxBackward1") if isinstance(max, Handle) else ar.clamp_max)(input, max)


@public(inplace=True)
def lerp(input: Any, end: Any, weight: Any) -> Any:
    """``input + weight * (end - input)``."""
    if isinstance(end, Handle) and end.dtype is not input.dtype:
        raise RuntimeError(f"expected dtype {input.dtype} for `end` but got dtype {end.dtype}")
    if input.dtype.kind not in "fc":
        raise NotImplementedError(f'"lerp" not implemented for {input.dtype}')
    if input.dtype.kind == "c":
        return ar.add(input, ar.mul(ar.sub(end, input, 1), weight), 1)
    return ar.lerp(input, end, weight)


@public(inplace=True)
def addcmul(input: Any, tensor1: Any, tensor2: Any, old: Any = None, *, value: Any = 1) -> Any:
    """``input + value * tensor1 * tensor2``. (``addcmul(input, value, tensor1, tensor2)`` is how it was called once.)"""
    if old is not None:
        value, tensor1, tensor2 = scale_first("addcmul", tensor1, tensor2, old)
    return ar.addcmul(input, tensor1, tensor2, value)


@public(inplace=True)
def addcdiv(input: Any, tensor1: Any, tensor2: Any, old: Any = None, *, value: Any = 1) -> Any:
    """``input + value * tensor1 / tensor2``. (``addcdiv(input, value, tensor1, tensor2)`` is how it was called once.)"""
    if old is not None:
        value, tensor1, tensor2 = scale_first("addcdiv", tensor1, tensor2, old)
    if tensor1.dtype.kind in "bui" and tensor2.dtype.kind in "bui":
        raise RuntimeError("Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a true "
                           "division of tensor1 and tensor2.")
    return ar.addcdiv(input, tensor1, tensor2, value)


def _where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` is true, else ``other``; with the condition alone: ``nonzero(as_tuple=True)``."""
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if condition.dtype is dt.uint8:
        warn("where received a uint8 condition tensor. This behavior is deprecated. Use a boolean condition instead.", UserWarning)
    elif condition.dtype is not dt.bool_:
        raise RuntimeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype}")
    return ar.where(condition, input, other)


_where.__name__ = "where"
public(method=False)(_where)
METHODS["where"] = lambda self, condition, other: _where(condition, self, other)
