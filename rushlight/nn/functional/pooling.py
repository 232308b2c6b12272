"""Pooling functions. Inputs are (N, C, *size) or (C, *size).

Example:
    >>> max_pool2d(rushlight.arange(16.0).reshape(1, 4, 4), 2)
    tensor([[[ 5.,  7.],
             [13., 15.]]])
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from operator import index
from typing import Any

from ...autograd.autocast import full_precision
from ...autograd.titles import titled
from ...ops import pooling as ops
from ...ops.windows import Windows, windows
from ...tensor.out import with_out
from .conv import _hashable

__all__ = ["max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
           "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
           "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices",
           "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d_with_indices",
           "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d"]


def _sizes(value: Any, nd: int, name: str, what: str) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * nd
    values = tuple([index(v) for v in value])
    if len(values) == 1:
        values = values * nd
    if len(values) != nd:
        raise RuntimeError(f"{name}: {what} must either be a single int, or a tuple of {nd} ints, got {value}")
    return values


@lru_cache(maxsize=4096)
def _plan(name: str, nd: int, shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Windows:
    """Checked windows of a pool."""
    if len(shape) not in (nd + 1, nd + 2) or 0 in shape[-nd - 1:]:
        raise RuntimeError(f"{name}: Expected {nd + 1}D or {nd + 2}D (batch mode) tensor with optional 0 dim batch size for input, but "
                           f"got: {list(shape)}")
    kernel = _sizes(kernel, nd, name, "kernel_size")
    stride = kernel if stride is None or stride == () else _sizes(stride, nd, name, "stride")
    padding, dilation = _sizes(padding, nd, name, "padding"), _sizes(dilation, nd, name, "dilation")
    if any(k <= 0 for k in kernel):
        raise RuntimeError(f"{name}: kernel size should be greater than zero, but got {list(kernel)}")
    if any(s <= 0 for s in stride):
        raise RuntimeError(f"{name}: stride should not be zero or negative, but got {list(stride)}")
    if any(d <= 0 for d in dilation):
        raise RuntimeError(f"{name}: dilation should be greater than zero, but got {list(dilation)}")
    for p, k, d in zip(padding, kernel, dilation):
        if p < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
        if p > (d * (k - 1) + 1) // 2:
            raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and dilation={d}")
    w = windows(shape[len(shape) - nd:], kernel, stride, padding, dilation, ceil_mode)
    if any(o < 1 for o in w.out):
        channels = shape[-nd - 1]
        raise RuntimeError(f"Given input size: ({'x'.join(map(str, (channels, *w.size)))}). Calculated output size: "
                           f"({'x'.join(map(str, (channels, *w.out)))}). Output size is too small")
    return w


def _max_pool(name: str, nd: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
              indices: bool) -> Any:
    w = _plan(name, nd, input._value.meta.shape, _hashable(kernel_size), _hashable(stride), _hashable(padding), _hashable(dilation),
              bool(ceil_mode))
    return (ops.max_pool_indices if indices else ops.max_pool)(input, attrs=(w,))


def max_pool1d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Any:
    """Maximum over windows of the last dimension; with ``return_indices`` also where it was found.

    Raises:
        RuntimeError: padding over half the kernel, or no window fits.
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Any:
    """Maximum over windows of the last two dimensions; see ``max_pool1d``."""
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@full_precision
def max_pool3d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Any:
    """Maximum over windows of the last three dimensions; see ``max_pool1d``."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _with_indices(pool: Any, name: str) -> Any:
    def call(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
             return_indices: bool = False) -> Any:
        return pool(input, kernel_size, stride, padding, dilation, ceil_mode, True)
    call.__name__, call.__doc__ = name, f"``{pool.__name__}`` with ``return_indices=True``."
    return call


max_pool1d_with_indices = _with_indices(max_pool1d, "max_pool1d_with_indices")
max_pool2d_with_indices = _with_indices(max_pool2d, "max_pool2d_with_indices")
max_pool3d_with_indices = _with_indices(max_pool3d, "max_pool3d_with_indices")


# -- average ------------------------------------------------------------------------------------------------------


def _kernel_fits(w: Windows) -> None:
    """Averages over three dimensions take no kernel larger than the input, whatever padding and ``ceil_mode`` would make of it."""
    if any(n < k for n, k in zip(w.size, w.kernel)):
        raise RuntimeError(f"input image (T: {w.size[0]} H: {w.size[1]} W: {w.size[2]}) smaller than kernel size (kT: {w.kernel[0]} "
                           f"kH: {w.kernel[1]} kW: {w.kernel[2]})")


def _avg_pool(name: str, nd: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
              divisor_override: int | None) -> Any:
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    w = _plan(name, nd, input._value.meta.shape, _hashable(kernel_size), _hashable(stride), _hashable(padding), 1, bool(ceil_mode))
    if nd == 3:
        _kernel_fits(w)
    return ops.avg_pool(input, attrs=(w, bool(count_include_pad), divisor_override))


def avg_pool1d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Any:
    """Mean over windows of the last dimension; with ``count_include_pad`` padding counts as zeros."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Any:
    """Mean over windows of the last two dimensions; ``divisor_override`` replaces the number of elements."""
    return _avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@full_precision
