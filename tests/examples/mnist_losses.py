"""The first losses of ``examples/mnist.py``, with Rushlight or with PyTorch behind its imports.

The fixture ``mnist_losses.json`` was made with PyTorch 2.13 (CPU, two threads) by

    python tests/examples/mnist_losses.py torch ../shared/data/mnist tests/examples/mnist_losses.json

Seed 3 is one for which PyTorch agrees with itself: its losses with one and with two threads differ by 3e-7 at most. For the
example's own seed 1 they part by up to 2e-3 after step 80 (a rectifier's input changes sign in one of the runs), so no third
program can be held to more than the steps before.
"""
from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mnist.py"


def idx(path: Path) -> np.ndarray:
    raw = gzip.open(path).read()
    dims = raw[3]
    shape = np.frombuffer(raw, ">i4", dims, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)


def pose_as_rushlight(package) -> None:
    """Let ``import rushlight`` mean another package, with a minimal ``vision`` beside it."""
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


def first_losses(data: str, seed: int, count: int = 100) -> dict:
    """Losses of the example's loop, its first batch of labels, and sums of its first parameters."""
    spec = importlib.util.spec_from_file_location("mnist_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch = example.torch
    torch.manual_seed(seed)
    transform = example.transforms.Compose([example.transforms.ToTensor(), example.transforms.Normalize((0.1307,), (0.3081,))])
    loader = torch.utils.data.DataLoader(example.datasets.MNIST(data, train=True, download=False, transform=transform), batch_size=64,
                                         shuffle=True)
    model = example.Net()
    parameters = {name: p.detach().numpy().reshape(-1)[:8].tolist() for name, p in model.named_parameters()}
    criterion = example.nn.CrossEntropyLoss()
    optimizer = example.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    losses, labels = [], None
    model.train()
    for k, (x, y) in enumerate(loader):
        if k == count:
            break
        labels = y.tolist() if labels is None else labels
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"losses": losses, "labels": labels, "parameters": parameters}


if __name__ == "__main__":
    name, folder, target = sys.argv[1:4]
    chosen = importlib.import_module(name)
    if name != "rushlight":
        pose_as_rushlight(chosen)
    Path(target).write_text(json.dumps({seed: first_losses(folder, seed) for seed in (1, 3)}, indent=1) + "\n")
