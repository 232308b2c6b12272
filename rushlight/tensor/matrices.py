"""Inverses, solvers, determinants and powers of matrices: the functions behind ``rushlight.linalg``."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd.autocast import full_precision
from ..autograd.handle import Handle
from ..autograd.overriding import asking
from ..autograd.titles import titled
from ..compile import dtypes as dt
from ..ops import lapack, solving
from ..ops.layouts import columns
from ..ops.pointwise import broadcast_shapes
from ..ops.structured import wrap_dim
from .einsum import _cross, multi_dot
from .out import with_out
from .registry import public
from .return_types import named

__all__ = ["LINALG", "linear_algebra", "check_matrix", "check_square"]

LINALG: dict[str, Callable[..., Any]] = {}  # names of rushlight.linalg


def linear_algebra(name: str | None = None, out: bool = True) -> Callable[[Any], Any]:
    """Publish a definition in ``rushlight.linalg``, with ``out=``."""
    def publish(define: Any) -> Any:
        own = name or define.__name__.rstrip("_")
        LINALG[own] = asking(with_out(define, "linalg_" + own) if out else define)
        return define
    return publish


def check_matrix(name: str, x: Any) -> None:
    """Raise RuntimeError unless ``x`` is a floating tensor of at least two dimensions."""
    if not isinstance(x, Handle):
        raise TypeError(f"{name}(): argument 'A' (position 1) must be Tensor, not {type(x).__name__}")
    if len(x.shape) < 2:
        raise RuntimeError(f"{name}: The input tensor A must have at least 2 dimensions.")
    if x.dtype.kind not in "fc" or x.dtype.itemsize == 2:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {x.dtype}")


def check_square(name: str, x: Any) -> None:
    """Raise RuntimeError unless ``x`` holds square matrices."""
    check_matrix(name, x)
    if x.shape[-1] != x.shape[-2]:
        raise RuntimeError(f"{name}: A must be batches of square matrices, but they are {x.shape[-2]} by {x.shape[-1]} matrices")


def check_same(name: str, a: Any, b: Any) -> None:
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name}: Expected A and B to have the same dtype, but found A of type {a.dtype} and B of type "
                           f"{b.dtype} instead")


# -- inverse and determinant --------------------------------------------------------------------------------------


@linear_algebra("inv")
@full_precision
def inv(A: Any) -> Any:
    """The inverse of square matrices.

    Raises:
        LinAlgError: a matrix is singular.
    """
    return _inverse("linalg.inv", A, True)[0]


public(name="inverse")(lambda input: inv(input))


@linear_algebra("inv_ex")
@full_precision
def inv_ex(A: Any, *, check_errors: bool = False) -> Any:
    """(inverse, for each matrix 0, or the place of a zero pivot); raises only if ``check_errors``."""
    return named("linalg_inv_ex", "inverse", "info")(_inverse("linalg.inv_ex", A, check_errors))


def _inverse(name: str, A: Any, check: bool) -> Any:
    check_square(name, A)
    inverse, info = solving.inv_ex(A)
    if check:
        raise_failed(name, info, lambda place: f"The diagonal element {place} is zero, the inversion could not be completed because "
                                               "the input matrix is singular.")
    return inverse, info


def raise_failed(name: str, info: Any, message: Callable[[int], str], error: type[Exception] = solving.LinAlgError) -> None:
    """Raise for the first matrix that failed. That is looked up at once, not when the result is needed: callers catch it."""
    places = info._array()
    if places.any():
        first = int(places.reshape(-1).nonzero()[0][0])
        where = f"(Batch element {first}): " if places.ndim else ""
        raise error(f"{name}: {where}{message(int(places.reshape(-1)[first]))}")


@linear_algebra("det")
def _det(A: Any) -> Any:
    """The determinant of square matrices."""
    check_square("linalg.det", A)
    return lapack.det(A)


public(out=False, name="det")(lambda input: _det(input))


@linear_algebra("slogdet")
def _slogdet(A: Any) -> Any:
    """(sign, log of the absolute value) of the determinant."""
    check_square("linalg.slogdet", A)
    return named("linalg_slogdet", "sign", "logabsdet")(lapack.slogdet(A))


@public()
def slogdet(input: Any) -> Any:
    """(sign, log of the absolute value) of the determinant."""
    return named("slogdet", "sign", "logabsdet")(_slogdet(input))


@public(out=False)
@titled("WhereBackward0")
def logdet(input: Any) -> Any:
    """log of the determinant; NaN where that is negative."""
    check_square("logdet", input)
    sign, logs = lapack.slogdet(input)
    if input.dtype.kind == "c":
        return logs + sign.log()
    return logs + sign.detach().log()


@linear_algebra("matrix_power")
def _matrix_power(A: Any, n: int) -> Any:
    """Square matrices to the integer power n; negative powers are those of the inverse."""
    if n < 0:
        check_square("linalg.matrix_power", A)
    elif len(A.shape) < 2 or A.shape[-1] != A.shape[-2]:
        raise RuntimeError(f"linalg.matrix_power: A must be batches of square matrices, but got a tensor of shape {list(A.shape)}")
    if A.dtype.kind == "b":
        raise NotImplementedError('"matrix_power" not implemented for booleans')
    if n == 0:
        return solving.eye_like(A).expand(tuple(A.shape)).clone()
    base, n = (inv(A), -n) if n < 0 else (A, n)
    made = None
    while n:
        if n & 1:
            made = base if made is None else made.matmul(base)
        n >>= 1
        if n:
            base = base.matmul(base)
    return made.clone() if made is A else made


public(name="matrix_power")(lambda input, n: _matrix_power(input, n))


@linear_algebra("matrix_exp", out=False)
def _matrix_exp(A: Any) -> Any:
    """The matrix exponential."""
    if len(A.shape) < 2 or A.shape[-1] != A.shape[-2] or A.dtype.kind not in "fc":
        check_square("linalg.matrix_exp", A)
    return lapack.matrix_exp(A)


public(out=False, name="matrix_exp")(lambda input: _matrix_exp(input))


# -- solvers ------------------------------------------------------------------------------------------------------


def _is_vector(a: Any, b: Any) -> bool:
    """Whether b holds right-hand sides as vectors: one dimension, or a's shape without its last."""
    return len(b.shape) == 1 or len(a.shape) - 1 == len(b.shape) and tuple(b.shape) == tuple(a.shape[:-1])


