"""Steps at sizes that come for the first time, in Rushlight and in PyTorch: a process each, one after the other.

    python -m benchmarks.sizes [--only "GPT, length"] [--threads 2]

A program has met three sizes, twice each; then come others, once each, and later twice more. Prints, as medians over these: milliseconds
of a step at a size that is new, and when it comes again; by how much the first one is longer, and how much of it is planning. Then
recorded operations of a step; programs planned and kernels compiled or loaded for all new sizes together; PyTorch's step at a size that is
new to it; and its time over ours, of the steps at new sizes, and of everything from the first step on.
"""
from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["PROGRAMS", "Program", "main"]

Step = Callable[..., float]


class Program:
    """``make(torch)`` gives a step that takes a size; ``seen``: the sizes that come first; ``new``: the others."""

    def __init__(self, make: Callable[[Any], Step], seen: Sequence[tuple[int, ...]], new: Sequence[tuple[int, ...]]) -> None:
        self.make, self.seen, self.new = make, seen, new


def trained(t: Any, model: Any, data: Callable[..., tuple[Any, Any]], optimizer: Any = None) -> Step:
    """A step of training with cross entropy on what ``data`` makes of a size."""
    optimizer = optimizer or t.optim.AdamW(model.parameters(), 1e-3)

    def step(*size: int) -> float:
        x, y = data(*size)
        optimizer.zero_grad()
        scores = model(x)
        loss = t.nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), y.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss.item()  # type: ignore[no-any-return]
    return step


def images(t: Any, channels: int, height: int | None = None) -> Callable[..., tuple[Any, Any]]:
    """Batches of images of one height and width, or of those that are given."""
    def data(n: int, h: int = height or 0, w: int | None = None) -> tuple[Any, Any]:
        return t.randn(n, channels, h, w or h), t.arange(n) % 10
    return data


def mlp(t: Any) -> Step:
    """784-512-256-10, Adam."""
    nn = t.nn
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    return trained(t, model, lambda n: (t.randn(n, 784), t.arange(n) % 10), t.optim.Adam(model.parameters(), 1e-3))


