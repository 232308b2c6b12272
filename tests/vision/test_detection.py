"""Detectors: torchvision's parameters and losses from the same seed, and their parts against loops and what is said of them."""

import math
import zlib

import numpy as np
import pytest

import rushlight as torch
from rushlight.nn import BatchNorm2d
from rushlight.vision import ops
from rushlight.vision.models import detection
from rushlight.vision.models.detection import _utils, backbone_utils, faster_rcnn, mask_rcnn, roi_heads, rpn, transform
from rushlight.vision.models.detection.anchor_utils import AnchorGenerator
from rushlight.vision.models.detection.image_list import ImageList


@pytest.mark.parametrize(("make", "keys", "values"), [
    (detection.fasterrcnn_mobilenet_v3_large_320_fpn, 720203286, 1959446086)])
def test_torchvisions_parameters(make, keys, values):
    torch.manual_seed(0)  # checksums of what torchvision 0.28 makes
    net = make(weights=None, weights_backbone=None, num_classes=3)
    assert zlib.crc32(" ".join(net.state_dict()).encode()) == keys
    assert zlib.crc32(b"".join(p.detach().numpy().tobytes() for p in net.parameters())) == values


def small(kind=detection.MaskRCNN, **more):
    torch.manual_seed(0)
    predictors = {"box_predictor": faster_rcnn.FastRCNNPredictor(16, 3)}
    parts = {"box_roi_pool": ops.MultiScaleRoIAlign(["0"], 3, 2)}
    if kind is detection.MaskRCNN:
        predictors["mask_predictor"] = mask_rcnn.MaskRCNNPredictor(8, 8, 3)
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 8, 1), torch.nn.ReLU())
    backbone.out_channels = 8
    parts["box_head"] = faster_rcnn.TwoMLPHead(72, 16)
    if kind is detection.MaskRCNN:
        parts |= {"mask_roi_pool": ops.MultiScaleRoIAlign(["0"], 4, 2), "mask_head": mask_rcnn.MaskRCNNHeads(8, (8,), 1)}
    return kind(backbone, **{"min_size": 32, "rpn_anchor_generator": rpn.AnchorGenerator(((8, 16),), ((1.0,),)),
                             "rpn_post_nms_top_n_train": 10, "rpn_post_nms_top_n_test": 10, "box_batch_size_per_image": 8,
                             **predictors, **parts, **more})


def example():
    g = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 32, 40, generator=g), torch.rand(3, 36, 32, generator=g)]
    masks = [torch.zeros(2, 32, 40, dtype=torch.uint8), torch.zeros(1, 36, 32, dtype=torch.uint8)]
    masks[0][0, 4:20, 4:20] = 1
    masks[0][1, 10:30, 20:36] = 1
    masks[1][0, 2:28, 6:30] = 1
    boxes = [torch.tensor([[4., 4., 20., 20.], [20., 10., 36., 30.]]), torch.tensor([[6., 2., 30., 28.]])]
    labels = [torch.tensor([1, 2]), torch.tensor([1])]
    return images, [{"boxes": b, "labels": n, "masks": m} for b, n, m in zip(boxes, labels, masks)]


def test_torchvisions_losses_and_detections():
    net, (images, targets) = small(), example()
    before = [{name: value.clone() for name, value in target.items()} for target in targets]
    torch.manual_seed(2)
    losses = net(images, targets)
    # What torchvision 0.28 computes for the same network, images and seeds.
    expected = {"loss_classifier": 1.2250689, "loss_box_reg": 0.05359236, "loss_mask": 0.6454088, "loss_objectness": 0.6932302,
                "loss_rpn_box_reg": 0.01829875}
    assert list(losses) == list(expected)
    np.testing.assert_allclose([loss.item() for loss in losses.values()], list(expected.values()), 1e-5)
    sum(losses.values()).backward()
    assert sum(p.grad.abs().sum().item() for p in net.parameters()) == pytest.approx(12.834659, rel=1e-5)
    assert all((old[name] == new[name]).all() for old, new in zip(before, targets) for name in old)  # the program's own stay
    net.eval()
    net.roi_heads.score_thresh = 0.0
    with torch.no_grad():
        detections = net(images)
    for found, image, sums in zip(detections, images, ((7.17372, 1393.4497, 30, 1310.2256), (7.178306, 1216.844, 30, 1128.83))):
        height, width = image.shape[1:]
        assert found["boxes"].shape == (20, 4) and found["masks"].shape == (20, 1, height, width)
        np.testing.assert_allclose([found[name].sum().item() for name in ("scores", "boxes", "labels", "masks")], sums, 1e-5)
        assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)


