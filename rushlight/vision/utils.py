"""Grids of images, and images in files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rushlight.tensor import Tensor, from_numpy
from rushlight.vision.images import pillow


def make_grid(
    tensor: Tensor | Sequence[Tensor],
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
) -> Tensor:
    """Images side by side in one image.

    Args:
        tensor: (B, C, H, W), a list of (C, H, W), one (C, H, W), or one (H, W). One channel becomes three.
        nrow: images in a row.
        padding: pixels between images and around them.
        normalize: shift and scale values to [0, 1], from `value_range` or from the least and the greatest.
        scale_each: normalize each image by itself.
        pad_value: the value between images.

    Returns:
        (C, rows, columns), C at least 3; a single image comes back without padding.

    Raises:
        TypeError: not tensors, or `value_range` is not a pair.
    """
    if not isinstance(tensor, Tensor):
        if not isinstance(tensor, (list, tuple)) or not all(isinstance(t, Tensor) for t in tensor):
            raise TypeError(f"tensor or list of tensors expected, got {type(tensor)}")
        images = np.stack([t.detach().numpy() for t in tensor])
    else:
        images = tensor.detach().numpy()
    if images.ndim == 2:
        images = images[None]
    if images.ndim == 3:
        images = (np.repeat(images, 3, axis=0) if images.shape[0] == 1 else images)[None]
    elif images.ndim == 4 and images.shape[1] == 1:
        images = np.repeat(images, 3, axis=1)
    if normalize:
        if value_range is not None and not isinstance(value_range, tuple):
            raise TypeError("value_range has to be a tuple (min, max) if specified. min and max are numbers")
        images = np.stack([_unit(i, value_range) for i in images]) if scale_each else _unit(images, value_range)
    if len(images) == 1:
        return from_numpy(np.ascontiguousarray(images[0]))
    count, channels, height, width = images.shape
    columns = min(nrow, count)
    rows = math.ceil(count / columns)
    height, width = height + padding, width + padding
    grid = np.full((channels, height * rows + padding, width * columns + padding), pad_value, images.dtype)
    for i, image in enumerate(images):
        top, left = (i // columns) * height + padding, (i % columns) * width + padding
        grid[:, top : top + height - padding, left : left + width - padding] = image
    return from_numpy(grid)


def _unit(images: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    low, high = value_range if value_range is not None else (float(images.min()), float(images.max()))
    return (np.clip(images, low, high) - images.dtype.type(low)) / images.dtype.type(max(high - low, 1e-5))


def save_image(
    tensor: Tensor | Sequence[Tensor], fp: str | Path | BinaryIO, format: str | None = None, **kwargs: Any
) -> None:
    """Write images with values in [0, 1] to a file, in a grid if there are several.

    Args:
        tensor, kwargs: as for `make_grid`.
        fp: a path or an open file.
        format: Pillow's name of the format, by default from the path's ending.
    """
    grid = make_grid(tensor, **kwargs).numpy()
    pixels = np.clip(grid * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    pillow().Image.fromarray(np.ascontiguousarray(pixels)).save(fp, format=format)
