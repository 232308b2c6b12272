"""The forms in which attention is written by hand: dropout on the weights, a batch of one, half precision, scales and masks."""
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.compile import family
from rushlight.compile.flags import flags
from rushlight.record.flush import start_afresh
from rushlight.tools.profiler import counters
from tests.compile.test_attention_found import INF, arrays, check, compiled, found, results


@pytest.fixture(autouse=True, scope="module")
def _nothing_from_the_disk():
    with flags.using(plans=0):  # what an earlier process has planned is not planned here
        yield

__all__ = ["compiled"]  # the fixture

T, D = 48, 16
HEADS = ((2, 3, T, D),) * 3
LOWER = np.tril(np.ones((T, T), np.float32))


def causal(scores):
    length = scores.shape[-1]
    return scores.masked_fill(torch.tensor(np.tril(np.ones((length, length), np.float32))) == 0, -INF)


def padding(scores, value=-1e4):
    seen = np.arange(scores.shape[-1]) < np.array([[30], [T]])[:scores.shape[0]]
    return torch.tensor(np.where(seen, 0, value).astype(np.float32))[:, None, None]


def nano_gpt(q, k, v):
    torch.manual_seed(0)
    return F.dropout(F.softmax(causal(q @ k.transpose(-2, -1) * (1.0 / math.sqrt(D))), dim=-1), 0.2) @ v


def vision(q, k, v):
    torch.manual_seed(0)
    return torch.nn.Dropout(0.1)(((q * D**-0.5) @ k.transpose(-2, -1)).softmax(dim=-1)) @ v


def bert(q, k, v):
    torch.manual_seed(0)
    scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(D)
    return torch.matmul(F.dropout(F.softmax(scores + padding(scores), dim=-1), 0.1), v)


def llama(q, k, v):
    scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(D) + torch.tensor(np.where(LOWER > 0, 0, -INF).astype(np.float32))
    return F.dropout(F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype), 0.0) @ v


def bart(q, k, v):
    """Heads counted with the batch, but for the mask."""
    torch.manual_seed(0)
    b, h = q.shape[:2]
    q, k, v = (t.reshape(b * h, *t.shape[2:]) for t in (q, k, v))
    scores = torch.bmm(q, k.transpose(1, 2))
    scores = (scores.view(b, h, *scores.shape[1:]) + padding(scores.view(b, h, T, T))).view(b * h, T, T)
    return torch.bmm(F.dropout(scores.softmax(-1), 0.1), v).view(b, h, T, D)


def heads_last(q, k, v):
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    weights = torch.einsum("bqhd,bkhd->bhqk", q, k).mul(0.25).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).transpose(1, 2)


def masked_twice(q, k, v):
    seen = torch.tensor(np.arange(T) % 7 != np.array([[1], [3]])[:q.shape[0] if q.shape[1] > 1 else 1])[:, None, None]
    return torch.where(seen, causal(q @ k.mT), -INF).softmax(-1) @ v


def added_twice(q, k, v):
    """Distances, and padding of the whole batch."""
    distance = torch.tensor(-np.abs(np.arange(T)[:, None] - np.arange(T)).astype(np.float32))
    return (q @ k.mT * 0.25 + 0.1 * distance + torch.tensor(np.where(np.arange(T) < 40, 0, -1e9).astype(np.float32))).softmax(-1) @ v


def turned_keys(q, k, v):
    """Scores that einsum has with the keys first."""
    scores = torch.einsum("bhqd,bhkd->bhkq", q, k).transpose(-2, -1)
    return torch.einsum("bhkq,bhkd->bhqd", causal(scores).softmax(-1).transpose(-2, -1), v)


def tempered(q, k, v):
    """A scale that is data."""
    return (q @ k.mT / torch.tensor(3.0)).softmax(-1) @ v


def tempered_and_scaled(q, k, v):
    return causal(torch.tensor([[0.5]]) * (q @ k.mT * 0.5)).softmax(-1) @ v


FORMS = [nano_gpt, vision, bert, llama, bart, heads_last, masked_twice, added_twice, turned_keys, tempered, tempered_and_scaled]


@pytest.mark.parametrize("make", FORMS, ids=lambda f: f.__name__)
def test_both_directions_and_one(make):
    check(make, arrays(*HEADS))
    check(make, arrays(*HEADS), train=False, expected=("forward",))


@pytest.mark.parametrize("make", FORMS, ids=lambda f: f.__name__)
def test_one_of_the_batch_and_one_head(make):
    check(make, arrays(*((1, 3, T, D),) * 3))
    check(make, arrays(*((2, 1, T, D),) * 3))
    check(make, arrays(*((1, 1, T, D),) * 3))


