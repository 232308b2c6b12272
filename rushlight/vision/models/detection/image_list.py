"""Images of several sizes as one batch."""
from __future__ import annotations

from typing import Any

from rushlight.tensor import Tensor

__all__ = ["ImageList"]


class ImageList:
    """A batch of images that were padded to one size, with what each had before.

    Attributes:
        tensors: (N, C, H, W); image_sizes: (height, width) of each of the N.
    """

    def __init__(self, tensors: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensors = tensors
        self.image_sizes = image_sizes

    def to(self, device: Any) -> ImageList:
        """On another device."""
        return ImageList(self.tensors.to(device), self.image_sizes)
