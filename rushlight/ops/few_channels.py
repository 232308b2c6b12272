"""Convolutions with a few output channels, as products that fill vectors.

In the plain contraction vectors lie along output channels, or packed windows are many times their tensor. Where there are one to
``FEW`` output channels, each position of the input is multiplied with all taps of the filters instead, a matrix product of
(output channels × taps) columns, and each output adds up the products that belong to it, a tap each:

    out[o, t] = sum over u of z[o, u, (t - dilation u + padding) / stride],    z[o, u, i] = sum over c of w[c, o, u] x[c, i]

That is the transposed convolution, of any stride, and so the gradient of an input with few channels; with the filters turned round
it is the convolution of stride 1. There are as many multiplications as in the plain sum, and ``z`` is what they cost beside. The gradient
of filters for few outputs takes windows of the output's gradient, which has few channels, not of the input, which has many.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

from ..compile.dtypes import DType
from ..compile.graph import ContractSpec, Graph, Node, Window
from .windows import Windows, spread_back, windows

__all__ = ["convolved", "pays", "transposed", "weight_gradient"]

Shape = tuple[int, ...]

_SPACE, _KERNEL = "xyz", "uvw"
#: Output channels that are few. (Measured on Granite Rapids, whole steps of nets with one such layer: 1.1 to 1.7 times as fast with up
#: to 8 channels, alone up to 20 times; with 12 as fast, with 16 slower, since vectors of channels are then full.)
FEW = 8
_FEWEST_INPUTS = 4
_MOST_GROWTH = 8


def pays(inputs: int, outputs: int, kernel: Shape, groups: int) -> bool:
    """Whether a convolution of so many channels takes these forms: filters of several taps, enough inputs that the product is more than
    the sum over taps, and not so many taps that ``z`` is much larger than the input."""
    taps = math.prod(kernel)
    return groups == 1 and outputs <= FEW and inputs >= _FEWEST_INPUTS and 1 < taps and outputs * taps <= _MOST_GROWTH * inputs


def transposed(g: Graph, x: Node, w: Node, size: Shape, stride: Shape, padding: Shape, dilation: Shape, dtype: DType) -> Node | None:
    """The transposed convolution of x (N, C, *space) with w (C, O, *kernel) as (N, O, *size), in ``dtype``; None where the windows over
    ``size`` are not the positions of x."""
    places = windows(size, w.shape[2:], stride, padding, dilation)
    if places.out != x.shape[2:]:
        return None
    return _product_and_sum(g, x, w, places, ("c", "o"), dtype)


def convolved(g: Graph, x: Node, w: Node, size: Shape, padding: Shape, dilation: Shape, dtype: DType) -> Node | None:
    """The convolution of stride 1 of x (N, C, *space) with w (O, C, *kernel) as (N, O, *size), in ``dtype``; None with a padding that
    the filter does not reach over."""
    kernel = w.shape[2:]
    around = tuple([d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding)])
    if min(around) < 0:
        return None
    return _product_and_sum(g, x, _turned(g, w), windows(size, kernel, (1,) * len(size), around, dilation), ("o", "c"), dtype)


def _product_and_sum(g: Graph, x: Node, w: Node, places: Windows, channels: tuple[str, str], dtype: DType) -> Node:
    nd = places.nd
    space, kernel = tuple(_SPACE[:nd]), tuple(_KERNEL[:nd])
    spec = _spec(("n", "c", *space), (*channels, *kernel), ("n", "o", *kernel, *space), x, w)
    z = g.contract(x, w, spec, dtype.compute)
    parts = g.permute(z, [0, 1, *range(2 + nd, 2 + 2 * nd), *range(2, 2 + nd)])
    return g.cast(spread_back(g, parts, places), dtype)


def weight_gradient(g: Graph, x: Node, grad: Node, kernel: Shape, padding: Shape, dilation: Shape) -> Node | None:
    """The gradient (O, C, *kernel) of the filters of a convolution of stride 1; None as for ``convolved``."""
    nd = len(kernel)
    around = tuple([d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding)])
    if min(around) < 0:
        return None
    space, taps = tuple(_SPACE[:nd]), tuple(_KERNEL[:nd])
    over = tuple([Window(a, u, 1, d, p) for a, u, d, p in zip(space, taps, dilation, around)])
    sizes = {"n": x.shape[0], "c": x.shape[1], "o": grad.shape[1], **dict(zip(space, x.shape[2:])), **dict(zip(taps, kernel))}
    spec = ContractSpec(("n", "c", *space), ("n", "o", *over), ("o", "c", *taps), tuple(sorted(sizes.items())))
    return _turned(g, g.contract(x, grad, spec))


def _spec(a: Sequence[str], b: Sequence[str], out: Sequence[str], x: Node, y: Node) -> ContractSpec:
    sizes = {**dict(zip(a, x.shape)), **dict(zip(b, y.shape))}
    return ContractSpec(tuple(a), tuple(b), tuple(out), tuple(sorted(sizes.items())))


def _turned(g: Graph, w: Node) -> Node:
    """Filters read backwards."""
    kernel = w.shape[2:]
    return g.slice(w, (0, 0, *[k - 1 for k in kernel]), w.shape, (1, 1, *[-1] * len(kernel)))
