"""Long sums are as exact as short ones: against float64, for every order of loops, and with infinities."""
from __future__ import annotations

import contextlib
import math

import nests
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight
import rushlight.nn.functional as F
from rushlight.compile import dtypes as dt
from rushlight.compile.cpu import target
from rushlight.compile.cpu.render import render
from rushlight.compile.expr import input_
from rushlight.compile.nest import Accumulate, Accumulator, Axis, Load, Loop, LoopNest, Operand, Store
from rushlight.record.settings import settings as recorder

f32 = dt.float32
ULP = 2.0 ** -23
MEANS = [(30.0, 1.0), (300.0, 1.0), (0.0, 1.0)]


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setattr(recorder, "cold_limit", 0)


def data(shape, mean: float = 30.0, std: float = 1.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * std + mean).astype(np.float32)


def error(actual, expected: np.ndarray, scale: float | None = None) -> float:
    """The largest error, against the largest exact value (or ``scale``)."""
    return float(np.abs(actual.detach().numpy() - expected).max() / (np.abs(expected).max() if scale is None else scale))


# -- nests -------------------------------------------------------------------------------------------------------------
def rows(stretch: int) -> LoopNest:
    return LoopNest((Axis(), Axis()), (Operand(f32, (None, 1)), Operand(f32, (1, 0), True)), (0,), (
        Accumulator(0, f32, "add"), Loop(1, (Load(1, 0), Accumulate(0, input_(1, f32))), True, stretch), Store(1, input_(0, f32))))


def columns(stretch: int) -> LoopNest:
    return LoopNest((Axis(), Axis()), (Operand(f32, (None, 1)), Operand(f32, (0, 1), True)), (), (
        Loop(1, (Accumulator(0, f32, "add"), Loop(0, (Load(1, 0), Accumulate(0, input_(1, f32))), False, stretch),
                 Store(1, input_(0, f32))), True),))


def planes(stretch: int) -> LoopNest:
    """A short vector loop inside a long one: sums of full and of masked vectors, over two axes."""
    inner = Loop(2, (Load(1, 0), Accumulate(0, input_(1, f32))), True)
    return LoopNest((Axis(), Axis(), Axis()), (Operand(f32, (None, None, 1)), Operand(f32, (0, 1, 0), True)), (1,), (
        Accumulator(0, f32, "add"), Loop(0, (inner,), False, stretch), Store(1, input_(0, f32))))


@pytest.mark.parametrize("stretch", [1, 3, 64])
def test_stretches_leave_no_term_out(stretch):
    for n in (1, 2, 65, 200):
        nests.check(columns(stretch), [data(n * 17), np.zeros(17, np.float32)], [n, 17, 17], 1, 4 * ULP)
    for n in (1, 65, 500, 3000):
        nests.check(rows(stretch), [data(n), np.zeros(1, np.float32)], [1, n, n], 1, 4 * ULP)
    for n, width in ((1, 1), (70, 1), (40, 17), (9, 49), (5, 100)):
        nests.check(planes(stretch), [data(n * 2 * width), np.zeros(2, np.float32)], [n, 2, width, 2 * width, width], 2, 4 * ULP)


@pytest.mark.parametrize("nest", [rows, columns])
def test_infinities_and_nans_stay_what_they_are(nest):
    n = 300
    for special, expected in (([np.inf], np.inf), ([-np.inf], -np.inf), ([np.inf, -np.inf], np.nan), ([np.nan], np.nan),
                              ([3e38, 3e38], np.inf)):
        for at in (0, 100, n - len(special)):
            values = data(n)
            values[at:at + len(special)] = special
            memory = [values, np.zeros(1, np.float32)]
            nests.native(nest(8), memory, [1, n, n] if nest is rows else [n, 1, 1])
            np.testing.assert_equal(memory[1][0], np.float32(expected))


def test_a_stretch_is_its_own_kernel_and_short_sums_pay_nothing():
    assert rows(64).key() != rows(0).key()
    assert "fcmp uno" in render(rows(64)) and "fcmp uno" not in render(rows(0))


