"""Optimizers against PyTorch's: the same problem, the same steps, the same parameters, states and options."""
from __future__ import annotations

import copy
import importlib
import inspect
import pickle

import numpy as np
import pytest

import rushlight
from rushlight.compile.counters import counters as compile_counters
from rushlight.compile.cpu.jit import counters as jit_counters
from rushlight.record.flush import counters as flush_counters

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

CASES = [
    ("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.8, "dampening": 0.3, "maximize": True, "lr": 1e-4}),
    ("Adam", {}), ("Adam", {"amsgrad": True, "weight_decay": 0.1, "eps": 1e-3}), ("Adam", {"maximize": True, "betas": (0.5, 0.7)}),
    ("AdamW", {}), ("AdamW", {"weight_decay": 0.3, "amsgrad": True}),
    ("Adagrad", {}), ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1, "maximize": True}),
    ("RMSprop", {}), ("RMSprop", {"momentum": 0.5}), ("RMSprop", {"centered": True, "weight_decay": 0.1, "alpha": 0.9}),
    ("RMSprop", {"centered": True, "momentum": 0.4, "maximize": True}),
    ("Adadelta", {}), ("Adadelta", {"weight_decay": 0.1, "rho": 0.8, "eps": 1e-5, "maximize": True}),
    ("Adamax", {}), ("Adamax", {"weight_decay": 0.3, "betas": (0.8, 0.9), "maximize": True}),
    ("NAdam", {}), ("NAdam", {"weight_decay": 0.2, "momentum_decay": 0.01}),
    ("NAdam", {"weight_decay": 0.2, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {}), ("RAdam", {"weight_decay": 0.2, "betas": (0.9, 0.9)}),
    ("RAdam", {"weight_decay": 0.2, "decoupled_weight_decay": True, "betas": (0.5, 0.8), "maximize": True}),
    ("ASGD", {}), ("ASGD", {"lambd": 0.1, "t0": 3, "weight_decay": 0.1, "lr": 0.1, "alpha": 0.5}), ("ASGD", {"maximize": True, "lr": 1e-3}),
    ("Rprop", {}), ("Rprop", {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.02), "maximize": True}),
    ("Adafactor", {}), ("Adafactor", {"weight_decay": 0.1, "eps": (1e-5, 0.1), "d": 1.5, "lr": 0.5}), ("Adafactor", {"maximize": True}),
    ("LBFGS", {}), ("LBFGS", {"line_search_fn": "strong_wolfe", "max_iter": 3}), ("LBFGS", {"max_iter": 3, "history_size": 2, "lr": 0.5}),
    ("Muon", {"lr": 0.1}), ("Muon", {"lr": 0.1, "adjust_lr_fn": "match_rms_adamw", "nesterov": False, "weight_decay": 0}),
]
SHAPES = [(3, 4), (5,), (), (2, 3, 4)]
MATRICES = [(4, 6), (6, 3)]
NAMES = sorted({name for name, _ in CASES})


def arrays(shapes, seed=0, dtype="float32"):
    r = np.random.RandomState(seed)
    return [np.array(r.randn(*s), dtype) for s in shapes]


class Problem:
    """A quadratic loss in one package; parameters in two groups where the optimizer allows it."""

    def __init__(self, t, name, options, dtype="float32", **more):
        shapes = MATRICES if name == "Muon" else SHAPES
        self.t = t
        self.params = [t.tensor(a, requires_grad=True) for a in arrays(shapes, dtype=dtype)]
        self.targets = [t.tensor(a) for a in arrays(shapes, 1, dtype)]
        self.weights = [t.tensor(np.array(a * a + 0.5, dtype)) for a in arrays(shapes, 2, dtype)]
        groups = self.params
        if name != "LBFGS":
            groups = [{"params": self.params[:1]}, {"params": self.params[1:], "lr": options.get("lr", 1e-2) * 0.5, **more}]
        self.optimizer = getattr(t.optim, name)(groups, **options)
        self.lbfgs = name == "LBFGS"

    def loss(self, skip=()):
        self.optimizer.zero_grad()
        loss = sum(((p - a) ** 2 * w).sum() for k, (p, a, w) in enumerate(zip(self.params, self.targets, self.weights)) if k not in skip)
        loss.backward()
        return loss

    def step(self, skip=()):
        if self.lbfgs:
            return self.optimizer.step(self.loss)
        self.loss(skip)
        return self.optimizer.step()

    def values(self):
        return [p.detach().numpy().copy() for p in self.params]


