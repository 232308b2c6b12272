"""Names of ``torch.nn.parallel``, ``torch.nn.modules.utils``, ``torch.jit`` and ``torch.fx`` that libraries import."""

import importlib

import pytest
import torch

import rushlight

BOTH = pytest.mark.parametrize("package", [torch, rushlight], ids=["torch", "rushlight"])


@BOTH
def test_sizes(package):
    utils = importlib.import_module(f"{package.__name__}.nn.modules.utils")
    assert utils._single(3) == (3,) and utils._pair(3) == (3, 3) and utils._pair([1, 2]) == (1, 2)
    assert utils._triple(1) == (1, 1, 1) and utils._quadruple(2) == (2,) * 4 and utils._ntuple(5)(0) == (0,) * 5
    assert utils._reverse_repeat_tuple((1, 2), 2) == (2, 2, 1, 1)
    assert utils._list_with_default([None, 3], [7, 8, 9]) == [8, 3] and utils._list_with_default(4, [1]) == 4
    with pytest.raises(ValueError, match="at least 3"):
        utils._list_with_default([None, None], [1, 2])


@BOTH
def test_names_that_libraries_import(package):
    for place, names in {"nn.parallel.data_parallel": "DataParallel data_parallel",
                         "nn.parallel": "scatter gather",
                         "nn.parallel._functions": "Broadcast ReduceAddCoalesced Gather Scatter",
                         "nn.parallel.scatter_gather": "scatter gather scatter_kwargs",
                         "nn.parallel.distributed": "DistributedDataParallel",
                         "nn.parallel.replicate": "replicate", "nn.parallel.parallel_apply": "parallel_apply",
                         "jit.annotations": "List Dict Optional Tuple", "jit": "ScriptModule script_method", "fx": "wrap"}.items():
        module = importlib.import_module(f"{package.__name__}.{place}")
        for name in names.split():
            assert hasattr(module, name), (place, name)


@rushlight.fx.wrap
def doubled(x):
    return 2 * x


def test_what_is_nothing_here():
    assert doubled(3) == 6 and rushlight.fx.symbolic_trace(lambda x: doubled(x)).graph.find_nodes(op="call_function", target=doubled)
    with pytest.raises(NotImplementedError, match="top level"):
        rushlight.fx.wrap("len")
    assert rushlight.nn.parallel.data_parallel(rushlight.nn.Linear(3, 2), rushlight.ones(4, 3)).shape == (4, 2)


def test_modules_of_scripts_run_as_written():
    class Net(rushlight.jit.ScriptModule):
        def __init__(self):
            super().__init__()
            self.layer = rushlight.nn.Linear(2, 1)

        @rushlight.jit.script_method
        def forward(self, x):
            return self.layer(x).relu()
    assert Net()(rushlight.ones(3, 2)).shape == (3, 1)


def test_batches_are_cut_and_joined_and_gradients_meet():
    nn = rushlight.nn
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x = rushlight.arange(15.0).reshape(5, 3)
    parts = nn.parallel.scatter((x, {"k": 1}), ["cpu", "cpu"])
    assert [(p.shape[0], k) for p, k in parts] == [(3, {"k": 1}), (2, {"k": 1})]
    copies = nn.parallel.replicate(net, ["cpu", "cpu"])
    assert copies[0] is not net and copies[1][0].weight is net[0].weight and copies[0][1].running_mean is net[1].running_mean
    outs = nn.parallel.parallel_apply([c[0] for c in copies], [(p,) for p, _ in parts])
    joined = nn.parallel.gather(outs, "cpu")
    assert rushlight.equal(joined, net[0](x))
    joined.sum().backward()
    grad = net[0].weight.grad.clone()
    net.zero_grad()
    net[0](x).sum().backward()
    assert rushlight.allclose(grad, net[0].weight.grad)
    copies[0][0].weight = nn.Parameter(rushlight.zeros(4, 3))
    assert net[0].weight.abs().sum().item() > 0
    first, named = nn.parallel.scatter_gather.scatter_kwargs((), {"x": x}, ["cpu", "cpu"])
    assert first == ((), ()) and [k["x"].shape[0] for k in named] == [3, 2]
    assert nn.parallel.gather([{"a": x}, {"a": x}], "cpu")["a"].shape == (10, 3)
    with pytest.raises((RuntimeError, AssertionError), match="CUDA"):
        nn.parallel.scatter(x, [0, 1])


def test_sums_of_all_devices():
    functions = importlib.import_module("rushlight.nn.parallel._functions")
    a, b = rushlight.ones(2, requires_grad=True), rushlight.ones(3)
    copies = functions.Broadcast.apply(["cpu", "cpu"], a, b)
    assert [c.shape[0] for c in copies] == [2, 3, 2, 3]
    first, second = functions.ReduceAddCoalesced.apply("cpu", 2, *copies)
    first.sum().backward()
    assert first.tolist() == [2.0] * 2 and second.tolist() == [2.0] * 3 and a.grad.tolist() == [2.0] * 2


def test_extensions_cannot_be_built():
    cpp_extension = importlib.import_module("rushlight.utils.cpp_extension")
    for build in (cpp_extension.load, cpp_extension.load_inline):
        with pytest.raises(RuntimeError, match="'fast' cannot be built"):
            build(name="fast", sources=["fast.cpp"]) if build is cpp_extension.load else build("fast", "int x;")
    assert cpp_extension.CUDA_HOME is None


def test_one_process_has_the_baton(tmp_path):
    file_baton = importlib.import_module("rushlight.utils.file_baton")
    first, second = (file_baton.FileBaton(str(tmp_path / "lock"), wait_seconds=0.001) for _ in range(2))
    assert first.try_acquire() and not second.try_acquire()
    first.release()
    second.wait()
    assert second.try_acquire()
    second.release()
