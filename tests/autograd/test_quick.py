"""The quick way of calls means what the full way means: every test repeats its program, so that calls are found again."""
from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import rushlight as torch
import rushlight.nn.functional as F
from rushlight.autograd import calls as known_calls
from rushlight.autograd.node import LONG
from rushlight.autograd.quick import quick
from rushlight.record import counters, flush, local
from rushlight.record.flush import start_afresh

ROUNDS = 4
FULL = 2  # the first call makes the path, the second is remembered


@pytest.fixture(autouse=True)
def nothing_pending():
    """A test that ran before may have left something recorded: the first round would start there and the others at the root. And random
    examples may have made functions of the package give up looking for their calls for a while."""
    flush()
    with pytest.MonkeyPatch.context() as patch:  # not the fixture, which a test may undo
        patch.setattr(known_calls, "REST", 0)
        yield


def counted(function):
    """A quick function and the list of its full calls."""
    calls = []

    def full(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)
    return quick(full), calls


def kept(node):
    """How many calls a node of the trie keeps."""
    return sum(len(calls) for known in (node.calls or {}).values() for calls in known.values())


def test_a_cache_that_grows_is_found_at_each_length():
    start_afresh()
    calls = []

    def full(parts):
        calls.append(len(parts))
        return torch.cat(parts, dim=0)
    join = quick(full)
    part = tensor(1, 3, grad=False)
    for _ in range(ROUNDS):
        cache = tensor(1, 3, seed=1, grad=False)
        for _ in range(60):
            cache = join([cache, part])
            flush()
    assert cache.shape == (61, 3) and len(calls) == FULL * 60


def test_calls_that_do_not_depend_on_the_length_are_one_object_at_all_lengths():
    """Each length of a cache has nodes of its own; what is known of a call is not there once more for each of them."""
    start_afresh()
    x, nodes = tensor(1, 3, grad=False), {}
    calls = (lambda t: t * 2.0, lambda t: t.split(1, dim=1)[0], lambda t: t.max(dim=1)[0], torch.exp)
    for _ in range(ROUNDS):
        whole = tensor(1, 3, seed=1, grad=False)
        for n in range(2, 12):
            whole = torch.cat([whole, x], dim=0)
            y, nodes[n] = whole.sum(dim=0, keepdim=True), []
            for call in calls:
                nodes[n].append(local.trace.node)
                y = call(y)
            flush()
            del y
    for k in range(len(calls)):
        assert len({id(nodes[n][k]) for n in nodes}) == len(nodes)
        assert len({id(nodes[n][k].last) for n in nodes}) == 1 and nodes[2][k].last.function is not None


@pytest.mark.parametrize("function", [lambda a, b: a * b, lambda a, b: torch.cat([a, b, a]), lambda a, b: torch.addcmul(a, b, b) - b,
                                      lambda a, b: (a * 2.0 + b * b).exp()])
@pytest.mark.parametrize("ready", [True, False])
def test_a_tensor_that_is_two_arguments(function, ready):
    """It is remembered, and told from two tensors that are alike."""
    start_afresh()
    f, calls = counted(function)
    x, y = tensor(3), tensor(3, seed=1)
    results = []
    for _ in range(ROUNDS):
        for a, b in ((x, x), (x, y), (y, y)):
            x.grad = y.grad = None
            pair = (a, b) if ready else (p := a * 1.0, p if b is a else b * 1.0)
            f(*pair).sum().backward()
            results.append([None if t.grad is None else t.grad.tolist() for t in (x, y)])
    assert all(np.allclose(a or 0, b or 0) for k in range(3) for r in results[k::3] for a, b in zip(r, results[k]))
    assert results[0] != results[1] and len(calls) <= 3 * FULL


