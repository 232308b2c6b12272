"""Instance normalisation layers: each channel of each sample by its own statistics.

Example:
    >>> InstanceNorm2d(3)(rushlight.randn(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
"""
from __future__ import annotations

from typing import Any

from ...record.warn import warn
from .. import functional as F
from .batchnorm import _NormBase
from .layers import remembered

__all__ = ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"]


class _InstanceNorm(_NormBase):
    """Args are those of batch normalisation; here ``affine`` and ``track_running_stats`` are False by default.

    Raises:
        ValueError: another number of dimensions, or of channels where weight and bias are learned.
    """

    _nd: int

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    @remembered
    def _check_input_dim(self, input: Any) -> None:
        alone = self._nd + 1
        if input.dim() not in (alone, alone + 1):
            raise ValueError(f"expected {alone}D or {alone + 1}D input (got {input.dim()}D input)")

    @remembered
    def forward(self, input: Any) -> Any:
        self._check_input_dim(input)
        shape = input._value.meta.shape
        alone = len(shape) == self._nd + 1
        channels = shape[0 if alone else 1]
        if channels != self.num_features:
            if self.affine:
                raise ValueError(f"expected input's size at dim={0 if alone else 1} to match num_features ({self.num_features}), but got: "
                                 f"{channels}.")
            warn(f"input's size at dim={0 if alone else 1} does not match num_features. You can silence this warning by not "
                 "passing in num_features, which is not used because affine=False")
        made = F.instance_norm(input.unsqueeze(0) if alone else input, self.running_mean, self.running_var, self.weight, self.bias,
                               self.training or not self.track_running_stats, 0.0 if self.momentum is None else self.momentum, self.eps)
        return made.squeeze(0) if alone else made


class InstanceNorm1d(_InstanceNorm):
    __doc__ = "Instance normalisation of (N, C, L) or (C, L).\n\n" + (_InstanceNorm.__doc__ or "")
    _nd = 1


class InstanceNorm2d(_InstanceNorm):
    __doc__ = "Instance normalisation of (N, C, H, W) or (C, H, W).\n\n" + (_InstanceNorm.__doc__ or "")
    _nd = 2


class InstanceNorm3d(_InstanceNorm):
    __doc__ = "Instance normalisation of (N, C, D, H, W) or (C, D, H, W).\n\n" + (_InstanceNorm.__doc__ or "")
    _nd = 3
