"""Recurrent loops: native kernels against their meaning in NumPy, over cells, sizes, directions, lengths, types."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rushlight.compile import dtypes as dt
from rushlight.compile.build import build
from rushlight.compile.cpu import pool, recurrence, target
from rushlight.compile.flags import flags
from rushlight.compile.graph import Graph
from rushlight.compile.program import HostStep
from rushlight.compile.recurrence import CELLS, Recurrence, RecurrenceGrad
from rushlight.compile.reference.interpret import interpret

SETTINGS = settings(max_examples=60, deadline=None, database=None)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


@st.composite
def sizes(draw):
    cell = draw(st.sampled_from(sorted(CELLS)))
    hidden = draw(st.integers(1, 70))
    projected = cell == "LSTM" and hidden > 1 and draw(st.booleans())
    size = draw(st.integers(1, hidden - 1)) if projected else hidden
    return {"cell": cell, "steps": draw(st.integers(1, 5)), "batch": draw(st.integers(1, 45)), "hidden": hidden, "size": size,
            "dtype": draw(st.sampled_from([dt.float32, dt.float64])), "reverse": draw(st.booleans()), "projected": projected,
            "ragged": draw(st.booleans())}


def operands(call, rng):
    """Random values for every operand of a call."""
    c, out = call, {}
    shapes = {"x": (c.steps, c.batch, c.gates), "w": (c.gates, c.size), "bias": (c.gates,), "h0": (c.batch, c.size),
              "c0": (c.batch, c.hidden), "projection": (c.size, c.hidden), "dout": (c.steps, c.batch, c.size),
              "dh": (c.batch, c.size), "dc": (c.batch, c.hidden), "h": (c.steps + 1, c.batch, c.size),
              "c": (c.steps + 1, c.batch, c.hidden), "saved": (c.steps, c.batch, c.kind.saved * c.hidden)}
    for name in c.inputs:
        if name == "batch_sizes":
            out[name] = np.sort(rng.integers(0, c.batch + 1, c.steps))[::-1].astype(np.int64).copy()
        else:
            scale = 0.3 if name in ("w", "projection") else 1.0
            out[name] = (rng.standard_normal(shapes[name]) * scale).astype(c.dtype.numpy)
    return out


def graph_of(call, values, wanted=None):
    g = Graph()
    leaves = [g.leaf(v.shape, dt.int64 if v.dtype == np.int64 else call.dtype) for v in values.values()]
    items = g.native(call, *leaves)
    g.results = [items[k] for k in (range(len(items)) if wanted is None else wanted)]
    return g


def run(program, graph, values):
    outs = [np.full(r.shape, np.nan, r.dtype.numpy) for r in graph.results]
    program.run([v.ctypes.data for v in values.values()], [o.ctypes.data for o in outs])
    return outs


def check(call, values, wanted=None):
    graph = graph_of(call, values, wanted)
    program = build(graph, {})
    assert not any(isinstance(s, HostStep) for s in program.steps)
    expected = interpret(graph, list(values.values()))
    for made, right in zip(run(program, graph, values), expected, strict=True):
        np.testing.assert_allclose(made, right, rtol=0, atol=TOLERANCE[call.dtype.name] * max(1, np.abs(right).max()))


@SETTINGS
@given(sizes(), st.booleans(), st.integers(0, 99))
def test_forward(shape, biased, seed):
    call = Recurrence(**shape, biased=biased)
    check(call, operands(call, np.random.default_rng(seed)))


@SETTINGS
@given(sizes(), st.booleans(), st.integers(0, 99))
def test_backward(shape, driven, seed):
    call = RecurrenceGrad(**shape, driven=driven)
    check(call, operands(call, np.random.default_rng(seed)))


@pytest.fixture
def columns(monkeypatch):
    """Threads share the columns of the weights wherever there are two panels, as they do with few sequences and large weights."""
    for name in ("WAVE", "PART", "LINE"):
        monkeypatch.setattr(recurrence, name, 0)
    monkeypatch.setattr(recurrence, "GAIN", 1e9)


def waves(program):
    return [i.grain for i in program.instructions if i.grain < 0]


@settings(SETTINGS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes(), st.booleans(), st.integers(0, 99), st.integers(1, 3))
def test_by_columns(columns, shape, flag, seed, threads):
    before = pool.get_num_threads()
    pool.set_num_threads(threads)
    try:
        for call in (Recurrence(**shape, biased=flag), RecurrenceGrad(**shape, driven=flag)):
            check(call, operands(call, np.random.default_rng(seed)))
    finally:
        pool.set_num_threads(before)


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_few_sequences_with_large_weights_are_cut_by_columns(cell):
    def kinds(batch, hidden):
        shape = {"cell": cell, "steps": 3, "batch": batch, "hidden": hidden, "size": hidden, "dtype": dt.float32, "reverse": False,
                 "projected": False, "ragged": False}
        rng, found = np.random.default_rng(0), []
        for call in (Recurrence(**shape, biased=True), RecurrenceGrad(**shape, driven=True)):
            found.append(bool(waves(build(graph_of(call, operands(call, rng)), {}))))
        return found

    assert kinds(1, 600) == [True, True]
    assert kinds(1, 32) == [False, False]
    assert kinds(40, 128) == [False, False]


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("reverse", [False, True])
def test_results_that_nobody_wants(cell, reverse):
    """The last cell state alone, the outputs alone, the gradient of the input alone."""
    rng = np.random.default_rng(0)
    shape = {"cell": cell, "steps": 4, "batch": 11, "hidden": 21, "size": 21, "dtype": dt.float32, "reverse": reverse,
             "projected": False, "ragged": True}
    for call in (Recurrence(**shape, biased=True), RecurrenceGrad(**shape, driven=True)):
        values = operands(call, rng)
        for k in range(len(call.results)):
            check(call, values, [k])


@pytest.mark.parametrize("level", ["sse", "avx2"])
def test_smaller_registers(level):
    if target.machine() != "x86_64":
        pytest.skip("levels of x86")
    with target.using(level):
        for cell in CELLS:
            shape = {"cell": cell, "steps": 3, "batch": 19, "hidden": 37, "size": 37, "dtype": dt.float32, "reverse": False,
                     "projected": False, "ragged": False}
            for call in (Recurrence(**shape, biased=True), RecurrenceGrad(**shape, driven=True)):
                check(call, operands(call, np.random.default_rng(1)))


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_wide_tiles(cell, far):
    """Where a processor loads one full vector a cycle: the gates of a unit beside each other, tiles of every height and width."""
    cpu = target.current()
    if cpu.vector_registers < 32:
        pytest.skip("wide tiles need 32 registers")
    rng = np.random.default_rng(1)
    with target.using(replace(cpu, full_loads=1, l2=1 if far else 1 << 30)):
        for batch, hidden, dtype in ((1, 37, dt.float32), (5, 1, dt.float32), (7, 100, dt.float32), (19, 50, dt.float64)):
            shape = {"cell": cell, "steps": 3, "batch": batch, "hidden": hidden, "size": hidden, "dtype": dtype, "reverse": False,
                     "projected": False, "ragged": batch == 7}
            if cell == "LSTM" and batch == 7:
                shape |= {"size": 20, "projected": True}
            for call in (Recurrence(**shape, biased=True), RecurrenceGrad(**shape, driven=True)):
                check(call, operands(call, rng))


def test_one_kernel_for_all_sizes_and_directions():
    from rushlight.compile.cpu import jit

    rng = np.random.default_rng(0)
    first = {"cell": "LSTM", "dtype": dt.float32, "projected": False, "ragged": True}

    def build_both(steps, batch, hidden, reverse):
        shape = first | {"steps": steps, "batch": batch, "hidden": hidden, "size": hidden, "reverse": reverse}
        for call in (Recurrence(**shape, biased=True), RecurrenceGrad(**shape, driven=True)):
            build(graph_of(call, operands(call, rng)), {})

    build_both(3, 20, 40, False)
    before = jit.counters.compiled, jit.counters.loaded
    build_both(7, 33, 48, True)
    assert (jit.counters.compiled, jit.counters.loaded) == before


@pytest.mark.parametrize("batch, hidden", [(50, 40), (2, 300)])
def test_bitwise_equal_for_any_number_of_threads(batch, hidden):
    rng = np.random.default_rng(0)
    shape = {"cell": "LSTM", "steps": 6, "batch": batch, "hidden": hidden, "size": hidden, "dtype": dt.float32, "reverse": False,
             "projected": False, "ragged": True}
    threads = pool.get_num_threads()
    try:
        for call in (Recurrence(**shape, biased=True), RecurrenceGrad(**shape, driven=True)):
            values = operands(call, rng)
            graph = graph_of(call, values)
            program = build(graph, {})
            assert bool(waves(program)) == (batch < 10)
            found = []
            for n in (1, 2, 3):
                pool.set_num_threads(n)
                found.append([o.tobytes() for o in run(program, graph, values)])
            assert found[0] == found[1] == found[2]
    finally:
        pool.set_num_threads(threads)


def test_gates_lie_over_what_they_are_computed_from(monkeypatch):
    """A training step of an LSTM has one array of gates: the input's part, what is saved, their gradients."""
    shape = {"cell": "LSTM", "steps": 9, "batch": 10, "hidden": 48, "size": 48, "dtype": dt.float32, "reverse": False,
             "projected": False, "ragged": True}
    forward, backward = Recurrence(**shape, biased=False), RecurrenceGrad(**shape, driven=True)
    values = operands(forward, np.random.default_rng(0)) | operands(backward, np.random.default_rng(1))
    g = Graph()
    leaf = {name: g.leaf(v.shape, dt.int64 if v.dtype == np.int64 else dt.float32) for name, v in values.items()
            if name not in ("h", "c", "saved")}
    gates = g.map(lambda e, a: a * 2, leaf["x"])
    made = dict(zip(forward.outputs, g.native(forward, *({**leaf, "x": gates}[name] for name in forward.inputs))))
    back = g.native(backward, *({**leaf, **made}[name] for name in backward.inputs))
    g.results = [g.reduce("add", back[0], (0, 1)), made["last_c"]]
    program = build(g, {})
    given = {name: values[name] for name in leaf}
    for got, right in zip(run(program, g, given), interpret(g, list(given.values())), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(flags, "inplace", False)
    one = 9 * 10 * 4 * 48 * 4
    assert build(g, {}).arena_bytes - program.arena_bytes >= one - 64
