"""Rolling, rotating, repeating, joining along named axes, splitting, grids."""
from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd.apply import value_of
from ..autograd.handle import UNWATCHED_WRITE, Handle, is_unwatched, make, storage_of
from ..autograd.titles import entitle, titled
from ..autograd.writing import check_writable
from ..compile import dtypes as dt
from ..ops import basic, splits, views
from ..ops.layouts import rows
from ..ops.pointwise import broadcast_shapes
from ..ops.structured import wrap_dim
from ..record.trace import local
from ..record.warn import warn
from .creation import from_owned, full
from .registry import FUNCTIONS, METHODS, public
from .shape import cat, check_list, chunk_sizes, pieces, stack
from .size import size_argument, wholes

__all__: list[str] = []

_rolled = basic.cat.laid(None).named("RollBackward0")


@public(out=False)
@titled("RollBackward0")
def roll(input: Any, shifts: Any, dims: Any = None) -> Any:
    """Elements moved along ``dims``; those that leave at the end come in at the start."""
    shifts = (shifts,) if isinstance(shifts := wholes(shifts), int) else shifts
    dims = None if dims is None else wholes(dims)
    if not input.numel():
        return input.clone()
    if dims is not None and dims != () and not input.shape:
        raise IndexError(f"Dimension specified as {dims if isinstance(dims, int) else dims[0]} but tensor has no dimensions")
    if dims is None or dims == ():
        if len(shifts) != 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0")
        return roll(input.reshape((-1,)), shifts, (0,)).reshape(tuple(input.shape))
    dims = (dims,) if isinstance(dims, int) else dims
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    out = input
    for shift, d in zip(shifts, dims):
        d = wrap_dim(d, len(input.shape))
        n = input.shape[d] if input.shape else 1
        k = shift % n if n else 0
        if k:
            out = _rolled(out.narrow(d, n - k, k), out.narrow(d, 0, n - k), attrs=(d,))
    return rows(out.clone()) if out is input else out


@public(out=False)
@titled("Rot90Backward0")
def rot90(input: Any, k: int = 1, dims: Any = (0, 1)) -> Any:
    """Turned by 90 degrees k times, from the first towards the second of ``dims``."""
    dims = tuple(dims)
    n = len(input.shape)
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if n < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {n}")
    a, b = wrap_dim(dims[0], n), wrap_dim(dims[1], n)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 1:
        return input.flip(b).transpose(a, b)
    if k == 2:
        return input.flip(a, b)
    return input.flip(a).transpose(a, b) if k == 3 else rows(input.clone())


@public(out=False)
def fliplr(input: Any) -> Any:
    """Columns in reverse order."""
    if len(input.shape) < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return input.flip(1)


@public(out=False)
def flipud(input: Any) -> Any:
    """Rows in reverse order."""
    if len(input.shape) < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return input.flip(0)


@public(out=False)
def repeat_interleave(input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Any:
    """Every position of a dimension repeated, by one number or by a number each.

    Raises:
        RuntimeError: negative repeats, or as many as do not fit the dimension.
    """
    if repeats is None:
        if input.dtype not in (dt.int64, dt.int32):
            raise NotImplementedError(f'"repeat_interleave" not implemented for {input.dtype}: counts are int64 or int32')
        counts = input.detach()._array()
        return from_owned(np.repeat(np.arange(counts.size), counts).astype(input.dtype.numpy))
    x = input.reshape((-1,)) if dim is None else input
    d = 0 if dim is None else wrap_dim(dim, len(x.shape))
    if not x.shape:
        x = x.reshape((1,))
    n = x.shape[d]
    if isinstance(repeats, Handle):
        if repeats.dtype not in (dt.int64, dt.int32):
            raise RuntimeError("repeats has to be Long or Int tensor")
        counts = repeats.detach()._array()  # type: ignore[attr-defined]
        if counts.ndim > 1:
            raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
        if counts.size != 1 and counts.size != n:
            raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                               f"{counts.size} and input.size({d}) = {n}")
        counts = np.broadcast_to(counts.reshape(-1), (n,))
    elif int(repeats) > 1 and n:  # heads that several queries share: no index to look up, and the gradient is a sum
        x = x.unsqueeze(d + 1)
        return x.expand((*x.shape[:d + 1], int(repeats), *x.shape[d + 2:])).contiguous().flatten(d, d + 1)
    else:
        counts = np.full(n, int(repeats))
    if (counts < 0).any():
        raise RuntimeError("repeats can not be negative")
    return rows(x.index_select(d, from_owned(np.repeat(np.arange(n), counts).astype(np.int64))))


