"""Factorisations, eigenvalues, singular values, and the norms and ranks that follow from them."""
from __future__ import annotations

import math
from typing import Any

from ..autograd.autocast import full_precision
from ..autograd.handle import Handle
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..ops import lapack, solving
from ..ops.layouts import columns
from ..ops.structured import no_dims, wrap_dims
from .matrices import check_matrix, check_square, linear_algebra, raise_failed, solve_left
from .registry import public
from .return_types import named
from .statistics import norm_over

__all__ = ["matrix_norm"]


# -- factorisations -----------------------------------------------------------------------------------------------


@linear_algebra("cholesky")
@full_precision
@titled("LinalgCholeskyExBackward0")
def _cholesky(A: Any, *, upper: bool = False) -> Any:
    """The lower (upper) triangular factor L of A = L L^H.

    Raises:
        LinAlgError: a matrix is not positive definite.
    """
    return _factor("linalg.cholesky", A, upper, True)[0]


public(name="cholesky")(titled("CholeskyBackward0")(lambda input, upper=False: _factor("cholesky", input, upper, True)[0]))


@linear_algebra("cholesky_ex")
@full_precision
@titled("LinalgCholeskyExBackward0")
def cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False) -> Any:
    """(factor, for each matrix 0, or the order of a leading minor that is not positive definite); raises only if ``check_errors``."""
    return named("linalg_cholesky_ex", "L", "info")(_factor("linalg.cholesky_ex", A, upper, check_errors))


def _factor(name: str, A: Any, upper: bool, check: bool) -> tuple[Any, Any]:
    check_square(name, A)
    low, info = solving.cholesky_ex(solving.adj(A) if upper else A)
    if check:
        raise_failed(name, info, lambda order: "The factorization could not be completed because the input is not positive-definite "
                                               f"(the leading minor of order {order} is not positive-definite).")
    return columns(solving.adj(low)) if upper else low, info


