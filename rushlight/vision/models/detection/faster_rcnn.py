"""Faster R-CNN (Ren et al. 2015) over feature pyramids."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from rushlight.nn import init
from rushlight.nn.functional import relu
from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.flatten import Flatten
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.tensor import Tensor
from rushlight.vision.models.detection.anchor_utils import AnchorGenerator
from rushlight.vision.models.detection.backbone_utils import mobilenet_extractor, resnet_fpn_extractor
from rushlight.vision.models.detection.generalized_rcnn import GeneralizedRCNN
from rushlight.vision.models.detection.made import with_weights
from rushlight.vision.models.detection.roi_heads import RoIHeads
from rushlight.vision.models.detection.rpn import RegionProposalNetwork, RPNHead
from rushlight.vision.models.detection.transform import GeneralizedRCNNTransform
from rushlight.vision.models.mobilenet import MobileNet_V3_Large_Weights, mobilenet_v3_large
from rushlight.vision.models.resnet import ResNet50_Weights, resnet50
from rushlight.vision.models.weights import ObjectDetection, Weights, WeightsEnum
from rushlight.vision.ops.misc import Conv2dNormActivation
from rushlight.vision.ops.poolers import MultiScaleRoIAlign

__all__ = ["FasterRCNN", "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights", "FasterRCNN_MobileNet_V3_Large_FPN_Weights",
           "FasterRCNN_ResNet50_FPN_V2_Weights", "FasterRCNN_ResNet50_FPN_Weights", "fasterrcnn_mobilenet_v3_large_320_fpn",
           "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"]


def pyramid_anchors() -> AnchorGenerator:
    """Anchors of three shapes, of one size for each of five maps."""
    return AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)


def begin_convolutions(module: Module) -> None:
    """Initial values of the convolutions of a head."""
    for layer in module.modules():
        if isinstance(layer, Conv2d):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                init.zeros_(layer.bias)


class TwoMLPHead(Module):
    """Two linear layers over a whole region.

    Shape: (N, C, H, W) with C * H * W = in_channels -> (N, representation_size)
    """

    def __init__(self, in_channels: int, representation_size: int) -> None:
        super().__init__()
        self.fc6 = Linear(in_channels, representation_size)
        self.fc7 = Linear(representation_size, representation_size)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.fc7(relu(self.fc6(x.flatten(1)))))


class FastRCNNConvFCHead(Sequential):
    """3x3 convolutions, then linear layers.

    Args:
        input_size: (C, H, W) of a region; conv_layers, fc_layers: channels of each layer.

    Shape: (N, C, H, W) -> (N, fc_layers[-1])
    """

    def __init__(self, input_size: tuple[int, int, int], conv_layers: Sequence[int], fc_layers: Sequence[int],
                 norm_layer: Any = None) -> None:
        channels, height, width = input_size
        blocks: list[Module] = []
        for wide in conv_layers:
            blocks.append(Conv2dNormActivation(channels, wide, norm_layer=norm_layer))
            channels = wide
        blocks.append(Flatten())
        channels *= height * width
        for wide in fc_layers:
            blocks += [Linear(channels, wide), ReLU(inplace=True)]
            channels = wide
        super().__init__(*blocks)
        begin_convolutions(self)


class FastRCNNPredictor(Module):
    """Logits of classes, the first of which is background, and offsets for each class.

    Shape: (N, in_channels) or (N, in_channels, 1, 1) -> (N, num_classes), (N, 4 * num_classes)

    Raises:
        AssertionError: maps of other sizes.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = Linear(in_channels, num_classes)
        self.bbox_pred = Linear(in_channels, 4 * num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.dim() == 4 and tuple(x.shape[2:]) != (1, 1):
            raise AssertionError(f"x has the wrong shape, expecting the last two dimensions to be [1,1] instead of {list(x.shape[2:])}")
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x)


