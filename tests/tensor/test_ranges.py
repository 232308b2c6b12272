"""Ranges of whole numbers against NumPy's, at the borders between the ways of making them."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import rushlight as torch


@given(start=st.integers(-100, 100), length=st.integers(0, 100), step=st.integers(1, 9))
@example(0, 32, 1)
@example(0, 33, 1)
@example(5, 0, 3)
def test_whole_numbers(start, length, step):
    got = torch.arange(start, start + length, step)
    assert got.dtype is torch.int64
    np.testing.assert_array_equal(got.numpy(), np.arange(start, start + length, step))


@pytest.mark.parametrize("start", [(1 << 62) - 2, (1 << 63) - 3, -(1 << 63), -(1 << 62) - 1])
def test_numbers_at_the_ends_of_int64(start):
    np.testing.assert_array_equal(torch.arange(start, start + 2).numpy(), np.array([start, start + 1], np.int64))


def test_each_range_has_memory_of_its_own():
    a, b = torch.arange(4), torch.arange(4)
    a.add_(1)
    assert a.tolist() == [1, 2, 3, 4] and b.tolist() == [0, 1, 2, 3]
