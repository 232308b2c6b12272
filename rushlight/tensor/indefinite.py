"""Factorisation of symmetric and Hermitian matrices that need not be positive: ``linalg.ldl_factor`` and what belongs to it."""
from __future__ import annotations

from typing import Any

from ..autograd.autocast import full_precision
from ..ops import indefinite
from .matrices import check_square, linear_algebra
from .return_types import named

__all__: list[str] = []


def _factored(A: Any, hermitian: bool, check: bool) -> Any:
    check_square("torch.linalg.ldl_factor_ex", A)
    made = indefinite.ldl(A, attrs=(bool(hermitian),))
    if check:
        info = made[2]._array().reshape(-1)
        for batch in info.nonzero()[0][:1]:
            raise RuntimeError(f"torch.linalg.ldl_factor: {f'(Batch element {batch}): ' if len(A.shape) > 2 else ''}the block of D at "
                               f"{info[batch]} is zero: the matrix is singular, and systems with it cannot be solved.")
    return made


@linear_algebra("ldl_factor")
@full_precision
def ldl_factor(A: Any, *, hermitian: bool = False) -> Any:
    """(L and D in one matrix, pivots) with ``A = P L D L^T P^T``, or ``L^H`` for ``hermitian``; only the lower half of A is read.

    Raises:
        RuntimeError: D is singular.
    """
    return named("linalg_ldl_factor", "LD", "pivots")(_factored(A, hermitian, True)[:2])


@linear_algebra("ldl_factor_ex")
@full_precision
def ldl_factor_ex(A: Any, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """``ldl_factor`` with the place of a zero in D, from 1, or 0; raises only if ``check_errors``."""
    return named("linalg_ldl_factor_ex", "LD", "pivots", "info")(_factored(A, hermitian, check_errors))


@linear_algebra("ldl_solve")
@full_precision
def ldl_solve(LD: Any, pivots: Any, B: Any, *, hermitian: bool = False) -> Any:
    """X with ``A X = B``, of the results of ``ldl_factor(A)``; batches are broadcast."""
    check_square("torch.linalg.ldl_solve", LD)
    if len(B.shape) < 2:
        raise RuntimeError("torch.linalg.ldl_solve: Expected B to have at least 2 dimensions, but it has "
                           f"{len(B.shape)} dimensions instead")
    if tuple(pivots.shape) != tuple(LD.shape[:-1]):
        raise RuntimeError("torch.linalg.ldl_solve: Expected LD.shape[:-1] and pivots.shape to be the same, but got pivots with shape "
                           f"{list(pivots.shape)} instead")
    if pivots.dtype.kind not in "ui":
        raise RuntimeError(f"torch.linalg.ldl_solve: Expected pivots to be integers. Got {pivots.dtype}")
    if LD.dtype is not B.dtype:
        raise RuntimeError(f"torch.linalg.ldl_solve: Expected LD and B to have the same dtype, but found LD of type {LD.dtype} and B of "
                           f"type {B.dtype} instead")
    if B.shape[-2] != LD.shape[-1]:
        raise RuntimeError(f"torch.linalg.ldl_solve: LD and B do not fit: {list(LD.shape)} and {list(B.shape)}")
    return indefinite.ldl_solve(LD, pivots, B, attrs=(bool(hermitian),))
