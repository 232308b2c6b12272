"""Functions of images by the names of ``torchvision.transforms.v2.functional``: tensors (..., C, H, W), or PIL's images.

Images are plain tensors; there are no classes of tensors for boxes, masks or videos.
"""
from __future__ import annotations

from typing import Any

import numpy as np

import rushlight

from ....compile.dtypes import DType
from ....tensor import Tensor
from ..conversion import convert_image_dtype, normalize, pil_to_tensor, to_pil_image, to_tensor
from ..functional import (
    InterpolationMode,
    adjust_brightness,
    adjust_contrast,
    adjust_gamma,
    adjust_hue,
    adjust_saturation,
    affine,
    center_crop,
    crop,
    erase,
    five_crop,
    gaussian_blur,
    get_dimensions,
    get_image_num_channels,
    get_image_size,
    hflip,
    invert,
    pad,
    resize,
    resized_crop,
    rgb_to_grayscale,
    rotate,
    ten_crop,
    to_grayscale,
    vflip,
)

__all__ = ["InterpolationMode", "adjust_brightness", "adjust_contrast", "adjust_gamma", "adjust_hue", "adjust_saturation", "affine",
           "center_crop", "convert_image_dtype", "crop", "erase", "five_crop", "gaussian_blur", "get_dimensions", "get_image_num_channels",
           "get_image_size", "get_num_channels", "get_size", "grayscale_to_rgb", "hflip", "horizontal_flip", "invert", "normalize", "pad",
           "pil_to_tensor", "resize", "resized_crop", "rgb_to_grayscale", "rotate", "ten_crop", "to_dtype", "to_dtype_image",
           "to_grayscale", "to_image", "to_pil_image", "to_tensor", "vertical_flip", "vflip"]

horizontal_flip, vertical_flip, get_num_channels = hflip, vflip, get_image_num_channels


def get_size(inpt: Any) -> list[int]:
    """Height and width."""
    return get_dimensions(inpt)[1:]


def to_image(inpt: Any) -> Tensor:
    """An image as a tensor (C, H, W), its numbers as they are.

    Args:
        inpt: a tensor, which is returned (with a dimension of channels in front where there are two); an array (H, W) or (H, W, C); or
            one of PIL's images.

    Raises:
        TypeError: something else.

    Example:
        >>> from rushlight.vision.transforms.v2.functional import to_image
        >>> to_image(np.zeros((4, 5, 3), np.uint8)).shape
        torch.Size([3, 4, 5])
    """
    if isinstance(inpt, np.ndarray):
        return rushlight.from_numpy(np.atleast_3d(inpt)).permute(2, 0, 1).contiguous()
    if isinstance(inpt, Tensor):
        return rushlight.unsqueeze(inpt, 0) if inpt.dim() == 2 else inpt
    if not hasattr(inpt, "getbands"):
        raise TypeError(f"Input can either be a pure Tensor, a numpy array, or a PIL image, but got {type(inpt)} instead.")
    return pil_to_tensor(inpt)


def to_dtype(inpt: Tensor, dtype: DType = rushlight.float32, scale: bool = False) -> Tensor:
    """The image as another dtype.

    Args:
        scale: whether its range becomes that of the dtype: 0 to 1 of floating numbers, 0 to the largest one of integers.

    Example:
        >>> from rushlight.vision.transforms.v2.functional import to_dtype
        >>> to_dtype(torch.tensor([[[0, 255]]], dtype=torch.uint8), torch.float32, scale=True)
        tensor([[[0., 1.]]])
    """
    return convert_image_dtype(inpt, dtype) if scale else inpt.to(dtype)


to_dtype_image = to_dtype


def grayscale_to_rgb(inpt: Any) -> Any:
    """An image of one channel with three equal ones; others as they are."""
    if not isinstance(inpt, Tensor):
        return inpt if inpt.mode == "RGB" else inpt.convert("RGB")
    return inpt if inpt.shape[-3] >= 3 else inpt.expand(*inpt.shape[:-3], 3, *inpt.shape[-2:]).clone()
