"""Running sums and products, differences, integrals by trapezoids."""
from __future__ import annotations

from typing import Any

from ..autograd.handle import Handle
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..ops import scan
from ..ops.structured import wrap_dim
from .registry import public

__all__: list[str] = []


def _wide(input: Any, dtype: Any) -> Any:
    return dtype or (dt.int64 if input.dtype.kind in "bui" else input.dtype)


@public(inplace=True)
def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Sums of the elements so far along ``dim``."""
    return scan.cumsum(input, attrs=(wrap_dim(dim, len(input.shape)), _wide(input, dtype)))


@public(inplace=True)
def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Products of the elements so far along ``dim``."""
    return scan.cumprod(input, attrs=(wrap_dim(dim, len(input.shape)), _wide(input, dtype)))


@public()
def logcumsumexp(input: Any, dim: int) -> Any:
    """log of the sums of exponentials so far along ``dim``."""
    return scan.logcumsumexp(input, attrs=(wrap_dim(dim, len(input.shape)),))


@public()
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """The n-th differences of neighbours along ``dim``."""
    if not input.shape:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    dim = wrap_dim(dim, len(input.shape))
    from .shape import cat

    parts = [x for x in (prepend, input, append) if x is not None]
    x = cat(parts, dim) if len(parts) > 1 else input
    if n == 0:
        return x.clone() if len(parts) == 1 else x
    for _ in range(min(n, x.shape[dim]) if x.shape[dim] else 0):
        m = x.shape[dim]
        a, b = x.narrow(dim, 1, m - 1), x.narrow(dim, 0, m - 1)
        x = a.logical_xor(b) if x.dtype.kind == "b" else a - b
    return x


def _steps(y: Any, x: Any, dx: Any, dim: int) -> Any:
    """Widths of the intervals between the positions along ``dim``."""
    if x is None:
        return dx
    if not x.shape:
        raise RuntimeError("trapezoid: x must have at least one dimension")
    if len(x.shape) == 1 and len(y.shape) != 1:
        if x.shape[0] != y.shape[dim]:
            raise RuntimeError("trapezoid: There must be one `x` value for each sample point")
        widths = x.diff()
        return widths.reshape(tuple(-1 if d == dim else 1 for d in range(len(y.shape))))
    if len(x.shape) < len(y.shape):
        x = x.reshape((1,) * (len(y.shape) - len(x.shape)) + tuple(x.shape))
    return x.diff(dim=dim)


def _areas(y: Any, x: Any, dx: Any, dim: int) -> Any:
    n = y.shape[dim]
    if "b" in (y.dtype.kind, x.dtype.kind if x is not None else ""):
        raise RuntimeError("trapezoid: received a bool input for `x` or `y`, but bool is not supported")
    widths = _steps(y, x, 1 if dx is None else dx, dim)
    return (y.narrow(dim, 1, n - 1) + y.narrow(dim, 0, n - 1)) * widths / 2


@public(out=False, method=False, aliases=("trapz",))
@titled(lambda y, x=None, **_: "MulBackward1" if x is None or not isinstance(x, Handle) else "DivBackward1")
def trapezoid(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Any:
    """The integral of samples by trapezoids, at positions ``x`` or ``dx`` apart."""
    if x is not None and not isinstance(x, Handle):
        x, dx = None, x
    dim = wrap_dim(dim, len(y.shape))
    if not y.shape or y.shape[dim] == 0:
        return y.sum(dim) * 1.0 if y.shape else y * 0.0
    if x is None and y.dtype.kind in "iu":  # added up first, and so in int64
        return (y.sum(dim) - (y.select(dim, 0) + y.select(dim, -1).to(dt.int64)) * 0.5) * (1 if dx is None else dx)
    return _areas(y, x, dx, dim).sum(dim)


@public(out=False, method=False)
@titled(lambda y, x=None, **_: "DivBackward1" if isinstance(x, Handle) else None)
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Any:
    """The integral so far, by trapezoids."""
    if x is not None and not isinstance(x, Handle):
        x, dx = None, x
    return _areas(y, x, dx, wrap_dim(dim, len(y.shape))).cumsum(wrap_dim(dim, len(y.shape)))
