"""The first few of each row, found by the kernel: the stable order that sorting gives."""
from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight as torch
from rushlight.compile import dtypes as dt
from rushlight.compile.cpu import executor, jit, native, target
from rushlight.compile.flags import flags
from rushlight.compile.reference.order_keys import stable_order
from rushlight.compile.selection import MOST, FirstPositions
from rushlight.record.settings import settings as recorder

LEVELS = [level for level in (("avx512", "avx2", "sse") if target.machine() == "x86_64" else ("neon",))
          if target.named(level).vector_bytes <= target.host().vector_bytes]
NUMBERS = st.sampled_from([-np.inf, -2.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, 1.5, np.inf, np.nan, -np.nan])


def first(x, k, descending, cpu):
    """The kernel's answer for all rows of x."""
    rows, n = x.shape
    out = np.full((rows, k), -1)
    with target.using(cpu):
        (step,) = native.plan(FirstPositions(rows, n, k, descending), (), (True,)).steps
        address = jit.kernel(*step.kernel)
    error, params = np.zeros(8, np.int64), np.array([1, 0, 2, 0, *step.params], np.int64)
    table = np.array([error.ctypes.data, x.ctypes.data, out.ctypes.data], np.int64)
    code = executor.Instructions([(address, params.ctypes.data, step.parts, 0)])
    assert executor.run(code.pointer, 1, table.ctypes.data) is None
    assert ctypes.c_int64.from_address(int(table[0])).value == 0
    return out


@pytest.mark.parametrize("level", LEVELS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_first_of_any_numbers(level, data):
    rows, n = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 70))
    k, descending = data.draw(st.integers(1, min(n, MOST))), data.draw(st.booleans())
    x = np.array(data.draw(st.lists(NUMBERS, min_size=rows * n, max_size=rows * n)), np.float32).reshape(rows, n)
    np.testing.assert_array_equal(first(x, k, descending, level), stable_order(x, 1, descending, k))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("order", ["random", "ascending", "descending", "equal"])
@pytest.mark.parametrize("descending", [True, False])
def test_the_first_of_long_rows(level, order, descending):
    n = 20_001
    x = np.random.default_rng(0).standard_normal((5, n)).astype(np.float32)
    x = {"random": x, "ascending": np.sort(x), "descending": -np.sort(x), "equal": np.ones_like(x)}[order]
    for k in (1, 5, MOST):
        np.testing.assert_array_equal(first(x, k, descending, level), stable_order(x, 1, descending, k))


def test_only_what_the_kernel_knows_goes_to_it():
    call = FirstPositions(2, 100, 5, True)
    assert native.has_kernel(call, (dt.float32,)) and not native.has_kernel(call, (dt.float64,))
    assert not native.has_kernel(FirstPositions(2, 100, MOST + 1, True), (dt.float32,))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int64", "uint8"])
@pytest.mark.parametrize("k", [1, 3, MOST + 1])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_topk_of_any_type_along_any_dimension(monkeypatch, dtype, k, dim):
    monkeypatch.setattr(recorder, "cold_limit", 0)
    shape = [3, 4, 2]
    shape[dim] = MOST + 20
    x = np.random.default_rng(0).integers(0, 9, shape)
    for largest in (True, False):
        values, positions = torch.topk(torch.tensor(x).to(getattr(torch, dtype)), k, dim, largest)
        order = np.argsort(-x if largest else x, axis=dim, kind="stable").take(range(k), axis=dim)
        np.testing.assert_array_equal(positions.numpy(), order)
        np.testing.assert_array_equal(values.double().numpy(), np.take_along_axis(x, order, dim))


def test_a_length_that_is_new_compiles_no_kernel(monkeypatch):
    monkeypatch.setattr(recorder, "cold_limit", 0)

    def top(rows, n):
        return torch.topk(torch.arange(float(rows * n)).reshape(rows, n), 3)[1].tolist()

    with flags.using(plans=0):
        top(2, 50), top(3, 60)
        before = jit.counters.compiled + jit.counters.loaded
        assert top(4, 77) == [[76, 75, 74]] * 4
        assert jit.counters.compiled + jit.counters.loaded == before
