"""Transforms of the distribution of shades: sharpness, contrast stretched or equalised, fewer bits, solarisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from rushlight.nn import Module
from rushlight.vision.images import is_pil
from rushlight.vision.transforms import arrays, draws, pil
from rushlight.vision.transforms.conversion import array_of, tensor_of


def adjust_sharpness(img: Any, sharpness_factor: float) -> Any:
    """0 is blurred, 1 the image, 2 sharpened."""
    if sharpness_factor < 0:
        raise ValueError(f"sharpness_factor ({sharpness_factor}) is not non-negative.")
    if is_pil(img):
        return pil.enhance(img, "Sharpness", sharpness_factor)
    values = array_of(img)
    if min(values.shape[-2:]) <= 2:
        return img
    return tensor_of(arrays.blend(values, _smoothed(values).astype(np.float32), sharpness_factor))


def _smoothed(values: np.ndarray) -> np.ndarray:
    """The mean of each pixel's neighbourhood, itself counted five times; the border stays."""
    work = values.astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(work, (3, 3), axis=(-2, -1))
    inner = (windows.sum((-2, -1)) + 4 * work[..., 1:-1, 1:-1]) / np.float32(13)
    result = values.copy()
    result[..., 1:-1, 1:-1] = arrays.cast_like(inner, values)
    return result


def autocontrast(img: Any) -> Any:
    """Stretch each channel from black to white."""
    if is_pil(img):
        from PIL import ImageOps

        return ImageOps.autocontrast(img)
    values = array_of(img)
    white = arrays.bound(values)
    work = values.astype(np.float32) if values.dtype.kind != "f" else values
    low, high = work.min(axis=(-2, -1), keepdims=True), work.max(axis=(-2, -1), keepdims=True)
    flat = high == low
    scale = np.where(flat, 1, white / np.where(flat, 1, high - low)).astype(work.dtype)
    return tensor_of(np.clip((work - np.where(flat, 0, low)) * scale, 0, white).astype(values.dtype))


def equalize(img: Any) -> Any:
    """Make all shades of a channel about equally frequent.

    Raises:
        TypeError: a tensor that is not uint8.
    """
    if is_pil(img):
        from PIL import ImageOps

        return ImageOps.equalize(img)
    values = array_of(img)
    if values.dtype != np.uint8:
        raise TypeError(f"Only torch.uint8 image tensors are supported, but found {img.dtype}")
    planes = values.reshape(-1, *values.shape[-2:])
    return tensor_of(np.stack([_equalized(plane) for plane in planes]).reshape(values.shape))


def _equalized(plane: np.ndarray) -> np.ndarray:
    counts = np.bincount(plane.reshape(-1), minlength=256)
    step = (counts.sum() - counts[counts > 0][-1]) // 255
    if step == 0:
        return plane
    below = (np.cumsum(counts) + step // 2) // step
    table = np.clip(np.concatenate([[0], below[:-1]]), 0, 255).astype(np.uint8)
    return table[plane]


def posterize(img: Any, bits: int) -> Any:
    """Keep the highest `bits` bits of each value."""
    if not 0 <= bits <= 8:
        raise ValueError(f"The number if bits should be between 0 and 8. Got {bits}")
    if is_pil(img):
        from PIL import ImageOps

        return ImageOps.posterize(img, bits)
    values = array_of(img)
    if values.dtype != np.uint8:
        raise TypeError(f"Only torch.uint8 image tensors are supported, but found {img.dtype}")
    return tensor_of(values & np.uint8(256 - (1 << (8 - bits))))


def solarize(img: Any, threshold: float) -> Any:
    """Invert the values at and above a threshold."""
    if is_pil(img):
        from PIL import ImageOps

        return ImageOps.solarize(img, threshold)
    values = array_of(img)
    if threshold > arrays.bound(values):
        raise TypeError("Threshold should be less than bound of img.")
    return tensor_of(np.where(values >= threshold, values.dtype.type(arrays.bound(values)) - values, values))


class _WithChance(Module):
    """A change that happens with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def _change(self, img: Any) -> Any:
        raise NotImplementedError

    def forward(self, img: Any) -> Any:
        return self._change(img) if draws.chance(self.p) else img

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(p={self.p})"


class RandomAutocontrast(_WithChance):
    """`autocontrast` with probability `p`."""

    def _change(self, img: Any) -> Any:
        return autocontrast(img)


class RandomEqualize(_WithChance):
    """`equalize` with probability `p`."""

    def _change(self, img: Any) -> Any:
        return equalize(img)


class RandomAdjustSharpness(_WithChance):
    """`adjust_sharpness` with probability `p`."""

    def __init__(self, sharpness_factor: float, p: float = 0.5) -> None:
        super().__init__(p)
        self.sharpness_factor = sharpness_factor

    def _change(self, img: Any) -> Any:
        return adjust_sharpness(img, self.sharpness_factor)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(sharpness_factor={self.sharpness_factor},p={self.p})"


class RandomPosterize(_WithChance):
    """`posterize` with probability `p`."""

    def __init__(self, bits: int, p: float = 0.5) -> None:
        super().__init__(p)
        self.bits = bits

    def _change(self, img: Any) -> Any:
        return posterize(img, self.bits)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(bits={self.bits},p={self.p})"


class RandomSolarize(_WithChance):
    """`solarize` with probability `p`."""

    def __init__(self, threshold: float, p: float = 0.5) -> None:
        super().__init__(p)
        self.threshold = threshold

    def _change(self, img: Any) -> Any:
        return solarize(img, self.threshold)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(threshold={self.threshold},p={self.p})"
