"""The file of PyTorch's in which programs look for the names of ``torch.distributed``."""
from __future__ import annotations

from . import *  # noqa: F403
from . import __all__ as _names
from .members import GroupMember, ProcessGroup, member

__all__ = [*_names, "is_ucc_available", "is_xccl_available"]  # noqa: PLE0604


def is_xccl_available() -> bool:
    """Whether there is a backend of Intel's GPUs: no."""
    return False


def is_ucc_available() -> bool:
    """Whether there is a UCC backend: no."""
    return False


def _get_default_group() -> ProcessGroup:
    return member(None)


def __getattr__(name: str) -> object:
    if name == "_pg_map":  # the groups that there are
        return {} if GroupMember.WORLD is None else {GroupMember.WORLD: (GroupMember.WORLD.backend, None)}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
