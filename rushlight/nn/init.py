"""Initial values of parameters. Each function fills its tensor in place, outside of autograd, and returns it.

Numbers are drawn in PyTorch's order, so that the same seed gives the same parameters.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd.modes import no_grad
from ..autograd.writing import at_rest, written_over
from ..record.warn import warn
from ..tensor import FUNCTIONS
from ..tensor.creation import from_owned

__all__ = ["calculate_gain", "uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_", "xavier_uniform_",
           "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_", "uniform", "normal",
           "constant", "eye", "dirac",
           "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal", "sparse"]

_EVERY_FLOAT = 448.0  # every floating-point type reaches as far


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """The factor by which weights before a nonlinearity are scaled so that variances stay.

    Raises:
        ValueError: unknown nonlinearity, or a slope of leaky_relu that is no number.
    """
    if nonlinearity in ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid"):
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        if param is None:
            slope: Any = 0.01
        elif isinstance(param, (int, float)) and not isinstance(param, bool):
            slope = param
        else:
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope ** 2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


# -- plain distributions ------------------------------------------------------------------------------------------


@no_grad()
def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Any:
    """Uniform numbers in [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Any:
    """Normal numbers."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None) -> Any:
    """Normal numbers within [a, b]."""
    if mean < a - 2 * std or mean > b + 2 * std:
        warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be incorrect.")

    if tensor.is_meta:
        return tensor.normal_(mean, std)
    share = _below((b - mean) / std) - _below((a - mean) / std)
    drawn = _rejected_normals if share > 0.3 else _rejected_uniforms
    return tensor.copy_(from_owned(drawn(tensor, mean, std, a, b, generator)))


def _below(x: float) -> float:
    """The distribution function of the standard normal distribution."""
    return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0


def _rejected_normals(tensor: Any, mean: float, std: float, a: float, b: float, generator: Any) -> np.ndarray:
    """Normals, drawn again where they fall outside: for intervals that hold much of the distribution."""
    def draw(into: Any) -> np.ndarray:
        return np.array(into.normal_(mean, std, generator=generator)._array())
    values = draw(tensor)
    low, high = values.dtype.type(a), values.dtype.type(b)
    while (outside := (values < low) | (values > high)).any():
        values = np.where(outside, draw(FUNCTIONS["empty_like"](tensor)), values)  # in the order of the tensor's memory, like the first
    return values


def _rejected_uniforms(tensor: Any, mean: float, std: float, a: float, b: float, generator: Any) -> np.ndarray:
    """Uniform candidates, kept with the probability of their density: for intervals in a tail."""
    log_peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2

    def draw(low: float, high: float) -> Any:
        return FUNCTIONS["empty_like"](tensor).uniform_(low, high, generator=generator)

    def refused(candidates: Any) -> np.ndarray:
        log_density = ((candidates - mean) / std).pow(2) * -0.5 - log_peak
        return (draw(0.0, 1.0).log() > log_density)._array()
    values = draw(a, b)
    pending = np.array(refused(values))
    found = np.array(values._array())
    while pending.any():
        candidates = draw(a, b)
        found = np.where(pending, candidates._array(), found)
        pending = pending & refused(candidates)
    return found


@no_grad()
def constant_(tensor: Any, val: float) -> Any:
    """One number."""
    kind = tensor.dtype.kind
    simple = type(val) in (int, float) and (kind == "f" and abs(val) <= _EVERY_FLOAT or kind in "iu" and val in (0, 1))
    memory = at_rest(tensor) if simple else None
    if memory is None:
        return tensor.fill_(val)
    # Nothing is recorded: the first step of a training is to be a path like those after it, not one that also makes the weights.
    memory.array(tensor.dtype.numpy, tuple(tensor.shape))[...] = val
    return written_over(tensor)


@no_grad()
def ones_(tensor: Any) -> Any:
    """Ones."""
    return constant_(tensor, 1.0)


@no_grad()
def zeros_(tensor: Any) -> Any:
    """Zeros."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Any) -> Any:
    """The identity matrix.

    Raises:
        ValueError: not two-dimensional.
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return tensor.copy_(FUNCTIONS["eye"](*tensor.shape, dtype=tensor.dtype))


@no_grad()
def dirac_(tensor: Any, groups: int = 1) -> Any:
    """Convolution weights (O, I, *kernel) that pass their input through.

    Raises:
        ValueError: not three to five dimensions, or O is not a multiple of ``groups``.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    shape = tuple(tensor.shape)
    if shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    rows = shape[0] // groups
    made = np.zeros(shape, np.float32)
    centre = tuple(n // 2 for n in shape[2:])
    for group in range(groups):
        for d in range(min(rows, shape[1])):
            place = (group * rows + d, d, *centre)
            made[place] = 1
    return tensor.copy_(from_owned(made))


# -- scaled by fan ------------------------------------------------------------------------------------------------


def _calculate_fan_in_and_fan_out(tensor: Any) -> tuple[int, int]:
    """(inputs of one output, outputs of one input) of a weight (out, in, *kernel)."""
    if tensor.dim() < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _calculate_correct_fan(tensor: Any, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Uniform, with standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / float(sum(_calculate_fan_in_and_fan_out(tensor))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Normal, with standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / float(sum(_calculate_fan_in_and_fan_out(tensor)))), generator)


def _empty(tensor: Any) -> bool:
    if 0 in tensor.shape:
        warn("Initializing zero-element tensors is a no-op")
        return True
    return False


def kaiming_uniform_(tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None) -> Any:
    """Uniform, with standard deviation gain / sqrt(fan)."""
    if _empty(tensor):
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None) -> Any:
    """Normal, with standard deviation gain / sqrt(fan)."""
    if _empty(tensor):
        return tensor
    return normal_(tensor, 0, calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode)), generator)


