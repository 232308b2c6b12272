"""MobileNets: inverted residuals of depthwise convolutions (Sandler et al. 2018, Howard et al. 2019)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rushlight.nn import init
from rushlight.nn.modules.activation import Hardsigmoid, Hardswish, ReLU, ReLU6
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d
from rushlight.tensor import Tensor, flatten
from rushlight.vision.models.weights import Weights, WeightsEnum, published
from rushlight.vision.ops.misc import Conv2dNormActivation, SqueezeExcitation

__all__ = ["InvertedResidual", "MobileNetV2", "MobileNetV3", "MobileNet_V2_Weights", "MobileNet_V3_Large_Weights",
           "MobileNet_V3_Small_Weights", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]

Norm = Callable[[int], Module]


def divisible(v: float, divisor: int = 8, least: int | None = None) -> int:
    """A number of channels that is a multiple of ``divisor``, near ``v`` and not below 0.9 of it."""
    made = max(least or divisor, int(v + divisor / 2) // divisor * divisor)
    return made + divisor if made < 0.9 * v else made


def _begin(network: Module) -> None:
    """The initial values that both versions have."""
    for m in network.modules():
        if isinstance(m, Conv2d):
            init.kaiming_normal_(m.weight, mode="fan_out")
            if m.bias is not None:
                init.zeros_(m.bias)
        elif isinstance(m, Linear):
            init.normal_(m.weight, 0, 0.01)
            init.zeros_(m.bias)  # type: ignore[arg-type]


class InvertedResidual(Module):
    """Channels widened ``expand_ratio`` times, convolved one by one and narrowed, beside a shortcut where the shape stays.

    Shape: (N, inp, H, W) -> (N, oup, H / stride, W / stride)

    Raises:
        ValueError: ``stride`` is neither 1 nor 2.
    """

    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: int, norm_layer: Norm | None = None) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride should be 1 or 2 instead of {stride}")
        norm, wide = norm_layer or BatchNorm2d, int(round(inp * expand_ratio))
        layers: list[Module] = []
        if expand_ratio != 1:
            layers.append(Conv2dNormActivation(inp, wide, 1, norm_layer=norm, activation_layer=ReLU6))
        layers += [Conv2dNormActivation(wide, wide, stride=stride, groups=wide, norm_layer=norm, activation_layer=ReLU6),
                   Conv2d(wide, oup, 1, bias=False), norm(oup)]
        self.conv = Sequential(*layers)
        self.stride, self.out_channels, self._is_cn = stride, oup, stride > 1
        self.use_res_connect = stride == 1 and inp == oup

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(Module):
    """The second MobileNet, with torchvision's names of parameters.

    Args:
        num_classes: outputs of the last layer; width_mult: factor of the channels, which are multiples of ``round_nearest``.
        inverted_residual_setting: rows (expand ratio, channels, blocks, stride of the first).
        block, norm_layer: what to use instead of ``InvertedResidual``, ``BatchNorm2d``; dropout: before the last layer.

    Shape: (N, 3, H, W) -> (N, num_classes)

    Raises:
        ValueError: rows of other lengths.
    """

    def __init__(self, num_classes: int = 1000, width_mult: float = 1.0, inverted_residual_setting: Sequence[Sequence[int]] | None = None,
                 round_nearest: int = 8, block: Callable[..., Module] | None = None, norm_layer: Norm | None = None,
                 dropout: float = 0.2) -> None:
        super().__init__()
        block, norm = block or InvertedResidual, norm_layer or BatchNorm2d
        rows = inverted_residual_setting or ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                                             (6, 320, 1, 1))
        if any(len(row) != 4 for row in rows):
            raise ValueError(f"inverted_residual_setting should be non-empty or a 4-element list, got {inverted_residual_setting}")
        channels = divisible(32 * width_mult, round_nearest)
        self.last_channel = divisible(1280 * max(1.0, width_mult), round_nearest)
        layers: list[Module] = [Conv2dNormActivation(3, channels, stride=2, norm_layer=norm, activation_layer=ReLU6)]
        for expand, c, n, s in rows:
            wide = divisible(c * width_mult, round_nearest)
            for k in range(n):
                layers.append(block(channels, wide, 1 if k else s, expand_ratio=expand, norm_layer=norm))
                channels = wide
        layers.append(Conv2dNormActivation(channels, self.last_channel, 1, norm_layer=norm, activation_layer=ReLU6))
        self.features = Sequential(*layers)
        self.classifier = Sequential(Dropout(dropout), Linear(self.last_channel, num_classes))
        _begin(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


@dataclass(frozen=True)
class _Row:
    """One block of the third version."""

    inp: int
    kernel: int
    wide: int
    out: int
    squeeze: bool
    hard: bool
    stride: int
    dilation: int = 1


class _Block(Module):
    """An inverted residual with squeeze and excitation and its choice of activation."""

    def __init__(self, row: _Row, norm: Norm) -> None:
        super().__init__()
        act: Any = Hardswish if row.hard else ReLU
        layers: list[Module] = []
        if row.wide != row.inp:
            layers.append(Conv2dNormActivation(row.inp, row.wide, 1, norm_layer=norm, activation_layer=act))
        stride = 1 if row.dilation > 1 else row.stride
        layers.append(Conv2dNormActivation(row.wide, row.wide, row.kernel, stride, groups=row.wide, norm_layer=norm, activation_layer=act,
                                           dilation=row.dilation))
        if row.squeeze:
            layers.append(SqueezeExcitation(row.wide, divisible(row.wide // 4), scale_activation=Hardsigmoid))
        layers.append(Conv2dNormActivation(row.wide, row.out, 1, norm_layer=norm, activation_layer=None))
        self.block = Sequential(*layers)
        self.use_res_connect = row.stride == 1 and row.inp == row.out
        self.out_channels, self._is_cn = row.out, row.stride > 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.use_res_connect else self.block(x)


class MobileNetV3(Module):
    """The third MobileNet, with torchvision's names of parameters; made by ``mobilenet_v3_large`` and ``mobilenet_v3_small``.

    Args:
        rows: the blocks; last_channel: of the hidden layer of the classifier.
        num_classes: outputs of the last layer; norm_layer: made with the number of channels; dropout: before the last layer.

    Shape: (N, 3, H, W) -> (N, num_classes)
    """

    def __init__(self, rows: Sequence[_Row], last_channel: int, num_classes: int = 1000, norm_layer: Norm | None = None,
                 dropout: float = 0.2) -> None:
        super().__init__()
        norm = norm_layer or partial(BatchNorm2d, eps=0.001, momentum=0.01)
        wide = 6 * rows[-1].out
        self.features = Sequential(
            Conv2dNormActivation(3, rows[0].inp, stride=2, norm_layer=norm, activation_layer=Hardswish),
            *[_Block(row, norm) for row in rows],
            Conv2dNormActivation(rows[-1].out, wide, 1, norm_layer=norm, activation_layer=Hardswish))
        self.avgpool = AdaptiveAvgPool2d(1)
        self.classifier = Sequential(Linear(wide, last_channel), Hardswish(inplace=True), Dropout(dropout, inplace=True),
                                     Linear(last_channel, num_classes))
        _begin(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))


_LARGE = ((16, 3, 16, 16, 0, 0, 1), (16, 3, 64, 24, 0, 0, 2), (24, 3, 72, 24, 0, 0, 1), (24, 5, 72, 40, 1, 0, 2), (40, 5, 120, 40, 1, 0, 1),
          (40, 5, 120, 40, 1, 0, 1), (40, 3, 240, 80, 0, 1, 2), (80, 3, 200, 80, 0, 1, 1), (80, 3, 184, 80, 0, 1, 1),
          (80, 3, 184, 80, 0, 1, 1), (80, 3, 480, 112, 1, 1, 1), (112, 3, 672, 112, 1, 1, 1), (112, 5, 672, 160, 1, 1, 2),
          (160, 5, 960, 160, 1, 1, 1), (160, 5, 960, 160, 1, 1, 1))
_SMALL = ((16, 3, 16, 16, 1, 0, 2), (16, 3, 72, 24, 0, 0, 2), (24, 3, 88, 24, 0, 0, 1), (24, 5, 96, 40, 1, 1, 2), (40, 5, 240, 40, 1, 1, 1),
          (40, 5, 240, 40, 1, 1, 1), (40, 5, 120, 48, 1, 1, 1), (48, 5, 144, 48, 1, 1, 1), (48, 5, 288, 96, 1, 1, 2),
          (96, 5, 576, 96, 1, 1, 1), (96, 5, 576, 96, 1, 1, 1))


def _third(table: Sequence[Sequence[int]], last: int) -> Callable[..., MobileNetV3]:
    def build(width_mult: float = 1.0, reduced_tail: bool = False, dilated: bool = False, **kwargs: Any) -> MobileNetV3:
        less, dilation, tail = (2 if reduced_tail else 1), (2 if dilated else 1), len(table) - 3

        def wide(c: int, in_tail: bool) -> int:
            return divisible(c // (less if in_tail else 1) * width_mult)
        rows = [_Row(wide(c, k > tail), kernel, wide(e, k > tail), wide(o, k >= tail), bool(se), bool(hs), s, dilation if k >= tail else 1)
                for k, (c, kernel, e, o, se, hs, s) in enumerate(table)]
        return MobileNetV3(rows, wide(last, True), **kwargs)
    return build


def strided(model: Any) -> list[int]:
    """Which of ``model.features`` halve the size of maps, dilated ones too, between the first and the last: where maps are taken."""
    inner = [k for k, layer in enumerate(model.features) if getattr(layer, "_is_cn", False)]
    return [0, *inner, len(model.features) - 1]


class MobileNet_V2_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("mobilenet_v2-b0353104")
    IMAGENET1K_V2 = Weights.named("mobilenet_v2-7ebf99e0", 232)
    DEFAULT = IMAGENET1K_V2


class MobileNet_V3_Large_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("mobilenet_v3_large-8738ca79")
    IMAGENET1K_V2 = Weights.named("mobilenet_v3_large-5c1a4163", 232)
    DEFAULT = IMAGENET1K_V2


class MobileNet_V3_Small_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("mobilenet_v3_small-047dcff4")
    DEFAULT = IMAGENET1K_V1


mobilenet_v2 = published("mobilenet_v2", MobileNet_V2_Weights, MobileNetV2, "A ``MobileNetV2``")
mobilenet_v3_large = published("mobilenet_v3_large", MobileNet_V3_Large_Weights, _third(_LARGE, 1280), "The large ``MobileNetV3``")
mobilenet_v3_small = published("mobilenet_v3_small", MobileNet_V3_Small_Weights, _third(_SMALL, 1024), "The small ``MobileNetV3``")
