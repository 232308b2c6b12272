"""Views, in-place writes, aliasing and autograd: the same small programs in PyTorch and here."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def values(result):
    out = []
    for x in result:
        if hasattr(x, "detach"):
            x = x.detach().numpy()
        out.append(np.asarray(x).copy())
    return out


def write_through_view(t):
    x = t.arange(12.0).reshape(3, 4)
    row, column = x[1], x[:, 2]
    row.add_(100)
    column[0] = -1
    x[2, 2] = 7
    return [x, row, column, row[2:], x.t()[2]]


def write_base_read_view(t):
    x = t.zeros(4)
    v = x[1:3]
    w = v.view(2, 1)
    x += 5
    w *= 2
    return [x, v, w]


def views_of_views(t):
    x = t.arange(24.0).reshape(2, 3, 4)
    y = x.transpose(0, 2)[1:3].permute(1, 2, 0)
    y.mul_(10)
    z = x.unsqueeze(0).expand(2, 2, 3, 4)[1, :, 2]
    return [x, y, z, x.diagonal(0, 1, 2)]


def strides_and_offsets(t):
    x = t.arange(24.0).reshape(2, 3, 4)
    views = [x, x[1], x[:, 1:], x.transpose(1, 2), x.permute(2, 0, 1), x[..., ::2], x.unsqueeze(1), x[1, 2],
             x.t() if x.dim() < 3 else x[0].t(), x.diagonal(1, 0, 2),
             x.unfold(2, 2, 1), x.expand(5, 2, 3, 4), x[:, :, None], x.flatten(1), x.movedim(0, 2)]
    return [np.array([*v.stride(), v.storage_offset(), int(v.is_contiguous()), *v.shape]) for v in views]


def grad_through_inplace(t):
    x = t.arange(6.0).requires_grad_()
    y = x * 2
    y[1:3] = y[3:5].clone() + x[0:2]
    y.mul_(3)
    y[0].add_(3)
    y.sum().backward()
    return [y, x.grad]


def grad_through_view_chain(t):
    x = t.arange(12.0).reshape(3, 4).requires_grad_()
    y = x * 3
    v = y[1]
    w = v.view(2, 2)
    w.mul_(2)
    (y * v.sum()).sum().backward()
    return [y, v, w, x.grad]


def base_changed_after_view(t):
    x = t.ones(4, requires_grad=True)
    y = x * 3
    v = y[:2]
    y.mul_(x)
    (v * v).sum().backward()
    return [v, y, x.grad]


def detached_alias(t):
    x = t.ones(3, requires_grad=True)
    y = x * 2
    d = y.detach()
    d.add_(5)
    y.sum().backward()
    return [y, d, x.grad]


def data_update(t):
    w = t.ones(3, requires_grad=True)
    for _ in range(3):
        loss = (w * w).sum()
        loss.backward()
        w.data -= 0.1 * w.grad
        w.grad.zero_()
    return [w, w.grad]


def no_grad_update(t):
    w = t.arange(3.0).requires_grad_()
    for _ in range(3):
        (w * w * w).sum().backward()
        with t.no_grad():
            w -= 0.1 * w.grad
            w.grad = None
    return [w]


def double_backward(t):
    x = t.tensor([0.5, 1.5, 2.5], requires_grad=True)
    y = (x.sin() * x.exp()).sum()
    (g,) = t.autograd.grad(y, x, create_graph=True)
    (h,) = t.autograd.grad(g.sum(), x, create_graph=True)
    (k,) = t.autograd.grad(h.sum(), x)
    return [y, g, h, k]


def accumulate(t):
    x = t.ones(2, 2, requires_grad=True)
    for k in range(3):
        (x * k).sum().backward()
    y = x * x
    y.backward(t.ones(2, 2), retain_graph=True)
    y.sum().backward()
    return [x.grad]


def broadcasting(t):
    a = t.arange(3.0).reshape(3, 1).requires_grad_()
    b = t.arange(4.0).requires_grad_()
    c = t.tensor(2.0, requires_grad=True)
    ((a * b + c) / (b + 1)).sum().backward()
    return [a.grad, b.grad, c.grad]


def numpy_shares_memory(t):
    a = np.arange(6.0, dtype=np.float32)
    x = t.from_numpy(a)
    y = x * 2
    a[0] = 100
    z = x + 1
    x.add_(1)
    b = x.numpy()
    x[2] = -3
    b[3] = 50
    return [y, z, x, a, b]


def numpy_of_strided(t):
    a = np.arange(12.0).reshape(3, 4)[:, ::2].T
    x = t.from_numpy(a)
    x[0, 1] = 99
    return [x, a, np.array(x.stride()), x + 1]


def saved_then_item(t):
    x = t.arange(4.0).requires_grad_()
    loss = (x * x).sum()
    first = loss.item()
    loss.backward()
    return [first, x.grad]


def indexing(t):
    x = t.arange(60.0).reshape(3, 4, 5)
    i, j = t.tensor([0, 2]), t.tensor([[1], [3]])
    m = x > 30
    return [x[i], x[:, j], x[i, :, i], x[j - 1, i], x[m], x[..., -1], x[None, 1], x[1:, t.tensor([True, False, True, True])], x[i, 1:3],
            x[t.tensor(1)], x[-1, ::2, [0, 4]]]


def index_assign(t):
    x = t.zeros(3, 4)
    x[t.tensor([0, 2]), 1] = t.tensor([5.0, 6.0])
    x[x == 0] = -1
    x[:, 3] = t.arange(3.0)
    x[1, [0, 2]] = 9
    x[..., None][0] = 4
    return [x]


def index_grad(t):
    x = t.arange(12.0).reshape(3, 4).requires_grad_()
    i = t.tensor([0, 0, 2])
    y = x[i] * t.tensor([[1.0], [2.0], [3.0]])
    z = x[:, t.tensor([1, 1])]
    (y.sum() + (z * z).sum() + x[x > 5].sum()).backward()
    return [x.grad]


def index_put_grad(t):
    x = t.arange(6.0).requires_grad_()
    v = t.tensor([10.0, 20.0], requires_grad=True)
    y = x * 1
    y[t.tensor([1, 4])] = v
    (y * y).sum().backward()
    return [y, x.grad, v.grad]


def hooks(t):
    x = t.ones(3, requires_grad=True)
    seen = []
    x.register_hook(lambda g: g * 2)
    y = x * 3
    y.register_hook(lambda g: seen.append(g.sum().item()))
    y.retain_grad()
    (y * y).sum().backward()
    return [x.grad, y.grad, np.array(seen)]


def leaf_views_under_no_grad(t):
    w = t.zeros(2, 3, requires_grad=True)
    with t.no_grad():
        w[0].fill_(2)
        w[:, 1] = 5
    (w * w).sum().backward()
    return [w, w.grad]


def swap(t):
    x = t.arange(4.0)
    x[0], x[3] = x[3].clone(), x[0].clone()
    y = x.clone()
    x.zero_()
    return [x, y]


def copy_and_set(t):
    x = t.zeros(2, 3)
    x.copy_(t.arange(3))
    y = t.empty(6).fill_(3)
    y.view(2, 3).copy_(x.flip(0))
    x[0] = x[1] + y.reshape(2, 3)[0]
    return [x, y]


def second_derivatives_through_saved_views(t):
    s = t.tensor([[2.0, 0.5, 0.1], [0.3, 3.0, 0.2], [0.7, 0.4, 4.0]], requires_grad=True)
    h = t.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    y = t.linalg.solve(s.mT, s @ h)
    (g,) = t.autograd.grad(y, h, t.ones(3, 2), create_graph=True)
    weights = (t.ones(3, 2), t.arange(6.0).reshape(3, 2), t.ones(3, 2))
    return [t.autograd.grad(g, s, w, retain_graph=True)[0].numpy().copy() for w in weights]


CASES = [second_derivatives_through_saved_views,
         write_through_view, write_base_read_view, views_of_views, strides_and_offsets, grad_through_inplace, grad_through_view_chain,
         base_changed_after_view, detached_alias, data_update, no_grad_update, double_backward, accumulate, broadcasting,
         numpy_shares_memory, numpy_of_strided, saved_then_item, indexing, index_assign, index_grad, index_put_grad, hooks,
         leaf_views_under_no_grad, swap, copy_and_set]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_same_as_pytorch(case):
    expected = values(case(torch))
    for _ in range(3):  # cold, then compiled, then found
        got = values(case(rushlight))
        assert len(got) == len(expected)
        for g, e in zip(got, expected):
            assert g.shape == e.shape and g.dtype == e.dtype
            np.testing.assert_allclose(g, e, rtol=2e-6, atol=1e-6)


def leaf_in_place(t):
    t.ones(2, requires_grad=True).add_(1)


def view_of_leaf_in_place(t):
    t.ones(2, requires_grad=True)[0].add_(1)


def modified_saved(t):
    x = t.ones(3, requires_grad=True)
    y = x * 2
    z = y * y
    y.add_(1)
    z.sum().backward()


def modified_saved_through_view(t):
    x = t.ones(3, requires_grad=True)
    y = x * 2
    z = y.exp() * y
    y[0] = 4
    z.sum().backward()


def modified_result(t):
    x = t.ones(3, requires_grad=True)
    y = x.exp()
    y.add_(1)
    y.sum().backward()


def backward_twice(t):
    x = t.ones(3, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    y.backward()


def not_a_scalar(t):
    (t.ones(3, requires_grad=True) * 2).backward()


def no_graph(t):
    t.ones(3).sum().backward()


def numpy_of_grad(t):
    (t.ones(3, requires_grad=True) * 2).numpy()


def shapes_do_not_broadcast(t):
    t.ones(3) + t.ones(4)


def matmul_mismatch(t):
    t.ones(2, 3) @ t.ones(4, 5)


def index_out_of_range(t):
    t.ones(3)[5]


def tensor_index_out_of_range(t):
    t.ones(3)[t.tensor([1, 7])].sum().item()


def bad_view(t):
    t.ones(2, 3).t().view(6)


def integer_requires_grad(t):
    t.tensor([1, 2]).requires_grad_()


def item_of_many(t):
    t.ones(3).item()


def truth_of_many(t):
    bool(t.ones(3))


def float_into_integer(t):
    t.tensor([1, 2]).add_(0.5)


ERRORS = [leaf_in_place, view_of_leaf_in_place, modified_saved, modified_saved_through_view, modified_result, backward_twice, not_a_scalar,
          no_graph, numpy_of_grad, shapes_do_not_broadcast, matmul_mismatch, index_out_of_range, tensor_index_out_of_range, bad_view,
          integer_requires_grad, item_of_many, truth_of_many, float_into_integer]


@pytest.mark.parametrize("case", ERRORS, ids=lambda c: c.__name__)
def test_same_error_class(case):
    with pytest.raises(Exception) as expected:
        case(torch)
    for _ in range(3):
        with pytest.raises(type(expected.value)):
            case(rushlight)
    rushlight.ones(2).add(1).sum().item()  # the next program runs


@pytest.mark.parametrize("t", [torch, rushlight], ids=["torch", "rushlight"])
@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_that_can_be_differentiated_belong_to_one_leaf_alone(t):
    a, b, seed = (t.ones(3, requires_grad=True) for _ in range(3))
    (a + b).sum().backward(create_graph=True)
    assert a.grad is not b.grad
    a.grad.mul_(2)
    assert a.grad.tolist() == [2, 2, 2] and b.grad.tolist() == [1, 1, 1]
    a.grad = None
    a.backward(seed, create_graph=True)
    assert a.grad is not seed and a.grad.requires_grad
    w = t.ones(2, 3, requires_grad=True)
    (t.ones(4, 3) @ w.t()).square().sum().backward(create_graph=True)
    assert not w.grad._is_view() and w.grad.grad_fn is not None
    w.grad.detach_()
    assert w.grad.tolist() == [[24.0] * 3] * 2 and w.grad.grad_fn is None
