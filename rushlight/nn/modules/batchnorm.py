"""Batch normalisation layers: y = (x - mean) / sqrt(variance + eps) * weight + bias, for each channel.

In training mode mean and variance are the batch's and the running ones move towards them; in evaluation mode the running ones are
used.

Example:
    >>> BatchNorm1d(3).eval()(rushlight.ones(2, 3)).shape
    torch.Size([2, 3])
"""
from __future__ import annotations

from typing import Any

from ...compile.dtypes import int64
from ...tensor.creation import empty, tensor
from .. import functional as F
from .. import init
from ..parameter import Parameter
from .layers import remembered
from .module import Module

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"]


class _NormBase(Module):
    """Parameters and running statistics for each channel.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of the batch's statistics in the running ones; None: the mean over all batches.
        affine: learn a weight and, with ``bias``, a bias; track_running_stats: keep running statistics (else the batch's are always used).
    """

    _version = 2
    __constants__ = ["track_running_stats", "momentum", "eps", "num_features", "affine"]
    weight: Any
    bias: Any
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name, there in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, Parameter(empty((num_features,), device=device, dtype=dtype)) if there else None)
        self.register_buffer("running_mean", empty((num_features,), device=device, dtype=dtype) if track_running_stats else None)
        self.register_buffer("running_var", empty((num_features,), device=device, dtype=dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype=int64, device=device) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget all batches: mean 0, variance 1."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and no running statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input: Any) -> None:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *args: Any) -> None:
        version = local_metadata.get("version", None)
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            # Files from before batches were counted.
            state_dict[key] = self.num_batches_tracked if self.num_batches_tracked is not None else tensor(0, dtype=int64)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class _BatchNorm(_NormBase):
    @remembered
    def forward(self, input: Any) -> Any:
        self._check_input_dim(input)
        mean, var = self.running_mean, self.running_var
        if not self.training:
            return F.batch_norm(input, mean, var, self.weight, self.bias, mean is None and var is None, 0.0, self.eps)
        if not self.track_running_stats:
            return F.batch_norm(input, None, None, self.weight, self.bias, True, self.momentum, self.eps)
        return F.batch_norm(input, mean, var, self.weight, self.bias, True, self.momentum, self.eps, _count=self.num_batches_tracked)


def _expect(input: Any, allowed: tuple[int, ...], words: str) -> None:
    if len(input._value.meta.shape) not in allowed:
        raise ValueError(f"expected {words} input (got {input.dim()}D input)")


class BatchNorm1d(_BatchNorm):
    __doc__ = "Batch normalisation of (N, C) or (N, C, L).\n\n" + (_NormBase.__doc__ or "")

    @remembered
    def _check_input_dim(self, input: Any) -> None:
        _expect(input, (2, 3), "2D or 3D")


class BatchNorm2d(_BatchNorm):
    __doc__ = "Batch normalisation of (N, C, H, W).\n\n" + (_NormBase.__doc__ or "")

    @remembered
    def _check_input_dim(self, input: Any) -> None:
        _expect(input, (4,), "4D")


class BatchNorm3d(_BatchNorm):
    __doc__ = "Batch normalisation of (N, C, D, H, W).\n\n" + (_NormBase.__doc__ or "")

    @remembered
    def _check_input_dim(self, input: Any) -> None:
        _expect(input, (5,), "5D")


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation of (N, C, ...) whose statistics are meant to cover all processes of a group.

    With one process (no process group initialised) it is batch normalisation.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, process_group: Any = None, device: Any = None, dtype: Any = None, *,
                 bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    @remembered
    def _check_input_dim(self, input: Any) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module with every batch normalisation in it replaced by one of this class that shares its tensors."""
        made = module
        if isinstance(module, _BatchNorm):
            made = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats, process_group,
                       bias=module.bias is not None)
            if module.affine:
                made.weight, made.bias = module.weight, module.bias
            made.running_mean, made.running_var = module.running_mean, module.running_var
            made.num_batches_tracked, made.training = module.num_batches_tracked, module.training
        for name, child in module.named_children():
            made.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return made
