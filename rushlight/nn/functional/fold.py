"""Sliding blocks as columns, and columns added up to an image.

Example:
    >>> unfold(rushlight.zeros(1, 3, 4, 4), 2).shape
    torch.Size([1, 12, 9])
"""
from __future__ import annotations

import math
from typing import Any

from ...ops.pooling import fold_windows, unfold_windows
from ...ops.views import squeeze, unsqueeze
from ...ops.windows import Windows, windows
from ...tensor.size import wholes

__all__ = ["unfold", "fold"]


def _pair(value: Any, what: str) -> tuple[int, int]:
    values = (value, value) if isinstance(value := wholes(value), int) else value
    if len(values) == 1:
        values = values * 2
    if len(values) != 2:
        raise RuntimeError(f"It is expected {what} equals to 2, but got size {len(values)}")
    return values  # type: ignore[return-value]


def _windows(size: tuple[int, ...], kernel: Any, dilation: Any, padding: Any, stride: Any) -> Windows:
    kernel, dilation = _pair(kernel, "kernel_size"), _pair(dilation, "dilation")
    padding, stride = _pair(padding, "padding"), _pair(stride, "stride")
    for what, pair, least in (("kernel size", kernel, 1), ("dilation", dilation, 1), ("stride", stride, 1), ("padding", padding, 0)):
        if min(pair) < least:
            raise RuntimeError(f"{what} should be {'greater than zero' if least else 'non-negative'}, but got {pair}")
    w = windows(size, kernel, stride, padding, dilation)
    if min(w.out) < 1:
        raise RuntimeError(f"Given input with spatial size {size}, kernel_size={kernel}, dilation={dilation}, padding={padding}, "
                           f"calculated shape of the array of sliding blocks as {w.out}, but its components must be at least one.")
    return w


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """All blocks of (N, C, H, W) as columns: (N, C * KH * KW, number of blocks). Without N the result has none.

    Raises:
        RuntimeError: no block fits, or the input has neither 3 nor 4 dimensions.
    """
    shape = input._value.meta.shape
    if len(shape) not in (3, 4) or 0 in shape[-3:]:
        raise RuntimeError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, "
                           f"but got: {list(shape)}")
    w = _windows(shape[-2:], kernel_size, dilation, padding, stride)
    if len(shape) == 3:
        return squeeze(unfold_windows(unsqueeze(input, 0), attrs=(w,)), (0,))
    return unfold_windows(input, attrs=(w,))


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Columns (N, C * KH * KW, L) added up at the places of their blocks: (N, C, *output_size).

    Raises:
        RuntimeError: rows are no multiple of the kernel's size, or L is not the number of blocks.
    """
    shape = input._value.meta.shape
    size = _pair(output_size, "output_size")
    w = _windows(size, kernel_size, dilation, padding, stride)
    if len(shape) not in (2, 3) or 0 in shape[-2:]:
        raise RuntimeError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions, but got: "
                           f"{list(shape)}")
    if shape[-2] % math.prod(w.kernel):
        raise RuntimeError("Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
                           f"input.size(1)={shape[-2]} and kernel_size={w.kernel}.")
    if shape[-1] != math.prod(w.out):
        raise RuntimeError(f"Given output_size={size}, kernel_size={w.kernel}, dilation={w.dilation}, padding={w.padding}, "
                           f"stride={w.stride}, expected size of input's dimension 2 to match the calculated number of sliding blocks "
                           f"{w.out[0]} * {w.out[1]} = {math.prod(w.out)}, but got input.size(2)={shape[-1]}.")
    if len(shape) == 2:
        return squeeze(fold_windows(unsqueeze(input, 0), attrs=(w,)), (0,))
    return fold_windows(input, attrs=(w,))
