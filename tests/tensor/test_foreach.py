"""``torch._foreach_*``: one operation on each tensor of a list."""

import numpy as np
import pytest
import torch

import rushlight
from rushlight.tensor.foreach import FOREACH

RNG = np.random.default_rng(3)
A, B, C = ([RNG.uniform(0.2, 0.9, n).astype(np.float32) for n in (3, 4)] for _ in range(3))

ARGUMENTS = {
    "add": [(1.5,), ([1.0, 2.0],), ("B",), ("B", {"alpha": 2}), ("t",)], "sub": [(1.5,), ("B", {"alpha": 0.5})],
    "mul": [(2.0,), ("B",), ("t",)], "div": [(2.0,), ("B",)], "clamp_max": [(0.5,), ("B",)], "clamp_min": [([0.5, 0.1],), ("B",)],
    "maximum": [(0.5,), ("B",)], "minimum": [("B",)], "pow": [(2.0,), ("B",), ([1.0, 2.0],)],
    "addcdiv": [("B", "C", 2.0), ("B", "C", [1.0, 2.0]), ("B", "C", "two"), ("B", "C")], "addcmul": [("B", "C", 0.5)],
    "lerp": [("B", 0.3), ("B", "C")], "norm": [(), (1,)], "max": [()], "clone": [()], "copy": [("B",)], "zero": [()],
}


def run(package, name, call):
    named = {"B": lambda: [package.tensor(x) for x in B], "C": lambda: [package.tensor(x) for x in C],
             "t": lambda: package.tensor(2.0), "two": lambda: package.tensor([1.0, 3.0])}
    args = [named[a]() if isinstance(a, str) else a for a in call if not isinstance(a, dict)]
    kwargs = next((a for a in call if isinstance(a, dict)), {})
    tensors = [package.tensor(x) for x in A]
    out = getattr(package, name)(tensors, *args, **kwargs)
    assert out is tensors if name.endswith("_") else type(out) is tuple
    return [t.numpy() for t in out]


@pytest.mark.parametrize("name", sorted(set(FOREACH) - {"_foreach_mm"}))
def test_as_in_pytorch(name):
    for call in ARGUMENTS.get(name.removeprefix("_foreach_").rstrip("_"), [()]):
        for x, y in zip(run(rushlight, name, call), run(torch, name, call), strict=True):
            np.testing.assert_allclose(x, y, rtol=3e-6, atol=1e-6)


def test_numbers_to_powers_and_products():
    xs = [rushlight.ones(2, 2), rushlight.eye(2) * 3]
    assert [x.tolist() for x in rushlight._foreach_pow(2.0, xs)] == [[[2.0] * 2] * 2, [[8.0, 1.0], [1.0, 8.0]]]
    assert [x.sum().item() for x in rushlight._foreach_mm(xs, xs)] == [8.0, 18.0]


@pytest.mark.parametrize("package", [torch, rushlight], ids=["torch", "rushlight"])
def test_lists_of_other_lengths(package):
    xs = [package.ones(2), package.ones(1)]
    for other, message in (([1.0], "same number of elements as scalar list"), ([package.ones(2)], "got 2 and 1")):
        with pytest.raises(RuntimeError, match=message):
            package._foreach_add(xs, other)
    with pytest.raises(RuntimeError, match="at least one tensor"):
        package._foreach_add([], 1)
    with pytest.raises(TypeError):
        package._foreach_add(package.ones(2), 1)
