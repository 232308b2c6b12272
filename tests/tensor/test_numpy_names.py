"""``axis`` and ``keepdims`` are further names of ``dim`` and ``keepdim``, as in PyTorch: of every function and method."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight as torch

reference = pytest.importorskip("torch")

REDUCTIONS = ("all", "amax", "amin", "any", "argmax", "argmin", "logsumexp", "max", "mean", "median", "min", "mode", "nanmean",
              "nanmedian", "nansum", "prod", "std", "sum", "var")
ALONG = [*[(name, ()) for name in REDUCTIONS], ("argsort", ()), ("chunk", (2,)), ("count_nonzero", ()), ("cummax", ()), ("cummin", ()),
         ("cumprod", ()), ("cumsum", ()), ("diff", ()), ("kthvalue", (2,)), ("log_softmax", ()), ("logcumsumexp", ()),
         ("nanquantile", (0.5,)), ("quantile", (0.5,)), ("repeat_interleave", (2,)), ("softmax", ()), ("sort", ()), ("squeeze", ()),
         ("tensor_split", (2,)), ("topk", (2,)), ("unbind", ()), ("unsqueeze", ())]
DATA = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def arrays(result):
    return [np.asarray(r) for r in result] if isinstance(result, tuple | list) else [np.asarray(result)]


def same(call):
    for got, want in zip(arrays(call(torch)), arrays(call(reference)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(("name", "args"), ALONG, ids=[name for name, _ in ALONG])
def test_axis_is_dim(name, args):
    for _ in range(3):  # the third call is a remembered one
        same(lambda lib: getattr(lib, name)(lib.tensor(DATA), *args, axis=1))
        same(lambda lib: getattr(lib.tensor(DATA), name)(*args, axis=0))


@pytest.mark.parametrize("name", REDUCTIONS)
def test_keepdims_is_keepdim(name):
    same(lambda lib: getattr(lib, name)(lib.tensor(DATA), axis=1, keepdims=True))
    same(lambda lib: getattr(lib.tensor(DATA), name)(dim=0, keepdims=True))


def test_tensors_are_joined_along_an_axis():
    for name in ("cat", "stack", "concat"):
        same(lambda lib, name=name: getattr(lib, name)([lib.tensor(DATA), lib.tensor(DATA)], axis=1))


def test_positions_are_looked_up_along_an_axis():
    index = np.array([[0, 1, 2], [3, 2, 1]])
    same(lambda lib: lib.gather(lib.tensor(DATA), axis=0, index=lib.tensor(index)))
    same(lambda lib: lib.tensor(DATA).index_select(axis=1, index=lib.tensor(index[0])))


def test_the_axis_carries_gradients_and_may_change():
    for axis in (0, 1, 0, 1, 0):
        x, y = torch.tensor(DATA, requires_grad=True), reference.tensor(DATA, requires_grad=True)
        (torch.softmax(x, axis=axis) ** 2).sum().backward()
        (reference.softmax(y, axis=axis) ** 2).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("call", [
    lambda lib, x: x.argmax(0, axis=1), lambda lib, x: x.argmax(dim=0, axis=1), lambda lib, x: lib.softmax(x, 0, axis=1),
    lambda lib, x: x.sum(0, True, keepdims=True), lambda lib, x: lib.softmax(x), lambda lib, x: x.cumsum(),
    lambda lib, x: lib.topk(x, axis=1), lambda lib, x: lib.softmax(x, dtype=lib.float64), lambda lib, x: lib.abs(x, axis=1)],
    ids=["twice", "twice by name", "twice, required", "keepdims twice", "none", "none of a method", "another is missing", "dtype alone",
         "no dim"])
def test_what_is_given_twice_or_missing_is_refused(call):
    with pytest.raises(TypeError):
        call(reference, reference.tensor(DATA))
    with pytest.raises(TypeError, match="required|unexpected"):
        call(torch, torch.tensor(DATA))
