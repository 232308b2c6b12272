"""Indexing: slices, integers, tensors, masks; gather and scatter."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.autocast import widest
from ..autograd.given import PLAIN_TENSORS
from ..autograd.handle import Handle
from ..autograd.quick import at_once
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..ops import indexing as ix
from ..ops import (
    moving,  # noqa: F401  (what positions that keep changing become)
    views,
)
from ..ops.pointwise import broadcast_shapes
from ..ops.structured import wrap_dim
from ..record.meta import CPU
from ..record.trace import local
from .creation import from_array, from_numpy
from .cuts import part_finder
from .index_key import basic, selected, sliced
from .parts import cell
from .registry import METHODS, public
from .scalars import check_number
from .storing import MOST_AT_ONCE

__all__: list[str] = []


def _getitem(self: Any, key: Any) -> Any:
    if self._value.meta.shape:  # what loops do, without a look at what else an index may be
        if type(key) is int:
            return selected(self, 0, key, 0)
        if type(key) is slice:
            t = sliced(self, 0, key)
            return _alias(t, True) if t is self else t
    if type(key) in PLAIN_TENSORS:
        chosen = _where_true(self, key)
        if chosen is not None:
            return chosen
    t, tensors = basic(self, key, True)
    if tensors is None:
        return _alias(t, False) if t is self else t
    return _take(t, tensors)


def _where_true(t: Any, mask: Any) -> Any:
    """``t[mask]`` of small data with a mask of its shape, made by the host: the mask has to be read in any case, to know how many elements
    there are, and with it all that is pending has been computed. None if that is to be recorded."""
    meta, given = t._value.meta, mask._value.meta
    if (given.dtype is not dt.bool_ or given.shape != meta.shape or not meta.shape or meta.numel > MOST_AT_ONCE or cell(meta.dtype) is None
            or type(t) not in PLAIN_TENSORS or meta.device is not CPU or given.device is not CPU):
        return None
    tr = local.trace
    if tr.mapping or tr.full or t._edge is not None and tr.grad_enabled:
        return None
    chosen = mask.detach()._array()
    return from_array(t.detach()._array()[chosen])


_aliased, _sliced = (views.permute.named(name) for name in ("AliasBackward0", "SliceBackward0"))
_index_select, _index_add, _index_copy = (op.named(name) for op, name in (
    (ix.index, "IndexSelectBackward0"), (ix.index_put.laid(None), "IndexAddBackward0"), (ix.index_put.laid(None), "IndexCopyBackward0")))
_scatter_add = ix.scatter.named("ScatterAddBackward0")


def _alias(t: Any, by_slice: bool) -> Any:
    """``x[...]`` and ``x[:]`` are views, not ``x``; ``by_slice``: the latter, which PyTorch calls otherwise."""
    return (_sliced if by_slice else _aliased)(t, tuple(range(len(t.shape))))


def _plan(t: Any, tensors: list[Any]) -> tuple[Any, list[Any], int]:
    """Indexed dimensions moved together: (tensor, index tensors broadcast to one shape, first indexed dimension)."""
    dims = [d for d, i in enumerate(tensors) if i is not None]
    together = dims == list(range(dims[0], dims[0] + len(dims)))
    if not together:
        order = dims + [d for d in range(len(t.shape)) if d not in dims]
        t, first = views.permute(t, tuple(order)), 0
    else:
        first = dims[0]
    indices = [tensors[d] for d in dims]
    try:
        shape = broadcast_shapes([i.shape for i in indices])
    except RuntimeError:
        raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                         f"{', '.join(str(list(i.shape)) for i in indices)}") from None
    return t, [i if i.shape == shape else views.expand(i, shape) for i in indices], first


def _take(t: Any, tensors: list[Any]) -> Any:
    t, indices, first = _plan(t, tensors)
    return ix.index(t, *indices, attrs=(first,))


def _fit(value: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast a value to the place it is stored in (leading dimensions of length 1 may be too many)."""
    while len(value.shape) > len(shape) and value.shape[0] == 1:
        value = views.select(value, 0, 0)
    if value.shape == shape:
        return value
    try:
        return views.expand(value, shape)
    except RuntimeError:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of shape "
                           f"{list(shape)}") from None


