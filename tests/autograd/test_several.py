"""Remembered calls that recorded several operations, gave several results or wrote in place mean what the full way means."""
from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import rushlight as torch
import rushlight.nn.functional as F
from rushlight import nn
from rushlight.autograd import calls as known_calls
from rushlight.autograd.handle import View
from rushlight.record import counters, flush, local
from rushlight.record.flush import start_afresh
from rushlight.tensor import out

ROUNDS = 5  # the first calls make the path, the second are remembered


@pytest.fixture(autouse=True)
def nothing_pending():
    flush()
    with pytest.MonkeyPatch.context() as patch:  # examples of before may have made functions give up for a while
        patch.setattr(known_calls, "REST", 0)
        yield


def tensor(*shape, seed=0, grad=True, dtype=np.float32):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=grad)


def graph_of(t):
    """Names of the graph below a tensor, in the order of a walk."""
    names, stack = [], [t.grad_fn]
    while stack and len(names) < 200:
        node = stack.pop()
        names.append(None if node is None else node.name())
        if node is not None:
            stack += [inner for inner, _ in node.next_functions]
    return names


def told(t):
    """All that a program can ask a tensor without changing it."""
    if t is None:
        return None
    return [tuple(t.shape), t.dtype, t.stride(), t.storage_offset(), t._version, t.requires_grad, t.is_leaf, t._is_view(),
            graph_of(t)]


def content(t):
    return None if t is None else t.detach().double().numpy().copy()


def equal(a, b):
    assert (a is None) == (b is None)
    if a is not None:
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


SINGLE = {
    "max": lambda x, w: x.max(1), "max keepdim": lambda x, w: torch.max(x, dim=0, keepdim=True), "min": lambda x, w: torch.min(x, -1),
    "median": lambda x, w: x.median(1), "topk": lambda x, w: torch.topk(x, 2), "sort": lambda x, w: torch.sort(x, descending=True),
    "argsort": lambda x, w: x.argsort(), "aminmax": lambda x, w: torch.aminmax(x), "cummax": lambda x, w: torch.cummax(x, 1),
    "var_mean": lambda x, w: torch.var_mean(x, 1), "std": lambda x, w: x.std(1), "kthvalue": lambda x, w: x.kthvalue(2, 0),
    "addmm": lambda x, w: torch.addmm(w[0], x, w), "addmm scaled": lambda x, w: torch.addmm(w, x, w, beta=0.5, alpha=2.0),
    "baddbmm": lambda x, w: torch.baddbmm(x[None], w[None], w[None]), "stack": lambda x, w: torch.stack([x, w, x], 1),
    "hstack": lambda x, w: torch.hstack([x, w]), "glu": lambda x, w: F.glu(x[:, :2]),
    "reflect": lambda x, w: F.pad(x[None], (1, 1), "reflect"),
    "normalize": lambda x, w: F.normalize(x, dim=1), "cosine": lambda x, w: F.cosine_similarity(x, w),
    "cdist": lambda x, w: torch.cdist(x, w),
    "kl_div": lambda x, w: F.kl_div(x, w, reduction="batchmean", log_target=True),
    "outer": lambda x, w: torch.outer(x[0], w[1]),
    "zeros_like": lambda x, w: torch.zeros_like(x), "ones": lambda x, w: torch.ones(3, 4), "full": lambda x, w: torch.full((2,), 0.5),
    "roll": lambda x, w: x.roll(1, 0), "flip": lambda x, w: x.fliplr(), "tensordot": lambda x, w: torch.tensordot(x, w, 1),
    "mul_": lambda x, w: x.mul_(0.9), "add_": lambda x, w: x.add_(w), "add_ alpha": lambda x, w: x.add_(w, alpha=0.5),
    "sub_ row": lambda x, w: x.sub_(w[0]),
    "zero_": lambda x, w: x.zero_(), "fill_": lambda x, w: x.fill_(2.0), "copy_": lambda x, w: x.copy_(w),
    "copy_ row": lambda x, w: x.copy_(w[1]), "clamp_": lambda x, w: x.clamp_(-0.5, 0.5), "sigmoid_": lambda x, w: x.sigmoid_(),
    "masked_fill_": lambda x, w: x.masked_fill_(w > 0, 0.5), "addcmul_": lambda x, w: x.addcmul_(w, w, value=0.5),
    "lerp_": lambda x, w: x.lerp_(w, 0.25), "index_add_": lambda x, w: x.index_add_(0, torch.tensor([1, 0, 2]), w),
    "scatter_add_": lambda x, w: x.scatter_add_(1, torch.tensor([[0, 1, 2]] * 3), w), "relu inplace": lambda x, w: F.relu(x, inplace=True),
    "x *= x": lambda x, w: x.mul_(x), "square_": lambda x, w: x.square_(), "selu_": lambda x, w: F.selu(x, inplace=True),
    "masked scale": lambda x, w: x.div_(w.detach().abs().add_(1.0)), "tril_": lambda x, w: x.tril_(),
}
#: Calls that do not take the quick way as a whole, because arguments are made on the way.
PARTS = {"addmm", "baddbmm", "glu", "reflect", "outer", "sub_ row", "copy_ row", "masked_fill_", "index_add_", "scatter_add_",
         "masked scale"}


