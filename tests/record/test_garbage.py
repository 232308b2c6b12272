"""What was recorded and dropped does not keep memory for long."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch
from rushlight.autograd import garbage
from rushlight.record import counters, flush, local, trace
from rushlight.record.flush import start_afresh

SWEEP = 1 << 20


@pytest.fixture(autouse=True)
def sweeps_often(monkeypatch):
    for module in (trace, garbage):
        monkeypatch.setattr(module, "SWEEP", SWEEP)
    start_afresh()
    yield
    start_afresh()


def held():
    """Bytes of the memory that the present trace refers to."""
    return sum(v.buffer.nbytes for v in local.trace.values if v.buffer is not None)


def image(k):
    return np.full((100, 100, 3), k % 256, np.uint8)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("look", [
    lambda k: torch.from_numpy(image(k)).permute(2, 0, 1), lambda k: torch.tensor(image(k)).permute(2, 0, 1).contiguous(),
    lambda k: torch.from_numpy(image(k)).view(-1).float() / 255, lambda k: torch.tensor(image(k))[None].transpose(1, 3)[0].flip(0),
    lambda k: torch.rand(100, 100).view(-1)])
def test_a_loop_that_drops_what_it_makes_keeps_little(look, grad):
    with torch.set_grad_enabled(grad):
        most = 0
        for k in range(400):
            look(k)
            most = max(most, held())
    assert most < 2 * SWEEP


def test_what_somebody_holds_is_no_garbage():
    kept = [torch.tensor(image(k)) for k in range(100)]
    flush()
    before = local.trace.flushes
    for x in kept:
        x.permute(2, 0, 1)
    assert local.trace.flushes == before
    flush()
    views = [torch.tensor(image(k)).permute(2, 0, 1) for k in range(200)]
    assert local.trace.flushes == before + 1
    for k, view in enumerate(views):
        assert view.shape == (3, 100, 100) and view[0, 0, 0].item() == k % 256


def test_memory_that_is_written_in_place_is_no_garbage():
    x, y = torch.ones(1 << 20), torch.ones(1 << 20)
    flush()
    before = counters.programs_run
    for k in range(4):
        x.mul_(0.5).add_(y).mul_(2.0)
        assert x[0].item() == 2 * k + 3 and counters.programs_run == before + k + 1


def test_what_a_pending_result_reads_is_no_garbage():
    for _ in range(4):
        before = counters.programs_run
        x = torch.tensor(np.ones((32, 3, 64, 64), np.float32))
        for call in (torch.relu, torch.tanh, torch.exp, torch.sin):
            x = call(x)
        assert x.mean().item() == pytest.approx(np.sin(np.exp(np.tanh(1.0))), abs=1e-5)
        assert counters.programs_run == before + 1


def test_a_training_step_stays_one_program():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(),
                              torch.nn.Linear(16 * 28 * 28, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    x, y = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))
    losses = []
    for k in range(6):
        if k == 4:
            before = counters.programs_run
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert counters.programs_run - before == 2 and losses == sorted(losses, reverse=True)
