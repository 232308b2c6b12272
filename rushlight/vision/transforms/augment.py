"""Augmentation by a random choice among all the usual operations: RandAugment, TrivialAugment."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from rushlight import linspace
from rushlight.nn import Module
from rushlight.vision.transforms import draws
from rushlight.vision.transforms import functional as F
from rushlight.vision.transforms.functional import InterpolationMode

__all__ = ["RandAugment", "TrivialAugmentWide"]

# Each operation takes (image, magnitude, interpolation, fill).
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "Identity": lambda img, m, mode, fill: img,
    "ShearX": lambda img, m, mode, fill: F.affine(img, 0.0, [0, 0], 1.0, [math.degrees(math.atan(m)), 0.0], mode, fill, [0, 0]),
    "ShearY": lambda img, m, mode, fill: F.affine(img, 0.0, [0, 0], 1.0, [0.0, math.degrees(math.atan(m))], mode, fill, [0, 0]),
    "TranslateX": lambda img, m, mode, fill: F.affine(img, 0.0, [int(m), 0], 1.0, [0.0, 0.0], mode, fill),
    "TranslateY": lambda img, m, mode, fill: F.affine(img, 0.0, [0, int(m)], 1.0, [0.0, 0.0], mode, fill),
    "Rotate": lambda img, m, mode, fill: F.rotate(img, m, mode, fill=fill),
    "Brightness": lambda img, m, mode, fill: F.adjust_brightness(img, 1.0 + m),
    "Color": lambda img, m, mode, fill: F.adjust_saturation(img, 1.0 + m),
    "Contrast": lambda img, m, mode, fill: F.adjust_contrast(img, 1.0 + m),
    "Sharpness": lambda img, m, mode, fill: F.adjust_sharpness(img, 1.0 + m),
    "Posterize": lambda img, m, mode, fill: F.posterize(img, int(m)),
    "Solarize": lambda img, m, mode, fill: F.solarize(img, m),
    "AutoContrast": lambda img, m, mode, fill: F.autocontrast(img),
    "Equalize": lambda img, m, mode, fill: F.equalize(img),
}

# name -> (the magnitude of each bin, or None for an operation that has none; whether its sign is drawn)
_Space = dict[str, tuple[list[float] | None, bool]]


@functools.lru_cache(256)
def _between(first: float, last: float, bins: int) -> list[float]:
    """Numbers of float32, as torchvision has them: a rounded one can decide which pixel is the nearest."""
    return linspace(first, last, bins).tolist()  # type: ignore[no-any-return]


def _space(bins: int, shear: float, moves: tuple[float, float], turn: float, change: float, bits: int) -> _Space:
    """Magnitudes from nothing to the given most: tangents of shears, pixels along x and y, degrees, relative change of colours, and how
    many of the 8 bits of a shade are dropped.
    """
    signed = {"ShearX": shear, "ShearY": shear, "TranslateX": moves[0], "TranslateY": moves[1], "Rotate": turn,
              "Brightness": change, "Color": change, "Contrast": change, "Sharpness": change}
    found: _Space = {"Identity": (None, False)}
    found.update((name, (_between(0.0, most, bins), True)) for name, most in signed.items())
    found["Posterize"] = ([8.0 - round(m) for m in _between(0.0, bits, bins)], False)
    found["Solarize"] = (_between(255.0, 0.0, bins), False)
    found["AutoContrast"] = found["Equalize"] = (None, False)
    return found


class _Augment(Module):
    """What the two have in common: an operation by its number, with a fill for what moves in."""

    interpolation: InterpolationMode
    fill: list[float] | float | None

    def _fill(self, img: Any) -> list[float] | None:
        """One value per channel for tensors; PIL images take either form."""
        if isinstance(self.fill, (int, float)):
            return self.fill if F.is_pil(img) else [float(self.fill)] * F.get_image_num_channels(img)  # type: ignore[return-value]
        return None if self.fill is None else [float(f) for f in self.fill]

    def _augmented(self, img: Any, name: str, magnitude: float, signed: bool) -> Any:
        if signed and draws.integer(0, 2):
            magnitude = -magnitude
        return _OPERATIONS[name](img, magnitude, self.interpolation, self._fill(img))


class RandAugment(_Augment):
    """``num_ops`` operations drawn from fourteen, each with the same magnitude (Cubuk et al., 2019).

    Args:
        num_ops: how many, one after the other.
        magnitude: the bin of the magnitude, below ``num_magnitude_bins``.
        num_magnitude_bins: how finely magnitudes are divided.
        interpolation, fill: for those that move pixels, as in `RandomRotation`.

    Images are PIL images, or uint8 tensors (..., channels, height, width).
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9, num_magnitude_bins: int = 31,
                 interpolation: InterpolationMode = InterpolationMode.NEAREST, fill: list[float] | None = None) -> None:
        super().__init__()
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.num_magnitude_bins = num_magnitude_bins
        self.interpolation = interpolation
        self.fill = fill

    def forward(self, img: Any) -> Any:
        _, height, width = F.get_dimensions(img)
        space = _space(self.num_magnitude_bins, 0.3, (150.0 / 331.0 * width, 150.0 / 331.0 * height), 30.0, 0.9, 4)
        names = list(space)
        for _ in range(self.num_ops):
            name = names[draws.integer(0, len(names))]
            magnitudes, signed = space[name]
            img = self._augmented(img, name, 0.0 if magnitudes is None else magnitudes[self.magnitude], signed)
        return img

    def __repr__(self) -> str:
        parts = [f"{n}={getattr(self, n)}" for n in ("num_ops", "magnitude", "num_magnitude_bins", "interpolation", "fill")]
        return f"{self.__class__.__name__}({', '.join(parts)})"


class TrivialAugmentWide(_Augment):
    """One operation drawn from fourteen, with a magnitude drawn as well, from wide ranges (Müller and Hutter, 2021).

    Args:
        num_magnitude_bins: how finely magnitudes are divided.
        interpolation, fill: for those that move pixels, as in `RandomRotation`.

    Images are PIL images, or uint8 tensors (..., channels, height, width).
    """

    def __init__(self, num_magnitude_bins: int = 31, interpolation: InterpolationMode = InterpolationMode.NEAREST,
                 fill: list[float] | None = None) -> None:
        super().__init__()
        self.num_magnitude_bins = num_magnitude_bins
        self.interpolation = interpolation
        self.fill = fill

    def forward(self, img: Any) -> Any:
        space = _space(self.num_magnitude_bins, 0.99, (32.0, 32.0), 135.0, 0.99, 6)
        name = list(space)[draws.integer(0, len(space))]
        magnitudes, signed = space[name]
        magnitude = 0.0 if magnitudes is None else magnitudes[draws.integer(0, len(magnitudes))]
        return self._augmented(img, name, magnitude, signed)

    def __repr__(self) -> str:
        parts = [f"{n}={getattr(self, n)}" for n in ("num_magnitude_bins", "interpolation", "fill")]
        return f"{self.__class__.__name__}({', '.join(parts)})"
