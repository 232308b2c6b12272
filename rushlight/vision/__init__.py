"""Images: datasets, transforms and grids, with torchvision's names.

from rushlight.vision import datasets, transforms
"""

from rushlight.vision import datasets, transforms, utils

__all__ = ["datasets", "transforms", "utils"]
