"""``spawn``: numbered calls in processes, and what one of them raises."""
from __future__ import annotations

import copy
import pickle

import pytest

import rushlight
import rushlight.multiprocessing as mp


def doubled(i, x, results):
    results.put((i, (x * (i + 1)).tolist()))


def failing(i, at):
    if i == at:
        raise ValueError(f"number {i} fails")


def test_names_are_pythons():
    import multiprocessing

    assert mp.Process is multiprocessing.Process and mp.Queue and mp.set_start_method
    assert rushlight.multiprocessing is mp


def test_spawn_numbers_its_calls():
    results = mp.get_context("spawn").SimpleQueue()
    assert mp.spawn(doubled, (rushlight.ones(2), results), nprocs=2) is None
    assert sorted(results.get() for _ in range(2)) == [(0, [1.0, 1.0]), (1, [2.0, 2.0])]


def test_what_a_process_raises_is_told():
    with pytest.raises(mp.ProcessRaisedException, match="(?s)Process 1 .*number 1 fails"):
        mp.spawn(failing, (1,), nprocs=2)


def test_a_device_that_another_process_sends_is_the_one_that_tensors_are_on():
    for name in ("cpu", "meta"):
        device = rushlight.device(name)
        assert device is rushlight.zeros(1, device=name).device
        assert all(copied is device for copied in (pickle.loads(pickle.dumps(device)), copy.deepcopy(device), rushlight.device(device)))
    assert rushlight.device("cpu:0") != rushlight.device("cpu") and not rushlight.zeros(1, device="cpu:0").is_meta


def halve(i, model, x):
    with rushlight.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    x[i] = 10 * (i + 1)


def learn(model, counter, steps):
    """What a worker of Hogwild does: its own batches, everybody's parameters."""
    rushlight.manual_seed(counter[0].item())
    optimizer = rushlight.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for _ in range(steps):
        x = rushlight.randn(16, 3)
        optimizer.zero_grad()
        rushlight.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True) * 2 + 1).backward()
        optimizer.step()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_see_what_others_write_to_shared_memory(method):
    model, x, own = rushlight.nn.Linear(2, 2), rushlight.zeros(2).share_memory_(), rushlight.zeros(2)
    before = [p.detach().clone() for p in model.parameters()]
    assert model.share_memory() is model
    assert x.is_shared() and all(p.is_shared() for p in model.parameters()) and not own.is_shared()
    assert all((p == b).all() for p, b in zip(model.parameters(), before))
    mp.spawn(halve, (model, x), nprocs=1, start_method=method)
    mp.spawn(halve, (model, own), nprocs=1, start_method=method)
    assert x.tolist() == [10, 0] and own.tolist() == [0, 0]
    assert all((p == b / 4).all() for p, b in zip(model.parameters(), before))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_model_is_learnt_by_several_processes_at_once(method):
    rushlight.manual_seed(0)
    model = rushlight.nn.Linear(3, 1).share_memory()
    context = mp.get_context(method)
    workers = [context.Process(target=learn, args=(model, rushlight.tensor([k]), 60)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert model.weight.is_shared() and model.bias.tolist() == pytest.approx([1], abs=0.1)
    assert model.weight.tolist()[0] == pytest.approx([2, 2, 2], abs=0.1)


@pytest.mark.parametrize("dtype", [rushlight.bfloat16, rushlight.int64, rushlight.bool, rushlight.complex64])
def test_memory_is_shared_whatever_the_dtype(dtype):
    x = rushlight.ones(3, 2, dtype=dtype).t().share_memory_()
    assert x.is_shared() and x[1].is_shared() and x.dtype is dtype and x.shape == (2, 3) and (x == 1).all()
    assert x.share_memory_() is x and rushlight.ones(0).share_memory_().numel() == 0


def test_a_shared_tensor_is_copied_as_any_other_is():
    import copy
    import pickle

    x = rushlight.ones(3, requires_grad=True).share_memory_()
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.clone()):
        assert not twin.is_shared() and twin.tolist() == [1, 1, 1] and twin.requires_grad
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_a_device_goes_to_another_process():
    import pickle

    for device in (rushlight.device("cpu"), rushlight.device("cuda", 1)):
        assert pickle.loads(pickle.dumps(device)) == device
