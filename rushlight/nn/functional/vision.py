"""Resizing and rearranging images: interpolate, pixel_shuffle, channel_shuffle, grid sampling.

Example:
    >>> interpolate(rushlight.tensor([[[1.0, 3.0]]]), size=4, mode="linear")
    tensor([[[1.0000, 1.5000, 2.5000, 3.0000]]])
"""
from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...autograd.titles import titled
from ...ops.layouts import as_suggested
from ...ops.resample import repeat_each, taps
from ...record.warn import warn
from ...tensor.creation import from_array
from ...tensor.size import wholes
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

__all__ = ["interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
           "native_channel_shuffle"]

_RANKS = {"nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "area": (1, 2, 3), "linear": (1,), "bilinear": (2,), "bicubic": (2,),
          "trilinear": (3,)}


# -- where an output element looks in the input -------------------------------------------------------------------
# Positions are computed in float32, as PyTorch does, so that ties between neighbours fall to the same side.


def _scale(n: int, out: int, factor: float | None, align: bool, kind: type) -> Any:
    if align:
        return kind((n - 1) / kind(out - 1)) if out > 1 else kind(0)
    return kind(1.0 / factor) if factor is not None and factor > 0 else kind(kind(n) / kind(out))


def _nearest(n: int, out: int, factor: float | None, exact: bool) -> np.ndarray:
    step = _scale(n, out, factor, False, np.float32)
    at: Any = np.arange(out).astype(np.float32)
    at = (at + np.float32(0.5)) * step if exact else at * step
    return np.minimum(np.floor(at).astype(np.int64), n - 1)[None]


def _linear(n: int, out: int, factor: float | None, align: bool, kind: type) -> tuple[np.ndarray, np.ndarray]:
    step = _scale(n, out, factor, align, kind)
    at: Any = np.arange(out).astype(kind)
    at = at * step if align else np.maximum((at + kind(0.5)) * step - kind(0.5), kind(0))
    low = np.minimum(np.floor(at).astype(np.int64), n - 1)
    weight = np.clip(at - low.astype(kind), 0, 1).astype(kind)
    return np.stack([low, np.minimum(low + 1, n - 1)]), np.stack([1 - weight, weight])


def _cubic(n: int, out: int, factor: float | None, align: bool, kind: type) -> tuple[np.ndarray, np.ndarray]:
    step = _scale(n, out, factor, align, kind)
    at: Any = np.arange(out).astype(kind)
    at = at * step if align else (at + kind(0.5)) * step - kind(0.5)
    low = np.floor(at)
    t = (at - low).astype(kind)
    a = kind(-0.75)

    def near(x: np.ndarray) -> np.ndarray:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: np.ndarray) -> np.ndarray:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    weights: Any = np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)]).astype(kind)
    return np.clip(np.stack([low.astype(np.int64) + k for k in (-1, 0, 1, 2)]), 0, n - 1), weights