# -- structured ---------------------------------------------------------------------------------------------------


@no_grad()
def orthogonal_(tensor: Any, gain: float = 1, generator: Any = None) -> Any:
    """A (semi-)orthogonal matrix; dimensions from the second on count as one.

    Raises:
        ValueError: fewer than two dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    if tensor.is_meta:
        return tensor.normal_()
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    drawn = tensor.new_empty((rows, columns)).normal_(0, 1, generator=generator)._array()
    q, r = np.linalg.qr(drawn.T if rows < columns else drawn)
    q = q * np.sign(np.diag(r))
    made = np.ascontiguousarray(q.T if rows < columns else q)
    tensor.copy_(from_owned(made).reshape(tuple(tensor.shape)))
    return tensor.mul_(gain)


@no_grad()
def sparse_(tensor: Any, sparsity: float, std: float = 0.01, generator: Any = None) -> Any:
    """Normal numbers, of which a share ``sparsity`` of each column is zero.

    Raises:
        ValueError: not two-dimensional.
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    if tensor.is_meta:
        return tensor
    values = np.array(tensor.detach()._array())
    for column in range(columns):
        order = FUNCTIONS["randperm"](rows)._array()
        values[order[:zeros], column] = 0
    return tensor.copy_(from_owned(values))


# -- names without the underscore, as old programs write them ------------------------------------------------------


def _deprecated(function: Any) -> Any:
    new, old = function.__name__, function.__name__[:-1]

    def call(*args: Any, **kwargs: Any) -> Any:
        warn(f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.", FutureWarning)
        return function(*args, **kwargs)
    call.__name__ = old
    call.__doc__ = f"Deprecated name of ``{new}``."
    return call


uniform, normal, constant, eye, dirac = map(_deprecated, (uniform_, normal_, constant_, eye_, dirac_))
xavier_uniform, xavier_normal = map(_deprecated, (xavier_uniform_, xavier_normal_))
kaiming_uniform, kaiming_normal = map(_deprecated, (kaiming_uniform_, kaiming_normal_))
orthogonal, sparse = map(_deprecated, (orthogonal_, sparse_))
