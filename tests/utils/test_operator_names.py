"""Operators by the names of PyTorch's dispatcher, and those that libraries register; futures; helpers in torch._utils."""
from __future__ import annotations

import threading

import pytest

import rushlight as torch
from rushlight.library import Library, custom_op, define, impl, register_autograd, register_fake


def test_operators_by_their_dispatchers_names():
    aten = torch.ops.aten
    x = torch.arange(6.0).view(2, 3)
    assert aten.add.Tensor(x, x, alpha=2).equal(3 * x) and aten.relu(x - 2).equal((x - 2).relu())
    assert aten._to_copy.default(x, dtype=torch.float64).dtype is torch.float64 and aten._to_copy.default(x) is not x
    assert aten.slice.Tensor(x, 1, 1, None).equal(x[:, 1:]) and aten.index.Tensor(x, [None, torch.tensor([2, 0])]).equal(x[:, [2, 0]])
    alias = aten.alias.default(x)
    assert alias is not x and alias.data_ptr() == x.data_ptr()
    assert aten.add.Tensor is aten.add.Tensor and aten.add.Tensor is not aten.add.Scalar and aten.add.Tensor.overloadpacket is aten.add
    assert (str(aten.add), repr(aten.add), aten.relu.default.name()) == ("aten.add", "<OpOverloadPacket(op='aten.add')>", "aten::relu")
    one = aten.add.Tensor
    assert (str(one), repr(one), one.name()) == ("aten.add.Tensor", "<OpOverload(op='aten.add', overload='Tensor')>", "aten::add.Tensor")
    for name in ("nothing_of_the_kind", "float32"):
        with pytest.raises(AttributeError, match=f"'_OpNamespace' 'aten' object has no attribute '{name}'"):
            getattr(aten, name)
    with pytest.raises(AttributeError, match="The underlying op of 'aten.add' has no overload name 'nothing'"):
        aten.add.nothing()
    assert not hasattr(torch.ops.nobody, "anything") and aten.linalg_norm(x).equal(torch.linalg.norm(x))
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6]])
    assert torch.ops.torchvision.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
    with pytest.raises(RuntimeError, match=r"Tried to instantiate class 'lib.Map'"):
        torch.classes.lib.Map()
    with pytest.raises(OSError, match="compiled for PyTorch"):
        torch.ops.load_library("x.so")


def test_modules_of_the_room_are_no_namespaces():
    from rushlight.ops import norm, windows

    assert norm.__name__ == "rushlight.ops.norm" and windows.__name__ == "rushlight.ops.windows"


def test_custom_operators_and_their_gradients():
    calls = []

    @custom_op("test_names::cubed", mutates_args=())
    def cubed(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        calls.append(scale)
        return scale * x ** 3

    def setup(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.scale = inputs[1]

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"Trying to backward through test_names::cubed.default but no autograd formula was registered"):
        cubed(x, 1.0).sum().backward()
    register_autograd("test_names::cubed", lambda ctx, grad: (3 * ctx.scale * ctx.saved_tensors[0] ** 2 * grad, None), setup_context=setup)
    register_fake("test_names::cubed")(lambda x, scale=1.0: x)
    torch.ops.test_names.cubed.default(x, scale=2.0).sum().backward()
    assert x.grad.tolist() == [6.0, 24.0] and calls == [1.0, 2.0]
    cubed.register_kernel("cuda", lambda x, scale=1.0: 1 / 0)
    cubed.register_kernel("cpu")(lambda x, scale=1.0: x)
    assert cubed(x.detach()).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="namespace::name"):
        custom_op("cubed", lambda x: x, mutates_args=())


def test_libraries_declare_and_write_operators():
    library = Library("test_names", "FRAGMENT")
    assert library.define("halved.Tensor(Tensor x) -> Tensor") == "halved.Tensor"
    with pytest.raises(NotImplementedError, match="test_names::halved.Tensor"):
        torch.ops.test_names.halved(torch.ones(1))
    library.impl("halved.Tensor", lambda x: 1 / 0, "CUDA")
    library.impl("halved.Tensor", lambda x: x / 2, "CPU")
    assert torch.ops.test_names.halved.Tensor(torch.ones(1)).item() == 0.5
    define("test_names::added", "(Tensor x, Tensor y) -> Tensor")
    impl("test_names::added", "cpu")(lambda x, y: x + y)
    x = torch.ones(1, requires_grad=True)
    torch.ops.test_names.added(x, x).backward()
    assert x.grad.item() == 2
    with pytest.raises(ValueError, match="was not made by torch.library.custom_op"):
        register_autograd("test_names::added", lambda ctx, g: g)
    with pytest.raises(ValueError, match="Unsupported kind"):
        Library("test_names", "OTHER")


def test_futures():
    future = torch.futures.Future()
    seen = []
    future.add_done_callback(lambda f: seen.append(f.value()))
    chained = future.then(lambda f: f.value() + 1).then(lambda f: f.value() // 0)
    with pytest.raises(RuntimeError, match="not been marked complete"):
        future.value()
    threading.Timer(0.01, future.set_result, [1]).start()
    assert future.wait() == 1 and future.done()
    with pytest.raises(ZeroDivisionError):
        chained.wait()
    future.add_done_callback(lambda f: seen.append("at once"))
    assert seen == [1, "at once"]
    with pytest.raises(RuntimeError, match="only be marked completed once"):
        future.set_result(2)
    others = [torch.futures.Future() for _ in range(2)]
    together = torch.futures.collect_all(others)
    others[1].set_result("b")
    assert not together.done()
    others[0].set_result("a")
    assert together.value() is others and torch.futures.wait_all(others) == ["a", "b"] and torch.futures.collect_all([]).wait() == []


def test_helpers_of_torch_utils():
    from rushlight._tensor_str import _add_suffixes, _tensor_str
    from rushlight._utils import (
        _flatten_dense_tensors,
        _get_device_index,
        _import_dotted_name,
        _take_tensors,
        _unflatten_dense_tensors,
    )
    from rushlight.utils._foreach_utils import _group_tensors_by_device_and_dtype

    a, b, c = torch.ones(2, 3), torch.zeros(4), torch.ones(2, dtype=torch.int64)
    flat = _flatten_dense_tensors([a, b])
    parts = _unflatten_dense_tensors(flat, [a, b])
    assert flat.shape == (10,) and parts[0].equal(a) and parts[1].equal(b) and parts[1].data_ptr() == flat.data_ptr() + 24
    assert [[t.numel() for t in chunk] for chunk in _take_tensors([a, c, b, a], 32)] == [[6], [4], [6], [2]]
    groups = _group_tensors_by_device_and_dtype([[a, c, b], [b, None, a]], with_indices=True)
    assert {d: (len(lists[0]), lists[1], places) for (_, d), (lists, places) in groups.items()} == {
        torch.float32: (2, [b, a], [0, 2]), torch.int64: (1, [None], [1])}
    assert _get_device_index("cpu", allow_cpu=True) == -1 and _get_device_index(3) == 3 and _get_device_index(None, optional=True) == -1
    with pytest.raises(ValueError, match="Expected a non cpu device"):
        _get_device_index("cpu")
    assert _import_dotted_name("rushlight.nn.Linear") is torch.nn.Linear
    assert _add_suffixes("tensor(" + _tensor_str(b, 7), ["x=3"], 7, False) == "tensor([0., 0., 0., 0.], x=3)"
    assert torch.functional.einsum is torch.einsum and torch.types.Number == int | float | bool
    assert not hasattr(torch.functional, "relu")
