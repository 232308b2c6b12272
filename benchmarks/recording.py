"""``python -m benchmarks.recording``: microseconds to record an operation, beside PyTorch's to run it on small tensors.

500 calls that were recorded before, as in a training loop; nothing is run, so that a column is what Python costs. Most are chains, each
call on the result of the one before; calls whose result has another shape are made on the same tensor each time, and what they give is
kept, as a training step keeps it. The best of several rounds; the loop itself takes about 0.03 of it.
"""
from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

LENGTH = 500

Call = Callable[[Any], Any]


def chains(torch: Any, w: Any, b: Any) -> list[tuple[Any, dict[str, Call]]]:
    """Calls that give a tensor of the shape of the one that they are made on, and the first such tensor."""
    F = importlib.import_module(torch.__name__ + ".nn.functional")
    nn = torch.nn
    mask, places = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.int64)
    mean, variance, kernel = torch.zeros(4), torch.ones(4), torch.ones(4, 4, 3, 3, requires_grad=True)
    cell = nn.LSTMCell(4, 4)
    matrix: dict[str, Call] = {
        "x * w": lambda x: x * w, "x + 1.0": lambda x: x + 1.0, "x - w": lambda x: x - w, "1.0 - x": lambda x: 1.0 - x, "-x": lambda x: -x,
        "x / 2.0": lambda x: x / 2.0, "x ** 2": lambda x: x ** 2, "x.exp()": lambda x: x.exp(), "x.sqrt()": lambda x: x.sqrt(),
        "x.clamp(0.0, 1.0)": lambda x: x.clamp(0.0, 1.0), "torch.tanh(x)": torch.tanh, "torch.sigmoid(x)": torch.sigmoid,
        "torch.where(mask, x, w)": lambda x: torch.where(mask, x, w), "x.masked_fill(mask, 0.0)": lambda x: x.masked_fill(mask, 0.0),
        "F.relu(x)": F.relu, "F.gelu(x)": F.gelu, "F.silu(x)": F.silu, "F.softmax(x, dim=-1)": lambda x: F.softmax(x, dim=-1),
        "F.log_softmax(x, dim=-1)": lambda x: F.log_softmax(x, dim=-1), "F.dropout(x, 0.5)": lambda x: F.dropout(x, 0.5),
        "x @ w": lambda x: x @ w, "torch.matmul(x, w)": lambda x: torch.matmul(x, w),
        "torch.addmm(b, x, w)": lambda x: torch.addmm(b, x, w), "F.linear(x, w, b)": lambda x: F.linear(x, w, b),
        "torch.einsum('ij,jk->ik', x, w)": lambda x: torch.einsum("ij,jk->ik", x, w),
        "F.layer_norm(x, (4,), b, b)": lambda x: F.layer_norm(x, (4,), b, b),
        "F.batch_norm(x, ..., training)": lambda x: F.batch_norm(x, mean, variance, b, b, True),
        "F.scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(x, w, w),
        "x.sum()": lambda x: x.sum(), "x.mean(1, keepdim=True)": lambda x: x.mean(1, keepdim=True), "x.cumsum(0)": lambda x: x.cumsum(0),
        "x.sort()[0]": lambda x: x.sort()[0], "x.gather(0, places)": lambda x: x.gather(0, places),
        "x.view(4, 4)": lambda x: x.view(4, 4), "x.transpose(0, 1)": lambda x: x.transpose(0, 1),
        "x.permute(1, 0)": lambda x: x.permute(1, 0), "x.expand(4, 4)": lambda x: x.expand(4, 4),
        "x.exp().view(4, 4): both": lambda x: x.exp().view(4, 4), "x.mul_(0.9)": lambda x: x.mul_(0.9),
        "nn.ReLU()(x)": nn.ReLU(), "nn.Dropout(0.5)(x)": nn.Dropout(0.5), "nn.Linear(4, 4)(x)": nn.Linear(4, 4),
        "nn.LayerNorm(4)(x)": nn.LayerNorm(4), "nn.BatchNorm1d(4)(x)": nn.BatchNorm1d(4),
        "nn.Sequential of 5 linear": nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)]),
        "nn.LSTMCell(4, 4)(x, (x, x))": lambda x: cell(x, (x, x))[0]}
    image: dict[str, Call] = {"F.conv2d(x, w, b, padding=1)": lambda x: F.conv2d(x, kernel, b, padding=1),
                              "nn.Conv2d(4, 4, 3, padding=1)(x)": nn.Conv2d(4, 4, 3, padding=1), "nn.BatchNorm2d(4)(x)": nn.BatchNorm2d(4)}
    return [(torch.ones(4, 4, requires_grad=True), matrix), (torch.ones(2, 4, 6, 6, requires_grad=True), image)]


