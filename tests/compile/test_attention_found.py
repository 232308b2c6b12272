"""Attention that is written out by hand: what takes attention's kernels, what does not, and that it means the same."""
from __future__ import annotations

import math

import numpy as np
import pytest

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.compile.flags import flags
from rushlight.record import local
from rushlight.record.flush import flush, start_afresh
from rushlight.record.settings import settings as recorder

INF = float("inf")


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Small programs, too, are compiled the first time."""
    monkeypatch.setattr(recorder, "cold_limit", 0)
    start_afresh()
    yield
    start_afresh()


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in shapes]


def results(make, given, train=True, attend=1):
    """The outputs and gradients of ``make(*tensors)``, the names of the kernels and the arena's bytes."""
    tensors = [torch.tensor(a, requires_grad=train) for a in given]
    with flags.using(attend=attend):
        start_afresh()
        out = make(*tensors)
        if train:
            (out * torch.tensor(arrays(out.shape, seed=7)[0])).sum().backward()
        node = local.trace.node
        flush()
        (path,) = node.programs.values()
        kernels = [i.name for i in path.program.instructions]
        return [t.numpy() for t in (out.detach(), *([x.grad for x in tensors] if train else []))], kernels, path.program.arena_bytes


def found(kernels):
    return ["backward" if "backward" in k else "forward" for k in kernels if k.startswith("attention")]


def check(make, given, train=True, expected=("forward", "backward"), tolerance=2e-5):
    got, kernels, _ = results(make, given, train)
    want, plain, _ = results(make, given, train, attend=0)
    assert found(kernels) == list(expected) and not found(plain)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(np.nan_to_num(b)).max()))


T, D = 96, 16
LOWER = np.tril(np.ones((T, T), np.float32))


def nano(q, k, v, fill=-INF):
    scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
    scores = scores.masked_fill(torch.tensor(LOWER).view(1, 1, T, T)[:, :, :T, :T] == 0, fill)
    return F.softmax(scores, dim=-1) @ v


def annotated(q, k, v):
    scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1))
    return torch.matmul(scores.masked_fill(torch.tensor(LOWER).bool()[None, None] == 0, -1e9).softmax(dim=-1), v)


def chosen(q, k, v):
    scores = torch.where(torch.tensor(LOWER).bool(), (q * 0.3) @ k.mT, torch.finfo(torch.float32).min)
    return torch.softmax(scores, -1) @ v


def drawn(q, k, v):
    seen = torch.tril(torch.ones(T, T)).bool()
    return ((q @ k.transpose(2, 3)).masked_fill(~seen, -1e4) * 1.0).softmax(-1) @ v


def einsums(q, k, v):
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / 4.0
    scores = scores.masked_fill(torch.tensor(1 - LOWER).bool(), -INF)
    return torch.einsum("bhqk,bhkd->bqhd", scores.softmax(-1), v).transpose(1, 2)


def one_head(q, k, v):
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).masked_fill(torch.tensor(LOWER) == 0, -INF).softmax(-1), v).view(2, 3, T, D)


def scaled_twice(q, k, v):
    scores = (q @ k.transpose(-2, -1)) / 2.0 * 0.5
    return scores.masked_fill(torch.tensor(LOWER) == 0, -INF).softmax(-1) @ v


MASKED = [nano, annotated, chosen, drawn, einsums, one_head, scaled_twice]
HEADS = ((2, 3, T, D),) * 3


@pytest.mark.parametrize("make", MASKED, ids=lambda f: f.__name__)
def test_both_directions(make):
    check(make, arrays(*HEADS))


@pytest.mark.parametrize("make", MASKED, ids=lambda f: f.__name__)
def test_without_gradients(make):
    check(make, arrays(*HEADS), train=False, expected=("forward",))


def padded(q, k, v):
    seen = torch.tensor(np.arange(T) < 70).view(1, 1, 1, T)
    return (q @ k.transpose(-2, -1)).masked_fill(~seen, -INF).softmax(-1) @ v


def biased(q, k, v):
    return (q @ k.transpose(-2, -1) * 0.25 + torch.tensor(np.where(LOWER > 0, 0, -INF).astype(np.float32))).softmax(-1) @ v


def plain(q, k, v):
    return (q @ k.transpose(-2, -1) / 4.0).softmax(-1) @ v


UNMASKED = [padded, biased, plain]


@pytest.mark.parametrize("make", UNMASKED, ids=lambda f: f.__name__)
def test_masks_that_shut_little_or_nothing(make):
    check(make, arrays(*HEADS), train=False, expected=("forward",))
    check(make, arrays(*HEADS))


def test_keys_and_values_of_another_length_and_width():
    def make(q, k, v):
        shut = torch.tensor(np.arange(150)[:, None] * 2 < np.arange(260))
        return ((q @ k.mT) * 0.2).masked_fill(shut, -INF).softmax(-1) @ v

    check(make, arrays((2, 3, 150, 24), (2, 3, 260, 24), (2, 3, 260, 8)))


