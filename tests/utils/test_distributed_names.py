"""What ``torch.distributed`` builds upon groups: meshes and collectives of one process, and the classes that no object is of."""
from __future__ import annotations

import pytest

import rushlight as torch
import rushlight.distributed as dist
from rushlight.futures import Future


@pytest.fixture
def group():
    dist.init_process_group("gloo", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_meshes_of_one_process(group):
    mesh = dist.init_device_mesh("cpu", (1, 1), mesh_dim_names=("data", "model"))
    assert mesh.shape == (1, 1) and mesh.size() == 1 and mesh.get_coordinate() == [0, 0] and mesh["data"].mesh_dim_names == ("data",)
    assert mesh.mesh.tolist() == [[0]] and dist.get_world_size(mesh.get_group("model")) == 1 and mesh.get_local_rank("data") == 0
    assert repr(mesh) == "DeviceMesh('cpu', [[0]], mesh_dim_names=('data', 'model'))" and mesh == mesh["data", "model"]
    with pytest.raises(RuntimeError, match="there is one process here"):
        dist.init_device_mesh("cpu", (2,))
    with pytest.raises(KeyError, match="Invalid mesh_dim_name other"):
        mesh["other"]
    with pytest.raises(RuntimeError, match="should have same length"):
        dist.init_device_mesh("cpu", (1,), mesh_dim_names=("a", "b"))


def test_placements_and_tensors_that_are_not_spread():
    from rushlight.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
    from rushlight.distributed.tensor.placement_types import _StridedShard

    assert (repr(Shard(1)), str(Shard(1)), repr(Replicate()), str(Replicate()), repr(Partial("avg")), str(Partial())) == (
        "Shard(dim=1)", "S(1)", "Replicate()", "R", "Partial(avg)", "P(sum)")
    assert Shard(1) == Shard(1) != Shard(0) and len({Replicate(), Replicate()}) == 1 and Shard(0).is_shard(0) and not Shard(0).is_shard(1)
    assert [Shard.local_shard_size_and_offset(7, 4, r) for r in range(4)] == [(2, 0), (2, 2), (2, 4), (1, 6)]
    assert _StridedShard(0, split_factor=2).is_shard() and Partial().is_partial("sum")
    assert not isinstance(torch.ones(1), DTensor)
    x = torch.ones(1)
    for make in (lambda: DTensor(x, None, None), lambda: distribute_tensor(x), lambda: DTensor.from_local(x)):
        with pytest.raises(NotImplementedError, match="there is one process"):
            make()


def test_what_needs_several_processes_says_so():
    import rushlight.distributed.checkpoint as checkpoint
    from rushlight.distributed.fsdp import FullyShardedDataParallel, fully_shard

    assert not isinstance(torch.nn.Linear(1, 1), FullyShardedDataParallel)
    for make in (lambda: FullyShardedDataParallel(torch.nn.Linear(1, 1)), lambda: fully_shard(torch.nn.Linear(1, 1)),
                 lambda: checkpoint.save({}), lambda: checkpoint.FileSystemReader("x")):
        with pytest.raises(NotImplementedError, match="one process"):
            make()
    assert torch.ones(1).layout not in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


class Counter:
    def __init__(self, start):
        self.n = start

    def more(self, by):
        self.n += by
        return self.n


def test_a_worker_that_calls_itself():
    from rushlight.distributed import rpc

    for call in (lambda: rpc.rpc_sync("me", print), lambda: rpc.RRef(1), rpc.get_worker_info, rpc.shutdown):
        with pytest.raises(RuntimeError, match="RPC has not been initialized"):
            call()
    with pytest.raises(RuntimeError, match="there is one worker"):
        rpc.init_rpc("me", rank=1, world_size=2)
    rpc.init_rpc("me", rank=0, world_size=1)
    try:
        assert repr(rpc.get_worker_info()) == "WorkerInfo(id=0, name=me)"
        for to in ("me", 0, rpc.get_worker_info()):
            assert rpc.rpc_sync(to, torch.add, args=(torch.ones(2), 3)).tolist() == [4.0, 4.0]
        first: Future = Future()
        second = rpc.rpc_async("me", lambda: first.wait() + 1)  # each call has a thread
        first.set_result(1)
        assert second.wait() == 2
        counter = rpc.remote("me", Counter, args=(3,))
        assert [counter.rpc_sync().more(1), counter.rpc_async().more(2).wait(), counter.remote().more(3).to_here()] == [4, 6, 9]
        assert counter.is_owner() and counter.owner_name() == "me" and counter.local_value().n == 9
        with pytest.raises(ZeroDivisionError):
            rpc.rpc_sync("me", lambda: 1 // 0)
        with pytest.raises(RuntimeError, match="could not find destination name you"):
            rpc.rpc_sync("you", print)
        with pytest.raises(RuntimeError, match="set timeout"):
            rpc.rpc_sync("me", Future().wait, timeout=0.01)
        with pytest.raises(RuntimeError, match="already initialized"):
            rpc.init_rpc("me")
    finally:
        rpc.shutdown(graceful=False)
    with pytest.raises(RuntimeError, match="RPC has not been initialized"):
        rpc.get_worker_info()


def test_messages_to_oneself(group):
    x, out = torch.arange(3.0), torch.zeros(3)
    dist.all_to_all_single(out, x)
    assert out.equal(x) and dist.get_global_rank(None, 0) == 0 and dist.get_process_group_ranks(None) == [0]
    given = [None]
    dist.gather_object("mine", given)
    dist.scatter_object_list(given, ["yours"])
    assert given == ["yours"]
    out.zero_()
    dist.reduce_scatter(out, [x])
    assert out.equal(x)
    with pytest.raises(ValueError, match="sends itself nothing"):
        dist.send(x, 0)
    with pytest.raises(ValueError, match="Group rank 1"):
        dist.get_global_rank(None, 1)
    from rushlight.distributed import _functional_collectives as collectives
    from rushlight.distributed.distributed_c10d import _get_default_group

    x.requires_grad_()
    collectives.wait_tensor(collectives.all_reduce(x, "sum", _get_default_group())).sum().backward()
    assert x.grad.equal(torch.ones(3))


def test_join_waits_for_nobody(group):
    from rushlight.distributed.algorithms.join import Join, Joinable, JoinHook

    told = []

    class Hook(JoinHook):
        def post_hook(self, is_last_joiner):
            told.append(is_last_joiner)

    class Model(Joinable):
        def join_hook(self, **kwargs):
            return Hook()

    with Join([Model()]):
        Join.notify_join_context(Model())
    assert told == [True]
    with pytest.raises(ValueError, match="at least one joinable"):
        Join([])
