"""Pools against PyTorch: values, positions, gradients, second derivatives, modules, errors."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight
import rushlight.nn.functional as F
from rushlight import nn

from .compare import close, same, same_error, torch

TF = torch.nn.functional

MAX = [  # kernel, stride, padding, dilation, ceil_mode
    (2, None, 0, 1, False), (3, 2, 1, 1, False), (3, 2, 1, 1, True), ((2, 3), (1, 2), 1, 2, False), (2, 2, 0, 1, True),
    ((3, 2), 2, (1, 0), (1, 2), True), (3, 3, 1, 1, False), (2, 3, 0, 1, False),
]


@pytest.mark.parametrize("options", MAX)
@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (3, 7, 10)])
def test_max_pool2d(options, shape):
    same(lambda x: TF.max_pool2d(x, *options, return_indices=True), lambda x: F.max_pool2d(x, *options, return_indices=True), shape,
         second=True)
    same(lambda x: TF.max_pool2d(x, *options), lambda x: F.max_pool2d(x, *options), shape)


def test_other_dimensions():
    same(lambda x: TF.max_pool1d(x, 3, 2, 1, return_indices=True), lambda x: F.max_pool1d(x, 3, 2, 1, return_indices=True), (2, 3, 9))
    same(lambda x: TF.max_pool3d(x, 2, 1, return_indices=True), lambda x: F.max_pool3d(x, 2, 1, return_indices=True), (2, 3, 4, 3, 5))
    same(lambda x: TF.avg_pool1d(x, 3, 1), lambda x: F.avg_pool1d(x, 3, 1), (3, 9), second=True)
    same(lambda x: TF.avg_pool3d(x, 2, divisor_override=3), lambda x: F.avg_pool3d(x, 2, divisor_override=3), (2, 3, 4, 5, 4))


def test_the_first_of_equal_maxima_takes_the_gradient():
    for kernel, stride in ((2, 2), (3, 1)):
        x = np.array([[[0.0, 0, 0, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]]])
        a, b = torch.tensor(x, requires_grad=True), rushlight.tensor(x, requires_grad=True)
        TF.max_pool2d(a, kernel, stride).sum().backward()
        F.max_pool2d(b, kernel, stride).sum().backward()
        np.testing.assert_array_equal(b.grad.numpy(), a.grad.numpy())


def test_a_window_of_padding_alone_takes_no_gradient():
    x = rushlight.ones(1, 1, 7, requires_grad=True)
    F.max_pool2d(x, (2, 3), (2, 4), 1, 2).sum().backward()
    assert x.grad.isfinite().all().item()


def test_special_values():
    x = np.array([[[np.nan, 1, -np.inf, -np.inf], [2, 3, -np.inf, -np.inf]]])
    want, where = TF.max_pool2d(torch.tensor(x), 2, padding=1, stride=1, return_indices=True)
    got, at = F.max_pool2d(rushlight.tensor(x), 2, padding=1, stride=1, return_indices=True)
    np.testing.assert_array_equal(got.numpy(), want.numpy())
    finite = ~np.isnan(want.numpy())
    np.testing.assert_array_equal(at.numpy()[finite], where.numpy()[finite])


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("divisor", [None, 5])
@pytest.mark.parametrize("options", [(2, None, 0, False), (3, 2, 1, False), (3, 2, 1, True), ((2, 3), (1, 2), (1, 0), True)])
def test_avg_pool2d(options, include, divisor):
    same(lambda x: TF.avg_pool2d(x, *options, include, divisor), lambda x: F.avg_pool2d(x, *options, include, divisor), (2, 3, 9, 8),
         second=True)


@pytest.mark.parametrize("size", [1, (2, 4), (3, 5), (None, 7), (12, 3), (8, 8)])
def test_adaptive_pools(size):
    same(lambda x: TF.adaptive_avg_pool2d(x, size), lambda x: F.adaptive_avg_pool2d(x, size), (2, 3, 8, 8), second=True)
    same(lambda x: TF.adaptive_max_pool2d(x, size, True), lambda x: F.adaptive_max_pool2d(x, size, True), (2, 3, 8, 8))


def test_adaptive_pools_in_other_dimensions():
    same(lambda x: TF.adaptive_avg_pool1d(x, 3), lambda x: F.adaptive_avg_pool1d(x, 3), (2, 3, 7))
    same(lambda x: TF.adaptive_avg_pool3d(x, (2, 3, 2)), lambda x: F.adaptive_avg_pool3d(x, (2, 3, 2)), (2, 3, 4, 5, 3))
    same(lambda x: TF.adaptive_max_pool1d(x, 3, True), lambda x: F.adaptive_max_pool1d(x, 3, True), (2, 3, 7))
    same(lambda x: TF.adaptive_max_pool3d(x, 2, True), lambda x: F.adaptive_max_pool3d(x, 2, True), (2, 3, 4, 5, 3))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_geometry(data):
    pick = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(2))  # noqa: E731
    kernel, stride, dilation = pick(1, 3), pick(1, 4), pick(1, 2)
    # (A window of nothing but padding, possible with dilation, has no defined result.)
    padding = tuple(data.draw(st.integers(0, k // 2 if d == 1 else 0)) for k, d in zip(kernel, dilation))
    size = tuple(max(1, d * (k - 1) + 1 - 2 * p) + extra for k, d, p, extra in zip(kernel, dilation, padding, pick(0, 6)))
    ceil = data.draw(st.booleans())
    same(lambda x: TF.max_pool2d(x, kernel, stride, padding, dilation, ceil, True),
         lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, ceil, True), (2, *size))
    size = tuple(max(n, k) for n, k in zip(size, kernel))
    same(lambda x: TF.avg_pool2d(x, kernel, stride, padding, ceil, False), lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, False),
         (2, *size))


def test_lp_pool():
    same(lambda x: TF.lp_pool2d(x, 3.0, 2), lambda x: F.lp_pool2d(x, 3.0, 2), (2, 3, 8, 8))
    a, b = torch.tensor([[-1.0, 2.0]], requires_grad=True), rushlight.tensor([[-1.0, 2.0]], requires_grad=True)
    TF.lp_pool1d(a, 1.5, 2).sum().backward()
    F.lp_pool1d(b, 1.5, 2).sum().backward()
    np.testing.assert_array_equal(b.grad.numpy(), a.grad.numpy())  # NaN where the root of a negative sum is taken
    same(lambda x: TF.lp_pool1d(x, 2.0, 3, 2, True), lambda x: F.lp_pool1d(x, 2.0, 3, 2, True), (2, 3, 8))


def test_unpool():
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    y, at = TF.max_pool2d(torch.tensor(x), 2, 2, return_indices=True)
    for size in (None, (8, 9), (2, 3, 9, 8)):
        same(lambda t, s=size: TF.max_unpool2d(t, at, 2, 2, output_size=s),
             lambda t, s=size: F.max_unpool2d(t, rushlight.tensor(at.numpy()), 2, 2, output_size=s), tuple(y.shape))
    same_error(lambda: TF.max_unpool2d(y, at, 2, 2, output_size=(10, 9)),
               lambda: F.max_unpool2d(rushlight.tensor(y.numpy()), rushlight.tensor(at.numpy()), 2, 2, output_size=(10, 9)))


def test_fractional_max_pool():
    samples = np.random.default_rng(0).random((2, 3, 2))
    same(lambda x: TF.fractional_max_pool2d(x, 2, (4, 5), return_indices=True, _random_samples=torch.tensor(samples)),
         lambda x: F.fractional_max_pool2d(x, 2, (4, 5), return_indices=True, _random_samples=rushlight.tensor(samples)), (2, 3, 9, 8))
    samples = np.random.default_rng(0).random((2, 3, 3))
    same(lambda x: TF.fractional_max_pool3d(x, 2, output_ratio=0.6, return_indices=True, _random_samples=torch.tensor(samples)),
         lambda x: F.fractional_max_pool3d(x, 2, output_ratio=0.6, return_indices=True, _random_samples=rushlight.tensor(samples)),
         (2, 3, 6, 5, 7))


ERRORS = [  # function, arguments, input
    ("max_pool2d", (2, 2, 2), (1, 4, 4)), ("max_pool2d", (5,), (1, 4, 4)), ("max_pool2d", (2, 0), (1, 4, 4)),
    ("max_pool2d", (2, 2, -1), (1, 4, 4)), ("max_pool2d", ((2, 2, 2),), (1, 4, 4)), ("max_pool2d", (2,), (4, 4)),
    ("max_pool2d", (2, 1, 0, 0), (1, 4, 4)), ("avg_pool2d", (2, 2, 2), (1, 4, 4)), ("avg_pool2d", (5,), (1, 4, 4)),
    ("avg_pool2d", (2, None, 0, False, True, 0), (1, 4, 4)), ("adaptive_avg_pool2d", (-1,), (1, 4, 4)),
    ("adaptive_max_pool2d", ((2, 2, 2),), (1, 4, 4)), ("fractional_max_pool2d", (2,), (1, 4, 4)),
    ("fractional_max_pool2d", (3, 4), (1, 4, 4)),
]


@pytest.mark.parametrize(("name", "args", "shape"), ERRORS)
def test_errors(name, args, shape):
    same_error(lambda: getattr(TF, name)(torch.zeros(shape), *args), lambda: getattr(F, name)(rushlight.zeros(shape), *args))


MODULES = [
    ("MaxPool1d", (2,), {}, (2, 4, 9)), ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (2, 4, 9, 8)),
    ("MaxPool3d", (2,), {"dilation": 2}, (1, 2, 5, 5, 5)), ("AvgPool1d", (2,), {"padding": 1}, (2, 4, 9)),
    ("AvgPool2d", (2,), {"count_include_pad": False, "padding": 1}, (2, 4, 9, 8)), ("AvgPool3d", ((2, 1, 2),), {}, (1, 2, 4, 4, 4)),
    ("LPPool1d", (2, 3), {}, (2, 4, 9)), ("LPPool2d", (2, 3), {"stride": 1}, (2, 4, 9, 9)), ("LPPool3d", (2, 2), {}, (2, 4, 4, 4, 4)),
    ("AdaptiveAvgPool1d", (3,), {}, (2, 4, 9)), ("AdaptiveAvgPool2d", ((3, None),), {}, (2, 4, 9, 8)),
    ("AdaptiveAvgPool3d", (2,), {}, (2, 4, 4, 5, 6)), ("AdaptiveMaxPool1d", (3,), {}, (2, 4, 9)),
    ("AdaptiveMaxPool2d", (3,), {}, (2, 4, 9, 8)), ("AdaptiveMaxPool3d", (2,), {}, (2, 4, 4, 5, 6)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), MODULES)
def test_modules(name, args, options, shape):
    theirs, ours = getattr(torch.nn, name)(*args, **options), getattr(nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    close(ours(rushlight.tensor(x)), theirs(torch.tensor(x)), 1e-5, 1e-6)


def test_pool_and_unpool_modules():
    pool, back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    assert repr(back) == repr(torch.nn.MaxUnpool2d(2))
    x = rushlight.arange(16.0).reshape(1, 1, 4, 4)
    y = back(*pool(x))
    assert y.sum().item() == 5 + 7 + 13 + 15 and y[0, 0, 3, 3].item() == 15
    drawn = nn.FractionalMaxPool2d(2, output_ratio=0.5)(x)
    assert drawn.shape == (1, 1, 2, 2)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("shape", [(1, 2, 2, 2, 2), (2, 3, 3, 2), (0, 2, 2, 2, 2)])
def test_averages_over_volumes_take_no_larger_kernel(shape, ceil):
    """Not even where ``ceil_mode`` or padding would make room."""
    for call in (lambda m: m.nn.functional.lp_pool3d(m.ones(*shape), 2, 3, ceil_mode=ceil),
                 lambda m: m.nn.functional.avg_pool3d(m.ones(*shape), 3, padding=1, ceil_mode=ceil)):
        same_error(lambda call=call: call(torch), lambda call=call: call(rushlight))
