"""Results are bitwise the same for any number of threads, from run to run, and with a cold or a warm disk cache.

A small path runs in the reference interpreter the first time, always: which runs are interpreted follows from the program
alone, so that, too, is the same from run to run.
"""
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rushlight
from rushlight.record.flush import start_afresh

SCRIPT = Path(__file__).with_name("determinism_models.py")


def models():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODELS = models()


def process(threads: int, cache: Path, **variables: str) -> dict:
    done = subprocess.run([sys.executable, str(SCRIPT), str(threads)], capture_output=True, text=True, timeout=300,
                          cwd=SCRIPT.parents[1], env={**os.environ, "RUSHLIGHT_CACHE_DIR": str(cache), **variables})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_processes_with_cold_and_warm_caches_and_any_number_of_threads(tmp_path):
    cold = process(1, tmp_path)
    assert cold["compiled"] > 10 and cold["loaded"] == 0
    warm = process(2, tmp_path)
    assert warm["compiled"] == 0 and warm["loaded"] == cold["compiled"]
    assert warm["digests"] == cold["digests"]
    again = process(2, tmp_path, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # of NumPy, which interpreted runs use
    assert again["digests"] == cold["digests"]


@pytest.mark.parametrize("name", MODELS.MODELS)
def test_threads_and_runs_in_one_process(name):
    before = rushlight.get_num_threads()
    try:
        found = []
        for threads in (2, 1, 2, 3):
            start_afresh()  # the first run of a path is interpreted, or not, as in a new process
            found.append(MODELS.run(name, threads))
        assert len(set(found)) == 1
        assert MODELS.run(name, 2, seed=1) != found[0]
    finally:
        rushlight.set_num_threads(before)