def run(call, grad, seed=0):
    """One program with the call in it: everything that can be told of what it returned and of its arguments, and the gradients."""
    x, w = tensor(3, 3, seed=seed, grad=grad), tensor(3, 3, seed=seed + 1, grad=grad)
    flush()
    y = x * 1.5
    before = y
    made = call(y, w)
    pieces = list(made) if isinstance(made, (tuple, list)) else [made]
    facts = [type(made).__name__, getattr(made, "_fields", None), [p is before for p in pieces], *map(told, pieces), told(y), told(w)]
    values = [content(p) for p in pieces] + [content(y)]
    total = sum([((k + 1) * p.double().exp()).sum() for k, p in enumerate(pieces) if p.requires_grad])
    if isinstance(total, torch.Tensor):
        (total + y.double().sum()).backward()
    return facts, [*values, content(x.grad), content(w.grad)]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", SINGLE)
def test_a_repeated_call_is_the_call_in_full(name, grad, monkeypatch):
    call = SINGLE[name]
    start_afresh()
    monkeypatch.setattr(known_calls, "search", lambda function, tr, given: known_calls.vain)
    from rushlight.autograd import quick

    monkeypatch.setitem(quick._SCOPE, "search", known_calls.search)
    run(call, grad)
    facts, values = run(call, grad)
    monkeypatch.undo()
    start_afresh()
    for _ in range(ROUNDS):
        again, others = run(call, grad)
        assert again == facts
        for a, b in zip(values, others, strict=True):
            equal(a, b)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", sorted(set(SINGLE) - PARTS))
def test_a_repeated_call_is_remembered(name, grad, monkeypatch):
    start_afresh()
    call = SINGLE[name]
    x, w = tensor(3, 3, grad=grad), tensor(3, 3, seed=1, grad=grad)
    for k in range(ROUNDS):
        flush()
        y = x * 1.5
        if k >= 3:
            monkeypatch.setattr(type(local.trace), "record", None)
            monkeypatch.setattr(known_calls, "search", None)
        nodes = local.trace.nodes
        call(y, w)
        assert k < 3 or local.trace.nodes == nodes
        monkeypatch.undo()


# -- writes in place ---------------------------------------------------------------------------------------------------

