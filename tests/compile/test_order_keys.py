"""Stable order by sorting keys, against Python's own stable sort."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight as torch
from rushlight.compile.reference.order_keys import stable_order

SPECIAL = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1.0, -1.0, 1e-45, -1e-45, 3e38]
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint32", "uint64", "float16", "float32", "float64"]


def by_python(row: np.ndarray, descending: bool) -> list[int]:
    def key(i: int) -> tuple[bool, float]:
        value = row[i].item()
        missing = value != value
        value = 0 if missing else value
        return (not missing, -value) if descending else (missing, value)
    return sorted(range(len(row)), key=key)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.lists(st.integers(0, 7), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return rng.choice(SPECIAL, size=shape).astype(dtype)
    info = np.iinfo(dtype) if dtype.kind in "iu" else None
    few = [0, 1] if info is None else [info.min, info.min + 1, 0, 1, 2, info.max - 1, info.max]
    return rng.choice(np.array(few[draw(st.integers(0, 2)):][:draw(st.integers(1, 7))] or [0], dtype), size=shape)


@settings(deadline=None, max_examples=300)
@given(arrays(), st.integers(0, 2), st.booleans(), st.integers(0, 7))
def test_order_is_stable(x: np.ndarray, dim: int, descending: bool, k: int) -> None:
    dim %= x.ndim
    n = x.shape[dim]
    before = x.copy()
    got = stable_order(x, dim, descending, min(k, n))
    want = np.zeros(x.shape, np.int64)
    if x.size:
        want = np.apply_along_axis(lambda row: np.array(by_python(row, descending), np.int64), dim, x)
    np.testing.assert_array_equal(got, np.take(want, range(min(k, n)), dim))
    assert got.dtype == np.int64 and got.flags.c_contiguous
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(stable_order(x, dim, descending), want)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_topk_finds_k_positions(dtype: str) -> None:
    """The positions of the k largest are all that is stored: not those of all elements, of which k are then taken."""
    x = torch.tensor(np.random.default_rng(0).permutation(600).reshape(3, 200), dtype=getattr(torch, dtype))
    values, index = x.topk(4)
    assert index.shape == (3, 4) and index.untyped_storage().nbytes() == 3 * 4 * 8
    assert torch.equal(values, x.sort(descending=True)[0][:, :4])
