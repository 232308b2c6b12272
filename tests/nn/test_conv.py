"""Convolutions against PyTorch: values, gradients, second derivatives, modules, errors."""
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rushlight
import rushlight.nn.functional as F
from rushlight import nn
from rushlight.compile import dtypes
from rushlight.compile.graph import Graph
from rushlight.ops.convolution import conv_input_grad
from rushlight.record.meta import meta_of
from rushlight.tools.profiler import profile

from .compare import close, same, same_error, torch

TF = torch.nn.functional if hasattr(torch, "nn") else None

CONV = [  # input, weight, bias?, options
    ((2, 3, 9), (4, 3, 3), True, {}),
    ((2, 4, 9), (6, 2, 3), False, {"padding": 2, "dilation": 2, "groups": 2}),
    ((4, 9), (3, 4, 3), True, {"stride": 2}),
    ((2, 3, 8, 9), (4, 3, 3, 3), True, {"stride": 2, "padding": 1}),
    ((2, 3, 8, 9), (4, 3, 1, 1), True, {}),
    ((2, 3, 8, 9), (4, 3, 2, 3), False, {"stride": (2, 3), "padding": (1, 0), "dilation": (1, 2)}),
    ((2, 4, 6, 7), (8, 1, 3, 3), True, {"groups": 4, "padding": "same"}),
    ((2, 4, 6, 7), (4, 4, 3, 3), True, {"padding": "valid"}),
    ((3, 6, 7), (4, 3, 3, 3), True, {"padding": 1}),
    ((2, 4, 4, 5, 4), (4, 2, 2, 3, 2), True, {"groups": 2, "padding": 1, "stride": (1, 2, 1)}),
    ((0, 3, 8, 8), (4, 3, 3, 3), True, {}),
    # One window along a dimension: over all of it, over a part, over its border.
    ((2, 3, 6, 5), (4, 3, 3, 5), True, {}),
    ((2, 4, 7, 5), (6, 2, 3, 4), True, {"groups": 2, "stride": (2, 3)}),
    ((2, 3, 3, 4), (4, 3, 5, 6), False, {"padding": 1, "stride": (1, 2)}),
    ((2, 3, 2, 2), (4, 3, 4, 5), True, {"padding": (1, 2)}),
]


@pytest.mark.parametrize(("x", "w", "bias", "options"), CONV)
def test_convolution(x, w, bias, options):
    name = f"conv{len(w) - 2}d"
    shapes = [x, w, (w[0],)] if bias else [x, w]
    same(lambda *t: getattr(TF, name)(*t, **options), lambda *t: getattr(F, name)(*t, **options), *shapes, second=x[0] != 0)


