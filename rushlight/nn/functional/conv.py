"""Convolution and transposed convolution in one, two and three dimensions.

Example:
    >>> conv2d(rushlight.zeros(1, 3, 8, 8), rushlight.zeros(4, 3, 3, 3), padding=1).shape
    torch.Size([1, 4, 8, 8])
"""
from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any

from ...autograd.handle import Handle
from ...ops.basic import pad_constant
from ...ops.convolution import conv_input_grad, convolution
from ...ops.views import squeeze, unsqueeze

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


_squeezed = squeeze.named("SqueezeBackward1")


def spatial(value: Any, nd: int, name: str) -> tuple[int, ...]:
    """A number, or a sequence of one or ``nd`` numbers, as a tuple of ``nd``.

    Raises:
        RuntimeError: a sequence of another length. TypeError: not integers.
    """
    if isinstance(value, int):
        return (value,) * nd
    try:
        values = tuple(int(v.__index__()) for v in value)
    except (TypeError, AttributeError):
        raise TypeError(f"{name} must be an int or a tuple of ints, got {value!r}") from None
    if len(values) == 1:
        return values * nd
    if len(values) != nd:
        raise RuntimeError(f"expected {name} to be a single integer value or a list of {nd} values to match the convolution dimensions, "
                           f"but got {name}={list(values)}")
    return values


