"""Image operations on NumPy arrays (..., H, W): what the transforms do to tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_FILTERS = {
    "bilinear": (1.0, lambda x: np.maximum(0.0, 1.0 - x)),
    "bicubic": (2.0, lambda x: _cubic(x, -0.5)),
    "bicubic-plain": (2.0, lambda x: _cubic(x, -0.75)),
}


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def resample_matrix(old: int, new: int, mode: str, antialias: bool) -> np.ndarray:
    """The (new, old) float64 matrix that resamples one axis.

    With `antialias` the filter widens with the step, so that every old pixel counts; without, it has a fixed width and
    pixels beyond the border count as the border's.
    """
    step = old / new
    centres = (np.arange(new) + 0.5) * step
    if antialias:
        support, weight = _FILTERS[mode]
        scale = max(step, 1.0)
        distance = np.abs(np.arange(old)[None, :] + 0.5 - centres[:, None]) / scale
        first = np.maximum((centres - support * scale + 0.5).astype(np.int64), 0)
        last = np.minimum((centres + support * scale + 0.5).astype(np.int64), old)
        inside = (np.arange(old) >= first[:, None]) & (np.arange(old) < last[:, None])
        matrix = np.where(inside, weight(distance), 0.0)
        return matrix / matrix.sum(axis=1, keepdims=True)
    support, weight = _FILTERS["bicubic-plain" if mode == "bicubic" else mode]
    matrix = np.zeros((new, old))
    start = centres - 0.5
    if mode == "bilinear":
        start = np.maximum(start, 0.0)
    base = np.floor(start).astype(np.int64)
    rows = np.arange(new)
    for tap in range(1 - int(support), 1 + int(support)):
        place = base + tap
        np.add.at(matrix, (rows, np.clip(place, 0, old - 1)), weight(np.abs(place - start)))
    return matrix


def resize(image: np.ndarray, size: tuple[int, int], mode: str, antialias: bool) -> np.ndarray:
    """Resample the last two axes to `size`; integer images are rounded back to their dtype."""
    height, width = image.shape[-2:]
    if (height, width) == size:
        return image
    if mode in ("nearest", "nearest-exact"):
        rows, columns = (_nearest(old, new, mode) for old, new in zip((height, width), size))
        return image[..., rows[:, None], columns]
    work = image.astype(np.float64 if image.dtype == np.float64 else np.float32)
    across = resample_matrix(width, size[1], mode, antialias).astype(work.dtype)
    down = resample_matrix(height, size[0], mode, antialias).astype(work.dtype)
    return cast_like(down @ (work @ across.T), image)


def _nearest(old: int, new: int, mode: str) -> np.ndarray:
    shift = 0.5 if mode == "nearest-exact" else 0.0
    places = np.floor((np.arange(new) + shift) * np.float32(old / new)).astype(np.int64)
    return np.minimum(places, old - 1)


def cast_like(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Back to the dtype of `image`; integers are rounded to the nearest and kept within their range."""
    if image.dtype.kind == "f":
        return values.astype(image.dtype, copy=False)
    limits = np.iinfo(image.dtype)
    return np.clip(np.round(values), limits.min, limits.max).astype(image.dtype)


def bound(image: np.ndarray) -> float:
    """The value of white."""
    return 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)


def blend(image: np.ndarray, other: np.ndarray | float, ratio: float) -> np.ndarray:
    """`ratio` parts of the image and the rest of the other, kept between black and white, truncated to integers."""
    working = image.astype(np.float32) if image.dtype.kind != "f" else image
    mixed = np.float32(ratio) * working + np.float32(1.0 - ratio) * other
    return np.clip(mixed, 0, bound(image)).astype(image.dtype)


