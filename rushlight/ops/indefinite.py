"""Symmetric and Hermitian matrices that need not be positive: A = P L D Lᴴ Pᵀ by the pivoting of Bunch and Kaufman (1977), with blocks of
D of one or two rows, and systems with such a factorisation. Layout and pivots are LAPACK's (``sytrf``, ``hetrf`` of the lower half)."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile import dtypes as dt
from ..record.meta import Meta, meta_of
from .layouts import in_columns
from .solving import Arrays, like
from .structured import Structured

__all__ = ["ldl", "ldl_solve"]

_GROWTH = (1 + math.sqrt(17)) / 8  # bounds how much elements grow in two steps of one row as in one step of two


def _size(x: np.ndarray) -> np.ndarray:
    """What LAPACK compares to find a pivot."""
    return np.abs(x.real) + np.abs(x.imag) if x.dtype.kind == "c" else np.abs(x)


def _pivot(a: np.ndarray, k: int, hermitian: bool) -> tuple[int, int]:
    """(row that comes to the pivot's place, rows of the block); (k, 0) where the column is zero."""
    n = len(a)
    own = float(abs(a[k, k].real) if hermitian else _size(a[k, k]))
    column = _size(a[k + 1:, k])
    largest = float(column.max()) if column.size else 0.0
    if max(own, largest) == 0 or math.isnan(own):
        return k, 0
    if own >= _GROWTH * largest:
        return k, 1
    r = k + 1 + int(column.argmax())
    row = float(max(_size(a[r, k:r]).max(), _size(a[r + 1:, r]).max() if r + 1 < n else 0.0))
    if own >= _GROWTH * largest * (largest / row):
        return k, 1
    return r, 1 if float(abs(a[r, r].real) if hermitian else _size(a[r, r])) >= _GROWTH * row else 2


def _factor(a: np.ndarray, hermitian: bool) -> tuple[np.ndarray, int]:
    """Overwrites the lower half of one matrix; returns (pivots from 1, place of a zero in D from 1, or 0)."""
    n, k, info = len(a), 0, 0
    pivots = np.zeros(n, np.int32)
    other = np.conj if hermitian else lambda x: x
    while k < n:
        p, rows = _pivot(a, k, hermitian)
        if not rows:
            info, rows = info or k + 1, 1
            pivots[k] = p + 1
            k += 1
            continue
        last = k + rows - 1
        if p != last:
            a[p + 1:, [last, p]] = a[p + 1:, [p, last]]
            a[last + 1:p, last], a[p, last + 1:p] = other(a[p, last + 1:p].copy()), other(a[last + 1:p, last].copy())
            a[p, last] = other(a[p, last])
            a[last, last], a[p, p] = a[p, p], a[last, last]
            if rows == 2:
                a[k + 1, k], a[p, k] = a[p, k], a[k + 1, k]
        if hermitian:
            a[range(k, last + 1), range(k, last + 1)] = a[range(k, last + 1), range(k, last + 1)].real
        below = a[last + 1:, k:last + 1].copy()
        block = a[k:last + 1, k:last + 1].copy()
        if rows == 2:
            block[0, 1] = other(block[1, 0])
        if below.size:
            factor = below / block[0, 0] if rows == 1 else below @ np.linalg.inv(block)
            a[last + 1:, last + 1:] -= np.tril(factor @ other(below).T)
            a[last + 1:, k:last + 1] = factor
        pivots[k:last + 1] = p + 1 if rows == 1 else -(p + 1)
        k += rows
    return pivots, info


def _ldl(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> tuple[np.ndarray, ...]:
    (hermitian,) = attrs
    shape = x[0].shape
    a = np.tril(x[0]).reshape(math.prod(shape[:-2]), *shape[-2:])
    pivots, info = np.zeros(a.shape[:2], np.int32), np.zeros(len(a), np.int32)
    with np.errstate(all="ignore"):
        for b, matrix in enumerate(a):
            pivots[b], info[b] = _factor(matrix, hermitian and matrix.dtype.kind == "c")
    return a.reshape(shape), pivots.reshape(shape[:-1]), info.reshape(shape[:-2])


def _solve(ld: np.ndarray, pivots: np.ndarray, b: np.ndarray, hermitian: bool) -> None:
    """Overwrites one right side."""
    n, k = len(ld), 0
    other = np.conj if hermitian else lambda x: x
    steps = []
    while k < n:  # P L, and D
        rows = 1 if pivots[k] > 0 else 2
        last, p = k + rows - 1, abs(int(pivots[k])) - 1
        if p != last:
            b[[last, p]] = b[[p, last]]
        b[last + 1:] -= ld[last + 1:, k:last + 1] @ b[k:last + 1]
        block = ld[k:last + 1, k:last + 1].copy()
        if rows == 2:
            block[0, 1] = other(block[1, 0])
        elif hermitian:
            block = block.real
        b[k:last + 1] = np.linalg.inv(block) @ b[k:last + 1] if rows == 2 else b[k:last + 1] / block
        steps.append((k, last, p))
        k += rows
    for k, last, p in reversed(steps):
        b[k:last + 1] -= other(ld[last + 1:, k:last + 1]).T @ b[last + 1:]
        if p != last:
            b[[last, p]] = b[[p, last]]


def _ldl_solve(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    (hermitian,) = attrs
    ld, pivots, b = x
    shape = outs[0].shape
    count, n = math.prod(shape[:-2]), shape[-2]
    made = np.array(np.broadcast_to(b, shape)).reshape(count, *shape[-2:])
    ld = np.broadcast_to(ld, (*shape[:-2], n, n)).reshape(count, n, n)
    pivots = np.broadcast_to(pivots, (*shape[:-2], n)).reshape(count, n)
    with np.errstate(all="ignore"):
        for k in range(len(made)):
            _solve(ld[k], pivots[k], made[k], hermitian and made.dtype.kind == "c")
    return made.reshape(shape)


def _solve_meta(metas: Sequence[Meta], hermitian: bool) -> Meta:
    batch = np.broadcast_shapes(metas[0].shape[:-2], metas[2].shape[:-2])
    return in_columns(meta_of((*batch, *metas[2].shape[-2:]), metas[2].dtype, metas[2].device))


def _no_gradient(name: str) -> Any:
    def grad(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(f"derivative for aten::{name} is not implemented")
    return grad


# (A,) -> (L and D in one, pivots, info); attrs (hermitian,)
ldl = Structured("linalg_ldl_factor_ex", reference=_ldl, grad=_no_gradient("linalg_ldl_factor_ex"), grad_name="NotImplemented",
                 saves=((), False), meta=lambda metas, hermitian: (
    in_columns(metas[0].plain), like(metas[0], metas[0].shape[:-1], dt.int32), like(metas[0], metas[0].shape[:-2], dt.int32)))
ldl_solve = Structured("linalg_ldl_solve", reference=_ldl_solve, meta=_solve_meta, grad=_no_gradient("linalg_ldl_solve"),
                       grad_name="NotImplemented", saves=((), False))
