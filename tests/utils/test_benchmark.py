"""``torch.utils.benchmark``: that every run is computed, and PyTorch's printed forms."""
from __future__ import annotations

import pytest

import rushlight as torch
from rushlight import nn
from rushlight.tools.profiler import counters
from rushlight.utils.benchmark import Compare, Measurement, TaskSpec, Timer, select_unit, trim_sigfig


def test_every_run_is_computed_whether_it_is_read_or_not():
    layer, x = nn.Linear(8, 4), torch.ones(3, 8)
    for stmt in ("layer(x)", "y = layer(x)", "for _ in range(3):\n    layer(x)"):
        timer = Timer(stmt, globals={"layer": layer, "x": x})
        timer.timeit(3)
        before = counters()
        m = timer.timeit(5)
        done = counters() - before
        assert done.programs_run == 4 + 5 and done.programs_built == done.cold_runs == 0  # the warm-up, and what is measured
        assert m.number_per_run == 5 and len(m.raw_times) == 1 and m.median == m.mean == m.raw_times[0] / 5


def test_measurements_go_on_until_enough_time_is_measured():
    now, seen = [0.0], []

    def work():
        now[0] += 0.25

    def clock():
        return now[0]
    timer = Timer("work()", globals={"work": work}, timer=clock)  # a quarter of a second each time
    m = timer.blocked_autorange(lambda number, seconds: seen.append((number, seconds)), min_run_time=0.75)
    assert m.number_per_run == 1 and m.raw_times == [0.25] * 3 and seen == [(1, 0.25)] * 3
    m = timer.adaptive_autorange(min_run_time=0.25, max_run_time=9)
    assert m.raw_times == [0.25] * 4  # four are needed for an interquartile range, which is 0
    assert Timer("torch.ones(2).sum()", num_threads=1).blocked_autorange(min_run_time=0.01).number_per_run >= 1


def test_threads_are_set_while_it_is_measured():
    before, seen = torch.get_num_threads(), set()
    Timer("look()", globals={"look": lambda: seen.add(torch.get_num_threads())}, num_threads=3).timeit(2)
    assert seen == {3} and torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError):
        Timer("1 / 0", num_threads=2).timeit(1)
    assert torch.get_num_threads() == before


def test_what_cannot_be_measured():
    with pytest.raises(ValueError, match="measures Python"):
        Timer("x++;", language="c++")
    with pytest.raises(ValueError, match="only a `str` stmt"):
        Timer(len)
    with pytest.raises(NotImplementedError, match="blocked_autorange"):
        Timer().autorange()


TASKS = [{"stmt": "f(x)", "setup": "pass"}, {"stmt": "f(x)", "setup": "pass", "label": "mm", "sub_label": "64", "description": "ours"},
         {"stmt": "a = 1\nf(a)", "setup": "x = 1\ny = 2", "num_threads": 4}, {"stmt": "f(x)", "setup": "x = 1"}]
TIMES = [[0.0025], [0.05, 0.055, 0.06, 0.0525], [0.05, 0.15, 0.45, 0.0525, 0.075], [0.05 + 1e-5 * k for k in range(9)]]
FORM = """f(x)
  Median: 1.50 ms
  IQR:    1.95 ms (1.05 to 3.00)
  5 measurements, 50 runs per measurement, 1 thread
  WARNING: Interquartile range is 130.0% of the median measurement.
           This suggests significant environmental influence."""


def test_the_printed_form():
    text = repr(Measurement(50, TIMES[2], TaskSpec("f(x)", "pass")))
    assert text.splitlines()[0].endswith(">") and text.split("\n", 1)[1] == FORM


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_measurements_are_printed_as_pytorch_prints_them(task, times):
    theirs = pytest.importorskip("torch.utils.benchmark")
    a, b = Measurement(50, times, TaskSpec(**task)), theirs.Measurement(50, times, theirs.TaskSpec(**task))
    assert repr(a).split("\n", 1)[1] == repr(b).split("\n", 1)[1]
    assert a.significant_figures == b.significant_figures and a.has_warnings == b.has_warnings and a.as_row_name == b.as_row_name
    assert (a.median, a.mean, a.iqr) == pytest.approx((b.median, b.mean, b.iqr))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_comparisons_are_printed_as_pytorch_prints_them():
    theirs = pytest.importorskip("torch.utils.benchmark")
    times = {("64", "a"): 1e-5, ("64", "b"): 2.3e-5, ("1024", "a"): 1.234e-3, ("1024", "b"): 9e-4}
    rows = [(*key, t, n) for n in (1, 2) for key, t in times.items()]

    def table(kind, measurement, spec):
        tasks = [spec(stmt="f", setup="pass", label="mm", sub_label=s, description=d, num_threads=n) for s, d, _, n in rows]
        return kind([measurement(10, [t * 10 * (1 + 0.01 * k) for k in range(5)], task) for task, (_, _, t, _) in zip(tasks, rows)])
    a, b = table(Compare, Measurement, TaskSpec), table(theirs.Compare, theirs.Measurement, theirs.TaskSpec)
    assert str(a) == str(b)
    a.trim_significant_figures(), b.trim_significant_figures()
    assert str(a) == str(b)


def test_comparisons_mark_what_is_best_and_what_was_disturbed():
    spec = {who: TaskSpec("f", "pass", label="mm", sub_label="64", description=who) for who in "ab"}
    table = Compare([Measurement(1, [1e-3, 1e-3, 2e-3, 2e-3], spec["a"])])
    table.extend_results([Measurement(1, [9e-3], spec["b"])])
    table.highlight_warnings()
    assert "1.5 (! 67%)" in str(table)
    table.colorize(rowwise=True)
    best, worst = str(table).splitlines()[3].split("|")[1:]
    assert "\033[92m" in best and "\033[31m" in worst
    with pytest.raises(ValueError, match="Expected an instance of `Measurement`"):
        table.extend_results(["1 ms"])


def test_units_and_digits():
    assert [select_unit(t)[0] for t in (1e-10, 3e-9, 2e-6, 5e-3, 7)] == ["ns", "ns", "us", "ms", "s"]
    assert [trim_sigfig(x, 2) for x in (0, 1234.5, -0.01234)] == [0, 1200, -0.012]
    one, two = (Measurement(10, [t], TaskSpec("f", "pass")) for t in (1.0, 2.0))
    merged, = Measurement.merge([one, two])
    assert merged.raw_times == [1.0, 2.0]
