"""``torch.distributed`` and ``DistributedDataParallel`` of one process, against PyTorch's messages and values."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight
import rushlight.distributed as dist
from rushlight.nn.parallel import DistributedDataParallel


@pytest.fixture
def world():
    dist.init_process_group("gloo", rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_without_a_group():
    assert dist.is_available() and not dist.is_initialized() and not dist.is_nccl_available()
    wants = (dist.get_rank, dist.get_world_size, dist.barrier, lambda: dist.all_reduce(rushlight.ones(2)), dist.destroy_process_group,
             lambda: DistributedDataParallel(rushlight.nn.Linear(2, 2)), lambda: rushlight.utils.data.DistributedSampler(range(4)))
    for want in wants:
        with pytest.raises(ValueError, match="Default process group has not been initialized"):
            want()


def test_the_environment_tells_rank_and_size(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="environment variable RANK expected, but not set"):
        dist.init_process_group("gloo")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    dist.init_process_group(backend="nccl")
    with pytest.raises(ValueError, match="twice"):
        dist.init_process_group("gloo")
    assert (dist.get_rank(), dist.get_world_size(), dist.get_backend()) == (0, 1, "nccl")
    dist.destroy_process_group()
    assert not dist.is_initialized()


def test_a_group_that_is_not_here_is_refused():
    for rank, size in ((0, 2), (1, 2), (1, 1)):
        with pytest.raises(RuntimeError, match=f"rank {rank} of {size}"):
            dist.init_process_group("gloo", rank=rank, world_size=size)
    with pytest.raises(AssertionError, match="Unknown backend type foo"):
        dist.init_process_group("foo", rank=0, world_size=1)
    assert not dist.is_initialized()


def test_collectives_of_one_member(world):
    x = rushlight.arange(3.0)
    for op in (dist.ReduceOp.SUM, dist.ReduceOp.AVG, dist.ReduceOp.MAX):
        assert dist.all_reduce(x, op=op) is None
    assert dist.all_reduce(x, async_op=True).wait()
    dist.broadcast(x, 0)
    dist.reduce(x, dst=0)
    dist.barrier()
    parts, whole, named, mine = [rushlight.zeros(3)], rushlight.zeros(1, 3), [None], rushlight.zeros(3)
    dist.all_gather(parts, x)
    dist.all_gather_into_tensor(whole, x)
    dist.all_gather_object(named, {"rank": 0})
    dist.scatter(mine, [x + 1])
    assert parts[0].tolist() == x.tolist() == whole[0].tolist() == [0, 1, 2]
    assert mine.tolist() == [1, 2, 3] and named == [{"rank": 0}]
    x.add_(5)
    assert parts[0].tolist() == [0, 1, 2]  # a copy
    with pytest.raises(RuntimeError, match="invalid root rank: 1"):
        dist.broadcast(x, 1)
    with pytest.raises(ValueError, match="1, got 2"):
        dist.all_gather([x, x], x)
    assert dist.new_group([0]).size() == 1


def test_a_wrapped_module_trains_as_the_module(world):
    results = []
    for wrap in (lambda net: net, DistributedDataParallel):
        rushlight.manual_seed(0)
        net = wrap(rushlight.nn.Linear(3, 2))
        optimizer = rushlight.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            net(rushlight.ones(4, 3)).pow(2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append([p.detach().numpy() for p in net.parameters()])
    for plain, wrapped in zip(*results):
        np.testing.assert_allclose(wrapped, plain, 1e-5)
    assert list(net.state_dict()) == ["module.weight", "module.bias"]
    with net.no_sync():
        assert not net.require_backward_grad_sync
    assert net.require_backward_grad_sync
    with pytest.raises(RuntimeError, match="doesn't have any parameter"):
        DistributedDataParallel(rushlight.nn.ReLU())


def test_a_sampler_asks_the_group(world):
    sampler = rushlight.utils.data.DistributedSampler(range(5), shuffle=False)
    assert list(sampler) == [0, 1, 2, 3, 4]


def test_collectives_with_gradients():
    from rushlight.distributed import nn

    with pytest.raises(ValueError):
        nn.all_reduce(rushlight.ones(2))
    rushlight.distributed.init_process_group("gloo", rank=0, world_size=1)
    try:
        x = rushlight.ones(2, requires_grad=True)
        results = [nn.all_reduce(x), nn.broadcast(x, 0), *nn.all_gather(x), *nn.gather(x), nn.scatter([x]), nn.reduce(x, 0),
                   nn.reduce_scatter(rushlight.zeros(2), [x]), *nn.all_to_all([rushlight.zeros(2)], [x]),
                   nn.functional.all_to_all_single(rushlight.zeros(2), x)]
        assert all(r is not x and r.tolist() == [1.0, 1.0] for r in results)
        sum(r.sum() for r in results).backward()
        assert x.grad.tolist() == [9.0, 9.0]
        with pytest.raises(RuntimeError, match="invalid root rank"):
            nn.broadcast(x, 1)
    finally:
        rushlight.distributed.destroy_process_group()
