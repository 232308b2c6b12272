"""Triangles, diagonals, and what is made of them."""
from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..autograd.apply import apply
from ..autograd.autocast import full_precision
from ..autograd.handle import Handle
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..ops import basic, triangle
from ..ops.reduction import sum_
from ..ops.structured import wrap_dim
from ..ops.views import diagonal, strided_scatter
from ..record.meta import contiguous_strides
from .creation import check_device, from_owned, placed
from .registry import METHODS, public

__all__: list[str] = []

_diag_embed, _trace = strided_scatter.named("DiagEmbedBackward0"), sum_.named("TraceBackward0")


@public(inplace=True)
def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangle of matrices, up to ``diagonal``; zeros elsewhere."""
    return triangle.tril(input, attrs=(int(diagonal),))


@public(inplace=True)
def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangle of matrices, from ``diagonal`` on; zeros elsewhere."""
    return triangle.triu(input, attrs=(int(diagonal),))


def _indices(lower_part: bool) -> Any:
    def call(row: int, col: int, offset: int = 0, *, dtype: DType = dt.int64, device: Any = None, layout: Any = None) -> Any:
        where = check_device(device)
        if row < 0 or col < 0:
            raise RuntimeError(f"row and col must be non-negative, got {row} and {col}")
        found = np.tril_indices(row, offset, col) if lower_part else np.triu_indices(row, offset, col)
        return placed(from_owned(np.array(found).astype(dtype.numpy)), where)
    call.__name__ = "tril_indices" if lower_part else "triu_indices"
    call.__doc__ = "Rows and columns of a triangle's elements, (2, count)."
    return call


public(method=False, out=False)(_indices(True))
public(method=False, out=False)(_indices(False))


@public(out=False)
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Matrices with the last dimension of ``input`` as their diagonal."""
    n = len(input.shape) + 1
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    offset = operator.index(offset)
    m = input.shape[-1] + abs(offset)
    shape = list(input.shape[:-1])
    for d in sorted((a, b)):
        shape.insert(d, m)
    place = diagonal.place(tuple(shape), contiguous_strides(tuple(shape)), 0, (offset, a, b))
    return apply(_diag_embed, (tuple(shape), *place), [input])


@public()
def diag(input: Any, diagonal: int = 0) -> Any:
    """The diagonal of a matrix, or the matrix with a vector as its diagonal."""
    if len(input.shape) == 1:
        return diag_embed(input, diagonal)
    if len(input.shape) != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {len(input.shape)}D")
    return basic.clone.named("DiagonalBackward0_copy")(input.diagonal(diagonal))


@public(out=False)
def diagflat(input: Any, offset: int = 0) -> Any:
    """The matrix with all elements of ``input`` as its diagonal."""
    return diag_embed(input.reshape((-1,)), offset)


@public(out=False)
@full_precision
def trace(input: Any) -> Any:
    """The sum of a matrix's diagonal."""
    if len(input.shape) != 2:
        raise RuntimeError("trace: expected a matrix, but got tensor with dim " + str(len(input.shape)))
    return _trace(input.diagonal(), attrs=((0,), False, dt.int64 if input.dtype.kind in "bui" else input.dtype))


@public()
@titled("DiagonalScatterBackward0")
def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A copy of ``input`` with ``src`` as its diagonal."""
    return _embedded(input, input.diagonal(offset, dim1, dim2), src, "diagonal_scatter", lambda x: x.diagonal(offset, dim1, dim2))


@public()
@titled("SelectScatterBackward0")
def select_scatter(input: Any, src: Any, dim: int, index: int) -> Any:
    """A copy of ``input`` with ``src`` at one position of a dimension."""
    return _embedded(input, input.select(dim, index), src, "select_scatter", lambda x: x.select(dim, index))


@public()
@titled("SliceScatterBackward0")
def slice_scatter(input: Any, src: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    """A copy of ``input`` with ``src`` in a slice of a dimension."""
    d = wrap_dim(dim, len(input.shape))

    def part(x: Any) -> Any:
        return x[(slice(None),) * d + (slice(start, end, step),)]
    return _embedded(input, part(input), src, "slice_scatter", part)


@public()
@titled("AsStridedScatterBackward0")
def as_strided_scatter(input: Any, src: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """A copy of ``input`` with ``src`` in the window that ``as_strided`` would show."""
    def part(x: Any) -> Any:
        return x.as_strided(size, stride, storage_offset)
    return _embedded(input, part(input.detach()), src, "as_strided_scatter", part)


def _embedded(input: Any, view: Any, src: Any, name: str, part: Any) -> Any:
    if tuple(view.shape) != tuple(src.shape):
        raise RuntimeError(f"{name}: expected src to have a size equal to the slice of self. src size = {list(src.shape)}, slice size = "
                           f"{list(view.shape)}")
    made = input.clone()
    part(made).copy_(src)
    return made


@public(method=False, out=False)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """Powers of a vector's elements as columns, falling unless ``increasing``."""
    if len(x.shape) != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    n = x.shape[0] if N is None else N
    if n < 0:
        raise RuntimeError("N must be non-negative.")
    made = _powers(x, n)
    return made if increasing else made.flip(-1)


def _powers(x: Any, n: int) -> Any:
    """(..., n): powers 0 to n - 1."""
    one = x.new_ones((*x.shape, min(n, 1)), dtype=dt.int64 if x.dtype.kind in "bui" else None)
    if n <= 1:
        return one
    return one.cat_with(x.to(one.dtype).unsqueeze(-1).expand((*x.shape, n - 1)).cumprod(-1), -1)


def _fill_diagonal(self: Any, fill_value: Any, wrap: bool = False) -> Any:
    """Set the main diagonal; with ``wrap`` it starts again below a tall matrix."""
    shape = tuple(self.shape)
    if len(shape) < 2:
        raise RuntimeError("dimensions must larger than 1")
    if len(shape) > 2 and len(set(shape)) != 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    rows, columns = shape[0], shape[1]
    step = sum(self.stride())
    self.as_strided((min(rows, columns),), (step,), self.storage_offset()).fill_(fill_value)
    if wrap and len(shape) == 2 and rows > columns + 1:
        again = self.narrow(0, columns + 1, rows - columns - 1)
        _fill_diagonal(again, fill_value, True)
    return self


METHODS["fill_diagonal_"] = _fill_diagonal


@public(method=False, out=False)
@titled("BlockDiagBackward0")
def block_diag(*tensors: Any) -> Any:
    """Matrices along the diagonal of one; numbers and vectors count as one row."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    from ..ops.promotion import result_type
    from .creation import zeros
    from .shape import cat

    blocks = []
    for k, t in enumerate(tensors):
        if not isinstance(t, Handle):
            raise TypeError(f"block_diag(): expected Tensor as element {k} in argument 0, but got {type(t).__name__}")
        if len(t.shape) > 2:
            raise RuntimeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {k} has {len(t.shape)} dimensions")
        blocks.append(t.reshape((1, -1)) if len(t.shape) < 2 else t)  # type: ignore[attr-defined]
    if not blocks:
        return zeros((1, 0))
    dtype = result_type([b._value.meta for b in blocks])
    width, at, rows = sum(b.shape[1] for b in blocks), 0, []
    for b in blocks:
        n, m = b.shape
        rows.append(cat([zeros((n, at), dtype=dtype), b.to(dtype), zeros((n, width - at - m), dtype=dtype)], 1))
        at += m
    return cat(rows, 0)


METHODS["trace"] = trace
