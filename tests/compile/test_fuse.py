"""Which kernels a graph becomes: counts, so that a lost fusion is seen."""
from __future__ import annotations

import numpy as np
import pytest

from rushlight.compile import dtypes as dt
from rushlight.compile import outline
from rushlight.compile.build import build
from rushlight.compile.flags import Flags, flags
from rushlight.compile.fuse import fuse
from rushlight.compile.graph import ContractSpec, Graph, Node, View, Window
from rushlight.compile.group import Groups
from rushlight.compile.passes.layout import choose_orders
from rushlight.compile.passes.legalise import legalise
from rushlight.compile.passes.simplify import simplify
from rushlight.compile.reference.interpret import interpret

F32 = dt.float32


def groups(g: Graph) -> list[str]:
    """The kinds of the groups that compute something."""
    g.verify()
    ready = legalise(simplify(g))
    fusion = fuse(ready, choose_orders(ready))
    return sorted(x.kind for x in fusion.groups.all if x.roots or x.anchor is not None)


def softmax(g: Graph, x: Node, axis: int = -1) -> Node:
    axis %= len(x.shape)
    raised = g.map(lambda e, x, m: e.exp(x - m), x, g.reduce("max", x, (axis,), True))
    return g.map(lambda e, a, b: a / b, raised, g.reduce("add", raised, (axis,), True))


def test_a_pointwise_chain_is_one_kernel():
    g = Graph()
    x, y = g.leaf((40, 30), F32), g.leaf((30,), F32)
    z = g.map(lambda e, x, y: e.exp(x) + y, x, y)
    g.results = [g.map(lambda e, z: e.tanh(z), z), z, g.map(lambda e, z, x: z * x, z, x)]
    assert groups(g) == ["loops"]


def test_softmax_is_one_kernel():
    g = Graph()
    g.results = [softmax(g, g.leaf((64, 50), F32))]
    assert groups(g) == ["loops"]


def test_softmax_without_row_fusion_is_three():
    g = Graph()
    g.results = [softmax(g, g.leaf((64, 50), F32))]
    with flags.using(fuse_rows=0, fuse_siblings=0):
        assert len(groups(g)) >= 3


def test_layer_norm_is_one_kernel():
    g = Graph()
    x, w, b = g.leaf((32, 64), F32), g.leaf((64,), F32), g.leaf((64,), F32)
    mean = g.map(lambda e, s: s / 64.0, g.reduce("add", x, (1,), True))
    d = g.map(lambda e, x, m: x - m, x, mean)
    var = g.map(lambda e, s: s / 64.0, g.reduce("add", g.map(lambda e, d: d * d, d), (1,), True))
    r = g.map(lambda e, v: e.rsqrt(v + 1e-5), var)
    g.results = [g.map(lambda e, d, r, w, b: d * r * w + b, d, r, w, b), mean, r]
    assert groups(g) == ["loops"]


def test_bias_and_activation_are_the_epilogue_of_a_matmul():
    g = Graph()
    x, w, b = g.leaf((32, 64), F32), g.leaf((48, 64), F32), g.leaf((48,), F32)
    z = g.map(lambda e, z, b: z + b, g.einsum("nk,mk->nm", x, w), b)
    g.results = [g.map(lambda e, z: e.max(z, 0.0), z), z]
    assert groups(g) == ["contract"]
    with flags.using(fuse_contract=0):
        assert groups(g) == ["contract", "loops"]


def test_an_epilogue_may_see_the_result_reshaped():
    g = Graph()
    x, w, b = g.leaf((2, 16, 64), F32), g.leaf((48, 64), F32), g.leaf((48,), F32)
    z = g.reshape(g.einsum("nk,mk->nm", g.reshape(x, (32, 64)), w), (2, 16, 48))
    g.results = [g.map(lambda e, z, b: e.max(z + b, 0.0), z, b)]
    assert groups(g) == ["contract"]


