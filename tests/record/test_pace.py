"""How often Python looks for garbage follows the length of what is recorded, unless somebody has chosen it."""
from __future__ import annotations

import gc

import pytest

from rushlight.record.pace import LONGEST, OBJECTS, PYTHONS, Pace


@pytest.fixture(autouse=True)
def thresholds():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("first", PYTHONS)
def test_it_follows_the_longest_path(first):
    gc.set_threshold(first, 10, 10)
    pace = Pace()
    pace.follow(5000)
    assert gc.get_threshold() == (5000 * OBJECTS, 10, 10)
    pace.follow(8000)
    assert gc.get_threshold() == (8000 * OBJECTS, 10, 10)
    pace.follow(10 ** 9)
    assert gc.get_threshold() == (LONGEST, 10, 10)


@pytest.mark.parametrize("chosen", [0, 1500, 50_000])
def test_what_somebody_has_chosen_stays(chosen):
    gc.set_threshold(chosen, 5, 5)
    pace = Pace()
    pace.follow(5000)
    assert gc.get_threshold() == (chosen, 5, 5)
    gc.set_threshold(PYTHONS[0])
    pace.follow(6000)
    gc.set_threshold(chosen)
    pace.follow(7000)
    assert gc.get_threshold()[0] == chosen


def test_short_paths_leave_it_alone():
    gc.set_threshold(PYTHONS[0], 10, 10)
    Pace().follow(201)
    assert gc.get_threshold() == (PYTHONS[0], 10, 10)
