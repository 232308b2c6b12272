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
