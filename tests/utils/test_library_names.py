"""Names that training frameworks import: backends and stores of groups, a sharded optimizer, readers of archives, arguments of ``to``."""

from datetime import timedelta

import pytest

import rushlight as torch
import rushlight.distributed as dist
from rushlight._C import _nn
from rushlight._subclasses.fake_tensor import FakeTensor, FakeTensorMode, is_fake
from rushlight.distributed.optim import ZeroRedundancyOptimizer
from rushlight.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from rushlight.utils.flop_counter import FlopCounterMode


@pytest.fixture
def world():
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


def test_backends_have_pytorchs_names(monkeypatch):
    assert dist.Backend("GLOO") == "gloo" == dist.Backend.GLOO and type(dist.Backend("Foo")) is str
    assert dist.Backend.backend_list == ["undefined", "gloo", "nccl", "xccl", "ucc", "mpi", "fake"]
    with pytest.raises(ValueError, match="string-ish"):
        dist.Backend(3)
    assert [dist.is_backend_available(name) for name in ("gloo", "GLOO", "nccl", "foo")] == [True, True, False, False]
    assert dist.get_default_backend_for_device("cpu") == dist.get_default_backend_for_device(torch.device("cpu")) == "gloo"
    assert dist.get_default_backend_for_device("cuda:1") == "nccl"
    with pytest.raises(ValueError, match="not registered for device : foo"):
        dist.get_default_backend_for_device("foo")
    assert dist.default_pg_timeout == timedelta(minutes=30)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert dist.get_node_local_rank(3) == 3
    with pytest.raises(RuntimeError, match="LOCAL_RANK is not in the environment"):
        dist.get_node_local_rank()
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert dist.get_node_local_rank(3) == 2
    assert not (dist.is_ucc_available() or dist.is_xccl_available() or dist.is_mpi_available())


def test_who_is_in_a_group(world):
    from rushlight.distributed.distributed_c10d import _rank_not_in_group

    assert dist.group.WORLD.name() == "gloo"
    assert not _rank_not_in_group(dist.group.WORLD) and _rank_not_in_group(dist.new_group([]))


@pytest.mark.parametrize("make", [dist.HashStore, lambda: dist.TCPStore("localhost", 0, 1, True), lambda: dist.FileStore("/nowhere", 1)])
def test_a_store_of_one_process(make):
    store = make()
    store.set("a", "b")
    assert store.get("a") == b"b" and store.check(["a"]) and not store.check(["a", "c"])
    assert [store.add("n", 3), store.add("n", 2), store.get("n")] == [3, 5, b"5"]
    store.append("a", b"c")
    assert store.compare_set("a", "bc", "d") == b"d" and store.compare_set("a", "x", "e") == b"d"
    assert store.compare_set("new", "", "f") == b"f"
    store.multi_set(["p", "q"], ["1", "2"])
    assert store.multi_get(["q", "p"]) == [b"2", b"1"] and store.num_keys() == 5
    assert store.delete_key("p") and not store.delete_key("p")
    store.wait(["q"], timedelta(seconds=1))
    with pytest.raises(dist.DistStoreError, match="no value of p"):
        store.get("p")
    inner = dist.PrefixStore("in", store)
    inner.set("a", "own")
    assert inner.get("a") == b"own" and store.get("a") == b"d" and store.get("in/a") == b"own"
    assert inner.underlying_store is store and inner.check(["a"]) and inner.delete_key("a") and not store.check(["in/a"])


def test_a_store_of_several_processes_is_refused():
    for make in (lambda: dist.TCPStore("localhost", 0, 2, True), lambda: dist.TCPStore("localhost", 0), lambda: dist.FileStore("f", 2)):
        with pytest.raises(RuntimeError, match="a group has one process here"):
            make()


