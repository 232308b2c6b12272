"""Numbers that are equal as keys but not the same: 0.0 and -0.0, NaN, 1 and True."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rushlight
from rushlight.record.settings import settings
from rushlight.record.trace import local

X = np.array([[-1.0, 0.0, 2.0], [3.0, -0.0, 5.0]], np.float32)
MASK = np.array([[True, False, True], [False, True, True]])
F = rushlight.nn.functional

CALLS = {
    "pad": lambda t, v: F.pad(t, (1, 1), value=v), "exponential": lambda t, v: 1 / F.pad(t, (0, 2), value=v)[:, 3:],
    "layer": lambda t, v: rushlight.nn.ConstantPad1d(1, v)(t), "both": lambda t, v: F.pad(t, (1, 0), value=v) / F.pad(t, (1, 0), value=-v),
    "stacked": lambda t, v: rushlight.stack([F.pad(t, (1, 1), value=v), F.pad(t, (1, 1), value=-v)]),
    "full": lambda t, v: rushlight.full((2,), v), "like": lambda t, v: rushlight.full_like(t, v),
    "fill": lambda t, v: t.clone().fill_(v), "part": lambda t, v: t.clone().index_fill(0, rushlight.tensor([0]), v),
    "masked": lambda t, v: t.masked_fill(rushlight.tensor(MASK), v), "where": lambda t, v: rushlight.where(rushlight.tensor(MASK), v, t),
    "product": lambda t, v: t * v, "sum": lambda t, v: t + v, "power": lambda t, v: v ** t,
    "threshold": lambda t, v: F.threshold(t, 0.5, v), "copysign": lambda t, v: rushlight.copysign(t, v),
}


def numbers(name: str, value: float) -> np.ndarray:
    return CALLS[name](rushlight.tensor(X), value).numpy().copy()


@pytest.mark.parametrize("cold", [0, settings.cold_limit])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_not_take_the_numbers_of_another(name, cold, monkeypatch):
    """What a number gives does not depend on the numbers before: a fresh trie says what it is."""
    monkeypatch.setattr(settings, "cold_limit", cold)
    values = (0.0, -0.0, 1, True, 1.0, float("nan"))

    expected = []
    for v in values:  # each thread records into a trie of its own
        with ThreadPoolExecutor(1) as alone:
            expected.append(alone.submit(numbers, name, v).result())
    for order in (values, values[::-1], values):
        for v in order:
            got, want = numbers(name, v), expected[next(k for k, w in enumerate(values) if repr(w) == repr(v))]
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
            if got.dtype.kind == "f":
                np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[want == 0]))


@pytest.mark.parametrize("cold", [0, settings.cold_limit])
def test_negative_zeros_arrive(cold, monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", cold)
    for _ in range(3):
        for value in (0.0, -0.0):
            border = numbers("pad", value)[:, [0, -1]]
            assert not border.any() and np.signbit(border).all() == (str(value) == "-0.0")


@pytest.mark.parametrize("name", CALLS)
def test_nan_is_found_again(name):
    for _ in range(3):
        numbers(name, float("nan"))
    before = local.trace.nodes
    numbers(name, float("nan"))
    assert local.trace.nodes == before


def test_heaviside_of_nan_is_zero():
    x = rushlight.tensor([float("nan"), -1.0, 0.0, 2.0])
    assert rushlight.heaviside(x, rushlight.tensor(0.5)).tolist() == [0.0, 0.0, 0.5, 1.0]
