"""Recurrent layers against PyTorch: values, gradients, lengths; second derivatives; what a step builds and runs."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight
from rushlight.compile import counters as watching
from rushlight.compile import program
from rushlight.compile.cpu import pool
from rushlight.record.settings import settings as recorder
from rushlight.tools.profiler import counters

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
SETTINGS = settings(max_examples=25, deadline=None, database=None)


def layer(m, kind, args, seed=0):
    m.manual_seed(seed)
    name, kwargs = ("RNN", {"nonlinearity": kind[4:].lower()}) if kind.startswith("RNN") else (kind, {})
    return getattr(m.nn, name)(**args, **kwargs)


def states(m, kind, shapes, rng_seed, dtype):
    rng = np.random.default_rng(rng_seed)
    made = [m.tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in shapes]
    return made if kind == "LSTM" else made[:1]


def close(ours, theirs, rtol, atol):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * max(1, np.abs(b).max(initial=0)))


@st.composite
def configurations(draw):
    kind = draw(st.sampled_from(["LSTM", "GRU", "RNN_TANH", "RNN_RELU"]))
    hidden = draw(st.integers(1, 20))
    args = {"input_size": draw(st.integers(1, 20)), "hidden_size": hidden, "num_layers": draw(st.integers(1, 2)),
            "bias": draw(st.booleans()), "batch_first": draw(st.booleans()), "bidirectional": draw(st.booleans())}
    if kind == "LSTM" and hidden > 1 and draw(st.booleans()):
        args["proj_size"] = draw(st.integers(1, hidden - 1))
    return kind, args


@SETTINGS
@given(configurations(), st.integers(1, 6), st.integers(1, 20), st.booleans(), st.booleans(), st.sampled_from(["float32", "float64"]))
def test_layers(configuration, steps, batch, given_state, batched, dtype):
    kind, args = configuration
    layers = args["num_layers"] * (1 + args["bidirectional"])
    size = args.get("proj_size") or args["hidden_size"]
    if not batched:
        batch = 1
    seen = []
    for m in (torch, rushlight):
        net = layer(m, kind, args).to(getattr(m, dtype))
        shape = (batch, steps) if args["batch_first"] else (steps, batch)
        x = m.tensor(np.random.default_rng(1).standard_normal((*shape, args["input_size"])).astype(dtype), requires_grad=True)
        first = states(m, kind, [(layers, batch, size), (layers, batch, args["hidden_size"])], 2, dtype)
        given_x, given_first = (x, first) if batched else (x.squeeze(0 if args["batch_first"] else 1), [s.squeeze(1) for s in first])
        out, last = net(given_x, (tuple(given_first) if kind == "LSTM" else given_first[0])) if given_state else net(given_x)
        last = list(last) if kind == "LSTM" else [last]
        rng = np.random.default_rng(3)
        loss = sum((t * m.tensor(rng.standard_normal(tuple(t.shape)).astype(dtype))).sum() for t in (out, *last))
        loss.backward()
        sources = [x, *(first if given_state else ()), *net.parameters()]
        seen.append([t.detach().numpy() for t in (out, *last)] + [t.grad.numpy() for t in sources])
    close(seen[1], seen[0], *((1e-4, 1e-5) if dtype == "float32" else (1e-9, 1e-11)))


@SETTINGS
@given(configurations(), st.lists(st.integers(1, 7), min_size=1, max_size=9), st.booleans())
def test_packed_sequences(configuration, lengths, total):
    kind, args = configuration
    layers = args["num_layers"] * (1 + args["bidirectional"])
    size, batch = args.get("proj_size") or args["hidden_size"], len(lengths)
    seen = []
    for m in (torch, rushlight):
        utils = m.nn.utils.rnn
        net = layer(m, kind, args).double()
        x = np.random.default_rng(1).standard_normal((batch, max(lengths) + 1, args["input_size"]))
        for row, n in zip(x, lengths):
            row[n:] = np.nan  # padding must not matter
        x = m.tensor(x, requires_grad=True)
        first = states(m, kind, [(layers, batch, size), (layers, batch, args["hidden_size"])], 2, "float64")
        packed = utils.pack_padded_sequence(x, m.tensor(lengths), batch_first=True, enforce_sorted=False)
        out, last = net(packed, tuple(first) if kind == "LSTM" else first[0])
        padded, counts = utils.pad_packed_sequence(out, padding_value=0.5, total_length=9 if total else None)
        last = list(last) if kind == "LSTM" else [last]
        rng = np.random.default_rng(3)
        loss = sum((t * m.tensor(rng.standard_normal(tuple(t.shape)))).sum() for t in (padded, *last))
        loss.backward()
        seen.append([t.detach().numpy() for t in (padded, counts, *last, packed.batch_sizes, packed.data)]
                    + [t.grad.numpy() for t in (x, *first, *net.parameters())])
    close(seen[1], seen[0], 1e-9, 1e-11)


def test_packed_sequences_by_their_data():
    """Made from data, changed, taken apart: as a tuple of four."""
    seen = []
    for m in (torch, rushlight):
        utils = m.nn.utils.rnn
        rows = [m.tensor(np.random.default_rng(n).standard_normal((n, 3)), requires_grad=True) for n in (4, 4, 2, 1)]
        packed = utils.pack_sequence(rows)
        data, sizes, order, back = packed
        assert order is None and back is None and len(packed) == 4
        again = utils.PackedSequence(data * 2, sizes)
        net = layer(m, "GRU", {"input_size": 3, "hidden_size": 5}).double()
        out, h = net(again)
        (out.data.pow(2).sum() + h.sum()).backward()
        half = out.to(m.float32)
        assert half.data.dtype is m.float32 and half[0].shape == out[0].shape
        seen.append([t.detach().numpy() for t in (out.data, h, sizes)] + [r.grad.numpy() for r in rows])
    close(seen[1], seen[0], 1e-9, 1e-11)


def test_data_of_packed_sequences_can_be_written():
    """What was written into the data goes into the next layer; looking without gradients does not lose them."""
    seen = []
    for m in (torch, rushlight):
        net, second = (layer(m, "GRU", {"input_size": 3, "hidden_size": 3}, seed).double() for seed in (0, 1))
        x = m.tensor(np.random.default_rng(0).standard_normal((4, 2, 3)), requires_grad=True)
        out, _ = net(m.nn.utils.rnn.pack_padded_sequence(x, [4, 2]))
        with m.no_grad():
            assert "data=tensor(" in repr(out)
        out.data.mul_(2)
        again, h = second(out)
        (again.data.sum() + h.sum()).backward()
        seen.append([again.data.detach().numpy(), x.grad.numpy(), net.weight_hh_l0.grad.numpy()])
    close(seen[1], seen[0], 1e-9, 1e-11)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN_RELU", "projected"])
def test_second_derivatives(kind):
    """One way over sequences of one length, the other way over ragged ones."""
    kwargs = {"proj_size": 1} if kind == "projected" else {}
    kind = "LSTM" if kind == "projected" else kind
    net = layer(rushlight, kind, {"input_size": 1, "hidden_size": 2, "bidirectional": kind[0] != "L", **kwargs}).double()
    names, params = zip(*net.named_parameters(), strict=True)
    rng = np.random.default_rng(0)
    x = rushlight.tensor(rng.standard_normal((2, 2, 1)), requires_grad=True)
    utils = rushlight.nn.utils.rnn

    def function(x, *weights):
        weights = dict(zip(names, (*weights, *params[len(weights):])))
        out, last = rushlight.func.functional_call(net, weights, x)
        ragged, again = rushlight.func.functional_call(net, weights, (utils.pack_padded_sequence(x, [2, 1]),))
        tensors = (*last, *again) if kind == "LSTM" else (last, again)
        return out.sum(-1) * 2 + utils.pad_packed_sequence(ragged)[0].sum(-1), sum(t.square().sum() for t in tensors)

    assert rushlight.autograd.gradcheck(function, (x, *params[:3]))
    assert rushlight.autograd.gradgradcheck(function, (x, *params[:2]))


def test_outputs_may_be_overwritten():
    net = layer(rushlight, "LSTM", {"input_size": 2, "hidden_size": 3})
    x = rushlight.ones(4, 1, 2)
    out, (h, c) = net(x)
    expected = rushlight.autograd.grad(net(x)[0].mul(3).sum(), list(net.parameters()))
    out.mul_(3)
    h.zero_()
    c.zero_()
    for a, b in zip(rushlight.autograd.grad(out.sum(), list(net.parameters())), expected):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


def test_states_of_another_type():
    net = layer(rushlight, "GRU", {"input_size": 2, "hidden_size": 3})
    with pytest.raises(RuntimeError, match="not the same dtype"):
        net(rushlight.ones(2, 1, 2), rushlight.zeros(1, 1, 3, dtype=rushlight.float64))


def language_model(batch=18):
    """A step of a small language model, as a function of the sequence length."""
    rushlight.manual_seed(0)
    embed, rnn, head = rushlight.nn.Embedding(30, 24), rushlight.nn.LSTM(24, 40, 2), rushlight.nn.Linear(40, 30)
    params = [*embed.parameters(), *rnn.parameters(), *head.parameters()]
    optimizer = rushlight.optim.SGD(params, lr=0.1)
    rng = np.random.default_rng(0)

    def step(length):
        x = rushlight.tensor(rng.integers(0, 30, (length, batch)))
        optimizer.zero_grad()
        out, _ = rnn(embed(x))
        loss = rushlight.nn.functional.cross_entropy(head(out).view(-1, 30), x.view(-1))
        loss.backward()
        rushlight.nn.utils.clip_grad_norm_(params, 0.25)
        optimizer.step()
        return loss.item()
    return step


def test_a_new_length_compiles_no_kernel(monkeypatch):
    monkeypatch.setattr(recorder, "cold_limit", 0)
    step = language_model()
    for length in (21, 21, 26):
        step(length)
    before = counters()
    step(23)
    made = counters() - before
    assert made.kernels_compiled == 0 and made.kernels_loaded == 0 and made.programs_built <= 2
    before = counters()
    step(23)
    made = counters() - before
    assert made.programs_built == 0


def test_ragged_batches_share_their_programs(monkeypatch):
    monkeypatch.setattr(recorder, "cold_limit", 0)
    utils = rushlight.nn.utils.rnn
    rnn = layer(rushlight, "LSTM", {"input_size": 8, "hidden_size": 16, "bidirectional": True})
    head = rushlight.nn.Linear(32, 2)
    optimizer = rushlight.optim.SGD([*rnn.parameters(), *head.parameters()], lr=0.1)
    rng = np.random.default_rng(0)

    def step():
        rows = [rushlight.tensor(rng.standard_normal((n, 8)).astype(np.float32)) for n in (11, *rng.integers(1, 12, 4))]
        optimizer.zero_grad()
        out, (h, _) = rnn(utils.pack_sequence(rows, enforce_sorted=False))
        padded, lengths = utils.pad_packed_sequence(out, batch_first=True)
        loss = head(padded).square().mean() + h.square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(2):
        step()
    before = counters()
    for _ in range(6):
        step()
    made = counters() - before
    assert made.programs_built == 0 and made.kernels_compiled == 0


def test_the_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(recorder, "cold_limit", 0)
    threads, seen = pool.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            pool.set_num_threads(n)
            step = language_model(batch=33)
            seen.append([step(7) for _ in range(3)])
    finally:
        pool.set_num_threads(threads)
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("kind, args", [("LSTM", {}), ("LSTM", {"proj_size": 3}), ("GRU", {}), ("RNN_TANH", {})])
def test_one_time_needs_no_loop(kind, args, monkeypatch):
    """A decoder calls the layer step by step: ordinary products, which pack nothing for few sequences."""
    monkeypatch.setattr(recorder, "cold_limit", 0)
    seen = []
    monkeypatch.setattr(watching, "watchers", [lambda event: seen.append(event.name)])
    monkeypatch.setattr(program, "watchers", watching.watchers)
    results = []
    for m in (torch, rushlight):
        net = layer(m, kind, {"input_size": 5, "hidden_size": 7, "bidirectional": True, **args}).double()
        x = m.tensor(np.random.default_rng(0).standard_normal((1, 4, 5)), requires_grad=True)
        out, last = net(x)
        tensors = (out, *last) if kind == "LSTM" else (out, last)
        sum(t.pow(2).sum() for t in tensors).backward()
        results.append([t.detach().numpy() for t in tensors] + [t.grad.numpy() for t in (x, *net.parameters())])
    close(results[1], results[0], 1e-9, 1e-11)
    assert seen and not any(name.startswith("recurrence") for name in seen)


def test_a_nan_does_not_stop_the_gradient_of_relu():
    found = []
    for m in (torch, rushlight):
        for _ in range(2):  # interpreted, then compiled
            net = layer(m, "RNN_RELU", {"input_size": 3, "hidden_size": 4})
            x = np.ones((5, 2, 3), np.float32)
            x[2, 1, 0] = np.nan
            x = m.tensor(x, requires_grad=True)
            net(x)[0].square().sum().backward()
            found.append([np.isnan(t.grad.numpy()) for t in (x, *net.parameters())])
    for some in found[2:]:
        for a, b in zip(some, found[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("lib", [rushlight, torch], ids=["rushlight", "torch"])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_weights_are_found_by_name_to_be_drawn_anew(lib, kind):
    layer = getattr(lib.nn, kind)(3, 4, num_layers=2, bidirectional=True)
    assert layer._flat_weights_names == [name for name, _ in layer.named_parameters()] == sum(layer._all_weights, [])
    assert all(w is p for w, p in zip(layer._flat_weights, layer.parameters(), strict=True))
    for name in layer._flat_weights_names:
        if "bias" in name:
            lib.nn.init.ones_(layer._parameters[name])
    assert all((b == 1).all() for weights in layer.all_weights for b in weights[2:])