TARGETS = {
    "result": lambda x: x * 2.0,
    "seen through a view": lambda x: (y := x * 2.0, y.view(-1))[0],
    "a view": lambda x: (x * 2.0).view(3, 3),
    "a part": lambda x: (x * 2.0)[:, 1:],
    "data": lambda x: (x * 2.0).data,
    "detached": lambda x: (x * 2.0).detach(),
    "ready": lambda x: x.detach().clone(),
    "flushed": lambda x: (x.detach().clone(), flush())[0],
    "a row of ready memory": lambda x: (y := x.detach().clone(), flush(), y[1])[2],
    "data of ready memory": lambda x: (y := x.detach().clone(), flush(), y.data)[2],
}
WRITES = {
    "mul_": lambda t, w: t.mul_(0.5), "add_": lambda t, w: t.add_(w.sum()),
    "add_ number": lambda t, w: t.add_(1), "zero_": lambda t, w: t.zero_(),
    "fill_": lambda t, w: t.fill_(3.0), "copy_": lambda t, w: t.copy_(w.sum()),
    "exp_": lambda t, w: t.exp_(), "clamp_": lambda t, w: t.clamp_(min=0),
    "relu_": lambda t, w: F.relu(t, inplace=True), "twice": lambda t, w: t.mul_(2.0).add_(1.0), "itself": lambda t, w: t.add_(t),
    "operator": lambda t, w: t.__imul__(w.sum())}


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(TARGETS)), st.lists(st.sampled_from(sorted(WRITES)), min_size=1, max_size=3), st.booleans(), st.booleans(),
       st.booleans())
def test_writes_repeat_themselves(target, writes, grad, recording, kept):
    """Values, versions, what other tensors over the memory see, errors of what was saved before: all as in the first round."""
    results = []
    for _ in range(ROUNDS):
        x, w = tensor(3, 3, grad=grad, dtype=np.float64), tensor(2, seed=1, grad=grad, dtype=np.float64)
        flush()
        facts, values = [], []
        with torch.set_grad_enabled(recording):
            t = TARGETS[target](x)
            other = t.detach()
            saved = (t * t).sum() if kept else None
            for name in writes:
                try:
                    facts.append(WRITES[name](t, w) is t)
                except RuntimeError as error:
                    facts.append(str(error))
                facts.append(told(t))
            facts += [told(other), t.data_ptr() == other.data_ptr()]
            values += [content(t), content(other), content(t._base) if t._base is not None else None]
            for result in (saved, t.sum()):
                if result is not None and result.requires_grad:
                    try:
                        result.backward(retain_graph=True)
                    except RuntimeError as error:
                        facts.append(str(error).replace(str(error).split("recorded at")[-1][:80], ""))
        values += [content(x.grad), content(w.grad)]
        results.append((facts, values))
    for facts, values in results[1:]:
        assert facts == results[0][0]
        for a, b in zip(values, results[0][1], strict=True):
            equal(a, b)


@pytest.mark.parametrize("update", [
    lambda target, p: target.data.copy_(0.1 * p.data + 0.9 * target.data), lambda target, p: target.data.mul_(0.9).add_(p.data, alpha=0.1),
    lambda target, p: p.grad.data.clamp_(-1, 1)])
def test_writes_through_data_are_remembered(update, monkeypatch):
    """A target network follows another one, gradients are clipped: in later rounds no write is made in full."""
    target, p = (torch.nn.Parameter(torch.ones(3) * k) for k in (1.0, 2.0))

    def step():
        p.grad = None
        (p * 3.0).sum().backward()
        update(target, p)
        return target.sum().item() + p.grad.sum().item()
    for _ in range(ROUNDS):
        step()
    full, made = out.write, []
    monkeypatch.setattr(out, "write", lambda *args: made.append(args[2]) or full(*args))
    for _ in range(ROUNDS):
        step()
    assert made == [] and target._version == 0


KEYS = st.recursive(
    st.one_of(st.integers(-3, 2), st.sampled_from([slice(None), slice(1, None), slice(None, -1), slice(0, 3, 2), Ellipsis, slice(1, 2)])),
    lambda one: st.tuples(one, one), max_leaves=2)


