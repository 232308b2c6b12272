"""The compiled forms of layers at sizes with odd ends, in float32, against PyTorch in float64; and that repeated steps compile nothing."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight
import rushlight.nn.functional as F
from rushlight import nn
from rushlight.compile.counters import counters

from .compare import torch

TF = torch.nn.functional

CASES = {
    "batch_norm": (lambda f, x, w, b: f.batch_norm(x, None, None, w, b, True), [(16, 24, 15, 17), (24, ), (24, )]),
    "group_norm": (lambda f, x, w, b: f.group_norm(x, 6, w, b), [(8, 24, 15, 17), (24, ), (24, )]),
    "instance_norm": (lambda f, x, w, b: f.instance_norm(x, None, None, w, b), [(8, 24, 15, 17), (24, ), (24, )]),
    "layer_norm": (lambda f, x, w, b: f.layer_norm(x, (257, ), w, b), [(65, 257), (257, ), (257, )]),
    "layer_norm_over_images": (lambda f, x: f.layer_norm(x, (24, 15, 17)), [(8, 24, 15, 17)]),
    "rms_norm": (lambda f, x, w: f.rms_norm(x, (257, ), w), [(65, 257), (257, )]),
    "max_pool": (lambda f, x: f.max_pool2d(x, 2), [(8, 24, 31, 33)]),
    "max_pool_overlapping": (lambda f, x: f.max_pool2d(x, 3, 2, 1), [(8, 24, 31, 33)]),
    "max_pool_positions": (lambda f, x: f.max_pool2d(x, 3, 2, 1, 1, True, True)[0], [(8, 24, 30, 33)]),
    "max_pool_many_windows": (lambda f, x: f.max_pool2d(x, 5, 1, 2), [(8, 24, 30, 33)]),
    "max_pool_dilated": (lambda f, x: f.max_pool2d(x, 3, 2, 0, 2), [(8, 24, 30, 33)]),
    "avg_pool_overlapping": (lambda f, x: f.avg_pool2d(x, 3, 2, 1, False, False), [(8, 24, 31, 33)]),
    "avg_pool_ceil": (lambda f, x: f.avg_pool2d(x, (2, 3), ceil_mode=True), [(8, 24, 31, 33)]),
    "adaptive_avg": (lambda f, x: f.adaptive_avg_pool2d(x, (7, 5)), [(8, 24, 31, 33)]),
    "adaptive_max": (lambda f, x: f.adaptive_max_pool2d(x, (7, 5)), [(8, 24, 31, 33)]),
    "conv_strided": (lambda f, x, w, b: f.conv2d(x, w, b, 2, 1), [(8, 24, 31, 33), (40, 24, 3, 3), (40, )]),
    "conv_dilated_groups": (lambda f, x, w, b: f.conv2d(x, w, b, 1, 2, 2, 4), [(8, 24, 31, 33), (40, 6, 3, 3), (40, )]),
    "conv_depthwise": (lambda f, x, w, b: f.conv2d(x, w, b, 1, 1, 1, 24), [(8, 24, 31, 33), (24, 1, 3, 3), (24, )]),
    "conv1d": (lambda f, x, w, b: f.conv1d(x, w, b, 2, 3), [(8, 24, 301), (40, 24, 7), (40, )]),
    "conv3d": (lambda f, x, w, b: f.conv3d(x, w, b, 1, 1), [(2, 8, 9, 11, 13), (16, 8, 3, 3, 3), (16, )]),
    "transposed": (lambda f, x, w, b: f.conv_transpose2d(x, w, b, 2, 1, 1), [(8, 24, 15, 17), (24, 40, 3, 3), (40, )]),
    "transposed_groups": (lambda f, x, w, b: f.conv_transpose2d(x, w, b, 3, 1, 2, 4, 2), [(8, 24, 15, 17), (24, 10, 3, 3), (40, )]),
    "bilinear": (lambda f, x: f.interpolate(x, scale_factor=2, mode='bilinear'), [(4, 8, 31, 33)]),
    "bicubic": (lambda f, x: f.interpolate(x, size=(20, 70), mode='bicubic'), [(4, 8, 31, 33)]),
    "nearest": (lambda f, x: f.interpolate(x, size=(20, 70)), [(4, 8, 31, 33)]),
    "reflect": (lambda f, x: f.pad(x, (3, 2, 1, 4), 'reflect'), [(4, 8, 31, 33)]),
    "unfold": (lambda f, x: f.unfold(x, 3, 1, 1, 2), [(4, 8, 31, 33)]),
    "fold": (lambda f, x: f.fold(x, (31, 33), 3, 1, 1, 1), [(4, 72, 1023)]),
    "grid_sample": (lambda f, x, g: f.grid_sample(x, g*.5, align_corners=False), [(4, 8, 31, 33), (4, 20, 20, 2)]),
    "local_response": (lambda f, x: f.local_response_norm(x, 5, 1.), [(4, 16, 15, 17)]),
}


@pytest.mark.parametrize("name", CASES)
def test_compiled(name):
    call, shapes = CASES[name]
    for repeat in range(2):  # the second time the path is compiled for sure
        r = np.random.default_rng(repeat)
        given = [r.standard_normal(s).astype(np.float32) for s in shapes]
        ours = [rushlight.tensor(a, requires_grad=True) for a in given]
        theirs = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in given]
        y, want = call(F, *ours), call(TF, *theirs)
        g = r.standard_normal(tuple(want.shape)).astype(np.float32)
        y.backward(rushlight.tensor(g))
        want.backward(torch.tensor(g, dtype=torch.float64))
        for a, b in zip([y, *(t.grad for t in ours)], [want, *(t.grad for t in theirs)]):
            scale = max(1e-9, float(b.detach().abs().max()))
            assert np.abs(a.detach().numpy() - b.detach().numpy()).max() < 3e-5 * scale


STEPS = {
    "batch_norm": lambda: nn.BatchNorm2d(8),
    "batch_norm_mean_of_all": lambda: nn.BatchNorm2d(8, momentum=None),
    "instance_norm": lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    "max_pool": lambda: nn.MaxPool2d(3, 2, 1),
    "same_padding": lambda: nn.Conv2d(8, 4, 3, padding="same"),
    "upsample": lambda: nn.Upsample(scale_factor=1.7, mode="bilinear"),
    "block": lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)),
}


@pytest.mark.parametrize("name", STEPS)
def test_repeated_steps_build_no_program(name):
    layer, programs = STEPS[name](), []
    for _ in range(6):
        x = rushlight.randn(4, 8, 6, 6, requires_grad=True)
        for p in layer.parameters():
            p.grad = None
        layer(x).pow(2).sum().backward()
        assert x.grad.isfinite().all().item()
        programs.append(counters.programs)
    assert programs[3] == programs[-1]
