"""``autograd.Function``, hooks, anomaly mode, grad modes, deep graphs, ``functional``, ``func`` and checkpoints, most against PyTorch."""
from __future__ import annotations

import sys
import threading
import warnings
import weakref

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def values(x):
    if hasattr(x, "detach"):
        return np.array(x.detach().numpy())
    if isinstance(x, dict):
        return {k: values(v) for k, v in x.items()}
    return [values(v) for v in x] if isinstance(x, (tuple, list)) else x


def equal(a, b):
    if isinstance(a, np.ndarray):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    elif isinstance(a, (list, dict)):
        assert type(a) is type(b) and len(a) == len(b)
        for k in a if isinstance(a, dict) else range(len(a)):
            equal(a[k], b[k])
    else:
        assert a == b


def cube(t):
    class Cube(t.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.save_for_backward(x)
            ctx.scale = scale
            return x ** 3 * scale

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 3 * x ** 2 * ctx.scale, None
    return Cube


def custom_function(t):
    x = t.tensor([1.0, -2.0], requires_grad=True)
    y = cube(t).apply(x, 2.0)
    (g,) = t.autograd.grad(y.sum(), x, create_graph=True)
    (h,) = t.autograd.grad(g.sum(), x)
    return [y, g, h, type(y.grad_fn).__name__ == "CubeBackward" or y.grad_fn.name() == "CubeBackward"]


def function_with_setup_context_and_two_outputs(t):
    class Split(t.autograd.Function):
        @staticmethod
        def forward(x):
            return x.sin(), x.cos()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*output)
            ctx.set_materialize_grads(False)

        @staticmethod
        def backward(ctx, a, b):
            s, c = ctx.saved_tensors
            return (0 if a is None else a * c) - (0 if b is None else b * s)
    x = t.tensor([0.3, 0.7], requires_grad=True)
    s, c = Split.apply(x)
    return [t.autograd.grad(s.sum(), x, retain_graph=True), t.autograd.grad((s * c).sum(), x)]


def function_marks(t):
    class Marks(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            top = x.argmax()
            ctx.mark_non_differentiable(top)
            return x, top

        @staticmethod
        def backward(ctx, g, _):
            return g * 2
    x = t.tensor([1.0, 3.0], requires_grad=True)
    y = x.clone()
    z, top = Marks.apply(y)
    (z * z).sum().backward()
    return [z, top, x.grad, y is z, top.requires_grad]


def hooks(t):
    log = []
    x = t.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    y.register_hook(lambda g: g * 10)
    y.retain_grad()
    x.register_hook(lambda g: log.append(g.clone()))
    x.register_post_accumulate_grad_hook(lambda p: log.append(p.grad.clone()))
    z = y * y
    removed = z.register_hook(lambda g: g * 1000)
    removed.remove()
    z.sum().backward()
    return [x.grad, y.grad, log]


def node_hooks(t):
    log = []
    x = t.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 3).exp()
    y.grad_fn.register_hook(lambda gi, go: log.append((gi[0].clone(), go[0].clone())))
    y.grad_fn.register_prehook(lambda go: (go[0] * 2,))
    y.sum().backward()
    return [x.grad, log]


def several_gradients_hook(t):
    log = []
    a, b = t.ones(2, requires_grad=True), t.ones(2, requires_grad=True)
    handle = t.autograd.graph.register_multi_grad_hook([a, b], lambda gs: log.append([g.clone() for g in gs]))
    (a * 2 + b * 3).sum().backward()
    handle.remove()
    (a * 2 + b * 3).sum().backward()
    return [log, a.grad, b.grad]


def gradient_in_the_middle(t):
    x = t.tensor([0.5, 1.5], requires_grad=True)
    y = x.exp()
    z = (y * y).sum()
    (gy,) = t.autograd.grad(z, y)
    y.backward(gy)  # the part below y was not used up
    return [gy, x.grad]


def gradients_belong_to_their_leaves(t):
    a, b = t.ones(2, requires_grad=True), t.ones(2, requires_grad=True)
    (a + b).sum().backward()
    a.grad.mul_(5)
    seed = t.ones(2)
    c = t.ones(2, requires_grad=True)
    c.backward(seed)
    seed.mul_(7)
    c.grad.add_(1)
    d = t.ones(3, requires_grad=True)
    d.sum().backward()
    d.grad.zero_()
    return [a.grad, b.grad, c.grad, seed, d.grad]