class FasterRCNN(GeneralizedRCNN):
    """Faster R-CNN.

    Args:
        backbone: makes a map, or an ``OrderedDict`` of maps, of ``backbone.out_channels`` channels.
        num_classes: with background, unless a ``box_predictor`` is given.
        min_size, max_size, image_mean, image_std, kwargs: of ``GeneralizedRCNNTransform``.
        rpn_...: of ``RegionProposalNetwork``; box_...: of ``RoIHeads``.

    Shape: as ``GeneralizedRCNN``. Targets: dicts with "boxes" (M, 4) in pixels and "labels" (M,) int64, 0 being background.

    Raises:
        ValueError: the backbone does not say its channels; both or neither of ``num_classes`` and ``box_predictor``. TypeError: parts of
            other classes.
    """

    def __init__(self, backbone: Any, num_classes: int | None = None, min_size: int | Sequence[int] = 800, max_size: int = 1333,
                 image_mean: Sequence[float] | None = None, image_std: Sequence[float] | None = None,
                 rpn_anchor_generator: AnchorGenerator | None = None, rpn_head: Module | None = None, rpn_pre_nms_top_n_train: int = 2000,
                 rpn_pre_nms_top_n_test: int = 1000, rpn_post_nms_top_n_train: int = 2000, rpn_post_nms_top_n_test: int = 1000,
                 rpn_nms_thresh: float = 0.7, rpn_fg_iou_thresh: float = 0.7, rpn_bg_iou_thresh: float = 0.3,
                 rpn_batch_size_per_image: int = 256, rpn_positive_fraction: float = 0.5, rpn_score_thresh: float = 0.0,
                 box_roi_pool: MultiScaleRoIAlign | None = None, box_head: Module | None = None, box_predictor: Module | None = None,
                 box_score_thresh: float = 0.05, box_nms_thresh: float = 0.5, box_detections_per_img: int = 100,
                 box_fg_iou_thresh: float = 0.5, box_bg_iou_thresh: float = 0.5, box_batch_size_per_image: int = 512,
                 box_positive_fraction: float = 0.25, bbox_reg_weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        if not hasattr(backbone, "out_channels"):
            raise ValueError("backbone should contain an attribute out_channels specifying the number of output channels (assumed to be "
                             "the same for all the levels)")
        for name, part, kind in (("rpn_anchor_generator", rpn_anchor_generator, AnchorGenerator),
                                 ("box_roi_pool", box_roi_pool, MultiScaleRoIAlign)):
            if part is not None and not isinstance(part, kind):
                raise TypeError(f"{name} should be of type {kind.__name__} or None instead of {type(part)}")
        if num_classes is not None and box_predictor is not None:
            raise ValueError("num_classes should be None when box_predictor is specified")
        if num_classes is None and box_predictor is None:
            raise ValueError("num_classes should not be None when box_predictor is not specified")
        channels = backbone.out_channels
        anchors = rpn_anchor_generator or pyramid_anchors()
        head = rpn_head or RPNHead(channels, anchors.num_anchors_per_location()[0])
        rpn = RegionProposalNetwork(anchors, head, rpn_fg_iou_thresh, rpn_bg_iou_thresh, rpn_batch_size_per_image, rpn_positive_fraction,
                                    {"training": rpn_pre_nms_top_n_train, "testing": rpn_pre_nms_top_n_test},
                                    {"training": rpn_post_nms_top_n_train, "testing": rpn_post_nms_top_n_test}, rpn_nms_thresh,
                                    rpn_score_thresh)
        pool = box_roi_pool or MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
        box_head = box_head or TwoMLPHead(channels * pool.output_size[0] ** 2, 1024)
        if box_predictor is None:
            assert num_classes is not None
            box_predictor = FastRCNNPredictor(1024, num_classes)
        heads = RoIHeads(pool, box_head, box_predictor, box_fg_iou_thresh, box_bg_iou_thresh, box_batch_size_per_image,
                         box_positive_fraction, bbox_reg_weights, box_score_thresh, box_nms_thresh, box_detections_per_img)
        transform = GeneralizedRCNNTransform(min_size, max_size, image_mean or [0.485, 0.456, 0.406], image_std or [0.229, 0.224, 0.225],
                                             **kwargs)
        super().__init__(backbone, rpn, heads, transform)


class FasterRCNN_ResNet50_FPN_Weights(WeightsEnum):
    COCO_V1 = Weights.file("fasterrcnn_resnet50_fpn_coco-258fb6c6", ObjectDetection)
    DEFAULT = COCO_V1


class FasterRCNN_ResNet50_FPN_V2_Weights(WeightsEnum):
    COCO_V1 = Weights.file("fasterrcnn_resnet50_fpn_v2_coco-dd69338a", ObjectDetection)
    DEFAULT = COCO_V1


class FasterRCNN_MobileNet_V3_Large_FPN_Weights(WeightsEnum):
    COCO_V1 = Weights.file("fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7", ObjectDetection)
    DEFAULT = COCO_V1


class FasterRCNN_MobileNet_V3_Large_320_FPN_Weights(WeightsEnum):
    COCO_V1 = Weights.file("fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9", ObjectDetection)
    DEFAULT = COCO_V1


def _over_resnet(backbone: Any, num_classes: int, layers: int, **kwargs: Any) -> FasterRCNN:
    return FasterRCNN(resnet_fpn_extractor(backbone, layers), num_classes, **kwargs)


def second_parts(backbone: Any, layers: int) -> dict[str, Any]:
    """The parts of the second version's detectors that differ (Li et al. 2021): norms in the pyramid and the head, a deeper ``RPNHead``."""
    pyramid, anchors = resnet_fpn_extractor(backbone, layers, norm_layer=BatchNorm2d), pyramid_anchors()
    channels = pyramid.out_channels
    return {"backbone": pyramid, "rpn_anchor_generator": anchors,
            "rpn_head": RPNHead(channels, anchors.num_anchors_per_location()[0], conv_depth=2),
            "box_head": FastRCNNConvFCHead((channels, 7, 7), [256] * 4, [1024], norm_layer=BatchNorm2d)}


def _second(backbone: Any, num_classes: int, layers: int, **kwargs: Any) -> FasterRCNN:
    return FasterRCNN(num_classes=num_classes, **second_parts(backbone, layers), **kwargs)


def _over_mobilenet(backbone: Any, num_classes: int, layers: int, **kwargs: Any) -> FasterRCNN:
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    return FasterRCNN(mobilenet_extractor(backbone, True, layers), num_classes, rpn_anchor_generator=anchors,
                      **{"rpn_score_thresh": 0.05, **kwargs})


def _small_images(backbone: Any, num_classes: int, layers: int, **kwargs: Any) -> FasterRCNN:
    small = {"min_size": 320, "max_size": 640, "rpn_pre_nms_top_n_test": 150, "rpn_post_nms_top_n_test": 150}
    return _over_mobilenet(backbone, num_classes, layers, **{**small, **kwargs})


_on_resnet = partial(with_weights, backbone=resnet50, backbone_weights=ResNet50_Weights)
_on_mobilenet = partial(with_weights, backbone=mobilenet_v3_large, backbone_weights=MobileNet_V3_Large_Weights, most=6)
fasterrcnn_resnet50_fpn = _on_resnet("fasterrcnn_resnet50_fpn", FasterRCNN_ResNet50_FPN_Weights, build=_over_resnet, exact=True,
                                     what="A ``FasterRCNN`` over a ResNet of 50 layers")
fasterrcnn_resnet50_fpn_v2 = _on_resnet("fasterrcnn_resnet50_fpn_v2", FasterRCNN_ResNet50_FPN_V2_Weights, build=_second, frozen=False,
                                        begun=False, what="A ``FasterRCNN`` over a ResNet of 50 layers, with norms in pyramid and head")
fasterrcnn_mobilenet_v3_large_fpn = _on_mobilenet("fasterrcnn_mobilenet_v3_large_fpn", FasterRCNN_MobileNet_V3_Large_FPN_Weights,
                                                  build=_over_mobilenet, what="A ``FasterRCNN`` over the large MobileNet")
fasterrcnn_mobilenet_v3_large_320_fpn = _on_mobilenet(
    "fasterrcnn_mobilenet_v3_large_320_fpn", FasterRCNN_MobileNet_V3_Large_320_FPN_Weights, build=_small_images,
    what="A ``FasterRCNN`` over the large MobileNet, for images of 320 pixels")
