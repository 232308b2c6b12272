"""Fractional max pooling (Graham 2014): windows whose distances are drawn so that their mean is the wanted, fractional, one."""
from __future__ import annotations

import math
from typing import Any

from ...autograd.autocast import full_precision
from ...autograd.titles import titled
from ...ops.indexing import gather
from ...record.random import default_stream
from ...tensor.creation import from_owned
from ...tensor.sequences import arange
from ...tensor.size import wholes

__all__ = ["fractional_max_pool2d", "fractional_max_pool3d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d_with_indices"]


def _int64() -> Any:
    from ...compile.dtypes import int64

    return int64


def _starts(sample: Any, n: int, out: int, k: int) -> Any:
    """Where windows begin, (N, C, out), from samples (N, C) in [0, 1)."""
    sample = sample.unsqueeze(-1)
    if out == 1:
        return (sample * 0 + (n - k)).to(_int64())
    alpha = (n - k) / (out - 1)
    at = ((arange(out, dtype=sample.dtype) + sample) * alpha).trunc() - (sample * alpha).trunc()
    last = arange(out) == out - 1
    return at.masked_fill(last, n - k).to(_int64())


@full_precision
def _pool(name: str, nd: int, input: Any, kernel_size: Any, output_size: Any, output_ratio: Any, return_indices: bool,
          samples: Any) -> Any:
    shape = tuple(input.shape)
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    if len(shape) not in (nd + 1, nd + 2) or 0 in shape[1:]:
        raise RuntimeError(f"{name}(): Expected {nd + 1}D or {nd + 2}D tensor, but got: {list(shape)}")
    size = shape[-nd:]
    kernel = (kernel_size,) * nd if isinstance(kernel_size := wholes(kernel_size), int) else kernel_size
    if output_size is None:
        ratio = (output_ratio,) * nd if isinstance(output_ratio, (int, float)) else tuple(output_ratio)
        out = tuple(int(n * r) for n, r in zip(size, ratio))
    else:
        out = (output_size,) * nd if isinstance(output_size := wholes(output_size), int) else output_size
    if len(kernel) != nd or len(out) != nd:
        raise RuntimeError(f"{name}: kernel_size and output_size must either be a single int or tuples of {nd} ints, got {kernel_size} and "
                           f"{output_size}")
    for n, k, o in zip(size, kernel, out):
        if o + k - 1 > n or k < 1 or o < 1:
            raise RuntimeError(f"{name}(): pool size {k} with output size {o} is too large relative to input size {n}")
    x = input if len(shape) == nd + 2 else input.unsqueeze(0)
    lead = tuple(x.shape[:2])
    if samples is None:
        numbers = default_stream.uniform(math.prod(lead) * nd, 0.0, 1.0, input.dtype.numpy)
        samples = from_owned(numbers.reshape((*lead, nd)))
    # In two dimensions the first sample is the width's, in three the depth's.
    order = (1, 0) if nd == 2 else (0, 1, 2)
    index: Any = None
    for d in range(nd):
        at = _starts(samples.select(2, order[d]), size[d], out[d], kernel[d]).unsqueeze(-1) + arange(kernel[d])  # (N, C, out, k)
        view = [*lead, *(out[d] if k == d else 1 for k in range(nd)), *(kernel[d] if k == d else 1 for k in range(nd))]
        at = at.reshape(view)
        index = at if index is None else index * size[d] + at
    index = index.reshape((*lead, math.prod(out), math.prod(kernel)))
    flat = x.reshape((*lead, math.prod(size)))
    windows = gather(flat, index.reshape((*lead, math.prod(out) * math.prod(kernel))), attrs=(2,)).reshape(index.shape)
    chosen = windows.detach().argmax(-1, True)
    result = lead + out if len(shape) == nd + 2 else lead[1:] + out
    y = gather(windows, chosen, attrs=(3,)).reshape(result)
    return (y, gather(index, chosen, attrs=(3,)).reshape(result)) if return_indices else y


@titled("FractionalMaxPool2DBackward0")
def fractional_max_pool2d(input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
                          _random_samples: Any = None) -> Any:
    """Maxima over windows at pseudo-random distances: (N, C, H, W) to ``output_size``, or ``output_ratio`` of the input's.

    Raises:
        ValueError: neither size nor ratio. RuntimeError: windows do not fit.
    """
    return _pool("fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


@titled("FractionalMaxPool3DBackward0")
def fractional_max_pool3d(input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
                          _random_samples: Any = None) -> Any:
    """Maxima over windows at pseudo-random distances, in three dimensions; see ``fractional_max_pool2d``."""
    return _pool("fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool2d_with_indices(input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                                       return_indices: bool = False, _random_samples: Any = None) -> Any:
    """``fractional_max_pool2d`` with ``return_indices=True``."""
    return fractional_max_pool2d(input, kernel_size, output_size, output_ratio, True, _random_samples)


def fractional_max_pool3d_with_indices(input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                                       return_indices: bool = False, _random_samples: Any = None) -> Any:
    """``fractional_max_pool3d`` with ``return_indices=True``."""
    return fractional_max_pool3d(input, kernel_size, output_size, output_ratio, True, _random_samples)
