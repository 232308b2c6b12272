"""The first losses of ``examples/mnist.py``, with Rushlight or with PyTorch behind its imports.

The fixture ``mnist_losses.json`` was made with PyTorch 2.13 (CPU, two threads) by

    python tests/examples/mnist_losses.py torch ../shared/data/mnist tests/examples/mnist_losses.json

in float32, in float64, and in float32 with PyTorch's own convolutions in place of oneDNN's. The program amplifies rounding errors: a
rectifier's input or a tie in pooling falls on the other side in one of two runs, and from there on the losses part. PyTorch's own
float32 parts from its float64 before step 80 for most seeds. So float64 says whether the programs are the same, for all steps, and
float32 is held to the steps for which PyTorch's two precisions agree. Within these its two ways to convolve part, too: after 31 steps
for seed 1, by 2 %, after 59 for seed 3. Which side a number falls on depends on the order of sums, and so on the processor; all of the
losses have to be those of one of PyTorch's ways.
"""
from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.pose import pose_as_rushlight  # noqa: E402

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mnist.py"


def first_losses(data: str, seed: int, count: int = 100, dtype: str = "float32") -> dict:
    """Losses of the example's loop, its first batch of labels, and sums of its first parameters."""
    spec = importlib.util.spec_from_file_location("mnist_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch = example.torch
    torch.manual_seed(seed)
    transform = example.transforms.Compose([example.transforms.ToTensor(), example.transforms.Normalize((0.1307,), (0.3081,))])
    loader = torch.utils.data.DataLoader(example.datasets.MNIST(data, train=True, download=False, transform=transform), batch_size=64,
                                         shuffle=True)
    precision = getattr(torch, dtype)
    model = example.Net().to(precision)
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
        loss = criterion(model(x.to(precision)), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"losses": losses, "labels": labels, "parameters": parameters}


if __name__ == "__main__":
    name, folder, target = sys.argv[1:4]
    chosen = importlib.import_module(name)
    if name != "rushlight":
        pose_as_rushlight(chosen)
    made = {seed: {dtype: first_losses(folder, seed, dtype=dtype) for dtype in ("float32", "float64")} for seed in (1, 3)}
    if name != "rushlight":
        with chosen.backends.mkldnn.flags(enabled=False):
            for seed, ways in made.items():
                ways["float32 without oneDNN"] = {"losses": first_losses(folder, seed)["losses"]}
    Path(target).write_text(json.dumps(made, indent=1) + "\n")
