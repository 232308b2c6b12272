"""``python -m benchmarks.overlap [--only NAME] [--rounds N]``: what it brings that programs run while Python goes on.

Training loops that read their loss every fifty steps, with ``settings.overlap`` on and off in turn, in one process. Prints the
median milliseconds of a step, off and on, the median of the rounds' ratios off ÷ on with the lowest and the highest, and how many
programs a step launches.
"""
from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import rushlight as torch
import rushlight.nn.functional as F
from rushlight import nn
from rushlight.record import counters, flush
from rushlight.record.settings import settings
from rushlight.utils.data import DataLoader, Dataset, TensorDataset

READ_EVERY = 50
Loop = Callable[[], Iterator[Any]]  # yields the loss of each step, unread


def _loop(model: Any, criterion: Callable[[Any, Any], Any], optimizer: Any, batches: Callable[[], Iterator[Any]]) -> Loop:
    def run() -> Iterator[Any]:
        while True:
            for x, y in batches():
                optimizer.zero_grad()
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                yield loss
    return run


def _same(*batch: Any) -> Callable[[], Iterator[Any]]:
    def batches() -> Iterator[Any]:
        while True:
            yield batch
    return batches


def logistic() -> Loop:
    """30 features, batch 64."""
    model = nn.Sequential(nn.Linear(30, 1), nn.Sigmoid())
    return _loop(model, F.binary_cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1),
                 _same(torch.randn(64, 30), torch.rand(64, 1)))


def mlp() -> Loop:
    """784-512-256-10, batch 128, Adam."""
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    return _loop(model, F.cross_entropy, torch.optim.Adam(model.parameters()),
                 _same(torch.randn(128, 784), torch.randint(0, 10, (128,))))


def small_mlp() -> Loop:
    """64-64-10, batch 32, SGD, its batches from a DataLoader over tensors."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    loader = DataLoader(TensorDataset(torch.randn(4096, 64), torch.randint(0, 10, (4096,))), batch_size=32, shuffle=True)
    return _loop(model, F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1), lambda: iter(loader))


def _cnn() -> Any:
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
                         nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))


def cnn() -> Loop:
    """The MNIST network, one batch of 64 that is always the same."""
    model = _cnn()
    return _loop(model, F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5),
                 _same(torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))))


class _Images(Dataset):
    """Images as bytes, each turned into a tensor, normalised and shifted in this process."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.images, self.labels = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n)
        self.rng = rng

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        image = (self.images[i].astype(np.float32) / 255 - 0.1307) / 0.3081
        dy, dx = self.rng.integers(-2, 3, 2)
        return np.roll(image, (dy, dx), (0, 1))[None], int(self.labels[i])


def cnn_loader() -> Loop:
    """The MNIST network, with images that a DataLoader transforms one by one in this process."""
    model = _cnn()
    loader = DataLoader(_Images(6400), batch_size=64, shuffle=True)
    return _loop(model, F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5), lambda: iter(loader))


def lstm() -> Loop:
    """Embedding, LSTM 128, batch 32 of 40 tokens, Adam."""
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm, self.head = nn.Embedding(1000, 64), nn.LSTM(64, 128, batch_first=True), nn.Linear(128, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(self.embed(x))[0][:, -1])
    model = Network()
    return _loop(model, F.cross_entropy, torch.optim.Adam(model.parameters()),
                 _same(torch.randint(0, 1000, (32, 40)), torch.randint(0, 2, (32,))))


def transformer() -> Loop:
    """Two encoder layers of width 64, batch 16 of 32 tokens, AdamW."""
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(100, 64)
            self.layers = nn.ModuleList(nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True) for _ in range(2))
            self.head = nn.Linear(64, 100)

        def forward(self, x: Any) -> Any:
            h = self.embed(x)
            for layer in self.layers:
                h = layer(h)
            return self.head(h).transpose(1, 2)
    model = Network()
    tokens = torch.randint(0, 100, (16, 32))
    return _loop(model, F.cross_entropy, torch.optim.AdamW(model.parameters()), _same(tokens, tokens))


LOOPS = (logistic, small_mlp, mlp, cnn, cnn_loader, lstm, transformer)


def measure(steps: Iterator[Any], seconds: float, read_every: int) -> float:
    """Milliseconds of a step."""
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(read_every):
            loss = next(steps)
        loss.item()
        n += read_every
    return (time.perf_counter() - start) / n * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--read-every", type=int, default=READ_EVERY)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for make in LOOPS:
        if args.only not in make.__name__:
            continue
        torch.manual_seed(0)
        steps = make()()
        for _ in range(5):
            next(steps).item()
        times: dict[bool, list[float]] = {False: [], True: []}
        launched = 0.0
        for number in range(args.rounds + 1):
            for on in ((False, True), (True, False))[number % 2]:
                flush()
                settings.overlap = on
                before = counters.programs_launched, counters.programs_run
                t = measure(steps, args.seconds, args.read_every)
                if on:
                    launched = (counters.programs_launched - before[0]) / max(counters.programs_run - before[1], 1)
                if number:
                    times[on].append(t)
        ratios = [a / b for a, b in zip(times[False], times[True])]
        print(f"{make.__name__:12} off {statistics.median(times[False]):8.3f} ms  on {statistics.median(times[True]):8.3f} ms  "
              f"{statistics.median(ratios):.3f}x ({min(ratios):.3f}-{max(ratios):.3f})  launched {launched:.0%} of programs", flush=True)


if __name__ == "__main__":
    main()
