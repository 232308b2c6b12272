"""Residual networks: ResNet, ResNeXt and Wide ResNet (He et al. 2015, Xie et al. 2016, Zagoruyko and Komodakis 2016)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rushlight.nn import init
from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.batchnorm import BatchNorm2d
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d, MaxPool2d
from rushlight.tensor import Tensor, flatten
from rushlight.vision.models.weights import Weights, WeightsEnum, published

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "ResNet101_Weights", "ResNet152_Weights", "ResNet18_Weights", "ResNet34_Weights",
           "ResNet50_Weights", "ResNeXt101_32X8D_Weights", "ResNeXt50_32X4D_Weights", "Wide_ResNet101_2_Weights",
           "Wide_ResNet50_2_Weights", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50", "resnext101_32x8d",
           "resnext50_32x4d", "wide_resnet101_2", "wide_resnet50_2"]


def conv3x3(in_planes: int, out_planes: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> Conv2d:
    return Conv2d(in_planes, out_planes, 3, stride, dilation, dilation, groups, bias=False)


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_planes, out_planes, 1, stride, bias=False)


class BasicBlock(Module):
    """Two 3x3 convolutions beside a shortcut.

    Args:
        inplanes: channels of the input; planes: channels of the result; downsample: the shortcut, where it is no identity.

    Shape: (N, inplanes, H, W) -> (N, planes, H / stride, W / stride)
    """

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: Module | None = None, groups: int = 1,
                 base_width: int = 64, dilation: int = 1, norm_layer: Callable[[int], Module] | None = None) -> None:
        super().__init__()
        norm = norm_layer or BatchNorm2d
        if groups != 1 or base_width != 64:
            raise ValueError("BasicBlock only supports groups=1 and base_width=64")
        if dilation > 1:
            raise NotImplementedError("Dilation > 1 not supported in BasicBlock")
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = norm(planes)
        self.relu = ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = norm(planes)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(Module):
    """A 3x3 convolution between two of 1x1 that narrow and widen, beside a shortcut. The stride is in the 3x3 one.

    Args:
        inplanes: channels of the input; planes: a quarter of those of the result; groups, base_width: of the 3x3 convolution, which
            has planes * base_width / 64 * groups channels.

    Shape: (N, inplanes, H, W) -> (N, 4 * planes, H / stride, W / stride)
    """

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: Module | None = None, groups: int = 1,
                 base_width: int = 64, dilation: int = 1, norm_layer: Callable[[int], Module] | None = None) -> None:
        super().__init__()
        norm = norm_layer or BatchNorm2d
        width = int(planes * (base_width / 64)) * groups
        self.conv1 = conv1x1(inplanes, width)
        self.bn1 = norm(width)
        self.conv2 = conv3x3(width, width, stride, groups, dilation)
        self.bn2 = norm(width)
        self.conv3 = conv1x1(width, planes * self.expansion)
        self.bn3 = norm(planes * self.expansion)
        self.relu = ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(Module):
    """A residual network of four stages, with torchvision's names of parameters.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        layers: blocks in each of the four stages.
        num_classes: outputs of the last layer.
        zero_init_residual: every block begins as an identity.
        groups, width_per_group: of the blocks' 3x3 convolutions.
        replace_stride_with_dilation: for stages 2 to 4, whether to dilate instead of halving the size.
        norm_layer: made with the number of channels (``BatchNorm2d``).

    Shape: (N, 3, H, W) -> (N, num_classes)

    Raises:
        ValueError: ``replace_stride_with_dilation`` is not three bools.

    Example:
        >>> import rushlight as torch
        >>> ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], layers: Sequence[int], num_classes: int = 1000,
                 zero_init_residual: bool = False, groups: int = 1, width_per_group: int = 64,
                 replace_stride_with_dilation: Sequence[bool] | None = None,
                 norm_layer: Callable[[int], Module] | None = None) -> None:
        super().__init__()
        dilate = (False, False, False) if replace_stride_with_dilation is None else tuple(replace_stride_with_dilation)
        if len(dilate) != 3:
            raise ValueError(f"replace_stride_with_dilation should be None or a 3-element tuple, got {replace_stride_with_dilation}")
        self._norm_layer = norm_layer or BatchNorm2d
        self.inplanes, self.dilation = 64, 1
        self.groups, self.base_width = groups, width_per_group
        self.conv1 = Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = self._norm_layer(64)
        self.relu = ReLU(inplace=True)
        self.maxpool = MaxPool2d(3, 2, 1)
        self.layer1 = self._make_layer(block, 64, layers[0])
        self.layer2 = self._make_layer(block, 128, layers[1], 2, dilate[0])
        self.layer3 = self._make_layer(block, 256, layers[2], 2, dilate[1])
        self.layer4 = self._make_layer(block, 512, layers[3], 2, dilate[2])
        self.avgpool = AdaptiveAvgPool2d((1, 1))
        self.fc = Linear(512 * block.expansion, num_classes)
        for m in self.modules():
            if isinstance(m, Conv2d):
                init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for m in self.modules():
                if isinstance(m, BasicBlock | Bottleneck):
                    last: Any = m.bn3 if isinstance(m, Bottleneck) else m.bn2
                    init.zeros_(last.weight)

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> Sequential:
        before = self.dilation
        if dilate:
            self.dilation, stride = self.dilation * stride, 1
        wide = planes * block.expansion
        shortcut = None
        if stride != 1 or self.inplanes != wide:
            shortcut = Sequential(conv1x1(self.inplanes, wide, stride), self._norm_layer(wide))
        first = block(self.inplanes, planes, stride, shortcut, self.groups, self.base_width, before, self._norm_layer)
        self.inplanes = wide
        return Sequential(first, *[block(wide, planes, groups=self.groups, base_width=self.base_width, dilation=self.dilation,
                                            norm_layer=self._norm_layer) for _ in range(1, blocks)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(flatten(self.avgpool(x), 1))


class ResNet18_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("resnet18-f37072fd")
    DEFAULT = IMAGENET1K_V1


class ResNet34_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("resnet34-b627a593")
    DEFAULT = IMAGENET1K_V1


class ResNet50_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("resnet50-0676ba61")
    IMAGENET1K_V2 = Weights.named("resnet50-11ad3fa6", 232)
    DEFAULT = IMAGENET1K_V2


class ResNet101_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("resnet101-63fe2227")
    IMAGENET1K_V2 = Weights.named("resnet101-cd907fc2", 232)
    DEFAULT = IMAGENET1K_V2


class ResNet152_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("resnet152-394f9c45")
    IMAGENET1K_V2 = Weights.named("resnet152-f82ba261", 232)
    DEFAULT = IMAGENET1K_V2


class ResNeXt50_32X4D_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("resnext50_32x4d-7cdf4587")
    IMAGENET1K_V2 = Weights.named("resnext50_32x4d-1a0047aa", 232)
    DEFAULT = IMAGENET1K_V2


class ResNeXt101_32X8D_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("resnext101_32x8d-8ba56ff5")
    IMAGENET1K_V2 = Weights.named("resnext101_32x8d-110c445d", 232)
    DEFAULT = IMAGENET1K_V2


class Wide_ResNet50_2_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("wide_resnet50_2-95faca4d")
    IMAGENET1K_V2 = Weights.named("wide_resnet50_2-9ba9bcbe", 232)
    DEFAULT = IMAGENET1K_V2


class Wide_ResNet101_2_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("wide_resnet101_2-32ee1156")
    IMAGENET1K_V2 = Weights.named("wide_resnet101_2-d733dc28", 232)
    DEFAULT = IMAGENET1K_V2


def _maker(name: str, kind: type[WeightsEnum], block: Any, layers: Sequence[int], **usual: Any) -> Callable[..., ResNet]:
    def build(**kwargs: Any) -> ResNet:
        return ResNet(block, layers, **{**usual, **kwargs})
    return published(name, kind, build, f"A ``ResNet`` of {', '.join(map(str, layers))} blocks")


resnet18 = _maker("resnet18", ResNet18_Weights, BasicBlock, (2, 2, 2, 2))
resnet34 = _maker("resnet34", ResNet34_Weights, BasicBlock, (3, 4, 6, 3))
resnet50 = _maker("resnet50", ResNet50_Weights, Bottleneck, (3, 4, 6, 3))
resnet101 = _maker("resnet101", ResNet101_Weights, Bottleneck, (3, 4, 23, 3))
resnet152 = _maker("resnet152", ResNet152_Weights, Bottleneck, (3, 8, 36, 3))
resnext50_32x4d = _maker("resnext50_32x4d", ResNeXt50_32X4D_Weights, Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4)
resnext101_32x8d = _maker("resnext101_32x8d", ResNeXt101_32X8D_Weights, Bottleneck, (3, 4, 23, 3), groups=32, width_per_group=8)
wide_resnet50_2 = _maker("wide_resnet50_2", Wide_ResNet50_2_Weights, Bottleneck, (3, 4, 6, 3), width_per_group=128)
wide_resnet101_2 = _maker("wide_resnet101_2", Wide_ResNet101_2_Weights, Bottleneck, (3, 4, 23, 3), width_per_group=128)
