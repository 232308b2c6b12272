"""NumPy's functions on tensors."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight

oracle = pytest.importorskip("torch")


@pytest.mark.parametrize("call", [lambda x: np.add(x, 1), np.sin, np.sqrt, lambda x: np.clip(x, 0, 0.5), np.argmax,
                                  lambda x: np.maximum(x, 0.5)])
@pytest.mark.parametrize("values", [[0.25, 1.0], [1, 4], [[0.5], [2.0]]])
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context")  # PyTorch's own, under NumPy 2
def test_they_give_tensors(call, values):
    ours, theirs = call(rushlight.tensor(values)), call(oracle.tensor(values))
    assert isinstance(ours, rushlight.Tensor)
    assert (str(ours.dtype), ours.tolist()) == (str(theirs.dtype), theirs.tolist())


def test_a_mask_of_a_numpy_function_is_a_mask():
    x = rushlight.tensor([1.0, float("nan")])
    assert x[~np.isnan(x)].tolist() == [1.0]


def test_sizes_of_a_broadcast_are_a_sequence_or_numbers():
    x = rushlight.ones(2, 1)
    assert x.broadcast_to(3, 2, 4).shape == x.broadcast_to((3, 2, 4)).shape == rushlight.broadcast_to(x, size=(3, 2, 4)).shape == (3, 2, 4)
