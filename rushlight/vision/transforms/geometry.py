"""Transforms that choose which pixels stay and where they go: resize, crop, pad, flip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rushlight.nn import Module
from rushlight.record.warn import warn
from rushlight.vision.transforms import draws
from rushlight.vision.transforms import functional as F
from rushlight.vision.transforms.batch import Batchable
from rushlight.vision.transforms.functional import InterpolationMode


def setup_size(size: int | Sequence[int], message: str = "Please provide only two dimensions (h, w) for size.") -> Any:
    """(height, width) from one number, a list of one, or two numbers."""
    if isinstance(size, (int, float)):
        return int(size), int(size)
    if isinstance(size, Sequence) and len(size) == 1:
        return size[0], size[0]
    if len(size) != 2:
        raise ValueError(message)
    return size


class Resize(Module):
    """Resample to `size`: (height, width), or one number for the shorter side.

    Args:
        size: see above.
        interpolation: an `InterpolationMode`.
        max_size: an upper bound of the longer side, where `size` is one number.
        antialias: for tensors: let every pixel count when shrinking. (PIL images always have it.)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None,
        interpolation: InterpolationMode | int = InterpolationMode.BILINEAR,
        max_size: int | None = None,
        antialias: bool | None = True,
    ) -> None:
        super().__init__()
        if not isinstance(size, (int, Sequence)) and size is not None:
            raise TypeError(f"Size should be int or sequence. Got {type(size)}")
        if isinstance(size, Sequence) and len(size) not in (1, 2):
            raise ValueError("If size is a sequence, it should have 1 or 2 values")
        self.size = size
        self.max_size = max_size
        self.interpolation = F.interpolation_mode(interpolation)
        self.antialias = antialias

    def forward(self, img: Any) -> Any:
        return F.resize(img, self.size, self.interpolation, self.max_size, self.antialias)

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}(size={self.size}, interpolation={self.interpolation.value}, "
            f"max_size={self.max_size}, antialias={self.antialias})"
        )