@pytest.mark.parametrize("cut", [lambda t: t, lambda t: t.unsqueeze(0), lambda t: t[1:3], lambda t: t.view(2, 2), lambda t: t[::2]])
def test_the_state_of_an_environment_is_read_when_it_is_used(cut):
    """NumPy has the array and writes to it; a row-major part of it is remembered as a whole is, the next time without an array, too."""
    start_afresh()
    f, calls = counted(lambda t, n: t * n)
    state = np.zeros(4, np.float32)
    for k in range(ROUNDS):
        x = cut(torch.from_numpy(state))
        y = f(x, 2.0)
        state += 1.0
        z = f(x, 2.0)
        assert y.unique().tolist() == [2.0 * k] and z.unique().tolist() == [2.0 * (k + 1)]
    for _ in range(2):
        assert f(cut(torch.tensor([1.0] * 4)), 2.0).unique().tolist() == [2.0]
    assert len(calls) <= (4 * FULL if x.is_contiguous() else 2 * ROUNDS + 2)


def test_known_calls_are_found_while_a_function_rests(monkeypatch):
    """Calls that cannot be remembered make a function rest; those that are known at a node are found all the same."""
    monkeypatch.setattr(known_calls, "REST", 1024)
    start_afresh()
    f, calls = counted(lambda x, n: x * n)
    x, wide = tensor(2), tensor(3)
    for _ in range(ROUNDS):
        for t in (x, wide):  # two calls at one node, so that neither is always the latest
            f(t, 2.0)
            flush()
    for k in range(known_calls.PATIENCE + 8):  # each at a node of its own, and twice: the first time makes the node
        for _ in range(2):
            y = x.exp()
            for _ in range(k):
                y = y.neg()
            f(y, float("nan"))
            flush()
    made = len(calls)
    for _ in range(ROUNDS):
        for t in (x, wide):
            f(t, 2.0)
            flush()
    assert len(calls) == made


def tensor(*shape, seed=0, grad=True, dtype=np.float32):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=grad)


@pytest.mark.parametrize("call", [
    lambda f, x, w: f(x), lambda f, x, w: f(x, 1), lambda f, x, w: f(x, dim=1, keepdim=True), lambda f, x, w: f(x, w),
    lambda f, x, w: f(x, other=w), lambda f, x, w: f(x, (2, 3)), lambda f, x, w: f(x, [2, 3]), lambda f, x, w: f(x, 0.5, None, "a")])
def test_a_repeated_call_is_found(call):
    start_afresh()
    f, calls = counted(lambda x, *a, other=None, **k: x * other if other is not None else x * a[0] if a and hasattr(a[0], "_value")
                       else x.exp())
    x, w = tensor(2, 3), tensor(2, 3, seed=1)
    for _ in range(ROUNDS):
        call(f, x, w)
        node = local.trace.node
        flush()
    assert len(calls) == FULL and node.op is not None


def test_arguments_that_compare_equal_are_told_apart():
    x = torch.arange(4)
    for _ in range(ROUNDS):
        y = x + 0
        dtypes = [torch.add(y, n).dtype for n in (1, 1.0, True)]
        assert dtypes == [torch.int64, torch.float32, torch.int64]
    z = torch.zeros(2)
    for _ in range(ROUNDS):
        y = z * 1.0
        signs = [math.copysign(1, torch.mul(y, n)[0].item()) for n in (0.0, -0.0)]
        assert signs == [1, -1]


def test_nan_is_not_remembered():
    start_afresh()
    f, calls = counted(lambda x, n: x * 2.0)
    x, known = tensor(2), []
    for _ in range(ROUNDS):
        start = x.exp()
        node = local.trace.node
        f(start, float("nan"))
        known.append(kept(node))
        flush()
    assert len(calls) == ROUNDS and len(set(known[1:])) == 1


def test_what_looks_at_content_is_called_again():
    for k in range(2 * ROUNDS):
        assert F.one_hot(torch.tensor([0, 1 + k])).shape == (2, 2 + k)
    p, y = torch.tensor([0.5, 0.1]), torch.tensor([1.0, 0.0])
    for _ in range(ROUNDS):
        assert F.binary_cross_entropy(p, y).item() == pytest.approx(0.39925, abs=1e-4)
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        F.binary_cross_entropy(torch.tensor([1.5, 0.1]), y)


