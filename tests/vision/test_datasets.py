"""Datasets: torchvision's layout and samples, whole batches, downloads, and damaged files."""

import gzip
import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest

import rushlight
from rushlight.utils.data import DataLoader
from rushlight.vision import datasets, transforms
from rushlight.vision.datasets import download as downloading
from rushlight.vision.datasets.idx import read_idx
from tests.vision.files import IMAGES, LABELS, RNG, idx, mnist_files, write_mnist


@pytest.mark.parametrize("place", ["MNIST/raw", "MNIST", "mnist", "."])
@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_found(tmp_path, place, zipped):
    write_mnist(tmp_path / place, zipped)
    train = datasets.MNIST(str(tmp_path), download=True)
    test = datasets.MNIST(tmp_path, train=False)
    assert np.array_equal(train.data.numpy(), IMAGES["train"])
    assert train.targets.tolist() == LABELS["train"].tolist()
    assert (len(train), len(test)) == (30, 7)
    assert train.data.dtype == rushlight.uint8
    assert train.targets.dtype == rushlight.int64
    image, label = test[-1]
    assert (image.mode, image.size, type(label)) == ("L", (28, 28), int)
    assert np.array_equal(np.asarray(image), IMAGES["t10k"][-1])


def test_relatives_of_mnist_do_not_take_its_files(tmp_path):
    write_mnist(tmp_path)
    write_mnist(tmp_path / "mnist")
    for relative in (datasets.FashionMNIST, datasets.KMNIST):
        with pytest.raises(RuntimeError, match="Dataset not found"):
            relative(tmp_path)
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    assert len(datasets.FashionMNIST(tmp_path)) == 30


def test_absent_mnist_says_how_to_get_it(tmp_path):
    with pytest.raises(RuntimeError, match="Dataset not found. You can use download=True to download it.*train-images"):
        datasets.MNIST(tmp_path)


def test_printed_form(tmp_path):
    write_mnist(tmp_path)
    transform = transforms.Compose([transforms.ToTensor()])
    text = repr(datasets.MNIST(str(tmp_path), transform=transform, target_transform=abs))
    assert text == (
        f"Dataset MNIST\n    Number of datapoints: 30\n    Root location: {tmp_path}\n    Split: Train\n"
        "    StandardTransform\nTransform: Compose(\n               ToTensor()\n           )\n"
        "Target transform: <built-in function abs>"
    )


def test_only_one_kind_of_transform():
    with pytest.raises(ValueError, match="Only transforms or transform/target_transform"):
        datasets.VisionDataset("x", transforms=lambda a, b: (a, b), transform=abs)


# -- batches --------------------------------------------------------------------------------------------------------


def test_batches_equal_samples(tmp_path):
    write_mnist(tmp_path)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    dataset = datasets.MNIST(tmp_path, transform=transform, target_transform=lambda t: t + 1)
    order = [3, 29, 0, 3]
    images, labels = next(iter(DataLoader(dataset, batch_size=4, sampler=order)))
    assert images.shape == (4, 1, 28, 28)
    assert labels.dtype == rushlight.int64
    from PIL import Image

    for i, image, label in zip(order, images.numpy(), labels.tolist()):
        assert np.array_equal(image, transform(Image.fromarray(IMAGES["train"][i])).numpy())
        assert np.array_equal(image, dataset[i][0].numpy())
        assert label == dataset[i][1] == LABELS["train"][i] + 1


