"""SqueezeNet (Iandola et al. 2016): few parameters by way of narrow layers."""
from __future__ import annotations

from functools import partial

from rushlight.nn import init
from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d, MaxPool2d
from rushlight.tensor import Tensor, cat, flatten
from rushlight.vision.models.weights import Weights, WeightsEnum, published

__all__ = ["SqueezeNet", "SqueezeNet1_0_Weights", "SqueezeNet1_1_Weights", "squeezenet1_0", "squeezenet1_1"]


class Fire(Module):
    """Channels narrowed by a 1x1 convolution, then widened by one of 1x1 and one of 3x3, side by side."""

    def __init__(self, inplanes: int, squeeze_planes: int, expand1x1_planes: int, expand3x3_planes: int) -> None:
        super().__init__()
        self.inplanes = inplanes
        self.squeeze, self.squeeze_activation = Conv2d(inplanes, squeeze_planes, 1), ReLU(inplace=True)
        self.expand1x1, self.expand1x1_activation = Conv2d(squeeze_planes, expand1x1_planes, 1), ReLU(inplace=True)
        self.expand3x3, self.expand3x3_activation = Conv2d(squeeze_planes, expand3x3_planes, 3, padding=1), ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return cat([self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1)


class SqueezeNet(Module):
    """SqueezeNet, with torchvision's names of parameters.

    Args:
        version: "1_0" or "1_1", which does the same with less work; num_classes: outputs; dropout: before the last convolution.

    Shape: (N, 3, H, W) -> (N, num_classes)

    Raises:
        ValueError: another version.
    """

    def __init__(self, version: str = "1_0", num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        if version not in ("1_0", "1_1"):
            raise ValueError(f"Unsupported SqueezeNet version {version}: 1_0 or 1_1 expected")
        first = version == "1_0"
        layers: list[Module] = [Conv2d(3, 96, 7, 2) if first else Conv2d(3, 64, 3, 2), ReLU(inplace=True)]
        channels, pools = (96, (0, 3, 7)) if first else (64, (0, 2, 4))
        for k, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
            if k in pools:
                layers.append(MaxPool2d(3, 2, ceil_mode=True))
            layers.append(Fire(channels, squeeze, 4 * squeeze, 4 * squeeze))
            channels = 8 * squeeze
        self.features = Sequential(*layers)
        last = Conv2d(512, num_classes, 1)
        self.classifier = Sequential(Dropout(dropout), last, ReLU(inplace=True), AdaptiveAvgPool2d((1, 1)))
        for m in self.modules():
            if isinstance(m, Conv2d):
                if m is last:
                    init.normal_(m.weight, 0.0, 0.01)
                else:
                    init.kaiming_uniform_(m.weight)
                init.zeros_(m.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return flatten(self.classifier(self.features(x)), 1)


class SqueezeNet1_0_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("squeezenet1_0-b66bff10")
    DEFAULT = IMAGENET1K_V1


class SqueezeNet1_1_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("squeezenet1_1-b8a52dc0")
    DEFAULT = IMAGENET1K_V1


squeezenet1_0 = published("squeezenet1_0", SqueezeNet1_0_Weights, partial(SqueezeNet, "1_0"), "``SqueezeNet`` 1.0")
squeezenet1_1 = published("squeezenet1_1", SqueezeNet1_1_Weights, partial(SqueezeNet, "1_1"), "``SqueezeNet`` 1.1")
