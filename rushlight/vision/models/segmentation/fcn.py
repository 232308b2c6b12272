"""Fully convolutional networks (Long et al. 2015) over a ResNet whose last stages are dilated."""
from __future__ import annotations

from functools import partial
from typing import Any

from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.module import Module
from rushlight.vision.models._utils import IntermediateLayerGetter
from rushlight.vision.models.resnet import ResNet50_Weights, ResNet101_Weights, resnet50, resnet101
from rushlight.vision.models.segmentation._utils import SimpleSegmentationModel, with_weights
from rushlight.vision.models.weights import SemanticSegmentation, Weights, WeightsEnum

__all__ = ["FCN", "FCN_ResNet101_Weights", "FCN_ResNet50_Weights", "fcn_resnet101", "fcn_resnet50"]


class FCN(SimpleSegmentationModel):
    """A backbone with one or two ``FCNHead``."""


class FCNHead(Sequential):
    """A 3x3 convolution to a quarter of the channels, and scores.

    Shape: (N, in_channels, H, W) -> (N, channels, H, W)
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        between = in_channels // 4
        super().__init__(Conv2d(in_channels, between, 3, padding=1, bias=False), BatchNorm2d(between), ReLU(), Dropout(0.1),
                         Conv2d(between, channels, 1))


def over_resnet(kind: Any, head: Any, backbone: Any, num_classes: int, aux: bool) -> Any:
    """A network of a ``kind`` with a ``head`` over the last stage of a ResNet, and an ``FCNHead`` over the one before."""
    maps = {"layer4": "out", **({"layer3": "aux"} if aux else {})}
    below = IntermediateLayerGetter(backbone, maps)
    auxiliary: Module | None = FCNHead(1024, num_classes) if aux else None
    return kind(below, head(2048, num_classes), auxiliary)


def _build(backbone: Any, num_classes: int, aux: bool) -> FCN:
    return over_resnet(FCN, FCNHead, backbone, num_classes, aux)


class FCN_ResNet50_Weights(WeightsEnum):
    COCO_WITH_VOC_LABELS_V1 = Weights.file("fcn_resnet50_coco-1167a1af", SemanticSegmentation)
    DEFAULT = COCO_WITH_VOC_LABELS_V1


class FCN_ResNet101_Weights(WeightsEnum):
    COCO_WITH_VOC_LABELS_V1 = Weights.file("fcn_resnet101_coco-7ecb50ca", SemanticSegmentation)
    DEFAULT = COCO_WITH_VOC_LABELS_V1


dilated = (False, True, True)
fcn_resnet50 = with_weights("fcn_resnet50", FCN_ResNet50_Weights, partial(resnet50, replace_stride_with_dilation=dilated), ResNet50_Weights,
                            _build, "An ``FCN`` over a ResNet of 50 layers")
fcn_resnet101 = with_weights("fcn_resnet101", FCN_ResNet101_Weights, partial(resnet101, replace_stride_with_dilation=dilated),
                             ResNet101_Weights, _build, "An ``FCN`` over a ResNet of 101 layers")
