"""Activation functions."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...autograd.titles import entitle_written, titled
from ...ops import activation as act
from ...ops import arithmetic as ar
from ...record.random import default_stream
from ...record.warn import warn
from ...tensor import FUNCTIONS, METHODS
from ...tensor.creation import from_owned
from ...tensor.out import assign, fill_out

__all__ = ["relu", "relu_", "relu6", "elu", "elu_", "selu", "selu_", "celu", "celu_", "leaky_relu", "leaky_relu_", "hardtanh", "hardtanh_",
           "threshold", "threshold_", "rrelu", "rrelu_", "prelu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "hardshrink",
           "softshrink", "softplus", "softsign", "tanhshrink", "logsigmoid", "sigmoid", "tanh", "glu", "softmax", "softmin",
           "log_softmax", "gumbel_softmax"]

prelu = FUNCTIONS["prelu"]
hardshrink = FUNCTIONS["hardshrink"]


def _done(input: Any, result: Any, inplace: bool, name: str) -> Any:
    if not inplace:
        return result
    assign(input, result, name + "_")
    entitle_written(input, _IN_PLACE.get(name))
    return input


_IN_PLACE = {"elu": "EluBackward1", "selu": "EluBackward1", "celu": "CeluBackward1", "leaky_relu": "LeakyReluBackward1",
             "threshold": "ThresholdBackward1", "rrelu": "RreluWithNoiseBackward1"}


def _into(out: Any, result: Any, name: str) -> Any:
    return result if out is None else fill_out(out, result, name)


def relu(input: Any, inplace: bool = False) -> Any:
    """max(0, x), elementwise."""
    return assign(input, act.relu(input), "relu_") if inplace else act.relu(input)


def relu6(input: Any, inplace: bool = False) -> Any:
    """min(max(0, x), 6)."""
    return _done(input, act.hardtanh(input, 0, 6), inplace, "hardtanh")


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """x limited to [min_val, max_val].

    Raises:
        ValueError: min_val > max_val.
    """
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if input.dtype.kind in "ui":
        if input.dtype.kind == "u" and (min_val < 0 or max_val < 0):
            raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
        min_val, max_val = int(min_val), int(max_val)
    return _done(input, act.hardtanh(input, min_val, max_val), inplace, "hardtanh")


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x where positive, else alpha * (exp(x) - 1)."""
    return _done(input, act.elu(input, alpha, 1.0, 1.0), inplace, "elu")


def selu(input: Any, inplace: bool = False) -> Any:
    """Scaled ELU, whose constants keep mean 0 and variance 1 through layers."""
    return _done(input, FUNCTIONS["selu"](input), inplace, "selu")


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    return _done(input, FUNCTIONS["celu"](input, alpha), inplace, "celu")


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x where positive, else negative_slope * x."""
    return _done(input, act.leaky_relu(input, negative_slope), inplace, "leaky_relu")


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """x where it is above ``threshold``, else ``value``."""
    return _done(input, act.threshold(input, threshold, value), inplace, "threshold")


@titled(lambda input, lower=0.125, upper=1 / 3, training=False, inplace=False: f"RreluWithNoiseBackward{int(inplace)}")
def rrelu(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False) -> Any:
    """Leaky ReLU whose slope is drawn from [lower, upper) for each element in training, and is their mean otherwise."""
    if lower > upper:
        raise RuntimeError(f"Lower bound should be less than or equal to the upper bound, but got {lower} and {upper}")
    if not training:
        return _done(input, act.leaky_relu(input, (lower + upper) / 2), inplace, "rrelu")
    if math.isinf(upper - lower):
        raise RuntimeError(f"rrelu: expected finite bounds, got {lower} and {upper}")
    slopes = _slopes(input.detach(), lower, upper)
    return _done(input, input * slopes, inplace, "rrelu")


def _slopes(x: Any, lower: float, upper: float) -> Any:
    """1 where x is positive; elsewhere one draw each, in memory order (the stream gives nothing for positive elements)."""
    values = x._array()
    negative = values <= 0
    n = int(negative.sum())
    kind = np.float64 if values.dtype == np.float64 else np.float32
    slopes = np.ones(values.shape, kind)
    slopes[negative] = default_stream.uniform(n, lower, upper, np.float64).astype(kind)
    return from_owned(slopes).to(x.dtype)


def gelu(input: Any, *, approximate: str = "none", out: Any = None) -> Any:
    """x * Phi(x), with the normal distribution's Phi, or its approximation by tanh ("tanh").

    Raises:
        RuntimeError: another name of an approximation.
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return _into(out, (act.gelu if approximate == "none" else act.gelu_tanh)(input), "gelu")


