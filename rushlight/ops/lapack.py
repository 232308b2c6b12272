"""Linear algebra by LAPACK (through NumPy), batched, with gradients in terms of tensors' methods.

Shapes are (..., m, n). Gradient formulas: Giles 2008 (inverse, determinant, Cholesky), Townsend 2016 (SVD), Golub and
Pereyra 1973 (pseudo-inverse); QR and LU follow from the differential of the defining equation.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..compile import dtypes as dt
from ..record.meta import Meta, meta_of
from .derived import gradient_of
from .layouts import by_columns
from .solving import Arrays, LinAlgError, adj, eye_like, inv, like, solve
from .structured import Structured

__all__ = ["det", "slogdet", "qr", "svd", "eigh", "eig", "pinv", "lu", "matrix_exp", "geqrf"]

def _library(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reference rule whose LAPACK errors are ours."""
    def call(inputs: Arrays, attrs: tuple, outs: Sequence[Meta]) -> Any:
        try:
            with np.errstate(all="ignore"):
                return function(inputs, attrs, outs)
        except np.linalg.LinAlgError as error:
            raise LinAlgError(f"linalg: {error}") from None
    return call


# -- determinant --------------------------------------------------------------------------------------------------


def _cofactor(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    """det(A) times the inverse's transpose, defined for singular matrices too: by the SVD."""
    u, s, vh = np.linalg.svd(x[0])
    n = s.shape[-1]
    others = np.stack([np.prod(np.delete(s, k, -1), -1) for k in range(n)], -1) if n else s
    sign = np.linalg.det(u) * np.linalg.det(vh)
    return np.conj((u * (others * np.conj(sign)[..., None])[..., None, :]) @ vh) if x[0].dtype.kind == "c" else \
        (u * (others * sign[..., None])[..., None, :]) @ vh


cofactor: Structured = Structured("cofactor", meta=lambda metas: metas[0].plain, reference=_library(_cofactor),
                      grad=gradient_of(lambda x, attrs: (det(x[0])[..., None, None] * inv(x[0]).transpose(-2, -1),)))


def _det_grad(ctx: Any, g: Any) -> Any:
    c = cofactor(ctx.inputs[0])
    return g[..., None, None] * (c.conj() if c.dtype.kind == "c" else c)


det: Structured = Structured("linalg_det", meta=lambda metas: like(metas[0], metas[0].shape[:-2]), grad=_det_grad, saves=((0,), False),
                 reference=_library(lambda x, attrs, outs: np.asarray(np.linalg.det(x[0]))))


def _slogdet_grad(ctx: Any, turn: Any, g: Any) -> Any:
    """The sign of a real matrix is constant; that of a complex one turns with the imaginary part of trace(A⁻¹ dA)."""
    if ctx.metas[0].dtype.kind == "c" and turn is not None:
        angle = (ctx.outputs[0].conj() * turn).imag
        g = angle * 1j if g is None else g + angle * 1j
    return None if g is None else g[..., None, None] * adj(inv(ctx.inputs[0]))


slogdet = Structured("linalg_slogdet", saves=((0,), (0,)), grad=_slogdet_grad,
                     meta=lambda metas: (like(metas[0], metas[0].shape[:-2]),
                                         like(metas[0], metas[0].shape[:-2], metas[0].dtype.to_real())),
                     reference=_library(lambda x, attrs, outs: tuple(np.asarray(r) for r in np.linalg.slogdet(x[0]))))


# -- QR -----------------------------------------------------------------------------------------------------------


def _qr_meta(metas: Sequence[Meta], mode: str) -> tuple[Meta, Meta]:
    x = metas[0]
    *lead, m, n = x.shape
    k = m if mode == "complete" else min(m, n)
    return like(x, (*lead, m, k) if mode != "r" else (0,)), like(x, (*lead, k if mode != "r" else min(m, n), n))


def _qr(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> Any:
    if attrs[0] == "r":
        return np.zeros(0, x[0].dtype), np.linalg.qr(x[0], "r")
    q, r = np.linalg.qr(x[0], attrs[0])
    return q, r


def _qr_grad(ctx: Any, gq: Any, gr: Any) -> Any:
    q, r = ctx.outputs
    m, n = ctx.metas[0].shape[-2:]
    if ctx.attrs[0] == "r" or ctx.attrs[0] == "complete" and m > n:
        raise RuntimeError(f"The QR decomposition is not differentiable when mode='{ctx.attrs[0]}'" +
                           (" and nrows > ncols" if ctx.attrs[0] == "complete" else ""))
    if m < n:  # R = (R1, R2) and A2 = Q R2: what flows into R2 goes on to A2 and Q
        r1, r2 = r.narrow(-1, 0, m), r.narrow(-1, m, n - m)
        x2 = None
        if gr is not None:
            g2 = gr.narrow(-1, m, n - m)
            x2 = q.matmul(g2)
            more = _back_to_q(q, r2, g2)
            gq = more if gq is None else gq + more
            gr = gr.narrow(-1, 0, m)
        first = _qr_square(q, r1, gq, gr)
        return first.cat_with(x2 if x2 is not None else first.new_zeros((*first.shape[:-1], n - m)), -1)
    return _qr_square(q, r, gq, gr)


def _back_to_q(q: Any, r2: Any, g2: Any) -> Any:
    """R2 = Q^H A2 with A2 = Q R2 fixed: the gradient of Q."""
    return q.matmul(r2).matmul(adj(g2))


def _qr_square(q: Any, r: Any, gq: Any, gr: Any) -> Any:
    """The case of at least as many rows as columns."""
    m: Any = None if gr is None else r.matmul(adj(gr))
    if gq is not None:
        part = adj(gq).matmul(q)
        m = -part if m is None else m - part
    low = m.tril(-1)
    sym = low + adj(low) + m.diagonal(0, -2, -1).diag_embed()
    total = q.matmul(sym)
    if gq is not None:
        total = total + gq
    return adj(solve(r, adj(total)))  # total times the inverse of R^H


qr = Structured("linalg_qr", meta=by_columns(_qr_meta), reference=_library(_qr), grad=_qr_grad, saves=((), True))


def _stacked(a: np.ndarray) -> np.ndarray:
    """All matrices of the batch along one dimension."""
    return a.reshape(int(np.prod(a.shape[:-2])), *a.shape[-2:])


def _geqrf(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> tuple[np.ndarray, np.ndarray]:
    flat = _stacked(x[0])
    made = [np.linalg.qr(a, "raw") for a in flat]
    reflectors = np.stack([h.T for h, _ in made]) if made else flat
    taus = np.stack([t for _, t in made]) if made else np.zeros((0, min(flat.shape[-2:])))
    return (reflectors.astype(x[0].dtype).reshape(outs[0].shape), taus.astype(x[0].dtype).reshape(outs[1].shape))


geqrf = Structured("geqrf", reference=_library(_geqrf), meta=by_columns(lambda metas: (
    metas[0].plain, like(metas[0], (*metas[0].shape[:-2], min(metas[0].shape[-2:]))))))


# -- singular values ----------------------------------------------------------------------------------------------


def _svd_meta(metas: Sequence[Meta], full: bool) -> tuple[Meta, Meta, Meta]:
    x = metas[0]
    *lead, m, n = x.shape
    k = min(m, n)
    return (like(x, (*lead, m, m if full else k)), like(x, (*lead, k), x.dtype.to_real()), like(x, (*lead, n if full else k, n)))


def _svd_grad(ctx: Any, gu: Any, gs: Any, gvh: Any) -> Any:
    u, s, vh = ctx.outputs
    m, n = ctx.metas[0].shape[-2:]
    k = min(m, n)
    u, vh = u.narrow(-1, 0, k), vh.narrow(-2, 0, k)
    if gu is None and gvh is None:
        return (u * gs.unsqueeze(-2).to(u.dtype)).matmul(vh)
    v = adj(vh)
    gu = None if gu is None else gu.narrow(-1, 0, k)
    gv = None if gvh is None else adj(gvh.narrow(-2, 0, k))
    square = s * s
    gap = square.unsqueeze(-2) - square.unsqueeze(-1)
    gap = gap + eye_like(gap)

    def skew(x: Any) -> Any:
        return (x - adj(x)) * 0.5
    inner: Any = None
    column, row = s.unsqueeze(-1), s.unsqueeze(-2)
    if gu is not None:
        inner = skew(adj(u).matmul(gu)) * 2 / gap * row
    if gv is not None:
        part = skew(adj(v).matmul(gv)) * 2 / gap * column
        inner = part if inner is None else inner + part
    if gs is not None:
        inner = inner + gs.diag_embed()
    if m > k and gu is not None:
        outer = gu / row
        made = u.matmul(inner) + outer - u.matmul(adj(u).matmul(outer))
        made = made.matmul(vh)
    else:
        made = u.matmul(inner).matmul(vh)
    if n > k and gv is not None:
        outer = adj(gv / row)
        made = made + u.matmul(outer - outer.matmul(v).matmul(vh))
    return made


svd = Structured("linalg_svd", meta=by_columns(_svd_meta), saves=((), True), grad=_svd_grad,
                 reference=_library(lambda x, attrs, outs: tuple(np.linalg.svd(x[0], full_matrices=attrs[0]))))


# -- eigenvalues --------------------------------------------------------------------------------------------------


def _eigh_grad(ctx: Any, gl: Any, gv: Any) -> Any:
    values, vectors = ctx.outputs
    inner: Any = None
    if gv is not None:
        gap = values.unsqueeze(-2) - values.unsqueeze(-1)
        part = adj(vectors).matmul(gv)
        inner = (part / (gap + eye_like(gap))).masked_fill(eye_like(gap).bool(), 0.0)
    if gl is not None:
        inner = gl.diag_embed() if inner is None else inner + gl.diag_embed()
        inner = inner.to(vectors.dtype)
    return vectors.matmul(inner).matmul(adj(vectors))


eigh = Structured("linalg_eigh", saves=((), True), grad=_eigh_grad,
                  meta=by_columns(lambda metas, uplo: (like(metas[0], metas[0].shape[:-1], metas[0].dtype.to_real()), metas[0].plain)),
                  reference=_library(lambda x, attrs, outs: tuple(np.linalg.eigh(x[0], attrs[0]))))


def _eig_meta(metas: Sequence[Meta]) -> tuple[Meta, Meta]:
    d = metas[0].dtype.to_complex()
    return like(metas[0], metas[0].shape[:-1], d), like(metas[0], metas[0].shape, d)


def _eig_grad(ctx: Any, gl: Any, gv: Any) -> Any:
    values, vectors = ctx.outputs
    inner: Any = None
    if gv is not None:
        gap = (values.unsqueeze(-2) - values.unsqueeze(-1)).conj()
        part = adj(vectors).matmul(gv)
        norm = adj(vectors).matmul(vectors) * part.diagonal(0, -2, -1).real.unsqueeze(-2).to(part.dtype)
        one = eye_like(gap)
        inner = (part - norm) / (gap + one) * (1 - one)
    if gl is not None:
        inner = gl.diag_embed() if inner is None else inner + gl.diag_embed()
    made = solve(adj(vectors), inner.matmul(adj(vectors)))
    return made if ctx.metas[0].dtype.kind == "c" else made.real.clone()


eig = Structured("linalg_eig", meta=by_columns(_eig_meta), saves=((), True), grad=_eig_grad,
                 reference=_library(lambda x, attrs, outs: tuple(np.linalg.eig(x[0].astype(outs[0].dtype.numpy)))))


# -- pseudo-inverse, LU, exponential ------------------------------------------------------------------------------


def _pinv(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    """inputs (a, absolute tolerance, relative tolerance)"""
    a, atol, rtol = x
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    top = s.max(-1, keepdims=True, initial=0)
    cut = np.maximum(np.asarray(atol)[..., None], np.asarray(rtol)[..., None] * top)
    keep = s > cut
    inverse = np.where(keep, 1 / np.where(keep, s, 1), 0)
    return np.conj(np.swapaxes(vh, -1, -2)) * inverse[..., None, :] @ np.conj(np.swapaxes(u, -1, -2))


def _pinv_grad(ctx: Any, g: Any) -> Any:
    a, p = ctx.inputs[0], ctx.outputs[0]
    m, n = ctx.metas[0].shape[-2:]
    ph, gh = adj(p), adj(g)
    if m <= n:
        k = gh.matmul(p)
        kp = k.matmul(ph)
        return -adj(p.matmul(k)) + kp - a.matmul(p).matmul(kp) + ph.matmul(p).matmul(gh - k.matmul(a)), None, None
    k = p.matmul(gh)
    pk = ph.matmul(k)
    return -adj(k.matmul(p)) + (gh - a.matmul(k)).matmul(p).matmul(ph) + pk - pk.matmul(p).matmul(a), None, None


def _pinv_meta(metas: Sequence[Meta]) -> Meta:
    *lead, m, n = metas[0].shape
    return like(metas[0], (*lead, n, m))


pinv = Structured("linalg_pinv", meta=_pinv_meta, reference=_library(_pinv), grad=_pinv_grad, saves=lambda needs: ((0,), True))


def _lu(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian elimination with row exchanges, all matrices of the batch at once; pivots count from 1."""
    a = np.array(_stacked(x[0]))
    batch, m, n = a.shape
    k = min(m, n)
    pivots = np.zeros((batch, k), np.int32)
    rows = np.arange(batch)
    for j in range(k):
        p = j + np.argmax(np.abs(a[:, j:, j].real) + np.abs(a[:, j:, j].imag), axis=1) if attrs[0] else np.full(batch, j)
        pivots[:, j] = p + 1
        a[rows, j], a[rows, p] = a[rows, p].copy(), a[rows, j].copy()
        top = a[:, j, j]
        factor = a[:, j + 1:, j] / np.where(top == 0, 1, top)[:, None]
        a[:, j + 1:, j] = factor
        a[:, j + 1:, j + 1:] -= factor[:, :, None] * a[:, None, j, j + 1:]
    return a.reshape(outs[0].shape), pivots.reshape(outs[1].shape)


def permutation(pivots: np.ndarray, m: int) -> np.ndarray:
    """Row exchanges (from 1) as an order: row i of the permuted matrix is row order[i] of the original."""
    if not pivots.size:
        return np.broadcast_to(np.arange(m), (*pivots.shape[:-1], m))
    flat = pivots.reshape(-1, pivots.shape[-1])
    order = np.tile(np.arange(m), (len(flat), 1))
    for b, row in enumerate(flat):
        for j, p in enumerate(row - 1):
            order[b, [j, p]] = order[b, [p, j]]
    return order.reshape(*pivots.shape[:-1], m)


def _order(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    return permutation(x[0], attrs[0]).astype(np.int64)


# pivots -> order of rows; attrs (number of rows,)
row_order = Structured("lu_permutation", reference=_order,
                       meta=lambda metas, m: meta_of((*metas[0].shape[:-1], m), dt.int64, metas[0].device))


def _lu_grad(ctx: Any, g: Any, _: Any) -> Any:
    if g is None:
        return None
    packed, pivots = ctx.outputs
    m, n = ctx.metas[0].shape[-2:]
    k = min(m, n)
    square = packed.narrow(-2, 0, k).narrow(-1, 0, k)
    low, up = square.tril(-1) + eye_like(square), square.triu()
    gs = g.narrow(-2, 0, k).narrow(-1, 0, k)
    phi_low, phi_up = adj(low).matmul(gs.tril(-1)), gs.triu().matmul(adj(up))
    if n > k:
        g2, u2 = g.narrow(-1, k, n - k), packed.narrow(-1, k, n - k)
        phi_low = phi_low - g2.matmul(adj(u2))
    if m > k:
        g2, l2 = g.narrow(-2, k, m - k), packed.narrow(-2, k, m - k)
        phi_up = phi_up - adj(l2).matmul(g2)
    inner = phi_low.tril(-1) + phi_up.triu()
    made = adj(solve(up, adj(solve(adj(low), inner))))
    if n > k:
        made = made.cat_with(solve(adj(low), g2), -1)
    if m > k:
        made = made.cat_with(adj(solve(up, adj(g2))), -2)
    order = row_order(pivots, attrs=(m,))
    where = order.argsort(-1)
    return made.gather(-2, where.unsqueeze(-1).expand(tuple(made.shape)))


lu = Structured("linalg_lu_factor_ex", reference=_library(_lu), grad=_lu_grad, saves=((), True),
                meta=by_columns(lambda metas, pivot: (metas[0].plain, like(metas[0], (*metas[0].shape[:-2], min(metas[0].shape[-2:])),
                                                                      dt.int32))))


def _expm(x: Arrays, attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    """Scaling and squaring with a Taylor polynomial of degree 18, in double precision."""
    wide = x[0].astype(np.complex128 if x[0].dtype.kind == "c" else np.float64)
    size = np.abs(wide).sum(-2).max(-1, initial=0)
    times = int(np.maximum(0, np.ceil(np.log2(np.maximum(size.max(initial=0), 1e-30))) + 1)) if size.size else 0
    a = wide / 2.0**times
    total = np.broadcast_to(np.eye(a.shape[-1]), a.shape).astype(a.dtype)
    term = total
    for k in range(1, 19):
        term = term @ a / k
        total = total + term
    for _ in range(times):
        total = total @ total
    return total.astype(outs[0].dtype.numpy)


def _expm_grad(ctx: Any, g: Any) -> Any:
    """The exponential of ((A^H, G), (0, A^H)) has the gradient in its upper right block."""
    a = adj(ctx.inputs[0])
    n = a.shape[-1]
    top = a.contiguous().cat_with(g, -1)
    bottom = (a * 0).cat_with(a, -1)
    return matrix_exp(top.cat_with(bottom, -2)).narrow(-2, 0, n).narrow(-1, n, n)


matrix_exp = Structured("linalg_matrix_exp", meta=lambda metas: metas[0].plain, reference=_expm, grad=_expm_grad, saves=((0,), False))
