"""``spawn``: numbered calls in processes, and what one of them raises."""
from __future__ import annotations

import pytest

import rushlight
import rushlight.multiprocessing as mp


def doubled(i, x, results):
    results.put((i, (x * (i + 1)).tolist()))


def failing(i, at):
    if i == at:
        raise ValueError(f"number {i} fails")


def test_names_are_pythons():
    import multiprocessing

    assert mp.Process is multiprocessing.Process and mp.Queue and mp.set_start_method
    assert rushlight.multiprocessing is mp


def test_spawn_numbers_its_calls():
    results = mp.get_context("spawn").SimpleQueue()
    assert mp.spawn(doubled, (rushlight.ones(2), results), nprocs=2) is None
    assert sorted(results.get() for _ in range(2)) == [(0, [1.0, 1.0]), (1, [2.0, 2.0])]


def test_what_a_process_raises_is_told():
    with pytest.raises(mp.ProcessRaisedException, match="(?s)Process 1 .*number 1 fails"):
        mp.spawn(failing, (1,), nprocs=2)