def saved_value_of_shared_memory(t):
    y = t.tensor([3.0, 5.0], requires_grad=True)
    seen = y.detach().numpy()
    a = t.tensor([1.0, 2.0], requires_grad=True)
    x = a.clone()
    before = x.tolist()
    x.mul_(y)
    after = x.tolist()
    g = t.autograd.grad(x.sum(), [a, y], create_graph=True)
    return [before, after, g, t.autograd.grad(g[0].sum() + (g[1] * g[1]).sum(), [a, y]), seen]


def unused_and_materialized(t):
    x, y = t.ones(2, requires_grad=True), t.ones(3, requires_grad=True)
    z = (x * x).sum()
    return [t.autograd.grad(z, [x, y], allow_unused=True, retain_graph=True)[1] is None,
            t.autograd.grad(z, [x, y], materialize_grads=True, retain_graph=True),
            t.autograd.grad(x * 2, x, t.eye(2), is_grads_batched=True)]


def functional(t):
    f = t.autograd.functional
    x, y = t.tensor([0.5, 1.5]), t.tensor([2.0, -1.0])
    both = lambda a, b: ((a * b).exp(), (a.sin() * b).sum())  # noqa: E731
    one = lambda a, b: (a ** 3 * b).sum()  # noqa: E731
    return [f.vjp(both, (x, y), (x, t.tensor(2.0))), f.jvp(both, (x, y), (y, x)), f.jacobian(both, (x, y)), f.hessian(one, (x, y)),
            f.vhp(one, (x, y), (y, x)), f.hvp(one, (x, y), (y, x)), f.jacobian(lambda a: a.exp(), x), f.hessian(lambda a: a.prod(), x)]


def functional_with_graph(t):
    x = t.tensor([0.5, 1.5], requires_grad=True)
    j = t.autograd.functional.jacobian(lambda a: a ** 3, x, create_graph=True)
    (g,) = t.autograd.grad(j.sum(), x)
    return [j, g, t.autograd.functional.jacobian(lambda a: a ** 3, x).requires_grad]


def transforms(t):
    f = t.func
    x, y = t.tensor([0.5, 1.5]), t.tensor([2.0, -1.0])
    one = lambda a, b: (a ** 3 * b).sum()  # noqa: E731
    nested = lambda d: (d["p"][0] * d["p"][1].exp()).sum()  # noqa: E731
    out, pull = f.vjp(lambda a, b: (a * b, a.sin()), x, y)
    wave = lambda a: a.sin() * a  # noqa: E731
    line, along = f.jvp(wave, (x,), (y,))
    if t is rushlight:  # PyTorch's linearize warns about itself
        line, push = f.linearize(wave, x)
        along = push(y)
    return [f.grad(one)(x, y), f.grad(one, (0, 1))(x, y), f.grad_and_value(one)(x, y), f.grad(f.grad(lambda s: s ** 4))(t.tensor(2.0)),
            f.grad(lambda a: ((a * a).sum(), a * 2), has_aux=True)(x), f.grad(nested)({"p": [x, y]}), out, pull((x, y)),
            f.jvp(lambda a, b: a * b, (x, y), (y, x)), f.jacrev(lambda a: a.exp() * y)(x),
            f.jacfwd(lambda a, b: {"k": a * b}, (0, 1))(x, y),
            f.hessian(one)(x, y), f.hessian(one, (0, 1))(x, y), line, along]


def transforms_inside_autograd(t):
    w = t.tensor([1.0, 2.0], requires_grad=True)
    x = t.tensor([0.5, 1.5], requires_grad=True)
    g = t.func.grad(lambda a: (a ** 2 * w).sum())(x)
    free = t.func.grad(lambda a: (a ** 2).sum())(x.detach())
    with t.no_grad():
        quiet = t.func.grad(lambda a: (a ** 2 * w).sum())(x)
    return [g, t.autograd.grad(g.sum(), [w, x]), free.requires_grad, quiet.requires_grad, x.grad is None]


def mapped(t):
    x, y = t.arange(6.0).reshape(2, 3), t.arange(3.0)
    v = t.func.vmap
    return [v(t.dot, in_dims=(0, None))(x, y), v(lambda a: (a * 2, a.sum()), out_dims=(1, 0))(x),
            v(lambda a, d: a * d["s"], in_dims=(0, {"s": None}))(x, {"s": y}),
            v(v(lambda a: a * a))(x), v(lambda a: a, in_dims=1)(x), v(t.func.grad(lambda a: (a ** 3).sum()))(x),
            v(lambda a: a + 1, in_dims=-1, out_dims=-1)(x)]


