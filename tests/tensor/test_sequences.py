"""Sequences of every kind as data, ranges as data and as indices, and ``torch.range``, against PyTorch."""
from __future__ import annotations

import array
from collections import UserList, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rushlight as torch

peer = pytest.importorskip("torch")

SIZES = st.integers(-12, 12)


@given(SIZES, SIZES, st.sampled_from([-3, -1, 1, 2]))
def test_a_range_is_data(start, stop, step):
    numbers = range(start, stop, step)
    for make in (lambda t: t.tensor(numbers), lambda t: t.as_tensor(numbers), lambda t: t.FloatTensor(numbers),
                 lambda t: t.tensor([numbers, numbers]), lambda t: t.tensor([numbers, list(numbers)], dtype=t.float64)):
        got, want = make(torch), make(peer)
        assert str(got.dtype) == str(want.dtype)
        np.testing.assert_array_equal(got.numpy(), want.numpy())


@given(st.integers(0, 3), st.integers(0, 4))
def test_a_range_is_an_index(rows, columns):
    for index in (range(rows), (slice(None), range(columns)), (range(min(rows, columns)), list(range(min(rows, columns)))),
                  (0, range(columns)), (..., range(0, columns, 2)), (range(rows), slice(1, 3))):
        x, y = torch.arange(12.0).reshape(3, 4), peer.arange(12.0).reshape(3, 4)
        np.testing.assert_array_equal(x[index].numpy(), y[index].numpy())
        x[index], y[index] = -1, -1
        np.testing.assert_array_equal(x.numpy(), y.numpy())


@pytest.mark.parametrize("index", [{}, {1}, 1.0, {0: 1}.keys(), object(), np.float32(1)])
def test_what_is_no_index(index):
    for t in (torch, peer):
        with pytest.raises(IndexError, match="only integers, slices"):
            t.arange(6.0)[index]


@given(st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-2, -0.75, 0.1, 0.5, 1, 3]), st.sampled_from([None, "float64", "int64"]))
def test_torch_range(start, end, step, dtype):
    if (end - start) * step < 0 or dtype == "int64" and int(step) == 0:
        return
    with pytest.warns(UserWarning, match="deprecated"):
        want = peer.range(start, end, step, dtype=dtype and getattr(peer, dtype))
    with pytest.warns(UserWarning, match="deprecated"):
        got = torch.range(start, end, step, dtype=dtype and getattr(torch, dtype))
    assert str(got.dtype) == str(want.dtype) and tuple(got.shape) == tuple(want.shape)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-6)


def test_torch_range_refuses_what_torch_refuses():
    for t in (torch, peer):
        for arguments in ((1, 4, 0), (1, 4, -1), (0, float("inf"))):
            with pytest.warns(UserWarning, match="deprecated"), pytest.raises(RuntimeError):
                t.range(*arguments)


class Own:
    """A sequence by its methods alone."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


@pytest.mark.parametrize("data", [
    deque([1.5, 2.0]), deque([[1, 2], [3, 4]]), [deque([1, 2]), (3, 4)], [[1.0, 2.0], deque([3, 4])], UserList([True, False]), Own(1, 2, 3),
    Own(Own(1.0), [2.0]), array.array("f", [1, 2]), bytearray(b"ab"), memoryview(b"ab"), deque(), deque([np.float32(1), np.float32(2)])],
    ids=["deque", "of lists", "in a list", "beside a list", "UserList", "own class", "nested", "array", "bytearray", "memoryview", "empty",
         "NumPy numbers"])
def test_whatever_is_a_sequence_is_data(data):
    for make in (lambda t: t.tensor(data), lambda t: t.as_tensor(data), lambda t: t.tensor(data, dtype=t.float64)):
        got, want = make(torch), make(peer)
        assert str(got.dtype) == str(want.dtype)
        np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_a_deque_of_tensors_is_data():
    returns = torch.tensor(deque([torch.tensor(1.0), torch.tensor(2.5)]))
    assert returns.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("data", [b"ab", [b"ab"], {0: 1}, {1}, {1: 2}.keys(), (i for i in range(3)), deque([[1], [1, 2]])])
def test_what_is_no_sequence_of_numbers(data):
    for t in (torch, peer):
        with pytest.raises((TypeError, ValueError, RuntimeError), match="data type|dimensions|infer dtype|expected sequence"):
            t.tensor(data)


@given(start=st.floats(-1e3, 1e3, width=32), end=st.floats(-1e3, 1e3, width=32), steps=st.integers(0, 300),
       dtype=st.sampled_from(["float32", "float64"]))
def test_linspace_is_counted_from_both_ends(start, end, steps, dtype):
    got = torch.linspace(start, end, steps, dtype=getattr(torch, dtype)).numpy()
    want = peer.linspace(start, end, steps, dtype=getattr(peer, dtype)).numpy()
    largest = np.spacing(np.array(max(abs(start), abs(end)), dtype))
    np.testing.assert_allclose(got, want, rtol=0, atol=largest)
    assert steps == 0 or got[0] == want[0] and got[-1] == want[-1]


@pytest.mark.skipif(peer.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="PyTorch's own sums are rounded twice")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linspace_has_pytorchs_bits(dtype):
    for start, end, steps in ((-3.5, 2.25, 7), (0.1, 0.7, 101), (-1.0, 1.0, 64), (3.3, -7.7, 250), (1e-4, 0.02, 1000)):
        got = torch.linspace(start, end, steps, dtype=getattr(torch, dtype)).numpy()
        np.testing.assert_array_equal(got, peer.linspace(start, end, steps, dtype=getattr(peer, dtype)).numpy())
