"""Sparse tensors in coordinate form: the positions and values of what is not zero.

A sparse tensor is a subclass of Tensor that is asked about every function (``autograd/overriding.py``) and answers those that it can do.
Its values are an ordinary tensor, and what is computed of them are ordinary operations: gradients, fusion and native code follow.
Positions are looked at in NumPy, where they decide how many values there are.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd.handle import Handle
from ..autograd.overriding import Names
from ..tensor import FUNCTIONS, Size
from ..tensor.creation import as_tensor, empty, from_owned
from ..tensor.kinds import sparse_coo
from ..tensor.subclassing import of_class
from .base import Sparse, told, told_dtype

__all__ = ["SparseTensor", "answer_of", "answers", "linear", "made"]

_ANSWERS: dict[Any, Callable[..., Any]] = {}


def answers(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A definition of what these functions do with sparse tensors."""
    def define(answer: Callable[..., Any]) -> Callable[..., Any]:
        _ANSWERS.update(dict.fromkeys(functions, answer))
        return answer
    return define


def answer_of(function: Any) -> Callable[..., Any] | None:
    """What a function does with sparse tensors; None: it is not there for them."""
    return _ANSWERS.get(function)


def made(indices: Any, values: Any, size: Sequence[int], coalesced: bool = False) -> SparseTensor:
    """A sparse tensor of positions (sparse dimensions, n) and values (n, dense dimensions ...)."""
    t: SparseTensor = of_class(empty(0, dtype=values.dtype), SparseTensor)
    t._at, t._content, t._size, t._ordered = indices, values, Size(size), coalesced
    return t