# -- reductions --------------------------------------------------------------------------------------------------------
@st.composite
def reductions(draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape of up to 10^6 elements, one of its dimensions long, and axes to sum over."""
    shape = draw(st.lists(st.integers(1, 9), min_size=0, max_size=3))
    room = 10 ** 6 // max(1, math.prod(shape))
    shape.insert(draw(st.integers(0, len(shape))), draw(st.sampled_from([n for n in (3, 64, 129, 500, 1023, 4096, 30000, 250001, 10 ** 6)
                                                                      if n <= room])))
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    return tuple(shape), tuple(sorted(axes))


@settings(max_examples=60, deadline=None)
@given(reductions(), st.sampled_from(MEANS), st.booleans())
def test_sums_over_any_axes(reduction, moments, turned):
    shape, axes = reduction
    x = data(shape, *moments)
    t = rushlight.tensor(x)
    if turned:
        x, t, axes = x.T, t.permute(*reversed(range(len(shape)))), tuple(len(shape) - 1 - a for a in axes)
    wide = x.astype(np.float64)
    # What float32 has of a sum is measured by the sum of magnitudes; with a mean of 0, by what random signs may leave of it.
    count = math.prod(x.shape[a] for a in axes)
    scale = np.abs(wide.sum(axes)).max() if moments[0] else 3 * math.sqrt(count)
    assert error(t.sum(axes), wide.sum(axes), scale) < 5e-7
    assert error(t.mean(axes), wide.mean(axes), scale / count) < 5e-7
    if count > 1000:
        assert error(t.var(axes), wide.var(axes, ddof=1)) < 5e-7


@pytest.mark.parametrize("shape", [(1000000, 3), (3, 1000000), (65536, 64), (1000, 1000), (64, 15625), (200, 50, 100)])
def test_norms_and_log_sums(shape):
    x = data(shape, 3)
    t, wide = rushlight.tensor(x), x.astype(np.float64)
    for axis in range(len(shape)):
        assert error(t.norm(dim=axis), np.sqrt((wide ** 2).sum(axis))) < 3e-7
        assert error(rushlight.logsumexp(t, axis), np.log(np.exp(wide).sum(axis))) < 3e-7
        p = np.exp(wide) / np.exp(wide).sum(axis, keepdims=True)
        assert error(F.softmax(t, axis), p) < 8e-7


@pytest.mark.parametrize(("mean", "bound"), [(30, 1.2e-6), (300, 1.5e-5)])  # PyTorch: 4.3e-7, 4.9e-6 and, channels last, 8.8e-6, 1.3e-4
def test_batch_norm_after_a_convolution(mean, bound):
    """Channels lie along vectors there, and the statistics go through all positions of a channel."""
    x = data((16, 64, 16, 16), mean)
    weight = np.eye(64, dtype=np.float32)[:, :, None, None]
    y = F.batch_norm(F.conv2d(rushlight.tensor(x), rushlight.tensor(weight)), None, None, training=True)
    wide = x.astype(np.float64)
    centred = wide - wide.mean((0, 2, 3), keepdims=True)
    assert error(y, centred / np.sqrt((centred ** 2).mean((0, 2, 3), keepdims=True) + 1e-5)) < bound


def test_gradients_of_parameters_that_are_shared_by_many():
    """Biases and scales: their gradients are sums over everything else."""
    x, g = data((16, 24, 64, 64), 0), data((16, 24, 64, 64), 30)
    w, b, k, n = (rushlight.tensor(data(24, m, seed=5), requires_grad=True) for m in (1, 0, 0, 1))
    t = rushlight.tensor(x)
    y = t * n.reshape(1, 24, 1, 1) + k.reshape(1, 24, 1, 1)
    (F.group_norm(y, 4, w, b) * rushlight.tensor(g)).sum().backward()
    wide = x.astype(np.float64)
    assert error(b.grad, g.astype(np.float64).sum((0, 2, 3))) < 2e-7
    weight = rushlight.tensor(data((24, 24, 1, 1), 0, 0.1), requires_grad=True)
    bias = rushlight.tensor(np.zeros(24, np.float32), requires_grad=True)
    (F.conv2d(t, weight, bias) * rushlight.tensor(g)).sum().backward()
    assert error(bias.grad, g.astype(np.float64).sum((0, 2, 3))) < 2e-7
    gradient = np.einsum("nohw,nihw->oi", g.astype(np.float64), wide)
    assert error(weight.grad.reshape(24, 24), gradient) < 2e-6


@pytest.mark.parametrize(("n", "classes"), [(200000, 10), (1000, 1000), (65536, 2)])
def test_means_of_losses(n, classes):
    x, y = data((n, classes), 0), np.random.default_rng(1).integers(0, classes, n)
    wide = x.astype(np.float64)
    exact = np.log(np.exp(wide).sum(1)) - wide[np.arange(n), y]
    assert error(F.cross_entropy(rushlight.tensor(x), rushlight.tensor(y)), exact.mean()) < 2e-7
    assert error(F.mse_loss(rushlight.tensor(x), rushlight.tensor(x * 0.5)), ((wide - x * np.float32(0.5)) ** 2).mean()) < 2e-7


# -- products ----------------------------------------------------------------------------------------------------------
def spread(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Numbers of one sign, whose long sums lose most."""
    return np.random.default_rng(seed).random(shape, np.float32)


def rms(actual, expected: np.ndarray) -> float:
    return float(np.sqrt(((actual.detach().numpy() - expected) ** 2).mean() / (expected ** 2).mean()))


@pytest.mark.parametrize("cpu", ["host", "avx2", "sse"])
@pytest.mark.parametrize("subscripts", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "bmk,bkn->bmn", "kab,kb->ab", "uvmk,uvkn->mn"])
def test_products_over_a_long_dimension(subscripts, cpu):
    """In tiles; of blocks of A that are turned or copied; with one run, many runs, and a table of offsets."""
    for m, n, k, b, a, u, v in ((40, 70, 3000, 2, 3, 1, 1), (1, 33, 3000, 16, 8, 1, 1), (30, 150, 30, 2, 2, 10, 10),
                                (8, 40, 3, 2, 1, 40, 25), (48, 320, 2048, 1, 3, 1, 1)):  # fmt: skip
        sizes = {"m": m, "n": n, "k": k, "b": b, "a": a, "u": u, "v": v}
        left, right = subscripts.split("->")[0].split(",")
        x, y = (spread(tuple(sizes[c] for c in letters), seed) for seed, letters in enumerate((left, right)))
        expected = np.einsum(subscripts, x.astype(np.float64), y.astype(np.float64))
        with target.using(cpu) if cpu != "host" and target.machine() == "x86_64" else contextlib.nullcontext():
            assert rms(rushlight.einsum(subscripts, rushlight.tensor(x), rushlight.tensor(y)), expected) < 2.5e-7


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_dot_products_of_long_rows(rows):
    x, w = data((rows, 100000), 0, seed=1), data((20, 100000), 0, seed=2)
    assert rms(rushlight.tensor(x) @ rushlight.tensor(w).T, x.astype(np.float64) @ w.astype(np.float64).T) < 5e-7


