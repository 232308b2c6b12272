"""Layers against PyTorch: the same parameters from a seed, printed form, values, gradients."""
from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import rushlight

torch = pytest.importorskip("torch")

# (name, arguments, keyword arguments, input shapes). Inputs are standard normal.
X = (4, 6)
LAYERS = [
    ("Linear", (6, 3), {}, [X]), ("Linear", (6, 3), {"bias": False}, [(2, 5, 6)]), ("Linear", (6, 3), {}, [(6,)]),
    ("Bilinear", (6, 5, 3), {}, [(4, 6), (4, 5)]), ("Identity", (), {}, [X]),
    ("ReLU", (), {}, [X]), ("ReLU6", (), {}, [X]), ("ELU", (1.5,), {}, [X]), ("CELU", (0.7,), {}, [X]), ("SELU", (), {}, [X]),
    ("GELU", (), {}, [X]), ("GELU", ("tanh",), {}, [X]), ("SiLU", (), {}, [X]), ("Mish", (), {}, [X]), ("Sigmoid", (), {}, [X]),
    ("Tanh", (), {}, [X]), ("LogSigmoid", (), {}, [X]), ("Softsign", (), {}, [X]), ("Tanhshrink", (), {}, [X]),
    ("Hardsigmoid", (), {}, [X]),
    ("Hardswish", (), {}, [X]), ("Hardtanh", (-0.5, 0.7), {}, [X]), ("Hardshrink", (0.3,), {}, [X]), ("Softshrink", (0.3,), {}, [X]),
    ("LeakyReLU", (0.2,), {}, [X]), ("Threshold", (0.1, 5.0), {}, [X]), ("Softplus", (2.0, 1.0), {}, [X]), ("PReLU", (), {}, [X]),
    ("PReLU", (6,), {}, [X]), ("GLU", (), {}, [X]), ("GLU", (0,), {}, [X]), ("Softmax", (1,), {}, [X]), ("Softmin", (0,), {}, [X]),
    ("LogSoftmax", (-1,), {}, [X]), ("Softmax2d", (), {}, [(2, 3, 2, 2)]), ("Flatten", (), {}, [(2, 3, 4)]),
    ("Unflatten", (1, (2, 3)), {}, [X]), ("CosineSimilarity", (), {}, [X, X]), ("PairwiseDistance", (), {}, [X, X]),
    ("PairwiseDistance", (3.0,), {"keepdim": True}, [X, X]), ("MSELoss", (), {}, [X, X]), ("L1Loss", (), {"reduction": "sum"}, [X, X]),
    ("SmoothL1Loss", (), {"beta": 0.5}, [X, X]), ("HuberLoss", (), {"reduction": "none"}, [X, X]),
    ("BCEWithLogitsLoss", (), {}, [X, X]), ("SoftMarginLoss", (), {}, [X, X]), ("PoissonNLLLoss", (), {}, [X, X]),
    ("TripletMarginLoss", (), {"swap": True}, [X, X, X]), ("KLDivLoss", (), {"reduction": "batchmean", "log_target": True}, [X, X]),
    ("MarginRankingLoss", (0.3,), {}, [(4,), (4,), (4,)]), ("TripletMarginWithDistanceLoss", (), {}, [X, X, X]),
]

FIXED_TARGET = ("SoftMarginLoss",)  # PyTorch gives their targets no gradient


def both(name, args, kwargs, seed=7):
    torch.manual_seed(seed)
    rushlight.manual_seed(seed)
    return getattr(torch.nn, name)(*args, **kwargs), getattr(rushlight.nn, name)(*args, **kwargs)


