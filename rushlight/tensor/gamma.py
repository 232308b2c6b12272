"""Gamma functions and their relatives; the rest of ``rushlight.special`` that tensors have as methods."""
from __future__ import annotations

import math
from typing import Any

from ..autograd.apply import value_of
from ..autograd.handle import Handle
from ..autograd.titles import entitle_written, now, titled
from ..ops import special
from ..ops.layouts import rows
from ..ops.promotion import default_dtype, result_type, scalar_dtype
from .registry import METHODS, public

__all__ = ["floating", "floating_pair"]


def floating(x: Any, name: str) -> Any:
    """A floating tensor: integers become the default dtype."""
    if not isinstance(x, Handle):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}")
    return x if x.dtype.kind in "fc" else x.to(default_dtype())  # type: ignore[attr-defined]


def floating_pair(a: Any, b: Any, name: str) -> tuple[Any, Any]:
    """Two operands (one may be a number) as tensors of their common floating dtype."""
    if not isinstance(a, Handle) and not isinstance(b, Handle):
        raise TypeError(f"{name}(): one argument must be a Tensor")
    d = result_type([value_of(x).meta for x in (a, b) if isinstance(x, Handle)],
                    [scalar_dtype(x) for x in (a, b) if not isinstance(x, Handle)])
    d = d if d.kind in "fc" else default_dtype()
    like = a if isinstance(a, Handle) else b
    return tuple(x.to(d) if isinstance(x, Handle) else like.detach().new_full((), x, dtype=d) for x in (a, b))  # type: ignore[return-value]


@public(method=False, name="polygamma")
def polygamma(n: int, input: Any) -> Any:
    """The n-th derivative of the digamma function."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return special.polygamma(floating(input, "polygamma"), attrs=(int(n),))


METHODS["polygamma"] = lambda self, n: polygamma(n, self)


def _polygamma_(self: Any, n: int) -> Any:
    from .registry import assign

    begun = now()
    assign(self, polygamma(n, self), "polygamma_")
    entitle_written(self, "PolygammaBackward1", begun)
    return self


METHODS["polygamma_"] = _polygamma_


@public(inplace=True, composite=True)
@titled("MvlgammaBackward0")
def mvlgamma(input: Any, p: int) -> Any:
    """The logarithm of the multivariate gamma function of dimension p.

    Raises:
        RuntimeError: p is not positive, or an element is not above (p - 1) / 2.
    """
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    x = floating(input, "mvlgamma")
    made = x.lgamma() + 0.25 * p * (p - 1) * math.log(math.pi)
    for k in range(1, p):
        made = made + (x - 0.5 * k).lgamma()
    return rows(made)


@public(inplace=True)
def igamma(input: Any, other: Any) -> Any:
    """The regularised lower incomplete gamma function."""
    if not (isinstance(input, Handle) and isinstance(other, Handle)):
        raise TypeError("igamma(): arguments 'input' and 'other' must be Tensors")
    return special.igamma(*floating_pair(input, other, "igamma"))


@public(inplace=True)
def igammac(input: Any, other: Any) -> Any:
    """The regularised upper incomplete gamma function."""
    if not (isinstance(input, Handle) and isinstance(other, Handle)):
        raise TypeError("igammac(): arguments 'input' and 'other' must be Tensors")
    return special.igammac(*floating_pair(input, other, "igammac"))