def test_dropout_does_not_enter_an_epilogue():
    g = Graph()
    x, w = g.leaf((32, 64), F32), g.leaf((48, 64), F32)
    z = g.einsum("nk,mk->nm", x, w)
    keep = g.map(lambda e, i: e.eq(e.mod(i, 2), 0), g.index((32, 48), 1))
    g.results = [g.map(lambda e, z, k: e.where(k, z, e.const(0.0, F32)), z, keep)]
    assert len(groups(g)) == 2


def test_dear_values_are_not_computed_twice():
    g = Graph()
    x = g.leaf((64, 64), F32)
    dear = g.map(lambda e, x: e.exp(x), x)
    g.results = [g.reduce("add", g.permute(dear, (1, 0)), (1,)), g.reduce("add", g.slice(dear, (1, 0), (63, 64)), (0, 1))]
    ready = legalise(simplify(g))
    fusion = fuse(ready, {})
    assert [n for n in fusion.home if n.kind == "pointwise"], "exp is stored, not computed in both kernels"


def test_a_convolution_pads_into_channels_last_memory():
    from step_graphs import conv2d

    g = Graph()
    x, w = g.leaf((2, 3, 8, 8), F32), g.leaf((4, 3, 3, 3), F32)
    z = conv2d(g, x, w, 1)
    g.results = [g.reduce("add", g.map(lambda e, z: e.max(z, 0.0), z), (2, 3))]
    ready = legalise(g)
    order = choose_orders(ready)
    by_kind = {n.kind: order.get(n) for n in ready.nodes}
    assert by_kind["pad"] == by_kind["contract"] == by_kind["pointwise"] == (0, 2, 3, 1)
    assert groups(g) == ["contract", "loops", "loops"]


def test_everything_off_is_one_kernel_per_node():
    g = Graph()
    x = g.leaf((8, 8), F32)
    g.results = [softmax(g, x)]
    with flags.using(**dict.fromkeys(Flags.NAMES, 0)):
        ready = legalise(g)
        fusion = fuse(ready, {})
    assert len([x for x in fusion.groups.all if x.roots]) == 6


def test_a_chain_of_thousands_of_operations():
    g = Graph()
    x = g.leaf((16,), F32)
    for _ in range(3000):
        x = g.map(lambda e, x: x * 1.0001 + 0.5, x)
    g.results = [x]
    assert 5 <= len(groups(g)) <= 100


def update(g: Graph, p: Node, grad: Node, rate: Node) -> Node:
    return g.map(lambda e, p, d, r: p - d * r, p, grad, rate)


def test_updates_that_share_only_a_learning_rate_wait_for_nobody():
    """Small ones share a kernel. Large ones, which would keep each other's gradients, do not: each is its product's epilogue."""
    for size, kinds in ((16, ["loops"]), (256, ["loops", "loops"])):
        g = Graph()
        rate = g.leaf((), F32)
        g.results = [update(g, g.leaf((size, size), F32), g.leaf((size, size), F32), rate) for _ in range(2)]
        assert groups(g) == kinds
    g = Graph()
    rate = g.leaf((), F32)
    g.results = [update(g, g.leaf((256, 256), F32), g.einsum("km,kn->mn", g.leaf((512, 256), F32), g.leaf((512, 256), F32)), rate)
                 for _ in range(2)]
    assert groups(g) == ["contract", "contract"]


def test_sums_of_unrelated_large_values_are_kernels_of_their_own():
    g = Graph()
    rate = g.leaf((), F32)
    sums = [g.reduce("add", g.leaf((4096, 64), F32), (0,)) for _ in range(3)]
    g.results = [update(g, g.leaf((64,), F32), total, rate) for total in sums]
    assert groups(g) == ["loops"] * 4  # three sums, and one update of all
    x = g.leaf((1500, 256), F32)
    sums = [g.reduce("add", y, (0,)) for y in (x, g.map(lambda e, a: a * a, x))]
    g.results = [update(g, g.leaf((256,), F32), total, rate) for total in sums]
    assert groups(g) == ["loops"]  # these read the same


