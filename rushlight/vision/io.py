"""Images in files: ``torchvision.io``'s functions for them. Pillow reads and writes."""
from __future__ import annotations

import enum
import io
import os
from typing import Any

import numpy as np

from rushlight.tensor import Tensor, from_numpy
from rushlight.vision.images import pillow

__all__ = ["ImageReadMode", "decode_image", "decode_jpeg", "decode_png", "encode_jpeg", "encode_png", "read_file", "read_image",
           "write_file", "write_jpeg", "write_png"]


class ImageReadMode(enum.Enum):
    """Which channels an image is read with: those of the file, or grey, grey and alpha, three or four."""

    UNCHANGED = 0
    GRAY = 1
    GRAY_ALPHA = 2
    RGB = 3
    RGB_ALPHA = 4


_MODES = {ImageReadMode.GRAY: "L", ImageReadMode.GRAY_ALPHA: "LA", ImageReadMode.RGB: "RGB", ImageReadMode.RGB_ALPHA: "RGBA"}
_STORED = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}  # what the file's own channels are where they are no plain ones


def read_file(path: str | os.PathLike[str]) -> Tensor:
    """The bytes of a file, as a uint8 tensor of one dimension."""
    with open(path, "rb") as f:
        return from_numpy(np.frombuffer(f.read(), np.uint8).copy())


def write_file(filename: str | os.PathLike[str], data: Tensor) -> None:
    """Write a uint8 tensor of one dimension as the bytes of a file."""
    with open(filename, "wb") as f:
        f.write(data.numpy().tobytes())


def decode_image(input: Tensor | str | os.PathLike[str], mode: ImageReadMode | str = ImageReadMode.UNCHANGED,
                 apply_exif_orientation: bool = False) -> Tensor:
    """An image.

    Args:
        input: a path, or the file's bytes as a uint8 tensor of one dimension.
        mode: the channels, also by name ("RGB").
        apply_exif_orientation: turn the image as the camera was held.

    Returns:
        (C, H, W) uint8

    Raises:
        FileNotFoundError: no such file. RuntimeError: it is no image that can be read.
    """
    if isinstance(mode, str):
        mode = ImageReadMode[mode.upper()]
    packed = read_file(input) if isinstance(input, str | os.PathLike) else input
    pil = pillow()
    try:
        image = pil.Image.open(io.BytesIO(packed.numpy().tobytes()))
        image.load()
    except (pil.UnidentifiedImageError, OSError) as e:
        raise RuntimeError("Unsupported image file. Only what Pillow reads is supported.") from e
    if apply_exif_orientation:
        import PIL.ImageOps
        image = PIL.ImageOps.exif_transpose(image)
    wanted = _MODES.get(mode, _STORED.get(image.mode, image.mode))
    pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


read_image = decode_png = decode_jpeg = decode_image


def _encode(input: Tensor, kind: str, **options: Any) -> Tensor:
    pixels = input.numpy()
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise RuntimeError(f"[write_{kind.lower()}] expected a uint8 tensor (1 or 3, H, W), got {input.dtype} {tuple(input.shape)}")
    buffer = io.BytesIO()
    pillow().Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, kind, **options)
    return from_numpy(np.frombuffer(buffer.getvalue(), np.uint8).copy())


def encode_png(input: Tensor, compression_level: int = 6) -> Tensor:
    """(1 or 3, H, W) uint8 as the bytes of a PNG file."""
    return _encode(input, "PNG", compress_level=compression_level)


def encode_jpeg(input: Tensor, quality: int = 75) -> Tensor:
    """(1 or 3, H, W) uint8 as the bytes of a JPEG file."""
    return _encode(input, "JPEG", quality=quality)


def write_png(input: Tensor, filename: str | os.PathLike[str], compression_level: int = 6) -> None:
    """(1 or 3, H, W) uint8 to a PNG file."""
    write_file(filename, encode_png(input, compression_level))


def write_jpeg(input: Tensor, filename: str | os.PathLike[str], quality: int = 75) -> None:
    """(1 or 3, H, W) uint8 to a JPEG file."""
    write_file(filename, encode_jpeg(input, quality))
