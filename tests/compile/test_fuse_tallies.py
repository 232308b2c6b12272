"""Sums over the rows of a contraction, made by its epilogue: which are, how exact they are, for all shapes and any number of threads."""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight as torch
from rushlight import nn
from rushlight.compile import dtypes as dt
from rushlight.compile.build import build
from rushlight.compile.contraction import Contraction
from rushlight.compile.counters import counters as compiler
from rushlight.compile.cpu import pool, target
from rushlight.compile.flags import flags
from rushlight.compile.graph import ContractSpec, Graph, Node, Window
from rushlight.compile.outline import outline
from rushlight.compile.reference.interpret import interpret
from rushlight.record.flush import flush, start_afresh
from rushlight.record.settings import settings as recorder


@pytest.fixture(autouse=True, scope="module")
def _nothing_from_the_disk():
    with flags.using(plans=0):  # what an earlier process has planned is not planned here
        yield

F32 = dt.float32
SETTINGS = settings(max_examples=20, deadline=None, database=None)


class Conv(NamedTuple):
    """A convolution of any number of dimensions; without any, a product of matrices."""

    images: int = 4
    channels: int = 8
    filters: int = 24
    size: tuple[int, ...] = (40, 48)
    window: int = 1
    stride: int = 1
    padding: int = 0
    depthwise: bool = False
    dtype: dt.DType = F32


