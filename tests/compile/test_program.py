"""Programs against the reference interpreter: random graphs, every switch off, threads, donations, errors."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import graphs, seeded_graph, wide_graph
from step_graphs import cnn_sgd, mlp_adam

from rushlight.compile import dtypes as dt
from rushlight.compile.build import build
from rushlight.compile.counters import counters
from rushlight.compile.cpu import alloc, jit, pool
from rushlight.compile.flags import Flags, flags
from rushlight.compile.graph import Graph, HostCall, View
from rushlight.compile.reference.interpret import interpret

SETTINGS = settings(max_examples=40, deadline=None, database=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
TOLERANCE = {"float64": 1e-9, "float32": 2e-4, "float16": 4e-2, "bfloat16": 1.5e-1}


def donations_of(g: Graph) -> dict[int, int]:
    """Every result takes over the first free leaf that fits it."""
    out: dict[int, int] = {}
    for r, node in enumerate(g.results):
        for k, leaf in enumerate(g.leaves):
            if leaf.shape == node.shape and leaf.dtype is node.dtype and k not in out.values():
                out[r] = k
                break
    return out


def run(program, g: Graph, arrays, donations=None) -> list[np.ndarray]:
    leaves = [a.copy() for a in arrays]
    donations = donations or {}
    outs = [leaves[donations[k]] if k in donations else np.full(r.shape, 77).astype(r.dtype.numpy)
            for k, r in enumerate(g.results)]
    program.run([a.ctypes.data for a in leaves], [o.ctypes.data for o in outs])
    for k, (after, before) in enumerate(zip(leaves, arrays)):
        if k not in donations.values():
            np.testing.assert_array_equal(after, before, err_msg=f"leaf {k} was changed")
    return outs


def compare(g: Graph, got, want) -> None:
    lowest = min((n.dtype.to_real() for n in g.nodes if n.dtype.kind in "fc"), key=lambda d: -TOLERANCE[d.name], default=dt.float64)
    tolerance = TOLERANCE[lowest.name]
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.dtype == b.dtype and a.shape == b.shape
        exact = not any(n.dtype.kind in "fc" for n in g.nodes)
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        if exact:
            np.testing.assert_array_equal(a, b, err_msg=f"result {k} of\n{g}")
        else:
            np.testing.assert_allclose(a.astype(wide), b.astype(wide), rtol=tolerance, atol=tolerance,
                                       err_msg=f"result {k} of\n{g}")


def check(g: Graph, arrays, donations=None):
    g.verify()
    program = build(g, donations or {})
    compare(g, run(program, g, arrays, donations), interpret(g, arrays))
    return program


@SETTINGS
@given(graphs(), st.booleans())
def test_random_graphs(drawn, donate):
    g, arrays = drawn
    check(g, arrays, donations_of(g) if donate else {})


@pytest.mark.parametrize("name", Flags.NAMES)
def test_random_graphs_with_a_rule_off(name):
    with flags.using(**{name: 0}):
        for seed in range(4):
            g, arrays = seeded_graph(seed, 14, [dt.float32, dt.int64, dt.bool_])
            check(g, arrays, donations_of(g))


@pytest.mark.parametrize("seed", range(6))
def test_larger_random_graphs(seed):
    g, arrays = seeded_graph(100 + seed, 40, [dt.float32, dt.int64])
    want = interpret(g, arrays)
    if not all(np.isfinite(w.astype(np.float64)).all() and (np.abs(w.astype(np.float64)) < 1e6).all() for w in want):
        return  # a difference of sums in another order would say nothing
    check(g, arrays, donations_of(g) if seed % 2 else {})


@pytest.mark.parametrize("seed", [1, 2, 5, 7, 11, 13])
def test_wide_random_graphs_on_one_thread_and_two(seed):
    g, arrays = wide_graph(seed, 12)
    want = interpret(g, arrays)
    program = build(g, {})
    before = pool.get_num_threads()
    try:
        pool.set_num_threads(2)
        two = run(program, g, arrays)
        pool.set_num_threads(1)
        one = run(program, g, arrays)
    finally:
        pool.set_num_threads(before)
    for a, b, w in zip(one, two, want, strict=True):
        assert a.tobytes() == b.tobytes()
        if a.size and np.isfinite(w.astype(np.float64)).all():
            scale = 1 + np.abs(w.astype(np.float64)).max()
            assert np.abs(a.astype(np.float64) - w.astype(np.float64)).max() <= 2e-3 * scale


def small_steps():
    return {"mlp": mlp_adam((20, 17, 9, 5), 12), "cnn": cnn_sgd(3, 12, (4, 6), 11)}


@pytest.mark.parametrize("which", ["mlp", "cnn"])
@pytest.mark.parametrize("off", [(), Flags.NAMES])
def test_training_steps(which, off):
    g, arrays, donations = small_steps()[which]
    with flags.using(**dict.fromkeys(off, 0)):
        check(g, arrays, donations)


@pytest.mark.parametrize("which", ["mlp", "cnn"])
def test_threads_do_not_change_a_bit(which):
    g, arrays, donations = {"mlp": mlp_adam((784, 256, 10), 64), "cnn": cnn_sgd(8)}[which]
    program = build(g, donations)
    before = pool.get_num_threads()
    try:
        pool.set_num_threads(1)
        one = run(program, g, arrays, donations)
        pool.set_num_threads(2)
        two = run(program, g, arrays, donations)
        again = run(program, g, arrays, donations)
    finally:
        pool.set_num_threads(before)
    for a, b, c in zip(one, two, again):
        assert a.tobytes() == b.tobytes() == c.tobytes()


def test_long_reductions_are_split_and_right():
    rng = np.random.default_rng(0)
    g = Graph()
    x = g.leaf((300, 400), dt.float32)
    g.results = [g.map(lambda e, s: s * 2, g.reduce("add", x, (0, 1))), g.reduce("max", x, (0,)),
                 g.reduce("argmin", g.reshape(x, (120000,)), (0,)), g.reduce("add", x, (0,)), g.reduce("mul", x, (0, 1))]
    a = rng.uniform(0.99, 1.01, (300, 400)).astype(np.float32)
    check(g, [a])


def test_a_repeated_run_compiles_and_allocates_nothing():
    g, arrays, donations = small_steps()["mlp"]
    program = build(g, donations)
    run(program, g, arrays, donations)
    before = (counters.programs, jit.counters.compiled, jit.counters.loaded, alloc.stats().system_allocations)
    for _ in range(3):
        run(program, g, arrays, donations)
    assert before == (counters.programs, jit.counters.compiled, jit.counters.loaded, alloc.stats().system_allocations)


def forward(batch: int) -> Graph:
    g = Graph()
    x, w, b = g.leaf((batch, 40), dt.float32), g.leaf((30, 40), dt.float32), g.leaf((30,), dt.float32)
    h = g.map(lambda e, z, b: e.max(z + b, 0.0), g.einsum("nk,mk->nm", x, w), b)
    raised = g.map(lambda e, x, m: e.exp(x - m), h, g.reduce("max", h, (1,), True))
    g.results = [g.map(lambda e, a, b: a / b, raised, g.reduce("add", raised, (1,), True)), g.reduce("add", h, (0,))]
    return g


def test_a_new_batch_size_needs_no_new_kernel():
    build(forward(24), {})
    before = jit.counters.compiled + jit.counters.loaded
    build(forward(28), {})
    assert jit.counters.compiled + jit.counters.loaded == before


def test_update_of_a_donated_leaf_writes_only_what_changes():
    g = Graph()
    x, y = g.leaf((6, 4), dt.float32), g.leaf((2, 4), dt.float32)
    g.results = [g.update(x, y, View((2, 4), (1, 0), ((2, 0), (0, 1))))]
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((6, 4), (2, 4))]
    assert len(check(g, arrays, {0: 0}).instructions) == 1


def test_donation_waits_for_other_readers():
    g = Graph()
    x = g.leaf((5, 4), dt.float32)
    new = g.map(lambda e, x: x + 1, x)
    g.results = [new, g.reduce("add", x, (0,)), g.permute(x, (1, 0)), g.map(lambda e, a, b: a * b, x, new)]
    check(g, [np.arange(20, dtype=np.float32).reshape(5, 4)], {0: 0})


def test_donation_of_a_transposed_leaf_is_not_overwritten_while_read():
    g = Graph()
    x = g.leaf((4, 4), dt.float32)
    g.results = [g.map(lambda e, x: x * 2, g.permute(x, (1, 0)))]
    check(g, [np.arange(16, dtype=np.float32).reshape(4, 4)], {0: 0})


def test_two_leaves_swap():
    g = Graph()
    x, y = g.leaf((7,), dt.float32), g.leaf((7,), dt.float32)
    g.results = [y, x]
    check(g, [np.arange(7, dtype=np.float32), -np.arange(7, dtype=np.float32)], {0: 0, 1: 1})


@pytest.mark.parametrize("value", [4, -1])
def test_index_out_of_range_names_the_line(value):
    g = Graph()
    x, i = g.leaf((4,), dt.float32), g.leaf((3,), dt.int64)
    g.line = "user.py:7"
    g.results = [g.gather(x, i, 0)]
    program = build(g, {})
    arrays = [np.arange(4, dtype=np.float32), np.array([0, value, 1])]
    with pytest.raises(IndexError, match=rf"index {value} is out of bounds for dimension with size 4.*user.py:7"):
        run(program, g, arrays)
    arrays[1][1] = 2
    np.testing.assert_array_equal(run(program, g, arrays)[0], [0, 2, 1])


def test_integer_division_by_zero():
    g = Graph()
    x, y = g.leaf((4,), dt.int64), g.leaf((4,), dt.int64)
    g.results = [g.map(lambda e, x, y: e.floordiv(x, y), x, y)]
    program = build(g, {})
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run(program, g, [np.arange(4), np.array([1, 2, 0, 3])])


def test_wrong_number_of_addresses():
    g = Graph()
    g.results = [g.map(lambda e, x: x + 1, g.leaf((4,), dt.float32))]
    program = build(g, {})
    with pytest.raises(ValueError, match="1 leaves and 1 results; got 0 and 1"):
        program.run([], [0])


def test_complex_numbers_are_computed_in_parts():
    g = Graph()
    x = g.leaf((3, 4), dt.complex64)
    g.results = [g.reduce("add", g.map(lambda e, x: x * x + 1, g.permute(x, (1, 0))), (0,))]
    rng = np.random.default_rng(2)
    check(g, [(rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))).astype(np.complex64)])


def test_a_host_function_may_run_programs():
    inner = Graph()
    inner.results = [inner.map(lambda e, x: x + 1, inner.leaf((5,), dt.float32))]
    inner_program = build(inner, {})

    def call(a: np.ndarray) -> np.ndarray:
        return run(inner_program, inner, [np.array(a)])[0]

    g = Graph()
    x = g.leaf((5,), dt.float32)
    doubled = g.map(lambda e, x: x * 2, x)
    (y,) = g.host(HostCall(call, (((5,), dt.float32),), "inner"), doubled)
    g.results = [g.map(lambda e, a, b: a * 10 + b, y, doubled)]
    a = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(run(build(g, {}), g, [a])[0], (2 * a + 1) * 10 + 2 * a)


def test_a_host_function_may_run_its_own_program():
    depth = []

    def call(a: np.ndarray) -> np.ndarray:
        if len(depth) == 3:
            return np.array(a)
        depth.append(0)
        return run(program, g, [np.array(a)])[0]

    g = Graph()
    x = g.leaf((4,), dt.float32)
    (y,) = g.host(HostCall(call, (((4,), dt.float32),), "again"), g.map(lambda e, x: x + 1, x))
    g.results = [g.map(lambda e, y: y * 2, y)]
    program = build(g, {})
    np.testing.assert_array_equal(run(program, g, [np.zeros(4, np.float32)])[0], 4 * 2**4)


def test_program_describes_itself():
    g, _, donations = small_steps()["mlp"]
    program = build(g, donations)
    assert not {"leaves", "results"} & set(vars(program))  # what a program of some new size is asked for hardly ever
    shape, dtype, nbytes = program.results[0]
    assert (shape, dtype, nbytes) == ((), dt.float32, 4)
    told: dict[str, int] = {}  # of a contraction's steps, the one that multiplies has the bytes of all
    for i in program.instructions:
        name = i.name.split(" step ")[0]
        told[name] = told.get(name, 0) + i.nbytes
    assert all(name and nbytes > 0 for name, nbytes in told.items())
    assert sum(i.flops for i in program.instructions) >= 2 * 12 * (20 * 17 * 2 + 17 * 9 * 3 + 9 * 5 * 3)


def test_copies_at_the_end_are_lowered_once_for_each_size(monkeypatch):
    """Results that change places with each other's leaves are computed elsewhere and copied."""
    from rushlight.compile import addresses

    addresses._copy.cache_clear()
    count = []
    lower = addresses.lower_body
    monkeypatch.setattr(addresses, "lower_body", lambda *a: count.append(1) or lower(*a))
    for factor in (2.0, 3.0):
        g = Graph()
        leaves = [g.leaf((37, 5), dt.float32) for _ in range(3)]
        a, b, c = [g.map(lambda e, x: x * factor, x) for x in leaves]  # noqa: B023
        g.results = [b, c, a]
        donations = {0: 0, 1: 1, 2: 2}
        arrays = [np.full((37, 5), k, np.float32) for k in range(3)]
        compare(g, run(build(g, donations), g, arrays, donations), [arrays[1] * factor, arrays[2] * factor, arrays[0] * factor])
        assert len(count) == 1


def test_bodies_that_differ_in_what_they_read_are_lowered_once(monkeypatch):
    """Two layers, and the same layer in another program, share their lowering; where it reads and writes does not."""
    from rushlight.compile import lower_loops

    count = []
    lower = lower_loops.lower
    monkeypatch.setattr(lower_loops, "lower", lambda *a: count.append(1) or lower(*a))
    monkeypatch.setattr(lower_loops, "_lowered", {})

    def graph() -> Graph:
        g = Graph()
        x, y = g.leaf((5, 7), dt.float32), g.leaf((5, 7), dt.float32)
        g.results = [g.reduce("add", g.map(lambda e, x: e.exp(x), v), (1,)) for v in (x, y)]
        return g

    rng = np.random.default_rng(0)
    for _ in range(2):
        x, y = (rng.normal(size=(5, 7)).astype(np.float32) for _ in range(2))
        out = [np.empty(5, np.float32) for _ in range(2)]
        with flags.using(fuse_siblings=0):
            build(graph(), {}).run([x.ctypes.data, y.ctypes.data], [o.ctypes.data for o in out])
        for o, v in zip(out, (x, y)):
            np.testing.assert_allclose(o, np.exp(v).sum(1), rtol=1e-5)
    assert len(count) == 1
