"""Transforms that turn, move, scale and shear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rushlight.nn import Module
from rushlight.vision.transforms import draws
from rushlight.vision.transforms import functional as F
from rushlight.vision.transforms.functional import InterpolationMode


def _symmetric(value: float | Sequence[float], name: str, lengths: tuple[int, ...] = (2,)) -> list[float]:
    """Bounds from one number (±) or a sequence."""
    if isinstance(value, (int, float)):
        if value < 0:
            raise ValueError(f"If {name} is a single number, it must be positive.")
        return [float(-value), float(value)]
    if not isinstance(value, Sequence):
        raise TypeError(f"{name} should be a sequence of length {' or '.join(map(str, lengths))}.")
    if len(value) not in lengths:
        raise ValueError(f"{name} should be a sequence of length {' or '.join(map(str, lengths))}.")
    return [float(v) for v in value]


def _fill(fill: Any, img: Any) -> Any:
    """One value per channel for tensors; PIL images take either form."""
    if F.is_pil(img) or fill is None:
        return fill
    return [float(fill)] * F.get_image_num_channels(img) if isinstance(fill, (int, float)) else [float(f) for f in fill]


class RandomRotation(Module):
    """Turn by an angle drawn from `degrees`: (least, most), or one number for ±.

    Args:
        interpolation: an `InterpolationMode`.
        expand: enlarge the frame so that nothing is cut off.
        center: (x, y), by default the middle.
        fill: what lies outside of the image.
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: InterpolationMode | int = InterpolationMode.NEAREST,
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: Any = 0,
    ) -> None:
        super().__init__()
        self.interpolation = F.interpolation_mode(interpolation)
        self.degrees = _symmetric(degrees, "degrees")
        self.center = center
        self.expand = expand
        if fill is not None and not isinstance(fill, (Sequence, int, float)):
            raise TypeError("Fill should be either a sequence or a number.")
        self.fill = 0 if fill is None else fill

    @staticmethod
    def get_params(degrees: Sequence[float]) -> float:
        """Draw the angle."""
        return draws.uniform(float(degrees[0]), float(degrees[1]))

    def forward(self, img: Any) -> Any:
        angle = self.get_params(self.degrees)
        return F.rotate(img, angle, self.interpolation, self.expand, self.center, _fill(self.fill, img))  # type: ignore

    def __repr__(self) -> str:
        parts = [f"degrees={self.degrees}", f"interpolation={self.interpolation.value}", f"expand={self.expand}"]
        parts += [f"center={self.center}"] if self.center is not None else []
        parts += [f"fill={self.fill}"] if self.fill is not None else []
        return f"{self.__class__.__name__}({', '.join(parts)})"


class RandomAffine(Module):
    """Turn, move, scale and shear at random.

    Args:
        degrees: bounds of the angle, or one number for ±.
        translate: largest moves as shares of width and height.
        scale: bounds of the scale.
        shear: bounds of the shear along x, or (x least, x most, y least, y most), in degrees.
        interpolation, fill, center: as in `RandomRotation`.
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: InterpolationMode | int = InterpolationMode.NEAREST,
        fill: Any = 0,
        center: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.interpolation = F.interpolation_mode(interpolation)
        self.degrees = _symmetric(degrees, "degrees")
        if translate is not None and not all(0.0 <= t <= 1.0 for t in translate):
            raise ValueError("translation values should be between 0 and 1")
        if scale is not None and not all(s > 0 for s in scale):
            raise ValueError("scale values should be positive")
        self.translate = translate
        self.scale = scale
        self.shear = None if shear is None else _symmetric(shear, "shear", (2, 4))
        self.fill = 0 if fill is None else fill
        self.center = center

    @staticmethod
    def get_params(
        degrees: Sequence[float],
        translate: Sequence[float] | None,
        scale_ranges: Sequence[float] | None,
        shears: Sequence[float] | None,
        img_size: Sequence[int],
    ) -> tuple[float, tuple[int, int], float, tuple[float, float]]:
        """Draw angle, translation, scale and shear, in this order."""
        angle = draws.uniform(float(degrees[0]), float(degrees[1]))
        moves = (0, 0)
        if translate is not None:
            most = [float(share * extent) for share, extent in zip(translate, img_size)]
            x = int(round(draws.uniform(-most[0], most[0])))
            moves = (x, int(round(draws.uniform(-most[1], most[1]))))
        scale = 1.0 if scale_ranges is None else draws.uniform(scale_ranges[0], scale_ranges[1])
        shear_x = shear_y = 0.0
        if shears is not None:
            shear_x = draws.uniform(shears[0], shears[1])
            if len(shears) == 4:
                shear_y = draws.uniform(shears[2], shears[3])
        return angle, moves, scale, (shear_x, shear_y)

    def forward(self, img: Any) -> Any:
        _, height, width = F.get_dimensions(img)
        angle, moves, scale, shear = self.get_params(
            self.degrees, self.translate, self.scale, self.shear, [width, height]
        )
        return F.affine(img, angle, moves, scale, shear, self.interpolation, self.fill, self.center)  # type: ignore

    def __repr__(self) -> str:
        parts = [f"degrees={self.degrees}"]
        parts += [f"{n}={v}" for n in ("translate", "scale", "shear") if (v := getattr(self, n)) is not None]
        if self.interpolation is not InterpolationMode.NEAREST:
            parts.append(f"interpolation={self.interpolation.value}")
        parts += [f"fill={self.fill}"] if self.fill != 0 else []
        parts += [f"center={self.center}"] if self.center is not None else []
        return f"{self.__class__.__name__}({', '.join(parts)})"
