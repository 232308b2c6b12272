"""Let ``import rushlight`` mean PyTorch, so that one program runs with either package."""
from __future__ import annotations

import gzip
import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["idx", "pose_as_rushlight"]


def idx(path: Path) -> np.ndarray:
    raw = gzip.open(path).read()
    dims = raw[3]
    shape = np.frombuffer(raw, ">i4", dims, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)


def pose_as_rushlight(package: Any) -> None:
    """Let ``import rushlight`` mean ``package``, with a ``vision`` of just MNIST beside it: each image is converted and
    normalised by itself, with less work than torchvision's way through PIL."""
    class MNIST(package.utils.data.Dataset):
        def __init__(self, root, train=True, download=False, transform=None):
            kind = "train" if train else "t10k"
            self.images = idx(Path(root) / f"{kind}-images-idx3-ubyte.gz")
            self.labels = idx(Path(root) / f"{kind}-labels-idx1-ubyte.gz")

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, k):
            image = package.from_numpy(self.images[k].astype(np.float32) / 255.0)[None]
            return (image - 0.1307) / 0.3081, int(self.labels[k])

    vision = types.ModuleType("rushlight.vision")
    vision.datasets = types.SimpleNamespace(MNIST=MNIST)
    vision.transforms = types.SimpleNamespace(Compose=lambda x: None, ToTensor=lambda: None, Normalize=lambda m, s: None)
    sys.modules["rushlight.vision"] = vision
    sys.modules["rushlight"] = package
    for name in ("nn", "nn.functional", "optim"):
        sys.modules["rushlight." + name] = importlib.import_module(f"{package.__name__}.{name}")