def contract(g: Graph, c: Conv) -> Node:
    """The contraction of two leaves."""
    out = tuple((s + 2 * c.padding - c.window) // c.stride + 1 for s in c.size)
    places, taps = "xyz"[:len(out)], "uvw"[:len(out)]
    windows = [Window(p, t, c.stride, 1, c.padding) for p, t in zip(places, taps)]
    o, k = ("c", ()) if c.depthwise else ("o", ("c",))
    sizes = {"n": c.images, "c": c.channels, "o": c.filters} | dict(zip(places, out)) | dict.fromkeys(taps, c.window)
    spec = ContractSpec(("n", "c", *windows), (o, *k, *taps), ("n", o, *places), tuple(sorted(sizes.items())))
    x = g.leaf((c.images, c.channels, *c.size), c.dtype)
    return g.contract(x, g.leaf(tuple(sizes[d] for d in spec.b), c.dtype), spec)  # type: ignore[index]


def rows_of(x: Node) -> tuple[int, ...]:
    return tuple(d for d in range(len(x.shape)) if d != 1)


def mean_and_spread(g: Graph, x: Node) -> list[Node]:
    """The sum of each channel and that of squared distances from its mean, as a batch norm writes them."""
    wide, axes = g.cast(x, x.dtype.compute), rows_of(x)
    total = g.reduce("add", wide, axes, True)
    mean = g.map(lambda e, t: t / (x.size // x.shape[1]), total)
    squares = g.reduce("add", g.map(lambda e, a, m: (a - m) * (a - m), wide, mean), axes)
    return [g.reshape(total, squares.shape), squares]


def statistics(c: Conv) -> Graph:
    g = Graph()
    x = contract(g, c)
    g.results = [g.map(lambda e, a: -a, x), *mean_and_spread(g, x)]  # a result itself would lie in row-major order
    g.verify()
    return g


def gradient(c: Conv) -> Graph:
    """The sums that a batch norm's gradient needs, of what a ReLU lets through of an input's gradient."""
    g, shape = Graph(), contract(Graph(), c).shape
    y, x = g.leaf(shape, c.dtype), g.leaf(shape, c.dtype)
    mean, scale = (g.leaf((1, shape[1], *(1 for _ in c.size)), c.dtype) for _ in range(2))
    hat = g.map(lambda e, a, m, s: (a - m) * s, x, mean, scale)
    d = contract(g, c)
    dy = g.map(lambda e, a, b: e.where(a <= 0.0, e.const(0.0, c.dtype), b), y, d)
    sums = [g.reduce("add", v, rows_of(d)) for v in (dy, g.map(lambda e, a, b: a * b, dy, hat))]
    g.results = [g.map(lambda e, a: -a, dy), *sums]
    g.verify()
    return g


def run(g: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    program = build(g, {})
    outs = [np.zeros(r.shape, r.dtype.numpy) for r in g.results]
    program.run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outs])
    return outs


def leaves(g: Graph, mean: float = 0.0, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.ascontiguousarray((rng.standard_normal(n.shape) + mean * (k == 0)).astype(n.dtype.numpy)) for k, n in enumerate(g.leaves)]


def made(g: Graph) -> list[str]:
    """The reductions that contractions make, and "loops" for each that is left to a kernel of its own."""
    found: list[str] = []
    plan = outline(g, {})
    for piece in plan.pieces:
        work = plan.works[piece.work]
        found += [x.op for x in work.sums] if isinstance(work, Contraction) else ["loops"] * str(piece.label).startswith("reduce")
    return sorted(found)


def check_statistics(x: np.ndarray, total: np.ndarray, squares: np.ndarray, bound: float = 2e-6) -> None:
    """Against float64, from the very values that were stored (``x``, negated); the error of a sum counts against what was added up."""
    axes, wide = rows_of(x), -x.astype(np.float64)
    centred = wide - wide.mean(axes, keepdims=True)
    assert np.all(np.abs(total - wide.sum(axes)) <= bound * np.abs(wide).sum(axes))
    assert np.all(np.abs(squares - np.square(centred).sum(axes)) <= bound * np.square(centred).sum(axes))


# -- which, and how exact ----------------------------------------------------------------------------------------------
CASES = {
    "product": Conv(images=3000, channels=20, filters=40, size=()), "few channels": Conv(images=9000, channels=16, filters=9, size=()),
    "1x1": Conv(), "window": Conv(window=3, padding=1), "strided": Conv(size=(90, 70), window=5, stride=2, padding=2, filters=40),
    "winograd": Conv(channels=32, filters=48, window=3, padding=1),
    "ragged winograd": Conv(channels=16, size=(33, 42), window=3, filters=40),
    "depthwise": Conv(channels=40, window=3, padding=1, depthwise=True),
    "strided depthwise": Conv(images=9, channels=24, window=3, stride=2, depthwise=True),
    "one dimension": Conv(size=(900,), window=3), "three dimensions": Conv(images=2, size=(12, 13, 14), window=3, padding=1, filters=20),
    "long reduction": Conv(images=1, channels=600, window=3, padding=1, filters=40),
    "deep": Conv(images=3000, channels=5000, filters=24, size=()),
    "float64": Conv(dtype=dt.float64), "bfloat16": Conv(channels=32, filters=40, dtype=dt.bfloat16),
    "bfloat16 product": Conv(images=3000, channels=64, filters=48, size=(), dtype=dt.bfloat16),
}


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("name", CASES)
def test_statistics_are_made_by_the_contraction_and_exact(name, mean):
    """Also where the mean is many deviations from zero, as behind a ReLU."""
    g = statistics(CASES[name])
    assert made(g) == ["add", "deviations"]
    x, total, squares = run(g, leaves(g, mean))
    check_statistics(x, total, squares)


@SETTINGS
@given(st.data())
def test_any_convolution(data):
    depthwise = data.draw(st.booleans())
    size = tuple(data.draw(st.lists(st.integers(5, 60), min_size=1, max_size=2)))
    channels = data.draw(st.integers(8, 70))
    c = Conv(1, channels, channels if depthwise else data.draw(st.integers(8, 70)), size, data.draw(st.integers(1, 3)),
             data.draw(st.integers(1, 2)), data.draw(st.integers(0, 1)), depthwise)  # fmt: skip
    one = math.prod(contract(Graph(), c).shape)
    c = c._replace(images=-(-(1 << 16) // one) + data.draw(st.integers(0, 3)))
    g = statistics(c)
    assert "deviations" in made(g)
    check_statistics(*run(g, leaves(g, data.draw(st.sampled_from([0.0, 5.0])))))


@pytest.mark.parametrize("name", ["product", "1x1", "strided", "depthwise", "one dimension", "float64"])
def test_sums_of_a_gradient_are_made_where_it_is(name):
    """... and its product with the normalised input, which nobody else needs, is not stored."""
    g = gradient(CASES[name])
    assert made(g) == ["add", "add"]
    plan = outline(g, {})
    work, = (w for w in plan.works if isinstance(w, Contraction))
    assert not [x for x in work.extras if x.written]
    arrays = leaves(g)
    wide = [a.astype(np.float64) for a in arrays]
    dy, total, product = run(g, arrays)
    dy = -dy.astype(np.float64)
    hat = (wide[1] - wide[2]) * wide[3]
    axes = rows_of(dy)
    np.testing.assert_allclose(total, dy.sum(axes), rtol=0, atol=2e-6 * np.abs(dy).sum(axes).max())
    np.testing.assert_allclose(product, (dy * hat).sum(axes), rtol=0, atol=2e-6 * np.abs(dy * hat).sum(axes).max())


def test_tiles_of_winograd_read_nothing_more_for_a_sum():
    """What they read lies all over memory, so that a pass in order is faster."""
    assert made(gradient(CASES["winograd"])) == ["loops"]
    with flags.using(winograd=0):
        assert made(gradient(CASES["winograd"])) == ["add", "add"]


def test_many_small_values_make_no_difference_to_a_large_one():
    """Updates of parameters (Adam's) in the kernel of their gradients want a dozen values of a channel each: the product is computed where
    it is added up all the same, not stored before."""
    g = gradient(CASES["1x1"])
    total, product = g.results[1:]
    small = [g.leaf(total.shape, F32) for _ in range(18)]
    updates = [g.map(lambda e, t, *rest: sum(rest, t), t, *small[k:k + 6]) for t in (total, product) for k in (0, 6, 12)]
    g.results = [g.results[0], *updates]
    with flags.using(fuse_sums=0):
        labels = [piece.label for piece in outline(g, {}).pieces]
    assert [x.results for x in labels if x.before == "pointwise"] == [2]  # the gradient, and its negative


def test_switches():
    for off in ("fuse_sums", "fuse_contract"):
        with flags.using(**{off: 0}):
            assert set(made(statistics(CASES["1x1"]))) == {"loops"}
            assert set(made(gradient(CASES["1x1"]))) == {"loops"}


def test_small_values_and_few_rows_are_summed_as_large_ones_are():
    """How many rows a batch has would else decide, and each layer that it carries over a threshold be planned anew."""
    large = made(statistics(CASES["1x1"]))
    for small in (Conv(size=(8, 8)), Conv(images=1, size=(2, 3)), Conv(images=100, channels=64, filters=4000, size=())):
        assert made(statistics(small)) == large == ["add", "deviations"]
    assert set(made(statistics(Conv(filters=7)))) == {"loops"}  # less than half a vector


def test_a_value_that_something_else_needs_too_is_made_once():
    """A result behind the contraction wants it as well: the contraction makes and stores it with its sums."""
    g = Graph()
    y = g.leaf(contract(Graph(), CASES["1x1"]).shape, F32)
    x = g.map(lambda e, a, b: b + e.tanh(a), y, contract(g, CASES["1x1"]))
    g.results = [g.map(lambda e, a: -a, x), g.map(lambda e, a: e.max(a, e.const(0.0, F32)), x), *mean_and_spread(g, x)]
    assert made(g) == ["add", "deviations"]
    x, positive, total, squares = run(g, leaves(g))
    np.testing.assert_array_equal(positive, np.maximum(-x, 0))
    check_statistics(x, total, squares)


def test_what_needs_too_many_operands_is_left_to_loops():
    """The spread has been found by then; loops make it all the same."""
    g = Graph()
    many = [g.leaf((4, 24, 40, 48), F32) for _ in range(70)]
    x = g.map(lambda e, a, *rest: sum(rest, a), contract(g, CASES["1x1"]), *many)
    g.results = [g.map(lambda e, a: -a, x), *mean_and_spread(g, x)]
    assert "deviations" not in made(g)
    check_statistics(*run(g, leaves(g, 2.0)))


def test_the_reference_knows_deviations():
    g = Graph()
    x = g.leaf((50, 7), F32)
    g.results = [g.node("reduce", (x,), ("deviations", (0,)), (7,), F32)]
    array = leaves(g, 3.0)[0]
    want = np.square(array - array.mean(0, np.float64)).sum(0)
    np.testing.assert_allclose(interpret(g, [array])[0], want, rtol=1e-6)
    np.testing.assert_allclose(run(g, [array])[0], want, rtol=1e-5)


@pytest.mark.parametrize("name", ["product", "1x1", "depthwise", "deep"])
def test_infinities_and_constants(name):
    """An infinite result makes its channel's sum infinite and its spread NaN, and touches no other; equal ones have no spread."""
    g = statistics(CASES[name])
    arrays = leaves(g)
    arrays[1][3] = 0  # constant: all products are zero
    arrays[1][5].flat[:] = 1e38
    arrays[0][:] = np.abs(arrays[0])
    x, total, squares = run(g, arrays)
    assert np.isinf(x[:, 5]).any()
    assert total[5] == np.inf and np.isnan(squares[5])
    assert squares[3] == 0 and total[3] == 0
    others = [k for k in range(x.shape[1]) if k != 5]
    check_statistics(x[:, others], total[others], squares[others])


# -- the same bits -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_any_number_of_threads_and_every_run(name):
    g = statistics(CASES[name])
    arrays, before, found = leaves(g), pool.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            pool.set_num_threads(threads)
            found.append([out.tobytes() for out in run(g, arrays)])
    finally:
        pool.set_num_threads(before)
    assert found[1:] == found[:-1]


@pytest.mark.parametrize("cpu", ["avx2", "sse"])
@pytest.mark.parametrize("name", ["product", "winograd", "depthwise", "bfloat16", "deep"])
def test_smaller_processors(name, cpu):
    with target.using(cpu):
        g = statistics(CASES[name])
        assert "deviations" in made(g)
        check_statistics(*run(g, leaves(g, 5.0)))


# -- layers ------------------------------------------------------------------------------------------------------------
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 32, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False),
                         nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.Flatten(2),
                         nn.Conv1d(32, 16, 3, 2), nn.BatchNorm1d(16))  # fmt: skip


def gradients(model: nn.Module, batch: int) -> list[np.ndarray]:
    rng = np.random.default_rng(batch)
    x, weight = (torch.tensor(rng.standard_normal((batch, *rest)).astype(np.float32)) for rest in ((8, 32, 34), (16, 543)))
    model.zero_grad()
    (model(x) * weight).mean().backward()
    flush()
    return [t.detach().numpy().copy() for t in (*(p.grad for p in model.parameters()), *model.buffers())]


def test_sizes_unseen_before_need_no_planning_and_have_the_same_bits(monkeypatch):
    monkeypatch.setattr(recorder, "cold_limit", 0)
    found = []
    for families in (1, 0):
        start_afresh()
        with flags.using(families=families):
            torch.manual_seed(0)
            model = network()
            found.append([gradients(model, batch) for batch in (6, 7, 9, 8)])
            if families:
                before = compiler.outlines
                found[0].append(gradients(model, 11))
                assert compiler.outlines == before
            else:
                found[1].append(gradients(model, 11))
    for one, other in zip(*found, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
