"""Networks that find objects, with torchvision's names: Faster R-CNN and Mask R-CNN.

Example:
    >>> from rushlight.vision.models import detection
    >>> backbone = detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d)
    >>> net = detection.FasterRCNN(backbone, num_classes=2, min_size=64).eval()
    >>> sorted(net([torch.rand(3, 64, 64)])[0])
    ['boxes', 'labels', 'scores']
"""
from __future__ import annotations

from . import backbone_utils, faster_rcnn, mask_rcnn
from .faster_rcnn import *  # noqa: F403
from .mask_rcnn import *  # noqa: F403

__all__ = faster_rcnn.__all__ + mask_rcnn.__all__
