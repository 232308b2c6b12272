"""What was met before, by hash alone: numbers are nothing that the garbage collector looks at, and most of what is met once does not come
again."""
from __future__ import annotations

from typing import Any

__all__ = ["Met"]

_MOST = 20_000


class Met:
    """Two things with one hash count as one, which costs no more than taking the second for known too early."""

    __slots__ = ("_hashes",)

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def again(self, name: Any) -> bool:
        """Whether this was met before; from now on it was."""
        found, hashes = hash(name), self._hashes
        if found in hashes:
            return True
        if len(hashes) >= _MOST:
            hashes.clear()
        hashes.add(found)
        return False

    def clear(self) -> None:
        self._hashes.clear()
