"""Numbers for dropout masks are drawn in advance, which nobody can tell from the numbers or from the generator's state."""

import threading

import numpy as np
import pytest

import rushlight
import rushlight.nn.functional as F
from rushlight.record.random import Mt19937Stream
from rushlight.record.seeds import KEPT, MOST


def number(v) -> int:
    return int(v.buffer.array(np.int64, ())[()])


def one_by_one(seed: int, n: int) -> list[int]:
    """What a stream gives that draws each number when it is asked for."""
    words = Mt19937Stream(seed).raw32(2 * n)
    return ((words[0::2] | words[1::2] << np.uint64(32)) & np.uint64((1 << 63) - 1)).tolist()


def taken(stream: Mt19937Stream) -> int:
    """As a step that was recorded before takes one."""
    try:
        return number(stream.seeds.pop())
    except IndexError:
        return number(stream.seed_value())


def test_the_numbers_are_those_of_draws_one_by_one():
    stream = Mt19937Stream(3)
    assert [taken(stream) for _ in range(5 * MOST)] == one_by_one(3, 5 * MOST)


@pytest.mark.parametrize("look", ["state", "draw", "clone"])
def test_who_looks_or_draws_in_between_finds_the_stream_where_it_would_be(look):
    ours, plain = Mt19937Stream(5), Mt19937Stream(5)
    counts = np.random.default_rng(0).integers(0, 2 * MOST, 30).tolist()
    for count in [*counts, 0, 1, 2, 3, 4, 5, MOST, MOST + 1]:
        words = plain.raw32(2 * count)
        expected = ((words[0::2] | words[1::2] << np.uint64(32)) & np.uint64((1 << 63) - 1)).tolist()
        assert [taken(ours) for _ in range(count)] == expected
        if look == "draw":
            assert ours.uniform(3).tobytes() == plain.uniform(3).tobytes()
        elif look == "clone":
            ours = ours.clone()
        assert ours.get_state().tobytes() == plain.get_state().tobytes()


def test_a_seed_or_a_state_in_the_middle_forgets_what_was_drawn_in_advance():
    stream = Mt19937Stream(1)
    state = stream.get_state()
    first = [taken(stream) for _ in range(20)]
    stream.set_state(state)
    assert [taken(stream) for _ in range(20)] == first
    stream.manual_seed(1)
    assert [taken(stream) for _ in range(20)] == first


def test_numbers_that_somebody_holds_stay_what_they_are():
    stream = Mt19937Stream(2)
    held = [stream.seed_value() for _ in range(3)]
    for k in range(6 * MOST):
        try:
            v = stream.seeds.pop()
        except IndexError:
            v = stream.seed_value()
        if k % 50 == 0:
            held.append(v)
    arrays = [taken_array(stream) for _ in range(2 * MOST)][::40]  # somebody holds the memory alone
    shown = [number(v) for v in held], [int(a) for a in arrays]
    for _ in range(8 * MOST):
        taken(stream)
    assert ([number(v) for v in held], [int(a) for a in arrays]) == shown


def taken_array(stream: Mt19937Stream) -> np.ndarray:
    try:
        return stream.seeds.pop().buffer.array(np.int64, ())
    except IndexError:
        return stream.seed_value().buffer.array(np.int64, ())


def test_threads_get_each_number_once():
    stream, n = Mt19937Stream(7), 3000
    found: list[list[int]] = [[] for _ in range(3)]
    go = threading.Barrier(3)

    def work(k: int) -> None:
        go.wait()
        for _ in range(n):
            found[k].append(taken(stream))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(sum(found, [])) == sorted(one_by_one(7, 3 * n))


def test_dropout_is_the_same_drawn_in_advance_or_not():
    """Steps that are recorded anew each time, and steps that come again, with other draws in between."""
    def masks(other_draws: bool, lengths: list[int]) -> list[bytes]:
        rushlight.manual_seed(11)
        rows = []
        for length in lengths:
            x = rushlight.ones(8, 8, requires_grad=True)
            y = x * 1.0
            for _ in range(length):
                y = F.dropout(y, 0.1)
                if other_draws:
                    y = y * rushlight.rand(1)
            y.sum().backward()
            rows += [y.detach().numpy().tobytes(), x.grad.numpy().tobytes()]
        return [*rows, rushlight.get_rng_state().numpy().tobytes()]

    for other_draws in (False, True):
        lengths = [6, 3, 6, 6, 2, 6, 3]
        first = masks(other_draws, lengths)
        assert masks(other_draws, lengths) == first


def test_a_checkpoint_draws_its_masks_again():
    from rushlight.utils.checkpoint import checkpoint

    def block(x):
        for _ in range(7):
            x = F.dropout(x, 0.2)
        return x

    grads = []
    for again in (False, True):
        rushlight.manual_seed(4)
        x = rushlight.ones(16, 16, requires_grad=True)
        y = block(F.dropout(x, 0.5))
        y = checkpoint(block, y, use_reentrant=False) if again else block(y)
        block(y).sum().backward()
        grads.append(x.grad.numpy().tobytes())
    assert grads[0] == grads[1]


def test_more_numbers_than_are_kept_for_another_time():
    stream, n = Mt19937Stream(6), (KEPT + 3) * MOST
    held = [stream.seed_value() for _ in range(n)]
    assert [number(v) for v in held] == one_by_one(6, n)
