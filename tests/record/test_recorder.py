"""The recorder: programs are found rather than built, dead values are never stored, memory stays with its tensor."""
from __future__ import annotations

import gc
import importlib
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest

import rushlight as torch
from rushlight import optim
from rushlight.autograd import calls
from rushlight.autograd.quick import quick
from rushlight.compile.counters import counters as compiled
from rushlight.compile.cpu import alloc, jit
from rushlight.nn import functional
from rushlight.record import batch_boundary, counters, flush, local
from rushlight.record.flush import start_afresh


def built() -> tuple[int, int, int]:
    return counters.programs_built, compiled.programs, jit.counters.compiled


def network(seed: int = 0):
    rng = np.random.default_rng(seed)

    def parameter(*shape: int):
        return torch.tensor(rng.normal(size=shape).astype(np.float32), requires_grad=True)
    w1, b1, w2, b2 = parameter(8, 16), parameter(16), parameter(16, 3), parameter(3)

    def forward(x):
        return (x @ w1 + b1).relu() @ w2 + b2
    return forward, [w1, b1, w2, b2]


def batch(n: int, seed: int = 1):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(n, 8)).astype(np.float32)), torch.tensor(rng.normal(size=(n, 3)).astype(np.float32))


def train(forward, optimizer, x, y):
    optimizer.zero_grad()
    loss = ((forward(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.01), lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
                                  lambda p: optim.Adam(p, lr=0.01)])
def test_a_repeated_step_builds_nothing_and_allocates_nothing(make):
    forward, params = network()
    optimizer, (x, y) = make(params), batch(5)
    for _ in range(5):
        train(forward, optimizer, x, y).item()
    gc.collect()
    before, system = built(), alloc.stats().system_allocations
    for k in range(10):
        optimizer.param_groups[0]["lr"] = 0.01 / (k + 1)  # a new learning rate is no new program
        train(forward, optimizer, x, y).item()
    assert built() == before
    assert alloc.stats().system_allocations == system


def test_logging_every_seventh_step_stops_building():
    forward, params = network()
    optimizer, (x, y) = optim.SGD(params, lr=0.01), batch(5)
    seen = []
    for k in range(60):
        before = counters.programs_built
        loss = train(forward, optimizer, x, y)
        if k % 7 == 0:
            loss.item()
        seen.append(counters.programs_built - before)
    assert sum(seen[20:]) == 0


def test_an_evaluation_loop_that_only_accumulates_stops_building():
    forward, _ = network()
    x, y = batch(5)
    with torch.no_grad():
        total = torch.zeros(())
        for k in range(40):
            total += ((forward(x) - y) ** 2).mean()
            batch_boundary()
            if k == 10:
                before = counters.programs_built
        assert counters.programs_built == before
    expected = 40 * ((forward(x) - y) ** 2).mean().item()
    assert abs(float(total) - expected) < 1e-3 * expected


def test_ragged_batches_build_a_program_for_each_size_once():
    forward, params = network()
    optimizer = optim.SGD(params, lr=0.01)
    batches = [batch(n) for n in (3, 5, 4)]
    for _ in range(3):
        for x, y in batches:
            train(forward, optimizer, x, y)
    before = built()
    for _ in range(3):
        for x, y in batches:
            train(forward, optimizer, x, y)
    assert built() == before


def test_a_number_that_keeps_changing_becomes_an_input(monkeypatch):
    start_afresh()  # what other tests multiplied by is another number at the same place
    monkeypatch.setattr(calls, "REST", 0)  # calls are looked for, however many were made in vain before
    x = torch.ones(4)
    for k in range(10):
        (x * (k + 0.5)).sum().item()
    before = built()
    for k in range(10, 30):
        total = (x * (k + 0.5)).sum().item()  # inside an assert pytest would hold on to the product
        assert total == 4 * (k + 0.5)
    assert built() == before


def test_numbers_that_compare_equal_are_different_programs():
    x = torch.tensor([3, 4])
    assert (x * 1).dtype is torch.int64 and (x * 1.0).dtype is torch.float32 and (x * True).dtype is torch.int64
    y = torch.tensor([1.0])
    assert np.signbit((y * -0.0).numpy()[0]) and not np.signbit((y * 0.0).numpy()[0])


def test_dead_values_are_not_stored():
    x = torch.ones(1000)
    y = ((x + 1) * 2).exp()
    z = y.sum()
    del y
    flush()
    live = alloc.stats().live
    z2 = ((x + 1) * 2).exp().sum()
    flush()
    assert alloc.stats().live - live <= alloc.size_class(4)
    assert float(z) == float(z2)


