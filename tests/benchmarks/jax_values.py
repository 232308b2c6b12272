"""The values of a JAX workload's steps, printed as JSON; for ``test_jax_steps.py``, run by an interpreter that has JAX.

    python jax_values.py WORKLOAD STEPS [PARAMETERS.npz]

The file has the model's parameters in PyTorch's order and layouts.
"""
from __future__ import annotations

import json
import os
import sys

import numpy as np

from benchmarks.worker import jax_step


def laid_out(array, leaf, name):
    """A parameter of PyTorch in the layout that ``leaf`` has here."""
    if name == "kernel" and leaf.ndim == 2:
        array = array.T
    elif name == "kernel":  # (out, in, height, width), or (in, out, height, width) of a transposed convolution
        array = min((array.transpose(2, 3, 1, 0), array.transpose(2, 3, 0, 1)), key=lambda a: a.shape != leaf.shape)
    assert array.shape == leaf.shape, (name, array.shape, leaf.shape)
    return array


def filled(tree, arrays, name=""):
    """A pytree like ``tree`` of the next ``arrays``, in the order in which it lists its leaves."""
    if isinstance(tree, dict):
        return {key: filled(value, arrays, key) for key, value in tree.items()}
    if isinstance(tree, list):
        return [filled(value, arrays) for value in tree]
    import jax.numpy as jnp
    return jnp.array(laid_out(next(arrays), tree, name))


def main():
    workload, steps, *given = sys.argv[1:]
    _, _, step = jax_step(workload, 1)
    if given:
        found = np.load(given[0])
        arrays = [found[name] for name in found.files]
        rest = iter(arrays)
        step.parameters = filled(step.parameters, rest)
        assert not list(rest), "more parameters than the workload has"
    values = [step() for _ in range(int(steps))]
    print(json.dumps({"values": values, "processors": len(os.sched_getaffinity(0)),
                      "imported": sorted({"rushlight", "torch"} & set(sys.modules))}))


if __name__ == "__main__":
    main()
