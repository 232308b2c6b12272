"""What functions do with sparse tensors: products, sums, and whatever leaves zeros alone.

Example:
    >>> s = torch.sparse_coo_tensor([[0, 1], [2, 0]], [3.0, 4.0], (2, 3))
    >>> s @ torch.ones(3, 2)
    tensor([[3., 3.],
            [4., 4.]])
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..nn import functional
from ..tensor import FUNCTIONS, Tensor
from ..tensor.creation import from_owned
from .tensor import SparseTensor, answers, linear, made

__all__ = ["addmm", "log_softmax", "mm", "softmax", "sum"]


def _both(name: str) -> tuple[Any, ...]:
    """The function and the method of a name, and Python's operators of it."""
    found = [FUNCTIONS.get(name), getattr(Tensor, name, None), getattr(Tensor, f"__{name}__", None), getattr(Tensor, f"__r{name}__", None)]
    return tuple([f for f in found if f is not None])


# -- products -----------------------------------------------------------------------------------------------------


@answers(*_both("mm"), *_both("matmul"), *_both("mv"), *_both("spmm"))
def mm(mat1: Any, mat2: Any, reduce: str = "sum") -> Any:
    """The product of two matrices, or a matrix and a vector, of which one is sparse or both are. Of two sparse ones it is sparse.

    Raises:
        RuntimeError: sizes do not fit, or another reduction than the sum where not the first matrix alone is sparse. ValueError: none of
            "sum", "mean", "amax", "amin".
    """
    if mat1.dim() != 2 or mat2.dim() not in (1, 2):
        raise RuntimeError(f"a product with a sparse tensor is one of matrices, got {list(mat1.shape)} and {list(mat2.shape)}")
    if mat1.shape[1] != mat2.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, mat1.shape))} and "
                           f"{'x'.join(map(str, mat2.shape))})")
    if reduce != "sum":
        if reduce not in ("mean", "amax", "amin"):
            raise ValueError(f"sparse.mm: reduce is one of sum, mean, amax, amin, not {reduce!r}")
        if not isinstance(mat1, SparseTensor) or isinstance(mat2, SparseTensor):
            raise RuntimeError(f"sparse.mm: reduce={reduce!r} is for a sparse and a dense matrix")
        return _reduced(mat1, mat2, reduce)
    if isinstance(mat1, SparseTensor):
        return _of_two(mat1.coalesce(), mat2.coalesce()) if isinstance(mat2, SparseTensor) else _times(mat1, mat2)
    return _times(_turned(mat2, 0, 1), mat1.t()).t()


def _times(s: SparseTensor, dense: Any) -> Any:
    rows, columns = s._at.unbind(0)
    values = s._content if dense.dim() == 1 else s._content.unsqueeze(1)
    parts = values * dense.index_select(0, columns)
    return FUNCTIONS["zeros"]((s.shape[0], *dense.shape[1:]), dtype=parts.dtype).index_add(0, rows, parts)


def _reduced(s: SparseTensor, dense: Any, reduce: str) -> Any:
    """Of the products that make an element of the result, the mean, or the largest or smallest; 0 where there are none."""
    rows, columns = s._at.unbind(0)
    parts = s._content.unsqueeze(1) * dense.index_select(0, columns)
    whole = FUNCTIONS["zeros"]((s.shape[0], dense.shape[1]), dtype=parts.dtype)
    return whole.scatter_reduce(0, rows.unsqueeze(1).expand(parts.shape), parts, reduce, include_self=False)


def _of_two(a: SparseTensor, b: SparseTensor) -> SparseTensor:
    """Each value of ``a`` times the values of the row of ``b`` that its column names."""
    (rows, inner), (rows_of_b, columns) = a._at.numpy(), b._at.numpy()
    begins = np.searchsorted(rows_of_b, np.arange(b.shape[0] + 1))
    counts = (begins[1:] - begins[:-1])[inner]
    of_a = np.repeat(np.arange(len(inner)), counts)
    of_b = np.arange(len(of_a)) - np.repeat(np.cumsum(counts) - counts, counts) + begins[:-1][inner[of_a]]
    values = a._content.index_select(0, from_owned(of_a)) * b._content.index_select(0, from_owned(of_b))
    return made(from_owned(np.stack([rows[of_a], columns[of_b]])), values, (a.shape[0], b.shape[1])).coalesce()


@answers(*_both("addmm"))
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1.0, alpha: float = 1.0) -> Any:
    """``beta * input + alpha * (mat1 @ mat2)``, with a sparse ``mat1``."""
    return FUNCTIONS["add"](input * beta, mm(mat1, mat2), alpha=alpha)


@answers(functional.linear)
def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """``functional.linear`` of a sparse matrix."""
    out = mm(input, weight.t())
    return out if bias is None else out + bias


@answers(*_both("bmm"))
def _bmm(input: Any, mat2: Any) -> Any:
    """The products of a batch of sparse matrices with dense ones."""
    s = input.coalesce()
    batch, rows, columns = s._at.unbind(0)
    n, m, _ = s.shape
    parts = s._content.unsqueeze(1) * mat2[batch, columns]
    return FUNCTIONS["zeros"]((n * m, mat2.shape[2]), dtype=parts.dtype).index_add(0, batch * m + rows, parts).reshape(n, m, -1)


