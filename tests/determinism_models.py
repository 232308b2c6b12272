"""Trains four small models and prints a digest of the losses and of all tensors: ``python determinism_models.py THREADS``."""
from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import rushlight as torch
import rushlight.nn.functional as F
from rushlight import nn, optim
from rushlight.tools.profiler import counters


def digest(losses: list[float], model: Any, optimizer: Any) -> str:
    """Every bit of the losses, the parameters, the buffers and the optimizer's state."""
    h = hashlib.sha256(np.array(losses, np.float64).tobytes())
    for name, t in model.state_dict().items():
        h.update(name.encode() + t.detach().numpy().tobytes())
    for state in optimizer.state_dict()["state"].values():
        for name, value in sorted(state.items()):
            h.update(name.encode() + np.asarray(value.numpy() if isinstance(value, torch.Tensor) else value).tobytes())
    return h.hexdigest()


def mlp() -> str:
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 10))
    x, y = torch.randn(128, 784), torch.randint(0, 10, (128,))
    return train(model, optim.Adam(model.parameters(), lr=1e-3), lambda: F.cross_entropy(model(x), y))


def cnn() -> str:
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Dropout(0.25), nn.Flatten(), nn.Linear(32 * 6 * 6, 10), nn.LogSoftmax(1))
    x, y = torch.randn(16, 1, 28, 28), torch.randint(0, 10, (16,))
    return train(model, optim.SGD(model.parameters(), lr=0.05, momentum=0.9), lambda: F.nll_loss(model(x), y))


def words() -> str:
    class Words(nn.Module):
        """Predicts a word from the mean of four others, with attention over them."""

        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(500, 32), nn.Linear(32, 500)

        def forward(self, x: Any) -> Any:
            v = self.table(x)  # (B, 4, 32)
            weights = F.softmax((v * v.mean(1, keepdim=True)).sum(-1), -1)
            return self.out((v * weights.unsqueeze(-1)).sum(1))
    model = Words()
    x, y = torch.randint(0, 500, (256, 4)), torch.randint(0, 500, (256,))
    return train(model, optim.AdamW(model.parameters(), lr=1e-2), lambda: F.cross_entropy(model(x), y))


def narrow() -> str:
    """A transformer layer and a convolution under autocast: products of bfloat16 pairs where the processor has them."""
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
    model = nn.ModuleDict({"conv": nn.Conv1d(16, 64, 3, padding=1), "layer": layer, "out": nn.Linear(64, 10)})
    x, y = torch.randn(16, 16, 96), torch.randint(0, 10, (16,))

    def loss() -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = layer(model["conv"](x).transpose(1, 2))
            return F.cross_entropy(model["out"](h.mean(1)), y)
    return train(model, optim.AdamW(model.parameters(), lr=1e-3), loss)


def train(model: Any, optimizer: Any, loss_of: Callable[[], Any], steps: int = 6) -> str:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(np.isfinite(losses)) and losses[-1] != losses[0]
    return digest(losses, model, optimizer)


MODELS: dict[str, Callable[[], str]] = {"mlp": mlp, "cnn": cnn, "words": words, "narrow": narrow}


def run(name: str, threads: int, seed: int = 0) -> str:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    return MODELS[name]()


if __name__ == "__main__":
    out = {name: run(name, int(sys.argv[1])) for name in MODELS}
    done = counters()
    print(json.dumps({"digests": out, "compiled": done.kernels_compiled, "loaded": done.kernels_loaded}))
