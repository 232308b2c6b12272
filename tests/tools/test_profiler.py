"""The profiler: what it counts, what it measures, and that a repeated training step does nothing but run."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn, optim
from rushlight.compile.counters import watchers
from rushlight.compile.cpu import alloc
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings
from rushlight.tools.profiler import counters, profile, report

EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist.py"
NOTHING_NEW = ("programs_built", "instructions", "kernels_compiled", "kernels_loaded", "cold_runs", "system_allocations")


def mnist_step():
    """One training step of the example's network on random digits."""
    spec = importlib.util.spec_from_file_location("mnist_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch.manual_seed(0)
    model, criterion = example.Net(), nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    rng = np.random.default_rng(0)

    def step():
        data = torch.tensor(rng.normal(size=(8, 1, 28, 28)).astype(np.float32))
        target = torch.tensor(rng.integers(0, 10, 8))
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


def test_a_repeated_step_builds_no_program_and_compiles_no_kernel():
    step = mnist_step()
    for _ in range(5):
        step()
    before = counters()
    for _ in range(5):
        assert np.isfinite(step())
    done = counters() - before
    assert {n: getattr(done, n) for n in NOTHING_NEW} == dict.fromkeys(NOTHING_NEW, 0)
    assert done.build_seconds == 0
    assert done.programs_run == done.flushes > 0


def test_a_profiled_step_is_the_same_step(capsys):
    start_afresh()  # a path keeps the lines of the program that recorded it first: here that is to be this one

    def losses():
        step = mnist_step()
        return [step() for _ in range(4)]
    losses()  # what is cold at first is compiled from now on
    expected = losses()
    with profile() as p:
        assert losses() == expected
    assert not watchers

    assert p.rows == sorted(p.rows, key=lambda r: -r.seconds) and len(p.rows) > 5
    forward = [r for r in p.rows if r.kernel.startswith("contract") and r.line.startswith("mnist.py:") and r.flops]
    assert len(forward) == 4 and all(r.calls == 4 and r.nbytes > 0 for r in forward)
    # 8 images, 24x24 places, 3x3 taps from 32 to 64 channels, a multiplication and an addition each
    assert max(r.flops for r in forward) == 4 * 8 * 24 * 24 * 9 * 32 * 64 * 2
    assert {r.operations for r in forward} >= {"convolution+relu"}
    assert 0 < sum(r.seconds for r in p.rows) < p.seconds
    assert p.counts.programs_run == p.counts.flushes

    p.report(limit=3)
    printed = capsys.readouterr().out
    head, *rows, total, machine, counts = printed.splitlines()
    assert head.split() == ["kernel", "operations", "line", "calls", "ms", "share", "MB", "GB/s", "MFLOP", "GFLOP/s", "of", "peak"]
    assert len(rows) == 4 and rows[-1].startswith(f"{len(p.rows) - 3} others")
    assert len({len(line) for line in (head, *rows)}) == 1 and any(r.rstrip().endswith(("% of FMA", "% of copy")) for r in rows)
    assert total.endswith("ms in all") and "GFLOP/s and copy" in machine and counts.startswith("flushes ")
    report(limit=3)  # of the last profile
    assert capsys.readouterr().out == printed


def test_work_of_before_and_after_is_not_measured():
    x = torch.ones(5)
    y = x + 1
    with profile() as p:
        pass
    assert p.rows == []
    with profile() as p:
        z = y * 2  # noqa: F841 - pending until the block ends
    assert [r.calls for r in p.rows] == [1] and p.rows[0].line == f"{Path(__file__).name}:{line_of('z = y * 2')}"
    assert p.rows[0].kernel == "cold program"


def test_an_error_in_the_block_ends_the_measuring():
    with pytest.raises(ValueError, match="mine"), profile() as p:
        torch.ones(3).sum().item()
        raise ValueError("mine")
    assert not watchers and len(p.rows) == 1


def test_nested_blocks_both_measure():
    with profile() as outer:
        torch.ones(3).sum().item()
        with profile() as inner:
            torch.ones(3).prod().item()
    assert sum(r.calls for r in inner.rows) == 1 and sum(r.calls for r in outer.rows) == 2


def line_of(text: str) -> int:
    return next(k for k, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


def test_pointwise_and_reduction_kernels_count_their_operations(monkeypatch):
    monkeypatch.setattr(settings, "cold_limit", 0)
    start_afresh()
    x, y = torch.ones(100, 64), torch.ones(100, 64)
    with profile() as p:
        z = (2 * x + y).relu()
    assert [(r.flops, r.nbytes, r.operations) for r in p.rows] == [(3 * 6400, 3 * 4 * 6400, "relu")] and z.shape == (100, 64)
    with profile() as p:
        z = x.exp()
    assert [r.flops for r in p.rows] == [20 * 6400]  # a function counts as the polynomial that it is
    with profile() as p:
        z = (x * y).sum()
    assert sum(r.flops for r in p.rows) == pytest.approx(2 * 6400, rel=0.02)  # long sums are cut, and their pieces added up
    with profile() as p:
        z = x.long() + 1
    assert [r.flops for r in p.rows] == [0]  # integers


def test_a_profiled_step_computes_in_the_memory_that_all_steps_do() -> None:
    x = torch.randn(512, 1024)

    def step() -> None:
        y = torch.softmax(x, 1) @ x.t()   # 512 x 512, in the arena
        (torch.softmax(y, 0) @ x).data_ptr()
    for _ in range(3):
        step()
    alloc.empty_cache()
    step()
    before = alloc.stats().system_allocations
    with profile() as p:
        step()
    assert "contract" in p.table()
    assert alloc.stats().system_allocations == before  # fresh memory would be most of what the kernels seem to take
