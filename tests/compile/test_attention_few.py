"""Attention of a few queries: against softmax written out in NumPy, in pieces of the keys, on any number of threads."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from test_attention import Case  # noqa: E402

import rushlight as torch  # noqa: E402
import rushlight.nn.functional as F  # noqa: E402
from rushlight.compile import dtypes as dt  # noqa: E402
from rushlight.compile.attention import MAX_HEAD, attend  # noqa: E402
from rushlight.compile.build import build  # noqa: E402
from rushlight.compile.cpu import target  # noqa: E402
from rushlight.compile.cpu.attention_few import pieces_of  # noqa: E402
from rushlight.compile.graph import Graph  # noqa: E402
from rushlight.tools.profiler import profile  # noqa: E402


def kernels(program):
    return [i.name for i in program.instructions if i.name.startswith("attention") and "backward" not in i.name]


@settings(max_examples=12, deadline=None, database=None)
@given(st.data())
def test_sizes_layouts_and_masks(data):
    draw = data.draw
    g = draw(st.integers(1, 3))
    sizes = b, h, _, length, source, *_ = (
        draw(st.integers(1, 2)), g * draw(st.integers(1, 3)), g, draw(st.integers(1, 3)), draw(st.integers(1, 400)),
        draw(st.integers(1, 140)), draw(st.integers(1, 140)))  # fmt: skip
    mask = draw(st.sampled_from([None, None, (source,), (b, 1, 1, source), (length, source), (b, h, length, source)]))
    Case(sizes, causal=mask is None and draw(st.booleans()), mask=mask, dtype=draw(st.sampled_from([dt.float32, dt.float64])),
         orders=[draw(st.permutations((0, 1, 2, 3))) for _ in range(4)], seed=draw(st.integers(0, 99))).check()


@pytest.mark.parametrize("level", ["sse", "avx2", "avx512"] if target.machine() == "x86_64" else ["neon"])
def test_instruction_sets(level):
    if target.named(level).vector_bytes > target.host().vector_bytes:
        pytest.skip(f"no {level} here")
    with target.using(level):
        Case((2, 4, 2, 1, 77, 20, 36)).check()
        Case((1, 2, 1, 3, 700, 33, 16), mask=(3, 700), dtype=dt.float64).check()


@pytest.mark.parametrize("dtype", [dt.float32, dt.float64], ids=lambda d: d.name)
@pytest.mark.parametrize("sizes", [(1, 2, 1, 2, 3000, 64, 80), (1, 1, 1, 1, 1500, MAX_HEAD, MAX_HEAD), (1, 8, 8, 1, 900, 64, 64)])
def test_keys_in_pieces_and_any_number_of_threads(sizes, dtype):
    b, h, g, length, source, e, v = sizes
    assert pieces_of(b * g, source, (e + v) * dtype.itemsize) > 1
    case = Case(sizes, dtype=dtype, scale=0.1)
    assert len(kernels(case.check())) == 2
    case.check_threads()


def test_few_keys_are_one_piece_and_no_piece_is_short():
    assert len(kernels(Case((1, 4, 4, 1, 100, 64, 64)).check())) == 1
    assert pieces_of(1, 70, 1 << 20) == 1 and pieces_of(1, 1 << 20, 8) == 32 and pieces_of(64, 1 << 14, 512) == 1


@pytest.mark.parametrize(("strict", "nothing"), [(False, 0.0), (True, np.nan)])
@pytest.mark.parametrize("source", [30, 4000])
def test_rows_that_see_nothing_and_numbers_that_are_none(strict, nothing, source):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 3, n, 64)).astype(np.float32) for n in (2, source, source))
    mask = np.zeros((1, 3, 2, source), np.float32)
    mask[0, 0, 1] = -np.inf
    k[0, 1, 5, 7] = np.nan
    v[0, 2, source - 1, 3] = np.inf
    g = Graph()
    nodes = [g.leaf(x.shape, dt.float32) for x in (q, k, v, mask)]
    g.results = list(attend(g, *nodes, 0.125, False, strict=strict))
    out, rows = np.full(q.shape, 7, np.float32), np.full((1, 3, 2, 2), 7, np.float32)
    build(g, {}).run([x.ctypes.data for x in (q, k, v, mask)], [out.ctypes.data, rows.ctypes.data])
    np.testing.assert_array_equal(out[0, 0, 1], np.full(64, nothing, np.float32))
    np.testing.assert_array_equal(rows[0, 0, :, 1], np.full(2, nothing, np.float32))
    assert np.isfinite(out[0, 0, 0]).all() and np.isnan(out[0, 1]).all()
    assert np.isinf(out[0, 2, :, 3]).all() and np.isfinite(np.delete(out[0, 2], 3, 1)).all()


def test_a_token_that_looks_at_a_cache_is_one_kernel():
    """From the projection's result to what the next projection reads: nothing is copied on the way."""
    q, k, v = torch.randn(1, 1, 4 * 64), torch.randn(1, 4, 50, 64), torch.randn(1, 4, 50, 64)

    def step():
        heads = q.view(1, 1, 4, 64).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, k, v).transpose(1, 2).reshape(1, 1, 4 * 64).numpy()

    for _ in range(3):
        found = step()
    with profile() as p:
        assert (step() == found).all()
    assert [row.kernel.split()[0] for row in p.rows] == ["attention"]
