"""Layers whose calls are remembered (``nn/modules/layers.py``): every change that somebody makes to a layer, its class or the functions
behind it is seen by the next call, as in PyTorch."""
from __future__ import annotations

import copy
import functools
import pickle
import types
from typing import Any

import numpy as np
import pytest

import rushlight
from rushlight.nn.modules import hooks
from rushlight.nn.modules import layers as room
from rushlight.record import flush
from rushlight.record.trace import local

torch = pytest.importorskip("torch")


def numbers(t: Any, *shape: int) -> Any:
    """The same in both frameworks."""
    return t.tensor(np.linspace(-1.0, 2.0, int(np.prod(shape))).reshape(shape))


def filled(t: Any, m: Any) -> Any:
    """In double precision, with parameters that are the same in both frameworks."""
    with t.no_grad():
        for p in m.double().parameters():
            p.copy_(numbers(t, *p.shape))
    return m


SHAPES = {"linear": (3, 4), "conv": (2, 4, 5, 5), "norm": (3, 4), "layer": (3, 4), "elu": (3, 4), "softmax": (3, 4), "flatten": (2, 3, 4),
          "pool": (2, 4, 5, 5)}


def made(t: Any, name: str) -> Any:
    nn = t.nn
    return filled(t, {"linear": lambda: nn.Linear(4, 4), "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
                      "norm": lambda: nn.BatchNorm1d(4), "layer": lambda: nn.LayerNorm(4), "elu": lambda: nn.ELU(0.5),
                      "softmax": lambda: nn.Softmax(0), "flatten": lambda: nn.Flatten(), "pool": lambda: nn.MaxPool2d(2)}[name]())


def told(y: Any) -> list[Any]:
    return [a.detach().numpy() for a in (y if isinstance(y, tuple) else (y,))]


def called(t: Any, m: Any, shape: tuple[int, ...], times: int = 4) -> list[Any]:
    """What calls of a module give, with the gradients of its parameters and of its input; here all of them begin at one node."""
    found: list[Any] = []
    for _ in range(times):
        if t is rushlight:
            flush()
        x = numbers(t, *shape).requires_grad_()
        y = m(x * 1.5)
        for p in m.parameters():
            p.grad = None
        if y.grad_fn is not None:
            (y * y).sum().backward()
        found += [*told(y), *[p.grad.numpy() for p in (x, *m.parameters()) if p.grad is not None],
                  *[b.numpy().copy() for b in m.buffers()]]
    return found


def is_remembered(m: Any, shape: tuple[int, ...]) -> bool:
    flush()
    x = numbers(rushlight, *shape).requires_grad_()
    z = x * 1.5
    node = local.trace.node
    m(z)
    return room.layers[type(m)] is not None and node.last.function is type(m)


def doubled(t: Any, m: Any, *args: Any) -> Any:
    return type(m).forward(m, *args) * 2.0


def replace_parameter(t, m, patch):
    m.weight = t.nn.Parameter(numbers(t, *m.weight.shape) * 3.0)


def parameter_in_the_dictionary(t, m, patch):
    m._parameters["weight"] = t.nn.Parameter(numbers(t, *m.weight.shape) * 3.0)


def tensor_in_the_place_of_a_parameter(t, m, patch):
    w = m.weight.detach() * 3.0
    del m.weight
    m.weight = w


def in_the_objects_dict(t, m, patch):
    w = m.weight
    del m.weight
    m.__dict__["weight"] = w.detach() * 3.0


def no_bias(t, m, patch):
    m.bias = None


def registered_anew(t, m, patch):
    del m.bias
    m.register_parameter("bias", None)


def written(t, m, patch):
    with t.no_grad():
        m.weight.mul_(3.0)


def data_set(t, m, patch):
    m.weight.data = m.weight.data * 3.0


def frozen(t, m, patch):
    m.weight.requires_grad_(False)


def loaded(t, m, patch):
    m.load_state_dict({k: v * 2 for k, v in m.state_dict().items()})


def evaluated(t, m, patch):
    m.eval()


def attribute(name, value):
    def change(t, m, patch):
        setattr(m, name, value)
    change.__name__ = f"{name}={value}"
    return change


def forward_of_the_object(t, m, patch):
    m.forward = functools.partial(doubled, t, m)


def forward_in_the_objects_dict(t, m, patch):
    m.__dict__["forward"] = functools.partial(doubled, t, m)


def forward_of_the_class(t, m, patch):
    before = type(m).forward
    patch.setattr(type(m), "forward", lambda self, x: before(self, x) * 2.0)