def linear(places: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Positions as numbers that count along rows."""
    number = np.zeros(places.shape[1], np.int64)
    for row, n in zip(places, size):
        number = number * n + row
    return number


class SparseTensor(Sparse):
    """A tensor of which only some values are stored.

    Attributes:
        _at: their positions, int64 of shape (sparse dimensions, n); ``_content``: the values, (n, dense dimensions ...).
        _size: the shape of the whole; ``_ordered``: each position once, in the order of rows ("coalesced").
    """

    _at: Any
    _ordered: bool

    is_sparse = True

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        answer = _ANSWERS.get(func)
        if answer is None:
            raise NotImplementedError(f"{Names.of(func)} is not there for sparse tensors: use .to_dense()")
        return answer(*args, **(kwargs or {}))

    # -- description -----------------------------------------------------------------------------------------------
    @property
    def layout(self) -> Any:
        return sparse_coo

    def sparse_dim(self) -> int:
        """How many dimensions positions have."""
        return int(self._at.shape[0])

    def dense_dim(self) -> int:
        """How many dimensions each value has."""
        return self._content.dim() - 1  # type: ignore[no-any-return]

    def _nnz(self) -> int:
        return int(self._at.shape[1])

    def is_coalesced(self) -> bool:
        """Whether each position is there once, in the order of rows."""
        return self._ordered

    def type(self, dtype: Any = None, non_blocking: bool = False) -> Any:
        """The name of the tensor's type, or the tensor converted to another."""
        return self._content.type().replace("torch.", "torch.sparse.") if dtype is None else self._with(self._content.type(dtype))

    def __repr__(self, *, tensor_contents: str | None = None) -> str:  # type: ignore[override]  # the same signature; mypy drops the name
        parts = [told("indices", self._at), told("values", self._content.detach())]
        parts.append(f"size={tuple(self._size)}, nnz={self._nnz()}, {told_dtype(self.dtype)}layout=torch.sparse_coo")
        if self.grad_fn is not None:
            parts.append(f"grad_fn=<{type(self.grad_fn).__name__}>")
        elif self.requires_grad:
            parts[-1] += ", requires_grad=True"
        return "tensor(" + ",\n       ".join(parts) + ")"

    # -- autograd --------------------------------------------------------------------------------------------------
    @property
    def grad(self) -> Any:
        """Of a leaf: the gradient where there are values, as a sparse tensor."""
        grad, places = self._content.grad, self._at.numpy()
        if grad is None or self._ordered:
            return None if grad is None else self._with(grad)
        _, first = np.unique(linear(places, self._size), return_index=True)  # it is the same for all values at a position
        return made(from_owned(np.ascontiguousarray(places[:, first])), grad.index_select(0, from_owned(first)), self._size, True)

    @grad.setter
    def grad(self, value: Any) -> None:
        self._content.grad = None if value is None else value._content

    @property
    def data(self) -> SparseTensor:
        return self.detach()

    @data.setter
    def data(self, other: SparseTensor) -> None:
        self._at, self._content, self._size, self._ordered = other._at, other._content.detach(), other._size, other._ordered

    # -- content ---------------------------------------------------------------------------------------------------
    def _indices(self) -> Any:
        return self._at

    def _values(self) -> Any:
        return self._content.detach()

    def indices(self) -> Any:
        """The positions of a coalesced tensor.

        Raises:
            RuntimeError: it is not.
        """
        self._check_order("indices")
        return self._at

    def values(self) -> Any:
        """The values of a coalesced tensor.

        Raises:
            RuntimeError: it is not.
        """
        self._check_order("values")
        return self._content.view_as(self._content)

    def _check_order(self, what: str) -> None:
        if not self._ordered:
            raise RuntimeError(f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first")

    def _with(self, values: Any) -> SparseTensor:
        """Other values at the same positions."""
        return made(self._at, values, self._size, self._ordered)

    def coalesce(self) -> SparseTensor:
        """Each position once, in the order of rows; values at the same position are added."""
        if self._ordered:
            return self
        places = self._at.numpy()
        number = linear(places, self._size)
        if np.all(number[1:] > number[:-1]):
            return made(self._at, self._content, self._size, True)
        _, first, which = np.unique(number, return_index=True, return_inverse=True)
        values = FUNCTIONS["zeros"]((len(first), *self._content.shape[1:]), dtype=self.dtype)
        values = values.index_add(0, from_owned(which.reshape(-1).astype(np.int64)), self._content)
        return made(from_owned(np.ascontiguousarray(places[:, first])), values, self._size, True)

    def to_dense(self, dtype: Any = None, *, masked_grad: Any = None) -> Any:
        """The whole tensor."""
        whole = FUNCTIONS["zeros"](self._size, dtype=self.dtype)
        whole = whole.index_put(tuple(self._at.unbind(0)), self._content, accumulate=True) if self.sparse_dim() else self._content.sum(0)
        return whole if dtype is None else whole.to(dtype)

    def to_sparse(self, sparse_dim: int | None = None, *, layout: Any = None, blocksize: Any = None, dense_dim: Any = None) -> Any:
        """The same in another layout."""
        return to_sparse(self, sparse_dim, layout=layout)

    def clone(self, *, memory_format: Any = None) -> SparseTensor:
        return made(self._at.clone(), self._content.clone(), self._size, self._ordered)

    def __deepcopy__(self, memo: dict) -> SparseTensor:
        import copy

        return made(self._at.clone(), copy.deepcopy(self._content, memo), self._size, self._ordered)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return made, (self._at, self._content, tuple(self._size), self._ordered)


def sparse_coo_tensor(indices: Any, values: Any = None, size: Any = None, *, dtype: Any = None, device: Any = None,
                      pin_memory: bool = False, requires_grad: bool = False, check_invariants: bool | None = None,
                      is_coalesced: bool | None = None) -> SparseTensor:
    """A sparse tensor of positions (sparse dimensions, n) and values (n, ...); without a size, of the smallest that has these
    positions; of a size alone, one without values.

    Raises:
        RuntimeError: numbers of positions and values differ, or a position is out of bounds.

    Example:
        >>> sparse_coo_tensor([[0, 1], [2, 0]], [3.0, 4.0], (2, 3)).to_dense()
        tensor([[0., 0., 3.],
                [4., 0., 0.]])
    """
    if values is None:
        whole = tuple(indices) if size is None else tuple(size)
        return made(empty((len(whole), 0), dtype=FUNCTIONS["arange"](0).dtype), empty(0, dtype=dtype), whole, True)
    at = as_tensor(indices).detach().to(FUNCTIONS["arange"](0).dtype)
    content = as_tensor(values) if dtype is None else as_tensor(values).to(dtype)
    content = content.to(device=device)
    if at.dim() != 2:
        raise RuntimeError(f"indices must be sparse_dim x nnz, but got: {list(at.shape)}")
    if content.dim() == 0:
        content = content.expand(at.shape[1])
    if at.shape[1] != content.shape[0]:
        raise RuntimeError(f"indices and values must have same nnz, but got nnz from indices: {at.shape[1]}, nnz from values: "
                           f"{content.shape[0]}")
    places = at.numpy()
    low, high = (places.min(1), places.max(1)) if places.size else (np.zeros(len(places), np.int64), np.full(len(places), -1))
    if size is None:
        size = (*(high + 1).tolist(), *content.shape[1:])
    size = tuple(size)
    if len(size) != len(places) + content.dim() - 1:
        raise RuntimeError(f"number of dimensions must be sparse_dim ({len(places)}) + dense_dim ({content.dim() - 1}), "
                           f"but got {len(size)}")
    if (low < 0).any():
        raise RuntimeError(f"found negative index {low.min()} for dim {int(np.argmin(low))}")
    for k, (h, n) in enumerate(zip(high.tolist(), size)):
        if h >= n:
            raise RuntimeError(f"size is inconsistent with indices: for dim {k}, size is {n} but found index {h}")
    if requires_grad:
        content = content.detach().requires_grad_()
    elif content.requires_grad:
        content = content.view_as(content)  # whatever is computed is no leaf
    return made(at, content, size, bool(is_coalesced))


def to_sparse(input: Any, sparse_dim: int | None = None, *, layout: Any = None, blocksize: Any = None, dense_dim: Any = None) -> Any:
    """The values of a tensor that are not zero (in the first ``sparse_dim`` dimensions: the parts that are not all zero), coalesced.

    Raises:
        NotImplementedError: a layout of blocks.
    """
    if layout is not None and layout is not sparse_coo:
        from .compressed import compressed

        return compressed(input, layout)
    if isinstance(input, SparseTensor):
        return input
    n = input.dim() if sparse_dim is None else sparse_dim
    array = input.detach().numpy() if isinstance(input, Handle) else np.asarray(input)
    there = array != 0
    if n < array.ndim:
        there = there.any(axis=tuple(range(n, array.ndim)))
    places = from_owned(np.stack(np.nonzero(there)).astype(np.int64))
    return made(places, input[tuple(places.unbind(0))], input.shape, True)
