"""Programs that run while Python goes on: the same values, nothing looked at or overwritten too early, errors told, memory bounded.

``held`` keeps launched programs from beginning, so that what must wait for them would find the old bytes if it did not.
"""
from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import rushlight as torch
import rushlight.nn.functional as F
from rushlight import nn, optim
from rushlight.compile.cpu import alloc, executor, flight, jit, pool
from rushlight.compile.cpu.flight import DEPTH, failed, flights, in_flight, unheard
from rushlight.record import batch_boundary, counters, flush
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings
from rushlight.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.skipif(pool.processors() < 2, reason="nothing overlaps on one processor")

N = 4096


@pytest.fixture(autouse=True)
def launch_everything(monkeypatch):
    """However short a program is."""
    flush()
    monkeypatch.setattr(rules_module(), "SHORT", -1.0)
    monkeypatch.setattr(settings, "cold_limit", 0)
    monkeypatch.setattr(settings, "overlap", True)
    monkeypatch.setattr(flight, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(flight, "IDLE_SHARE", 0.0)
    yield
    flights.drain()
    unheard.clear()


def rules_module():
    return sys.modules["rushlight.record.launching"]


# A program that lasts until params[0] is not zero.
GATE_IR = """
define void @gate(ptr %table, ptr %params, i64 %begin, i64 %end) {
entry:
  br label %loop
loop:
  %open = load atomic i64, ptr %params seq_cst, align 8
  %closed = icmp eq i64 %open, 0
  br i1 %closed, label %loop, label %out
out:
  ret void
}
"""


@contextlib.contextmanager
def held(seconds: float | None = None):
    """Inside the block no launched program begins: until its end, or for some time (and something must have waited)."""
    flights.drain()
    team = pool.ready()
    team.staff()
    opened, table = np.zeros(1, np.int64), np.zeros(9, np.int64)
    table[0] = table[1:].ctypes.data
    code = executor.Instructions([(jit.kernel("test gate", lambda: GATE_IR, "gate"), opened.ctypes.data, 1, 0)])
    number = pool.native().launch(team.pointer, code.pointer, 1, table.ctypes.data)
    timer = threading.Timer(seconds or 0, opened.__setitem__, (0, 1))
    if seconds is not None:
        timer.start()
    try:
        yield opened
        assert seconds is None or opened[0], "nothing has waited"
    finally:
        timer.cancel()
        opened[0] = 1
        pool.native().wait(team.pointer, number)
        flights.drain()


def launched() -> int:
    return counters.programs_launched


def ready(*tensors):
    """The tensors, with their memory filled, and nothing recorded."""
    flush()
    return tensors if len(tensors) > 1 else tensors[0]


# -- what waits, and what does not --------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [lambda y: y[3].item(), lambda y: y.numpy()[3], lambda y: y.tolist()[3], lambda y: y.sum().item() / N,
                                  lambda y: y.detach()[2:5].numpy()[1], lambda y: float(str(y[3]).strip("tensor()")),
                                  lambda y: (y + 0)[3].item()])
def test_a_look_at_a_value_waits_for_its_program(look):
    x = ready(torch.full((N,), 2.0))
    with held(0.05):
        y = x * 3
        before = launched()
        batch_boundary()
        assert launched() == before + 1 and len(in_flight) == 1
        assert look(y) == 6
        assert not in_flight


def test_recording_goes_on_and_programs_run_in_order():
    x = ready(torch.zeros(N))
    with held():
        before = launched()
        for _ in range(DEPTH):  # each takes the result of the one before, which is still in flight
            x = x * 2 + 1
            batch_boundary()
        assert launched() == before + DEPTH
    assert x.tolist() == [2.0 ** DEPTH - 1] * N


def test_only_so_many_programs_are_in_flight_and_launching_more_waits_for_the_first():
    x = ready(torch.zeros(N))
    seen = []
    for _ in range(20):
        x = x + 1
        batch_boundary()
        seen.append(len(in_flight))
    assert max(seen) <= DEPTH
    assert x.tolist() == [20.0] * N


