"""Random numbers for tensors that do not lie row by row: drawn in the order of their memory, as in PyTorch."""
from __future__ import annotations

import importlib

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

INPUTS = {"rows": lambda t: t.ones(4, 6), "transposed": lambda t: t.ones(4, 6).t(), "computed": lambda t: t.ones(4, 6).t().exp(),
          "few": lambda t: t.ones(3, 4).t(), "permuted": lambda t: t.ones(2, 3, 2, 5).permute(2, 0, 1, 3),
          "repeated": lambda t: t.ones(2, 5).repeat(2, 3, 1, 1).permute(2, 0, 1, 3) * 0.5,
          "channels last": lambda t: t.ones(2, 3, 4, 4).to(memory_format=t.channels_last), "gaps": lambda t: t.ones(4, 6)[:, ::2],
          "expanded": lambda t: t.ones(4, 1).expand(4, 6)}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("kind", INPUTS)
def test_numbers_like_a_tensor(kind, dtype):
    seen = []
    for t in (torch, rushlight):
        x = INPUTS[kind](t).to(getattr(t, dtype))
        t.manual_seed(0)
        made = [t.randn_like(x), t.rand_like(x), t.randn_like(x)]
        seen.append([(tuple(m.stride()), m.float().numpy()) for m in made])
    for (want_stride, want), (stride, got) in zip(*seen):
        assert stride == want_stride
        np.testing.assert_allclose(got, want, 1e-5, 1e-6)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("function", ["dropout", "alpha_dropout", "dropout2d"])
def test_masks_of_dropout(kind, function):
    seen = []
    rushlight.random.match_pytorch(True)
    try:
        for t in (torch, rushlight):
            x = INPUTS[kind](t)
            if function == "dropout2d" and x.ndim != 4:
                pytest.skip("images only")
            drop = getattr(importlib.import_module(f"{t.__name__}.nn.functional"), function)
            t.manual_seed(0)
            seen.append(drop(x, 0.5, True).numpy())
    finally:
        rushlight.random.match_pytorch(False)
    np.testing.assert_allclose(seen[1], seen[0], 1e-6)
