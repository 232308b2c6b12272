"""Images: datasets, transforms, networks, boxes, files and grids, with torchvision's names.

from rushlight.vision import datasets, transforms
"""

from rushlight.vision import datasets, io, models, ops, transforms, utils

__version__ = "0.28.0+rushlight"  # of the torchvision whose interface is followed

__all__ = ["datasets", "io", "models", "ops", "transforms", "utils"]


def _is_tracing() -> bool:
    """Whether a network is being traced for TorchScript, which libraries ask before they look at sizes: no, traces are of ``fx``."""
    return False
