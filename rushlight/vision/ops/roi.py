"""Regions of feature maps as maps of one size: ``roi_align`` (He et al. 2017) and ``roi_pool`` (Girshick 2015).

Where the samples lie follows from the boxes, which are looked at; the maps have gradients, the boxes have none.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rushlight.nn.modules.module import Module
from rushlight.tensor import Tensor, from_numpy

__all__ = ["RoIAlign", "RoIPool", "roi_align", "roi_pool"]


def _regions(name: str, boxes: Any) -> np.ndarray:
    """(K, 5): the number of the image and (x1, y1, x2, y2) of each region.

    Raises:
        ValueError: other shapes.
    """
    if isinstance(boxes, (list, tuple)):
        if any(b.dim() != 2 or b.shape[1] != 4 for b in boxes):
            raise ValueError(f"{name}: boxes given as a list are tensors (L, 4), one for each image")
        return np.concatenate([np.column_stack([np.full(len(b), k), b.detach().double().numpy()]) for k, b in enumerate(boxes)] or
                              [np.zeros((0, 5))])
    if boxes.dim() != 2 or boxes.shape[1] != 5:
        raise ValueError(f"{name}: boxes are a tensor (K, 5), the first column being the number of the image, got {list(boxes.shape)}")
    return boxes.detach().double().numpy()


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)  # type: ignore[return-value]


def _gathered(input: Tensor, rows: np.ndarray) -> Tensor:
    """Pixels by their numbers among those of all images: (..., C)."""
    flat = input.permute(0, 2, 3, 1).reshape(-1, input.shape[1])
    return flat[from_numpy(rows.astype(np.int64))]


def _samples(start: np.ndarray, size: np.ndarray, bins: int, counts: np.ndarray, extent: int) -> tuple[np.ndarray, ...]:
    """Along one dimension, for regions (K,) of ``counts`` samples a bin: pixels below and above each sample, the weight of each, (K, bins,
    most); samples outside of the image weigh nothing, and the weights of a bin add up to at most 1."""
    k, least = np.arange(counts.max(initial=0), dtype=np.int32), np.maximum(counts, 1)
    width = (size / bins)[:, None, None]
    at = start[:, None, None] + np.arange(bins, dtype=size.dtype)[:, None] * width + (k + size.dtype.type(0.5)) * width / least.astype(
        size.dtype)[:, None, None]
    weight = ((at >= -1) & (at <= extent) & (k < counts[:, None, None])) / least[:, None, None]
    at = np.maximum(at, 0)
    low = np.minimum(at.astype(np.int64), extent - 1)
    high = np.minimum(low + 1, extent - 1)
    part = np.where(low == extent - 1, 0.0, at - low)
    return low, high, weight * (1 - part), weight * part


def roi_align(input: Tensor, boxes: Any, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = -1,
              aligned: bool = False) -> Tensor:
    """Regions of feature maps, of any place and size, as means of bilinear samples.

    Args:
        input: (N, C, H, W).
        boxes: (K, 5), the number of the image and (x1, y1, x2, y2); or a list with boxes (L, 4) for each image.
        output_size: (h, w), or one number for both.
        spatial_scale: pixels of the maps for one unit of the boxes.
        sampling_ratio: samples along each side of a bin; not positive: as many as there are pixels, rounded up.
        aligned: pixels lie half a unit further, as their centres do.

    Shape: (K, C, h, w)

    Raises:
        ValueError: boxes of another shape.
    """
    regions = _regions("roi_align", boxes).astype(input.dtype.compute.numpy)  # borders are where that number puts them
    bins, (_, channels, *extents) = _pair(output_size), input.shape
    if not len(regions):
        return input.new_zeros((0, channels, *bins))
    image, corners = regions[:, 0].astype(np.int64), regions[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    axes = []
    for first, n, extent in ((1, bins[0], extents[0]), (0, bins[1], extents[1])):
        start, size = corners[:, first], corners[:, first + 2] - corners[:, first]
        size = size if aligned else np.maximum(size, 1.0)
        counts = np.full(len(start), sampling_ratio) if sampling_ratio > 0 else np.maximum(np.ceil(size / n), 0).astype(np.int64)
        axes.append(_samples(start, size, n, counts, extent))
    total: Any = 0
    for y, wy in ((axes[0][0], axes[0][2]), (axes[0][1], axes[0][3])):
        for x, wx in ((axes[1][0], axes[1][2]), (axes[1][1], axes[1][3])):
            rows = (image[:, None, None, None, None] * extents[0] + y[:, :, None, :, None]) * extents[1] + x[:, None, :, None, :]
            weights = wy[:, :, None, :, None] * wx[:, None, :, None, :]
            total = total + (_gathered(input, rows) * from_numpy(weights[..., None]).to(input.dtype)).sum((3, 4))  # (K, h, w, C)
    return total.permute(0, 3, 1, 2).contiguous()


def roi_pool(input: Tensor, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Tensor:
    """Regions of feature maps as maxima over bins of whole pixels; zeros where a bin has none. Arguments as those of ``roi_align``.

    Shape: (K, C, h, w)
    """
    regions = _regions("roi_pool", boxes)
    bins, (_, channels, *extents) = _pair(output_size), input.shape
    if not len(regions):
        return input.new_zeros((0, channels, *bins))
    image, corners = regions[:, 0].astype(np.int64), np.floor(np.abs(regions[:, 1:] * spatial_scale) + 0.5)
    corners = np.copysign(corners, regions[:, 1:]).astype(np.int64)
    places, inside = [], []
    for first, n, extent in ((1, bins[0], extents[0]), (0, bins[1], extents[1])):
        start, size = corners[:, first, None], np.maximum(corners[:, first + 2, None] - corners[:, first, None] + 1, 1)
        k, width = np.arange(n), size / n
        low = np.clip(np.floor(k * width).astype(np.int64) + start, 0, extent)
        high = np.clip(np.ceil((k + 1) * width).astype(np.int64) + start, 0, extent)
        at = low[..., None] + np.arange(max(int((high - low).max()), 1))
        places.append(np.minimum(at, extent - 1))
        inside.append(at < high[..., None])
    y, x = places
    rows = (image[:, None, None, None, None] * extents[0] + y[:, :, None, :, None]) * extents[1] + x[:, None, :, None, :]
    seen = inside[0][:, :, None, :, None] & inside[1][:, None, :, None, :]
    found = _gathered(input, rows).masked_fill(from_numpy(~seen[..., None]), -float("inf")).amax((3, 4))
    return found.masked_fill(from_numpy(~seen.any((3, 4))[..., None]), 0.0).permute(0, 3, 1, 2).contiguous()


class RoIAlign(Module):
    """``roi_align`` as a layer: ``(input, boxes) -> regions``."""

    def __init__(self, output_size: Any, spatial_scale: float, sampling_ratio: int, aligned: bool = False) -> None:
        super().__init__()
        self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned = output_size, spatial_scale, sampling_ratio, aligned

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
                f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned})")


class RoIPool(Module):
    """``roi_pool`` as a layer: ``(input, boxes) -> regions``."""

    def __init__(self, output_size: Any, spatial_scale: float) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(output_size={self.output_size}, spatial_scale={self.spatial_scale})"
