"""One process of a comparison: builds a workload and runs it when told to, a line of JSON at a time."""
from __future__ import annotations

import importlib
import json
import resource
import sys
import time

from benchmarks.workloads import INFERENCE, WORKLOADS


def main() -> None:
    package, workload, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    started = time.perf_counter()
    torch = importlib.import_module(package)
    importlib.import_module(package + ".nn")
    importlib.import_module(package + ".optim")
    imported = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = (WORKLOADS | INFERENCE)[workload](torch)
    first = time.perf_counter()
    step()
    report = {"import": imported - started, "first step": time.perf_counter() - first}
    for line in sys.stdin:
        seconds = float(line)
        times, end = [], time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            t = time.perf_counter()
            loss = step()
            times.append(time.perf_counter() - t)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**report, "times": times, "loss": loss, "peak": peak}), flush=True)


if __name__ == "__main__":
    main()