def checkpoints(t):
    from importlib import import_module

    checkpoint = import_module(f"{t.__name__}.utils.checkpoint").checkpoint
    out = []
    for reentrant in (True, False):
        w, x = t.tensor([2.0, 3.0], requires_grad=True), t.tensor([0.1, 0.2], requires_grad=True)
        runs = []

        def part(a, runs=runs, w=w):
            runs.append(t.is_grad_enabled())
            return (a.sin() * w).exp() * w, a * 2

        p, q = checkpoint(part, x * 2, use_reentrant=reentrant)
        (p.sum() + (q * q).sum() + w.sum()).backward()
        out.append([p, q, w.grad, x.grad, len(runs)])
    return out


def checkpoint_of_captured_values(t):
    from importlib import import_module

    checkpoint = import_module(f"{t.__name__}.utils.checkpoint").checkpoint
    w, x = t.tensor([2.0, 3.0], requires_grad=True), t.tensor([0.1, 0.2], requires_grad=True)
    h = w.exp()
    calls = []
    h.register_hook(lambda g: calls.append(1))
    y = checkpoint(lambda a: (a * h).sin() + a * x, x * 2, use_reentrant=False)
    return [t.autograd.grad((y * h).sum(), [x, w, h]), len(calls)]


PROGRAMS = [custom_function, function_with_setup_context_and_two_outputs, function_marks, hooks, node_hooks, several_gradients_hook,
            gradient_in_the_middle, gradients_belong_to_their_leaves, saved_value_of_shared_memory, unused_and_materialized, functional,
            functional_with_graph, transforms, transforms_inside_autograd, mapped, checkpoints, checkpoint_of_captured_values]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # the oracle's own, in forward mode
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_same_as_pytorch(program):
    theirs, ours = values(program(torch)), values(program(rushlight))
    equal(theirs, ours)
    equal(theirs, values(program(rushlight)))  # again: what was compiled or replayed


