"""How often Python looks for garbage, in programs that record long paths.

Python looks through the youngest objects whenever there are 700 more than at the last look, and through all of them when a quarter more
have lived through two looks. A long path is thousands of objects (graph nodes, tensors), all of which are alive until its backward is over
and go one by one then, without any look: a hand-written recurrent network of some hundred steps spent a third of its time on looks that
found nothing. So the first number follows the length of the paths.
"""
from __future__ import annotations

import gc

__all__ = ["OBJECTS", "Pace", "pace"]

OBJECTS = 3        # that recording an operation makes, about
SHORT = 200        # operations: as far Python's own number goes
LONGEST = 100_000  # objects between two looks, at most
PYTHONS = (700, 2000)  # the first number as Python has it, in its versions: any other was chosen by somebody


class Pace:
    """``length``: of the longest path that has been followed. What somebody else has set stays."""

    def __init__(self) -> None:
        self.length = SHORT
        self._ours = -1

    def follow(self, length: int) -> None:
        """A path of this length, longer than those before, has been recorded."""
        self.length = length
        first, *others = gc.get_threshold()
        if first == self._ours or first in PYTHONS:
            self._ours = max(first, min(OBJECTS * length, LONGEST))
            gc.set_threshold(self._ours, *others)


pace = Pace()