def convolution_of_the_object(t, m, patch):
    m._conv_forward = types.MethodType(lambda self, x, w, b: t.nn.functional.conv2d(x, w * 2.0, b, padding=1), m)


def convolution_of_the_class(t, m, patch):
    patch.setattr(type(m), "_conv_forward", lambda self, x, w, b: t.nn.functional.conv2d(x, w * 2.0, b, padding=1))


def check_of_the_object(t, m, patch):
    m._check_input_dim = lambda x: m.register_buffer("seen", t.ones(1))


def function(name):
    def change(t, m, patch):
        before = getattr(t.nn.functional, name)
        patch.setattr(t.nn.functional, name, lambda *args, **kwargs: before(*args, **kwargs) * 2.0)
    change.__name__ = f"F.{name}"
    return change


def method_of_tensors(t, m, patch):
    before = t.Tensor.flatten
    patch.setattr(t.Tensor, "flatten", lambda *args: before(*args) * 2.0)


def another_class(t, m, patch):
    m.__class__ = type("Other", (type(m),), {"forward": lambda self, x: x * 2.0})


def worked_out(t, m, patch):
    t.nn.utils.parametrize.register_parametrization(m, "weight", filled(t, type("Twice", (t.nn.Module,), {
        "forward": lambda self, w: w * 2.0})()))


def normed(t, m, patch):
    t.nn.utils.parametrizations.weight_norm(m)


def hook(t, m, patch):
    m.register_forward_hook(lambda m, args, out: out * 2.0)


def pre_hook(t, m, patch):
    m.register_forward_pre_hook(lambda m, args: (args[0] * 2.0,))


def backward_hook(t, m, patch):
    m.register_full_backward_hook(lambda m, grads, outs: (grads[0] * 2.0,))


def hook_come_and_gone(t, m, patch):
    m.register_forward_hook(lambda m, args, out: out * 2.0).remove()


def a_call_of_all_modules(t, m, patch):
    before = t.nn.Module.__call__
    patch.setattr(t.nn.Module, "__call__", lambda self, *args: before(self, *args) * 2.0)


def single_precision(t, m, patch):
    m.float()
    m.register_forward_pre_hook(lambda m, args: (args[0].float(),))


CHANGES = [
    *[(name, change) for name in ("linear", "conv", "norm", "layer") for change in (
        replace_parameter, parameter_in_the_dictionary, tensor_in_the_place_of_a_parameter, in_the_objects_dict, no_bias, registered_anew,
        written, data_set, frozen, loaded, forward_of_the_object, forward_in_the_objects_dict, forward_of_the_class, another_class, hook,
        pre_hook, backward_hook, hook_come_and_gone, a_call_of_all_modules, worked_out, single_precision)],
    ("linear", normed), ("linear", function("linear")), ("layer", function("layer_norm")), ("norm", function("batch_norm")),
    ("elu", function("elu")), ("softmax", function("softmax")), ("flatten", method_of_tensors), ("flatten", attribute("start_dim", 0)),
    ("conv", function("conv2d")), ("pool", function("max_pool2d")), ("conv", convolution_of_the_object), ("conv", convolution_of_the_class),
    ("conv", attribute("stride", (2, 2))), ("conv", attribute("padding_mode", "circular")), ("norm", evaluated),
    ("norm", check_of_the_object), ("norm", attribute("momentum", 0.5)), ("norm", attribute("eps", 0.5)),
    ("norm", attribute("momentum", None)), ("norm", attribute("track_running_stats", False)), ("layer", attribute("eps", 0.5)),
    ("elu", attribute("alpha", 2.0)), ("elu", attribute("inplace", True)), ("softmax", attribute("dim", 1)),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=lambda x: getattr(x, "__name__", x))
def test_a_change_is_seen_by_the_next_call(name, change):
    results = []
    for t in (torch, rushlight):
        with pytest.MonkeyPatch.context() as patch:
            m = made(t, name)
            before = called(t, m, SHAPES[name])
            if t is rushlight:
                assert is_remembered(m, SHAPES[name])
            else:
                m(numbers(t, *SHAPES[name]) * 1.5)
            change(t, m, patch)
            after = called(t, m, SHAPES[name])
        results.append((before, after))
    for ours, theirs in zip(results[1], results[0]):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_deleted_parameters_are_gone():
    m = made(rushlight, "linear")
    called(rushlight, m, (3, 4))
    assert is_remembered(m, (3, 4))
    del m.weight
    for _ in range(2):
        with pytest.raises(AttributeError, match="'Linear' object has no attribute 'weight'"):
            called(rushlight, m, (3, 4), 1)