def test_a_value_that_is_not_in_flight_is_read_at_once():
    x, other = ready(torch.full((N,), 2.0), torch.arange(8.0))
    with held():
        y = x * 3
        batch_boundary()
        assert other.numpy().sum() == 28  # would not come back if it waited
        assert torch.tensor([1.0, 2.0]).numpy()[1] == 2
        rules_module().SHORT = 1e9
        assert (other + 1).sum().item() == 36  # a short program that has nothing to do with it
        assert len(in_flight) == 1
    assert y[0].item() == 6


def test_batches_are_prepared_while_a_program_is_in_flight():
    features, labels = ready(torch.arange(64.0).reshape(32, 2), torch.arange(32))
    loader = iter(DataLoader(TensorDataset(features, labels), batch_size=8))
    x, y = next(loader)
    w = ready(torch.ones(2, N))
    with held():
        out = x @ w
        before = launched()
        x2, y2 = next(loader)
        assert launched() == before + 1 and len(in_flight) == 1
        assert x2.numpy()[0, 0] == 16 and y2.tolist() == list(range(8, 16))
        assert len(in_flight) == 1
    assert out[7, 0].item() == 29


def test_a_loop_that_reads_its_loss_at_times_launches_the_other_steps():
    model = nn.Linear(8, 4)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = ready(torch.randn(16, 8), torch.randint(0, 4, (16,)))

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss
    for _ in range(4):
        step().item()
    before = launched(), counters.programs_run, counters.programs_built
    for k in range(20):
        loss = step()
        if k % 5 == 4:
            loss.item()
    assert (launched() - before[0], counters.programs_run - before[1], counters.programs_built - before[2]) == (20, 20, 0)


def test_short_programs_are_run_at_once(monkeypatch):
    monkeypatch.setattr(rules_module(), "SHORT", 50_000.0)
    x = ready(torch.ones(100))
    before = launched()
    y = x + 1
    batch_boundary()
    assert launched() == before and y.tolist() == [2.0] * 100


def test_what_is_always_read_at_once_is_launched_less_and_less(monkeypatch):
    x = ready(torch.full((N,), 2.0))

    def step(reads: bool) -> int:
        before = launched()
        with held() as opened:
            y = x * 7
            batch_boundary()
            if launched() > before and reads:
                threading.Timer(0.02, opened.__setitem__, (0, 1)).start()
                monkeypatch.setattr(flight, "IDLE_SECONDS", 60.0)
                assert y[0].item() == 14
                monkeypatch.setattr(flight, "IDLE_SECONDS", 0.0)
        return launched() - before
    assert [step(True) for _ in range(8)] == [1, 0, 1, 0, 0, 0, 1, 0]
    assert [step(False) for _ in range(12)] == [0] * 6 + [1] * 6


def test_a_loop_that_does_nothing_but_wait_launches_less_and_less(monkeypatch):
    monkeypatch.setattr(flight, "IDLE_SHARE", 1e9)
    x = ready(torch.full((512 * N,), 2.0))  # Python is ready long before a run ends
    seen = []
    for _ in range(40):
        before = launched()
        x = x * 1
        batch_boundary()
        seen.append(launched() - before)
        if len(seen) % 10 == 0:
            flights.drain()
    assert seen[:3] == [1, 1, 1] and sum(seen[20:]) <= 10
    assert x[0].item() == 2


def test_the_switch(monkeypatch):
    monkeypatch.setattr(settings, "overlap", False)
    x = ready(torch.ones(N))
    before = launched()
    y = x + 1
    batch_boundary()
    assert launched() == before and y.tolist() == [2.0] * N


# -- memory ---------------------------------------------------------------------------------------------------------------


