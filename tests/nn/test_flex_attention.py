"""Attention with scores and masks that functions make: results, gradients and block masks are PyTorch's, and all of it is one program."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import rushlight
from rushlight.nn.attention import flex_attention as ours
from rushlight.nn.functional import scaled_dot_product_attention
from rushlight.tools.profiler import counters

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("torch.nn.attention.flex_attention")
BOTH = [(torch, theirs), (rushlight, ours)]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's gradients on a CPU are right when they are not asked for through its compiler."""
    monkeypatch.setattr(theirs, "_validate_device", lambda *args: None)
    monkeypatch.setattr(theirs, "_warn_once", lambda *args, **named: None)


@functools.cache
def masks(t: Any, flex: Any) -> dict[str, Any]:
    documents = t.tensor([0] * 20 + [1] * 30 + [2] * 14)

    def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
        return q >= k

    def same(b: Any, h: Any, q: Any, k: Any) -> Any:
        return documents[q] == documents[k]

    def near(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q - k).abs() <= 4 + h

    def made(mod: Any, *sizes: Any, **options: Any) -> Any:
        return flex.create_block_mask(mod, *sizes, 64, 64, device="cpu", BLOCK_SIZE=16, **options)
    return {"causal": made(causal, None, None), "documents": made(flex.and_masks(causal, same), 2, 4), "near": made(near, None, 4),
            "either": made(flex.or_masks(near, lambda b, h, q, k: k < b + 1), 2, 4), "future": made(lambda b, h, q, k: q < k, 1, 1),
            "together": made(causal, 1, 1, separate_full_blocks=False)}


def scores(t: Any, bias: Any) -> dict[str, Any]:
    return {"none": None, "slope": lambda s, b, h, q, k: s + bias[h, k] * (k - q), "cap": lambda s, b, h, q, k: 20 * t.tanh(s / 20),
            "window": lambda s, b, h, q, k: t.where((q - k).abs() < 9, s * 2 + bias[h, q], -float("inf"))}


@pytest.mark.parametrize("mask", ["none", "documents", "either", "future"])
def test_results_and_gradients_are_the_same(mask: str) -> None:
    r = np.random.default_rng(0)
    given = [r.standard_normal(shape) for shape in ((2, 4, 64, 8), (2, 2, 64, 8), (2, 2, 64, 6), (4, 64))]
    seen = []
    for t, flex in BOTH:
        q, k, v, bias = (t.tensor(x, requires_grad=True) for x in given)
        found = []
        for mod in scores(t, bias).values():
            options = {"block_mask": masks(t, flex).get(mask), "scale": 0.3, "enable_gqa": True}
            out, lse = flex.flex_attention(q, k, v, mod, return_lse=True, **options)
            found += [out, lse]
        found.append(flex.flex_attention(q, k, v, **options))
        total = sum((t.nan_to_num(x, neginf=0.0) ** 2).sum() for x in found)
        seen.append([*found, *t.autograd.grad(total, [q, k, v, bias])])
    for a, b in zip(*seen, strict=True):
        assert str(a.dtype) == str(b.dtype)
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("mask", ["causal", "documents", "near", "either", "future", "together"])
def test_block_masks_are_the_same(mask: str) -> None:
    seen = []
    for t, flex in BOTH:
        m = masks(t, flex)[mask]
        parts = [m, m[:1, 0, 1], m.to("cpu"), flex.BlockMask.from_kv_blocks(m.kv_num_blocks, m.kv_indices, BLOCK_SIZE=(16, 8))]
        told = []
        for p in parts:
            tensors = [getattr(p, name) for name in ours.BlockMask._LISTS]
            told.append([None if x is None else (str(x.dtype), x.tolist()) for x in [*tensors, p.to_dense()]])
            told.append([p.shape, p.seq_lengths, p.BLOCK_SIZE, p.numel(), round(p.sparsity(), 6)])
        told.append([str(m), repr(m).replace("rushlight", "torch"), m.to_string(limit=1)])
        with pytest.raises(RuntimeError, match="sliced BlockMask"):
            parts[1].mask_mod(0, 0, 0, 0)
        seen.append(told)
    assert seen[0] == seen[1]


