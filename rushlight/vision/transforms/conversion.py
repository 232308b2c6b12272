"""Between PIL images, arrays and tensors, and between the dtypes of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rushlight.compile.dtypes import DType
from rushlight.tensor import Tensor, from_numpy
from rushlight.vision.images import is_pil
from rushlight.vision.transforms import pil


def array_of(image: Any) -> np.ndarray:
    """The memory of a tensor image; TypeError for anything else."""
    if not isinstance(image, Tensor):
        raise TypeError(f"img should be PIL Image or Tensor. Got {type(image)}")
    return image.detach().numpy()


def tensor_of(array: np.ndarray) -> Tensor:
    """An array as a tensor; copied only where it is not contiguous."""
    return from_numpy(np.ascontiguousarray(array))


def to_tensor(pic: Any) -> Tensor:
    """A PIL image or an array (H, W[, C]) as a tensor (C, H, W); uint8 becomes float32 in [0, 1].

    Raises:
        TypeError: neither an image nor an array.
        ValueError: an array of other than 2 or 3 dimensions.
    """
    if isinstance(pic, np.ndarray):
        if pic.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {pic.ndim} dimensions.")
        pixels = pic[:, :, None] if pic.ndim == 2 else pic
    elif is_pil(pic):
        pixels = pil.to_array(pic)
        pixels = pixels.astype(np.int16) if pixels.dtype == np.uint16 else pixels
    else:
        raise TypeError(f"pic should be PIL Image or ndarray. Got {type(pic)}")
    return from_numpy(unit_floats(np.ascontiguousarray(pixels.transpose(2, 0, 1))))


def unit_floats(pixels: np.ndarray) -> np.ndarray:
    """uint8 as float32 in [0, 1], other dtypes as they are."""
    if pixels.dtype != np.uint8:
        return pixels
    values = pixels.astype(np.float32)
    values /= np.float32(255.0)
    return values


def pil_to_tensor(pic: Any) -> Tensor:
    """A PIL image as a tensor (C, H, W) of the same values."""
    if not is_pil(pic):
        raise TypeError(f"pic should be PIL Image. Got {type(pic)}")
    return tensor_of(pil.to_array(pic).transpose(2, 0, 1))


def to_pil_image(pic: Any, mode: str | None = None) -> Any:
    """A tensor (C, H, W) or (H, W), or an array (H, W[, C]), as a PIL image; floats in [0, 1] become uint8.

    Raises:
        TypeError: neither, or a dtype that no mode holds.
        ValueError: other than 2 or 3 dimensions, more than 4 channels, or a mode that does not fit.
    """
    if isinstance(pic, Tensor):
        pixels = array_of(pic)
        if pixels.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {pixels.ndim} dimensions.")
        if pixels.ndim == 3:
            if pixels.shape[0] > 4:
                raise ValueError(f"pic should not have > 4 channels. Got {pixels.shape[0]} channels.")
            pixels = pixels.transpose(1, 2, 0)
        if pixels.dtype.kind == "f" and mode != "F":
            pixels = (pixels * pixels.dtype.type(255)).astype(np.int64).astype(np.uint8)
    elif isinstance(pic, np.ndarray):
        pixels = pic
        if pixels.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {pixels.ndim} dimensions.")
        if pixels.ndim == 3 and pixels.shape[-1] > 4:
            raise ValueError(f"pic should not have > 4 channels. Got {pixels.shape[-1]} channels.")
    else:
        raise TypeError(f"pic should be Tensor or ndarray. Got {type(pic)}.")
    return pil.from_array(pixels, mode)


def convert_image_dtype(image: Tensor, dtype: DType) -> Tensor:
    """A tensor image in another dtype, its values scaled to that dtype's range.

    Raises:
        RuntimeError: a cast from float that cannot be done without overflow.
    """
    if image.dtype is dtype:
        return image
    return from_numpy(scaled(array_of(image), dtype))


def scaled(values: np.ndarray, dtype: DType) -> np.ndarray:
    """`convert_image_dtype` on an array."""
    target = dtype.numpy
    if values.dtype == target:
        return values
    if values.dtype.kind == "f":
        if dtype.is_floating_point:
            return values.astype(target)
        if (values.dtype.itemsize, dtype.name) in ((4, "int32"), (4, "int64"), (8, "int64")):
            raise RuntimeError(f"The cast from {values.dtype} to {dtype} cannot be performed safely.")
        most = np.iinfo(target).max
        return (values * values.dtype.type(most + 1.0 - 1e-3)).astype(target)
    most = np.iinfo(values.dtype).max
    if dtype.is_floating_point:
        return values.astype(target) / target.type(most)
    target_most = np.iinfo(target).max
    if most > target_most:
        return (values // ((most + 1) // (target_most + 1))).astype(target)
    return values.astype(target) * target.type((target_most + 1) // (most + 1))


def normalize(tensor: Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> Tensor:
    """`(tensor - mean) / std` per channel, for a float tensor (..., C, H, W).

    Raises:
        TypeError: not a tensor, or not of a floating dtype.
        ValueError: fewer than three dimensions, or a std of zero.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"img should be Tensor Image. Got {type(tensor)}")
    if not tensor.dtype.is_floating_point:
        raise TypeError(f"Input tensor should be a float tensor. Got {tensor.dtype}.")
    if tensor.dim() < 3:
        raise ValueError(
            f"Expected tensor to be a tensor image of size (..., C, H, W). Got tensor.size() = {tensor.shape}"
        )
    shift, scale = channel_values(mean, tensor.dtype.numpy), channel_values(std, tensor.dtype.numpy)
    if (scale == 0).any():
        raise ValueError(f"std evaluated to zero after conversion to {tensor.dtype}, leading to division by zero.")
    if inplace:
        return tensor.sub_(from_numpy(shift)).div_(from_numpy(scale))
    if tensor.requires_grad or tensor.dtype.name == "bfloat16" or tensor.device.type != "cpu":
        return tensor.sub(from_numpy(shift).to(tensor.device)).div(from_numpy(scale).to(tensor.device))
    values = tensor.numpy() - shift
    values /= scale
    return from_numpy(values)


def channel_values(values: Any, dtype: np.dtype) -> np.ndarray:
    """A number per channel, shaped to broadcast over (C, H, W)."""
    array = np.array(values.detach().numpy() if isinstance(values, Tensor) else values, dtype)
    return array.reshape(-1, 1, 1) if array.ndim == 1 else array
