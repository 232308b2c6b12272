"""AlexNet (Krizhevsky 2014: one tower)."""
from __future__ import annotations

from rushlight.nn.modules.activation import ReLU
from rushlight.nn.modules.container import Sequential
from rushlight.nn.modules.conv import Conv2d
from rushlight.nn.modules.dropout import Dropout
from rushlight.nn.modules.linear import Linear
from rushlight.nn.modules.module import Module
from rushlight.nn.modules.pooling import AdaptiveAvgPool2d, MaxPool2d
from rushlight.tensor import Tensor, flatten
from rushlight.vision.models.weights import Weights, WeightsEnum, published

__all__ = ["AlexNet", "AlexNet_Weights", "alexnet"]


class AlexNet(Module):
    """Five convolutions and three linear layers, with torchvision's names of parameters.

    Args:
        num_classes: outputs of the last layer; dropout: before each of the two linear layers that are hidden.

    Shape: (N, 3, H, W), H and W at least 63 -> (N, num_classes)
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = Sequential(
            Conv2d(3, 64, 11, 4, 2), ReLU(inplace=True), MaxPool2d(3, 2),
            Conv2d(64, 192, 5, padding=2), ReLU(inplace=True), MaxPool2d(3, 2),
            Conv2d(192, 384, 3, padding=1), ReLU(inplace=True), Conv2d(384, 256, 3, padding=1), ReLU(inplace=True),
            Conv2d(256, 256, 3, padding=1), ReLU(inplace=True), MaxPool2d(3, 2))
        self.avgpool = AdaptiveAvgPool2d((6, 6))
        self.classifier = Sequential(
            Dropout(dropout), Linear(256 * 6 * 6, 4096), ReLU(inplace=True),
            Dropout(dropout), Linear(4096, 4096), ReLU(inplace=True), Linear(4096, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))


class AlexNet_Weights(WeightsEnum):
    IMAGENET1K_V1 = Weights.named("alexnet-owt-7be5be79")
    DEFAULT = IMAGENET1K_V1


alexnet = published("alexnet", AlexNet_Weights, AlexNet, "An ``AlexNet``")
