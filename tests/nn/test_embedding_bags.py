"""Bags of embeddings against sums by hand; bags of one length are sums of rows side by side, without a scatter."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.autograd import engine
from rushlight.tools.profiler import profile

ROWS, WIDTH = 9, 5
RULES = {"sum": lambda r: r.sum(0), "mean": lambda r: r.mean(0), "max": lambda r: r.max(0)}


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.sampled_from(list(RULES)), st.booleans(), st.booleans(), st.integers(0, 99))
def test_bags(lengths: list[int], mode: str, alike: bool, padded: bool, seed: int) -> None:
    lengths = lengths[:1] * len(lengths) if alike else lengths
    rng = np.random.default_rng(seed)
    numbers = [rng.integers(0, ROWS, n) for n in lengths]
    weight = rng.standard_normal((ROWS, WIDTH))
    padding = 2 if padded else None
    w = torch.tensor(weight, requires_grad=True)
    flat, offsets = torch.tensor(np.concatenate(numbers)), torch.tensor(np.cumsum([0, *lengths])[:-1])
    got = F.embedding_bag(flat, w, offsets, mode=mode, padding_idx=padding)
    kept = [weight[i[i != padding]] for i in numbers]
    want = np.stack([RULES[mode](rows) if len(rows) else np.zeros(WIDTH) for rows in kept])
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-12, atol=1e-12)
    if mode != "max":
        slopes = torch.tensor(rng.standard_normal(want.shape))
        (got * slopes).sum().backward()
        expected = np.zeros_like(weight)
        for i, slope in zip(numbers, slopes.numpy()):
            rest = i[i != padding]
            np.add.at(expected, rest, slope / (len(rest) if mode == "mean" and len(rest) else 1))
        np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_of_one_length_are_not_scattered(mode: str) -> None:
    weight = torch.tensor(np.random.default_rng(0).standard_normal((50, 32)).astype(np.float32))
    numbers = torch.tensor(np.random.default_rng(1).integers(0, 50, (200, 4)))
    for _ in range(3):
        F.embedding_bag(numbers, weight, mode=mode).numpy()
    with profile() as p:
        F.embedding_bag(numbers, weight, mode=mode).numpy()
    (row,) = p.rows
    assert row.kernel.startswith("reduce+add 200x32x4")


def test_a_repeated_step_with_ragged_bags_does_not_walk_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.tensor(np.random.default_rng(0).standard_normal((50, 8)), requires_grad=True)
    numbers, offsets = torch.tensor(np.arange(20)), torch.tensor([0, 3, 4, 11])
    walks: list[int] = []
    walk = engine.run
    monkeypatch.setattr(engine, "run", lambda *args, **kwargs: (walks.append(1), walk(*args, **kwargs))[1])
    for _ in range(6):
        weight.grad = None
        before = len(walks)
        F.embedding_bag(numbers, weight, offsets, mode="sum").square().sum().backward()
        assert weight.grad is not None and weight.grad.sum().item() != 0
    assert len(walks) == before
