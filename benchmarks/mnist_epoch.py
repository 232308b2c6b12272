"""``python -m benchmarks.mnist_epoch DATA [--rounds N]``: whole epochs of ``examples/mnist.py`` on real MNIST, loading included.

The example runs as it is, once with Rushlight and once with PyTorch behind its imports (``pose.py``), each in a process of
its own, in turn. Prints PyTorch ÷ Rushlight for the training epoch and for the process as a whole.
"""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "mnist.py"


def once(package: str, data: str, threads: int) -> dict:
    """One epoch of training and one evaluation, in this process."""
    started = time.perf_counter()
    chosen = importlib.import_module(package)
    if package != "rushlight":
        from benchmarks.pose import pose_as_rushlight

        pose_as_rushlight(chosen)
    spec = importlib.util.spec_from_file_location("mnist_example", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    chosen.set_num_threads(threads)
    train, epochs = example.train, []

    def timed(*args: object) -> None:
        t = time.perf_counter()
        train(*args)
        epochs.append(time.perf_counter() - t)
    example.train = timed
    sys.argv = ["mnist.py", "--data", data, "--epochs", "1"]
    example.main()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"epoch": epochs[0], "whole": time.perf_counter() - started, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder with the four IDX files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--package", help="run one epoch with this package and print its figures")
    args = parser.parse_args()
    if args.package:
        found = once(args.package, args.data, args.threads)
        print(json.dumps(found))
        return
    rows: dict[str, list[dict]] = {"rushlight": [], "torch": []}
    for _ in range(args.rounds):
        for package, known in rows.items():
            out = subprocess.run([sys.executable, "-m", "benchmarks.mnist_epoch", args.data, "--package", package, "--threads",
                                  str(args.threads)], check=True, capture_output=True, text=True).stdout
            known.append(json.loads(out.splitlines()[-1]))
    for what in ("epoch", "whole"):
        ratios = [b[what] / a[what] for a, b in zip(rows["rushlight"], rows["torch"])]
        ours, theirs = (statistics.median(r[what] for r in known) for known in rows.values())
        print(f"{what}: PyTorch ÷ Rushlight {statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f}), {ours:.1f} s and "
              f"{theirs:.1f} s")
    print("peak MB:", *(f"{name} {max(r['peak'] for r in known) / 1e6:.0f}" for name, known in rows.items()))


if __name__ == "__main__":
    main()
