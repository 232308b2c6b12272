"""Packed forms of weights are kept between runs, and forgotten when the weights are written to, by whatever way."""
from __future__ import annotations

import ctypes
import gc
import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn, optim
from rushlight.record import flush
from rushlight.record.packed import counters
from rushlight.record.settings import settings
from rushlight.tools.profiler import profile

rng = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


@pytest.fixture(autouse=True)
def hot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything is compiled at once: the cold tier packs nothing."""
    monkeypatch.setattr(settings, "cold_limit", 0)
    gc.collect()
    yield


def output(model: Callable, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        y = model(x)
        return np.array((y[0] if isinstance(y, tuple) else y).float().numpy())


def made(model: Callable, x: torch.Tensor, times: int = 1) -> int:
    """How many packed forms some calls make."""
    before = counters.made
    for _ in range(times):
        output(model, x)
    return counters.made - before


MODELS = {
    "linear": (lambda: nn.Linear(256, 96), (128, 256)),
    "convolution": (lambda: nn.Conv2d(16, 64, 5), (2, 16, 12, 12)),
    "Winograd": (lambda: nn.Conv2d(64, 64, 3, padding=1), (4, 64, 28, 28)),
    "Winograd, few tiles": (lambda: nn.Conv2d(256, 256, 3, padding=1), (1, 256, 12, 12)),
    "depthwise": (lambda: nn.Conv2d(32, 32, 3, groups=32), (2, 32, 12, 12)),
    "recurrent": (lambda: nn.LSTM(64, 64), (5, 3, 64)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_second_inference_packs_nothing(kind):
    make, shape = MODELS[kind]
    model, x = make().eval(), torch.tensor(array(*shape))
    first = output(model, x)
    assert made(model, x) == 0
    used = counters.reused
    np.testing.assert_array_equal(output(model, x), first)
    assert counters.reused > used
    with profile() as p:
        output(model, x)
    assert counters.made + counters.reused > used
    assert not any(row.kernel.endswith("step 0") and not row.flops for row in p.rows)


def test_a_bfloat16_inference_packs_nothing_the_second_time():
    model, x = nn.Linear(256, 96).to(torch.bfloat16).eval(), torch.tensor(array(128, 256)).to(torch.bfloat16)
    flush()
    first = output(model, x)
    assert made(model, x, 2) == 0
    np.testing.assert_array_equal(output(model, x), first)


def rewritten(w: torch.Tensor, model: nn.Module) -> dict[str, Callable[[np.ndarray], None]]:
    """Ways to write an array into a parameter."""
    def through_numpy(a):
        w.detach().numpy()[...] = a

    def row_by_row(a):
        with torch.no_grad():
            for k in range(len(a)):
                w[k] = torch.tensor(a[k])

    def optimizer(a):
        w.grad = w.detach() - torch.tensor(a)
        optim.SGD([w], lr=1.0).step()

    def state_dict(a):
        model.load_state_dict({**model.state_dict(), "weight": torch.tensor(a)})

    def file(a):
        copy = type(model)(model.in_features, model.out_features)
        with torch.no_grad():
            copy.weight.copy_(torch.tensor(a))
            copy.bias.copy_(model.bias)
        held = io.BytesIO()
        torch.save(copy.state_dict(), held)
        held.seek(0)
        model.load_state_dict(torch.load(held))

    def data(a):
        w.data = torch.tensor(a)

    def in_data(a):
        w.data.copy_(torch.tensor(a))

    def in_place(a):
        with torch.no_grad():
            w.mul_(0).add_(torch.tensor(a))

    def address(a):
        ctypes.memmove(w.data_ptr(), a.ctypes.data, a.nbytes)

    def flat(a):
        w.data.view(-1)[:] = torch.tensor(a.reshape(-1))

    return {f.__name__: f for f in (through_numpy, row_by_row, optimizer, state_dict, file, data, in_data, in_place, address, flat)}


WAYS = list(rewritten(torch.tensor(0.0), nn.Module()))


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_that_was_written_to_is_packed_again(way):
    model, x = nn.Linear(64, 64).eval(), torch.tensor(array(256, 64))
    write = rewritten(model.weight, model)[way]
    for _ in range(3):
        output(model, x)
        weight = array(64, 64)
        write(weight)
        want = x.numpy() @ weight.T + model.bias.detach().numpy()
        for _ in range(3):
            np.testing.assert_allclose(output(model, x), want, rtol=1e-4, atol=1e-4)
    assert made(model, x) == (1 if way == "address" else 0)


def test_an_address_that_was_handed_out_is_never_trusted():
    model, x = nn.Linear(64, 64, bias=False).eval(), torch.tensor(array(256, 64))
    address = model.weight.data_ptr()
    for _ in range(3):
        weight = array(64, 64)
        ctypes.memmove(address, weight.ctypes.data, weight.nbytes)
        np.testing.assert_allclose(output(model, x), x.numpy() @ weight.T, rtol=1e-4, atol=1e-4)


def test_nothing_is_kept_while_numpy_sees_the_memory():
    model, x = nn.Linear(64, 64, bias=False).eval(), torch.tensor(array(256, 64))
    output(model, x)
    memory = model.weight.detach().numpy()
    for _ in range(3):
        memory[...] = array(64, 64)
        np.testing.assert_allclose(output(model, x), x.numpy() @ memory.T, rtol=1e-4, atol=1e-4)
    assert made(model, x) == 1
    last = memory.copy()
    del memory
    assert made(model, x, 3) <= 2
    np.testing.assert_allclose(output(model, x), x.numpy() @ last.T, rtol=1e-4, atol=1e-4)


def test_a_weight_over_numpy_memory_is_kept_only_if_nobody_else_has_it():
    weight, x = array(64, 64), torch.tensor(array(256, 64))
    w = torch.from_numpy(weight)
    def model(x):
        return x @ w.T
    for _ in range(3):
        weight[...] = array(64, 64)
        np.testing.assert_allclose(output(model, x), x.numpy() @ weight.T, rtol=1e-4, atol=1e-4)
    del weight
    assert made(model, x, 4) <= 2
    assert made(model, x) == 0


def test_forms_go_with_the_memory():
    before = counters.bytes
    model, x = nn.Linear(64, 64).eval(), torch.tensor(array(256, 64))
    for _ in range(2):  # the program may have met weights that changed
        output(model, x)
    assert counters.bytes == before + 64 * 64 * 4
    del model
    gc.collect()
    assert counters.bytes == before


def test_no_more_is_kept_than_is_allowed(monkeypatch):
    monkeypatch.setattr(settings, "packed_bytes", counters.bytes + 20_000)
    model, x = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval(), torch.tensor(array(256, 64))
    output(model, x)
    assert made(model, x, 3) == 3  # one of the two each time


def test_training_keeps_no_weights():
    model, x = nn.Linear(64, 64), torch.tensor(array(256, 64))
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
    loss.item()
    assert not model.weight._value.buffer.packed
    for _ in range(4):  # a program of its own, between two updates
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        loss.item()
        optimizer.step()
    assert not any((model.weight._value.buffer.packed or {}).values())


def test_models_that_share_a_program_keep_their_own_forms():
    models, x = [nn.Linear(64, 64).eval() for _ in range(3)], torch.tensor(array(256, 64))
    want = [output(m, x) for m in models]
    for m in models:
        output(m, x)
    used = counters.made
    for m, y in zip(models * 2, want * 2, strict=True):
        np.testing.assert_array_equal(output(m, x), y)
    assert counters.made == used


def test_programs_share_forms():
    model = nn.Linear(64, 64).eval()
    for n in (256, 300, 512):
        output(model, torch.tensor(array(n, 64)))
    before = counters.bytes
    assert made(model, torch.tensor(array(400, 64))) == 0
    assert counters.bytes == before