def test_numbers_of_each_head_serve_a_batch():
    """For a batch of one they are as large as the scores: then nothing is won."""
    slopes, distance = np.float32([0.5, 0.25, 0.125])[:, None, None], -np.abs(np.arange(T)[:, None] - np.arange(T)).astype(np.float32)

    def computed(q, k, v):
        return (q @ k.mT + torch.tensor(slopes) * torch.tensor(distance)).softmax(-1) @ v

    def given_whole(q, k, v):
        return (q @ k.mT + torch.tensor(slopes * distance)).softmax(-1) @ v

    check(computed, arrays(*HEADS))
    check(computed, arrays(*((1, 3, T, D),) * 3), expected=())
    check(given_whole, arrays(*((1, 3, T, D),) * 3))


def test_layers_whose_weights_nobody_looks_at():
    """Asked for by default, with masks and dropout."""
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(24, 3, dropout=0.2, batch_first=True)
    shut = torch.tensor(LOWER == 0)
    padded = torch.tensor(np.arange(T) >= np.array([[T], [40]]))

    def make(x):
        torch.manual_seed(0)
        return layer(x, x, x, attn_mask=shut, key_padding_mask=padded)[0]

    check(make, arrays((2, T, 24)))


@pytest.mark.parametrize("shape", [(T, D), (3, T, D), (1, T, D)])
def test_fewer_dimensions(shape):
    def make(q, k, v):
        torch.manual_seed(0)
        return F.dropout(causal(q @ k.mT).softmax(-1), 0.3) @ v

    check(make, arrays(*(shape,) * 3))


def test_more_dimensions_of_which_two_are_long():
    check(nano_gpt, arrays(*((2, 1, 3, T, D),) * 3))


def test_the_same_weights_are_dropped():
    """Values of one at one place each show the weights, and gradients where they were kept."""
    q, k, _ = arrays(*HEADS)
    v = np.broadcast_to(np.eye(T, dtype=np.float32), (2, 3, T, T)).copy()
    (got, *grads), kernels, _ = results(nano_gpt, (q, k, v))
    (want, *others), _, _ = results(nano_gpt, (q, k, v), attend=0)
    assert found(kernels) == ["forward", "backward"]
    assert 0.1 < (got[..., LOWER > 0] == 0).mean() < 0.3
    np.testing.assert_array_equal(got == 0, want == 0)
    for a, b in zip(grads, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def narrow(make):
    def made(q, k, v):
        return make(*(t.bfloat16() for t in (q, k, v))).float()
    return made


def automatic(make):
    def made(q, k, v):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return make(q, k, v).float()
    return made


@pytest.mark.parametrize("cast", [narrow, automatic])
@pytest.mark.parametrize("make", [nano_gpt, vision, heads_last, tempered], ids=lambda f: f.__name__)
def test_half_precision(cast, make):
    """As near to the whole numbers' results as the steps that round in between."""
    given = [a.astype("<f4") for a in arrays(*HEADS)]
    got, kernels, _ = results(cast(make), given)
    rounded, plain, _ = results(cast(make), given, attend=0)
    want, _, _ = results(make, given, attend=0)
    assert list(dict.fromkeys(found(kernels))) == ["forward", "backward"] and not found(plain)
    for a, b, c in zip(got, rounded, want, strict=True):
        assert np.abs(a - c).max() <= 1.5 * np.abs(b - c).max() + 4e-3 * np.abs(c).max()


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_gradients_that_nobody_wants(frozen):
    def make(*given):
        return nano_gpt(*(t.detach() if i in frozen else t for i, t in enumerate(given)))

    def with_zeros(*given):
        return make(*given) + sum((t * 0).sum() for t in given)

    check(with_zeros, arrays(*HEADS))


def test_shared_by_several():
    """Queries that are keys, too, and values that are both."""
    def twice(q, k, v):
        return nano_gpt(q, k, v) * nano_gpt(k, q, v)

    check(twice, arrays(*HEADS), expected=("forward", "forward", "backward", "backward"))
    check(lambda q, k, v: vision(q, q * 1.5, k + v), arrays(*HEADS))


def test_rows_that_see_nothing_and_numbers_that_are_none():
    q, k, v = arrays(*HEADS)
    q[0, 0, 5, 3], q[0, 1, 7] = np.nan, np.inf

    def added(value):
        def make(q, k, v):
            torch.manual_seed(0)
            shut = torch.tensor(np.where((LOWER > 0) & (np.arange(T)[:, None] % 5 > 0), 0, value).astype(np.float32))
            return F.dropout((q @ k.mT + shut).softmax(-1), 0.1) @ v
        return make

    for value in (-INF, -1e9, -1e4):
        check(added(value), arrays(*HEADS))
        check(added(value), (q, k, v), train=False, expected=("forward",))


def test_in_double_precision():
    for make in (nano_gpt, vision):
        sides = []
        for attend in (1, 0):
            with flags.using(attend=attend):
                start_afresh()
                given = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays(*HEADS)]
                out = make(*given)
                (out * out).sum().backward()
                sides.append([t.numpy() for t in (out.detach(), *(t.grad for t in given))])
        for a, b in zip(*sides, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * max(1, np.abs(b).max()))