def _expanded(value: Any, shape: tuple[int, ...]) -> Any:
    return value if value.shape == shape else views.expand(value, shape)


METHODS["__getitem__"] = at_once(part_finder(_getitem))(_getitem)


# -- gather and scatter -------------------------------------------------------------------------------------------


def _check_gather(name: str, input: Any, dim: int, index: Any) -> int:
    if index.dtype not in (dt.int64, dt.int32) and index.numel():
        raise RuntimeError(f"{name}(): Expected dtype int64 for index")
    dim = wrap_dim(dim, len(input.shape))
    if max(len(index.shape), 1) != max(len(input.shape), 1) and index.numel():
        raise RuntimeError(f"Index tensor must have the same number of dimensions as input tensor: index {list(index.shape)}, input "
                           f"{list(input.shape)}")
    return dim


@public()
@titled("GatherBackward0")
def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """``out[i][j] = input[index[i][j]][j]`` for dim 0, and so on."""
    dim = _check_gather("gather", input, dim, index)
    if not index.numel():
        return input.expand(tuple(input.shape)).reshape((-1,)).narrow(0, 0, 0).reshape(tuple(index.shape))
    for d, (n, m) in enumerate(zip(index.shape, input.shape)):
        if d != dim and n > m:
            raise RuntimeError(f"Size does not match at dimension {d} expected index {list(index.shape)} to be no larger than self "
                               f"{list(input.shape)} apart from dimension {dim}")
    if not input.shape or not index.shape:
        return ix.gather(input.reshape((-1,)), index.reshape((-1,)), attrs=(0,)).reshape(tuple(index.shape))
    return ix.gather(input, index, attrs=(dim,))


@public()
@titled("IndexSelectBackward0")
def index_select(input: Any, dim: int, index: Any) -> Any:
    """The positions ``index`` (a vector) of a dimension."""
    dim = wrap_dim(dim, len(input.shape))
    if len(index.shape) > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if index.dtype not in (dt.int64, dt.int32):
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    if not input.shape:
        return ix.index(input.reshape((1,)), index.reshape((-1,)), attrs=(0,)).reshape(())
    return _index_select(input, index if index.shape else index.reshape((1,)), attrs=(dim,))


@public()
@titled("MaskedSelectBackward0")
def masked_select(input: Any, mask: Any) -> Any:
    """The elements where ``mask`` is true, as a vector."""
    if mask.dtype is not dt.bool_:
        raise RuntimeError(f"masked_select: expected BoolTensor for mask, but got {mask.dtype}")
    shape = broadcast_shapes([input.shape, mask.shape], "masked_select")
    return _getitem(_expanded(input, shape), _expanded(mask, shape)) if shape else _getitem(input.reshape((1,)), mask.reshape((1,)))


@public(method=True)
def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """Positions of nonzero elements, (count, dimensions); with ``as_tuple`` a vector for each dimension."""
    array = input.detach()._array()
    if as_tuple:
        return tuple(from_array(p.copy()) for p in _places(array if array.shape else array.reshape(1)))
    places = _places(array)
    return from_numpy(places.T)  # dimension by dimension, as PyTorch keeps them


def _places(array: np.ndarray) -> np.ndarray:
    """Of each nonzero element its position in each dimension, (dimensions, count): from its position among all, which NumPy finds four
    times as fast."""
    flat = np.flatnonzero(array).astype(np.int64, copy=False)
    out = np.empty((array.ndim, flat.size), np.int64)
    for d in range(array.ndim - 1, 0, -1):
        flat, out[d] = np.divmod(flat, array.shape[d])
    if array.ndim:
        out[0] = flat
    return out


@public()
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """``gather`` with broadcasting; without ``dim`` on the flattened tensor."""
    if dim is None:
        return gather(input.reshape((-1,)), 0, indices.reshape((-1,)))
    dim = wrap_dim(dim, len(input.shape))
    shape = list(broadcast_shapes([tuple(1 if d == dim else n for d, n in enumerate(x.shape)) for x in (input, indices)]))
    big, small = list(shape), list(shape)
    big[dim], small[dim] = input.shape[dim], indices.shape[dim]
    return gather(_expanded(input, tuple(big)), dim, _expanded(indices, tuple(small)))