def close(a, b, rtol=2e-4, atol=2e-6):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def same_state(theirs, ours, values=True):
    assert theirs["param_groups"] == ours["param_groups"]
    assert [list(g) for g in theirs["param_groups"]] == [list(g) for g in ours["param_groups"]]
    assert list(theirs["state"]) == list(ours["state"])
    for number, state in theirs["state"].items():
        assert list(state) == list(ours["state"][number])
        for key, x in state.items():
            y = ours["state"][number][key]
            if isinstance(x, torch.Tensor):
                assert (str(x.dtype), tuple(x.shape)) == (repr(y.dtype), tuple(y.shape)), key
                if values and key not in ("H_diag", "d", "prev_flat_grad"):  # near the minimum these are differences of rounding errors
                    np.testing.assert_allclose(y.detach().numpy(), x.detach().numpy(), rtol=1e-3, atol=1e-5, err_msg=key)
            else:
                assert type(x) is type(y), key


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: v if isinstance(v, str) else ",".join(v) or "default")
def test_steps(name, options):
    theirs, ours = (Problem(t, name, options) for t in (torch, rushlight))
    same_state(theirs.optimizer.state_dict(), ours.optimizer.state_dict())
    for k in range(7):
        skip = (k % 4,) if k in (1, 2, 4) and name != "Muon" else ()  # a parameter without a gradient now and then
        theirs.step(skip)
        ours.step(skip)
    close(theirs.values(), ours.values())
    same_state(theirs.optimizer.state_dict(), ours.optimizer.state_dict())
    assert repr(theirs.optimizer) == repr(ours.optimizer)


@pytest.mark.parametrize("name", NAMES)
def test_signature(name):
    theirs, ours = (inspect.signature(getattr(t.optim, name)) for t in (torch, rushlight))
    assert [(p.name, p.default, p.kind) for p in theirs.parameters.values()] == [
        (p.name, p.default, p.kind) for p in ours.parameters.values()]


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("LBFGS", "Muon")])
def test_other_types(name, dtype):
    options = {"eps": 1e-3} if name in ("Adam", "AdamW", "NAdam", "RAdam", "Adagrad", "Adamax", "RMSprop") else {}
    theirs, ours = (Problem(t, name, options, dtype) for t in (torch, rushlight))
    for _ in range(3):
        theirs.step()
        ours.step()
    same_state(theirs.optimizer.state_dict(), ours.optimizer.state_dict(), values=False)
    if dtype == "float64":
        close(theirs.values(), ours.values(), 1e-7, 1e-9)
    elif name != "Rprop":  # PyTorch's first step of Rprop in half precision rounds its sizes differently
        close(theirs.values(), ours.values(), 2e-2, 5e-3)


def as_numpy(tree, like):
    """A state dict of one package in tensors of another."""
    if hasattr(tree, "detach"):
        return like.tensor(tree.detach().numpy().copy())
    if isinstance(tree, dict):
        return {k: as_numpy(v, like) for k, v in tree.items()}
    if isinstance(tree, list):
        return [as_numpy(v, like) for v in tree]
    return tree


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: v if isinstance(v, str) else ",".join(v) or "default")
@pytest.mark.parametrize("source", [torch, rushlight], ids=["from torch", "to torch"])
def test_a_run_goes_on_in_the_other_package(name, options, source):
    first, goes_on = Problem(source, name, options), Problem(source, name, options)
    other = rushlight if source is torch else torch
    for p in (first, goes_on):
        for _ in range(3):
            p.step()
    second = Problem(other, name, options)
    with other.no_grad():
        for p, a in zip(second.params, first.values(), strict=True):
            p.copy_(other.tensor(a))
    second.optimizer.load_state_dict(as_numpy(first.optimizer.state_dict(), other))
    for _ in range(2):
        goes_on.step()
        second.step()
    close(goes_on.values(), second.values())


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_state_dict_survives_a_copy(copier):
    ours = Problem(rushlight, "Adam", {})
    ours.step()
    saved = copier(ours.optimizer.state_dict())
    other = Problem(rushlight, "Adam", {})
    other.optimizer.load_state_dict(saved)
    same = other.optimizer.state_dict()["state"]
    for number, state in ours.optimizer.state_dict()["state"].items():
        for key, x in state.items():
            np.testing.assert_array_equal(x.numpy(), same[number][key].numpy())


def test_loading_copies_the_state():
    one, two = Problem(rushlight, "Adam", {}), Problem(rushlight, "Adam", {})
    one.step()
    two.optimizer.load_state_dict(one.optimizer.state_dict())
    before = [s["exp_avg"].numpy().copy() for s in one.optimizer.state.values()]
    two.step()
    close(before, [s["exp_avg"].numpy() for s in one.optimizer.state.values()], 0, 0)