def test_gradient_flags_are_part_of_a_call():
    x = tensor(3)
    for _ in range(ROUNDS):
        assert type(x.exp().grad_fn).__name__ == "ExpBackward0"
        flush()
        with torch.no_grad():
            assert x.exp().grad_fn is None
        flush()
        assert x.detach().exp().grad_fn is None
        flush()


def test_a_function_that_cuts_the_graph_stays_cut():
    f, calls = counted(lambda x: x.detach().exp())
    x = tensor(3)
    for _ in range(ROUNDS):
        assert f(x * 2.0).grad_fn is None
        flush()


def test_in_place_and_out_arguments_are_done_anew():
    for _ in range(ROUNDS):
        x = torch.tensor([-1.0, 2.0])
        y = x * 1.0
        assert F.relu(y, inplace=True) is y and y.tolist() == [0, 2]
        out = torch.empty(2)
        assert torch.exp(x, out=out) is out
        assert out.tolist() == pytest.approx(np.exp([-1, 2]))


def test_views_share_memory():
    for _ in range(ROUNDS):
        x = tensor(2, 3, grad=False)
        y = x * 2.0
        v = y.transpose(0, 1)
        w = v.view(3, 2) if v.is_contiguous() else v.reshape(3, 2)
        v[0, 0] = 7.0
        assert y[0, 0].item() == 7 and w.shape == (3, 2) and v._is_view() and v._base is y
    for _ in range(ROUNDS):
        x = tensor(2, 3)
        y = x * 2.0
        y.view(6)[1:3].zero_()
        y.sum().backward()
        assert x.grad.reshape(-1).tolist() == [2, 0, 0, 2, 2, 2]


def test_pieces_are_views_of_their_tensor():
    for _ in range(ROUNDS):
        x = tensor(4, 3)
        y = x * 2.0
        first, second = y.chunk(2)
        rows = y.detach().unbind(0)
        assert first._base is y and second._base is y and second.storage_offset() == 6 and rows[3].storage_offset() == 9
        with pytest.raises(RuntimeError, match="multiple views"):
            second.mul_(10.0)
        second.detach().mul_(10.0)
        assert rows[3].tolist() == y[3].tolist() == pytest.approx((x[3] * 20).tolist())
        y.sum().backward()
        assert x.grad.tolist() == [[2.0] * 3] * 4
        with torch.no_grad():
            assert all(part.grad_fn is None and part._base is None for part in y.chunk(2))


def test_indices_that_compare_equal_are_told_apart():
    x = tensor(4, 4, grad=False) * 1.0
    for _ in range(ROUNDS):
        y = x * 1.0
        for key in ((slice(1, 3), 0), (slice(1, 3), slice(0, 1)), (slice(None), 1), (slice(None), True), (slice(None), None), slice(1, 3),
                    slice(True, 3), slice(1, 3, 2), (slice(-3, None), slice(None, -1))):
            np.testing.assert_array_equal((y * 1.0)[key].numpy(), np.asarray(x.numpy())[key])
        for wrong in ((slice(None), 4), (slice(None), slice(None), 0)):
            with pytest.raises((TypeError, IndexError)):
                y[wrong]
        assert y[[0, 1]].shape == (2, 4) and y[0, 1].shape == ()
        y = None
        flush()


def test_a_position_in_an_index_may_keep_changing():
    x = tensor(6, 8)
    for _ in range(2):
        for k in range(-8, 8):
            column = (x * 2.0)[:, k]
            (3 * column).sum().backward()
            want = np.zeros((6, 8), np.float32)
            want[:, k] = 6
            np.testing.assert_array_equal(x.grad.numpy(), want)
            np.testing.assert_allclose(column.detach().numpy(), 2 * x.detach().numpy()[:, k], rtol=1e-6)
            x.grad = None
        for k in range(5):
            window = (x * 2.0)[:, k:k + 3]
            np.testing.assert_allclose(window.detach().numpy(), 2 * x.detach().numpy()[:, k:k + 3], rtol=1e-6)


