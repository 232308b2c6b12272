"""The processes of a comparison, and how they take turns without disturbing each other."""
from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Failed", "Side", "interpreter"]

QUIET = 0.03      # seconds without work that make a process idle
LONGEST_SPIN = 1.0  # seconds after which a process that never rests is left alone


class Failed(Exception):
    """A side could not run its workload; the text says why."""


def interpreter(side: str) -> str:
    """The Python that runs a side: this one, but for JAX, which may have an environment of its own: ``$JAX_PYTHON``."""
    return os.environ.get("JAX_PYTHON", sys.executable) if side == "jax" else sys.executable


class Side:
    """A running worker, which has done its first steps.

    Attributes:
        first: what it said at first: ``version``, and in seconds ``imported`` and ``first`` (the first step).

    Raises:
        Failed: the worker ended, was not ready after ``patience`` seconds, or there is no interpreter for it.
    """

    def __init__(self, side: str, workload: str, threads: int, patience: float = 300, **environment: str) -> None:
        self.side, self.patience = side, patience
        python = interpreter(side)
        if shutil.which(python) is None:
            raise Failed(f"there is no interpreter {python}")
        self.complaints = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", side, workload, str(threads)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.complaints, text=True, env={**os.environ, **environment})
        self.first: dict[str, Any] = {}
        try:
            self.first = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def run(self, seconds: float) -> dict[str, Any]:
        """One turn: ``times`` of the steps, ``peak`` memory. Returns when the process is idle again."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._why()) from None
        found = self._answer()
        self.settle()
        return found

    def settle(self) -> None:
        """Wait until the process's threads rest.

        OpenMP's idle threads spin up to 300 ms for more work (Rushlight's a millisecond), and would take the cores from the
        side whose turn is next. Settings that forbid the spinning would slow down the side that has them.
        """
        end = time.perf_counter() + LONGEST_SPIN
        used = self._processor_time()
        if used is None:  # no /proc: as long as they spin at most
            time.sleep(0.4)
            return
        while time.perf_counter() < end:
            time.sleep(QUIET)
            before, used = used, self._processor_time()
            if used == before:
                return

    def close(self) -> None:
        """End the worker: its input ends; one that does not listen any more is stopped."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.complaints.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            if not ready.select(self.patience):
                raise Failed(f"not ready after {self.patience:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(self._why())
        return json.loads(line)  # type: ignore[no-any-return]

    def _why(self) -> str:
        """The last thing that a worker that ended complained about."""
        self.process.wait()
        self.complaints.seek(0)
        said = self.complaints.read().decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"the worker ended with status {self.process.returncode}"

    def _processor_time(self) -> int | None:
        """Ticks of processor time that the process has used, all threads together."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return None
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
