"""Convolutions with few output channels are products and a sum over taps: equal to the plain sums, both ways and twice."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight as torch
from rushlight.compile import graph
from rushlight.nn import functional as F
from rushlight.ops import few_channels


def results(function, x, w, weights, twice):
    """The convolution, its gradients, and those of their weighted sum of squares."""
    x, w = (torch.tensor(v, requires_grad=True) for v in (x, w))
    y = function(x, w)
    found = [y, *torch.autograd.grad((y * torch.tensor(weights(y.shape))).sum(), (x, w), create_graph=twice)]
    if twice:
        found += torch.autograd.grad(sum((g * g).sum() for g in found[1:]), (x, w))
    return [v.detach().numpy() for v in found]


def both(monkeypatch, function, x_shape, w_shape, dtype=np.float64, twice=True):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)

    def weights(shape):
        return np.random.default_rng(1).standard_normal(shape).astype(dtype)

    made = results(function, x, w, weights, twice)
    monkeypatch.setattr(few_channels, "pays", lambda *_: False)
    plain = results(function, x, w, weights, twice)
    monkeypatch.undo()
    return made, plain


def assert_equal(found, tolerance=1e-12):
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


CASES = {
    "lines": ((2, 8, 20), (1, 8, 5), {"padding": 2}),
    "images": ((2, 16, 9, 11), (3, 16, 3, 3), {"padding": 1}),
    "unequal kernel": ((2, 16, 9, 11), (2, 16, 1, 5), {"padding": (0, 2)}),
    "dilated": ((2, 16, 12, 12), (3, 16, 3, 3), {"padding": 2, "dilation": 2}),
    "no padding": ((2, 16, 6, 6), (1, 16, 5, 5), {}),
    "volumes": ((1, 16, 5, 6, 7), (2, 16, 3, 3, 3), {"padding": 1}),
    "padding beyond the filter": ((2, 16, 6, 6), (1, 16, 3, 3), {"padding": 3}),
    "strided": ((2, 16, 9, 9), (3, 16, 3, 3), {"padding": 1, "stride": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_convolutions_with_few_outputs(monkeypatch, name):
    x, w, options = CASES[name]
    function = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[len(x)]
    assert few_channels.pays(w[1], w[0], w[2:], 1)
    assert_equal(both(monkeypatch, lambda a, b: function(a, b, **options), x, w))


TRANSPOSED = {
    "lines": ((2, 8, 20), (8, 1, 6), {"stride": 3}),
    "images": ((2, 16, 5, 6), (16, 3, 4, 4), {"stride": 2, "padding": 1}),
    "stride 3, odd padding": ((2, 16, 5, 6), (16, 2, 5, 5), {"stride": 3, "padding": 1, "output_padding": 2}),
    "stride 1": ((2, 16, 5, 6), (16, 3, 3, 3), {"padding": 1}),
    "dilated": ((2, 16, 5, 6), (16, 3, 3, 3), {"stride": 2, "dilation": 2, "padding": 2, "output_padding": 1}),
    "apart": ((2, 16, 5, 6), (16, 3, 2, 2), {"stride": 2}),
    "holes": ((2, 16, 5, 6), (16, 3, 2, 2), {"stride": 3}),
    "volumes": ((1, 16, 3, 3, 2), (16, 2, 2, 3, 2), {"stride": 2}),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions_to_few_channels(monkeypatch, name):
    x, w, options = TRANSPOSED[name]
    function = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[len(x)]
    assert few_channels.pays(w[0], w[1], w[2:], 1)
    assert_equal(both(monkeypatch, lambda a, b: function(a, b, **options), x, w))


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_few_channels(data):
    draw = data.draw
    c, o, k = draw(st.integers(4, 9)), draw(st.integers(1, 3)), draw(st.integers(2, 4))
    d, s = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    p = draw(st.integers(0, d * (k - 1)))
    n = draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 12))
    transposed = draw(st.booleans())
    shape, options = (2, c, n), {"stride": s, "padding": p, "dilation": d}
    with pytest.MonkeyPatch.context() as patch:
        if transposed:
            if (n - 1) * s - 2 * p + d * (k - 1) + 1 < 1:
                return
            assert_equal(both(patch, lambda a, b: F.conv_transpose1d(a, b, **options), shape, (c, o, k), twice=False))
        else:
            assert_equal(both(patch, lambda a, b: F.conv1d(a, b, **options), shape, (o, c, k), twice=False))


def test_half_precision_is_rounded_once(monkeypatch):
    rng = np.random.default_rng(0)
    x, w = torch.tensor(rng.standard_normal((2, 16, 8, 8))).bfloat16(), torch.tensor(rng.standard_normal((1, 16, 3, 3))).bfloat16()
    found = F.conv2d(x, w, padding=1)
    exact = F.conv2d(x.float(), w.float(), padding=1)
    assert found.dtype is torch.bfloat16 and torch.equal(found, exact.bfloat16())


def test_what_is_multiplied_has_no_windows_where_outputs_are_few(monkeypatch):
    """What says that the forms are taken: one product of positions with all taps for each convolution, whatever its stride."""
    specs = []
    contract = graph.Graph.contract

    def noted(self, a, b, spec, dtype=None):
        specs.append(any(isinstance(x, graph.Window) for x in (*spec.a, *spec.b)))
        return contract(self, a, b, spec, dtype)

    monkeypatch.setattr(graph.Graph, "contract", noted)
    x, few, many = torch.rand(3, 16, 10, 10), torch.rand(3, 16, 3, 3), torch.rand(9, 16, 3, 3)
    F.conv2d(x, few, padding=1).sum().item()
    assert specs == [False]
    F.conv_transpose2d(x, few.transpose(0, 1).contiguous(), stride=2, padding=1).sum().item()
    assert specs == [False, False]
    F.conv2d(x, many, padding=1).sum().item()
    assert specs == [False, False, True]
