"""The handwritten digits that come with the package, for machines without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rushlight.tensor import from_numpy
from rushlight.vision.datasets.base import ArrayImages

_FILE = Path(__file__).parent.parent / "data" / "digits.npz"
_TEST_SIZE = 360
_SIDE = 28


class Digits(ArrayImages):
    """1,797 digits of 8 x 8 pixels in 17 shades, from the UCI repository: 1,437 to train on, 360 to test.

    The images are shown as MNIST's are: enlarged to 20 x 20 by linear interpolation, in the middle of 28 x 28 black
    pixels, in shades 0 to 255. `rushlight/vision/data/README.md` says where the data comes from.

    Args:
        train: the training part (the first 1,437) or the test part (the other 360).
        transform, target_transform: functions of the PIL image and of the label.

    Attributes:
        data: uint8 tensor (N, 28, 28).
        targets: int64 tensor (N,).
    """

    classes = [str(digit) for digit in range(10)]

    def __init__(
        self,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(transform=transform, target_transform=target_transform)
        self.train = train
        with np.load(_FILE) as file:
            images, labels = file["images"], file["labels"]
        part = slice(None, -_TEST_SIZE) if train else slice(-_TEST_SIZE, None)
        self.data = from_numpy(enlarged(images[part]))
        self.targets = from_numpy(labels[part].astype(np.int64))

    def extra_repr(self) -> str:
        return f"Split: {'Train' if self.train else 'Test'}"


def enlarged(images: np.ndarray) -> np.ndarray:
    """Shades 0 to 16, (N, 8, 8), as shades 0 to 255, (N, 28, 28)."""
    from rushlight.vision.transforms.arrays import resize

    inner = 20
    border = (_SIDE - inner) // 2
    grown = resize(images.astype(np.float32) * np.float32(255 / 16), (inner, inner), "bilinear", False)
    result = np.zeros((len(images), _SIDE, _SIDE), np.uint8)
    result[:, border:-border, border:-border] = np.round(grown).astype(np.uint8)
    return result
