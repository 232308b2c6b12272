"""Lite R-ASPP (Howard et al. 2019): a coarse map scaled by its mean, beside a finer one."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any

from rushlight.nn.modules.activation import ReLU, Sigmoid
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d
from rushlight.tensor import Tensor
from rushlight.vision.models._utils import IntermediateLayerGetter
from rushlight.vision.models.mobilenet import MobileNet_V3_Large_Weights, mobilenet_v3_large, strided
from rushlight.vision.models.segmentation._utils import enlarged, with_weights
from rushlight.vision.models.weights import SemanticSegmentation, Weights, WeightsEnum

__all__ = ["LRASPP", "LRASPP_MobileNet_V3_Large_Weights", "lraspp_mobilenet_v3_large"]


class LRASPPHead(Module):
    """Scores from the maps "low" (N, low_channels, H, W) and "high" (N, high_channels, H', W')."""

    def __init__(self, low_channels: int, high_channels: int, num_classes: int, inter_channels: int) -> None:
        super().__init__()
        self.cbr = Sequential(Conv2d(high_channels, inter_channels, 1, bias=False), BatchNorm2d(inter_channels), ReLU(inplace=True))
        self.scale = Sequential(AdaptiveAvgPool2d(1), Conv2d(high_channels, inter_channels, 1, bias=False), Sigmoid())
        self.low_classifier = Conv2d(low_channels, num_classes, 1)
        self.high_classifier = Conv2d(inter_channels, num_classes, 1)

    def forward(self, input: Mapping[str, Tensor]) -> Tensor:
        low, high = input["low"], input["high"]
        x = enlarged(self.cbr(high) * self.scale(high), tuple(low.shape[-2:]))
        return self.low_classifier(low) + self.high_classifier(x)


class LRASPP(Module):
    """A backbone with the maps "low" and "high", and an ``LRASPPHead``.

    Shape: (N, 3, H, W) -> an ``OrderedDict``: "out" (N, num_classes, H, W)
    """

    def __init__(self, backbone: Module, low_channels: int, high_channels: int, num_classes: int, inter_channels: int = 128) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = LRASPPHead(low_channels, high_channels, num_classes, inter_channels)

    def forward(self, input: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict(out=enlarged(self.classifier(self.backbone(input)), tuple(input.shape[-2:])))


def _build(backbone: Any, num_classes: int, aux: bool) -> LRASPP:
    if aux:
        raise NotImplementedError("This model does not use auxiliary loss")
    features, steps = backbone.features, strided(backbone)
    low, high = steps[-4], steps[-1]
    return LRASPP(IntermediateLayerGetter(features, {str(low): "low", str(high): "high"}), features[low].out_channels,
                  features[high].out_channels, num_classes)


class LRASPP_MobileNet_V3_Large_Weights(WeightsEnum):
    COCO_WITH_VOC_LABELS_V1 = Weights.file("lraspp_mobilenet_v3_large-d234d4ea", SemanticSegmentation)
    DEFAULT = COCO_WITH_VOC_LABELS_V1


lraspp_mobilenet_v3_large = with_weights("lraspp_mobilenet_v3_large", LRASPP_MobileNet_V3_Large_Weights,
                                         partial(mobilenet_v3_large, dilated=True), MobileNet_V3_Large_Weights, _build,
                                         "An ``LRASPP`` over the large MobileNet", may_have_aux=False)
