"""Pointwise activations; each is one formula, its gradient explicit only where the derived one is not stable.

Comparisons are written so that a NaN lets the gradient through, as in PyTorch: ``le(out, 0)`` and not ``gt(out, 0)``.
"""
from __future__ import annotations

import math
from typing import Any

from .pointwise import pointwise

__all__: list[str] = []


def _zero(e: Any, g: Any) -> Any:
    return e.const(0, g.dtype)


relu = pointwise("relu", lambda e, x: e.max(x, 0), allowed="uif", plain="b", grads=(
    lambda e, g, out, x: e.where(e.le(out, 0), _zero(e, g), g),))
sigmoid = pointwise("sigmoid", lambda e, x: 1 / (1 + e.exp(-x)), result="float", grads=(
    lambda e, g, out, x: g * (out * (1 - out)),))
hardtanh = pointwise("hardtanh", lambda e, x, low, high: e.min(e.max(x, low), high), neutral=(1, 2), allowed="uif",
                     plain="b", grads=(
    lambda e, g, out, x, low, high: e.where(e.le(x, low) | e.ge(x, high), _zero(e, g), g),))
leaky_relu = pointwise("leaky_relu", lambda e, x, slope: e.where(e.gt(x, 0), x, x * slope), neutral=(1,), allowed="f")
elu = pointwise("elu", lambda e, x, alpha, scale, input_scale: e.where(
    e.gt(x, 0), x * scale, e.expm1(x * input_scale) * (alpha * scale)), neutral=(1, 2, 3), allowed="f", grads=(
    # The exponential of a large positive x is infinite: it must not be computed where it is not used, for infinity · 0 is NaN.
    lambda e, g, out, x, alpha, scale, input_scale: e.where(e.gt(x, 0), g * scale, g * (e.exp(
        e.where(e.gt(x, 0), _zero(e, x), x * input_scale)) * (alpha * scale * input_scale))),))
softplus = pointwise("softplus", lambda e, x, beta, threshold: _linear_beyond(
    e, x, beta, threshold, x, lambda: e.log1p_exp(x * beta) / beta), neutral=(1, 2), allowed="f", grads=(
    lambda e, g, out, x, beta, threshold: g * _linear_beyond(
        e, x, beta, threshold, e.const(1, g.dtype), lambda: 1 / (1 + e.exp(-(x * beta)))),))
silu = pointwise("silu", lambda e, x: x / (1 + e.exp(-x)), allowed="f", grads=(
    lambda e, g, out, x: g * (lambda s: s * (1 + x * (1 - s)))(1 / (1 + e.exp(-x))),))
mish = pointwise("mish", lambda e, x: x * _tanh_softplus(_grown(e, x)), allowed="f", grads=(
    lambda e, g, out, x: _mish_slope(e, g, e.min(x, 40)),))
gelu = pointwise("gelu", lambda e, x: x * e.normal_cdf(x), allowed="f", grads=(
    lambda e, g, out, x: g * (e.normal_cdf(x) + x * _bell(e, x) * (1 / math.sqrt(2 * math.pi))),))
gelu_tanh = pointwise("gelu", lambda e, x: x / (1 + _gelu_odds(e, x)), allowed="f", grads=(  # (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u))
    lambda e, g, out, x: g * _gelu_tanh_slope(e, e.min(e.max(x, -40), 40)),))
hardsigmoid = pointwise("hardsigmoid", lambda e, x: e.min(e.max(x + 3, 0), 6) / 6, allowed="f", grads=(
    lambda e, g, out, x: e.where(e.gt(x, -3) & e.lt(x, 3), g * (1 / 6), _zero(e, g)),))
hardswish = pointwise("hardswish", lambda e, x: x * e.min(e.max(x + 3, 0), 6) / 6, allowed="f", grads=(
    lambda e, g, out, x: e.where(e.le(x, -3), _zero(e, g), e.where(e.lt(x, 3), g * (x / 3 + 0.5), g)),))
