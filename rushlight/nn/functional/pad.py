"""Padding.

Example:
    >>> pad(rushlight.tensor([[1.0, 2.0, 3.0]]), (1, 1), mode="reflect")
    tensor([[2., 1., 2., 3., 2.]])
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...autograd.autocast import full_precision
from ...autograd.titles import titled
from ...ops.basic import cat, flip, pad_constant
from ...ops.views import slice_

__all__ = ["pad"]


def _title(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> str | None:
    if mode == "circular":
        return "torch::autograd::CopySlices"
    return None if mode == "constant" else f"{'Reflection' if mode == 'reflect' else 'Replication'}Pad{len(pad) // 2}DBackward0"


@titled(_title)
def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Grow (or with negative numbers cut) the last dimensions.

    Args:
        pad: (before, after) for the last dimension, then for the one before it, and so on.
        mode: "constant" (filled with ``value``, 0 by default), "reflect", "replicate" or "circular".

    Raises:
        RuntimeError: an odd number of sizes, too many, or more than the content allows.
        NotImplementedError: a mode other than constant with sizes for other than the 1 to 3 spatial dimensions.
    """
    sizes = tuple(int(p) for p in pad)
    shape = input._value.meta.shape
    rank, n = len(shape), len(sizes) // 2
    if len(sizes) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got {list(sizes)}")
    if n > rank:
        raise RuntimeError(f"Padding length should be less than or equal to two times the input dimension but got padding length "
                           f"{len(sizes)} and input of dimension {rank}")
    pairs = [(sizes[2 * k], sizes[2 * k + 1]) for k in range(n)]  # last dimension first
    if mode == "constant":
        low = tuple([0] * (rank - n) + [lo for lo, _ in reversed(pairs)])
        high = tuple([0] * (rank - n) + [hi for _, hi in reversed(pairs)])
        if not any(sizes):
            return input.clone()
        return pad_constant(input, attrs=(low, high, _number(value, input)))
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode not in _MODES:
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if rank not in (n + 1, n + 2) or n not in (1, 2, 3):
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    if any(size == 0 for size in shape[1:]):
        raise RuntimeError(f"Expected {n + 1}D or {n + 2}D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions "
                           f"for input, but got: {list(shape)}")
    for k, (lo, hi) in enumerate(pairs):
        dim = rank - 1 - k
        length = shape[dim]
        limit = length - 1 if mode == "reflect" else length
        if mode != "replicate" and max(lo, hi) > limit:
            if mode == "reflect":
                raise RuntimeError(f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding "
                                   f"({lo}, {hi}) at dimension {dim} of input {list(shape)}")
            raise RuntimeError(f"Padding value causes wrapping around more than once: ({lo}, {hi}) at dimension {dim} of input "
                               f"{list(shape)}")
        if length + lo + hi < 1:
            raise RuntimeError(f"input (size {list(shape)}) is too small: padding ({lo}, {hi}) gives an empty or negative size at "
                               f"dimension {dim}")
    return (_grown_wide if mode == "replicate" or mode == "reflect" and n < 3 else _grown)(input, pairs, mode)


def _grown(input: Any, pairs: Sequence[tuple[int, int]], mode: str) -> Any:
    rank = input.ndim
    for k, (lo, hi) in enumerate(pairs):
        if lo or hi:
            input = _grow(input, rank - 1 - k, lo, hi, mode)
    return input if any(lo or hi for lo, hi in pairs) else input.clone()


_grown_wide = full_precision(_grown)


def _number(value: Any, like: Any) -> Any:
    if value is None:
        return 0.0 if like.dtype.kind == "f" else 0
    return bool(value) if like.dtype.kind == "b" else int(value) if like.dtype.kind in "iu" else value


def _part(x: Any, dim: int, start: int, length: int) -> Any:
    return slice_(x, dim, start, start + length, 1)


def _reflect(x: Any, dim: int, n: int, at_end: bool) -> Any:
    size = x.shape[dim]
    return flip(_part(x, dim, size - 1 - n, n) if at_end else _part(x, dim, 1, n), attrs=((dim,),))


def _replicate(x: Any, dim: int, n: int, at_end: bool) -> Any:
    edge = _part(x, dim, x.shape[dim] - 1 if at_end else 0, 1)
    return edge.expand([n if d == dim else -1 for d in range(len(x.shape))])


def _circular(x: Any, dim: int, n: int, at_end: bool) -> Any:
    return _part(x, dim, 0, n) if at_end else _part(x, dim, x.shape[dim] - n, n)


_MODES = {"reflect": _reflect, "replicate": _replicate, "circular": _circular}


def _grow(x: Any, dim: int, lo: int, hi: int, mode: str) -> Any:
    """One dimension padded: borders made from the whole content, then the content cut where a size is negative. (A circular
    border is made from what is left of the content.)"""
    if mode == "circular" and (lo < 0 or hi < 0):
        x = _part(x, dim, max(0, -lo), x.shape[dim] - max(0, -lo) - max(0, -hi))
        lo, hi = max(0, lo), max(0, hi)
    size, border = x.shape[dim], _MODES[mode]
    parts = [border(x, dim, lo, False)] if lo > 0 else []
    start, stop = max(0, -lo), size - max(0, -hi)
    if stop > start:
        parts.append(_part(x, dim, start, stop - start) if (start, stop) != (0, size) else x)
    if hi > 0:
        parts.append(border(x, dim, hi, True))
    return cat(*parts, attrs=(dim,)) if len(parts) > 1 else parts[0]