def test_saved_values_are_dropped_by_the_backward():
    x = torch.ones(1000, requires_grad=True)
    y = x * 2
    loss = (y * y).sum()
    inner = weakref.ref(y.grad_fn)
    del y
    assert inner() is not None
    loss.backward()
    flush()
    before = alloc.stats().live
    del loss
    assert inner() is None
    assert alloc.stats().live <= before


def test_parameters_keep_their_memory():
    forward, params = network()
    optimizer, (x, y) = optim.Adam(params, lr=0.01), batch(5)
    places = [p.data_ptr() for p in params]
    arrays = [p.detach().numpy() for p in params]
    first = [a.copy() for a in arrays]
    for _ in range(4):
        train(forward, optimizer, x, y)
    assert [p.data_ptr() for p in params] == places
    for a, f, p in zip(arrays, first, params):
        assert not np.array_equal(a, f)
        assert np.array_equal(a, p.detach().numpy())


def test_an_overwritten_value_that_is_still_needed_moves_out():
    w = torch.ones(3)
    flush()
    place = w.data_ptr()
    old = w.clone()
    kept = w._value  # as a graph node would keep it
    w += 5
    flush()
    assert w.data_ptr() == place
    assert kept.buffer.ptr != place
    assert old.tolist() == [1, 1, 1] and w.tolist() == [6, 6, 6]


def test_a_failed_program_fails_its_values_and_no_others():
    x = torch.arange(4.0)
    bad = x[torch.tensor([0, 9])]
    good = x + 1
    with pytest.raises(IndexError):
        bad.tolist()
    with pytest.raises(IndexError):
        bad.tolist()
    with pytest.raises(IndexError):
        good.tolist()  # it was part of the same program
    assert (x + 1).tolist() == [1, 2, 3, 4]


def test_threads_have_their_own_traces():
    results = {}

    def work(k: int) -> None:
        x = torch.full((3,), float(k))
        for _ in range(20):
            x = x + 1
        results[k] = x

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(4):  # pending in a thread that has ended
        assert results[k].tolist() == [k + 20.0] * 3


def test_the_budget_bounds_a_trace(monkeypatch):
    from rushlight.record import settings

    monkeypatch.setattr(settings, "max_ops", 50)
    local.trace.root.edges.clear()
    x = torch.zeros(2)
    for _ in range(175):
        x = x + 1
        assert len(local.trace.values) <= 60
    assert x.tolist() == [175, 175]
    local.trace.root.edges.clear()