def test_numpy_cannot_overwrite_what_a_program_in_flight_reads():
    t = torch.from_numpy(np.full(N, 2.0, np.float32))  # nobody else has the array: not exported
    with held(0.05):
        y = t * 3
        batch_boundary()
        assert len(in_flight) == 1
        t.numpy()[:] = 100
    assert y.tolist() == [6.0] * N


def test_memory_that_numpy_shares_is_read_before_the_flush_returns():
    array = np.full(N, 2.0, np.float32)
    t = torch.from_numpy(array)
    with held():
        y = t * 3
        batch_boundary()
        array[:] = 100
    assert y.tolist() == [6.0] * N


def test_a_program_in_flight_keeps_the_memory_of_an_array_that_is_dropped():
    t = torch.from_numpy(np.full(1 << 20, 2.0, np.float32))
    with held():
        y = t * 3
        batch_boundary()
        del t
        gc.collect()
        rubbish = [np.full(1 << 20, 7.0, np.float32) for _ in range(4)]
    assert y.tolist() == [6.0] * (1 << 20) and len(rubbish) == 4


@pytest.mark.parametrize("n", [500, N, 1 << 20])
def test_the_host_gets_no_memory_that_a_program_in_flight_uses(n):
    x = ready(torch.full((n,), 2.0))
    with held():
        y = x * 3
        batch_boundary()
        del x
        others = [torch.empty(n) for _ in range(8)]
        for t in others:
            t.numpy()[:] = 100
    assert y.tolist() == [6.0] * n


def test_programs_that_come_later_take_over_memory_in_flight():
    """So that it takes no more memory to launch programs than to wait for them."""
    n = 1 << 20

    def loop(steps: int) -> None:
        x = ready(torch.ones(n))
        for _ in range(steps):
            x = x + 1
            batch_boundary()
        assert x[0].item() == steps + 1
    loop(4)
    before = alloc.stats().system_allocations
    with held():
        x = ready(torch.ones(n))
        y = x + 1
        batch_boundary()
        at = x.data_ptr() if not in_flight else x._value.buffer.ptr
        del x
        z = y + 1
        batch_boundary()
        assert z._value.buffer.ptr == at
    loop(50)
    assert alloc.stats().system_allocations - before <= 1


@pytest.mark.parametrize("write", [
    lambda x: x.fill_(100.0), lambda x: x.copy_(torch.full((N,), 100.0)),
    lambda x: x.copy_(torch.from_numpy(np.full(N, 100.0, np.float32))),
    lambda x: x[:10].fill_(100.0), lambda x: x.__setitem__(slice(2, 5), 100.0), lambda x: x.add_(1), lambda x: x.mul_(0).zero_(),
])
def test_writes_in_place_come_after_programs_in_flight_that_read(write):
    x = ready(torch.full((N,), 2.0))
    at = x.data_ptr()
    with held(0.05):
        y = x * 3
        batch_boundary()
        write(x)
        batch_boundary()
        assert y.tolist() == [6.0] * N
        assert x.data_ptr() == at
    assert x[3].item() in (100.0, 3.0, 0.0)


def test_a_window_of_memory_in_flight():
    data = ready(torch.arange(float(N)))
    with held(0.05):
        y = data[10:20] * 2
        batch_boundary()
        assert in_flight
        data.numpy()[:] = -1
    assert y.tolist() == [2.0 * k for k in range(10, 20)]
    for limit in (0, 2_000_000):  # compiled, interpreted
        with held(0.05):
            z = data + 5
            batch_boundary()
            assert in_flight
            settings.cold_limit = limit
            w = z[100:103] * (2 + limit)
            assert w.tolist() == [4.0 * (2 + limit)] * 3
            settings.cold_limit = 0


def test_a_leaf_that_moves():
    """What is still needed of a parameter that a program in flight overwrites."""
    w = torch.full((N,), 2.0, requires_grad=True)
    loss = (w * w * w).sum()
    flush()
    with torch.no_grad():
        kept = w.detach().clone()
        w2 = w.data
        old = w2 * 1
        w2.add_(1)
    batch_boundary()
    assert old[0].item() == 2 and kept[0].item() == 2 and w2[0].item() == 3 and loss.item() == 8 * N


