"""Classifiers as backbones of detectors: some of their maps as a pyramid, and which of their layers train."""
from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.module import Module
from rushlight.tensor import Tensor
from rushlight.vision.models import mobilenet, resnet
from rushlight.vision.models._utils import IntermediateLayerGetter
from rushlight.vision.ops.feature_pyramid import ExtraFPNBlock, FeaturePyramidNetwork, LastLevelMaxPool
from rushlight.vision.ops.misc import FrozenBatchNorm2d

__all__ = ["BackboneWithFPN", "mobilenet_backbone", "mobilenet_extractor", "resnet_fpn_backbone", "resnet_fpn_extractor", "trained_layers"]

Norm = Callable[..., Module]


class BackboneWithFPN(Module):
    """Maps of a network as a ``FeaturePyramidNetwork``.

    Args:
        return_layers: the name of a child of ``backbone`` -> the name of its map, finest first; in_channels_list: of these maps.
        out_channels: of the pyramid; extra_blocks: further maps, by default ``LastLevelMaxPool``.

    Shape: (N, 3, H, W) -> an ``OrderedDict`` of (N, out_channels, H_i, W_i)
    """

    def __init__(self, backbone: Module, return_layers: Mapping[str, str], in_channels_list: Sequence[int], out_channels: int,
                 extra_blocks: ExtraFPNBlock | None = None, norm_layer: Norm | None = None) -> None:
        super().__init__()
        self.body = IntermediateLayerGetter(backbone, return_layers)
        self.fpn = FeaturePyramidNetwork(in_channels_list, out_channels, extra_blocks or LastLevelMaxPool(), norm_layer)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return self.fpn(self.body(x))


def trained_layers(is_trained: bool, wanted: int | None, most: int, usual: int) -> int:
    """How many layers of a backbone are to train, counted from its end: all where it begins with initial values.

    Raises:
        ValueError: more than there are.
    """
    if not is_trained and wanted is not None:
        warnings.warn("Changing trainable_backbone_layers has no effect if neither pretrained nor pretrained_backbone have been set to "
                      f"True, falling back to trainable_backbone_layers={most} so that all layers are trainable", stacklevel=3)
    count = most if not is_trained else usual if wanted is None else wanted
    if not 0 <= count <= most:
        raise ValueError(f"Trainable backbone layers should be in the range [0,{most}], got {count} ")
    return count


def resnet_fpn_extractor(backbone: Any, trainable_layers: int, returned_layers: Sequence[int] | None = None,
                         extra_blocks: ExtraFPNBlock | None = None, norm_layer: Norm | None = None) -> BackboneWithFPN:
    """Stages of a ResNet as a pyramid of 256 channels.

    Args:
        trainable_layers: stages that train, counted from the end; 5 is all. returned_layers: stages that have maps, of 1 to 4.

    Raises:
        ValueError: there is no such stage.
    """
    if not 0 <= trainable_layers <= 5:
        raise ValueError(f"Trainable layers should be in the range [0,5], got {trainable_layers}")
    training = ("layer4", "layer3", "layer2", "layer1", "conv1", "bn1")[:6 if trainable_layers == 5 else trainable_layers]
    for name, parameter in backbone.named_parameters():
        if not name.startswith(training):
            parameter.requires_grad_(False)
    stages = list(returned_layers or (1, 2, 3, 4))
    if min(stages) < 1 or max(stages) > 4:
        raise ValueError(f"Each returned layer should be in the range [1,4]. Got {stages}")
    channels = [backbone.inplanes // 8 * 2 ** (stage - 1) for stage in stages]
    return BackboneWithFPN(backbone, {f"layer{stage}": str(k) for k, stage in enumerate(stages)}, channels, 256, extra_blocks, norm_layer)


def resnet_fpn_backbone(*, backbone_name: str, weights: Any, norm_layer: Norm = FrozenBatchNorm2d, trainable_layers: int = 3,
                        returned_layers: Sequence[int] | None = None, extra_blocks: ExtraFPNBlock | None = None) -> BackboneWithFPN:
    """The ResNet of a name with these weights, as ``BackboneWithFPN``.

    Example:
        >>> net = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
        >>> [tuple(m.shape) for m in net(torch.rand(1, 3, 64, 64)).values()]
        [(1, 256, 16, 16), (1, 256, 8, 8), (1, 256, 4, 4), (1, 256, 2, 2), (1, 256, 1, 1)]
    """
    return resnet_fpn_extractor(getattr(resnet, backbone_name)(weights=weights, norm_layer=norm_layer), trainable_layers, returned_layers,
                                extra_blocks)


def mobilenet_extractor(backbone: Any, fpn: bool, trainable_layers: int, returned_layers: Sequence[int] | None = None,
                        extra_blocks: ExtraFPNBlock | None = None, norm_layer: Norm | None = None) -> Module:
    """Layers of a MobileNet as a pyramid of 256 channels, or without ``fpn`` the last one.

    Args:
        trainable_layers: sizes of maps whose layers train, counted from the end. returned_layers: sizes that have maps, by default two.

    Raises:
        ValueError: there is no such size.
    """
    features, steps = backbone.features, mobilenet.strided(backbone)
    if not 0 <= trainable_layers <= len(steps):
        raise ValueError(f"Trainable layers should be in the range [0,{len(steps)}], got {trainable_layers} ")
    first = len(features) if trainable_layers == 0 else steps[len(steps) - trainable_layers]
    for layer in features[:first]:
        for parameter in layer.parameters():
            parameter.requires_grad_(False)
    if not fpn:
        whole: Any = Sequential(features, Conv2d(features[-1].out_channels, 256, 1))
        whole.out_channels = 256
        return whole
    stages = list(returned_layers or (len(steps) - 2, len(steps) - 1))
    if min(stages) < 0 or max(stages) >= len(steps):
        raise ValueError(f"Each returned layer should be in the range [0,{len(steps) - 1}], got {stages} ")
    return BackboneWithFPN(features, {str(steps[stage]): str(k) for k, stage in enumerate(stages)},
                           [features[steps[stage]].out_channels for stage in stages], 256, extra_blocks, norm_layer)


def mobilenet_backbone(*, backbone_name: str, weights: Any, fpn: bool, norm_layer: Norm = FrozenBatchNorm2d, trainable_layers: int = 2,
                       returned_layers: Sequence[int] | None = None, extra_blocks: ExtraFPNBlock | None = None) -> Module:
    """The MobileNet of a name with these weights, as ``mobilenet_extractor`` makes it."""
    return mobilenet_extractor(getattr(mobilenet, backbone_name)(weights=weights, norm_layer=norm_layer), fpn, trainable_layers,
                               returned_layers, extra_blocks)


_resnet_fpn_extractor, _mobilenet_extractor = resnet_fpn_extractor, mobilenet_extractor  # torchvision's names of them
