"""MNIST and its relatives: 28 x 28 grey images of ten classes, in four IDX files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rushlight.io.atomic import atomic_write
from rushlight.record.warn import warn
from rushlight.tensor import Tensor, from_numpy
from rushlight.vision.datasets.base import ArrayImages
from rushlight.vision.datasets.download import download_from_mirrors
from rushlight.vision.datasets.idx import read_idx


class MNIST(ArrayImages):
    """Handwritten digits: 60,000 to train on, 10,000 to test.

    The four files are looked for, gzipped or not, in `root/MNIST/raw` (where `download` puts them), `root/MNIST`,
    `root/mnist`, and `root` itself.

    Args:
        root: a folder.
        train: the training or the test part.
        transform: a function of the PIL image.
        target_transform: a function of the label.
        download: fetch the files from the usual mirrors if they are not there.

    Attributes:
        data: uint8 tensor (N, 28, 28).
        targets: int64 tensor (N,).

    Raises:
        RuntimeError: the files are absent and not downloaded, or damaged.

    Example:
        >>> from rushlight.vision import datasets, transforms
        >>> train = datasets.MNIST("data", download=True, transform=transforms.ToTensor())  # doctest: +SKIP
        >>> image, label = train[0]  # doctest: +SKIP
    """

    mirrors = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"]
    resources = [
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ]
    classes = [
        "0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six", "7 - seven", "8 - eight",
        "9 - nine",
    ]  # fmt: skip
    #: Other names of the folder in `root`. Only MNIST also looks into `root` itself: its relatives' files have the
    #: same names, and must not be taken for them.
    folders: tuple[str, ...] = ("mnist", "")

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.train = train
        if download:
            self.download()
        if not self._check_exists():
            raise RuntimeError(
                f"Dataset not found. You can use download=True to download it ({', '.join(self._wanted())} are not in "
                f"{self.raw_folder})"
            )
        self.data, self.targets = self._load_data()

    @property
    def raw_folder(self) -> str:
        """Where `download` puts the files."""
        return os.path.join(self.root, type(self).__name__, "raw")  # type: ignore[arg-type]

    @property
    def processed_folder(self) -> str:
        """Where old versions of torchvision kept copies; not used."""
        return os.path.join(self.root, type(self).__name__, "processed")  # type: ignore[arg-type]

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.classes)}

    @property
    def train_data(self) -> Tensor:
        warn("train_data has been renamed data")
        return self.data

    @property
    def train_labels(self) -> Tensor:
        warn("train_labels has been renamed targets")
        return self.targets

    test_data = train_data
    test_labels = train_labels

    def _wanted(self) -> tuple[str, str]:
        part = "train" if self.train else "t10k"
        return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"

    def _find(self, name: str) -> Path | None:
        """The file of this name, unpacked or gzipped, in the first folder that has it."""
        root = Path(self.root)  # type: ignore[arg-type]
        own = root / type(self).__name__
        for folder in (own / "raw", own, *(root / other for other in self.folders)):
            for candidate in (folder / name, folder / f"{name}.gz"):
                if candidate.is_file():
                    return candidate
        return None

    def _check_exists(self) -> bool:
        return all(self._find(name) is not None for name in self._wanted())

    def _load_data(self) -> tuple[Tensor, Tensor]:
        paths = [self._find(name) for name in self._wanted()]
        images, labels = (read_idx(path) for path in paths if path is not None)
        for path, array, dims in ((paths[0], images, 3), (paths[1], labels, 1)):
            if array.dtype != np.uint8 or array.ndim != dims:
                raise RuntimeError(
                    f"{path} holds an array of shape {array.shape} and dtype {array.dtype}, "
                    f"{dims} dimensions of uint8 expected"
                )
        if len(images) != len(labels):
            raise RuntimeError(f"{paths[0]} holds {len(images)} images, but {paths[1]} {len(labels)} labels")
        return from_numpy(images), from_numpy(labels.astype(np.int64))

    def download(self) -> None:
        """Fetch and unpack the four files, unless they are there. RuntimeError where no mirror gives one."""
        names = [filename.removesuffix(".gz") for filename, _ in self.resources]
        if all(self._find(name) is not None for name in names):
            return
        for (filename, md5), name in zip(self.resources, names):
            packed = download_from_mirrors(self.mirrors, filename, self.raw_folder, md5)
            with atomic_write(Path(self.raw_folder) / name) as f:
                f.write(zlib.decompress(packed.read_bytes(), wbits=31))

    def extra_repr(self) -> str:
        return f"Split: {'Train' if self.train else 'Test'}"


class FashionMNIST(MNIST):
    """Zalando's articles of clothing, in MNIST's format; in `root/FashionMNIST/raw`, `root/FashionMNIST` or
    `root/fashion-mnist`."""

    mirrors = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"]
    resources = [
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ]
    classes = [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ]  # fmt: skip
    folders = ("fashion-mnist", "fashionmnist")


class KMNIST(MNIST):
    """Kuzushiji characters, in MNIST's format; in `root/KMNIST/raw`, `root/KMNIST` or `root/kmnist`."""

    mirrors = ["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"]
    resources = [
        ("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7"),
        ("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344"),
        ("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7"),
        ("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134"),
    ]
    classes = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
    folders = ("kmnist",)