def test_more_operands_than_a_contraction_can_address():
    """Hand-written recurrent cells add up the gradients of all times, for several weights at once. Three sums of thirty products
    each, which meet in one epilogue: some of the contractions stay by themselves."""
    g, rng = Graph(), np.random.default_rng(0)
    arrays = []

    def leaf(*shape: int):
        arrays.append(rng.normal(size=shape).astype(np.float32))
        return g.leaf(shape, dt.float32)

    weight = leaf(24, 40)
    sums = []
    for _ in range(3):
        total = None
        for _ in range(30):
            product = g.einsum("ka,kb->ab", leaf(8, 24), leaf(8, 40))
            total = product if total is None else g.map(lambda e, a, b: a + b, total, product)
        sums.append(total)
    updated = g.map(lambda e, w, a, b, c: w - (a * b + c) * 0.1, weight, *sums)
    g.results = [updated, *(g.map(lambda e, w, s: w * 0.9 + s, weight, s) for s in sums)]
    program = build(g, {0: 0})
    expected = interpret(g, arrays)
    out = [np.empty((24, 40), np.float32) for _ in g.results]
    out[0][:] = arrays[0]
    leaves = [out[0], *arrays[1:]]
    program.run([a.ctypes.data for a in leaves], [o.ctypes.data for o in out])
    for found, wanted in zip(out, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


def test_a_sum_of_hundreds_of_products_is_fused_at_once(monkeypatch):
    """A cell written by hand adds up a gradient for each time. Each few products are added behind one of them; no kernel is too
    large, which would only be seen when all is fused, and all be fused again for each of the products."""
    g, calls = Graph(), []
    total = None
    for _ in range(200):
        product = g.einsum("ka,kb->ab", g.leaf((8, 24), F32), g.leaf((8, 40), F32))
        total = product if total is None else g.map(lambda e, a, b: a + b, total, product)
    g.results = [total]
    monkeypatch.setattr(outline, "fuse", lambda *args: (calls.append(args), fuse(*args))[1])
    made = outline.outline(g, {})
    assert len(calls) == 1
    assert len(made.pieces) == 200 and {len(p.memory) for p in made.pieces} <= set(range(3, 40))


def test_a_label_counts_what_is_many_times_the_same():
    g = Graph()
    x = g.leaf((8, 4), F32)
    sums = [g.reduce("add", g.map(lambda e, a, k=k: a * float(k + 2), x), (1,)) for k in range(6)]
    g.results = [g.reduce("max", x, (1,)), *sums]
    labels = [str(p.label) for p in outline.outline(g, {}).pieces]
    assert labels and any("6 add" in label for label in labels) and not any("add+add" in label for label in labels)


def run(g: Graph, *arrays: np.ndarray) -> list[np.ndarray]:
    out = [np.empty(r.shape, r.dtype.numpy) for r in g.results]
    build(g, {}).run([a.ctypes.data for a in arrays], [o.ctypes.data for o in out])
    return out


def channel_sums(g: Graph, x: Node) -> Node:
    return g.reduce("add", x, (0, 2, 3), True)


def test_a_norm_after_a_convolution_stores_its_result_alone():
    """The normalised input, of which the backward needs sums, is made again from the convolution's result: that was stored for the
    statistics."""
    from step_graphs import conv2d

    g = Graph()
    x, w, grad = g.leaf((8, 16, 18, 18), F32), g.leaf((32, 16, 3, 3), F32), g.leaf((8, 32, 16, 16), F32)
    scale, shift = g.leaf((32, 1, 1), F32), g.leaf((32, 1, 1), F32)
    z = conv2d(g, x, w, 0)
    mean = g.map(lambda e, s: s / 2048, channel_sums(g, z))
    rstd = g.map(lambda e, q: 1 / e.sqrt(q / 2048 + 1e-5), channel_sums(g, g.map(lambda e, z, m: (z - m) * (z - m), z, mean)))
    hat = g.map(lambda e, z, m, r: (z - m) * r, z, mean, rstd)
    before = g.map(lambda e, h, a, b: h * a + b, hat, scale, shift)
    y = g.map(lambda e, v: e.min(e.max(v, 0), 6), before)
    masked = g.map(lambda e, v, d: e.where(e.gt(v, 0) & e.lt(v, 6), d, 0), before, grad)
    g.results = [y, channel_sums(g, masked), channel_sums(g, g.map(lambda e, d, h: d * h, masked, hat))]
    ready = legalise(simplify(g))
    fusion = fuse(ready, choose_orders(ready))
    large = [n for n in fusion.home if n.kind in ("pointwise", "contract") and n.size == y.size]
    assert set(large) == {n for n in ready.nodes if n.kind == "contract"} | {ready.results[0]}
    with flags.using(recompute=0):
        fusion = fuse(ready, choose_orders(ready))
    assert len([n for n in fusion.home if n.kind in ("pointwise", "contract") and n.size == y.size]) == 4


def test_an_epilogue_is_not_cut_into_groups_of_channels():
    """A product whose result is multiplied by a normalised value: numbers for each channel are one more vector, but those for each
    image and group would be dimensions of the product. Its rows would be short, and it no Winograd convolution."""
    from step_graphs import conv2d

    for shape, axes, stores in (((8, 32, 32, 32), (0, 2, 3), 0), ((8, 8, 4, 32, 32), (2, 3, 4), 1)):
        g = Graph()
        d, w, x = g.leaf((8, 16, 34, 34), F32), g.leaf((32, 16, 3, 3), F32), g.leaf(shape, F32)
        centred = g.map(lambda e, a, m: a - m, x, g.map(lambda e, t: t / 8192, g.reduce("add", x, axes, True)))
        product = g.reshape(conv2d(g, d, w, 0), shape)
        value = g.map(lambda e, p, c: p * c, product, centred)
        g.results = [g.reduce("add", value, axes), g.reduce("max", value, axes[1:]), g.reduce("max", centred, axes)]
        ready = legalise(simplify(g))
        fusion = fuse(ready, choose_orders(ready))
        stored = {n: group.kind for n, group in fusion.home.items() if n.kind == "pointwise" and n.size == x.size}
        assert sorted(stored.values()) == ["contract"] + ["loops"] * stores


def test_a_sum_that_is_not_stored_before_is_no_reason_to_compute_twice():
    """x + y has no smaller operand than itself: it is stored for its two users, whatever statistics are taken of x."""
    g = Graph()
    x, y = g.leaf((64, 4096), F32), g.leaf((64, 4096), F32)
    both = g.map(lambda e, x, y: x + y, x, y)
    g.results = [g.reduce("add", both, (0,)), g.reduce("max", both, (1,)), g.reduce("add", x, (1,))]
    ready = legalise(simplify(g))
    assert [n for n in fuse(ready, {}).home if n.kind == "pointwise"]


def test_sums_over_one_gradient_are_one_pass():
    """However they are written down: the sum of the gradient before its product with something, or after."""
    for early in (False, True):
        g = Graph()
        grad, x = g.leaf((16, 64, 32, 32), F32), g.leaf((16, 64, 32, 32), F32)
        plain = channel_sums(g, grad) if early else None
        product = g.map(lambda e, d, x: d * x, grad, x)
        g.results = [channel_sums(g, product), plain or channel_sums(g, grad)]
        assert groups(g) == ["loops"]
        with flags.using(fuse_siblings=0):
            assert groups(g) == ["loops", "loops"]


def residual_network() -> Graph:
    """The gradient at each layer is that of the next one and a product's, and so are the inputs of the layers. A bias's gradient and
    the two of a norm are sums over values that lie in memory for the products."""
    g = Graph()
    spec = ContractSpec(("i", "k"), ("k", "j"), ("i", "j"), (("i", 512), ("j", 128), ("k", 128)))
    x, grad, weight = g.leaf((512, 128), F32), g.leaf((512, 128), F32), g.leaf((128, 128), F32)
    inputs, sums, product = [x], [], None
    for _ in range(3):
        inputs.append(g.map(lambda e, a, b: a + b, inputs[-1], g.contract(inputs[-1], weight, spec)))
    for x in reversed(inputs[:-1]):
        hat = g.map(lambda e, x, m: x - m, x, g.map(lambda e, s: s / 128, g.reduce("add", x, (1,), True)))
        product = g.contract(grad, weight, spec)
        sums += [g.reduce("add", v, (0,)) for v in (grad, product, g.map(lambda e, d, h: d * h, product, hat))]
        grad = g.map(lambda e, d, p, h: d + p * h, grad, product, hat)
    g.results = [*sums, g.contract(grad, weight, spec)]
    return g


def test_sums_of_a_residual_network_are_one_pass_for_each_gradient():
    """Where the products do not make them, each pass reads what it needs alone."""
    ready = legalise(simplify(residual_network()))
    with flags.using(fuse_sums=0):
        fusion = fuse(ready, choose_orders(ready))
    joint = [{n.inputs[0] for n in x.reduces} for x in fusion.groups.all if any(n.shape == (128,) for n in x.reduces)]
    assert sorted(map(len, joint)) == [1, 1, 1, 2, 2, 2]
    assert all(any(n.kind == "contract" for n in pair) for pair in joint if len(pair) == 2)


def test_sums_of_a_residual_network_are_made_by_its_products():
    """... all but that of the gradient that enters."""
    ready = legalise(simplify(residual_network()))
    fusion = fuse(ready, choose_orders(ready))
    made = [x.kind for x in fusion.groups.all for n in x.reduces if n.shape == (128,)]
    assert sorted(made) == ["contract"] * 8 + ["loops"]


def test_a_sum_joins_no_kernel_that_needs_it_on_the_way():
    """Deviations from the mean share their data with the mean, and wait for it."""
    g = Graph()
    x = g.leaf((500, 40), F32)
    total = g.reduce("add", x, (0,), True)
    g.results = [g.reduce("add", g.map(lambda e, x, t: (x - t) * (x - t), x, total), (0,)), total]
    array = np.random.default_rng(0).normal(size=(500, 40)).astype(np.float32)
    expected = interpret(g, [array])
    for got, want in zip(run(g, array), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def filter_gradient(g: Graph, x: Node, d: Node, size: int) -> Node:
    (n, c, _, _), (_, o, height, width) = x.shape, d.shape
    sizes = (("n", n), ("c", c), ("o", o), ("y", height), ("x", width), ("u", size), ("v", size))
    windows = Window("y", "u", 1, 1, 0), Window("x", "v", 1, 1, 0)
    return g.contract(x, d, ContractSpec(("n", "c", *windows), ("n", "o", "y", "x"), ("o", "c", "u", "v"), sizes))


def test_a_gradient_that_is_a_result_is_written_by_the_update_that_reads_it():
    """The kernel positions of a filter's gradient lie elsewhere than in the filter: it is read once, for the update and for ``grad``."""
    g = Graph()
    x, d, rate = g.leaf((4, 128, 10, 10), F32), g.leaf((4, 128, 8, 8), F32), g.leaf((), F32)
    w, velocity = g.leaf((128, 128, 3, 3), F32), g.leaf((128, 128, 3, 3), F32)
    grad = filter_gradient(g, x, d, 3)
    faster = g.map(lambda e, v, d: v * 0.9 + d, velocity, grad)
    g.results = [update(g, w, faster, rate), faster, grad]
    assert groups(g) == ["contract", "loops"]
    with flags.using(fuse_siblings=0):
        assert groups(g) == ["contract", "loops", "loops"]
    g.results = [grad]
    assert groups(g) == ["contract", "loops"]


def test_a_reshape_of_channels_into_groups_keeps_them_last():
    """What a convolution reads through it stays in the order in which the convolution wants it; a flattened image is row-major."""
    from step_graphs import conv2d

    rng = np.random.default_rng(0)
    x, w, w2 = (rng.normal(size=s).astype(np.float32) for s in ((2, 3, 10, 10), (32, 3, 3, 3), (16, 32, 3, 3)))
    for flat in (False, True):
        g = Graph()
        first, second, third = g.leaf(x.shape, F32), g.leaf(w.shape, F32), g.leaf(w2.shape, F32)
        z = conv2d(g, first, second, 0)
        grouped = g.reshape(z, (2, 4, 8, 8, 8))
        mean = g.map(lambda e, t: t / 512, g.reduce("add", grouped, (2, 3, 4), True))
        centred = g.map(lambda e, v, m: e.exp(v - m), grouped, mean)
        back = g.reshape(centred, (2, 32, 8, 8))
        g.results = [conv2d(g, back, third, 0), g.reduce("max", centred, (0,))]
        if flat:
            g.results.append(g.einsum("nk,mk->nm", g.reshape(back, (2, 2048)), g.leaf((5, 2048), F32)))
        ready = legalise(simplify(g))
        fusion = fuse(ready, choose_orders(ready))
        stored = next(n for n in fusion.home if n.kind == "pointwise" and n.size == z.size)
        assert (stored in fusion.order) == (not flat)
        arrays = [x, w, w2, *[rng.normal(size=(5, 2048)).astype(np.float32)] * flat]
        for got, want in zip(run(g, *arrays), interpret(g, arrays), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_a_pool_of_a_pool_reads_its_windows_from_memory():
    """Both look for the position of the greatest in each window. The second one's windows are neighbours in the first one's result."""
    def windows(x: Node) -> Node:
        n, c, h, w = x.shape
        rows = ((1, 0, 0, 0, 0, 0), (0, 1, 0, 0, 0, 0), (0, 0, 1, 0, 1, 0), (0, 0, 0, 1, 0, 1))
        return g.view(g.pad(x, (0, 0, 1, 1), (0, 0, 1, 1), -np.inf), View((n, c, h, w, 3, 3), (0, 0, 0, 0), rows))

    g = Graph()
    x = g.leaf((2, 16, 9, 9), F32)
    positions = g.map(lambda e, i, j: i * 3 + j, g.index((2, 16, 9, 9, 3, 3), 4), g.index((2, 16, 9, 9, 3, 3), 5))
    g.results = []
    value = x
    for _ in range(2):
        seen = windows(value)
        value = g.reduce("max", seen, (4, 5), True)
        g.results.append(g.reduce("min", g.map(lambda e, a, m, p: e.where(e.eq(a, m), p, 9), seen, value, positions), (4, 5)))
        value = g.reshape(value, x.shape)
    array = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    for got, want in zip(run(g, array), interpret(g, [array]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_order_between_groups_is_closed():
    """What needs what, directly or not, for edges in any order; an edge that would close a cycle is refused."""
    rng = np.random.default_rng(3)
    groups = Groups()
    made = [groups.new("loops", (1,)) for _ in range(150)]
    needs = np.zeros((150, 150), bool)
    rank = rng.permutation(150)
    for _ in range(600):
        i, j = rng.integers(0, 150, 2)
        if rank[i] > rank[j]:
            groups.add_edge(made[i], made[j])
            needs[i, j] = True
    for _ in range(8):
        needs |= (needs.astype(int) @ needs.astype(int)) > 0
    assert all(groups.needs(made[i], made[j]) == needs[i, j] for i in range(150) for j in range(150))
    i, j = next((i, j) for i in range(150) for j in range(150) if needs[i, j])
    with pytest.raises(AssertionError, match="cycle"):
        groups.add_edge(made[j], made[i])
