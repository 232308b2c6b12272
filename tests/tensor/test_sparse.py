"""Sparse tensors in coordinate form, compared with PyTorch's."""

import copy
import pickle

import numpy as np
import pytest
import torch

import rushlight

pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse")  # PyTorch's remarks on the state of its own
BOTH = pytest.mark.parametrize("torch", [torch, rushlight], ids=["torch", "rushlight"])
PLACES = np.array([[0, 1, 1, 0, 3], [2, 0, 2, 2, 1]])
VALUES = np.array([3.0, 4.0, -5.0, 6.0, 0.5], np.float32)


def sparse(torch, ordered=False):
    s = torch.sparse_coo_tensor(torch.tensor(PLACES), torch.tensor(VALUES), (4, 3))
    return s.coalesce() if ordered else s


def told(x):
    if hasattr(x, "is_sparse") and x.is_sparse:
        c = x.coalesce()
        return "sparse", tuple(x.shape), str(x.dtype), np.asarray(c.indices()).tolist(), np.asarray(c.values().detach()).round(4).tolist()
    if hasattr(x, "detach"):
        return "dense", str(x.dtype), np.round(x.detach().double().numpy(), 4).tolist()
    return x


CALLS = {
    "to_dense": lambda t, s: s.to_dense(), "coalesce": lambda t, s: s.coalesce(), "s + s": lambda t, s: s + s,
    "s + another": lambda t, s: s + t.sparse_coo_tensor([[0, 2], [2, 0]], [1.0, 2.0], (4, 3)),
    "s - s": lambda t, s: s - s, "2 s": lambda t, s: 2 * s, "s / 2": lambda t, s: s / 2, "-s": lambda t, s: -s,
    "s * s": lambda t, s: s * s, "s * dense": lambda t, s: s * t.arange(12.0).reshape(4, 3),
    "dense + s": lambda t, s: t.ones(4, 3) + s, "mm": lambda t, s: t.mm(s, t.arange(6.0).reshape(3, 2)),
    "sparse.mm": lambda t, s: t.sparse.mm(s, t.arange(6.0).reshape(3, 2)),
    "spmm": lambda t, s: t.spmm(s, t.arange(6.0).reshape(3, 2)), "@": lambda t, s: s @ t.arange(6.0).reshape(3, 2),
    "mv": lambda t, s: s @ t.arange(3.0), "dense @ s": lambda t, s: t.arange(8.0).reshape(2, 4) @ s,
    "s @ s.t()": lambda t, s: s @ s.t(),
    "addmm": lambda t, s: t.sparse.addmm(t.ones(4, 2), s, t.ones(3, 2), beta=0.5, alpha=2.0), "t": lambda t, s: s.t(),
    "T": lambda t, s: s.T, "sum": lambda t, s: t.sparse.sum(s), "sum 0": lambda t, s: t.sparse.sum(s, 0),
    "sum 1": lambda t, s: s.sum(1), "softmax": lambda t, s: t.sparse.softmax(s, 1),
    "log_softmax": lambda t, s: t.sparse.log_softmax(s, 1), "abs": lambda t, s: s.abs(), "pow": lambda t, s: s.pow(2),
    "relu": lambda t, s: s.relu(), "sin": lambda t, s: t.sin(s), "double": lambda t, s: s.double(),
    "to": lambda t, s: s.to(t.float64), "to cpu": lambda t, s: s.to("cpu"), "clone": lambda t, s: s.clone(),
    "cat": lambda t, s: t.cat([s, s]), "cat 1": lambda t, s: t.cat([s, s], 1), "stack": lambda t, s: t.stack([s, s]),
    "index_select": lambda t, s: s.index_select(0, t.tensor([3, 0])), "row": lambda t, s: s[1],
    "one": lambda t, s: s[0, 2], "mask": lambda t, s: t.arange(12.0).reshape(4, 3).sparse_mask(s.coalesce()),
    "zeros_like": lambda t, s: t.zeros_like(s), "norm": lambda t, s: s.norm(),
    "linear": lambda t, s: t.nn.functional.linear(s, t.ones(2, 3)), "any": lambda t, s: s.any(),
    "facts": lambda t, s: (s.is_sparse, str(s.layout), s.is_coalesced(), s._nnz(), s.sparse_dim(), s.dense_dim(),
        tuple(s.shape), s.numel(), len(s), s.dim(), s.size(0), s.requires_grad, isinstance(s, t.Tensor), s.is_floating_point(), s.type()),
    "repr": lambda t, s: repr(s), "repr coalesced": lambda t, s: repr(s.coalesce().double()),
    "repr empty": lambda t, s: repr(t.zeros_like(s)),
}


@pytest.mark.parametrize("name", CALLS)
def test_as_in_pytorch(name):
    assert told(CALLS[name](rushlight, sparse(rushlight))) == told(CALLS[name](torch, sparse(torch)))


