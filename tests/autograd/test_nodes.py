"""What users read from graph nodes: ``next_functions``, saved tensors, metadata, hooks."""
import gc
import weakref
from typing import Any

import pytest

import rushlight as torch
from rushlight import nn
from rushlight.autograd.node import FORMS, filler, grad_class


def walk(root: Any) -> list[Any]:
    """The nodes of a graph as torchviz and its relatives visit them, by identity, each once."""
    seen: dict[int, Any] = {}
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            todo.extend(n for n, _ in node.next_functions if n is not None)
    return list(seen.values())


def test_a_walk_meets_each_parameter_once():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 4))
    tied, lstm, attention = model[6].weight, nn.LSTM(4, 4), nn.MultiheadAttention(4, 2)
    y = model(torch.ones(3, 1, 4, 4)) @ tied
    y, _ = lstm(y.unsqueeze(0))
    loss = nn.functional.cross_entropy(attention(y, y, y)[0][0], torch.tensor([0, 1, 2])) + (tied ** 2).sum()
    found = [n.variable for n in walk(loss.grad_fn) if type(n).__name__ == "AccumulateGrad"]
    wanted = [*model.parameters(), *lstm.parameters(), *attention.parameters()]
    assert len(found) == len({id(p) for p in found}) == len(wanted) and {id(p) for p in found} == {id(p) for p in wanted}


def test_a_leaf_is_shown_by_one_node():
    x = torch.ones(2, requires_grad=True)
    ((a, number),), ((b, _),) = (x * 2).grad_fn.next_functions, (x + 1).grad_fn.next_functions
    assert a is b and number == 0 and a.variable is x and a.name() == "torch::autograd::AccumulateGrad"
    assert a.next_functions == () and a.metadata == {} and repr(a).startswith("<AccumulateGrad object at 0x")
    seen: list[Any] = []
    a.register_hook(lambda inputs, outputs: seen.append((inputs, outputs[0].tolist())))
    a.register_prehook(lambda grads: (grads[0] * 10,))
    (x * 5).sum().backward()
    assert seen == [((), [5.0, 5.0])] and x.grad.tolist() == [50.0, 50.0]


def test_the_bias_of_a_linear_layer_comes_first():
    layer = nn.Linear(3, 2)
    x = torch.ones(4, 3, requires_grad=True) * 1
    bias, before, weight = [n for n, _ in layer(x).grad_fn.next_functions]
    assert bias.variable is layer.bias and before is x.grad_fn and weight.variable is layer.weight
    assert [n for n, _ in nn.functional.linear(x, layer.weight).grad_fn.next_functions] == [x.grad_fn, weight]


def test_saved_tensors_have_pytorchs_names():
    x, w = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)
    y = x.exp()
    assert y.grad_fn._saved_result.tolist() == y.tolist()
    product = x * w
    assert product.grad_fn._saved_self is x and product.grad_fn._saved_other is w
    square = x ** 2
    assert square.grad_fn._saved_self is x and square.grad_fn._saved_exponent == 2
    m = torch.ones(2, 2, requires_grad=True)
    assert (m @ m).grad_fn._saved_mat2 is m
    for name in ("_saved_nothing", "_saved_result", "nothing"):
        with pytest.raises(AttributeError, match=f"'MulBackward0' object has no attribute '{name}'"):
            getattr(product.grad_fn, name)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="directly access saved tensors after they have already been freed"):
        _ = y.grad_fn._saved_result


def test_the_node_of_a_function_is_its_context():
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.save_for_backward(x)
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.factor, None

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    node = Scale.apply(x, 3.0).grad_fn
    assert node.saved_tensors[0] is x and node.factor == 3.0 and node.needs_input_grad == (True, False)
    assert type(node).__name__ == node.name() == "ScaleBackward"
    with pytest.raises(AttributeError, match="'ScaleBackward' object has no attribute 'nothing'"):
        _ = node.nothing


def test_hooks_and_metadata_of_a_node():
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.grad_fn.metadata["place"] = "here"
    seen: list[Any] = []
    y.grad_fn.register_prehook(lambda grads: (grads[0] * 10,))
    handle = y.grad_fn.register_hook(lambda inputs, outputs: seen.append((inputs[0].tolist(), outputs[0].tolist())))
    y.sum().backward(retain_graph=True)
    handle.remove()
    y.sum().backward()
    assert seen == [([20.0, 20.0], [10.0, 10.0])] and x.grad.tolist() == [40.0, 40.0] and y.grad_fn.metadata == {"place": "here"}


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1), (0, 0, 1)])
def test_results_of_one_node_have_gradients_of_their_own(used: tuple[int, ...]):
    """Also where each of them alone is used, has a hook, or keeps its gradient; remembered calls and backwards are as the first."""
    w = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64, requires_grad=True)
    alone = []
    for k in range(2):
        (grad,) = torch.autograd.grad((torch.linalg.qr(w * 1.0)[k] * (k + 2.0)).sum(), w)
        alone.append(grad)
    wanted = sum([alone[k] for k in used[1:]], alone[used[0]])
    for hooked in (False, False, False, False, True):
        w.grad = None
        parts = torch.linalg.qr(w * 1.0)
        assert parts[0].grad_fn is parts[1].grad_fn and [p.output_nr for p in parts] == [0, 1]
        seen: list[int] = []
        if hooked:
            for k, p in enumerate(parts):
                p.retain_grad()
                p.register_hook(lambda g, k=k, seen=seen: seen.append(k))
        loss = sum([(parts[k] * (k + 2.0)).sum() for k in used[1:]], (parts[used[0]] * (used[0] + 2.0)).sum())
        assert {nr for n, nr in walk_edges(loss.grad_fn) if n is parts[0].grad_fn} == set(used)
        loss.backward()
        assert torch.allclose(w.grad, wanted)
        if hooked:
            assert sorted(set(seen)) == sorted(set(used))
            assert all(p.grad is not None and p.grad.tolist() == [[(k + 2.0) * used.count(k)] * 2] * 2
                       for k, p in enumerate(parts) if k in used)


def walk_edges(root: Any) -> list[tuple[Any, int]]:
    """Where the edges of a graph lead to: nodes and numbers of their results."""
    return [edge for node in walk(root) for edge in node.next_functions if edge[0] is not None]


def test_nodes_have_no_room_for_what_they_do_not_hold():
    x, w = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2)
    held = {"x * w": (x * w, {"edge0", "kept1"}), "x + w": (x + w, {"edge0"}), "exp": (x.exp(), {"edge0", "out0"}),
            "max": (x.max(1)[0], {"edge0", "out1"}), "x @ x": (x @ x, {"edge0", "edge1", "kept0", "kept1"})}
    for name, (y, slots) in held.items():
        node = y._edge
        assert set(type(node).FILLED) == slots, name
        assert not hasattr(node, "__dict__") and node.edges[0] is x


def test_classes_of_nodes_do_not_pile_up():
    """Where lists are joined of which now these, now those want gradients, every set has a class: the oldest are let go."""
    def made(k):
        wants = tuple([bool(k >> i & 1) for i in range(12)])
        assert callable(filler(wants, (False,) * 12))
        return weakref.ref(grad_class(wants, (False,) * 12, (False,)))
    classes = [made(k) for k in range(3000, 3001 + FORMS)]
    gc.collect()
    assert classes[0]() is None and classes[-1]() is not None
