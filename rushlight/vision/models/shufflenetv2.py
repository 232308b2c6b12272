"""ShuffleNet V2 (Ma et al. 2018): half of the channels pass by each block, and then all are shuffled."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rushlight.nn.functional import channel_shuffle
from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import MaxPool2d
from rushlight.tensor import Tensor, cat
from rushlight.vision.models.weights import Weights, WeightsEnum, published

__all__ = ["ShuffleNetV2", "ShuffleNet_V2_X0_5_Weights", "ShuffleNet_V2_X1_0_Weights", "ShuffleNet_V2_X1_5_Weights",
           "ShuffleNet_V2_X2_0_Weights", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]


def _depthwise(channels: int, stride: int) -> list[Module]:
    return [Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), BatchNorm2d(channels)]


def _pointwise(inp: int, out: int) -> list[Module]:
    return [Conv2d(inp, out, 1, bias=False), BatchNorm2d(out), ReLU(inplace=True)]


class _Unit(Module):
    """One block. With a stride, both halves are made of all channels.

    Shape: (N, inp, H, W) -> (N, oup, H / stride, W / stride)
    """

    def __init__(self, inp: int, oup: int, stride: int) -> None:
        super().__init__()
        if not 1 <= stride <= 3:
            raise ValueError("illegal stride value")
        if stride == 1 and inp != oup:
            raise ValueError(f"a block without stride keeps the channels: {inp} to {oup}")
        self.stride, half = stride, oup // 2
        self.branch1 = Sequential(*_depthwise(inp, stride), *_pointwise(inp, half)) if stride > 1 else Sequential()
        self.branch2 = Sequential(*_pointwise(inp if stride > 1 else half, half), *_depthwise(half, stride), *_pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            kept, used = x.chunk(2, 1)
            return channel_shuffle(cat((kept, self.branch2(used)), 1), 2)
        return channel_shuffle(cat((self.branch1(x), self.branch2(x)), 1), 2)


class ShuffleNetV2(Module):
    """ShuffleNet V2, with torchvision's names of parameters.

    Args:
        stages_repeats: blocks of each of the three stages; stages_out_channels: channels of the first layer, the stages and the last layer.
        num_classes: outputs.

    Shape: (N, 3, H, W) -> (N, num_classes)

    Raises:
        ValueError: other numbers of stages.
    """

    def __init__(self, stages_repeats: Sequence[int], stages_out_channels: Sequence[int], num_classes: int = 1000) -> None:
        super().__init__()
        if len(stages_repeats) != 3 or len(stages_out_channels) != 5:
            raise ValueError("expected stages_repeats as list of 3 positive ints, stages_out_channels as list of 5")
        channels, *stages, last = stages_out_channels
        self.conv1 = Sequential(Conv2d(3, channels, 3, 2, 1, bias=False), BatchNorm2d(channels), ReLU(inplace=True))
        self.maxpool = MaxPool2d(3, 2, 1)
        for k, (repeats, out) in enumerate(zip(stages_repeats, stages), 2):
            self.add_module(f"stage{k}", Sequential(_Unit(channels, out, 2), *[_Unit(out, out, 1) for _ in range(repeats - 1)]))
            channels = out
        self.conv5 = Sequential(*_pointwise(channels, last))
        self.fc = Linear(last, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage4(self.stage3(self.stage2(self.maxpool(self.conv1(x)))))
        return self.fc(self.conv5(x).mean((2, 3)))


class ShuffleNet_V2_X0_5_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("shufflenetv2_x0.5-f707e7126e")
    DEFAULT = IMAGENET1K_V1


class ShuffleNet_V2_X1_0_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("shufflenetv2_x1-5666bf0f80")
    DEFAULT = IMAGENET1K_V1


class ShuffleNet_V2_X1_5_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("shufflenetv2_x1_5-3c479a10", 232)
    DEFAULT = IMAGENET1K_V1


class ShuffleNet_V2_X2_0_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("shufflenetv2_x2_0-8be3c8ee", 232)
    DEFAULT = IMAGENET1K_V1


def _published(size: str, channels: Sequence[int]) -> Callable[..., ShuffleNetV2]:
    def build(**kwargs: Any) -> ShuffleNetV2:
        return ShuffleNetV2((4, 8, 4), channels, **kwargs)
    return published(f"shufflenet_v2_{size}", globals()[f"ShuffleNet_V2_{size.upper()}_Weights"], build, f"The ``ShuffleNetV2`` {size}")


shufflenet_v2_x0_5 = _published("x0_5", (24, 48, 96, 192, 1024))
shufflenet_v2_x1_0 = _published("x1_0", (24, 116, 232, 464, 1024))
shufflenet_v2_x1_5 = _published("x1_5", (24, 176, 352, 704, 1024))
shufflenet_v2_x2_0 = _published("x2_0", (24, 244, 488, 976, 2048))
