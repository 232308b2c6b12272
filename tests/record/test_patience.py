"""Long paths that differ in length: the more of them there are, the more often one has to come before it is compiled."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.compile.flags import flags
from rushlight.record import cold, counters, families, paths, stepwise, unsettled
from rushlight.record.flush import start_afresh
from rushlight.record.patience import LONG, Patience
from rushlight.record.settings import settings
from rushlight.record.trace import local
from rushlight.record.unsettled import Unsettled


@pytest.fixture(autouse=True)
def no_paths_known():
    start_afresh()
    local.trace.patience, local.trace.unsettled = Patience(), Unsettled()


def episode(weight, length):
    """A path of some seven operations for each step."""
    losses = [(weight * torch.tensor([0.1 * k])).tanh().sum() * 0.5 for k in range(length)]
    loss = torch.stack(losses).sum()
    weight.grad = None
    loss.backward()
    return loss.item(), weight.grad.numpy()[0]


def expected(length):
    x = 0.1 * np.arange(length)
    t = np.tanh(0.3 * x)
    return 0.5 * t.sum(), 0.5 * (x * (1 - t * t)).sum()


def test_a_long_path_that_comes_back_is_compiled_the_second_time():
    weight = torch.tensor([0.3], requires_grad=True)
    built = []
    for _ in range(4):
        before = counters.programs_built
        assert episode(weight, LONG // 4) == pytest.approx(expected(LONG // 4), rel=1e-5)
        built.append(counters.programs_built - before)
    assert built[0] == 0 and built[1] > 0 and built[2:] == [0, 0]


def test_lengths_that_keep_changing_build_no_program_for_each(monkeypatch):
    monkeypatch.setattr(unsettled, "_STRANGERS", 1000)  # what they have in common is left together: see test_call_by_call.py
    weight = torch.tensor([0.3], requires_grad=True)
    lengths = [LONG // 4 + k for k in range(24)]
    before = counters.programs_built
    for _ in range(2):
        for n in lengths:
            assert episode(weight, n) == pytest.approx(expected(n), rel=1e-5)
    assert counters.programs_built == before
    for _ in range(3):  # those that come for the fifth time are worth it
        for n in lengths:
            episode(weight, n)
    assert counters.programs_built >= before + len(lengths)
    before = counters.programs_built
    for n in lengths:
        assert episode(weight, n) == pytest.approx(expected(n), rel=1e-5)
    assert counters.programs_built == before


def test_what_no_longer_comes_is_forgotten():
    patience = Patience()
    for k in range(200):
        assert patience.runs_cold(k, 0)
    assert patience.runs_cold("loop", 8)  # 64 others lately: eight runs are too few
    for seen in range(9, 80):
        if not patience.runs_cold("loop", seen):
            break
    assert seen < 16
    assert patience.runs_cold("other", 0) and not patience.runs_cold("other", 9)


def test_a_path_that_comes_once_leaves_no_structure_behind():
    weight = torch.tensor([0.3], requires_grad=True)
    families.clear()
    for n in range(LONG // 4, LONG // 4 + 5):
        episode(weight, n)
    assert families._known and all(known.structure is None for known in families._known.values() if len(known.seen) < 2)


def test_a_loop_that_writes_a_vector_piece_by_piece_is_not_compiled_for_one_run():
    """Its path costs more than small ones may, and still less in the interpreter than planning thousands of operations does."""
    n, size = 5 * LONG, 4000
    a, b, c = torch.arange(size) * 1.0, torch.ones(size), torch.zeros(size)
    before = counters.programs_built
    for i in range(n):
        c[i:i + 1] = a[i:i + 1] + b[i:i + 1]  # a number alone is stored at once
    assert n * size > 2 * settings.cold_limit
    np.testing.assert_array_equal(c.numpy(), np.where(np.arange(size) < n, np.arange(size) + 1, 0))
    assert counters.programs_built == before


def test_a_path_that_waits_is_lowered_once(monkeypatch):
    monkeypatch.setattr(unsettled, "_STRANGERS", 1000)
    lowered, lower = [], stepwise.lower_path
    monkeypatch.setattr(stepwise, "lower_path", lambda *args: (lowered.append(1), lower(*args))[1])
    monkeypatch.setattr(paths, "lower_path", None)  # nor does the compiler
    weight = torch.tensor([0.3], requires_grad=True)
    lengths = [LONG // 4 + k for k in range(10)]
    for _ in range(4):
        for n in lengths:
            assert episode(weight, n) == pytest.approx(expected(n), rel=1e-5)
    kept = len(lowered)
    assert len(lengths) <= kept <= 2 * len(lengths)  # some paths a part of each
    assert counters.programs_built > 0 and all(w.program is not None for w in cold.Waiting._kept)


def test_a_path_that_waits_is_not_lowered_where_a_family_has_its_program(monkeypatch):
    lowered, lower = [], stepwise.lower_path
    monkeypatch.setattr(stepwise, "lower_path", lambda *args: (lowered.append(1), lower(*args))[1])

    def deep(n):
        x = torch.ones(n)
        for _ in range(LONG):
            x = (x * 0.5).tanh() + 0.1
        return x.numpy()

    with flags.using(plans=0):  # what an earlier process has planned needs no family
        first = {n: deep(n) for n in (3, 4)}  # these two wait
        cold = counters.cold_runs
        deep(5)
        for n in (3, 4):
            np.testing.assert_allclose(deep(n), first[n], rtol=1e-5)
    assert counters.cold_runs == cold and not lowered


def test_what_is_kept_for_paths_that_wait_is_bounded(monkeypatch):
    monkeypatch.setattr(unsettled, "_STRANGERS", 1000)
    monkeypatch.setattr(cold, "_MOST", 3000)
    weight = torch.tensor([0.3], requires_grad=True)
    for n in range(LONG // 4, LONG // 4 + 12):
        episode(weight, n)
    assert cold.Waiting._nodes <= 3000
    assert cold.Waiting._nodes == sum(w.nodes for w in cold.Waiting._kept)
    assert episode(weight, LONG // 4) == pytest.approx(expected(LONG // 4), rel=1e-5)


def test_a_call_that_runs_by_itself_waits_for_two_runs_however_many_others_there_are():
    """Interpreting it nine times takes four times as long as compiling it."""
    patience = Patience()
    for k in range(64):
        assert patience.runs_cold(k, 0, long=False)
    assert patience.runs_cold("call", 1, long=False)
    assert not patience.runs_cold("call", 2, long=False)
    assert patience.runs_cold("loop", 2)