# -- sums ---------------------------------------------------------------------------------------------------------


@answers(*_both("sum"))
def sum(input: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum of all values, or along dimensions: that of some is sparse."""
    s = input if dtype is None else input.to(dtype)
    dims = range(s.dim()) if dim is None else [d % s.dim() for d in ([dim] if isinstance(dim, int) else dim)]
    if len(set(dims)) == s.dim():
        return s._content.sum()
    if keepdim:
        found = sum(s, dims)
        for d in sorted(dims):
            found = _unsqueeze(found, d) if isinstance(found, SparseTensor) else found.unsqueeze(d)
        return found
    n = s.sparse_dim()
    left = [d for d in range(n) if d not in dims]
    values = s._content.sum([d - n + 1 for d in dims if d >= n]) if any(d >= n for d in dims) else s._content
    if not left:
        return values.sum(0)
    size = [s.shape[d] for d in range(s.dim()) if d not in dims]
    return made(s._at.index_select(0, from_owned(np.array(left, np.int64))), values, size).coalesce()


def _shares(name: str) -> Callable[..., Any]:
    def shares(input: Any, dim: int, *, dtype: Any = None) -> SparseTensor:
        s = (input if dtype is None else input.to(dtype)).coalesce()
        places = s._at.numpy()
        others = [d for d in range(s.sparse_dim()) if d != dim % s.dim()]
        number = linear(places[others], [s.shape[d] for d in others]) if others else np.zeros(places.shape[1], np.int64)
        _, which = np.unique(number, return_inverse=True)
        groups = from_owned(which.reshape(-1).astype(np.int64))
        x, n = s._content, int(which.max(initial=-1)) + 1
        most = FUNCTIONS["full"]((n,), float("-inf"), dtype=s.dtype).scatter_reduce(0, groups, x.detach(), "amax")
        shifted = x - most.index_select(0, groups)
        total = FUNCTIONS["zeros"]((n,), dtype=s.dtype).index_add(0, groups, shifted.exp()).index_select(0, groups)
        return s._with(shifted.exp() / total if name == "softmax" else shifted - total.log())
    shares.__name__ = name
    shares.__doc__ = f"``{name}`` along a dimension of the values that are there: the others count as minus infinity."
    return shares


softmax, log_softmax = _shares("softmax"), _shares("log_softmax")


@answers(*_both("norm"))
def _norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return FUNCTIONS["norm"](input.coalesce()._content, p, dtype=dtype)


# -- elementwise --------------------------------------------------------------------------------------------------


@answers(*_both("add"))
def _add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    if not isinstance(other, SparseTensor):
        raise RuntimeError("add(sparse, dense) is not supported. Use add(dense, sparse) instead.")
    if not isinstance(input, SparseTensor):
        return FUNCTIONS["add"](input, other.to_dense(), alpha=alpha)
    if input.shape != other.shape:
        raise RuntimeError(f"add: expected sizes of 'self' and 'other' to match, but {list(input.shape)} != {list(other.shape)}")
    if input._at.shape == other._at.shape and np.array_equal(input._at.numpy(), other._at.numpy()):
        return input._with(FUNCTIONS["add"](input._content, other._content, alpha=alpha))
    both = FUNCTIONS["cat"]([input._at, other._at], 1), FUNCTIONS["cat"]([input._content, other._content * alpha])
    joined = made(*both, input.shape)
    return joined.coalesce() if input._ordered and other._ordered else joined


@answers(*_both("sub"))
def _sub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return _add(input, other, alpha=-alpha)


@answers(*_both("mul"))
def _mul(input: Any, other: Any) -> Any:
    if not isinstance(input, SparseTensor):
        input, other = other, input
    if not isinstance(other, Tensor) or not other.dim():
        return input._with(input._content * other)
    dense = (other.to_dense() if isinstance(other, SparseTensor) else other).expand(input.shape)
    return input._with(input._content * dense[tuple(input._at.unbind(0))])


@answers(*_both("div"), *_both("truediv"))
def _div(input: Any, other: Any, *, rounding_mode: Any = None) -> Any:
    if not isinstance(input, SparseTensor) or isinstance(other, Tensor) and other.dim():
        raise RuntimeError("Sparse division requires a scalar or zero-dim dense tensor divisor")
    return input._with(FUNCTIONS["div"](input._content, other, rounding_mode=rounding_mode))


def _zeros_stay(name: str) -> None:
    function = FUNCTIONS[name]

    def of_values(input: Any, *args: Any, **kwargs: Any) -> Any:
        s = input if name == "neg" else input.coalesce()
        return s._with(function(s._content, *args, **kwargs))
    answers(*_both(name))(of_values)


for _name in ("abs asin asinh atan atanh ceil erf expm1 floor frac isinf isnan log1p nan_to_num neg pow relu round sgn sign sin sinh sqrt "
              "square tan tanh trunc deg2rad rad2deg").split():
    _zeros_stay(_name)


def _converts(name: str) -> None:
    convert = getattr(Tensor, name)
    answers(convert)(lambda input, *args, **kwargs: input._with(convert(input._content, *args, **kwargs)))


for _name in "float double half bfloat16 int long bool contiguous type_as".split():
    _converts(_name)


# -- shape --------------------------------------------------------------------------------------------------------


def _turned(s: Any, a: int, b: int) -> SparseTensor:
    n = s.sparse_dim()
    a, b = a % s.dim(), b % s.dim()
    if a >= n or b >= n:
        raise RuntimeError(f"transpose: a sparse and a dense dimension of a sparse tensor cannot change places (got {a} and {b})")
    order = list(range(n))
    order[a], order[b] = b, a
    size = list(s.shape)
    size[a], size[b] = size[b], size[a]
    return made(s._at.index_select(0, from_owned(np.array(order, np.int64))), s._content, size, s._ordered and a == b)


@answers(*_both("transpose"), *_both("swapaxes"))
def _transpose(input: Any, dim0: int, dim1: int) -> SparseTensor:
    return _turned(input, dim0, dim1)


@answers(*_both("t"), Tensor.T.__get__, Tensor.mT.__get__)  # type: ignore[attr-defined]
def _t(input: Any) -> SparseTensor:
    return _turned(input, 0, 1) if input.dim() > 1 else input


@answers(*_both("cat"), *_both("concat"))
def _cat(tensors: Any, dim: int = 0) -> SparseTensor:
    if not all(isinstance(t, SparseTensor) for t in tensors):
        raise RuntimeError("Concatenating sparse tensors, but a dense tensor was found")
    first, at, begin = tensors[0], [], 0
    d = dim % first.dim()
    if d >= first.sparse_dim():
        raise NotImplementedError("sparse tensors are joined along sparse dimensions")
    for t in tensors:
        places = t._at.numpy().copy()
        places[d] += begin
        at.append(places)
        begin += t.shape[d]
    size = [*first.shape[:d], begin, *first.shape[d + 1:]]
    return made(from_owned(np.concatenate(at, 1)), FUNCTIONS["cat"]([t._content for t in tensors]), size)


@answers(*_both("unsqueeze"))
def _unsqueeze(input: Any, dim: int) -> SparseTensor:
    d = dim % (input.dim() + 1)
    if d > input.sparse_dim():
        raise NotImplementedError("unsqueeze: only among the sparse dimensions")
    places = np.insert(input._at.numpy(), d, 0, 0)
    return made(from_owned(places), input._content, [*input.shape[:d], 1, *input.shape[d:]], input._ordered)


@answers(*_both("stack"))
def _stack(tensors: Any, dim: int = 0) -> SparseTensor:
    return _cat([_unsqueeze(t, dim) for t in tensors], dim)


@answers(*_both("index_select"))
def _index_select(input: Any, dim: int, index: Any) -> SparseTensor:
    d, places, wanted = dim % input.dim(), input._at.numpy(), index.numpy()
    hits, which = np.nonzero(wanted[:, None] == places[d][None])
    made_at = places[:, which].copy()
    made_at[d] = hits
    size = [*input.shape[:d], len(wanted), *input.shape[d + 1:]]
    return made(from_owned(made_at), input._content.index_select(0, from_owned(which)), size)


@answers(*_both("select"))
def _select(input: Any, dim: int, index: int) -> Any:
    d, places = dim % input.dim(), input._at.numpy()
    which = np.nonzero(places[d] == index % input.shape[d])[0]
    values = input._content.index_select(0, from_owned(which))
    if input.sparse_dim() == 1:
        return values.sum(0)
    return made(from_owned(np.delete(places[:, which], d, 0)), values, [*input.shape[:d], *input.shape[d + 1:]], input._ordered)


@answers(getattr(Tensor, "__getitem__"))  # noqa: B009
def _getitem(input: Any, key: Any) -> Any:
    for k in key if isinstance(key, tuple) else (key,):
        if not isinstance(k, int):
            raise NotImplementedError("sparse tensors are indexed by integers; use index_select or to_dense()")
        input = _select(input, 0, k)
    return input


@answers(*_both("zeros_like"))
def _zeros_like(input: Any, **options: Any) -> SparseTensor:
    content = FUNCTIONS["zeros"]((0, *input._content.shape[1:]), dtype=options.get("dtype") or input.dtype)
    return made(input._at[:, :0], content, input.shape, True)


@answers(FUNCTIONS["is_floating_point"])
def _is_floating_point(input: Any) -> bool:
    return input.is_floating_point()  # type: ignore[no-any-return]


@answers(FUNCTIONS["numel"])
def _numel(input: Any) -> int:
    return input.numel()  # type: ignore[no-any-return]


@answers(*_both("any"))
def _any(input: Any) -> Any:
    return input._content.any()


def sparse_mask(input: Any, mask: Any) -> SparseTensor:
    """The values of a tensor at the positions of a sparse one."""
    dense = input.to_dense() if isinstance(input, SparseTensor) else input
    return mask._with(dense[tuple(mask._at.unbind(0))])