def test_frozen_parameter_stays():
    for t in (torch, rushlight):
        a, b = t.ones(3, requires_grad=True), t.ones(3)
        optimizer = t.optim.Adam([a, b], weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (a * b).sum().backward()
            optimizer.step()
        assert b.tolist() == [1, 1, 1] and list(optimizer.state_dict()["state"]) == [0]


def test_closure_hooks_and_returned_loss():
    seen = {}
    for t in (torch, rushlight):
        log = seen[t] = []
        p = t.ones(2, requires_grad=True)
        optimizer = t.optim.SGD([p], lr=0.1)
        pre = optimizer.register_step_pre_hook(lambda o, a, k, log=log: log.append(("pre", len(a), sorted(k))))
        optimizer.register_step_post_hook(lambda o, a, k, log=log: log.append(("post", len(a), sorted(k))))
        module = importlib.import_module(f"{t.__name__}.optim.optimizer")
        both = [module.register_optimizer_step_pre_hook(lambda o, a, k, log=log: log.append("all pre")),
                module.register_optimizer_step_post_hook(lambda o, a, k, log=log: log.append("all post"))]

        def closure(t=t, p=p, log=log, optimizer=optimizer):
            optimizer.zero_grad()
            log.append(t.is_grad_enabled())
            loss = (p * p).sum()
            loss.backward()
            return loss

        with t.no_grad():
            log.append(optimizer.step(closure).item())
        pre.remove()
        for handle in both:
            handle.remove()
        optimizer.step(closure=closure)
        log.append(p.tolist())
    assert seen[torch] == seen[rushlight]


def test_state_dict_hooks():
    seen = {}
    for t in (torch, rushlight):
        log = seen[t] = []
        optimizer = t.optim.SGD([t.ones(2, requires_grad=True)], lr=0.1)
        optimizer.register_state_dict_pre_hook(lambda o, log=log: log.append("pre"))
        optimizer.register_state_dict_post_hook(lambda o, d: {**d, "extra": 1})
        optimizer.register_load_state_dict_pre_hook(lambda o, d, log=log: log.append(sorted(d)))
        optimizer.register_load_state_dict_post_hook(lambda o, log=log: log.append("loaded"))
        optimizer.load_state_dict(optimizer.state_dict())
    assert seen[torch] == seen[rushlight] == ["pre", ["extra", "param_groups", "state"], "loaded"]


def test_added_group_and_named_parameters():
    for t in (torch, rushlight):
        a, b = t.ones(2, requires_grad=True), t.ones(2, requires_grad=True)
        optimizer = t.optim.SGD([("first", a)], lr=0.1)
        (a.sum() * 2 + b.sum()).backward()
        optimizer.step()
        optimizer.add_param_group({"params": [("second", b)], "lr": 0.5})
        optimizer.step()
        assert [g["param_names"] for g in optimizer.param_groups] == [["first"], ["second"]]
        np.testing.assert_allclose([*a.tolist(), *b.tolist()], [0.6, 0.6, 0.5, 0.5], rtol=1e-6)


def test_zero_grad():
    p = rushlight.ones(2, requires_grad=True)
    optimizer = rushlight.optim.SGD([p])
    p.sum().backward()
    kept = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert kept.tolist() == p.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert p.grad is None


MISTAKES = [
    lambda t, p: t.optim.Adam(p), lambda t, p: t.optim.Adam([]), lambda t, p: t.optim.Adam([1]), lambda t, p: t.optim.Adam([p * 2]),
    lambda t, p: t.optim.SGD([{"params": [p]}, {"params": [p]}]), lambda t, p: t.optim.SGD([{"params": {p}}]),
    lambda t, p: t.optim.SGD([{"lr": 1}]), lambda t, p: t.optim.SGD([{"params": [p]}, 2]), lambda t, p: t.optim.SGD([("a", p), p.detach()]),
    lambda t, p: t.optim.SGD([{"params": [("a", p)]}, {"params": [p.detach()]}]),
    lambda t, p: t.optim.SGD([{"params": [p]}, {"params": [("a", p.detach())]}]),
    lambda t, p: t.optim.LBFGS([{"params": [p]}, {"params": [p.detach()]}]), lambda t, p: t.optim.Muon([p[0].detach()]),
    lambda t, p: t.optim.SGD([p]).load_state_dict({"state": {}, "param_groups": []}),
    lambda t, p: t.optim.SGD([p]).load_state_dict(t.optim.SGD([p, p.detach()]).state_dict()),
 lambda t, p: t.optim.Adam([p], lr=t.tensor(1.0), foreach=True),
    lambda t, p: t.optim.Adam([p], betas=(t.tensor(0.9), 0.9)), lambda t, p: t.optim.SGD([p], lr=t.ones(2)),
    *[lambda t, p, n=n, o=o: getattr(t.optim, n)([p], **o) for n, o in [
        *[(n, {"lr": -1}) for n in NAMES], ("SGD", {"momentum": -1}), ("SGD", {"nesterov": True}),
        ("SGD", {"weight_decay": -1}), ("SGD", {"fused": True, "foreach": True}), ("Adam", {"fused": True, "differentiable": True}),
        ("Adam", {"eps": -1}), ("Adam", {"betas": (1.0, 0.9)}), ("NAdam", {"betas": (0.9, -0.1)}), ("NAdam", {"momentum_decay": -1}),
        ("Adagrad", {"lr_decay": -1}), ("Adagrad", {"initial_accumulator_value": -1}), ("RMSprop", {"alpha": -1}),
        ("RMSprop", {"momentum": -1}),
        ("Adadelta", {"rho": 2.0}), ("Rprop", {"etas": (2.0, 3.0)}), ("Adafactor", {"d": 0.5}), ("Adafactor", {"eps": (-1, 1.0)}),
        ("Adafactor", {"eps": (None, -1.0)}), ("Adafactor", {"beta2_decay": 1.0}), ("Muon", {"momentum": -1}),
        ("Muon", {"adjust_lr_fn": "x"})]],
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_are_named_as_by_pytorch(number):
    raised = []
    for t in (torch, rushlight):
        with pytest.raises(Exception) as info:  # noqa: PT011  which one is what the test is about
            MISTAKES[number](t, t.ones(2, 2, requires_grad=True))
        raised.append((info.type.__name__, str(info.value)))
    assert raised[0] == raised[1]


def test_tensor_learning_rate():
    for options in ({"lr": "tensor"}, {"lr": 0.1}):
        p = rushlight.ones(2, requires_grad=True)
        lr = rushlight.tensor(0.1) if options["lr"] == "tensor" else 0.1
        optimizer = rushlight.optim.SGD([p], lr=lr)
        for k in range(3):
            optimizer.zero_grad()
            p.sum().backward()
            optimizer.step()
            if options["lr"] == "tensor":
                lr.fill_(0.2 * (k + 1))
            else:
                optimizer.param_groups[0]["lr"] = 0.2 * (k + 1)
        np.testing.assert_allclose(p.tolist(), [0.3, 0.3], rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), [(n, o) for n, o in CASES if n != "LBFGS"],
                         ids=lambda v: v if isinstance(v, str) else ",".join(v) or "default")
def test_a_repeated_step_builds_nothing(name, options):
    problem = Problem(rushlight, name, options)

    def step(lr):
        for group in problem.optimizer.param_groups:
            group["lr"] = lr
        problem.step()

    def counts():
        return flush_counters.programs_built, flush_counters.cold_runs, compile_counters.programs, jit_counters.compiled

    for k in range(4):
        step(1e-3 / (k + 1))
    before = counts()
    for k in range(6):
        step(1e-4 / (k + 1))
    assert counts() == before


def test_lbfgs_with_a_full_history_builds_nothing():
    p = rushlight.tensor([-1.5, 2.0], requires_grad=True)
    optimizer = rushlight.optim.LBFGS([p], lr=1e-3, history_size=3, max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
    before = flush_counters.programs_built, compile_counters.programs, jit_counters.compiled
    for _ in range(5):
        optimizer.step(closure)
    assert (flush_counters.programs_built, compile_counters.programs, jit_counters.compiled) == before


def test_an_evaluation_in_the_line_search_of_lbfgs_is_one_program():
    """The loss, the gradient and its slope are recorded before any of them is read."""
    p = rushlight.tensor([-1.2, 1.0], requires_grad=True)
    optimizer = rushlight.optim.LBFGS([p], max_iter=10, line_search_fn="strong_wolfe")
    seen = []

    def closure():
        seen.append(flush_counters.programs_run)
        optimizer.zero_grad()
        loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        loss.backward()
        return loss
    optimizer.step(closure)
    assert len(seen) >= 12 and 1 in np.diff(seen)


def test_lbfgs_finds_the_minimum_of_rosenbrock():
    p = rushlight.tensor([-1.5, 2.0], dtype=rushlight.float64, requires_grad=True)
    optimizer = rushlight.optim.LBFGS([p], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(p.tolist(), [1, 1], rtol=1e-4)


def test_an_optimizer_around_another_needs_no_state_of_its_own():
    m = rushlight

    class EveryOther(m.optim.Optimizer):
        def __init__(self, inner):
            self.inner, self.param_groups, self.count = inner, inner.param_groups, 0

        def step(self, closure=None):
            self.count += 1
            return self.inner.step(closure) if self.count % 2 else None

    weight = m.nn.Parameter(m.ones(2))
    optimizer = EveryOther(m.optim.SGD([weight], lr=0.25))
    for _ in range(3):
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()
    assert weight.tolist() == [0.5, 0.5]