def silu(input: Any, inplace: bool = False) -> Any:
    """x * sigmoid(x), also called swish."""
    if input.dtype.kind == "c":
        return _done(input, input / (1 + (-input).exp()), inplace, "silu")
    return _done(input, act.silu(input), inplace, "silu")


def mish(input: Any, inplace: bool = False) -> Any:
    """x * tanh(softplus(x))."""
    return _done(input, act.mish(input), inplace, "mish")


def hardswish(input: Any, inplace: bool = False) -> Any:
    """x * relu6(x + 3) / 6."""
    return _done(input, act.hardswish(input), inplace, "hardswish")


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """relu6(x + 3) / 6."""
    return _done(input, act.hardsigmoid(input), inplace, "hardsigmoid")


def softshrink(input: Any, lambd: float = 0.5, *, out: Any = None) -> Any:
    """x moved towards 0 by lambd, 0 within [-lambd, lambd].

    Raises:
        RuntimeError: lambd is negative.
    """
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return _into(out, act.softshrink(input, lambd), "softshrink")


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0, *, out: Any = None) -> Any:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above ``threshold``."""
    return _into(out, act.softplus(input, beta, threshold), "softplus")


def softsign(input: Any) -> Any:
    """x / (1 + |x|)."""
    if input.dtype.kind != "f":
        return input / (input.abs() + 1)
    return act.softsign(input)


def tanhshrink(input: Any) -> Any:
    """x - tanh(x)."""
    if input.dtype.kind == "b":
        raise RuntimeError("tanhshrink: subtraction with a bool tensor is not supported.")
    return act.tanhshrink(input)


def logsigmoid(input: Any, *, out: Any = None) -> Any:
    """log(sigmoid(x))."""
    return _into(out, act.logsigmoid(input), "log_sigmoid")


def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def tanh(input: Any) -> Any:
    """The hyperbolic tangent."""
    return input.tanh()


_glu = ar.mul.named("GluBackward0")


def glu(input: Any, dim: int = -1) -> Any:
    """a * sigmoid(b), for the two halves a and b of ``input`` along ``dim``.

    Raises:
        RuntimeError: no dimension, or one of odd size.
    """
    if input.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    from ...ops.structured import wrap_dim

    d = wrap_dim(dim, input.ndim)
    n = input.shape[d]
    if n % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {d} is size {n}")
    if input.dtype.kind != "f":
        raise NotImplementedError(f'"glu" not implemented for {input.dtype}')
    a, b = input.narrow(d, 0, n // 2), input.narrow(d, n // 2, n // 2)
    return _glu(a, b.sigmoid())


def _softmax_dim(name: str, ndim: int) -> int:
    warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.")
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """exp(x) over ``dim``, divided by its sum."""
    if dim is None:
        dim = _softmax_dim("softmax", input.ndim)
    return METHODS["softmax"](input, dim, dtype)


def softmin(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """softmax(-x)."""
    if dim is None:
        dim = _softmax_dim("softmin", input.ndim)
    return METHODS["softmax"](-input, dim, dtype)


def log_softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """log(softmax(x)), computed without overflow or cancellation."""
    if dim is None:
        dim = _softmax_dim("log_softmax", input.ndim)
    return METHODS["log_softmax"](input, dim, dtype)


def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """A sample from the Gumbel-softmax distribution; with ``hard`` one-hot, with the gradient of the soft sample."""
    if eps != 1e-10:
        warn("`eps` parameter is deprecated and has no effect.")
    draws = default_stream.exponential(logits.numel(), 1.0, logits.dtype.numpy).reshape(tuple(logits.shape))
    gumbels = -from_owned(draws).log()
    soft = ((logits + gumbels) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.argmax(dim, keepdim=True)
    one_hot = FUNCTIONS["zeros_like"](logits).scatter(dim, index, 1.0)
    return one_hot - soft.detach() + soft


def _writing(function: Any, name: str) -> Any:
    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        return _done(input, function(input, *args, **kwargs), True, name)
    call.__name__ = name + "_"
    call.__doc__ = f"In-place version of ``{name}``."
    return call


relu_, elu_, selu_, celu_ = (_writing(f, f.__name__) for f in (relu, elu, selu, celu))
leaky_relu_, hardtanh_, threshold_, rrelu_ = (_writing(f, f.__name__) for f in (leaky_relu, hardtanh, threshold, rrelu))
