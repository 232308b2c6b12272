"""Shapes: views, joining and repeating, with PyTorch's signatures."""
from __future__ import annotations

import math
import operator
from typing import Any

from ..autograd.apply import value_of
from ..autograd.handle import Handle
from ..autograd.quick import at_once, quick
from ..compile import dtypes as dt
from ..ops import basic, splits, views
from ..ops.layouts import in_order, is_in_order
from ..ops.promotion import result_type
from ..ops.structured import no_dims, wrap_dim, wrap_dims
from ..record.meta import is_contiguous
from ..record.trace import Trace
from ..record.warn import warn
from .casting import in_format
from .cuts import all_of_ready, pieces_of_ready, view_of_shown
from .kinds import contiguous_format, preserve_format
from .parts import MANY, joined
from .registry import CONVENIENCES, METHODS, public
from .size import size_argument, size_given, wholes

__all__: list[str] = []


def _inferred(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Replace a -1 by what makes the sizes fit."""
    if -1 in shape:
        if shape.count(-1) > 1:
            raise RuntimeError("only one dimension can be inferred")
        rest = -math.prod(shape)
        if rest == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 "
                               "can be any value and is ambiguous")
        if numel % rest == 0:
            return tuple([numel // rest if n == -1 else n for n in shape])
    elif math.prod(shape) == numel:
        if any(n < 0 for n in shape):
            raise RuntimeError(f"invalid shape dimension {min(shape)}")
        return shape
    bad = next((n for n in shape if n < -1), None)
    if bad is not None:
        raise RuntimeError(f"invalid shape dimension {bad} at index {shape.index(bad)} of shape {list(shape)}")
    raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")


def _view(self: Any, *size: Any, dtype: Any = None) -> Any:
    """The same memory in another shape (or, given a dtype of the same width, with other types).

    Raises:
        RuntimeError: the number of elements differs, or the strides do not allow it (use ``reshape``).
    """
    if dtype is not None or len(size) == 1 and hasattr(size[0], "itemsize"):
        return self._view_dtype(dtype or size[0])
    m = value_of(self).meta
    return views.view(self, _inferred(size_given("view", size, None), m.numel))


_view.__name__ = "view"
METHODS["view"] = _view
METHODS["view_as"] = lambda self, other: self.view(*other.shape or [()])


@public(method=False, out=False)
def reshape(input: Any, shape: Any) -> Any:
    """The same elements in another shape: a view where the strides allow it, else a copy."""
    m = value_of(input).meta
    wanted = _inferred(size_argument((shape,)) if not isinstance(shape, int) else (shape,), m.numel)
    if m.strides is not None and views.view_strides(m.shape, m.strides, wanted) is None:
        return views.unsafe_view(_by_rows(input), wanted)
    return views.view(input, wanted)


METHODS["reshape"] = lambda self, *given, shape=None: reshape(self, size_given("reshape", given, None) if shape is None else shape)
METHODS["reshape_as"] = lambda self, other: self.reshape(*other.shape or [()])


@public(out=False)
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Dimensions ``start_dim`` to ``end_dim`` as one."""
    shape = input.shape
    if not shape:
        return reshape(input, (1,))
    start, end = wrap_dim(start_dim, len(shape)), wrap_dim(end_dim, len(shape))
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if start == end:
        return input
    return reshape(input, (*shape[:start], math.prod(shape[start:end + 1]), *shape[end + 1:]))


@public(out=False)
def unflatten(input: Any, dim: int, sizes: Any) -> Any:
    """One dimension as several."""
    shape = input.shape
    dim = wrap_dim(dim, len(shape))
    sizes = size_argument((sizes,))
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    if -1 in sizes and math.prod(n for n in sizes if n != -1) and shape[dim] % math.prod(n for n in sizes if n != -1) == 0:
        sizes = tuple(shape[dim] // math.prod(k for k in sizes if k != -1) if n == -1 else n for n in sizes)
    if math.prod(sizes) != shape[dim]:
        raise RuntimeError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({shape[dim]}) in the "
                           "input tensor")
    return views.split_dim(input, dim, sizes)


METHODS["unflatten"] = unflatten


@public(method=False, out=False)
def permute(input: Any, dims: Any) -> Any:
    """Dimensions in another order: result dimension j is ``dims[j]`` of the input."""
    n = len(input.shape)
    dims = size_argument((dims,))
    if len(dims) != n:
        raise RuntimeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
                           f"ordering of dimensions i.e. input.dim() = {n} is not equal to len(dims) = {len(dims)}")
    order = tuple([wrap_dim(d, n) for d in dims])
    if len(set(order)) != n:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return views.permute(input, order)