def test_layers_of_one_class_at_one_place_have_their_own():
    first, second = made(rushlight, "linear"), made(rushlight, "linear")
    replace_parameter(rushlight, second, None)
    want = called(rushlight, first, (3, 4), 1), called(rushlight, second, (3, 4), 1)
    for m, expected in [(first, want[0]), (second, want[1])] * 4:
        for a, b in zip(called(rushlight, m, (3, 4), 1), expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deep", "flat", "pickle"])
@pytest.mark.parametrize("name", ["linear", "conv", "norm"])
def test_a_copy_is_a_layer_of_its_own(name, copied):
    results = []
    for t in (torch, rushlight):
        m = made(t, name)
        called(t, m, SHAPES[name])
        other = copied(m)
        replace_parameter(t, other, None)
        results.append([*called(t, other, SHAPES[name]), *called(t, m, SHAPES[name])])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_class_that_answers_for_itself_is_no_layer():
    class Odd(rushlight.nn.Linear):
        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            return found * self.__dict__["factor"] if name == "weight" and "factor" in self.__dict__ else found

    m = filled(rushlight, Odd(4, 4))
    before = called(rushlight, m, (3, 4))
    m.factor = 2.0
    assert not np.allclose(before[0], called(rushlight, m, (3, 4))[0])


def test_a_property_of_the_class_has_precedence():
    class Odd(rushlight.nn.ELU):
        calls = 0

        @property
        def alpha(self):
            Odd.calls += 1
            return 0.5

        @alpha.setter
        def alpha(self, value):
            pass

    called(rushlight, Odd(), (3, 4))
    assert Odd.calls == 4


def test_a_forward_that_only_wraps_another_is_run():
    calls = []

    class Mine(rushlight.nn.Tanh):
        @functools.wraps(rushlight.nn.Tanh.forward)
        def forward(self, input):
            calls.append(1)
            return super().forward(input)

    called(rushlight, Mine(), (3, 4), 5)
    assert len(calls) == 5


def test_a_method_that_forward_goes_through_is_run():
    calls = []

    class Mine(rushlight.nn.Conv2d):
        def _conv_forward(self, input, weight, bias):
            calls.append(1)
            return super()._conv_forward(input, weight, bias)

    called(rushlight, Mine(4, 4, 3).double(), SHAPES["conv"], 5)
    assert len(calls) == 5


def test_subclasses_without_a_forward_of_their_own_are_layers():
    m = filled(rushlight, type("Mine", (rushlight.nn.Linear,), {})(4, 4))
    called(rushlight, m, (3, 4))
    assert is_remembered(m, (3, 4))


def test_a_layer_that_was_broken_at_first_is_read_in_full_later():
    kind = type("Mine", (rushlight.nn.Linear,), {})
    broken = kind(4, 4)
    del broken.bias
    with pytest.raises(AttributeError):
        broken.double()(numbers(rushlight, 3, 4))
    m = filled(rushlight, kind(4, 4))
    before = called(rushlight, m, (3, 4))
    no_bias(rushlight, m, None)
    assert not np.allclose(before[0], called(rushlight, m, (3, 4))[0])


def test_a_class_that_does_not_call_the_base_class(monkeypatch):
    monkeypatch.setattr(hooks.everywhere, "any", False)

    class Mine(rushlight.nn.ReLU):
        def __init__(self):
            self.__dict__["inplace"] = False

    with pytest.raises(AttributeError, match="object has no attribute '_forward_hooks'"):
        Mine()(numbers(rushlight, 3, 4))


def test_names_and_numbers_of_arguments():
    m = made(rushlight, "linear")
    x = numbers(rushlight, 3, 4).requires_grad_()
    for _ in range(4):
        flush()
        y = m(input=x * 1.5)
        flush()
        z = m(x * 1.5)
        np.testing.assert_array_equal(y.detach().numpy(), z.detach().numpy())
        for wrong, words in ((lambda: m(), "missing 1 required positional argument: 'input'"), (lambda: m(x, x), "takes 2 positional"),
                             (lambda: m(x, other=x), "unexpected keyword argument 'other'")):
            with pytest.raises(TypeError, match=words):
                wrong()


def test_gradients_and_narrow_types_on_and_off():
    m, x = made(rushlight, "linear").float(), numbers(rushlight, 3, 4).float()
    for _ in range(4):
        flush()
        assert m(x * 1.5).requires_grad
        with rushlight.no_grad():
            assert not m(x * 1.5).requires_grad
        with rushlight.autocast("cpu", dtype=rushlight.bfloat16):
            assert m(x * 1.5).dtype == rushlight.bfloat16


def test_dropout_draws_each_time_and_nothing_in_evaluation():
    m = rushlight.nn.Dropout(0.5)
    x = rushlight.ones(64, requires_grad=True)
    masks = []
    for _ in range(5):
        flush()
        masks.append((m(x * 1.0) != 0).numpy().tobytes())
    assert len(set(masks)) == 5
    m.p = 0.0
    flush()
    assert (m(x * 1.0) == 1).all()
    m.p = 0.5
    m.eval()
    flush()
    assert (m(x * 1.0) == 1).all()


@pytest.mark.parametrize("pair", [tuple, list])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_of_recurrent_networks(kind, pair):
    """A state of two tensors is a pair among the arguments."""
    results = []
    for t in (torch, rushlight):
        cell = filled(t, getattr(t.nn, kind)(4, 2))
        first, second = (numbers(t, 3, 2).requires_grad_() for _ in range(2))
        found = []
        for k in range(8):
            if t is rushlight:
                flush()
            if k == 5:
                cell.weight_hh = t.nn.Parameter(numbers(t, *cell.weight_hh.shape) * 0.5)
            x = numbers(t, 3, 4) * 1.5
            state = (first * 1.0, second * 2.0) if k % 2 else (second * 2.0, first * 1.0)
            node = local.trace.node
            made = cell(x, pair(state) if kind == "LSTMCell" else state[0])
            if t is rushlight and k == 4:
                assert room.layers[type(cell)] is not None and node.last.function is type(cell)
            made = made if isinstance(made, tuple) else (made,)
            for p in (first, second, *cell.parameters()):
                p.grad = None
            sum((k + 1) * (m * m).sum() for k, m in enumerate(made)).backward()
            found += [*[np.array(m.detach().numpy()) for m in made],
                      *[p.grad.numpy() for p in (first, second, *cell.parameters()) if p.grad is not None]]
            with pytest.raises(Exception, match="has inconsistent input_size|size mismatch"):
                cell(numbers(t, 3, 3), None)
        results.append(found)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_a_layer_is_remembered_where_its_function_was_before():
    x, m = rushlight.ones(64, requires_grad=True), rushlight.nn.Dropout(0.25)
    for call in [lambda y: rushlight.nn.functional.dropout(y, 0.25, True, False)] * 4 + [m] * 4:
        flush()
        y = x * 1.25
        node = local.trace.node
        call(y)
    assert room.layers[type(m)] is not None and node.last.function is type(m)


LAYERS = sorted({k for k in vars(rushlight.nn).values() if isinstance(k, type) and issubclass(k, rushlight.nn.Module)},
                key=lambda k: k.__name__)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda k: k.__name__)
