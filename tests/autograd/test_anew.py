"""Calls that are known from elsewhere: at points of the trie where nobody has been, they are made without being run."""
from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.autograd import rules
from rushlight.ops.pointwise import Pointwise
from rushlight.record.flush import flush, start_afresh
from rushlight.record.trace import local


@pytest.fixture(autouse=True)
def nothing_known():
    flush()
    start_afresh()


def new_point(k):
    """Recording goes on where nobody has been."""
    return torch.ones(4 + k) + 0.125


def test_a_rule_is_not_run_at_new_points(monkeypatch):
    ran, run = [], Pointwise.gradient
    monkeypatch.setattr(Pointwise, "gradient", lambda self, ctx, *grads: (ran.append(self.name), run(self, ctx, *grads))[1])
    for k in range(6):
        p = new_point(k)
        x = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
        before = len(ran)
        (x.tanh() * x).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), np.tanh([0.1, 0.2, 0.3]) + np.array([0.1, 0.2, 0.3]) / np.cosh([0.1, 0.2, 0.3])**2,
                                   rtol=1e-5)
        assert p[0].item() == 1.125
    assert len(ran) == before  # of the last ones none


def test_the_same_tensor_twice_is_another_call():
    """x * x and x * y have tensors of the same metas, and other gradients."""
    for k in range(8):
        p = new_point(k)
        x, y = (torch.full((3,), v, requires_grad=True) for v in (2.0, 3.0))
        a, b = x.exp(), y.exp()
        (a * (a if k % 2 else b)).sum().backward()
        grad = 2 * np.exp(4.0) if k % 2 else np.exp(5.0)
        np.testing.assert_allclose(x.grad.numpy(), np.full(3, grad), rtol=1e-5)
        assert (y.grad is None) == (k % 2 == 1)
        assert p[0].item() == 1.125


def test_what_wants_a_gradient_tells_calls_apart():
    for k, (first, second) in zip(range(12), itertools.cycle([(True, False), (False, True), (True, True)])):
        p = new_point(k)
        x, y = torch.full((3,), 2.0, requires_grad=first), torch.full((3,), 3.0, requires_grad=second)
        (x.exp() * y.exp()).sum().backward()
        for t, wants in ((x, first), (y, second)):
            if wants:
                np.testing.assert_allclose(t.grad.numpy(), np.full(3, np.exp(5.0)), rtol=1e-5)
            else:
                assert t.grad is None
        assert p.sum().item() == 1.125 * (4 + k)


def test_second_derivatives_at_new_points():
    for k in range(6):
        p = new_point(k)
        x = torch.tensor([0.5, -0.25], dtype=torch.float64, requires_grad=True)
        g, = torch.autograd.grad((x.sin() * x).sum(), x, create_graph=True)
        h, = torch.autograd.grad(g.sum(), x)
        v = np.array([0.5, -0.25])
        np.testing.assert_allclose(h.numpy(), 2 * np.cos(v) - v * np.sin(v), rtol=1e-12)
        assert p[0].item() == 1.125


def test_views_and_writes_at_new_points():
    def story(t, k):
        p = t.ones(4 + k) + 0.125
        x = t.arange(6.0).reshape(2, 3) + 1
        rows = x.unbind(0)
        y = rows[0] * rows[1]
        part = x[:, 1:]
        x.mul_(2.0)
        q = part.t().reshape(-1)
        return y.tolist(), q.tolist(), p.tolist(), x.tolist()

    want = [[1.0 * 4, 2 * 5.0, 18.0], [4.0, 10.0, 6.0, 12.0]]
    for k in range(7):
        y, q, p, x = story(torch, k)
        assert [y, q] == want and p == [1.125] * (4 + k) and x == [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]


def test_an_error_names_the_line_of_its_own_call():
    table = torch.ones(4, 2, requires_grad=True)
    for k in range(4):
        p = new_point(k)
        F.embedding(torch.tensor([1, 2]) + 0, table).sum().backward()
        assert p[0].item() == 1.125
    p = new_point(9)
    bad = torch.tensor([1, 7]) + 0
    with pytest.raises(IndexError) as caught:
        F.embedding(bad, table).sum().item()
    assert f"{__file__}:{caught.traceback[0].lineno + 1}" in str(caught.value)
    assert p[0].item() == 1.125


def test_lines_of_a_backward_are_those_of_its_call_and_of_the_users_functions():
    """Nodes that a walk records have the line that called ``backward``; those of a Function's own code the line there."""
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2.5  # here

    code = Doubled.backward.__code__
    for k in range(3):
        new_point(k)
        x = torch.ones(3, requires_grad=True)
        Doubled.apply(x).exp().sum().backward()
        node, lines = local.trace.node, set()
        while node.parent is not None:
            if node.op is not None:
                lines.add(node.line)
            node = node.parent
        assert (__file__, code.co_firstlineno + 2) in lines
        assert x.grad[0].item() == pytest.approx(2.5 * np.exp(2.0), rel=1e-5)


def test_random_trees_have_the_gradients_of_known_ones():
    """The same trees with all that is known, and with nothing known."""
    weight = torch.linspace(-0.5, 0.5, 18).reshape(6, 3).detach()

    def tree(rng, depth):
        if depth == 0 or rng.random() < 0.3:
            return rng.randrange(4)
        return tree(rng, depth - 1), tree(rng, depth - 1)

    def run(t, w, leaves):
        if isinstance(t, int):
            return leaves[t]
        return torch.tanh(torch.cat([run(t[0], w, leaves), run(t[1], w, leaves)]) @ w)

    def gradient(t):
        w = weight.clone().requires_grad_()
        run(t, w, torch.eye(4, 3).unbind(0)).sum().backward()
        return None if w.grad is None else w.grad.numpy().copy()

    trees = [tree(random.Random(k), 4) for k in range(40)]
    trees = [t for t in trees if isinstance(t, tuple)]
    warm = [gradient(t) for t in trees]
    for t, grad in zip(trees, warm, strict=True):
        start_afresh()
        local.trace.known = {}
        np.testing.assert_allclose(gradient(t), grad, rtol=1e-4, atol=1e-6)


def test_what_is_known_is_bounded(monkeypatch):
    from rushlight.autograd import calls

    monkeypatch.setattr(calls, "MOST", 20)
    for n in range(1, 60):
        x = torch.ones(n, requires_grad=True)
        (x.exp() + 1).sum().backward()
        assert x.grad[0].item() == pytest.approx(np.e, rel=1e-5)
    assert len(local.trace.known) <= 20 and rules


def test_where_recording_stops_for_a_flush_a_function_is_not_given_up(monkeypatch):
    """What ends there is not remembered; that says nothing about other calls of the function."""
    from rushlight.autograd.calls import Function
    from rushlight.record.settings import settings

    monkeypatch.setattr(settings, "max_ops", 3)
    start_afresh()
    add = next(cell.cell_contents for cell in torch.add.__closure__ if isinstance(cell.cell_contents, Function))
    monkeypatch.setattr(add, "patience", 32)
    for _ in range(100):
        x = torch.ones(3)
        assert torch.add(x.exp(), x)[0].item() == pytest.approx(np.e + 1)  # the third node
    assert add.patience > 0
