"""DeepLabV3 (Chen et al. 2017): convolutions of several dilations side by side over the last map."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import ModuleList, Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d
from rushlight.tensor import Tensor, cat
from rushlight.vision.models._utils import IntermediateLayerGetter
from rushlight.vision.models.mobilenet import MobileNet_V3_Large_Weights, mobilenet_v3_large, strided
from rushlight.vision.models.resnet import ResNet50_Weights, ResNet101_Weights, resnet50, resnet101
from rushlight.vision.models.segmentation._utils import SimpleSegmentationModel, enlarged, with_weights
from rushlight.vision.models.segmentation.fcn import FCNHead, dilated, over_resnet
from rushlight.vision.models.weights import SemanticSegmentation, Weights, WeightsEnum

__all__ = ["DeepLabV3", "DeepLabV3_MobileNet_V3_Large_Weights", "DeepLabV3_ResNet101_Weights", "DeepLabV3_ResNet50_Weights",
           "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet101", "deeplabv3_resnet50"]


class DeepLabV3(SimpleSegmentationModel):
    """A backbone with a ``DeepLabHead``, and maybe an ``FCNHead``."""


def _layers(conv: Conv2d, channels: int) -> list[Module]:
    return [conv, BatchNorm2d(channels), ReLU()]


class ASPPConv(Sequential):
    """A dilated 3x3 convolution, norm and activation."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__(*_layers(Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False), out_channels))


class ASPPPooling(Sequential):
    """What a map's mean says, at each of its places."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(AdaptiveAvgPool2d(1), *_layers(Conv2d(in_channels, out_channels, 1, bias=False), out_channels))

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[-2:])
        return enlarged(super().forward(x), size)


class ASPP(Module):
    """A 1x1 convolution, one for each of the ``atrous_rates``, and the mean, side by side, then projected.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W)
    """

    def __init__(self, in_channels: int, atrous_rates: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        self.convs = ModuleList([Sequential(*_layers(Conv2d(in_channels, out_channels, 1, bias=False), out_channels)),
                                 *[ASPPConv(in_channels, out_channels, rate) for rate in atrous_rates],
                                 ASPPPooling(in_channels, out_channels)])
        self.project = Sequential(*_layers(Conv2d(len(self.convs) * out_channels, out_channels, 1, bias=False), out_channels), Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(cat([conv(x) for conv in self.convs], 1))


class DeepLabHead(Sequential):
    """``ASPP``, a 3x3 convolution, and scores.

    Shape: (N, in_channels, H, W) -> (N, num_classes, H, W)
    """

    def __init__(self, in_channels: int, num_classes: int, atrous_rates: Sequence[int] = (12, 24, 36)) -> None:
        super().__init__(ASPP(in_channels, atrous_rates), *_layers(Conv2d(256, 256, 3, padding=1, bias=False), 256),
                         Conv2d(256, num_classes, 1))


def _over_resnet(backbone: Any, num_classes: int, aux: bool) -> DeepLabV3:
    return over_resnet(DeepLabV3, DeepLabHead, backbone, num_classes, aux)


def _over_mobilenet(backbone: Any, num_classes: int, aux: bool) -> DeepLabV3:
    features, steps = backbone.features, strided(backbone)
    last, before = steps[-1], steps[-4]
    channels = features[before].out_channels
    below = IntermediateLayerGetter(features, {str(last): "out", **({str(before): "aux"} if aux else {})})
    auxiliary = FCNHead(channels, num_classes) if aux else None
    return DeepLabV3(below, DeepLabHead(features[last].out_channels, num_classes), auxiliary)


class DeepLabV3_ResNet50_Weights(WeightsEnum):
    COCO_WITH_VOC_LABELS_V1 = Weights.file("deeplabv3_resnet50_coco-cd0a2569", SemanticSegmentation)
    DEFAULT = COCO_WITH_VOC_LABELS_V1


class DeepLabV3_ResNet101_Weights(WeightsEnum):
    COCO_WITH_VOC_LABELS_V1 = Weights.file("deeplabv3_resnet101_coco-586e9e4e", SemanticSegmentation)
    DEFAULT = COCO_WITH_VOC_LABELS_V1


class DeepLabV3_MobileNet_V3_Large_Weights(WeightsEnum):
    COCO_WITH_VOC_LABELS_V1 = Weights.file("deeplabv3_mobilenet_v3_large-fc3c493d", SemanticSegmentation)
    DEFAULT = COCO_WITH_VOC_LABELS_V1


deeplabv3_resnet50 = with_weights("deeplabv3_resnet50", DeepLabV3_ResNet50_Weights, partial(resnet50, replace_stride_with_dilation=dilated),
                                  ResNet50_Weights, _over_resnet, "A ``DeepLabV3`` over a ResNet of 50 layers")
deeplabv3_resnet101 = with_weights("deeplabv3_resnet101", DeepLabV3_ResNet101_Weights,
                                   partial(resnet101, replace_stride_with_dilation=dilated), ResNet101_Weights, _over_resnet,
                                   "A ``DeepLabV3`` over a ResNet of 101 layers")
deeplabv3_mobilenet_v3_large = with_weights("deeplabv3_mobilenet_v3_large", DeepLabV3_MobileNet_V3_Large_Weights,
                                            partial(mobilenet_v3_large, dilated=True), MobileNet_V3_Large_Weights, _over_mobilenet,
                                            "A ``DeepLabV3`` over the large MobileNet")
