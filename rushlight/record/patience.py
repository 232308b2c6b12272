"""When a long path that has come back is worth compiling.

Planning a long path takes a millisecond for each operation, which pays when it comes often. A loop whose length changes (an
episode of a game, backpropagated through each of its moves) brings a long path of its own for each length: compiled the second time
each, the program would do little else. So the more long paths wait to come again, the more often each of them has to.
"""
from __future__ import annotations

from collections import deque
from typing import Any

__all__ = ["LONG", "Patience"]

LONG = 256    # operations from which on a path counts as long
_LAST = 64    # cold runs of long paths that are remembered
_SHARE = 8    # so many different ones among them ask for one run more
_FEW = 2      # cold runs, at most, of a call that runs by itself


class Patience:
    """The long paths that ran cold lately in one thread. What counts is their order alone, so that each run of a program compiles
    the same paths at the same places."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque(maxlen=_LAST)

    def runs_cold(self, path: Any, seen: int, long: bool = True) -> bool:
        """Whether a long path that ran ``seen`` times is to run cold once more; ``path`` names it: where in the trie it
        ended and with which live values, told by numbers, because the trie may have forgotten the node itself. A call
        that runs by itself is no ``long`` one: compiling it takes as long as some cold runs, so it waits for few."""
        if seen and (seen > len(set(self.waiting)) // _SHARE or not long and seen >= _FEW):
            self.waiting = deque((one for one in self.waiting if one != path), maxlen=_LAST)
            return False
        self.waiting.append(path)
        return True