@pytest.mark.parametrize("n", [1, 1000, 100000, 1000003])
def test_dot_products_of_two_vectors(n):
    x, y = spread((n,), 1), spread((n,), 2)
    assert error(rushlight.tensor(x) @ rushlight.tensor(y), x.astype(np.float64) @ y.astype(np.float64)) < 1.5e-7


@pytest.mark.parametrize(("channels", "groups", "window", "side"), [(512, 1, 3, 16), (100, 1, 5, 16), (32, 32, 3, 64), (32, 4, 3, 64)])
def test_convolutions_and_their_gradients(channels, groups, window, side):
    """The plain way, Winograd's, and a filter for each channel: sums over many channels, and over many positions."""
    x, w = spread((8, channels, side, side), 0), spread((32, channels // groups, window, window), 1)
    g = spread((8, 32, side, side), 2)
    t, k = rushlight.tensor(x, requires_grad=True), rushlight.tensor(w, requires_grad=True)
    y = F.conv2d(t, k, padding=window // 2, groups=groups)
    y.backward(rushlight.tensor(g))
    p = window // 2
    wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (window, window), (2, 3)).reshape(8, groups, -1, side, side, window, window)
    split = w.reshape(groups, -1, *w.shape[1:]).astype(np.float64)
    out = np.einsum("ngcyxuv,gocuv->ngoyx", windows, split, optimize=True).reshape(g.shape)
    back = np.einsum("ngcyxuv,ngoyx->gocuv", windows, g.reshape(8, groups, -1, side, side).astype(np.float64), optimize=True)
    assert rms(y, out) < 2.5e-7
    assert rms(k.grad, back.reshape(w.shape)) < 2.5e-7


def test_attention_over_many_keys():
    q, k, v, g = (spread((1, 1, n, 32), seed) for seed, n in enumerate((64, 5000, 5000, 64)))
    tensors = [rushlight.tensor(x, requires_grad=True) for x in (q, k, v)]
    y = F.scaled_dot_product_attention(*tensors)
    y.backward(rushlight.tensor(g))
    q, k, v, g = (x[0, 0].astype(np.float64) for x in (q, k, v, g))
    weights = np.exp(q @ k.T / math.sqrt(32))
    weights /= weights.sum(1, keepdims=True)
    changes = weights * (g @ v.T - (weights @ v * g).sum(1, keepdims=True)) / math.sqrt(32)
    assert rms(y[0, 0], weights @ v) < 2.5e-7
    assert rms(tensors[2].grad[0, 0], weights.T @ g) < 2.5e-7
    assert np.abs(tensors[0].grad[0, 0].numpy() - changes @ k).max() < 2e-6


# -- scans -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cold", [0, 10 ** 9])
@pytest.mark.parametrize(("shape", "dim"), [((100000,), 0), ((10000, 17), 0), ((17, 10000), 1), ((3, 1, 5), 1), ((4, 2000, 3), 1)])
def test_running_sums_keep_their_digits(shape, dim, cold, monkeypatch):
    monkeypatch.setattr(recorder, "cold_limit", cold)
    x = data(shape)
    t, wide = rushlight.tensor(x), x.astype(np.float64)
    np.testing.assert_array_equal(t.cumsum(dim).numpy(), wide.cumsum(dim).astype(np.float32))
    near_one = (1 + (x - 30) * 1e-3).astype(np.float32)
    products = near_one.astype(np.float64).cumprod(dim).astype(np.float32)
    np.testing.assert_array_equal(rushlight.tensor(near_one).cumprod(dim).numpy(), products)
    logs = np.logaddexp.accumulate(wide, dim)
    assert error(rushlight.tensor(x).logcumsumexp(dim), logs) < ULP
    g = rushlight.tensor(x, requires_grad=True)
    g.cumsum(dim).backward(rushlight.tensor(x))
    np.testing.assert_array_equal(g.grad.numpy(), np.flip(np.flip(wide, dim).cumsum(dim), dim).astype(np.float32))


@pytest.mark.parametrize("kind", ["bool", "int32", "int64", "float16", "bfloat16", "float64"])
def test_running_sums_of_other_types(kind):
    x = np.random.default_rng(0).integers(0, 2, (70, 33))
    t = rushlight.tensor(x).to(getattr(rushlight, kind))
    sums = t.cumsum(0)
    np.testing.assert_array_equal(sums.double().numpy(), x.cumsum(0))
    np.testing.assert_array_equal(t.cummax(1)[0].double().numpy(), np.maximum.accumulate(x, 1))
    np.testing.assert_array_equal(t.cumprod(0).double().numpy(), x.cumprod(0))