def test_targets_that_do_not_fit():
    net, (images, targets) = small(), example()
    with pytest.raises(AssertionError, match="targets should not be none when in training mode"):
        net(images)
    with pytest.raises(AssertionError, match=r"tensor of shape \[N, 4\], got torch.Size\(\[4\]\)"):
        net(images, [{**targets[0], "boxes": torch.ones(4)}, targets[1]])
    with pytest.raises(AssertionError, match="Found invalid box .* for target at index 1"):
        net(images, [targets[0], {**targets[1], "boxes": torch.tensor([[5., 5., 5., 9.]])}])
    with pytest.raises(TypeError, match="floating type"):
        net([(image * 255).byte() for image in images], targets)
    with pytest.raises(ValueError, match="should have a masks key"):
        net(images, [{name: target[name] for name in ("boxes", "labels")} for target in targets])
    with pytest.raises(ValueError, match="out_channels"):
        detection.FasterRCNN(torch.nn.Identity(), 2)
    for both in ({"num_classes": 2}, {"box_predictor": None}):
        with pytest.raises(ValueError, match="num_classes should"):
            small(detection.FasterRCNN, **both)
    with pytest.raises(TypeError, match="rpn_anchor_generator"):
        small(detection.FasterRCNN, rpn_anchor_generator=torch.nn.Identity())


def test_an_image_without_objects_trains():
    net, (images, _) = small(detection.FasterRCNN), example()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = net(images, [nothing, nothing])
    assert losses["loss_box_reg"].item() == 0 and losses["loss_rpn_box_reg"].item() == 0
    assert losses["loss_classifier"].item() > 0


def test_boxes_as_offsets_and_back():
    g = np.random.default_rng(0)
    low = g.uniform(0, 50, (2, 6, 2))
    boxes, others = (torch.tensor(np.concatenate([x, x + g.uniform(5, 40, (6, 2))], 1), dtype=torch.float32) for x in low)
    coder = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    offsets = coder.encode_single(boxes, others)
    x, y, w, h = (others[0, 0] + others[0, 2]) / 2, (others[0, 1] + others[0, 3]) / 2, *(others[0, 2:] - others[0, :2])
    expected = [10 * ((boxes[0, 0] + boxes[0, 2]) / 2 - x) / w, 10 * ((boxes[0, 1] + boxes[0, 3]) / 2 - y) / h,
                5 * ((boxes[0, 2] - boxes[0, 0]) / w).log(), 5 * ((boxes[0, 3] - boxes[0, 1]) / h).log()]
    torch.testing.assert_close(offsets[0], torch.stack(expected))
    torch.testing.assert_close(coder.decode_single(offsets, others), boxes, rtol=1e-4, atol=1e-3)
    assert coder.decode(offsets, [others[:2], others[2:]]).shape == (6, 1, 4)
    assert [len(part) for part in coder.encode([boxes[:2], boxes[2:]], [others[:2], others[2:]])] == [2, 4]
    huge = coder.decode_single(torch.tensor([[0.0, 0.0, 1000.0, 0.0]]), others[:1])
    torch.testing.assert_close(huge[0, 2] - huge[0, 0], w * 1000 / 16)


def test_which_boxes_belong_together():
    overlaps = torch.tensor([[0.9, 0.4, 0.1, 0.0, 0.2], [0.1, 0.45, 0.6, 0.0, 0.25]])
    assert _utils.Matcher(0.7, 0.3)(overlaps).tolist() == [0, -2, -2, -1, -1]
    assert _utils.Matcher(0.7, 0.3, True)(overlaps).tolist() == [0, -2, 1, -1, -1]
    for shape, what in (((0, 3), "ground-truth"), ((3, 0), "proposal")):
        with pytest.raises(ValueError, match=f"No {what} boxes available"):
            _utils.Matcher(0.7, 0.3)(torch.zeros(shape))
    with pytest.raises(AssertionError, match="low_threshold"):
        _utils.Matcher(0.3, 0.7)