def avg_pool3d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Any:
    """Mean over windows of the last three dimensions; see ``avg_pool2d``."""
    return _avg_pool("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


avg_pool2d, avg_pool3d = with_out(avg_pool2d, "avg_pool2d"), with_out(avg_pool3d, "avg_pool3d")


def _lp_pool(name: str, nd: int, input: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Any:
    kernel = _sizes(_hashable(kernel_size), nd, name, "kernel_size")
    w = _plan(name, nd, input._value.meta.shape, kernel, _hashable(stride), 0, 1, bool(ceil_mode))
    if nd == 3:
        _kernel_fits(w)
    mean = ops.avg_pool(input ** norm_type, attrs=(w, True, None))
    return (mean * math.prod(kernel)) ** (1.0 / norm_type)


def lp_pool1d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """The p-norm of windows: (sum of x ** p) ** (1 / p), with p = ``norm_type``."""
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """The p-norm of windows of the last two dimensions."""
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """The p-norm of windows of the last three dimensions."""
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


# -- adaptive -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _target(name: str, nd: int, shape: tuple[int, ...], output_size: Any) -> tuple[tuple[int, ...], Windows | None]:
    """(output size, the equal windows that give it where they exist)."""
    size = shape[len(shape) - nd:]
    wanted = output_size if isinstance(output_size, tuple) else (output_size,) * nd
    if nd > 1 and len(wanted) >= len(shape):
        raise ValueError(f"Input dimension should be at least {len(wanted) + 1}")
    if len(shape) not in (nd + 1, nd + 2) or 0 in shape[-nd - 1:]:
        raise RuntimeError(f"{name}(): Expected {nd + 1}D or {nd + 2}D tensor with non-zero sizes for non-batch dimensions, but got "
                           f"{list(shape)}")
    if len(wanted) == 1:
        wanted = wanted * nd
    if len(wanted) != nd:
        raise RuntimeError(f"{name}(): internal error: output_size.size() must be {nd}, got {list(wanted)}")
    out = tuple(n if o is None else int(o) for o, n in zip(wanted, size))
    if any(o < 0 for o in out):
        raise RuntimeError(f"{name}(): elements of output_size must be greater than or equal to 0 but received {list(out)}")
    if any(o == 0 or n % o for n, o in zip(size, out)):
        return out, None
    kernel = tuple(n // o for n, o in zip(size, out))
    return out, windows(size, kernel, kernel, (0,) * nd, (1,) * nd)


def _adaptive_avg(name: str, nd: int, input: Any, output_size: Any) -> Any:
    out, w = _target(name, nd, input._value.meta.shape, _hashable(output_size))
    if all(n == 1 for n in out):
        return input.mean(tuple(range(-nd, 0)), True)
    return ops.ragged_mean(input, attrs=(out, False)) if w is None else ops.avg_pool(input, attrs=(w, True, None))


def _adaptive_title(nd: int) -> Callable[..., str | None]:
    """Single windows over two or three dimensions are a mean."""
    def title(input: Any, output_size: Any, *_: Any) -> str | None:
        if nd == 1:
            return "SqueezeBackward1"
        out, _windows = _target(f"adaptive_avg_pool{nd}d", nd, input._value.meta.shape, _hashable(output_size))
        return None if all(n == 1 for n in out) else f"AdaptiveAvgPool{nd}DBackward0"
    return title


@titled(_adaptive_title(1))
def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """Means over windows of about equal size so that the last dimension becomes ``output_size``."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


@titled(_adaptive_title(2))
def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """Means so that the last two dimensions become ``output_size`` (a number or a pair; None keeps a dimension)."""
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


@full_precision
@titled(_adaptive_title(3))
def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """Means so that the last three dimensions become ``output_size``."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_max(name: str, nd: int, input: Any, output_size: Any, indices: bool) -> Any:
    out, w = _target(name, nd, input._value.meta.shape, _hashable(output_size))
    if w is None:
        made = ops.ragged_max(input, attrs=(out,))
        return made if indices else made[0]
    return (ops.max_pool_indices if indices else ops.max_pool)(input, attrs=(w,))


@titled("SqueezeBackward1")
def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over windows of about equal size so that the last dimension becomes ``output_size``."""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


@titled("AdaptiveMaxPool2DBackward0")
def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima so that the last two dimensions become ``output_size``."""
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


@full_precision
@titled("AdaptiveMaxPool3DBackward0")
def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima so that the last three dimensions become ``output_size``."""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)


def _adaptive_with_indices(pool: Any, name: str) -> Any:
    def call(input: Any, output_size: Any, return_indices: bool = False) -> Any:
        return pool(input, output_size, True)
    call.__name__, call.__doc__ = name, f"``{pool.__name__}`` with ``return_indices=True``."
    return call


adaptive_max_pool1d_with_indices = _adaptive_with_indices(adaptive_max_pool1d, "adaptive_max_pool1d_with_indices")
adaptive_max_pool2d_with_indices = _adaptive_with_indices(adaptive_max_pool2d, "adaptive_max_pool2d_with_indices")
adaptive_max_pool3d_with_indices = _adaptive_with_indices(adaptive_max_pool3d, "adaptive_max_pool3d_with_indices")


# -- the way back -------------------------------------------------------------------------------------------------


def _max_unpool(name: str, nd: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Any:
    from ...ops.indexing import scatter
    from ...ops.layouts import as_suggested

    shape = input._value.meta.shape
    kernel = _sizes(_hashable(kernel_size), nd, name, "kernel_size")
    stride = kernel if stride is None else _sizes(_hashable(stride), nd, name, "stride")
    padding = _sizes(_hashable(padding), nd, name, "padding")
    if len(shape) not in (nd + 1, nd + 2):
        raise RuntimeError(f"Input to {name} should be a {nd + 1}d or {nd + 2}d Tensor, but got {list(shape)}")
    if indices.dtype.name != "int64":
        raise RuntimeError(f"elements in indices should be type int64 but got: {indices.dtype}")
    if indices._value.meta.shape != shape:
        raise RuntimeError(f"Expected shape of indices to be same as that of the input tensor ({list(shape)}) but got indices tensor with "
                           f"shape: {list(indices.shape)}")
    default = tuple((n - 1) * s + k - 2 * p for n, s, k, p in zip(shape[len(shape) - nd:], stride, kernel, padding))
    size = default
    if output_size is not None:
        wanted = tuple(int(n) for n in output_size)
        if len(wanted) == nd + 2:
            wanted = wanted[2:]
        elif len(wanted) == nd + 1 and len(wanted) == len(shape):
            wanted = wanted[1:]
        if len(wanted) != nd:
            raise ValueError(f"output_size should be a sequence containing {nd} or {nd + 2} elements, but it has a length of "
                             f"'{len(output_size)}'")
        for d, (n, m, s) in enumerate(zip(wanted, default, stride)):
            if not m - s < n < m + s:
                raise ValueError(f'invalid output_size "{list(wanted)}" (dim {d} must be between {m - s} and {m + s})')
        size = wanted
    lead = shape[:len(shape) - nd]
    rows = (math.prod(lead), -1)
    if not input.numel():
        return input.new_zeros((*lead, *size))
    zeros = input.new_zeros((rows[0], math.prod(size)))
    made = scatter(zeros, indices.reshape(rows), input.reshape(rows), attrs=(1, None)).reshape((*lead, *size))
    return as_suggested(made, input) if nd == 2 else made


@titled("SqueezeBackward1")
def max_unpool1d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """Put maxima back at the places that ``max_pool1d(return_indices=True)`` gave; zeros elsewhere.

    Raises:
        ValueError: ``output_size`` is not possible with this kernel and stride. RuntimeError: indices of another shape or dtype.
    """
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


@full_precision
@titled("MaxUnpool2DBackward0")
def max_unpool2d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """Put maxima back at the places that ``max_pool2d(return_indices=True)`` gave; see ``max_unpool1d``."""
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


@full_precision
@titled("MaxUnpool3DBackward0")
def max_unpool3d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """Put maxima back at the places that ``max_pool3d(return_indices=True)`` gave; see ``max_unpool1d``."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