def test_mnist_with_tensors_needs_no_pillow(tmp_path, monkeypatch):
    import sys

    write_mnist(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    dataset = datasets.MNIST(tmp_path, transform=transforms.ToTensor())
    assert dataset[0][0].shape == (1, 28, 28)
    assert len(list(DataLoader(dataset, batch_size=8))) == 4
    with pytest.raises(ImportError, match=r'pip install "rushlight\[vision\]"'):
        datasets.MNIST(tmp_path)[0]


class Indexed(datasets.MNIST):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, label, index


def test_subclasses_are_asked_for_their_samples(tmp_path):
    write_mnist(tmp_path)
    dataset = Indexed.__new__(Indexed)
    datasets.MNIST.__init__(dataset, tmp_path, transform=transforms.ToTensor())
    _, _, indices = next(iter(DataLoader(dataset, batch_size=3)))
    assert indices.tolist() == [0, 1, 2]


def test_replaced_data_is_used(tmp_path):
    write_mnist(tmp_path)
    dataset = datasets.MNIST(tmp_path, transform=transforms.ToTensor())
    wanted = dataset.targets == int(LABELS["train"][0])
    dataset.data, dataset.targets = dataset.data[wanted], dataset.targets[wanted]
    images, labels = next(iter(DataLoader(dataset, batch_size=30)))
    assert len(images) == (LABELS["train"] == LABELS["train"][0]).sum()
    assert set(labels.tolist()) == {int(LABELS["train"][0])}
    dataset.targets = [5] * len(dataset)
    assert next(iter(DataLoader(dataset, batch_size=2)))[1].tolist() == [5, 5]


# -- IDX files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_idx_of_every_dtype(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "x").write_bytes(idx(array))
    back = read_idx(tmp_path / "x")
    assert back.dtype == array.dtype
    assert back.flags.writeable
    assert np.array_equal(back, array)


WHOLE = idx(np.arange(100, dtype=np.uint8).reshape(10, 10))
DAMAGED_IDX = {
    "is cut short: 112 bytes expected for 10 x 10 numbers of 1 bytes, 100 bytes found": WHOLE[:100],
    "is too long: 112 bytes expected .* 113 bytes found": WHOLE + b"x",
    "is cut short: a header of 12 bytes expected, 7 bytes found": WHOLE[:7],
    "is not an IDX file: it is cut short": b"",
    "is not an IDX file: it begins with 3c 68 74 6d": b"<html>",
    r"is cut short: 112 bytes expected .* found": gzip.compress(WHOLE)[:-20],
    "is not a valid gzip file": gzip.compress(WHOLE)[:10] + b"\xff" * 60,
}


@pytest.mark.parametrize("message", DAMAGED_IDX)
def test_damaged_idx_files_say_what_is_wrong(tmp_path, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(DAMAGED_IDX[message])
    with pytest.raises(RuntimeError, match=message) as error:
        read_idx(path)
    assert "train-images-idx3-ubyte" in str(error.value)


def test_mnist_with_files_that_disagree(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS["train"][:-1]))
    with pytest.raises(RuntimeError, match=r"30 images, but .*train-labels.* 29 labels"):
        datasets.MNIST(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(IMAGES["train"]))
    with pytest.raises(RuntimeError, match=r"train-labels.* shape \(30, 28, 28\)"):
        datasets.MNIST(tmp_path)


# -- downloads: a folder plays the mirror ---------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror in a folder, with MNIST's checksums set to those of its files."""
    folder = tmp_path / "mirror"
    write_mnist(folder, zipped=True)
    resources = [(p.name, hashlib.md5(p.read_bytes()).hexdigest()) for p in sorted(folder.iterdir())]
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [(tmp_path / "absent").as_uri() + "/", folder.as_uri() + "/"])
    return folder


def test_download(tmp_path, mirror, capsys):
    root = tmp_path / "data"
    assert len(datasets.MNIST(root, download=True)) == 30
    assert capsys.readouterr().out.count("Downloading") == 8  # each from the absent mirror, then from the other
    names = {p.name for p in (root / "MNIST" / "raw").iterdir()}
    assert names == {n for name, _ in mnist_files() for n in (name, f"{name}.gz")}  # torchvision's layout
    datasets.MNIST(root, train=False, download=True)
    assert capsys.readouterr().out == ""


def test_download_with_a_wrong_checksum(tmp_path, mirror):
    (mirror / "t10k-images-idx3-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(
        RuntimeError, match=r"Error downloading t10k-images-idx3-ubyte.gz:(.|\n)*File not found or corrupted"
    ):
        datasets.MNIST(tmp_path / "data", download=True)
    assert list((tmp_path / "data" / "MNIST" / "raw").iterdir()) == []  # nothing half-written


def test_download_that_breaks_off(tmp_path, mirror, monkeypatch):
    class Broken(io.BytesIO):
        def read(self, n=-1):
            if self.tell():
                raise ConnectionResetError("connection reset by peer")
            return super().read(10)

    monkeypatch.setattr(downloading.urllib.request, "urlopen", lambda *a, **k: Broken(b"x" * 100))
    with pytest.raises(RuntimeError, match="connection reset by peer"):
        datasets.MNIST(tmp_path / "data", download=True)
    assert list((tmp_path / "data" / "MNIST" / "raw").iterdir()) == []


# -- CIFAR, folders, bundled digits, random images ------------------------------------------------------------------

PIXELS = RNG.randint(0, 256, (12, 3072)).astype(np.uint8)


