"""Functions of nn.functional, nn.init and nn.utils against PyTorch."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import rushlight
import rushlight.nn.functional as ours
from rushlight.record import local

torch = pytest.importorskip("torch")
theirs = torch.nn.functional


def values(m, result):
    return [np.asarray(r.detach().numpy()) for r in (result if isinstance(result, tuple) else (result,)) if r is not None]


def compare(call, *arrays, learn=None):
    """Values and gradients of ``call(m, F, *tensors)`` in both."""
    seen = []
    for m, f in ((torch, theirs), (rushlight, ours)):
        tensors = [m.tensor(a, requires_grad=a.dtype.kind == "f" and (learn is None or k in learn)) for k, a in enumerate(arrays)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = call(m, f, *tensors)
        total = sum((r * r).sum() for r in (result if isinstance(result, tuple) else (result,)) if r is not None)
        if total.requires_grad:
            total.backward()
        seen.append((values(m, result), [None if t.grad is None else t.grad.numpy() for t in tensors]))
    for a, b in zip(seen[0][0], seen[1][0], strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-6)
    for a, b in zip(seen[0][1], seen[1][1], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


rng = np.random.default_rng(5)
SCORES = rng.standard_normal((4, 5)).astype(np.float32)
IMAGE = rng.standard_normal((2, 5, 3)).astype(np.float32)
CLASSES = np.array([1, 4, -100, 0])
PIXELS = np.array([[0, 1, 4], [-100, 2, 2]])
WEIGHT = rng.random(5).astype(np.float32)
SHARES = rng.dirichlet(np.ones(5), 4).astype(np.float32)
UNIT = rng.random((4, 5)).astype(np.float32)
SIGNS = np.where(UNIT > 0.5, 1.0, -1.0).astype(np.float32)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("x, t", [(SCORES, CLASSES), (IMAGE, PIXELS), (SCORES[0], CLASSES[0]), (SCORES, SHARES)])
def test_cross_entropy(x, t, weighted, smoothing, reduction):
    def call(m, f, a, b):
        return f.cross_entropy(a, b, m.tensor(WEIGHT) if weighted else None, reduction=reduction, label_smoothing=smoothing)
    compare(call, x, t)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nll_loss(reduction):
    compare(lambda m, f, a, b: f.nll_loss(a.log_softmax(1), b, m.tensor(WEIGHT), reduction=reduction, ignore_index=4), IMAGE,
            np.abs(PIXELS) % 5)


CALLS = {
    "softmax dtype": (lambda m, f, x: f.softmax(x, 0, dtype=m.float64), SCORES),
    "bce": (lambda m, f, x, y: f.binary_cross_entropy(x, y, m.tensor(WEIGHT)), UNIT, UNIT[::-1].copy()),
    "bce logits": (lambda m, f, x, y, w, p: f.binary_cross_entropy_with_logits(x, y, w, pos_weight=p), SCORES, UNIT, WEIGHT, WEIGHT + 1),
    "kl": (lambda m, f, x, y: f.kl_div(x.log_softmax(1), y), SCORES, SHARES), "smooth l1": (
        lambda m, f, x, y: f.smooth_l1_loss(x, y, beta=0.0), SCORES, UNIT),
    "poisson": (lambda m, f, x, y: f.poisson_nll_loss(x, y * 3, log_input=False, full=True), UNIT, UNIT),
    "gaussian": (lambda m, f, x, y, v: f.gaussian_nll_loss(x, y, v, full=True), SCORES, UNIT, UNIT + 0.1),
    "hinge": (lambda m, f, x, y: f.hinge_embedding_loss(x, y, 0.7), SCORES, SIGNS), "cosine": (
        lambda m, f, x, y, t: f.cosine_embedding_loss(x, y, t, 0.1), SCORES, UNIT, SIGNS[:, 0].copy()),
    "multi margin": (lambda m, f, x, t: f.multi_margin_loss(x, t.abs() % 5, p=2, weight=m.tensor(WEIGHT)), SCORES, CLASSES),
    "multilabel": (lambda m, f, x, t: f.multilabel_margin_loss(x, t), SCORES, np.array([[1, 3, -1, 0, 2]] * 4)),
    "multilabel soft": (lambda m, f, x, y: f.multilabel_soft_margin_loss(x, y, m.tensor(WEIGHT)), SCORES, np.round(UNIT)),
    "ctc": (lambda m, f, x, t: f.ctc_loss(x.log_softmax(2), t, (6, 4), (3, 2), zero_infinity=True),
            rng.standard_normal((6, 2, 5)).astype(np.float32), np.array([[1, 2, 2], [3, 4, 1]])),
    "pdist": (lambda m, f, x: f.pdist(x, 3.0), SCORES), "glu": (lambda m, f, x: f.glu(x, 0), SCORES),
    "one hot": (lambda m, f, t: f.one_hot(t.abs() % 5).float(), CLASSES),
    "attention": (lambda m, f, q, k, v: f.scaled_dot_product_attention(q, k, v, is_causal=True), IMAGE, IMAGE + 1, IMAGE * 2),
    "masked attention": (lambda m, f, q: f.scaled_dot_product_attention(q, q, q, attn_mask=m.tensor(UNIT[0][None] > 0.3)), IMAGE),
    "grouped attention": (lambda m, f, q, k: f.scaled_dot_product_attention(q, k, k, enable_gqa=True, scale=0.3),
                          rng.standard_normal((1, 4, 3, 2)).astype(np.float32), rng.standard_normal((1, 2, 3, 2)).astype(np.float32)),
    "causal and masked": (lambda m, f, q, k, v: f.scaled_dot_product_attention(q, k, v, m.tensor(SCORES[:3, :3]), is_causal=True),
                          *rng.standard_normal((3, 2, 2, 3, 4)).astype(np.float32)),
    "causal and shut": (lambda m, f, q, k, v: f.scaled_dot_product_attention(q, k, v, m.tensor(np.tri(3, 5, 2) - np.eye(3, 5, -1) > 0),
                                                                           is_causal=True),
                        rng.standard_normal((2, 2, 3, 4)).astype(np.float32), *rng.standard_normal((2, 2, 2, 5, 4)).astype(np.float32)),
    "bags": (lambda m, f, w, p: f.embedding_bag(m.tensor([0, 3, 3, 1]), w, m.tensor([0, 0, 3]), mode="sum", per_sample_weights=p),
             SCORES, UNIT[0, :4].copy()),
    "triplet": (lambda m, f, a, b, c: f.triplet_margin_loss(a, b, c, p=1, swap=True), SCORES, UNIT, SIGNS),
}


# Which arguments get gradients, where PyTorch does not give them to all.
LEARN = {"bce logits": (0, 1), "bce": (0,), "hinge": (0,), "cosine": (0,), "multilabel soft": (0,), "gaussian": (0,)}


@pytest.mark.parametrize("name", CALLS)
def test_function(name):
    call, *arrays = CALLS[name]
    compare(call, *arrays, learn=LEARN.get(name))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse_loss", "binary_cross_entropy_with_logits"])
def test_second_derivatives(loss):
    def call(m, f, x):
        y = m.tensor(CLASSES if loss == "cross_entropy" else UNIT)
        (g,) = m.autograd.grad(getattr(f, loss)(x, y), x, create_graph=True)
        return g
    compare(call, SCORES)


def test_causal_and_masked_without_a_fused_kernel():
    for call in (lambda m, f, x: f.scaled_dot_product_attention(x, x, x, m.zeros(3, 3), is_causal=True, dropout_p=0.5),
                 lambda m, f, x: f.scaled_dot_product_attention(x, x, x, m.zeros(3, 3, requires_grad=True), is_causal=True),
                 lambda m, f, x: f.scaled_dot_product_attention(x[0], x[0], x[0], m.zeros(3, 3), is_causal=True)):
        for m in (torch, rushlight):
            with pytest.raises(RuntimeError, match="Explicit attn_mask should not be set when is_causal=True"):
                call(m, m.nn.functional, m.ones(1, 2, 3, 4))


def test_class_out_of_range():
    with pytest.raises(IndexError, match="7"):
        ours.cross_entropy(rushlight.ones(2, 3), rushlight.tensor([1, 7])).item()


def test_inplace_activations():
    for name in ("relu", "elu", "hardtanh", "leaky_relu", "threshold", "silu"):
        args = (0.1, 2.0) if name == "threshold" else ()
        x, y = torch.tensor(SCORES), rushlight.tensor(SCORES)
        assert getattr(ours, name)(y, *args, inplace=True) is y
        getattr(theirs, name)(x, *args, inplace=True)
        np.testing.assert_allclose(y.numpy(), x.numpy(), rtol=1e-5)


# -- dropout ------------------------------------------------------------------------------------------------------


def test_dropout_draws_and_repeats():
    x = rushlight.ones(200, 100, requires_grad=True)
    rushlight.manual_seed(3)
    y = ours.dropout(x, 0.3)
    y.sum().backward()
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - 0.7) < 0.02 and abs(kept[:, ::2].mean() - kept[:, 1::2].mean()) < 0.02
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())  # the gradient uses the same mask
    rushlight.manual_seed(3)
    np.testing.assert_array_equal(ours.dropout(x, 0.3).detach().numpy(), y.detach().numpy())
    other = ours.dropout(x, 0.3).detach().numpy() != 0
    assert 0.5 < (other == kept).mean() < 0.66  # 0.58 for independent masks
    assert ours.dropout(x, 0.3, training=False) is x
    np.testing.assert_allclose(kept.mean(0).std(), np.sqrt(0.21 / 200), rtol=0.25)


def test_dropout_of_channels():
    y = ours.dropout2d(rushlight.ones(8, 16, 3, 3), 0.5).numpy()
    assert ((y == 0).all((2, 3)) | (y == 2).all((2, 3))).all() and 0.2 < (y == 0).mean() < 0.8


@pytest.mark.parametrize("name, shape", [("dropout", (5, 7)), ("alpha_dropout", (5, 7)), ("dropout2d", (2, 3, 4, 4)),
                                         ("feature_alpha_dropout", (2, 3, 4))])
def test_dropout_matching_pytorch(name, shape):
    probe_t, probe_r = torch.ones(64), None
    torch.manual_seed(1)
    expected = theirs.dropout(probe_t, 0.4)
    former = rushlight.random.match_pytorch(True)
    try:
        rushlight.manual_seed(1)
        probe_r = ours.dropout(rushlight.ones(64), 0.4)
        if not np.array_equal(probe_r.numpy(), expected.numpy()):
            pytest.skip("this machine's PyTorch draws with another generator")
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        torch.manual_seed(2)
        rushlight.manual_seed(2)
        np.testing.assert_allclose(getattr(ours, name)(rushlight.tensor(x), 0.4, True).numpy(),
                                   getattr(theirs, name)(torch.tensor(x), 0.4, True).numpy(), rtol=1e-6, atol=1e-7)
    finally:
        rushlight.random.match_pytorch(former)


# -- initialisers and utilities -----------------------------------------------------------------------------------

INITIALISERS = {
    "uniform_": ((4, 5), (-1.0, 2.0)), "normal_": ((4, 5), (1.0, 2.0)), "trunc_normal_": ((5, 6), (0.5, 0.7, -1.0, 1.0)),
    "trunc_normal_ tail": ((5, 6), (0.5, 0.7, 1.5, 1.8)),
    "constant_": ((3,), (0.3,)), "ones_": ((3,), ()), "zeros_": ((3,), ()), "eye_": ((3, 4), ()), "dirac_": ((4, 2, 3), (2,)),
    "xavier_uniform_": ((4, 5), (1.5,)), "xavier_normal_": ((4, 5, 3), ()), "kaiming_uniform_": ((4, 5), (0.1, "fan_out")),
    "kaiming_normal_": ((4, 5, 3), (0.0, "fan_in", "relu")), "orthogonal_": ((4, 6), (1.3,)), "sparse_": ((6, 4), (0.4,)),
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialiser(name):
    shape, args = INITIALISERS[name]
    seen = []
    for m in (torch, rushlight):
        m.manual_seed(11)
        t = m.empty(*shape)
        assert getattr(m.nn.init, name.split()[0])(t, *args) is t
        seen.append(t.numpy())
    exact = name != "orthogonal_"  # another QR
    np.testing.assert_allclose(seen[1], seen[0], rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6)


def test_gains_and_deprecated_names():
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert rushlight.nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
        rushlight.nn.init.calculate_gain("swish")
    with pytest.warns(FutureWarning, match=r"`nn.init.normal` is now deprecated in favor of `nn.init.normal_`."):
        rushlight.nn.init.normal(rushlight.empty(2))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
def test_clip_grad_norm(norm_type):
    seen = []
    for m in (torch, rushlight):
        ps = [m.nn.Parameter(m.tensor(SCORES)), m.nn.Parameter(m.tensor(WEIGHT)), m.nn.Parameter(m.ones(2))]
        ((ps[0] ** 2).sum() + (ps[1] ** 3).sum()).backward()
        total = m.nn.utils.clip_grad_norm_(ps, 0.7, norm_type)
        m.nn.utils.clip_grad_value_(ps, 0.3)
        seen.append([total.item(), ps[0].grad.numpy(), ps[1].grad.numpy()])
        assert ps[2].grad is None
    for a, b in zip(*seen):
        np.testing.assert_allclose(b, a, rtol=1e-5)


def test_clip_grad_norm_without_any_gradient():
    parameter = rushlight.nn.Parameter(rushlight.ones(2))
    for _ in range(4):
        assert rushlight.nn.utils.clip_grad_norm_([parameter], 1.0).item() == 0.0
    assert parameter.grad is None


def test_parameters_as_a_vector():
    net = rushlight.nn.Linear(2, 3)
    vector = rushlight.nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,)
    rushlight.nn.utils.vector_to_parameters(vector.detach() * 0 + 1, net.parameters())
    assert net.weight.tolist() == [[1.0] * 2] * 3 and net.weight.requires_grad


def test_packed_sequences():
    seen = []
    for m in (torch, rushlight):
        rnn = m.nn.utils.rnn
        rows = [m.tensor(SCORES[:n]) for n in (2, 4, 1)]
        packed = rnn.pack_sequence(rows, enforce_sorted=False)
        padded, lengths = rnn.pad_packed_sequence(packed, batch_first=True, padding_value=-1.0)
        m.manual_seed(0)
        net = m.nn.LSTM(5, 3, bidirectional=True)
        out, (h, c) = net(packed)
        seen.append([packed.data.numpy(), packed.batch_sizes.numpy(), padded.numpy(), lengths.numpy(), out.data.detach().numpy(),
                     h.detach().numpy(), c.detach().numpy()])
        assert len(rnn.unpack_sequence(packed)) == 3
    for a, b in zip(*seen, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name, args, kwargs", [("LSTM", (5, 4), {"num_layers": 2, "bidirectional": True}),
                                                ("LSTM", (5, 4), {"bias": False}),
                                                ("GRU", (5, 4), {"batch_first": True}), ("RNN", (5, 4), {"nonlinearity": "relu"}),
                                                ("TransformerEncoderLayer", (4, 2, 8), {"dropout": 0.0, "norm_first": True}),
                                                ("MultiheadAttention", (4, 2), {"add_bias_kv": True})])
def test_sequence_layers(name, args, kwargs):
    seen = []
    for m in (torch, rushlight):
        m.manual_seed(4)
        net = getattr(m.nn, name)(*args, **kwargs)
        x = m.tensor(np.random.default_rng(2).standard_normal((3, 2, args[0])).astype(np.float32), requires_grad=True)
        out = net(x, x, x)[0] if name == "MultiheadAttention" else net(x)
        out = out[0] if isinstance(out, tuple) else out
        out.pow(2).sum().backward()
        seen.append([repr(net), list(net.state_dict()), out.detach().numpy(), x.grad.numpy(), *[p.grad.numpy() for p in net.parameters()]])
    assert seen[0][:2] == seen[1][:2]
    for a, b in zip(seen[0][2:], seen[1][2:], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_adaptive_softmax():
    seen = []
    for m in (torch, rushlight):
        m.manual_seed(0)
        net = m.nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 7], div_value=2.0)
        x = m.tensor(np.random.default_rng(2).standard_normal((6, 8)).astype(np.float32), requires_grad=True)
        out, loss = net(x, m.tensor([0, 2, 4, 6, 8, 11]))
        loss.backward()
        seen.append([out.detach().numpy(), net.log_prob(x).detach().numpy(), net.predict(x).numpy(), x.grad.numpy()])
        with pytest.raises(RuntimeError, match=r"Target values should be in \[0, 11\]"):
            net(x, m.tensor([0, 2, 4, 6, 8, 12]))
    for a, b in zip(*seen, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_functions_of_the_top_namespace():
    for m in (torch, rushlight):
        assert m.dropout(m.ones(3), 0.5, False).tolist() == [1.0, 1.0, 1.0]
        assert m.embedding(m.tensor([[1.0], [2.0]]), m.tensor([1])).tolist() == [[2.0]]
        assert m.cosine_embedding_loss(m.ones(1, 2), m.ones(1, 2), m.ones(1), 0.0, 0).shape == (1,)
        assert m.triplet_margin_loss(m.ones(2), m.ones(2), m.zeros(2), reduction=2).item() == 0.0


@pytest.mark.parametrize("name", ["elu", "selu", "celu", "softplus", "silu", "mish", "logsigmoid", "hardswish", "gelu"])
def test_derivatives_far_from_zero(name):
    """What an activation computes for small values overflows for large ones: no NaN may come of it, in second derivatives neither."""
    far = np.array([-1e30, -300.0, -100.0, -90.0, 90.0, 100.0, 300.0, 1e30], np.float32)
    results = []
    for m, f in ((torch, theirs), (rushlight, ours)):
        for _ in range(2):  # interpreted, then compiled
            x = m.tensor(far, requires_grad=True)
            (g,) = m.autograd.grad(getattr(f, name)(x).sum(), x, create_graph=True)
            (h,) = m.autograd.grad(g.sum(), x)
            results.append((g.detach().numpy(), h.numpy()))
    for g, h in results[2:]:
        np.testing.assert_allclose(g, results[0][0], rtol=1e-5, atol=1e-6)
        if name in ("elu", "selu", "celu"):  # PyTorch's own second derivatives of the others are NaN at 1e30
            np.testing.assert_allclose(h, results[0][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("call", [
    lambda m, f, x: f.relu(x), lambda m, f, x: f.relu6(x), lambda m, f, x: f.hardtanh(x), lambda m, f, x: f.leaky_relu(x),
    lambda m, f, x: x.clamp(min=0.0), lambda m, f, x: m.maximum(x, m.zeros(4)), lambda m, f, x: m.minimum(m.zeros(4), x),
])  # fmt: skip
def test_a_nan_does_not_stop_the_gradient(call):
    """Training that went wrong must look wrong in every gradient, not have zeros in the first layers."""
    results = []
    for m, f in ((torch, theirs), (rushlight, ours)):
        for _ in range(2):
            x = m.tensor([np.nan, -2.0, 0.5, 3.0], requires_grad=True)
            call(m, f, x).sum().backward()
            results.append(x.grad.numpy())
    np.testing.assert_array_equal(results[2], results[0])
    np.testing.assert_array_equal(results[3], results[0])


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_of_one_size_are_recorded_without_a_look_at_them(mode, padding):
    rng = np.random.default_rng(0)
    numbers, table = rng.integers(0, 5, (7, 4)), rng.normal(size=(5, 3)).astype(np.float32)
    results = []
    for m in (torch, rushlight):
        f, w = m.nn.functional, m.tensor(table, requires_grad=True)
        given = m.tensor(numbers)
        flushes = local.trace.flushes
        out = f.embedding_bag(given * 1, w, mode=mode, padding_idx=padding)
        if m is rushlight:
            assert local.trace.flushes == flushes
        (out * out).sum().backward()
        results.append((out.detach().numpy(), w.grad.numpy()))
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_gelu_far_from_zero_makes_no_number_that_is_not_normal():
    """Products with such numbers take a processor a hundred times as long; PyTorch's results are 0 there, too."""
    numbers = np.concatenate([np.linspace(-40, -5, 4001), np.linspace(5, 40, 4001)]).astype(np.float32)
    found = []
    for t in (torch, rushlight):
        for _ in range(3):  # compiled, at last
            x = t.tensor(numbers, requires_grad=True)
            y = t.nn.functional.gelu(x)
            y.backward(t.full_like(y, 1e-6))
            found.append([y.detach().numpy(), x.grad.numpy()])
    for got, wanted in zip(found[-1], found[0]):
        assert not ((got != 0) & (np.abs(got) < np.finfo(np.float32).tiny)).any()
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-6)