def test_a_balanced_choice():
    labels = torch.tensor([1, 0, -1, 0, 2, 0, 0, 1])
    positive, negative = (masks[0] for masks in _utils.BalancedPositiveNegativeSampler(4, 0.5)([labels]))
    assert positive.dtype == torch.uint8 and positive.sum() == 2 and negative.sum() == 2
    assert (labels[positive.bool()] >= 1).all() and (labels[negative.bool()] == 0).all()
    few = _utils.BalancedPositiveNegativeSampler(6, 1.0)([torch.tensor([1, 0, 0])])
    assert few[0][0].tolist() == [1, 0, 0] and few[1][0].tolist() == [0, 1, 1]


def test_anchors_of_a_pyramid():
    make = AnchorGenerator((8, 16), (0.5, 2.0))
    assert make.num_anchors_per_location() == [2, 2]
    maps = [torch.zeros(2, 1, 4, 2), torch.zeros(2, 1, 2, 1)]
    first, second = make(ImageList(torch.zeros(2, 3, 32, 16), [(32, 16), (30, 10)]), maps)
    assert first.shape == (20, 4) and first is second
    cell = [[-6., -3., 6., 3.], [-3., -6., 3., 6.]]
    expected = [[x + dx, y + dy, X + dx, Y + dy] for dy in range(0, 32, 8) for dx in (0, 8) for x, y, X, Y in cell]
    assert first[:16].tolist() == expected
    with pytest.raises(AssertionError, match="1 feature maps, sizes and aspect ratios of 2"):
        make(ImageList(torch.zeros(1, 3, 8, 8), [(8, 8)]), maps[:1])


def test_every_region_is_read_from_its_map():
    maps = {str(k): torch.full((2, 3, 64 >> k, 64 >> k), float(k)) for k in range(3)}
    boxes = [torch.tensor([[0., 0., 30., 30.], [0., 0., 250., 250.]]), torch.tensor([[10., 10., 120., 130.], [0., 0., 60., 50.]])]
    pool = ops.MultiScaleRoIAlign(["0", "1", "2"], 2, 2)
    found = pool(maps, boxes, [(256, 256), (250, 200)])
    assert pool.scales == [1 / 4, 1 / 8, 1 / 16]
    levels = [min(max(math.floor(4 + math.log2(math.sqrt((x2 - x1) * (y2 - y1)) / 224) + 1e-6), 2), 4) - 2
              for each in boxes for x1, y1, x2, y2 in each.tolist()]
    assert found.shape == (4, 3, 2, 2) and found[:, 0, 0, 0].tolist() == levels == [0, 2, 1, 0]
    assert pool(maps, [torch.zeros(0, 4)] * 2, [(256, 256)]).shape == (0, 3, 2, 2)
    with pytest.raises(ValueError, match="images list should not be empty"):
        ops.MultiScaleRoIAlign(["0"], 2, 2)(maps, boxes, [])
    assert repr(pool) == "MultiScaleRoIAlign(featmap_names=['0', '1', '2'], output_size=(2, 2), sampling_ratio=2)"


def test_images_are_resized_and_batched():
    prepare = transform.GeneralizedRCNNTransform(16, 24, [0.5] * 3, [0.5] * 3).eval()
    images = [torch.ones(3, 8, 10), torch.zeros(3, 20, 40)]
    target = {"boxes": torch.tensor([[1., 2., 5., 8.]]), "masks": torch.ones(1, 8, 10, dtype=torch.uint8)}
    batch, targets = prepare(images, [target, {"boxes": torch.zeros(0, 4)}])
    assert batch.image_sizes == [(16, 20), (12, 24)] and batch.tensors.shape == (2, 3, 32, 32)
    assert (batch.tensors[0, :, :16, :20] == 1).all() and (batch.tensors[0, :, 16:] == 0).all()
    assert targets[0]["boxes"].tolist() == [[2., 4., 10., 16.]] and targets[0]["masks"].shape == (1, 16, 20)
    back = prepare.postprocess([{"boxes": targets[0]["boxes"]}], batch.image_sizes, [(8, 10)])
    assert back[0]["boxes"].tolist() == target["boxes"].tolist()
    fixed = transform.GeneralizedRCNNTransform(16, 24, [0.5] * 3, [0.5] * 3, fixed_size=(48, 32)).eval()
    assert fixed(images[:1])[0].image_sizes == [(32, 48)]
    with pytest.raises(ValueError, match="list of 3d tensors"):
        prepare([torch.zeros(8, 10)])


