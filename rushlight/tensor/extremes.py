"""Extremes with their positions, order statistics, sorting: values follow from positions by ``gather``."""
from __future__ import annotations

from typing import Any

from ..autograd.handle import Handle
from ..compile import dtypes as dt
from ..ops import arithmetic as ar
from ..ops import basic, views
from ..ops import indexing as ix
from ..ops import ordering as order
from ..ops import reduction as red
from ..ops.layouts import like_input
from ..ops.structured import wrap_dim, wrap_dims
from ..record.op import backward_name
from .registry import METHODS, public
from .return_types import named

__all__: list[str] = []

_PLAIN_ERRORS = frozenset(("max", "min", "sort", "msort", "topk"))
_NO_BOOLS = frozenset(("median", "nanmedian", "kthvalue", "topk"))


def _check_ordered(name: str, input: Any) -> None:
    kind = input.dtype.kind
    if kind == "c" or kind == "b" and name in _NO_BOOLS:
        raise (RuntimeError if name in _PLAIN_ERRORS else NotImplementedError)(f'"{name}" not implemented for {input.dtype}')


def _at(input: Any, dim: int, index: Any, keepdim: bool, kind: Any, grad_name: str) -> Any:
    """(values, positions) where the positions have the dimension kept."""
    if keepdim:
        return kind((ix.gather.named(grad_name)(input, index, attrs=(dim,)), index))
    values = ix.gather(input, index, attrs=(dim,))
    return kind((views.squeeze.named(grad_name)(values, (dim,)), index.squeeze(dim)))


def _reduced(name: str, input: Any, dim: int, keepdim: bool, find: Any = None, along: Any = None) -> Any:
    """(values, positions) along a dimension, where ``find`` gives the positions, or ``along`` is an operation that gives both."""
    kind = named(name, "values", "indices")
    dim = wrap_dim(dim, len(input.shape))
    _check_ordered(name, input)
    title = backward_name(name, int("median" in name))
    if not input.shape:
        return kind((basic.clone.named(title)(input), input.detach().new_zeros((), dtype=dt.int64)))
    if input.shape[dim] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")
    if along is not None:
        return kind(along(input, attrs=(dim, keepdim)))
    return _at(input, dim, find(input, dim), keepdim, kind, title)


def _extreme(name: str, whole: Any, along: Any, pair: Any) -> None:
    def call(input: Any, *args: Any, dim: int | None = None, keepdim: bool = False, other: Any = None) -> Any:
        given = list(args)
        if not isinstance(input, Handle):
            raise TypeError(f"{name}() received an invalid combination of arguments: the first must be a Tensor, not "
                            f"{type(input).__name__}")
        if given and isinstance(given[0], Handle):
            other = given.pop(0)
        if given:
            dim = given.pop(0)
        if given:
            keepdim = given.pop(0)
        if given:
            raise TypeError(f"{name}() received an invalid combination of arguments")
        if other is not None:
            return pair(input, other)
        if dim is None:
            if input.numel() == 0:
                raise RuntimeError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                                   "with the 'dim' argument.")
            return whole(input, attrs=(tuple(range(len(input.shape))), False))
        return _reduced(name, input, dim, keepdim, along=along)
    call.__name__ = name
    call.__doc__ = (f"``{name}(input)`` of all elements, ``{name}(input, dim, keepdim=False)`` with positions, "
                    f"or ``{name}(input, other)`` of two tensors.")
    public()(call)


_extreme("max", red.amax.named("MaxBackward1"), red.max_along, ar.maximum)
_extreme("min", red.amin.named("MinBackward1"), red.min_along, ar.minimum)


