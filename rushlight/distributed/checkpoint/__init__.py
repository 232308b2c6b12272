"""``torch.distributed.checkpoint``: state that many processes write together. There is one process: the names are for programs that import
them, and whoever uses one is told what to use."""
from __future__ import annotations

from typing import Any

__all__ = ["FileSystemReader", "FileSystemWriter", "load", "save"]


def refused(name: str) -> Any:
    """Raises NotImplementedError: what ``name`` does is done for many processes."""
    raise NotImplementedError(f"{name}: there is one process here. rushlight.save and rushlight.load write and read its state")


class _Storage(type):
    """A class of which nothing is an instance."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return refused(cls.__name__)


class FileSystemReader(metaclass=_Storage):
    """A folder to read from. Raises NotImplementedError when one is to be made."""


class FileSystemWriter(metaclass=_Storage):
    """A folder to write to. Raises NotImplementedError when one is to be made."""


def save(state_dict: dict[str, Any], **options: Any) -> Any:
    """Raises NotImplementedError."""
    return refused("distributed.checkpoint.save")


def load(state_dict: dict[str, Any], **options: Any) -> Any:
    """Raises NotImplementedError."""
    return refused("distributed.checkpoint.load")