def test_a_tensor_and_a_part_of_it_enter_together():
    x = tensor(4, 4, grad=False)
    for _ in range(ROUNDS):
        same = torch.mul(x, x)
        part = torch.add(x, x[1])
        rows = torch.add(x[0], x[1])
        np.testing.assert_array_equal(same.numpy(), x.numpy() ** 2)
        np.testing.assert_array_equal(part.numpy(), x.numpy() + x.numpy()[1])
        np.testing.assert_array_equal(rows.numpy(), x.numpy()[0] + x.numpy()[1])


def test_a_ready_tensor_and_a_part_of_another_enter_together():
    for shape in ((4,), (1, 4), (2, 4), (4,)):  # what is known of one shape is no call of another
        for _ in range(ROUNDS):
            x, y = tensor(*shape, grad=False), tensor(3, 4, seed=1, grad=False)
            np.testing.assert_array_equal(torch.add(x, y[1]).numpy(), x.numpy() + y.numpy()[1])
            np.testing.assert_array_equal(torch.add(y[2], x).numpy(), x.numpy() + y.numpy()[2])


def test_what_another_tensor_wrote_is_seen():
    for _ in range(ROUNDS):
        x = tensor(2, 3, grad=False) * 1.0
        whole, part = x.detach(), x[1]
        before = torch.exp(part), torch.exp(whole)
        x.mul_(2.0)
        after = torch.exp(part), torch.exp(whole)
        np.testing.assert_allclose(after[0].numpy(), before[0].numpy() ** 2, rtol=1e-5)
        np.testing.assert_allclose(after[1].numpy(), before[1].numpy() ** 2, rtol=1e-5)


def test_a_list_argument_may_change_later():
    start_afresh()
    size = [2, 3]
    f, calls = counted(lambda x, size: x.reshape(size))
    for size[0], size[1] in [(2, 3), (2, 3), (2, 3), (3, 2), (2, 3)]:
        assert f(tensor(6) * 1.0, size).shape == tuple(size)
        flush()
    assert len(calls) == FULL + 1


def test_long_lists_are_done_anew():
    w = tensor(2)
    for n in (255, 257):
        for _ in range(2):
            w.grad = None
            torch.stack([w * 1.0 for _ in range(n)]).sum().backward()
            assert w.grad.tolist() == [n, n]


@pytest.mark.parametrize("n", [1, LONG, LONG + 1])
def test_an_operation_of_many_tensors_is_linked_as_one_of_few(n):
    parts = [tensor(2, 3, seed=k, grad=k % 2 == 0) for k in range(n)]
    for _ in range(ROUNDS):
        whole = torch.stack([p * 2.0 if k % 4 else p for k, p in enumerate(parts)], dim=1)
        (whole * torch.arange(n).reshape(1, n, 1)).sum().backward()
        for k, p in enumerate(parts):
            assert p.grad is None if k % 2 else p.grad.tolist() == [[k * (2.0 if k % 4 else 1.0)] * 3] * 2
            p.grad = None
        assert whole.shape == (2, n, 3) and len(whole.grad_fn.next_functions) == n


def test_what_is_no_tensor_after_all_goes_the_full_way():
    x, w = tensor(3), tensor(3, seed=1)
    for other in (w, 2.0, w, np.float32(3.0), w, 2, [w], w):
        y = x * 1.0
        if type(other) is list:
            with pytest.raises(TypeError):
                torch.mul(y, other)
        else:
            got = torch.mul(y, other).detach().numpy()
            np.testing.assert_allclose(got, x.detach().numpy() * (other.detach().numpy() if other is w else other), rtol=1e-6)
        flush()


def test_modes_that_change_between_two_calls():
    x = tensor(3)
    for k in range(2 * ROUNDS):
        y = x * 2.0
        with torch.autograd.set_detect_anomaly(k % 3 == 1):
            z = y.exp()
        assert ("trace_text" in (z.grad_fn.rare or {})) == (k % 3 == 1)
        with torch.set_grad_enabled(k % 2 == 0):
            assert (y.exp().grad_fn is not None) == (k % 2 == 0)
        flush()


