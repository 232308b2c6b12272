"""Images read from files and written to them."""

import numpy as np
import pytest

import rushlight
from rushlight.vision import io

PIL = pytest.importorskip("PIL.Image")
PIXELS = np.random.RandomState(0).randint(0, 256, (3, 5, 7)).astype(np.uint8)


def test_png_files_keep_every_pixel(tmp_path):
    for pixels in (PIXELS, PIXELS[:1]):
        io.write_png(rushlight.from_numpy(pixels), tmp_path / "x.png")
        read = io.read_image(tmp_path / "x.png")
        assert read.dtype is rushlight.uint8
        assert np.array_equal(read.numpy(), pixels)
        assert np.array_equal(io.decode_png(io.read_file(str(tmp_path / "x.png"))).numpy(), pixels)


def test_jpeg_files_keep_what_the_eye_sees(tmp_path):
    smooth = np.broadcast_to(np.linspace(40, 200, 32), (3, 32, 32)).astype(np.uint8)
    io.write_jpeg(rushlight.from_numpy(smooth), tmp_path / "x.jpg", quality=95)
    assert np.abs(io.read_image(str(tmp_path / "x.jpg")).numpy().astype(int) - smooth).max() < 6


@pytest.mark.parametrize(("mode", "channels"), [("GRAY", 1), ("gray_alpha", 2), ("RGB", 3), (io.ImageReadMode.RGB_ALPHA, 4),
                                                (io.ImageReadMode.UNCHANGED, 3)])
def test_channels_are_those_that_were_asked_for(tmp_path, mode, channels):
    io.write_png(rushlight.from_numpy(PIXELS), tmp_path / "x.png")
    assert io.read_image(tmp_path / "x.png", mode).shape == (channels, 5, 7)


def test_palettes_become_colours(tmp_path):
    PIL.fromarray(PIXELS.transpose(1, 2, 0)).quantize(4).save(tmp_path / "x.png")
    assert io.read_image(tmp_path / "x.png").shape == (3, 5, 7)


def test_an_image_is_turned_as_its_file_says(tmp_path):
    image = PIL.fromarray(PIXELS.transpose(1, 2, 0))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "x.png", exif=exif)
    assert io.read_image(tmp_path / "x.png").shape == (3, 5, 7)
    turned = io.decode_image(tmp_path / "x.png", apply_exif_orientation=True)
    assert np.array_equal(turned.numpy(), np.rot90(PIXELS, -1, (1, 2)))


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(b"words")
    with pytest.raises(RuntimeError, match="Unsupported image file"):
        io.read_image(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError):
        io.read_image(tmp_path / "y.png")
    with pytest.raises(RuntimeError, match=r"uint8 tensor \(1 or 3, H, W\), got .*float32 \(2, 2\)"):
        io.write_png(rushlight.zeros(2, 2), tmp_path / "z.png")
