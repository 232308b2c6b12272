"""A group of one process, how collectives end in it, and what they have in common."""
from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

__all__ = ["GroupMember", "ProcessGroup", "ReduceOp", "Work", "done", "fill", "group", "member", "sole"]


class ReduceOp(enum.Enum):
    """How values of a group's members become one; of a single member's value each makes the value itself."""

    SUM, AVG, PRODUCT, MIN, MAX, BAND, BOR, BXOR = range(8)


ReduceOp.RedOpType = ReduceOp  # type: ignore[attr-defined]  # the class of its members, which annotations name


class ProcessGroup:
    """A group of this process alone."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def rank(self) -> int:
        """Always 0."""
        return 0

    def size(self) -> int:
        """Always 1."""
        return 1

    def name(self) -> str:
        """What its backend is called."""
        return self.backend


class GroupMember:
    """``WORLD``: the default group; None before ``init_process_group``."""

    WORLD: ProcessGroup | None = None
    NON_GROUP_MEMBER = -100


group = GroupMember


class Work:
    """A collective begun with ``async_op=True``: among one member it is over when it has begun."""

    def wait(self, timeout: Any = None) -> bool:
        """Return at once."""
        return True

    def is_completed(self) -> bool:
        """Whether it is over: yes."""
        return True


def member(group: Any) -> ProcessGroup:
    """The group, or for None the default one.

    Raises:
        ValueError: there is no default group.
    """
    if group is not None:
        return group
    if GroupMember.WORLD is None:
        raise ValueError("Default process group has not been initialized, please make sure to call init_process_group.")
    return GroupMember.WORLD


def done(group: Any, async_op: bool, root: int | None = 0) -> Work | None:
    """The end of every collective: its group exists, its root is a member."""
    backend = member(group).backend
    if root not in (None, 0):
        raise RuntimeError(f"{backend}: invalid root rank: {root}")
    return Work() if async_op else None


def sole(things: Sequence[Any], what: str) -> Any:
    """The one entry of a list with an entry for each member.

    Raises:
        ValueError: it has more, or none.
    """
    if len(things) != 1:
        raise ValueError(f"{what} should have one entry for each of the group's members, 1, got {len(things)}")
    return things[0]


def fill(to: Any, tensor: Any) -> None:
    """Copy a member's tensor to where it is wanted."""
    to.detach().copy_(tensor.detach().reshape(to.shape))
