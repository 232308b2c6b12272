"""Fused chains of pointwise operations over large arrays, in Rushlight and PyTorch in turn: share of the copy bandwidth.

    python -m benchmarks.bandwidth [--threads 2] [--rounds 5] [--megabytes 64] [--no-torch]

Bytes are what the chain must read and write, each array once; the bandwidth is that of a copy of 64 MB, measured again beside
each chain, in the same state of the caches. "Again and again": runs follow each other, and a large last-level cache comes to hold
part of the arrays. "From memory": all caches are filled with other data before each run. "Of streams": of what a sum of as many
arrays reaches, which only loads, adds and stores. Where memory delivers less than it takes, a chain that reads two or three arrays
cannot be as fast as a copy. A chain of few operations is held up by memory alone; from how many on it is held up by arithmetic, the
last rows show. PyTorch is measured again and again.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CHAINS: dict[str, tuple[int, Callable[..., Any]]] = {  # name -> (arrays read and written, chain)
    "relu(2 * x + 1)": (2, lambda torch, x, y, z: torch.relu(2 * x + 1)),
    "x + y": (3, lambda torch, x, y, z: x + y),
    "(x - y) * z": (4, lambda torch, x, y, z: (x - y) * z),
    "clamp(x * y + z, 0, 6) - x": (4, lambda torch, x, y, z: (x * y + z).clamp(0, 6) - x),
    "x * y + z": (4, lambda torch, x, y, z: x * y + z),
    "where(x > 0.5, y, z)": (4, lambda torch, x, y, z: torch.where(x > 0.5, y, z)),
    "x.mul_(0.9).add_(y)": (3, lambda torch, x, y, z: x.mul_(0.9).add_(y)),
    "sqrt(x * x + y * y)": (3, lambda torch, x, y, z: (x * x + y * y).sqrt()),
    "sigmoid(x)": (2, lambda torch, x, y, z: torch.sigmoid(x)),
    "gelu(x + y)": (3, lambda torch, x, y, z: torch.nn.functional.gelu(x + y)),
    "silu(x) * y": (3, lambda torch, x, y, z: torch.nn.functional.silu(x) * y),
    "softplus(x)": (2, lambda torch, x, y, z: torch.nn.functional.softplus(x)),
    "mish(x)": (2, lambda torch, x, y, z: torch.nn.functional.mish(x)),
    "log(x) + sin(y)": (3, lambda torch, x, y, z: x.log() + y.sin()),
    "tanh(x) * exp(-y)": (3, lambda torch, x, y, z: torch.tanh(x) * torch.exp(-y)),
}


class Chain:
    """One chain on one side; results go where the last but one lay, as in a loop that repeats itself."""

    def __init__(self, torch: Any, chain: Callable[..., Any], elements: int) -> None:
        rng = np.random.default_rng(0)
        self.torch, self.chain = torch, chain
        self.arrays = [torch.tensor(rng.random(elements, np.float32)) for _ in range(3)]

    def seconds(self, repeats: int, before: Callable[[], None] | None = None) -> float:
        """The least time of a run of the chain; ``before`` is called before each."""
        best = float("inf")
        for _ in range(repeats):
            if before is not None:
                before()
            start = time.perf_counter()
            self.chain(self.torch, *self.arrays).data_ptr()  # asked for, so computed
            best = min(best, time.perf_counter() - start)
        return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=64, help="of each array")
    parser.add_argument("--only", default="", help="chains whose name contains this")
    parser.add_argument("--no-torch", action="store_true")
    args = parser.parse_args()
    import rushlight
    from rushlight.compile.cpu import peaks

    sides: list[Any] = [rushlight]
    if not args.no_torch:
        import torch

        sides.append(torch)
    for side in sides:
        side.set_num_threads(args.threads)
    elements = (args.megabytes << 20) // 4
    print(f"{f'chain over {args.megabytes} MB':28}{'again and again':>18}{'of copy':>9}{'of streams':>12}"
          f"{'from memory':>15}{'of copy':>9}{'of streams':>12}{'PyTorch ÷ Rushlight':>21}")
    with peaks.swept() as sweep:
        for name, (arrays, chain) in CHAINS.items():
            if args.only in name:
                _row(name, arrays, [Chain(side, chain, elements) for side in sides], arrays * elements * 4, sweep, args.rounds)


def _row(name: str, arrays: int, runs: list[Chain], nbytes: int, sweep: Callable[[], None], rounds: int) -> None:
    """Measure a chain and what it is compared with in turn, the best of each over ``rounds``, and print them."""
    from rushlight.compile.cpu import peaks

    chain = {before: float("inf") for before in (None, sweep)}
    copies, sums = dict.fromkeys(chain, 0.0), dict.fromkeys(chain, 0.0)
    pytorch = float("inf")
    for _ in range(rounds):
        for before in chain:
            copies[before] = max(copies[before], peaks.streams(1, before=before))
            sums[before] = max(sums[before], peaks.streams(arrays - 1, before=before))
            chain[before] = min(chain[before], runs[0].seconds(6, before))
        for other in runs[1:]:
            pytorch = min(pytorch, other.seconds(6))
            time.sleep(0.3)  # PyTorch's idle threads spin that long on the core that our second thread needs
    cells = ""
    for before, width in ((None, 13), (sweep, 10)):
        rate = nbytes / chain[before]
        cells += f"{rate / 1e9:>{width}.1f} GB/s{rate / copies[before]:>9.0%}{rate / sums[before]:>12.0%}"
    print(f"{name:28}{cells}{f'{pytorch / chain[None]:>20.2f}×' if runs[1:] else ''}", flush=True)


if __name__ == "__main__":
    main()
