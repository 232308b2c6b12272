"""EfficientNets (Tan and Le 2019, 2021): depth, width and size of the images scaled together."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rushlight.nn import init
from rushlight.nn.modules.activation import SiLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d
from rushlight.tensor import Tensor, flatten
from rushlight.vision.models.mobilenet import divisible
from rushlight.vision.models.weights import Weights, WeightsEnum, published
from rushlight.vision.ops.misc import Conv2dNormActivation, SqueezeExcitation
from rushlight.vision.ops.stochastic_depth import StochasticDepth
from rushlight.vision.transforms.functional import InterpolationMode

__all__ = ["EfficientNet", "EfficientNet_B0_Weights", "EfficientNet_B1_Weights", "EfficientNet_B2_Weights", "EfficientNet_B3_Weights",
           "EfficientNet_B4_Weights", "EfficientNet_B5_Weights", "EfficientNet_B6_Weights", "EfficientNet_B7_Weights",
           "EfficientNet_V2_L_Weights", "EfficientNet_V2_M_Weights", "EfficientNet_V2_S_Weights", "FusedMBConv", "MBConv",
           "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5",
           "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s"]

Norm = Callable[[int], Module]


@dataclass(frozen=True)
class Stage:
    """``layers`` blocks; of the first, ``channels`` come in and the size shrinks by ``stride``."""

    fused: bool
    expand: float
    kernel: int
    stride: int
    channels: int
    out: int
    layers: int

    def scaled(self, width: float, depth: float) -> Stage:
        return Stage(self.fused, self.expand, self.kernel, self.stride, divisible(self.channels * width), divisible(self.out * width),
                     math.ceil(self.layers * depth))


class _Residual(Module):
    """``block`` beside a shortcut where the shape stays, in training left out at random."""

    block: Sequential

    def __init__(self, stage: Stage, drop: float, norm: Norm) -> None:
        super().__init__()
        self.block = Sequential(*self.layers(stage, divisible(stage.channels * stage.expand), norm))
        self.use_res_connect = stage.stride == 1 and stage.channels == stage.out
        self.stochastic_depth = StochasticDepth(drop, "row")
        self.out_channels = stage.out

    def layers(self, stage: Stage, wide: int, norm: Norm) -> list[Module]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return x + self.stochastic_depth(self.block(x)) if self.use_res_connect else self.block(x)


class MBConv(_Residual):
    """Channels widened, convolved one by one, scaled and narrowed."""

    def layers(self, stage: Stage, wide: int, norm: Norm) -> list[Module]:
        first = [Conv2dNormActivation(stage.channels, wide, 1, norm_layer=norm, activation_layer=SiLU)] if wide != stage.channels else []
        return [*first,
                Conv2dNormActivation(wide, wide, stage.kernel, stage.stride, groups=wide, norm_layer=norm, activation_layer=SiLU),
                SqueezeExcitation(wide, max(1, stage.channels // 4), activation=partial(SiLU, inplace=True)),
                Conv2dNormActivation(wide, stage.out, 1, norm_layer=norm, activation_layer=None)]


class FusedMBConv(_Residual):
    """Channels widened by a whole convolution, and narrowed."""

    def layers(self, stage: Stage, wide: int, norm: Norm) -> list[Module]:
        if wide == stage.channels:
            return [Conv2dNormActivation(wide, stage.out, stage.kernel, stage.stride, norm_layer=norm, activation_layer=SiLU)]
        return [Conv2dNormActivation(stage.channels, wide, stage.kernel, stage.stride, norm_layer=norm, activation_layer=SiLU),
                Conv2dNormActivation(wide, stage.out, 1, norm_layer=norm, activation_layer=None)]


class EfficientNet(Module):
    """An EfficientNet, with torchvision's names of parameters.

    Args:
        stages: the blocks; last_channel: of the last convolution, 4 times what comes in by default.
        dropout: before the last layer; stochastic_depth_prob: with which the last block is left out, those before it in proportion.
        num_classes: outputs of the last layer; norm_layer: made with the number of channels.

    Shape: (N, 3, H, W) -> (N, num_classes)
    """

    def __init__(self, stages: Sequence[Stage], dropout: float, stochastic_depth_prob: float = 0.2, num_classes: int = 1000,
                 norm_layer: Norm | None = None, last_channel: int | None = None) -> None:
        super().__init__()
        norm = norm_layer or BatchNorm2d
        layers: list[Module] = [Conv2dNormActivation(3, stages[0].channels, stride=2, norm_layer=norm, activation_layer=SiLU)]
        total, done = sum(stage.layers for stage in stages), 0
        for stage in stages:
            blocks = []
            for k in range(stage.layers):
                one = stage if k == 0 else Stage(stage.fused, stage.expand, stage.kernel, 1, stage.out, stage.out, 1)
                blocks.append((FusedMBConv if stage.fused else MBConv)(one, stochastic_depth_prob * done / total, norm))
                done += 1
            layers.append(Sequential(*blocks))
        wide = last_channel or 4 * stages[-1].out
        layers.append(Conv2dNormActivation(stages[-1].out, wide, 1, norm_layer=norm, activation_layer=SiLU))
        self.features = Sequential(*layers)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.classifier = Sequential(Dropout(dropout, inplace=True), Linear(wide, num_classes))
        for m in self.modules():
            if isinstance(m, Conv2d):
                init.kaiming_normal_(m.weight, mode="fan_out")
                if m.bias is not None:
                    init.zeros_(m.bias)
            elif isinstance(m, Linear):
                init.uniform_(m.weight, -m.out_features ** -0.5, m.out_features ** -0.5)
                init.zeros_(m.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))


_BASE = [Stage(False, *row) for row in ((1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3),
                                        (6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1))]
_SECOND = {
    "s": ((1, 1, 3, 1, 24, 24, 2), (1, 4, 3, 2, 24, 48, 4), (1, 4, 3, 2, 48, 64, 4), (0, 4, 3, 2, 64, 128, 6), (0, 6, 3, 1, 128, 160, 9),
          (0, 6, 3, 2, 160, 256, 15)),
    "m": ((1, 1, 3, 1, 24, 24, 3), (1, 4, 3, 2, 24, 48, 5), (1, 4, 3, 2, 48, 80, 5), (0, 4, 3, 2, 80, 160, 7), (0, 6, 3, 1, 160, 176, 14),
          (0, 6, 3, 2, 176, 304, 18), (0, 6, 3, 1, 304, 512, 5)),
    "l": ((1, 1, 3, 1, 32, 32, 4), (1, 4, 3, 2, 32, 64, 7), (1, 4, 3, 2, 64, 96, 7), (0, 4, 3, 2, 96, 192, 10), (0, 6, 3, 1, 192, 224, 19),
          (0, 6, 3, 2, 224, 384, 25), (0, 6, 3, 1, 384, 640, 7))}
_FINE = partial(BatchNorm2d, eps=0.001, momentum=0.01)


def _first(width: float, depth: float, dropout: float, norm: Norm | None = None) -> Callable[..., EfficientNet]:
    def build(**kwargs: Any) -> EfficientNet:
        return EfficientNet([s.scaled(width, depth) for s in _BASE], **{"dropout": dropout, "norm_layer": norm, **kwargs})
    return build


def _second(size: str, dropout: float) -> Callable[..., EfficientNet]:
    def build(**kwargs: Any) -> EfficientNet:
        return EfficientNet([Stage(bool(fused), *row) for fused, *row in _SECOND[size]],
                            **{"dropout": dropout, "norm_layer": _FINE, "last_channel": 1280, **kwargs})
    return build


def _file(name: str, resize: int, crop: int, **more: Any) -> Weights:
    return Weights.named(f"efficientnet_{name}", resize, crop, **{"interpolation": InterpolationMode.BICUBIC, **more})


class EfficientNet_B0_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("b0_rwightman-7f5810bc", 256, 224)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_B1_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("b1_rwightman-bac287d4", 256, 240)
    IMAGENET1K_V2 = _file("b1-c27df63c", 255, 240, interpolation=InterpolationMode.BILINEAR)
    DEFAULT = IMAGENET1K_V2


class EfficientNet_B2_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("b2_rwightman-c35c1473", 288, 288)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_B3_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("b3_rwightman-b3899882", 320, 300)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_B4_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("b4_rwightman-23ab8bcd", 384, 380)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_B5_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("b5_lukemelas-1a07897c", 456, 456)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_B6_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("b6_lukemelas-24a108a5", 528, 528)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_B7_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("b7_lukemelas-c5b4e57e", 600, 600)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_V2_S_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("v2_s-dd5fe13b", 384, 384, interpolation=InterpolationMode.BILINEAR)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_V2_M_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("v2_m-dc08266a", 480, 480, interpolation=InterpolationMode.BILINEAR)
    DEFAULT = IMAGENET1K_V1


class EfficientNet_V2_L_Weights(WeightsEnum):
    IMAGENET1K_V1 = _file("v2_l-59c71312", 480, 480, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    DEFAULT = IMAGENET1K_V1


def _published(size: str, build: Callable[..., EfficientNet]) -> Callable[..., EfficientNet]:
    return published(f"efficientnet_{size}", globals()[f"EfficientNet_{size.upper()}_Weights"], build, f"The ``EfficientNet`` {size}")


efficientnet_b0 = _published("b0", _first(1.0, 1.0, 0.2))
efficientnet_b1 = _published("b1", _first(1.0, 1.1, 0.2))
efficientnet_b2 = _published("b2", _first(1.1, 1.2, 0.3))
efficientnet_b3 = _published("b3", _first(1.2, 1.4, 0.3))
efficientnet_b4 = _published("b4", _first(1.4, 1.8, 0.4))
efficientnet_b5 = _published("b5", _first(1.6, 2.2, 0.4, _FINE))
efficientnet_b6 = _published("b6", _first(1.8, 2.6, 0.5, _FINE))
efficientnet_b7 = _published("b7", _first(2.0, 3.1, 0.5, _FINE))
efficientnet_v2_s = _published("v2_s", _second("s", 0.2))
efficientnet_v2_m = _published("v2_m", _second("m", 0.3))
efficientnet_v2_l = _published("v2_l", _second("l", 0.4))