@settings(max_examples=60, deadline=None)
@given(KEYS, st.sampled_from(["number", "tensor", "row", "itself", "other dtype"]), st.booleans(), st.booleans())
def test_parts_of_results_that_are_not_computed_are_written(key, what, grad, seen):
    """Against NumPy's assignment; gradients against what a mask tells."""
    if isinstance(key, tuple) and key.count(Ellipsis) > 1:
        key = key[:1]
    for _ in range(ROUNDS):
        x = tensor(3, 4, grad=grad, dtype=np.float64)
        w = tensor(4, seed=1, grad=grad, dtype=np.float64)
        flush()
        y = x * 2.0
        view = y.view(-1) if seen else None
        want = y.detach().numpy().copy()
        y = y if seen else x * 2.0
        part = y[key]
        given = {"number": 0.5, "tensor": part * 3.0, "row": w[:part.shape[-1]] if part.dim() else w[0], "itself": y[key],
                 "other dtype": torch.tensor(2)}[what]
        before = y._version
        y[key] = given
        want[key] = given if what == "number" else content(given)
        equal(content(y), want)
        assert y._version == before + 1
        if view is not None:
            equal(content(view), want.reshape(-1))
        if grad:
            y.sum().backward()
            mask = np.ones((3, 4))
            mask[key] = {"tensor": 3.0, "itself": 1.0}.get(what, 0.0)
            equal(content(x.grad), 2 * mask)


@pytest.mark.parametrize("key", [3, -4, (0, 4), (slice(None), -5), (0, 0, 0), (Ellipsis, Ellipsis), "a", slice(None, None, -1)])
def test_a_wrong_index_is_told(key):
    for _ in range(ROUNDS):
        x = tensor(3, 4) * 2.0
        with pytest.raises((IndexError, ValueError, TypeError)):
            x[key] = 1.0
        with pytest.raises(RuntimeError, match="shape mismatch"):
            x[0] = torch.ones(3)


def test_rows_written_in_a_loop_are_one_program():
    for k in range(4 * ROUNDS):
        out = torch.zeros(4, 3)
        x = tensor(3)
        for i in range(4):
            out[(i + k) % 4] = x * float(i)
        (out * out).sum().backward()
        equal(content(x.grad), 2 * 14 * content(x))
        if k == 2 * ROUNDS:
            built = counters.programs_built
    assert counters.programs_built == built


def test_a_number_that_keeps_changing_is_one_program():
    x = tensor(4, grad=False)
    want = x.numpy().copy()
    start_afresh()
    for k in range(12):
        y = x * 1.0
        y.mul_(1.0 + k)
        y.add_(0.5 * k)
        np.testing.assert_allclose(y.numpy(), want * (1.0 + k) + 0.5 * k, rtol=1e-6)
        if k == 8:
            built = counters.programs_built
    assert counters.programs_built == built


def test_what_is_written_in_memory_that_numpy_sees_is_written_at_once():
    for k in range(ROUNDS):
        array = np.full(3, 1.0 + k, np.float32)
        x = torch.from_numpy(array)
        x.mul_(2.0)
        assert array.tolist() == [2.0 + 2 * k] * 3
        y = torch.full((3,), 3.0)
        y.add_(x)
        seen = y.numpy()
        y.sub_(1.0)
        assert seen.tolist() == [4.0 + 2 * k] * 3


def test_a_leaf_is_not_written():
    w = tensor(3)
    for _ in range(ROUNDS):
        with torch.no_grad():
            w.mul_(1.0)
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            w.mul_(2.0)
        flush()


def test_the_memory_stays():
    for _ in range(ROUNDS):
        x = tensor(3, grad=False)
        flush()
        place = x.data_ptr()
        x.mul_(2.0).add_(1.0)
        x.copy_(torch.exp(x))
        assert x.data_ptr() == place and x._version == 3


# -- draws and running statistics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [
    lambda x: F.dropout(x, 0.5), lambda x: F.dropout(x, 0.3, True, True), lambda x: F.dropout2d(x[None, :, :, None], 0.5),
    lambda x: F.alpha_dropout(x, 0.3, True),
    nn.Dropout(0.25)])
def test_each_call_draws_anew(drop):
    x = tensor(16, 16)
    start_afresh()
    flush()
    torch.manual_seed(0)
    first = []
    for _ in range(ROUNDS):
        y = drop(x * 1.0)
        y.sum().backward()
        first.append([content(y), content(x.grad)])
        x.grad = None
    torch.manual_seed(0)
    for values in first:  # all of them remembered by now
        y = drop(x * 1.0)
        y.sum().backward()
        np.testing.assert_array_equal(content(y), values[0])
        np.testing.assert_array_equal(content(x.grad), values[1])
        x.grad = None
    assert len({values[0].tobytes() for values in first}) == ROUNDS


