"""Sums without NaN, quantiles, covariance, norms and distances."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.autocast import full_precision
from ..autograd.handle import Handle
from ..compile import dtypes as dt
from ..ops import arithmetic as ar
from ..ops.distances import distances
from ..ops.norms import vector_norm as _vector_norm
from ..ops.pointwise import broadcast_shapes
from ..ops.reduction import sum_
from ..ops.structured import wrap_dim, wrap_dims
from ..ops.views import squeeze
from .creation import from_array
from .registry import METHODS, public

__all__ = ["norm_over"]

_nansum, _squeezed = sum_.named("NansumBackward0"), squeeze.named("SqueezeBackward4")


@public()
def nansum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum, NaN counted as zero."""
    if input.dtype.kind == "c":
        raise RuntimeError("nansum does not support complex inputs")
    x = ar.where(input.isnan(), 0, input) if input.dtype.kind == "f" else input
    return _nansum(x, attrs=(wrap_dims(dim, len(x.shape)), keepdim, dtype or (dt.int64 if x.dtype.kind in "bui" else x.dtype)))


@public()
def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean of the elements that are not NaN."""
    if input.dtype.kind not in "fc":
        raise RuntimeError(f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype}")
    return nansum(input, dim, keepdim, dtype=dtype) / input.isnan().logical_not().sum(dim, keepdim)


@public()
def count_nonzero(input: Any, dim: Any = None) -> Any:
    """How many elements are not zero."""
    return (input != 0).sum(dim)


# -- quantiles ----------------------------------------------------------------------------------------------------


def _quantile(name: str, input: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignore: bool) -> Any:
    if input.dtype.name not in ("float32", "float64"):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    moving = None  # q as a tensor, where its gradient is wanted
    if isinstance(q, Handle):
        moving = q if q._edge is not None else None
        if len(q.shape) > 1:
            raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
        if q.dtype is not input.dtype:
            raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
        places = q.detach()._array().astype(np.float64)  # type: ignore[attr-defined]
    else:
        places = np.asarray(float(q))
    if not ((places >= 0) & (places <= 1)).all():
        raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {places.min()} to {places.max()}")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}")
    if not input.numel():
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    rank = len(input.shape)
    d = 0 if dim is None else wrap_dim(dim, rank)
    x = input.reshape((-1,)) if dim is None else input.movedim(d, -1) if rank else input.reshape((1,))
    ordered = x.sort(-1)[0]
    n = x.shape[-1]
    array = x.detach()._array()
    missing = np.isnan(array).sum(-1)
    last = (n - 1 - missing if ignore else np.full(missing.shape, n - 1)).astype(np.float64)
    ranks = np.maximum(places.reshape(-1) * last[..., None], 0)  # (..., number of quantiles)
    if not ignore:
        ranks = np.where(missing[..., None] > 0, n - 1, ranks)
    ranks = ranks.astype(input.dtype.numpy).astype(np.float64)
    low = {"nearest": np.round(ranks), "higher": np.ceil(ranks)}.get(interpolation, np.floor(ranks))
    made = ordered.gather(-1, from_array(low.astype(np.int64)))
    if interpolation in ("linear", "midpoint"):
        weights = np.full(ranks.shape, 0.5) if interpolation == "midpoint" else ranks - low
        above = ordered.gather(-1, from_array(np.ceil(ranks).astype(np.int64)))
        share = from_array(weights.astype(input.dtype.numpy))
        if moving is not None and interpolation == "linear":
            scale = from_array(np.asarray(last[..., None] if ignore else last.reshape(-1)[:1] * 1.0).astype(input.dtype.numpy))
            exact = moving.reshape((-1,)) * scale
            share = exact - exact.detach() + share
        made = ar.lerp(made, above, share)
    # (..., quantiles) -> quantiles first, the reduced dimension kept or dropped
    made = made.movedim(-1, 0)
    if keepdim:
        made = made.reshape((made.shape[0], *(1,) * rank)) if dim is None else made.unsqueeze(d + 1) if rank else made
    return _squeezed(made, (0,)) if places.ndim == 0 else made


@public()
@full_precision
def quantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """The values below which fractions ``q`` of the elements lie; several fractions make a new first dimension."""
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@public()
@full_precision
def nanquantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """``quantile`` of the elements that are not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


# -- covariance ---------------------------------------------------------------------------------------------------