def test_masks_are_pasted_where_their_boxes_are():
    pasted = transform.paste_masks_in_image(torch.ones(2, 1, 4, 4), torch.tensor([[2., 3., 10., 9.], [-4., -4., 3., 3.]]), (12, 14))
    assert pasted.shape == (2, 1, 12, 14)
    assert (pasted[0, 0, 4:8, 4:9] == 1).all() and (pasted[0, 0, :2] == 0).all() and (pasted[0, 0, :, 12:] == 0).all()
    assert (pasted[1, 0, :2, :2] == 1).all() and (pasted[1, 0, 6:] == 0).all()
    assert transform.paste_masks_in_image(torch.zeros(0, 1, 4, 4), torch.zeros(0, 4), (5, 6)).shape == (0, 1, 5, 6)


def test_maps_in_the_order_of_anchors():
    x = torch.arange(2. * 6 * 2 * 3).reshape(2, 6, 2, 3)
    rows = rpn.by_anchor([x], 2)
    assert rows.shape == (2, 18, 2)
    assert rows[1, (1 * 3 + 2) * 3 + 1].tolist() == [x[1, 2, 1, 2].item(), x[1, 3, 1, 2].item()]


def test_a_mask_loss_without_objects_is_zero():
    logits = torch.ones(0, 3, 4, 4, requires_grad=True)
    loss = roi_heads.maskrcnn_loss(logits, [torch.zeros(0, 4)], [torch.zeros(0, 8, 8)], [torch.zeros(0, dtype=torch.int64)],
                                   [torch.zeros(0, dtype=torch.int64)])
    assert loss.item() == 0 and loss.requires_grad


def test_layers_of_a_backbone_that_train():
    def trains(count):
        net = backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=BatchNorm2d, trainable_layers=count)
        return {name.split(".")[0] for name, p in net.body.named_parameters() if p.requires_grad}
    assert trains(0) == set() and trains(2) == {"layer3", "layer4"}
    assert trains(5) == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    with pytest.raises(ValueError, match=r"range \[0,5\], got 6"):
        trains(6)
    with pytest.raises(ValueError, match=r"range \[1,4\]"):
        backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, returned_layers=[4, 5])
    with pytest.warns(UserWarning, match="falling back to trainable_backbone_layers=5"):
        assert backbone_utils.trained_layers(False, 2, 5, 3) == 5
    assert backbone_utils.trained_layers(True, None, 5, 3) == 3
    last = backbone_utils.mobilenet_backbone(backbone_name="mobilenet_v2", weights=None, fpn=False, norm_layer=BatchNorm2d)
    assert last.out_channels == 256
    assert [k for k, layer in enumerate(last[0]) if any(p.requires_grad for p in layer.parameters())] == [14, 15, 16, 17, 18]


def test_older_weights_of_a_head_fit():
    head = rpn.RPNHead(4, 2)
    state = {name.replace("conv.0.0", "conv"): value for name, value in head.state_dict().items()}
    assert "conv.weight" in state
    head.load_state_dict(state)
    masks = mask_rcnn.MaskRCNNHeads(4, (4, 4), 1)
    older = {f"mask_fcn{int(name[0]) + 1}.{name.rpartition('.')[2]}": value for name, value in masks.state_dict().items()}
    assert list(older)[:2] == ["mask_fcn1.weight", "mask_fcn1.bias"]
    masks.load_state_dict(older)
    with pytest.raises(ValueError, match="'num_classes' expected value 91 but got 2"):
        detection.maskrcnn_resnet50_fpn(weights="DEFAULT", num_classes=2)