@linear_algebra("qr")
@full_precision
def _qr(A: Any, mode: str = "reduced") -> Any:
    """(Q, R) with A = Q R; ``mode`` "reduced", "complete", or "r" (Q is empty)."""
    check_matrix("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    return named("linalg_qr", "Q", "R")(lapack.qr(A, attrs=(mode,)))


@public()
@full_precision
def qr(input: Any, some: bool = True) -> Any:
    """(Q, R) with ``input`` = Q R."""
    return named("qr", "Q", "R")(_qr(input, "reduced" if some else "complete"))


@public()
@full_precision
def geqrf(input: Any) -> Any:
    """The QR factorisation as LAPACK keeps it: (R above reflections, their factors)."""
    check_matrix("geqrf", input)
    return named("geqrf", "a", "tau")(lapack.geqrf(input))


@linear_algebra("lu_factor_ex")
def lu_factor_ex(A: Any, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """(L and U in one matrix, row exchanges counted from 1, for each matrix 0 or the place of a zero pivot)."""
    return named("linalg_lu_factor_ex", "LU", "pivots", "info")(_packed("linalg.lu_factor_ex", A, pivot, check_errors))


@linear_algebra("lu_factor")
def lu_factor(A: Any, *, pivot: bool = True) -> Any:
    """(L and U in one matrix, row exchanges counted from 1).

    Raises:
        RuntimeError: a pivot is zero.
    """
    return named("linalg_lu_factor", "LU", "pivots")(_packed("linalg.lu_factor", A, pivot, True)[:2])


def _packed(name: str, A: Any, pivot: bool, check: bool) -> tuple[Any, Any, Any]:
    check_matrix(name, A)
    packed, pivots = lapack.lu(A, attrs=(bool(pivot),))
    zeros = packed.detach().diagonal(0, -2, -1) == 0
    found = zeros.any(-1) if zeros.shape[-1] else zeros.new_zeros(zeros.shape[:-1])
    info = ((zeros.int().argmax(-1) + 1) * found if zeros.shape[-1] else found).to(dt.int32)
    if check:
        raise_failed(f"torch.{name}", info, lambda place: f"U[{place},{place}] is zero and using it on lu_solve would result in a "
                     "division by zero. If you still want to perform the factorization, consider calling linalg.lu(A, pivot) or "
                     "linalg.lu_factor_ex(A, pivot)", RuntimeError)
    return packed, pivots, info


def _parts(packed: Any) -> tuple[Any, Any]:
    m, n = packed.shape[-2:]
    k = min(m, n)
    low = packed.narrow(-1, 0, k).tril(-1)
    one = solving.eye_like(low)
    if m > k:
        one = one.cat_with(one.new_zeros((m - k, k)), -2)
    return low + one, packed.narrow(-2, 0, k).triu()


def _permutation(pivots: Any, m: int, d: Any) -> Any:
    """P with A = P L U."""
    order = lapack.row_order(pivots, attrs=(m,))
    one = solving.eye_like(order.to(d))
    return one.expand((*order.shape, m)).gather(-2, order.unsqueeze(-1).expand((*order.shape, m))).transpose(-2, -1).contiguous()


@linear_algebra("lu")
@titled("LinalgLuBackward0")
def _lu(A: Any, *, pivot: bool = True) -> Any:
    """(P, L, U) with A = P L U."""
    check_matrix("linalg.lu", A)
    packed, pivots = lapack.lu(A, attrs=(bool(pivot),))
    low, up = _parts(packed)
    P = _permutation(pivots, A.shape[-2], A.dtype.to_real()).to(A.dtype) if pivot else A.detach().new_zeros((0,))
    return named("linalg_lu", "P", "L", "U")((P, low, up))


@public(method=False)
@titled("LuUnpackBackward0")
def lu_unpack(LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    """(P, L, U) of a packed factorisation."""
    if LU_pivots.dtype is not dt.int32:
        raise RuntimeError("torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.")
    empty = LU_data.detach().new_zeros((0,))
    low, up = _parts(LU_data) if unpack_data else (empty, empty)
    P = _permutation(LU_pivots, LU_data.shape[-2], LU_data.dtype) if unpack_pivots else empty
    return named("lu_unpack", "P", "L", "U")((P, low, up))


@linear_algebra("lu_solve")
@titled("LinalgLuSolveBackward0")
def _lu_solve(LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False) -> Any:
    """X with A X = B (or X A = B, or with the adjoint of A) where A is given by its LU factorisation."""
    check_square("linalg.lu_solve", LU)
    low, up = _parts(LU)
    A = _permutation(pivots, LU.shape[-2], LU.dtype).matmul(low.matmul(up))
    A = solving.adj(A) if adjoint else A
    if left:
        return solve_left("linalg.lu_solve", A, B)[0]
    return solve_left("linalg.lu_solve", A.transpose(-2, -1), B.transpose(-2, -1))[0].transpose(-2, -1)


@public()
@full_precision
@titled("LinalgLuSolveBackward0")
def lu_solve(input: Any, LU_data: Any, LU_pivots: Any) -> Any:
    """X with A X = ``input`` where A is given by its LU factorisation."""
    return _lu_solve(LU_data, LU_pivots, input)


# -- eigenvalues and singular values ------------------------------------------------------------------------------


@linear_algebra("eigh")
@full_precision
def eigh(A: Any, UPLO: str = "L") -> Any:
    """(eigenvalues in ascending order, eigenvectors) of symmetric (Hermitian) matrices."""
    check_square("linalg.eigh", A)
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return named("linalg_eigh", "eigenvalues", "eigenvectors")(lapack.eigh(A, attrs=(UPLO.upper(),)))


@linear_algebra("eigvalsh")
@full_precision
def eigvalsh(A: Any, UPLO: str = "L") -> Any:
    """The eigenvalues of symmetric (Hermitian) matrices, ascending."""
    return eigh(A, UPLO)[0]


@linear_algebra("eig")
@full_precision
def eig(A: Any) -> Any:
    """(eigenvalues, eigenvectors), complex."""
    check_square("linalg.eig", A)
    return named("linalg_eig", "eigenvalues", "eigenvectors")(lapack.eig(A))


@linear_algebra("eigvals")
@full_precision
def eigvals(A: Any) -> Any:
    """The eigenvalues, complex."""
    return eig(A)[0]


@linear_algebra("svd")
@full_precision
def _svd(A: Any, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh) with A = U diag(S) Vh."""
    check_matrix("linalg.svd", A)
    return named("linalg_svd", "U", "S", "Vh")(lapack.svd(A, attrs=(bool(full_matrices),)))


@linear_algebra("svdvals")
@full_precision
def svdvals(A: Any, *, driver: str | None = None) -> Any:
    """The singular values, descending."""
    check_matrix("linalg.svdvals", A)
    return lapack.svd(A, attrs=(False,))[1]


@public()
@full_precision
def svd(input: Any, some: bool = True, compute_uv: bool = True) -> Any:
    """(U, S, V) with ``input`` = U diag(S) V^H."""
    check_matrix("torch.svd", input)
    u, s, vh = lapack.svd(input, attrs=(not some,))
    if not compute_uv:
        m, n = input.shape[-2:]
        lead = tuple(input.shape[:-2])
        u, vh = input.detach().new_zeros((*lead, m, m)), input.detach().new_zeros((*lead, n, n))
    return named("svd", "U", "S", "V")((u, s, solving.adj(vh)))


def _cuts(A: Any, atol: Any, rtol: Any, both_given: bool) -> tuple[Any, Any]:
    """Absolute and relative tolerance as tensors of the batch's shape."""
    real = A.dtype.to_real()
    lead = tuple(A.shape[:-2])

    def full(x: Any) -> Any:
        t = x.to(real) if isinstance(x, Handle) else A.detach().new_full((), float(x), dtype=real)
        return t.detach().expand(lead) if len(t.shape) <= len(lead) else t
    from .kinds import finfo

    least = 0.0 if atol is None else atol
    if rtol is None:
        eps = finfo(real).eps * max(A.shape[-2:], default=0)
        given = isinstance(atol, Handle) or atol is not None and atol > 0
        rtol = 0.0 if given and not isinstance(atol, Handle) else eps
        if isinstance(atol, Handle):
            rtol = (full(atol) <= 0).to(real) * eps
    return full(least), full(rtol)


@linear_algebra("pinv")
@titled("LinalgPinvBackward0")
def pinv(A: Any, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Any:
    """The pseudo-inverse: singular values below ``max(atol, rtol * largest)`` count as zero."""
    check_matrix("linalg.pinv", A)
    if hermitian:
        check_square("linalg.pinv", A)
        low, middle = A.tril(-1), A.diagonal(0, -2, -1)
        A = low + solving.adj(low) + (middle.real.to(A.dtype) if A.dtype.kind == "c" else middle).diag_embed()
    if 0 in A.shape[-2:]:
        return A.transpose(-2, -1).clone()
    return lapack.pinv(A, *_cuts(A, atol, rtol if rtol is not None else rcond, True))


@public(out=False)
@full_precision
@titled("LinalgPinvBackward0")
def pinverse(input: Any, rcond: float = 1e-15) -> Any:
    """The pseudo-inverse."""
    return pinv(input, rtol=rcond)


@linear_algebra("matrix_rank")
@full_precision
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Any:
    """How many singular values are above ``max(atol, rtol * largest)``."""
    check_matrix("linalg.matrix_rank", A)
    if tol is not None:
        atol, rtol = tol, 0.0
    if 0 in A.shape[-2:]:
        return A.detach().new_zeros(tuple(A.shape[:-2]), dtype=dt.int64)
    s = eigvalsh(A.detach()).abs() if hermitian else svdvals(A.detach())
    least, relative = _cuts(A, atol, rtol, False)
    cut = least.maximum(relative * s.amax(-1))
    return (s > cut.unsqueeze(-1)).sum(-1)


# -- norms --------------------------------------------------------------------------------------------------------


@linear_algebra("vector_norm")
def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The vector norm of order ``ord`` over ``dim``."""
    return norm_over(x, ord, wrap_dims(dim, len(x.shape)), keepdim, dtype)


@linear_algebra("matrix_norm")
@titled(lambda A, ord="fro", *_, **__: {
    1: "AmaxBackward0", math.inf: "AmaxBackward0", -1: "AminBackward0", -math.inf: "AminBackward0"}.get(ord))
def matrix_norm(A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The matrix norm: "fro", "nuc", 2, -2 (singular values), 1, -1, inf or -inf (sums of columns or rows)."""
    if len(A.shape) < 2:
        raise RuntimeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    if len(dim) != 2:
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim}")
    a, b = wrap_dims(tuple(dim), len(A.shape))
    if dtype is not None:
        A = A.to(dtype)
    if A.dtype.kind not in "fc":
        raise RuntimeError(f"linalg.matrix_norm: Expected a floating point or complex tensor as input. Got {A.dtype}")
    if ord == "fro":
        return norm_over(A, 2, (a, b), keepdim)
    if ord == "nuc" or ord in (2, -2):
        if ord == 2 and 0 in (A.shape[a], A.shape[b]):
            return norm_over(A, 1, (a, b), keepdim)
        s = svdvals(A.movedim((a, b), (-2, -1)))
        made = s.sum(-1) if ord == "nuc" else s.amax(-1) if ord == 2 else s.amin(-1)
        return _with_ones(made, a, b) if keepdim else made
    if isinstance(ord, str) or ord not in (1, -1, math.inf, -math.inf):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    if ord > 0 and 0 in (A.shape[a], A.shape[b]):
        return norm_over(A, 1, (a, b), keepdim)
    inner, outer = (a, b) if ord in (1, -1) else (b, a)
    sums = norm_over(A, 1, (inner,), True)
    made = sums.amax(outer, True) if ord > 0 else sums.amin(outer, True)
    return made if keepdim else made.squeeze((a, b))


def _with_ones(t: Any, a: int, b: int) -> Any:
    for d in sorted((a, b)):
        t = t.unsqueeze(d)
    return t


@linear_algebra("norm")
def _norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """A matrix norm for two dimensions and an order that names one, else a vector norm."""
    if dim is not None:
        dims = wrap_dims(dim, len(A.shape)) if not no_dims(dim) else ()
        if isinstance(dim, (tuple, list)) and len(dims) == 2 and ord is not None:
            return matrix_norm(A, ord, tuple(dim), keepdim, dtype=dtype)
        if isinstance(ord, str):
            raise RuntimeError(f"linalg.norm: If dim is specified with an order {ord!r}, it must be of length 2. Got {dim}")
        return norm_over(A, 2 if ord is None else ord, dims or tuple(range(len(A.shape))), keepdim, dtype)
    if ord is not None:
        if len(A.shape) not in (1, 2) or isinstance(ord, str) and len(A.shape) != 2:
            raise RuntimeError("linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
                               f"{len(A.shape)}D.")
        if len(A.shape) == 2:
            return matrix_norm(A, ord, (-2, -1), keepdim, dtype=dtype)
    return norm_over(A, 2 if ord is None else ord, tuple(range(len(A.shape))), keepdim, dtype)


@linear_algebra("cond")
@full_precision
def cond(A: Any, p: Any = None) -> Any:
    """The condition number in the norm ``p`` (2 by default)."""
    check_matrix("linalg.cond", A)
    if p is None or p in (2, -2):
        s = svdvals(A)
        high, low = s.select(-1, 0), s.select(-1, s.shape[-1] - 1)
        return low / high if p == -2 else high / low
    check_square("linalg.cond", A)
    if 0 in A.shape:
        return A.detach().new_zeros(tuple(A.shape[:-2]), dtype=A.dtype.to_real())
    return matrix_norm(A, p) * matrix_norm(solving.inv(A), p)


# -- low rank -----------------------------------------------------------------------------------------------------


@public(method=False, out=False)
def svd_lowrank(A: Any, q: int | None = 6, niter: int = 2, M: Any = None) -> Any:
    """(U, S, V) of about the q largest singular values, by random projection."""
    from .random import randn

    A = A if M is None else A - M.broadcast_to(tuple(A.shape))
    m, n = A.shape[-2:]
    q = 6 if q is None else q
    if m < n:
        v, s, u = svd_lowrank(solving.adj(A), q, niter)
        return u, s, v
    Q = lapack.qr(A.matmul(randn((n, q), dtype=A.dtype)), attrs=("reduced",))[0]
    for _ in range(niter):
        Q = lapack.qr(solving.adj(A).matmul(Q), attrs=("reduced",))[0]
        Q = lapack.qr(A.matmul(Q), attrs=("reduced",))[0]
    u, s, vh = lapack.svd(solving.adj(Q).matmul(A), attrs=(False,))
    return Q.matmul(u), s, solving.adj(vh)


@public(method=False, out=False)
def pca_lowrank(A: Any, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """Principal components: ``svd_lowrank`` of the data, centred by columns."""
    m, n = A.shape[-2:]
    q = min(6, m, n) if q is None else q
    if not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(A - A.mean(-2, True) if center else A, q, niter)
