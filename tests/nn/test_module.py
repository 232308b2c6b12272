"""Module: registration, state dictionaries, hooks, conversion. Messages and orders are PyTorch's."""
from __future__ import annotations

import copy
import gc
import pickle
import weakref

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")
BOTH = [torch, rushlight]


def net_of(m):
    class Net(m.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = m.nn.Linear(3, 2)
            self.tail = m.nn.Sequential(m.nn.Linear(2, 2, bias=False), m.nn.ReLU())
            self.register_buffer("steps", m.zeros(1))
            self.register_buffer("scratch", m.zeros(1), persistent=False)
            self.scale = m.nn.Parameter(m.ones(2))
            self.shared = self.fc

        def forward(self, x):
            return self.tail(self.fc(x)) * self.scale
    return Net()


def walks(m):
    net = net_of(m)
    return {
        "parameters": [n for n, _ in net.named_parameters()], "twice": [n for n, _ in net.named_parameters(remove_duplicate=False)],
        "buffers": [n for n, _ in net.named_buffers()], "modules": [n for n, _ in net.named_modules()],
        "children": [n for n, _ in net.named_children()], "state": list(net.state_dict()), "own": [n for n,
        _ in net.named_parameters(recurse=False)],
        "repr": repr(net), "prefix": [n for n, _ in net.named_parameters(prefix="p")],
        "dir": [n for n in ("fc", "scale", "steps") if n in dir(net)], "flat": [type(x).__name__ for x in net.modules()],
        "path": type(net.get_submodule("tail.0")).__name__, "weight": tuple(net.get_parameter("tail.0.weight").shape),
        "metadata": list(net.state_dict()._metadata.items()),
    }


def test_walks():
    assert walks(rushlight) == walks(torch)


def outcome(action, m):
    """The exception class and text, or the result's text."""
    try:
        return "ok", str(action(m))
    except Exception as error:
        return type(error).__name__, str(error).replace("rushlight.", "torch.").replace("torch.nn.parameter.Parameter",
        "torch.nn.Parameter")


def _loaded(m, change, **kwargs):
    state = net_of(m).state_dict()
    change(m, state)
    return net_of(m).load_state_dict(state, **kwargs)


def _drop(m, s):
    del s["fc.weight"], s["scale"]


def _extra(m, s):
    s["more"] = m.zeros(1)
    s["fc.deep"] = m.zeros(1)
    s["none.deep"] = m.zeros(1)


def _sizes(m, s):
    s["fc.weight"] = m.zeros(4, 3)
    s["scale"] = m.zeros(3)


def _all(m, s):
    _extra(m, s)
    _drop(m, s)
    s["fc.bias"] = m.zeros(1)


MISUSES = {
    "same": lambda m: _loaded(m, lambda m, s: None), "missing": lambda m: _loaded(m, _drop), "unexpected": lambda m: _loaded(m, _extra),
    "sizes": lambda m: _loaded(m, _sizes), "all": lambda m: _loaded(m, _all), "lenient": lambda m: _loaded(m, _extra, strict=False),
    "lenient sizes": lambda m: _loaded(m, _sizes, strict=False), "not a dict": lambda m: net_of(m).load_state_dict([1]),
    "no tensor": lambda m: _loaded(m, lambda m, s: s.__setitem__("scale", 3)), "assign": lambda m: _loaded(m, lambda m,
    s: None, assign=True),
    "parameter by tensor": lambda m: setattr(net_of(m), "scale", m.zeros(2)), "module by number": lambda m: setattr(net_of(m), "fc", 3),
    "buffer by number": lambda m: setattr(net_of(m), "steps", 3), "absent": lambda m: net_of(m).absent,
    "taken": lambda m: net_of(m).register_buffer("fc", None), "dotted": lambda m: net_of(m).register_parameter("a.b", None),
    "empty name": lambda m: net_of(m).add_module("", None), "no module": lambda m: net_of(m).add_module("x", 3),
    "number name": lambda m: net_of(m).register_buffer(3, None), "computed": lambda m: net_of(m).register_parameter("w", m.zeros(2)),
    "forward": lambda m: m.nn.Module()(1), "train": lambda m: net_of(m).train("yes"),
    "path": lambda m: net_of(m).get_submodule("fc.nothing"),
    "buffer path": lambda m: net_of(m).get_buffer("scale"), "to int": lambda m: net_of(m).to(m.int64),
    "integer parameter": lambda m: m.nn.Parameter(m.tensor([1, 2])), "insert": lambda m: m.nn.Sequential().insert(3, m.nn.ReLU()),
    "parameter": lambda m: repr(m.nn.Parameter(m.ones(2))), "dropout": lambda m: m.nn.Dropout(2.0),
    "cosine": lambda m: m.nn.CosineEmbeddingLoss()(m.ones(2, 3), m.ones(2, 3), m.ones(2, 3)),
    "batch": lambda m: m.nn.CrossEntropyLoss()(m.ones(2, 3), m.zeros(3, dtype=m.int64)),
    "gelu": lambda m: m.nn.functional.gelu(m.ones(2), approximate="x"),
    "reduction": lambda m: m.nn.functional.l1_loss(m.ones(2), m.ones(2), reduction="avg"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_messages(name):
    assert outcome(MISUSES[name], rushlight) == outcome(MISUSES[name], torch)


def test_load_copies_into_the_same_parameters():
    a, b = net_of(rushlight), net_of(rushlight)
    before = b.fc.weight
    b.load_state_dict(a.state_dict())
    assert b.fc.weight is before
    np.testing.assert_array_equal(b.fc.weight.detach().numpy(), a.fc.weight.detach().numpy())
    given = a.state_dict()
    given["fc.weight"].zero_()  # the tensors share memory with the module's
    assert not a.fc.weight.detach().numpy().any() and b.fc.weight.detach().numpy().any()


def test_before_init():
    for m in BOTH:
        bare = m.nn.Module.__new__(m.nn.Module)
        with pytest.raises(AttributeError, match=r"cannot assign module before Module.__init__\(\) call"):
            bare.fc = m.nn.Linear(1, 1)


def hooks_seen(m):
    seen = []
    net = net_of(m)
    x = m.ones(1, 3, requires_grad=True)

    def note(what):
        def hook(*args):
            seen.append((what, [type(a).__name__ if not isinstance(a, tuple) else ("tuple", len(a)) for a in args]))
        return hook
    handles = [net.fc.register_forward_hook(note("forward")), net.fc.register_forward_pre_hook(note("pre")),
               net.fc.register_full_backward_hook(note("backward")), net.fc.register_full_backward_pre_hook(note("backward pre")),
               net.fc.register_forward_hook(note("kwargs"), with_kwargs=True, prepend=True)]
    net.tail.register_forward_hook(lambda module, args, output: output * 2)
    net.tail.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    net.tail[0].register_full_backward_hook(lambda module, given, got: (given[0] * 3,))
    y = net(x).sum()
    y.backward()
    for h in handles:
        h.remove()
    count = len(seen)
    net(x).sum()
    assert len(seen) == count
    return seen, y.item(), x.grad.numpy().tolist(), net.fc.weight.grad.numpy().tolist()


def test_hooks():
    states = []
    reference = net_of(torch).state_dict()
    for m in BOTH:
        made = net_of

        def same(m, made=made):
            net = made(m)
            net.load_state_dict({k: m.tensor(v.numpy()) for k, v in reference.items()})
            return net
        globals()["net_of"] = same
        try:
            states.append(hooks_seen(m))
        finally:
            globals()["net_of"] = made
    (seen_t, y_t, x_t, w_t), (seen_r, y_r, x_r, w_r) = states
    assert seen_r == seen_t
    np.testing.assert_allclose(y_r, y_t, rtol=1e-5)
    np.testing.assert_allclose(x_r, x_t, rtol=1e-5)
    np.testing.assert_allclose(w_r, w_t, rtol=1e-5)


HOOKED = {
    "relu behind": lambda m, f: f.relu_(hooked(m, m.nn.Linear(3, 3))), "relu itself": lambda m, f: hooked(m, m.nn.ReLU(inplace=True)),
    "a part": lambda m, f: hooked(m, m.nn.Linear(3, 3)).__setitem__(0, 0.0),
    "a view": lambda m, f: hooked(m, m.nn.Linear(3, 3)).view(-1)[:2].mul_(2),
    "before": lambda m, f: f.relu_(hooked(m, m.nn.Linear(3, 3), "register_full_backward_pre_hook")),
}


def hooked(m, module, how="register_full_backward_hook"):
    getattr(module, how)(lambda *_: None)
    return module(m.ones(2, 3, requires_grad=True) * 2)


@pytest.mark.parametrize("name", HOOKED)
def test_results_that_a_backward_hook_watches_are_not_written(name):
    """The hook would not see the gradient of what was there before."""
    for m in BOTH:
        with pytest.raises(RuntimeError, match="created inside a custom Function"):
            HOOKED[name](m, m.nn.functional)
    with rushlight.no_grad():
        HOOKED[name](rushlight, rushlight.nn.functional)


def test_hook_that_always_runs():
    seen = []

    class Failing(rushlight.nn.Module):
        def forward(self):
            raise KeyError("inside")
    module = Failing()
    module.register_forward_hook(lambda *args: seen.append("no"))
    module.register_forward_hook(lambda module, args, output: seen.append(output), always_call=True)
    with pytest.raises(KeyError, match="inside"):
        module()
    assert seen == [None]


def test_global_hooks():
    from rushlight.nn.modules.module import register_module_forward_hook

    seen = []
    handle = register_module_forward_hook(lambda module, args, output: seen.append(type(module).__name__))
    try:
        rushlight.nn.Sequential(rushlight.nn.ReLU(), rushlight.nn.Tanh())(rushlight.ones(1))
    finally:
        handle.remove()
    rushlight.nn.ReLU()(rushlight.ones(1))
    assert seen == ["ReLU", "Tanh", "Sequential"]


def test_state_dict_hooks():
    net = rushlight.nn.Linear(1, 1)
    net.register_state_dict_post_hook(lambda module, state, prefix, metadata: state.__setitem__("more", 1))
    assert list(net.state_dict()) == ["weight", "bias", "more"]
    other = rushlight.nn.Linear(1, 1)
    other.register_load_state_dict_pre_hook(lambda module, state, *rest: state.pop("more"))
    other.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
    assert str(other.load_state_dict(net.state_dict())) == "<All keys matched successfully>"


def test_extra_state():
    class Counter(rushlight.nn.Module):
        n = 0

        def get_extra_state(self):
            return {"n": self.n}

        def set_extra_state(self, state):
            self.n = state["n"]
    a, b = Counter(), Counter()
    a.n = 5
    assert list(a.state_dict()) == ["_extra_state"]
    b.load_state_dict(a.state_dict())
    assert b.n == 5


def test_conversion_keeps_the_parameter_objects():
    net = net_of(rushlight)
    weight = net.fc.weight
    net(rushlight.ones(1, 3)).sum().backward()
    net.double()
    assert net.fc.weight is weight and weight.dtype is rushlight.float64 and weight.grad.dtype is rushlight.float64
    assert net.steps.dtype is rushlight.float64 and isinstance(weight, rushlight.nn.Parameter) and weight.is_leaf
    assert net.to(rushlight.bfloat16).scale.dtype is rushlight.bfloat16
    with pytest.raises(RuntimeError):
        net.cuda()


def test_modes_and_gradients():
    net = net_of(rushlight)
    assert not net.eval().tail.training and net.train().tail[1].training
    net(rushlight.ones(1, 3)).sum().backward()
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    seen = []
    net.apply(lambda module: seen.append(type(module).__name__))
    assert seen[-1] == "Net" and seen[0] == "Linear"


def test_attributes_change_kind():
    net = rushlight.nn.Module()
    net.x = 3
    net.x = rushlight.nn.Parameter(rushlight.ones(1))
    assert net.x is net._parameters["x"] and [n for n, _ in net.named_parameters()] == ["x"]
    net.x = None
    assert net.x is None and list(net.parameters()) == []
    net.b = rushlight.nn.Buffer(rushlight.ones(2), persistent=False)
    assert list(net.state_dict()) == [] and [n for n, _ in net.named_buffers()] == ["b"]
    del net.b
    assert not hasattr(net, "b")


def kinds_agree(module):
    """What is held by name is what the attributes are, and nothing else is left of it."""
    held = {n: t for kind in (module._parameters, module._buffers, module._modules) for n, t in kind.items()}
    names = ("w", "b", "child", "other")
    for name in names:
        if name in held:
            assert getattr(module, name) is held[name]
        else:
            assert not hasattr(module, name)
    return True


@hypothesis.given(st.lists(st.tuples(st.sampled_from(("w", "b", "child", "other")), st.sampled_from(
    ("parameter", "buffer", "module", "none", "delete", "pop", "put", "update", "setdefault", "clear", "popitem", "union", "replace",
     "deepcopy", "pickle", "copy"))), max_size=12))
def test_attributes_follow_the_dictionaries_of_a_module(steps):
    net = rushlight.nn.Module()
    for name, what in steps:
        kind = next((k for k in (net._parameters, net._buffers, net._modules) if name in k), net._parameters)
        fresh = rushlight.nn.Parameter(rushlight.ones(1))
        if what == "parameter" or what == "module" and name not in net._parameters and name not in net._buffers:
            setattr(net, name, fresh if what == "parameter" else rushlight.nn.Identity())
        elif what == "buffer" and not hasattr(net, name):
            net.register_buffer(name, rushlight.ones(1))
        elif what == "none" and hasattr(net, name):
            setattr(net, name, None)
        elif what == "delete" and hasattr(net, name):
            delattr(net, name)
        elif what == "pop":
            assert kind.pop(name, None) is None or name not in kind
        elif what == "put":
            kind[name] = fresh
        elif what == "update":
            kind.update({name: fresh})
        elif what == "setdefault":
            assert kind.setdefault(name, fresh) is kind[name]
        elif what == "clear":
            kind.clear()
        elif what == "popitem" and kind:
            assert kind.popitem()[0] not in kind
        elif what == "union":
            kind |= {name: fresh}
        elif what == "replace":
            net._parameters = dict.fromkeys(net._parameters, fresh)
        elif what in ("deepcopy", "pickle"):
            former, net = net, copy.deepcopy(net) if what == "deepcopy" else pickle.loads(pickle.dumps(net))
            assert kinds_agree(former) and not {id(t) for t in former._parameters.values() if t is not None} & set(map(
                id, net._parameters.values()))
        elif what == "copy":
            other = copy.copy(net)
            other._parameters["extra"] = fresh  # as in PyTorch, a copy shares the dictionaries
            assert kinds_agree(other) and net.extra is other.extra is fresh
            del net._parameters["extra"]
            assert not hasattr(net, "extra") and not hasattr(other, "extra")
        assert kinds_agree(net)


def test_a_module_that_was_never_initialised_says_so_when_called():
    class Net(rushlight.nn.Module):
        def __init__(self):
            self.size = 3

        def forward(self, x):
            return x

    with pytest.raises(AttributeError, match="'Net' object has no attribute '_"):
        Net()(1)


def test_hooks_are_found_however_they_came_in():
    net, seen = rushlight.nn.Linear(2, 2), []
    x = rushlight.ones(1, 2)
    net._forward_hooks[0] = lambda module, args, out: seen.append("put in")
    net(x)
    net._forward_hooks = {1: lambda module, args, out: seen.append("replaced")}
    net(x)
    copy.deepcopy(net)(x)
    net._forward_hooks.clear()
    net(x)
    assert seen == ["put in", "replaced", "replaced"]


def test_a_module_goes_with_its_last_reference():
    net = rushlight.nn.Sequential(rushlight.nn.Linear(2, 2))
    gone = weakref.ref(net[0])
    gc.disable()
    try:
        del net
        assert gone() is None
    finally:
        gc.enable()


def test_parameter_shares_memory_with_its_data():
    data = rushlight.zeros(3)
    p = rushlight.nn.Parameter(data)
    data.add_(1)
    assert p.tolist() == [1.0, 1.0, 1.0]
    with rushlight.no_grad():
        p.mul_(2)
    assert data.tolist() == [2.0, 2.0, 2.0]


def test_a_getattr_of_ones_own_is_asked_for_each_parameter_buffer_and_child():
    torch = pytest.importorskip("torch")

    def asked(t):
        class Asking(t.nn.Module):
            def __init__(self):
                super().__init__()
                self.names = []
                self.weight, self.inner = t.nn.Parameter(t.ones(1)), t.nn.Linear(1, 1)
                self.register_buffer("mean", t.zeros(1))

            def __getattr__(self, name):
                found = super().__getattr__(name)
                self.__dict__["names"].append(name)
                return found

            def forward(self, x):
                return self.inner(x) * self.weight + self.mean

        class AskingLinear(t.nn.Linear):
            def __getattr__(self, name):
                names.append(name)
                return super().__getattr__(name)

        names = []
        module, layer, later = Asking(), AskingLinear(1, 1), t.nn.Linear(1, 1)
        names.clear()
        for _ in range(3):
            module(t.ones(1))
            layer(t.ones(1))
        later.__class__ = AskingLinear
        later(t.ones(1))
        later.__class__ = t.nn.Linear
        later(t.ones(1))
        return module.names, [name for name in names if name in ("weight", "bias")]

    assert asked(rushlight) == asked(torch)