def test_marked_methods_use_nothing_of_a_layer_but_attributes(kind):
    for base in kind.__mro__:
        for method in vars(base).values():
            if isinstance(method, types.FunctionType) and method in room._marked:
                room.attributes(method.__code__)


def test_what_uses_the_layer_itself_is_found_out():
    def forward(self, input):
        return rushlight.relu(input) if len(self) else input

    with pytest.raises(ValueError, match="uses self for something else"):
        room.attributes(forward.__code__)

    def closed_over(self, input):
        return [lambda: self.x, input]

    with pytest.raises(ValueError, match="uses self for something else"):
        room.attributes(closed_over.__code__)


def test_dropout_in_evaluation_hands_on_what_it_gets(monkeypatch):
    nn, F = rushlight.nn, rushlight.nn.functional
    x = rushlight.ones(3) * 1.0
    layers = [nn.Dropout(0.5).eval(), nn.Dropout(0.0), nn.AlphaDropout(0.1).eval()]
    for _ in range(3):
        assert all(layer(x) is x for layer in layers) and F.dropout(x, 0.3, False) is x
        with pytest.raises(ValueError, match="between 0 and 1"):
            F.dropout(x, 1.5, False)
        with pytest.raises(ValueError, match="between 0 and 1"):
            F.dropout(x, -0.5, training=False)
    layers[0].train()
    assert layers[0](x) is not x
    layers[0].eval()
    monkeypatch.setattr(F, "dropout", lambda x, *_: "another")
    assert layers[0](x) == "another"
