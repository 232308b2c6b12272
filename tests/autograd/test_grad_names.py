"""The names of gradient nodes (``grad_fn=<SumBackward1>``) are PyTorch's: ``grad_names.txt`` has them, with the expressions whose
last step they name."""
from typing import Any

import numpy as np
import pytest

import rushlight
from tests.autograd.grad_names import names_of, rows, shown

ROWS = rows()


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return names_of(rushlight)


@pytest.mark.parametrize(("name", "code"), ROWS, ids=[code for _, code in ROWS])
def test_name(ours, name, code):
    assert shown(code, ours) == (name, name, name)


def test_the_table_is_pytorchs():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.nn")
    theirs = names_of(torch)
    assert {code: shown(code, theirs) for _, code in ROWS} == {code: (name, name, name) for name, code in ROWS}


def test_a_name_stays_after_backward_and_in_the_graph():
    x = rushlight.ones(3, 4, requires_grad=True)
    y = x.t().sum(0).mean()
    y.backward()
    assert repr(y).endswith("grad_fn=<MeanBackward0>)")
    ((inner, _),) = y.grad_fn.next_functions
    ((first, _),) = inner.next_functions
    assert [type(n).__name__ for n in (y.grad_fn, inner, first)] == ["MeanBackward0", "SumBackward1", "TBackward0"]
    assert y.grad_fn is y.grad_fn and y.grad_fn.next_functions[0][0] is inner
    assert x.grad.tolist() == [[pytest.approx(1 / 3)] * 4] * 3


def test_looking_at_a_node_changes_nothing_about_its_gradient():
    x = rushlight.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x * x).exp()
    assert "ExpBackward0" in repr(y.grad_fn) and y.grad_fn.next_functions[0][0].name() == "MulBackward0"
    (g,) = rushlight.autograd.grad(y.sum(), x, create_graph=True)
    (h,) = rushlight.autograd.grad(g.sum(), x)
    a = x.detach().numpy().astype(np.float64)
    assert np.allclose(g.detach().numpy(), 2 * a * np.exp(a * a)) and np.allclose(h.numpy(), (2 + 4 * a * a) * np.exp(a * a))


def test_a_title_is_the_calls_alone():
    """``addmv`` records what ``a + x.mv(w)`` records, ``addmm`` one operation; calls that are remembered keep the names apart."""
    x, w = rushlight.ones(3, 4, requires_grad=True), rushlight.ones(4, 4, requires_grad=True)
    for _ in range(5):
        a = x * 2
        made, by_hand, again = rushlight.addmm(a, x, w), x @ w + a, rushlight.addmm(a, x, w)
        b = x * 1
        b.addmm_(x, w)
        names = [type(t.grad_fn).__name__ for t in (made, by_hand, again, b)]
        assert names == ["AddmmBackward0", "AddBackward0", "AddmmBackward0", "AddmmBackward0"]
        vectors = [rushlight.addmv(a[:, 0], x, w[0]), x.mv(w[0]) + a[:, 0], rushlight.addmv(a[:, 0], x, w[0])]
        assert [type(t.grad_fn).__name__ for t in vectors] == ["AddmvBackward0", "AddBackward0", "AddmvBackward0"]
        parts = rushlight.unsafe_split(a, 2)
        assert [type(p.grad_fn).__name__ for p in (*parts, *a.split(2))] == ["UnsafeSplitBackward0"] * 2 + ["SplitBackward0"] * 2
        (grad,) = rushlight.autograd.grad(made.sum() + b.sum(), x)
        assert grad.tolist() == [[11.0] * 4] * 3


def test_a_function_that_returns_its_argument_gives_it_no_name():
    y = rushlight.ones(2, 3, requires_grad=True) * 2
    assert rushlight.nn.functional.alpha_dropout(y, 0.5, False) is y and type(y.grad_fn).__name__ == "MulBackward0"


def test_what_is_written_through_a_view_keeps_the_name_of_a_view():
    y = rushlight.ones(3, 4, requires_grad=True) * 2
    row = y[0]
    row.uniform_()
    assert [type(t.grad_fn).__name__ for t in (row, y)] == ["AsStridedBackward0", "CopySlices"]


def test_drawn_numbers_and_steps_have_the_gradient_zero():
    x = rushlight.full((3,), 0.5, requires_grad=True)
    for made in (rushlight.bernoulli(x), rushlight.poisson(x), x // 2, rushlight.heaviside(x, x)):
        x.grad = None
        made.sum().backward()
        assert x.grad.tolist() == [0.0] * 3