def test_signatures_stay():
    import inspect

    assert list(inspect.signature(torch.softmax).parameters)[:2] == ["input", "dim"]
    assert F.linear.__name__ == "linear" and F.linear.__doc__ and F.linear.__code__.co_varnames[:3] == ("input", "weight", "bias")
    with pytest.raises(TypeError, match=r"linear\(\).*'weights'"):
        F.linear(tensor(2, 2), weights=tensor(2, 2))
    with pytest.raises(TypeError, match=r"softmax\(\) got an unexpected"):
        F.softmax(tensor(2, 2), dims=1)


def test_memory_that_numpy_sees_is_read_at_once():
    x = torch.ones(3)
    array = x.numpy()
    for k in range(ROUNDS):
        array[:] = k
        y = torch.exp(x)
        array[:] = 100
        assert y.tolist() == pytest.approx([math.exp(k)] * 3)


def test_functions_with_nothing_to_remember_are_soon_called_straight():
    f, calls = counted(lambda x: x)
    x = tensor(2)
    known = kept(local.trace.root)
    for _ in range(100):
        assert f(x) is x
    assert len(calls) == 100 and kept(local.trace.root) == known


TABLE = [
    lambda x, w: x.exp(), lambda x, w: torch.tanh(x), lambda x, w: F.relu(x), lambda x, w: F.softmax(x, dim=-1),
    lambda x, w: x.sum(0, keepdim=True), lambda x, w: torch.matmul(x, w), lambda x, w: F.linear(x, w),
    lambda x, w: F.linear(x, w, w[0]), lambda x, w: x.transpose(0, 1), lambda x, w: x.reshape(-1)[:3],
    lambda x, w: x.view(*x.shape), lambda x, w: x.detach(), lambda x, w: x.mul(2), lambda x, w: x.clamp(-1.0, 0.0),
    lambda x, w: x.mul_(1.5), lambda x, w: torch.where(x > 0, x, w), lambda x, w: x + w,
    lambda x, w: x.unsqueeze(0).expand(2, *x.shape)[1], lambda x, w: x.std(-1, keepdim=True),
    lambda x, w: F.gelu(x, approximate="tanh"), lambda x, w: torch.cat([x, x], dim=0), lambda x, w: x.chunk(2)[0],
    lambda x, w: F.layer_norm(x, x.shape[-1:])]


@pytest.mark.filterwarnings("ignore:(var|std)")  # of what has been cut down to one element
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(range(len(TABLE))), min_size=1, max_size=6), st.booleans())
def test_random_programs_repeat_themselves(steps, grad):
    """The same program four times, the last three over what the first recorded: same values, gradients and errors."""
    results = []
    for _ in range(4):
        x, w = (tensor(3, 3, seed=s, grad=grad, dtype=np.float64) for s in (0, 1))  # double: the first run adds in NumPy's order
        flush()
        y, told = x * 1.0, []
        for k in steps:
            try:
                y = TABLE[k](y, w)
            except (RuntimeError, IndexError) as error:
                told.append(str(error))
        if y.requires_grad:
            try:
                (y * y).sum().backward()
            except RuntimeError as error:  # what exp saved, say, was written over
                told.append(str(error))
        results.append([told, y.detach().numpy().copy(), y.grad_fn.name() if y.grad_fn else None,
                        *[None if t.grad is None else t.grad.numpy().copy() for t in (x, w)]])
    for other in results[1:]:
        assert other[0] == results[0][0] and other[2] == results[0][2]
        for a, b in zip(other[1::2] + other[4:], results[0][1::2] + results[0][4:]):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("call", [
    lambda x, w: x.split(1, dim=1), lambda x, w: x.chunk(2), lambda x, w: x.unbind(0), lambda x, w: torch.cat([x, w], 1),
    lambda x, w: torch.cat((w, x), dim=0),
    lambda x, w: F.scaled_dot_product_attention(x, w, w * 1.0, is_causal=True),
    lambda x, w: F.embedding(torch.tensor([1, 0]), w), lambda x, w: x[:, 1:3], lambda x, w: x[..., -1], lambda x, w: x[:, None],
    lambda x, w: x[1:2], lambda x, w: x[:, ::2], lambda x, w: x.T, lambda x, w: -x, lambda x, w: x.expand_as(w), lambda x, w: x.double(),
    lambda x, w: x.reshape(3, 2).view_as(w)[:, 1:], lambda x, w: x.reshape_as(w.detach())[0],
    lambda x, w: torch.stack([x, w], dim=1), lambda x, w: x.index_select(1, torch.tensor([2, 0]))])
