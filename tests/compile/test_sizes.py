"""Sizes compute like whole numbers, and a replay computes what planning would."""
from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushlight.compile import replays
from rushlight.compile.sizes import (
    NotGeneric,
    Tape,
    decision,
    entries,
    first_largest,
    first_smallest,
    flattened,
    is_size,
    largest,
    length,
    numeric,
    smallest,
)


@pytest.fixture(autouse=True, scope="module")
def written_soon():
    """The second replay that fits has the steps written as a function, so that both ways are tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replays, "_OFTEN", 2)
        patch.setattr(replays, "_AT_ONCE", 1000)
        replays.Replay.begin()
        yield


OPERATIONS = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a * 3, lambda a, b: 7 - a, lambda a, b: -a,
    lambda a, b: a // (abs(b) + 1), lambda a, b: a % (abs(b) + 1), lambda a, b: -(-a // 4), lambda a, b: a * b // (b if b else 1),
    lambda a, b: (a * b) % (b if b else 1), lambda a, b: max(a, b, 5), lambda a, b: min(a, b), lambda a, b: a if a < b else b + 1,
    lambda a, b: a if a == b else a * 2, lambda a, b: math.floor(a * 0.5), lambda a, b: math.ceil(a / 3), lambda a, b: divmod(a, 8)[1],
    lambda a, b: sorted([a, b, 4])[1], lambda a, b: math.prod((a, b, 2)), lambda a, b: sum((a, b)), lambda a, b: a if a else 9,
]  # fmt: skip


def evaluated(program: list[tuple[int, int, int]], inputs: list) -> list:
    """Each step of ``program`` applies an operation to two of the numbers that are there."""
    numbers = list(inputs)
    for operation, first, second in program:
        made = OPERATIONS[operation](numbers[first % len(numbers)], numbers[second % len(numbers)])
        numbers.append(made if abs(made) < 2**40 else made % 1000003)
    return numbers


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=15),
       st.lists(st.integers(1, 40), min_size=2, max_size=2), st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=2), max_size=8))
def test_a_replay_gives_what_the_numbers_would_have_given(program, first, others):
    tape = Tape(first)
    sizes = evaluated(program, tape.inputs)
    plain = evaluated(program, first)
    assert [s.value if is_size(s) else s for s in sizes] == plain
    wanted = [k for k, s in enumerate(sizes) if is_size(s)]
    replay = tape.replay([sizes[k] for k in wanted])
    assert replay(first) == [plain[k] for k in wanted]
    for inputs in others * 2:  # the first that fit walk the tape, then it is a function
        found = replay(inputs)
        if found is not None:
            expected = evaluated(program, inputs)
            assert found == [expected[k] for k in wanted]
            assert all(expected[k] == plain[k] for k in range(len(plain)) if k not in wanted)


def test_the_largest_and_the_smallest_are_no_condition():
    tape = Tape([5, 0.5])
    n, x = tape.inputs
    replay = tape.replay([largest(n, 7), smallest(9, n * 2), x * n])
    assert replay([5, 0.5]) == [7, 9, 2.5] and replay([11, -3.0]) == [11, 9, -33.0] and replay([1, 0.0]) == [7, 2, 0.0]
    assert largest(3, 4) == 4 and smallest(3, 4) == 3


def test_an_input_that_is_not_positive_is_taken_for_nothing():
    tape = Tape([0])
    n, = tape.inputs
    assert not n and n * 2 >= 0
    assert tape.replay([n])([0]) == [0] and tape.replay([n])([3]) is None


def test_what_follows_from_algebra_is_no_condition():
    tape = Tape([5, 3])
    n, m = tape.inputs
    assert (64 * n) % 64 == 0 and 64 * n // n == 64 and n * m // m == n and (n + m) * 2 == 2 * n + 2 * m and n > 0
    assert type(64 * n // n) is int
    assert tape.replay([n * m])([7, 2]) == [14]


def test_a_comparison_is_a_condition():
    tape = Tape([5])
    n, = tape.inputs
    rows = 16 if n * 8 < 64 else n
    replay = tape.replay([n * rows])
    assert replay([7]) == [112] and replay([8]) is None and replay([0]) is None


@pytest.mark.parametrize("ask", [lambda n: range(n), lambda n: f"{n}", int, float, lambda n: list("abcdefgh")[n], lambda n: "x" * n,
                                 repr, hash])
def test_whoever_needs_the_number_gets_it_and_nothing_is_lost(ask):
    tape = Tape([5])
    n, = tape.inputs
    try:
        ask(n)
    except TypeError:
        pass
    if ask is not hash:
        assert tape.replay([n])([6]) is None
    assert tape.replay([n])([5]) == [5]


def test_sizes_of_two_tapes_are_never_equal():
    (a,), (b,) = Tape([5]).inputs, Tape([5]).inputs
    assert a != b and len({a, b}) == 2


def test_a_numeric_function_is_called_again():
    @numeric
    def cut(pair: tuple[int, int], name: str) -> tuple[int, int]:
        return next((k, pair[1]) for k in range(pair[0], 0, -1) if pair[0] % k == 0 and k < pair[0])

    @numeric
    def count(n: int) -> list[int]:
        return list(range(n))

    assert cut((12, 5), "x") == (6, 5)
    tape = Tape([12])
    n, = tape.inputs
    first, second = cut((n, 5), "x")
    assert (first.value, second) == (6, 5) or (first.value, second.value) == (6, 5)
    numbers = [1, *entries(count(n)), 2]
    replay = tape.replay([first, numbers[1], length(count(n))])
    assert replay([12]) == [6, list(range(12)), 12]
    assert replay([9]) == [3, list(range(9)), 9]
    assert flattened([1, [3, 4], 2]) == [1, 3, 4, 2]


def test_what_a_replay_cannot_compute_it_refuses():
    tape = Tape([5])
    n, = tape.inputs
    replay = tape.replay([100 // (n - 1)])
    with pytest.raises(ZeroDivisionError):  # families take it for a refusal
        replay([1])


def test_a_size_that_outlives_its_tape_is_an_error():
    tape = Tape([5])
    n, = tape.inputs
    assert n < 7
    double = n * 2
    assert tape.replay([double])([6]) == [12]
    assert n < 7 and n * 2 == double  # known already
    for late in (lambda: n < 8, lambda: int(n), lambda: n // 2, lambda: f"{n}", lambda: range(n)):
        with pytest.raises(NotGeneric):
            late()


def test_sizes_of_different_tapes_do_not_mix():
    (n,), (m,) = Tape([5]).inputs, Tape([5]).inputs
    assert n != m
    for mixed in (lambda: n + m, lambda: n - m, lambda: n * m, lambda: n // m, lambda: n % m, lambda: n / m, lambda: n < m):
        with pytest.raises(TypeError):
            mixed()


def test_of_a_decision_the_answer_alone_is_a_condition():
    @decision
    def pays(rows: int, total: int) -> bool:
        return total <= 100 or rows >= 8

    tape = Tape([4])
    n, = tape.inputs
    assert pays(n, n * 10) is True and pays(4, 400) is False
    replay = tape.replay([n * 10])
    for _ in range(3):  # walked at first, then written as a function
        assert [replay([k]) for k in (2, 7, 8, 11, 40)] == [[20], [70], [80], [110], [400]]
    assert pays(9, 200) is True

    tape = Tape([9])
    n, = tape.inputs
    assert pays(n, n * 20) is True
    replay = tape.replay([n])
    assert [replay([k]) for k in (5, 6, 7, 8)] == [[5], None, None, [8]]


def test_a_size_that_was_compared_with_its_number_may_be_asked_for_it():
    """Planning then rests on a condition like all others: two branches, and the position of a part, say."""
    tape = Tape([6])
    n, = tape.inputs
    assert n // 4 in (0, 1) and ["first", "second"][n // 4] == "second"
    assert not tape.rests_on and ["first", "second"][n // 6] == "second" and tape.rests_on
    replay = tape.replay([n])
    assert replay([7]) == [7] and replay([3]) is None and replay([8]) is None


def test_a_choice_is_a_condition_by_its_answer_alone():
    tape = Tape([30, 7])
    n, t = tape.inputs
    assert first_largest(n, t * 4, 20) == 0 and first_smallest((n, t), (t, n)) == 1
    assert not tape.rests_on
    replay = tape.replay([n])
    assert replay([29, 7]) == [29] and replay([21, 5]) == [21]
    assert replay([27, 7]) is None and replay([5, 7]) is None