@pytest.mark.parametrize("name, args, kwargs, shapes", LAYERS, ids=lambda v: v if isinstance(v, str) else None)
def test_layer_equals_pytorch(name, args, kwargs, shapes):
    expected, ours = both(name, args, kwargs)
    if name != "TripletMarginWithDistanceLoss":
        assert repr(ours) == repr(expected)
    for (k, a), (j, b) in zip(expected.state_dict().items(), ours.state_dict().items(), strict=True):
        assert k == j
        np.testing.assert_array_equal(b.numpy(), a.numpy(), err_msg=k)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    learn = [not (name in FIXED_TARGET and k == 1) for k in range(len(arrays))]
    theirs = [torch.tensor(a, requires_grad=g) for a, g in zip(arrays, learn)]
    mine = [rushlight.tensor(a, requires_grad=g) for a, g in zip(arrays, learn)]
    y, z = expected(*theirs), ours(*mine)
    assert tuple(z.shape) == tuple(y.shape)
    np.testing.assert_allclose(z.detach().numpy(), y.detach().numpy(), rtol=1e-5, atol=1e-6)
    y.pow(2).sum().backward()
    z.pow(2).sum().backward()
    for a, b in zip([*theirs, *expected.parameters()], [*mine, *ours.parameters()], strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_embedding_layers_equal_pytorch():
    numbers = np.array([[1, 2, 2], [0, 1, 4]])
    for name, args, kwargs in (("Embedding", (5, 3), {}), ("Embedding", (5, 3), {"padding_idx": 1, "scale_grad_by_freq": True}),
                               ("Embedding", (5, 3), {"max_norm": 0.5}), ("EmbeddingBag", (5, 3), {}),
                               ("EmbeddingBag", (5, 3), {"mode": "max"}), ("EmbeddingBag", (5, 3), {"mode": "sum", "padding_idx": 1})):
        expected, ours = both(name, args, kwargs)
        assert repr(ours) == repr(expected)
        np.testing.assert_array_equal(ours.weight.detach().numpy(), expected.weight.detach().numpy())
        y, z = expected(torch.tensor(numbers)), ours(rushlight.tensor(numbers))
        np.testing.assert_allclose(z.detach().numpy(), y.detach().numpy(), rtol=1e-6, err_msg=f"{name} {kwargs}")
        y.pow(2).sum().backward()
        z.pow(2).sum().backward()
        np.testing.assert_allclose(ours.weight.grad.numpy(), expected.weight.grad.numpy(), rtol=1e-5)


def test_embedding_number_out_of_range():
    with pytest.raises(IndexError, match="11"):
        rushlight.nn.Embedding(10, 3)(rushlight.tensor([3, 11])).sum().item()


def test_model_trains_like_pytorch():
    def losses(m):
        m.manual_seed(1)
        net = m.nn.Sequential(m.nn.Linear(4, 8), m.nn.Tanh(), m.nn.Linear(8, 3))
        x = m.tensor(np.random.default_rng(1).standard_normal((10, 4)).astype(np.float32))
        t = m.tensor(np.arange(10) % 3)
        seen = []
        for _ in range(5):
            net.zero_grad()
            loss = m.nn.CrossEntropyLoss(label_smoothing=0.1)(net(x), t)
            loss.backward()
            m.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            with m.no_grad():
                for p in net.parameters():
                    p.sub_(p.grad * 0.5)
            seen.append(loss.item())
        return seen
    np.testing.assert_allclose(losses(rushlight), losses(torch), rtol=1e-5)


def test_containers_print_and_slice_like_pytorch():
    def made(nn):
        body = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1)))
        body.append(nn.Identity()).insert(1, nn.Tanh())
        many = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()])
        return [body, body[1:3], body[-1], many, many[:2], nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()}), nn.Sequential(),
                nn.ModuleList()]
    for a, b in zip(made(torch.nn), made(rushlight.nn), strict=True):
        assert repr(b) == repr(a)
    for nn, m in ((torch.nn, torch), (rushlight.nn, rushlight)):
        listed = nn.ParameterList([nn.Parameter(m.zeros(2)), m.ones(1, 2)])
        named = nn.ParameterDict({"x": m.zeros(3)})
        assert [n for n, _ in listed.named_parameters()] == ["0", "1"] and list(named.keys()) == ["x"]
        if nn is torch.nn:
            texts = repr(listed), repr(named)
    assert (repr(listed), repr(named)) == texts


def test_sequential_takes_and_gives():
    nn = rushlight.nn
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    out = net.pop(1)
    assert isinstance(out, nn.ReLU) and len(net) == 2 and list(net._modules) == ["0", "1"]
    del net[0]
    assert len(net) == 1
    with pytest.raises(IndexError, match="index 5 is out of range"):
        net[5]


def test_copy_and_pickle():
    net = rushlight.nn.Sequential(rushlight.nn.Linear(3, 2), rushlight.nn.ReLU())
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(other[0].weight, rushlight.nn.Parameter) and other[0].weight is not net[0].weight
        np.testing.assert_array_equal(other[0].weight.detach().numpy(), net[0].weight.detach().numpy())
        with rushlight.no_grad():
            other[0].weight.zero_()
        assert net[0].weight.detach().numpy().any()
        assert other[0].weight.requires_grad


def test_a_copied_parameter_has_no_gradient():
    net = rushlight.nn.Linear(3, 2)
    net(rushlight.ones(1, 3)).sum().backward()
    other = copy.deepcopy(net)
    assert net.weight.grad is not None and other.weight.grad is None and other.bias.grad is None
    leaf = rushlight.ones(2, requires_grad=True)  # a tensor that is no parameter keeps it
    leaf.sum().backward()
    np.testing.assert_array_equal(copy.deepcopy(leaf).grad.numpy(), leaf.grad.numpy())