logsigmoid = pointwise("log_sigmoid", lambda e, x: -e.log1p_exp(-x), allowed="f", grads=(
    lambda e, g, out, x: g / (1 + e.exp(x)),))
softsign = pointwise("softsign", grad_name="DivBackward0", formula=lambda e, x: x / (e.abs(x) + 1), allowed="f")
tanhshrink = pointwise("tanhshrink", grad_name="SubBackward0", formula=lambda e, x: x - e.tanh(x), result="float", allowed="uifc",
                       plain="b")
hardshrink = pointwise("hardshrink", lambda e, x, lambd: e.where(e.ge(x, -lambd) & e.le(x, lambd), _zero(e, x), x), neutral=(1,),
                       allowed="f", grads=(lambda e, g, out, x, lambd: e.where(e.ge(x, -lambd) & e.le(x, lambd), _zero(e, g), g),))
softshrink = pointwise("softshrink", lambda e, x, lambd: e.where(
    e.gt(x, lambd), x - lambd, e.where(e.lt(x, -lambd), x + lambd, x * 0)), neutral=(1,), allowed="f", grads=(
    lambda e, g, out, x, lambd: e.where(e.ge(x, -lambd) & e.le(x, lambd), _zero(e, g), g),))
threshold = pointwise("threshold", lambda e, x, limit, value: e.where(e.le(x, limit), value, x), neutral=(1, 2), allowed="uif",
                      grads=(lambda e, g, out, x, limit, value: e.where(e.le(x, limit), _zero(e, g), g),))
prelu = pointwise("prelu_kernel", lambda e, x, w: e.where(e.gt(x, 0), x, x * w), allowed="f")
prelu.autocast = "low"


def _linear_beyond(e: Any, x: Any, beta: Any, threshold: Any, beyond: Any, value: Any) -> Any:
    """``value()``, beyond the threshold ``beyond``, which in float32 it is anyway from 18 on."""
    if x.dtype.itemsize == 4 and all(n.fn == "const" for n in (beta, threshold)) and beta.attr == 1 and threshold.attr >= 18:
        return value()
    return e.where(e.gt(x * beta, threshold), beyond, value())


def _grown(e: Any, x: Any) -> Any:
    """exp(x), no greater than need be: from there on tanh(log(1 + exp(x))) and the sigmoid are 1."""
    return e.exp(e.min(x, 40))


def _bell(e: Any, x: Any) -> Any:
    """exp(-x²/2), but 0 below 2^-100 (in double precision 2^-1000): what it is multiplied by would make numbers of it that are not normal,
    each of which costs some hundred cycles. PyTorch's is 0 from where it would be none itself."""
    power, least = x * x * -0.5, -math.log(2) * (1000 if x.dtype.itemsize == 8 else 100)
    return e.where(e.lt(power, least), e.const(0, x.dtype), e.exp(e.max(power, least)))


def _gelu_odds(e: Any, x: Any) -> Any:
    return e.exp((x + x * x * x * 0.044715) * -math.sqrt(8 / math.pi))


def _gelu_tanh_slope(e: Any, x: Any) -> Any:
    s = 1 / (1 + _gelu_odds(e, x))
    return s * (1 + x * (1 - s) * (x * x * 0.134145 + 1) * math.sqrt(8 / math.pi))


def _tanh_softplus(n: Any) -> Any:
    """tanh(log(1 + n)) for n >= 0."""
    w = n * (n + 2)
    return w / (w + 2)


def _mish_slope(e: Any, g: Any, x: Any) -> Any:
    """With t = w / (w + 2), w + 1 = (n + 1)^2 and 1 - t^2 = 4 (w + 1) / (w + 2)^2: one division in all."""
    n = e.exp(x)
    w = n * (n + 2)
    q = 1 / (w + 2)
    return g * (q * (w + x * 4 * (n * (n + 1) * q)))
