"""``python -m benchmarks.machine [--threads N]``: what the machine can do at most, as lines of text.

The float32 multiply-add peak and the copy bandwidth, of one thread and of all (``rushlight/compile/cpu/peaks.py``).
"""
from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def described(threads: int) -> str:
    """The figures, measured in a process of its own, so that the memory it takes is nobody else's."""
    return subprocess.run([sys.executable, "-m", "benchmarks.machine", "--threads", str(threads)], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    from rushlight.compile.cpu import pool, target
    from rushlight.compile.cpu.peaks import peaks

    pool.set_num_threads(threads)
    cpu = target.current()
    print(f"{processor()}, {os.cpu_count()} processors, vectors of {cpu.vector_bytes * 8} bits, load average {os.getloadavg()[0]:.1f}")
    for n in sorted({1, threads}):
        p = peaks(n)
        print(f"{n} {'thread' if n == 1 else 'threads'}: {p.flops / 1e9:.0f} GFLOP/s of float32 multiply-adds, "
              f"{p.copy / 1e9:.1f} GB/s copying 64 MB (read and written)")


if __name__ == "__main__":
    main()
