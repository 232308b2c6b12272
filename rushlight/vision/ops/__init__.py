"""Boxes, regions and building blocks of networks for images, with torchvision's names.

Example:
    >>> import rushlight as torch
    >>> from rushlight.vision import ops
    >>> boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 10., 10.], [20., 20., 30., 30.]])
    >>> ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    tensor([0, 2])
"""
from . import boxes, focal_loss, misc, poolers, roi
from .boxes import *
from .feature_pyramid import *
from .focal_loss import *
from .losses import *
from .misc import *
from .poolers import *
from .roi import *
from .stochastic_depth import *

__all__ = [name for name, value in globals().items() if not name.startswith("_") and (
    getattr(value, "__module__", "").startswith(f"{__name__}.") or value in (boxes, focal_loss, misc, poolers, roi))]