def grayscale(image: np.ndarray) -> np.ndarray:
    """The luma (..., 1, H, W) of an RGB image (..., 3, H, W)."""
    red, green, blue = (image[..., c, :, :].astype(np.float32) for c in range(3))
    luma = np.float32(0.2989) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return luma.astype(image.dtype)[..., None, :, :]


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the mean of the luma."""
    luma = grayscale(image) if image.shape[-3] == 3 else image
    mean = luma.astype(np.float32 if image.dtype.kind != "f" else image.dtype).mean(axis=(-3, -2, -1), keepdims=True)
    return blend(image, mean, factor)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the luma; grey images have no saturation to change."""
    return image if image.shape[-3] == 1 else blend(image, grayscale(image).astype(np.float32), factor)


def adjust_hue(image: np.ndarray, factor: float) -> np.ndarray:
    """Turn the hue by `factor` of the full circle."""
    if image.shape[-3] == 1:
        return image
    white = bound(image)
    hsv = rgb_to_hsv(image.astype(np.float32) / np.float32(white) if white != 1.0 else image)
    hsv[..., 0, :, :] = (hsv[..., 0, :, :] + factor) % 1.0
    rgb = hsv_to_rgb(hsv)
    return rgb.astype(image.dtype) if white == 1.0 else (rgb * (white + 1.0 - 1e-3)).astype(image.dtype)


def rgb_to_hsv(rgb: np.ndarray) -> np.ndarray:
    """Hue, saturation and value in [0, 1] along axis -3."""
    red, green, blue = (rgb[..., c, :, :] for c in range(3))
    high, low = rgb.max(axis=-3), rgb.min(axis=-3)
    spread = high - low
    grey = high == low
    saturation = spread / np.where(grey, 1, high)
    divisor = np.where(grey, 1, spread)
    from_red, from_green, from_blue = ((high - c) / divisor for c in (red, green, blue))
    hue = np.where(
        high == red,
        from_blue - from_green,
        np.where(high == green, 2.0 + from_red - from_blue, 4.0 + from_green - from_red),
    )
    return np.stack([(hue / 6.0 + 1.0) % 1.0, saturation, high], axis=-3).astype(rgb.dtype)


def hsv_to_rgb(hsv: np.ndarray) -> np.ndarray:
    """The inverse of `rgb_to_hsv`."""
    hue, saturation, value = (hsv[..., c, :, :] for c in range(3))
    sector = np.floor(hue * 6.0)
    rest = hue * 6.0 - sector
    low = np.clip(value * (1.0 - saturation), 0, 1)
    falling = np.clip(value * (1.0 - saturation * rest), 0, 1)
    rising = np.clip(value * (1.0 - saturation * (1.0 - rest)), 0, 1)
    which = sector.astype(np.int64) % 6
    red = np.choose(which, [value, falling, low, low, rising, value])
    green = np.choose(which, [rising, value, value, falling, low, low])
    blue = np.choose(which, [low, low, rising, value, value, falling])
    return np.stack([red, green, blue], axis=-3).astype(hsv.dtype)


