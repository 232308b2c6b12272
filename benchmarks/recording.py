"""``python -m benchmarks.recording``: microseconds to record an operation, beside PyTorch's to run it on a 4 × 4 tensor.

Chains of 500 operations that were recorded before, as in a training loop; nothing is run, so that a column is what Python
costs. The best of several rounds; the loop itself takes about 0.03 of it.
"""
from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

LENGTH = 500


def operations(torch: Any, w: Any, b: Any) -> dict[str, Callable[[Any], Any]]:
    F = importlib.import_module(torch.__name__ + ".nn.functional")
    norm, linear, batch_norm = torch.nn.LayerNorm(4), torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)
    cell, five = torch.nn.LSTMCell(4, 4), torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(5)])
    return {
        "x * w": lambda x: x * w, "x + 1.0": lambda x: x + 1.0, "x @ w": lambda x: x @ w, "x.exp()": lambda x: x.exp(),
        "F.relu(x)": F.relu, "torch.sigmoid(x)": torch.sigmoid, "torch.matmul(x, w)": lambda x: torch.matmul(x, w),
        "F.linear(x, w, b)": lambda x: F.linear(x, w, b), "F.softmax(x, dim=-1)": lambda x: F.softmax(x, dim=-1),
        "x.sum()": lambda x: x.sum(), "x.mean(1, keepdim=True)": lambda x: x.mean(1, keepdim=True), "x.view(4, 4)": lambda x: x.view(4, 4),
        "x.transpose(0, 1)": lambda x: x.transpose(0, 1), "x.exp().view(4, 4): both": lambda x: x.exp().view(4, 4),
        "x.mul_(0.9)": lambda x: x.mul_(0.9), "x.sort()[0]": lambda x: x.sort()[0], "torch.addmm(b, x, w)": lambda x: torch.addmm(b, x, w),
        "F.dropout(x, 0.5)": lambda x: F.dropout(x, 0.5), "nn.Linear(4, 4)(x)": linear, "nn.LayerNorm(4)(x)": norm,
        "nn.ReLU()(x)": torch.nn.ReLU(), "nn.BatchNorm1d(4)(x)": batch_norm, "nn.Sequential of 5 linear": five,
        "nn.LSTMCell(4, 4)(x, (x, x))": lambda x: cell(x, (x, x))[0]}


def microseconds(torch: Any, call: Callable[[Any], Any], grad: bool, drop: Callable[[], None], rounds: int = 15) -> float:
    start, best = torch.ones(4, 4, requires_grad=True), float("inf")
    with torch.set_grad_enabled(grad):
        for _ in range(rounds):
            x = start * 1.0
            began = time.perf_counter()
            for _ in range(LENGTH):
                x = call(x)
            best = min(best, time.perf_counter() - began)
            x = None  # type: ignore[assignment]
            drop()
    return best / LENGTH * 1e6


def main() -> None:
    import torch as theirs

    import rushlight as ours
    from rushlight.record import flush

    theirs.set_num_threads(1)
    tables = []
    for torch in (ours, theirs):
        w, b = torch.ones(4, 4, requires_grad=True), torch.ones(4, requires_grad=True)
        tables.append(operations(torch, w, b))
    print(f"{'microseconds':30}{'with gradient':>15}{'PyTorch runs':>14}{'without':>12}{'PyTorch runs':>14}")
    for name in tables[0]:
        row = [microseconds(torch, table[name], grad, drop) for grad in (True, False)
               for torch, table, drop in ((ours, tables[0], flush), (theirs, tables[1], lambda: None))]
        print(f"{name:30}{row[0]:>15.2f}{row[1]:>14.2f}{row[2]:>12.2f}{row[3]:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
