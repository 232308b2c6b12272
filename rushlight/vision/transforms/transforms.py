"""``torchvision.transforms.transforms``: the classes of ``torchvision.transforms``."""

from rushlight.vision import transforms as _all

__all__ = [name for name in dir(_all) if name[0].isupper()]
globals().update({name: getattr(_all, name) for name in __all__})