def wrong_count(t):
    class Wrong(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g, g
    Wrong.apply(t.ones(2, requires_grad=True)).sum().backward()


def wrong_shape(t):
    class Wrong(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g[:1].repeat(3)
    Wrong.apply(t.ones(2, requires_grad=True)).sum().backward()


def twice(t):
    y = t.ones(2, requires_grad=True).exp().sum()
    y.backward()
    y.backward()


def written_over(t):
    y = t.ones(2, requires_grad=True).exp()
    z = (y * 2).sum()
    y.add_(1)
    z.backward()


def leaf_in_place(t):
    t.ones(2, requires_grad=True).add_(1)


def not_a_number(t):
    t.ones(2, requires_grad=True).exp().backward()


def no_graph(t):
    t.ones(()).backward()


def not_used(t):
    t.autograd.grad(t.ones(2, requires_grad=True).sum(), t.ones(2, requires_grad=True))


def once(t):
    class Once(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 2

        @staticmethod
        @t.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0]
    x = t.ones(2, requires_grad=True)
    (g,) = t.autograd.grad(Once.apply(x).sum(), x, create_graph=True)
    g.sum().backward()


def changed_recomputation(t):
    from importlib import import_module

    checkpoint = import_module(f"{t.__name__}.utils.checkpoint").checkpoint
    runs = []

    def part(a):
        runs.append(1)
        return (a if len(runs) == 1 else t.cat([a, a])).sin()

    checkpoint(part, t.ones(2, requires_grad=True), use_reentrant=False).sum().backward()


@pytest.mark.parametrize("mistake", [wrong_count, wrong_shape, twice, written_over, leaf_in_place, not_a_number, no_graph, not_used, once,
                                     changed_recomputation], ids=lambda f: f.__name__)
def test_mistakes_raise_what_pytorch_raises(mistake):
    raised = []
    for t in (torch, rushlight):
        with pytest.raises(RuntimeError) as info:
            mistake(t)
        raised.append(info.type.__name__)
    assert raised[0] == raised[1]


def test_anomaly_mode_names_the_operation_and_its_line():
    x = rushlight.tensor([-1.0], requires_grad=True)
    with rushlight.autograd.detect_anomaly():
        y = x.sqrt()  # the culprit
        with pytest.warns(UserWarning, match="the culprit"), pytest.raises(RuntimeError, match="SqrtBackward0.*nan"):
            (y * 2).sum().backward()
    assert not rushlight.autograd.is_anomaly_enabled()
    (x.sqrt() * 2).sum().backward()  # outside, a NaN is only a number
    assert np.isnan(x.grad.numpy()).all()


def test_grad_modes_belong_to_threads():
    seen = []

    def other():
        seen.append(rushlight.is_grad_enabled())
        x = rushlight.ones(2, requires_grad=True)
        (x * shared).sum().backward()
        seen.append(x.grad.tolist())

    shared = rushlight.ones(2) * 3  # still pending when the thread reads it
    with rushlight.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert not rushlight.is_grad_enabled()
    assert seen == [True, [3, 3]]


def test_backward_in_another_thread():
    x = rushlight.ones(2, requires_grad=True)
    y = (x * 3).exp().sum()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    np.testing.assert_allclose(x.grad.numpy(), 3 * np.exp([3.0, 3.0]), rtol=1e-6)


def test_grad_modes_nest_and_decorate():
    for t in (torch, rushlight):
        seen = []

        @t.no_grad()
        def quiet(t=t, seen=seen):
            seen.append(t.is_grad_enabled())
            with t.enable_grad():
                seen.append(t.is_grad_enabled())
                with t.set_grad_enabled(False):
                    seen.append(t.is_grad_enabled())
            return t.is_grad_enabled()

        seen.append(quiet())
        seen.append(t.is_grad_enabled())
        with pytest.raises(ZeroDivisionError), t.no_grad():
            1 / 0  # noqa: B018
        seen.append(t.is_grad_enabled())
        with t.inference_mode():
            seen.append((t.ones(1, requires_grad=True) * 2).requires_grad)
        assert seen == [False, True, False, False, True, True, False]


def test_a_chain_of_100000_operations():
    limit = sys.getrecursionlimit()
    x = rushlight.ones(3, requires_grad=True)
    y = x * 1.0
    early = weakref.ref(y)
    for k in range(100_000):
        y = y + x if k % 50_000 == 0 else -y
    y.sum().backward()
    reference = 1.0
    gradient = 1.0
    for k in range(100_000):
        reference, gradient = (reference + 1, gradient + 1) if k % 50_000 == 0 else (-reference, -gradient)
    assert y.tolist() == [reference] * 3
    assert x.grad.tolist() == [gradient] * 3
    del y
    assert early() is None
    assert sys.getrecursionlimit() == limit


def test_a_chain_that_is_dropped_frees_without_recursion():
    y = rushlight.ones(3, requires_grad=True)
    for _ in range(100_000):
        y = y + 1
    node = weakref.ref(y.grad_fn)
    del y
    assert node() is None


def test_checkpoint_holds_no_intermediate_values():
    held = []

    def part(a):
        inner = a.exp()
        held.append(weakref.ref(inner.grad_fn))
        return inner * inner

    x = rushlight.ones(3, requires_grad=True)
    y = rushlight.utils.checkpoint.checkpoint(part, x, use_reentrant=False)
    assert held[0]() is None
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp([2.0] * 3), rtol=1e-6)


def test_checkpoint_draws_the_same_numbers_again():
    x = rushlight.ones(1000, requires_grad=True)
    y = rushlight.utils.checkpoint.checkpoint(lambda a: rushlight.nn.functional.dropout(a, 0.5) * rushlight.rand(1000), x,
                                              use_reentrant=False)
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), x.grad.numpy(), rtol=1e-6)


def test_checkpoint_sequential():
    steps = [rushlight.sin, rushlight.exp, rushlight.cos, lambda a: a * a, rushlight.tanh]
    grads = []
    for segments in (1, 2, 3):
        x = rushlight.tensor([0.3, 0.6], requires_grad=True)
        rushlight.utils.checkpoint.checkpoint_sequential(steps, segments, x, use_reentrant=False).sum().backward()
        grads.append(x.grad.numpy())
    np.testing.assert_allclose(grads[1], grads[0], rtol=1e-6)
    np.testing.assert_allclose(grads[2], grads[0], rtol=1e-6)


def test_functional_call_and_stacked_modules():
    results = []
    for t in (torch, rushlight):
        net = t.nn.Sequential(t.nn.Linear(2, 3), t.nn.Tanh(), t.nn.Linear(3, 1))
        given = {n: t.tensor(np.full(p.shape, 0.1 * (k + 1), np.float32)) for k, (n, p) in enumerate(net.named_parameters())}
        before = {n: p.detach().clone() for n, p in net.named_parameters()}
        x = t.tensor([[1.0, 2.0]])
        out = t.func.functional_call(net, given, (x,))
        slopes = t.func.grad(lambda p, net=net, x=x, t=t: t.func.functional_call(net, p, (x,)).sum())(given)
        assert all(bool((before[n] == p).all()) for n, p in net.named_parameters())
        with pytest.raises(RuntimeError):
            t.func.functional_call(net, {"0.weight": given["0.weight"]}, (x,), strict=True)
        stacked, _ = t.func.stack_module_state([net, net])
        results.append(values([out, slopes, [list(p.shape) for p in stacked.values()]]))
    equal(*results)


