"""Fourier transforms as products with matrices of cosines and sines.

A transform of length n along a dimension is a product with an n x n matrix. Where n is long it is cut in two, n = n1 * n2: with the
position j = j1 * n2 + j2 and the frequency k = k1 + n1 * k2,

    out[k] = sum over j2 of w(n2, j2 * k2) * w(n, j2 * k1) * (sum over j1 of w(n1, j1 * k1) * x[j]),    w(n, a) = exp(-+ 2 pi i a / n)

so the work for each element is with n1 + n2 others. Both parts of a complex value lie along a leading dimension (p in, q out), and a
product sums over it as well: it is one product, whose matrix has four blocks.
"""
from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from rushlight.compile import dtypes as dt
from rushlight.compile.complexes import Transform
from rushlight.compile.dtypes import DType
from rushlight.compile.expr import Expr, cast, e
from rushlight.compile.graph import ContractSpec, Graph, Node

__all__ = ["transform"]

_LONGEST = 64   # factor of a length that is cut
_UNCUT = 128    # prime factor

_LETTERS = "abcdefghilmnorstuvwxyzABCDEFGHILMNORSTUVWXYZ"  # without j, k, p and q


def transform(g: Graph, call: Transform, parts: Sequence[Node]) -> Node | tuple[Node, Node] | None:
    """The result of ``call`` for the parts of its operand, a real node or two parts; None where a length has a large factor."""
    shape, half = parts[0].shape, call.dims[-1]
    lengths = dict(zip(call.dims, call.lengths, strict=True))
    if not parts[0].size or len(shape) >= len(_LETTERS) or any(_cut(n) is None for n in lengths.values()):
        return None
    if any(shape[d] != (n // 2 + 1 if call.kind == "c2r" and d == half else n) for d, n in lengths.items()):
        return None
    work = _Stages(g, call.forward, call.dtype.to_real())
    x = _stacked(g, parts)
    for d in reversed(call.dims) if call.kind == "r2c" else call.dims:
        n, last = lengths[d], d == half
        x = work.along(x, d + 1, n, _scale(n, call.norm, call.forward), call.kind if last else "c2c")
    if call.kind == "c2r":
        return g.reshape(x, x.shape[1:])
    made = [g.reshape(g.slice(x, (q, *[0] * len(shape)), (1, *x.shape[1:])), x.shape[1:]) for q in (0, 1)]
    return made[0], made[1]


def _cut(n: int) -> list[int] | None:
    """Factors of a length, each short enough for a matrix, two alike if two are enough; None if there are none."""
    if n <= _LONGEST:
        return [n]
    n = operator.index(n)  # factors of one length are not another's
    for first in range(math.isqrt(n), 1, -1):
        if n % first == 0 and n // first <= _LONGEST:
            return [first, n // first]
    for first in (*range(_LONGEST, 1, -1), *range(_UNCUT, _LONGEST, -1)):
        if n % first == 0 and (rest := _cut(n // first)) is not None:
            return [first, *rest]
    return [n] if n <= _UNCUT else None


def _scale(n: int, norm: str, forward: bool) -> float:
    return 1 / math.sqrt(n) if norm == "ortho" else 1.0 if (norm == "backward") == forward else 1 / n


def _stacked(g: Graph, parts: Sequence[Node]) -> Node:
    return g.concat([g.reshape(p, (1, *p.shape)) for p in parts], 0)


class _Stages:
    def __init__(self, g: Graph, forward: bool, dtype: DType) -> None:
        self.g, self.forward, self.dtype = g, forward, dtype

    def along(self, x: Node, axis: int, n: int, scale: float, kind: str) -> Node:
        """The transform of stacked parts along one axis, of length n; r2c leaves out what mirrors the rest, c2r fills it in."""
        g, kept = self.g, n // 2 + 1 if kind == "r2c" else n
        factors = _cut(n)
        assert factors is not None
        if len(factors) == 1:
            return self._product(x, axis, n, kept, scale, kind == "c2r", 1 if kind == "c2r" else 2)
        if kind == "c2r":
            x = g.pad(self._doubled(x, axis, n), [0] * len(x.shape), [n - x.shape[axis] if d == axis else 0 for d in range(len(x.shape))])
        first, rest = factors[0], n // factors[0]
        x = g.reshape(x, (*x.shape[:axis], first, rest, *x.shape[axis + 1:]))
        x = self._product(x, axis, first, first, scale, False, 2)
        x = self._turned(x, axis, n)
        reach = rest if kind != "r2c" else (kept - 1) // first + 1  # frequencies k1 + first * k2 below kept
        if len(factors) == 2:
            x = self._product(x, axis + 1, rest, reach, 1.0, False, 1 if kind == "c2r" else 2)
        else:
            x = self.along(x, axis + 1, rest, 1.0, "c2c")
            x = g.slice(x, [0] * len(x.shape), tuple(s if d != axis + 1 else reach for d, s in enumerate(x.shape)))
            if kind == "c2r":
                x = g.slice(x, [0] * len(x.shape), (1, *x.shape[1:]))
        order = list(range(len(x.shape)))
        order[axis], order[axis + 1] = axis + 1, axis
        x = g.permute(x, order)
        x = g.reshape(x, (*x.shape[:axis], first * reach, *x.shape[axis + 2:]))
        return g.slice(x, [0] * len(x.shape), tuple(s if d != axis else kept for d, s in enumerate(x.shape)))

    def _angle(self, a: Expr, n: int) -> Expr:
        """The a-th of 4 n parts of a turn, in radians, a first brought into one turn."""
        return cast(e.mod(a, 4 * n), dt.float64) * (math.pi / (2 * n))

    def _signed(self, a: Expr) -> Expr:
        return -a if self.forward else a

    def _product(self, x: Node, axis: int, n: int, kept: int, scale: float, mirrored: bool, out: int) -> Node:
        """With the matrix of length n, whose rows are the positions (or, mirrored, the frequencies of the first half, of which all but
        the first and the middle one stand for two) and whose columns are the ``kept`` first results; ``out`` parts are wanted."""
        p, q, j, k = (e.index(a) for a in range(4))
        value = e.cos(self._angle(4 * self._signed(j * k) + n * (p - q), n)) * scale
        if mirrored:
            alone = e.eq(j, 0) | e.eq(2 * j, n)
            value = e.where(alone, value, 2 * value)
        matrix = self.g.pointwise(cast(value, self.dtype), shape=(x.shape[0], out, x.shape[axis], kept))
        letters = ["p", *_LETTERS[:len(x.shape) - 1]]
        letters[axis] = "j"
        result = ["q" if c == "p" else "k" if c == "j" else c for c in letters]
        sizes = {**dict(zip(letters, x.shape, strict=True)), "q": out, "k": kept}
        spec = ContractSpec(tuple(letters), ("p", "q", "j", "k"), tuple(result), tuple(sorted(sizes.items())))
        return self.g.contract(x, matrix, spec)

    def _turned(self, x: Node, axis: int, n: int) -> Node:
        """Times exp(-+ 2 pi i k1 j2 / n), k1 along ``axis`` and j2 along the next."""
        g = self.g
        re, im = (g.slice(x, (q, *[0] * (len(x.shape) - 1)), (1, *x.shape[1:])) for q in (0, 1))
        a = 4 * self._signed(e.index(0) * e.index(1))
        places = x.shape[axis:axis + 2]
        shape = (1,) * axis + places + (1,) * (len(x.shape) - axis - 2)
        cos, sin = (g.expand(g.reshape(g.pointwise(cast(f(self._angle(a, n)), self.dtype), shape=places), shape), re.shape)
                    for f in (e.cos, e.sin))
        return g.concat([g.map(lambda e, a, b, c, s: a * c - b * s, re, im, cos, sin),
                         g.map(lambda e, a, b, c, s: a * s + b * c, re, im, cos, sin)], 0)

    def _doubled(self, x: Node, axis: int, n: int) -> Node:
        """The first half of a spectrum, each frequency counted as often as it occurs."""
        j = e.index(axis)
        often = e.where(e.eq(j, 0) | e.eq(2 * j, n), e.const(1.0, self.dtype), e.const(2.0, self.dtype))
        return self.g.map(lambda e, x, c: x * c, x, self.g.pointwise(often, shape=x.shape))
