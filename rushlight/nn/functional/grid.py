"""Sampling an image at the points of a grid.

Example:
    >>> theta = rushlight.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> grid_sample(rushlight.ones(1, 1, 4, 4), affine_grid(theta, [1, 1, 2, 2], False), align_corners=False).shape
    torch.Size([1, 1, 2, 2])
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

from ...autograd.autocast import full_precision
from ...autograd.titles import titled
from ...ops.indexing import gather
from ...ops.sampling import coordinate, corners, linear_sum, neighbour, whole_or_zero
from ...record.warn import warn
from ...tensor.pointwise import _where as where
from ...tensor.sequences import linspace
from ...tensor.shape import stack

__all__ = ["affine_grid", "grid_sample"]


def _guessed(align_corners: bool | None, name: str) -> bool:
    if align_corners is None:
        warn(f"Default {name} and related behavior has changed to align_corners=False since 1.3.0. Please specify "
             "align_corners=True if the old behavior is desired. See the documentation of grid_sample for details.")
        return False
    return align_corners


@titled("AffineGridGeneratorBackward0")
def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Any:
    """Sampling positions of affine maps: theta (N, 2, 3) for size (N, C, H, W) gives (N, H, W, 2), in [-1, 1] inside the image;
    theta (N, 3, 4) for size (N, C, D, H, W) gives (N, D, H, W, 3).

    Raises:
        ValueError: theta is not floating or does not fit size. NotImplementedError: another number of sizes.
    """
    if theta.dtype.kind != "f":
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    align = _guessed(align_corners, "grid_sample")
    size = tuple(int(n) for n in size)
    nd = len(size) - 2
    if nd not in (2, 3):
        raise NotImplementedError("affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. "
                                  f"Got size {list(size)}.")
    if tuple(theta.shape[-2:]) != (nd, nd + 1) or theta.dim() != 3:
        raise ValueError(f"Expected a batch of {nd}D affine matrices of shape Nx{nd}x{nd + 1} for size {list(size)}. Got "
                         f"{list(theta.shape)}.")
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {list(size)}")
    lines = []
    for n in size[2:]:
        line = linspace(-1, 1, n, dtype=theta.dtype) if n > 1 else theta.new_zeros((1,))
        lines.append(line if align else line * ((n - 1) / n))
    shape = size[2:]
    axes = [line.reshape([-1 if k == d else 1 for k in range(nd)]).expand(shape) for d, line in enumerate(lines)]
    base = stack([*reversed(axes), theta.new_ones(shape)], -1).reshape((1, math.prod(shape), nd + 1))
    return (base.expand((size[0], -1, -1)) @ theta.transpose(1, 2)).reshape((size[0], *shape, nd))


def _reflected(x: Any, low2: int, high2: int) -> Any:
    """Reflected until it lies between low2 / 2 and high2 / 2."""
    if low2 == high2:
        return x * 0
    low, span = low2 / 2, (high2 - low2) / 2
    away = (x - low).abs()
    flips = (away / span).floor().detach()
    extra = away - flips * span
    return where(flips % 2 == 0, extra + low, span - extra + low)


def _brought_inside(x: Any, n: int, mode: str, align: bool) -> Any:
    if mode == "reflection":
        x = _reflected(x, 0, 2 * (n - 1)) if align else _reflected(x, -1, 2 * n - 1)
    return x if mode == "zeros" else x.clamp(0, n - 1)


def _cubic(t: Any) -> list[Any]:
    a = -0.75

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


@full_precision
@titled(lambda input, *_, **__: f"GridSampler{input.dim() - 2}DBackward0")
def grid_sample(input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None) -> Any:
    """The input (N, C, H, W) at the positions of ``grid`` (N, H', W', 2), x before y, -1 and 1 at the borders; likewise in three
    dimensions.

    Args:
        mode: "bilinear" (in three dimensions trilinear), "nearest" or "bicubic" (two dimensions).
        padding_mode: what lies outside: "zeros", "border" (the nearest element) or "reflection".
        align_corners: whether -1 and 1 are the centres (True) or the edges of the corner elements.

    Raises:
        ValueError: an unknown mode. RuntimeError: shapes do not fit.
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError("nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
                         f"'{padding_mode}'")
    align = _guessed(align_corners, "grid_sample")
    nd = input.dim() - 2
    if nd not in (2, 3) or grid.dim() != nd + 2 or grid.shape[-1] != nd or grid.shape[0] != input.shape[0]:
        raise RuntimeError("grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, the same batch size and a "
                           f"last dimension of {max(nd, 0)}, but got input with sizes {list(input.shape)} and grid with sizes "
                           f"{list(grid.shape)}")
    if 0 in input.shape[1:]:
        raise RuntimeError("grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                           f"{list(input.shape)}")
    if input.dtype is not grid.dtype:
        raise RuntimeError(f"grid_sampler(): expected input and grid to have same dtype, but input has {input.dtype.name} and grid has "
                           f"{grid.dtype.name}")
    if mode == "bicubic" and nd != 2:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    size = tuple(input.shape[2:])
    out = (input.shape[0], input.shape[1], *grid.shape[1:-1])
    flat = input.reshape((input.shape[0], input.shape[1], -1))
    points = (grid + 0).reshape((grid.shape[0], -1, nd))  # one read of the grid, whose parts are then none of other memory
    places = []
    for d, n in enumerate(size):
        c = points.select(2, nd - 1 - d).unsqueeze(1)
        places.append(coordinate(c, (n - 1) / 2, 0.0) if align else coordinate(c, n / 2, 0.5))
    if mode == "bicubic":
        return _cubic_sum(flat, places, size, padding_mode, align).reshape(out)
    places = [_brought_inside(x, n, padding_mode, align) for x, n in zip(places, size)]
    if mode == "nearest":
        places = [x.round() for x in places]
        found = _read(flat, neighbour(places, size, "0" * nd))
        return (whole_or_zero(found, *places, sizes=size) if padding_mode == "zeros" else found).reshape(out)
    # A neighbour outside has weight 0 where the point was brought inside.
    found = [_read(flat, neighbour(places, size, corner)) for corner in corners(nd)]
    return linear_sum(*found, *places, sizes=size).reshape(out)


def _read(flat: Any, index: Any) -> Any:
    """flat (N, C, elements) at places (N, 1, P): (N, C, P)."""
    return gather(flat, index.expand((flat.shape[0], flat.shape[1], index.shape[-1])), attrs=(2,))


def _cubic_sum(flat: Any, places: Sequence[Any], size: tuple[int, ...], padding: str, align: bool) -> Any:
    """The sixteen neighbours of each point, weighted; beyond the border as ``padding`` says."""
    lows = [x.floor().detach() for x in places]
    weights = [_cubic(x - low) for x, low in zip(places, lows)]
    corners_ = [[_brought_inside(low + k, n, padding, align) for k in (-1, 0, 1, 2)] for low, n in zip(lows, size)]
    total: Any = None
    for i, j in product(range(4), repeat=2):
        at = (corners_[0][i], corners_[1][j])
        found = _read(flat, neighbour(at, size, "00"))
        part = (whole_or_zero(found, *at, sizes=size) if padding == "zeros" else found) * (weights[0][i] * weights[1][j])
        total = part if total is None else total + part
    return total
