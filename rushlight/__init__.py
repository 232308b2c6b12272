"""Rushlight: a deep-learning framework with PyTorch's programming model and a compiler underneath.

``import rushlight as torch``: the public namespace is laid out as torch's.
"""
from __future__ import annotations

from . import autograd, tensor as _tensor
from .autograd import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled
from .compile.dtypes import (bfloat16, complex64, complex128, float16, float32, float64, int8, int16, int32, int64, uint8, uint16,
                             uint32, uint64)
from .compile.dtypes import DType as dtype
from .compile.dtypes import bool_ as bool  # noqa: A004
from .record import Device as device
from .tensor import Size, Tensor
from .tensor.kinds import (channels_last, channels_last_3d, contiguous_format, finfo, iinfo, layout, memory_format, preserve_format,
                           sparse_coo, strided)
from .tensor.printing import set_printoptions

__version__ = "0.1.0"

float, double, half = float32, float64, float16  # noqa: A001
int, long, short = int32, int64, int16  # noqa: A001

for _name, _function in _tensor.FUNCTIONS.items():
    globals()[_name] = _function
del _name, _function