@pytest.mark.parametrize("fill", [-INF, -1e9, -1e4])
def test_rows_that_see_nothing(fill):
    """NaN where it is -inf, else all keys alike; in the gradients, too."""
    shut = 1 - LOWER
    shut[3:40:5] = 1

    def make(q, k, v):
        return (q @ k.transpose(-2, -1)).masked_fill(torch.tensor(shut).bool(), fill).softmax(-1) @ v

    check(make, arrays(*HEADS))
    check(make, arrays(*HEADS), train=False, expected=("forward",))


def test_numbers_that_are_no_numbers():
    q, k, v = arrays(*HEADS)
    q[0, 0, 5, 3], q[0, 1, 7] = np.nan, np.inf
    check(nano, (q, k, v))


def test_weights_that_somebody_wants_are_stored():
    kept = []

    def weights(q, k, v):
        kept[:] = [(q @ k.transpose(-2, -1)).masked_fill(torch.tensor(LOWER) == 0, -INF).softmax(-1)]
        return kept[0] @ v

    def scores(q, k, v):
        kept[:] = [q @ k.transpose(-2, -1)]
        return kept[0].masked_fill(torch.tensor(LOWER) == 0, -INF).softmax(-1) @ v

    for make in (weights, scores):
        check(make, arrays(*HEADS), train=False, expected=())


def test_what_is_something_else_stays_as_it_is():
    lower = torch.tensor(LOWER)

    def over_queries(q, k, v):
        return (q @ k.mT).masked_fill(lower == 0, -1e9).softmax(-2) @ v

    def turned(q, k, v):
        return (q @ k.mT).masked_fill(lower == 0, -INF).softmax(-1).mT @ v

    def zero(q, k, v):
        return (q @ k.mT).masked_fill(lower == 0, 0.0).softmax(-1) @ v

    def scaled_after(q, k, v):
        return ((q @ k.mT).masked_fill(lower == 0, -10.0) * 0.5).softmax(-1) @ v

    def learned(q, k, v):
        return (q @ k.mT + q.mean((0, 1, 3))[:, None] * lower).masked_fill(lower == 0, -INF).softmax(-1) @ v

    def bias_with_a_gradient(q, k, v):
        return (q @ k.mT + v.mean((1, 3))[:, None, None]).softmax(-1) @ v

    def dropped_twice(q, k, v):
        torch.manual_seed(0)
        return F.dropout(F.dropout((q @ k.mT).softmax(-1), 0.5), 0.5) @ v

    def whole_channels(q, k, v):
        torch.manual_seed(0)
        return F.dropout2d((q @ k.mT).softmax(-1), 0.5) @ v

    def few(q, k, v):
        return (q[:, :, :4] @ k.mT).softmax(-1) @ v

    def in_double_precision(q, k, v):
        return (q @ k.mT).softmax(-1, dtype=torch.float64).float() @ v

    for make in (over_queries, turned, zero, scaled_after, learned, bias_with_a_gradient, dropped_twice, whole_channels, few,
                 in_double_precision):
        check(make, arrays(*HEADS), expected=())


def test_nothing_grows_with_the_square_of_the_length():
    def step(length):
        lower = np.tril(np.ones((length, length), np.float32))

        def make(q, k, v):
            seen = torch.tensor(lower) == 0
            return (q @ k.transpose(-2, -1) / 4.0).masked_fill(seen, -INF).softmax(-1) @ v

        return results(make, arrays(*((4, 8, length, D),) * 3))[2]

    whole = 4 * 8 * 512 * 512 * 4
    small, large = step(256), step(512)
    assert large < whole / 4 and large - small < whole / 8  # the mask itself is one such matrix for all 32


def test_any_number_of_threads_and_every_run():
    given, before, seen = arrays(*((2, 3, T, D),) * 3), torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            got, kernels, _ = results(nano, given)
            assert found(kernels) == ["forward", "backward"]
            seen.add(b"".join(a.tobytes() for a in got))
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 1


@pytest.mark.parametrize("families", [0, 1])
def test_lengths_that_change(families):
    with flags.using(families=families):
        for attend in (1, 0):
            with flags.using(attend=attend):
                start_afresh()
                made = []
                for length in (70, 81, 96, 130, 64, 71, 33):
                    q, k, v = (torch.tensor(a, requires_grad=True) for a in arrays(*((2, 2, length, D),) * 3, seed=length))
                    seen = torch.tril(torch.ones(length, length)) == 0
                    out = (q @ k.transpose(-2, -1) / 4.0).masked_fill(seen, -INF).softmax(-1) @ v
                    (out * out).sum().backward()
                    made.append([t.numpy() for t in (out.detach(), q.grad, k.grad, v.grad)])
            if attend:
                first = made
        for one, other in zip(first, made, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