def write_cifar(folder, batches=("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")):
    folder.mkdir(parents=True)
    for name in (*batches, "test_batch"):
        entry = {"data": PIXELS, "labels": [i % 10 for i in range(12)], "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(entry, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, 2))


def test_cifar10(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py")
    train, test = datasets.CIFAR10(tmp_path), datasets.CIFAR10(tmp_path, train=False)
    assert (len(train), len(test)) == (60, 12)
    image, label = test[3]
    assert (image.mode, label, test.classes[label], test.class_to_idx["d"]) == ("RGB", 3, "d", 3)
    assert np.array_equal(np.asarray(image), PIXELS[3].reshape(3, 32, 32).transpose(1, 2, 0))


def test_cifar10_batches_use_the_random_stream_as_samples_do(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py")
    pipeline = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    dataset = datasets.CIFAR10(tmp_path, transform=transforms.Compose(pipeline))
    rushlight.manual_seed(0)
    singles = np.stack([dataset[i][0].numpy() for i in range(20)])
    rushlight.manual_seed(0)
    assert np.array_equal(dataset.__getitems__(list(range(20))).columns[0].numpy(), singles)


def test_incomplete_cifar10_warns(tmp_path):
    write_cifar(tmp_path / "cifar" / "cifar-10-batches-py", ["data_batch_1", "data_batch_3"])
    with pytest.warns(UserWarning, match="lacks data_batch_2, data_batch_4, data_batch_5"):
        assert len(datasets.CIFAR10(tmp_path)) == 24


def test_damaged_cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    with pytest.raises(RuntimeError, match="Dataset not found or corrupted. You can use download=True"):
        datasets.CIFAR10(tmp_path)
    write_cifar(folder)
    whole = (folder / "test_batch").read_bytes()
    (folder / "test_batch").write_bytes(whole[:5000])
    with pytest.raises(RuntimeError, match=r"test_batch \(5000 bytes\) is corrupted"):
        datasets.CIFAR10(tmp_path, train=False)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": PIXELS, "labels": [1]}, 2))
    with pytest.raises(RuntimeError, match=r"shape \(12, 3072\) and 1 labels"):
        datasets.CIFAR10(tmp_path, train=False)
    (folder / "test_batch").write_bytes(pickle.dumps(print, 2))
    with pytest.raises(RuntimeError, match="print was not an allowed global"):
        datasets.CIFAR10(tmp_path, train=False)


def test_tar_files_cannot_write_elsewhere(tmp_path):
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("../outside")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"hi"))
    with pytest.raises(RuntimeError, match="outside of the folder"):
        downloading.extract_tar(archive, tmp_path / "inside")
    assert not (tmp_path / "outside").exists()


def test_image_folder(tmp_path):
    from PIL import Image

    for name, colour in (("cat/a.png", 10), ("cat/deep/b.PNG", 20), ("dog/c.jpg", 30), ("dog/notes.txt", None)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if colour is None:
            (tmp_path / name).write_text("not an image")
        else:
            Image.new("L", (6, 4), colour).save(tmp_path / name)
    dataset = datasets.ImageFolder(tmp_path, transform=transforms.PILToTensor())
    assert (dataset.classes, dataset.class_to_idx) == (["cat", "dog"], {"cat": 0, "dog": 1})
    assert [label for _, label in dataset] == dataset.targets == [0, 0, 1]
    assert dataset[1][0].tolist() == np.full((3, 4, 6), 20).tolist()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"classes empty\. Supported extensions are: \.jpg"):
        datasets.ImageFolder(tmp_path)
    assert len(datasets.ImageFolder(tmp_path, allow_empty=True)) == 3
    with pytest.raises(FileNotFoundError, match="Couldn't find any class folder"):
        datasets.ImageFolder(tmp_path / "empty")


def test_bundled_digits():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    bundle = sklearn_datasets.load_digits()
    train, test = datasets.Digits(), datasets.Digits(train=False)
    assert (len(train), len(test)) == (1437, 360)
    assert train.targets.tolist() + test.targets.tolist() == bundle.target.tolist()
    with np.load(datasets.digits._FILE) as file:
        assert np.array_equal(file["images"], bundle.images)
    image = train.data.numpy()[0]
    assert image.shape == (28, 28)
    assert image.max() > 200
    assert not image[:4].any()


def test_fake_data_is_torchvisions():
    torch = pytest.importorskip("torch")
    dataset = datasets.FakeData(3, (3, 4, 5), 7, transforms.ToTensor(), random_offset=2)
    rushlight.manual_seed(0)
    for i in range(3):
        torch.manual_seed(i + 2)
        noise = torch.randn(3, 4, 5)
        label = torch.randint(0, 7, (1,)).item()
        expected = (noise * 255).numpy().astype(np.int64).astype(np.uint8).astype(np.float32) / np.float32(255)
        image, target = dataset[i]
        assert target == label
        assert np.allclose(image.numpy(), expected)
    torch.manual_seed(0)
    assert rushlight.rand(1).item() == torch.rand(1).item()  # the user's stream was left alone
    with pytest.raises(IndexError):
        dataset[3]


def test_archives_are_fetched_and_unpacked(tmp_path):
    import hashlib
    import tarfile
    import zipfile

    from rushlight.vision.datasets import utils

    inner = tmp_path / "inner.txt"
    inner.write_text("content")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(inner, "deep/inner.txt")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(inner, "inner.txt")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    for name, found in (("a.tar.gz", "deep/inner.txt"), ("b.zip", "inner.txt")):
        md5 = hashlib.md5((tmp_path / name).read_bytes()).hexdigest()
        root = tmp_path / f"root of {name}"
        utils.download_and_extract_archive((tmp_path / name).as_uri(), root, md5=md5, remove_finished=True)
        assert (root / found).read_text() == "content"
        assert not (root / name).exists()
    utils.download_url(inner.as_uri(), tmp_path / "plain", filename="other.txt")
    assert utils.check_integrity(tmp_path / "plain" / "other.txt")
    with pytest.raises(RuntimeError, match="md5"):
        utils.download_url(inner.as_uri(), tmp_path / "wrong", md5="0" * 32)
    with pytest.raises(RuntimeError, match="outside"):
        utils.extract_archive(tmp_path / "bad.zip", tmp_path / "folder")
    with pytest.raises(RuntimeError, match="Unknown"):
        utils.extract_archive(inner)
