"""Regions of a feature pyramid: each is read from the map whose cells fit its size (Lin et al. 2017)."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rushlight.nn.modules.module import Module
from rushlight.tensor import FUNCTIONS as F
from rushlight.vision.ops.boxes import box_area
from rushlight.vision.ops.roi import roi_align

__all__ = ["MultiScaleRoIAlign"]


def _levels(boxes: Any, least: int, most: int, canonical_scale: int, canonical_level: int) -> Any:
    """The number of each box's map, ``least`` being 0: one more where the box is twice as large, ``canonical_level`` at
    ``canonical_scale``."""
    level = (canonical_level + (box_area(boxes).sqrt() / canonical_scale).log2() + 1e-6).floor()
    return level.clamp(least, most).long() - least


class MultiScaleRoIAlign(Module):
    """``roi_align`` of several maps, each box from one of them.

    Args:
        featmap_names: the maps that are read, finest first.
        output_size: of a region; sampling_ratio: samples along each side of a bin, 0 for as many as it has pixels.
        canonical_scale, canonical_level: boxes of that size are read from the map that is two to the minus so many times the image.

    Shape: maps by name (N, C, H_i, W_i), N tensors of boxes (L_n, 4) in pixels of the images, their sizes (height, width) -> (the sum of
    L_n, C, *output_size)

    Raises:
        ValueError: there are no images.

    Example:
        >>> pool = torch.vision.ops.MultiScaleRoIAlign(["0", "1"], 3, 2)
        >>> maps = {"0": torch.rand(1, 5, 16, 16), "1": torch.rand(1, 5, 8, 8)}
        >>> pool(maps, [torch.tensor([[0., 0., 30., 40.]])], [(64, 64)]).shape
        torch.Size([1, 5, 3, 3])
    """

    def __init__(self, featmap_names: Sequence[str], output_size: int | Sequence[int], sampling_ratio: int, *, canonical_scale: int = 224,
                 canonical_level: int = 4) -> None:
        super().__init__()
        self.featmap_names = featmap_names
        self.sampling_ratio = sampling_ratio
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        self.canonical_scale, self.canonical_level = canonical_scale, canonical_level
        self.scales: list[float] | None = None  # of each map, told by the first images

    def forward(self, x: Mapping[str, Any], boxes: Sequence[Any], image_shapes: Sequence[tuple[int, int]]) -> Any:
        maps = [value for name, value in x.items() if name in self.featmap_names]
        if self.scales is None:
            if not image_shapes:
                raise ValueError("images list should not be empty")
            height = max(shape[0] for shape in image_shapes)
            self.scales = [2.0 ** round(math.log2(m.shape[-2] / height)) for m in maps]
        numbered: Any = F["cat"]([F["cat"]([F["full_like"](b[:, :1], k), b], 1) for k, b in enumerate(boxes)])
        if len(maps) == 1:
            return roi_align(maps[0], numbered, self.output_size, self.scales[0], self.sampling_ratio)
        least, most = (int(-math.log2(self.scales[k])) for k in (0, -1))
        levels = _levels(F["cat"](list(boxes)), least, most, self.canonical_scale, self.canonical_level)
        parts, places = [], []
        for k, (m, scale) in enumerate(zip(maps, self.scales)):
            chosen = (levels == k).nonzero()[:, 0]
            if len(chosen):
                parts.append(roi_align(m, numbered[chosen], self.output_size, scale, self.sampling_ratio))
                places.append(chosen)
        if not parts:
            return maps[0].new_zeros((0, maps[0].shape[1], *self.output_size))
        return F["cat"](parts)[F["cat"](places).argsort()]

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(featmap_names={self.featmap_names}, output_size={self.output_size}, "
                f"sampling_ratio={self.sampling_ratio})")