def test_dropout_is_forgotten_where_pytorchs_numbers_are_wanted():
    x = torch.ones(64)
    for _ in range(ROUNDS):
        F.dropout(x * 1.0, 0.5).sum().item()
    before = torch.random.match_pytorch(True)
    try:
        torch.manual_seed(3)
        matching = F.dropout(x * 1.0, 0.5).tolist()
        torch.manual_seed(3)
        assert matching == F.dropout(x, 0.5).tolist()
    finally:
        torch.random.match_pytorch(before)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_moves_its_statistics(momentum, monkeypatch):
    layer = nn.BatchNorm2d(3, momentum=momentum)
    x = tensor(4, 3, 2, 2)
    mean, var, version = np.zeros(3), np.ones(3), layer.running_mean._version
    for k in range(2 * ROUNDS):
        y = x * (1.0 + k % 2) + 1.0
        if k >= ROUNDS:
            monkeypatch.setattr(type(local.trace), "record", None)
        out = layer(y)
        monkeypatch.undo()
        (out * out).sum().backward()
        values = content(y)
        share = 0.1 if momentum else 1 / (k + 1)
        mean += share * (values.mean((0, 2, 3)) - mean)
        var += share * (values.var((0, 2, 3), ddof=1) - var)
        np.testing.assert_allclose(content(layer.running_mean), mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(content(layer.running_var), var, rtol=1e-4, atol=1e-5)
        assert layer.num_batches_tracked.item() == k + 1 and layer.running_mean.grad_fn is None
        assert layer.running_mean._version == version + k + 1


def test_a_function_that_writes_what_it_was_not_given_is_called_in_full():
    from rushlight.autograd.quick import quick

    hidden, calls = torch.zeros(3), []

    def full(x):
        calls.append(1)
        hidden.add_(1.0)
        return x.exp()
    f = quick(full)
    for k in range(ROUNDS):
        f(tensor(3) * 1.0)
        assert hidden.tolist() == [k + 1.0] * 3
    assert len(calls) == ROUNDS


def test_results_that_nobody_names_are_not_kept():
    """What a call makes on the way is as dead as in full: no program stores it."""
    start_afresh()
    x, built = tensor(64, 64), []
    for _ in range(ROUNDS):
        flush()
        torch.addmm(x, x * 1.0, x).sum(0).tolist()
        built.append(counters.programs_built)
    assert len(set(built[2:])) == 1


def test_anomaly_mode_and_hooks_see_every_operation():
    for k in range(ROUNDS):
        x = tensor(3)
        y = x * 2.0
        with torch.autograd.set_detect_anomaly(k % 2 == 1):
            z = torch.stack([y, y]).mul_(2.0)
        assert ("trace_text" in (z.grad_fn.rare or {})) == (k % 2 == 1)
        seen: list = []
        y.register_hook(lambda g, seen=seen: seen.append(g.tolist()))
        z.sum().backward()
        assert seen == [[4.0] * 3]
        flush()


@pytest.mark.parametrize("grad", [False, True])
def test_views_inside_a_call_that_nobody_looks_at_are_plain_values(grad):
    """The parts of an LSTM's gates are views of one product; what is remembered of the call makes none of them, unless graph nodes keep
    them."""
    cell = torch.nn.LSTMCell(3, 4)
    x, state = torch.ones(2, 3), (torch.ones(2, 4), torch.ones(2, 4))
    made, results = [], []
    with torch.set_grad_enabled(grad):
        for _ in range(5):
            h, c = cell(x, state)
            made.append(sum(isinstance(v, View) for v in local.trace.values))
            results.append([(h + c).tolist()])
            if grad:
                (h.sum() + c.prod()).backward()
                results[-1].append(cell.weight_hh.grad.tolist())
                cell.zero_grad()
            del h, c
            flush()
    assert made[0] == 4 and made[-1] == (4 if grad else 0)
    for result in results[1:]:  # the first one is computed by the interpreter
        for x, y in zip(result, results[0], strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5)
