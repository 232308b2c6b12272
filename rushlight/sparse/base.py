"""What sparse tensors of every layout have in common: a size, values that are an ordinary tensor, no memory that NumPy could show."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..tensor import Size, Tensor
from ..tensor.kinds import sparse_coo, sparse_csc, sparse_csr

__all__ = ["Sparse", "told", "told_dtype"]


class Sparse(Tensor):
    """A tensor of which only some values are stored.

    Attributes:
        _content: the values, (n, dense dimensions ...). _size: the shape of the whole.
    """

    _content: Any
    _size: Size

    def _with(self, values: Any) -> Any:
        """Other values at the same positions."""
        raise NotImplementedError

    # -- description -----------------------------------------------------------------------------------------------
    @property
    def shape(self) -> Size:
        return self._size

    def size(self, dim: int | None = None) -> Any:
        return self._size if dim is None else self._size[dim]

    @property
    def dtype(self) -> Any:
        return self._content.dtype

    @property
    def device(self) -> Any:
        return self._content.device

    @property
    def ndim(self) -> int:
        return len(self._size)

    def dim(self) -> int:
        return len(self._size)

    def numel(self) -> int:
        return int(np.prod(self._size))

    def is_floating_point(self) -> bool:
        return self._content.is_floating_point()  # type: ignore[no-any-return]

    def is_complex(self) -> bool:
        return self._content.is_complex()  # type: ignore[no-any-return]

    def is_contiguous(self, memory_format: Any = None) -> bool:
        return False

    def __len__(self) -> int:
        return self._size[0]  # type: ignore[no-any-return]

    # -- autograd --------------------------------------------------------------------------------------------------
    @property
    def requires_grad(self) -> bool:
        return self._content.requires_grad  # type: ignore[no-any-return]

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._content.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        self._content.requires_grad_(requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        return self._content.is_leaf  # type: ignore[no-any-return]

    @property
    def grad_fn(self) -> Any:
        return self._content.grad_fn

    def detach(self) -> Any:
        return self._with(self._content.detach())

    # -- other layouts ---------------------------------------------------------------------------------------------
    def to_sparse_coo(self) -> Any:
        """The same in coordinate form."""
        return self.to_sparse(layout=sparse_coo)

    def to_sparse_csr(self, dense_dim: int | None = None) -> Any:
        """The same matrix, compressed by rows."""
        return self.to_sparse(layout=sparse_csr)

    def to_sparse_csc(self, dense_dim: int | None = None) -> Any:
        """The same matrix, compressed by columns."""
        return self.to_sparse(layout=sparse_csc)

    # -- elsewhere, and as numbers ---------------------------------------------------------------------------------
    def to(self, *args: Any, **kwargs: Any) -> Any:
        return self._with(self._content.to(*args, **kwargs))

    def cpu(self, memory_format: Any = None) -> Any:
        return self

    def cuda(self, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Any:
        return self.to("cuda" if device is None else device)

    def pin_memory(self, device: Any = None) -> Any:
        return self

    def item(self) -> Any:
        if self.numel() != 1:
            raise RuntimeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        return self.to_dense().item()

    def numpy(self, *, force: bool = False) -> Any:
        """Raises TypeError: NumPy has no such arrays."""
        raise TypeError("can't convert Sparse layout tensor to numpy. Use Tensor.to_dense() first.")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()


def told_dtype(dtype: Any) -> str:
    """The dtype where it is not what anybody would expect, as printed tensors tell it."""
    return "" if dtype.name in ("float32", "int64", "bool") else f"dtype={dtype}, "


def told(name: str, t: Any) -> str:
    """A part of a sparse tensor, as it is printed."""
    head, cut, _ = repr(t).partition(", dtype=")
    text = f"tensor([], size={tuple(t.shape)})" if not t.numel() else head + ")" if cut else head
    return f"{name}={text}".replace("\n", "\n" + " " * (len("tensor(") + len(name) + 1))
