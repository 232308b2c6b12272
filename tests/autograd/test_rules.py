"""Gradient rules that a walk remembers: the same gradients as a walk that remembers nothing, wherever flushes fall."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight
from rushlight.autograd import rules
from rushlight.record import local
from rushlight.record.flush import start_afresh
from rushlight.record.settings import settings as switches


@pytest.fixture(autouse=True)
def nothing_known():
    start_afresh()
    rules._rules.clear()  # rules that could not be remembered elsewhere rest


OPERATIONS = [
    lambda x, y: x @ y, lambda x, y: x * y, lambda x, y: x + y, lambda x, y: x.tanh(), lambda x, y: x * x, lambda x, y: x.T,
    lambda x, y: x[1:3].repeat(2, 1), lambda x, y: rushlight.cat([x, y])[2:6], lambda x, y: rushlight.stack([x, y, x]).mean(0),
    lambda x, y: x.softmax(1) - y.sum(0), lambda x, y: x.chunk(2, 1)[0].repeat(1, 2), lambda x, y: x.max(1, keepdim=True)[0] * y,
    lambda x, y: x.clamp(-0.5, 0.5) + y.mean(), lambda x, y: rushlight.where(x > 0, x, y), lambda x, y: x[:1] * 1.0 + y,
    lambda x, y: rushlight.nn.functional.layer_norm(x, (4,)) + y[0]]
programs = st.lists(st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=9)


def gradients(program, cuts, second, turn):
    """Gradients of two leaves by a random program; ``cuts``: operations after which everything runs. In double: second derivatives of some
    programs lose four digits, so that two orders of summing differ by more than the tolerance in single precision."""
    made = np.random.default_rng(turn).standard_normal((2, 4, 4))
    leaves = [rushlight.tensor(a, requires_grad=True) for a in made]
    values = list(leaves)
    for k, (op, i, j) in enumerate(program):
        values.append(OPERATIONS[op](values[-1 - i % len(values)], values[-1 - j % len(values)]))
        if k in cuts:
            rushlight.autograd.flush_trace(local.trace)
    loss = (values[-1] * values[-2]).sum()
    found = rushlight.autograd.grad(loss, leaves, create_graph=second, allow_unused=True)
    if second and any(g is not None and g.requires_grad for g in found):
        found += rushlight.autograd.grad(sum((g * g).sum() for g in found if g is not None), leaves, allow_unused=True, retain_graph=True)
    return [None if g is None else g.detach().numpy().copy() for g in found]


@settings(max_examples=30, deadline=None)
@given(programs, st.sets(st.integers(0, 8), max_size=3), st.booleans(), st.sampled_from([10_000, 7, 12]))
def test_the_same_gradients_as_of_a_walk_that_remembers_nothing(program, cuts, second, most):
    """Repeated four times: the rules are run, remembered, and made from memory twice."""
    forgetful = pytest.MonkeyPatch()
    before, switches.max_ops = switches.max_ops, most
    try:
        found = [gradients(program, cuts, second, turn) for turn in range(4)]
        forgetful.setattr(rules, "run_rule", None)
        forgetful.setattr("rushlight.autograd.engine.run_rule",
                          lambda tr, node, edges, grads: rules.fitted(node, node.backward(grads), node.in_metas, edges))
        for turn in range(4):
            for one, other in zip(found[turn], gradients(program, cuts, second, turn), strict=True):
                assert (one is None) == (other is None)
                if one is not None:
                    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(other).max())))
    finally:
        forgetful.undo()
        switches.max_ops = before


@pytest.mark.parametrize("most", [5, 10, 24])
def test_a_part_of_a_gradient_that_is_itself_a_part_lies_where_it_is_read(most, monkeypatch):
    """The second derivative takes a window of a gradient that is rows 2 to 6 of another one; a flush falls behind that."""
    monkeypatch.setattr(switches, "max_ops", most)
    made = np.random.default_rng(0).standard_normal((2, 4, 4))
    leaves = [rushlight.tensor(a, requires_grad=True) for a in made]
    c = rushlight.cat(leaves)[2:6]
    loss = (c.chunk(2, 1)[0].repeat(1, 2) * c).sum()
    grads = rushlight.autograd.grad(loss, leaves, create_graph=True)
    found = rushlight.autograd.grad(sum((g * g).sum() for g in grads), leaves)
    whole = np.concatenate(made)[2:6]
    a, b = whole[:, :2], whole[:, 2:]  # the loss is the sum of a a + a b, its gradient (2 a + b, a)
    wanted = np.zeros((8, 4))
    wanted[2:6] = np.concatenate([2 * (2 * (2 * a + b) + a), 2 * (2 * a + b)], 1)
    for one, other in zip(found, (wanted[:4], wanted[4:])):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-12)


def count(monkeypatch):
    """How many rules are run in full."""
    runs = []
    run = rules._run
    monkeypatch.setattr(rules, "_run", lambda *args: (runs.append(args[1].name()), run(*args))[1])
    return runs


@pytest.mark.parametrize("create", [False, True])
def test_a_rule_that_comes_again_is_not_run(create, monkeypatch):
    w = [rushlight.randn(4, 4).requires_grad_() for _ in range(3)]
    x = rushlight.randn(5, 4)

    def step():
        h = x
        for one in w:
            h = (h @ one).tanh()[:, 0:4]
        grads = rushlight.autograd.grad(h.mean(), w, create_graph=create)
        if create:
            grads = rushlight.autograd.grad(sum((g * g).sum() for g in grads), w)
        return [g.numpy() for g in grads]
    for _ in range(3):
        first = step()
    runs = count(monkeypatch)
    for one, other in zip(first, step(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert not runs


def test_trees_of_new_shape_run_few_rules(monkeypatch):
    """Each tree is another path. It is cut into pieces, whose rules are known: parts of one row are leaves like any other."""
    leaf, node = rushlight.nn.Linear(4, 16), rushlight.nn.Linear(16, 40)
    rng = np.random.default_rng(0)

    def encode(tree):
        if isinstance(tree, int):
            c, o = leaf(rushlight.full((1, 4), tree / 10)).chunk(2, 1)
            return rushlight.sigmoid(o) * rushlight.tanh(c), c
        (a, ca), (b, cb) = encode(tree[0]), encode(tree[1])
        i, f, g, o, u = node(rushlight.cat([a, b], 1)).chunk(5, 1)
        c = i.sigmoid() * u.tanh() + f.sigmoid() * ca + g.sigmoid() * cb
        return o.sigmoid() * c.tanh(), c

    def step():
        nodes = [int(n) for n in rng.integers(0, 10, int(rng.integers(8, 16)))]
        while len(nodes) > 1:
            k = int(rng.integers(0, len(nodes) - 1))
            nodes[k:k + 2] = [(nodes[k], nodes[k + 1])]
        encode(nodes[0])[0].sum().backward()
        return leaf.weight.grad.sum().item()
    for _ in range(60):
        step()
    runs = count(monkeypatch)
    for _ in range(10):
        step()
    assert len(runs) < 10 * 30  # of some 250 each


def test_views_with_strides_of_ready_memory_are_arguments_like_others(monkeypatch):
    """The gates of a cell with a batch of several rows are such views, where the state is looked at between turns."""
    w = rushlight.randn(4, 12).requires_grad_()

    def step():
        h = rushlight.ones(3, 4)
        for _ in range(3):
            gates = h @ w
            assert np.isfinite(gates.sum().item())  # everything runs: from here on the gates are parts of ready memory
            a, b, c = gates.chunk(3, 1)
            h = a.sigmoid() * b.tanh() + c * h
            assert np.isfinite(h.sum().item())
        return rushlight.autograd.grad(h.sum(), w)[0].numpy().copy()
    first = [step() for _ in range(4)][-1]
    runs = count(monkeypatch)
    np.testing.assert_allclose(step(), first, rtol=1e-5)
    assert not runs