def test_masks_of_scores_and_of_lengths_that_are_no_multiple_of_a_block() -> None:
    for t, flex in BOTH:
        m = flex.create_block_mask(lambda b, h, q, k: q >= k, 1, 1, 50, 70, device="cpu", BLOCK_SIZE=(16, 32))
        q, k = t.ones(1, 1, 50, 4), t.ones(1, 1, 70, 4)
        v = t.arange(70.0).view(1, 1, 70, 1)
        out = flex.flex_attention(q, k, v, block_mask=m)
        np.testing.assert_allclose(out.flatten().numpy(), np.arange(50) / 2, rtol=1e-5, atol=1e-5)
        whole = flex.create_mask(lambda s, b, h, q, k, t=t: t.where(q >= k, s, -float("inf")), 1, None, 5, 6, device="cpu")
        assert whole[0, 0].tolist() == np.tri(5, 6, dtype=bool).tolist()


def test_listed_blocks_are_all_that_is_seen() -> None:
    counts, indices = rushlight.tensor([[[1, 1]]], dtype=rushlight.int32), rushlight.tensor([[[[1, 0], [0, 1]]]], dtype=rushlight.int32)
    m = ours.BlockMask.from_kv_blocks(counts, indices, BLOCK_SIZE=4)
    q, v = rushlight.zeros(1, 1, 8, 2), rushlight.arange(8.0).view(1, 1, 8, 1)
    assert ours.flex_attention(q, q, v, block_mask=m).flatten().tolist() == [5.5] * 4 + [1.5] * 4


@pytest.mark.parametrize("change", [
    lambda q, k, v, m: (q[0], k, v, None), lambda q, k, v, m: (q, k[..., :3], v, None), lambda q, k, v, m: (q, k[:, :1], v[:, :1], None),
    lambda q, k, v, m: (q, k.expand(2, -1, -1, -1), v, None), lambda q, k, v, m: (q[:, :, :5], k, v, m)])
def test_errors_are_the_same(change: Any) -> None:
    classes = []
    for t, flex in BOTH:
        q = t.ones(1, 2, 8, 4)
        m = flex.create_block_mask(lambda b, h, q, k: q >= k, 1, 1, 8, 8, device="cpu")
        with pytest.raises((ValueError, NotImplementedError)) as error:
            flex.flex_attention(*change(q, q, q, m)[:3], block_mask=change(q, q, q, m)[3])
        classes.append(error.type)
    assert classes[0] is classes[1]


def test_a_training_step_is_one_program() -> None:
    q, k, v, bias = (rushlight.randn(*shape).requires_grad_() for shape in ((2, 4, 64, 8), (2, 4, 64, 8), (2, 4, 64, 8), (4, 64)))
    mask = masks(rushlight, ours)["causal"]
    mod = scores(rushlight, bias)["slope"]

    def step() -> None:
        for p in (q, k, v, bias):
            p.grad = None
        ours.flex_attention(q, k, v, mod, mask).square().sum().backward()
        rushlight.stack([p.grad.sum() for p in (q, k, v, bias)]).tolist()
    for _ in range(3):
        step()
    before = counters()
    step()
    done = counters() - before
    assert (done.programs_run, done.programs_built) == (1, 0)


def test_a_mask_alone_is_left_to_scaled_dot_product_attention() -> None:
    q, k, v = rushlight.randn(3, 2, 4, 64, 8)
    mask = masks(rushlight, ours)["documents"]
    want = scaled_dot_product_attention(q, k, v, mask.mask(2, 4, 64, 64))
    np.testing.assert_allclose(ours.flex_attention(q, k, v, block_mask=mask).numpy(), want.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["causal_upper_left", "causal_lower_right"])
def test_causal_masks(variant: str) -> None:
    bias = [pytest.importorskip("torch.nn.attention.bias"), pytest.importorskip("rushlight.nn.attention.bias")]
    r = np.random.default_rng(0)
    given = [r.standard_normal((2, 2, n, 4)) for n in (3, 5, 5)]
    seen = []
    for (t, _), b in zip(BOTH, bias):
        mask = getattr(b, variant)(3, 5)
        seen.append((t.nn.functional.scaled_dot_product_attention(*[t.tensor(x) for x in given], mask).numpy(), repr(mask)))
        with pytest.raises(ValueError, match="causal=True"):
            t.nn.functional.scaled_dot_product_attention(*[t.tensor(x) for x in given], mask, is_causal=True)
    np.testing.assert_allclose(seen[1][0], seen[0][0], rtol=1e-12)
    assert seen[0][1] == seen[1][1]
