"""ConvNeXt (Liu et al. 2022): convolutions arranged as transformers are."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rushlight.nn import init
from rushlight.nn.functional import layer_norm
from rushlight.nn.modules.activation import GELU
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.flatten import Flatten
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.normalization import LayerNorm
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d
from rushlight.nn.parameter import Parameter
from rushlight.tensor import Tensor, ones
from rushlight.vision.models.weights import Weights, WeightsEnum, published
from rushlight.vision.ops.misc import Conv2dNormActivation, Permute
from rushlight.vision.ops.stochastic_depth import StochasticDepth

__all__ = ["ConvNeXt", "ConvNeXt_Base_Weights", "ConvNeXt_Large_Weights", "ConvNeXt_Small_Weights", "ConvNeXt_Tiny_Weights",
           "convnext_base", "convnext_large", "convnext_small", "convnext_tiny"]


class LayerNorm2d(LayerNorm):
    """A layer norm over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class CNBlock(Module):
    """A depthwise convolution, a norm and two linear layers, scaled for each channel, beside a shortcut: (N, dim, H, W), both."""

    def __init__(self, dim: int, layer_scale: float, stochastic_depth_prob: float) -> None:
        super().__init__()
        self.block = Sequential(Conv2d(dim, dim, 7, padding=3, groups=dim), Permute([0, 2, 3, 1]), LayerNorm(dim, eps=1e-6),
                                Linear(dim, 4 * dim), GELU(), Linear(4 * dim, dim), Permute([0, 3, 1, 2]))
        self.layer_scale = Parameter(ones(dim, 1, 1) * layer_scale)
        self.stochastic_depth = StochasticDepth(stochastic_depth_prob, "row")

    def forward(self, input: Tensor) -> Tensor:
        return self.stochastic_depth(self.layer_scale * self.block(input)) + input


class ConvNeXt(Module):
    """A ConvNeXt, with torchvision's names of parameters.

    Args:
        channels, layers: of each of the four stages.
        stochastic_depth_prob: with which the last block is left out in training, those before it in proportion.
        layer_scale: initial factor of each block; num_classes: outputs of the last layer.

    Shape: (N, 3, H, W) -> (N, num_classes)
    """

    def __init__(self, channels: Sequence[int], layers: Sequence[int], stochastic_depth_prob: float = 0.0, layer_scale: float = 1e-6,
                 num_classes: int = 1000) -> None:
        super().__init__()
        norm = partial(LayerNorm2d, eps=1e-6)
        parts: list[Module] = [Conv2dNormActivation(3, channels[0], 4, 4, 0, norm_layer=norm, activation_layer=None, bias=True)]
        last, done = sum(layers) - 1, 0
        for k, (width, count) in enumerate(zip(channels, layers)):
            blocks = []
            for _ in range(count):
                blocks.append(CNBlock(width, layer_scale, stochastic_depth_prob * done / last))
                done += 1
            parts.append(Sequential(*blocks))
            if k + 1 < len(channels):
                parts.append(Sequential(norm(width), Conv2d(width, channels[k + 1], 2, 2)))
        self.features = Sequential(*parts)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.classifier = Sequential(norm(channels[-1]), Flatten(1), Linear(channels[-1], num_classes))
        for m in self.modules():
            if isinstance(m, (Conv2d, Linear)):
                init.trunc_normal_(m.weight, std=0.02)
                init.zeros_(m.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


class ConvNeXt_Tiny_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("convnext_tiny-983f1562", 236)
    DEFAULT = IMAGENET1K_V1


class ConvNeXt_Small_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("convnext_small-0c510722", 230)
    DEFAULT = IMAGENET1K_V1


class ConvNeXt_Base_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("convnext_base-6075fbad", 232)
    DEFAULT = IMAGENET1K_V1


class ConvNeXt_Large_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("convnext_large-ea097f82", 232)
    DEFAULT = IMAGENET1K_V1


def _published(size: str, width: int, depth: int, drop: float) -> Callable[..., ConvNeXt]:
    def build(**kwargs: Any) -> ConvNeXt:
        return ConvNeXt([width << k for k in range(4)], (3, 3, depth, 3), **{"stochastic_depth_prob": drop, **kwargs})
    return published(f"convnext_{size}", globals()[f"ConvNeXt_{size.capitalize()}_Weights"], build, f"The {size} ``ConvNeXt``")


convnext_tiny = _published("tiny", 96, 9, 0.1)
convnext_small = _published("small", 96, 27, 0.4)
convnext_base = _published("base", 128, 27, 0.5)
convnext_large = _published("large", 192, 27, 0.5)