def test_pieces_lists_and_other_orders_are_found(call, monkeypatch):
    """Calls that give several views, take a list, or whose operation takes the tensors in another order."""
    start_afresh()  # the other calls cut tensors at the same place of a trace, which would make positions inputs
    results = []
    for k in range(ROUNDS):
        x, w = tensor(2, 3), tensor(2, 3, seed=1)
        flush()
        y = x * 2.0
        if k >= FULL:  # the function is not called again: it would record
            monkeypatch.setattr(type(local.trace), "record", None)
        made = call(y, w)
        monkeypatch.undo()
        pieces = made if isinstance(made, tuple) else (made,)
        sum([((n + 1) * piece.exp()).sum() for n, piece in enumerate(pieces)]).backward()
        results.append([*[piece.detach().numpy().copy() for piece in pieces],
                        *[t.grad.numpy().copy() for t in (x, w) if t.grad is not None]])
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


# -- memory that NumPy can write ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shaped", [
    lambda x: x, lambda x: x[1:], lambda x: x.unsqueeze(0), lambda x: x.view(2, 2), lambda x: x.expand(3, 4), lambda x: x.float()])
def test_small_memory_that_numpy_can_write_is_read_when_the_call_is_made(shaped):
    w = tensor(4)
    for k in range(ROUNDS):
        array = np.arange(4, dtype=np.float32) + k
        x = shaped(torch.from_numpy(array))
        scale = w[:x.shape[-1]]
        first = (x * scale).exp()
        array *= 2
        second = x * scale
        array *= 0
        base = shaped(torch.tensor(np.arange(4, dtype=np.float32) + k)).numpy()
        np.testing.assert_allclose(first.detach().numpy(), np.exp(base * scale.detach().numpy()), rtol=1e-5)
        np.testing.assert_allclose(second.detach().numpy(), 2 * base * scale.detach().numpy(), rtol=1e-6)


def test_small_memory_that_numpy_can_write_runs_nothing_at_once():
    """A state of the environment, which the program goes on to hold, enters the model in every step."""
    model, calls = torch.nn.Linear(4, 3), []

    def full(x, weight, bias):
        calls.append(1)
        return F.linear(x, weight, bias)
    layer = quick(full)
    start_afresh()
    for k in range(ROUNDS):
        state = np.full(4, k, np.float32)
        flush()
        before = counters.programs_run
        out = layer(torch.from_numpy(state), model.weight, model.bias).relu().sum()
        state += 1
        out.item()
        assert counters.programs_run == before + 1
    assert len(calls) == FULL


def test_what_a_backward_keeps_of_memory_that_numpy_can_write_is_that_memory():
    w = tensor(3)
    for _ in range(ROUNDS):
        array = np.ones(3, np.float32)
        x = torch.from_numpy(array)
        y = (w * x).sum()
        x.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()


