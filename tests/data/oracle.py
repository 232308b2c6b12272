"""Running one program on PyTorch and on Rushlight and comparing what comes out.

A program is ``program(torch)``: it is called with each of the two packages.
"""

import collections
import importlib
import warnings
from collections.abc import Mapping

import numpy as np
import pytest

import rushlight
import rushlight.utils.data


def plain(value):
    """``value`` with tensors as (dtype, nested list), so that results of both packages can be compared with ==."""
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return ("tensor", str(value.dtype).replace("torch.", "").replace("rushlight.", ""), value.tolist())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return (type(value).__name__, [plain(v) for v in value])
    if isinstance(value, (list, tuple, collections.deque, collections.UserList)):
        return (type(value).__name__, [plain(v) for v in value])
    if isinstance(value, Mapping):
        return (type(value).__name__, {k: plain(v) for k, v in value.items()})
    return value


def outcome(program, package):
    """("value", plain result, warning classes) or ("error", class name)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = ("value", plain(program(package)))
        except Exception as error:  # the class is what gets compared
            result = ("error", type(error).__name__)
    kinds = [w.category.__name__ for w in caught if w.category in (UserWarning, FutureWarning)]
    return (*result, kinds)


def assert_same(program):
    """Assert that ``program`` gives the same values, the same error class and the same warnings in both packages."""
    torch = pytest.importorskip("torch")
    importlib.import_module("torch.utils.data")
    expected = outcome(program, torch)
    assert outcome(program, rushlight) == expected
    return expected


class Numbers:
    """A minimal map-style set: sample i is i."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if not -self.n <= index < self.n:
            raise IndexError(index)
        return index


def stream(torch, n, length=None):
    """An IterableDataset of ``package`` that yields 0 .. n - 1, with a length if one is given."""

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            info = torch.utils.data.get_worker_info()
            return iter(range(n) if info is None else range(info.id, n, info.num_workers))

    class Sized(Stream):
        def __len__(self):
            return length

    return Stream() if length is None else Sized()


__all__ = ["Numbers", "assert_same", "np", "outcome", "plain", "stream"]
