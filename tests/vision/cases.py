"""Transforms with their arguments: one table for the tests and for the fixture that torchvision makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

#: name, arguments; each runs on an RGB and a grey image, with three seeds.
CASES: list[tuple[str, tuple[Any, ...]]] = [
    ("Resize", (20,)),
    ("Resize", ((50, 23),)),
    ("Resize", (20, 3)),
    ("Resize", (90, 0)),
    ("CenterCrop", (20,)),
    ("CenterCrop", ((50, 30),)),
    ("Pad", (3,)),
    ("Pad", ((1, 2), 5)),
    ("Pad", ((1, 2, 3, 4), 0, "reflect")),
    ("Pad", (2, 0, "edge")),
    ("Pad", (2, 0, "symmetric")),
    ("RandomCrop", (20,)),
    ("RandomCrop", ((30, 40), 4)),
    ("RandomCrop", (60, None, True)),
    ("RandomHorizontalFlip", ()),
    ("RandomVerticalFlip", (0.3,)),
    ("RandomResizedCrop", (16,)),
    ("RandomRotation", (30,)),
    ("RandomRotation", ((10, 40), 2, True)),
    ("RandomAffine", (30, (0.1, 0.2), (0.8, 1.2), 10)),
    ("RandomAffine", (0, None, None, (1, 5, -3, 3))),
    ("Grayscale", ()),
    ("Grayscale", (3,)),
    ("RandomGrayscale", (0.5,)),
    ("ColorJitter", (0.4, 0.4, 0.4, 0.2)),
    ("ColorJitter", (0.3,)),
    ("RandomInvert", ()),
    ("RandomAutocontrast", ()),
    ("RandomEqualize", ()),
    ("RandomAdjustSharpness", (1.7,)),
    ("RandomPosterize", (3,)),
    ("RandomSolarize", (120,)),
    ("RandAugment", ()),
    ("RandAugment", (6, 20)),
    ("RandAugment", (9, 4, 11)),
    ("TrivialAugmentWide", ()),
    ("TrivialAugmentWide", (5,)),
    ("PILToTensor", ()),
]
SEEDS = (0, 1, 2)
MODES = ("RGB", "L")


def picture(mode: str) -> Any:
    """A 45 x 37 image of smooth colours and noise, as a PIL image."""
    from PIL import Image

    rows, columns = np.mgrid[0:37, 0:45]
    noise = np.random.RandomState(0).randint(0, 60, (37, 45, 3))
    pixels = np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=2) + noise
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def pixels_of(result: Any) -> np.ndarray:
    """Image or tensor as an array."""
    return result.numpy() if hasattr(result, "numpy") else np.asarray(result)


def key(name: str, args: tuple[Any, ...], mode: str, seed: int) -> str:
    return f"{name}{args} {mode} {seed}"