def _smooth(n: int, out: int, factor: float | None, align: bool, cubic: bool, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Weights of an antialiasing filter: as wide as the output's step when the image shrinks."""
    step = float(_scale(n, out, factor, align, kind))
    reach = (4 if cubic else 2) * 0.5 * max(step, 1.0)
    inverse = 1.0 / step if step >= 1.0 else 1.0
    a = -0.5
    length = math.ceil(reach) * 2 + 1
    index: Any = np.zeros((length, out), np.int64)
    weights: Any = np.zeros((length, out))
    for o in range(out):
        centre = step * (o + 0.5)
        first = max(int(centre - reach + 0.5), 0)
        count = min(int(centre + reach + 0.5), n) - first
        x = np.abs((np.arange(count) + first - centre + 0.5) * inverse)
        if cubic:
            w = np.where(x < 1, ((a + 2) * x - (a + 3)) * x * x + 1, np.where(x < 2, (((x - 5) * x + 8) * x - 4) * a, 0))
        else:
            w = np.where(x < 1, 1 - x, 0)
        total = w.sum()
        index[:, o] = min(first, n - 1)
        index[:count, o] = first + np.arange(count)
        weights[:count, o] = w / total if total else w
    return index, weights.astype(kind)


@lru_cache(maxsize=512)
def _tables(mode: str, n: int, out: int, factor: float | None, align: bool, smooth: bool, kind: type) -> tuple[Any, ...]:
    """(positions, [weights]) of one dimension as tensors; shared by all calls of this geometry."""
    if mode in ("nearest", "nearest-exact"):
        return (from_array(_nearest(n, out, factor, mode == "nearest-exact")),)
    if smooth:
        found = _smooth(n, out, factor, align, mode == "bicubic", kind)
    elif mode == "bicubic":
        found = _cubic(n, out, factor, align, kind)
    else:
        found = _linear(n, out, factor, align, kind)
    return tuple(from_array(a) for a in found)


# -- interpolate --------------------------------------------------------------------------------------------------


def _title(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
           recompute_scale_factor: bool | None = None, antialias: bool = False) -> str | None:
    kind = "".join([part.capitalize() for part in mode.split("-")])
    return None if mode == "area" else f"Upsample{kind}{input.dim() - 2}D{'Aa' * antialias}Backward0"


@titled(_title)
def interpolate(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
                recompute_scale_factor: bool | None = None, antialias: bool = False) -> Any:
    """Resize the spatial dimensions of (N, C, ...) to ``size`` or by ``scale_factor``.

    Args:
        mode: "nearest", "nearest-exact", "area", "linear" (3-d input), "bilinear", "bicubic" (4-d) or "trilinear" (5-d).
        align_corners: corners keep their values (linear and cubic modes).
        antialias: filter when shrinking (bilinear and bicubic).

    Raises:
        ValueError: both or neither of size and scale factor, or options that do not go with the mode.
        NotImplementedError: the mode does not know the input's number of dimensions.
    """
    shape = input._value.meta.shape
    nd = len(shape) - 2
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear")
    elif align_corners is None:
        align_corners = False
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    factors: list[float | None] = [None] * nd
    if size is not None:
        out: Any = [wholes(n) for n in _per_dimension(size, nd, "size", shape)]
    else:
        given = _per_dimension(scale_factor, nd, "scale_factor", shape)
        out = [math.floor(float(n) * float(f)) for n, f in zip(shape[2:], given)]
        if not recompute_scale_factor:
            factors = [float(f) for f in given]
    if recompute_scale_factor and size is not None:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    if antialias and not (mode in ("bilinear", "bicubic") and nd == 2):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input")
    if nd not in _RANKS.get(mode, ()):
        if mode in _RANKS and nd in (1, 2, 3):
            raise NotImplementedError(f"Got {nd + 2}D input, but {mode} mode needs {_RANKS[mode][0] + 2}D input")
        raise NotImplementedError(f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {len(shape)}D) for the modes: nearest | "
                                  f"linear | bilinear | bicubic | trilinear | area | nearest-exact (got {mode})")
    out = [int(n) for n in out]
    if any(n <= 0 for n in (*out, *shape[2:])) or 0 in shape[1:]:
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got input {list(shape)} and output size {out}")
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[nd - 1](input, tuple(out))
    return _resize(input, out, factors, mode, bool(align_corners), antialias)


def _per_dimension(value: Any, nd: int, what: str, shape: tuple[int, ...]) -> list[Any]:
    if isinstance(value, (list, tuple)):
        if len(value) != nd:
            got, form = ("output size", "(o1, o2, ...,oK)") if what == "size" else ("scale_factor", "(d1, d2, ...,dK)")
            raise ValueError("Input and output must have the same number of spatial dimensions, but got input with spatial dimensions of "
                             f"{list(shape[2:])} and {got} of {list(value)}. Please provide input tensor in (N, C, d1, d2, ...,dK) "
                             f"format and {got} in {form} format.")
        return list(value)
    return [value] * nd


