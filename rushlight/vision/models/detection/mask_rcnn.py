"""Mask R-CNN (He et al. 2017): a Faster R-CNN that draws what it finds."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from rushlight.nn import init
from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d, ConvTranspose2d
from rushlight.vision.models.detection.backbone_utils import resnet_fpn_extractor
from rushlight.vision.models.detection.faster_rcnn import FasterRCNN, begin_convolutions, second_parts
from rushlight.vision.models.detection.made import with_weights
from rushlight.vision.models.resnet import ResNet50_Weights, resnet50
from rushlight.vision.models.weights import ObjectDetection, Weights, WeightsEnum
from rushlight.vision.ops.misc import Conv2dNormActivation
from rushlight.vision.ops.poolers import MultiScaleRoIAlign

__all__ = ["MaskRCNN", "MaskRCNN_ResNet50_FPN_V2_Weights", "MaskRCNN_ResNet50_FPN_Weights", "maskrcnn_resnet50_fpn",
           "maskrcnn_resnet50_fpn_v2"]


class MaskRCNNHeads(Sequential):
    """3x3 convolutions of these channels.

    Shape: (N, in_channels, H, W) -> (N, layers[-1], H, W)
    """

    _version = 2

    def __init__(self, in_channels: int, layers: Sequence[int], dilation: int, norm_layer: Any = None) -> None:
        super().__init__(*[Conv2dNormActivation(before, wide, 3, padding=dilation, dilation=dilation, norm_layer=norm_layer)
                           for before, wide in zip((in_channels, *layers), layers)])
        begin_convolutions(self)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any) -> None:
        if (local_metadata.get("version") or 1) < 2:  # layers had names, counted from 1
            for k in range(len(self)):
                for kind in ("weight", "bias"):
                    old = f"{prefix}mask_fcn{k + 1}.{kind}"
                    if old in state_dict:
                        state_dict[f"{prefix}{k}.0.{kind}"] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class MaskRCNNPredictor(Sequential):
    """Logits of a mask of each class, twice as large.

    Shape: (N, in_channels, H, W) -> (N, num_classes, 2 H, 2 W)
    """

    def __init__(self, in_channels: int, dim_reduced: int, num_classes: int) -> None:
        super().__init__(OrderedDict([("conv5_mask", ConvTranspose2d(in_channels, dim_reduced, 2, 2)), ("relu", ReLU(inplace=True)),
                                      ("mask_fcn_logits", Conv2d(dim_reduced, num_classes, 1))]))
        for name, parameter in self.named_parameters():
            if "weight" in name:
                init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")


class MaskRCNN(FasterRCNN):
    """Mask R-CNN.

    Args:
        backbone, num_classes, args, kwargs: as ``FasterRCNN``.
        mask_roi_pool, mask_head, mask_predictor: of ``RoIHeads``; given by name.

    Shape: as ``FasterRCNN``. Targets have "masks" (M, H, W) uint8, too; detections have "masks" (L, 1, H, W), probabilities.

    Raises:
        ValueError: both ``num_classes`` and a predictor. TypeError: parts of other classes.
    """

    def __init__(self, backbone: Any, num_classes: int | None = None, *args: Any, mask_roi_pool: MultiScaleRoIAlign | None = None,
                 mask_head: Any = None, mask_predictor: Any = None, **kwargs: Any) -> None:
        if mask_roi_pool is not None and not isinstance(mask_roi_pool, MultiScaleRoIAlign):
            raise TypeError(f"mask_roi_pool should be of type MultiScaleRoIAlign or None instead of {type(mask_roi_pool)}")
        if num_classes is not None and mask_predictor is not None:
            raise ValueError("num_classes should be None when mask_predictor is specified")
        pool = mask_roi_pool or MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2)
        head = mask_head or MaskRCNNHeads(backbone.out_channels, (256,) * 4, 1)
        predictor = mask_predictor or MaskRCNNPredictor(256, 256, num_classes)  # type: ignore[arg-type]
        super().__init__(backbone, num_classes, *args, **kwargs)
        heads: Any = self.roi_heads
        heads.mask_roi_pool, heads.mask_head, heads.mask_predictor = pool, head, predictor


class MaskRCNN_ResNet50_FPN_Weights(WeightsEnum):
    COCO_V1 = Weights.file("maskrcnn_resnet50_fpn_coco-bf2d0c1e", ObjectDetection)
    DEFAULT = COCO_V1


class MaskRCNN_ResNet50_FPN_V2_Weights(WeightsEnum):
    COCO_V1 = Weights.file("maskrcnn_resnet50_fpn_v2_coco-73cbd019", ObjectDetection)
    DEFAULT = COCO_V1


def _over_resnet(backbone: Any, num_classes: int, layers: int, **kwargs: Any) -> MaskRCNN:
    return MaskRCNN(resnet_fpn_extractor(backbone, layers), num_classes, **kwargs)


def _second(backbone: Any, num_classes: int, layers: int, **kwargs: Any) -> MaskRCNN:
    parts = second_parts(backbone, layers)
    mask_head = MaskRCNNHeads(parts["backbone"].out_channels, (256,) * 4, 1, norm_layer=BatchNorm2d)
    return MaskRCNN(num_classes=num_classes, mask_head=mask_head, **parts, **kwargs)


_on_resnet = partial(with_weights, backbone=resnet50, backbone_weights=ResNet50_Weights)
maskrcnn_resnet50_fpn = _on_resnet("maskrcnn_resnet50_fpn", MaskRCNN_ResNet50_FPN_Weights, build=_over_resnet, exact=True,
                                   what="A ``MaskRCNN`` over a ResNet of 50 layers")
maskrcnn_resnet50_fpn_v2 = _on_resnet("maskrcnn_resnet50_fpn_v2", MaskRCNN_ResNet50_FPN_V2_Weights, build=_second, frozen=False,
                                      begun=False, what="A ``MaskRCNN`` over a ResNet of 50 layers, with norms in pyramid and heads")