METHODS["permute"] = lambda self, *given, dims=None: permute(self, size_given("permute", given, None, "dims") if dims is None else dims)


@public(out=False, aliases=("swapaxes", "swapdims"))
def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Two dimensions exchanged."""
    n = len(input.shape)
    a, b = wrap_dim(dim0, n), wrap_dim(dim1, n)
    order = list(range(n))
    if n:
        order[a], order[b] = b, a
    return views.transpose(input, tuple(order))


@public(out=False)
def t(input: Any) -> Any:
    """The transpose of a matrix."""
    n = len(input.shape)
    if n > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {n}D")
    return views.t_(input, tuple(reversed(range(n))))


@public(out=False, aliases=("moveaxis",))
def movedim(input: Any, source: Any, destination: Any) -> Any:
    """Move dimensions to new places; the others keep their order."""
    n = len(input.shape)
    src = [wrap_dim(d, n) for d in (source if isinstance(source, (tuple, list)) else (source,))]
    dst = [wrap_dim(d, n) for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    if len(src) != len(dst):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({src} dims) should contain the same number of dims as "
                           f"destination ({dst} dims)")
    if len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise RuntimeError("movedim: repeated dim in `source` or `destination`")
    if not n:
        return views.permute(input, ())
    order: list[int | None] = [None] * n
    for s, d in zip(src, dst):
        order[d] = s
    rest = iter(d for d in range(n) if d not in src)
    return views.permute(input, tuple(next(rest) if d is None else d for d in order))


METHODS["expand"] = lambda self, *given, size=None, implicit=False: views.expand(self, size_given("expand", given, size))
METHODS["expand_as"] = lambda self, other: self.expand(*other.shape or [()])
CONVENIENCES.update(("view_as", "reshape_as", "expand_as"))


@public(method=True, out=False)
def broadcast_to(input: Any, *shape: Any, size: Any = None) -> Any:
    """``input`` expanded to a size, given as one sequence or as numbers."""
    return views.expand(input, size_argument(shape if size is None else (size,)))


_squeeze_one, _squeeze_some = views.squeeze.named("SqueezeBackward1"), views.squeeze.named("SqueezeBackward2")


@public(out=False)
def squeeze(input: Any, dim: Any = None) -> Any:
    """Without dimensions of length 1 (all of them, or those named)."""
    n = len(input.shape)
    if dim is None:
        return views.squeeze(input, tuple(range(n)))
    return (_squeeze_one if isinstance(dim, int) else _squeeze_some)(input, () if no_dims(dim) else wrap_dims(dim, n))


@public(out=False)
def unsqueeze(input: Any, dim: int) -> Any:
    """With a dimension of length 1 inserted at ``dim``."""
    return views.unsqueeze(input, wrap_dim(dim, len(input.shape) + 1))


METHODS["view"].at_once = view_of_shown(lambda self, size, dtype: _view(self, *size, dtype=dtype))  # type: ignore[attr-defined]
METHODS["reshape"].at_once = view_of_shown(  # type: ignore[attr-defined]
    lambda self, given, shape: reshape(self, size_given("reshape", given, None) if shape is None else shape))
METHODS["unsqueeze"].at_once = view_of_shown(unsqueeze)  # type: ignore[attr-defined]


@public(out=False)
def narrow(input: Any, dim: int, start: Any, length: int) -> Any:
    """``length`` positions of a dimension from ``start`` on."""
    if not input.shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if hasattr(start, "_value") and (start.shape or start.dtype.kind not in "ui"):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    dim, start = wrap_dim(dim, len(input.shape)), int(start)
    n = input.shape[dim]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    if start < 0:
        start += n
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return views.slice_(input, dim, start, start + length, 1)


@public(out=False)
def select(input: Any, dim: int, index: int) -> Any:
    """One position of a dimension, which is dropped."""
    if not input.shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, len(input.shape))
    n = input.shape[dim]
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {dim}")
    return views.select(input, dim, index % n)


@public(out=False)
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The diagonal of two dimensions, as the last dimension of the result."""
    n = len(input.shape)
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return views.diagonal(input, operator.index(offset), a, b)