# -- errors ---------------------------------------------------------------------------------------------------------------


def bad_step(table, index):
    return F.embedding(index, table).sum()


def test_an_error_is_raised_at_the_next_flush_and_names_the_line():
    table, good, bad = ready(torch.randn(10, N), torch.tensor([1, 2]), torch.tensor([1, 99]))
    lost = bad_step(table, bad)
    batch_boundary()
    after = table * 2
    with pytest.raises(IndexError, match=r"99.*(test_overlap|embedding)"):
        flush()
    np.testing.assert_array_equal(after.numpy(), table.numpy() * 2)  # that program was run
    for _ in range(2):
        with pytest.raises(IndexError, match="99"):
            lost.item()
    with pytest.raises(IndexError, match="99"):
        (lost + 1).item()
    assert np.isfinite(bad_step(table, good).item())


def test_programs_behind_a_failed_one_run_unless_they_need_its_values():
    table, bad = ready(torch.randn(10, N), torch.tensor([1, 99]))
    x = ready(torch.ones(N))
    with held():
        lost = bad_step(table, bad)
        batch_boundary()
        kept, gone = x + 1, lost + 1
        batch_boundary()
        assert len(in_flight) == 2
    with pytest.raises(IndexError, match="99"):
        flush()
        flights.complain()
    with pytest.raises(IndexError, match="99"):
        gone.item()
    with held():
        lost = bad_step(table, bad)
        batch_boundary()
        kept = x + 1
        batch_boundary()
        assert len(in_flight) == 2
    with pytest.raises(IndexError, match="99"):
        flights.complain()
    assert kept.tolist() == [2.0] * N


def training(labels, catch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(len(labels), 16, 8)
    for k, y in enumerate(labels):
        try:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[k]), y)
            loss.backward()
            optimizer.step()
        except IndexError:
            catch.append(k)
    with contextlib.suppress(IndexError):
        flush()
    return [p.detach().numpy().copy() for p in model.parameters()]


@pytest.mark.parametrize("wrong", [(3,), (3, 4), (5,), (7,)])
def test_a_step_with_a_wrong_label_leaves_no_trace_in_the_parameters(wrong, monkeypatch):
    labels = [torch.randint(0, 4, (16,)) for _ in range(8)]
    for k in wrong:
        labels[k] = torch.tensor([0, 77] + [1] * 14)
    flush()
    caught, before = [], launched() + 5
    found = training(labels, caught)
    assert len(caught) <= len(wrong) and launched() > before
    monkeypatch.setattr(settings, "overlap", False)
    seen = []
    expected = training(labels, seen)
    assert seen == list(wrong)
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)


HEAD = """import sys
import numpy as np
import rushlight as torch
from rushlight.record import batch_boundary, counters, flush
sys.modules["rushlight.record.launching"].SHORT = -1.0
"""


