"""``Join``: processes that have different numbers of batches wait for each other. One process waits for nobody."""
from __future__ import annotations

from typing import Any

from ..members import member

__all__ = ["Join", "JoinHook", "Joinable"]


class JoinHook:
    """What a process does for the others when its own batches are used up."""

    def main_hook(self) -> None:
        """Called for each step of the others."""

    def post_hook(self, is_last_joiner: bool) -> None:
        """Called once, when all are through."""


class Joinable:
    """The base of what takes part in ``Join``: it names its hook."""

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """The hook; to be written by the class."""
        raise NotImplementedError

    @property
    def join_device(self) -> Any:
        """Where its collectives run."""
        raise NotImplementedError

    @property
    def join_process_group(self) -> Any:
        """Whose collectives they are."""
        raise NotImplementedError


class Join:
    """A region in which processes may have different numbers of batches.

    Args:
        joinables: what takes part. enable: whether to do anything.
        throw_on_early_termination: whether all stop when the first one has no more batches; among one that is the end anyway.
        **kwargs: for each one's ``join_hook``.

    Raises:
        ValueError: nothing takes part, or there is no group.
    """

    def __init__(self, joinables: list[Joinable], enable: bool = True, throw_on_early_termination: bool = False, **kwargs: Any) -> None:
        if not joinables:
            raise ValueError("The join context manager requires at least one joinable")
        self._enable = enable
        self._hooks = [joinable.join_hook(**kwargs) for joinable in joinables] if enable else []
        if enable:
            member(None)

    def __enter__(self) -> None:
        """Nobody is waited for."""

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is None:
            for hook in self._hooks:
                hook.post_hook(True)

    @staticmethod
    def notify_join_context(joinable: Joinable) -> None:
        """Tell the others that this process still has batches: there are no others."""