def _unfold(self: Any, dimension: int, size: int, step: int) -> Any:
    """All windows of ``size`` along a dimension, ``step`` apart, as a new last dimension."""
    n = len(self.shape)
    dimension = wrap_dim(dimension, n)
    extent = self.shape[dimension] if n else 1
    if size > extent:
        raise RuntimeError(f"maximum size for tensor at dimension {dimension} is {extent} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return views.unfold(self, dimension, wholes(size), wholes(step))


METHODS["unfold"] = _unfold


@public(out=False)
@at_once(all_of_ready)
def unbind(input: Any, dim: int = 0) -> tuple[Any, ...]:
    """All positions of a dimension, as a tuple."""
    dim = wrap_dim(dim, len(input.shape))
    n = input.shape[dim]
    return splits.unbind(input, dim, n) if n else ()


@public(out=False)
@at_once(pieces_of_ready)
def split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """Pieces of a given size, or of the sizes given. Writing into them in place with gradients is an error: see ``unsafe_split``."""
    return pieces(tensor, split_size_or_sections, dim, splits.split, splits.split_with_sizes)


def pieces(tensor: Any, split_size_or_sections: Any, dim: int, one_size: Any, sizes_given: Any) -> tuple[Any, ...]:
    """The views of ``split``, by operations for pieces of one size and for sizes that are given."""
    dim = wrap_dim(dim, len(tensor.shape))
    n = tensor.shape[dim]
    op = sizes_given
    split_size_or_sections = wholes(split_size_or_sections)
    if isinstance(split_size_or_sections, int):
        op = one_size
        step = split_size_or_sections
        if step < 0 or step == 0 and n:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={step}")
        sizes = [min(step, n - k) for k in range(0, n, step)] if n else [0]
    else:
        sizes = list(split_size_or_sections)
        if sum(sizes) != n or any(s < 0 for s in sizes):
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), but "
                               f"got split_sizes={sizes}")
    return op(tensor, dim, *sizes)  # type: ignore[no-any-return]


METHODS["split"] = at_once(pieces_of_ready)(lambda self, split_size, dim=0: split(self, split_size, dim))


@public(out=False)
def split_with_sizes(input: Any, split_sizes: Any, dim: int = 0) -> tuple[Any, ...]:
    """Pieces of the sizes given."""
    return split(input, list(split_sizes), dim)


def _chunks_of_ready(tr: Trace, input: Any, chunks: Any, dim: Any) -> tuple[Any, ...] | None:
    """What ``chunk`` gives of ready memory, or None."""
    if type(chunks) is not int or chunks <= 0 or type(dim) is not int or not isinstance(input, Handle):
        return None
    shape = input._value.meta.shape
    return pieces_of_ready(tr, input, -(-shape[dim] // chunks), dim) if -len(shape) <= dim < len(shape) else None


@public(out=False)
@at_once(_chunks_of_ready)
def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """At most ``chunks`` pieces of equal size (the last may be smaller)."""
    return split(input, chunk_sizes(input, chunks, dim), dim)


def chunk_sizes(input: Any, chunks: int, dim: int) -> Any:
    """What ``chunk`` splits into."""
    chunks = operator.index(chunks)
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = input.shape[wrap_dim(dim, len(input.shape))]
    return (n + chunks - 1) // chunks if n else [0] * chunks


# -- joining and repeating ----------------------------------------------------------------------------------------


@public(method=False, aliases=("concat", "concatenate"))
def cat(tensors: Any, dim: int = 0) -> Any:
    """Tensors one after the other along a dimension; types are promoted, empty 1-d tensors are left out."""
    return _cat(basic.cat, tensors, dim)


def check_list(name: str, tensors: Any) -> None:
    """TypeError unless these are tensors in a list or tuple."""
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not {type(tensors).__name__}")


def _cat(op: Any, tensors: Any, dim: int) -> Any:
    check_list("cat", tensors)
    if not tensors:
        raise ValueError("expected a non-empty list of Tensors")
    for k, x in enumerate(tensors):
        if not isinstance(x, Handle):
            raise TypeError(f"expected Tensor as element {k} in argument 0, but got {type(x).__name__}")
    if len(tensors) >= MANY and (done := joined(tensors, dim, stacked=False)) is not None:
        return done
    metas = [value_of(x).meta for x in tensors]
    dtype = result_type(metas)
    if any(not m.shape for m in metas):
        raise RuntimeError(f"zero-dimensional tensor (at position {next(k for k, m in enumerate(metas) if not m.shape)}) cannot be "
                           "concatenated")
    kept = [x for x, m in zip(tensors, metas) if m.shape != (0,)] or tensors[:1]
    kept = [x if x.dtype is dtype else basic.cast(x, attrs=(dtype,)) for x in kept]
    return op(*kept, attrs=(wrap_dim(dim, len(kept[0].shape)),))


METHODS["cat_with"] = lambda self, other, dim: cat((self, other), dim)


@public(method=False)
def stack(tensors: Any, dim: int = 0) -> Any:
    """Tensors of one shape along a new dimension."""
    check_list("stack", tensors)
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    shape = tensors[0].shape
    for k, x in enumerate(tensors):
        if x.shape != shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(x.shape)} at "
                               f"entry {k}")
    if len(tensors) >= MANY and (done := joined(tensors, dim, stacked=True)) is not None:
        return done
    dtype = result_type([value_of(x).meta for x in tensors])
    tensors = [x if x.dtype is dtype else basic.cast(x, attrs=(dtype,)) for x in tensors]
    return basic.stack(*tensors, attrs=(wrap_dim(dim, len(shape) + 1),))


