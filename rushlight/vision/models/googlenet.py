"""GoogLeNet (Szegedy et al. 2015): convolutions of several sizes side by side."""
from __future__ import annotations

from collections import namedtuple
from typing import Any

from rushlight.nn import init
from rushlight.nn.functional import adaptive_avg_pool2d, relu
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d, MaxPool2d
from rushlight.tensor import Tensor, cat, flatten, stack
from rushlight.vision.models.weights import Weights, WeightsEnum, load_weights

__all__ = ["GoogLeNet", "GoogLeNetOutputs", "GoogLeNet_Weights", "googlenet"]

GoogLeNetOutputs = namedtuple("GoogLeNetOutputs", ("logits", "aux_logits2", "aux_logits1"))


class BasicConv2d(Module):
    """A convolution, a batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, **kwargs: Any) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn = BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)), inplace=True)


class Inception(Module):
    """Four ways side by side: 1x1; 1x1 and 3x3; again (the paper has 5x5 there, the published weights have not); pooled and 1x1."""

    def __init__(self, channels: int, ch1: int, ch3red: int, ch3: int, ch5red: int, ch5: int, pool: int) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(channels, ch1, kernel_size=1)
        self.branch2 = Sequential(BasicConv2d(channels, ch3red, kernel_size=1), BasicConv2d(ch3red, ch3, kernel_size=3, padding=1))
        self.branch3 = Sequential(BasicConv2d(channels, ch5red, kernel_size=1), BasicConv2d(ch5red, ch5, kernel_size=3, padding=1))
        self.branch4 = Sequential(MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(channels, pool, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        return cat([branch(x) for branch in (self.branch1, self.branch2, self.branch3, self.branch4)], 1)


class InceptionAux(Module):
    """A classifier of what the layers in the middle know."""

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.7) -> None:
        super().__init__()
        self.conv = BasicConv2d(in_channels, 128, kernel_size=1)
        self.fc1, self.fc2, self.dropout = Linear(2048, 1024), Linear(1024, num_classes), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(relu(self.fc1(flatten(self.conv(adaptive_avg_pool2d(x, (4, 4))), 1)), inplace=True)))


class GoogLeNet(Module):
    """GoogLeNet with batch norms, with torchvision's names of parameters.

    Args:
        num_classes: outputs of the last layer; aux_logits: two more classifiers, whose outputs are given in training.
        transform_input: take images that were normalised for other networks.
        init_weights: draw from normal distributions that are cut at two deviations.
        dropout: before the last layer; dropout_aux: in the further classifiers.

    Shape: (N, 3, H, W) -> (N, num_classes), or in training with ``aux_logits`` three of these, a ``GoogLeNetOutputs``
    """

    def __init__(self, num_classes: int = 1000, aux_logits: bool = True, transform_input: bool = False, init_weights: bool | None = None,
                 dropout: float = 0.2, dropout_aux: float = 0.7) -> None:
        super().__init__()
        self.aux_logits, self.transform_input = aux_logits, transform_input
        self.conv1, self.maxpool1 = BasicConv2d(3, 64, kernel_size=7, stride=2, padding=3), MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.conv3 = BasicConv2d(64, 64, kernel_size=1), BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a, self.inception3b = Inception(192, 64, 96, 128, 16, 32, 32), Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a, self.inception4b = Inception(480, 192, 96, 208, 16, 48, 64), Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c, self.inception4d = Inception(512, 128, 128, 256, 24, 64, 64), Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a, self.inception5b = Inception(832, 256, 160, 320, 32, 128, 128), Inception(832, 384, 192, 384, 48, 128, 128)
        self.aux1 = InceptionAux(512, num_classes, dropout_aux) if aux_logits else None
        self.aux2 = InceptionAux(528, num_classes, dropout_aux) if aux_logits else None
        self.avgpool, self.dropout, self.fc = AdaptiveAvgPool2d((1, 1)), Dropout(dropout), Linear(1024, num_classes)
        if init_weights or init_weights is None:
            for m in self.modules():
                if isinstance(m, (Conv2d, Linear)):
                    init.trunc_normal_(m.weight, mean=0.0, std=0.01, a=-2, b=2)

    def forward(self, x: Any) -> Any:
        if self.transform_input:  # mean and deviation of each channel, to 0.5 and 0.5
            x = stack([x[:, k] * (std / 0.5) + (mean - 0.5) / 0.5 for k, (mean, std) in enumerate(
                ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225)))], 1)
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x)))))
        x = self.inception4a(self.maxpool3(self.inception3b(self.inception3a(x))))
        aux1 = self.aux1(x) if self.aux1 is not None and self.training else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        aux2 = self.aux2(x) if self.aux2 is not None and self.training else None
        x = self.inception5b(self.inception5a(self.maxpool4(self.inception4e(x))))
        x = self.fc(self.dropout(flatten(self.avgpool(x), 1)))
        return GoogLeNetOutputs(x, aux2, aux1) if self.training and self.aux_logits else x


class GoogLeNet_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("googlenet-1378be20")
    DEFAULT = IMAGENET1K_V1


def googlenet(weights: Any = None, progress: bool = True, *, pretrained: bool | None = None, **kwargs: Any) -> GoogLeNet:
    """A ``GoogLeNet``; ``weights``: a member of ``GoogLeNet_Weights`` or its name, None for initial values. The weights are those of
    images that were normalised for other networks; unless ``aux_logits`` are asked for, they are loaded and left away."""
    wanted = kwargs.pop("aux_logits", None)
    if weights in (None, False) and not pretrained:
        return GoogLeNet(aux_logits=True if wanted is None else wanted, **kwargs)
    model = GoogLeNet(aux_logits=True, **{"transform_input": True, "init_weights": False, **kwargs})
    load_weights(model, GoogLeNet_Weights, weights, progress, pretrained)
    if not wanted:
        model.aux_logits, model.aux1, model.aux2 = False, None, None
    return model
