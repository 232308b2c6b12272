"""Transforms against torchvision's results (a fixture), and their batch form against the single-sample form."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rushlight
from rushlight.vision import transforms
from rushlight.vision.transforms import functional as F
from rushlight.vision.transforms.batch import plan_for
from tests.vision.cases import CASES, MODES, SEEDS, key, picture, pixels_of

FIXTURE = json.loads(Path(__file__).with_name("torchvision.json").read_text())["cases"]


@pytest.mark.parametrize(("name", "args"), CASES, ids=lambda v: str(v))
def test_same_pixels_draws_and_text_as_torchvision(name, args):
    transform = getattr(transforms, name)(*args)
    for mode in MODES:
        for seed in SEEDS:
            rushlight.manual_seed(seed)
            pixels = pixels_of(transform(picture(mode)))
            expected = FIXTURE[key(name, args, mode, seed)]
            assert repr(transform) == expected["repr"]
            assert list(pixels.shape) == expected["shape"], (mode, seed)
            assert zlib.crc32(pixels.tobytes()) == expected["crc32"], (mode, seed)
            assert rushlight.rand(1).item() == expected["next_draw"], (mode, seed)


# PIL and tensors differ, in torchvision as here: in the colours of a jitter by rounding, in where the nearest pixel and
# the middle of the image are by half a pixel.
DIFFERENT = ("PILToTensor", "ColorJitter", "RandomRotation", "RandomAffine", "RandAugment", "TrivialAugmentWide")


@pytest.mark.parametrize(
    ("name", "args"), [c for c in CASES if c[0] not in DIFFERENT and c != ("Resize", (90, 0))], ids=str
)
def test_tensors_fare_as_images(name, args):
    """Up to the rounding of one shade where pixels are resampled."""
    transform = getattr(transforms, name)(*args)
    for mode in MODES:
        image = picture(mode)
        rushlight.manual_seed(3)
        expected = F.pil_to_tensor(transform(image)).numpy().astype(int)
        rushlight.manual_seed(3)
        found = transform(F.pil_to_tensor(image)).numpy().astype(int)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_quarter_turns_of_tensors(angle):
    image = np.random.RandomState(0).randint(0, 256, (3, 6, 6)).astype(np.uint8)
    for mode in (F.InterpolationMode.NEAREST, F.InterpolationMode.BILINEAR):
        turned = F.rotate(rushlight.from_numpy(image), angle, mode)
        assert np.array_equal(turned.numpy(), np.rot90(image, angle // 90, axes=(1, 2)))


def test_affine_moves_and_shears():
    image = rushlight.arange(1, 31, dtype=rushlight.uint8).reshape(1, 5, 6)
    moved = F.affine(image, 0.0, [2, 1], 1.0, [0.0, 0.0])
    assert np.array_equal(moved[:, 1:, 2:].numpy(), image[:, :-1, :-2].numpy()) and not moved[:, 0].any() and not moved[:, :, :2].any()
    assert (F.affine(image, 0.0, [6, 0], 1.0, 0.0, fill=7.0) == 7).all()
    with pytest.raises(ValueError, match="scale should be positive"):
        F.affine(image, 0.0, [0, 0], 0.0, 0.0)


@pytest.mark.parametrize("name", ["RandAugment", "TrivialAugmentWide"])
def test_augmentations_fill_what_moves_in(name):
    images = rushlight.full((2, 3, 20, 24), 200, dtype=rushlight.uint8)
    for seed in range(40):
        rushlight.manual_seed(seed)
        plain = getattr(transforms, name)(fill=[10.0, 20.0, 30.0]).to(rushlight.float32)(images)
        assert plain.shape == images.shape and plain.dtype == rushlight.uint8


def test_colour_functions_on_tensors_match_torch_formulas():
    image = np.random.RandomState(0).rand(3, 5, 4).astype(np.float32)
    tensor = rushlight.from_numpy(image)
    assert np.allclose(F.adjust_brightness(tensor, 0.5).numpy(), image * 0.5, atol=1e-6)
    grey = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    assert np.allclose(F.rgb_to_grayscale(tensor).numpy()[0], grey, atol=1e-6)
    assert np.allclose(F.adjust_saturation(tensor, 0.0).numpy(), np.stack([grey] * 3), atol=1e-6)
    assert np.allclose(F.adjust_contrast(tensor, 0.0).numpy(), grey.mean(), atol=1e-6)
    assert np.allclose(F.adjust_hue(tensor, 0.0).numpy(), image, atol=1e-5)
    assert np.allclose(F.adjust_hue(F.adjust_hue(tensor, 0.5), 0.5).numpy(), image, atol=1e-5)
    assert np.allclose(F.adjust_gamma(tensor, 2.0).numpy(), image**2, atol=1e-6)
    assert np.allclose(F.invert(tensor).numpy(), 1 - image)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(20, 11), (50, 70)])
def test_resize_of_tensors_matches_interpolate(mode, antialias, size):
    torch = pytest.importorskip("torch")
    image = np.random.RandomState(0).rand(2, 3, 37, 45).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image), size, mode=mode, antialias=antialias, align_corners=False
    )
    found = F.resize(rushlight.from_numpy(image), size, F.InterpolationMode(mode), antialias=antialias)
    assert np.allclose(found.numpy(), expected.numpy(), atol=2e-5)


def test_to_tensor():
    grey, colour = picture("L"), picture("RGB")
    assert transforms.ToTensor()(grey).shape == (1, 37, 45)
    tensor = transforms.ToTensor()(colour)
    assert tensor.dtype == rushlight.float32
    assert np.array_equal(tensor.numpy(), np.asarray(colour).transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    array = np.arange(6.0).reshape(1, 2, 3)
    assert transforms.ToTensor()(array).dtype == rushlight.float64
    assert transforms.ToTensor()(array).shape == (3, 1, 2)
    with pytest.raises(TypeError, match="pic should be PIL Image or ndarray"):
        transforms.ToTensor()([1, 2])
    with pytest.raises(ValueError, match="2/3 dimensional. Got 1"):
        transforms.ToTensor()(np.zeros(3))


@pytest.mark.parametrize("mode", ["1", "L", "I", "F", "RGB", "RGBA"])
def test_pil_modes_come_back(mode):
    image = picture("RGB").convert(mode)
    tensor = F.pil_to_tensor(image)
    assert tensor.shape == (len(image.getbands()), 37, 45)
    if mode != "1":
        back = F.to_pil_image(tensor, "F" if mode == "F" else None)  # floats are shades unless said otherwise
        assert np.array_equal(np.asarray(back), np.asarray(image))
    assert F.to_pil_image(transforms.ToTensor()(picture("RGB"))).tobytes() == picture("RGB").tobytes()


def test_normalize():
    image = rushlight.rand(3, 4, 5)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    expected = (image.numpy() - np.float32(mean).reshape(3, 1, 1)) / np.float32(std).reshape(3, 1, 1)
    assert np.array_equal(transforms.Normalize(mean, std)(image).numpy(), expected)
    leaf = rushlight.ones(1, 2, 2, requires_grad=True)
    transforms.Normalize((0.0,), (0.5,))(leaf).sum().backward()
    assert leaf.grad.tolist() == [[[2.0, 2.0], [2.0, 2.0]]]
    copy = image.clone()
    assert transforms.Normalize(mean, std, inplace=True)(copy) is copy
    assert np.allclose(copy.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: transforms.Normalize((0,), (1,))(np.zeros((1, 2, 2))), TypeError, "should be Tensor Image"),
        (lambda: F.normalize(rushlight.zeros(1, 2, 2, dtype=rushlight.uint8), (0,), (1,)), TypeError, "float tensor"),
        (lambda: F.normalize(rushlight.zeros(2, 2), (0,), (1,)), ValueError, r"\(..., C, H, W\)"),
        (lambda: F.normalize(rushlight.zeros(1, 2, 2), (0,), (0,)), ValueError, "division by zero"),
        (lambda: transforms.RandomCrop(50)(picture("L")), ValueError, r"\(50, 50\) is larger than input image size"),
        (lambda: transforms.Resize((1, 2, 3)), ValueError, "1 or 2 values"),
        (lambda: transforms.CenterCrop((1, 2, 3)), ValueError, "two dimensions"),
        (lambda: transforms.Pad((1, 2, 3)), ValueError, "1, 2, or 4 element tuple"),
        (lambda: transforms.ColorJitter(brightness=-1), ValueError, "non negative"),
        (lambda: transforms.ColorJitter(hue=0.7), ValueError, "between"),
        (lambda: transforms.RandomErasing(p=2), ValueError, "between 0 and 1"),
        (lambda: transforms.GaussianBlur(4), ValueError, "odd"),
        (lambda: transforms.Lambda(3), TypeError, "callable"),
        (lambda: F.to_pil_image(rushlight.zeros(5, 2, 2)), ValueError, "4 channels"),
        (lambda: F.five_crop(picture("L"), 40), ValueError, "bigger than input"),
        (lambda: F.hflip([1]), TypeError, "PIL Image or Tensor"),
    ],
)
def test_wrong_use(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_convert_image_dtype():
    torch_like = rushlight.tensor([[[0, 128, 255]]], dtype=rushlight.uint8)
    floats = F.convert_image_dtype(torch_like, rushlight.float32)
    assert floats.tolist() == (np.float32([[[0, 128, 255]]]) / np.float32(255)).tolist()
    assert F.convert_image_dtype(floats, rushlight.uint8).tolist() == torch_like.tolist()
    assert F.convert_image_dtype(torch_like, rushlight.int16).tolist() == [[[0, 128 * 128, 255 * 128]]]
    with pytest.raises(RuntimeError, match="cannot be performed safely"):
        F.convert_image_dtype(floats, rushlight.int32)


def test_pipelines_print_as_torchvision_does():
    pipeline = transforms.Compose([transforms.RandomApply([transforms.ToTensor()], p=0.3), transforms.Lambda(abs)])
    expected = "Compose(\n    RandomApply(\n    p=0.3\n    ToTensor()\n)\n    Lambda()\n)"
    assert repr(pipeline) == expected
    assert repr(transforms.RandomErasing()) == (
        "RandomErasing(p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0, inplace=False)"
    )


def test_random_erasing_fills_a_window():
    rushlight.manual_seed(0)
    image = rushlight.ones(3, 20, 30)
    erased = transforms.RandomErasing(p=1.0, value=(5.0, 6.0, 7.0))(image).numpy()
    changed = np.argwhere(erased[0] != 1)
    (top, left), (bottom, right) = changed.min(0), changed.max(0)
    for channel, value in enumerate((5.0, 6.0, 7.0)):
        assert (erased[channel, top : bottom + 1, left : right + 1] == value).all()
    assert len(changed) == (bottom - top + 1) * (right - left + 1)
    assert (image.numpy() == 1).all()


# -- batches --------------------------------------------------------------------------------------------------------

STEPS = {
    "crop": lambda: transforms.RandomCrop(24, padding=3),
    "reflect": lambda: transforms.RandomCrop((20, 30), padding=(4, 5), padding_mode="reflect", pad_if_needed=True),
    "flip": transforms.RandomHorizontalFlip,
    "turn over": lambda: transforms.RandomVerticalFlip(0.7),
    "middle": lambda: transforms.CenterCrop((18, 26)),
    "nested": lambda: transforms.Compose([transforms.RandomHorizontalFlip(), transforms.CenterCrop(20)]),
}
ENDS = {
    "floats": lambda channels: [transforms.ToTensor(), transforms.Normalize((0.3,) * channels, (0.7,) * channels)],
    "bytes": lambda channels: [transforms.PILToTensor(), transforms.ConvertImageDtype(rushlight.float64)],
    "flip after": lambda channels: [transforms.ToTensor(), transforms.RandomHorizontalFlip()],
    "crop after": lambda channels: [transforms.ToTensor(), transforms.RandomCrop(16)],
}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), max_size=2),
    st.sampled_from(sorted(ENDS)),
    st.sampled_from([1, 3]),
    st.integers(0, 100),
)
@example(["nested", "reflect"], "bytes", 1, 0)  # reflected twice, which is not once by the sum
def test_batches_have_the_bits_of_single_samples(steps, end, channels, seed):
    from PIL import Image

    shape = (5, 22, 25) if channels == 1 else (5, 22, 25, 3)
    images = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
    pipeline = transforms.Compose([STEPS[s]() for s in steps] + ENDS[end](channels))
    plan = plan_for(pipeline)
    assert plan is not None
    rushlight.manual_seed(seed)
    try:
        singles = [pipeline(Image.fromarray(i)).numpy() for i in images]
    except ValueError as e:
        with pytest.raises(ValueError, match="larger than input image size"):
            plan(images)
        assert "larger than input image size" in str(e)
        return
    after = rushlight.rand(1).item()
    rushlight.manual_seed(seed)
    batch = plan(images)
    assert rushlight.rand(1).item() == after
    assert batch.dtype == singles[0].dtype
    assert np.array_equal(batch, np.stack(singles))


class Doubled(transforms.ToTensor):
    def __call__(self, pic):
        return super().__call__(pic) * 2


UNBATCHED = {
    "no tensors": transforms.Compose([transforms.RandomHorizontalFlip()]),
    "a function within": transforms.Compose([transforms.ToTensor(), transforms.Lambda(lambda t: t)]),
    "resize": transforms.Compose([transforms.Resize(3), transforms.ToTensor()]),
    "tensors twice": transforms.Compose([transforms.ToTensor(), transforms.ToTensor()]),
    "a colour to fill with": transforms.Compose([transforms.RandomCrop(3, 1, fill=(1, 2, 3)), transforms.ToTensor()]),
    "a subclass": Doubled(),
    "a function": lambda image: image,
}


@pytest.mark.parametrize("transform", UNBATCHED.values(), ids=UNBATCHED)
def test_other_pipelines_have_no_batch_form(transform):
    assert plan_for(transform) is None
