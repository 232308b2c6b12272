"""Convolution layers.

The cross-correlation of the input with learned kernels: for a sample ``out[o] = bias[o] + sum over c of weight[o, c] * input[c]``.

Shape: input (N, C_in, *size) or (C_in, *size); output (N, C_out, *out) with
``out = (size + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1``.

Example:
    >>> Conv2d(16, 33, 3, stride=2)(rushlight.randn(20, 16, 50, 100)).shape
    torch.Size([20, 33, 24, 49])
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...tensor.creation import empty
from .. import functional as F
from .. import init
from ..parameter import Parameter
from .layers import Functional, remembered
from .module import Module
from .utils import repeated, reversed_twice

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all convolutions share.

    Attributes:
        weight: (C_out, C_in / groups, *kernel_size), transposed (C_in, C_out / groups, *kernel_size); uniform in
            ± 1 / sqrt(fan in).
        bias: (C_out,) or None.

    Raises:
        ValueError: channels not divisible by groups, an unknown padding or padding mode, "same" with a stride.
    """

    __constants__ = ["stride", "padding", "dilation", "groups", "padding_mode", "output_padding", "in_channels", "out_channels",
                     "kernel_size"]
    bias: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, ...], stride: tuple[int, ...], padding: Any,
                 dilation: tuple[int, ...], transposed: bool, output_padding: tuple[int, ...], groups: int, bias: bool,
                 padding_mode: str, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}")
            if padding == "same" and any(s != 1 for s in stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {set(_PADDING_MODES)}, but got padding_mode='{padding_mode}'")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.transposed, self.output_padding, self.groups, self.padding_mode = transposed, output_padding, groups, padding_mode
        if isinstance(padding, str):
            ends = [0] * (2 * len(kernel_size))
            if padding == "same":
                for d, k, i in zip(dilation, kernel_size, range(len(kernel_size) - 1, -1, -1)):
                    total = d * (k - 1)
                    ends[2 * i], ends[2 * i + 1] = total // 2, total - total // 2
            self._reversed_padding_repeated_twice = tuple(ends)
        else:
            self._reversed_padding_repeated_twice = reversed_twice(padding)
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = Parameter(empty((first, second // groups, *kernel_size), device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty((out_channels,), device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias again."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = self.weight.size(1) * math.prod(self.kernel_size)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        n = len(self.kernel_size)
        shown = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0,) * n:
            shown.append(f"padding={self.padding}")
        if self.dilation != (1,) * n:
            shown.append(f"dilation={self.dilation}")
        if self.output_padding != (0,) * n:
            shown.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            shown.append(f"groups={self.groups}")
        if self.bias is None:
            shown.append("bias=False")
        if self.padding_mode != "zeros":
            shown.append(f"padding_mode={self.padding_mode}")
        return ", ".join(shown)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("padding_mode", "zeros")


class _Conv(_ConvNd):
    """A convolution; subclasses name the dimension and its function."""

    _nd: int
    _function: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                 groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        n = self._nd
        super().__init__(in_channels, out_channels, repeated(kernel_size, n), repeated(stride, n),
                         padding if isinstance(padding, str) else repeated(padding, n), repeated(dilation, n), False, (0,) * n, groups,
                         bias, padding_mode, device, dtype)

    @remembered
    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            return self._function(input, weight, bias, self.stride, 0, self.dilation, self.groups)
        return self._function(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    @remembered
    def forward(self, input: Any) -> Any:
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Conv):
    """Convolution over (N, C, L) or (C, L).

    Args:
        in_channels, out_channels: of input and output.
        kernel_size, stride, dilation: a number (or a tuple of one).
        padding: zeros at both ends, or "same" or "valid".
        groups: independent groups of channels; ``groups=in_channels`` is a depthwise convolution.
        bias: whether to add a learned bias.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
    """

    _nd, _function = 1, Functional("conv1d")


class Conv2d(_Conv):
    """Convolution over (N, C, H, W) or (C, H, W); arguments as of ``Conv1d``, numbers or pairs."""

    _nd, _function = 2, Functional("conv2d")


class Conv3d(_Conv):
    """Convolution over (N, C, D, H, W) or (C, D, H, W); arguments as of ``Conv1d``, numbers or triples."""

    _nd, _function = 3, Functional("conv3d")


class _ConvTransposeNd(_ConvNd):
    """A transposed convolution: the gradient of a convolution with respect to its input, as a layer."""

    _nd: int
    _function: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                 groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None) -> None:
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        n = self._nd
        super().__init__(in_channels, out_channels, repeated(kernel_size, n), repeated(stride, n), repeated(padding, n),
                         repeated(dilation, n), True, repeated(output_padding, n), groups, bias, padding_mode, device, dtype)

    @remembered
    def forward(self, input: Any, output_size: Sequence[int] | None = None) -> Any:
        more = self.output_padding if output_size is None else _output_padding(
            input, output_size, self._nd, self.stride, self.padding, self.dilation, self.kernel_size)
        return self._function(input, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation)


def _output_padding(input: Any, output_size: Sequence[int], n: int, stride: Any, padding: Any, dilation: Any,
                    kernel_size: Any) -> tuple[int, ...]:
    """What to add at the ends so that the result has ``output_size``.

    Raises:
        ValueError: no such padding exists, or the number of sizes is wrong.
    """
    wanted = list(output_size)
    lead = input.dim() - n
    if len(wanted) == lead + n:
        wanted = wanted[lead:]
    if len(wanted) != n:
        raise ValueError(f"ConvTranspose{n}D: for {input.dim()}D input, output_size must have {n} or {lead + n} elements (got "
                         f"{len(output_size)})")
    least = [(input.size(lead + d) - 1) * stride[d] - 2 * padding[d] + dilation[d] * (kernel_size[d] - 1) + 1 for d in range(n)]
    most = [m + stride[d] - 1 for d, m in enumerate(least)]
    for size, low, high in zip(wanted, least, most):
        if not low <= size <= high:
            raise ValueError(f"requested an output size of {wanted}, but valid sizes range from {least} to {most} (for an input of "
                             f"{input.size()[2:]})")
    return tuple(size - low for size, low in zip(wanted, least))


class ConvTranspose1d(_ConvTransposeNd):
    """Transposed convolution over (N, C, L) or (C, L): length (L - 1) stride - 2 padding + dilation (kernel_size - 1) +
    output_padding + 1. ``forward(input, output_size)`` chooses the output padding."""

    _nd, _function = 1, Functional("conv_transpose1d")


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution over (N, C, H, W) or (C, H, W); see ``ConvTranspose1d``."""

    _nd, _function = 2, Functional("conv_transpose2d")


class ConvTranspose3d(_ConvTransposeNd):
    """Transposed convolution over (N, C, D, H, W) or (C, D, H, W); see ``ConvTranspose1d``."""

    _nd, _function = 3, Functional("conv_transpose3d")
