"""Grids and image files."""

import numpy as np
import pytest

import rushlight
from rushlight.vision import utils

IMAGES = np.random.RandomState(0).rand(7, 3, 4, 5).astype(np.float32)


def test_grid_places_images_in_rows():
    grid = utils.make_grid(rushlight.from_numpy(IMAGES), nrow=3, padding=2, pad_value=0.5).numpy()
    assert grid.shape == (3, 3 * 6 + 2, 3 * 7 + 2)
    for i, image in enumerate(IMAGES):
        top, left = i // 3 * 6 + 2, i % 3 * 7 + 2
        assert np.array_equal(grid[:, top : top + 4, left : left + 5], image)
        grid[:, top : top + 4, left : left + 5] = 0.5
    assert (grid == 0.5).all()


def test_grid_of_other_forms():
    grey = rushlight.from_numpy(IMAGES[:, :1].copy())
    assert utils.make_grid(grey).shape == (3, 1 * 6 + 2, 7 * 7 + 2)
    assert utils.make_grid(grey[0]).shape == (3, 4, 5)
    assert utils.make_grid(grey[0, 0]).shape == (3, 4, 5)
    stacked = utils.make_grid(list(rushlight.from_numpy(IMAGES)))
    assert stacked.tolist() == utils.make_grid(rushlight.from_numpy(IMAGES)).tolist()
    with pytest.raises(TypeError, match="tensor or list of tensors expected"):
        utils.make_grid(IMAGES)


def test_normalized_grids():
    spread = rushlight.from_numpy(IMAGES * 10 - 5)
    grid = utils.make_grid(spread, normalize=True, padding=0, nrow=7).numpy()
    assert grid.min() == 0.0
    assert grid.max() == 1.0
    each = utils.make_grid(spread, normalize=True, scale_each=True, padding=0, nrow=7).numpy()
    assert all(each[:, :, i * 5 : i * 5 + 5].max() == 1.0 for i in range(7))
    ranged = utils.make_grid(spread, normalize=True, value_range=(-10.0, 10.0), padding=0).numpy()
    assert 0.2 < ranged.min() < ranged.max() < 0.8
    assert spread.numpy().min() < -4  # the input stays as it is


def test_save_image(tmp_path):
    from PIL import Image

    utils.save_image(rushlight.from_numpy(IMAGES), tmp_path / "x.png", padding=1)
    pixels = np.asarray(Image.open(tmp_path / "x.png"))
    assert pixels.shape == (1 * 5 + 1, 7 * 6 + 1, 3)
    assert np.array_equal(pixels[1:5, 1:6], np.floor(IMAGES[0].transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))


def test_nothing_is_traced():
    assert rushlight.vision._is_tracing() is False
