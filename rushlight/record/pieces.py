"""Long paths that never come again are cut into pieces that do.

A loop whose number of turns changes (an episode of a game, backpropagated through each of its moves; a recurrent cell called by
hand, sentence by sentence) brings a path of its own for each number. None of these would be worth a program, and each would be
recorded, lowered and interpreted for itself. So where one long path after the other begins alike and goes on otherwise, recording
stops for a flush after what they have in common, and from there on after each short piece. In a loop the pieces repeat: they are
found in the trie, and so are their programs, whatever the number of turns.

A piece ends where the same place of the loop's body is reached, so that few different pieces arise: at the operation whose name and
results come first in the alphabet, of all that the piece has. What comes again as a whole is left whole: fused, and without results
that nobody asks for.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .patience import LONG

if TYPE_CHECKING:
    from .trace import TraceNode

__all__ = ["PIECE", "Pieces"]

START = 16       # nodes that paths have in common that begin alike
PIECE = 32       # nodes of a piece at least
_AT_MOST = 256   # ... and at most
_MANY = 8        # values that enter one after the other, at most, of which the number counts
_STRANGERS = 5   # so many new long paths that begin alike ...
_RUNS = 8        # ... among so many long paths that ran


class Pieces:
    """What one thread knows of its long paths. What counts is their order alone, so that each run of a program cuts at the same places.

    Attributes:
        runs: how many long paths have run.
        inside: whether this epoch begins where a piece ended; ``began``: likewise of the epoch that is being run.
        strangers: (number of the run, how it began, its structure, where that ends) of long paths that were new.
        alike: beginnings that too many had.
        last, least: the node that was looked at last, and which operation of its piece comes first in the alphabet.
        torn: how many backwards in a row, which began inside, were cut.
    """

    __slots__ = ("runs", "inside", "began", "strangers", "alike", "last", "least", "torn")

    def __init__(self) -> None:
        self.runs = 0
        self.inside = self.began = False
        self.torn = 0
        self.strangers: deque[tuple[int, Any, int, TraceNode]] = deque(maxlen=_RUNS)
        self.alike: set[Any] = set()
        self.last: TraceNode | None = None
        self.least: Any = ()

    def flushed(self, node: TraceNode, limit: int) -> None:
        """An epoch ends at this node. ``limit``: operations after which it would end anyway."""
        self.began, self.inside = self.inside, node.stop and node.depth < limit
        if node.depth >= LONG:
            self.runs += 1

    def stranger(self, path: Sequence[TraceNode], structure: int) -> None:
        """A long path, with these nodes, runs for the first time, and none of its kind is known. Those that differ in sizes alone have
        one ``structure``, and count once: images of many sizes are no reason to cut the step of a network."""
        start = next((node for node in path[START - 1:] if node.op is not None), None)
        if start is None:
            return
        beginning = _beginning(start)
        self.strangers.append((self.runs, beginning, structure, start))
        lately = [(kind, node) for run, one, kind, node in self.strangers if one == beginning and self.runs - run < _RUNS]
        if beginning in self.alike:  # it began in a part of the trie that is older
            _stop(start)
        elif len({kind for kind, _ in lately}) >= _STRANGERS:
            self.strangers.clear()
            self.alike.add(beginning)
            for _, node in lately:  # several, where sizes differ
                _stop(node)

    def ends(self, node: TraceNode) -> bool:
        """Whether a piece is to end with this operation, which is recorded for the first time."""
        if not self.inside:
            return node.depth >= START and _is_start(node) and _beginning(node) in self.alike
        if node.depth < PIECE:
            return False
        name = (node.op.name, node.metas)
        if self.last is node.parent:
            self._look(name)
        else:
            self.least = name
            n = node.parent
            while n is not None:
                if n.op is not None:
                    self._look((n.op.name, n.metas))
                n = n.parent
        self.last = node
        return name == self.least or node.depth >= _AT_MOST

    def _look(self, name: tuple[str, Any]) -> None:
        least = self.least
        if name[0] < least[0] or name[0] == least[0] and name[1] is not least[1] and str(name[1]) < str(least[1]):
            self.least = name


def _stop(node: TraceNode) -> None:
    """Let recording stop here."""
    node.stop = True
    before: TraceNode | None = node
    while before is not None:  # what was remembered there may lead past the end
        before.forget()
        before = before.parent


def _is_start(node: TraceNode) -> bool:
    """Whether no operation before this one is the first beyond ``START`` nodes."""
    before: Any = node.parent
    while before.depth >= START and before.op is None:
        before = before.parent
    return before.depth < START  # type: ignore[no-any-return]


def _beginning(node: TraceNode) -> tuple[Any, ...]:
    """The operations up to this one, with the user's lines: sizes may differ, as that of a whole episode's rewards does, and so may how
    many values enter one after the other, where there are many, because an episode's losses are stacked."""
    names: list[Any] = []
    entering = 0
    n: Any = node
    while n.parent is not None:
        entering = entering + 1 if n.op is None else 0
        if entering <= _MANY:
            names.append((n.op, n.line))
        elif entering == _MANY + 1:
            names[-_MANY:] = [_MANY]
        n = n.parent
    return tuple(names)
