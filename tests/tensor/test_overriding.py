"""``__torch_function__``: subclasses of Tensor, and classes that are no tensors, decide what functions do with them, as in PyTorch."""

import copy
import pickle

import numpy as np
import pytest
import torch

import rushlight

BOTH = pytest.mark.parametrize("torch", [torch, rushlight], ids=["torch", "rushlight"])


def plain(torch, *more):
    class Plain(torch.Tensor):
        pass
    return Plain


def logging(torch):
    class Logged(torch.Tensor):
        log = []

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            cls.log.append(func.__name__)
            return super().__torch_function__(func, types, args, kwargs)
    return Logged


CALLS = {
    "x + 1": lambda t, x: x + 1, "1 + x": lambda t, x: 1 + x, "1 - x": lambda t, x: 1 - x, "x * x": lambda t, x: x * x,
    "x @ x": lambda t, x: x @ x, "x ** 2": lambda t, x: x ** 2, "p + x": lambda t, x: t.ones(2, 2) + x, "x < 1": lambda t, x: x < 1,
    "x == 1": lambda t, x: x == 1, "-x": lambda t, x: -x, "+=": lambda t, x: x.__iadd__(1), "x[0]": lambda t, x: x[0],
    "x[0] = 1": lambda t, x: x.__setitem__(0, 1.0), "len": lambda t, x: len(x), "item": lambda t, x: x[0, 0].item(),
    "sum": lambda t, x: t.sum(x, dim=1), "softmax": lambda t, x: t.nn.functional.softmax(x, dim=1),
    "linear": lambda t, x: t.nn.Linear(2, 2)(x), "cat": lambda t, x: t.cat([t.ones(2, 2), x]), "stack": lambda t, x: t.stack((x, x)),
    "shape": lambda t, x: x.shape, "detach": lambda t, x: x.detach(), "data": lambda t, x: x.data, "to": lambda t, x: x.to(t.float64),
    "zeros_like": lambda t, x: t.zeros_like(x), "rand_like": lambda t, x: t.rand_like(x), "new_zeros": lambda t, x: x.new_zeros(2),
    "split": lambda t, x: x.split(1), "max": lambda t, x: x.max(1), "norm": lambda t, x: t.linalg.norm(x), "fft": lambda t, x: t.fft.fft(x),
    "cross entropy": lambda t, x: t.nn.functional.cross_entropy(x, t.tensor([0, 1])), "clone": lambda t, x: x.clone(),
    "requires_grad": lambda t, x: x.requires_grad, "numpy": lambda t, x: x.numpy(), "float": lambda t, x: x.float(),
    "is_tensor": lambda t, x: t.is_tensor(x), "einsum": lambda t, x: t.einsum("ij,jk", x, x), "iter": lambda t, x: list(x)[0],
}


def test_regions_change_nothing_about_whom_is_tensor_asks():
    told = []
    for package in (torch, rushlight):
        cls = logging(package)
        with package.overrides.TorchFunctionMode():
            pass
        x = package.ones(2, 2).as_subclass(cls)
        cls.log.clear()
        told.append((package.is_tensor(x), list(cls.log)))
    assert told[0] == told[1] == (True, [])


@pytest.mark.parametrize("name", CALLS)
def test_what_subclasses_are_told_and_what_comes_back(name):
    told = []
    for package in (torch, rushlight):
        cls = logging(package)
        x = package.ones(2, 2).as_subclass(cls)
        for _ in range(3):  # made from memory, a call asks all the same
            cls.log.clear()
            out = CALLS[name](package, x)
        told.append(([n for n in cls.log if n not in ("dim", "linalg_norm", "_norm", "fft_fft", "one", "float", "call")],
                     type(out).__name__, [type(o).__name__ for o in out] if isinstance(out, tuple) and name != "shape" else None))
    assert told[0] == told[1]


@BOTH
def test_a_plain_call_before_does_not_hide_the_class(torch):
    cls = plain(torch)
    for kind in (torch.Tensor, cls, torch.Tensor, cls):
        for _ in range(3):
            x = torch.ones(3).as_subclass(kind) if kind is cls else torch.ones(3)
            y = (x * 2).relu() + x
            assert type(y) is kind and y.tolist() == [3.0] * 3


