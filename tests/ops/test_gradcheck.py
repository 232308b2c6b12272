"""Gradients against finite differences, first and second ones, for operations whose rules are written by hand."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rushlight as t
from rushlight.autograd.gradcheck import gradcheck, gradgradcheck


def _spd(x: Any) -> Any:
    """Symmetric positive definite matrices made of any."""
    return x @ x.mT + 2 * t.eye(x.shape[-1], dtype=x.dtype)


CASES: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "cumsum": (lambda x: x.cumsum(1), [(2, 3)]),
    "cumprod": (lambda x: x.cumprod(0), [(4, 2)]),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), [(2, 4)]),
    "vector_norm_2": (lambda x: x.norm(dim=1), [(3, 4)]),
    "vector_norm_3": (lambda x: x.norm(3, dim=0), [(3, 4)]),
    "tril": (lambda x: x.tril(1), [(3, 4)]),
    "diag_embed": (lambda x: x.diag_embed(-1), [(2, 3)]),
    "sort": (lambda x: x.sort(1)[0], [(2, 4)]),
    "topk": (lambda x: x.topk(2, 0)[0], [(4, 2)]),
    "cummax": (lambda x: x.cummax(1)[0], [(2, 4)]),
    "quantile": (lambda x: x.quantile(0.4, 1), [(2, 5)]),
    "einsum": (lambda a, b, c: t.einsum("ij,jk,ik->i", a, b, c), [(2, 3), (3, 2), (2, 2)]),
    "scatter_prod": (lambda x, s: x.scatter_reduce(0, t.tensor([0, 0, 1]), s, "prod"), [(2,), (3,)]),
    "scatter_amax": (lambda x, s: x.scatter_reduce(0, t.tensor([0, 0, 1]), s, "amax"), [(2,), (3,)]),
    "frexp": (lambda x: t.frexp(x)[0], [(4,)]),
    "inv": (lambda x: t.linalg.inv(_spd(x)), [(3, 3)]),
    "solve": (lambda a, b: t.linalg.solve(_spd(a), b), [(3, 3), (3, 2)]),
    "det": (lambda x: t.linalg.det(x), [(3, 3)]),
    "slogdet": (lambda x: t.linalg.slogdet(_spd(x))[1], [(2, 2)]),
    "cholesky": (lambda x: t.linalg.cholesky(_spd(x)), [(3, 3)]),
    "qr": (lambda x: t.linalg.qr(x), [(4, 3)]),
    "qr_wide": (lambda x: t.linalg.qr(x), [(2, 4)]),
    "svdvals": (lambda x: t.linalg.svdvals(x), [(3, 2)]),
    "svd": (lambda x: (lambda u, s, vh: (u.abs(), s, vh.abs()))(*t.linalg.svd(x, full_matrices=False)), [(4, 3)]),
    "eigh": (lambda x: (lambda values, vectors: (values, vectors.abs()))(*t.linalg.eigh(x + x.mT)), [(3, 3)]),
    "pinv": (lambda x: t.linalg.pinv(x), [(4, 2)]),
    "lu": (lambda x: t.linalg.lu(x)[1:], [(3, 3)]),
    "lu_tall": (lambda x: t.linalg.lu(x)[1:], [(4, 2)]),
    "lu_wide": (lambda x: t.linalg.lu(x)[1:], [(2, 4)]),
    "matrix_exp": (lambda x: t.linalg.matrix_exp(x), [(3, 3)]),
    "householder": (lambda a, tau: t.linalg.householder_product(a, tau), [(4, 2), (2,)]),
    "rfft": (lambda x: t.view_as_real(t.fft.rfft(x)), [(2, 5)]),
    "irfft": (lambda x: t.fft.irfft(t.complex(x, x * 2), 6), [(2, 4)]),
    "hfft": (lambda x: t.fft.hfft(t.complex(x, x + 1)), [(4,)]),
    "stft": (lambda x: t.view_as_real(t.stft(x, 4, return_complex=True)), [(12,)]),
    "polygamma": (lambda x: t.polygamma(1, x * x + 1), [(3,)]),
    "xlog1py": (lambda x, y: t.special.xlog1py(x, y * y), [(3,), (3,)]),
    "log_ndtr": (lambda x: t.special.log_ndtr(x), [(4,)]),
    "erfcx": (lambda x: t.special.erfcx(x), [(4,)]),
    "sgn": (lambda x, y: t.view_as_real(t.complex(x, y).sgn()), [(3,), (3,)]),
}
FIRST_ONLY = {"quantile", "frexp", "hfft"}


def _inputs(name: str) -> list[Any]:
    rng = np.random.default_rng(sum(map(ord, name)))
    return [t.tensor(rng.normal(size=shape), requires_grad=True) for shape in CASES[name][1]]


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str) -> None:
    assert gradcheck(CASES[name][0], _inputs(name), nondet_tol=1e-8)  # interpreted first, compiled then


@pytest.mark.parametrize("name", sorted(set(CASES) - FIRST_ONLY))
def test_second_gradient(name: str) -> None:
    assert gradgradcheck(CASES[name][0], _inputs(name), atol=1e-4, nondet_tol=1e-8)
