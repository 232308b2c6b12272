"""Images as the rooms of vision pass them on: PIL images where Pillow is installed, arrays and tensors always."""

from __future__ import annotations

import sys
from typing import Any


def pillow() -> Any:
    """The package PIL with its `Image` module loaded, or an ImportError that says how to get it."""
    try:
        import PIL.Image
    except ImportError as e:
        raise ImportError('this needs Pillow: pip install "rushlight[vision]"') from e
    return PIL


def is_pil(image: Any) -> bool:
    """Whether this is a PIL image. (If PIL was never imported, nothing is.)"""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)
