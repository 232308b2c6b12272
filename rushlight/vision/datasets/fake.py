"""Random images, for trying programs without data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rushlight.record.random import Mt19937Stream
from rushlight.tensor import from_numpy
from rushlight.vision.datasets.base import VisionDataset
from rushlight.vision.transforms import functional as F


class FakeData(VisionDataset):
    """`size` images of normal noise with random classes; sample i is always the same.

    Args:
        size: how many.
        image_size: (C, H, W).
        num_classes: how many classes.
        transform, target_transform: functions of the PIL image and of the class.
        random_offset: added to the index to seed the sample.
    """

    def __init__(
        self,
        size: int = 1000,
        image_size: tuple[int, int, int] = (3, 224, 224),
        num_classes: int = 10,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        random_offset: int = 0,
    ) -> None:
        super().__init__(transform=transform, target_transform=target_transform)
        self.size = size
        self.num_classes = num_classes
        self.image_size = image_size
        self.random_offset = random_offset

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index >= len(self):
            raise IndexError(f"{type(self).__name__} index out of range")
        stream = Mt19937Stream(index + self.random_offset)  # its own: the user's stream is not disturbed
        channels, height, width = self.image_size
        noise = stream.normal(channels * height * width).reshape(self.image_size)
        target: Any = int(stream.randint(0, self.num_classes, 1)[0])
        image = F.to_pil_image(from_numpy(noise))
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        return self.size
