"""Inverses, solutions and Cholesky factors by LAPACK (through NumPy), batched, with gradients; and which matrices had none.

Shapes are (..., n, n). Nothing here raises for what a matrix holds: an operation runs later than it is called, and whoever calls has to
be able to catch the error. Each returns, beside its result, an int32 for each matrix: 0, or the place (from 1) at which it failed,
where the result is NaN.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..compile import dtypes as dt
from ..compile.dtypes import DType
from ..record.meta import Meta, meta_of
from .layouts import by_columns
from .structured import Structured

__all__ = ["LinAlgError", "adj", "cholesky_ex", "eye_like", "inv", "inv_ex", "like", "solve", "solve_ex",
           "solve_triangular"]

Arrays = Sequence[np.ndarray]


class LinAlgError(RuntimeError):
    """A matrix is singular, not positive definite, or an iteration did not converge."""


def like(m: Meta, shape: tuple[int, ...], d: DType | None = None) -> Meta:
    """The meta of another shape, and of another dtype if one is given."""
    return meta_of(shape, d or m.dtype, m.device)


def adj(x: Any) -> Any:
    """The conjugate transpose."""
    t = x.transpose(-2, -1)
    return t.conj() if x.dtype.kind == "c" else t


def eye_like(x: Any) -> Any:
    """The identity of the last dimension's size."""
    from .basic import filled

    n = x.shape[-1]
    return filled((n,), (1, "i"), x.dtype).diag_embed()


def _each(function: Callable[..., np.ndarray], failed: Callable[[np.ndarray], int], x: Arrays,
          outs: Sequence[Meta]) -> tuple[np.ndarray, np.ndarray]:
    """``function`` of all matrices at once; of each by itself where one fails, which ``failed`` then says the place of."""
    info = np.zeros(outs[1].shape, np.int32)
    try:
        return function(*x), info
    except np.linalg.LinAlgError:
        result = np.full(outs[0].shape, np.nan, x[0].dtype)
    for i in np.ndindex(info.shape):
        try:
            result[i] = function(*(a[i] for a in x))
        except np.linalg.LinAlgError:
            info[i] = failed(x[0][i])
    return result, info


def _zero_pivot(matrix: np.ndarray) -> int:
    """Where elimination with row exchanges finds nothing to divide by; the last place if rounding hides it."""
    a = matrix.copy()
    for j in range(len(a)):
        p = j + int(np.argmax(np.abs(a[j:, j])))
        if not a[p, j] != 0:
            return j + 1
        a[[j, p]] = a[[p, j]]
        a[j + 1:] -= np.outer(a[j + 1:, j] / a[j, j], a[j])
    return len(a)


def _factor(matrices: np.ndarray) -> np.ndarray:
    """Cholesky factors of the lower triangles; LAPACK lets a NaN on the diagonal pass."""
    factors = np.linalg.cholesky(np.tril(matrices))
    if not (np.diagonal(factors, axis1=-2, axis2=-1).real > 0).all():
        raise np.linalg.LinAlgError
    return factors


def _indefinite_minor(matrix: np.ndarray) -> int:
    """The order of the first leading minor that is not positive definite."""
    for n in range(1, len(matrix)):
        try:
            _factor(matrix[:n, :n])
        except np.linalg.LinAlgError:
            return n
    return len(matrix)


def _with_info(result: int) -> Callable[[Sequence[Meta]], tuple[Meta, Meta]]:
    """The meta rule of operations whose result looks like their input number ``result``."""
    return lambda metas: (metas[result].plain, like(metas[0], metas[0].shape[:-2], dt.int32))


# -- inverse and solutions ----------------------------------------------------------------------------------------


def _inv_grad(ctx: Any, g: Any, _: Any) -> Any:
    y = adj(ctx.outputs[0])
    return -(y.matmul(g).matmul(y))


inv_ex = Structured("linalg_inv_ex", meta=by_columns(_with_info(0)), grad=_inv_grad, saves=((), True),
                    reference=lambda x, attrs, outs: _each(np.linalg.inv, _zero_pivot, x, outs))


