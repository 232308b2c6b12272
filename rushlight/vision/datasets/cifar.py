"""CIFAR-10 and CIFAR-100: 32 x 32 colour images, in pickled batches that are read without running anything."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rushlight.io.rebuild import read_restricted
from rushlight.record.warn import warn
from rushlight.vision.datasets.base import ArrayImages
from rushlight.vision.datasets.download import check_integrity, download_from_mirrors, extract_tar

_SIDE = 32


class CIFAR10(ArrayImages):
    """Ten classes of objects: 50,000 images to train on, 10,000 to test.

    The folder `cifar-10-batches-py` is looked for in `root` and in `root/cifar`; `root` may also be that folder. A
    folder with some of the five training batches gives the images it has, with a warning.

    Args:
        root: a folder.
        train: the training or the test part.
        transform: a function of the PIL image.
        target_transform: a function of the label.
        download: fetch and unpack the archive if the folder is not there.

    Attributes:
        data: uint8 array (N, 32, 32, 3).
        targets: list of N integers.
        classes: the names of the classes.

    Raises:
        RuntimeError: the files are absent and not downloaded, or damaged.
    """

    base_folder = "cifar-10-batches-py"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    filename = "cifar-10-python.tar.gz"
    tgz_md5 = "c58f30108f718f92721af3b95e74349a"
    train_list: ClassVar[list[str]] = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
    test_list: ClassVar[list[str]] = ["test_batch"]
    meta: ClassVar[dict[str, str]] = {"filename": "batches.meta", "key": "label_names"}
    labels_key = "labels"

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
        folder = self._folder()
        if folder is None:
            raise RuntimeError(
                "Dataset not found or corrupted. You can use download=True to download it "
                f"({self.base_folder}/{self._wanted()[0]} is not in {self.root})"
            )
        names = [name for name in self._wanted() if (folder / name).is_file()]
        if len(names) < len(self._wanted()):
            missing = ", ".join(name for name in self._wanted() if name not in names)
            warn(f"{folder} lacks {missing}: using the rest")
        batches = [self._read_batch(folder / name) for name in names]
        self.data: np.ndarray = np.concatenate([images for images, _ in batches])
        self.targets: list[int] = [label for _, labels in batches for label in labels]
        self.classes: list[str] = self._read_classes(folder / self.meta["filename"])
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}

    def _wanted(self) -> list[str]:
        return self.train_list if self.train else self.test_list

    def _folder(self) -> Path | None:
        """The folder of the batches: the first that has one of those wanted."""
        root = Path(self.root)  # type: ignore[arg-type]
        for folder in (root / self.base_folder, root / "cifar" / self.base_folder, root):
            if any((folder / name).is_file() for name in self._wanted()):
                return folder
        return None

    def _read_batch(self, path: Path) -> tuple[np.ndarray, list[int]]:
        entry = _read_dict(path)
        data, labels = entry.get("data"), entry.get(self.labels_key)
        if not isinstance(data, np.ndarray) or (data.ndim, data.dtype) != (2, np.uint8) or not isinstance(labels, list):
            raise RuntimeError(f"{path} has no uint8 array 'data' and list {self.labels_key!r}")
        if data.shape[1] != 3 * _SIDE * _SIDE or len(data) != len(labels):
            raise RuntimeError(
                f"{path} holds data of shape {data.shape} and {len(labels)} labels, "
                f"({len(labels)}, {3 * _SIDE * _SIDE}) expected"
            )
        images = data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), [int(label) for label in labels]

    def _read_classes(self, path: Path) -> list[str]:
        if not path.is_file():
            raise RuntimeError(
                f"Dataset metadata file not found or corrupted. You can use download=True to download it ({path})"
            )
        names = _read_dict(path).get(self.meta["key"])
        if not isinstance(names, list):
            raise RuntimeError(f"Dataset metadata file not found or corrupted: {path} has no {self.meta['key']!r}")
        return names

    def download(self) -> None:
        """Fetch and unpack the archive, unless the folder has all batches."""
        root = Path(self.root)  # type: ignore[arg-type]
        folder = self._folder() or root / self.base_folder
        if all(check_integrity(folder / name) for name in (*self.train_list, *self.test_list, self.meta["filename"])):
            return
        mirror = self.url.removesuffix(self.filename)
        extract_tar(download_from_mirrors([mirror], self.filename, root, self.tgz_md5), root)

    def extra_repr(self) -> str:
        return f"Split: {'Train' if self.train else 'Test'}"


class CIFAR100(CIFAR10):
    """A hundred classes, in the folder `cifar-100-python`; see `CIFAR10`."""

    base_folder = "cifar-100-python"
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    filename = "cifar-100-python.tar.gz"
    tgz_md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    train_list: ClassVar[list[str]] = ["train"]
    test_list: ClassVar[list[str]] = ["test"]
    meta: ClassVar[dict[str, str]] = {"filename": "meta", "key": "fine_label_names"}
    labels_key = "fine_labels"


def _read_dict(path: Path) -> dict[str, Any]:
    """A pickled dict of plain data and arrays. Python 2 wrote these files; its byte strings are read as text."""

    def no_storages(identity: Any) -> Any:
        raise pickle.UnpicklingError("a tensor's storage")

    try:
        with open(path, "rb") as f:
            entry = read_restricted(f, no_storages, "latin-1")
    except (pickle.UnpicklingError, EOFError) as e:
        raise RuntimeError(f"{path} ({path.stat().st_size} bytes) is corrupted: {e}") from e
    if not isinstance(entry, dict):
        raise RuntimeError(f"{path} is corrupted: it holds {type(entry).__name__}, not a dict")
    return entry
