"""The workloads: ordinary training steps, written once, run with either package.

Each function gets the modules of the package and returns ``step() -> float``: the loss of a training step, read every
time, or a number that the output of an inference gives.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

__all__ = ["INFERENCE", "TOKENS", "WORKLOADS", "Step"]

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


def _gpt(torch: Any, vocabulary: int, layers: int, width: int, heads: int, context: int) -> Any:
    """A decoder-only transformer as people write it: pre-norm blocks, one projection for q, k and v, GELU."""
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any, cache: Any = None) -> Any:
            b, t, _ = x.shape
            q, k, v = (y.view(b, t, heads, width // heads).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(width, dim=2))
            if cache is not None:
                if cache:
                    k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
                cache[:] = [k, v]
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

        def forward(self, idx: Any, caches: Any = None, start: int = 0) -> Any:
            x = self.tokens(idx) + self.positions(torch.arange(start, start + idx.shape[1]))
            for i, block in enumerate(self.blocks):
                x = block(x, None if caches is None else caches[i])
            return self.head(self.norm(x))

    return GPT()


def _gpt_data(torch: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 65, (16, 129))
    return torch.tensor(tokens[:, :-1].copy()), torch.tensor(tokens[:, 1:].copy())


def _gpt_step(torch: Any, region: Callable[[], Any]) -> Step:
    """A training step of the small GPT whose forward runs in ``region()``."""
    model = _gpt(torch, 65, 4, 256, 4, 128)
    x, y = _gpt_data(torch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)

    def step() -> float:
        with region():
            loss = torch.nn.functional.cross_entropy(model(x).view(-1, 65), y.view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


def gpt(torch: Any) -> Step:
    """4 layers, 256 wide, 4 heads, T 128, batch 16, 65 characters, AdamW."""
    return _gpt_step(torch, nullcontext)


def gpt_bf16(torch: Any) -> Step:
    """The same under ``autocast`` to bfloat16."""
    return _gpt_step(torch, lambda: torch.autocast("cpu", dtype=torch.bfloat16))


def lstm(torch: Any) -> Step:
    """Language model of two LSTM layers of 200, vocabulary 1000, 35 × 20, SGD with clipped gradients, state carried on."""
    nn = torch.nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.head = nn.Embedding(1000, 200), nn.LSTM(200, 200, 2), nn.Linear(200, 1000)

        def forward(self, x: Any, state: Any) -> Any:
            out, state = self.rnn(self.embed(x), state)
            return self.head(out), state

    model, rng = Model(), np.random.default_rng(0)
    x, y = (torch.tensor(rng.integers(0, 1000, (35, 20))) for _ in range(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    state = (torch.zeros(2, 20, 200), torch.zeros(2, 20, 200))

    def step() -> float:
        nonlocal state
        state = tuple(s.detach() for s in state)
        optimizer.zero_grad()
        out, state = model(x, state)
        loss = nn.functional.cross_entropy(out.view(-1, 1000), y.view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        return loss.item()
    return step


def vit_tiny(torch: Any) -> Step:
    """ViT-Tiny (12 layers, 192 wide, 3 heads), 224 × 224, patches of 16, batch 8, AdamW."""
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(192), nn.LayerNorm(192)
            self.qkv, self.out = nn.Linear(192, 576), nn.Linear(192, 192)
            self.mlp = nn.Sequential(nn.Linear(192, 768), nn.GELU(), nn.Linear(768, 192))

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, 3, 64).permute(2, 0, 3, 1, 4).unbind(0)
            y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c)
            x = x + self.out(y)
            return x + self.mlp(self.norm2(x))

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 192, 16, 16)
            self.cls, self.positions = nn.Parameter(torch.zeros(1, 1, 192)), nn.Parameter(torch.zeros(1, 197, 192))
            self.blocks = nn.Sequential(*(Block() for _ in range(12)))
            self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 100)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
            return self.head(self.norm(self.blocks(x))[:, 0])

    model = ViT()
    x, y = _data(torch, (8, 3, 224, 224), 100)
    return _step(torch, model, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=1e-3), x, y)


def unet(torch: Any) -> Step:
    """U-Net 1 → 64 … 512, 128 × 128, batch 4, Adam."""
    nn = torch.nn

    def double(a: int, b: int) -> Any:
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
                             nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (64, 128, 256, 512)
            self.down = nn.ModuleList([double(a, b) for a, b in zip((1, *widths), widths)])
            self.pool = nn.MaxPool2d(2)
            self.up = nn.ModuleList([nn.ConvTranspose2d(2 * b, b, 2, 2) for b in widths[-2::-1]])
            self.join = nn.ModuleList([double(2 * b, b) for b in widths[-2::-1]])
            self.head = nn.Conv2d(64, 1, 1)

        def forward(self, x: Any) -> Any:
            skips = []
            for i, block in enumerate(self.down):
                x = block(self.pool(x) if i else x)
                skips.append(x)
            for up, join, skip in zip(self.up, self.join, skips[-2::-1]):
                x = join(torch.cat([skip, up(x)], dim=1))
            return self.head(x)

    model = UNet()
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(4, 1, 128, 128)).astype(np.float32))
    y = torch.tensor(rng.integers(0, 2, (4, 1, 128, 128)).astype(np.float32))
    return _step(torch, model, nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters(), lr=1e-3), x, y)


def depthwise(torch: Any) -> Step:
    """A stack of depthwise-separable blocks as in MobileNet, 64 × 64, batch 16, SGD with momentum."""
    nn = torch.nn

    def block(a: int, b: int, stride: int) -> Any:
        return nn.Sequential(nn.Conv2d(a, a, 3, stride, 1, groups=a, bias=False), nn.BatchNorm2d(a), nn.ReLU6(inplace=True),
                             nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU6(inplace=True))

    layers = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True)]
    before = 32
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1)):
        layers.append(block(before, width, stride))
        before = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    x, y = _data(torch, (16, 3, 64, 64), 10)
    return _step(torch, model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), x, y)


def _inference(torch: Any, model: Any, x: Any) -> Step:
    model.eval()

    def step() -> float:
        with torch.no_grad():
            return model(x).sum().item()
    return step


def _resnet18_imagenet(torch: Any) -> Any:
    nn = torch.nn
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    before = 64
    for width, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers.append(_Block(torch, before, width, stride))
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def resnet18_one(torch: Any) -> Step:
    """ResNet-18, ImageNet form, one image of 224 × 224."""
    return _inference(torch, _resnet18_imagenet(torch), _data(torch, (1, 3, 224, 224), 10)[0])


def resnet18_batch(torch: Any) -> Step:
    """ResNet-18, ImageNet form, 16 images."""
    return _inference(torch, _resnet18_imagenet(torch), _data(torch, (16, 3, 224, 224), 10)[0])


def small_mlp(torch: Any) -> Step:
    """64-128-128-10, one sample."""
    nn = torch.nn
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    return _inference(torch, model, _data(torch, (1, 64), 10)[0])


def gpt_decoding(torch: Any) -> Step:
    """128 tokens, one at a time, after a prompt of 8, with a key/value cache that grows; the time is of one sequence."""
    model = _gpt(torch, 65, 4, 256, 4, 256)
    model.eval()
    prompt = torch.tensor(np.random.default_rng(0).integers(0, 65, (1, 8)))

    def step() -> float:
        total = 0
        with torch.no_grad():
            caches: list[list[Any]] = [[] for _ in model.blocks]
            idx, start = prompt, 0
            for _ in range(128):
                logits = model(idx, caches, start)
                start += idx.shape[1]
                idx = logits[:, -1].argmax(dim=-1, keepdim=True)
                total += idx.item()
        return float(total)
    return step


WORKLOADS: dict[str, Callable[[Any], Step]] = {
    "logistic regression": logistic_regression, "MLP": mlp, "MNIST CNN": mnist_cnn, "ResNet-18": resnet18, "GPT": gpt,
    "LSTM": lstm, "ViT-Tiny": vit_tiny, "U-Net": unet, "depthwise blocks": depthwise, "GPT, bf16 autocast": gpt_bf16}

INFERENCE: dict[str, Callable[[Any], Step]] = {
    "ResNet-18, 1 image": resnet18_one, "ResNet-18, 16 images": resnet18_batch, "GPT decoding": gpt_decoding,
    "small MLP, 1 sample": small_mlp}

TOKENS = {"GPT decoding": 128}  # that one step decodes
