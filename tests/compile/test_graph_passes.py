"""The passes before fusion keep a graph's meaning and do what they are for."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import seeded_graph
from step_graphs import cnn_sgd, conv2d

from rushlight.compile import dtypes as dt
from rushlight.compile.graph import Graph, View, Window
from rushlight.compile.index import CannotSplit, Ix, NeedSplit, axis_ix, plain_axes, row_major, through_reshape
from rushlight.compile.passes.assemble import assemble
from rushlight.compile.passes.carry import carry
from rushlight.compile.passes.layout import choose_orders
from rushlight.compile.passes.legalise import legalise, live_nodes
from rushlight.compile.passes.rests import rests
from rushlight.compile.passes.simplify import simplify
from rushlight.compile.reference.interpret import interpret

F32 = dt.float32


def same(g: Graph, other: Graph, arrays) -> None:
    other.verify()
    assert [(r.shape, r.dtype) for r in g.results] == [(r.shape, r.dtype) for r in other.results]
    for a, b in zip(interpret(g, arrays), interpret(other, arrays), strict=True):
        np.testing.assert_allclose(a.astype(np.complex128), b.astype(np.complex128), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(25))
def test_passes_keep_the_meaning_of_random_graphs(seed):
    g, arrays = seeded_graph(seed, 20)
    same(g, rests(g), arrays)
    simpler = simplify(g)
    same(g, simpler, arrays)
    same(g, assemble(simpler), arrays)
    same(g, legalise(assemble(simpler)), arrays)
    same(g, carry(legalise(assemble(simpler))), arrays)


def test_padding_becomes_a_node():
    g = Graph()
    g.results = [conv2d(g, g.leaf((2, 3, 8, 8), F32), g.leaf((4, 3, 3, 3), F32), 1)]
    ready = legalise(g)
    kinds = [n.kind for n in ready.nodes]
    assert kinds.count("pad") == 1
    (contract,) = [n for n in ready.nodes if n.kind == "contract"]
    assert all(d.padding == 0 for d in contract.attrs[0].a if isinstance(d, Window))


def test_what_strides_leave_over_is_asked_of_all_windows_at_once():
    """Where one extent is odd, none of the values is what it is made from; where none is, all are."""
    def graph(*heights):
        g = Graph()
        g.results = [g.fit(g.leaf((2, h // 2 * 2, 4), F32), (2, h, 4), (1, 2)) for h in heights]
        return g

    for heights, kinds in (((6, 8), 0), ((6, 9), 2), ((7, 9), 2)):
        g = graph(*heights)
        ready = rests(g)
        assert [n.kind for n in ready.nodes].count("fit") == kinds
        same(g, ready, [np.random.default_rng(h).normal(size=(2, h // 2 * 2, 4)).astype(np.float32) for h in heights])


def test_integer_products_become_sums():
    g = Graph()
    g.results = [g.einsum("ij,jk->ik", g.leaf((3, 4), dt.int64), g.leaf((4, 5), dt.int64))]
    assert "contract" not in [n.kind for n in legalise(g).nodes]
    same(g, legalise(g), [np.arange(12).reshape(3, 4), np.arange(20).reshape(4, 5)])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("subscripts", "vectors"), [("k,k->", True), ("bk,bk->b", True), ("kb,kb->b", True), ("bok,bkl->bol", True),
                                                     ("b,b->b", True), ("bk,k->b", False), ("bnk,bk->bn", False)])
def test_dot_products_become_sums(subscripts, vectors, dtype):
    """Letters o and l are of length 1. Products of narrow types are not rounded before they are summed."""
    sizes = {"b": 3, "k": 300, "o": 1, "l": 1, "n": 2}
    left, right = (tuple(sizes[c] for c in x) for x in subscripts.split("->")[0].split(","))
    g = Graph()
    g.results = [g.einsum(subscripts, g.leaf(left, dt.by_name(dtype)), g.leaf(right, dt.by_name(dtype)))]
    ready = legalise(g)
    ready.verify()
    assert ("contract" not in [n.kind for n in ready.nodes]) == vectors
    rng = np.random.default_rng(0)
    arrays = [rng.random(x.shape).astype(x.dtype.numpy) for x in g.leaves]
    exact = np.einsum(subscripts, *(x.astype(np.float64) for x in arrays))
    half_unit = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 2**-22, "float64": 2**-50}[dtype]
    np.testing.assert_allclose(interpret(ready, arrays)[0].astype(np.float64), exact, rtol=1.01 * half_unit)


def test_a_checked_label_scatter_becomes_a_choice():
    def build(checked: bool) -> list[str]:
        g = Graph()
        labels, x = g.leaf((6, 1), dt.int64), g.leaf((6, 5), F32)
        out = g.scatter(g.const(0.0, F32, (6, 5)), labels, g.const(1.0, F32, (6, 1)), 1, "add")
        g.results = [out, g.gather(x, labels, 1, checked)]
        return [n.kind for n in legalise(g).nodes]

    assert "scatter" not in build(True)
    assert "scatter" in build(False), "nobody has checked the labels: the scatter must"


def test_results_that_are_leaves_or_repeat_are_copied():
    g = Graph()
    x = g.leaf((3,), F32)
    y = g.map(lambda e, x: x + 1, x)
    g.results = [x, y, y, g.reshape(y, (3, 1))]
    ready = legalise(g)
    assert [n.kind for n in ready.results] == ["copy", "pointwise", "copy", "copy"]
    assert len(set(ready.results)) == 4


def test_reductions_over_ones_are_reshapes():
    g = Graph()
    g.results = [g.reduce("add", g.leaf((3, 1, 4, 1), F32), (1, 3))]
    assert [n.kind for n in simplify(g).nodes] == ["leaf", "reshape"]


def test_dead_nodes_disappear_and_leaves_stay():
    g = Graph()
    x, unused = g.leaf((3,), F32), g.leaf((4,), F32)
    g.map(lambda e, x: e.exp(x), unused)
    g.results = [g.map(lambda e, x: x + 1, x)]
    small = simplify(g)
    assert len(small.leaves) == 2 and [n.kind for n in small.nodes] == ["leaf", "leaf", "pointwise"]


def test_convolutional_intermediates_are_channels_last():
    g, _, _ = cnn_sgd(2, 12, (4, 6), 8)
    ready = legalise(simplify(g))
    orders = choose_orders(ready)
    images = [n for n in ready.nodes if n.kind == "contract" and len(n.shape) == 4 and n.shape[0] == 2]
    filters = [n for n in ready.nodes if n.kind == "contract" and n.shape == (6, 4, 3, 3)]
    assert images and all(orders[n] == (0, 2, 3, 1) for n in images)
    assert filters and all(orders[n] == (2, 3, 1, 0) for n in filters)


def test_reshape_of_an_index():
    extents = {0: 6, 1: 4}
    index = (axis_ix(0), axis_ix(1))
    assert through_reshape(index, (6, 4), (24,), extents) == (Ix(0, ((0, 4), (1, 1))),)
    with pytest.raises(NeedSplit) as need:
        through_reshape((axis_ix(0),), (6,), (2, 3), {0: 6})
    assert (need.value.axis, need.value.inner) == (0, 3)
    with pytest.raises(CannotSplit):
        through_reshape(index, (6, 4), (8, 3), extents)


def test_plain_axes_knows_merged_dimensions():
    extents = {0: 6, 1: 4, 2: 1}
    assert plain_axes((Ix(0, ((0, 4), (1, 1))),), (24,), extents) == (0, 1)
    assert plain_axes((axis_ix(0), Ix(0, ())), (6, 1), extents) == (0,)
    assert plain_axes((axis_ix(0), axis_ix(0)), (6, 6), extents) is None
    assert plain_axes((Ix(1, ((1, 1),)),), (5,), extents) is None
    assert plain_axes((Ix(0, ((0, -1),)),), (6,), extents) is None
    assert row_major((2, 3, 4)) == (12, 4, 1)


def parts_of_a_whole(shape, cuts, axis, dtype=F32):
    """What ``split`` records for its gradient: each part written into zeros, and the sum of these."""
    g = Graph()
    start, total = 0, None
    for n in cuts:
        part = g.leaf((*shape[:axis], n, *shape[axis + 1:]), dtype)
        view = View(part.shape, tuple(start if d == axis else 0 for d in range(len(shape))),
                    tuple(tuple(int(d == j) for j in range(len(shape))) for d in range(len(shape))))
        put = g.update(g.const(0, dtype, shape), g.map(lambda e, x: x * 2, part), view)
        total = put if total is None else g.map(lambda e, a, b: a + b, total, put)
        start += n
    return g, total


@pytest.mark.parametrize("cuts, whole", [((3, 4, 2), True), ((4, 4), False)])
def test_parts_that_fill_a_value_are_put_side_by_side(cuts, whole):
    g, total = parts_of_a_whole((2, 9, 5), cuts, 1)
    turned = g.reshape(g.permute(total, (2, 0, 1)), (10, 9))
    g.results = [total, turned, g.map(lambda e, x: x + 1, turned)]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=n.shape).astype(np.float32) for n in g.leaves]
    made = assemble(g)
    same(g, made, arrays)
    kinds = {n.kind for n in live_nodes(made)}
    assert ("concat" in kinds, "update" in kinds) == (whole, not whole)


@pytest.mark.parametrize("dtype", [dt.bfloat16, dt.float16])
def test_parts_in_half_precision_whose_sums_are_rounded(dtype):
    """As operations record them: added in float32, rounded to the half type."""
    g, puts = Graph(), []
    for start in (0, 3, 6):
        part = g.leaf((2, 3), dtype)
        view = View((2, 3), (0, start), ((1, 0), (0, 1)))
        puts.append(g.update(g.const(0, dtype, (2, 9)), part, view))
    total = puts[0]
    for put in puts[1:]:
        total = g.map(lambda e, a, b: e.cast(e.cast(a, dt.float32) + e.cast(b, dt.float32), dtype), total, put)
    g.results = [total]
    made = assemble(g)
    arrays = [np.random.default_rng(k).normal(size=(2, 3)).astype(dtype.numpy) for k in range(3)]
    np.testing.assert_array_equal(interpret(made, arrays)[0], np.concatenate(arrays, 1))
    kinds = {n.kind for n in live_nodes(made)}
    assert "concat" in kinds and "update" not in kinds


def test_parts_that_overlap_are_added_up():
    g = Graph()
    parts = [g.leaf((4,), F32), g.leaf((4,), F32)]
    puts = [g.update(g.const(0, F32, (8,)), p, View((4,), (start,), ((1,),))) for p, start in zip(parts, (0, 3))]
    g.results = [g.map(lambda e, a, b: a + b, *puts)]
    made = assemble(g)
    same(g, made, [np.arange(4, dtype=np.float32), np.ones(4, np.float32)])
    assert "concat" not in {n.kind for n in made.nodes}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
@settings(max_examples=200, deadline=None, database=None)
def test_a_reshape_of_a_view_is_a_view_where_that_is_affine(shape, data):
    g = Graph()
    x = g.leaf(tuple(n + 1 for n in shape), F32)
    low = [data.draw(st.integers(0, 1)) for _ in shape]
    view = g.permute(g.slice(x, low, tuple(shape)), data.draw(st.permutations(range(len(shape)))))
    factors = [f for n in view.shape for f in ((2, 2) if n == 4 and data.draw(st.booleans()) else (n,))]
    if len(factors) > 1 and data.draw(st.booleans()):
        factors = [factors[0] * factors[1], *factors[2:]]
    g.results = [g.node("reshape", (view,), (), tuple(factors), F32)]
    arrays = [np.arange(x.size, dtype=np.float32).reshape(x.shape)]
    same(g, simplify(g), arrays)
    split = Graph()
    y = split.leaf((3, 10), F32)
    split.results = [split.reshape(split.slice(y, (0, 4), (3, 6)), (3, 2, 3))]
    assert [n.kind for n in live_nodes(simplify(split))] == ["leaf", "view"]
