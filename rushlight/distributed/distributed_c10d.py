"""The file of PyTorch's in which programs look for the names of ``torch.distributed``."""
from __future__ import annotations

from . import *  # noqa: F403
from . import __all__ as _names
from .members import GroupMember, ProcessGroup, member

__all__ = list(_names)


def _get_default_group() -> ProcessGroup:
    return member(None)


def _rank_not_in_group(group: object) -> bool:
    """Whether this process is no member."""
    return group is GroupMember.NON_GROUP_MEMBER


def __getattr__(name: str) -> object:
    if name == "_pg_map":  # the groups that there are
        return {} if GroupMember.WORLD is None else {GroupMember.WORLD: (GroupMember.WORLD.backend, None)}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