@public(out=False)
def flip(input: Any, dims: Any) -> Any:
    """A copy with the order along ``dims`` reversed."""
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    return basic.flip(input, attrs=(wrap_dims(dims, len(input.shape)) if dims else (),))


METHODS["flip"] = lambda self, *given, dims=None: flip(self, size_argument(given) if dims is None else dims)
METHODS["repeat"] = lambda self, *given, repeats=None: basic.repeat(
    self, attrs=(size_given("repeat", given, repeats),))


@public(method=False, out=False)
def tile(input: Any, dims: Any) -> Any:
    """``input`` repeated ``dims`` times (leading ones are assumed)."""
    dims = tuple(dims)
    return basic.repeat(input, attrs=((1,) * (len(input.shape) - len(dims)) + dims,))


METHODS["tile"] = lambda self, *dims: tile(self, size_argument(dims))


@public(out=False)
def clone(input: Any, *, memory_format: Any = None) -> Any:
    """A copy, through which gradients flow: in the order in memory that ``input`` has, unless ``memory_format`` tells another one."""
    return basic.clone(input) if memory_format in (None, preserve_format) else in_format(input, memory_format)


def _contiguous(self: Any, memory_format: Any = None) -> Any:
    """The tensor itself if its memory is filled by rows (channels last, if ``memory_format`` says so), else a copy for which that holds."""
    m = value_of(self).meta
    if memory_format in (None, contiguous_format, preserve_format):
        if m.strides is None or is_contiguous(m.shape, m.strides):
            return self
        if memory_format is preserve_format:
            raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
        return _by_rows(self)
    return self if is_in_order(m, memory_format.order(len(m.shape))) else in_format(self, memory_format)


_by_rows = quick(lambda self: in_order(self, attrs=(None,)))
METHODS["contiguous"] = _contiguous
CONVENIENCES.add("contiguous")


def _sum_to_size(self: Any, *size: Any) -> Any:
    """Summed over the dimensions along which ``size`` would be broadcast to this shape."""
    shape = size_argument(size)
    m = value_of(self).meta
    lead = len(m.shape) - len(shape)
    if lead < 0 or any(a != b and a != 1 for a, b in zip(shape, m.shape[lead:])):
        raise RuntimeError(f"size {{{list(shape)}}} is not expandable to size {{{list(m.shape)}}}.")
    if shape and m.shape == shape:
        return self
    x = self.to(dt.int64) if m.dtype.kind in "bui" else self
    return basic.sum_to.named(f"SumBackward{int(len(shape) > 0)}")(x, attrs=(shape, x.dtype))


METHODS["sum_to_size"] = _sum_to_size


@public(out=False)
def as_strided(input: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """Any window onto the memory of ``input``: sizes, strides and offset in elements of its storage.

    Raises:
        TypeError: numbers that are no integers. RuntimeError: the window reaches over the storage.
    """
    offset = None if storage_offset is None else wholes(storage_offset)
    return input._as_strided(wholes(tuple(size)), wholes(tuple(stride)), offset)


METHODS["as_strided"] = as_strided


def _reversed(self: Any) -> Any:
    """All dimensions in the opposite order."""
    if self.ndim == 0:
        warn("Tensor.T is deprecated on 0-D tensors. This function is the identity in these cases.", UserWarning)
    elif self.ndim != 2:
        warn("The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated and it will throw an error in a "
             "future release. Consider `x.mT` to transpose batches of matrices or `x.permute(*torch.arange(x.ndim - 1, -1, -1))` to "
             "reverse the dimensions of a tensor.", UserWarning)
    return permute(self, tuple(reversed(range(self.ndim))))


def _matrix_transposed(self: Any) -> Any:
    """The last two dimensions exchanged; a tensor without dimensions as it is.

    Raises:
        RuntimeError: one dimension.
    """
    if self.ndim == 0:
        warn("Tensor.mT is deprecated on 0-D tensors. This function is the identity in these cases.", UserWarning)
        return self
    if self.ndim < 2:
        raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return self.transpose(-2, -1)


METHODS.update({"T": property(quick(_reversed)), "mT": property(quick(_matrix_transposed))})  # type: ignore[dict-item]