@public(out=False)
def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """The covariance matrix of variables in rows, observations in columns.

    Raises:
        RuntimeError: more than two dimensions, or weights that do not fit.
    """
    if len(input.shape) > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {len(input.shape)} dimensions")
    if input.dtype.kind == "b":
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input.reshape((1, -1)) if len(input.shape) < 2 else input
    n = x.shape[1]
    weights = None
    for name, w, kinds in (("fweights", fweights, "ui"), ("aweights", aweights, "f")):
        if w is None:
            continue
        if len(w.shape) > 1:
            raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {len(w.shape)} dimensions")
        if w.dtype.kind not in kinds:
            raise RuntimeError(f"cov(): expected {name} to have {'integral' if kinds == 'ui' else 'floating point'} dtype but got {name} "
                               f"with {w.dtype} dtype")
        if w.numel() != n:
            raise RuntimeError(f"cov(): expected {name} to have the same numel as there are observations in the input but got "
                               f"{w.numel()} != {n}")
        if bool((w < 0).any()):
            raise RuntimeError(f"cov(): {name} cannot be negative")
        weights = w if weights is None else weights * w
    if x.dtype.kind not in "fc":
        from ..ops.promotion import default_dtype

        x = x.to(default_dtype())
    if weights is None:
        total: Any = n
        mean = x.sum(1, True) / n
        scale: Any = n - correction
    else:
        total = weights.sum()
        if bool(total == 0):
            raise RuntimeError("cov(): weights sum to zero, can't be normalized")
        mean = (x * weights).sum(1, True) / total
        scale = total - correction * (weights * aweights).sum() / total if aweights is not None else total - correction
    scale = scale.clamp(min=0) if isinstance(scale, Handle) else max(scale, 0)
    x = x - mean
    y = x if weights is None else x * weights
    made = y.matmul((x.conj() if x.dtype.kind == "c" else x).transpose(0, 1)) / scale
    return made.squeeze()


@public(out=False)
def corrcoef(input: Any) -> Any:
    """Correlation coefficients of variables in rows."""
    if len(input.shape) > 2:
        raise RuntimeError("corrcoef(): expected input to have two or fewer dimensions but got an input with "
                           f"{len(input.shape)} dimensions")
    c = cov(input)
    if not c.shape:
        return c / c
    spread = c.diagonal()
    spread = (spread.real if c.dtype.kind == "c" else spread).sqrt()
    c = c / spread.unsqueeze(1) / spread.unsqueeze(0)
    return c if c.dtype.kind == "c" else c.clamp(-1, 1)


# -- norms --------------------------------------------------------------------------------------------------------


_dist, _cdist = _vector_norm.named("DistBackward0"), _vector_norm.named("CdistBackward0")


def norm_over(input: Any, order: float, dims: tuple[int, ...], keepdim: bool, dtype: Any = None, op: Any = _vector_norm) -> Any:
    """A vector norm over dimensions; of complex numbers the norm of their absolute values."""
    if input.dtype.kind == "c":
        input, dtype = input.abs(), None if dtype is None else dtype.to_real()
    if input.dtype.kind not in "f" and dtype is None:
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {input.dtype}")
    return op(input, attrs=(float(order), dims, bool(keepdim), dtype or input.dtype))


@public()
def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """A vector norm of order ``p`` over ``dim``, the Frobenius norm ("fro"), or the nuclear norm ("nuc") of matrices."""
    dims = wrap_dims(dim, len(input.shape))
    if isinstance(p, str):
        if p == "fro":
            return norm_over(input, 2, dims, keepdim, dtype)
        if p == "nuc":
            from .spectra import matrix_norm

            if len(dims) != 2:
                raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dims}")
            return matrix_norm(input, "nuc", dims, keepdim, dtype=dtype)
        raise RuntimeError(f"only valid string values are 'fro' and 'nuc', found: {p}")
    return norm_over(input, 2 if p is None else p, dims, keepdim, dtype)


@public()
def dist(input: Any, other: Any, p: Any = 2) -> Any:
    """The norm of the difference."""
    d = input - other
    return norm_over(d, p, tuple(range(len(d.shape))), False, op=_dist)


#: Modes of ``cdist``, and with how many rows the distances are still differences in each (None: always).
_WITH_PRODUCTS = {"use_mm_for_euclid_dist_if_necessary": 25, "use_mm_for_euclid_dist": 0, "donot_use_mm_for_euclid_dist": None}
_COLUMNS = 16  # of fewer, differences are faster (measured: 3 columns, three times)


