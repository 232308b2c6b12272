"""Networks that name the class of each pixel, with torchvision's names: FCN, DeepLabV3 and Lite R-ASPP.

Example:
    >>> from rushlight.vision.models import segmentation
    >>> net = segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=3).eval()
    >>> net(torch.rand(1, 3, 64, 64))["out"].shape
    torch.Size([1, 3, 64, 64])
"""
from __future__ import annotations

from . import deeplabv3, fcn, lraspp
from .deeplabv3 import *  # noqa: F403
from .fcn import *  # noqa: F403
from .lraspp import *  # noqa: F403

__all__ = deeplabv3.__all__ + fcn.__all__ + lraspp.__all__
