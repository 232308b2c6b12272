"""PyTorch ÷ Rushlight for every workload: ``make bench``, or

    python -m benchmarks [--only NAME] [--rounds N] [--seconds S] [--threads N] [--compile] [--jax] [--markdown]

First what the machine can do at most; then a table of training steps with the geometric mean of its ratios, and one of
inference. Each package runs in a process of its own and they take turns, each turn when the other side is at rest
(``sides.py``); a round gives one ratio of median step times, and a row shows the median of the ratios with the lowest
and the highest. Absolute times vary from machine to machine and hour to hour.

``--jax`` adds the same workloads written for JAX and jitted (``jax_steps.py``), run by the interpreter that ``$JAX_PYTHON`` names,
else by this one.

The first step (the longest of the first three: a small one is compiled when it comes the second time) is timed in two new
processes: with an empty cache of kernels, then with what that left on disk. Peak memory is of the whole process.
"""
from __future__ import annotations

import argparse
import datetime
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence

from benchmarks import machine, tables
from benchmarks.sides import Failed, Side
from benchmarks.workloads import INFERENCE, TOKENS, WORKLOADS

PATIENCE = 300  # seconds that a first step may take; torch.compile needs a minute or more for some


def compare(workload: str, rounds: int, seconds: float, threads: int, others: Sequence[str] = ()) -> tables.Comparison:
    """Measure one workload in Rushlight, PyTorch and the ``others``. What fails is a line in ``failures``, and the others go on."""
    about = ((WORKLOADS | INFERENCE)[workload].__doc__ or "").splitlines()[0].rstrip(".")
    found = tables.Comparison(workload, about)
    turns: list[tuple[Side, str]] = []
    with tempfile.TemporaryDirectory(prefix="rushlight-bench-") as kernels:
        def begin(side: str, first: str) -> None:
            try:
                one = Side(side, workload, threads, PATIENCE, RUSHLIGHT_CACHE_DIR=os.path.join(kernels, "rushlight"),
                           TORCHINDUCTOR_CACHE_DIR=os.path.join(kernels, "inductor"))
            except Failed as error:
                found.failures[side] = str(error)
                return
            turns.append((one, side))
            found.firsts[first] = one.first["first"]
            one.settle()

        try:
            begin("rushlight", "cold")
            if turns:
                turns.pop()[0].close()
                begin("rushlight", "warm")
            for side in ("torch", *others):
                begin(side, side)
            for number in range(rounds + 1):
                for turn in list(turns):
                    one, side = turn
                    try:
                        answer = one.run(seconds)
                    except Failed as error:
                        found.failures[side] = str(error)
                        turns.remove(turn)
                        found.times.pop(side, None)
                        one.close()
                        continue
                    if number:  # the first round is a warm-up
                        found.times.setdefault(side, []).append(statistics.median(answer["times"]))
                        found.peaks[side] = answer["peak"]
        finally:
            for one, _ in turns:
                one.close()
    return found


def why_not_compile() -> str | None:
    """What ``torch.compile`` is missing here, if anything."""
    if sys.platform == "win32":
        return "not supported on this system"
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "c++")):
        return "it needs a C++ compiler, and there is none"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes about 20 s and more a workload to start")
    parser.add_argument("--jax", action="store_true", help="also JAX with a jitted step (make bench installs it)")
    parser.add_argument("--markdown", action="store_true", help="tables as README.md has them")
    args = parser.parse_args()
    others = ["jax"] if args.jax else []
    if args.compile and (reason := why_not_compile()):
        print(f"no torch.compile: {reason}")
    elif args.compile:
        others.insert(0, "torch.compile")
    print(f"{datetime.date.today():%d %B %Y}, {args.threads} threads, {args.rounds} rounds")
    print(machine.described(args.threads), flush=True)

    def rows(title: Callable[[bool, Sequence[str]], tables.Table], names: list[str]) -> list[tables.Comparison]:
        table, done = title(args.markdown, others), []
        print(f"\n{table.head()}", flush=True)
        for name in names:
            done.append(compare(name, args.rounds, args.seconds, args.threads, others))
            print(table.row(tables.cells(done[-1], args.markdown, others, TOKENS.get(name))), flush=True)
        return done

    every = []
    for title, workloads in ((tables.training_table, WORKLOADS), (tables.inference_table, INFERENCE)):
        names = [name for name in workloads if args.only.lower() in name.lower()]
        if names:
            done = rows(title, names)
            every += done
            print()
            for side in ("torch", *others):
                print(tables.geometric_mean(done, side))
    for c in every:
        for side, reason in c.failures.items():
            print(f"{c.name}: {side} has no figures: {reason}")


if __name__ == "__main__":
    main()
