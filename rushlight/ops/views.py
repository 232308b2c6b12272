"""View operations: the result shares the memory of the input.

Each is declared by ``place``: where the result lies, given where the input lies, as (shape, strides, offset) in
elements. The meta rule, the compiler's form and the gradient all follow from it.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.apply import Restrided, apply, apply_view
from ..autograd.handle import of_pairs, of_parts
from ..compile.dtypes import DType
from ..compile.graph import Graph, Node, View
from ..compile.index import as_view
from ..record.meta import Meta, contiguous_strides, is_contiguous, meta_of
from ..record.op import Op, backward_name
from .complexes import compose_pairs, paired, pairs, parted

__all__ = ["ViewOp", "as_complex", "as_real", "view", "permute", "expand", "slice_", "select", "squeeze", "unsqueeze", "diagonal", "unfold",
           "as_strided", "split_dim", "view_strides", "put_view"]

Shape = tuple[int, ...]
Place = tuple[Shape, Shape, int]


def lower_view(g: Graph, x: Node, place: Place) -> Node:
    """Take a view of a row-major value."""
    shape, strides, offset = place
    if math.prod(shape) == 0:
        return g.const(0, x.dtype, shape)
    if offset == 0 and math.prod(shape) == x.size and is_contiguous(shape, strides):
        return g.reshape(x, shape)
    found = as_view(x.shape, *place)
    if found is not None:
        return g.view(x, found)
    return g.view(g.reshape(x, (x.size,)), View(shape, (offset,), (strides,)))


class ViewOp(Op):
    """A view operation. ``place(shape, strides, offset, attrs)`` may raise what PyTorch raises.

    ``back(ctx, g) -> gradient``; by default the gradient is written into zeros at the places of the view, added where
    they overlap.
    """

    is_view = True

    def __init__(self, name: str, place: Callable[..., Place], back: Callable[[Any, Any], Any] | None = None) -> None:
        self.name = name
        self.grad_name = backward_name(name)
        self._place, self._back = place, back

    def place(self, shape: Shape, strides: Shape, offset: int, attrs: tuple) -> Place:
        return self._place(shape, strides, offset, *attrs)

    def __call__(self, x: Any, *attrs: Any) -> Any:
        return apply_view(self, attrs, x)

    def views(self, x: Any, attrs: tuple) -> tuple[Any, ...]:
        """Record them."""
        return (apply_view(self, attrs, x),)

    def hows(self, node: Any) -> Sequence[Any]:
        """How each view is that was recorded at a trie node (``autograd/handle.py::How``)."""
        return (node,)

    def places(self, shape: Shape, strides: Shape, attrs: tuple) -> Sequence[Place]:
        """Where the results lie, if the input begins its memory."""
        return (self.place(shape, strides, 0, attrs),)

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> Meta:
        m = metas[0]
        shape, strides, _ = self.place(m.shape, m.strides or contiguous_strides(m.shape), 0, attrs)
        return meta_of(shape, m.dtype, m.device, strides)

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        x = inputs[0]
        return [lower_view(g, x, self.place(x.shape, contiguous_strides(x.shape), 0, attrs))]

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
        return (), False

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        if self._back is not None:
            return (self._back(ctx, grads[0]),)
        shape = ctx.metas[0].shape
        return (put_view(grads[0], shape, *self.place(shape, contiguous_strides(shape), 0, ctx.attrs)),)

    def cost(self, outs: Sequence[Meta]) -> int:
        return 0


# -- where results lie --------------------------------------------------------------------------------------------


def view_strides(shape: Shape, strides: Shape, wanted: Shape) -> Shape | None:
    """Strides with which ``wanted`` shows the same memory in the same order, or None if a copy is needed."""
    if math.prod(shape) == 0:
        return contiguous_strides(wanted)
    # Runs of dimensions that lie as one: [length, stride of the last].
    runs: list[list[int]] = []
    for extent, stride in zip(shape, strides):
        if extent == 1:
            continue
        if runs and runs[-1][1] == stride * extent:
            runs[-1] = [runs[-1][0] * extent, stride]
        else:
            runs.append([extent, stride])
    out = [0] * len(wanted)
    r = len(runs) - 1
    left, step = (runs[r] if runs else (1, 1))
    for d in range(len(wanted) - 1, -1, -1):
        extent = wanted[d]
        if extent != 1 and left == 1:
            r -= 1
            left, step = runs[r]
        if left % extent:
            return None
        out[d] = step
        left //= extent
        step *= extent
    return tuple(out)


def _view(shape: Shape, strides: Shape, offset: int, wanted: Shape) -> Place:
    found = view_strides(shape, strides, wanted)
    if found is None:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension spans "
                           f"across two contiguous subspaces). Use .reshape(...) instead: {list(shape)} with strides "
                           f"{strides} to {list(wanted)}")
    return wanted, found, offset


def _permute(shape: Shape, strides: Shape, offset: int, order: Shape) -> Place:
    return tuple(shape[d] for d in order), tuple(strides[d] for d in order), offset


def _expand(shape: Shape, strides: Shape, offset: int, wanted: Shape) -> Place:
    lead = len(wanted) - len(shape)
    if lead < 0:
        raise RuntimeError(f"expand({list(shape)}, size={list(wanted)}): the number of sizes provided ({len(wanted)}) must be "
                           f"greater or equal to the number of dimensions in the tensor ({len(shape)})")
    out, steps = [], []
    for d, n in enumerate(wanted):
        have = shape[d - lead] if d >= lead else 1
        if n == -1:
            if d < lead:
                raise RuntimeError("expand: The expanded size of the tensor (-1) isn't allowed in a leading, non-existing "
                                   f"dimension {d}")
            n = have
        if have != n and have != 1:
            raise RuntimeError(f"The expanded size of the tensor ({n}) must match the existing size ({have}) at non-singleton "
                               f"dimension {d}.  Target sizes: {list(wanted)}.  Tensor sizes: {list(shape)}")
        out.append(n)
        steps.append(0 if d < lead or have == 1 and n != 1 else strides[d - lead])
    return tuple(out), tuple(steps), offset


def _slice(shape: Shape, strides: Shape, offset: int, dim: int, start: int, stop: int, step: int) -> Place:
    """start and stop are already within the dimension, step positive."""
    n = max(0, (stop - start + step - 1) // step)
    out = (*shape[:dim], n, *shape[dim + 1:])
    return out, (*strides[:dim], strides[dim] * step, *strides[dim + 1:]), offset + start * strides[dim]


def _select(shape: Shape, strides: Shape, offset: int, dim: int, at: int) -> Place:
    return (*shape[:dim], *shape[dim + 1:]), (*strides[:dim], *strides[dim + 1:]), offset + at * strides[dim]


def _squeeze(shape: Shape, strides: Shape, offset: int, dims: Shape) -> Place:
    kept = [d for d in range(len(shape)) if d not in dims or shape[d] != 1]
    return tuple(shape[d] for d in kept), tuple(strides[d] for d in kept), offset


def _unsqueeze(shape: Shape, strides: Shape, offset: int, dim: int) -> Place:
    step = shape[dim] * strides[dim] if dim < len(shape) else 1
    return (*shape[:dim], 1, *shape[dim:]), (*strides[:dim], step, *strides[dim:]), offset


def _diagonal(shape: Shape, strides: Shape, offset: int, k: int, dim1: int, dim2: int) -> Place:
    rows, columns = shape[dim1], shape[dim2]
    n = max(0, min(rows, columns - k) if k >= 0 else min(rows + k, columns))
    start = (k * strides[dim2] if k >= 0 else -k * strides[dim1]) if n else 0
    rest = [d for d in range(len(shape)) if d not in (dim1, dim2)]
    return ((*[shape[d] for d in rest], n), (*[strides[d] for d in rest], strides[dim1] + strides[dim2]), offset + start)


def _unfold(shape: Shape, strides: Shape, offset: int, dim: int, size: int, step: int) -> Place:
    if not shape:
        return (size,), (1,), offset
    n = (shape[dim] - size) // step + 1
    return ((*shape[:dim], n, *shape[dim + 1:], size),
            (*strides[:dim], strides[dim] * step, *strides[dim + 1:], strides[dim]), offset)


def _split_dim(shape: Shape, strides: Shape, offset: int, dim: int, sizes: Shape) -> Place:
    inner = [strides[dim] * s for s in contiguous_strides(sizes)]
    return (*shape[:dim], *sizes, *shape[dim + 1:]), (*strides[:dim], *inner, *strides[dim + 1:]), offset


class _Cut(ViewOp):
    """A view of a part. ``moved(attrs, at)``: the same somewhere else."""

    is_cut = True

    def __init__(self, name: str, place: Callable[..., Place], moved: Callable[[tuple, int], tuple]) -> None:
        super().__init__(name, place)
        self.moved = moved


def _same_elements(ctx: Any, g: Any) -> Any:
    return g.reshape(ctx.metas[0].shape)


def _permute_back(ctx: Any, g: Any) -> Any:
    order = ctx.attrs[0]
    return permute(g, inverse(order))


def _expand_back(ctx: Any, g: Any) -> Any:
    return g.sum_to_size(ctx.metas[0].shape)


view = ViewOp("view", _view, _same_elements)
unsafe_view = view.named("UnsafeViewBackward0")
permute = ViewOp("permute", _permute, _permute_back)
transpose, t_ = permute.named("TransposeBackward0"), permute.named("TBackward0")
expand = ViewOp("expand", _expand, _expand_back)
slice_ = _Cut("slice", _slice, lambda attrs, at: (attrs[0], at, at + attrs[2] - attrs[1], attrs[3]))
select = _Cut("select", _select, lambda attrs, at: (attrs[0], at))
slice_of_split, slice_of_sizes = slice_.named("SplitBackward0"), slice_.named("SplitWithSizesBackward0")
slice_unsafely, sizes_unsafely = slice_.named("UnsafeSplitBackward0"), slice_.named("UnsafeSplitWithSizesBackward0")
select_of_unbind = select.named("UnbindBackward0")
for _op in (slice_of_split, slice_of_sizes, select_of_unbind):
    _op.is_one_of_many = True
squeeze = ViewOp("squeeze", _squeeze, _same_elements)
unsqueeze = ViewOp("unsqueeze", _unsqueeze, _same_elements)
diagonal = ViewOp("diagonal", _diagonal)
unfold = ViewOp("unfold", _unfold)
split_dim = ViewOp("unflatten", _split_dim, _same_elements).named("ViewBackward0")


class _AsStrided(ViewOp):
    """Any window onto memory that its input fills: attrs are (shape, strides, offset), counted from where the input begins, the order in
    which that memory is filled where it is not by rows, and the dtype of the window where the input has another one: complex numbers as
    their parts, or parts as complex numbers (``autograd/apply.py::attrs_of``).

    Its input is a tensor whose value is the whole storage, whatever tensor the user called it on, or a dense part of one, such as
    a gradient that is a view. A window of another dtype is taken of a whole.
    """

    def __init__(self) -> None:
        super().__init__("as_strided", lambda shape, strides, offset, *wanted: (wanted[0], wanted[1], offset + wanted[2]))

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> Meta:
        found = super().meta(metas, attrs)
        return found if len(attrs) < 5 else meta_of(found.shape, attrs[4], found.device, found.strides)

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        x, place, dtype = as_filled(g, inputs[0], attrs), attrs[:3], outs[0].dtype
        if dtype is x.dtype:
            return [lower_view(g, x, place)]
        if dtype.kind == "c":
            return [paired(g, lower_view(g, x, of_parts(place)))]
        return [lower_view(g, parted(g, x), place)]

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        (whole, *_), (*place, order, dtype) = ctx.metas, (*ctx.attrs, None, None)[:5]
        shape, g = whole.shape if order is None else tuple([whole.shape[d] for d in order]), grads[0]
        if dtype is None:
            found = put_view(g, shape, *place)
        elif dtype.kind == "c":
            found = put_view(pairs(g), shape, *of_parts(tuple(place)))
        else:
            found = compose_pairs(put_view(g, (*shape, 2), *place))
        return (found if order is None else permute(found, inverse(order)),)


def as_filled(g: Graph, x: Node, attrs: tuple) -> Node:
    """The memory of a whole by rows; ``attrs`` are those of an operation on a part of it."""
    return x if len(attrs) < 4 or attrs[3] is None else g.permute(x, attrs[3])


def inverse(order: Sequence[int]) -> Shape:
    """The order that undoes another one."""
    return tuple([order.index(d) for d in range(len(order))])


as_strided = _AsStrided()
Restrided.op = as_strided


# -- complex numbers and their parts ------------------------------------------------------------------------------


class _OtherDType(ViewOp):
    """The same bytes as numbers of another dtype, which ``dtype`` tells from that of the input."""

    def __init__(self, name: str, place: Callable[..., Place], dtype: Callable[[DType], DType], lower: Callable[[Graph, Node], Node],
                 back: Callable[[Any], Any]) -> None:
        super().__init__(name, place, lambda ctx, g: back(g))
        self._dtype, self._lower = dtype, lower

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> Meta:
        found = super().meta(metas, attrs)
        return meta_of(found.shape, self._dtype(found.dtype), found.device, found.strides)

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        return [self._lower(g, inputs[0])]


def _paired(shape: Shape, strides: Shape, offset: int) -> Place:
    if strides[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % 2 for s, n in zip(strides[:-1], shape) if n != 1):
        raise RuntimeError(f"Tensor must have a stride divisible by 2 for all but last dimension, got strides {strides}")
    return of_pairs((shape, strides, offset))


as_real = _OtherDType("view_as_real", lambda *place: of_parts(place), DType.to_real, parted, compose_pairs)
as_complex = _OtherDType("view_as_complex", _paired, DType.to_complex, paired, pairs)


class _PutView(Op):
    """Zeros of a shape with the input added at the places of a view; attrs are (shape, view shape, strides, offset)."""

    name, grad_name = "as_strided_scatter", "AsStridedScatterBackward0"

    def meta(self, metas: Sequence[Meta], attrs: tuple) -> Meta:
        return meta_of(attrs[0], metas[0].dtype, metas[0].device)

    def lower(self, g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Sequence[Node]:
        shape, *place = attrs
        src = inputs[0]
        zeros = g.const(0, src.dtype, shape)
        if src.size == 0:
            return [zeros]
        if not _overlaps(*place[:2]):
            found = as_view(shape, *place)
            if found is not None:
                return [g.update(zeros, src, found)]
            flat = g.update(g.reshape(zeros, (math.prod(shape),)), src, View(src.shape, (place[2],), (place[1],)))
            return [g.reshape(flat, shape)]
        flat = g.const(0, src.dtype, (math.prod(shape),))
        index = g.const(place[2], _int64(), src.shape)
        for axis, stride in enumerate(place[1]):
            if stride and src.shape[axis] > 1:
                index = g.map(lambda e, i, p, s=stride: i + p * s, index, g.index(src.shape, axis))
        added = g.scatter(flat, g.reshape(index, (src.size,)), g.reshape(src, (src.size,)), 0, "add")
        return [g.reshape(added, shape)]

    def saved(self, metas: Sequence[Meta], attrs: tuple, needs: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
        return (), False

    def gradient(self, ctx: Any, *grads: Any) -> Sequence[Any]:
        return (as_strided(grads[0].contiguous(), *ctx.attrs[1:]),)


def _int64() -> Any:
    from ..compile import dtypes

    return dtypes.int64


def _overlaps(shape: Shape, strides: Shape) -> bool:
    """Whether two positions of a view may be the same element."""
    reach = 0
    for stride, extent in sorted(zip(strides, shape)):
        if extent > 1:
            if stride <= reach:
                return True
            reach += stride * (extent - 1)
    return False


strided_scatter = _PutView()


def put_view(src: Any, shape: Shape, *place: Any) -> Any:
    """Zeros of ``shape`` with ``src`` added at the places (shape, strides, offset) of a view."""
    return apply(strided_scatter, (shape, *place), [src])