ARGUMENTS = {  # what other tensors, NumPy and configurations hand in: (an argument, an equal one, one that differs)
    "size": lambda: (torch.ones(2, 3).shape, torch.Size([2, 3]), torch.Size([3, 2])),
    "tuple": lambda: ((2, 1000), tuple(map(int, ("2", "1000"))), (2, 1001)),
    "list": lambda: ([1000, 3], [10 ** 3, 3], [1000, 4]),
    "device": lambda: (torch.ones(1).device, torch.device("cpu"), None),
    "integer": lambda: (1000, int("1000"), 1000.0),
    "NumPy's integer": lambda: (np.int64(7), np.int64(7), np.int32(7)),
    "NumPy's float": lambda: (np.float32(0.0), np.float32(0.0), np.float32(-0.0)),
    "memory format": lambda: (torch.channels_last, torch.channels_last, torch.contiguous_format),
    "layout": lambda: (torch.strided, torch.strided, torch.sparse_coo),
    "type": lambda: (float, float, int),
    "text": lambda: ("mean", "".join(["me", "an"]), "sum"),
    "numbers that are none": lambda: ((1, 2), (1, 2), (True, 2)),
    "floats among numbers": lambda: ((1, 2), (1, 2), (1.0, 2)),
    "zeros": lambda: ((0.0, 1), (0.0, 1), (-0.0, 1)),
    "nothing": lambda: ((), (), (1,)),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_calls_with_such_arguments_are_remembered(name):
    start_afresh()
    first, equal, other = ARGUMENTS[name]()
    seen = []

    def full(x, argument):
        seen.append(argument)
        return x * 2.0
    call = quick(full)
    for k in range(ROUNDS):
        x = torch.ones(2, requires_grad=True) * 1.0
        assert call(x, first if k % 2 else equal).tolist() == [2.0, 2.0]
    assert len(seen) == FULL
    x = torch.ones(2, requires_grad=True) * 1.0
    call(x, other)
    assert len(seen) == FULL + 1 and seen[-1] is other  # what is not the same is another call


def test_lists_that_change_after_a_call_are_another_argument():
    start_afresh()
    sizes = [2, 3]
    for _ in range(ROUNDS):
        x = torch.ones(6) * 1.0
        assert x.view(sizes).shape == (2, 3)
    sizes[:] = 3, 2
    assert (torch.ones(6) * 1.0).view(sizes).shape == (3, 2)


def test_positions_out_of_numpy_are_not_remembered_one_by_one():
    start_afresh()
    table = (torch.arange(12.0).view(4, 3) * 1.0).requires_grad_()
    for k in range(8):
        assert (table * 1.0)[np.int64(k % 4)].tolist() == [3.0 * (k % 4), 3.0 * (k % 4) + 1, 3.0 * (k % 4) + 2]
    node = local.trace.root
    assert all(len(calls) <= 1 for known in (node.calls or {}).values() for calls in known.values())


@pytest.mark.parametrize("view", [lambda x: x.unsqueeze(0), lambda x: x[1:3], lambda x: x.view(2, 2), lambda x: x])
def test_parts_of_numpys_memory_enter_as_copies(view):
    """What an environment writes its states into: small, and seen from outside."""
    start_afresh()
    array = np.zeros(4, np.float32)
    f, calls = counted(lambda x: x * 2.0)
    for k in range(ROUNDS):
        array[:] = k
        x = view(torch.from_numpy(array))
        y = f(x)
        array[:] = -1.0
        assert set(y.flatten().tolist()) == {2.0 * k} and y.shape == x.shape
        assert set(f(x).flatten().tolist()) == {-2.0}
    assert len(calls) == FULL


def test_large_parts_of_numpys_memory_are_read_at_once():
    start_afresh()
    array = np.zeros((2, 4096), np.float32)
    f, _ = counted(lambda x: x * 2.0)
    for k in range(ROUNDS):
        array[:] = k
        y = f(torch.from_numpy(array)[1])
        array[:] = -1.0
        assert y[5].item() == 2.0 * k


def test_calls_that_cannot_be_remembered_do_not_spoil_a_node_for_ever(monkeypatch):
    monkeypatch.setattr(known_calls, "REST", 20)
    start_afresh()
    f, calls = counted(lambda x, look: x * (2.0 + (x.sum().item() if look else 0.0)))
    x = tensor(3)
    for _ in range(40):
        f(x, True)
        flush()
    for _ in range(30):
        f(x, False)
        flush()
    before = len(calls)
    for _ in range(5):
        f(x, False)
        flush()
    assert len(calls) == before
