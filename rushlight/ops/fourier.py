"""Discrete Fourier transforms. Their gradients are transforms again."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compile.complexes import Transform
from ..compile.graph import Graph, Node
from ..record.meta import Meta, contiguous_strides, meta_of
from .layouts import in_order_meta
from .structured import Structured

__all__ = ["c2c", "r2c", "c2r"]

# attrs: (dimensions, norm: "backward", "forward" or "ortho", whether forward, ...). NumPy computes in double precision
# for float64 and single for float32.


def _flip(norm: str) -> str:
    """The norm under which the other direction is the adjoint."""
    return {"backward": "forward", "forward": "backward", "ortho": "ortho"}[norm]


def _lower(kind: str) -> Any:
    def lower(g: Graph, inputs: Sequence[Node], attrs: tuple, outs: Sequence[Meta]) -> Node:
        dims, norm, *more = attrs
        (x,) = inputs
        forward = more[0] if kind == "c2c" else kind == "r2c"
        lengths = tuple(more[0] if kind == "c2r" and d == dims[-1] else x.shape[d] for d in dims)
        return g.native(Transform(kind, dims, norm, forward, outs[0].shape, outs[0].dtype, lengths), x)[0]
    return lower


def _laid(m: Meta, out: Meta, sorted_dims: Sequence[int], last: Sequence[int]) -> Meta:
    """As PyTorch's transforms fill their memory: the other dimensions in the order in which they lie in the input, outermost, then those
    of the transform, the first of which are sorted, too."""
    strides = m.strides or contiguous_strides(m.shape)
    outer = [d for d in range(len(m.shape)) if d not in sorted_dims and d not in last]
    order = (*sorted(outer, key=lambda d: -strides[d]), *sorted(sorted_dims, key=lambda d: -strides[d]), *last)
    return in_order_meta(out, order) if order != tuple(range(len(order))) else out


c2c: Structured = Structured(
    "_fft_c2c", meta=lambda metas, dims, norm, forward: _laid(metas[0], metas[0].plain, dims, ()), lower=_lower("c2c"), saves=((), False),
    grad=lambda ctx, g: c2c(g, attrs=(ctx.attrs[0], _flip(ctx.attrs[1]), not ctx.attrs[2])))


def _r2c_meta(metas: Sequence[Meta], dims: tuple[int, ...], norm: str) -> Meta:
    m = metas[0]
    shape = tuple(n // 2 + 1 if d == dims[-1] else n for d, n in enumerate(m.shape))
    return _laid(m, meta_of(shape, m.dtype.to_complex(), m.device), dims[:-1], dims[-1:])


def _r2c_grad(ctx: Any, g: Any) -> Any:
    """The missing half of the spectrum is not a result, so its gradient is zero."""
    dims, norm = ctx.attrs
    shape = ctx.metas[0].shape
    d = dims[-1]
    missing = shape[d] - g.shape[d]
    if missing:
        g = g.cat_with(g.new_zeros(tuple(missing if k == d else n for k, n in enumerate(g.shape))), d)
    return c2c(g, attrs=(dims, _flip(norm), False)).real.clone()


r2c = Structured("_fft_r2c", meta=_r2c_meta, grad=_r2c_grad, saves=((), False),
                 lower=_lower("r2c"))


def _c2r_meta(metas: Sequence[Meta], dims: tuple[int, ...], norm: str, last: int) -> Meta:
    m = metas[0]
    shape = tuple(last if d == dims[-1] else n for d, n in enumerate(m.shape))
    if len(dims) > 1:  # in two steps, of which the last is along one dimension
        m = _laid(m, m.plain, dims[:-1], ())
    return _laid(m, meta_of(shape, m.dtype.to_real(), m.device), (), dims[-1:])


def _c2r_grad(ctx: Any, g: Any) -> Any:
    """Every place of the half spectrum but the first (and the middle one of an even length) stands for two."""
    dims, norm, last = ctx.attrs
    made = r2c(g, attrs=(dims, _flip(norm)))
    d = dims[-1]
    double = (last - 1) // 2
    if double <= 0:
        return made
    parts = [made.narrow(d, 0, 1), made.narrow(d, 1, double) * 2]
    rest = made.shape[d] - 1 - double
    if rest:
        parts.append(made.narrow(d, 1 + double, rest))
    total = parts[0]
    for part in parts[1:]:
        total = total.cat_with(part, d)
    return total


c2r = Structured("_fft_c2r", meta=_c2r_meta, lower=_lower("c2r"), grad=_c2r_grad, saves=((), False))
