"""The resident peak of the MNIST CNN's training in Rushlight and in PyTorch: ``python -m benchmarks.memory [--steps N]``.

Each runs in a process of its own, which imports the package, trains, and reports the most memory that it ever held
(``resource``), and how much of it was there after the imports.
"""
from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys

import numpy as np

from benchmarks.workloads import WORKLOADS


def peak() -> int:
    """Bytes; Linux counts in KB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def worker(package: str, workload: str, steps: int, threads: int) -> None:
    """One side: trains and prints a line of JSON."""
    torch = importlib.import_module(package)
    for part in ("nn", "optim"):
        importlib.import_module(f"{package}.{part}")
    imported = peak()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = WORKLOADS[workload](torch)
    losses = [step() for _ in range(steps)]
    assert np.isfinite(losses).all()
    print(json.dumps({"imported": imported, "peak": peak()}))


def measure(package: str, workload: str, steps: int, threads: int) -> dict[str, int]:
    """The figures of one side, from a new process."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.memory", "--worker", package, "--only", workload, "--steps", str(steps),
                           "--threads", str(threads)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="MNIST CNN", help="workloads whose name contains this")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.only, args.steps, args.threads)
        return
    print(f"{'workload':22}{'package':12}{'peak MB':>9}{'after imports':>15}{'training':>10}")
    for name in WORKLOADS:
        if args.only.lower() in name.lower():
            for package in ("rushlight", "torch"):
                m = measure(package, name, args.steps, args.threads)
                print(f"{name:22}{package:12}{m['peak'] / 1e6:>9.0f}{m['imported'] / 1e6:>15.0f}{(m['peak'] - m['imported']) / 1e6:>10.0f}",
                      flush=True)


if __name__ == "__main__":
    main()
