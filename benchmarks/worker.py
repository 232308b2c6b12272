"""One process of a comparison: builds a workload, then runs it when told to, a line of JSON at a time.

    python -m benchmarks.worker SIDE WORKLOAD THREADS

SIDE is ``rushlight``, ``torch``, ``torch.compile`` (PyTorch with every module of the workload compiled) or ``jax``. The first line
that it prints is about its beginning; ``first`` is the longest of the first three steps, for a small step is compiled when it
comes the second time. Then it reads lines, each a number of seconds, and prints a line for each.
"""
from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.workloads import INFERENCE, WORKLOADS


def peak() -> int:
    """The most memory, in bytes, that this process ever held.

    From Linux's own page where there is one: ``getrusage`` may count what the parent held before this program began.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compile_modules(torch: Any, step: Callable[[], float]) -> None:
    """``torch.compile`` for the modules that a step uses: those that its closure holds.

    ``Module.compile()`` would be simpler, but leaves a plain ``Sequential`` as it is.
    """
    for cell in step.__closure__ or ():
        if isinstance(cell.cell_contents, torch.nn.Module):
            cell.cell_contents = torch.compile(cell.cell_contents)


def run(step: Callable[[], float], seconds: float) -> list[float]:
    """The times of as many steps as fit into that time, three at least."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        t = time.perf_counter()
        step()
        times.append(time.perf_counter() - t)
    return times


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def torch_step(side: str, workload: str, threads: int) -> tuple[str, float, Callable[[], float]]:
    """Version, the time when everything was imported, and the step of a package with PyTorch's interface."""
    package = side.partition(".")[0]
    torch = importlib.import_module(package)
    importlib.import_module(package + ".nn")
    importlib.import_module(package + ".optim")
    imported = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = (WORKLOADS | INFERENCE)[workload](torch)
    if side == "torch.compile":
        compile_modules(torch, step)
    return str(torch.__version__), imported, step


def jax_step(workload: str, threads: int) -> tuple[str, float, Callable[[], float]]:
    """The same of JAX, which has as many threads as there are processors that it may use when it starts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    jax, steps = importlib.import_module("jax"), importlib.import_module("benchmarks.jax_steps")
    imported = time.perf_counter()
    return str(jax.__version__), imported, (steps.WORKLOADS | steps.INFERENCE)[workload]()


def main() -> None:
    side, workload, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    started = time.perf_counter()
    version, imported, step = jax_step(workload, threads) if side == "jax" else torch_step(side, workload, threads)
    say(version=version, imported=imported - started, first=max(run(step, 0)))
    for line in sys.stdin:
        say(times=run(step, float(line)), peak=peak())


if __name__ == "__main__":
    main()
