"""``GradScaler`` beside PyTorch's: scales, skipped steps, the state machine, and states that are saved."""
from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")


def run(t, gradients, **options):
    """Scale, tracker and parameter after each of some steps whose loss has the given slopes."""
    w = t.nn.Parameter(t.ones(3))
    optimizer, scaler = t.optim.SGD([w], lr=0.1), t.amp.GradScaler("cpu", **options)
    seen = []
    for slope in gradients:
        optimizer.zero_grad()
        scaler.scale((w * slope).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append((scaler.get_scale(), scaler.state_dict()["_growth_tracker"], w.detach().tolist()))
    return seen


@pytest.mark.parametrize("gradients", [[1.0] * 8, [1.0, float("inf"), 1.0, 1.0, float("nan"), 2.0, 3.0], [float("inf")] * 3])
def test_scales_as_in_pytorch(gradients):
    options = {"init_scale": 1024.0, "growth_interval": 3, "growth_factor": 4.0, "backoff_factor": 0.25}
    for ours, theirs in zip(run(rushlight, gradients, **options), run(torch, gradients, **options), strict=True):
        assert ours[:2] == theirs[:2]
        np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-6)


def test_growth_stops_before_infinity():
    for t in (rushlight, torch):
        assert run(t, [0.0] * 3, init_scale=2.0 ** 127, growth_interval=1)[-1][0] == 2.0 ** 127


def test_state_machine():
    w = rushlight.nn.Parameter(rushlight.ones(2))
    optimizer, scaler = rushlight.optim.SGD([w], lr=0.1), rushlight.amp.GradScaler("cpu", init_scale=8.0)
    with pytest.raises(AssertionError, match="Attempted step but _scale is None"):
        scaler.step(optimizer)
    with pytest.raises(AssertionError, match="Attempted update but _scale is None"):
        scaler.update()
    scaler.scale(w.sum()).backward()
    assert w.grad.tolist() == [8.0, 8.0]
    scaler.unscale_(optimizer)
    assert w.grad.tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="already been called on this optimizer"):
        scaler.unscale_(optimizer)
    with pytest.raises(AssertionError, match="may only be pickled"):
        pickle.dumps(scaler)
    rushlight.nn.utils.clip_grad_norm_([w], 0.5)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step\\(\\) has already been called"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="being called after step"):
        scaler.unscale_(optimizer)
    scaler.update()
    np.testing.assert_allclose(w.tolist(), [1 - 0.05 / 2 ** 0.5] * 2, rtol=1e-5)
    with pytest.raises(RuntimeError, match="Closure"):
        scaler.step(optimizer, closure=lambda: None)
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.update()
    scaler.update(4.0)
    assert scaler.get_scale() == 4.0


def test_two_optimizers_share_a_scale():
    a, b = rushlight.nn.Parameter(rushlight.ones(2)), rushlight.nn.Parameter(rushlight.ones(2))
    first, second = rushlight.optim.SGD([a], lr=0.5), rushlight.optim.SGD([b], lr=0.5)
    scaler = rushlight.amp.GradScaler("cpu", init_scale=8.0)
    for loss in scaler.scale([a.sum(), (b * float("inf")).sum()]):
        loss.backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert a.tolist() == [0.5, 0.5] and b.tolist() == [1.0, 1.0] and scaler.get_scale() == 4.0


def test_half_gradients_are_refused_and_factors_checked():
    w = rushlight.nn.Parameter(rushlight.ones(2, dtype=rushlight.float16))
    optimizer, scaler = rushlight.optim.SGD([w], lr=0.1), rushlight.amp.GradScaler("cpu")
    scaler.scale(w.float().sum()).backward()
    with pytest.raises(ValueError, match="FP16"):
        scaler.unscale_(optimizer)
    with pytest.raises(AssertionError, match="growth factor"):
        rushlight.amp.GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(AssertionError, match="backoff factor"):
        rushlight.amp.GradScaler("cpu", backoff_factor=1.0)


def test_states_travel_between_scalers_and_to_pytorch():
    w = rushlight.nn.Parameter(rushlight.ones(2))
    optimizer, scaler = rushlight.optim.SGD([w], lr=0.1), rushlight.amp.GradScaler("cpu", init_scale=32.0)
    for slope in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((w * slope).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    state = scaler.state_dict()
    other, theirs = rushlight.amp.GradScaler("cpu"), torch.amp.GradScaler("cpu")
    other.load_state_dict(state)
    theirs.load_state_dict(state)
    assert other.state_dict() == theirs.state_dict() == state
    assert (state["scale"], state["_growth_tracker"]) == (16.0, 1)
    for again in (pickle.loads(pickle.dumps(scaler)), copy.deepcopy(scaler)):
        assert again.state_dict() == state
    with pytest.raises(RuntimeError, match="source state dict is empty"):
        scaler.load_state_dict({})


def test_disabled():
    with pytest.warns(UserWarning, match="CUDA is not available"):
        scaler = rushlight.amp.GradScaler()
    w = rushlight.nn.Parameter(rushlight.ones(2))
    optimizer, loss = rushlight.optim.SGD([w], lr=0.5), w.sum()
    assert scaler.scale(loss) is loss and scaler.get_scale() == 1.0 and scaler.state_dict() == {} and not scaler.is_enabled()
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [0.5, 0.5]


def test_float16_training_with_autocast():
    """A loss whose gradients vanish in float16 without scaling."""
    w = rushlight.nn.Parameter(rushlight.ones(4, 4))
    x = rushlight.ones(4, 4)
    optimizer, scaler = rushlight.optim.SGD([w], lr=1.0), rushlight.amp.GradScaler("cpu")
    with rushlight.autocast("cpu", dtype=rushlight.float16):
        y = x @ w
    scaler.scale(y.float().mean() * 1e-8).backward()
    scaler.unscale_(optimizer)
    np.testing.assert_allclose(w.grad.numpy(), np.full((4, 4), 4e-8 / 16), rtol=2e-3)
