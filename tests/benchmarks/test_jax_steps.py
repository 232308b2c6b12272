"""The JAX workloads compute what Rushlight's do: the same losses, step for step, from the same initial parameters.

JAX runs in processes of its own, of the interpreter that ``$JAX_PYTHON`` names; without JAX there, these tests are skipped.
"""
from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import rushlight
from benchmarks import workloads
from benchmarks.sides import Side, interpreter
from rushlight import nn

ROOT = Path(__file__).parent.parent.parent
WORKLOADS = workloads.WORKLOADS | workloads.INFERENCE


def run(*arguments):
    return subprocess.run([interpreter("jax"), *arguments], capture_output=True, text=True, cwd=ROOT, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})


@cache
def jax_is_missing():
    return shutil.which(interpreter("jax")) is None or run("-c", "import jax").returncode != 0


@pytest.fixture
def jax_values():
    if jax_is_missing():
        pytest.skip("needs JAX: make .venv/jax/bin/python; JAX_PYTHON names another interpreter")

    def values(*arguments):
        done = run("tests/benchmarks/jax_values.py", *map(str, arguments))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return values


def ours(workload, steps, path):
    """The values of Rushlight's first steps; the initial parameters are left in the file."""
    rushlight.manual_seed(0)
    step = WORKLOADS[workload](rushlight)
    # The model is held by the step's closure; a loss that is a module is, too, but has no parameters.
    models = [cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, nn.Module)]
    parameters = [p for model in models for p in model.parameters()]
    np.savez(path, *(p.detach().numpy().copy() for p in parameters))
    return [step() for _ in range(steps)]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("workload", "steps", "tolerance"), [
    ("logistic regression", 20, 1e-5), ("MLP", 8, 1e-4), ("LSTM", 4, 1e-4), ("GPT", 3, 1e-4), ("small MLP, 1 sample", 1, 1e-4),
    pytest.param("GPT decoding", 1, 0, marks=SLOW), pytest.param("GPT, bf16 autocast", 3, 5e-3, marks=SLOW),
    pytest.param("ResNet-18", 2, 1e-3, marks=SLOW), pytest.param("ViT-Tiny", 2, 1e-3, marks=SLOW),
    pytest.param("U-Net", 2, 1e-3, marks=SLOW), pytest.param("depthwise blocks", 3, 1e-3, marks=SLOW),
    pytest.param("ResNet-18, 1 image", 1, 1e-3, marks=SLOW)])
def test_values_are_rushlights(jax_values, tmp_path, workload, steps, tolerance):
    expected = ours(workload, steps, tmp_path / "parameters.npz")
    np.testing.assert_allclose(jax_values(workload, steps, tmp_path / "parameters.npz")["values"], expected, rtol=tolerance)


def test_the_loss_with_dropout_falls(jax_values):
    losses = jax_values("MNIST CNN", 24)["values"]
    assert len(set(losses)) == 24 and np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.1


def test_the_process_has_the_threads_that_were_asked_for_and_only_jax(jax_values):
    found = jax_values("logistic regression", 1)
    assert found["processors"] == 1 and found["imported"] == []


def test_jax_takes_turns_like_the_other_sides(jax_values):
    with Side("jax", "logistic regression", 1) as side:
        assert side.first["first"] > 0 and side.first["version"]
        assert len(side.run(0)["times"]) == 3


def test_every_workload_is_there():
    """Read, not imported: the module needs JAX."""
    names = {}
    for node in ast.parse((ROOT / "benchmarks" / "jax_steps.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            names[node.target.id] = [key.value for key in node.value.keys]
    assert names == {"WORKLOADS": list(workloads.WORKLOADS), "INFERENCE": list(workloads.INFERENCE)}
