"""Tensors of a few numbers have the bits that NumPy gives them."""
from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import rushlight as torch

floats = st.floats(allow_nan=True, width=64)


@pytest.mark.filterwarnings("ignore:overflow")
@given(st.one_of(floats, st.lists(floats, min_size=1, max_size=40)), st.sampled_from([torch.float32, torch.float64, None]))
def test_floats(data, dtype):
    made = torch.tensor(data, dtype=dtype)
    with np.errstate(over="ignore"):
        want = np.asarray(data, np.float64).astype((dtype or torch.float32).numpy)
    assert made.dtype is (dtype or torch.float32) and made.shape == want.shape
    np.testing.assert_array_equal(made.numpy(), want)
    assert np.array_equal(np.signbit(made.numpy()), np.signbit(want)) or np.isnan(want).any()


@given(st.one_of(st.integers(-2**63, 2**63 - 1), st.lists(st.integers(-2**63, 2**63 - 1), min_size=1, max_size=40)))
def test_whole_numbers(data):
    made = torch.tensor(data)
    assert made.dtype is torch.int64
    np.testing.assert_array_equal(made.numpy(), np.asarray(data, np.int64))


@pytest.mark.parametrize(("data", "dtype"), [([True, False], torch.bool), ([1, 2.5], torch.float32), ([True, 2], torch.int64),
                                             ([], torch.float32), ([[1.0]], torch.float32), ([1, 2**60], torch.int64)])
def test_mixed_lists_go_the_long_way(data, dtype):
    made = torch.tensor(data)
    assert made.dtype is dtype and made.tolist() == data


def test_few_numbers_are_memory_of_their_own():
    data = [1.0, 2.0]
    first, second = torch.tensor(data), torch.tensor(data, requires_grad=True)
    first[0] = 5.0
    data[1] = 7.0
    assert first.tolist() == [5.0, 2.0] and second.tolist() == [1.0, 2.0] and second.is_leaf and second.requires_grad