def _batched(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    lead = broadcast_shapes([a.shape[:-2], b.shape[:-2]], name)
    return a.expand((*lead, *a.shape[-2:])), b.expand((*lead, *b.shape[-2:]))


def _fitting(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    """A and B of A X = B, batches broadcast."""
    if a.shape[-1] != b.shape[-2]:
        raise RuntimeError(f"{name}: Incompatible shapes of A and B for the equation AX = B ({a.shape[-2]}x{a.shape[-1]} and "
                           f"{b.shape[-2]}x{b.shape[-1]})")
    return _batched(name, a, b)


def solve_left(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    """X with A X = B, batches broadcast, and where A is singular."""
    return solving.solve_ex(*_fitting(name, a, b))


def _substitute(name: str, a: Any, b: Any, upper: bool, unitriangular: bool = False) -> Any:
    """X with A X = B, batches broadcast, where one triangle of A is read."""
    return solving.solve_triangular(*_fitting(name, a, b), attrs=(bool(upper), bool(unitriangular)))


@linear_algebra("solve")
@full_precision
@titled("LinalgSolveExBackward0")
def solve(A: Any, B: Any, *, left: bool = True) -> Any:
    """X with A X = B (or X A = B unless ``left``); B may hold vectors.

    Raises:
        LinAlgError: a matrix is singular.
    """
    return _solution("linalg.solve", A, B, left, True)[0]


@linear_algebra("solve_ex")
@titled("LinalgSolveExBackward0")
def solve_ex(A: Any, B: Any, *, left: bool = True, check_errors: bool = False) -> Any:
    """(solution, for each matrix 0, or the place of a zero pivot); raises only if ``check_errors``."""
    return named("linalg_solve_ex", "result", "info")(_solution("linalg.solve_ex", A, B, left, check_errors))


def _solution(name: str, A: Any, B: Any, left: bool, check: bool) -> tuple[Any, Any]:
    check_square(name, A)
    check_same(name, A, B)
    if _is_vector(A, B):
        if not left:
            raise RuntimeError(f"{name}: Vector broadcasting of the left hand side is not supported for left=False. In this case "
                               "linalg.solve is equivalent to B / A.squeeze(-1)")
        result, info = solve_left(name, A, B.unsqueeze(-1))
        result = result.squeeze(-1)
    elif left:
        result, info = solve_left(name, A, B)
    else:
        result, info = solve_left(name, A.transpose(-2, -1), B.transpose(-2, -1))
        result = result.transpose(-2, -1)
    if check:
        raise_failed(f"torch.{name}", info, lambda place: "The solver failed because the input matrix is singular.")
    return result, info


@linear_algebra("solve_triangular")
@titled("LinalgSolveTriangularBackward0")
def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """``solve`` that reads one triangle of A, by substitution: a zero on the diagonal gives infinities, no error."""
    name = "linalg.solve_triangular"
    check_square(name, A)
    check_same(name, A, B)
    if left:
        return _substitute(name, A, B, upper, unitriangular)
    return _substitute(name, A.transpose(-2, -1), B.transpose(-2, -1), not upper, unitriangular).transpose(-2, -1)


@public()
@full_precision
@titled("TriangularSolveBackward0")
def triangular_solve(input: Any, A: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False) -> Any:
    """(solution of a triangular system, a copy of A)."""
    check_square("triangular_solve", A)
    made = _substitute("triangular_solve", solving.adj(A) if transpose else A, input, upper != transpose, unitriangular)
    return named("triangular_solve", "solution", "cloned_coefficient")((columns(made), columns(A.clone())))


@public(method=True)
@full_precision
@titled("CholeskySolveBackward0")
def cholesky_solve(input: Any, L: Any, upper: bool = False) -> Any:
    """X with A X = ``input`` where A is given by its Cholesky factor."""
    check_square("cholesky_solve", L)
    low = solving.adj(L) if upper else L
    return _substitute("cholesky_solve", solving.adj(low), _substitute("cholesky_solve", low, input, False), True)


@public()
@full_precision
@titled("CholeskyInverseBackward0")
def cholesky_inverse(L: Any, upper: bool = False) -> Any:
    """The inverse of a matrix given by its Cholesky factor."""
    check_square("cholesky_inverse", L)
    back = solving.inv(solving.adj(L.triu()) if upper else L.tril())
    return columns(solving.adj(back).matmul(back))


@linear_algebra("lstsq")
@full_precision
@titled("LinalgLstsqBackward0")
def lstsq(A: Any, B: Any, rcond: Any = None, *, driver: str | None = None) -> Any:
    """(solution, residuals, rank, singular values) of the least squares problem ``min |A X - B|``."""
    from .spectra import matrix_rank, pinv, svdvals

    check_matrix("torch.linalg.lstsq", A)
    if not B.shape:
        raise RuntimeError("torch.linalg.lstsq: input.dim() must be greater or equal to 2 and other.dim() greater or equal to 1")
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"torch.linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss), got {driver}")
    check_same("torch.linalg.lstsq", A, B)
    vector = _is_vector(A, B)
    b = B.unsqueeze(-1) if vector else B
    if A.shape[-2] != b.shape[-2]:
        raise RuntimeError(f"torch.linalg.lstsq: input.size(-2) should match other.size({-1 if vector else -2})")
    m, n = A.shape[-2:]
    inverse = pinv(A, rtol=rcond) if rcond is not None else pinv(A)
    x = inverse.matmul(b)
    driver = driver or "gelsy"
    empty = A.detach().new_zeros((0,), dtype=A.dtype.to_real())
    residuals, rank, values = (A.abs() if A.dtype.kind == "c" else A).reshape((-1,)).narrow(0, 0, 0), empty.to(dt.int64), empty
    if driver != "gels":
        rank = matrix_rank(A.detach(), rtol=rcond) if rcond is not None else matrix_rank(A.detach())
    if m > n and driver != "gelsy" and (driver == "gels" or bool((rank == n).all())):
        gap = A.matmul(x) - b
        residuals = (gap.abs() ** 2).sum(-2)
    if driver in ("gelsd", "gelss"):
        values = svdvals(A.detach())
    return named("linalg_lstsq", "solution", "residuals", "rank", "singular_values")(
        (x.squeeze(-1) if vector else columns(x), residuals, rank, values))


# -- products and tensors -----------------------------------------------------------------------------------------


@linear_algebra("cross")
@titled("LinalgCrossBackward0")
def cross(input: Any, other: Any, *, dim: int = -1) -> Any:
    """The cross product of vectors of length 3 along ``dim``."""
    return _cross("linalg.cross", input, other, dim)


@linear_algebra("diagonal", out=False)
def _diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonal of matrices."""
    return A.diagonal(offset, dim1, dim2)


@linear_algebra("vecdot")
@titled(lambda x, y, **_: "VdotBackward0" if len(x.shape) == len(y.shape) == 1 else None)
def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """Inner products along ``dim``, the first operand conjugated."""
    return ((x.conj() if x.dtype.kind == "c" else x) * y).sum(dim)


@linear_algebra("matmul")
def _matmul(input: Any, other: Any) -> Any:
    """The matrix product."""
    return input.matmul(other)


@linear_algebra("vander", out=False)
def _vander(x: Any, *, N: int | None = None) -> Any:
    """(..., N): powers 0 to N - 1 of every element."""
    from .diagonals import _powers

    if N is not None and N <= 1:
        raise RuntimeError(f"N must be greater than 1, but got {N}")
    x = x if x.shape else x.reshape((1,))
    return _powers(x, x.shape[-1] if N is None else N)


linear_algebra("multi_dot")(multi_dot)


@linear_algebra("tensorinv")
@full_precision
def tensorinv(A: Any, ind: int = 2) -> Any:
    """The inverse of ``A`` seen as a map between tensors; the first ``ind`` dimensions are the result's."""
    import math

    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    rows, columns = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    if math.prod(rows) != math.prod(columns):
        raise RuntimeError(f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
                           f"{math.prod(columns)} != {math.prod(rows)}")
    return inv(A.reshape((math.prod(rows), -1))).reshape((*columns, *rows))


@linear_algebra("tensorsolve")
@full_precision
def tensorsolve(A: Any, B: Any, dims: Any = None) -> Any:
    """X with ``tensordot(A, X, X.ndim) = B``."""
    import math

    if dims is not None:
        n = len(A.shape)
        moved = [wrap_dim(d, n) for d in dims]
        A = A.permute(tuple([d for d in range(n) if d not in moved] + moved))
    shape = tuple(A.shape[len(B.shape):])
    size = math.prod(shape)
    if size != B.numel():
        raise RuntimeError(f"Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), but "
                           f"got {size} != {B.numel()}")
    return solve(A.reshape((-1, size)), B.reshape((-1,))).reshape(shape)


@linear_algebra("householder_product")
@full_precision
@titled("LinalgHouseholderProductBackward0")
def householder_product(A: Any, tau: Any) -> Any:
    """The first columns of the product of the Householder reflections in the columns of A."""
    if len(A.shape) < 2:
        raise RuntimeError("torch.linalg.householder_product: input must have at least 2 dimensions.")
    m, n = A.shape[-2:]
    if m < n:
        raise RuntimeError("torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if n < tau.shape[-1]:
        raise RuntimeError("torch.linalg.householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    return columns(_reflected(A, tau, solving.eye_like(A.transpose(-2, -1)).narrow(-1, 0, n).expand(tuple(A.shape))))


def _reflected(A: Any, tau: Any, C: Any) -> Any:
    """H_1 H_2 ... H_k C with H_i = 1 - tau_i v_i v_i^H."""
    m = A.shape[-2]
    if not tau.shape[-1]:
        return C + A.sum() * 0
    for k in reversed(range(tau.shape[-1])):
        tail = A.select(-1, k).narrow(-1, k + 1, m - k - 1)
        head = A.detach().new_zeros((*A.shape[:-2], k)).cat_with(A.detach().new_ones((*A.shape[:-2], 1)), -1)
        v = head.cat_with(tail, -1).unsqueeze(-1)
        C = C - v.matmul(solving.adj(v).matmul(C)) * tau.select(-1, k)[..., None, None]
    return C


public(name="orgqr")(lambda input, input2: householder_product(input, input2))


@public()
@full_precision
@titled("OrmqrBackward0")
def ormqr(input: Any, tau: Any, other: Any, left: bool = True, transpose: bool = False) -> Any:
    """The product of Householder reflections with ``other``."""
    q = _reflected(input, tau, solving.eye_like(input.transpose(-2, -1)).expand((*input.shape[:-2], input.shape[-2], input.shape[-2])))
    q = solving.adj(q) if transpose else q
    return columns(q.matmul(other) if left else other.matmul(q))


