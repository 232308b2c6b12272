"""Boxes, regions and blocks: against loops over pixels and pairs in plain Python, and what torchvision's documentation says."""

import math

import numpy as np
import pytest

import rushlight as torch
from rushlight import nn
from rushlight.vision import ops

BOXES = np.array([[0., 0., 10., 10.], [1., 1., 10., 12.], [0., 0., 10., 10.], [20., 20., 31., 30.], [5., 5., 15., 15.], [2., 3., 4., 9.]])


def random_boxes(n, seed):
    corners = np.random.default_rng(seed).uniform(0, 50, (n, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1) + 1], 1).astype(np.float32)


def overlap(a, b):
    """(intersection, union, area of the box around both, squared distance of centres, squared diagonal)."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(wide, 0) * max(high, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    w, h = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    centre = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    return inter, union, w * h, centre, w * w + h * h


def table(measure, a, b):
    return np.array([[measure(x, y) for y in b] for x in a])


def iou(a, b):
    inter, union, *_ = overlap(a, b)
    return inter / union


def giou(a, b):
    inter, union, hull, *_ = overlap(a, b)
    return inter / union - (hull - union) / hull


def diou(a, b):
    inter, union, _, centre, diagonal = overlap(a, b)
    return inter / union - centre / diagonal


def ciou(a, b):
    v = 4 / math.pi ** 2 * (math.atan((a[2] - a[0]) / (a[3] - a[1])) - math.atan((b[2] - b[0]) / (b[3] - b[1]))) ** 2
    return diou(a, b) - v * v / (1 - iou(a, b) + v + 1e-7)


@pytest.mark.parametrize(("function", "measure"), [(ops.box_iou, iou), (ops.generalized_box_iou, giou), (ops.distance_box_iou, diou),
                                                   (ops.complete_box_iou, ciou)])
def test_overlaps(function, measure):
    a, b = random_boxes(7, 0).astype(np.float64), np.concatenate([random_boxes(5, 1), BOXES]).astype(np.float64)
    np.testing.assert_allclose(function(torch.tensor(a), torch.tensor(b)).numpy(), table(measure, a, b), atol=1e-6)


@pytest.mark.parametrize(("loss", "measure"), [(ops.generalized_box_iou_loss, giou), (ops.distance_box_iou_loss, diou),
                                               (ops.complete_box_iou_loss, ciou)])
def test_losses_of_pairs(loss, measure):
    a, b = random_boxes(6, 2).astype(np.float64), random_boxes(6, 3).astype(np.float64)
    expected = np.array([1 - measure(x, y) for x, y in zip(a, b)])
    x = torch.tensor(a, requires_grad=True)
    np.testing.assert_allclose(loss(x, torch.tensor(b)).detach().numpy(), expected, atol=1e-5)
    assert loss(x, torch.tensor(b), reduction="mean").item() == pytest.approx(expected.mean(), abs=1e-5)
    loss(x, torch.tensor(b), reduction="sum").backward()
    assert torch.isfinite(x.grad).all()
    with pytest.raises(ValueError, match="reduction"):
        loss(x, torch.tensor(b), reduction="all")


def suppressed(boxes, scores, threshold, groups=None):
    left, found = sorted(range(len(boxes)), key=lambda k: -scores[k]), []
    while left:
        one = left.pop(0)
        found.append(one)
        left = [k for k in left if not iou(boxes[one], boxes[k]) > threshold or groups is not None and groups[k] != groups[one]]
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_nms(threshold):
    boxes, rng = np.concatenate([random_boxes(60, 4), BOXES.astype(np.float32)]), np.random.default_rng(5)
    scores, groups = rng.permutation(len(boxes)).astype(np.float32), rng.integers(0, 3, len(boxes))
    kept = ops.nms(torch.tensor(boxes), torch.tensor(scores), threshold)
    assert kept.dtype is torch.int64
    assert kept.tolist() == suppressed(boxes, scores, threshold)
    kept = ops.batched_nms(torch.tensor(boxes), torch.tensor(scores), torch.tensor(groups), threshold)
    assert kept.tolist() == suppressed(boxes, scores, threshold, groups)


def test_nms_of_nothing_and_of_shapes_that_do_not_fit():
    assert ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)
    with pytest.raises(RuntimeError, match=r"\(N, 4\)"):
        ops.nms(torch.zeros(3, 5), torch.zeros(3), 0.5)
    with pytest.raises(RuntimeError, match="same number"):
        ops.nms(torch.zeros(3, 4), torch.zeros(2), 0.5)


def test_formats():
    boxes = torch.tensor(random_boxes(5, 6))
    assert ops.box_convert(torch.tensor([[1., 2., 5., 10.]]), "xyxy", "xywh").tolist() == [[1, 2, 4, 8]]
    assert ops.box_convert(torch.tensor([[1., 2., 5., 10.]]), "xyxy", "cxcywh").tolist() == [[3, 6, 4, 8]]
    for there in ("xywh", "cxcywh"):
        torch.testing.assert_close(ops.box_convert(ops.box_convert(boxes, "xyxy", there), there, "xyxy"), boxes)
    with pytest.raises(ValueError, match="Unsupported"):
        ops.box_convert(boxes, "xyxy", "yxyx")


def test_areas_edges_and_masks():
    boxes = torch.tensor(BOXES)
    assert ops.box_area(boxes).tolist() == [100, 99, 100, 110, 100, 12]
    assert ops.clip_boxes_to_image(torch.tensor([[-1., 2., 12., 40.]]), (20, 10)).tolist() == [[0, 2, 10, 20]]
    assert ops.remove_small_boxes(boxes, 3).tolist() == [0, 1, 2, 3, 4]
    masks = torch.zeros(2, 6, 7, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    masks[1, 5, 0] = True
    assert ops.masks_to_boxes(masks).tolist() == [[2, 1, 5, 2], [0, 5, 0, 5]]
    assert ops.masks_to_boxes(torch.zeros(0, 3, 3)).shape == (0, 4)


# -- regions ------------------------------------------------------------------------------------------------------

REGIONS = np.array([[0, 1., 2., 7., 8.], [1, -3., -2., 4.5, 3.2], [0, 5., 5., 30., 20.], [1, 2., 2., 2., 2.], [0, 8., 6., 3., 2.],
                    [1, 0., 0., 22., 18.]])
MAPS = np.random.default_rng(0).normal(size=(2, 3, 9, 11))


def bilinear(f, y, x):
    height, width = f.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    low, left = int(y), int(x)
    high, right = min(low + 1, height - 1), min(left + 1, width - 1)
    a, b = y - low, x - left
    return (1 - a) * ((1 - b) * f[low, left] + b * f[low, right]) + a * ((1 - b) * f[high, left] + b * f[high, right])


def aligned_regions(size, scale, ratio, aligned):
    (h, w), out = size, np.zeros((len(REGIONS), MAPS.shape[1], *size))
    for k, (n, *corners) in enumerate(REGIONS):
        x1, y1, x2, y2 = np.array(corners) * scale - (0.5 if aligned else 0)
        wide, high = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        ny, nx = (ratio, ratio) if ratio > 0 else (math.ceil(high / h), math.ceil(wide / w))
        for c, p, q in np.ndindex(out.shape[1:]):
            total = sum(bilinear(MAPS[int(n), c], y1 + p * (high / h) + (i + 0.5) * (high / h) / ny,
                                 x1 + q * (wide / w) + (j + 0.5) * (wide / w) / nx)
                        for i in range(ny) for j in range(nx))
            out[k, c, p, q] = total / max(ny * nx, 1)
    return out


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize(("size", "scale"), [((3, 3), 1.0), ((2, 4), 0.5)])
def test_roi_align(size, scale, ratio, aligned):
    out = ops.roi_align(torch.tensor(MAPS), torch.tensor(REGIONS), size, scale, ratio, aligned)
    np.testing.assert_allclose(out.numpy(), aligned_regions(size, scale, ratio, aligned), atol=1e-12)


@pytest.mark.parametrize(("size", "scale"), [((3, 3), 1.0), ((2, 4), 0.5)])
def test_roi_pool(size, scale):
    expected = np.zeros((len(REGIONS), 3, *size))
    for k, (n, *corners) in enumerate(REGIONS):
        x1, y1, x2, y2 = (int(math.copysign(math.floor(abs(v * scale) + 0.5), v)) for v in corners)
        cuts = [[(min(max(math.floor(p * extent / bins) + start, 0), most), min(max(math.ceil((p + 1) * extent / bins) + start, 0), most))
                 for p in range(bins)] for start, extent, bins, most in (
            (y1, max(y2 - y1 + 1, 1), size[0], 9), (x1, max(x2 - x1 + 1, 1), size[1], 11))]
        for p, q in np.ndindex(*size):
            part = MAPS[int(n), :, slice(*cuts[0][p]), slice(*cuts[1][q])]
            expected[k, :, p, q] = part.max((1, 2)) if part.size else 0
    np.testing.assert_array_equal(ops.roi_pool(torch.tensor(MAPS), torch.tensor(REGIONS), size, scale).numpy(), expected)


def test_regions_have_gradients_and_come_as_lists():
    x = torch.tensor(MAPS[:, :1, :5, :5], requires_grad=True)
    regions = torch.tensor(REGIONS[:3])
    assert torch.autograd.gradcheck(lambda x: ops.roi_align(x, regions, 2, 1.0, 2, True), x)
    assert torch.autograd.gradcheck(lambda x: ops.roi_pool(x, regions, 2), x)
    lists = [regions[regions[:, 0] == k][:, 1:] for k in range(2)]
    torch.testing.assert_close(ops.RoIAlign(2, 1.0, -1)(x, lists), ops.roi_align(x, regions[[0, 2, 1]], 2))
    assert ops.RoIPool(2, 1.0)(x, [regions[:0, 1:]] * 2).shape == (0, 1, 2, 2)
    with pytest.raises(ValueError, match=r"\(K, 5\)"):
        ops.roi_align(x, torch.zeros(2, 4), 2)


# -- losses and blocks --------------------------------------------------------------------------------------------


def test_focal_loss():
    x, y = torch.tensor([0.5, -1.0, 2.0, 0.0]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    p = 1 / (1 + np.exp(-x.numpy()))
    told = np.where(y.numpy() == 1, p, 1 - p)
    expected = -np.log(told) * (1 - told) ** 2
    np.testing.assert_allclose(ops.sigmoid_focal_loss(x, y, alpha=-1).numpy(), expected, rtol=1e-5)
    weighted = expected * np.where(y.numpy() == 1, 0.25, 0.75)
    assert ops.sigmoid_focal_loss(x, y, reduction="mean").item() == pytest.approx(weighted.mean(), rel=1e-5)
    with pytest.raises(ValueError, match="alpha"):
        ops.sigmoid_focal_loss(x, y, alpha=2)


def test_stochastic_depth():
    torch.manual_seed(0)
    x = torch.ones(100, 3)
    rows = ops.stochastic_depth(x, 0.25, "row")
    assert set(rows.flatten().tolist()) == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert (rows[:, :1] == rows).all()
    assert set(ops.stochastic_depth(x, 0.5, "batch").flatten().tolist()) in ({0.0}, {2.0})
    assert ops.StochasticDepth(0.5, "row").eval()(x) is x
    assert (ops.stochastic_depth(x, 1.0, "row") == 0).all()
    with pytest.raises(ValueError, match="mode"):
        ops.stochastic_depth(x, 0.5, "column")


def test_blocks_have_torchvisions_names():
    assert list(ops.Conv2dNormActivation(3, 4).state_dict())[:2] == ["0.weight", "1.weight"]
    assert list(ops.Conv2dNormActivation(3, 4, norm_layer=None).state_dict()) == ["0.weight", "0.bias"]
    assert ops.Conv2dNormActivation(3, 4, (3, 5), dilation=2)[0].padding == (2, 4)
    assert list(ops.SqueezeExcitation(8, 2).state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    mlp = ops.MLP(4, [8, 3], norm_layer=nn.LayerNorm, dropout=0.1)
    assert [type(m).__name__ for m in mlp] == ["Linear", "LayerNorm", "ReLU", "Dropout", "Linear", "Dropout"]
    assert mlp(torch.rand(5, 4)).shape == (5, 3)
    assert ops.Permute([0, 2, 3, 1])(torch.zeros(1, 2, 3, 4)).shape == (1, 3, 4, 2)


def test_a_frozen_norm_is_that_of_evaluation():
    norm = nn.BatchNorm2d(3)
    norm(torch.rand(4, 3, 5, 5) * 3 + 1)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    frozen = ops.FrozenBatchNorm2d(3)
    frozen.load_state_dict(norm.state_dict())
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(frozen(x), norm.eval()(x))
    assert not list(frozen.parameters())


def test_a_feature_pyramid():
    pyramid = ops.FeaturePyramidNetwork([4, 8], 5, ops.LastLevelMaxPool())
    assert list(pyramid.state_dict())[:2] == ["inner_blocks.0.0.weight", "inner_blocks.0.0.bias"]
    out = pyramid({"fine": torch.rand(1, 4, 8, 8), "coarse": torch.rand(1, 8, 4, 4)})
    assert {name: tuple(x.shape) for name, x in out.items()} == {"fine": (1, 5, 8, 8), "coarse": (1, 5, 4, 4), "pool": (1, 5, 2, 2)}