def test_warnings_of_checkpoint():
    for t in (torch, rushlight):
        from importlib import import_module

        checkpoint = import_module(f"{t.__name__}.utils.checkpoint").checkpoint
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            checkpoint(t.sin, t.ones(1, requires_grad=True))
            checkpoint(t.sin, t.ones(1), use_reentrant=True)
        assert len(seen) == 2
        assert "use_reentrant" in str(seen[0].message) and "None of the inputs" in str(seen[1].message)


def test_gradcheck_finds_a_wrong_gradient():
    def wrong(t):
        class Wrong(t.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * x

            @staticmethod
            def backward(ctx, g):
                return g * 3
        return Wrong.apply
    for t in (torch, rushlight):
        x = t.tensor([1.0, 2.0], dtype=t.float64, requires_grad=True)
        error = t.autograd.gradcheck.__globals__["GradcheckError"]
        with pytest.raises(error, match="Jacobian mismatch for output 0 with respect to input 0"):
            t.autograd.gradcheck(wrong(t), x)
        assert t.autograd.gradcheck(wrong(t), x, raise_exception=False) is False
        with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
            t.autograd.gradcheck(t.sin, x.detach())
        with pytest.raises(RuntimeError, match="stride 0"):
            t.autograd.gradcheck(t.sin, x.expand(2, 2))
        with pytest.warns(UserWarning, match="double precision"), pytest.raises(RuntimeError):
            t.autograd.gradcheck(t.sin, x.detach().float().requires_grad_())


@pytest.mark.parametrize("t", [torch, rushlight], ids=["torch", "rushlight"])
def test_what_is_saved_is_what_forward_leaves(t):
    """Written through its parts before it is saved, or in place after that; only what is written after ``forward`` is an error."""
    class Powers(t.autograd.Function):
        @staticmethod
        def forward(ctx, w, early):
            found = t.empty(3, 1, 2)
            if early:
                ctx.save_for_backward(found, w)
            found[0] = 1.0
            for k in (1, 2):
                found[k] = found[k - 1] * w
            if not early:
                ctx.save_for_backward(found, w)
            return found

        @staticmethod
        def backward(ctx, grad):
            found, w = ctx.saved_tensors
            return (grad * found).sum() * w, None

    w = t.tensor(2.0, requires_grad=True)
    for early in (True, False, True):
        w.grad = None
        Powers.apply(w, early).sum().backward()
        assert w.grad.item() == 28.0
    out = Powers.apply(w, False)
    with t.no_grad():
        out[0] = 5.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


VIEWS = {"slice": lambda t, x: x[1:], "transposed": lambda t, x: x.view(2, 2).t(), "strided": lambda t, x: x[::2],
         "row of a constant": lambda t, x: t.zeros(2, 3)[1] + x[1:], "none": lambda t, x: x * 2}


@pytest.mark.parametrize("view", VIEWS)
def test_what_a_node_saved_of_a_view_can_be_read(view):
    """By hooks, before anything has run, and as the node's attribute."""
    seen = []
    for t in (torch, rushlight):
        x = t.arange(4.0, requires_grad=True) * 2
        kept = []
        with t.autograd.graph.saved_tensors_hooks(lambda a: (kept.append(a.tolist()), a.detach().numpy().copy())[1],  # noqa: B023
                                                  t.from_numpy):
            y = VIEWS[view](t, x).sin()
            y.sum().backward(retain_graph=True)
        again = VIEWS[view](t, x).sin()
        seen.append([kept, again.grad_fn._saved_self.tolist(), again.grad_fn._saved_self.detach().numpy().tolist()])
    equal(*seen)


def test_hooks_that_read_what_a_recurrent_layer_saves():
    seen = []
    for t in (torch, rushlight):
        t.manual_seed(0)
        layer, x = t.nn.LSTM(3, 2), t.randn(2, 1, 3, requires_grad=True)
        with t.autograd.graph.saved_tensors_hooks(lambda a: a.detach().numpy().copy(), t.from_numpy):
            layer(x)[0].sum().backward()
        seen.append(values([x.grad, layer.weight_hh_l0.grad]))
    equal(*seen)
