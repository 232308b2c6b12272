"""Attention as two native calls: softmax(scale · q kᵀ + mask) v, and the gradients of q, k and v.

Inputs are q (B, H, L, E), k (B, G, S, E), v (B, G, S, V), with G dividing H: query head h reads key head h // (H / G). The mask
is added to the scores; it has the shape (B, H, L, S), usually as a view that repeats something smaller. ``causal``: query i
sees the keys up to i. A row that sees nothing gives zeros.

What people write out by hand (``passes/attend.py``) differs in two things. With ``fill`` the mask is zero or that number, which then
takes the score's place. And where ``strict``, a row that sees nothing is NaN, as a softmax of nothing but -inf is.

Keys that no query of a block sees are not looked at, whether ``causal`` says so or the mask does: a NaN of theirs does not spread.

With ``drop`` each weight is dropped with that probability, the others grow by 1 / (1 - drop). Which ones, a hash of a weight's
position and of a seed says (``randoms.py``), here as in the kernels: nothing of it is stored.

The forward gives the result, and two numbers for each row, from which the backward recomputes the weights piece by piece: its
largest score and the reciprocal of the sum of its exponentials beside that. One number, the logarithm of the whole sum, would
not do: of rows that lie far from zero, at -1e9 say, it keeps the largest score alone. No L × S matrix is ever stored.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from .dtypes import DType
from .graph import Graph, Node
from .placed import Output, PlacedCall
from .randoms import dropout_limit, dropped_bits

__all__ = ["MAX_HEAD", "Attention", "AttentionBackward", "attend", "attend_backward"]

Call = TypeVar("Call", bound="_Attention")

#: The longest head (E and V) that the calls take: a kernel keeps some of it in the first-level cache for each query.
MAX_HEAD = 256


@dataclass(frozen=True)
class _Attention(PlacedCall):
    sizes: tuple[int, int, int, int, int, int, int]  # B, H, G, L, S, E, V
    scale: float
    causal: bool
    masked: bool
    drop: float = 0.0  # then the seed is the last input
    fill: float | None = None
    strict: bool = False

    def in_place(self, k: int, strides: tuple[int, ...]) -> bool:
        """Heads are read along vectors; the mask is looked up number by number."""
        return not strides or strides[-1] == 1 or self.masked and k == self.mask_input

    def writes(self, output: Output) -> bool:
        """Heads are written along vectors, too, and the rows' numbers query beside query."""
        return output.shape[-1] == 1 or output.strides[-1] == 1

    def wide(self: Call) -> Call:
        return replace(self, arrays=tuple((shape, dtype.compute) for shape, dtype in self.arrays))

    @property
    def flops(self) -> int:
        raise NotImplementedError

    @property
    def work(self) -> int:
        return self.flops // 2

    @property
    def mask_input(self) -> int:
        """The number of the mask among the inputs, where there is one."""
        return 3

    def _split(self, rest: Sequence[np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | float]:
        """The mask, and what each weight is multiplied by."""
        mask = rest[0] if self.masked else None
        if not self.drop:
            return mask, 1.0
        b, h, g, length, source, _, _ = self.sizes
        kept = dropped_bits(int(rest[-1]), b * h * length * source) >= dropout_limit(self.drop)
        return mask, kept.reshape(b, g, h // g, length, source) / (1 - self.drop)

    def _scores(self, q: np.ndarray, k: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """(B, G, H / G, L, S), rounded as in the kernels: beside a mask of -1e9 nothing is left of float32 scores."""
        compute = self.arrays[0][1].compute.numpy
        scores = _einsum("bghle,bgse->bghls", q, k) * self.scale
        if mask is not None:
            numbers, scores = self._grouped(mask), scores.astype(compute)
            scores = scores + numbers if self.fill is None else np.where(numbers == 0, scores, numbers)
        scores = scores.astype(compute).astype(_wide(scores))
        if self.causal:
            _, _, _, length, source, _, _ = self.sizes
            scores = np.where(np.tril(np.ones((length, source), bool)), scores, -np.inf)
        return scores

    def _grouped(self, x: np.ndarray) -> np.ndarray:
        """Query heads by the key head that they share, in the precision of the meaning."""
        b, h, g, *_ = self.sizes
        return x.astype(_wide(x)).reshape(b, g, h // g, *x.shape[2:])

    @property
    def visible(self) -> int:
        """Pairs of a query and a key that it sees, for one head."""
        _, _, _, length, source, _, _ = self.sizes
        if not self.causal:
            return length * source
        short = min(length, source)
        return short * (short + 1) // 2 + (length - short) * source


def _einsum(equation: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Small ones without BLAS, whose order of summation may follow its number of threads."""
    return np.einsum(equation, a, b, optimize=a.size * b.size > 1 << 28)


def _wide(x: np.ndarray) -> Any:
    return np.dtype(np.float64) if x.dtype.kind in "fV" else x.dtype  # V: bfloat16


@dataclass(frozen=True)
class Attention(_Attention):
    """Outputs: the result (B, H, L, V); of each row (B, H, 2, L) the largest score, and one over the sum of the exponentials of what
    the scores differ from it. Zeros where a row sees nothing."""

    name = "attention"

    @property
    def flops(self) -> int:
        b, h, _, _, _, e, v = self.sizes
        return 2 * b * h * self.visible * (e + v)

    def values(self, *inputs: np.ndarray) -> Sequence[Any]:
        q, k, v, *rest = inputs
        mask, factor = self._split(rest)
        b, h, _, length, _, _, width = self.sizes
        k, v = k.astype(_wide(k)), v.astype(_wide(v))
        scores = self._scores(self._grouped(q), k, mask)
        most = scores.max(-1, keepdims=True)
        most = np.where(most == -np.inf, 0, most)
        weights = np.exp(scores - most)
        total = weights.sum(-1, keepdims=True)
        nothing = np.nan if self.strict else 0
        share = np.where(total == 0, nothing, 1 / np.where(total == 0, 1, total))
        out = _einsum("bghls,bgsv->bghlv", weights * share * factor, v)
        rows = np.stack([np.where(total == 0, nothing, most), share], 3)  # (B, G, H / G, 2, L, 1)
        return out.reshape(b, h, length, width), rows.reshape(b, h, 2, length)


@dataclass(frozen=True)
class AttentionBackward(_Attention):
    """Inputs: q, k, v, the result, its gradient, the rows' numbers, [mask]. Outputs: the gradients of q, k and v."""

    name = "attention backward"

    @property
    def mask_input(self) -> int:
        return 6

    @property
    def flops(self) -> int:
        b, h, _, _, _, e, v = self.sizes
        return 2 * b * h * self.visible * (3 * e + 2 * v)

    def values(self, *inputs: np.ndarray) -> Sequence[Any]:
        q, k, v, out, grad, rows, *rest = inputs
        mask, factor = self._split(rest)
        k, v = k.astype(_wide(k)), v.astype(_wide(v))
        shape = q.shape
        q, out, grad, rows = (self._grouped(x) for x in (q, out, grad, rows))
        most, share = rows[:, :, :, 0, :, None], rows[:, :, :, 1, :, None]
        weights = np.exp(np.minimum(self._scores(q, k, mask) - most, 0)) * share
        to_v = _einsum("bghls,bghlv->bgsv", weights * factor, grad)
        inner = (grad * out).sum(-1, keepdims=True)
        to_scores = weights * (_einsum("bghlv,bgsv->bghls", grad, v) * factor - inner) * self.scale
        if mask is not None and self.fill is not None:
            to_scores = np.where(self._grouped(mask) == 0, to_scores, 0)
        to_q = _einsum("bghls,bgse->bghle", to_scores, k)
        to_k = _einsum("bghls,bghle->bgse", to_scores, q)
        return to_q.reshape(shape), to_k, to_v


def _sizes(q: Node, k: Node, v: Node) -> tuple[int, int, int, int, int, int, int]:
    b, h, length, e = q.shape
    return b, h, k.shape[1], length, k.shape[2], e, v.shape[3]


def _heads_inside(shape: Sequence[int], result: int) -> Output:
    """An output (B, H, L, E) that lies as (B, L, H, E): what becomes of it next is nearly always (B, L, H · E)."""
    b, h, length, e = shape
    return Output((b, h, length, e), result, 0, (length * h * e, e, h * e, 1))


def _turned(shape: Sequence[int]) -> tuple[int, int, int, int]:
    b, h, length, e = shape
    return b, length, h, e


def attend(g: Graph, q: Node, k: Node, v: Node, mask: Node | None, scale: float, causal: bool, drop: float = 0.0,
           seed: Node | None = None, fill: float | None = None, strict: bool = False) -> tuple[Node, Node]:
    """The result (B, H, L, V) and what the backward wants to know of each row (B, H, 2, L)."""
    sizes = _sizes(q, k, v)
    b, h, _, length, _, _, width = sizes
    shape = (b, h, length, width)
    rows = (b, h, 2, length)
    call = Attention(((_turned(shape), q.dtype), (rows, q.dtype.compute)), (_heads_inside(shape, 0), Output.alone(rows, 1)), sizes, scale,
                     causal, mask is not None, drop, fill, strict)
    out, numbers = g.native(call, *(x for x in (q, k, v, mask, seed) if x is not None))
    return g.permute(out, (0, 2, 1, 3)), numbers


def attend_backward(g: Graph, q: Node, k: Node, v: Node, out: Node, grad: Node, rows: Node, mask: Node | None,
                    scale: float, causal: bool, drop: float = 0.0, seed: Node | None = None, fill: float | None = None,
                    strict: bool = False) -> tuple[Node, Node, Node]:
    """The gradients of q, k and v."""
    shapes = (q.shape, k.shape, v.shape)
    results: tuple[tuple[tuple[int, ...], DType], ...] = tuple((_turned(s), q.dtype) for s in shapes)
    call = AttentionBackward(results, tuple(_heads_inside(s, i) for i, s in enumerate(shapes)), _sizes(q, k, v), scale, causal,
                             mask is not None, drop, fill, strict)
    inputs = (q, k, v, out, grad, rows, mask, seed)
    made = g.native(call, *(x for x in inputs if x is not None))
    to_q, to_k, to_v = (g.permute(x, (0, 2, 1, 3)) for x in made)
    return to_q, to_k, to_v