@lru_cache(maxsize=4096)
def _attrs(stride: Any, padding: Any, dilation: Any, groups: int, kernel: tuple[int, ...]) -> tuple[tuple, tuple | None]:
    """(attrs of the operation, (low, high) zeros to add first where the padding is not symmetric)."""
    nd = len(kernel)
    stride, dilation = spatial(stride, nd, "stride"), spatial(dilation, nd, "dilation")
    if any(d <= 0 for d in dilation):
        raise RuntimeError(f"dilation should be greater than zero, but got {dilation}")
    if not isinstance(padding, str):
        return (stride, spatial(padding, nd, "padding"), dilation, groups), None
    if padding == "valid":
        return (stride, (0,) * nd, dilation, groups), None
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: '{padding}' (expected 'valid' or 'same')")
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for d, k in zip(dilation, kernel)]
    low = tuple(t // 2 for t in total)
    extra = tuple(t - 2 * lo for t, lo in zip(total, low))
    return (stride, low, dilation, groups), ((0, 0, *(0,) * nd), (0, 0, *extra)) if any(extra) else None


def _hashable(value: Any) -> Any:
    """A number or several as part of a key: NumPy's, and tensors of one element, as Python's."""
    kind = type(value)
    if kind is int or kind is tuple or kind is str or value is None:
        return value
    try:
        return value if isinstance(value, bool) else operator.index(value)
    except TypeError:
        if not hasattr(value, "__iter__"):
            raise TypeError(f"expected an int or a tuple of ints, got {value!r}") from None
        return tuple(value)


def _checked(name: str, nd: int, input: Any, weight: Any, bias: Any) -> tuple[bool, tuple[int, ...]]:
    """(whether the input has no batch dimension, the weight's shape)."""
    for what, t in (("input", input), ("weight", weight)):
        if not isinstance(t, Handle):
            raise TypeError(f"{name}() argument '{what}' must be Tensor, not {type(t).__name__}")
    rank, shape = len(input._value.meta.shape), weight._value.meta.shape
    if len(shape) != nd + 2:
        raise RuntimeError(f"{name}: expected weight to be {nd + 2}-dimensional, but got weight of size {list(shape)} and input of size "
                           f"{list(input.shape)}")
    if rank not in (nd + 1, nd + 2):
        raise RuntimeError(f"Expected {nd + 1}D (unbatched) or {nd + 2}D (batched) input to {name}, but got input of size: "
                           f"{list(input.shape)}")
    return rank == nd + 1, shape


def _conv(name: str, nd: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    alone, shape = _checked(name, nd, input, weight, bias)
    attrs, extra = _attrs(_hashable(stride), _hashable(padding), _hashable(dilation), operator.index(groups), shape[2:])
    if alone:
        input = unsqueeze(input, 0)
    if extra is not None:
        input = pad_constant(input, attrs=(*extra, 0.0))
    made = convolution(input, weight, attrs=attrs) if bias is None else convolution(input, weight, bias, attrs=attrs)
    return _squeezed(made, (0,)) if alone else made


def conv1d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolution of (N, C, L) or (C, L) with weight (O, C / groups, K): (N, O, L').

    Args:
        padding: zeros at both ends, or "valid" (none) or "same" (as many as keep the length; stride 1 only).

    Raises:
        RuntimeError: channels, sizes or dtypes do not fit; the message has the shapes.
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolution of (N, C, H, W) or (C, H, W) with weight (O, C / groups, KH, KW); see ``conv1d``."""
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolution of (N, C, D, H, W) or (C, D, H, W) with weight (O, C / groups, KD, KH, KW); see ``conv1d``."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


@lru_cache(maxsize=4096)
def _transposed(size: tuple[int, ...], kernel: tuple[int, ...], stride: Any, padding: Any, output_padding: Any, groups: int,
                dilation: Any) -> tuple:
    nd = len(kernel)
    stride, padding, output_padding, dilation = (spatial(v, nd, n) for v, n in (
        (stride, "stride"), (padding, "padding"), (output_padding, "output_padding"), (dilation, "dilation")))
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if any(s <= 0 for s in stride):
        raise RuntimeError("non-positive stride is not supported")
    if any(p < 0 for p in padding):
        raise RuntimeError("negative padding is not supported")
    if any(p < 0 for p in output_padding):
        raise RuntimeError("negative output_padding is not supported")
    if any(d <= 0 for d in dilation):
        raise RuntimeError("dilation should be greater than zero")
    for o, s, d in zip(output_padding, stride, dilation):
        if o >= s and o >= d:
            raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got output_padding "
                               f"{list(output_padding)}, stride {list(stride)}, dilation {list(dilation)}")
    out = tuple((n - 1) * s - 2 * p + d * (k - 1) + o + 1
                for n, s, p, d, k, o in zip(size, stride, padding, dilation, kernel, output_padding))
    return (out, stride, padding, dilation, groups)


def _transposed_empty(size: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...]) -> None:
    """An empty batch, or no channels that come in, give an empty result or zeros; nothing else may be empty."""
    if 0 in weight:
        what = "kernel size should be greater than zero" if 0 in weight[2:] else "non-empty weight expected"
        raise RuntimeError(f"{what}, but got weight of size {list(weight)}")
    if size[0] and 0 in size[2:]:
        raise RuntimeError(f"Only zero batch or zero channel inputs are supported, but got input shape: {list(size)}")
    if size[0] and 0 in out:
        raise RuntimeError(f"Given input size per channel: ({' x '.join(map(str, size[2:]))}). Calculated output size per channel: "
                           f"({' x '.join(map(str, out))}). Output size is too small")


def _conv_transpose(name: str, nd: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any,
                    groups: int, dilation: Any) -> Any:
    alone, shape = _checked(name, nd, input, weight, bias)
    if alone:
        input = unsqueeze(input, 0)
    size = input._value.meta.shape
    attrs = _transposed(size[2:], shape[2:], _hashable(stride), _hashable(padding), _hashable(output_padding), groups, _hashable(dilation))
    if 0 in size or 0 in shape or 0 in attrs[0]:
        _transposed_empty(size, shape, attrs[0])
    made = conv_input_grad(input, weight, attrs=attrs) if bias is None else conv_input_grad(input, weight, bias, attrs=attrs)
    return _squeezed(made, (0,)) if alone else made


def conv_transpose1d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                     groups: int = 1, dilation: Any = 1) -> Any:
    """The gradient of a convolution as a layer: (N, C, L) with weight (C, O / groups, K) to
    (N, O, (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1).

    Raises:
        RuntimeError: channels do not fit, or ``output_padding`` is not below stride or dilation.
    """
    return _conv_transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                     groups: int = 1, dilation: Any = 1) -> Any:
    """Transposed convolution of (N, C, H, W) with weight (C, O / groups, KH, KW); see ``conv_transpose1d``."""
    return _conv_transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                     groups: int = 1, dilation: Any = 1) -> Any:
    """Transposed convolution of (N, C, D, H, W) with weight (C, O / groups, KD, KH, KW); see ``conv_transpose1d``."""
    return _conv_transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)
