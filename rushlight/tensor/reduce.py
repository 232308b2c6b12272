"""Reductions with PyTorch's signatures."""
from __future__ import annotations

import math
from typing import Any

from ..autograd.autocast import full_precision
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..ops import arithmetic as ar
from ..ops import reduction as red
from ..ops.structured import no_dims, wrap_dim, wrap_dims
from ..record.op import backward_name
from ..record.warn import warn
from .registry import public

__all__: list[str] = []

# With and without dimensions PyTorch has two operations, which its gradients tell apart by number.
_sum_over, _mean_over, _prod_over = (op.named(backward_name(op.name, 1)) for op in (red.sum_, red.mean, red.prod))
_std = ar.sqrt.named("StdBackward0")


def _dims(input: Any, dim: Any) -> tuple[int, ...]:
    return wrap_dims(dim, len(input.shape))


@public()
def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum over ``dim`` (all dimensions by default); integers and bools add up as int64 unless ``dtype`` says otherwise."""
    d = dtype or (dt.int64 if input.dtype.kind in "bui" else input.dtype)
    op = red.sum_ if dim is None else _sum_over
    return op(input, attrs=(_dims(input, dim), keepdim, d))


@public()
def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Arithmetic mean over ``dim``.

    Raises:
        RuntimeError: the input is not floating and no floating ``dtype`` is given.
    """
    d = dtype or input.dtype
    if d.kind not in "fc":
        what = "Input dtype" if dtype is None else "Optional dtype"
        raise RuntimeError(f"mean(): could not infer output dtype. {what} must be either a floating point or complex dtype. Got: {d.name}")
    op = red.mean if dim is None else _mean_over
    return op(input, attrs=(_dims(input, dim), keepdim, d))


@public()
@full_precision
def prod(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Product over all dimensions, or over one."""
    d = dtype or (dt.int64 if input.dtype.kind in "bui" else input.dtype)
    op = red.prod if dim is None else _prod_over
    return op(input, attrs=(_dims(input, dim), keepdim, d))


def _nonempty(name: str, input: Any, dim: Any) -> None:
    if no_dims(dim) and not input.numel():
        raise RuntimeError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the "
                           "'dim' argument.")


@public()
def amax(input: Any, dim: Any = (), keepdim: bool = False) -> Any:
    """Maximum over ``dim``; where several are the maximum they share its gradient."""
    _nonempty("amax", input, dim)
    return red.amax(input, attrs=(_dims(input, dim), keepdim))


@public()
def amin(input: Any, dim: Any = (), keepdim: bool = False) -> Any:
    """Minimum over ``dim``; where several are the minimum they share its gradient."""
    _nonempty("amin", input, dim)
    return red.amin(input, attrs=(_dims(input, dim), keepdim))


@public()
def hash_tensor(input: Any, dim: Any = (), *, keepdim: bool = False, mode: int = 0) -> Any:
    """A number of 64 bits that depends on every bit of the elements: the exclusive or of their bit patterns, floating ones as float64.

    Args:
        mode: 0, which is all there is.

    Raises:
        NotImplementedError: complex numbers.
    """
    if mode != 0:
        raise RuntimeError(f"Unknown hash_tensor mode: {mode}")
    if input.dtype.kind == "c":
        raise NotImplementedError(f"hash_tensor is not implemented for {input.dtype}")
    _nonempty("hash_tensor", input, dim)
    return red.hash_(input.detach(), attrs=(_dims(input, dim), keepdim))


@public()
def any(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether some element is true (nonzero)."""
    return red.any_(input, attrs=(() if no_dims(dim) else _dims(input, dim), keepdim, _truth_dtype(input)))


@public()
def all(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether all elements are true (nonzero)."""
    return red.all_(input, attrs=(() if no_dims(dim) else _dims(input, dim), keepdim, _truth_dtype(input)))


def _truth_dtype(input: Any) -> Any:
    return dt.uint8 if input.dtype is dt.uint8 else dt.bool_


def _check_ordered(name: str, input: Any) -> None:
    if input.dtype.kind in "cb":
        raise RuntimeError(f"{name}(): does not support {'complex' if input.dtype.kind == 'c' else 'bool'} input")


@public()
def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Position of the maximum along ``dim``, or in the flattened tensor."""
    _check_ordered("argmax", input)
    return red.argmax(input, attrs=(None if dim is None else wrap_dim(dim, len(input.shape)), keepdim))


@public()
def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Position of the minimum along ``dim``, or in the flattened tensor."""
    _check_ordered("argmin", input)
    return red.argmin(input, attrs=(None if dim is None else wrap_dim(dim, len(input.shape)), keepdim))


@public()
def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """log(sum(exp(x))) over ``dim``, without overflow."""
    dims = _dims(input, dim)
    if input.dtype.kind == "c":  # the real parts decide what overflows; the logarithm is the principal one
        top = input.detach().real.amax(dims, True) if dims else input.detach().real  # type: ignore[attr-defined]
        made = ar.add(ar.log(sum(ar.exp(ar.sub(input, top, 1)), dims, True) if dims else ar.exp(ar.sub(input, top, 1))), top, 1)
        return made if keepdim or not dims else made.reshape(red.reduced_shape(tuple(input.shape), dims, False))
    return red.logsumexp(input, attrs=(dims, keepdim))


def _variance(input: Any, dim: Any, unbiased: bool | None, keepdim: bool, correction: Any, name: str = "var") -> Any:
    """The variance, for the function of this name."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if input.dtype.kind not in "fc":
        raise RuntimeError("std and var only support floating point and complex dtypes")
    if input.dtype.kind == "c":
        parts = [_variance(part, dim, unbiased, keepdim, correction, name) for part in (input.real, input.imag)]
        return parts[0] + parts[1]
    dims, less = _dims(input, dim), _correction(unbiased, correction)
    made = red.var(input, attrs=(dims, keepdim, less))
    if made.numel() and math.prod([input.shape[d] for d in dims]) <= less:
        warn(f"{name}(): degrees of freedom is <= 0: correction {less} should be less than the number of elements of each result. "
             f"The input has shape {list(input.shape)}.", UserWarning)
    return made


def _correction(unbiased: bool | None, correction: Any) -> float:
    if correction is not None:
        return correction
    return 1 if unbiased is None or unbiased else 0


@public()
def var(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None) -> Any:
    """Variance over ``dim``, divided by N - ``correction`` (1 by default)."""
    return _variance(input, dim, unbiased, keepdim, correction)


@public()
def std(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None) -> Any:
    """Standard deviation: the square root of ``var``."""
    return _std(_variance(input, dim, unbiased, keepdim, correction, "std"))


@public(out=False, method=False)
@titled("VarMeanBackward0")
def var_mean(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None) -> Any:
    """(variance, mean)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return var(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)


@public(out=False, method=False)
@titled("StdMeanBackward0")
def std_mean(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None) -> Any:
    """(standard deviation, mean)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return std(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)


