"""Many pieces of ready memory are joined at once: which ones they are is no part of a path."""
from __future__ import annotations

import random

import numpy as np
import pytest

import rushlight as torch
from rushlight.tools.profiler import counters


def pieces(count: int, shape: tuple[int, ...]) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.tensor(rng.normal(size=shape).astype(np.float32)) for _ in range(count)]


def test_batches_of_remembered_states_share_their_program() -> None:
    memory, weight, chosen = pieces(100, (1, 4)), torch.randn(4, 3, requires_grad=True), random.Random(0)

    def step() -> None:
        picked = chosen.choices(memory, k=32)  # some twice
        weight.grad = None
        (torch.cat(picked) @ weight).square().mean().backward()
        (torch.stack(picked).squeeze(1) @ weight.detach()).sum().item()

    for _ in range(3):
        step()
    before = counters()
    for _ in range(5):
        step()
    assert (counters() - before).programs_built == (counters() - before).cold_runs == 0


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 1, 3)])
def test_values(shape: tuple[int, ...], dim: int) -> None:
    xs = pieces(9, shape)
    arrays = [x.numpy().copy() for x in xs]
    assert np.array_equal(torch.cat(xs, dim).numpy(), np.concatenate(arrays, dim))
    assert np.array_equal(torch.stack(xs, dim).numpy(), np.stack(arrays, dim))
    turned = [x.transpose(0, 2) for x in xs]
    assert np.array_equal(torch.cat(turned, dim).numpy(), np.concatenate([a.transpose(2, 1, 0) for a in arrays], dim))
    parts = [x[:, :1] for x in xs]
    assert np.array_equal(torch.stack(parts, dim).numpy(), np.stack([a[:, :1] for a in arrays], dim))


def test_lengths_differ() -> None:
    xs = [torch.arange(float(n)) for n in range(10)]
    for x in xs:
        x.sum().item()
    assert torch.cat(xs).tolist() == [float(k) for n in range(10) for k in range(n)]


def test_numbers_that_were_kept() -> None:
    losses = [torch.tensor(float(n)).square() for n in range(10)]
    for loss in losses:
        loss.item()
    assert torch.stack(losses).mean().item() == 28.5


def test_later_writes_are_not_seen_and_earlier_ones_are() -> None:
    xs = pieces(8, (2,))
    xs[0][0] = 5.0
    xs[1].mul_(0.0)
    out = torch.cat(xs)
    xs[2].fill_(7.0)
    assert out[0].item() == 5.0 and out[2:4].tolist() == [0.0, 0.0] and 7.0 not in out.tolist()


def test_gradients_flow() -> None:
    xs = [x.requires_grad_() for x in pieces(8, (2, 2))]
    torch.cat(xs).square().sum().backward()
    assert all(np.array_equal(x.grad.numpy(), 2 * x.detach().numpy()) for x in xs)
    with torch.no_grad():
        out = torch.cat(xs)
    assert not out.requires_grad and out.grad_fn is None


def test_what_does_not_fit() -> None:
    xs = pieces(8, (2, 3))
    with pytest.raises(IndexError):
        torch.cat(xs, 2)
    with pytest.raises(RuntimeError):
        torch.cat([*xs, torch.ones(2, 4)])
    with pytest.raises(RuntimeError):
        torch.stack([*xs, torch.ones(2, 4)])
    with pytest.raises(TypeError):
        torch.cat([*xs, 1.0])
    assert torch.cat([*xs, torch.ones(2, 3, dtype=torch.int64)]).dtype is torch.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_pieces_of_all_lengths(dtype: type) -> None:
    """Whole vectors, words and single bytes, from any address."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 100, int(n)).astype(dtype) for n in rng.integers(1, 300, 40)]
    whole = torch.tensor(np.concatenate(arrays))
    xs = list(whole.split([len(a) for a in arrays]))
    rng.shuffle(xs)
    assert np.array_equal(torch.cat(xs).numpy(), np.concatenate([x.numpy() for x in xs]))
    assert torch.cat([x[1:] for x in xs if len(x) > 1]).tolist() == [n for x in xs for n in x.tolist()[1:]]