def _resize(input: Any, out: list[int], factors: list[float | None], mode: str, align: bool, antialias: bool) -> Any:
    shape = input._value.meta.shape
    nearest = mode in ("nearest", "nearest-exact")
    if nearest and all(m % n == 0 and (f is None or f * n == m) for n, m, f in zip(shape[2:], out, factors)):
        return repeat_each(input, attrs=(tuple(m // n for n, m in zip(shape[2:], out)),))
    kind = np.float64 if input.dtype.name == "float64" else np.float32
    whole = input.dtype.kind != "f"
    if whole and not nearest:
        if input.dtype.name != "uint8":
            raise NotImplementedError(f'"upsample_{mode}" not implemented for \'{input.dtype.name}\'')
        input = input.to(from_array(np.zeros(1, np.float32)).dtype)
    for d in reversed(range(len(out))):
        n, m = shape[2 + d], out[d]
        factor = None if factors[d] is None or align else factors[d]
        if n == m and (nearest or factor is None or factor == 1.0):
            continue
        input = taps(input, *_tables(mode, n, m, factor, align, antialias, kind), attrs=(2 + d, n))
        if whole and not nearest:  # pixels between one dimension and the next
            input = (input + 0.5).floor().clamp(0, 255)
    if whole and not nearest:
        from ...compile.dtypes import uint8

        input = input.to(uint8)
    return input.clone() if tuple(out) == shape[2:] else input


def upsample(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None) -> Any:
    """Old name of ``interpolate``."""
    warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` with mode "nearest"."""
    warn("`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` with mode "bilinear" and aligned corners."""
    warn("`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


# -- rearranging --------------------------------------------------------------------------------------------------


@titled("PixelShuffleBackward0")
def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """(..., C * r * r, H, W) to (..., C, H * r, W * r).

    Raises:
        RuntimeError: fewer than 3 dimensions, or channels are no multiple of r * r.
    """
    shape, r = input._value.meta.shape, upscale_factor
    if len(shape) < 3:
        raise RuntimeError(f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {len(shape)} dimension(s)")
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, c, h, w = shape
    if c % (r * r):
        raise RuntimeError(f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but "
                           f"input.size(-3)={c} is not divisible by {r * r}")
    n = len(lead)
    parts = input.reshape((*lead, c // (r * r), r, r, h, w))
    return as_suggested(parts.permute((*range(n), n, n + 3, n + 1, n + 4, n + 2)).reshape((*lead, c // (r * r), h * r, w * r)), input)


@titled("PixelUnshuffleBackward0")
def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """(..., C, H * r, W * r) to (..., C * r * r, H, W).

    Raises:
        RuntimeError: fewer than 3 dimensions, or height or width is no multiple of r.
    """
    shape, r = input._value.meta.shape, downscale_factor
    if len(shape) < 3:
        raise RuntimeError(f"pixel_unshuffle expects input to have at least 3 dimensions, but got input with {len(shape)} dimension(s)")
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, c, h, w = shape
    for what, k, size in (("height", 2, h), ("width", 1, w)):
        if size % r:
            raise RuntimeError(f"pixel_unshuffle expects {what} to be divisible by downscale_factor, but input.size(-{k})={size} is not "
                               f"divisible by {r}")
    n = len(lead)
    parts = input.reshape((*lead, c, h // r, r, w // r, r))
    return as_suggested(parts.permute((*range(n), n, n + 2, n + 4, n + 1, n + 3)).reshape((*lead, c * r * r, h // r, w // r)), input)


@titled("ChannelShuffleBackward0")
def channel_shuffle(input: Any, groups: int) -> Any:
    """Interleave the channels of ``groups`` groups: (N, g, C / g, ...) becomes (N, C / g, g, ...).

    Raises:
        RuntimeError: fewer than 3 dimensions, or channels are no multiple of ``groups``.
    """
    shape = input._value.meta.shape
    if len(shape) < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    n, c, *rest = shape
    if c % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    return as_suggested(input.reshape((n, groups, c // groups, *rest)).transpose(1, 2).reshape(shape), input)


native_channel_shuffle = channel_shuffle
