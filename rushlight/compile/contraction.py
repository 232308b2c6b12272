"""Contraction: the compiler's form of matmul, convolution (all three passes) and einsum.

    C[b, m, n] = epilogue( sum over k of A[b, m, k] * B[b, k, n] )

``b``, ``m``, ``n`` and ``k`` each stand for a short list of *dimensions*; each operand has one stride per dimension.
A convolution is a plain contraction on these terms: with x channels-last and padded, m = (image, row, column) moves x
by (stride_n, s * stride_h, s * stride_w), k = (kernel row, kernel column, channel) moves it by (d * stride_h,
d * stride_w, 1): no im2col. The weight gradient has m = (kernel row, kernel column, channel) and k = (image, row,
column) on the same two tensors. Extents and strides are run-time numbers.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from .dtypes import DType
from .expr import Expr

__all__ = ["Dim", "Extra", "Sum", "Contraction"]


@dataclass(frozen=True)
class Dim:
    """One dimension of a role: its extent and the strides (in elements) of A, B and C along it (0: does not move)."""

    extent: int
    a: int = 0
    b: int = 0
    c: int = 0


@dataclass(frozen=True)
class Extra:
    """A further operand of the epilogue, addressed by the output's position: strides for batch, m and n dims in order.

    ``written``: an additional output (the pre-activation of a fused activation, say), else it is read.
    """

    dtype: DType
    strides: tuple[int, ...]
    written: bool = False


@dataclass(frozen=True)
class Sum:
    """A reduction of the epilogue over all rows (the m dimensions): of the formula ``expr``, its sum ("add") or the sum of squared
    distances from its mean ("deviations"), in the ``accumulate`` type.

    Its results lie side by side, one for each position of the batch and n dimensions, of which one is longer than 1.
    """

    op: str
    expr: Expr


@dataclass(frozen=True)
class Contraction:
    """What is computed; the back end decides tiles, packing and the split of k.

    ``epilogue``: outputs as expressions; ``input(0)`` is the finished sum (in ``accumulate`` type), ``input(1 + i)`` the
    i-th *read* extra. ``stores[0]`` goes to C, ``stores[1:]`` to the written extras in order. Default: the sum, cast to C.

    ``sums``: results of ``sums[i]`` go to operand ``len(extras) + i`` among the extras.

    ``constant``: B is a leaf that the program only reads, and only here, as the weights of an inference: what is made of it alone
    may be kept for other runs.

    Dimensions may come in any order and in pieces: ``merged`` is the form from which kernels are planned.
    """

    batch: tuple[Dim, ...]
    m: tuple[Dim, ...]
    n: tuple[Dim, ...]
    k: tuple[Dim, ...]
    a: DType
    b: DType
    c: DType
    accumulate: DType
    extras: tuple[Extra, ...] = ()
    stores: tuple[Expr, ...] = field(default=())
    constant: bool = False
    sums: tuple[Sum, ...] = ()

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * math.prod([dim.extent for role in (self.batch, self.m, self.n, self.k) for dim in role])

    def merged(self) -> Contraction:
        """The same with outer dimensions first, without those of extent 1, and with neighbours as one whose strides compose
        everywhere."""
        made, strides, place = [], [], 0
        for role, by_c in ((self.batch, True), (self.m, True), (self.n, True), (self.k, False)):
            along = [tuple([x.strides[place + i] for x in self.extras]) if by_c else () for i in range(len(role))]
            found = _merged([(dim, steps) for dim, steps in zip(role, along) if dim.extent != 1], by_c)
            made.append(tuple([dim for dim, _ in found]))
            if by_c:
                strides += [steps for _, steps in found]
                place += len(role)
        extras = tuple([replace(x, strides=tuple([steps[i] for steps in strides])) for i, x in enumerate(self.extras)])
        batch, m, n, k = made
        return replace(self, batch=batch, m=m, n=n, k=k, extras=extras)


def _merged(dims: list[_Steps], by_c: bool) -> list[_Steps]:
    dims.sort(key=lambda x: -abs(x[0].c) if by_c and x[0].c else -max(abs(x[0].a), abs(x[0].b)))
    out: list[_Steps] = []
    for dim, steps in dims:
        if out:
            last, before = out[-1]
            n = dim.extent
            if (last.a, last.b, last.c) == (dim.a * n, dim.b * n, dim.c * n) and before == tuple([s * n for s in steps]):
                out[-1] = replace(dim, extent=last.extent * n), steps
                continue
        out.append((dim, steps))
    return out


_Steps = tuple[Dim, tuple[int, ...]]  # a dimension, and the strides of the extras along it
