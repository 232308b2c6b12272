"""Transforms between images and tensors, and of a tensor's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rushlight.compile.dtypes import DType, by_name
from rushlight.nn import Module
from rushlight.tensor import Tensor
from rushlight.vision.transforms import conversion
from rushlight.vision.transforms.batch import Batchable


def _channels_first(images: np.ndarray) -> np.ndarray:
    """(B, H, W) or (B, H, W, C) as (B, C, H, W)."""
    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


class ToTensor(Batchable):
    """A PIL image or array (H, W[, C]) to a tensor (C, H, W); uint8 values become float32 in [0, 1].

    Raises:
        TypeError: something else comes in.
    """

    batch_makes_tensors = True

    def __call__(self, pic: Any) -> Tensor:
        return conversion.to_tensor(pic)

    def batch_apply(self, images: np.ndarray, drawn: Any, axis: int) -> np.ndarray:
        return conversion.unit_floats(_channels_first(images))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}()"


class PILToTensor(Batchable):
    """A PIL image to a tensor (C, H, W) of the same values."""

    batch_makes_tensors = True

    def __call__(self, pic: Any) -> Tensor:
        return conversion.pil_to_tensor(pic)

    def batch_apply(self, images: np.ndarray, drawn: Any, axis: int) -> np.ndarray:
        return _channels_first(images)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}()"


class ToPILImage:
    """A tensor (C, H, W) or array (H, W[, C]) to a PIL image; floats are taken to lie in [0, 1]."""

    def __init__(self, mode: str | None = None) -> None:
        self.mode = mode

    def __call__(self, pic: Any) -> Any:
        return conversion.to_pil_image(pic, self.mode)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({'' if self.mode is None else f'mode={self.mode}'})"


class ConvertImageDtype(Batchable, Module):
    """A tensor image to another dtype, its values scaled to that dtype's range."""

    batch_wants_tensors = True

    def __init__(self, dtype: DType) -> None:
        super().__init__()
        if not isinstance(dtype, DType):
            raise TypeError("Argument dtype should be of type torch.dtype")
        self.dtype = dtype

    def forward(self, image: Tensor) -> Tensor:
        return conversion.convert_image_dtype(image, self.dtype)

    def batch_apply(self, images: np.ndarray, drawn: Any, axis: int) -> np.ndarray:
        return conversion.scaled(images, self.dtype)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}()"


class Normalize(Batchable, Module):
    """`(value - mean) / std` per channel of a float tensor (..., C, H, W).

    Args:
        mean, std: one number per channel.
        inplace: change the tensor that comes in.

    Example:
        >>> from rushlight.vision import transforms
        >>> transforms.Normalize((0.1307,), (0.3081,))
        Normalize(mean=(0.1307,), std=(0.3081,))
    """

    batch_wants_tensors = True

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        super().__init__()
        self.mean = mean
        self.std = std
        self.inplace = inplace

    def forward(self, tensor: Tensor) -> Tensor:
        return conversion.normalize(tensor, self.mean, self.std, self.inplace)

    def batch_apply(self, images: np.ndarray, drawn: Any, axis: int) -> np.ndarray:
        if images.dtype.kind != "f":
            raise TypeError(f"Input tensor should be a float tensor. Got {by_name(images.dtype.name)}.")
        scale = conversion.channel_values(self.std, images.dtype)
        if (scale == 0).any():
            raise ValueError(
                f"std evaluated to zero after conversion to {by_name(images.dtype.name)}, leading to division by zero."
            )
        images = images - conversion.channel_values(self.mean, images.dtype)
        images /= scale
        return images

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(mean={self.mean}, std={self.std})"


class LinearTransformation(Module):
    """Flatten a tensor, subtract a mean, and multiply by a square matrix: whitening.

    Args:
        transformation_matrix: (D, D) with D = C · H · W.
        mean_vector: (D,).
    """

    def __init__(self, transformation_matrix: Tensor, mean_vector: Tensor) -> None:
        super().__init__()
        rows, columns = transformation_matrix.shape
        if rows != columns:
            raise ValueError(f"transformation_matrix should be square. Got {list(transformation_matrix.shape)}")
        if mean_vector.shape[0] != rows:
            raise ValueError(
                f"mean_vector should have the same length {mean_vector.shape[0]} as any one of the dimensions of the "
                f"transformation_matrix [{rows} x {columns}]"
            )
        self.transformation_matrix = transformation_matrix
        self.mean_vector = mean_vector

    def forward(self, tensor: Tensor) -> Tensor:
        *batch, channels, height, width = tensor.shape
        if channels * height * width != self.transformation_matrix.shape[0]:
            raise ValueError(
                "Input tensor and transformation matrix have incompatible shape."
                f"[{channels} x {height} x {width}] != {self.transformation_matrix.shape[0]}"
            )
        flat = tensor.reshape(*batch, -1) - self.mean_vector
        return (flat @ self.transformation_matrix).reshape(tensor.shape)

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}(transformation_matrix={self.transformation_matrix.tolist()}, "
            f"mean_vector={self.mean_vector.tolist()})"
        )
