"""Which numbers of a path follow from which others: what was the same by chance in the first paths is no reason for another plan."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import rushlight as torch
import rushlight.nn.functional as F
from rushlight import nn
from rushlight.compile.flags import flags
from rushlight.record import families
from rushlight.record.columns import Columns
from rushlight.record.settings import settings
from rushlight.tools.profiler import counters


@pytest.fixture(autouse=True, scope="module")
def _nothing_from_the_disk():
    with flags.using(plans=0):  # what an earlier process has planned is not planned here
        yield


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(settings, "cold_limit", 0)
    families.clear()
    yield
    families.clear()


def test_an_attribute_is_a_dimension_that_its_operation_reads() -> None:
    """Places: a leaf (n, h), a result (n, half), and an attribute of an operation that reads this. The half is twice n by chance."""
    seen = [(2, 8, 2, 4, 4), (3, 12, 3, 6, 6)]
    columns = Columns(seen, [0, 1, 4], {4: [range(2, 4)]})
    assert columns.fit((5, 14, 5, 7, 7)) and not columns.fit((5, 14, 5, 7, 10))
    assert columns.number(4, {0: 5, 1: 14, 3: 7}) == 7


def test_an_attribute_may_be_a_dimension_that_was_the_same_by_chance() -> None:
    """8 // 4 and 9 // 4 are both 2."""
    columns = Columns([(8, 2, 2), (9, 2, 2)], [0, 2], {2: [range(1, 2)]})
    assert columns.fit((17, 4, 4)) and not columns.fit((17, 4, 2))


def test_two_paths_are_no_evidence_of_a_distance() -> None:
    assert len(Columns([(4, 44), (1, 41)], [0, 1], {}).inputs) == 2
    assert Columns([(4, 44), (1, 41), (2, 42)], [0, 1], {}).inputs == [0]
    assert Columns([(4, 5), (1, 2)], [0, 1], {}).inputs == [0]  # positions 0 to n


def test_nor_of_a_factor() -> None:
    assert len(Columns([(8, 48), (6, 36)], [0, 1], {}).inputs) == 2
    assert Columns([(8, 48), (6, 36), (7, 42)], [0, 1], {}).inputs == [0]


@given(st.lists(st.tuples(st.integers(2, 50), st.integers(2, 50), st.integers(2, 50)), min_size=3, max_size=6, unique=True))
def test_a_count_is_the_product_of_what_is_read(sizes: list[tuple[int, int, int]]) -> None:
    """A leaf (n, 3, h, w), and the number of its elements as an attribute of an operation that reads it."""
    columns = Columns([(n, 3, h, w, 3 * n * h * w) for n, h, w in sizes], [0, 1, 2, 3, 4], {4: [range(4)]})
    assume({0, 2, 3} <= set(columns.inputs))  # by chance they may follow from one another, too
    assert 4 not in columns.inputs
    assert columns.fit((99, 3, 98, 97, 3 * 99 * 98 * 97)) and not columns.fit((99, 3, 98, 97, 3 * 99 * 98))


class Stem(nn.Module):
    """What a residual network begins with, and its head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Conv2d(3, 16, 7, 2, 3), nn.BatchNorm2d(16), nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        y = F.max_pool2d(F.relu(self.norm(self.first(x))), 3, 2, 1)
        return self.head(y.mean((2, 3)))


def test_heights_and_widths_of_all_remainders_have_one_plan() -> None:
    model = Stem().eval()

    def step(n: int, h: int, w: int) -> Any:
        with torch.no_grad():
            return model(torch.tensor(np.random.default_rng(h * w).normal(size=(n, 3, h, w)).astype(np.float32))).numpy()

    for size in [(4, 64, 80), (3, 70, 91), (5, 75, 66)]:
        step(*size)
    before = counters()
    for size in [(2, 61, 83), (6, 62, 84), (3, 63, 82), (4, 64, 81), (5, 67, 90)]:
        step(*size)
    done = counters() - before
    assert (done.programs_built, done.programs_planned) == (5, 0)


def test_a_tuple_is_the_shape_of_a_value_even_if_it_was_the_same_each_time() -> None:
    """A leaf (n, h), a value (n, h // 32), and what an operation that reads (n, 1) makes of it: (n, h // 32) again."""
    seen = [(2, 64, 2, 2, 2, 1, 2, 2), (3, 70, 3, 2, 3, 1, 3, 2)]
    columns = Columns(seen, [0, 1, 6, 7], {6: [range(4, 6)], 7: [range(4, 6)]}, [range(6, 8)], [range(2), range(2, 4), range(4, 6)])
    assert columns.fit((5, 96, 5, 3, 5, 1, 5, 3)) and not columns.fit((5, 96, 5, 3, 5, 1, 5, 2))


def test_numbers_of_dimensions_are_no_extents() -> None:
    """A permutation (0, 2, 1) of (n, 4, 2): that there was a dimension of 2 is chance."""
    seen = [(5, 4, 2, 0, 2, 1), (6, 4, 2, 0, 2, 1)]
    columns = Columns(seen, [3, 4, 5], {k: [range(3)] for k in (3, 4, 5)}, [range(3, 6)], [range(3)])
    assert columns.fit((7, 4, 3, 0, 2, 1))


def test_what_is_padded_where_an_extent_is_odd_follows_from_nothing_else() -> None:
    """Two paddings of 0 or 1 that were alike so far."""
    seen = [(8, 0, 0), (9, 1, 1), (10, 0, 0)]
    columns = Columns(seen, [0, 1, 2], {1: [range(1)], 2: [range(1)]})
    assert sorted(columns.inputs) == [0, 1, 2]
    assert columns.fit((11, 1, 0))


def test_a_dimension_and_some_more_follows_from_the_dimension_beside_it() -> None:
    """A transposed convolution makes 2 h of h, which two paths tell; another number was one less by chance."""
    seen = [(3, 5, 7, 11, 10, 14), (3, 6, 9, 13, 12, 18)]
    columns = Columns(seen, range(6), {4: [range(3)], 5: [range(3)]}, [range(4, 6)], [range(3)])
    assert columns.fit((3, 7, 8, 20, 14, 16))


def test_numbers_that_were_the_same_by_chance_make_no_plan_in_training() -> None:
    """Sixteenths of heights from 64 to 79 are 4: what the gradient of the mean is expanded to."""
    model = nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), nn.ReLU(), nn.AvgPool2d(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))

    def step(n: int, h: int, w: int) -> None:
        model.zero_grad()
        (model(torch.tensor(np.random.default_rng(h * w).normal(size=(n, 3, h, w)).astype(np.float32))) ** 2).mean().backward()
        assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())

    for size in [(9, 65, 70), (10, 67, 75), (11, 70, 73)]:
        step(*size)
    before = counters()
    for size in [(9, 84, 66), (12, 66, 85), (14, 86, 90)]:
        step(*size)
    done = counters() - before
    assert (done.programs_built, done.programs_planned) == (3, 0)
