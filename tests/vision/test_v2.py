"""Functions of images by the names of torchvision's second interface."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.vision.transforms.v2 import functional as F


def test_images_from_arrays_and_tensors():
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = F.to_image(array)
    assert image.shape == (3, 2, 4) and image.dtype is torch.uint8 and (image.numpy() == array.transpose(2, 0, 1)).all()
    assert F.to_image(array[..., 0]).shape == (1, 2, 4) and F.to_image(image) is image and F.to_image(image[0]).shape == (1, 2, 4)
    with pytest.raises(TypeError, match="Input can either be a pure Tensor"):
        F.to_image([1, 2])
    assert F.get_size(image) == [2, 4] and F.get_num_channels(image) == 3
    assert F.horizontal_flip(image).equal(image.flip(-1)) and F.vertical_flip(image).equal(image.flip(-2))
    gray = F.rgb_to_grayscale(image)
    assert F.grayscale_to_rgb(gray).equal(gray.expand(3, 2, 4)) and F.grayscale_to_rgb(image) is image


def test_dtypes_with_and_without_their_ranges():
    x = torch.tensor([[[255, 3]]], dtype=torch.uint8)
    assert F.to_dtype(x, torch.float32, scale=True).tolist() == [[[1.0, np.float32(3 / 255)]]]
    assert F.to_dtype(torch.tensor([[[1.0, 0.5]]]), torch.uint8, scale=True).tolist() == [[[255, 127]]]
    assert F.to_dtype(x).tolist() == [[[255.0, 3.0]]] and F.to_dtype_image(x, torch.int16, scale=True).tolist() == [[[32640, 384]]]


def test_pil_images():
    image = pytest.importorskip("PIL.Image").fromarray(np.full((4, 6), 7, np.uint8))
    assert F.to_image(image).shape == (1, 4, 6) and F.grayscale_to_rgb(image).mode == "RGB" and F.get_size(image) == [4, 6]
