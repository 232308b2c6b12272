"""Normalisation against PyTorch: values, gradients, second derivatives, running statistics, modules, errors."""
from __future__ import annotations

import numpy as np
import pytest

import rushlight
import rushlight.nn.functional as F
from rushlight import nn

from .compare import close, same, same_error, torch

TF = torch.nn.functional


def statistics(n: int) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(5)
    return r.standard_normal(n), r.random(n) + 0.5


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 4), (2, 3, 2, 2, 2)])
def test_batch_norm(shape, training, affine):
    mean, var = statistics(3)
    theirs, ours = (torch.tensor(mean), torch.tensor(var)), (rushlight.tensor(mean), rushlight.tensor(var))
    extra = [(3,), (3,)] if affine else []
    same(lambda x, *wb: TF.batch_norm(x, *theirs, *(wb or (None, None)), training=training, momentum=0.3),
         lambda x, *wb: F.batch_norm(x, *ours, *(wb or (None, None)), training=training, momentum=0.3), shape, *extra, second=True)
    for a, b in zip(ours, theirs):
        close(a, b)


def test_batch_norm_without_running_statistics():
    same(lambda x: TF.batch_norm(x, None, None, training=True), lambda x: F.batch_norm(x, None, None, training=True), (4, 3, 5))


def test_weight_or_bias_alone():
    for name in ("weight", "bias"):
        same(lambda x, p, k=name: TF.layer_norm(x, (4,), **{k: p}), lambda x, p, k=name: F.layer_norm(x, (4,), **{k: p}), (3, 4), (4,))
    same(lambda x, p: TF.group_norm(x, 2, p), lambda x, p: F.group_norm(x, 2, p), (3, 4, 2), (4,))


@pytest.mark.parametrize("which", [(True, False, False), (False, True, False), (False, False, True), (False, True, True)])
def test_gradients_of_some_inputs(which):
    """Only some of input, weight and bias want a gradient."""
    r = np.random.default_rng(0)
    x, w, b = r.standard_normal((4, 6, 5)), r.standard_normal(6), r.standard_normal(6)
    for call in (lambda f, t: f.group_norm(t[0], 3, t[1], t[2]), lambda f, t: f.batch_norm(t[0], None, None, t[1], t[2], True),
                 lambda f, t: f.layer_norm(t[0].transpose(1, 2), (6,), t[1], t[2])):
        theirs = [torch.tensor(v, requires_grad=g) for v, g in zip((x, w, b), which)]
        ours = [rushlight.tensor(v, requires_grad=g) for v, g in zip((x, w, b), which)]
        (call(TF, theirs) ** 2).sum().backward()
        (call(F, ours) ** 2).sum().backward()
        for mine, other, g in zip(ours, theirs, which):
            assert (mine.grad is not None) == g
            if g:
                close(mine.grad, other.grad, 1e-6, 1e-8)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracking", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_instance_norm(own, tracking, affine):
    if not own and not tracking:
        same_error(lambda: TF.instance_norm(torch.ones(2, 3, 4), use_input_stats=False),
                   lambda: F.instance_norm(rushlight.ones(2, 3, 4), use_input_stats=False))
        return
    mean, var = statistics(3)
    theirs, ours = (torch.tensor(mean), torch.tensor(var)), (rushlight.tensor(mean), rushlight.tensor(var))
    extra = [(3,), (3,)] if affine else []
    same(lambda x, *wb: TF.instance_norm(x, *(theirs if tracking else (None, None)), *wb, use_input_stats=own) if wb else
         TF.instance_norm(x, *(theirs if tracking else (None, None)), use_input_stats=own),
         lambda x, *wb: F.instance_norm(x, *(ours if tracking else (None, None)), *wb, use_input_stats=own) if wb else
         F.instance_norm(x, *(ours if tracking else (None, None)), use_input_stats=own), (4, 3, 5, 2), *extra, second=True)
    for a, b in zip(ours, theirs):
        close(a, b)


@pytest.mark.parametrize("affine", [True, False])
def test_group_layer_and_rms_norm(affine):
    channels, tail = ([(6,), (6,)], [(5, 4), (5, 4)]) if affine else ([], [])
    for groups in (1, 2, 6):
        same(lambda x, *wb, g=groups: TF.group_norm(x, g, *wb), lambda x, *wb, g=groups: F.group_norm(x, g, *wb), (4, 6, 5, 4), *channels,
             second=True)
    same(lambda x, *wb: TF.layer_norm(x, (5, 4), *wb), lambda x, *wb: F.layer_norm(x, (5, 4), *wb), (3, 2, 5, 4), *tail, second=True)
    same(lambda x, *w: TF.rms_norm(x, (5, 4), *w), lambda x, *w: F.rms_norm(x, (5, 4), *w), (3, 2, 5, 4), *tail[:1], second=True)
    same(lambda x: TF.layer_norm(x, (4,)), lambda x: F.layer_norm(x, (4,)), (0, 4))


def test_half_precision_computes_in_single():
    x = (np.random.default_rng(0).standard_normal((4, 300)) + 50).astype(np.float32)
    for name in ("float16", "bfloat16"):
        a = TF.layer_norm(torch.tensor(x).to(getattr(torch, name)), (300,)).float()
        b = F.layer_norm(rushlight.tensor(x).to(getattr(rushlight, name)), (300,))
        assert b.dtype is getattr(rushlight, name)
        close(b.float(), a, 2e-2, 2e-2)


