"""Images: datasets, transforms, networks, files and grids, with torchvision's names.

from rushlight.vision import datasets, transforms
"""

from rushlight.vision import datasets, io, models, transforms, utils

__all__ = ["datasets", "io", "models", "transforms", "utils"]
