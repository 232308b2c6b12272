"""Fractional max pooling layers.

Example:
    >>> FractionalMaxPool2d(3, output_size=(13, 12))(rushlight.randn(20, 16, 50, 32)).shape
    torch.Size([20, 16, 13, 12])
"""
from __future__ import annotations

from typing import Any

from .layers import Functional
from .module import Module
from .utils import repeated

__all__ = ["FractionalMaxPool2d", "FractionalMaxPool3d"]


class _FractionalMaxPoolNd(Module):
    """Maxima over windows at pseudo-random distances.

    Args:
        kernel_size: of the windows.
        output_size or output_ratio: of the result, or its ratio to the input's size in (0, 1).

    Raises:
        ValueError: both or neither of size and ratio, or a ratio out of range.
    """

    __constants__ = ["kernel_size", "return_indices", "output_size", "output_ratio"]
    _nd: int
    _function: Any

    def __init__(self, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
                 _random_samples: Any = None) -> None:
        super().__init__()
        n, name = self._nd, type(self).__name__
        self.kernel_size = repeated(kernel_size, n)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = repeated(output_size, n) if output_size is not None else None
        self.output_ratio = repeated(output_ratio, n) if output_ratio is not None else None
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name} requires specifying either an output size, or a pooling ratio")
        if output_size is not None and output_ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input: Any) -> Any:
        return self._function(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPoolNd):
    __doc__ = _FractionalMaxPoolNd.__doc__
    _nd, _function = 2, Functional("fractional_max_pool2d")


class FractionalMaxPool3d(_FractionalMaxPoolNd):
    __doc__ = _FractionalMaxPoolNd.__doc__
    _nd, _function = 3, Functional("fractional_max_pool3d")
