"""Library calls on values: searching, histograms, integers' common divisors, binary exponents."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..compile import dtypes as dt
from ..record.meta import Meta, meta_of
from .layouts import iterated
from .ordering import comparable
from .pointwise import broadcast_shapes
from .promotion import promote_types
from .structured import Structured

__all__ = ["searchsorted", "gcd", "lcm", "frexp"]


def _search(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> np.ndarray:
    (right,) = attrs
    edges, values = comparable(x[0]), comparable(x[1])
    side: Any = "right" if right else "left"
    if edges.ndim == 1:
        return np.searchsorted(edges, values, side)
    if not values.size:
        return np.zeros(values.shape, np.int64)
    rows = edges.reshape(-1, edges.shape[-1])
    wanted = values.reshape(len(rows), -1) if len(rows) else values.reshape(0, values.shape[-1])
    found = [np.searchsorted(a, b, side) for a, b in zip(rows, wanted)]
    return np.array(found, np.int64).reshape(values.shape)


# inputs (sorted edges, values), attrs (right,): rows of edges belong to rows of values unless edges is a vector
searchsorted = Structured("searchsorted", meta=lambda metas, right: meta_of(metas[1].shape, dt.int64, metas[1].device),
                          reference=_search)


def _integers(name: str, function: Callable[..., Any]) -> Structured:
    def meta(metas: Sequence[Meta]) -> Meta:
        d = promote_types(metas[0].dtype, metas[1].dtype)
        if d.kind not in "ui":
            raise NotImplementedError(f'"{name}" not implemented for {d.name}: integer tensors are expected')
        return meta_of(broadcast_shapes([m.shape for m in metas], name), d, metas[0].device)
    return Structured(name, meta=meta, lays=iterated, reference=lambda x, attrs, outs: function(
        *(a.astype(outs[0].dtype.numpy) for a in x)))


gcd, lcm = _integers("gcd", np.gcd), _integers("lcm", np.lcm)


def _frexp(x: Sequence[np.ndarray], attrs: tuple, outs: Sequence[Meta]) -> tuple[np.ndarray, np.ndarray]:
    mantissa, exponent = np.frexp(comparable(x[0]))
    return mantissa.astype(outs[0].dtype.numpy), exponent.astype(np.int32)


def _frexp_grad(ctx: Any, g: Any, _: Any) -> Any:
    return None if g is None else g * (-ctx.outputs[1].to(g.dtype)).exp2()


frexp = Structured("frexp", meta=lambda metas: (metas[0].plain, meta_of(metas[0].shape, dt.int32, metas[0].device)),
                   reference=_frexp, grad=_frexp_grad, lays=iterated)
