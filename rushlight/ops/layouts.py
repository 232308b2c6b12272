"""In which order results fill their memory, where an input is not row-major: PyTorch's rules.

Strides are told of the results only. What is computed in between has no memory, and the compiler lays it out as it likes; a result
that is stored lies as its meta says (``record/paths.py::lower_nodes``). Rules are functions ``(metas, outs, attrs) -> outs``; recording
asks them for new nodes, and only where some input has strides (``Op.lays``).
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.apply import Restrided, apply, value_of
from ..record.meta import Meta, contiguous_strides, dense_strides, is_contiguous, meta_of
from .structured import Structured

__all__ = ["as_suggested", "by_columns", "channels_last_order", "columns", "filled_in", "in_columns", "in_order", "in_order_meta",
           "in_order_of", "is_in_order", "iterated", "like_input", "looks_channels_last", "preserved", "rows", "sorted_by", "suggested"]

Shape = tuple[int, ...]
Rule = Callable[[Sequence[Meta], Any, tuple], Any]


def _lying(m: Meta, strides: Shape | None) -> Meta:
    """A meta with other strides, row-major where these leave gaps."""
    return meta_of(m.shape, m.dtype, m.device, strides).own


def _strides(m: Meta) -> Shape:
    return m.strides or contiguous_strides(m.shape)


def _each(outs: Any, change: Callable[[Meta], Meta]) -> Any:
    return tuple(map(change, outs)) if type(outs) is tuple else change(outs)


# -- pointwise ----------------------------------------------------------------------------------------------------


def iterated(metas: Sequence[Meta], outs: Any, attrs: tuple) -> Any:
    """As the inputs lie, the first of them having the last word (PyTorch's TensorIterator)."""
    return _each(outs, lambda out: _lying(out, _iterated_strides(out.shape, metas)))


def _iterated_strides(shape: Shape, metas: Sequence[Meta]) -> Shape | None:
    if any(len(m.shape) > len(shape) for m in metas):  # the elements were added up
        return None
    if all(m.shape == shape for m in metas):
        if all(m.strides is None or is_contiguous(m.shape, m.strides) for m in metas):
            return None
        last = channels_last_order(len(shape))
        if last is not None and all(is_in_order(m, last) for m in metas):
            return dense_strides(shape, last)
        first = metas[0]
        if all(m.strides == first.strides for m in metas) and first.order is not None:
            return first.strides
    return dense_strides(shape, _sorted_dims(shape, [_broadcast(m, shape) for m in metas]))


def sorted_by(out: Meta, operands: Sequence[Shape]) -> Meta:
    """With the dimensions in the order that strides of operands tell."""
    return _lying(out, dense_strides(out.shape, _sorted_dims(out.shape, operands)))


def _broadcast(m: Meta, shape: Shape) -> Shape:
    """Strides of an input that is expanded to a shape."""
    lead = len(shape) - len(m.shape)
    return (0,) * lead + tuple([0 if n == 1 and shape[lead + d] != 1 else s for d, (n, s) in enumerate(zip(m.shape, _strides(m)))])


def _sorted_dims(shape: Shape, operands: Sequence[Shape]) -> list[int]:
    """The dimensions from the outermost to the innermost: sorted by the first operand that tells two of them apart, those that nobody
    tells apart being left as they are."""
    def comes_before(a: int, b: int) -> int:
        """Whether dimension ``a`` lies outside ``b`` (1), inside (-1), or nobody can tell (0); ``a`` is the inner one so far."""
        for strides in operands:
            if strides[a] == 0 or strides[b] == 0:
                continue
            if strides[a] != strides[b]:
                return 1 if strides[a] > strides[b] else -1
            if shape[a] > shape[b]:
                return 1
        return 0

    inner = list(reversed(range(len(shape))))  # from the innermost to the outermost
    for i in range(1, len(inner)):
        at = i
        for k in range(i - 1, -1, -1):
            told = comes_before(inner[k], inner[at])
            if told > 0:
                inner[k], inner[at] = inner[at], inner[k]
                at = k
            elif told < 0:
                break
    return inner[::-1]


# -- one input ----------------------------------------------------------------------------------------------------


@functools.cache
def like_input(k: int = 0) -> Rule:
    """In the order of input ``k`` (``torch.preserve_format``): with its strides if it has no gaps, else sorted by them."""
    def lay(metas: Sequence[Meta], outs: Any, attrs: tuple) -> Any:
        return _each(outs, lambda out: _preserved(metas[k], out) if out.shape == metas[k].shape else out)
    return lay


def in_order_of(k: int = 0) -> Rule:
    """With the dimensions in the order that those of input ``k`` have, whatever their sizes."""
    def lay(metas: Sequence[Meta], outs: Any, attrs: tuple) -> Any:
        m = metas[k]
        order = _sorted_dims(m.shape, [_strides(m)])
        return _each(outs, lambda out: _lying(out, dense_strides(out.shape, order)) if len(out.shape) == len(order) else out)
    return lay


def _preserved(m: Meta, out: Meta) -> Meta:
    if m.strides is None:
        return out.plain
    if m.order is not None:
        return _lying(out, m.strides)
    return _lying(out, dense_strides(m.shape, _sorted_dims(m.shape, [m.strides])))


def preserved(m: Meta) -> Meta:
    """The meta of a copy of something with this one."""
    return _preserved(m, m.plain)


# -- channels last ------------------------------------------------------------------------------------------------


def channels_last_order(ndim: int) -> Shape | None:
    """The order of images whose channels are innermost."""
    return {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}.get(ndim)


_LINE = (0, 2, 1)


def is_in_order(m: Meta, order: Shape | None) -> bool:
    """Whether the elements lie without gaps with the dimensions in this order (None: by rows)."""
    if order is None:
        return m.strides is None or is_contiguous(m.shape, m.strides)
    strides = _strides(m)
    return is_contiguous(tuple([m.shape[d] for d in order]), tuple([strides[d] for d in order]))


def looks_channels_last(m: Meta, lines: bool = False) -> bool:
    """Whether the strides are those of channels that lie innermost, possibly with gaps; row-major where both could be meant. With ``lines``
    also those of (samples, channels, length)."""
    order = _LINE if lines and len(m.shape) == 3 else channels_last_order(len(m.shape))
    if order is None or m.strides is None or m.strides[1] == 0:
        return False
    least = 0
    for d in reversed(order):
        stride, extent = m.strides[d], m.shape[d]
        if extent == 0 or stride < least or d == 0 and least == m.strides[1]:
            return False
        least = stride * extent if extent > 1 else stride
    return True


def suggested(*inputs: int, every: bool = False, lines: bool = False, volumes: bool = True) -> Rule:
    """Results with four dimensions, or with three if ``lines``, or with five if ``volumes``, lie channels last if one of the inputs does,
    with ``every`` if all do. Without positions all inputs are asked."""
    kinds = (4, *(3,) * lines, *(5,) * volumes)

    def lay(metas: Sequence[Meta], outs: Any, attrs: tuple) -> Any:
        asked = [metas[k] for k in inputs if k < len(metas)] or metas
        if not (all if every else any)([looks_channels_last(m, lines) for m in asked]):
            return outs
        return _each(outs, lambda out: in_order_meta(out, channels_last_order(len(out.shape)) or _LINE) if len(out.shape) in kinds else out)
    return lay


# -- matrices -----------------------------------------------------------------------------------------------------


def in_columns(m: Meta) -> Meta:
    """Matrices that lie column by column."""
    n = len(m.shape)
    return in_order_meta(m, (*range(n - 2), n - 1, n - 2))


def by_columns(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A meta rule whose results, where they are matrices as the first input is, lie column by column, as LAPACK makes them."""
    def meta(metas: Sequence[Meta], *attrs: Any) -> Any:
        n = len(metas[0].shape)
        return _each(rule(metas, *attrs), lambda out: in_columns(out) if len(out.shape) == n else out)
    return meta


# -- another order ------------------------------------------------------------------------------------------------


def in_order_meta(m: Meta, order: Shape | None) -> Meta:
    """The same, with memory that is filled in this order (None: by rows)."""
    return m.plain if order is None else _lying(m, dense_strides(m.shape, order))


#: The same values in memory of their own that is filled in the order ``attrs[0]``, row-major for None.
in_order = Structured("clone", moves=True, meta=lambda metas, order: in_order_meta(metas[0], order), lower=lambda g, x, attrs, outs: x[0],
                      grad=lambda ctx, g: g, saves=((), False))
Restrided.in_order = lambda t, meta: apply(in_order, (meta.order,), (t,), hold=True)


def filled_in(t: Any, order: Shape | None) -> Any:
    """The tensor itself if its memory is filled in this order (None: by rows), else a copy that is."""
    return t if is_in_order(value_of(t).meta, order) else in_order(t, attrs=(order,))


def rows(t: Any) -> Any:
    """The same in memory that is filled by rows."""
    return filled_in(t, None)


def columns(t: Any) -> Any:
    """The same matrices in memory that is filled column by column, as LAPACK makes them."""
    n = len(t.shape)
    return filled_in(t, (*range(n - 2), n - 1, n - 2))


def as_suggested(t: Any, like: Any) -> Any:
    """The same images, channels last if those of ``like`` are."""
    meta = value_of(like).meta
    return filled_in(t, channels_last_order(len(meta.shape)) if looks_channels_last(meta) else None)