def pad(image: np.ndarray, padding: tuple[int, int, int, int], fill: float, mode: str) -> np.ndarray:
    """Pad the last two axes by (left, top, right, bottom); negative numbers crop."""
    left, top, right, bottom = padding
    height, width = image.shape[-2:]
    image = image[..., max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0)]
    amounts = [(0, 0)] * (image.ndim - 2) + [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    if mode == "constant":
        return np.pad(image, amounts, mode="constant", constant_values=np.asarray(fill).astype(image.dtype))
    return np.pad(image, amounts, mode=mode)  # type: ignore[call-overload]


def crop(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A window of the last two axes; what lies outside of the image is 0."""
    rows, columns = image.shape[-2:]
    if left < 0 or top < 0 or left + width > columns or top + height > rows:
        edges = max(-left, 0), max(-top, 0), max(left + width - columns, 0), max(top + height - rows, 0)
        image = pad(image, edges, 0, "constant")
        top, left = max(top, 0), max(left, 0)
    return image[..., top : top + height, left : left + width]


def warp(
    image: np.ndarray, matrix: Sequence[float], size: tuple[int, int], mode: str, fill: Sequence[float] | None
) -> np.ndarray:
    """Sample the image (..., C, H, W) at an affine map of the output's pixels.

    Args:
        matrix: six numbers a, b, c, d, e, f: output offsets (x, y) from the centre come from the input's offsets
            (a x + b y + c, d x + e y + f) from its centre.
        size: height and width of the output.
        mode: "nearest" or "bilinear".
        fill: one value per channel, for what lies outside; None for black.
    """
    rows, columns = image.shape[-2:]
    a, b, c, d, e, f = matrix
    y = np.arange(size[0])[:, None] - (size[0] - 1) / 2
    x = np.arange(size[1])[None, :] - (size[1] - 1) / 2
    source_x = a * x + b * y + c + (columns - 1) / 2
    source_y = d * x + e * y + f + (rows - 1) / 2
    if mode == "nearest":
        nearest = [(np.round(source_y).astype(np.int64), np.round(source_x).astype(np.int64), 1.0)]
        result, inside = _gather(image, nearest)
    else:
        y0, x0 = np.floor(source_y).astype(np.int64), np.floor(source_x).astype(np.int64)
        dy, dx = source_y - y0, source_x - x0
        result, inside = _gather(
            image,
            [
                (y0, x0, (1 - dy) * (1 - dx)),
                (y0, x0 + 1, (1 - dy) * dx),
                (y0 + 1, x0, dy * (1 - dx)),
                (y0 + 1, x0 + 1, dy * dx),
            ],
        )
    if fill is not None:
        # Towards the border, pixels fade to black before they are mixed with the filling: torchvision's rule.
        result = result * inside + (1 - inside) * np.asarray(fill, np.float64).reshape(-1, 1, 1)
    return cast_like(result, image)


def _gather(image: np.ndarray, taps: list[tuple[np.ndarray, np.ndarray, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Weighted pixels at (rows, columns, weights), and the share of the weight that lies inside of the image."""
    rows, columns = image.shape[-2:]
    total, inside = np.float64(0.0), np.float64(0.0)
    for y, x, weight in taps:
        within = weight * ((y >= 0) & (y < rows) & (x >= 0) & (x < columns))
        total = total + image[..., np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)] * within
        inside = inside + within
    return np.asarray(total), np.asarray(inside)


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """A normal density sampled at `size` places, summing to 1."""
    places = np.linspace(-(size - 1) * 0.5, (size - 1) * 0.5, size)
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    return weights / weights.sum()


def gaussian_blur(image: np.ndarray, kernel_size: Sequence[int], sigma: Sequence[float]) -> np.ndarray:
    """Blur the last two axes; sizes and sigmas as (x, y). Borders are reflected."""
    width, height = kernel_size
    work = image.astype(np.float64 if image.dtype == np.float64 else np.float32)
    work = pad(work, (width // 2, height // 2, width // 2, height // 2), 0, "reflect")
    for axis, size, spread in ((-1, width, sigma[0]), (-2, height, sigma[1])):
        windows = np.lib.stride_tricks.sliding_window_view(work, size, axis=axis)
        work = (windows @ gaussian_kernel(size, spread).astype(work.dtype)).astype(work.dtype)
    return cast_like(work, image)


def rotated_size(height: int, width: int, angle: float) -> tuple[int, int]:
    """Height and width of the frame of whole pixels around the image turned by `angle` degrees about its middle."""
    turn = math.radians(angle)
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))

    def whole(extent: int, turned: float) -> int:
        # Pixels are counted from the old frame's corner; a ten-thousandth of a pixel is no pixel.
        low, high = (math.trunc((extent + sign * turned) / 2 / 1e-4) * 1e-4 for sign in (-1, 1))
        return math.ceil(high) - math.floor(low)

    return whole(height, width * sin + height * cos), whole(width, width * cos + height * sin)
