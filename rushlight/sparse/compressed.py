"""Sparse matrices in compressed form: by rows (CSR) or by columns (CSC), of which only beginnings are stored instead of each number.

What functions do with them is what they do with the same matrix in coordinate form (``answers.py``), back in the layout that it had.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd.handle import Handle
from ..autograd.overriding import Names
from ..tensor import FUNCTIONS, Size, Tensor
from ..tensor.creation import as_tensor, empty, finish, from_owned
from ..tensor.kinds import sparse_bsc, sparse_bsr, sparse_coo, sparse_csc, sparse_csr, strided
from ..tensor.printing import with_suffixes
from ..tensor.subclassing import of_class
from .base import Sparse, told, told_dtype
from .tensor import SparseTensor, answer_of, made, to_sparse

__all__ = ["CompressedTensor", "answers_compressed", "compressed", "sparse_compressed_tensor", "sparse_csc_tensor", "sparse_csr_tensor"]

_ANSWERS: dict[Any, Callable[..., Any]] = {}


def answers_compressed(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A definition of what these functions do with compressed matrices, where that is not what they do with the same in coordinate form."""
    def define(answer: Callable[..., Any]) -> Callable[..., Any]:
        _ANSWERS.update(dict.fromkeys(functions, answer))
        return answer
    return define


class CompressedTensor(Sparse):
    """A matrix of which only some values are stored, one row (CSR) or column (CSC) after the other.

    Attributes:
        _begins: where the values of each row begin, and the last end: (rows + 1,), int64 or int32. _others: the column of each value. (In
            CSC the two change places.) _content: the values. _layout: ``sparse_csr`` or ``sparse_csc``.
    """

    _begins: Any
    _others: Any
    _layout: Any

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        answer = _ANSWERS.get(func)
        if answer is not None:
            return answer(*args, **(kwargs or {}))
        answer = answer_of(func)
        if answer is None:
            raise NotImplementedError(f"{Names.of(func)} is not there for sparse matrices in compressed form: use .to_dense()")
        return through_coordinates(answer)(*args, **(kwargs or {}))

    # -- description -----------------------------------------------------------------------------------------------
    @property
    def layout(self) -> Any:
        return self._layout

    @property
    def is_sparse_csr(self) -> bool:
        """Whether it is compressed by rows."""
        return self._layout is sparse_csr

    def sparse_dim(self) -> int:
        """Two: rows and columns."""
        return 2

    def dense_dim(self) -> int:
        """None: each value is a number."""
        return 0

    def _nnz(self) -> int:
        return int(self._others.shape[0])

    def __repr__(self, *, tensor_contents: str | None = None) -> str:  # type: ignore[override]  # the same signature; mypy drops the name
        names = ("crow_indices", "col_indices") if self._layout is sparse_csr else ("ccol_indices", "row_indices")
        parts = [told(names[0], self._begins), told(names[1], self._others), told("values", self._content.detach())]
        dtype = told_dtype(self.dtype).rstrip(", ")
        suffixes = [f"size={tuple(self._size)}", f"nnz={self._nnz()}", *([dtype] if dtype else []), f"layout={self._layout}"]
        if self.grad_fn is not None:
            suffixes.append(f"grad_fn=<{type(self.grad_fn).__name__}>")
        elif self.requires_grad:
            suffixes.append("requires_grad=True")
        return with_suffixes("tensor(" + ",\n       ".join(parts), suffixes, len("tensor("))

    # -- content ---------------------------------------------------------------------------------------------------
    def _with(self, values: Any) -> CompressedTensor:
        return _matrix(self._begins, self._others, values, self._size, self._layout)

    @property
    def grad(self) -> Any:
        """Of a leaf: the gradient where there are values."""
        grad = self._content.grad
        return None if grad is None else self._with(grad)

    @grad.setter
    def grad(self, value: Any) -> None:
        self._content.grad = None if value is None else value._content

    def _of_layout(self, name: str, layout: Any, kind: str, part: Any) -> Any:
        if self._layout is not layout:
            raise RuntimeError(f"{name} expected sparse {kind} compressed tensor layout but got "
                               f"{'SparseCsr' if self._layout is sparse_csr else 'SparseCsc'}")
        return part

    def crow_indices(self) -> Any:
        """Where the values of each row begin. Raises RuntimeError: compressed by columns."""
        return self._of_layout("crow_indices", sparse_csr, "row", self._begins)

    def col_indices(self) -> Any:
        """The column of each value. Raises RuntimeError: compressed by columns."""
        return self._of_layout("col_indices", sparse_csr, "row", self._others)

    def ccol_indices(self) -> Any:
        """Where the values of each column begin. Raises RuntimeError: compressed by rows."""
        return self._of_layout("ccol_indices", sparse_csc, "column", self._begins)

    def row_indices(self) -> Any:
        """The row of each value. Raises RuntimeError: compressed by rows."""
        return self._of_layout("row_indices", sparse_csc, "column", self._others)

    def values(self) -> Any:
        """The values, in the order in which they are stored."""
        return self._content.view_as(self._content)

    def to_sparse_coo(self) -> SparseTensor:
        """The same in coordinate form."""
        begins, others = self._begins.numpy(), self._others.numpy().astype(np.int64)
        lines = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
        if self._layout is sparse_csr:
            number = lines * self._size[1] + others
            return made(from_owned(np.stack([lines, others])), self._content, self._size, bool(np.all(number[1:] > number[:-1])))
        order = np.argsort(others, kind="stable")
        values = self._content.index_select(0, from_owned(order))
        return made(from_owned(np.stack([others[order], lines[order]])), values, self._size, True)

    def to_sparse(self, sparse_dim: int | None = None, *, layout: Any = None, blocksize: Any = None, dense_dim: Any = None) -> Any:
        """The same in another layout, coordinate form by default."""
        return in_layout(self, layout or sparse_coo)

    def to_dense(self, dtype: Any = None, *, masked_grad: Any = None) -> Any:
        """The whole matrix."""
        return self.to_sparse_coo().to_dense(dtype)

    def clone(self, *, memory_format: Any = None) -> CompressedTensor:
        return _matrix(self._begins.clone(), self._others.clone(), self._content.clone(), self._size, self._layout)

    def __deepcopy__(self, memo: dict) -> CompressedTensor:
        import copy

        return _matrix(self._begins.clone(), self._others.clone(), copy.deepcopy(self._content, memo), self._size, self._layout)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _restored, (self._begins, self._others, self._content, tuple(self._size), self._layout is sparse_csr)


