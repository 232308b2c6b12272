"""Creation, conversion, joining, and writing a view's content into its storage."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import autocast
from ..autograd.apply import Restrided, apply
from ..autograd.engine import Rules
from ..autograd.handle import of_parts
from ..compile.dtypes import DType, complex32
from ..compile.graph import Graph, Node, View
from ..compile.index import as_view
from ..record.meta import CPU, Meta, is_contiguous, meta_of
from .complexes import paired, parted
from .layouts import channels_last_order, in_order_meta, like_input, looks_channels_last, preserved, suggested
from .structured import Structured
from .views import as_filled, as_strided, inverse

__all__ = ["full", "cast", "clone", "cat", "stack", "update_view", "flip", "repeat", "sum_to", "pad_constant"]

Shape = tuple[int, ...]

full = Structured("full", moves=True, meta=lambda metas, shape, number, dtype: meta_of(shape, dtype, CPU),
                  lower=lambda g, x, attrs, outs: g.const(attrs[1][0], attrs[2], attrs[0]))
_full_of = Structured("full", moves=True, meta=lambda metas, shape, dtype: meta_of(shape, dtype, CPU),
                      lower=lambda g, x, attrs, outs: g.expand(g.cast(x[0], attrs[1]), attrs[0]))


def _number_of_full(attrs: tuple) -> tuple[Any, tuple, list[Any]] | None:
    """Numbers that keep changing, like the time that a diffusion model is told at each of its steps, are data."""
    shape, (number, *_), dtype = attrs
    exact = dtype.kind in "iu" or dtype.kind == "f" and dtype.itemsize >= 4  # half precision rounds a constant once, a cast perhaps twice
    if not exact or type(number) is not int and type(number) is not float or type(number) is int and not -1 << 63 <= number < 1 << 63:
        return None
    return _full_of, (shape, dtype), [number]


full.runtime = _number_of_full


def _cast_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    return g.cast(inputs[0], attrs[0])


def _cast_meta(metas: Sequence[Meta], dtype: DType) -> Meta:
    if complex32 in (dtype, metas[0].dtype) and dtype is not metas[0].dtype:
        raise NotImplementedError("\"copy_\" not implemented for 'ComplexHalf'")
    return meta_of(metas[0].shape, dtype, metas[0].device)


cast = Structured("to", moves=True, meta=_cast_meta, lower=_cast_lower,
                  grad=lambda ctx, g: g.to(ctx.metas[0].dtype), saves=((), False), grad_name="ToCopyBackward0", lays=like_input())
clone = Structured("clone", moves=True, meta=lambda metas: preserved(metas[0]), lower=lambda g, x, attrs, outs: x[0],
                   grad=lambda ctx, g: g, saves=((), False))


autocast.hand_in(lambda t, dtype: cast(t, attrs=(dtype,)))


# -- joining ------------------------------------------------------------------------------------------------------


def _cat_meta(metas: Sequence[Meta], dim: int) -> Meta:
    first = metas[0]
    for k, m in enumerate(metas[1:], 1):
        if len(m.shape) != len(first.shape):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(first.shape)} and {len(m.shape)}")
        for d, (a, b) in enumerate(zip(first.shape, m.shape)):
            if d != dim and a != b:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {dim}. Expected size {a} but got size {b} for "
                                   f"tensor number {k} in the list.")
    shape = (*first.shape[:dim], sum(m.shape[dim] for m in metas), *first.shape[dim + 1:])
    return meta_of(shape, first.dtype, first.device)


def _cat_grad(ctx: Any, g: Any) -> Sequence[Any]:
    (dim,), at, given = ctx.attrs, 0, []
    if all(ctx.needs):
        return g.split_with_sizes([m.shape[dim] for m in ctx.metas], dim)
    for m, need in zip(ctx.metas, ctx.needs):
        n = m.shape[dim]
        given.append(g.narrow(dim, at, n) if need else None)
        at += n
    return given


cat = Structured("cat", moves=True,
                 meta=_cat_meta, lower=lambda g, x, attrs, outs: g.concat(x, attrs[0]), grad=_cat_grad, saves=((), False),
                 lays=suggested(every=True))


def _stack_meta(metas: Sequence[Meta], dim: int) -> Meta:
    shape = metas[0].shape
    return meta_of((*shape[:dim], len(metas), *shape[dim:]), metas[0].dtype, metas[0].device)


def _stack_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    dim, = attrs
    return g.concat([g.reshape(x, (*x.shape[:dim], 1, *x.shape[dim:])) for x in inputs], dim)


def _stack_lays(metas: Sequence[Meta], out: Any, attrs: tuple) -> Any:
    """Channels last where all inputs are, with the new dimension just outside the one that it stands before."""
    n, (dim,) = len(metas[0].shape), attrs
    if dim == n or not all(looks_channels_last(m, False) for m in metas):
        return out
    return in_order_meta(out, tuple([e for d in channels_last_order(n) or () for e in ((dim, d + 1) if d == dim else (d + (d > dim),))]))


stack = Structured("stack", moves=True, meta=_stack_meta, lower=_stack_lower, saves=((), False), lays=_stack_lays,
                   grad=lambda ctx, g: g.unbind(*ctx.attrs) if all(ctx.needs) else [
                       g.select(*ctx.attrs, k) if need else None for k, need in enumerate(ctx.needs)])


def _flip_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, (dims,) = inputs[0], attrs
    if x.size == 0:
        return x
    starts = [n - 1 if d in dims else 0 for d, n in enumerate(x.shape)]
    return g.slice(x, starts, x.shape, [-1 if d in dims else 1 for d in range(len(x.shape))])


flip: Structured = Structured("flip", meta=lambda metas, dims: metas[0].plain, lower=_flip_lower, saves=((), False),
                              grad=lambda ctx, g: flip(g, attrs=ctx.attrs), lays=like_input())


def _repeat_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, (times,) = inputs[0], attrs
    shape = (1,) * (len(times) - len(x.shape)) + x.shape
    split = tuple(n for pair in zip((1,) * len(shape), shape) for n in pair)
    spread = tuple(n for pair in zip(times, shape) for n in pair)
    return g.reshape(g.expand(g.reshape(x, split), spread), outs[0].shape)


def _repeat_meta(metas: Sequence[Meta], times: Shape) -> Meta:
    m = metas[0]
    if len(times) < len(m.shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    shape = (1,) * (len(times) - len(m.shape)) + m.shape
    return meta_of(tuple(a * b for a, b in zip(times, shape)), m.dtype, m.device)


def _repeat_grad(ctx: Any, g: Any) -> Any:
    (times,), shape = ctx.attrs, ctx.metas[0].shape
    full_shape = (1,) * (len(times) - len(shape)) + shape
    split = tuple(n for pair in zip(times, full_shape) for n in pair)
    return g.reshape(split).sum(tuple(range(0, 2 * len(times), 2))).reshape(shape)


repeat = Structured("repeat", moves=True, meta=_repeat_meta, lower=_repeat_lower, grad=_repeat_grad, saves=((), False))


def _pad_meta(metas: Sequence[Meta], low: Shape, high: Shape, value: float) -> Meta:
    m = metas[0]
    shape = tuple(lo + n + hi for lo, n, hi in zip(low, m.shape, high))
    if any(n < 0 for n in shape):
        raise RuntimeError(f"The input size {list(m.shape)}, plus negative padding, resulted in a negative output size {list(shape)}")
    return meta_of(shape, m.dtype, m.device)


def _pad_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, (low, high, value) = inputs[0], attrs
    cut = tuple(n + min(lo, 0) + min(hi, 0) for lo, n, hi in zip(low, x.shape, high))
    if any(n <= 0 for n in cut):
        return g.const(value, x.dtype, outs[0].shape)
    x = g.slice(x, [max(-lo, 0) for lo in low], cut)
    return g.pad(x, [max(lo, 0) for lo in low], [max(hi, 0) for hi in high], value)


_suggested = suggested(0, volumes=False)


def _pad_lays(metas: Sequence[Meta], outs: Any, attrs: tuple) -> Any:
    """By no elements is recorded as by some (images of other sizes take the same path), and lies as a copy does."""
    low, high, _ = attrs
    return _suggested(metas, outs, attrs) if any(low) or any(high) else preserved(metas[0])


pad_constant: Structured = Structured(
    "constant_pad_nd", meta=_pad_meta, lower=_pad_lower, saves=((), False), lays=_pad_lays,
    grad=lambda ctx, g: pad_constant(g, attrs=(tuple(-n for n in ctx.attrs[0]), tuple(-n for n in ctx.attrs[1]), 0.0)))


# -- writing through a view ---------------------------------------------------------------------------------------


def _update_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    whole, part = inputs
    shape, strides, offset = attrs[:3]
    if part.size == 0:
        return whole
    if len(attrs) > 3 and attrs[3] is not None:  # places in memory that is not filled by rows
        within = (*attrs[:3], None, *attrs[4:])
        return g.permute(_update_lower(g, (as_filled(g, whole, attrs), part), within, outs), inverse(attrs[3]))
    if whole.dtype is not part.dtype:  # parts of complex numbers, or pairs of real ones
        if whole.dtype.kind == "c":
            return paired(g, _update_lower(g, (parted(g, whole), part), attrs[:3], outs))
        return _update_lower(g, (whole, parted(g, part)), of_parts(attrs[:3]), outs)
    if part.size == whole.size and offset == 0 and is_contiguous(shape, strides):
        return g.reshape(part, whole.shape)
    found = as_view(whole.shape, shape, strides, offset)
    if found is not None:
        return g.update(whole, part, found)
    flat = g.update(g.reshape(whole, (whole.size,)), part, View(shape, (offset,), (strides,)))
    return g.reshape(flat, whole.shape)


def _update_grad(ctx: Any, g: Any) -> Sequence[Any]:
    shape = ctx.attrs[0]
    # In memory of its own where a window of it is not one of elements by rows.
    g = Restrided.in_order(g, ctx.metas[0].own) if len(ctx.attrs) > 3 else g.contiguous()
    outside = None
    if ctx.needs[0]:
        zeros = full(attrs=(shape, (0.0, "f"), ctx.metas[1].dtype))
        outside = update_view(g, zeros, attrs=ctx.attrs)
    return outside, as_strided(g, *ctx.attrs) if ctx.needs[1] else None


update_view = Structured("copy_slices", moves=True, meta=lambda metas, *place: metas[0].own, lower=_update_lower,
                         grad=_update_grad, saves=((), False), grad_name="torch::autograd::CopySlices")
update_view.once = True
Restrided.overwrite = Structured("copy_", moves=True,
                                 meta=lambda metas: metas[1].own, lower=lambda g, x, attrs, outs: x[1], saves=((), False),
                                 grad=lambda ctx, g: (Rules.zeros(ctx.metas[0]), g if ctx.needs[1] else None),
                                 grad_name="torch::autograd::CopyBackwards")


# -- what autograd needs ------------------------------------------------------------------------------------------


def _sum_to_lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
    x, (shape, dtype) = inputs[0], attrs
    lead = len(x.shape) - len(shape)
    dims = [d for d in range(len(x.shape)) if d < lead or shape[d - lead] == 1 and x.shape[d] != 1]
    if dims:
        x = g.cast(g.reshape(g.reduce("add", g.cast(x, x.dtype.compute), dims), shape), dtype)
    return g.cast(g.reshape(x, shape), dtype)


sum_to = Structured("sum_to_size", meta=lambda metas, shape, dtype: meta_of(shape, dtype, metas[0].device), lower=_sum_to_lower,
                    grad=lambda ctx, g: g.expand(ctx.metas[0].shape).to(ctx.metas[0].dtype), saves=((), False))



def filled(shape: Shape, number: Any, dtype: DType) -> Any:
    """A tensor of one number."""
    return apply(full, (tuple(shape), number, dtype), ())
