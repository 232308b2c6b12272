"""``python -m benchmarks [--only NAME] [--rounds N] [--threads N]``: PyTorch ÷ Rushlight for every workload.

Both packages run in a process of their own and take turns; each round gives one ratio of median step times, and the
table shows the median of the ratios with their spread. Absolute times vary from machine to machine and hour to hour.
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from benchmarks.workloads import INFERENCE, WORKLOADS


class Side:
    """A running worker process."""

    def __init__(self, package: str, workload: str, threads: int) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.worker", package, workload, str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, seconds: float) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker failed: {self.process.args}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(workload: str, rounds: int, seconds: float, threads: int) -> dict:
    ours, theirs = Side("rushlight", workload, threads), Side("torch", workload, threads)
    ours.run(seconds), theirs.run(seconds)  # warm-up
    ratios, mine, other = [], [], []
    for _ in range(rounds):
        a, b = ours.run(seconds), theirs.run(seconds)
        mine.append(statistics.median(a["times"]))
        other.append(statistics.median(b["times"]))
        ratios.append(other[-1] / mine[-1])
    ours.close(), theirs.close()
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "ours": statistics.median(mine),
            "theirs": statistics.median(other), "first": a["first step"], "their first": b["first step"], "peak": a["peak"],
            "their peak": b["peak"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print(f"{'training step':22}{'PyTorch ÷ Rushlight':>21}{'spread':>14}{'ms':>9}{'PyTorch ms':>12}{'first s':>9}{'peak MB':>9}"
          f"{'PyTorch MB':>12}")
    for name in (*WORKLOADS, *INFERENCE):
        if args.only.lower() in name.lower():
            r = compare(name, args.rounds, args.seconds, args.threads)
            print(f"{name:22}{r['ratio']:>20.2f}×{r['low']:>8.2f}–{r['high']:.2f}{r['ours'] * 1e3:>9.3f}{r['theirs'] * 1e3:>12.3f}"
                  f"{r['first']:>9.2f}{r['peak'] / 1e6:>9.0f}{r['their peak'] / 1e6:>12.0f}", flush=True)


if __name__ == "__main__":
    main()
