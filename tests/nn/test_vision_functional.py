"""Resizing, padding, folding, shuffling and grid sampling against PyTorch."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import rushlight
import rushlight.nn.functional as F
from rushlight import nn
from rushlight.record import local
from rushlight.record.paths import path_to

from .compare import close, same, same_error, torch

TF = torch.nn.functional

SIZES = [{"size": (5, 9)}, {"size": (14, 16)}, {"scale_factor": 2}, {"scale_factor": (1.7, 0.6)},
         {"scale_factor": (1.7, 0.6), "recompute_scale_factor": True}, {"size": (1, 1)}, {"size": (7, 3)}]
MODES = [("nearest", None, False), ("nearest-exact", None, False), ("area", None, False), ("bilinear", False, False),
         ("bilinear", True, False), ("bilinear", False, True), ("bicubic", False, False), ("bicubic", True, False),
         ("bicubic", False, True)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_interpolate(mode, size):
    name, align, antialias = mode
    options = {"mode": name, "align_corners": align, "antialias": antialias, **size}
    same(lambda x: TF.interpolate(x, **options), lambda x: F.interpolate(x, **options), (2, 3, 7, 8))


def test_interpolate_other_dimensions():
    for options, shape in (({"size": 5, "mode": "linear"}, (2, 3, 7)), ({"scale_factor": 3}, (2, 3, 7)),
                           ({"size": (3, 5, 7), "mode": "trilinear"}, (2, 3, 4, 4, 4)),
                           ({"scale_factor": 2, "mode": "trilinear", "align_corners": True}, (1, 2, 3, 3, 3))):
        same(lambda x, o=options: TF.interpolate(x, **o), lambda x, o=options: F.interpolate(x, **o), shape, second=True)


BAD = [{}, {"size": 4, "scale_factor": 2}, {"size": 4, "align_corners": True}, {"size": (4, 4, 4)}, {"size": 4, "mode": "linear"},
       {"size": 4, "mode": "cubic"}, {"size": 4, "antialias": True}, {"size": 0}, {"size": 4, "recompute_scale_factor": True}]


@pytest.mark.parametrize("options", BAD)
def test_interpolate_errors(options):
    same_error(lambda: TF.interpolate(torch.zeros(1, 2, 4, 4), **options), lambda: F.interpolate(rushlight.zeros(1, 2, 4, 4), **options))


PADS = [((1, 2), "constant"), ((0, 0, 0, 0), "constant"), ((1, 2, 0, 3), "constant"),
        ((1, 2, -1, 3), "constant"), ((1, 2, 3, 1), "reflect"), ((1, 2), "reflect"),
        ((1, -2, -1, 3), "replicate"), ((7, 2, 3, 1), "replicate"), ((1, 2, 3, 4), "circular"), ((1, 2, -1, 3), "circular")]


@pytest.mark.parametrize(("sizes", "mode"), PADS)
def test_pad(sizes, mode):
    shape = (2, 3, 5, 4) if len(sizes) == 4 else (2, 3, 5)
    same(lambda x: TF.pad(x, sizes, mode), lambda x: F.pad(x, sizes, mode), shape, second=True)


def test_padding_by_nothing_lies_and_is_named_as_in_pytorch():
    def made(package, function, move):
        x = package.tensor(np.ones((2, 3, 4, 5), np.float32), requires_grad=True)
        y = function.pad(move(x), (0, 0, 0, 0))
        return y.stride(), type(y.grad_fn).__name__

    for move in (lambda x: x, lambda x: x.transpose(1, 2), lambda x: x.permute(0, 2, 3, 1)):
        assert made(rushlight, F, move) == made(torch, TF, move)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_padding_with_content_is_one_operation_and_so_is_its_gradient(mode):
    x = rushlight.tensor(np.random.default_rng(0).random((4, 8, 32, 32), np.float32), requires_grad=True)
    F.pad(x, (1, 2, 2, 1), mode).sum().backward()
    recorded = [n.op.name for n in path_to(local.trace.node) if n.op is not None]
    assert recorded.count("pad") == recorded.count("pad_backward") == 1 and not {"cat", "flip", "slice"} & set(recorded)
    assert x.grad.sum().item() == 4 * 8 * 35 * 35


def test_pad_with_a_value_and_other_dtypes():
    for value in (2.5, -1):
        same(lambda x, v=value: TF.pad(x, (1, 1), value=v), lambda x, v=value: F.pad(x, (1, 1), value=v), (3, 4))
    assert F.pad(rushlight.arange(3), (1, 1), value=7).tolist() == [7, 0, 1, 2, 7]
    assert F.pad(rushlight.tensor([True]), (0, 1)).tolist() == [True, False]


@pytest.mark.parametrize(("sizes", "mode", "shape"), [
    ((1,), "constant", (4,)), ((1, 1, 1, 1), "constant", (4,)), ((4, 0), "reflect", (2, 4)), ((5, 0), "circular", (2, 4)),
    ((1, 1), "mirror", (2, 4)), ((1, 1), "reflect", (4,)), ((-3, -3), "constant", (2, 4)), ((-3, -3), "replicate", (2, 4))])
def test_pad_errors(sizes, mode, shape):
    same_error(lambda: TF.pad(torch.zeros(shape), sizes, mode), lambda: F.pad(rushlight.zeros(shape), sizes, mode))


def test_unfold_and_fold():
    for args in (((2, 3), 2, 1, (2, 1)), (3, 1, 1, 2), (2, 1, 0, 2)):
        same(lambda x, a=args: TF.unfold(x, *a), lambda x, a=args: F.unfold(x, *a), (2, 3, 8, 9), second=True)
        columns = tuple(TF.unfold(torch.zeros(2, 3, 8, 9), *args).shape)
        same(lambda x, a=args: TF.fold(x, (8, 9), *a), lambda x, a=args: F.fold(x, (8, 9), *a), columns, second=True)
    same(lambda x: TF.unfold(x, 2), lambda x: F.unfold(x, 2), (3, 4, 5))
    same_error(lambda: TF.unfold(torch.zeros(1, 1, 2, 2), 3), lambda: F.unfold(rushlight.zeros(1, 1, 2, 2), 3))
    same_error(lambda: TF.fold(torch.zeros(1, 8, 5), 3, 2), lambda: F.fold(rushlight.zeros(1, 8, 5), 3, 2))
    same_error(lambda: TF.fold(torch.zeros(1, 7, 4), 3, 2), lambda: F.fold(rushlight.zeros(1, 7, 4), 3, 2))


def test_shuffles():
    for name, argument, shape in (("pixel_shuffle", 2, (2, 8, 3, 4)), ("pixel_unshuffle", 2, (2, 3, 4, 6)),
                                  ("channel_shuffle", 2, (2, 8, 3, 4)), ("pixel_shuffle", 3, (9, 2, 2))):
        same(lambda x, n=name, a=argument: getattr(TF, n)(x, a), lambda x, n=name, a=argument: getattr(F, n)(x, a), shape)
        same_error(lambda n=name: getattr(TF, n)(torch.zeros(1, 7, 7, 7), 5), lambda n=name: getattr(F, n)(rushlight.zeros(1, 7, 7, 7), 5))


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_grid_sample(mode, padding, align):
    same(lambda x, g: TF.grid_sample(x, g, mode, padding, align), lambda x, g: F.grid_sample(x, g, mode, padding, align),
         (2, 3, 5, 6), (2, 3, 4, 2))
    if mode == "bilinear":
        same(lambda x, g: TF.grid_sample(x, g, mode, padding, align), lambda x, g: F.grid_sample(x, g, mode, padding, align),
             (2, 3, 4, 5, 6), (2, 3, 4, 2, 3))


def test_grid_sample_records_a_few_operations():
    x, g = rushlight.rand(1, 4, 9, 9), rushlight.rand(1, 5, 5, 2)
    rushlight.zeros(1).item()
    y = F.grid_sample(x, g, align_corners=False)
    assert sum(n.op is not None for n in path_to(local.trace.node)) <= 24
    assert y.sum().item() != 0


def test_grid_sample_nearest_and_affine_grid():
    r = np.random.default_rng(0)
    grid = r.uniform(-1.2, 1.2, (2, 4, 4, 2))
    for padding in ("zeros", "border", "reflection"):
        same(lambda x, p=padding: TF.grid_sample(x, torch.tensor(grid), "nearest", p, False),
             lambda x, p=padding: F.grid_sample(x, rushlight.tensor(grid), "nearest", p, False), (2, 3, 5, 6))
    for align in (True, False):
        same(lambda t, a=align: TF.affine_grid(t, [2, 3, 4, 5], a), lambda t, a=align: F.affine_grid(t, [2, 3, 4, 5], a), (2, 2, 3))
        same(lambda t, a=align: TF.affine_grid(t, [2, 3, 4, 2, 3], a), lambda t, a=align: F.affine_grid(t, [2, 3, 4, 2, 3], a), (2, 3, 4))
    same_error(lambda: TF.grid_sample(torch.zeros(1, 1, 2, 2), torch.zeros(2, 1, 1, 2), align_corners=False),
               lambda: F.grid_sample(rushlight.zeros(1, 1, 2, 2), rushlight.zeros(2, 1, 1, 2), align_corners=False))


MODULES = [
    ("Upsample", (), {"scale_factor": 2}, (1, 2, 3, 4)), ("Upsample", (), {"size": (5, 6), "mode": "bilinear"}, (1, 2, 3, 4)),
    ("UpsamplingNearest2d", (), {"scale_factor": 2}, (1, 2, 3, 4)), ("UpsamplingBilinear2d", (), {"size": 5}, (1, 2, 3, 4)),
    ("PixelShuffle", (2,), {}, (1, 8, 3, 4)), ("PixelUnshuffle", (2,), {}, (1, 2, 4, 4)), ("ChannelShuffle", (2,), {}, (1, 4, 3, 3)),
    ("Unfold", (2,), {"stride": 2}, (1, 2, 4, 4)), ("Fold", ((4, 4), 2), {"stride": 2}, (1, 8, 4)),
    ("ConstantPad1d", (2, 3.5), {}, (1, 2, 4)), ("ConstantPad2d", ((1, 2, 0, 1), 3.5), {}, (1, 2, 4, 4)),
    ("ConstantPad3d", (1, 2), {}, (1, 2, 2, 3, 3)), ("ZeroPad1d", (1,), {}, (1, 2, 4)), ("ZeroPad2d", (1,), {}, (1, 2, 4, 4)),
    ("ZeroPad3d", (1,), {}, (1, 2, 2, 3, 3)), ("ReflectionPad1d", (1,), {}, (2, 4)), ("ReflectionPad2d", ((1, 1, 2, 0),), {}, (1, 2, 4, 4)),
    ("ReflectionPad3d", (1,), {}, (1, 2, 2, 3, 3)), ("ReplicationPad1d", (2,), {}, (1, 2, 4)), ("ReplicationPad2d", (1,), {}, (1, 2, 4, 4)),
    ("ReplicationPad3d", (1,), {}, (1, 2, 2, 3, 3)), ("CircularPad1d", (1,), {}, (1, 2, 4)), ("CircularPad2d", (1,), {}, (1, 2, 4, 4)),
    ("CircularPad3d", (1,), {}, (1, 2, 2, 3, 3)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), MODULES)
def test_modules(name, args, options, shape):
    theirs, ours = getattr(torch.nn, name)(*args, **options), getattr(nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        close(ours(rushlight.tensor(x)), theirs(torch.tensor(x)), 1e-5, 1e-6)