@public(inplace=True)
@titled(lambda input, dim, index, src=None, value=None, **_: f"ScatterBackward{int(not isinstance(value if src is None else src, Handle))}")
def scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    """``out[index[i][j]][j] = src[i][j]`` for dim 0 (the last one wins); ``reduce`` "add" or "multiply"."""
    src = value if src is None else src
    dim = _check_gather("scatter", input, dim, index)
    if not isinstance(src, Handle):
        from .creation import full

        src = full(tuple(index.shape), src, dtype=input.dtype)
    return _scatter(input, dim, index, src, {None: None, "add": "add", "multiply": "mul"}[reduce])


def _scatter(input: Any, dim: int, index: Any, src: Any, combine: str | None) -> Any:
    if src.dtype is not input.dtype:
        raise RuntimeError(f"scatter(): Expected self.dtype to be equal to src.dtype: {input.dtype} and {src.dtype}")
    if not input.shape or not index.shape or not src.shape:
        if input.shape and index.numel() > 1:
            raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
        return _scatter(input.reshape((-1,)), 0, index.reshape((-1,)), src.reshape((-1,)), combine).reshape(tuple(input.shape))
    if not index.numel():
        return input.clone()
    if len(src.shape) != len(index.shape):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as src tensor: index {list(index.shape)}, src "
                           f"{list(src.shape)}")
    for d, (n, m, s) in enumerate(zip(index.shape, input.shape, src.shape)):
        if n > s or d != dim and n > m:
            raise RuntimeError(f"Expected index {list(index.shape)} to be no larger than self {list(input.shape)} apart from dimension "
                               f"{dim} and to be no larger size than src {list(src.shape)}")
    for d, n in enumerate(index.shape):
        if src.shape[d] != n:
            src = views.slice_(src, d, 0, n, 1)
    return (_scatter_add if combine == "add" else ix.scatter)(input, index, src, attrs=(dim, combine))


@public(inplace=True)
@titled("ScatterAddBackward0")
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """``out[index[i][j]][j] += src[i][j]`` for dim 0."""
    return _scatter(input, _check_gather("scatter_add", input, dim, index), index, src, "add")


@public(inplace=True)
@titled("IndexAddBackward0")
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    """Add ``source`` to the positions ``index`` (a vector) of a dimension."""
    dim = wrap_dim(dim, len(input.shape))
    if input.dtype is not source.dtype:
        raise RuntimeError(f"index_add_(): self ({input.dtype}) and source ({source.dtype}) must have the same scalar type")
    if alpha != 1:
        source = source * alpha
    if not input.shape:
        _check_source("index_add_", (1,), 0, index, source.reshape((1,)) if not source.shape else source)
        return ix.index_put(input.reshape((1,)), source.reshape((-1,)), index.reshape((-1,)), attrs=(0, "add")).reshape(())
    shape = _check_source("index_add_", tuple(input.shape), dim, index, source)
    return _index_add(input, source.reshape(shape), index.reshape((-1,)), attrs=(dim, "add"))


def _check_source(name: str, shape: tuple[int, ...], dim: int, index: Any, source: Any) -> tuple[int, ...]:
    """The shape of ``source``, of which there is to be one slice for each of ``index``, a vector."""
    if len(index.shape) > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, but got dim: {len(index.shape)} and size: {list(index.shape)}")
    n = index.numel()
    if len(source.shape) == len(shape) and source.shape[dim] != n or not source.shape and n != 1:
        raise RuntimeError(f"{name}(): Number of indices ({n}) should be equal to source.size(dim): "
                           f"({source.shape[dim] if source.shape else 1}), for dim: {dim}")
    wanted = *shape[:dim], n, *shape[dim + 1:]
    if tuple(source.shape) != wanted and (source.shape or wanted != (1,)):
        raise RuntimeError(f"{name}(): source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape "
                           f"= {list(shape)} source.shape = {list(source.shape)}")
    return wanted


