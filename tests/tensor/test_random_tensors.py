"""Random tensors equal PyTorch's for the same seed and calls."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")

CALLS = {
    "rand": lambda t: t.rand(5, 3),
    "rand_half": lambda t: t.rand(40, dtype=t.float16),
    "randn_few": lambda t: t.randn(4),
    "randn_many": lambda t: t.randn(40),
    "randn_complex": lambda t: t.randn(5, dtype=t.complex64),
    "randint": lambda t: t.randint(10, (5,)),
    "randint_low": lambda t: t.randint(3, 10, (5,), dtype=t.int32),
    "randperm": lambda t: t.randperm(9),
    "rand_like": lambda t: t.rand_like(t.ones(3, 2)),
    "normal_tensors": lambda t: t.normal(t.zeros(5), t.ones(5) * 2),
    "normal_numbers": lambda t: t.normal(1.0, 2.0, (3,)),
    "normal_mean": lambda t: t.normal(t.arange(20.0), 2.0),
    "bernoulli": lambda t: t.bernoulli(t.full((9,), 0.3)),
    "poisson": lambda t: t.poisson(t.arange(30.0)),
    "multinomial": lambda t: t.multinomial(t.arange(1, 9.0), 5),
    "uniform_": lambda t: t.empty(5).uniform_(-1, 3),
    "normal_": lambda t: t.empty(50).normal_(1, 3),
    "random_to": lambda t: t.empty(5).random_(7),
    "random_": lambda t: t.empty(5, dtype=t.int32).random_(),
    "bernoulli_": lambda t: t.empty(9).bernoulli_(0.4),
    "bernoulli_tensor_": lambda t: t.empty(9).bernoulli_(t.full((9,), 0.4)),
    "exponential_": lambda t: t.empty(9).exponential_(2),
    "geometric_": lambda t: t.empty(9).geometric_(0.3),
    "cauchy_": lambda t: t.empty(9).cauchy_(1, 3),
    "log_normal_": lambda t: t.empty(9).log_normal_(),
    "state": lambda t: t.get_rng_state(),
}


@pytest.mark.parametrize("name", CALLS)
def test_equals_pytorch(name: str) -> None:
    torch.manual_seed(3)
    want = CALLS[name](torch)
    rushlight.manual_seed(3)
    got = CALLS[name](rushlight)
    assert str(got.dtype) == str(want.dtype)
    np.testing.assert_array_equal(got.numpy(), want.numpy())
    np.testing.assert_array_equal(rushlight.rand(2).numpy(), torch.rand(2).numpy())  # and the streams stand at the same place


def test_generators_are_independent() -> None:
    rushlight.manual_seed(1)
    expected = rushlight.rand(3).tolist()
    rushlight.manual_seed(1)
    g = rushlight.Generator().manual_seed(5)
    first = rushlight.rand(3, generator=g).tolist()
    assert rushlight.rand(3).tolist() == expected
    assert rushlight.rand(3, generator=g.manual_seed(5)).tolist() == first
    state = g.get_state()
    following = rushlight.randn(3, generator=g).tolist()
    assert rushlight.randn(3, generator=g.set_state(state)).tolist() == following


def test_fork_rng_leaves_the_stream_alone() -> None:
    rushlight.manual_seed(1)
    expected = rushlight.rand(3).tolist()
    rushlight.manual_seed(1)
    with rushlight.random.fork_rng():
        rushlight.rand(7)
    assert rushlight.rand(3).tolist() == expected


def test_the_default_dtype_changes_what_is_recorded() -> None:
    def quotient() -> rushlight.Tensor:
        return rushlight.tensor([1]) / 2
    assert quotient().dtype is rushlight.float32
    rushlight.set_default_dtype(rushlight.float64)
    try:
        assert quotient().dtype is rushlight.float64
        assert rushlight.rand(2).dtype is rushlight.float64
    finally:
        rushlight.set_default_dtype(rushlight.float32)
    assert quotient().dtype is rushlight.float32


@pytest.mark.parametrize("call, error", [
    (lambda t: t.rand(-1), RuntimeError),
    (lambda t: t.randint(5, 5, (2,)), RuntimeError),
    (lambda t: t.normal(t.zeros(2), -1.0), RuntimeError),
    (lambda t: t.bernoulli(t.full((2,), 2.0)), RuntimeError),
    (lambda t: t.zeros(2, dtype=t.int64).normal_(), NotImplementedError),
    (lambda t: t.empty(2).uniform_(1, 0), RuntimeError),
])
def test_misuse_raises_what_pytorch_raises(call: object, error: type[Exception]) -> None:
    for t in (torch, rushlight):
        with pytest.raises(error):
            call(t)  # type: ignore[operator]


WHOLE = {  # ways of filling a tensor
    "uniform_": lambda t: t.uniform_(-1, 3),
    "normal_": lambda t: t.normal_(1, 2),
    "exponential_": lambda t: t.exponential_(2.0),
    "bernoulli_": lambda t: t.bernoulli_(0.3),
    "random_": lambda t: t.random_(9),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_draw_in_place_is_seen_by_whoever_shares_the_memory(name: str, dtype: str) -> None:
    """Whether the numbers go straight into the memory or are recorded as a write, depends on who else looks at it."""
    def story(t):  # type: ignore[no-untyped-def]
        t.manual_seed(5)
        plain = t.zeros(20, dtype=getattr(t, dtype))
        seen = plain.numpy()
        fill = WHOLE[name]
        view, other = plain[3:7], plain.detach()
        fill(plain)
        found = [seen.copy(), view.numpy().copy(), other.numpy().copy(), plain._version]
        fill(view)
        fill(other)
        late = plain * 2
        fill(plain)
        x = t.zeros(20, dtype=getattr(t, dtype), requires_grad=True)
        with t.no_grad():
            fill(x)
        fill(x.data)
        y = x * 1
        fill(y)
        return [*found, plain.numpy(), late.numpy(), view.numpy(), plain._version, x.detach().numpy(), x._version, y.detach().numpy(),
                t.rand(1).item()]

    for got, want in zip(story(rushlight), story(torch), strict=True):
        np.testing.assert_array_equal(got, want)


def test_memory_stays_where_it_is_and_nothing_is_recorded() -> None:
    from rushlight.record import local

    noise = rushlight.zeros(100)
    noise.numpy()
    at, recorded = noise.data_ptr(), len(local.trace.values)
    noise.normal_()
    assert (noise.data_ptr(), len(local.trace.values)) == (at, recorded)


def test_what_was_saved_or_is_pending_keeps_its_content() -> None:
    w = rushlight.ones(16, requires_grad=True)
    noise = rushlight.full((16,), 3.0)
    noise.numpy()
    double = noise * 2  # pending when the noise is drawn anew
    product = (w * noise).sum()
    noise.normal_()
    assert double.tolist() == [6.0] * 16
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    with pytest.raises(RuntimeError, match="leaf Variable"):
        w.uniform_()


def test_a_refused_draw_changes_nothing() -> None:
    noise = rushlight.zeros(4)
    noise.numpy()
    with pytest.raises(RuntimeError, match="std >= 0"):
        noise.normal_(0.0, -1.0)
    assert (noise.tolist(), noise._version) == ([0.0] * 4, 0)
    with pytest.raises(RuntimeError, match="every probability"):
        rushlight.bernoulli(rushlight.tensor([0.5, float("nan")]))
    with pytest.raises(RuntimeError, match="element < 0"):
        rushlight.multinomial(rushlight.tensor([[0.5, 1.0], [0.1, float("inf")]]), 1)
    with pytest.raises(RuntimeError, match="sum of probabilities"):
        rushlight.multinomial(rushlight.tensor([[0.5, 1.0], [0.0, 0.0]]), 1)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (1, 5), (2, 3000)])
def test_one_draw_from_weights_of_views_and_wholes(shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(1).random(shape).astype(np.float32)
    for change in (lambda t: t, lambda t: t * 2, lambda t: t.flip(-1), lambda t: t[..., 1:]):
        drawn = []
        for t in (rushlight, torch):
            t.manual_seed(3)
            of = change(t.tensor(weights))
            drawn.append((t.multinomial(of, 1).numpy(), t.bernoulli(of.clamp(0, 1)).numpy()))
        for got, want in zip(*drawn, strict=True):
            np.testing.assert_array_equal(got, want)
