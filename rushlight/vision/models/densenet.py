"""DenseNets (Huang et al. 2017): every layer sees what all layers before it in its block have made."""
from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from rushlight.nn import init
from rushlight.nn.functional import adaptive_avg_pool2d, dropout, relu
from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import ModuleDict, Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AvgPool2d, MaxPool2d
from rushlight.tensor import Tensor, cat, flatten
from rushlight.utils.checkpoint import checkpoint
from rushlight.vision.models.weights import Weights, WeightsEnum, published

__all__ = ["DenseNet", "DenseNet121_Weights", "DenseNet161_Weights", "DenseNet169_Weights", "DenseNet201_Weights", "densenet121",
           "densenet161", "densenet169", "densenet201"]


class _DenseLayer(Module):
    """Norm, activation and a 1x1 convolution, then the same with a 3x3 one, which gives ``growth`` channels."""

    def __init__(self, channels: int, growth: int, bn_size: int, drop_rate: float, memory_efficient: bool) -> None:
        super().__init__()
        self.norm1, self.relu1, self.conv1 = BatchNorm2d(channels), ReLU(inplace=True), Conv2d(channels, bn_size * growth, 1, bias=False)
        self.norm2, self.relu2 = BatchNorm2d(bn_size * growth), ReLU(inplace=True)
        self.conv2 = Conv2d(bn_size * growth, growth, 3, padding=1, bias=False)
        self.drop_rate, self.memory_efficient = float(drop_rate), memory_efficient

    def _narrow(self, *inputs: Tensor) -> Tensor:
        return self.conv1(self.relu1(self.norm1(cat(inputs, 1))))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        if self.memory_efficient and any(x.requires_grad for x in inputs):
            narrow = checkpoint(self._narrow, *inputs, use_reentrant=False)
        else:
            narrow = self._narrow(*inputs)
        out = self.conv2(self.relu2(self.norm2(narrow)))
        return dropout(out, self.drop_rate, self.training) if self.drop_rate > 0 else out


class _DenseBlock(ModuleDict):
    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.values():
            found.append(layer(found))
        return cat(found, 1)


class DenseNet(Module):
    """A DenseNet, with torchvision's names of parameters.

    Args:
        growth_rate: channels that each layer adds; block_config: layers of each block; num_init_features: channels before the first.
        bn_size: channels between a layer's convolutions, in growth rates; drop_rate: after each layer.
        num_classes: outputs of the last layer; memory_efficient: compute the joined channels again in the backward.

    Shape: (N, 3, H, W) -> (N, num_classes)
    """

    def __init__(self, growth_rate: int = 32, block_config: Sequence[int] = (6, 12, 24, 16), num_init_features: int = 64, bn_size: int = 4,
                 drop_rate: float = 0, num_classes: int = 1000, memory_efficient: bool = False) -> None:
        super().__init__()
        channels = num_init_features
        parts: OrderedDict[str, Module] = OrderedDict(
            conv0=Conv2d(3, channels, 7, 2, 3, bias=False), norm0=BatchNorm2d(channels), relu0=ReLU(inplace=True), pool0=MaxPool2d(3, 2, 1))
        for k, layers in enumerate(block_config, 1):
            parts[f"denseblock{k}"] = _DenseBlock(OrderedDict(
                (f"denselayer{j + 1}", _DenseLayer(channels + j * growth_rate, growth_rate, bn_size, drop_rate, memory_efficient))
                for j in range(layers)))
            channels += layers * growth_rate
            if k < len(block_config):
                parts[f"transition{k}"] = Sequential(OrderedDict(
                    norm=BatchNorm2d(channels), relu=ReLU(inplace=True), conv=Conv2d(channels, channels // 2, 1, bias=False),
                    pool=AvgPool2d(2, 2)))
                channels //= 2
        parts["norm5"] = BatchNorm2d(channels)
        self.features = Sequential(parts)
        self.classifier = Linear(channels, num_classes)
        for m in self.modules():
            if isinstance(m, Conv2d):
                init.kaiming_normal_(m.weight)
            elif isinstance(m, Linear):
                init.zeros_(m.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(flatten(adaptive_avg_pool2d(relu(self.features(x), inplace=True), (1, 1)), 1))


class DenseNet121_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("densenet121-a639ec97")
    DEFAULT = IMAGENET1K_V1


class DenseNet161_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("densenet161-8d451a50")
    DEFAULT = IMAGENET1K_V1


class DenseNet169_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("densenet169-b2777c0a")
    DEFAULT = IMAGENET1K_V1


class DenseNet201_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("densenet201-c1103571")
    DEFAULT = IMAGENET1K_V1


def _renamed(name: str) -> str:
    """The files were written when dots were allowed in names: ``denselayer1.norm.1.weight``."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)


def _published(name: str, kind: type[WeightsEnum], *config: Any) -> Callable[..., DenseNet]:
    def build(**kwargs: Any) -> DenseNet:
        return DenseNet(*config, **kwargs)
    return published(name, kind, build, f"A ``DenseNet`` of {', '.join(map(str, config[1]))} layers", _renamed)


densenet121 = _published("densenet121", DenseNet121_Weights, 32, (6, 12, 24, 16), 64)
densenet161 = _published("densenet161", DenseNet161_Weights, 48, (6, 12, 36, 24), 96)
densenet169 = _published("densenet169", DenseNet169_Weights, 32, (6, 12, 32, 32), 64)
densenet201 = _published("densenet201", DenseNet201_Weights, 32, (6, 12, 48, 32), 64)
