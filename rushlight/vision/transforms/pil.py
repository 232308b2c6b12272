"""Image operations on PIL images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rushlight.vision.images import pillow

_RESAMPLING = {
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "box": "BOX",
    "hamming": "HAMMING",
    "lanczos": "LANCZOS",
}


def resampling(mode: str) -> Any:
    """Pillow's constant for an interpolation mode."""
    return getattr(pillow().Image.Resampling, _RESAMPLING[mode])


def fill_colour(fill: Any, image: Any, name: str = "fill") -> dict[str, Any]:
    """`fill` as a keyword argument that suits the image's mode.

    Raises:
        ValueError: the number of values differs from the number of channels.
    """
    channels = len(image.getbands())
    if fill is None:
        fill = 0
    if isinstance(fill, (int, float)) and channels > 1:
        fill = tuple([fill] * channels)
    if isinstance(fill, (list, tuple)):
        if len(fill) == 1:
            fill = tuple(fill) * channels
        elif len(fill) != channels:
            raise ValueError(
                f"The number of elements in 'fill' does not match the number of channels of the image "
                f"({len(fill)} != {channels})"
            )
        fill = tuple(fill)
    if image.mode != "F":
        fill = tuple(int(x) for x in fill) if isinstance(fill, tuple) else int(fill)
        if channels == 1 and isinstance(fill, tuple):
            fill = fill[0]
    return {name: fill}


def pad(image: Any, padding: tuple[int, int, int, int], fill: Any, mode: str) -> Any:
    """Pad by (left, top, right, bottom); negative numbers crop."""
    from PIL import ImageOps

    if mode == "constant":
        colour = fill_colour(fill, image)["fill"]
        if image.mode != "P":
            return ImageOps.expand(image, border=padding, fill=colour)
        palette = image.getpalette()
        image = ImageOps.expand(image, border=padding, fill=colour)
        image.putpalette(palette)
        return image
    left, top, right, bottom = padding
    width, height = image.size
    image = image.crop((max(-left, 0), max(-top, 0), width - max(-right, 0), height - max(-bottom, 0)))
    amounts = [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    pixels = np.asarray(image)
    amounts += [(0, 0)] * (pixels.ndim - 2)
    padded = pillow().Image.fromarray(np.pad(pixels, amounts, mode=mode))  # type: ignore[call-overload]
    if image.mode == "P":
        padded.putpalette(image.getpalette())
    return padded


def enhance(image: Any, kind: str, factor: float) -> Any:
    """Brightness, Contrast, Color or Sharpness of Pillow's `ImageEnhance`."""
    from PIL import ImageEnhance

    return getattr(ImageEnhance, kind)(image).enhance(factor)


def adjust_hue(image: Any, factor: float) -> Any:
    """Turn the hue by `factor` of the full circle, in steps of 1/256."""
    if image.mode in ("L", "1", "I", "F"):
        return image
    hue, saturation, value = image.convert("HSV").split()
    turned = np.array(hue, dtype=np.uint8) + np.int32(factor * 255).astype(np.uint8)
    return pillow().Image.merge("HSV", (with_mode(turned, "L"), saturation, value)).convert(image.mode)


def adjust_gamma(image: Any, gamma: float, gain: float) -> Any:
    """`255 · gain · (p/255)^gamma` for each value, by a table."""
    mode = image.mode
    table = [int((255 + 1 - 1e-3) * gain * pow(value / 255.0, gamma)) for value in range(256)] * 3
    return image.convert("RGB").point(table).convert(mode)


def grayscale(image: Any, channels: int) -> Any:
    """Luma as one channel, or the same three times."""
    grey = image.convert("L")
    if channels == 1:
        return grey
    return with_mode(np.dstack([np.array(grey, dtype=np.uint8)] * 3), "RGB")


def to_array(image: Any) -> np.ndarray:
    """The pixels as (H, W, C), a copy, in the dtype of the image's mode."""
    dtypes = {"I": np.int32, "I;16": np.uint16, "I;16B": np.uint16, "F": np.float32}
    pixels = np.array(image, dtype=dtypes.get(image.mode, np.uint8), copy=True)
    if image.mode == "1":
        pixels = 255 * pixels
    return pixels.reshape(image.size[1], image.size[0], len(image.getbands()))


def from_array(pixels: np.ndarray, mode: str | None) -> Any:
    """An image of (H, W) or (H, W, C) pixels; the mode follows from dtype and channels unless given.

    Raises:
        ValueError: the mode does not suit the number of channels.
        TypeError: no mode suits the dtype.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    allowed: dict[int, Sequence[str]] = {2: ("LA",), 3: ("RGB", "YCbCr", "HSV"), 4: ("RGBA", "CMYK", "RGBX")}
    if channels == 1:
        pixels = pixels.reshape(pixels.shape[:2])
        modes = {"uint8": "L", "int16": "I;16", "uint16": "I;16", "int32": "I", "float32": "F"}
        expected = modes.get(pixels.dtype.name)
        if mode is not None and mode != expected:
            raise ValueError(f"Incorrect mode ({mode}) supplied for input type {pixels.dtype}. Should be {expected}")
        mode = expected
    elif mode is not None and mode not in allowed.get(channels, ()):
        raise ValueError(f"Only modes {list(allowed.get(channels, ()))} are supported for {channels}D inputs")
    elif mode is None and pixels.dtype == np.uint8:
        mode = {2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    if mode is None:
        raise TypeError(f"Input type {pixels.dtype} is not supported")
    return with_mode(pixels, mode)


def with_mode(pixels: np.ndarray, mode: str) -> Any:
    """An image of this mode whose memory is that of the pixels."""
    height, width = pixels.shape[:2]
    return pillow().Image.frombytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes())
