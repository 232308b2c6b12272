"""Vectors whose elements lie a few places apart in memory: read and written whole, never beyond the outermost element."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from nests import KERNEL, check  # noqa: E402

import rushlight  # noqa: E402
import rushlight.nn.functional as F  # noqa: E402
from rushlight import nn  # noqa: E402
from rushlight.compile import dtypes as dt  # noqa: E402
from rushlight.compile import emit_nest, lower_loops  # noqa: E402
from rushlight.compile.cpu import target  # noqa: E402
from rushlight.compile.cpu.render import kernel_address, render  # noqa: E402
from rushlight.compile.expr import Expr, e, index, input_  # noqa: E402
from rushlight.compile.flags import flags  # noqa: E402
from rushlight.compile.nest import Accumulate, Accumulator, Axis, Load, Loop, LoopNest, Operand, Store  # noqa: E402
from rushlight.record import families  # noqa: E402
from rushlight.record.settings import settings as recorder  # noqa: E402

LEVELS = [level for level in (("avx512", "avx2", "sse") if target.machine() == "x86_64" else ("neon",))
          if target.named(level).vector_bytes <= target.host().vector_bytes]
DTYPES = (dt.float32, dt.float64, dt.int16, dt.int8, dt.bool_)


def windows(d: dt.DType, step: int) -> LoopNest:
    """The greatest of each row's windows of ``step`` neighbours. Axes: rows, windows, elements of a window."""
    body = (Accumulator(0, d, "or" if d.kind == "b" else "max"),
            Loop(2, (Load(1, 0), Accumulate(0, input_(1, d)))),
            Store(1, input_(0, d)))
    operands = (Operand(d, (None, step, 1)), Operand(d, (None, 1, 0), True))
    return LoopNest((Axis(), Axis(), Axis(step)), operands, (0,), (Loop(1, body, True),))


def spread(d: dt.DType, step: int) -> LoopNest:
    """Each number at the place of its turn among ``step``, zeros or falses around it: what the gradient of a pool writes."""
    value: Expr = e.where(e.eq(index(2), e.const(step - 1, dt.int64)), input_(0, d), e.const(0, d))
    body = (Load(0, 0), Loop(2, (Store(1, value),)))
    operands = (Operand(d, (None, 1, 0)), Operand(d, (None, step, 1), True))
    return LoopNest((Axis(), Axis(), Axis(step)), operands, (0,), (Loop(1, body, True),))


def backwards(d: dt.DType) -> LoopNest:
    """Each row from its end to its beginning."""
    operands = (Operand(d, (None, -1)), Operand(d, (None, 1), True))
    return LoopNest((Axis(), Axis()), operands, (0,), (Loop(1, (Load(0, 0), Store(1, input_(0, d))), True),))


def numbers(d: dt.DType, n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 2 if d.kind == "b" else 100, n).astype(d.numpy)


@pytest.mark.parametrize("level", LEVELS)
@given(st.sampled_from(DTYPES), st.integers(2, 4), st.integers(1, 4), st.integers(1, 150), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_any_length_and_element_type(level: str, d: dt.DType, step: int, rows: int, n: int, more: int) -> None:
    """``more``: elements between the rows, which nobody may touch; nor what lies around the operands."""
    long = n * step + more
    with target.using(level):
        check(windows(d, step), [numbers(d, rows * long - more), np.zeros(rows * n, d.numpy)], [rows, n, long, n], rows)
        check(spread(d, step), [numbers(d, rows * n), np.ones(rows * long - more, d.numpy)], [rows, n, n, long], rows)


@pytest.mark.parametrize("level", LEVELS)
@given(st.sampled_from(DTYPES), st.integers(1, 4), st.integers(1, 150), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_rows_backwards(level: str, d: dt.DType, rows: int, n: int, more: int) -> None:
    x, out = numbers(d, rows * (n + more)), np.zeros(rows * n, d.numpy)
    sizes = [rows, n, n + more, n]
    with target.using(level):
        address = kernel_address(backwards(d))
        error = np.zeros(8, np.int64)
        table = np.array([error.ctypes.data, x.ctypes.data, out.ctypes.data], np.int64)
        params = np.array([1, d.itemsize * (n - 1), 2, 0, rows, *sizes], np.int64)
        KERNEL(address)(table.ctypes.data, params.ctypes.data, 0, 1)
    np.testing.assert_array_equal(out.reshape(rows, n), x.reshape(rows, n + more)[:, :n][:, ::-1])


def test_nothing_is_gathered_or_scattered() -> None:
    assert "gather" not in render(backwards(dt.float32))
    for step in (2, 3, 4):
        assert "gather" not in render(windows(dt.float32, step)) and "scatter" not in render(spread(dt.float32, step))


def _nests(monkeypatch: pytest.MonkeyPatch, run: object) -> list[LoopNest]:
    made: list[LoopNest] = []
    emit = emit_nest.Emitter.emit

    def noted(self: emit_nest.Emitter) -> emit_nest.Lowered:
        lowered = emit(self)
        made.append(lowered.nest)
        return lowered

    monkeypatch.setattr(emit_nest.Emitter, "emit", noted)
    with flags.using(plans=0):  # what another process has planned would be taken
        run()  # type: ignore[operator]
    return made


@pytest.mark.parametrize(("pool", "kernels"), [(lambda x: F.max_pool2d(x, 2), 1), (lambda x: F.avg_pool2d(x, 2), 2),
                                               (lambda x: F.max_pool2d(x, 3, 2, 1), 2), (lambda x: F.avg_pool2d(x, 3, 2, 1), 2)])
def test_pools_read_and_write_whole_vectors(monkeypatch: pytest.MonkeyPatch, pool: object, kernels: int) -> None:
    """At most a kernel for each direction: which element of a window is its maximum is found in the pass that finds the maximum, and
    where windows do not overlap the gradient is written there, too."""
    x = rushlight.randn(2, 3, 38, 54, requires_grad=True)
    grad = rushlight.randn(2, 3, 19, 27)

    def step() -> None:
        y = pool(x)  # type: ignore[operator]
        y.backward(grad)
        x.grad.numpy()

    monkeypatch.setattr(recorder, "cold_limit", 0)
    families.clear()  # what was planned of other tests' pools would be taken
    monkeypatch.setattr(lower_loops, "_lowered", {})
    made = _nests(monkeypatch, step)
    assert len(made) == kernels
    for nest in made:
        text = render(nest)
        assert "gather" not in text and "scatter" not in text


def test_channels_last_passes_through_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between convolutions nothing changes its order for a pool or its gradient."""
    net = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(32, 32, 3))
    x = rushlight.randn(2, 16, 26, 26)

    def step() -> None:
        net(x).sum().backward()
        net[0].weight.grad.numpy()

    monkeypatch.setattr(recorder, "cold_limit", 0)
    families.clear()
    monkeypatch.setattr(lower_loops, "_lowered", {})
    pools = [render(nest) for nest in _nests(monkeypatch, step) if len(nest.axes) > 4]
    assert pools and not [text for text in pools if "gather" in text or "scatter" in text]
