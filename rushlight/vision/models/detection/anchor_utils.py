"""Anchors: boxes of some sizes and shapes around each cell of a feature map."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rushlight.nn.modules.module import Module
from rushlight.tensor import FUNCTIONS as F
from rushlight.tensor import Tensor
from rushlight.vision.models.detection.image_list import ImageList

__all__ = ["AnchorGenerator"]


class AnchorGenerator(Module):
    """Anchors of every map of a pyramid, cell by cell, from the finest map on.

    Args:
        sizes: for each map, square roots of areas, in pixels of the image; one number a map may stand without brackets.
        aspect_ratios: for each map, heights by widths; one tuple serves all maps.

    Shape: an ``ImageList`` and N-image maps -> N tensors (the sum of H_i * W_i * anchors of a cell, 4)

    Raises:
        AssertionError: as many maps as there are ``sizes`` are wanted.

    Example:
        >>> from rushlight.vision.models.detection.image_list import ImageList
        >>> anchors = AnchorGenerator(((8,),), ((0.5, 2.0),))
        >>> anchors(ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)]), [torch.zeros(1, 1, 2, 2)])[0][:2]
        tensor([[-6., -3.,  6.,  3.],
                [-3., -6.,  3.,  6.]])
    """

    def __init__(self, sizes: Sequence[Any] = ((128, 256, 512),), aspect_ratios: Sequence[Any] = ((0.5, 1.0, 2.0),)) -> None:
        super().__init__()
        self.sizes = tuple(size if isinstance(size, (list, tuple)) else (size,) for size in sizes)
        shared = not isinstance(aspect_ratios[0], (list, tuple))
        self.aspect_ratios = (tuple(aspect_ratios),) * len(self.sizes) if shared else tuple(aspect_ratios)
        self.cell_anchors = [self.generate_anchors(size, ratio) for size, ratio in zip(self.sizes, self.aspect_ratios)]

    def generate_anchors(self, scales: Sequence[float], aspect_ratios: Sequence[float], dtype: Any = None, device: Any = None) -> Tensor:
        """Whole-numbered anchors around the origin: (ratios * scales, 4)."""
        scale, ratio = (F["as_tensor"](x, dtype=dtype).float() if dtype is None else F["as_tensor"](x, dtype=dtype)
                        for x in (scales, aspect_ratios))
        tall = ratio.sqrt()
        height = (tall[:, None] * scale).reshape(-1)
        width = ((1 / tall)[:, None] * scale).reshape(-1)
        return (F["stack"]([-width, -height, width, height], 1) / 2).round()

    def num_anchors_per_location(self) -> list[int]:
        """How many anchors a cell of each map has."""
        return [len(size) * len(ratio) for size, ratio in zip(self.sizes, self.aspect_ratios)]

    def grid_anchors(self, grid_sizes: Sequence[Sequence[int]], strides: Sequence[Sequence[Any]]) -> list[Tensor]:
        """The anchors of each map: of so many cells, so many pixels apart."""
        if not len(grid_sizes) == len(strides) == len(self.cell_anchors):
            raise AssertionError(f"AnchorGenerator: {len(grid_sizes)} feature maps, sizes and aspect ratios of {len(self.cell_anchors)}; "
                                 "each needs a tuple")
        found = []
        for (rows, columns), (down, right), around in zip(grid_sizes, strides, self.cell_anchors):
            y, x = (F["arange"](n, dtype=around.dtype) * step for n, step in ((rows, int(down)), (columns, int(right))))
            y, x = (t.reshape(-1) for t in F["meshgrid"](y, x, indexing="ij"))
            found.append((F["stack"]([x, y, x, y], 1)[:, None] + around).reshape(-1, 4))
        return found

    def forward(self, image_list: ImageList, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        height, width = image_list.tensors.shape[-2:]
        self.cell_anchors = [anchors.to(feature_maps[0].dtype) for anchors in self.cell_anchors]
        grids = [tuple(m.shape[-2:]) for m in feature_maps]
        anchors = F["cat"](self.grid_anchors(grids, [(height // rows, width // columns) for rows, columns in grids]))
        return [anchors] * len(image_list.image_sizes)