@BOTH
def test_gradients_flow_through_subclasses(torch):
    cls = plain(torch)
    x = torch.ones(3, requires_grad=True)
    y = x.as_subclass(cls)
    assert not y.is_leaf
    (y ** 2).sum().backward()
    assert type(x.grad) is torch.Tensor and x.grad.tolist() == [2.0] * 3
    leaf = torch.ones(3).as_subclass(cls).requires_grad_()
    assert type(leaf.detach().as_subclass(torch.Tensor) + 1) is torch.Tensor and type(leaf + 1) is cls and type(x + 1) is torch.Tensor
    (leaf * 3).sum().backward()
    assert leaf.grad.tolist() == [3.0] * 3 and type(leaf.grad) is torch.Tensor
    assert type((leaf * 2).grad_fn).__name__ == "AliasBackward0"


@BOTH
def test_a_subclass_that_carries_something_along(torch):
    class Named(torch.Tensor):
        @staticmethod
        def __new__(cls, x, name=None):
            return torch.Tensor._make_subclass(cls, torch.as_tensor(x))

        def __init__(self, x, name=None):
            self.name_of = name

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            result = super().__torch_function__(func, types, args, kwargs or {})
            if isinstance(result, Named):
                result.name_of = next((a.name_of for a in args if isinstance(a, Named)), None)
            return result
    x = Named([1.0, 2.0], name="x")
    y = torch.relu(x * 2) + torch.ones(2)
    assert type(y) is Named and y.name_of == "x" and y.tolist() == [3.0, 5.0] and repr(y) == "Named([3., 5.])"