@public()
def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(minimum, maximum) of all elements or along ``dim``."""
    if dim is not None and input.shape and input.shape[wrap_dim(dim, len(input.shape))] == 0:
        raise IndexError(f"aminmax: Expected reduction dim {wrap_dim(dim, len(input.shape))} to have non-zero size.")
    if input.numel() == 0 and dim is None:
        raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity.")
    dims = wrap_dims(dim, len(input.shape))
    return named("aminmax", "min", "max")([op.named("AminmaxBackward0")(input, attrs=(dims, keepdim)) for op in (red.amin, red.amax)])


def _median(name: str, ignore: bool) -> None:
    whole = order.median_all.named(backward_name(name))

    def call(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            _check_ordered(name, input)
            return whole(input, attrs=(ignore,))
        return _reduced(name, input, dim, keepdim, lambda x, d: order.median_index(x, attrs=(d, ignore)))
    call.__name__ = name
    call.__doc__ = "The (lower) median of all elements, or along ``dim`` with positions" + (", NaN left out." if ignore else ".")
    public()(call)


_median("median", False)
_median("nanmedian", True)


@public()
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value along ``dim`` (the smallest of several) and a position of it."""
    return _reduced("mode", input, dim, keepdim, lambda x, d: order.mode_index(x, attrs=(d,)))


@public()
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest value along ``dim`` and its position.

    Raises:
        RuntimeError: k is out of range.
    """
    n = input.shape[wrap_dim(dim, len(input.shape))] if input.shape else 1
    if not 1 <= k <= n:
        raise RuntimeError("kthvalue(): selected number k out of range for dimension "
                           f"{wrap_dim(dim, len(input.shape))}")
    return _reduced("kthvalue", input, dim, keepdim, lambda x, d: order.kth_index(x, attrs=(d, k)))


def _running(name: str, largest: bool) -> None:
    def call(input: Any, dim: int) -> Any:
        _check_ordered(name, input)
        kind = named(name, "values", "indices")
        d = wrap_dim(dim, len(input.shape))
        if not input.shape or not input.numel():
            return kind((basic.clone.named(backward_name(name))(input), input.detach().new_zeros(tuple(input.shape), dtype=dt.int64)))
        index = order.running_index(input, attrs=(d, largest))
        return kind((ix.gather.named(backward_name(name))(input, index, attrs=(d,)), index))
    call.__name__ = name
    call.__doc__ = f"The {'largest' if largest else 'smallest'} element so far along ``dim``, and its position."
    public()(call)


_running("cummax", True)
_running("cummin", False)


# -- sorting ------------------------------------------------------------------------------------------------------


def _sorted(name: str, input: Any, dim: int, descending: bool, k: int | None = None, overload: int = 0) -> Any:
    kind = named(name, "values", "indices")
    _check_ordered(name, input)
    d = wrap_dim(dim, len(input.shape))
    if not input.shape:
        index = input.detach().new_zeros((), dtype=dt.int64)
        return kind((basic.clone.named(backward_name(name, overload))(input), index))
    taken = ix.gather.named(backward_name(name, overload))
    if k is None:
        index = order.sort_index(input, attrs=(d, descending))
        taken = taken.laid(like_input())
    else:
        index = order.first_index(input, attrs=(d, descending, k))
    return kind((taken(input, index, attrs=(d,)), index))


@public()
def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Any:
    """(sorted values, their positions) along ``dim``; always stable."""
    return _sorted("sort", input, dim, bool(descending), overload=int(stable is not None))


@public(out=False)
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The positions that sort ``input`` along ``dim``."""
    return _sorted("sort", input, dim, bool(descending))[1]


@public()
def msort(input: Any) -> Any:
    """Sorted along the first dimension."""
    return _sorted("sort", input, 0, False)[0]


@public()
def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k largest (or smallest) values along ``dim``, in order, and their positions.

    Raises:
        RuntimeError: k is out of range.
    """
    k = int(k)
    n = input.shape[wrap_dim(dim, len(input.shape))] if input.shape else 1
    if not 0 <= k <= n:
        raise RuntimeError("selected index k out of range")
    if not input.shape:
        if k == 0:
            return named("topk", "values", "indices")((input.new_empty((0,)), input.detach().new_zeros((0,), dtype=dt.int64)))
        return _sorted("topk", input, dim, bool(largest))
    return _sorted("topk", input, dim, bool(largest), k)


METHODS["sort"] = sort