class CenterCrop(Batchable, Module):
    """The middle of the image, of `size`; a smaller image is padded with black first."""

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        self.size = setup_size(size)

    def forward(self, img: Any) -> Any:
        return F.center_crop(img, self.size)

    def batch_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.size[0], self.size[1]

    def batch_apply(self, images: np.ndarray, drawn: Any, axis: int) -> np.ndarray:
        height, width = self.size
        rows, columns = images.shape[axis : axis + 2]
        if height > rows or width > columns:
            missing = [(max(height - rows, 0)), (max(width - columns, 0))]
            before = [missing[0] // 2, missing[1] // 2]
            after = [(missing[0] + 1) // 2, (missing[1] + 1) // 2]
            images = pad_batch(images, axis, (before[1], before[0], after[1], after[0]))
            rows, columns = images.shape[axis : axis + 2]
        top, left = int(round((rows - height) / 2.0)), int(round((columns - width) / 2.0))
        return _window(images, axis, top, left, height, width)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(size={self.size})"


def _window(images: np.ndarray, axis: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    return images[(slice(None),) * axis + (slice(top, top + height), slice(left, left + width))]


def pad_batch(
    images: np.ndarray, axis: int, edges: tuple[int, int, int, int], fill: float = 0, mode: str = "constant"
) -> np.ndarray:
    """Add borders (left, top, right, bottom) to the axes `axis` and `axis + 1`."""
    left, top, right, bottom = edges
    amounts = [(0, 0)] * images.ndim
    amounts[axis : axis + 2] = [(top, bottom), (left, right)]
    if mode == "constant":
        return np.pad(images, amounts, constant_values=np.asarray(fill).astype(images.dtype))
    return np.pad(images, amounts, mode=mode)  # type: ignore[call-overload]


def grown(size: tuple[int, int], borders: Sequence[tuple[int, int, int, int]]) -> tuple[int, int]:
    """Height and width with borders (left, top, right, bottom) around."""
    height, width = size
    for left, top, right, bottom in borders:
        height, width = height + top + bottom, width + left + right
    return height, width


class Pad(Module):
    """Add borders.

    Args:
        padding: one number, (horizontal, vertical), or (left, top, right, bottom).
        fill: the value, or one per channel, for "constant".
        padding_mode: "constant", "edge", "reflect" or "symmetric".
    """

    def __init__(self, padding: int | Sequence[int], fill: Any = 0, padding_mode: str = "constant") -> None:
        super().__init__()
        if not isinstance(padding, (int, float, tuple, list)):
            raise TypeError("Got inappropriate padding arg")
        if not isinstance(fill, (int, float, str, tuple, list)):
            raise TypeError("Got inappropriate fill arg")
        if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
            raise ValueError("Padding mode should be either constant, edge, reflect or symmetric")
        F.four_numbers(padding)  # type: ignore[arg-type]
        self.padding = padding
        self.fill = fill
        self.padding_mode = padding_mode

    def forward(self, img: Any) -> Any:
        return F.pad(img, self.padding, self.fill, self.padding_mode)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(padding={self.padding}, fill={self.fill}, padding_mode={self.padding_mode})"


class RandomCrop(Batchable, Module):
    """A window of `size` at a random place.

    Args:
        size: (height, width), or one number.
        padding: borders to add first, as in `Pad`.
        pad_if_needed: pad images that are smaller than the window.
        fill, padding_mode: how borders are filled.

    Raises:
        ValueError: the image is smaller than the window.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: Any = 0,
        padding_mode: str = "constant",
    ) -> None:
        super().__init__()
        self.size = tuple(setup_size(size))
        self.padding = padding
        self.pad_if_needed = pad_if_needed
        self.fill = fill
        self.padding_mode = padding_mode

    @staticmethod
    def get_params(img: Any, output_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Draw top, left, height and width."""
        _, height, width = F.get_dimensions(img)
        rows, columns = output_size
        RandomCrop._check(height, width, rows, columns)
        if (height, width) == (rows, columns):
            return 0, 0, height, width
        top = draws.integer(0, height - rows + 1)
        return top, draws.integer(0, width - columns + 1), rows, columns

    @staticmethod
    def _check(height: int, width: int, rows: int, columns: int) -> None:
        if height < rows or width < columns:
            raise ValueError(f"Required crop size {(rows, columns)} is larger than input image size {(height, width)}")

    def forward(self, img: Any) -> Any:
        if self.padding is not None:
            img = F.pad(img, self.padding, self.fill, self.padding_mode)
        _, height, width = F.get_dimensions(img)
        if self.pad_if_needed and width < self.size[1]:
            img = F.pad(img, [self.size[1] - width, 0], self.fill, self.padding_mode)
        if self.pad_if_needed and height < self.size[0]:
            img = F.pad(img, [0, self.size[0] - height], self.fill, self.padding_mode)
        return F.crop(img, *self.get_params(img, self.size))  # type: ignore[arg-type]

    def _borders(self, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """The paddings (left, top, right, bottom) of an image of this size, one after the other: reflections depend on
        the order."""
        borders = [] if self.padding is None else [F.four_numbers(self.padding)]
        height, width = grown(size, borders)
        across, down = max(self.size[1] - width, 0), max(self.size[0] - height, 0)
        if self.pad_if_needed and across:
            borders.append((across, 0, across, 0))
        if self.pad_if_needed and down:
            borders.append((0, down, 0, down))
        return borders

    def _padded(self, size: tuple[int, int]) -> tuple[int, int]:
        return grown(size, self._borders(size))

    def batch_size(self, size: tuple[int, int]) -> tuple[int, int]:
        self._check(*self._padded(size), *self.size)
        return self.size[0], self.size[1]

    def batch_words(self, size: tuple[int, int]) -> int:
        return 0 if self._padded(size) == self.size else 2

    def batch_draw(self, words: np.ndarray, size: tuple[int, int]) -> Any:
        height, width = self._padded(size)
        tops = draws.integer_of(words[:, 0], height - self.size[0] + 1)
        return tops, draws.integer_of(words[:, 1], width - self.size[1] + 1)

    def batch_apply(self, images: np.ndarray, drawn: Any, axis: int) -> np.ndarray:
        for border in self._borders((images.shape[axis], images.shape[axis + 1])):
            images = pad_batch(images, axis, border, self.fill, self.padding_mode)
        if drawn is None:  # the window is the whole image
            return images
        tops, lefts = drawn
        windows = np.lib.stride_tricks.sliding_window_view(images, self.size, axis=(axis, axis + 1))
        samples = np.arange(len(images))
        if axis == 1:  # (B, y, x[, C], h, w): picking puts the window last, behind the channels
            chosen = windows[samples, tops, lefts]
            return np.moveaxis(chosen, 1, -1) if images.ndim == 4 else chosen
        return windows[samples, :, tops, lefts]

    def batch_possible(self) -> bool:
        """Borders in one value per channel, or cut off, are left to the single-sample path."""
        edges = (0,) if self.padding is None else F.four_numbers(self.padding)
        return isinstance(self.fill, (int, float)) and min(edges) >= 0

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(size={self.size}, padding={self.padding})"


class _RandomFlip(Batchable, Module):
    """Flip with probability `p`."""

    _shift = 0  # the flipped axis, counted from that of the height

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def _flip(self, img: Any) -> Any:
        raise NotImplementedError

    def forward(self, img: Any) -> Any:
        return self._flip(img) if draws.chance(self.p) else img

    def batch_words(self, size: tuple[int, int]) -> int:
        return 1

    def batch_draw(self, words: np.ndarray, size: tuple[int, int]) -> Any:
        return draws.uniform_of(words[:, 0]) < np.float32(self.p)

    def batch_apply(self, images: np.ndarray, drawn: Any, axis: int) -> np.ndarray:
        flipped = images.copy()
        flipped[drawn] = np.flip(images[drawn], axis + self._shift)
        return flipped

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(p={self.p})"


class RandomHorizontalFlip(_RandomFlip):
    """Exchange left and right with probability `p`."""

    _shift = 1

    def _flip(self, img: Any) -> Any:
        return F.hflip(img)


class RandomVerticalFlip(_RandomFlip):
    """Exchange top and bottom with probability `p`."""

    def _flip(self, img: Any) -> Any:
        return F.vflip(img)


class RandomResizedCrop(Module):
    """A random window of random area and proportions, resized to `size`.

    Args:
        size: (height, width), or one number.
        scale: bounds of the window's share of the area.
        ratio: bounds of its width over its height.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: InterpolationMode | int = InterpolationMode.BILINEAR,
        antialias: bool | None = True,
    ) -> None:
        super().__init__()
        self.size = setup_size(size)
        if not isinstance(scale, Sequence):
            raise TypeError("Scale should be a sequence")
        if not isinstance(ratio, Sequence):
            raise TypeError("Ratio should be a sequence")
        if scale[0] > scale[1] or ratio[0] > ratio[1]:
            warn("Scale and ratio should be of kind (min, max)")
        self.interpolation = F.interpolation_mode(interpolation)
        self.antialias = antialias
        self.scale = scale
        self.ratio = ratio

    @staticmethod
    def get_params(img: Any, scale: Sequence[float], ratio: Sequence[float]) -> tuple[int, int, int, int]:
        """Draw top, left, height and width; ten attempts, then the middle."""
        _, height, width = F.get_dimensions(img)
        low, high = (float(np.log(np.float32(r))) for r in ratio)
        for _ in range(10):
            target = height * width * draws.uniform(scale[0], scale[1])
            proportion = float(np.exp(np.float32(draws.uniform(low, high))))
            w = int(round(math.sqrt(target * proportion)))
            h = int(round(math.sqrt(target / proportion)))
            if 0 < w <= width and 0 < h <= height:
                top = draws.integer(0, height - h + 1)
                return top, draws.integer(0, width - w + 1), h, w
        w, h = width, height
        if width / height < min(ratio):
            h = int(round(w / min(ratio)))
        elif width / height > max(ratio):
            w = int(round(h * max(ratio)))
        return (height - h) // 2, (width - w) // 2, h, w

    def forward(self, img: Any) -> Any:
        window = self.get_params(img, self.scale, self.ratio)
        return F.resized_crop(img, *window, self.size, self.interpolation, antialias=self.antialias)

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}(size={self.size}, scale={tuple(round(s, 4) for s in self.scale)}, "
            f"ratio={tuple(round(r, 4) for r in self.ratio)}, interpolation={self.interpolation.value}, "
            f"antialias={self.antialias})"
        )


class FiveCrop(Module):
    """The four corners and the middle, as a tuple."""

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        self.size = setup_size(size)

    def forward(self, img: Any) -> tuple[Any, ...]:
        return F.five_crop(img, self.size)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(size={self.size})"


class TenCrop(Module):
    """`FiveCrop` of the image and of its mirror image."""

    def __init__(self, size: int | Sequence[int], vertical_flip: bool = False) -> None:
        super().__init__()
        self.size = setup_size(size)
        self.vertical_flip = vertical_flip

    def forward(self, img: Any) -> tuple[Any, ...]:
        return F.ten_crop(img, self.size, self.vertical_flip)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(size={self.size}, vertical_flip={self.vertical_flip})"
