"""The benchmark program: its tables, its worker processes, and that a side that fails is told and the others go on."""
from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

import rushlight
from benchmarks import tables
from benchmarks.__main__ import compare
from benchmarks.machine import described
from benchmarks.sides import Failed, Side, interpreter
from benchmarks.tables import Comparison
from benchmarks.worker import compile_modules
from benchmarks.workloads import INFERENCE, TOKENS, WORKLOADS
from rushlight import nn

TIMES = {"rushlight": [0.001, 0.002, 0.004], "torch": [0.002, 0.006, 0.008], "torch.compile": [0.003, 0.004, 0.004],
         "jax": [0.004, 0.009, 0.016]}
FOUND = Comparison("MLP", "three layers", TIMES, {"cold": 1.25, "warm": 0.5, "torch.compile": 20, "jax": 3},
                   {"rushlight": 100_000_000, "torch": 300_000_000})


def test_ratios_are_round_by_round_and_their_median_is_shown():
    assert FOUND.ratios() == [2, 3, 2] and FOUND.ratio() == 2 and FOUND.ratios("jax") == [4, 4.5, 4]
    assert tables.cells(FOUND, markdown=False) == ["MLP", "2.00×", "2.00 to 3.00", "2.00", "6.00", "1.25", "0.50", "100", "300"]
    assert tables.cells(FOUND, True, ["torch.compile", "jax"]) == [
        "MLP: three layers", "2.00×", "2.00 to 3.00", "2.00", "6.00", "2.00×", "4.00", "20.00", "4.00×", "9.00", "3.00", "1.25", "0.50",
        "100", "300"]
    assert tables.cells(FOUND, False, tokens=100)[3:5] == ["50000 tokens/s", "16667 tokens/s"]


@pytest.mark.parametrize("others", [[], ["jax"], ["torch.compile", "jax"]])
@pytest.mark.parametrize("make", [tables.training_table, tables.inference_table])
def test_tables_have_a_column_for_every_cell(make, others):
    table = make(True, others)
    head, rule = table.head().splitlines()
    row = table.row(tables.cells(FOUND, True, others))
    assert head.count("|") == rule.count("|") == row.count("|") == len(table.columns) + 1
    text = make(False, others)
    assert len(text.head()) == len(text.row(tables.cells(FOUND, False, others)))


def test_a_side_without_figures_leaves_a_dash():
    without = Comparison("MLP", "", failures={"torch": "not here"})
    assert set(tables.cells(without, False, ["jax"])[1:]) == {"–"}
    assert tables.geometric_mean([without]) == "PyTorch: no row was measured"
    twice = [Comparison(name, "", {"rushlight": [1.0], "jax": [ratio]}) for name, ratio in (("GPT", 4.0), ("MLP", 1.0))]
    assert tables.geometric_mean([*twice, without], "jax") == "JAX: geometric mean of 2 of 3 rows 2.00×, lowest 1.00× (MLP)"


def test_a_worker_takes_turns_and_tells_why_it_cannot(tmp_path):
    with Side("rushlight", "logistic regression", 1, RUSHLIGHT_CACHE_DIR=str(tmp_path)) as side:
        assert side.first["first"] > 0 and side.first["version"]
        turn = side.run(0)
        assert len(turn["times"]) == 3 and turn["peak"] > 10_000_000
    with pytest.raises(Failed, match="KeyError: 'no such workload'"):
        Side("rushlight", "no such workload", 1)
    with pytest.raises(Failed, match="not ready after 0 s"):
        Side("rushlight", "logistic regression", 1, patience=0)


def test_a_comparison_goes_on_without_the_sides_that_fail(monkeypatch):
    real = Side.__init__

    def others_missing(self, side, *args, **environment):
        if side != "rushlight":
            raise Failed(f"ModuleNotFoundError: No module named '{side}'")
        real(self, side, *args, **environment)
    monkeypatch.setattr(Side, "__init__", others_missing)
    found = compare("logistic regression", rounds=2, seconds=0, threads=1, others=["jax"])
    assert found.failures == {side: f"ModuleNotFoundError: No module named '{side}'" for side in ("torch", "jax")}
    assert list(found.times) == ["rushlight"] and len(found.times["rushlight"]) == 2 and set(found.firsts) == {"cold", "warm"}
    assert set(found.peaks) == {"rushlight"} and found.about == "30 features, batch 64, SGD"


def test_the_machine_is_described_in_a_process_of_its_own():
    first, *rest = described(1).splitlines()
    assert "processors, vectors of" in first and "load average" in first
    assert [line.split(":")[0] for line in rest] == ["1 thread"]


def test_jax_may_have_an_interpreter_of_its_own(monkeypatch):
    monkeypatch.delenv("JAX_PYTHON", raising=False)
    assert interpreter("jax") == interpreter("torch") == sys.executable
    monkeypatch.setenv("JAX_PYTHON", "/elsewhere/python")
    assert interpreter("jax") == "/elsewhere/python" and interpreter("torch") == sys.executable
    with pytest.raises(Failed, match="there is no interpreter /elsewhere/python"):
        Side("jax", "logistic regression", 1)


def test_every_workload_says_what_it_is():
    assert all(w.__doc__ for w in (WORKLOADS | INFERENCE).values()) and set(TOKENS) <= set(INFERENCE)


def test_torch_compile_takes_the_place_of_the_modules_of_a_step():
    step = WORKLOADS["logistic regression"](rushlight)
    compile_modules(SimpleNamespace(nn=nn, compile=lambda module: ("compiled", module)), step)
    held = [cell.cell_contents for cell in step.__closure__]
    assert [type(x[1]) for x in held if isinstance(x, tuple)] == [nn.BCELoss, nn.Sequential]  # in the order of their names