def test_the_gradient_of_a_single_window_multiplies_no_zeros():
    """A filter as wide as its input (words by their vectors, a last layer over all positions): both gradients take no more
    multiplications than the forward, but for the borders along the other dimension. As windows over a padded gradient they would be
    a hundred times as many."""
    x, w = rushlight.randn(4, 1, 12, 100, requires_grad=True), rushlight.randn(8, 1, 3, 100, requires_grad=True)

    def step():
        x.grad = w.grad = None
        F.conv2d(x, w).square().sum().backward()
        return x.grad.sum().item() + w.grad.sum().item()

    for _ in range(2):
        step()
    with profile() as p:
        step()
    assert sum(r.flops for r in p.rows if r.kernel.startswith("contract")) == 2 * 4 * (10 + 12 + 10) * 8 * 3 * 100


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_same_padding_of_an_even_kernel():
    same(lambda x, w: TF.conv2d(x, w, padding="same"), lambda x, w: F.conv2d(x, w, padding="same"), (2, 3, 5, 6), (4, 3, 2, 4))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_filter_as_long_as_its_input(data):
    """Dimensions in which the result has one position: the gradient spreads over the filter, without windows."""
    lengths, kernels, options = [], [], {"stride": [], "padding": [], "dilation": []}
    for _ in range(2):
        kernel, stride, padding = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4)), data.draw(st.integers(0, 2))
        dilation = data.draw(st.sampled_from([1, 1, 2]))
        left = data.draw(st.integers(0, stride - 1)) if data.draw(st.booleans()) else 3  # what no window reaches, or more windows
        kernels.append(kernel)
        lengths.append(max(1, dilation * (kernel - 1) + 1 + left - 2 * padding))
        for name, value in zip(options, (stride, padding, dilation), strict=True):
            options[name].append(value)
    groups = data.draw(st.sampled_from([1, 2, 4]))
    same(lambda x, w: TF.conv2d(x, w, groups=groups, **options), lambda x, w: F.conv2d(x, w, groups=groups, **options),
         (2, 4, *lengths), (data.draw(st.sampled_from([4, 8])), 4 // groups, *kernels), second=True)


def test_the_gradient_of_a_filter_as_wide_as_its_input_multiplies_nothing_by_padding():
    """Words as rows and filters as wide as their vectors, as in text classifiers."""
    g, w, size = meta_of((4, 6, 9, 1), dtypes.float32), meta_of((6, 1, 3, 32), dtypes.float32), (11, 32)
    graph = Graph()
    conv_input_grad.lower(graph, [graph.leaf(m.shape, m.dtype) for m in (g, w)], (size, (1, 1), (0, 0), (1, 1), 1),
                          [meta_of((4, 1, *size), dtypes.float32)])
    work = [math.prod(n for _, n in node.attrs[0].sizes) for node in graph.nodes if node.kind == "contract"]
    assert work == [4 * 6 * 3 * 11 * 32]
    assert max(node.size for node in graph.nodes) == max(4 * 6 * (9 + 4), 4 * 11 * 32)


TRANSPOSED = [
    ((2, 4, 5), (4, 3, 3), True, {"stride": 2}),
    ((4, 5), (4, 3, 3), False, {"stride": 2, "padding": 1, "output_padding": 1}),
    ((2, 4, 5, 4), (4, 3, 3, 3), True, {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    ((2, 4, 5, 4), (4, 3, 3, 2), True, {"padding": 2, "dilation": 2}),
    ((2, 4, 3, 3), (4, 2, 3, 3), False, {"padding": 2}),
    ((1, 2, 3, 2, 3), (2, 2, 2, 3, 2), True, {"stride": 2, "padding": (0, 1, 1)}),
    ((2, 4, 1, 1), (4, 3, 4, 4), False, {}),
    ((2, 4, 1, 3), (4, 3, 4, 3), True, {"stride": 2, "padding": (1, 0), "output_padding": (1, 0)}),
    ((2, 4, 1), (4, 3, 3), True, {"stride": 4, "output_padding": 3}),
]


@pytest.mark.parametrize(("x", "w", "bias", "options"), TRANSPOSED)
def test_transposed_convolution(x, w, bias, options):
    name = f"conv_transpose{len(w) - 2}d"
    shapes = [x, w, (w[1] * options.get("groups", 1),)] if bias else [x, w]
    same(lambda *t: getattr(TF, name)(*t, **options), lambda *t: getattr(F, name)(*t, **options), *shapes, second=True)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_geometry(data):
    n = data.draw(st.integers(1, 2))
    groups = data.draw(st.integers(1, 3))
    pick = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(n))  # noqa: E731
    kernel, stride, dilation, padding = pick(1, 3), pick(1, 3), pick(1, 2), pick(0, 2)
    size = tuple(max(1, d * (k - 1) + 1 - 2 * p) + extra for k, d, p, extra in zip(kernel, dilation, padding, pick(0, 5)))
    ins, outs = groups * data.draw(st.integers(1, 2)), groups * data.draw(st.integers(1, 2))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    name = f"conv{n}d"
    same(lambda x, w: getattr(TF, name)(x, w, **options), lambda x, w: getattr(F, name)(x, w, **options),
         (2, ins, *size), (outs, ins // groups, *kernel))


ERRORS = [  # input, weight, bias, options
    ((2, 3, 8, 8), (4, 2, 3, 3), None, {}),
    ((2, 3, 2, 2), (4, 3, 3, 3), None, {}),
    ((3, 8), (4, 3, 3, 3), None, {}),
    ((2, 3, 8, 8), (4, 3, 3, 3), (5,), {}),
    ((2, 3, 8, 8), (4, 3, 3, 3), None, {"stride": 0}),
    ((2, 3, 8, 8), (4, 3, 3, 3), None, {"padding": -1}),
    ((2, 3, 8, 8), (4, 3, 3, 3), None, {"dilation": 0}),
    ((2, 3, 8, 8), (4, 3, 3, 3), None, {"padding": "full"}),
    ((2, 3, 8, 8), (4, 3, 3, 3), None, {"padding": "same", "stride": 2}),
    ((2, 3, 8, 8), (4, 3, 3, 3), None, {"stride": (1, 1, 1)}),
    ((2, 4, 8, 8), (3, 2, 3, 3), None, {"groups": 2}),
]


@pytest.mark.parametrize(("x", "w", "b", "options"), ERRORS)
def test_errors(x, w, b, options):
    def call(module, function):
        return lambda: function(module.zeros(x), module.zeros(w), None if b is None else module.zeros(b), **options)
    same_error(call(torch, TF.conv2d), call(rushlight, F.conv2d))


def test_errors_name_the_shapes():
    with pytest.raises(RuntimeError, match=r"weight of size \[4, 2, 3, 3\].*\[2, 3, 8, 8\].*2 channels, but got 3"):
        F.conv2d(rushlight.zeros(2, 3, 8, 8), rushlight.zeros(4, 2, 3, 3))
    with pytest.raises(RuntimeError, match="dtype|type"):
        F.conv2d(rushlight.zeros(2, 3, 8, 8), rushlight.zeros(4, 3, 3, 3, dtype=rushlight.float64))


def test_transposed_errors():
    for options in ({"output_padding": 2}, {"stride": 0}, {"padding": -1}, {"padding": 5}):
        same_error(lambda o=options: TF.conv_transpose2d(torch.zeros(1, 2, 3, 3), torch.zeros(2, 2, 2, 2), **o),
                   lambda o=options: F.conv_transpose2d(rushlight.zeros(1, 2, 3, 3), rushlight.zeros(2, 2, 2, 2), **o))


MODULES = [
    ("Conv1d", (4, 6, 3), {}, (2, 4, 9)),
    ("Conv1d", (4, 6, 3), {"padding": 2, "padding_mode": "circular", "bias": False}, (2, 4, 9)),
    ("Conv2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 8, 9)),
    ("Conv2d", (4, 6, (3, 5)), {"padding": "same", "padding_mode": "reflect"}, (2, 4, 8, 9)),
    ("Conv2d", (4, 6, 3), {"padding": (1, 2), "dilation": 2, "padding_mode": "replicate"}, (4, 8, 9)),
    ("Conv3d", (2, 4, 3), {"padding": 1}, (1, 2, 4, 4, 4)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2}, (2, 4, 5)),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, (2, 4, 5, 5)),
    ("ConvTranspose3d", (2, 4, 2), {"bias": False}, (1, 2, 3, 3, 3)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), MODULES)
def test_modules(name, args, options, shape):
    """The same seed gives the same parameters; printed form, state and output are equal."""
    torch.manual_seed(3)
    rushlight.manual_seed(3)
    theirs, ours = getattr(torch.nn, name)(*args, **options), getattr(nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_array_equal(mine.detach().numpy(), other.detach().numpy())
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    close(ours(rushlight.tensor(x)), theirs(torch.tensor(x)), 1e-4, 1e-5)


def test_output_size_chooses_the_output_padding():
    layer = nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1)
    x = rushlight.zeros(1, 2, 4, 4)
    assert layer(x, output_size=(8, 8)).shape == (1, 2, 8, 8)
    assert layer(x, output_size=(1, 2, 7, 8)).shape == (1, 2, 7, 8)
    with pytest.raises(ValueError, match="requested an output size"):
        layer(x, output_size=(9, 9))


@pytest.mark.parametrize("options", [{"groups": 3}, {"groups": 0}, {"padding": "full"}, {"padding": "same", "stride": 2},
                                     {"padding_mode": "mirror"}])
def test_module_errors(options):
    same_error(lambda: torch.nn.Conv2d(4, 6, 3, **options), lambda: nn.Conv2d(4, 6, 3, **options))


EMPTY = {
    "no output": lambda m: m.nn.functional.conv_transpose1d(m.ones(1, 2, 1), m.ones(2, 3, 2), padding=1),
    "one empty output": lambda m: m.nn.functional.conv_transpose2d(m.ones(1, 2, 1, 3), m.ones(2, 3, 2, 2), padding=(1, 0)),
    "no input, transposed": lambda m: m.nn.functional.conv_transpose2d(m.ones(1, 2, 0, 3), m.ones(2, 3, 2, 2)),
    "no kernel, transposed": lambda m: m.nn.functional.conv_transpose2d(m.ones(1, 2, 3, 3), m.ones(2, 3, 0, 2)),
    "no channels, transposed": lambda m: m.nn.functional.conv_transpose2d(m.ones(1, 2, 3, 3), m.ones(2, 0, 2, 2)),
    "no input": lambda m: m.nn.functional.conv1d(m.ones(1, 2, 0), m.ones(3, 2, 3), padding=2),
    "no rows": lambda m: m.nn.functional.conv2d(m.ones(1, 2, 0, 4), m.ones(3, 2, 3, 3), padding=2),
    "no batch dimension": lambda m: m.nn.functional.conv2d(m.ones(2, 0, 4), m.ones(3, 2, 3, 3), padding=2),
    "no depth": lambda m: m.nn.functional.conv3d(m.ones(1, 2, 0, 4, 4), m.ones(3, 2, 3, 3, 3), padding=2),
    "no filters": lambda m: m.nn.functional.conv2d(m.ones(1, 2, 4, 4), m.ones(0, 2, 3, 3)),
    "no kernel": lambda m: m.nn.functional.conv2d(m.ones(1, 2, 4, 4), m.ones(3, 2, 0, 3)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_what_must_not_be_empty(name):
    same_error(lambda: EMPTY[name](torch), lambda: EMPTY[name](rushlight))


def test_an_empty_batch_is_fine():
    for m in (torch, rushlight):
        f = m.nn.functional
        assert tuple(f.conv_transpose2d(m.ones(0, 2, 1, 3), m.ones(2, 3, 2, 2), padding=(1, 0)).shape) == (0, 3, 0, 4)
        assert tuple(f.conv2d(m.ones(0, 2, 0, 4), m.ones(3, 2, 3, 3), padding=2).shape) == (0, 3, 2, 6)