def inv(x: Any) -> Any:
    """The inverse; NaN where there is none."""
    return inv_ex(x)[0]


def _solve_grad(ctx: Any, g: Any, _: Any) -> Sequence[Any]:
    a, x = ctx.inputs[0], ctx.outputs[0]
    back = solve(adj(a), g)
    return -(back.matmul(adj(x))) if ctx.needs[0] else None, back


# inputs (a, b) of one batch shape: x with a x = b
solve_ex = Structured("linalg_solve_ex", meta=by_columns(_with_info(1)), grad=_solve_grad, saves=lambda needs: ((0,), True),
                      reference=lambda x, attrs, outs: _each(np.linalg.solve, _zero_pivot, x, outs))


def solve(a: Any, b: Any) -> Any:
    """x with a x = b; NaN where a is singular."""
    return solve_ex(a, b)[0]


# -- triangular systems -------------------------------------------------------------------------------------------

_BLOCK = 64  # rows that LAPACK's general solver is given at once; between blocks matrix products do the work


def _backward(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x with a x = b for an upper triangular a with zeros below its diagonal."""
    n = a.shape[-1]
    if n > _BLOCK:
        half = n // 2
        low = _backward(a[..., half:, half:], b[..., half:, :])
        rest = b[..., :half, :] - a[..., :half, half:] @ low
        return np.concatenate([_backward(a[..., :half, :half], rest), low], axis=-2)
    try:
        return np.linalg.solve(a, b)  # elimination finds nothing to eliminate and no reason to swap rows: what is left is substitution
    except np.linalg.LinAlgError:  # a zero on the diagonal divides, as in BLAS, and is no error
        x = b.copy()
        for i in reversed(range(n)):
            x[..., i, :] /= a[..., i, i, None]
            x[..., :i, :] -= a[..., :i, i, None] * x[..., i, None, :]
        return x


def _substituted(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    """The solution of a triangular system, for which NumPy has no routine of its own."""
    (a, b), (upper, unitriangular) = x, attrs
    if not upper:  # an upper triangular system from its last row to its first
        a, b = a[..., ::-1, ::-1], b[..., ::-1, :]
    a = np.triu(a)
    if unitriangular:
        a[..., range(a.shape[-1]), range(a.shape[-1])] = 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        made = _backward(a, b)
    return made if upper else made[..., ::-1, :]


def _triangular_grad(ctx: Any, g: Any) -> Sequence[Any]:
    (a, _), x, (upper, unitriangular) = ctx.inputs, ctx.outputs[0], ctx.attrs
    back = solve_triangular(adj(a), g, attrs=(not upper, unitriangular))
    if not ctx.needs[0]:
        return None, back
    whole, k = back.matmul(adj(x)), int(unitriangular)
    return (-whole).triu(k) if upper else (-whole).tril(-k), back


# inputs (a, b) of one batch shape; attributes (upper, unitriangular): x with a x = b, reading that triangle of a alone
solve_triangular = Structured("linalg_solve_triangular",
                              meta=by_columns(lambda metas, upper, unitriangular: metas[1].plain), grad=_triangular_grad,
                              saves=lambda needs: ((0,), needs[0]), reference=_substituted)


# -- Cholesky -----------------------------------------------------------------------------------------------------


def _cholesky_grad(ctx: Any, g: Any, _: Any) -> Any:
    low = ctx.outputs[0]
    phi = adj(low).matmul(g).tril()
    phi = phi - phi.diagonal(0, -2, -1).diag_embed() * 0.5
    back = inv(low)
    made = adj(back).matmul(phi).matmul(back)
    return (made + adj(made)) * 0.5


cholesky_ex = Structured("linalg_cholesky_ex", meta=by_columns(_with_info(0)), grad=_cholesky_grad, saves=((), True),
                         reference=lambda x, attrs, outs: _each(_factor, _indefinite_minor, x, outs))