@public(method=False, out=False)
@full_precision
def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Any:
    """Distances (*batch, P, R) of every row of ``x1`` (*batch, P, M) from every row of ``x2`` (*batch, R, M).

    Euclidean ones of more than 25 rows and 15 columns come from products, unless ``compute_mode`` is "donot_use_mm_for_euclid_dist": fast,
    but rows that are close for their size lose digits, as in PyTorch.
    """
    for k, x in enumerate((x1, x2), 1):
        if len(x.shape) < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, X{k} got: {len(x.shape)}D")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    if compute_mode not in _WITH_PRODUCTS:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    most = _WITH_PRODUCTS[compute_mode]
    rows = x1.shape[-2], x2.shape[-2]
    columns = x1.shape[-1]
    if p == 2 and most is not None and max(rows) > most and columns >= (_COLUMNS if most else 1) and all(rows) and x1.dtype.kind == "f":
        batch = broadcast_shapes([x1.shape[:-2], x2.shape[:-2]], "cdist")
        x, y = (v.expand((*batch, *v.shape[-2:])).reshape((-1, *v.shape[-2:])) for v in (x1, x2))
        return distances(x, y).reshape((*batch, *rows))
    d = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    return norm_over(d, p, (len(d.shape) - 1,), False, op=_cdist) if d.shape[-1] else d.sum(-1)


@public(inplace=True, composite=True)
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """Slices along ``dim`` scaled down so that their norm is at most ``maxnorm``."""
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    if len(input.shape) < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {len(input.shape)} dimensions")
    d = wrap_dim(dim, len(input.shape))
    sizes = norm_over(input, p, tuple(k for k in range(len(input.shape)) if k != d), True)
    factor = ar.where(sizes > maxnorm, maxnorm / (sizes + 1e-7), 1.0)
    return ar.mul.laid(None).named("RenormBackward0")(input, factor.to(input.dtype))


@public(method=False, out=False)
def gradient(input: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Any, ...]:
    """Derivatives estimated by central differences (one-sided at the ends), one for each of ``dim``."""
    rank = len(input.shape)
    spacing = 1 if spacing is None else spacing
    dims = tuple(range(rank)) if dim is None else wrap_dims(dim, rank)
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    spacings = list(spacing) if isinstance(spacing, (tuple, list)) else [spacing] * len(dims)
    if len(spacings) != len(dims):
        raise RuntimeError(f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to 'dim': got "
                           f"{len(spacings)} for {len(dims)} dimensions")
    return tuple(_derivative(input, s, d, edge_order) for s, d in zip(spacings, dims))


def _derivative(x: Any, spacing: Any, dim: int, edge_order: int) -> Any:
    n = x.shape[dim]
    if n < edge_order + 1:
        raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
    from .shape import cat

    def at(start: int, length: int) -> Any:
        return x.narrow(dim, start, length)

    if isinstance(spacing, Handle) and spacing.shape:
        h = spacing.diff()  # type: ignore[attr-defined]
        shape = tuple(-1 if k == dim else 1 for k in range(len(x.shape)))

        def step(start: int, length: int) -> Any:
            return h.narrow(0, start, length).reshape(shape)
        h1, h2 = (step(0, n - 2), step(1, n - 2)) if n > 2 else (1, 1)
        inside = at(0, n - 2) * (-h2 / (h1 * (h1 + h2))) + at(1, n - 2) * ((h2 - h1) / (h1 * h2)) + at(2, n - 2) * (h1 / (h2 * (h1 + h2)))
        first, last = (step(0, 1), step(1, 1) if n > 2 else None), (step(n - 2, 1), step(n - 3, 1) if n > 2 else None)
    else:
        s = spacing.item() if isinstance(spacing, Handle) else spacing  # type: ignore[attr-defined]
        inside = (at(2, n - 2) - at(0, n - 2)) / (2 * s)
        first, last = (s, s), (s, s)
    if edge_order == 1:
        start, end = (at(1, 1) - at(0, 1)) / first[0], (at(n - 1, 1) - at(n - 2, 1)) / last[0]
    else:
        a, b = first
        start = at(0, 1) * (-(2 * a + b) / (a * (a + b))) + at(1, 1) * ((a + b) / (a * b)) + at(2, 1) * (-a / (b * (a + b)))
        a, b = last
        end = at(n - 1, 1) * ((2 * a + b) / (a * (a + b))) + at(n - 2, 1) * (-(a + b) / (a * b)) + at(n - 3, 1) * (a / (b * (a + b)))
    return cat([start, inside, end], dim)


METHODS["norm"] = norm