METHODS["repeat_interleave"] = repeat_interleave
METHODS["tile"] = lambda self, *dims: _tile(self, size_argument(dims))


def _tile(self: Any, dims: tuple[int, ...]) -> Any:
    return self.repeat((1,) * (len(self.shape) - len(dims)) + dims)


# -- at least so many dimensions, and joining ---------------------------------------------------------------------


def _at_least(name: str, lift: Any) -> Any:
    def call(*tensors: Any) -> Any:
        if len(tensors) == 1:
            if isinstance(tensors[0], (tuple, list)):
                return tuple(lift(t) for t in tensors[0])
            return lift(tensors[0])
        return tuple(lift(t) for t in tensors)
    call.__name__ = name
    call.__doc__ = f"Tensors with {name[8]} dimensions at least."
    public(method=False, out=False)(call)
    return call


atleast_1d = _at_least("atleast_1d", lambda t: t if t.shape else t.reshape((1,)))
atleast_2d = _at_least("atleast_2d", lambda t: t.reshape((1, 1)) if not t.shape else t.unsqueeze(0) if len(t.shape) == 1 else t)
atleast_3d = _at_least("atleast_3d", lambda t: t.reshape((1, 1, 1)) if not t.shape else t.unsqueeze(0).unsqueeze(-1) if
                       len(t.shape) == 1 else t.unsqueeze(-1) if len(t.shape) == 2 else t)


def _listed(name: str, tensors: Any) -> list[Any]:
    check_list(name, tensors)
    if not tensors:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return list(tensors)


@public(method=False)
def hstack(tensors: Any) -> Any:
    """Joined along columns (vectors end to end)."""
    parts = [atleast_1d(t) for t in _listed("hstack", tensors)]
    return cat(parts, 0 if len(parts[0].shape) == 1 else 1)


@public(method=False, aliases=("row_stack",))
def vstack(tensors: Any) -> Any:
    """Joined along rows (vectors are rows)."""
    return cat([atleast_2d(t) for t in _listed("vstack", tensors)], 0)


@public(method=False)
def dstack(tensors: Any) -> Any:
    """Joined along the third dimension."""
    return cat([atleast_3d(t) for t in _listed("dstack", tensors)], 2)


@public(method=False)
def column_stack(tensors: Any) -> Any:
    """Joined along columns (vectors are columns)."""
    return hstack([t.reshape((t.numel(), 1)) if len(t.shape) <= 1 else t for t in _listed("column_stack", tensors)])


# -- splitting ----------------------------------------------------------------------------------------------------


@public(out=False)
def tensor_split(input: Any, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None, sections: Any = None) -> Any:
    """In so many nearly equal parts, or at the given positions."""
    if not input.shape:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    where = next((x for x in (indices_or_sections, indices, sections) if x is not None), None)
    d = wrap_dim(dim, len(input.shape))
    n = input.shape[d]
    if isinstance(where, Handle):
        if where.dtype is not dt.int64 or len(where.shape) > 1:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to be a zero-dimensional or "
                               "one-dimensional tensor of long")
        where = where.tolist()  # type: ignore[attr-defined]
    where = wholes(where)
    if isinstance(where, int):
        if where <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {where}")
        small, extra = divmod(n, where)
        ends = list(itertools.accumulate([small + 1] * extra + [small] * (where - extra)))[:-1]
    else:
        ends = list(where)
    parts, at = [], 0
    for end in [*ends, n]:
        start, stop, _ = slice(at, end).indices(n)
        parts.append(views.slice_(input, d, start, max(start, stop), 1))
        at = end
    return tuple(parts)


