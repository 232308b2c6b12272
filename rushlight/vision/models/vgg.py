"""Plain stacks of 3x3 convolutions: VGG (Simonyan and Zisserman 2014)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rushlight.nn import init
from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d, MaxPool2d
from rushlight.tensor import Tensor, flatten
from rushlight.vision.models.weights import Weights, WeightsEnum, published

__all__ = ["VGG", "VGG11_BN_Weights", "VGG11_Weights", "VGG13_BN_Weights", "VGG13_Weights", "VGG16_BN_Weights", "VGG16_Weights",
           "VGG19_BN_Weights", "VGG19_Weights", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]

# The published configurations: the channels of each convolution, and where pools are.
cfgs: dict[str, list[int | str]] = {
    letter: [part for channels, depth in zip((64, 128, 256, 512, 512), depths, strict=True) for part in [channels] * depth + ["M"]]
    for letter, depths in (("A", (1, 1, 2, 2, 2)), ("B", (2, 2, 2, 2, 2)), ("D", (2, 2, 3, 3, 3)), ("E", (2, 2, 4, 4, 4)))}


class VGG(Module):
    """Convolutions and pools, then three linear layers, with torchvision's names of parameters.

    Args:
        features: the convolutional part, whose result has 512 channels.
        num_classes: outputs of the last layer.
        init_weights: whether to draw initial values; False leaves those of the layers.
        dropout: between the linear layers.

    Shape: (N, 3, H, W) -> (N, num_classes)
    """

    def __init__(self, features: Module, num_classes: int = 1000, init_weights: bool = True, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = features
        self.avgpool = AdaptiveAvgPool2d((7, 7))
        self.classifier = Sequential(Linear(512 * 7 * 7, 4096), ReLU(True), Dropout(dropout),
                                        Linear(4096, 4096), ReLU(True), Dropout(dropout), Linear(4096, num_classes))
        for m in self.modules() if init_weights else ():
            if isinstance(m, Conv2d):
                init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                init.zeros_(m.bias)
            elif isinstance(m, Linear):
                init.normal_(m.weight, 0, 0.01)
                init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))


def make_layers(cfg: Sequence[int | str], batch_norm: bool = False) -> Sequential:
    """The convolutional part of a network.

    Args:
        cfg: for each 3x3 convolution how many channels it gives, "M" for a pool that halves height and width; ``cfgs`` has those of VGG.
        batch_norm: whether a batch norm follows each convolution.

    Shape: (N, 3, H, W) -> (N, C, H', W')

    Example:
        >>> make_layers([8, "M", 16])(rushlight.zeros(1, 3, 6, 6)).shape
        torch.Size([1, 16, 3, 3])
    """
    layers: list[Module] = []
    before = 3
    for part in cfg:
        if part == "M":
            layers.append(MaxPool2d(2, 2))
            continue
        channels = int(part)
        layers += [Conv2d(before, channels, 3, padding=1), *([BatchNorm2d(channels)] if batch_norm else []), ReLU(True)]
        before = channels
    return Sequential(*layers)


class VGG11_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vgg11-8a719046")
    DEFAULT = IMAGENET1K_V1


class VGG11_BN_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vgg11_bn-6002323d")
    DEFAULT = IMAGENET1K_V1


class VGG13_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vgg13-19584684")
    DEFAULT = IMAGENET1K_V1


class VGG13_BN_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vgg13_bn-abd245e5")
    DEFAULT = IMAGENET1K_V1


class VGG16_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vgg16-397923af")
    DEFAULT = IMAGENET1K_V1


class VGG16_BN_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vgg16_bn-6c64b313")
    DEFAULT = IMAGENET1K_V1


class VGG19_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vgg19-dcbb9e9d")
    DEFAULT = IMAGENET1K_V1


class VGG19_BN_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("vgg19_bn-c79401a0")
    DEFAULT = IMAGENET1K_V1


def _maker(name: str, kind: type[WeightsEnum], cfg: Sequence[int | str]) -> Callable[..., VGG]:
    batch_norm = name.endswith("_bn")

    def build(**kwargs: Any) -> VGG:
        return VGG(make_layers(cfg, batch_norm), **kwargs)
    what = f"A ``VGG`` of {len(cfg) - 5} convolutions{' with batch norms' if batch_norm else ''}"
    return published(name, kind, build, what, init_weights=False)


vgg11 = _maker("vgg11", VGG11_Weights, cfgs["A"])
vgg11_bn = _maker("vgg11_bn", VGG11_BN_Weights, cfgs["A"])
vgg13 = _maker("vgg13", VGG13_Weights, cfgs["B"])
vgg13_bn = _maker("vgg13_bn", VGG13_BN_Weights, cfgs["B"])
vgg16 = _maker("vgg16", VGG16_Weights, cfgs["D"])
vgg16_bn = _maker("vgg16_bn", VGG16_BN_Weights, cfgs["D"])
vgg19 = _maker("vgg19", VGG19_Weights, cfgs["E"])
vgg19_bn = _maker("vgg19_bn", VGG19_BN_Weights, cfgs["E"])
