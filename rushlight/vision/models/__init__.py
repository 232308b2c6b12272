"""Networks for images, with torchvision's names, parameters and published weights: from AlexNet to
vision transformers.

Example:
    >>> import rushlight as torch
    >>> from rushlight.vision import models
    >>> models.resnet18(num_classes=10)(torch.randn(1, 3, 64, 64)).shape
    torch.Size([1, 10])
"""
from . import detection, segmentation
from .alexnet import *
from .convnext import *
from .densenet import *
from .efficientnet import *
from .googlenet import *
from .mobilenet import *
from .resnet import *
from .shufflenetv2 import *
from .squeezenet import *
from .vgg import *
from .vision_transformer import *
from .weights import Weights, WeightsEnum

__all__ = [name for name, value in globals().items()
           if getattr(value, "__module__", "").startswith(f"{__name__}.") and not name.startswith("_")]