def _directed(name: str, least: int, dim_of: Any) -> None:
    def call(input: Any, indices_or_sections: Any) -> Any:
        if len(input.shape) < least:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension{'s' * (least > 1)}, but got a tensor with "
                               f"{len(input.shape)} dimensions!")
        d = dim_of(len(input.shape))
        indices_or_sections = wholes(indices_or_sections)
        if isinstance(indices_or_sections, int) and (indices_or_sections == 0 or input.shape[d] % indices_or_sections):
            raise RuntimeError(f"torch.{name} attempted to split along dimension {d}, but the size of the dimension {input.shape[d]} is "
                               f"not divisible by the split_size {indices_or_sections}!")
        return tensor_split(input, indices_or_sections, d)
    call.__name__ = name
    call.__doc__ = f"``tensor_split`` along the dimension that {name} names."
    public(out=False)(call)
    METHODS[name] = lambda self, *parts: call(self, parts[0] if len(parts) == 1 else parts)


_directed("hsplit", 1, lambda n: 0 if n == 1 else 1)
_directed("vsplit", 2, lambda n: 0)
_directed("dsplit", 3, lambda n: 2)


@public(out=False)
def unsafe_split(input: Any, split_size: int, dim: int = 0) -> tuple[Any, ...]:
    """``split`` whose pieces may be written in place, one by one."""
    if isinstance(split_size, (list, tuple)):
        raise TypeError(f"unsafe_split(): argument 'split_size' (position 1) must be int, not {type(split_size).__name__}")
    return pieces(input, split_size, dim, splits.split_unsafely, splits.split_with_sizes_unsafely)


@public(out=False)
def unsafe_split_with_sizes(input: Any, split_sizes: Any, dim: int = 0) -> tuple[Any, ...]:
    """``split_with_sizes`` whose pieces may be written in place, one by one."""
    return pieces(input, list(split_sizes), dim, splits.split_unsafely, splits.split_with_sizes_unsafely)


@public(out=False)
def unsafe_chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """``chunk`` whose pieces may be written in place, one by one."""
    return pieces(input, chunk_sizes(input, chunks, dim), dim, splits.split_unsafely, splits.split_with_sizes_unsafely)


@public(out=False)
def ravel(input: Any) -> Any:
    """All elements as a vector: a view of a row-major tensor, else a copy."""
    return input.contiguous().reshape((-1,))


@public(out=False)
def adjoint(input: Any) -> Any:
    """The conjugate transpose of matrices."""
    if input.ndim < 2:
        raise RuntimeError(f"tensor.adjoint() is only supported on matrices or batches of matrices. Got {input.ndim}-D tensor.")
    return (input.conj() if input.dtype.kind == "c" else input).transpose(-2, -1)


# -- grids --------------------------------------------------------------------------------------------------------


@public(method=False, out=False)
def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """Tensors expanded to their common shape."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    shape = broadcast_shapes([t.shape for t in given])
    return tuple(t if t.shape == shape else views.expand(t, shape) for t in given)


@public(method=False, out=False)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Any, ...]:
    """Coordinates of a grid: one tensor for each vector, all of the grid's shape.

    Raises:
        RuntimeError: a tensor of more than one dimension, dtypes that differ, an unknown ``indexing``.
    """
    given = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else list(tensors)
    if not given:
        raise ValueError("meshgrid expects a non-empty TensorList")
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    for t in given:
        if len(t.shape) > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {list(t.shape)}")
        if t.dtype is not given[0].dtype:
            raise RuntimeError("torch.meshgrid expects all tensors to have the same dtype")
    if indexing is None:
        warn("torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.", UserWarning)
    swap = indexing == "xy" and len(given) >= 2
    if swap:
        given[0], given[1] = given[1], given[0]
    shape = tuple(t.numel() for t in given)
    grids = [t.reshape(tuple(-1 if d == k else 1 for d in range(len(shape)))).expand(shape) for k, t in enumerate(given)]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@public(method=False, out=False)
def cartesian_prod(*tensors: Any) -> Any:
    """All combinations of the elements of vectors, one in each row."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    if any(len(t.shape) != 1 for t in given):
        raise RuntimeError("cartesian_prod: Expect a 1D vector")
    if len(given) == 1:
        return given[0]
    return stack([g.reshape((-1,)) for g in meshgrid(*given, indexing="ij")], 1)


