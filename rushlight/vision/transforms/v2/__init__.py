"""``torchvision.transforms.v2``: its functions of images (``functional``), which image processors of model libraries call."""
from ..functional import InterpolationMode
from . import functional

__all__ = ["InterpolationMode", "functional"]
