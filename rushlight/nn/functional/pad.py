"""Padding.

Example:
    >>> pad(rushlight.tensor([[1.0, 2.0, 3.0]]), (1, 1), mode="reflect")
    tensor([[2., 1., 2., 3., 2.]])
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...autograd.autocast import full_precision
from ...ops.basic import pad_constant
from ...ops.padding import pad_content

__all__ = ["pad"]


_MODES = ("reflect", "replicate", "circular")


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
    grown = _pad_content_wide if mode == "replicate" or mode == "reflect" and n < 3 else _pad_content
    return grown(input, mode, tuple((rank - 1 - k, lo, hi) for k, (lo, hi) in enumerate(pairs)))


def _pad_content(input: Any, mode: str, pairs: tuple[tuple[int, int, int], ...]) -> Any:
    return pad_content(input, attrs=(mode, pairs))


_pad_content_wide = full_precision(_pad_content)


def _number(value: Any, like: Any) -> Any:
    if value is None:
        return 0.0 if like.dtype.kind == "f" else 0
    return bool(value) if like.dtype.kind == "b" else int(value) if like.dtype.kind in "iu" else value
