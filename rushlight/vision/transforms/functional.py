"""The transforms as functions, on PIL images and on tensors (..., C, H, W)."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rushlight.record.warn import warn
from rushlight.tensor import Tensor
from rushlight.vision.images import is_pil
from rushlight.vision.transforms import arrays, pil
from rushlight.vision.transforms.conversion import (
    array_of,
    convert_image_dtype,
    normalize,
    pil_to_tensor,
    tensor_of,
    to_pil_image,
    to_tensor,
)
from rushlight.vision.transforms.enhance import adjust_sharpness, autocontrast, equalize, posterize, solarize

__all__ = [
    "InterpolationMode", "adjust_brightness", "adjust_contrast", "adjust_gamma", "adjust_hue", "adjust_saturation",
    "adjust_sharpness", "autocontrast", "equalize", "posterize", "solarize",
    "center_crop", "convert_image_dtype", "crop", "erase", "five_crop", "gaussian_blur", "get_dimensions",
    "get_image_num_channels", "get_image_size", "hflip", "invert", "normalize", "pad", "pil_to_tensor", "resize",
    "resized_crop", "rgb_to_grayscale", "rotate", "ten_crop", "to_grayscale", "to_pil_image", "to_tensor", "vflip",
]  # fmt: skip


class InterpolationMode(enum.Enum):
    """How pixels between pixels are found."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


