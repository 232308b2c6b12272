"""Special functions. Those with a formula are pointwise; the others are SciPy's, with PyTorch's gradients where it has one."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..record.meta import Meta, meta_of
from .layouts import iterated
from .pointwise import broadcast_shapes, pointwise
from .structured import Structured

__all__ = ["library"]


def _scipy() -> Any:
    try:
        from scipy import special
    except ImportError:
        raise ImportError('special functions need SciPy: pip install "rushlight[scipy]"') from None
    return special


def library(name: str, function: Callable[..., Any], grad: Any = None, narrow: bool = False) -> Structured:
    """An operation on floating tensors of one dtype, broadcast, that SciPy computes in double precision.

    ``function(special, *arrays)`` gets the module; ``grad`` is as for ``Structured``, before un-broadcasting; ``narrow``: it is
    defined for half precision.
    """
    def meta(metas: Sequence[Meta], *attrs: Any) -> Meta:
        d = metas[0].dtype
        if d.kind == "c" or d.itemsize == 2 and not narrow:
            raise NotImplementedError(f'"{name}" not implemented for {d}')
        return meta_of(broadcast_shapes([m.shape for m in metas], name), d, metas[0].device)

    def reference(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(function(_scipy(), *attrs, *(a.astype(np.float64) for a in x))).astype(outs[0].dtype.numpy)

    def rule(ctx: Any, g: Any) -> Sequence[Any]:
        given = grad(ctx, g)
        given = given if isinstance(given, tuple) else (given,)
        return tuple(t if t is None or tuple(t.shape) == m.shape else t.sum_to_size(m.shape) for t, m in zip(given, ctx.metas))
    return Structured(name, reference=reference, lays=iterated, grad=None if grad is None else rule, meta=meta)


# -- by formula ---------------------------------------------------------------------------------------------------

xlog1py = pointwise("xlog1py", grad_name="SpecialXlog1PyBackward0", formula=lambda e, x, y:
                    e.where(e.isnan(y), y, e.where(e.eq(x, 0), x * 0, x * e.log1p(y))), result="float",
                    allowed="buif", grads=(
    lambda e, g, out, x, y: g * e.where(e.eq(x, 0) & e.le(y, -1), y * 0, e.log1p(y)), lambda e, g, out, x, y: g * x / (y + 1)))
entr = pointwise("entr", grad_name="SpecialEntrBackward0", formula=lambda e, x:
                 e.where(e.isnan(x), x, e.where(e.gt(x, 0), -(x * e.log(x)), e.where(
    e.eq(x, 0), e.const(0, x.dtype), e.const(-math.inf, x.dtype)))), result="float", allowed="buif", grads=(
    lambda e, g, out, x: g * (-e.log(x) - 1),))
ndtr = pointwise("ndtr", grad_name="MulBackward1", formula=lambda e, x:
                 e.where(e.lt(x, -1), e.erfc(-x * math.sqrt(0.5)) * 0.5, (e.erf(x * math.sqrt(0.5)) + 1) * 0.5),
                 result="float", allowed="buif", grads=(
    lambda e, g, out, x: g * (e.exp(-(x * x) * 0.5) * (1 / math.sqrt(2 * math.pi))),))

# -- by SciPy -----------------------------------------------------------------------------------------------------

erfcx: Structured = library("special_erfcx", lambda s, x: s.erfcx(x), lambda ctx, g: g * (
    ctx.inputs[0] * 2 * ctx.outputs[0] - 2 / math.sqrt(math.pi)))
log_ndtr = library("special_log_ndtr", lambda s, x: s.log_ndtr(x), lambda ctx, g: g / erfcx(ctx.inputs[0] * -math.sqrt(0.5)) * math.sqrt(
    2 / math.pi))


def _trigamma(s: Any, x: Any) -> Any:
    """Defined by reflection below zero, where SciPy gives NaN."""
    low = x < 0.5
    up = s.polygamma(1, np.where(low, 1 - x, x))
    return np.where(low, (math.pi / np.sin(math.pi * x)) ** 2 - up, up)


def _zeta(s: Any, x: Any, q: Any) -> Any:
    """As in Cephes, and so in PyTorch, infinity less infinity: no number where ``q`` is infinite, but for the pole at 1."""
    return np.where((q == np.inf) & (x != 1), np.nan, s.zeta(x, q))


def _polygamma(s: Any, n: int, x: Any) -> Any:
    if n == 0:
        return s.psi(x)
    if n == 1:
        return _trigamma(s, x)
    return (-1.0) ** (n + 1) * math.factorial(n) * _zeta(s, float(n + 1), x)


polygamma: Structured = library("polygamma", _polygamma, narrow=True, grad=lambda ctx, g: g * polygamma(
    ctx.inputs[0], attrs=(ctx.attrs[0] + 1,)))
zeta: Structured = library("special_zeta", _zeta, lambda ctx, g: (
    None, g * -ctx.inputs[0] * zeta(ctx.inputs[0] + 1, ctx.inputs[1])))


def _gamma_density(ctx: Any, g: Any) -> Any:
    a, x = ctx.inputs
    if ctx.needs[0]:
        raise NotImplementedError("the derivative for 'igamma: input' is not implemented.")
    return g * ((x.log() * (a - 1)) - x - a.lgamma()).exp()


igamma = library("igamma", lambda s, a, x: s.gammainc(a, x), lambda ctx, g: (None, _gamma_density(ctx, g)), narrow=True)
igammac = library("igammac", lambda s, a, x: s.gammaincc(a, x), lambda ctx, g: (None, -_gamma_density(ctx, g)), narrow=True)

LIBRARY: dict[str, Structured] = {name: library("special_" + name, function) for name, function in {
    "airy_ai": lambda s, x: s.airy(x)[0],
    "bessel_j0": lambda s, x: s.j0(x), "bessel_j1": lambda s, x: s.j1(x),
    "bessel_y0": lambda s, x: s.y0(x), "bessel_y1": lambda s, x: s.y1(x),
    "modified_bessel_i0": lambda s, x: s.i0(x), "modified_bessel_i1": lambda s, x: s.i1(x),
    "modified_bessel_k0": lambda s, x: s.k0(x), "modified_bessel_k1": lambda s, x: s.k1(x),
    "scaled_modified_bessel_k0": lambda s, x: s.k0e(x), "scaled_modified_bessel_k1": lambda s, x: s.k1e(x),
    "spherical_bessel_j0": lambda s, x: np.where(np.isinf(x), 0, np.sinc(x / math.pi)),
}.items()}


def _nextafter(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    return np.nextafter(*x)


# of half precision, whose formulas are computed in another type
nextafter_narrow = Structured("nextafter", reference=_nextafter, meta=lambda metas: meta_of(
    broadcast_shapes([m.shape for m in metas], "nextafter"), metas[0].dtype, metas[0].device))


# -- polynomials --------------------------------------------------------------------------------------------------


def _recurrent(first: Callable[[Any], Any], following: Callable[[Any, int, Any, Any], Any], shift: bool = False) -> Callable[..., Any]:
    """The polynomial of degree n from p(0) = 1, p(1) = first(x) and the recurrence."""
    def call(s: Any, x: Any, n: Any) -> Any:
        x, n = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(n, np.float64))
        n = np.where(np.isfinite(n), np.trunc(n), -1)
        y = 2 * x - 1 if shift else x
        out = np.where(n < 0, 0.0, np.ones(x.shape))
        before, now = np.ones(x.shape), first(y)
        for k in range(1, int(min(n.max(initial=0), 100_000)) + 1):
            out = np.where(n == k, now, out)
            before, now = now, following(y, k, now, before)
        return out
    return call


def _chebyshev(first: Callable[[Any], Any], shift: bool) -> Callable[..., Any]:
    return _recurrent(first, lambda x, k, p, q: 2 * x * p - q, shift)


_CHEBYSHEV: dict[str, Callable[[Any], Any]] = {"t": lambda x: x, "u": lambda x: 2 * x, "v": lambda x: 2 * x - 1, "w": lambda x: 2 * x + 1}
POLYNOMIALS: dict[str, Structured] = {name: library("special_" + name, function) for name, function in {
    **{f"chebyshev_polynomial_{k}": _chebyshev(f, False) for k, f in _CHEBYSHEV.items()},
    **{f"shifted_chebyshev_polynomial_{k}": _chebyshev(f, True) for k, f in _CHEBYSHEV.items()},
    "hermite_polynomial_h": _recurrent(lambda x: 2 * x, lambda x, k, p, q: 2 * x * p - 2 * k * q),
    "hermite_polynomial_he": _recurrent(lambda x: x, lambda x, k, p, q: x * p - k * q),
    "laguerre_polynomial_l": _recurrent(lambda x: 1 - x, lambda x, k, p, q: ((2 * k + 1 - x) * p - k * q) / (k + 1)),
    "legendre_polynomial_p": _recurrent(lambda x: x, lambda x, k, p, q: ((2 * k + 1) * x * p - k * q) / (k + 1)),
}.items()}
