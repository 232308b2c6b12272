"""The workloads: ordinary training steps, written once, run with either package.

Each function gets the modules of the package and returns ``step() -> float`` (the loss, read every step).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["WORKLOADS", "Step"]

Step = Callable[[], float]


def _step(torch: Any, model: Any, criterion: Any, optimizer: Any, x: Any, y: Any) -> Step:
    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


def _data(torch: Any, shape: tuple[int, ...], classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=shape).astype(np.float32))
    return x, torch.tensor(rng.integers(0, classes, shape[0]))


def logistic_regression(torch: Any) -> Step:
    """30 features, batch 64, SGD."""
    nn = torch.nn
    model = nn.Sequential(nn.Linear(30, 1), nn.Sigmoid())
    x, y = _data(torch, (64, 30), 2)
    return _step(torch, model, nn.BCELoss(), torch.optim.SGD(model.parameters(), lr=0.1), x, y.float().reshape(64, 1))


def mlp(torch: Any) -> Step:
    """784-512-256-10, batch 128, Adam."""
    nn = torch.nn
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    x, y = _data(torch, (128, 784), 10)
    return _step(torch, model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3), x, y)


def mnist_cnn(torch: Any) -> Step:
    """Two 3×3 convolutions (32, 64), pool, dropout, 128 hidden units; batch 64, SGD with momentum."""
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
                          nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    x, y = _data(torch, (64, 1, 28, 28), 10)
    return _step(torch, model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5), x, y)


class _Block:
    """The basic block of ResNet-18, built with the package's own nn."""

    def __new__(cls, torch: Any, a: int, b: int, stride: int) -> Any:
        nn = torch.nn

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv1 = nn.Conv2d(a, b, 3, stride, 1, bias=False)
                self.bn1 = nn.BatchNorm2d(b)
                self.conv2 = nn.Conv2d(b, b, 3, 1, 1, bias=False)
                self.bn2 = nn.BatchNorm2d(b)
                self.short = nn.Sequential() if stride == 1 and a == b else nn.Sequential(
                    nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

            def forward(self, x: Any) -> Any:
                out = torch.relu(self.bn1(self.conv1(x)))
                return torch.relu(self.bn2(self.conv2(out)) + self.short(x))
        return Block()


def resnet18(torch: Any) -> Step:
    """CIFAR form, 3×32×32, batch 32, SGD with momentum."""
    nn = torch.nn
    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    before = 64
    for width, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers.append(_Block(torch, before, width, stride))
        before = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    x, y = _data(torch, (32, 3, 32, 32), 10)
    return _step(torch, model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4), x, y)


WORKLOADS: dict[str, Callable[[Any], Step]] = {
    "logistic regression": logistic_regression, "MLP": mlp, "MNIST CNN": mnist_cnn, "ResNet-18": resnet18}