def test_a_sharded_optimizer_of_one_member(world):
    def trained(make):
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        optimizer = make(net.parameters())
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(4, 3)).pow(2).sum().backward()
            optimizer.step()
            schedule.step()
        return optimizer, net.weight.tolist()
    plain, expected = trained(lambda params: torch.optim.Adam(params, lr=0.1))
    shared, found = trained(lambda params: ZeroRedundancyOptimizer(params, torch.optim.Adam, lr=0.1))
    assert found == expected and isinstance(shared, torch.optim.Optimizer) and type(shared.optim) is torch.optim.Adam
    with pytest.raises(RuntimeError, match="has not been consolidated"):
        shared.state_dict()
    shared.consolidate_state_dict()
    state = shared.state_dict()
    assert state["param_groups"] == plain.state_dict()["param_groups"]
    shared.load_state_dict(state)
    assert shared.param_groups is shared.optim.param_groups and shared.state is shared.optim.state
    more = torch.nn.Parameter(torch.ones(2))
    shared.add_param_group({"params": [more]})
    assert len(shared.param_groups) == 2 and shared.param_groups[1]["params"] == [more]


def test_a_sharded_optimizer_wants_a_group():
    with pytest.raises(ValueError, match="Default process group has not been initialized"):
        ZeroRedundancyOptimizer([torch.nn.Parameter(torch.ones(1))], torch.optim.SGD, lr=0.1)


def test_arguments_of_to():
    cpu = torch.device("cpu")
    for args, kwargs, expected in (
            ((), {}, (None, None, False, None)), (("cpu",), {}, (cpu, None, False, None)),
            ((torch.float64,), {}, (None, torch.float64, False, None)), (("cpu", torch.float16), {}, (cpu, torch.float16, False, None)),
            ((torch.ones(1, dtype=torch.int8),), {}, (cpu, torch.int8, False, None)),
            ((), {"device": "cpu", "non_blocking": True}, (cpu, None, True, None)),
            ((None, torch.float32, True), {}, (None, torch.float32, True, None)),
            ((torch.float32, True), {}, (None, torch.float32, True, None)), ((torch.ones(1), True), {}, (cpu, torch.float32, True, None)),
            ((), {"memory_format": torch.channels_last}, (None, None, False, torch.channels_last)),
            ((3.5,), {}, (cpu, torch.float64, False, None)), (("cuda:1",), {}, (torch.device("cuda:1"), None, False, None))):
        assert _nn._parse_to(*args, **kwargs) == expected, (args, kwargs)
    for args, kwargs in ((("cpu", torch.float32, True, True), {}), ((), {"copy": True})):
        with pytest.raises(RuntimeError, match="does not accept copy argument"):
            _nn._parse_to(*args, **kwargs)
    for args, kwargs in (((), {"foo": 1}), ((torch.float32, torch.float32, False, None), {}), (("cpu", "cpu"), {})):
        with pytest.raises(TypeError, match=r"to\(\)"):
            _nn._parse_to(*args, **kwargs)
    net = torch.nn.Linear(2, 2).to("cpu", torch.float64, non_blocking=True)
    assert net.weight.dtype is torch.float64 and net.to(torch.ones(1)).weight.dtype is torch.float32
    with pytest.raises(TypeError, match="invalid combination of arguments"):
        net.to(foo=1)


def test_an_archive_record_by_record(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.int64)}, path)
    reader = torch.PyTorchFileReader(str(path))
    names = reader.get_all_records()
    assert "data.pkl" in names and reader.has_record("data/0") and not reader.has_record("data/7")
    assert reader.get_record("version").strip() == b"3" and len(names) == len(set(names))
    assert reader.get_storage_from_record("data/0", 3, torch.float32).tolist() == [0, 1, 2]
    bytes_of = reader.get_storage_from_record("data/1", 16, torch.UntypedStorage)
    assert bytes_of.dtype is torch.uint8 and bytes_of.view(torch.int64).tolist() == [1, 1]
    for call in (lambda: reader.get_record("data/7"), lambda: reader.get_storage_from_record("data/0", 4, torch.float32)):
        with pytest.raises(RuntimeError, match="data/"):
            call()
    path.write_bytes(b"no archive")
    with pytest.raises(RuntimeError, match="finding central directory"):
        torch.PyTorchFileReader(path)


def test_what_there_is_not_says_so():
    assert not is_fake(torch.ones(1)) and get_proxy_mode() is None and FlopCounterMode(display=False).get_flop_counts() == {}
    for call, word in ((lambda: FakeTensor(torch.ones(1)), "meta"), (FakeTensorMode().__enter__, "meta"),
                       (lambda: make_fx(abs), "symbolic"), (FlopCounterMode(depth=3).__enter__, "torch.profiler")):
        with pytest.raises(NotImplementedError, match=word):
            call()
