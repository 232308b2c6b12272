"""What a mask of a small tensor's own shape chooses, and what is written there, is data: it means what recording it would, and records
nothing."""
from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import rushlight as torch
from rushlight.record import flush, local
from rushlight.record.paths import path_to
from rushlight.tools.profiler import counters


@pytest.fixture(autouse=True)
def nothing_pending():
    flush()


def in_order(array, turned, pending):
    """The array as a tensor, maybe a view of turned memory, maybe not computed yet."""
    t = torch.tensor(array.T.copy()).permute(tuple(reversed(range(array.ndim)))) if turned else torch.tensor(array)
    return t.clone() if pending else t


@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple),
       st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.float16]), st.booleans(), st.booleans(),
       st.sampled_from(["tensor", "pending", "number", "one", "itself"]))
def test_masks_choose_and_place_as_numpys_do(data, shape, dtype, turned, pending, kind):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    plain, mask = rng.integers(0, 9, shape).astype(dtype), rng.random(shape) < 0.5
    x, where = in_order(plain, turned, pending), in_order(mask, data.draw(st.booleans()), pending)
    other = x.view_as(x)  # sees what is written
    chosen = x[where]
    assert chosen.dtype == x.dtype and np.array_equal(chosen.numpy(), plain[mask])
    values = (plain[mask] + 1).astype(dtype)
    if kind == "number":
        value = values = True if dtype is np.bool_ else 5
    elif kind == "one":
        value, values = torch.tensor([3], dtype=x.dtype), np.array([3]).astype(dtype)
    elif kind == "itself":
        value, values = chosen, plain[mask]
    else:
        value = torch.tensor(values)
        value = value.clone() if kind == "pending" else value
    plain[mask] = values
    x[where] = value
    assert np.array_equal(x.numpy(), plain) and np.array_equal(other.numpy(), plain)
    assert np.array_equal(where.numpy(), mask)


def test_gradients_are_recorded():
    x, y = torch.arange(6.0, requires_grad=True), torch.arange(6.0, requires_grad=True)
    mask = torch.tensor([True, False, True, True, False, False])
    z = x * 2
    z[mask] = y[mask] * 3
    (z * torch.arange(6.0)).sum().backward()
    assert x.grad.tolist() == [0, 2, 0, 0, 8, 10] and y.grad.tolist() == [0, 0, 6, 9, 0, 0]
    assert y[mask].grad_fn is not None
    with torch.no_grad():
        assert y[mask].grad_fn is None and y[mask].tolist() == [0, 2, 3]
        y[mask] = torch.tensor([7.0, 8.0, 9.0])
    assert y.tolist() == [7, 1, 8, 9, 4, 5] and y.requires_grad and y.is_leaf
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        y[mask] = torch.tensor([7.0, 8.0, 9.0])


def test_a_value_that_a_gradient_needs_may_not_be_overwritten():
    w = torch.ones(3, requires_grad=True)
    x, mask = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, True])
    loss = (w * x).sum()
    x[mask] = torch.tensor([5.0, 6.0])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(("value", "error", "match"), [
    (torch.ones(3), (RuntimeError, IndexError), "shape mismatch"), (torch.ones(2, dtype=torch.float64), RuntimeError, "dtypes match"),
    (torch.ones(2, 1), (RuntimeError, IndexError), "shape mismatch")], ids=["count", "dtype", "dimensions"])
def test_what_does_not_fit(value, error, match):
    x, mask = torch.zeros(2, 2), torch.tensor([[True, False], [False, True]])
    with pytest.raises(error, match=match):
        x[mask] = value
    assert x.sum() == 0
    with pytest.raises(IndexError, match=r"mask \[2, 2\] at index 1 does not match"):
        torch.zeros(2, 3)[mask]


def test_a_mask_of_itself_and_the_memory_that_is_written():
    flags = torch.tensor([True, False, True])
    assert flags[flags].tolist() == [True, True]
    flags[flags] = False
    assert flags.tolist() == [False] * 3
    x, mask = torch.arange(4.0), torch.tensor([True, True, False, True])
    with pytest.raises(RuntimeError, match="single memory location"):  # it lies where it would be written
        x[mask] = x[:3]
    assert x.tolist() == [0, 1, 2, 3]


def test_a_loop_that_keeps_the_nearest_records_neither_choice_nor_write():
    points, distance = torch.rand(2, 20, 3), torch.full((2, 20), 1e10)
    farthest, rows = torch.zeros(2, dtype=torch.int64), torch.arange(2)

    def step():
        nonlocal farthest
        away = ((points - points[rows, farthest].view(2, 1, 3)) ** 2).sum(-1)
        mask = away < distance
        distance[mask] = away[mask]
        farthest = distance.max(-1)[1]
    for _ in range(6):
        step()
    before = counters()
    step()
    after = counters() - before
    assert after.flushes == 1 and after.programs_built == 0
    assert [node.op.name for node in path_to(local.trace.node) if node.op is not None] == ["max"]
    expected = ((points[:, :, None] - points[:, None]) ** 2).sum(-1)
    assert (distance <= expected[:, 0] + 1e-6).all()