@public(inplace=True)
@titled("IndexCopyBackward0")
def index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    """Put ``source`` at the positions ``index`` (a vector) of a dimension."""
    input, source = widest(input, source)
    dim = wrap_dim(dim, len(input.shape))
    if input.dtype is not source.dtype:
        raise RuntimeError(f"index_copy_(): self and source expected to have the same dtype, but got (self) {input.dtype} and (source) "
                           f"{source.dtype}")
    if not input.shape:
        _check_source("index_copy_", (1,), 0, index, source.reshape((1,)) if not source.shape else source)
        return ix.index_put(input.reshape((1,)), source.reshape((-1,)), index.reshape((-1,)), attrs=(0, None)).reshape(())
    shape = _check_source("index_copy_", tuple(input.shape), dim, index, source)
    return _index_copy(input, source.reshape(shape), index.reshape((-1,)), attrs=(dim, None))


@public(inplace=True)
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    """Set the positions ``index`` (a vector) of a dimension to ``value``."""
    from ..ops import arithmetic as ar

    dim = wrap_dim(dim, len(input.shape))
    if index.dtype not in (dt.int64, dt.int32):
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    if len(index.shape) > 1:
        raise RuntimeError("index_fill_(): Index has more than one dimension.")
    if isinstance(value, Handle) and value.shape:
        raise RuntimeError(f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {len(value.shape)} dimension(s).")
    if not index.numel():
        return input.clone()
    n = input.shape[dim] if input.shape else 1
    flags = input.detach().new_zeros((n,), dtype=dt.bool_)
    mask = ix.index_put(flags, flags.new_ones((index.numel(),)), index.reshape((-1,)), attrs=(0, None))
    mask = mask.reshape(tuple(n if d == dim else 1 for d in range(len(input.shape))))
    made = ar.where.named(f"IndexFillBackward{int(isinstance(value, Handle))}")(
        mask, value.to(input.dtype) if isinstance(value, Handle) else input.detach().new_full((), value), input)
    return made


@public(inplace=True)
def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """Put (or add) ``values`` at the positions that a tuple of index tensors names."""
    t, tensors = basic(input, tuple(indices))
    assert tensors is not None
    dims = [d for d, i in enumerate(tensors) if i is not None]
    t2, found, first = _plan(t, tensors)
    shape = (*t2.shape[:first], *found[0].shape, *t2.shape[first + len(found):])
    if values.dtype is not input.dtype:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{input.dtype} for the destination and {values.dtype} for the source.")
    made = ix.index_put(t2, _fit(values, shape), *found, attrs=(first, "add" if accumulate else None))
    if t2 is not t:
        order = dims + [d for d in range(len(t.shape)) if d not in dims]
        made = views.permute(made, tuple(order.index(d) for d in range(len(order))))
    return made


@public(inplace=True)
def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """``value`` where ``mask`` is true, else ``input``."""
    from ..ops import arithmetic as ar

    if mask.dtype is not dt.bool_:
        raise RuntimeError(f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype}")
    if isinstance(value, Handle):
        if value.dim():
            raise RuntimeError(f"masked_fill only supports a 0-dimensional value tensor, but got tensor with {value.dim()} dimension(s).")
        value = value.to(input.dtype)
    else:
        check_number(value, input.dtype, "masked_fill")
        if input.dtype.kind in "ui" and isinstance(value, float):
            value = int(value)
    made = ar.where.named(f"MaskedFillBackward{int(isinstance(value, Handle))}").laid(None)(mask, value, input)
    return made if made.dtype is input.dtype else made.to(input.dtype)


@public(inplace=True)
@titled("MaskedScatterBackward0")
def masked_scatter(input: Any, mask: Any, source: Any) -> Any:
    """The elements of ``source`` in order at the places where ``mask`` is true."""
    if mask.dtype is not dt.bool_:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"masked_scatter_: expected self and source to have same dtypes but got {input.dtype} and {source.dtype}")
    shape = broadcast_shapes([input.shape, mask.shape], "masked_scatter")
    flat_mask = _expanded(mask, shape).reshape((-1,))
    places = flat_mask.nonzero().reshape((-1,))
    if places.numel() > source.numel():
        raise RuntimeError("masked_scatter: expected self and source to have same dtypes and source to have enough elements: needs "
                           f"{places.numel()}, has {source.numel()}")
    flat = _expanded(input, shape).reshape((-1,))
    chosen = views.slice_(source.reshape((-1,)), 0, 0, places.numel(), 1)
    return ix.index_put(flat, chosen, places, attrs=(0, None)).reshape(shape)