MAKERS = {
    "lists": lambda t: t.sparse_coo_tensor([[0, 1], [1, 0]], [1, 2]), "size alone": lambda t: t.sparse_coo_tensor((2, 3)),
    "dtype": lambda t: t.sparse_coo_tensor([[0, 1], [1, 0]], [1, 2], (3, 3), dtype=t.float64),
    "values of vectors": lambda t: t.sparse_coo_tensor([[0, 2, 0]], t.arange(6.0).reshape(3, 2), (3, 2)),
    "legacy": lambda t: t.sparse.FloatTensor(t.tensor(PLACES), t.tensor(VALUES), t.Size([4, 3])),
    "of a dense one": lambda t: t.tensor([[0.0, 2.0], [0.0, 3.0]]).to_sparse(), "of rows": lambda t: t.eye(3)[:, :2].to_sparse(1),
    "batch": lambda t: t.bmm(t.arange(12.0).reshape(2, 2, 3).to_sparse(), t.arange(12.0).reshape(2, 3, 2)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_made_as_in_pytorch(name):
    ours, theirs = MAKERS[name](rushlight), MAKERS[name](torch)
    assert told(ours) == told(theirs) and (name == "batch" or told(ours.to_dense()) == told(theirs.to_dense()))


@BOTH
def test_gradients(torch):
    values, dense = torch.tensor(VALUES, requires_grad=True), torch.arange(6.0).reshape(3, 2).requires_grad_()
    s = torch.sparse_coo_tensor(torch.tensor(PLACES), values, (4, 3))
    assert s.requires_grad and not s.is_leaf
    (torch.sparse.mm(s, dense) ** 2).sum().backward()
    whole = np.zeros((4, 3), np.float32)
    np.add.at(whole, tuple(PLACES), VALUES)
    d = np.arange(6.0).reshape(3, 2)
    np.testing.assert_allclose(dense.grad.numpy(), whole.T @ (2 * whole @ d), rtol=1e-5)
    np.testing.assert_allclose(values.grad.numpy(), (2 * (whole @ d) @ d.T)[tuple(PLACES)], rtol=1e-5)
    leaf = torch.sparse_coo_tensor(torch.tensor(PLACES), torch.tensor(VALUES), (4, 3), requires_grad=True)
    (torch.sparse.mm(leaf, torch.ones(3, 2)) ** 2).sum().backward()
    grad = leaf.grad.coalesce()
    assert grad.is_sparse and grad.indices().tolist() == [[0, 1, 1, 3], [2, 0, 2, 1]]
    np.testing.assert_allclose(grad.values().numpy(), [36, -4, -4, 2], rtol=1e-5)


@BOTH
def test_what_is_refused(torch):
    s = sparse(torch)
    for error, message, call in [
            (RuntimeError, "Cannot get values on an uncoalesced tensor, please call .coalesce\\(\\) first", lambda: s.values()),
            (RuntimeError, "same nnz", lambda: torch.sparse_coo_tensor(torch.tensor(PLACES), torch.ones(2), (4, 3))),
            (RuntimeError, "add\\(sparse, dense\\) is not supported", lambda: s + torch.ones(4, 3)),
            (TypeError, "to_dense", lambda: s.numpy()), (NotImplementedError, "exp", lambda: torch.exp(s)),
            (NotImplementedError, "view", lambda: s.view(12)),
            (RuntimeError, ".", lambda: torch.sparse.mm(s, torch.ones(2, 2))),
            (RuntimeError, "12 elements cannot be converted", lambda: s.item())]:
        with pytest.raises(error, match=message):
            call()


def test_a_graph_network_learns_and_repeats_its_program():
    from rushlight.tools.profiler import counters

    losses = []
    for package in (torch, rushlight):
        package.manual_seed(0)
        rng = np.random.default_rng(0)
        edges = np.concatenate([rng.integers(0, 30, (2, 90)), np.arange(30)[None].repeat(2, 0)], 1)
        adjacency = package.sparse_coo_tensor(package.tensor(edges), package.full((120,), 0.25), (30, 30))
        x, y = package.tensor(rng.standard_normal((30, 8)).astype(np.float32)), package.tensor(rng.integers(0, 3, 30))
        net = package.nn.Module()
        net.first, net.second = package.nn.Linear(8, 16), package.nn.Linear(16, 3)
        net.register_buffer("adjacency", adjacency)
        net.to("cpu")
        optimizer = package.optim.Adam(net.parameters(), lr=0.01)
        for step in range(8):
            if package is rushlight and step == 5:
                before = counters()
            optimizer.zero_grad()
            hidden = package.spmm(net.adjacency, net.first(x)).relu()
            loss = package.nn.functional.cross_entropy(package.spmm(net.adjacency, net.second(hidden)), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(losses[:8], losses[8:], rtol=2e-5)
    assert (counters() - before).programs_built == 0


def test_copies_and_pickles():
    s = sparse(rushlight)
    for t in (copy.deepcopy(s), pickle.loads(pickle.dumps(s))):
        assert t.is_sparse and told(t) == told(s)