def _matrix(begins: Any, others: Any, values: Any, size: Sequence[int], layout: Any) -> CompressedTensor:
    t: CompressedTensor = of_class(empty(0, dtype=values.dtype), CompressedTensor)
    t._begins, t._others, t._content, t._size, t._layout = begins, others, values, Size(size), layout
    return t


def _restored(begins: Any, others: Any, values: Any, size: Sequence[int], by_rows: bool) -> CompressedTensor:
    return _matrix(begins, others, values, size, sparse_csr if by_rows else sparse_csc)


def _coordinates(a: Any) -> Any:
    if isinstance(a, (list, tuple)):
        return type(a)([_coordinates(x) for x in a])
    return a.to_sparse_coo() if isinstance(a, CompressedTensor) else a


def through_coordinates(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors in coordinate form as one of matrices in compressed form too: its sparse result has the layout of the first."""
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        layout = next((a._layout for a in args if isinstance(a, CompressedTensor)), None)
        if layout is None:
            return function(*args, **kwargs)
        found = function(*[_coordinates(a) for a in args], **{name: _coordinates(a) for name, a in kwargs.items()})
        return compressed(found, layout) if isinstance(found, SparseTensor) and found.dim() == 2 else found
    return call


def compressed(t: Any, layout: Any) -> CompressedTensor:
    """A matrix, dense or sparse, in compressed form.

    Raises:
        RuntimeError: it is no matrix. NotImplementedError: another layout.
    """
    if layout not in (sparse_csr, sparse_csc):
        raise NotImplementedError(f"matrices are compressed by rows or columns (torch.sparse_csr, torch.sparse_csc), not in {layout}")
    if t.dim() != 2:
        raise RuntimeError(f"only matrices are compressed, not tensors of {t.dim()} dimensions")
    if isinstance(t, CompressedTensor):
        if t._layout is layout:
            return t
        t = t.to_sparse_coo()
    s = (t if isinstance(t, SparseTensor) else to_sparse(t)).coalesce()
    places, values = s._at.numpy(), s._content
    line = 0 if layout is sparse_csr else 1
    if line:
        order = np.argsort(places[1], kind="stable")
        places, values = places[:, order], values.index_select(0, from_owned(order))
    begins = np.searchsorted(places[line], np.arange(s.shape[line] + 1)).astype(np.int64)
    return _matrix(from_owned(begins), from_owned(np.ascontiguousarray(places[1 - line])), values, s.shape, layout)


def in_layout(t: Any, layout: Any) -> Any:
    """A tensor in another layout."""
    if layout is sparse_coo:
        return _coordinates(t) if isinstance(t, Sparse) else to_sparse(t)
    return t.to_dense() if layout is strided else compressed(t, layout)


# -- making them --------------------------------------------------------------------------------------------------


def sparse_compressed_tensor(compressed_indices: Any, plain_indices: Any, values: Any, size: Any = None, *, dtype: Any = None,
                             layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
                             check_invariants: bool | None = None) -> CompressedTensor:
    """A matrix of the beginnings of its rows (columns), the columns (rows) of its values, and these.

    Args:
        compressed_indices: (rows + 1,), integers; plain_indices: (n,), integers; values: (n,).
        size: (rows, columns); without it, the smallest that has all positions.
        layout: ``sparse_csr`` or ``sparse_csc``.

    Raises:
        RuntimeError: lengths that do not go together, beginnings that decrease, or a position out of bounds. NotImplementedError: another
            layout, or more than two dimensions.
    """
    if layout in (sparse_bsr, sparse_bsc):
        raise NotImplementedError(f"sparse matrices of blocks ({layout}) are not there: use torch.sparse_csr")
    if layout not in (sparse_csr, sparse_csc):
        raise RuntimeError(f"expected a layout among sparse_csr, sparse_csc, but got {layout}")
    begins, others = (as_tensor(t).detach() for t in (compressed_indices, plain_indices))
    content = as_tensor(values) if dtype is None else as_tensor(values).to(dtype)
    if begins.dim() != 1 or others.dim() != 1 or content.dim() != 1:
        raise NotImplementedError("matrices in compressed form have no batches and no dense dimensions here: indices and values have one "
                                  f"dimension, not {begins.dim()}, {others.dim()} and {content.dim()}")
    _check(begins.numpy(), others.numpy(), content.shape[0])
    n, m = begins.shape[0] - 1, int(others.max()) + 1 if others.numel() else 0
    by_rows = layout is sparse_csr
    if size is None:
        size = (n, m) if by_rows else (m, n)
    size = tuple(size)
    if len(size) != 2:
        raise RuntimeError(f"a matrix has two dimensions, not size {list(size)}")
    lines, rest = size if by_rows else size[::-1]
    if lines != n or m > rest:
        raise RuntimeError(f"size {list(size)} does not go with {n + 1} beginnings and positions up to {m - 1}")
    content = finish(content.detach(), True) if requires_grad else content.view_as(content) if content.requires_grad else content
    return _matrix(begins, others, content, size, layout)


def _check(begins: np.ndarray, others: np.ndarray, n: int) -> None:
    if len(others) != n:
        raise RuntimeError(f"number of plain indices ({len(others)}) must be that of values ({n})")
    if not len(begins) or begins[0] != 0 or begins[-1] != n or (np.diff(begins) < 0).any():
        raise RuntimeError(f"beginnings must lead from 0 to the number of values ({n}) and never decrease, got {begins.tolist()[:10]}")
    if n and others.min() < 0:
        raise RuntimeError(f"found negative index {others.min()}")


def sparse_csr_tensor(crow_indices: Any, col_indices: Any, values: Any, size: Any = None, *, dtype: Any = None, device: Any = None,
                      pin_memory: bool = False, requires_grad: bool = False, check_invariants: bool | None = None) -> CompressedTensor:
    """A matrix by rows: where the values of each row begin, their columns, the values. See ``sparse_compressed_tensor``.

    Example:
        >>> m = torch.sparse_csr_tensor([0, 1, 3], [1, 0, 2], [1.0, 2.0, 3.0], (2, 3))
        >>> m @ torch.ones(3, 1)
        tensor([[1.],
                [5.]])
    """
    return sparse_compressed_tensor(crow_indices, col_indices, values, size, dtype=dtype, layout=sparse_csr, device=device,
                                    requires_grad=requires_grad)


def sparse_csc_tensor(ccol_indices: Any, row_indices: Any, values: Any, size: Any = None, *, dtype: Any = None, device: Any = None,
                      pin_memory: bool = False, requires_grad: bool = False, check_invariants: bool | None = None) -> CompressedTensor:
    """A matrix by columns: where the values of each column begin, their rows, the values. See ``sparse_compressed_tensor``."""
    return sparse_compressed_tensor(ccol_indices, row_indices, values, size, dtype=dtype, layout=sparse_csc, device=device,
                                    requires_grad=requires_grad)


def to_sparse_csr(input: Any, dense_dim: int | None = None) -> CompressedTensor:
    """A matrix by rows."""
    return compressed(input, sparse_csr)


def to_sparse_csc(input: Any, dense_dim: int | None = None) -> CompressedTensor:
    """A matrix by columns."""
    return compressed(input, sparse_csc)


def to_sparse_coo(input: Any) -> SparseTensor:
    """A tensor in coordinate form."""
    return in_layout(input, sparse_coo)  # type: ignore[no-any-return]


# -- what is otherwise than in coordinate form --------------------------------------------------------------------


@answers_compressed(FUNCTIONS["t"], Tensor.t, Tensor.T.__get__, Tensor.mT.__get__)  # type: ignore[attr-defined]
def _turned(input: CompressedTensor) -> CompressedTensor:
    """Rows become columns: the same parts in the other layout."""
    layout = sparse_csc if input._layout is sparse_csr else sparse_csr
    return _matrix(input._begins, input._others, input._content, (input._size[1], input._size[0]), layout)


@answers_compressed(FUNCTIONS["transpose"], Tensor.transpose)  # type: ignore[attr-defined]
def _transpose(input: CompressedTensor, dim0: int, dim1: int) -> CompressedTensor:
    return input if dim0 % 2 == dim1 % 2 else _turned(input)


@answers_compressed(*[f for name in ("add", "__add__", "__radd__") if (f := getattr(Tensor, name, None))], FUNCTIONS["add"])
def _add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """The sum of two in compressed form is one; with a dense matrix, it is dense."""
    if isinstance(input, CompressedTensor) and not isinstance(other, Sparse) and isinstance(other, Handle):
        return FUNCTIONS["add"](input.to_dense(), other, alpha=alpha)
    return through_coordinates(answer_of(FUNCTIONS["add"]))(input, other, alpha=alpha)  # type: ignore[arg-type]


@answers_compressed(FUNCTIONS["zero_"], Tensor.zero_)  # type: ignore[attr-defined]
def _zero_(input: CompressedTensor) -> CompressedTensor:
    input._content.zero_()
    return input


def sampled_addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1.0, alpha: float = 1.0) -> Any:
    """``beta * input + alpha * (mat1 @ mat2)`` where ``input``, a matrix by rows, has values: only these are computed.

    Raises:
        RuntimeError: ``input`` is dense, or sizes that do not go together.
    """
    if not isinstance(input, CompressedTensor) or input._layout is not sparse_csr:
        raise RuntimeError("sampled_addmm: Expected self to have sparse csr layout, "
                           f"but got {input.layout if isinstance(input, Handle) else type(input).__name__}")  # type: ignore[attr-defined]
    for name, m in (("mat1", mat1), ("mat2", mat2)):
        if m.dim() != 2:
            raise RuntimeError(f"sampled_addmm: Expected {name} to be a matrix, got {m.dim()}-D tensor")
    if mat1.shape[1] != mat2.shape[0] or (mat1.shape[0], mat2.shape[1]) != tuple(input.shape):
        raise RuntimeError(f"sampled_addmm: mat1 and mat2 of {tuple(mat1.shape)} and {tuple(mat2.shape)} do not give {tuple(input.shape)}")
    rows, columns = input.to_sparse_coo()._at.unbind(0)
    products = (mat1.index_select(0, rows) * mat2.t().index_select(0, columns)).sum(1)
    return input._with(input._content * beta + products * alpha)

