"""Pooling layers.

Shape: input (N, C, *size) or (C, *size); with ``ceil_mode`` windows may reach over the end.

Example:
    >>> MaxPool2d(3, stride=2)(rushlight.randn(20, 16, 50, 32)).shape
    torch.Size([20, 16, 24, 15])
"""
from __future__ import annotations

from typing import Any

from .. import functional as F
from .layers import Functional, remembered
from .module import Module
from .utils import repeated

__all__ = ["MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d",
           "LPPool1d", "LPPool2d", "LPPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "AdaptiveAvgPool1d",
           "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"]


class _MaxPoolNd(Module):
    """Maximum over windows.

    Args:
        kernel_size: of the windows; stride: their distance (``kernel_size`` by default).
        padding: minus infinity at both ends; dilation: distance of a window's elements.
        return_indices: the result is (maxima, their flat positions), for ``MaxUnpool``.
        ceil_mode: also windows that begin inside and reach over the end.
    """

    __constants__ = ["kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"]
    _function: Any

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, return_indices: bool = False,
                 ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    @remembered
    def forward(self, input: Any) -> Any:
        return self._function(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
                f"ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPoolNd):
    __doc__ = _MaxPoolNd.__doc__
    _function = Functional("max_pool1d")


class MaxPool2d(_MaxPoolNd):
    __doc__ = _MaxPoolNd.__doc__
    _function = Functional("max_pool2d")


class MaxPool3d(_MaxPoolNd):
    __doc__ = _MaxPoolNd.__doc__
    _function = Functional("max_pool3d")


class _MaxUnpoolNd(Module):
    """Puts maxima back at the positions that ``MaxPool(return_indices=True)`` gave; zeros elsewhere."""

    _nd: int
    _function: Any

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = repeated(kernel_size, self._nd)
        self.stride = repeated(stride if stride is not None else kernel_size, self._nd)
        self.padding = repeated(padding, self._nd)

    @remembered
    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        return self._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpoolNd):
    __doc__ = _MaxUnpoolNd.__doc__
    _nd, _function = 1, Functional("max_unpool1d")


class MaxUnpool2d(_MaxUnpoolNd):
    __doc__ = _MaxUnpoolNd.__doc__
    _nd, _function = 2, Functional("max_unpool2d")


class MaxUnpool3d(_MaxUnpoolNd):
    __doc__ = _MaxUnpoolNd.__doc__
    _nd, _function = 3, Functional("max_unpool3d")


class _AvgPoolNd(Module):
    __constants__ = ["kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"]

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPoolNd):
    """Mean over windows of (N, C, L); padding counts as zeros unless ``count_include_pad`` is False."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        super().__init__()
        self.kernel_size = repeated(kernel_size, 1)
        self.stride = repeated(stride if stride is not None else kernel_size, 1)
        self.padding = repeated(padding, 1)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    @remembered
    def forward(self, input: Any) -> Any:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool2d(_AvgPoolNd):
    """Mean over windows of (N, C, H, W); ``divisor_override`` replaces the number of elements."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                 divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    @remembered
    def forward(self, input: Any) -> Any:
        return F.avg_pool2d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                            self.divisor_override)


class AvgPool3d(AvgPool2d):
    """Mean over windows of (N, C, D, H, W); see ``AvgPool2d``."""

    @remembered
    def forward(self, input: Any) -> Any:
        return F.avg_pool3d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                            self.divisor_override)


class _LPPoolNd(Module):
    """The p-norm of windows: (sum of x ** p) ** (1 / p), with p = ``norm_type``."""

    __constants__ = ["norm_type", "kernel_size", "stride", "ceil_mode"]
    _function: Any

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    @remembered
    def forward(self, input: Any) -> Any:
        return self._function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class LPPool1d(_LPPoolNd):
    __doc__ = _LPPoolNd.__doc__
    _function = Functional("lp_pool1d")


class LPPool2d(_LPPoolNd):
    __doc__ = _LPPoolNd.__doc__
    _function = Functional("lp_pool2d")


class LPPool3d(_LPPoolNd):
    __doc__ = _LPPoolNd.__doc__
    _function = Functional("lp_pool3d")


class _AdaptivePoolNd(Module):
    """Windows of about equal size so that the result has ``output_size`` (a number or a tuple; None keeps a dimension)."""

    __constants__ = ["output_size", "return_indices"]
    _function: Any

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    @remembered
    def forward(self, input: Any) -> Any:
        return self._function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveMaxPoolNd(_AdaptivePoolNd):
    """Maxima over windows of about equal size; with ``return_indices`` also their flat positions."""

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    @remembered
    def forward(self, input: Any) -> Any:
        return self._function(input, self.output_size, self.return_indices)


class AdaptiveAvgPool1d(_AdaptivePoolNd):
    __doc__ = _AdaptivePoolNd.__doc__
    _function = Functional("adaptive_avg_pool1d")


class AdaptiveAvgPool2d(_AdaptivePoolNd):
    __doc__ = _AdaptivePoolNd.__doc__
    _function = Functional("adaptive_avg_pool2d")


class AdaptiveAvgPool3d(_AdaptivePoolNd):
    __doc__ = _AdaptivePoolNd.__doc__
    _function = Functional("adaptive_avg_pool3d")


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    __doc__ = _AdaptiveMaxPoolNd.__doc__
    _function = Functional("adaptive_max_pool1d")


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    __doc__ = _AdaptiveMaxPoolNd.__doc__
    _function = Functional("adaptive_max_pool2d")


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    __doc__ = _AdaptiveMaxPoolNd.__doc__
    _function = Functional("adaptive_max_pool3d")
