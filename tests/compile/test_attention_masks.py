"""Masks of attention as the kernels see them: left out, ignored, added or put in the place of scores; rows that see nothing."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rushlight as torch
from rushlight.compile import dtypes as dt
from rushlight.compile.attention import attend, attend_backward
from rushlight.compile.build import build
from rushlight.compile.cpu import target
from rushlight.compile.graph import Graph
from rushlight.compile.reference.interpret import interpret

SETTINGS = settings(max_examples=40, deadline=None, database=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
TOLERANCE = {"float32": 2e-5, "float64": 1e-11, "bfloat16": 4e-2}


def shut(kind: str, length: int, source: int, rng: np.random.Generator) -> np.ndarray:
    """Where query i does not see key j."""
    i, j = np.ogrid[:length, :source]
    return {"causal": j > i, "window": (j > i) | (j < i - 40), "future": j < i,
            "padding": np.broadcast_to(j >= source // 2, (length, source)),
            "left": np.broadcast_to(j < source // 2, (length, source)), "none": np.zeros((length, source), bool),
            "all": np.ones((length, source), bool), "scattered": rng.random((length, source)) < 0.5,
            "rows": np.broadcast_to(i % 3 == 1, (length, source))}[kind]


KINDS = ["causal", "window", "future", "padding", "left", "none", "all", "scattered", "rows"]


def expected(q, k, v, grad, hidden, scale, fill, strict, added):
    """In double precision, with every weight there at once."""
    q, k, v, grad = (np.asarray(x, np.float64) for x in (q, k, v, grad))
    scores = q @ k.swapaxes(-1, -2) * scale
    scores = scores + added if fill is None else np.where(hidden, fill, scores)
    most = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(most == -np.inf, 0, most))
    total = weights.sum(-1, keepdims=True)
    weights = weights / np.where(total == 0, np.nan if strict else 1, total)
    out = weights @ v
    change = grad @ v.swapaxes(-1, -2)
    change = weights * (change - (change * weights).sum(-1, keepdims=True)) * scale
    if fill is not None:
        change = np.where(hidden, 0, change)
    return out, change @ k, change.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ grad


class Case:
    def __init__(self, kind, sizes, fill, strict, dtype=dt.float32, turned=False, seed=0, bias=False):
        b, h, length, source, e, v = sizes
        rng = np.random.default_rng(seed)
        g = self.graph = Graph()
        values = [rng.normal(size=(b, h, n, w)).astype(dtype.numpy) for n, w in ((length, e), (source, e), (source, v), (length, v))]
        nodes = [g.leaf(x.shape, dtype) for x in values]
        hidden = shut(kind, length, source, rng)
        numbers = np.where(hidden, -np.inf if fill is None else fill, rng.normal(size=hidden.shape) if bias else 0)
        numbers = numbers.astype(dtype.compute.numpy)
        self.arrays = [*values, np.ascontiguousarray(numbers.T if turned else numbers)]
        leaf = g.leaf(self.arrays[-1].shape, dtype.compute)
        mask = g.expand(g.permute(leaf, (1, 0)) if turned else leaf, (b, h, length, source))
        q, k, v_, grad = nodes
        options = {"fill": fill, "strict": strict}
        out, rows = attend(g, q, k, v_, mask, 0.3, False, **options)
        g.results = [out, *attend_backward(g, q, k, v_, out, grad, rows, mask, 0.3, False, **options)]
        g.verify()
        self.dtype = dtype
        with np.errstate(invalid="ignore"):
            self.want = expected(*values, hidden, 0.3, fill, strict, numbers.astype(np.float64))

    def run(self):
        outs = [np.full(r.shape, 77).astype(r.dtype.numpy) for r in self.graph.results]
        build(self.graph, {}).run([a.ctypes.data for a in self.arrays], [o.ctypes.data for o in outs])
        return outs

    def check(self):
        with np.errstate(invalid="ignore"):
            meant = interpret(self.graph, self.arrays)
        for got in (self.run(), meant):
            for name, a, b in zip(("result", "to q", "to k", "to v"), got, self.want, strict=True):
                allowed = TOLERANCE[self.dtype.name] * max(1, np.abs(np.nan_to_num(b)).max())
                np.testing.assert_allclose(a.astype(np.float64), b, rtol=0, atol=allowed, err_msg=name)


@SETTINGS
@given(st.data())
def test_masks(data):
    draw = data.draw
    sizes = (1, *(draw(st.integers(1, n)) for n in (2, 100, 260, 24, 24)))
    fill = draw(st.sampled_from([None, None, -np.inf, -1e9, -1e4, -3.0, 2.5]))
    Case(draw(st.sampled_from(KINDS)), sizes, fill, draw(st.booleans()), draw(st.sampled_from([dt.float32, dt.float64, dt.bfloat16])),
         draw(st.booleans()), draw(st.integers(0, 99)), bias=fill is None and draw(st.booleans())).check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", [None, float("-inf"), -1e9, -20.0])
def test_long_ones_and_any_number_of_threads(kind, fill):
    case = Case(kind, (2, 2, 200, 300, 16, 16), fill, True)
    case.check()
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            found.add(b"".join(x.tobytes() for x in case.run()))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("level", ["sse", "avx2", "avx512"] if target.machine() == "x86_64" else ["neon"])
def test_instruction_sets(level):
    if target.named(level).vector_bytes > target.host().vector_bytes:
        pytest.skip(f"no {level} here")
    with target.using(level):
        for dtype in (dt.float32, dt.float64, dt.bfloat16):
            Case("causal", (1, 2, 70, 130, 16, 18), None, False, dtype).check()
            Case("window", (1, 2, 70, 130, 16, 18), -1e9, True, dtype).check()


@pytest.mark.parametrize("fill", [None, float("-inf"), -1e9])
@pytest.mark.parametrize("dtype", [dt.float32, dt.bfloat16], ids=lambda d: d.name)
def test_keys_that_nobody_sees_are_not_looked_at(fill, dtype):
    """What is written there would spread otherwise: zero times NaN is NaN."""
    case = Case("padding", (1, 2, 100, 640, 16, 16), fill, True, dtype)
    for x in case.arrays[1:3]:
        x[:, :, 336:] = np.nan  # 320 are seen, and tiles end at vectors
    for got, want in zip(case.run(), case.want, strict=True):
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=0, atol=TOLERANCE[dtype.name] * max(1, np.abs(want).max()))