def script(text: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", HEAD + textwrap.dedent(text)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "RUSHLIGHT_COLD_LIMIT": "0", **variables})


def test_an_error_that_nobody_heard_of_is_printed_at_the_end():
    done = script("""
        x = torch.randn(10, 10000); i = torch.tensor([3, 50]); flush()
        y = torch.nn.functional.embedding(i, x).sum()
        batch_boundary()
    """)
    assert done.returncode == 0 and "OutOfBounds: index 50" in done.stderr


def test_the_environment_variable():
    text = "x = torch.ones(5000); flush(); y = x + 1; batch_boundary(); print(counters.programs_launched, y[4].item())"
    assert script(text).stdout == "1 2.0\n"
    assert script(text, RUSHLIGHT_OVERLAP="0").stdout == "0 2.0\n"
    assert script(text, RUSHLIGHT_NUM_THREADS="1").stdout == "1 2.0\n"


# -- processes, threads ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_waits():
    done = script("""
        import os
        x = torch.ones(1000, 1000); flush()
        for _ in range(3):
            x = x @ x * 1e-3
            batch_boundary()
        child = os.fork()
        if child == 0:
            good = x[0, 0].item() == 1.0
            y = x + 1
            batch_boundary()
            os._exit(0 if good and y[5, 5].item() == 2.0 else 1)
        y = x + 1
        batch_boundary()
        assert os.waitpid(child, 0)[1] == 0 and y[5, 5].item() == 2.0
        print("well")
    """)
    assert done.stdout == "well\n", done.stderr


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_and_changing_it_in_flight(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        a = ready(torch.full((300, 300), 1 / 300))
        for k in range(6):
            a = a @ a
            batch_boundary()
            if k % 2:
                torch.set_num_threads(threads + k % 3)
        np.testing.assert_allclose(a.numpy(), 1 / 300, rtol=1e-4)
    finally:
        torch.set_num_threads(before)


def test_python_threads_train_at_the_same_time():
    def train(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        w = torch.tensor(rng.normal(size=(16, 4)).astype(np.float32), requires_grad=True)
        optimizer = optim.SGD([w], lr=0.01, momentum=0.9)
        x = torch.tensor(rng.normal(size=(32, 16)).astype(np.float32))
        for k in range(60):
            optimizer.zero_grad()
            loss = ((x @ w) ** 2).mean()
            loss.backward()
            optimizer.step()
            if k % 17 == 0:
                loss.item()
        return w.detach().numpy().copy()
    expected = [train(seed) for seed in range(4)]
    found: dict[int, np.ndarray] = {}

    def run(seed: int) -> None:
        found[seed] = train(seed)
    workers = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    for seed in range(4):
        np.testing.assert_array_equal(found[seed], expected[seed])


def test_another_thread_reads_a_value_in_flight():
    x = ready(torch.full((N,), 2.0))
    found = []
    with held():
        y = x * 3
        batch_boundary()
        reader = threading.Thread(target=lambda: found.append(y[7].item()))
        reader.start()
        time.sleep(0.02)
        assert not found
    reader.join()
    assert found == [6.0]


def test_small_results_take_no_memory_of_a_program_that_another_thread_launched_meanwhile(monkeypatch):
    start_afresh()
    failed.clear()  # after a launch that failed no run takes the short way, for the rest of the process
    rows, *xs = ready(torch.full((N, 2), 2.0), *[torch.tensor([k, 2.0 * k]) for k in range(8)])
    given, got = [], []

    def double():
        got.append(rows * given.pop())
        batch_boundary()

    class Between:
        """Nothing is in flight when a run asks; something is right after."""

        def __bool__(self):
            if given:
                other = threading.Thread(target=double)
                other.start()
                other.join()
                assert len(in_flight) == 1
            return False

    def run(k):
        y = xs[k] * 2 + 1
        assert y.tolist() == [2.0 * k + 1, 4.0 * k + 1]
        return y

    for k in range(6):
        run(k)
    given.append(run(6))  # in memory that serves the next run when nobody has it any more
    monkeypatch.setattr(sys.modules["rushlight.record.again"], "in_flight", Between())
    with held():
        run(7)
    assert not given and got[0][N - 1].tolist() == [26.0, 50.0]


# -- the same bits --------------------------------------------------------------------------------------------------------


def families():
    path = Path(__file__).parents[1] / "determinism_models.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAMILIES = families()


@pytest.mark.parametrize("name", FAMILIES.MODELS)
def test_the_same_bits_with_and_without(name, monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", 2_000_000)
    found = []
    before = torch.get_num_threads()
    try:
        for on, threads in ((False, 2), (True, 2), (True, 1), (True, 3)):
            start_afresh()
            monkeypatch.setattr(settings, "overlap", on)
            start = launched()
            found.append(FAMILIES.run(name, threads))
            assert (launched() > start) == on
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1
