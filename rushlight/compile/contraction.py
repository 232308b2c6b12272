"""Contraction: the compiler's form of matmul, convolution (all three passes) and einsum.

    C[b, m, n] = epilogue( sum over k of A[b, m, k] * B[b, k, n] )

``b``, ``m``, ``n`` and ``k`` each stand for a short list of *dimensions*; each operand has one stride per dimension.
A convolution is a plain contraction on these terms: with x channels-last and padded, m = (image, row, column) moves x
by (stride_n, s * stride_h, s * stride_w), k = (kernel row, kernel column, channel) moves it by (d * stride_h,
d * stride_w, 1): no im2col. The weight gradient has m = (kernel row, kernel column, channel) and k = (image, row,
column) on the same two tensors. Extents and strides are run-time numbers.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from .dtypes import DType
from .expr import Expr

__all__ = ["Dim", "Extra", "Contraction"]


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
class Contraction:
    """What is computed; the back end decides tiles, packing and the split of k.

    ``epilogue``: outputs as expressions; ``input(0)`` is the finished sum (in ``accumulate`` type), ``input(1 + i)`` the
    i-th *read* extra. ``stores[0]`` goes to C, ``stores[1:]`` to the written extras in order. Default: the sum, cast to C.

    ``constant``: B is a leaf that the program only reads, and only here, as the weights of an inference: what is made of it alone
    may be kept for other runs.
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
