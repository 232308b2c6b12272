"""Methods of sparse tensors, called of others: some make a sparse tensor of them, the rest is refused."""
from __future__ import annotations

from typing import Any, NoReturn

from ..tensor import Tensor
from .compressed import answers_compressed, to_sparse_coo, to_sparse_csc, to_sparse_csr
from .tensor import answers

__all__ = ["to_sparse_coo", "to_sparse_csc", "to_sparse_csr"]


def _refuse(name: str, wanted: str) -> None:
    def refuse(t: Any) -> NoReturn:
        kind = "".join([part.capitalize() for part in str(t.layout).removeprefix("torch.").split("_")])
        raise RuntimeError(f"{name} expected {wanted} tensor layout but got {kind}")
    globals()[name] = answers_compressed(getattr(Tensor, name))(answers(getattr(Tensor, name))(refuse))


for _wanted, _names in (("sparse", "_indices _values _nnz"), ("sparse coordinate", "coalesce is_coalesced indices values"),
                        ("sparse row compressed", "crow_indices col_indices"), ("sparse column compressed", "ccol_indices row_indices")):
    for _name in _names.split():
        _refuse(_name, _wanted)


def sparse_dim(t: Any) -> int:
    """No dimension of a dense tensor is sparse."""
    return 0


def dense_dim(t: Any) -> int:
    """All dimensions of a dense tensor are dense."""
    return t.dim()  # type: ignore[no-any-return]