@BOTH
def test_derived_classes_are_asked_first(torch):
    seen = []

    class A(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append((cls.__name__, [t.__name__ for t in types]))
            return super().__torch_function__(func, types, args, kwargs)

    class B(A):
        pass
    assert type(A([1.0]) + B([1.0])).__name__ == "B" and type(B([1.0]) + A([1.0])).__name__ == "B"
    assert seen == [("B", ["B", "A"])] * 2


@BOTH
def test_classes_that_do_not_know_each_other(torch):
    one, other = plain(torch), plain(torch)
    with pytest.raises(TypeError, match="unsupported operand"):
        one([1.0]) + other([1.0])
    with pytest.raises(TypeError, match="failed for 'torch.mul'; all __torch_function__ handlers returned NotImplemented"):
        torch.mul(one([1.0]), other([1.0]))


def diagonal(torch):
    handled = {}

    class Diagonal:
        def __init__(self, n, value):
            self.n, self.value = n, value

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func not in handled or not all(issubclass(t, (torch.Tensor, Diagonal)) for t in types):
                return NotImplemented
            return handled[func](*args, **(kwargs or {}))
    handled[torch.mean] = lambda x: x.value / x.n
    handled[torch.add] = lambda a, b: ("add", type(a).__name__, type(b).__name__)
    handled[torch.Tensor.add] = lambda a, b: ("plus", type(a).__name__, type(b).__name__)
    handled[torch.nn.functional.relu] = lambda x, inplace=False: Diagonal(x.n, max(x.value, 0))
    handled[torch.stack] = lambda xs, dim=0: len(xs)
    return Diagonal


@BOTH
def test_objects_that_are_no_tensors(torch):
    Diagonal = diagonal(torch)
    d = Diagonal(5, 2)
    for _ in range(2):
        assert torch.mean(d) == 0.4 and torch.add(torch.ones(1), d) == ("add", "Tensor", "Diagonal") and torch.stack([d, d]) == 2
        assert torch.ones(1) + d == ("plus", "Tensor", "Diagonal") and torch.nn.functional.relu(d).value == 2
    with pytest.raises(TypeError, match="Multiple dispatch failed for 'torch.mul'"):
        torch.mul(d, 2)
    with pytest.raises(TypeError, match="must be Tensor"):
        torch.mean("no")


@BOTH
@pytest.mark.parametrize("place", ["linalg.norm", "fft.fft", "special.expit", "nn.functional.softplus", "sqrt", "special.i1"])
def test_every_room_asks_objects_that_nobody_has_met(torch, place):
    class Stranger:
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return [t.__name__ for t in types]
    function = torch
    for name in place.split("."):
        function = getattr(function, name)
    for _ in range(2):
        assert function(Stranger()) == ["Stranger"]


@BOTH
def test_functions_of_users_can_be_overridden_too(torch):
    from importlib import import_module

    overrides = import_module(f"{torch.__name__}.overrides")
    Diagonal = diagonal(torch)

    def doubled(x):
        if overrides.has_torch_function((x,)):
            return overrides.handle_torch_function(doubled, (x,), x)
        return x + x
    cls = plain(torch)
    assert doubled(torch.ones(1)).item() == 2 and type(doubled(cls([1.0]))) is cls
    with pytest.raises(TypeError, match="no implementation found for '.*doubled' on types that implement __torch_function__"):
        doubled(Diagonal(1, 1))
    assert overrides.is_tensor_like(Diagonal(1, 1)) and overrides.is_tensor_like(torch.ones(1)) and not overrides.is_tensor_like(1)
    assert overrides.resolve_name(torch.add) == "torch.add" and overrides.resolve_name(torch.Tensor.add) == "torch.Tensor.add"
    assert overrides.resolve_name(torch.nn.functional.relu) == "torch.nn.functional.relu"
    assert overrides.is_tensor_method_or_property(torch.Tensor.shape.__get__) and not overrides.is_tensor_method_or_property(torch.add)

    @overrides.wrap_torch_function(lambda x: (x,))
    def tripled(x):
        return x * 3
    assert tripled(torch.ones(1)).item() == 3 and type(tripled(cls([1.0]))) is cls


@BOTH
def test_nobody_is_asked(torch):
    cls = plain(torch)
    x = cls([1.0])
    with torch._C.DisableTorchFunctionSubclass():
        assert type(x + 1) is torch.Tensor and type(x.detach()) is torch.Tensor

    class Deaf(torch.Tensor):
        __torch_function__ = torch._C._disabled_torch_function_impl
    y = torch.ones(2).as_subclass(Deaf)
    assert type(y + 1) is torch.Tensor and type(y) is Deaf


@BOTH
def test_parameters_of_subclasses(torch):
    class Tagged(torch.nn.Parameter):
        def __new__(cls, data, requires_grad=True, tag=None):
            made = torch.Tensor._make_subclass(cls, data, requires_grad)
            made.tag = tag
            return made
    model = torch.nn.Module()
    model.w = Tagged(torch.ones(2), tag=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        (model.w * model.w).sum().backward()
        optimizer.step()
    assert type(model.w) is Tagged and model.w.tag == 3 and type(model.w * 1) is torch.Tensor and not model.w.any()
    cls = plain(torch)
    p = torch.nn.Parameter(cls([1.0, 2.0]))
    assert type(p) is cls and isinstance(p, torch.nn.Parameter) and type(p * 2) is cls and p.requires_grad
    assert repr(p) == "Parameter(Plain([1., 2.], requires_grad=True))"
    assert repr(Tagged(torch.ones(1))) == "Parameter containing:\nParameter(Tagged([1.], requires_grad=True))"
    model.p = p
    assert list(dict(model.named_parameters())) == ["w", "p"]


@BOTH
def test_training_on_a_subclass(torch):
    cls = plain(torch)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = torch.linspace(-1, 1, 12).reshape(4, 3).as_subclass(cls)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), torch.ones(4, 1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert type(loss) is cls and type(model[0].weight.grad) is torch.Tensor
    np.testing.assert_allclose(losses, _LOSSES.setdefault("first", losses), rtol=1e-5)


_LOSSES = {}


def test_copies_and_pickles_keep_the_class():
    x = Kept([1.0, 2.0])
    x.note = "n"
    for y in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(y) is Kept and y.note == "n" and y.tolist() == [1.0, 2.0]


class Kept(rushlight.Tensor):
    pass