def others(torch: Any, w: Any, b: Any) -> list[tuple[Any, dict[str, Call]]]:
    """Calls that give something of another shape, and what they are made on."""
    F = importlib.import_module(torch.__name__ + ".nn.functional")
    labels, loss = torch.zeros(4, dtype=torch.int64), torch.nn.CrossEntropyLoss()
    matrix: dict[str, Call] = {
        "x[0]": lambda x: x[0], "x[:, 0]": lambda x: x[:, 0], "x[1:3]": lambda x: x[1:3], "x[:, None]": lambda x: x[:, None],
        "x.unsqueeze(0)": lambda x: x.unsqueeze(0), "x.chunk(2, -1)": lambda x: x.chunk(2, -1), "x.split(2, -1)": lambda x: x.split(2, -1),
        "x.flatten()": lambda x: x.flatten(), "torch.cat([x, w])": lambda x: torch.cat([x, w]),
        "torch.stack([x, w])": lambda x: torch.stack([x, w]), "x.max()": lambda x: x.max(), "x.max(1)": lambda x: x.max(1),
        "x.argmax(1)": lambda x: x.argmax(1), "F.cross_entropy(x, labels)": lambda x: F.cross_entropy(x, labels),
        "F.nll_loss(x, labels)": lambda x: F.nll_loss(x, labels), "F.mse_loss(x, w)": lambda x: F.mse_loss(x, w),
        "x.detach()": lambda x: x.detach(), "nn.CrossEntropyLoss()(x, labels)": lambda x: loss(x, labels)}
    image: dict[str, Call] = {"F.max_pool2d(x, 2)": lambda x: F.max_pool2d(x, 2), "x.flatten(1)": lambda x: x.flatten(1),
                              "nn.MaxPool2d(2)(x)": torch.nn.MaxPool2d(2)}
    ids, table = torch.zeros(3, dtype=torch.int64), torch.ones(5, 4, requires_grad=True)
    return [(torch.ones(4, 4, requires_grad=True) * 1.0, matrix), (torch.ones(2, 4, 6, 6, requires_grad=True) * 1.0, image),
            (table, {"F.embedding(ids, x)": lambda x: F.embedding(ids, x)}), (ids, {"nn.Embedding(5, 4)(ids)": torch.nn.Embedding(5, 4)})]


def chained(torch: Any, given: Any, call: Call, grad: bool, drop: Callable[[], None], rounds: int = 15) -> float:
    """Microseconds for a call on what the one before has given."""
    best = float("inf")
    with torch.set_grad_enabled(grad):
        for _ in range(rounds):
            x = given * 1.0
            began = time.perf_counter()
            for _ in range(LENGTH):
                x = call(x)
            best = min(best, time.perf_counter() - began)
            x = None
            drop()
    return best / LENGTH * 1e6


def repeated(torch: Any, given: Any, call: Call, grad: bool, drop: Callable[[], None], rounds: int = 15) -> float:
    """Microseconds for a call on the same tensor each time."""
    best = float("inf")
    with torch.set_grad_enabled(grad):
        for _ in range(rounds):
            kept: list[Any] = []
            began = time.perf_counter()
            for _ in range(LENGTH):
                kept.append(call(given))
            best = min(best, time.perf_counter() - began)
            del kept
            drop()
    return best / LENGTH * 1e6


def rows(torch: Any, drop: Callable[[], None]) -> dict[str, Callable[[bool], float]]:
    """Names of calls, and what measures them with and without gradient."""
    w, b = torch.ones(4, 4, requires_grad=True), torch.ones(4, requires_grad=True)

    def row(measure: Any, given: Any, call: Call) -> Callable[[bool], float]:
        return lambda grad: measure(torch, given, call, grad, drop)  # type: ignore[no-any-return]
    return {name: row(measure, given, call) for measure, table in ((chained, chains), (repeated, others))
            for given, calls in table(torch, w, b) for name, call in calls.items()}


def main() -> None:
    """Of the calls whose names have one of the arguments in them; without any, of all."""
    import torch as theirs

    import rushlight as ours
    from rushlight.record import flush

    theirs.set_num_threads(1)
    measures = rows(ours, flush), rows(theirs, lambda: None)
    print(f"{'microseconds':34}{'with gradient':>15}{'PyTorch runs':>14}{'without':>12}{'PyTorch runs':>14}")
    for name in measures[0]:
        if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
            continue
        row = [measure[name](grad) for grad in (True, False) for measure in measures]
        print(f"{name:34}{row[0]:>15.2f}{row[1]:>14.2f}{row[2]:>12.2f}{row[3]:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