def test_second_derivatives_take_the_steps():
    def twice(attend):
        with flags.using(attend=attend):
            start_afresh()
            q, k, v = (torch.tensor(a, requires_grad=True) for a in arrays(*HEADS))
            out = nano_gpt(q, k, v)
            first, = torch.autograd.grad((out * out).sum(), q, create_graph=True)
            (first * first).sum().backward()
            return [t.grad.numpy() for t in (q, k, v)]

    for a, b in zip(twice(1), twice(0), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("make", [nano_gpt, vision, heads_last, narrow(vision)])
@pytest.mark.parametrize("lead", [(4, 8), (1, 32)])
def test_nothing_grows_with_the_square_of_the_length(make, lead):
    small, large = (results(make, arrays(*((*lead, length, D),) * 3))[2] for length in (256, 512))
    whole = 32 * 512 * 512 * 4
    assert large < whole / 2 and large - small < whole / 4  # the mask itself is one such matrix for all 32


def test_results_are_read_where_they_lie():
    """Projections, heads, attention and back: no kernel beside the calls moves gradients."""
    def make(q, k, v):
        b, length, width = q.shape
        q, k, v = (t.view(b, length, 4, width // 4).transpose(1, 2) for t in (q, k, v))
        return vision(q, k, v).transpose(1, 2).reshape(b, length, width)

    _, kernels, _ = results(make, arrays(*((2, T, 64),) * 3))
    assert found(kernels) == ["forward", "backward"]
    assert len(kernels) <= 5, kernels


def test_heads_that_are_counted_with_the_batch_are_not_moved():
    def make(q, k, v):
        b, length, width = q.shape
        q, k, v = (t.view(b, length, 4, width // 4).transpose(1, 2).reshape(4 * b, length, width // 4) for t in (q, k, v))
        y = torch.bmm(torch.bmm(q, k.transpose(1, 2)).mul(0.25).softmax(-1), v)
        return y.view(b, 4, length, width // 4).transpose(1, 2).reshape(b, length, width)

    check(make, arrays(*((2, T, 64),) * 3))
    _, kernels, _ = results(make, arrays(*((2, T, 64),) * 3))
    assert len(kernels) <= 5, kernels


def test_heads_that_several_queries_share():
    def make(q, k, v):
        return causal(q @ k.repeat_interleave(3, dim=1).mT).softmax(-1) @ v.repeat_interleave(3, 1)

    check(make, arrays((2, 6, T, D), (2, 2, T, D), (2, 2, T, D)))
    check(make, arrays((2, 3, T, D), (2, 1, T, D), (2, 1, T, D)))


def one_head_of_keys(q, k, v):
    return causal(q @ k.mT * 0.25).softmax(-1) @ v


def one_head_by_einsum(q, k, v):
    weights = causal(torch.einsum("bhid,bjd->bhij", q, k[:, 0])).softmax(-1)
    return torch.einsum("bhij,bjd->bhid", weights, v[:, 0])


@pytest.mark.parametrize("make", [one_head_of_keys, one_head_by_einsum])
@pytest.mark.parametrize("batch", [1, 2])
def test_one_head_of_keys_and_values_for_all_queries(make, batch):
    check(make, arrays((batch, 3, T, D), (batch, 1, T, D), (batch, 1, T, D)))


@pytest.mark.parametrize("shapes", [((1, 3), (2, 3), (2, 3)), ((2, 3), (1, 3), (1, 3)), ((2, 1), (2, 3), (2, 3)), ((2, 3), (2, 1), (2, 3)),
                                    ((2, 3), (1, 1), (2, 3)), ((1, 1), (2, 3), (2, 3)), ((2, 3), (2, 3), (1, 3))])
def test_operands_that_serve_all_batches_or_heads(shapes):
    """Queries that are parameters, say."""
    check(nano_gpt, arrays(*((*lead, T, D) for lead in shapes)))
    check(nano_gpt, arrays(*((*lead, T, D) for lead in shapes)), train=False, expected=("forward",))


def scaled_and_masked(q, k, v, length):
    """Scores that are shut are not much smaller than others."""
    shut = torch.arange(length) > torch.arange(length)[:, None]
    return F.dropout((q @ k.mT / math.sqrt(length)).masked_fill(shut, -100 / length).softmax(-1), 0.25) @ v


def scaled_by_a_count(q, k, v, length):
    return (q @ k.mT * length).softmax(-1) @ v


def scaled_halves(q, k, v, length):
    q, k, v = (t.to(torch.bfloat16) for t in (q, k, v))
    return (torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(length)).softmax(-1).matmul(v).float()


def scaled_call(q, k, v, length):
    return F.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(length))


@pytest.mark.parametrize("make", [scaled_and_masked, scaled_by_a_count, scaled_halves, scaled_call])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_that_follow_from_the_length_are_parameters_of_the_kernels(make, dtype, monkeypatch):
    def step(length):
        q, k, v = (torch.tensor(a.astype(dtype), requires_grad=True) for a in arrays(*((2, 2, length, D),) * 3, seed=length))
        torch.manual_seed(length)
        out = make(q, k, v, length)
        (out * out).sum().backward()
        return [t.numpy() for t in (out.detach(), q.grad, k.grad, v.grad)]

    start_afresh()
    lengths = (50, 61, 72, 83, 94, 105, 77)
    made = [step(n) for n in lengths[:4]]
    lowered, for_one, for_all = [], family.kernels_of, family.kernels_afresh
    monkeypatch.setattr(family, "kernels_of", lambda work: (lowered.append(work), for_one(work))[1])
    monkeypatch.setattr(family, "kernels_afresh", lambda work: (lowered.append(work), for_all(work))[1])
    before = counters()
    made += [step(n) for n in lengths[4:]]
    done = counters() - before
    assert done.programs_built > 0 and done.programs_planned == 0 and not lowered
    with flags.using(families=0):
        start_afresh()
        for one, length in zip(made, lengths, strict=True):
            for a, b in zip(one, step(length), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{length}")


def test_lengths_that_change_are_not_planned_again():
    def step(length, attend=1):
        q, k, v = (torch.tensor(a, requires_grad=True) for a in arrays(*((2, 2, length, D),) * 3, seed=length))
        torch.manual_seed(length)
        scores = causal(q @ k.mT / math.sqrt(length))  # a scale that is another for each length
        out = F.dropout(scores.softmax(-1), 0.25) @ v
        (out * out).sum().backward()
        return [t.numpy() for t in (out.detach(), q.grad, k.grad, v.grad)]

    start_afresh()
    lengths = (50, 61, 72, 83, 94, 105, 77)
    made = [step(n) for n in lengths[:4]]
    before = counters()
    made += [step(n) for n in lengths[4:]]
    done = counters() - before
    assert done.programs_built > 0 and done.programs_planned == 0
    with flags.using(attend=0):
        start_afresh()
        for one, length in zip(made, lengths, strict=True):
            for a, b in zip(one, step(length), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1, np.abs(b).max()))


@settings(max_examples=25, deadline=None, database=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_form(data):
    """Sizes, leading dimensions, masks, dropout and scales in any combination."""
    lead = data.draw(st.sampled_from([(), (1,), (3,), (1, 1), (1, 3), (2, 1), (2, 3), (2, 1, 3)]))
    length, source = (data.draw(st.integers(8, 70)) for _ in range(2))
    e, width = (data.draw(st.integers(1, 24)) for _ in range(2))
    masked = data.draw(st.sampled_from(["none", "fill", "low", "where", "add", "keys"]))
    drop = data.draw(st.sampled_from([0.0, 0.1, 0.5]))
    scale = data.draw(st.sampled_from(["none", "number", "quotient", "data", "before"]))
    joined = data.draw(st.booleans()) and len(lead) > 1
    rng = np.random.default_rng(length)
    shut = rng.random((length, source)) < 0.4
    bias = rng.normal(size=(length if masked == "add" else 1, source)).astype(np.float32)

    def make(q, k, v):
        torch.manual_seed(1)
        if joined:
            q, k, v = (t.flatten(0, -3) for t in (q, k, v))
        if scale == "before":
            q = q * 0.3
        s = q @ k.mT
        s = {"number": lambda: s * 0.5, "quotient": lambda: s / 1.7, "data": lambda: s * torch.tensor(0.7)}.get(scale, lambda: s)()
        at = torch.tensor(shut)
        s = {"fill": lambda: s.masked_fill(at, -INF), "low": lambda: s.masked_fill(at, -1e9), "where": lambda: torch.where(at, -1e4, s),
             "add": lambda: s + torch.tensor(bias), "keys": lambda: s + torch.tensor(bias)}.get(masked, lambda: s)()  # fmt: skip
        out = F.dropout(s.softmax(-1), drop) @ v
        return out.reshape(*lead, length, width)

    check(make, arrays((*lead, length, e), (*lead, source, e), (*lead, source, width)), tolerance=4e-5)