def test_a_long_chain_is_recorded_differentiated_run_and_freed():
    x = torch.ones(2, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1e-4
    end = weakref.ref(y.grad_fn)
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
    del y
    gc.collect()
    assert end() is None


def test_errors_name_the_line_of_the_program():
    with pytest.raises(RuntimeError, match=r"\(3\) must match.*\(4\)"):
        torch.ones(3) + torch.ones(4)
    x = torch.arange(3.0)
    i = torch.tensor([0, 5])
    for _ in range(3):
        with pytest.raises(IndexError) as caught:
            x[i].sum().item()
        assert "5" in str(caught.value) or any("5" in n for n in getattr(caught.value, "__notes__", []))


def test_parts_at_changing_places_build_nothing():
    data = torch.arange(1000.0)
    w = torch.ones(10)
    flush()
    totals = []
    for start in (0, 10, 37):
        x = torch.stack([data[start:start + 10], data[start + 1:start + 11]]) * w
        totals.append(x.sum().item())
    before = built(), local.trace.nodes
    for start in range(40, 60):
        x = torch.stack([data[start:start + 10], data[start + 1:start + 11]]) * w
        total = x.sum().item()
        assert total == sum(range(start, start + 10)) + sum(range(start + 1, start + 11))
    assert (built(), local.trace.nodes) == before


def test_writes_to_changing_places_build_nothing():
    memory = torch.zeros(100, 4)
    flush()
    place = memory.data_ptr()
    for k in range(8):
        memory[k] = torch.full((4,), 1.0) * 2
        rows = [memory[3], memory[k] + memory[k - 1]]
    before = built(), local.trace.nodes
    for k in range(8, 90):
        memory[k] = torch.full((4,), 1.0) * 2
        rows.append(memory[k] + memory[k - 1])
    assert (built(), local.trace.nodes) == before
    assert memory.data_ptr() == place
    assert rows[0].tolist() == [2.0] * 4 and rows[-1].tolist() == [4.0] * 4
    assert memory[89].tolist() == [2.0] * 4 and memory[90].tolist() == [0.0] * 4


def test_memory_read_through_a_window_is_written_after_it():
    x = torch.arange(6.0)
    flush()
    left = x[1:4] * 1
    x += 10  # takes over the memory that the product still reads
    right = x[1:4] * 1
    assert left.tolist() == [1, 2, 3] and right.tolist() == [11, 12, 13]
    window = x[2:4]
    x[0:3] = x[3:6]
    assert x.tolist() == [13, 14, 15, 13, 14, 15] and window.tolist() == [15, 13]


def test_parameters_keep_their_memory_where_a_flush_falls_inside_the_update(monkeypatch):
    from rushlight.record import settings

    forward, params = network()
    optimizer, (x, y) = optim.Adam(params, lr=0.01), batch(5)
    places = [p.data_ptr() for p in params]
    expected = [train(forward, optimizer, x, y).item() for _ in range(3)]
    monkeypatch.setattr(settings, "max_ops", 1)
    monkeypatch.setattr(settings, "eager", True)
    local.trace.root.edges.clear()
    again, params2 = network()
    optimizer = optim.Adam(params2, lr=0.01)
    places2 = [p.data_ptr() for p in params2]
    found = [train(again, optimizer, x, y).item() for _ in range(3)]
    flush()
    local.trace.root.edges.clear()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert [p.data_ptr() for p in params2] == places2 and [p.data_ptr() for p in params] == places


def test_forgetting_old_paths_takes_one_look_at_each_node(monkeypatch):
    """Operators and calls keep short keys as well; a walk over the trie follows each node's way once, else 40 operators in a
    row would be 2 to the power of 40 ways."""
    from rushlight.record import flush as flush_module

    x = torch.ones(3)
    for _ in range(3):
        y = x
        for _ in range(40):
            y = torch.relu(y * 2.0 + y)
        assert y.shape == (3,)
        flush()
    monkeypatch.setattr(importlib.import_module(flush_module.__module__), "NODE_LIMIT", 1)
    monkeypatch.setattr(local.trace, "room", 0)  # what a long step of another test has made
    assert (x * 2).tolist() == [2, 2, 2]
    assert local.trace.nodes < 300


def test_clipping_records_the_same_operations_for_many_parameters_as_for_one():
    from rushlight.record.paths import path_to

    counts = []
    for n in (1, 30):
        parameters = [torch.nn.Parameter(torch.ones(k + 1)) for k in range(n)]
        for p in parameters:
            p.grad = torch.ones(p.shape[0])
        flush()
        total = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        counts.append([node.op.name for node in path_to(local.trace.node) if node.op is not None])
        assert total.item() == pytest.approx(np.sqrt(sum(p.numel() for p in parameters)))
        assert torch.cat([p.grad for p in parameters]).norm().item() == pytest.approx(1, abs=1e-5)
    assert counts[0] == counts[1]


def test_a_dead_view_lets_go_of_what_it_was_a_view_of():
    x = torch.ones(4)
    for _ in range(3):
        flush()
        y = (x * 2.0).sum()
        view = y.expand(3).unsqueeze(0)
        kept = view.exp()
        y = view = None
        node = local.trace.node
        assert kept.shape == (1, 3)
        flush()
        assert [key[0] for key in node.programs] == [(node.slot,)]


def test_values_that_nobody_needed_serve_again_and_others_do_not():
    flush()
    times, view, exp = quick(lambda x, y: x * y), quick(lambda x, *shape: x.view(*shape)), quick(lambda x: x.exp())
    plus, turned = quick(lambda x, y: x + y), quick(lambda x: x.t())

    def chain(start, other):
        return turned(plus(exp(view(view(times(start, other), -1), 2, 3)), 1))
    start, other = torch.ones(2, 3, requires_grad=True), torch.full((2, 3), 2.0)
    trace = local.trace
    trace.spare.clear()
    trace.spare_views.clear()
    for _ in range(2):  # recorded, and remembered
        chain(start, other)
        flush()
    chain(start, other)
    used = {id(v) for v in trace.values if v.buffer is None}
    flush()
    kept = chain(start, other)  # as before, of what was used before
    assert len(used) == 6 and {id(v) for v in trace.values if v.buffer is None} == used
    flush()
    mine = {id(kept._value), id(kept._value.origin)}
    assert mine <= used
    fresh = chain(torch.zeros(2, 3), other)
    assert not mine & {id(v) for v in trace.values}
    np.testing.assert_allclose(kept.detach().numpy(), np.full((3, 2), np.exp(np.float32(2)) + 1), rtol=1e-6)
    np.testing.assert_allclose(fresh.detach().numpy(), np.full((3, 2), 2.0))


def test_views_that_serve_again_know_their_own_tensors():
    flush()
    for k in range(4):
        whole = torch.zeros(2, 3) * 1
        part = whole.view(6).view(3, 2)
        part.add_(k)
        row = part[1]
        assert whole.tolist() == [[float(k)] * 3] * 2 and row.tolist() == [float(k)] * 2
        assert part._base is whole and row._base is whole and row.storage_offset() == 2 and part.stride() == (2, 1)
        part = row = whole = None
        (torch.zeros(3, 2) * 1).view(6).view(2, 3)  # dies unseen
        flush()


def test_a_storage_serves_again_when_no_tensor_is_left_in_it():
    flush()
    spare = local.trace.spare_wholes
    spare.clear()

    def views(k):
        whole = torch.full((2, 3), float(k)) * 1
        return whole, whole.view(6), whole.detach()
    whole, view, other = views(1)
    mine = whole._alias.storage
    del whole, view
    flush()
    assert not any(alias.storage is mine for alias in spare)  # ``other`` lies in it
    other.add_(1)
    views(2)
    flush()
    (old,) = [alias for alias in spare if alias.storage is not mine]
    assert old.storage.value is None
    whole, view, _ = views(3)
    assert whole._alias is old and not spare
    whole.add_(1)
    other.mul_(2)
    assert view.tolist() == [4.0] * 6 and view._base is whole and other.tolist() == [[4.0] * 3] * 2 and other._alias.storage.version == 2


def test_a_view_that_was_written_through_holds_the_new_content_only():
    flush()
    whole = torch.zeros(2, 3) * 1
    view = whole.view(3, 2).t()  # its alias goes over another view, whose tensor is dead
    old = whole._value
    whole.add_(1)
    assert (view + 1).tolist() == [[2.0] * 3] * 2 and view.storage_offset() == 0 and view.stride() == (1, 2)
    assert whole.data_ptr() == view.data_ptr()
    flush()
    assert sys.getrefcount(old) == 2  # the name here and the argument
    whole.add_(1)
    assert view.tolist() == [[2.0] * 3] * 2


def test_a_warning_names_the_users_line():
    """Wherever it comes from: a function that is remembered, which warns again, a layer, an optimizer's schedule."""
    x = torch.zeros(2, 3)
    model = torch.nn.Linear(2, 2)
    schedule = optim.lr_scheduler.StepLR(optim.SGD(model.parameters(), lr=0.1), 1)
    calls = [lambda: functional.softmax(x), lambda: torch.nn.Softmax()(x), lambda: functional.dropout2d(x),
             lambda: functional.upsample(torch.zeros(1, 1, 2, 2), scale_factor=2), lambda: functional.mse_loss(x, torch.zeros(3)),
             lambda: functional.softmax(x), lambda: schedule.step()]
    for call in calls:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
        assert [w.filename for w in found] == [__file__]


@pytest.mark.parametrize("call", [lambda x: torch.stack([x, x, x]), lambda x: torch.stack([x, x], -1), lambda x: x.max(1),
                                  lambda x: x.max(0, True), lambda x: x.min(dim=1)])
def test_stacking_and_extremes_along_a_dimension_are_one_operation(call):
    x = torch.ones(3, 4, requires_grad=True) * 2.0
    depth = local.trace.node.depth
    out = call(x)
    assert local.trace.node.depth == depth + 1
    del out


def test_the_budget_does_not_cut_a_backward(monkeypatch):
    """A backward is one stretch, so that it is replayed; forward and what comes after it are cut as ever."""
    monkeypatch.setattr(importlib.import_module("rushlight.record.settings").settings, "max_ops", 50)
    from rushlight.autograd import engine

    walks = []
    walk = engine._run
    monkeypatch.setattr(engine, "_run", lambda *args: walks.append(local.trace.flushes) or walk(*args))
    w = torch.tensor(np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3), requires_grad=True)

    def step(turns):
        h = torch.ones(3, 3)
        for _ in range(turns):
            h = (h @ w).tanh()
        loss = h.square().sum()
        begun = local.trace.flushes
        w.grad = None
        loss.backward()
        return local.trace.flushes - begun

    for turns in (18, 60):  # the backward alone goes beyond the budget; so does the forward
        flush()
        for _ in range(6):
            assert step(turns) == 0
            flush()
        before = len(walks)
        step(turns)
        got = w.grad.numpy().copy()
        assert len(walks) == before, "the backward is not replayed"
        monkeypatch.setattr(importlib.import_module("rushlight.record.settings").settings, "max_ops", 100_000)
        flush()
        step(turns)
        np.testing.assert_allclose(got, w.grad.numpy(), rtol=2e-5, atol=1e-7)
        monkeypatch.setattr(importlib.import_module("rushlight.record.settings").settings, "max_ops", 50)