_PILLOW_CONSTANTS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def interpolation_mode(interpolation: InterpolationMode | int) -> InterpolationMode:
    """The mode, also from one of Pillow's integer constants.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(interpolation, int):
        return InterpolationMode(_PILLOW_CONSTANTS[int(interpolation)])
    if not isinstance(interpolation, InterpolationMode):
        kind = type(interpolation).__name__
        raise TypeError(f"interpolation should be an InterpolationMode or a Pillow integer constant, got {kind}")
    return interpolation


# -- size -----------------------------------------------------------------------------------------------------------


def get_dimensions(img: Any) -> list[int]:
    """Channels, height and width."""
    if isinstance(img, Tensor):
        return [1 if img.dim() == 2 else img.shape[-3], img.shape[-2], img.shape[-1]]
    if not is_pil(img):
        raise TypeError(f"Unexpected type {type(img)}")
    return [len(img.getbands()), img.size[1], img.size[0]]


def get_image_size(img: Any) -> list[int]:
    """Width and height."""
    return get_dimensions(img)[:0:-1]


def get_image_num_channels(img: Any) -> int:
    """Channels."""
    return get_dimensions(img)[0]


def output_size(
    height: int, width: int, size: Sequence[int] | int | None, max_size: int | None = None
) -> tuple[int, int]:
    """What `resize` makes of a height and width: one number is for the shorter side."""
    if size is None:
        if max_size is None:
            raise ValueError("max_size must be an integer when size is None")
        scale = max_size / max(height, width)
        return max(int(height * scale), 1), max(int(width * scale), 1)
    sizes = [size] if isinstance(size, int) else list(size)
    if len(sizes) == 2:
        if max_size is not None:
            raise ValueError("max_size should only be passed if size specifies the length of the smaller edge")
        return int(sizes[0]), int(sizes[1])
    short, long = sorted((height, width))
    new_short, new_long = sizes[0], int(sizes[0] * long / short)
    if max_size is not None:
        if max_size <= sizes[0]:
            raise ValueError(
                f"max_size = {max_size} must be strictly greater than the requested size for the smaller edge "
                f"size = {size}"
            )
        if new_long > max_size:
            new_short, new_long = int(max_size * new_short / new_long), max_size
    return (new_long, new_short) if width <= height else (new_short, new_long)


def resize(
    img: Any,
    size: Sequence[int] | int | None,
    interpolation: InterpolationMode | int = InterpolationMode.BILINEAR,
    max_size: int | None = None,
    antialias: bool | None = True,
) -> Any:
    """Resample to a size (height, width), or so that the shorter side has the length `size`."""
    mode = interpolation_mode(interpolation)
    if isinstance(size, (list, tuple)) and len(size) not in (1, 2):
        raise ValueError(f"Size must be an int or a 1 or 2 element tuple/list, not a {len(size)} element tuple/list")
    _, height, width = get_dimensions(img)
    wanted = output_size(height, width, size, max_size)
    if wanted == (height, width):
        return img
    if is_pil(img):
        if antialias is False:
            warn("Anti-alias option is always applied for PIL Image input. Argument antialias is ignored.")  # fmt: skip
        return img.resize(wanted[::-1], pil.resampling(mode.value))
    if mode.value not in ("nearest", "nearest-exact", "bilinear", "bicubic"):
        raise ValueError(f"This interpolation mode is unsupported with Tensor input: {mode.value}")
    return tensor_of(arrays.resize(array_of(img), wanted, mode.value, bool(antialias)))


def crop(img: Any, top: int, left: int, height: int, width: int) -> Any:
    """The window that begins at (top, left); outside of the image it is black."""
    if is_pil(img):
        return img.crop((left, top, left + width, top + height))
    _, rows, columns = get_dimensions(img)
    if 0 <= top and 0 <= left and top + height <= rows and left + width <= columns:
        return img[..., top : top + height, left : left + width]
    return tensor_of(arrays.crop(array_of(img), top, left, height, width))


def center_crop(img: Any, output_size: Sequence[int] | int) -> Any:
    """The middle of the image; a smaller image is padded with black first."""
    height, width = two_numbers(output_size)
    _, rows, columns = get_dimensions(img)
    if width > columns or height > rows:
        left, top = max(width - columns, 0) // 2, max(height - rows, 0) // 2
        img = pad(img, [left, top, (max(width - columns, 0) + 1) // 2, (max(height - rows, 0) + 1) // 2], fill=0)
        _, rows, columns = get_dimensions(img)
        if (height, width) == (rows, columns):
            return img
    return crop(img, int(round((rows - height) / 2.0)), int(round((columns - width) / 2.0)), height, width)


def two_numbers(size: Sequence[int] | int) -> tuple[int, int]:
    """A size given as one number, a list of one, or two numbers."""
    if isinstance(size, (int, float)):
        return int(size), int(size)
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])


def resized_crop(
    img: Any,
    top: int,
    left: int,
    height: int,
    width: int,
    size: Sequence[int],
    interpolation: InterpolationMode | int = InterpolationMode.BILINEAR,
    antialias: bool | None = True,
) -> Any:
    """`crop`, then `resize`."""
    return resize(crop(img, top, left, height, width), size, interpolation, antialias=antialias)


def four_numbers(padding: Sequence[int] | int) -> tuple[int, int, int, int]:
    """Padding as (left, top, right, bottom): from one number, from (horizontal, vertical), or from all four."""
    if isinstance(padding, (int, float)):
        padding = [padding]  # type: ignore[list-item]
    if not isinstance(padding, (list, tuple)):
        raise TypeError("Got inappropriate padding arg")
    if len(padding) not in (1, 2, 4):
        raise ValueError(f"Padding must be an int or a 1, 2, or 4 element tuple, not a {len(padding)} element tuple")
    if len(padding) == 4:
        return padding[0], padding[1], padding[2], padding[3]
    horizontal, vertical = padding[0], padding[-1]
    return horizontal, vertical, horizontal, vertical


def pad(img: Any, padding: Sequence[int] | int, fill: Any = 0, padding_mode: str = "constant") -> Any:
    """Add borders: "constant" (`fill`), "edge", "reflect" or "symmetric"."""
    edges = four_numbers(padding)
    if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
        raise ValueError("Padding mode should be either constant, edge, reflect or symmetric")
    if is_pil(img):
        return pil.pad(img, edges, fill, padding_mode)
    value = 0 if fill is None else fill[0] if isinstance(fill, (list, tuple)) else fill
    return tensor_of(arrays.pad(array_of(img), edges, value, padding_mode))


def hflip(img: Any) -> Any:
    """Left and right exchanged."""
    if is_pil(img):
        return img.transpose(pil.pillow().Image.Transpose.FLIP_LEFT_RIGHT)
    return tensor_of(array_of(img)[..., ::-1])


def vflip(img: Any) -> Any:
    """Top and bottom exchanged."""
    if is_pil(img):
        return img.transpose(pil.pillow().Image.Transpose.FLIP_TOP_BOTTOM)
    return tensor_of(array_of(img)[..., ::-1, :])


def five_crop(img: Any, size: Sequence[int] | int) -> tuple[Any, Any, Any, Any, Any]:
    """The four corners and the middle."""
    height, width = two_numbers(size)
    _, rows, columns = get_dimensions(img)
    if width > columns or height > rows:
        raise ValueError(f"Requested crop size {(height, width)} is bigger than input size {(rows, columns)}")
    bottom, right = rows - height, columns - width
    corners = [crop(img, top, left, height, width) for top in (0, bottom) for left in (0, right)]
    return corners[0], corners[1], corners[2], corners[3], center_crop(img, [height, width])


def ten_crop(img: Any, size: Sequence[int] | int, vertical_flip: bool = False) -> tuple[Any, ...]:
    """`five_crop` of the image and of its mirror image."""
    return five_crop(img, size) + five_crop(vflip(img) if vertical_flip else hflip(img), size)


# -- colour ---------------------------------------------------------------------------------------------------------


def _positive(name: str, factor: float) -> None:
    if factor < 0:
        raise ValueError(f"{name} ({factor}) is not non-negative.")


def adjust_brightness(img: Any, brightness_factor: float) -> Any:
    """0 is black, 1 the image, 2 twice as bright."""
    _positive("brightness_factor", brightness_factor)
    if is_pil(img):
        return pil.enhance(img, "Brightness", brightness_factor)
    return tensor_of(arrays.blend(array_of(img), np.float32(0.0), brightness_factor))


def adjust_contrast(img: Any, contrast_factor: float) -> Any:
    """0 is grey, 1 the image."""
    _positive("contrast_factor", contrast_factor)
    if is_pil(img):
        return pil.enhance(img, "Contrast", contrast_factor)
    return tensor_of(arrays.adjust_contrast(array_of(img), contrast_factor))


def adjust_saturation(img: Any, saturation_factor: float) -> Any:
    """0 is black and white, 1 the image."""
    _positive("saturation_factor", saturation_factor)
    if is_pil(img):
        return pil.enhance(img, "Color", saturation_factor)
    return tensor_of(arrays.adjust_saturation(array_of(img), saturation_factor))


def adjust_hue(img: Any, hue_factor: float) -> Any:
    """Turn the hue: -0.5 and 0.5 are the complementary colours, 0 the image."""
    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"hue_factor ({hue_factor}) is not in [-0.5, 0.5].")
    if is_pil(img):
        return pil.adjust_hue(img, hue_factor)
    return tensor_of(arrays.adjust_hue(array_of(img), hue_factor))


def adjust_gamma(img: Any, gamma: float, gain: float = 1) -> Any:
    """`gain · value^gamma` on values in [0, 1]."""
    if gamma < 0:
        raise ValueError("Gamma should be a non-negative real number")
    if is_pil(img):
        return pil.adjust_gamma(img, gamma, gain)
    values = array_of(img)
    white = arrays.bound(values)
    unit = values.astype(np.float32) / np.float32(white) if values.dtype.kind != "f" else values
    result = np.clip(gain * unit**gamma, 0, 1)
    return tensor_of(result if white == 1.0 else (result * (white + 1.0 - 1e-3)).astype(values.dtype))


def rgb_to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
    """The luma, as one channel or three equal ones."""
    if num_output_channels not in (1, 3):
        raise ValueError("num_output_channels should be either 1 or 3")
    if is_pil(img):
        return pil.grayscale(img, num_output_channels)
    values = array_of(img)
    luma = arrays.grayscale(values) if values.shape[-3] == 3 else values
    return tensor_of(np.concatenate([luma] * 3, axis=-3) if num_output_channels == 3 else luma)


def to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
    """`rgb_to_grayscale` for PIL images."""
    if not is_pil(img):
        raise TypeError("Input should be PIL Image")
    return rgb_to_grayscale(img, num_output_channels)


def invert(img: Any) -> Any:
    """White for black."""
    if is_pil(img):
        from PIL import ImageOps

        return ImageOps.invert(img)
    values = array_of(img)
    return tensor_of(values.dtype.type(arrays.bound(values)) - values)


# -- rotation, erasing, blur ----------------------------------------------------------------------------------------


def rotate(
    img: Any,
    angle: float,
    interpolation: InterpolationMode | int = InterpolationMode.NEAREST,
    expand: bool = False,
    center: Sequence[int] | None = None,
    fill: Any = None,
) -> Any:
    """Turn counter-clockwise by `angle` degrees about the middle, or about `center` (x, y)."""
    mode = interpolation_mode(interpolation).value
    if center is not None and not isinstance(center, (list, tuple)):
        raise TypeError("Argument center should be a sequence")
    if is_pil(img):
        colour = pil.fill_colour(fill, img, "fillcolor")
        return img.rotate(angle, pil.resampling(mode), expand, None if center is None else tuple(center), **colour)
    values = array_of(img)
    rows, columns = values.shape[-2:]
    size = arrays.rotated_size(rows, columns, angle) if expand else (rows, columns)
    turn = math.radians(angle)
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = (0.0, 0.0) if center is None else (center[0] - columns * 0.5, center[1] - rows * 0.5)
    matrix = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
    return tensor_of(arrays.warp(values, matrix, size, mode, None if fill is None else fill_values(fill, values)))


def affine(
    img: Any,
    angle: float,
    translate: Sequence[int],
    scale: float,
    shear: Sequence[float] | float,
    interpolation: InterpolationMode | int = InterpolationMode.NEAREST,
    fill: Any = None,
    center: Sequence[int] | None = None,
) -> Any:
    """Turn by `angle` degrees clockwise, scale, shear (x, y in degrees) and move, keeping the image's size.

    Raises:
        ValueError: `translate` has not two values, or `scale` is not positive.
    """
    if len(translate) != 2:
        raise ValueError("translate should be a list or tuple of length 2")
    if scale <= 0.0:
        raise ValueError("Argument scale should be positive")
    shears = [float(shear), 0.0] if isinstance(shear, (int, float)) else [float(s) for s in shear]
    shears += [0.0] * (2 - len(shears))
    mode = interpolation_mode(interpolation).value
    _, height, width = get_dimensions(img)
    if is_pil(img):
        middle = [width * 0.5, height * 0.5] if center is None else list(center)
        matrix = _inverse_affine(middle, angle, translate, scale, shears)
        colour = pil.fill_colour(fill, img, "fillcolor")
        transform = pil.pillow().Image.Transform.AFFINE
        return img.transform((width, height), transform, matrix, pil.resampling(mode), **colour)
    middle = [0.0, 0.0] if center is None else [center[0] - width * 0.5, center[1] - height * 0.5]
    matrix = _inverse_affine(middle, angle, translate, scale, shears)
    values = array_of(img)
    outside = None if fill is None else fill_values(fill, values)
    return tensor_of(arrays.warp(values, matrix, (height, width), mode, outside))


def _inverse_affine(
    center: Sequence[float], angle: float, translate: Sequence[float], scale: float, shear: Sequence[float]
) -> list[float]:
    """The six numbers that take an output pixel to the input pixel it comes from.

    The forward map: centre to the origin, shear along x, shear along y, turn, scale, back, translate. Its linear part
    has the entries a, b, c, d below and determinant 1 before scaling, so the inverse is (d, -b; -c, a) / scale.
    """
    turn, sx, sy = math.radians(angle), math.radians(shear[0]), math.radians(shear[1])
    a = math.cos(turn - sy) / math.cos(sy)
    b = -math.cos(turn - sy) * math.tan(sx) / math.cos(sy) - math.sin(turn)
    c = math.sin(turn - sy) / math.cos(sy)
    d = -math.sin(turn - sy) * math.tan(sx) / math.cos(sy) + math.cos(turn)
    xx, xy, yx, yy = d / scale, -b / scale, -c / scale, a / scale
    x, y = -center[0] - translate[0], -center[1] - translate[1]
    return [xx, xy, xx * x + xy * y + center[0], yx, yy, yx * x + yy * y + center[1]]


def fill_values(fill: Any, values: np.ndarray) -> list[float]:
    """One value per channel of the image."""
    channels = values.shape[-3]
    given = list(fill) if isinstance(fill, (list, tuple)) else [fill]
    if len(given) not in (1, channels):
        raise ValueError(
            f"The number of elements in 'fill' cannot broadcast to match the number of channels of the image "
            f"({len(given)} != {channels})"
        )
    return given if len(given) == channels else given * channels


def erase(img: Tensor, i: int, j: int, h: int, w: int, v: Tensor, inplace: bool = False) -> Tensor:
    """Fill the window of height `h` and width `w` at (`i`, `j`) with `v`."""
    if not isinstance(img, Tensor):
        raise TypeError(f"img should be Tensor. Got {type(img)}")
    if not inplace:
        img = img.clone()
    img[..., i : i + h, j : j + w] = v
    return img


def gaussian_blur(img: Any, kernel_size: Sequence[int] | int, sigma: Sequence[float] | float | None = None) -> Any:
    """Blur with a normal density of `kernel_size` (x, y) pixels; sigma follows from the size unless given."""
    sizes = two_numbers(kernel_size)
    for size in sizes:
        if size % 2 == 0 or size < 0:
            raise ValueError(f"kernel_size should have odd and positive integers. Got {list(sizes)}")
    if sigma is None:
        spreads = [size * 0.15 + 0.35 for size in sizes]
    elif isinstance(sigma, (int, float)):
        spreads = [float(sigma)] * 2
    else:
        spreads = [float(sigma[0]), float(sigma[-1])]
    if any(s <= 0 for s in spreads):
        raise ValueError(f"sigma should have positive values. Got {spreads}")
    if is_pil(img):
        blurred = arrays.gaussian_blur(pil.to_array(img).transpose(2, 0, 1), sizes, spreads)
        return pil.from_array(blurred.transpose(1, 2, 0), img.mode)
    return tensor_of(arrays.gaussian_blur(array_of(img), sizes, spreads))
