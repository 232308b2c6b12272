"""A region in which an index that is a tensor without dimensions is taken as a tensor, not as a number, so that ``vmap`` can pass by."""
from __future__ import annotations

__all__ = ["TransformGetItemToIndex"]


class TransformGetItemToIndex:
    """Nothing is changed: such indices are always taken as tensors under ``vmap``."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *error: object) -> None:
        """End."""