@public(method=False, out=False)
@titled("StackBackward0")
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """All choices of r elements of a vector, one in each row."""
    if len(input.shape) != 1:
        raise RuntimeError("Expect a 1D vector, but got shape " + str(list(input.shape)))
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    if r == 0:
        return input.new_empty((0,))
    return input.index_select(0, from_owned(rows.reshape(-1).copy())).reshape(rows.shape)


@public(out=False)
def argwhere(input: Any) -> Any:
    """Positions of nonzero elements, (count, dimensions)."""
    return input.nonzero()


@public(out=False, method=False)
def unravel_index(indices: Any, shape: Any) -> tuple[Any, ...]:
    """Flat positions as coordinates in ``shape``, a tensor for each dimension."""
    if indices.dtype.kind not in "ui":
        raise ValueError(f"expected 'indices' to be integer dtype, but got {indices.dtype}")
    shape = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    if indices.numel() == 0:
        return tuple(indices.new_empty(tuple(indices.shape)) for _ in shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"'shape' cannot have negative values, but got {shape}")
    if not shape:
        return ()
    out, rest = [], indices.long()  # coordinates are int64 whatever the positions are
    for n in reversed(shape):
        out.append(rest.remainder(n))
        rest = rest.floor_divide(n)
    return tuple(stack(out[::-1], -1).unbind(-1))


@public(method=False, out=False)
def empty_permuted(size: Any, physical_layout: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                   requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A tensor of undefined content whose dimensions lie in memory in the given order."""
    from .creation import empty_strided

    size, order = tuple(size), tuple(physical_layout)
    if sorted(order) != list(range(len(size))):
        raise RuntimeError(f"Number of dimensions in size does not match the length of the physical_layout: {size}, {order}")
    strides, step = [0] * len(size), 1
    for d in reversed(order):
        strides[d] = step
        step *= max(size[d], 1)
    return empty_strided(size, strides, dtype=dtype, device=device, requires_grad=requires_grad)


@public(method=False, out=False)
def scalar_tensor(s: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """A zero-dimensional tensor of a number."""
    from ..ops.promotion import default_dtype

    return full((), s, dtype=dtype or default_dtype(), device=device, requires_grad=requires_grad)


METHODS["resize_as_"] = lambda self, other, memory_format=None: self.resize_(tuple(other.shape))


# -- views in place -----------------------------------------------------------------------------------------------


def _become(name: str, of: str, title: Callable[..., str]) -> None:
    """``x.t_()``: the tensor becomes a view of its own memory."""
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if local.trace.grad_enabled:
            check_writable(self)
        base = make(value_of(self), self._edge)  # what it was: a view needs another tensor to be taken from when that is written
        base._alias = storage_of(self)
        base._more = {"now": weakref.ref(self)}
        made = METHODS[of](base, *args, **kwargs)
        self._value, self._alias = made._value, made._alias
        if made._edge is not None:
            self._edge = made._edge
        made._alias.storage.version += UNWATCHED_WRITE if is_unwatched(made._alias) else 1  # PyTorch counts it as a write
        value_of(self)
        if made._edge is not None:
            entitle(self, title(*args, **kwargs))
        return self
    call.__name__ = name
    call.__doc__ = f"``{of}`` in place: the tensor itself gets the other shape."
    METHODS[name] = call


def _squeezed(dim: Any = None) -> str:
    return f"SqueezeBackward{3 if dim is None else 4 if isinstance(dim, int) else 5}"


for _of, _title in (("t", "T"), ("transpose", "Transpose"), ("swapaxes", "Transpose"), ("swapdims", "Transpose"),
                    ("unsqueeze", "Unsqueeze"), ("as_strided", "AsStrided")):
    _become(_of + "_", _of, lambda *_, _title=_title, **__: f"{_title}Backward1")  # type: ignore[misc]
_become("squeeze_", "squeeze", _squeezed)
FUNCTIONS["resize_as_"] = METHODS["resize_as_"]
FUNCTIONS["as_strided_"] = METHODS["as_strided_"]
