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


FILLS = {"uniform_": (-1, 2), "normal_": (1, 2), "bernoulli_": (0.4,), "random_": (3, 9), "exponential_": (), "cauchy_": (),
         "log_normal_": (), "geometric_": (0.3,)}
FILLED = {"transposed": lambda t: t.zeros(5, 7).t(), "few": lambda t: t.zeros(2, 3).t(), "rows": lambda t: t.zeros(4, 6),
          "permuted": lambda t: t.zeros(3, 4, 5).permute(1, 2, 0), "gaps": lambda t: t.zeros(6, 8)[1:4, ::2],
          "channels last": lambda t: t.zeros(2, 3, 4, 5).to(memory_format=t.channels_last), "a column": lambda t: t.zeros(6, 20)[:, 3],
          "gaps, transposed": lambda t: t.zeros(6, 8)[1:4, ::2].t()}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("kind", FILLED)
def test_fills_in_the_order_of_memory(kind, dtype):
    seen = []
    for t in (torch, rushlight):
        t.manual_seed(0)
        made = []
        for name, numbers in FILLS.items():
            x = FILLED[kind](t).to(getattr(t, dtype))
            got = getattr(x, name)(*numbers)
            assert got is x
            made.append(x.float().numpy())
        x = FILLED[kind](t)
        made += [x.bernoulli_(t.linspace(0, 1, x.shape[-1])).numpy(), t.rand(3).numpy()]
        seen.append(made)
    for name, want, got in zip([*FILLS, "bernoulli_ of a tensor", "what comes next"], *seen):
        np.testing.assert_allclose(got, want, 1e-5, 1e-6, err_msg=name)


@pytest.mark.parametrize("bounds", [(-2, 2), (-0.5, 0.7), (1.5, 3)])
@pytest.mark.parametrize("kind", ["transposed", "channels last", "gaps", "rows"])
def test_truncated_normals_in_the_order_of_memory(kind, bounds):
    seen = []
    for t in (torch, rushlight):
        t.manual_seed(0)
        seen.append(importlib.import_module(f"{t.__name__}.nn.init").trunc_normal_(FILLED[kind](t), 0.1, 1.0, *bounds).numpy())
    np.testing.assert_allclose(seen[1], seen[0], 1e-5, 1e-6)


def test_a_filled_view_keeps_its_place_in_the_graph():
    x = rushlight.zeros(3, 4, requires_grad=True)
    y = (x * 2).t()
    rushlight.manual_seed(0)
    y.normal_()
    assert y.grad_fn is not None and not y.is_contiguous()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((3, 4)))


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