def cnn_of(t: Any) -> Any:
    nn = t.nn

    def block(a: int, b: int) -> Any:
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(block(3, 16), block(16, 32), block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def cnn(t: Any) -> Step:
    """Three blocks of convolution, batch norm, ReLU and pooling; SGD with momentum."""
    model = cnn_of(t)
    return trained(t, model, images(t, 3, 32), t.optim.SGD(model.parameters(), 0.01, 0.9))


class _Language:
    """A GPT, built with the package's own nn."""

    def __new__(cls, t: Any, layers: int, width: int, heads: int, longest: int, words: int) -> Any:
        nn, f = t.nn, t.nn.functional

        class Block(nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
                self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
                self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

            def forward(self, x: Any) -> Any:
                n, length, _ = x.shape
                q, k, v = (y.view(n, length, heads, width // heads).transpose(1, 2) for y in self.qkv(self.ln1(x)).split(width, 2))
                y = f.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, length, width)
                x = x + self.out(y)
                return x + self.down(f.gelu(self.up(self.ln2(x))))

        class Model(nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.words, self.places = nn.Embedding(words, width), nn.Embedding(longest, width)
                self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
                self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

            def forward(self, index: Any) -> Any:
                x = self.words(index) + self.places(t.arange(index.shape[1]))
                return self.head(self.ln(self.blocks(x)))
        return Model()


def gpt(t: Any) -> Step:
    """A GPT of 4 layers, 128 wide, AdamW."""
    return trained(t, _Language(t, 4, 128, 4, 256, 500), lambda n, length: (t.randint(0, 500, (n, length)),) * 2)


def lstm(t: Any) -> Step:
    """A language model of two LSTM layers of 200, SGD."""
    nn = t.nn

    class Model(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.words, self.lstm, self.out = nn.Embedding(1000, 200), nn.LSTM(200, 200, 2), nn.Linear(200, 1000)

        def forward(self, index: Any) -> Any:
            return self.out(self.lstm(self.words(index))[0])
    model = Model()
    return trained(t, model, lambda length, n: (t.randint(0, 1000, (length, n)),) * 2, t.optim.SGD(model.parameters(), 0.1))


def translation(t: Any) -> Step:
    """An encoder with packed sentences and a decoder that looks at all of them: ragged batches, each padded to its longest."""
    nn, f = t.nn, t.nn.functional
    width, words = 128, 500
    read, write = nn.Embedding(words, width, padding_idx=0), nn.Embedding(words, width, padding_idx=0)
    encoder, decoder = nn.GRU(width, width, batch_first=True), nn.GRU(width, width, batch_first=True)
    mix, out = nn.Linear(2 * width, width), nn.Linear(width, words)
    optimizer = t.optim.Adam([p for m in (read, write, encoder, decoder, mix, out) for p in m.parameters()], 1e-3)

    def step(n: int, source: int, target: int) -> float:
        lengths = [max(1, source - 5 * k % source) for k in range(n)]
        x, y = t.randint(1, words, (n, source)), t.randint(1, words, (n, target))
        unused = t.arange(source) >= t.tensor(lengths)[:, None]
        x = x.masked_fill(unused, 0)
        packed = nn.utils.rnn.pack_padded_sequence(read(x), lengths, batch_first=True, enforce_sorted=False)
        heard, h = encoder(packed)
        heard, _ = nn.utils.rnn.pad_packed_sequence(heard, batch_first=True)
        said, _ = decoder(write(y[:, :-1]), h)
        scores = (said @ heard.transpose(1, 2)).masked_fill(unused[:, None], -1e9)
        said = t.tanh(mix(t.cat((said, scores.softmax(-1) @ heard), -1)))
        loss = f.cross_entropy(out(said).flatten(0, 1), y[:, 1:].flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        return loss.item()  # type: ignore[no-any-return]
    return step


def greedy(t: Any) -> Step:
    """A GPT continues a text word by word, without a cache: a step is one word."""
    model = _Language(t, 4, 128, 4, 256, 500).eval()
    text: list[Any] = []

    def step(length: int) -> float:
        with t.no_grad():
            if not text or text[0].shape[1] != length:
                text[:] = [t.randint(0, 500, (1, length))]
            word = model(text[0])[:, -1].argmax(-1, keepdim=True)
            text[0] = t.cat((text[0], word), 1)
            return word.item()  # type: ignore[no-any-return]
    return step


def resnet(t: Any) -> Step:
    """ResNet-18 for 32×32 images, SGD with momentum."""
    nn = t.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, a: int, b: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
            self.conv2, self.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
            self.short = nn.Sequential() if stride == 1 else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

        def forward(self, x: Any) -> Any:
            return t.relu(self.bn2(self.conv2(t.relu(self.bn1(self.conv1(x))))) + self.short(x))
    blocks = [Block(a, b, stride) for a, b, stride in
              [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]]
    model = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), *blocks,
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return trained(t, model, images(t, 3, 32), t.optim.SGD(model.parameters(), 0.05, 0.9))


def vit(t: Any) -> Step:
    """A small vision transformer on 64×64 images, patches of 8, AdamW."""
    nn, width = t.nn, 128

    class Model(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.first = nn.Conv2d(3, width, 8, 8), nn.Parameter(t.zeros(1, 1, width))
            self.places = nn.Parameter(t.zeros(1, 65, width))
            layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = t.cat((self.first.expand(len(x), -1, -1), x), 1) + self.places
            return self.head(self.norm(self.encoder(x)[:, 0]))
    return trained(t, Model(), images(t, 3, 64))


PROGRAMS: dict[str, Program] = {
    "MLP, batch": Program(mlp, [(128,), (100,), (96,)], [(72,), (37,), (16,), (112,), (9,)]),
    "CNN, batch": Program(cnn, [(32,), (20,), (24,)], [(17,), (9,), (29,), (12,), (5,)]),
    "CNN, height and width": Program(
        cnn, [(8, 32, 40), (8, 36, 33), (8, 47, 38)], [(8, 41, 36), (8, 33, 45), (8, 50, 31), (8, 37, 37), (8, 44, 44), (8, 39, 52)]),
    "GPT, length": Program(gpt, [(8, 64), (8, 48), (8, 57)], [(8, 50), (8, 33), (8, 71), (8, 40), (8, 23)]),
    "GPT, batch": Program(gpt, [(8, 64), (6, 64), (7, 64)], [(5, 64), (3, 64), (9, 64), (12, 64), (2, 64)]),
    "LSTM, length": Program(lstm, [(35, 20), (30, 20), (33, 20)], [(20, 20), (37, 20), (11, 20), (27, 20), (5, 20)]),
    "translation, ragged": Program(
        translation, [(32, 20, 22), (32, 25, 19), (32, 17, 24)],
        [(32, 21, 20), (32, 14, 15), (32, 30, 31), (32, 18, 26), (32, 24, 12), (32, 11, 23), (32, 28, 17), (19, 20, 21)]),
    "GPT, growing text": Program(greedy, [(n,) for n in (8, 9, 10)], [(n,) for n in range(11, 72)]),
    "ResNet-18, batch": Program(resnet, [(32,), (24,), (20,)], [(16,), (11,), (4,)]),
    "ViT, batch": Program(vit, [(8,), (6,), (7,)], [(5,), (3,), (9,), (2,), (12,)]),
}


def measured(package: str, name: str, threads: int) -> dict[str, Any]:
    """What ``main`` prints of one package."""
    t = importlib.import_module(package)
    importlib.import_module(package + ".nn.functional")
    t.set_num_threads(threads)
    t.manual_seed(0)
    program = PROGRAMS[name]
    step, ours = program.make(t), package == "rushlight"
    read = _counters if ours else lambda: (0, 0, 0.0, 0)

    def timed(size: tuple[int, ...]) -> float:
        start = time.perf_counter()
        step(*size)
        return time.perf_counter() - start
    begin = time.perf_counter()
    for size in program.seen:
        timed(size)
        timed(size)
    before, first, planned = read(), [], []
    for size in program.new:
        building = read()[2]
        first.append(timed(size))
        planned.append(read()[2] - building)
    after, whole = read(), time.perf_counter() - begin
    again = [min(times) for times in zip(*[[timed(size) for size in program.new] for _ in range(2)])]
    operations = _operations(step, program.new[-1]) if ours else 0
    return {"first": first, "again": again, "planned": planned, "whole": whole, "compiled": after[0] - before[0],
            "loaded": after[1] - before[1], "outlines": after[3] - before[3], "operations": operations}


def _counters() -> tuple[int, int, float, int]:
    """Kernels compiled and loaded, seconds of planning, programs planned for one size or as a family."""
    done = importlib.import_module("rushlight.tools.profiler").counters()
    return done.kernels_compiled, done.kernels_loaded, done.build_seconds, done.programs_planned


def _operations(step: Step, size: tuple[int, ...]) -> int:
    """How many operations a step records."""
    from rushlight.compile.counters import watchers

    found: list[int] = []

    def watch(event: Any) -> None:
        if event.kind == "flush":
            found.append(event.detail[0].depth)
    watchers.append(watch)
    step(*size)
    watchers.remove(watch)
    return sum(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--only", choices=PROGRAMS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--package", help=argparse.SUPPRESS)  # of the process that measures
    args = parser.parse_args()
    if args.package:
        print(json.dumps(measured(args.package, args.only, args.threads)))
        return
    print(f"{'':24}{'new':>8}{'again':>8}{'more':>8}{'planned':>8}{'ops':>6}{'plans':>6}{'compiled':>9}{'loaded':>7}"
          f"{'PyTorch':>9}{'÷ Rushlight':>12}{'from the start':>15}", flush=True)
    for name in [args.only] if args.only else PROGRAMS:
        sides = []
        for package in ("rushlight", "torch"):
            command = [sys.executable, "-m", "benchmarks.sizes", "--package", package, "--only", name, "--threads", str(args.threads)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            sides.append(json.loads(said.splitlines()[-1]))
        ours, theirs = sides
        first, again, planned = (1e3 * statistics.median(ours[name]) for name in ("first", "again", "planned"))
        more, their = (1e3 * statistics.median(x) for x in ([a - b for a, b in zip(ours["first"], ours["again"])], theirs["first"]))
        print(f"{name:24}{first:>8.2f}{again:>8.2f}{more:>8.2f}{planned:>8.2f}{ours['operations']:>6}{ours['outlines']:>6}"
              f"{ours['compiled']:>9}{ours['loaded']:>7}{their:>9.2f}{sum(theirs['first']) / sum(ours['first']):>11.2f}×"
              f"{theirs['whole'] / ours['whole']:>14.2f}×", flush=True)


if __name__ == "__main__":
    main()
