"""Sparse tensors: ``torch.sparse``, in coordinate form (COO), and matrices compressed by rows (CSR) or columns (CSC).

Example:
    >>> adjacency = torch.sparse_coo_tensor([[0, 1, 1], [1, 0, 1]], torch.ones(3), (2, 2))
    >>> torch.sparse.mm(adjacency, torch.tensor([[1.0], [2.0]]))
    tensor([[2.],
            [3.]])
"""
from __future__ import annotations

from typing import Any

from ..tensor.types import TYPED
from . import answers as _answers
from . import methods  # noqa: F401
from .compressed import (
    CompressedTensor,
    sampled_addmm,
    sparse_compressed_tensor,
    sparse_csc_tensor,
    sparse_csr_tensor,
    through_coordinates,
)
from .tensor import SparseTensor, sparse_coo_tensor, to_sparse

__all__ = ["CompressedTensor", "SparseTensor", "addmm", "log_softmax", "mm", "sampled_addmm", "softmax", "sparse_compressed_tensor",
           "sparse_coo_tensor", "sparse_csc_tensor", "sparse_csr_tensor", "sum", "to_sparse"]


addmm, log_softmax, mm, softmax, sum = map(through_coordinates, (  # noqa: A001
    _answers.addmm, _answers.log_softmax, _answers.mm, _answers.softmax, _answers.sum))


def _typed(name: str) -> Any:
    def make(*args: Any, device: Any = None) -> SparseTensor:
        if args and all(isinstance(a, int) for a in args):
            return sparse_coo_tensor(args, dtype=dtype)
        return sparse_coo_tensor(*args, dtype=dtype, device=device)
    dtype = TYPED[name].dtype  # type: ignore[attr-defined]
    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"A sparse tensor of {dtype}, of positions, values and a size, or of a size alone (a legacy constructor)."
    return make


for _name in TYPED:
    globals()[_name] = _typed(_name)