def test_local_response_norm_and_normalize():
    for size in (2, 3):
        for shape in ((2, 6, 5), (2, 6, 5, 4)):
            same(lambda x, s=size: TF.local_response_norm(x, s, alpha=1.0), lambda x, s=size: F.local_response_norm(x, s, alpha=1.0), shape)
    for p in (1.0, 2.0, 3.0):
        same(lambda x, p=p: TF.normalize(x, p, dim=1), lambda x, p=p: F.normalize(x, p, dim=1), (4, 5))


ERRORS = [
    lambda m, f: f.batch_norm(m.zeros(1, 3), None, None, training=True),
    lambda m, f: f.batch_norm(m.zeros(2, 3), None, None),
    lambda m, f: f.batch_norm(m.zeros(2, 3), m.zeros(4), m.ones(4)),
    lambda m, f: f.batch_norm(m.zeros(2, 3), m.zeros(3), m.ones(3), m.ones(2)),
    lambda m, f: f.layer_norm(m.zeros(2, 3), (4,)),
    lambda m, f: f.layer_norm(m.zeros(2, 3), (3,), m.ones(2)),
    lambda m, f: f.layer_norm(m.zeros(2, 3), ()),
    lambda m, f: f.group_norm(m.zeros(2, 3), 2),
    lambda m, f: f.group_norm(m.zeros(3), 1),
    lambda m, f: f.group_norm(m.zeros(1, 3), 3),
    lambda m, f: f.group_norm(m.zeros(2, 4), 2, m.ones(3)),
    lambda m, f: f.instance_norm(m.zeros(2, 3, 1)),
    lambda m, f: f.local_response_norm(m.zeros(2, 3), 2),
    lambda m, f: m.nn.BatchNorm2d(3)(m.zeros(2, 3)),
    lambda m, f: m.nn.InstanceNorm1d(3)(m.zeros(2, 3, 4, 5)),
    lambda m, f: m.nn.InstanceNorm1d(3, affine=True)(m.zeros(2, 4, 5)),
    lambda m, f: m.nn.GroupNorm(2, 3),
]


@pytest.mark.parametrize("call", ERRORS)
def test_errors(call):
    same_error(lambda: call(torch, TF), lambda: call(rushlight, F))


MODULES = [
    ("BatchNorm1d", (3,), {}, (4, 3)), ("BatchNorm1d", (3,), {"momentum": None}, (4, 3, 5)), ("BatchNorm2d", (3,), {}, (4, 3, 5, 4)),
    ("BatchNorm2d", (3,), {"affine": False, "track_running_stats": False}, (4, 3, 5, 4)),
    ("BatchNorm3d", (3,), {"bias": False}, (2, 3, 3, 4, 2)),
    ("InstanceNorm1d", (3,), {}, (4, 3, 5)), ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, (4, 3, 5, 4)),
    ("InstanceNorm2d", (3,), {"affine": True}, (3, 5, 4)), ("InstanceNorm3d", (3,), {}, (2, 3, 3, 4, 2)),
    ("LayerNorm", (4,), {}, (2, 3, 4)), ("LayerNorm", ((3, 4),), {"bias": False}, (2, 3, 4)),
    ("LayerNorm", (4,), {"elementwise_affine": False}, (2, 3, 4)), ("RMSNorm", (4,), {}, (2, 3, 4)), ("GroupNorm", (2, 4), {}, (2, 4, 5)),
    ("GroupNorm", (2, 4), {"affine": False}, (2, 4, 5)), ("LocalResponseNorm", (2,), {}, (2, 4, 5, 5)),
    ("CrossMapLRN2d", (3,), {"alpha": 1.0}, (2, 7, 3, 3)), ("CrossMapLRN2d", (4,), {"alpha": 1.0}, (2, 7, 3, 3)),
    ("CrossMapLRN2d", (5,), {"alpha": 1.0}, (2, 2, 3, 3)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), MODULES)
def test_modules(name, args, options, shape):
    """Printed form, state and output agree over training steps and in evaluation."""
    theirs, ours = getattr(torch.nn, name)(*args, **options), getattr(nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    r = np.random.default_rng(0)
    for training in (True, True, True, False):
        theirs.train(training)
        ours.train(training)
        x = r.standard_normal(shape).astype(np.float32)
        close(ours(rushlight.tensor(x)), theirs(torch.tensor(x)), 1e-4, 1e-5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert ours.state_dict()[key].dtype.name == str(value.dtype).removeprefix("torch.")
        close(ours.state_dict()[key], value, 1e-5, 1e-6)


def test_an_in_place_activation_after_batch_norm_is_allowed():
    """The gradient needs the input of the normalisation, not its result."""
    x = rushlight.randn(4, 3, 2, requires_grad=True)
    y = F.batch_norm(x, None, None, training=True)
    y.relu_()
    y.sum().backward()
    assert x.grad.shape == x.shape


def test_running_statistics_reset():
    layer = nn.BatchNorm1d(2)
    layer(rushlight.randn(5, 2))
    assert layer.num_batches_tracked.item() == 1
    layer.reset_running_stats()
    assert layer.num_batches_tracked.item() == 0 and layer.running_mean.abs().sum().item() == 0


def test_conversion_to_sync_batch_norm_shares_the_tensors():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3)))
    made = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(made[0], nn.SyncBatchNorm) and isinstance(made[1][0], nn.SyncBatchNorm)
    assert made[0](rushlight.randn(4, 3)).shape == (4, 3)
